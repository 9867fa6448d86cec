"""The source for one file of a data set of the catalogue: its structures, with published splits and official ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import Cut, Entry, Scan, default_id
from lazygraph.sources.catalogue.folds import official_folds
from lazygraph.sources.catalogue.table import HUB, CatalogueEntry, find_entry
from lazygraph.sources.facts import recall, remember

__all__ = ["CatalogueSource"]

FOLDS = "folds"  # the key under which the facts of the file hold the fold of each row, one digit each


@dataclass(frozen=True, slots=True)
class CatalogueSource:
    """The structures of one file of a data set, in order.

    The file is read as its own kind. Structures of matbench get their official ids and the columns ``fold_0`` to
    ``fold_4``, in which the official fold is ``test``. A file that is a published split gives its structures this
    split. The dataset says title, licence, citation, DOI and homepage in ``about``. The source holds a name and a path.
    It is picklable and safe in any process.

    Args:
        entry: the name of the data set.
        inner: the source of the file itself.
    """

    kind: ClassVar[str] = "catalogue"

    entry: str
    inner: Any

    @property
    def path(self) -> str:
        """The file, on this machine."""
        return str(self.inner.path)

    @property
    def name(self) -> str:
        """The file's name without folders and suffixes."""
        return str(self.inner.name)

    @property
    def split(self) -> str | None:
        """The published split that the file is."""
        name = Path(self.path).name
        return next((file.split for file in self._entry().files if file.name == name), None)

    def scan(self, every: int, spool: Path) -> Scan:
        """Scan the file, and find the folds.

        Raises:
            UnreadableInput: the file cannot be read, or has other rows than the official folds.
        """
        entry = self._entry()
        scan: Scan = self.inner.scan(every, spool)
        splits: dict[str, tuple[str, ...]] = {"split": entry.splits} if entry.splits else {}
        if entry.folds is not None:
            strata = None if entry.folds.stratify is None else self._labels(entry.folds.stratify, scan, spool)
            found = official_folds(entry.folds, scan.entries, strata)
            remember(spool, {**recall(spool), FOLDS: "".join(map(str, found.tolist()))})
            splits |= {f"fold_{fold}": ("train", "test") for fold in range(entry.folds.number)}
        notes = scan.notes
        if entry.graphs is not None and len(entry.files) == 1 and scan.entries != entry.graphs:
            notes += (f"{entry.name} has {scan.entries:,} entries, and {entry.graphs:,} by the catalogue",)
        return replace(scan, splits=splits, about={**scan.about, **entry.about()}, notes=notes)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one range."""
        folds = self._entry().folds
        if folds is None:
            split = self.split
            yield from (one if split is None else one._replace(split=split) for one in self.inner.read(cut, spool))
            return
        of_row = recall(spool)[FOLDS]
        name = self.name
        for row, one in zip(count(cut.start), self.inner.read(cut, spool), strict=False):
            splits = {f"fold_{k}": "test" if str(k) == of_row[row] else "train" for k in range(folds.number)}
            own = one.id if one.id != default_id(name, row) else folds.official_id(row)
            yield one._replace(id=own, other_splits=splits)

    def _entry(self) -> CatalogueEntry:
        if self.entry.startswith(f"{HUB}:"):
            from lazygraph.sources.catalogue.hub import kept_entry

            return kept_entry(self.entry, Path(self.path).parent)
        return find_entry(self.entry)

    def _labels(self, name: str, scan: Scan, spool: Path) -> list[Any]:
        """The values of a label in all rows."""
        found = []
        for one in self.inner.read(Cut(scan.marks[0] if scan.marks else 0, 0, scan.entries), spool):
            if name not in one.labels:
                msg = f"{one.id} has no value of {name!r}, by which the folds are stratified; every row needs one"
                raise UnreadableInput(msg)
            found.append(one.labels[name])
        return found
