"""What every source promises."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError
from lazygraph.sources.base import Cut, Entry, Scan, Source
from lazygraph.sources.detect import SOURCE_REGISTRY, open_sources, source_from_json, source_to_json

__all__ = ["SourceContract"]


class SourceContract:
    """Tests of a source. A subclass says what its format is called, and makes an input of it.

    Example:
        class TestToy(SourceContract):
            format = "toy"
            ids = ("a", "b", "broken")
            bad_ids = ("broken",)

            def make(self, folder):
                path = folder / "crystals.toy"
                path.write_text("...")
                return path
    """

    format: str
    """The name that ``--format`` takes."""
    ids: Sequence[str]
    """The ids of the entries of the input, in order; at least three."""
    bad_ids: Sequence[str] = ()
    """The ids of the entries that cannot become crystals."""
    is_recognized: bool = True
    """Whether the input is known by its content, without ``--format``."""

    def make(self, folder: Path) -> Path:
        """Write the input into an empty folder; the path that a user would name."""
        raise NotImplementedError

    def open(self, folder: Path, *, named: bool = True) -> Source:
        """The one source of the input."""
        (source,) = open_sources(self.make(folder), format=self.format if named else None)
        return source

    def read(self, source: Source, every: int, spool: Path) -> tuple[Scan, list[Entry]]:
        """Scan, then read all cuts, the last one first, each from a copy of the source that travelled as JSON."""
        scan = source.scan(every, spool)
        entries: list[Entry] = []
        for number, mark in reversed(list(enumerate(scan.marks))):
            copy = source_from_json(json.loads(json.dumps(source_to_json(source))))
            count = min(every, scan.entries - number * every)
            part = list(copy.read(Cut(mark, number * every, count), spool))
            assert len(part) == count, f"read() gave {len(part)} entries of a cut of {count}"
            entries[:0] = part
        return scan, entries

    def test_it_is_the_source_of_its_format(self, tmp_path: Path) -> None:
        """The format names it, and where it can its content does."""
        source = self.open(tmp_path)
        assert type(source) is SOURCE_REGISTRY.get(self.format)
        if self.is_recognized:
            assert self.open(tmp_path, named=False) == source
        assert isinstance(source.name, str)
        assert source.name

    def test_it_is_a_frozen_value(self, tmp_path: Path) -> None:
        """Workers get a copy: by pickle in a pool, as JSON in a plan."""
        source = self.open(tmp_path)
        assert is_dataclass(type(source))
        assert hash(source) == hash(pickle.loads(pickle.dumps(source)))  # noqa: S301  # of a moment ago
        assert pickle.loads(pickle.dumps(source)) == source  # noqa: S301
        assert source_from_json(json.loads(json.dumps(source_to_json(source)))) == source

    def test_any_cut_gives_the_same_entries(self, tmp_path: Path) -> None:
        """All entries come in order, however the input is cut and whatever is read first."""
        source = self.open(tmp_path)
        wanted = list(map(str, self.ids))
        for every in (1, 2, len(wanted), 1000):
            scan, entries = self.read(source, every, tmp_path / f"spool-{every}")
            assert scan.entries == len(wanted)
            assert len(scan.marks) == -(-len(wanted) // every), "one mark for each cut"
            assert [entry.id for entry in entries] == wanted
            for entry in entries:
                self._check(entry)

    def test_reading_twice_gives_the_same(self, tmp_path: Path) -> None:
        """The same bytes are the same crystals and labels, so that a killed run can continue."""
        source = self.open(tmp_path)
        first, second = (self.read(source, 2, tmp_path / f"spool-{n}") for n in range(2))
        assert first[0] == second[0]
        assert [_plain(entry) for entry in first[1]] == [_plain(entry) for entry in second[1]]

    def test_a_bad_entry_stops_nothing(self, tmp_path: Path) -> None:
        """An entry that cannot become a crystal carries the reason."""
        _, entries = self.read(self.open(tmp_path), 1000, tmp_path / "spool")
        bad = [entry.id for entry in entries if not isinstance(entry.crystal, Crystal)]
        assert bad == list(self.bad_ids)

    def test_the_files_are_named_with_size_and_hash(self, tmp_path: Path) -> None:
        """The manifest says what a dataset was made of."""
        scan = self.open(tmp_path).scan(2, tmp_path / "spool")
        for file in scan.files:
            assert file.name
            assert "/" not in file.name
            assert file.size >= 0
            assert len(file.sha256) == 64

    def _check(self, entry: Entry) -> None:
        assert isinstance(entry.crystal, (Crystal, InputError)), f"{entry.id}: {entry.crystal!r}"
        assert all(isinstance(name, str) for name in entry.labels)


def _plain(entry: Entry) -> tuple[Any, ...]:
    """An entry as values that can be compared."""
    crystal = entry.crystal
    if isinstance(crystal, Crystal):
        found: Any = [crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.numbers.tolist(), crystal.pbc]
    else:
        found = [type(crystal), str(crystal)]
    labels = repr(dict(entry.labels)), repr(dict(entry.atom_labels))
    return entry.id, found, labels, entry.split, dict(entry.other_splits), entry.remarks
