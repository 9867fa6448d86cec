"""Recovery of a damaged dataset: every record that is provably unchanged, and its row."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.cached import cached_property
from lazygraph.errors import CorruptDataset, StorageError
from lazygraph.format.codec import CODECS, MAX_RECORD, Decoder
from lazygraph.format.columns import dtype_of, invalid_inputs, invalid_values, open_column
from lazygraph.format.digests import BLOCK as ROWS
from lazygraph.format.digests import blocks_of_column, read_digests
from lazygraph.format.manifest import Manifest, Shard, row_starts
from lazygraph.format.pages import claims, locate
from lazygraph.format.record import Record, check_counts, unpack
from lazygraph.format.shard import read_value
from lazygraph.storage.descriptors import opening
from lazygraph.storage.files import FileRef
from lazygraph.storage.local import LocalStorage
from lazygraph.storage.positioned import open_file, read_at

__all__ = ["DamagedDataset", "LostRecord", "RecoveredRecord"]

BLOCK = 4096  # bytes that are given up where a disk cannot read one of them
_UNPROVEN = "the column record and the shard are both damaged, and it cannot be proven that this is its record"


@dataclass(frozen=True, slots=True)
class RecoveredRecord:
    """A record that was found: compressed, decompressed and split into its parts."""

    row: int
    frame: bytes
    raw: bytes
    record: Record


@dataclass(frozen=True, slots=True)
class LostRecord:
    """A row whose record was not found, and why."""

    row: int
    reason: str


class DamagedDataset:
    """A dataset directory of which any file but the manifest may be damaged or gone.

    A column with a correct hash is trusted, and so is every block of the column ``record`` with a correct digest. If a
    block is damaged, the page tree of a shard with a correct hash gives the positions of its records. If the shard is
    damaged too, an entry of the column must lead to bytes with the checksum that it states, and a leaf page of the
    shard must give these bytes the key of the row. Otherwise, bytes that moved within the column could assign a record
    to another row.

    Args:
        path: the dataset directory.
        manifest: its manifest.

    Raises:
        CorruptDataset: the files are too small for the number of graphs in the manifest.
        StorageError: the process can open no more files; the dataset itself may be intact.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self.damaged: dict[str, str] = {}
        """Column -> what is wrong with its file."""
        self._columns: dict[str, NDArray[Any]] = {}
        for name, column in manifest.columns.items():
            try:
                array = open_column(LocalStorage(path), column)
                problem = invalid_values(column, array)
                if name == "input" and problem is None:
                    problem = invalid_inputs(array, manifest.inputs)
            except StorageError:
                raise
            except (CorruptDataset, OSError) as error:
                problem = str(error)
            if problem is None:
                self._columns[name] = array
            else:
                self.damaged[name] = problem
        self._check_promise()
        self._decoders: dict[tuple[str, int | None], Decoder] = {}
        self._record = self._columns["record"] if "record" in self._columns else self._as_read("record")
        self._proven = self._proven_entries()

    def column(self, name: str) -> NDArray[Any] | None:
        """A column; None where it is damaged."""
        return self._columns.get(name)

    def _as_read(self, name: str) -> NDArray[Any]:
        """A damaged column, with zeros for values that cannot be read; none of its values is proven."""
        column = self.manifest.columns[name]
        dtype = dtype_of(column)
        size = self.manifest.graphs * dtype.itemsize  # columns of the index have one value a row
        if not size <= column.file.size <= size + 2**17:  # before memory is taken for it
            return np.zeros(self.manifest.graphs, dtype)
        content = _readable(self.path / column.file.name, column.file.size)
        return np.frombuffer(content, dtype, offset=column.file.size - size)

    @cached_property
    def ids(self) -> NDArray[np.bytes_]:
        """The column ``id``; as far as it can be read, where it is damaged."""
        known = self.column("id")
        return self._as_read("id") if known is None else known

    def graph_id(self, row: int) -> str:
        """The id of a row, with marks for what is no text."""
        return bytes(self.ids[row]).decode(errors="replace")

    def shards(self) -> Iterator[Iterator[RecoveredRecord | LostRecord]]:
        """For every shard, its rows in order."""
        starts = row_starts(self.manifest.shards).tolist()
        for shard, start in zip(self.manifest.shards, starts, strict=False):
            yield self._of_shard(shard, start)

    def _of_shard(self, shard: Shard, start: int) -> Iterator[RecoveredRecord | LostRecord]:
        rows = range(start, start + shard.rows)
        path = self.path / shard.file.name
        try:
            descriptor = _open_regular(path)
        except StorageError:
            raise
        except (CorruptDataset, OSError) as error:
            reason = f"{shard.file.name}: {getattr(error, 'strerror', None) or error}"
            yield from (LostRecord(row, reason) for row in rows)
            return
        try:
            size = os.fstat(descriptor).st_size
            decode = self._decoder(shard)
            believed = self._proven[start : start + shard.rows].all()
            places = None if believed else self._by_tree(shard, descriptor)
            claimed = {} if believed or places is not None else claims(descriptor, size)
            keys = shard.keys()
            for row in rows:
                try:
                    if places is not None:
                        frame = read_at(descriptor, int(places[row - start, 1]), int(places[row - start, 0]))
                    else:
                        offset, length, digest = self._record[row].item()
                        frame = read_value(descriptor, size, offset, length, digest)
                        if not self._proven[row] and (offset, length) not in claimed.get(int(keys[row - start]), ()):
                            raise CorruptDataset(_UNPROVEN)  # noqa: TRY301  # as one of several that are listed
                    yield self._whole(row, decode(frame, self._bound(row)), frame)
                except CorruptDataset as error:
                    yield LostRecord(row, str(error))
                except StorageError:
                    raise
                except OSError as error:
                    yield LostRecord(row, f"{shard.file.name}: {error.strerror}")
        except CorruptDataset as error:  # of its dictionary
            yield from (LostRecord(row, str(error)) for row in rows)
        finally:
            os.close(descriptor)

    def _by_tree(self, shard: Shard, descriptor: int) -> NDArray[np.int64] | None:
        """(rows, 2) offset and length as the page tree of a shard with the right hash says; None for any other."""
        try:
            shard.file.check(self.path)
            return locate(descriptor, shard.file.size, shard.records)[shard.keys()]
        except StorageError:
            raise
        except (CorruptDataset, OSError):
            return None

    def _counts(self, row: int) -> list[int | None]:
        """The axis counts of a row as the columns say; None for those of a damaged one."""
        columns = [self._columns.get(f"n_{axis}") for axis in self.manifest.schema.axes]
        return [None if column is None else int(column[row]) for column in columns]

    def _bound(self, row: int) -> int:
        """The bytes that the record of a row may have."""
        known = self._counts(row)
        return MAX_RECORD if None in known else int(self.manifest.schema.bound([n for n in known if n is not None]))

    def _whole(self, row: int, raw: bytes, frame: bytes) -> RecoveredRecord:
        """Return the record of a row, if it is valid in the format.

        Raises:
            CorruptDataset: it does not.
        """
        record = unpack(self.manifest.schema, raw)
        said = zip(record.counts, self._counts(row), strict=True)
        check_counts(record, [n if known is None else known for n, known in said])
        if invalid := record.invalid_indices(record.arrays()):  # and every field can be decoded
            raise CorruptDataset(invalid[0])
        return RecoveredRecord(row, frame, raw, record)

    def _proven_entries(self) -> NDArray[np.bool_]:
        """(N,) which entries of the column ``record`` are those that were written."""
        proven = np.ones(len(self._record), bool)
        if "record" not in self.damaged:
            return proven
        proven[:] = False
        manifest = self.manifest
        try:
            content = _readable(manifest.digests.check(self.path), manifest.digests.size)
        except StorageError:
            raise
        except (CorruptDataset, OSError):
            return proven
        wanted = read_digests(content, manifest.graphs, manifest.columns)[1]["record"]
        for block in np.flatnonzero(blocks_of_column(self._record) == wanted).tolist():
            proven[block * ROWS : (block + 1) * ROWS] = True
        return proven

    def _check_promise(self) -> None:
        """Refuse a manifest that declares more graphs than its files can hold, before memory is used."""
        there = sum(
            path.stat().st_size for path in (self.path / file.name for file in self.manifest.files()) if path.is_file()
        )
        if self.manifest.graphs > there:
            msg = f"{self.path}: the manifest declares {self.manifest.graphs} graphs; its files have {there} bytes"
            raise CorruptDataset(msg)

    def _decoder(self, shard: Shard) -> Decoder:
        """What undoes the compression of the records of a shard; CorruptDataset where its dictionary is damaged."""
        key = shard.codec, shard.dictionary
        if key not in self._decoders:
            number = shard.dictionary
            dictionary = None if number is None else self._dictionary(self.manifest.dictionaries[number])
            self._decoders[key] = CODECS[shard.codec].decoder(dictionary)
        return self._decoders[key]

    def _dictionary(self, file: FileRef) -> bytes:
        try:
            path = file.check(self.path)
            return opening(path, path.read_bytes)
        except StorageError:
            raise
        except (CorruptDataset, OSError) as error:
            msg = (
                f"{error}; without it none of the records that were compressed with it can be read: put a copy of "
                f"{file.name} there, from a backup or from anyone who has the same dataset"
            )
            raise CorruptDataset(msg) from error


def _open_regular(path: Path) -> int:
    """Open a file; CorruptDataset where it is no regular file: opening a pipe would wait for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        msg = "it is no regular file"
        raise CorruptDataset(msg)
    return opening(path, lambda: open_file(path))


def _readable(path: Path, size: int) -> bytes:
    """The first bytes of a file, with zeros where there are none, or none that can be read."""
    content = bytearray(size)
    try:
        descriptor = _open_regular(path)
    except StorageError:
        raise
    except (CorruptDataset, OSError):
        return bytes(content)
    try:
        for start in range(0, size, BLOCK):
            with suppress(OSError):
                piece = read_at(descriptor, min(BLOCK, size - start), start)
                content[start : start + len(piece)] = piece
    finally:
        os.close(descriptor)
    return bytes(content)
