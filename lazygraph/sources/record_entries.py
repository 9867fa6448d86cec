"""Entries from JSON records that map names to values, with a structure among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lazygraph.sources.base import Entry, ImpliedUnits
from lazygraph.sources.json_entries import Looked, Make
from lazygraph.sources.options import SourceOptions
from lazygraph.sources.records import entry_of, place_in, require_id_key
from lazygraph.sources.structure_keys import StructurePlace

__all__ = ["look_at_records", "make_entries", "place_of"]


def look_at_records(
    id_key: str | None, options: SourceOptions, implied: ImpliedUnits | None = None
) -> Callable[[list[Any]], Looked]:
    """Return the facts of the first records of a source: the place of the structures.

    Args:
        id_key: the key of the ids, which the first record must have.
        options: how structures are read.
        implied: the units that labels have by the convention of the source.
    """

    def look(records: list[Any]) -> Looked:
        if records and isinstance(records[0], dict):
            require_id_key(records[0], id_key)
        place = place_in(records, options)
        return Looked(
            {"place": None if place is None else place.to_json()}, () if place is None else place.notes(), implied
        )

    return look


def make_entries(facts: dict[str, Any], id_key: str | None, options: SourceOptions) -> Make:
    """Return the function from a record to its entry, with the facts of the scan."""
    place = place_of(facts)

    def make(record: Any, default: str, key: str | None) -> Entry:
        return entry_of(record, place, id_key, default, key=key, options=options)

    return make


def place_of(facts: dict[str, Any]) -> StructurePlace | None:
    """Return the place at which the scan found the structures."""
    found = facts["place"]
    return None if found is None else StructurePlace.from_json(found)
