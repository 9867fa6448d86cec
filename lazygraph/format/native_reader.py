"""Read, check, decompress and decode the records of a batch in compiled loops, without Python in between."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.format.encoding import LAYOUTS, LOGICAL, STORED, is_widened
from lazygraph.format.native_types import (
    NOT_DIGESTED,
    NOT_OPEN,
    CField,
    CLibrary,
    CSource,
)
from lazygraph.format.record_batch import BufferSlice, RecordBatch, view
from lazygraph.format.schema import MAX_AXES, MAX_HOLLOW, Field, Schema
from lazygraph.machine import memory_limit
from lazygraph.native import address, kernels
from lazygraph.native.arrays import empty
from lazygraph.native.zstd_symbols import Functions, functions

__all__ = ["NativeReader", "RecordIndex", "ShardNotOpen"]

_ENTRIES = [
    np.dtype([("offset", offset), ("length", length), ("xxh3", "<u8")])
    for offset in ("<u4", "<u8")
    for length in ("<u2", "<u4")
]


MOST_DECODERS = 64  # dictionaries that are kept ready: each takes up to some 100 KB


class ShardNotOpen(Exception):
    """A record is in a shard that is not open."""


class RecordIndex(NamedTuple):
    """The positions of the records of a dataset."""

    record: NDArray[Any]
    """(N,) offset, length and xxh3: the column ``record``."""
    counts: Sequence[NDArray[Any]]
    """(N,) unsigned rows on each axis."""
    ends: NDArray[np.int64]
    """(S,) the row behind each shard."""
    sizes: NDArray[np.int64]
    """(S,) the bytes of its file."""
    codecs: NDArray[np.int32]
    """(S,) how its records are compressed: the number of a dictionary, ``ZSTD`` or ``UNCOMPRESSED``."""

    @property
    def known(self) -> bool:
        """Whether the columns are of the types that the loops read."""
        return (
            self.record.dtype in _ENTRIES
            and len(self.counts) <= MAX_AXES
            and all(column.dtype.kind == "u" and column.shape == self.record.shape for column in self.counts)
        )

    def pointers(self) -> CSource:
        """This index in the form that the loops take. This object must live as long as the form is used."""
        offset, length = (self.record.dtype[name].itemsize for name in ("offset", "length"))
        found = CSource(
            rows=len(self.record),
            record=address(self.record),
            offset_bytes=offset,
            length_bytes=length,
            shards=len(self.ends),
            end=address(self.ends),
            size=address(self.sizes),
            codec=address(self.codecs),
        )
        for number, column in enumerate(self.counts):
            found.count[number], found.count_bytes[number] = address(column), column.itemsize
        return found


class NativeReader:
    """A reader of the records of several rows at once. Threads may share it; each thread uses separate memory.

    Args:
        schema: what the records hold.
        located: the positions of the records.
        dictionaries: number of dictionaries.
    """

    def __init__(self, schema: Schema, located: RecordIndex, dictionaries: int) -> None:
        self._schema, self._located = schema, located
        self._decoders = _Decoders(dictionaries)
        self._source = located.pointers()
        self._source_at = ctypes.addressof(self._source)
        self._local = threading.local()

    @classmethod
    def create_if_supported(cls, schema: Schema, located: RecordIndex, dictionaries: int) -> NativeReader | None:
        """Create a reader; None if there are no compiled loops, or if they cannot read the dataset."""
        there = kernels() is not None and functions() is not None
        return cls(schema, located, dictionaries) if there and schema.fields and located.known else None

    def read_batch(
        self,
        rows: NDArray[np.int64],
        files: NDArray[np.int32],
        dictionary: Callable[[int], bytes],
        frames: Sequence[bytes] | None = None,
    ) -> RecordBatch | None:
        """Return the records of these rows, joined in this order as by ``record_batch.concatenate``.

        Args:
            rows: (B,)
            files: (S,) the descriptor of each shard, -1 for one that is not open.
            dictionary: number -> the bytes of a dictionary; called where one is needed for the first time.
            frames: (B,) what the shards hold of these rows, each as long as the column says; None to read the files.

        Returns:
            None if something is damaged, or stored in a way that the loops do not read. The caller then reads the
            records one by one in Python, which raises an error that says what is wrong.

        Raises:
            ShardNotOpen: a shard that is needed is not open.
            CorruptDataset, OSError: a dictionary cannot be read.
        """
        # Taken out while it is used, for a signal handler may read too.
        batch: _Batch | None = self._local.__dict__.pop("batch", None)
        if batch is None:
            batch = _Batch.create_if_supported(self._schema)
        if batch is None:
            return None
        rows = np.ascontiguousarray(rows, np.int64)
        given = None if frames is None else (ctypes.c_char_p * len(frames))(*frames)
        try:
            decoders = self._decoders  # one that is replaced meanwhile must stay until it was used
            try:
                return batch.read_batch(self._source_at, rows, files, given, decoders)
            except _NotDigested:
                digested = self._with_dictionaries_of(rows, dictionary)
                return None if digested is None else batch.read_batch(self._source_at, rows, files, given, digested)
        finally:
            self._local.batch = batch

    def _with_dictionaries_of(self, rows: NDArray[np.int64], dictionary: Callable[[int], bytes]) -> _Decoders | None:
        """Return decoders with the dictionaries of these rows; None if zstd refuses a dictionary."""
        shards = np.unique(np.searchsorted(self._located.ends, rows, side="right"))
        needed = [number for number in np.unique(self._located.codecs[shards]).tolist() if number >= 0]
        decoders = self._decoders
        if len({*decoders.ready, *needed}) > MOST_DECODERS:
            decoders = self._decoders = _Decoders(len(decoders.pointers))
        for number in needed:
            if not decoders.pointers[number] and not decoders.add(number, dictionary(number)):
                return None
        return decoders


class _Batch:
    """The state of one thread: memory that is reused, and a context of zstd."""

    @classmethod
    def create_if_supported(cls, schema: Schema) -> _Batch | None:
        """None where something is missing."""
        library, found = kernels(), functions()
        context = None if found is None else _Context(found)
        ready = library is not None and found is not None and context is not None and context.pointer
        return cls(library, found, context, schema) if ready else None  # type: ignore[arg-type]

    def __init__(self, library: ctypes.CDLL, found: Functions, context: _Context, schema: Schema) -> None:
        self._schema, self._library, self._context = schema, library, context
        described = (CField * len(schema.fields))(*(CField.of(schema, field) for field in schema.fields))
        allowed = np.array([[_supports(field, code) for code in range(256)] for field in schema.fields], dtype=np.uint8)
        called = CLibrary.of(found.addresses, context.pointer)
        sizes = len(schema.axes), len(schema.fields)
        self._pointer = library.lg_batch_new(
            *sizes, ctypes.addressof(described), address(allowed), ctypes.addressof(called)
        )
        if not self._pointer:
            raise MemoryError("no memory for reading batches")
        self._types, self._offsets = np.empty((2, sizes[1]), dtype=np.int64)
        self._totals = np.empty(sizes[0] + 1, dtype=np.int64)
        self._told = address(self._types), address(self._offsets), address(self._totals)
        self._parts = [_Part.of(schema, field) for field in schema.fields]

    def read_batch(
        self, source: int, rows: NDArray[np.int64], files: NDArray[np.int32], frames: Any, decoders: _Decoders
    ) -> RecordBatch | None:
        n, library = len(rows), self._library
        counts = np.empty((len(self._totals), n), dtype=np.int64)
        given = address(files), frames, decoders.address, address(rows)
        found = library.lg_batch_read(self._pointer, source, *given, n, memory_limit(), address(counts))
        if found == NOT_OPEN:
            raise ShardNotOpen
        if found == NOT_DIGESTED:
            raise _NotDigested
        if found or any((counts[place] > MAX_HOLLOW).any() for place in self._schema.hollow):
            return None
        buffer = empty(int(library.lg_batch_places(self._pointer, *self._told)), np.uint8)
        if library.lg_batch_decode(self._pointer, address(buffer)) < 0:
            return None
        totals = self._totals.tolist()
        fields: dict[str, Any] = {}
        for k, (part, code, offset) in enumerate(
            zip(self._parts, self._types.tolist(), self._offsets.tolist(), strict=True)
        ):
            if part.text:
                try:
                    fields[part.name] = list(self._texts(k, n, buffer[offset:]))
                except UnicodeDecodeError:
                    return None
            else:
                shape = (*part.before, n if part.axis is None else totals[part.axis], *part.after)
                fields[part.name] = view(buffer, BufferSlice(part.name, part.dtype or _TYPES[code], shape, offset))
        return RecordBatch(dict(zip(self._schema.axes, counts, strict=False)), fields, buffer)

    def _texts(self, field: int, n: int, texts: NDArray[np.uint8]) -> Iterator[str]:
        """One of each record, of which the bytes stand one after another."""
        ends = np.zeros(n + 1, dtype=np.int64)
        self._library.lg_batch_lengths(self._pointer, field, address(ends) + 8)
        for start, end in pairwise(ends.cumsum().tolist()):
            yield texts[start:end].tobytes().decode()

    def __del__(self) -> None:
        if getattr(self, "_pointer", None):
            self._library.lg_batch_free(self._pointer)


class _NotDigested(Exception):
    """A record was compressed with a dictionary that is not among the decoders yet."""


class _Context:
    """A decompression context of zstd."""

    def __init__(self, found: Functions) -> None:
        self._library = found.zstd
        self.pointer = found.zstd.ZSTD_createDCtx()

    def __del__(self) -> None:
        self._library.ZSTD_freeDCtx(self.pointer)


class _Decoders:
    """Dictionaries as zstd digested them, each when it is first needed. Threads may read while one is added."""

    def __init__(self, dictionaries: int) -> None:
        self.pointers = np.zeros(dictionaries, np.int64)
        self.address = address(self.pointers) if dictionaries else 0
        self.ready: dict[int, _Digested] = {}

    def add(self, number: int, dictionary: bytes) -> bool:
        """Make one ready; whether zstd takes it."""
        digested = _Digested(dictionary)
        if not digested.pointer:
            return False
        # Two threads may add one at the same time: both leave the pointer of the one that is kept.
        self.pointers[number] = self.ready.setdefault(number, digested).pointer or 0
        return True


class _Digested:
    """A dictionary as zstd digested it."""

    def __init__(self, dictionary: bytes) -> None:
        found = functions()
        self._library = None if found is None else found.zstd
        self.pointer = None if found is None else found.zstd.ZSTD_createDDict(dictionary, len(dictionary))

    def __del__(self) -> None:
        if self._library is not None:
            self._library.ZSTD_freeDDict(self.pointer)


class _Part(NamedTuple):
    """The properties of a field's array that do not depend on the records."""

    name: str
    text: bool
    dtype: str | None
    """Its type; None for integers, which come as narrow as they are."""
    axis: int | None
    before: tuple[int, ...]
    """Its shape before the axis."""
    after: tuple[int, ...]
    """Its shape behind the axis."""

    @classmethod
    def of(cls, schema: Schema, field: Field) -> _Part:
        axis = None if field.axis is None else schema.axes.index(field.axis)
        own = field.dtype == "bool" or field.dtype.startswith("float")
        dtype = np.dtype(field.dtype).newbyteorder("<").str if own else None
        shape = field.shape[: field.axis_dim], field.shape[field.axis_dim :]
        return cls(field.name, field.dtype == "str", dtype, axis, *shape)


_TYPES = [stored.str for stored in STORED]


def _supports(field: Field, code: int) -> bool:
    """Whether the loops read this field in this storage form. A form that they do not read may still be valid."""
    if field.dtype == "str":
        return code == 4
    layout = LAYOUTS.get(code)
    if layout is None or (layout.half and field.pair is None):
        return False
    if layout.transform:
        return field.dtype == "float64" and (not layout.cartesian or field.basis is not None)
    logical = LOGICAL[field.dtype]
    if field.dtype != "float64" and logical.kind == "f":
        return layout.stored == logical and field.pair != "negate"  # moved as bits
    if field.counts is not None and (layout.stored.kind, logical.kind, layout.itemsize) == ("u", "i", logical.itemsize):
        return False  # unsigned bits of negative ids; the encoder writes such for ids of narrow types, which are rare
    if layout.stored == np.dtype("<f2"):
        return False  # whose NaN would lose their bits
    return layout.stored == logical or is_widened(layout.stored, field.dtype)
