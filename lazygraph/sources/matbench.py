"""Matbench: a pandas "split" table in JSON, ``{"index": [...], "columns": [...], "data": [[structure, label], ...]}``.

What a row means stands elsewhere in the file, perhaps behind all rows. So ``scan`` puts the rows into the spool one a
line, and behind them the columns with the length of their text (8 bytes, little-endian): any cut finds both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, ClassVar

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import Cut, Entry, Scan, default_id
from lazygraph.sources.json_entries import loads
from lazygraph.sources.jsonscan import elements, first_value
from lazygraph.sources.options import DEFAULT_OPTIONS, SourceOptions
from lazygraph.sources.records import broken_entry, entry_of, holds_structure, require_id_key
from lazygraph.sources.unpack import Intake, bare_name, marked, naming

__all__ = ["MatbenchSource", "sniff"]

_LENGTH = 8
_PARTS = frozenset({"index", "columns", "data"})


def sniff(head: bytes) -> bool:
    """Whether the first 64 KiB of a file begin a "split" table, with a structure in it if rows can be seen."""
    table = first_value(head).value
    if not isinstance(table, dict) or not table or not _PARTS.issuperset(table):
        return False
    # The last row may be cut short.
    seen = [row for row in table.get("data", []) if isinstance(row, list) and row]
    return all(isinstance(part, list) for part in table.values()) and (
        not seen or any(holds_structure(cell) for row in seen for cell in row)
    )


@dataclass(frozen=True, slots=True)
class MatbenchSource:
    """A matbench file; every column beside the structure is a label, the index is not used.

    Args:
        path: the ``.json.gz`` file, or a plain or zipped one.
        id_key: the column of the ids, if there is one.
        options: how structures are read.
    """

    kind: ClassVar[str] = "matbench"

    path: str
    id_key: str | None = None
    options: SourceOptions = DEFAULT_OPTIONS

    @property
    def name(self) -> str:
        """The file's name without folders and suffixes."""
        return bare_name(self.path)

    def scan(self, every: int, spool: Path) -> Scan:
        """Count, hash, mark and fill the spool; see :class:`~lazygraph.sources.base.Source`."""
        path = Path(self.path)
        intake = Intake(path)
        columns: list[Any] = []
        with spool.open("wb") as file, naming(path):
            count, marks = marked(_spooled(intake, file, columns), every)
            if not columns or not all(isinstance(column, str) for column in columns):
                msg = f"found the columns {columns[:12]}; required: the names of the columns under the key 'columns'"
                raise UnreadableInput(msg)
            require_id_key(dict.fromkeys(columns), self.id_key)
            trailer = json.dumps(columns).encode()
            file.write(trailer + len(trailer).to_bytes(_LENGTH, "little"))
        return Scan(count, marks, (intake.file,))

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one cut; see :class:`~lazygraph.sources.base.Source`."""
        with spool.open("rb") as file:
            columns = _columns(file)
            file.seek(cut.mark)
            for position, line in enumerate(islice(file, cut.count), cut.start):
                yield self._entry(line, columns, default_id(self.name, position))

    def _entry(self, line: bytes, columns: list[str], default: str) -> Entry:
        try:
            row = loads(line)
        except UnreadableInput as error:
            return broken_entry(default, error)
        if not isinstance(row, list) or len(row) != len(columns):
            found = f"{len(row)} values" if isinstance(row, list) else type(row).__name__
            msg = f"found a row of {found}; required: one value for each of the columns {columns[:12]}"
            return broken_entry(default, UnreadableInput(msg))
        return entry_of(dict(zip(columns, row, strict=True)), self.id_key, default, options=self.options)


def _spooled(intake: Intake, file: IO[bytes], columns: list[Any]) -> Iterator[int]:
    """Write the rows, collect the columns, yield where each row begins in the spool."""
    at = 0
    for element in elements(intake, 2, b"{"):
        if element.key == "columns":
            columns.append(loads(element.text))
        elif element.key == "data":
            yield at
            # JSON has line feeds between its tokens only.
            at += file.write(element.text.replace(b"\n", b" ") + b"\n")


def _columns(file: IO[bytes]) -> list[str]:
    file.seek(-_LENGTH, 2)
    length = int.from_bytes(file.read(_LENGTH), "little")
    file.seek(-_LENGTH - length, 2)
    columns: list[str] = json.loads(file.read(length))
    return columns
