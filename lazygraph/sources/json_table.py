"""Rows of a JSON table in the spool, one per line, in the order of the columns that the scan stores beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import Cut, Entry, default_id, read_entry, require_length
from lazygraph.sources.facts import recall, remember
from lazygraph.sources.json_entries import loads
from lazygraph.sources.options import SourceOptions
from lazygraph.sources.record_entries import look_at_records, place_of
from lazygraph.sources.records import broken_entry, entry_of
from lazygraph.sources.structure_keys import FIRST, FirstTexts

__all__ = ["INDEX", "look_at_rows", "read_rows"]

INDEX = "@index"
"""The column of the index of the table. It is the id if no other column is, unless it counts the rows."""


def look_at_rows(spool: Path, columns: list[str], id_key: str | None, options: SourceOptions) -> tuple[str, ...]:
    """Choose the column of the structures from the first rows and store it; return notes for the report.

    Raises:
        UnreadableInput: there is no column of that name for the ids or the structures.
    """
    first = FirstTexts()
    with spool.open("rb") as file:
        for line in islice(file, FIRST):
            first.see(line)
    seen = [row for row in map(_loaded, first.texts) if isinstance(row, list) and len(row) == len(columns)]
    records = [dict(zip(columns, row, strict=True)) for row in seen] or [dict.fromkeys(columns)]
    found = look_at_records(id_key, options)(records)
    remember(spool, {**found.facts, "columns": columns})
    return found.notes


def read_rows(spool: Path, cut: Cut, name: str, id_key: str | None, options: SourceOptions) -> Iterator[Entry]:
    """Yield the entries of one cut."""
    facts = recall(spool)
    columns = facts["columns"]
    make = partial(entry_of, place=place_of(facts), id_key=id_key, options=options)
    with spool.open("rb") as file:
        file.seek(cut.mark)
        for position, line in enumerate(islice(file, cut.count), cut.start):
            default = default_id(name, position)
            yield read_entry(default, _entry, line, columns, make, default)


def _entry(line: bytes, columns: list[str], make: Callable[..., Entry], default: str) -> Entry:
    require_length(line)
    try:
        row = loads(line)
    except UnreadableInput as error:
        return broken_entry(default, error)
    if not isinstance(row, list) or len(row) != len(columns):
        found = f"{len(row)} values" if isinstance(row, list) else type(row).__name__
        msg = f"found a row of {found}; required: one value for each of the columns {columns[:12]}"
        return broken_entry(default, UnreadableInput(msg))
    record = dict(zip(columns, row, strict=True))
    index = record.pop(INDEX, None)
    key = None if index is None or index.isdecimal() else index
    return make(record, default=default, key=key)


def _loaded(line: bytes) -> Any:
    try:
        return loads(line)
    except UnreadableInput:
        return None
