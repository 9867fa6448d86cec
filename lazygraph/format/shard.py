"""A shard: an LMDB file that any program can open with LMDB, and that lazygraph reads by offset.

The reader never walks LMDB's page tree: a flipped bit there makes liblmdb miss keys or abort the process. The writer
therefore finds the position of each value, checks it by reading the published bytes back, and stores it in a column.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import xxhash
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, LazyGraphError
from lazygraph.format.pages import MAX_PAGE, end_of_pages, locate
from lazygraph.storage.files import FileRef, fsync_directory, make_folder, move_file, sha256_of, temporary_beside
from lazygraph.storage.positioned import read_at, sync_file
from lazygraph.storage.scratch import local_scratch

__all__ = ["PAGE", "check_place", "check_value", "read_value", "record_dtype", "write_shard"]

PAGE = min(max(4096, mmap.PAGESIZE), MAX_PAGE)  # LMDB takes that of the operating system
MAP_UNIT = 2**24  # map sizes are multiples of it, so that the bytes of a shard depend on its records alone


def write_shard(directory: Path, number: int, records: Sequence[bytes]) -> tuple[FileRef, NDArray[Any]]:
    """Write compressed records, in order, as one shard file, and publish it under its final name.

    Args:
        directory: the dataset directory; the file goes to its folder ``shards``.
        number: the number of the shard, the first part of its name.
        records: the compressed records.

    Returns:
        The file, and the ``record`` column's rows (offset, length, xxh3), proven by reading the file back.
    """
    folder = directory / "shards"
    make_folder(folder)
    # A new name each time: LMDB would continue a file that an earlier process with the same number left.
    temporary = temporary_beside(folder / f"{number:05d}.lmdb")
    try:
        _write_environment_near(temporary, records)
        size = temporary.stat().st_size
        index = np.empty(len(records), record_dtype(size, max(map(len, records), default=0)))
        index["length"] = [len(r) for r in records]
        index["xxh3"] = [xxhash.xxh3_64_intdigest(r) for r in records]
        sync_file(temporary)
        with temporary.open("rb") as file:
            try:
                index["offset"] = locate(file.fileno(), size, len(records))[:, 0]
            except CorruptDataset as error:
                msg = f"LMDB has put its pages in another way than is known; report this as a bug: {error}"
                raise LazyGraphError(msg) from error
            _prove(file.fileno(), size, index)
        digest = sha256_of(temporary)
        name = f"shards/{number:05d}-{digest[:16]}.lmdb"
        move_file(temporary, directory / name)
        fsync_directory(folder)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return FileRef(name, size, digest), index


def record_dtype(file_size: int, longest: int) -> np.dtype[Any]:
    """The type of the ``record`` column: as narrow as a file size and a record length allow."""
    offset = "<u4" if file_size < 2**32 else "<u8"
    length = "<u2" if longest < 2**16 else "<u4"
    return np.dtype([("offset", offset), ("length", length), ("xxh3", "<u8")])


def read_value(descriptor: int, size: int, offset: int, length: int, xxh3: int) -> bytes:
    """One compressed record by a bounded positioned read, checked. Works in threads and after a fork.

    Args:
        descriptor: the open shard file.
        size: its size, as the manifest says.
        offset: where the record begins.
        length: its bytes.
        xxh3: its XXH3-64.

    Raises:
        CorruptDataset: the file ends before the record does, or the bytes are not those that were written.
        OSError: the read itself failed.
    """
    check_place(size, offset, length)
    value = read_at(descriptor, length, offset)
    while len(value) < length and (more := read_at(descriptor, length - len(value), offset + len(value))):
        value += more  # some file systems give a part where a signal comes
    return check_value(value, offset, length, xxh3)


def check_place(size: int, offset: int, length: int) -> None:
    """Refuse to read beyond the end of a shard: it would take memory for whatever length a damaged column says.

    Raises:
        CorruptDataset: with the place.
    """
    if offset + length > size:
        msg = f"the shard ends at byte {size}; required: {length} bytes from {offset} on"
        raise CorruptDataset(msg)


def check_value(value: bytes, offset: int, length: int, xxh3: int) -> bytes:
    """The bytes that were read from a place, if they are those that were written; see ``read_value``."""
    if len(value) != length:
        msg = f"the shard was cut off: found {len(value)} of the {length} bytes at {offset}"
        raise CorruptDataset(msg)
    if xxhash.xxh3_64_intdigest(value) != xxh3:
        msg = f"the {length} bytes at {offset} do not have the checksum that was recorded when they were written"
        raise CorruptDataset(msg)
    return value


def _prove(descriptor: int, size: int, index: NDArray[Any]) -> None:
    """Read every record back from where it was seen."""
    for number, (offset, length, digest) in enumerate(index.tolist()):
        try:
            read_value(descriptor, size, offset, length, digest)
        except CorruptDataset as error:
            msg = f"record {number} is not where LMDB was seen to put it; report this as a bug: {error}"
            raise LazyGraphError(msg) from error


def _write_environment_near(path: Path, records: Sequence[bytes]) -> None:
    """An LMDB file at a path, made on a disk of this machine where the path is on another one.

    LMDB writes page by page. A shared file system takes one long copy much faster.
    """
    with local_scratch(path.parent, _map_size(records)) as scratch:
        if scratch is not None:
            # If that disk fails, the file can be made at its final place. The bytes are the same.
            with suppress(OSError):
                _write_environment(scratch / path.name, records)
                shutil.copyfile(scratch / path.name, path)
                return
            path.unlink(missing_ok=True)
        _write_environment(path, records)


def _map_size(records: Sequence[bytes]) -> int:
    # Values over half a page take whole pages of their own, the others share pages at least half full.
    pages = sum(2 + 2 * len(record) // PAGE for record in records)
    return (pages * PAGE // MAP_UNIT + 1) * MAP_UNIT


def _write_environment(path: Path, records: Sequence[bytes]) -> None:
    """An LMDB file with these values in one transaction, as long as its last page."""
    map_size = _map_size(records)
    try:
        _fill_environment(path, records, map_size)
        with path.open("r+b", buffering=0) as file:
            end = end_of_pages(file.fileno())
            if os.fstat(file.fileno()).st_size > end:  # on Windows, as long as the map
                file.truncate(end)
    except lmdb.Error as error:
        # A full disk, a limit or a lost mount: LMDB's error does not name the path.
        code = getattr(error, "code", None) or errno.EIO
        # It calls a write that was cut short an input/output error.
        if code == errno.EIO and shutil.disk_usage(path.parent).free < sum(map(len, records)):
            code = errno.ENOSPC
        raise OSError(code, os.strerror(code) if code > 0 else str(error), os.fspath(path)) from error


def _fill_environment(path: Path, records: Sequence[bytes], map_size: int) -> None:
    with lmdb.open(
        os.fsencode(path), map_size=map_size, subdir=False, lock=False, sync=False, metasync=False, writemap=False,
        meminit=True, max_dbs=0,
    ) as environment, environment.begin(write=True) as transaction:  # fmt: skip
        for number, record in enumerate(records):
            transaction.put(number.to_bytes(4, "big"), record, append=True)
