"""JARVIS JSON: a list of ``{"jid": ..., "atoms": {"lattice_mat": ..., "coords": ..., "elements": ...}, label: ...}``.

The layout of the JARVIS-DFT figshare files (``jdft_3d``, ``mlearn`` and others), plain or inside a zip or gzip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from lazygraph.sources.base import Cut, Entry, Scan
from lazygraph.sources.file_source import RecordSource
from lazygraph.sources.json_entries import Layout, read_entries, scan_entries
from lazygraph.sources.jsonscan import first_value
from lazygraph.sources.record_entries import look_at_records, make_entries
from lazygraph.sources.units import JARVIS

__all__ = ["JarvisSource", "sniff"]


def sniff(head: bytes) -> bool:
    """Tell whether the first 64 KiB of a file begin a list of jarvis records."""
    value = first_value(head).value
    return isinstance(value, list) and any(
        isinstance(record, dict) and isinstance(atoms := record.get("atoms"), dict) and "lattice_mat" in atoms
        for record in value
    )


@dataclass(frozen=True, slots=True)
class JarvisSource(RecordSource):
    """A JARVIS file. The id is under ``jid``. Every key other than ``atoms`` is a label, and ``"na"`` means missing.

    Memory: one piece of 1 MiB and one record. ``scan`` unpacks a zip or gzip into the spool.

    Args:
        path: the ``.json``, ``.json.zip`` or ``.json.gz`` file.
        id_key: the key of the ids, if it is not ``jid``.
        options: options for reading structures.
    """

    kind: ClassVar[str] = "jarvis"

    def scan(self, every: int, spool: Path) -> Scan:
        """Count, hash and mark; see :class:`~lazygraph.sources.base.Source`."""
        look = look_at_records(self.id_key, self.options, JARVIS)
        return scan_entries(Path(self.path), spool, every, Layout.ARRAY, look=look)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one cut; see :class:`~lazygraph.sources.base.Source`."""
        return read_entries(
            Path(self.path), spool, cut, partial(make_entries, id_key=self.id_key, options=self.options)
        )
