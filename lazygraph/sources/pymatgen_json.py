"""Structure dicts of pymatgen, jarvis or ASE in JSON: one, a list, a mapping of ids, or one a line (JSONL)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lazygraph.errors import UnreadableInput
from lazygraph.sources import jarvis, poscar_zip
from lazygraph.sources.base import Cut, Entry, Scan
from lazygraph.sources.json_entries import Layout, read_entries, scan_entries
from lazygraph.sources.jsonscan import first_value
from lazygraph.sources.options import DEFAULT_OPTIONS, SourceOptions
from lazygraph.sources.records import STRUCTURE_KEYS, holds_structure
from lazygraph.sources.unpack import bare_name, body, naming, read_head

__all__ = ["PymatgenSource", "layout_of", "sniff"]


def sniff(head: bytes) -> bool:
    """Whether the first 64 KiB of a file hold structure dicts, in none of the layouts that have a kind of their own."""
    value = first_value(head).value
    records = value if isinstance(value, list) else [value, *value.values()] if isinstance(value, dict) else []
    found = any(
        holds_structure(record) or any(map(holds_structure, record.values()))
        for record in records
        if isinstance(record, dict)
    )
    return found and not jarvis.sniff(head) and not poscar_zip.sniff(head)


def layout_of(head: bytes) -> Layout:
    """How the records of a file stand beside one another, from its first 64 KiB.

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
    if not _is_record(value):
        return Layout.MAPPING
    # A record on one line is the first line of JSONL, or the only one.
    return Layout.DOCUMENT if b"\n" in head[:end].lstrip() else Layout.LINES


def _is_record(value: dict[str, Any]) -> bool:
    """Whether an object is one record rather than a mapping of ids to records."""
    if holds_structure(value) or any(holds_structure(value.get(key)) for key in STRUCTURE_KEYS):
        return True
    return any(not isinstance(part, dict) and part is not None for part in value.values())


@dataclass(frozen=True, slots=True)
class PymatgenSource:
    """A JSON or JSONL file of structure dicts: ``Structure.as_dict()``, jarvis ``to_dict()``, ASE ``todict()``.

    Memory: one piece of 1 MiB and one record; a document that is a single record is read whole.

    Args:
        path: the ``.json`` or ``.jsonl`` file, plain or in a zip or gzip.
        id_key: the key of the ids, if it is none of the usual ones.
        options: how structures are read.
    """

    kind: ClassVar[str] = "pymatgen"

    path: str
    id_key: str | None = None
    options: SourceOptions = DEFAULT_OPTIONS

    @property
    def name(self) -> str:
        """The file's name without folders and suffixes."""
        return bare_name(self.path)

    def scan(self, every: int, spool: Path) -> Scan:
        """Count, hash and mark; see :class:`~lazygraph.sources.base.Source`."""
        path = Path(self.path)
        with naming(path):
            layout = layout_of(read_head(path))
        return scan_entries(path, spool, every, layout, self.id_key)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one cut; see :class:`~lazygraph.sources.base.Source`."""
        path = Path(self.path)
        layout = layout_of(read_head(body(path, spool)))
        return read_entries(path, spool, cut, layout, self.id_key, options=self.options)
