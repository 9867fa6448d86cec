"""Rows of a JSON table in the spool, one a line, in the order of the columns that the scan keeps beside it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import Cut, Entry, default_id
from lazygraph.sources.facts import recall, remember
from lazygraph.sources.json_entries import loads
from lazygraph.sources.options import SourceOptions
from lazygraph.sources.record_entries import look_at_records, place_of
from lazygraph.sources.records import broken_entry, entry_of
from lazygraph.sources.structure_keys import FIRST

__all__ = ["INDEX", "look_at_rows", "read_rows"]

INDEX = "@index"
"""The column of the table's index: the id where no other column holds it, unless it counts the rows."""


def look_at_rows(spool: Path, columns: list[str], id_key: str | None, options: SourceOptions) -> tuple[str, ...]:
    """Choose the column of the structures from the first rows, keep it with the columns; what the report tells of it.

    Raises:
        UnreadableInput: there is no column of that name for the ids or the structures.
    """
    with spool.open("rb") as file:
        seen = [row for row in map(_loaded, islice(file, FIRST)) if isinstance(row, list) and len(row) == len(columns)]
    records = [dict(zip(columns, row, strict=True)) for row in seen] or [dict.fromkeys(columns)]
    found = look_at_records(id_key, options)(records)
    remember(spool, {**found.facts, "columns": columns})
    return found.notes


def read_rows(spool: Path, cut: Cut, name: str, id_key: str | None, options: SourceOptions) -> Iterator[Entry]:
    """Yield the entries of one cut."""
    facts = recall(spool)
    columns, place = facts["columns"], place_of(facts)
    with spool.open("rb") as file:
        file.seek(cut.mark)
        for position, line in enumerate(islice(file, cut.count), cut.start):
            default = default_id(name, position)
            try:
                row = loads(line)
            except UnreadableInput as error:
                yield broken_entry(default, error)
                continue
            if not isinstance(row, list) or len(row) != len(columns):
                found = f"{len(row)} values" if isinstance(row, list) else type(row).__name__
                msg = f"found a row of {found}; required: one value for each of the columns {columns[:12]}"
                yield broken_entry(default, UnreadableInput(msg))
                continue
            record = dict(zip(columns, row, strict=True))
            index = record.pop(INDEX, None)
            key = None if index is None or index.isdecimal() else index
            yield entry_of(record, place, id_key, default, key=key, options=options)


def _loaded(line: bytes) -> Any:
    try:
        return loads(line)
    except UnreadableInput:
        return None
