"""A pandas table in JSON as ``DataFrame.to_json`` writes it by default: ``{"column": {"row": value, ...}, ...}``.

Each row is spread over the whole file. ``scan`` first writes the columns to a separate file, one value per line. Then
it reads them side by side into the spool, one row per line. Memory: one piece of 1 MiB and one row.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import Cut, Entry, Scan
from lazygraph.sources.facts import recall
from lazygraph.sources.file_source import RecordSource
from lazygraph.sources.json_entries import SPLITS
from lazygraph.sources.json_table import INDEX, look_at_rows, read_rows
from lazygraph.sources.jsonscan import elements, first_value
from lazygraph.sources.options import SourceOptions
from lazygraph.sources.record_entries import place_of
from lazygraph.sources.records import holds_structure
from lazygraph.sources.structure_keys import StructurePlace, is_structure_name
from lazygraph.sources.unpack import Intake, marked, naming

__all__ = ["PandasSource", "sniff"]

_KEY = re.compile(rb'\s*("[^"\\]*(?:\\.[^"\\]*)*")\s*:')


def sniff(head: bytes) -> bool:
    """Tell whether the first 64 KiB of a file begin a table by columns, one of which holds structures."""
    table = first_value(head).value
    if not isinstance(table, dict) or not table or not all(isinstance(column, dict) for column in table.values()):
        return False
    if {name.lower() for name in table} <= SPLITS:
        return False
    filled = {name: list(column.values()) for name, column in table.items() if column}
    structures = [name for name, cells in filled.items() if any(map(holds_structure, cells))]
    if not structures or any(
        isinstance(cell, dict) and _is_record(cell) for cells in filled.values() for cell in cells
    ):
        return False
    others = len(filled) > len(structures)
    plain_index = all(list(column)[:3] == ["0", "1", "2"][: len(column)] for column in table.values() if column)
    same_index = len({next(iter(column)) for column in table.values() if column}) == 1
    named = others or any(map(is_structure_name, structures)) or (len(filled) == 1 and plain_index)
    return same_index and named and _by_columns(filled)


def _by_columns(filled: dict[str, list[Any]]) -> bool:
    """Whether no column mixes structures with other values. A record mixes them (``{"id": {"structure", "gap"}}``)."""
    return all(
        all(holds_structure(cell) or cell is None for cell in cells)
        for cells in filled.values()
        if any(map(holds_structure, cells))
    )


def _is_record(cell: dict[str, Any]) -> bool:
    """Tell whether a value is a record that holds a structure, as in MPtrj, rather than a structure."""
    return not holds_structure(cell) and any(map(holds_structure, cell.values()))


@dataclass(frozen=True, slots=True)
class PandasSource(RecordSource):
    """A file of ``DataFrame.to_json()``. Every column other than the structure is a label.

    If no column has ids, the index gives them, unless it is ``0, 1, 2, ...``.

    Args:
        path: the ``.json`` file, plain or in a zip or gzip.
        id_key: the column of the ids, if there is one.
        options: options for reading structures.
    """

    kind: ClassVar[str] = "pandas"

    def scan(self, every: int, spool: Path) -> Scan:
        """Count, hash, mark and fill the spool; see :class:`~lazygraph.sources.base.Source`."""
        path = Path(self.path)
        intake = Intake(path)
        by_columns = spool.with_name(f"{spool.name}.columns")
        with naming(path):
            with by_columns.open("wb") as file:
                columns = _by_column(intake, file)
            with spool.open("wb") as file:
                count, marks = marked(_rows(by_columns, columns, file), every)
            by_columns.unlink()
            notes = look_at_rows(spool, [INDEX, *columns], self.id_key, self.options)
            _require_one(place_of(recall(spool)), self.options)
        return Scan(count, marks, (intake.file,), notes)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one cut; see :class:`~lazygraph.sources.base.Source`."""
        return read_rows(spool, cut, self.name, self.id_key, self.options)


def _require_one(place: StructurePlace | None, options: SourceOptions) -> None:
    """Refuse several columns of structures if none has a usual name, because they may be groups of structures.

    Raises:
        UnreadableInput: there are several such columns.
    """
    if options.structure_key is None and place is not None and place.others and not is_structure_name(place.name):
        names = ", ".join(map(repr, (place.name, *place.others[:5])))
        msg = f"the columns {names} hold structures, and none has a usual name; choose one with --structure-key"
        raise UnreadableInput(msg)


def _by_column(intake: Intake, file: IO[bytes]) -> dict[str, int]:
    """Write one member per line, and return column -> the position of its first line.

    Raises:
        UnreadableInput: the table holds something other than columns, or a column twice.
    """
    begins: dict[str, int] = {}
    at, current = 0, None
    for start, text, key, opened in elements(intake, 2, b"{"):
        if key is None or opened != ord("{"):
            msg = f"found {text.strip()[:40]!r} at byte {start}; required: columns, each an object of rows"
            raise UnreadableInput(msg)
        if key != current:
            if key in begins:
                msg = f"the column {key!r} appears twice; required: a different name for each column"
                raise UnreadableInput(msg)
            begins[key] = at
            current = key
        at += file.write(text.replace(b"\n", b" ").strip() + b"\n")
    return begins


def _rows(path: Path, begins: dict[str, int], file: IO[bytes]) -> Iterator[int]:
    """Write the rows, and yield the position of each.

    Raises:
        UnreadableInput: the columns do not have the same rows.
    """
    if not begins:
        return
    at = 0
    names = list(begins)
    with path.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content:
        ends = [*list(begins.values())[1:], len(content)]
        places = list(begins.values())
        while places[0] < ends[0]:
            index: str | None = None
            yield at
            at += file.write(b"[")
            for number, place in enumerate(places):
                end = content.find(b"\n", place)
                if place >= ends[number]:
                    msg = f"the column {names[number]!r} ends before the row {index!r} of {names[0]!r}"
                    raise _unequal(msg)
                key, begin = _key(content, place, end)
                if index is None:
                    index = key
                    at += file.write(json.dumps(key).encode())
                if key != index:
                    msg = f"the column {names[number]!r} has the row {key!r} where {names[0]!r} has {index!r}"
                    raise _unequal(msg)
                at += file.write(b",") + file.write(content[begin:end])
                places[number] = end + 1
            at += file.write(b"]\n")
    for number, place in enumerate(places):
        if place < ends[number]:
            msg = f"the column {names[number]!r} has more rows than {names[0]!r}"
            raise _unequal(msg)


def _key(content: mmap.mmap, begin: int, end: int) -> tuple[str, int]:
    """Return the key of a member of an object, and the position of its value. The value is parsed later.

    Raises:
        UnreadableInput: it does not begin with a key and a colon.
    """
    match = _KEY.match(content, begin, end)
    try:
        if match is not None:
            return json.loads(match[1].decode()), match.end()
    except ValueError:
        pass
    msg = f"found {content[begin : min(end, begin + 40)]!r}; required: a key in quotes, a colon and a value"
    raise UnreadableInput(msg)


def _unequal(found: str) -> UnreadableInput:
    return UnreadableInput(f"{found}; every column must have the same rows")
