"""Structures of OPTIMADE: a server's answer (``{"data": [...], "meta": ...}``), a list of entries, or JSON Lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.sources.base import Cut, Entry, Scan, attempt
from lazygraph.sources.extxyz import take_id
from lazygraph.sources.file_source import FileSource
from lazygraph.sources.json_entries import Layout, Looked, read_entries, scan_entries
from lazygraph.sources.jsonscan import first_value
from lazygraph.sources.optimade_crystal import COLUMNS, crystal_of_attributes, labels_of_attributes
from lazygraph.sources.records import broken_entry, id_text
from lazygraph.sources.unpack import naming, read_head

__all__ = ["OptimadeSource", "sniff"]

_STRUCTURE = re.compile(rb'"type"\s*:\s*"structures"')


def sniff(head: bytes) -> bool:
    """Tell whether the first 64 KiB of a file begin structures of OPTIMADE."""
    value = first_value(head).value
    if isinstance(value, dict) and "x-optimade" in value:
        return True
    data = value.get("data", value) if isinstance(value, dict) else value
    entries = data if isinstance(data, list) else [data]
    return any(_is_entry(entry) for entry in entries)


def _is_entry(entry: Any) -> bool:
    attributes = entry.get("attributes") if isinstance(entry, dict) else None
    return isinstance(attributes, dict) and not COLUMNS.isdisjoint(attributes)


def _layout(head: bytes) -> Layout:
    """Return the layout of the entries.

    Raises:
        UnreadableInput: the file is not JSON.
    """
    value, end, whole = first_value(head)
    if isinstance(value, list):
        return Layout.ARRAY
    if not isinstance(value, dict):
        msg = f"found {head[:40]!r}; required: JSON of OPTIMADE"
        raise UnreadableInput(msg)
    if whole and head[end:].strip():
        return Layout.LINES
    data = value.get("data")
    if isinstance(data, list) or (data is None and "attributes" not in value):
        return Layout.LISTS
    return Layout.DOCUMENT if b"\n" in head[:end].lstrip() else Layout.LINES


@dataclass(frozen=True, slots=True)
class OptimadeSource(FileSource):
    """One entry per structure, with the id of the OPTIMADE entry. A note counts other entries (info, references).

    Properties that the specification does not define (``_mp_...``) are labels. A structure is a bad entry if it has
    disorder, attached or implicit atoms, or if its sites contradict its reduced formula.

    Args:
        path: the ``.json`` or ``.jsonl`` file, plain or in a zip or gzip.
        id_key: the property that holds the id, if it is not ``id``.
    """

    kind: ClassVar[str] = "optimade"

    def scan(self, every: int, spool: Path) -> Scan:
        """Count, hash and mark; see :class:`~lazygraph.sources.base.Source`."""
        path = Path(self.path)
        with naming(path):
            layout = _layout(read_head(path))
        return scan_entries(path, spool, every, layout, look=_look, keep=_is_structure)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one cut; see :class:`~lazygraph.sources.base.Source`."""
        return read_entries(Path(self.path), spool, cut, lambda _facts: self._entry, _is_structure)

    def _entry(self, record: Any, default: str, _key: str | None) -> Entry:
        if isinstance(record, dict) and isinstance(record.get("data"), dict):  # an answer, or a draft's line
            record = record["data"]
        attributes = record.get("attributes") if isinstance(record, dict) else None
        if not isinstance(attributes, dict):
            msg = "the entry has no attributes; it must be an entry of type structures"
            return broken_entry(default, UnreadableInput(msg))
        crystal: Crystal | InputError = attempt(crystal_of_attributes, attributes)
        labels = labels_of_attributes(attributes)
        try:
            name = id_text(record["id"]) if self.id_key is None else take_id(labels, self.id_key, default)
        except (UnreadableInput, KeyError) as error:
            reason = error if isinstance(error, InputError) else UnreadableInput("the entry has no id")
            return Entry(default, reason if isinstance(crystal, Crystal) else crystal, labels)
        return Entry(name, crystal, labels)


def _is_structure(text: bytes) -> bool:
    return _STRUCTURE.search(text) is not None


def _look(_records: list[Any]) -> Looked:
    return Looked()
