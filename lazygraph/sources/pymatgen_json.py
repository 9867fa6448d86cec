"""Structure dicts of pymatgen, jarvis or ASE in JSON: one, a list, a mapping by id, or one per line (JSONL).

Also lists and mappings one level deeper: ``{"entries": [...]}`` (computed entries, answers of the Materials Project),
``{"train": [...], "test": [...]}``, and ``{"mp-1": {"mp-1-0-0": {...}, ...}}`` (MPtrj).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from lazygraph.errors import UnreadableInput
from lazygraph.sources import jarvis, poscar_zip
from lazygraph.sources.base import Cut, Entry, Scan
from lazygraph.sources.file_source import RecordSource
from lazygraph.sources.json_entries import Layout, Looked, read_entries, scan_entries
from lazygraph.sources.jsonscan import first_value
from lazygraph.sources.record_entries import look_at_records, make_entries
from lazygraph.sources.records import holds_structure
from lazygraph.sources.structure_keys import is_structure_name
from lazygraph.sources.units import implied_by
from lazygraph.sources.unpack import naming, read_head

__all__ = ["PymatgenSource", "layout_of", "sniff"]


def sniff(head: bytes) -> bool:
    """Tell whether the first 64 KiB of a file hold structures, in a layout that no other kind reads."""
    value = first_value(head).value
    found = (
        any(_is_record(record) for record in value)
        if isinstance(value, list)
        else isinstance(value, dict) and _layout_of_object(value) is not None
    )
    return found and not jarvis.sniff(head) and not poscar_zip.sniff(head)


def layout_of(head: bytes) -> Layout:
    """Return the layout of the records of a file, from its first 64 KiB.

    Raises:
        UnreadableInput: it is not JSON.
    """
    value, end, whole = first_value(head)
    if isinstance(value, list):
        return Layout.ARRAY
    if not isinstance(value, dict):
        msg = f"found {head[:40]!r}; required: JSON that begins with '[' or '{{'"
        raise UnreadableInput(msg)
    if whole and head[end:].strip():
        return Layout.LINES
    layout = _layout_of_object(value)
    if layout is None:
        scalars = any(not isinstance(part, dict) and part is not None for part in value.values())
        layout = Layout.DOCUMENT if scalars else Layout.MAPPING
    if layout is not Layout.DOCUMENT:
        return layout
    # A record on one line is the first line of JSONL, or the whole file.
    return Layout.DOCUMENT if b"\n" in head[:end].lstrip() else Layout.LINES


def _layout_of_object(value: dict[str, Any]) -> Layout | None:
    """Return the layout of an object: one record (``DOCUMENT``), a mapping, lists or groups; None without records."""
    if holds_structure(value):
        return Layout.DOCUMENT
    structures = [key for key, part in value.items() if holds_structure(part)]
    others = [part for part in value.values() if not isinstance(part, dict) and part is not None]
    if structures:
        unnamed = sum(not is_structure_name(key) for key in structures)
        return Layout.MAPPING if unnamed > 1 or (unnamed and not others) else Layout.DOCUMENT
    parts = [part for part in value.values() if isinstance(part, dict)]
    records = [part for part in parts if any(map(holds_structure, part.values()))]
    if records:
        if len(records) == 1 and others:
            return Layout.DOCUMENT
        # A mapping of mappings of structures. Its keys are not names of parts of a record.
        keys = [key for part in records for key, inner in part.items() if holds_structure(inner)]
        groups = all(map(_is_group, records)) and not all(map(is_structure_name, keys))
        return Layout.GROUPS if groups else Layout.MAPPING
    if any(_is_record(inner) for part in parts for inner in part.values()):
        return Layout.DOCUMENT if len(parts) == 1 and others else Layout.GROUPS
    if any(isinstance(part, list) and any(map(_is_record, part)) for part in value.values()):
        return Layout.LISTS
    return None


def _is_group(part: dict[str, Any]) -> bool:
    """Tell whether an object holds nothing but structures."""
    return all(holds_structure(inner) or inner is None for inner in part.values())


def _is_record(value: Any) -> bool:
    """Tell whether a value is a structure, or an object with one under a key, or under a key of an object in it."""
    if not isinstance(value, dict):
        return False
    if holds_structure(value) or any(map(holds_structure, value.values())):
        return True
    return any(holds_structure(inner) for part in value.values() if isinstance(part, dict) for inner in part.values())


class _OtherLayout(Exception):  # a signal inside this module, never seen by a caller
    """The whole document holds many structures."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout


@dataclass(frozen=True, slots=True)
class PymatgenSource(RecordSource):
    """A JSON or JSONL file of structure dicts: ``Structure.as_dict()``, jarvis ``to_dict()``, ASE ``todict()``.

    Memory: one piece of 1 MiB and one record; a document that is a single record is read whole.

    Args:
        path: the ``.json`` or ``.jsonl`` file, plain or in a zip or gzip.
        id_key: the key of the ids, if it has no usual name.
        options: options for reading structures.
    """

    kind: ClassVar[str] = "pymatgen"

    def scan(self, every: int, spool: Path) -> Scan:
        """Count, hash and mark; see :class:`~lazygraph.sources.base.Source`."""
        path = Path(self.path)
        with naming(path):
            layout = layout_of(read_head(path))
        try:
            return scan_entries(path, spool, every, layout, look=partial(self._look, layout))
        except _OtherLayout as other:  # the beginning of the file did not show it
            return scan_entries(path, spool, every, other.layout, look=partial(self._look, other.layout))

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one cut; see :class:`~lazygraph.sources.base.Source`."""
        return read_entries(
            Path(self.path), spool, cut, partial(make_entries, id_key=self.id_key, options=self.options)
        )

    def _look(self, layout: Layout, records: list[Any]) -> Looked:
        if layout in (Layout.DOCUMENT, Layout.LINES) and len(records) == 1 and isinstance(records[0], dict):
            seen = _layout_of_object(records[0])
            if seen not in (Layout.DOCUMENT, None):
                raise _OtherLayout(seen)
        return look_at_records(self.id_key, self.options, implied_by(records))(records)
