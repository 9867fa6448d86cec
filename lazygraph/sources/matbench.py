"""Matbench: a pandas "split" table in JSON, ``{"index": [...], "columns": [...], "data": [[structure, label], ...]}``.

The names of the columns may come after all rows. ``scan`` therefore puts the rows into the spool, one per line, and the
columns into a file beside it, so that every cut finds both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import Cut, Entry, Scan
from lazygraph.sources.file_source import RecordSource
from lazygraph.sources.json_entries import loads
from lazygraph.sources.json_table import look_at_rows, read_rows
from lazygraph.sources.jsonscan import elements, first_value
from lazygraph.sources.records import holds_structure
from lazygraph.sources.units import of_matbench
from lazygraph.sources.unpack import Intake, marked, naming

__all__ = ["MatbenchSource", "sniff"]

_PARTS = frozenset({"index", "columns", "data"})


def sniff(head: bytes) -> bool:
    """Tell whether the first 64 KiB of a file begin a "split" table, with a structure in it if rows can be seen."""
    table = first_value(head).value
    if not isinstance(table, dict) or not table or not _PARTS.issuperset(table):
        return False
    if any(isinstance(row, dict) for row in table.get("data") or ()):  # records under a key of that name
        return False
    # The last row may be cut short.
    seen = [row for row in table.get("data", []) if isinstance(row, list) and row]
    return all(isinstance(part, list) for part in table.values()) and (
        not seen or any(holds_structure(cell) for row in seen for cell in row)
    )


@dataclass(frozen=True, slots=True)
class MatbenchSource(RecordSource):
    """A matbench file. Every column other than the structure is a label. The index is not used.

    Args:
        path: the ``.json.gz`` file, or a plain or zipped one.
        id_key: the column of the ids, if there is one.
        options: options for reading structures.
    """

    kind: ClassVar[str] = "matbench"

    def scan(self, every: int, spool: Path) -> Scan:
        """Count, hash, mark and fill the spool; see :class:`~lazygraph.sources.base.Source`."""
        path = Path(self.path)
        intake = Intake(path)
        columns: list[Any] = []
        with naming(path):
            with spool.open("wb") as file:
                count, marks = marked(_spooled(intake, file, columns), every)
            if not columns or not all(isinstance(column, str) for column in columns):
                msg = f"the key 'columns' holds {columns[:12]}; it must hold the names of the columns"
                raise UnreadableInput(msg)
            if len(set(columns)) < len(columns):
                twice = next(column for column in columns if columns.count(column) > 1)
                msg = f"the column {twice!r} appears twice; required: a different name for each column"
                raise UnreadableInput(msg)
            notes = look_at_rows(spool, columns, self.id_key, self.options)
        return Scan(count, marks, (intake.file,), notes, implied=of_matbench(self.name))

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one cut; see :class:`~lazygraph.sources.base.Source`."""
        return read_rows(spool, cut, self.name, self.id_key, self.options)


def _spooled(intake: Intake, file: IO[bytes], columns: list[Any]) -> Iterator[int]:
    """Write the rows, collect the columns, and yield the position of each row in the spool."""
    at = 0
    for element in elements(intake, 2, b"{"):
        if element.key == "columns":
            columns.append(loads(element.text))
        elif element.key == "data":
            yield at
            # JSON has line feeds between its tokens only.
            at += file.write(element.text.replace(b"\n", b" ") + b"\n")
