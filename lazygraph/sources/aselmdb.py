"""ASE databases in LMDB (``.aselmdb``, fairchem's OMat24 and others): zlib-compressed JSON, one row per value.

The reader unpickles nothing, does not use liblmdb (see :mod:`~lazygraph.sources.lmdb_pages`), and bounds decompression.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import UnreadableInput
from lazygraph.sources.ase_rows import entry_of_row
from lazygraph.sources.base import (
    MAX_TEXT,
    Cut,
    Entry,
    Scan,
    hash_file,
    open_regular,
    read_entry,
    readable,
    require_length,
    too_long,
)
from lazygraph.sources.json_entries import loads
from lazygraph.sources.lmdb_pages import is_lmdb, values
from lazygraph.sources.units import ASE
from lazygraph.sources.unpack import naming
from lazygraph.storage.positioned import read_at

__all__ = ["AseLmdbSource", "sniff"]

_LOOKED = 8  # values of which one must be a row
_BOOKS = frozenset({b"nextid", b"deleted_ids", b"metadata"})  # the database's own keys
_ROW = np.dtype([("id", "<i8"), ("offset", "<i8"), ("length", "<i8")])

sniff = is_lmdb


@dataclass(frozen=True, slots=True)
class AseLmdbSource:
    """One entry per row, in the order of the row numbers; the id is ``NAME-12`` for row 12.

    ``scan`` walks the tree of the file once, and lists the position of each row in the spool. The source holds only a
    path: it is picklable and safe in any process. A row takes about 60 us.

    Args:
        path: the ``.aselmdb`` file.
        id_key: the key-value pair, or the entry of the data, that holds the id.
    """

    kind: ClassVar[str] = "aselmdb"

    path: str
    id_key: str | None = None

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return Path(self.path).name.removesuffix(".aselmdb").removesuffix(".lmdb")

    def scan(self, every: int, spool: Path) -> Scan:
        """List the rows in the spool, and hash the file."""
        path = Path(self.path)
        with naming(path), _opened(path) as descriptor:
            rows, others = _rows(descriptor)
            _require_rows(descriptor, rows[:_LOOKED])
        rows.tofile(spool)
        marks = tuple(range(0, len(rows), every))
        notes = (f"{others} values under keys that are no row numbers are not read",) if others else ()
        return Scan(len(rows), marks, (hash_file(path),), notes, implied=ASE)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the rows of one range."""
        rows = np.fromfile(spool, _ROW, cut.count, offset=cut.start * _ROW.itemsize)
        name = readable(self.name)
        with _opened(Path(self.path)) as descriptor:
            for row in rows:
                default = f"{name}-{row['id']}"
                yield read_entry(default, self._entry, descriptor, row, default)

    def _entry(self, descriptor: int, row: Any, default: str) -> Entry:
        return entry_of_row(loads(_unpacked(descriptor, row)), default, self.id_key)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        file = open_regular(path)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise UnreadableInput(msg) from error
    with file:
        yield file.fileno()


def _rows(descriptor: int) -> tuple[NDArray[Any], int]:
    """Return the positions of the rows by number, and the number of unknown values."""
    found, others = [], 0
    for key, offset, length in values(descriptor, os.fstat(descriptor).st_size):
        if key.isdigit() and len(key) < 19:
            found.append((int(key), offset, length))
        else:
            others += key not in _BOOKS
    rows = np.array(found, _ROW)
    return rows[np.argsort(rows["id"], kind="stable")], others


def _require_rows(descriptor: int, rows: NDArray[Any]) -> None:
    """Refuse a file of which none of these values is a row, such as the LMDB files of older data sets with pickles."""
    reasons = []
    for row in rows:
        try:
            content = loads(_unpacked(descriptor, row))
        except UnreadableInput as error:
            reasons.append(str(error))
            continue
        if isinstance(content, dict):
            return
        reasons.append(f"one is a {type(content).__name__}")
    if reasons:
        msg = (
            f"the values of the LMDB file are not rows of ASE ({reasons[0]}); they must be zlib-compressed JSON of "
            "ase.db"
        )
        raise UnreadableInput(msg)


def _unpacked(descriptor: int, row: Any) -> bytes:
    """Return the JSON of a row.

    Raises:
        UnreadableInput: the row is cut short, not compressed by zlib, or too long.
    """
    length = int(row["length"])
    if length > MAX_TEXT:
        raise too_long()
    packed = read_at(descriptor, length, int(row["offset"]))
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(packed, MAX_TEXT + 1)
    except zlib.error as error:
        msg = f"a value is not compressed by zlib: {error}"
        raise UnreadableInput(msg) from error
    require_length(content)
    if not unpacker.eof:
        msg = "a value breaks off; copy or download the file again"
        raise UnreadableInput(msg)
    return content
