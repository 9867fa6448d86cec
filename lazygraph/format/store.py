"""A finished dataset as raw records: manifest, columns and records by row, independent of the meaning of a graph."""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import (
    ContentMismatch,
    CorruptDataset,
    DatasetReplaced,
    InputError,
    LazyGraphError,
    NotEnoughMemory,
    StorageError,
    UnknownId,
)
from lazygraph.format.codec import CODECS, Decoder
from lazygraph.format.columns import open_column
from lazygraph.format.digests import BLOCK, Blocks, CheckedColumn, content_id, read_digests
from lazygraph.format.manifest import Manifest, Shard, row_starts
from lazygraph.format.native_reader import NativeReader, RecordIndex, ShardNotOpen
from lazygraph.format.native_types import UNCOMPRESSED, ZSTD
from lazygraph.format.record import Record, check_counts, unpack
from lazygraph.format.record_batch import RecordBatch, concatenate
from lazygraph.format.shard import check_place, check_value, read_value
from lazygraph.machine import memory_limit
from lazygraph.storage.base import Storage, open_storage, read_checked
from lazygraph.storage.descriptors import Descriptor, ShardFiles, budget
from lazygraph.storage.files import FileRef, reading
from lazygraph.storage.local import LocalStorage

__all__ = ["Store"]


DECODERS = 64  # of dictionaries that are kept
REQUESTS = 8  # shards of which records are asked for at the same time


class _Index(NamedTuple):
    """What is opened with the first record."""

    located: RecordIndex
    columns: tuple[CheckedColumn, ...]
    """The columns that tell where records lie and what they take."""
    checked: NDArray[np.bool_]
    """(B,) the blocks of rows that were compared with their digests in all of these columns."""
    loops: NativeReader | None

    def check(self, rows: NDArray[np.int64]) -> None:
        """Check the blocks of these rows, where that was not done yet."""
        if not self.checked[blocks := rows // BLOCK].all():
            for column in self.columns:
                column.check(rows)
            self.checked[blocks] = True

    def check_row(self, row: int) -> None:
        """Check the block of this row, where that was not done yet."""
        if not self.checked[block := row // BLOCK]:
            for column in self.columns:
                column.row(row)
            self.checked[block] = True


class Store:
    """Random access to the records of one dataset, on this machine or on a server.

    A new store opens only the manifest. At first use, it opens memory-mapped columns (shared by all processes) and
    shard files within the budget of the process, so its memory does not grow with the number of graphs. It takes no
    lock and writes nothing. Reads are positioned, so threads and forked children can share a store. A pickled store
    opens its files again when it is unpickled.

    Args:
        place: the dataset directory, the URL of a storage that is installed, or a storage.

    Raises:
        DatasetNotFound: there is no finished dataset.
        CorruptDataset, UnsupportedFormat: the manifest cannot be read.
        InputError: no storage is known for the URL.
    """

    def __init__(self, place: str | os.PathLike[str] | Storage) -> None:
        self.storage = open_storage(place)
        self.manifest = Manifest.load(self.storage)
        self._reset()

    @property
    def name(self) -> str:
        """What errors call the dataset: its path or its URL."""
        return self.storage.name

    @property
    def path(self) -> Path:
        """The dataset directory; InputError where the dataset does not lie on this machine."""
        if isinstance(self.storage, LocalStorage):
            return self.storage.directory
        msg = f"{self.name} is not a directory on this machine; copy the dataset first"
        raise InputError(msg)

    @property
    def is_remote(self) -> bool:
        """Whether the dataset is not in a directory on this machine."""
        return not isinstance(self.storage, LocalStorage)

    def check_content(self, wanted: str) -> None:
        """Compare the content id with the expected one, and with the digests of the graphs.

        Raises:
            ContentMismatch: it is another one.
            CorruptDataset: the digests are not those of the manifest's content id.
        """
        manifest = self.manifest
        if manifest.content_id != wanted:
            msg = f"{self.name} has the content id {manifest.content_id}; required: {wanted}. It holds other graphs"
            raise ContentMismatch(msg)
        if (found := content_id(manifest.recipe, manifest.schema, self.digests()[0])) != wanted:
            msg = f"{self.name}: the digests of its graphs have the content id {found}; the manifest says {wanted}"
            raise CorruptDataset(msg)

    def _reset(self) -> None:
        self._columns: dict[str, CheckedColumn] = {}
        self._digests: tuple[Blocks, dict[str, Blocks]] | None = None
        self._decoders: dict[tuple[str, int | None], Decoder] = {}
        self._ends: list[int] = row_starts(self.manifest.shards)[1:].tolist()
        self._files = ShardFiles(len(self._ends))
        self._index: _Index | None = None
        self._whole: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return self.manifest.graphs

    def column(self, name: str) -> NDArray[Any]:
        """A whole column as a read-only memory-mapped array; its digests are checked at the first call.

        Raises:
            KeyError: the dataset has no such column.
            CorruptDataset, DatasetReplaced: the file is damaged, or gone.
        """
        return self.checked_column(name).whole()

    def checked_column(self, name: str) -> CheckedColumn:
        """A column that checks only the blocks that are used. Raises the errors of ``column``."""
        try:
            return self._columns[name]
        except KeyError:
            column = self.manifest.columns[name]
        path = f"{self.name}/{column.file.name}"
        try:
            array = reading(path, lambda: open_column(self.storage, column, check=False))
        except FileNotFoundError:
            self._missing(column.file)
        renew = partial(self.storage.renew, column.file)
        self._columns[name] = found = CheckedColumn(path, array, self.digests()[1][name], renew)
        return found

    def digests(self) -> tuple[Blocks, dict[str, Blocks]]:
        """The digests of the blocks of graphs and of the blocks of each column. Raises the errors of ``column``."""
        if self._digests is None:
            manifest = self.manifest
            self._digests = read_digests(self.file(manifest.digests), manifest.graphs, manifest.columns)
        return self._digests

    def file(self, file: FileRef) -> bytes:
        """A whole, checked file that the manifest names, such as a dictionary. Raises the errors of ``column``."""
        try:
            return reading(f"{self.name}/{file.name}", lambda: read_checked(self.storage, file))
        except FileNotFoundError:
            self._missing(file)

    def graph_id(self, row: int) -> str:
        """The id of the graph in a row."""
        raw: bytes = self.checked_column("id").row(row)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            msg = f"{self.name}, row {row}: the id {bytes(raw)!r} is not UTF-8"
            raise CorruptDataset(msg) from error

    def graph_ids(self, rows: NDArray[np.int64]) -> list[str]:
        """The ids of the graphs in several rows."""
        ids = self.checked_column("id").rows(rows).tolist()
        try:
            found: list[str] = b"\0".join(ids).decode().split("\0")  # in half of the time of one by one
        except UnicodeDecodeError:
            found = []
        # A stranger's may hold zeros; where one is not UTF-8, it is said in which row.
        return found if len(found) == len(ids) else [self.graph_id(row) for row in rows.tolist()]

    def row_of(self, graph_id: str) -> int:
        """The row of an id, by binary search on disk: no table in memory, about 20 us for a million graphs.

        Raises:
            UnknownId: no graph has it.
            CorruptDataset: the column ``id_order`` is no order.
        """
        ids, order = self.checked_column("id"), self.checked_column("id_order")
        wanted = graph_id.encode(errors="surrogatepass")
        low, high = 0, len(self)
        try:
            while low < high:
                middle = (low + high) // 2
                if ids.row(int(order.row(middle))) < wanted:
                    low = middle + 1
                else:
                    high = middle
            if low < len(self) and ids.row(row := int(order.row(low))) == wanted:
                return row
        except IndexError as error:
            msg = f"{self.name}: id_order names a row that is not there: {error}"
            raise CorruptDataset(msg) from error
        msg = f"no graph in {self.name} has the id {graph_id!r}; it holds {len(self)} ids such as {self._some_ids()}"
        raise UnknownId(msg)

    def raw(self, row: int) -> bytes:
        """The decompressed record of a row.

        Raises:
            CorruptDataset: with dataset, shard, row and id, where the bytes are not those that were written.
            DatasetReplaced: the shard's file is gone, since the dataset was replaced.
            OSError: the file system failed; with shard, row, id, and the number that it gave.
        """
        return self._read(row)[0]

    def _read(self, row: int) -> tuple[bytes, tuple[int, ...]]:
        """The decompressed record of a row, and its axis counts as the columns say."""
        index = self._index or self._open_index()
        index.check_row(row)  # what is wrong there is wrong of a column, and not of the row
        shard = bisect_right(self._ends, row)
        try:
            frame = self._renewed_value(shard, *index.located.record[row].item())
            counts = tuple([int(column[row]) for column in index.located.counts])
            raw = self._decoder(shard)(frame, self.manifest.schema.bound(counts))
        except CorruptDataset as error:
            self.raise_corrupt(row, error)
        except OSError as error:
            if isinstance(error, DatasetReplaced) or error.errno is None:
                raise
            file = self.manifest.shards[shard].file.name
            msg = f"{self.name}/{file}, row {row}, id {self.graph_id(row)!r}: {error.strerror}"
            raise OSError(error.errno, msg) from error
        return raw, counts

    def _renewed_value(self, shard: int, offset: int, length: int, digest: int) -> bytes:
        """The compressed record at a place of a shard; of a new copy of the shard if this one is damaged."""
        try:
            return self._value(shard, offset, length, digest)
        except CorruptDataset:
            # Of a server another process may have removed the damaged copy already.
            if not self.storage.renew(self.manifest.shards[shard].file) and not self.is_remote:
                raise
        self._files.forget(shard)
        return self._value(shard, offset, length, digest)

    def _value(self, shard: int, offset: int, length: int, digest: int) -> bytes:
        """The compressed record at a place of a shard."""
        descriptor = self._files.now.held.get(shard)
        if descriptor is None:
            if not self._may_open(shard):
                return self._values(shard, [(offset, length, digest)])[0]
            descriptor = self._open(shard)
        try:
            return read_value(descriptor.number, descriptor.size, offset, length, digest)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        # A server of files no longer knows what was opened, but may have the file. What is in it the checksum says.
        self._files.forget(shard)
        descriptor = self._open(shard)
        return read_value(descriptor.number, descriptor.size, offset, length, digest)

    def read_whole(self, shards: Iterable[int]) -> None:
        """Fetch these shards as a whole when their first record is read, because most of their records will be read.

        Args:
            shards: their numbers. It changes nothing for shards that are on this machine.
        """
        self._whole = self._whole | frozenset(shards)

    def _may_open(self, shard: int) -> bool:
        """Whether the file of a shard is on this machine, or is to be fetched."""
        return shard in self._whole or self.storage.is_at_hand(self.manifest.shards[shard].file)

    def _values(self, shard: int, entries: list[tuple[int, int, int]]) -> list[bytes]:
        """The compressed records at several places of a shard that does not lie on this machine."""
        file = self.manifest.shards[shard].file
        for offset, length, _ in entries:
            check_place(file.size, offset, length)
        try:
            values = self.storage.read(file, [(offset, length) for offset, length, _ in entries])
        except FileNotFoundError:
            self._missing(file)
        return [check_value(value, *entry) for value, entry in zip(values, entries, strict=True)]

    def frame(self, row: int) -> bytes:
        """The record of a row as it is stored, checked by its checksum. Raises as ``raw`` does."""
        index = self._index or self._open_index()
        index.check_row(row)
        try:
            return self._renewed_value(bisect_right(self._ends, row), *index.located.record[row].item())
        except CorruptDataset as error:
            self.raise_corrupt(row, error)

    def frames(self, rows: NDArray[np.int64]) -> list[bytes]:
        """The records of several rows as they are stored, in the order of the rows.

        Records of a shard that is not on this machine are requested together. Raises the errors of ``raw``.
        """
        index = self._index or self._open_index()
        shards = np.searchsorted(self._ends, rows, side="right")
        if all(map(self._may_open, np.unique(shards).tolist())):
            return [self.frame(row) for row in rows.tolist()]
        index.check(rows)
        try:
            return self._fetched(index, rows, shards)
        except CorruptDataset:  # one by one, it is said of which row
            return [self.frame(row) for row in rows.tolist()]

    def record(self, row: int) -> Record:
        """The record of a row, its fields decoded on demand. Raises as ``raw`` does."""
        raw, counts = self._read(row)
        try:
            record = unpack(self.manifest.schema, raw)
            check_counts(record, counts)
        except CorruptDataset as error:
            self.raise_corrupt(row, error)
        return record

    def arrays(self, row: int) -> dict[str, NDArray[Any] | str]:
        """Every field of the record of a row, decoded. Raises as ``raw`` does."""
        return self.decoded(row)[1]

    def decoded(self, row: int) -> tuple[tuple[int, ...], dict[str, NDArray[Any] | str]]:
        """The axis counts of the record of a row, and every field, decoded. Raises as ``raw`` does."""
        record = self.record(row)
        try:
            return record.counts, record.arrays()
        except CorruptDataset as error:
            self.raise_corrupt(row, error)

    def read_batch(self, rows: NDArray[np.int64]) -> RecordBatch:
        """The records of several rows, put together in their order; read in the order of the files.

        Raises as ``raw`` does, and NotEnoughMemory.
        """
        index = self._index or self._open_index()
        index.check(rows)
        loops = index.loops
        if loops is not None and len(rows) and (at_once := self._read_batch_at_once(loops, rows)) is not None:
            return at_once
        if len(rows) > 1:  # of one, its record tells whether its sizes are true
            self._check_memory(rows)
        records: list[Any] = [None] * len(rows)
        for place in np.argsort(rows, kind="stable").tolist():
            records[place] = self.decoded(int(rows[place]))
        return concatenate(self.manifest.schema, records)

    def _read_batch_at_once(self, loops: NativeReader, rows: NDArray[np.int64]) -> RecordBatch | None:
        """``read_batch`` by compiled loops; None if something is damaged, or if the records are in too many files."""
        opened = self._files.now  # held here, so that no other thread closes the files
        try:
            return loops.read_batch(rows, opened.numbers, self._dictionary)
        except ShardNotOpen:
            needed = np.unique(np.searchsorted(self._ends, rows, side="right")).tolist()
            if not all(map(self._may_open, needed)):
                return self._fetch_batch(loops, rows)
            if len(needed) > budget():
                return None
            del opened  # or its files could not be closed now
            self._close_for(needed)
            try:
                opened = self._files.open(needed, self._find)
            except DatasetReplaced:
                raise
            except (CorruptDataset, OSError):
                return None
            return loops.read_batch(rows, opened.numbers, self._dictionary)

    def _fetch_batch(self, loops: NativeReader, rows: NDArray[np.int64]) -> RecordBatch | None:
        """``read_batch`` of a dataset elsewhere: the records of each shard by one request, then by compiled loops."""
        index = self._index or self._open_index()
        try:
            frames = self._fetched(index, rows, np.searchsorted(self._ends, rows, side="right"))
        except CorruptDataset:
            return None  # one by one, it is said of which row
        return loops.read_batch(rows, self._files.now.numbers, self._dictionary, frames)

    def _fetched(self, index: _Index, rows: NDArray[np.int64], shards: NDArray[np.int64]) -> list[bytes]:
        """The compressed records of several rows, of which the shards are given, each by one request for a shard."""
        frames: list[bytes] = [b""] * len(rows)

        def fetch(shard: int) -> None:
            places = np.flatnonzero(shards == shard).tolist()
            values = self._values(shard, [index.located.record[rows[place]].item() for place in places])
            for place, value in zip(places, values, strict=True):
                frames[place] = value

        needed = np.unique(shards).tolist()
        # Each waits for a server, so they wait at the same time.
        with ThreadPoolExecutor(min(len(needed), REQUESTS)) as pool:
            for _ in pool.map(fetch, needed):
                pass
        return frames

    def _check_memory(self, rows: NDArray[np.int64]) -> None:
        """Refuse to read graphs that, by the columns of sizes, take more memory than the process may use."""
        schema = self.manifest.schema
        counts = [self.checked_column(f"n_{axis}").rows(rows).astype(np.float64) for axis in schema.axes]
        size = 8 * float(np.sum(np.broadcast_to(schema.values(counts), len(rows))))
        if size > memory_limit():
            msg = (
                f"{self.name}: {len(rows)} graphs take up to {size / 2**30:.3g} GiB when they are read at once; this "
                f"process may use {memory_limit() / 2**30:.3g} GiB. Read fewer at a time"
            )
            raise NotEnoughMemory(msg)

    def raise_corrupt(self, row: int, error: CorruptDataset) -> NoReturn:
        """Raise the error for a damaged row again, with dataset, shard, row and id."""
        msg = f"{self.where(row)}{error}; 'lazygraph verify' lists everything that is damaged"
        raise CorruptDataset(msg) from error

    def where(self, row: int) -> str:
        """The beginning of a message about a row: dataset, shard, row and id."""
        shard = self.manifest.shards[bisect_right(self._ends, row)]
        return f"{self.name}, {shard.file.name}, row {row}, id {self.graph_id(row)!r}: "

    def close(self) -> None:
        """Close the file descriptors; the store opens them again when it is read again."""
        self._files.close()

    def _open_index(self) -> _Index:
        manifest = self.manifest
        ends, sizes = np.array([self._ends, [shard.file.size for shard in manifest.shards]], dtype=np.int64)
        columns = tuple(map(self.checked_column, ("record", *(f"n_{axis}" for axis in manifest.schema.axes))))
        record, *counts = (column.values for column in columns)
        codecs = np.array([_codec(shard) for shard in manifest.shards], np.int32)
        located = RecordIndex(record, counts, ends, sizes, codecs)
        loops = NativeReader.create_if_supported(manifest.schema, located, len(manifest.dictionaries))
        self._index = _Index(located, columns, np.zeros(-(-len(self) // BLOCK), bool), loops)
        return self._index

    def _dictionary(self, number: int) -> bytes:
        """A dictionary, checked."""
        return self.file(self.manifest.dictionaries[number])

    def _decoder(self, shard: int) -> Decoder:
        """What undoes the compression of a shard's records; of those with dictionaries some are kept."""
        entry = self.manifest.shards[shard]
        key = entry.codec, entry.dictionary
        found = self._decoders.get(key)
        if found is None:
            if len(self._decoders) >= DECODERS:
                self._decoders = {}
            dictionary = None if entry.dictionary is None else self._dictionary(entry.dictionary)
            found = self._decoders[key] = CODECS[entry.codec].decoder(dictionary)
        return found

    def _open(self, shard: int) -> Descriptor:
        """The open file of a shard."""
        self._close_for([shard])
        try:
            return self._files.open({shard}, self._find).held[shard]
        except DatasetReplaced:
            raise
        except FileNotFoundError:  # it was deleted after its size was looked at
            self._missing(self.manifest.shards[shard].file)

    def _close_for(self, needed: Sequence[int]) -> None:
        """Close shards of a cache with a limit, which could not remove them while they are open.

        Args:
            needed: shards that will be opened; no more than half of the limit stays open besides them.
        """
        limit = getattr(getattr(self.storage, "cache", None), "limit", None)
        if limit is None:
            return
        sizes = [entry.file.size for entry in self.manifest.shards]
        others = [shard for shard in self._files.now.held if shard not in needed]  # in the order of opening
        excess = sum(sizes[shard] for shard in (*others, *needed)) - limit / 2
        closed: set[int] = set()
        for shard in others:
            if excess <= 0:
                break
            closed.add(shard)
            excess -= sizes[shard]
        if closed:
            self._files.close([shard for shard in self._files.now.held if shard not in closed])

    def _find(self, shard: int) -> tuple[int, int]:
        """A descriptor and the size of a shard's file."""
        file = self.manifest.shards[shard].file
        try:
            return self.storage.descriptor(file), file.size
        except FileNotFoundError:
            self._missing(file)

    def _missing(self, file: FileRef) -> NoReturn:
        """Return the error for a missing file that the manifest names."""
        if self._lacks(file):
            msg = f"{self.name}/{file.name} is missing, and the manifest names it: part of the dataset was deleted"
            raise CorruptDataset(msg)
        msg = f"{self.name} was replaced, moved or deleted while it was open ({file.name} is gone); open it again"
        raise DatasetReplaced(errno.ENOENT, msg)

    def _lacks(self, file: FileRef) -> bool:
        """Whether the dataset is the one that was opened, without this file, and nobody is replacing it."""
        try:
            before = self._seen()
            if Manifest.load(self.storage) != self.manifest:
                return False
            return self._is_gone(file) and self._seen() == before
        except StorageError:  # nothing can be opened now, which says nothing of the dataset
            raise
        except (LazyGraphError, OSError):
            return False

    def _seen(self) -> Any:
        """What changes when the dataset is replaced."""
        return self.storage.state()

    def _is_gone(self, file: FileRef) -> bool:
        try:
            self.storage.read(file, [(0, 0), (file.size - 1, 1)])
        except FileNotFoundError:
            return True
        return False

    def _some_ids(self) -> str:
        return ", ".join(repr(self.graph_id(row)) for row in range(min(3, len(self))))

    def __getstate__(self) -> dict[str, Any]:
        return {"storage": self.storage, "manifest": self.manifest, "whole": self._whole}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.storage, self.manifest = state["storage"], state["manifest"]
        self._reset()
        self._whole = state["whole"]

    def __repr__(self) -> str:
        return f"Store({self.name!r})"


def _codec(shard: Shard) -> int:
    """How the records of a shard are compressed, as the compiled loops are told."""
    if shard.codec == "none":
        return UNCOMPRESSED
    return ZSTD if shard.dictionary is None else shard.dictionary
