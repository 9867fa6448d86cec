"""JSON of POSCAR texts by split and id, ``{"train": {"id": "text", ...}, "val": {...}}``, usually in a zip.

The JARVIS leaderboard ships Perov-5 and Carbon-24 in this layout. A text does not contain its split. ``scan`` therefore
writes one text per line to the spool, after its split and a tab.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, ClassVar

from lazygraph.crystal import Crystal
from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import Cut, Entry, Scan, attempt, default_id, read_entry, readable, require_length, shown
from lazygraph.sources.file_source import FileSource
from lazygraph.sources.json_entries import loads, split_member
from lazygraph.sources.jsonscan import elements, first_value
from lazygraph.sources.poscar import parse_poscar
from lazygraph.sources.records import broken_entry, holds_structure, id_text, with_line_feeds
from lazygraph.sources.unpack import Intake, marked, naming

__all__ = ["PoscarZipSource", "sniff"]


def sniff(head: bytes) -> bool:
    """Tell whether the first 64 KiB of a file begin splits of POSCAR texts."""
    splits = first_value(head).value
    if not isinstance(splits, dict) or not all(isinstance(split, dict) for split in splits.values()):
        return False
    values = [text for split in splits.values() for text in split.values()]
    return any(isinstance(text, str) and holds_structure(text) for text in values) and all(
        isinstance(text, str) or text is None for text in values
    )


@dataclass(frozen=True, slots=True)
class PoscarZipSource(FileSource):
    r"""A file of POSCAR texts. Keys are ids, and entries have a split but no labels.

    Line breaks inside a text are real or, as in the published files, a backslash and an ``n``. An id in two splits
    gives two entries.

    Args:
        path: the ``.json.zip`` file, or a plain or gzipped one.
        id_key: must be None, because a text has no keys. ``scan`` refuses other values.
    """

    kind: ClassVar[str] = "poscar-zip"

    def scan(self, every: int, spool: Path) -> Scan:
        """Count, hash, mark and fill the spool; see :class:`~lazygraph.sources.base.Source`."""
        path = Path(self.path)
        intake = Intake(path)
        with spool.open("wb") as file, naming(path):
            if self.id_key is not None:
                msg = (
                    f"the id key {self.id_key!r} was given, but the ids are the keys of the POSCAR texts; leave it out"
                )
                raise UnreadableInput(msg)
            count, marks = marked(_spooled(intake, file), every)
        return Scan(count, marks, (intake.file,))

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one cut; see :class:`~lazygraph.sources.base.Source`."""
        with spool.open("rb") as file:
            file.seek(cut.mark)
            for position, line in enumerate(islice(file, cut.count), cut.start):
                default = default_id(self.name, position)
                yield read_entry(default, _entry, line, default)


def _spooled(intake: Intake, file: IO[bytes]) -> Iterator[int]:
    """Write one text per line, and yield the position of each line in the spool."""
    at = 0
    split, prefix = None, b""
    for start, text, key, _ in elements(intake, 2, b"{"):
        if key is None:
            msg = f"found {text.strip()[:60]!r} at byte {start}; required: splits, which are objects of texts"
            raise UnreadableInput(msg)
        if key != split:
            split, prefix = key, json.dumps(key).encode() + b"\t"
        yield at
        # JSON has line feeds between its tokens only.
        at += file.write(b"%b%b\n" % (prefix, text.replace(b"\n", b" ")))


def _entry(line: bytes, default: str) -> Entry:
    require_length(line)
    split_text, member = line.split(b"\t", 1)
    split = readable(json.loads(split_text))
    key = ""
    try:
        key, value = split_member(member)
        name, text = id_text(key or default), loads(value)
    except UnreadableInput as error:
        return broken_entry(key or default, error)._replace(split=split)
    return Entry(name, attempt(_crystal, text), {}, split)


def _crystal(text: Any) -> Crystal:
    if not isinstance(text, str):
        msg = f"found {type(text).__name__} {shown(text, 40)}; required: a POSCAR text"
        raise UnreadableInput(msg)
    return parse_poscar(with_line_feeds(text))
