"""ASE databases in JSON: ``{"1": row, "2": row, ..., "ids": [1, 2, ...], "nextid": 3}``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from lazygraph.sources.ase_rows import entry_of_row
from lazygraph.sources.base import Cut, Entry, Scan
from lazygraph.sources.file_source import FileSource
from lazygraph.sources.json_entries import Layout, Looked, read_entries, scan_entries
from lazygraph.sources.jsonscan import first_value
from lazygraph.sources.units import ASE

__all__ = ["AseJsonSource", "sniff"]

_ROW = re.compile(rb'\s*"\d+"\s*:')  # the other members are the book-keeping of the database
_TELLING = frozenset({"unique_id", "mtime", "key_value_pairs"})


def sniff(head: bytes) -> bool:
    """Tell whether the first 64 KiB of a file begin rows of an ASE database."""
    rows = first_value(head).value
    if not isinstance(rows, dict) or not rows:
        return False
    key, row = next(iter(rows.items()))
    return key.isdecimal() and isinstance(row, dict) and "numbers" in row and bool(_TELLING & row.keys())


@dataclass(frozen=True, slots=True)
class AseJsonSource(FileSource):
    """One entry per row, in the order of the file; the id is the number of the row.

    Args:
        path: the ``.json`` file, plain or in a zip or gzip.
        id_key: the key-value pair, or the entry of the data, that holds the id.
    """

    kind: ClassVar[str] = "ase-json"

    def scan(self, every: int, spool: Path) -> Scan:
        """Count, hash and mark; see :class:`~lazygraph.sources.base.Source`."""
        scan = scan_entries(Path(self.path), spool, every, Layout.MAPPING, look=_look, keep=_is_row)
        return replace(scan, notes=())

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one cut; see :class:`~lazygraph.sources.base.Source`."""
        return read_entries(Path(self.path), spool, cut, lambda _facts: self._entry, _is_row)

    def _entry(self, row: Any, default: str, key: str | None) -> Entry:
        return entry_of_row(row, key or default, self.id_key)


def _is_row(text: bytes) -> bool:
    return _ROW.match(text) is not None


def _look(_rows: list[Any]) -> Looked:
    return Looked(implied=ASE)
