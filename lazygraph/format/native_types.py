"""The structures and numbers that Python, ``native/batch.c`` and ``native/encode.c`` share, stated here.

``tools/native_constants.py`` generates ``native/constants.h`` from this module.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from typing import Any

from lazygraph.format.schema import DTYPES, MAX_AXES, Field, Schema

__all__ = [
    "INTEGERS",
    "KINDS",
    "NOT_DIGESTED",
    "NOT_OPEN",
    "PAIRS",
    "TOO_MUCH",
    "UNCOMPRESSED",
    "ZSTD",
    "Bytes",
    "CField",
    "CLibrary",
    "CSource",
    "Int32s",
    "Int64s",
]

PAIRS = {None: 0, "swap": 1, "negate": 2, "same": 3}
"""How the second edge of a pair follows from the first, by what the schema says."""

INTEGERS = 0  # the kind of a field of any integer type
KINDS = {"float64": 1, "float16": 2, "float32": 3, "bool": 4, "str": 5}
"""The kind of a field of another type."""

ZSTD, UNCOMPRESSED = -1, -2  # codecs of a shard, besides the numbers of dictionaries
NOT_OPEN, TOO_MUCH, NOT_DIGESTED = 1, 2, 3  # what lg_batch_read returns, besides 0 and -1

_Integer, _Data, _Size = ctypes.c_int64, ctypes.c_char_p, ctypes.c_size_t


class Bytes(ctypes.c_void_p):
    """The address of bytes that are only read."""


class Int32s(ctypes.c_void_p):
    """The address of 32-bit integers that are only read."""


class Int64s(ctypes.c_void_p):
    """The address of 64-bit integers that are only read."""


class CField(ctypes.Structure):
    """A field of a schema.

    Attributes:
        axis: number of its axis; the number of axes where it has none.
        pre: components before the axis.
        post: components behind the axis.
        pair: one of ``PAIRS``.
        ids: number of the axis that its values are ids of, or -1.
        basis: number of the field in which it is expressed, or -1.
        kind: one of ``KINDS``, or ``INTEGERS``.
        width: bytes of its own type where that is a signed one, else 0.
    """

    _fields_ = [(name, _Integer) for name in ("axis", "pre", "post", "pair", "ids", "basis", "kind", "width")]

    @classmethod
    def of(cls, schema: Schema, field: Field) -> CField:
        """A field of a schema."""
        return cls(
            axis=len(schema.axes) if field.axis is None else schema.axes.index(field.axis),
            pre=math.prod(field.shape[: field.axis_dim]),
            post=math.prod(field.shape[field.axis_dim :]),
            pair=PAIRS[field.pair],
            ids=-1 if field.counts is None else schema.axes.index(field.counts),
            basis=-1 if field.basis is None else schema.names.index(field.basis),
            kind=KINDS.get(field.dtype, INTEGERS),
            width=DTYPES[field.dtype] if field.dtype.startswith("int") else 0,
        )


class CLibrary(ctypes.Structure):
    """The functions of xxHash and zstd that C calls, and a context for the last of them."""

    _fields_ = [
        ("hash", ctypes.CFUNCTYPE(ctypes.c_uint64, _Data, _Size)),
        ("content_size", ctypes.CFUNCTYPE(ctypes.c_uint64, _Data, _Size)),
        ("frame_size", ctypes.CFUNCTYPE(_Size, _Data, _Size)),
        ("decompress", ctypes.CFUNCTYPE(_Size, ctypes.c_void_p, ctypes.c_void_p, _Size, _Data, _Size, _Data)),
        ("context", ctypes.c_void_p),
    ]

    @classmethod
    def of(cls, addresses: Mapping[str, int], context: int) -> CLibrary:
        """With the functions at these addresses, by the names of the fields."""
        functions: Any = {name: kind(addresses[name]) for name, kind, *_ in cls._fields_ if name != "context"}
        return cls(**functions, context=context)


class CSource(ctypes.Structure):
    """The position of every record of a dataset, from the columns.

    Attributes:
        rows: number of records.
        record: offset, length and xxh3 of each row, without gaps.
        offset_bytes: bytes of an offset.
        length_bytes: bytes of a length.
        count: for each axis, the rows of each record on it.
        count_bytes: bytes of one of these.
        shards: number of shards.
        end: the row behind each shard.
        size: bytes of the file of each shard.
        codec: how the records of each shard are compressed: number of a dictionary, ``ZSTD`` or
            ``UNCOMPRESSED``.
    """

    _fields_ = [
        ("rows", _Integer),
        ("record", Bytes),
        ("offset_bytes", _Integer),
        ("length_bytes", _Integer),
        ("count", Bytes * MAX_AXES),
        ("count_bytes", _Integer * MAX_AXES),
        ("shards", _Integer),
        ("end", Int64s),
        ("size", Int64s),
        ("codec", Int32s),
    ]
