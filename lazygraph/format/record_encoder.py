"""``RecordEncoder``: many records of one schema, by a compiled loop where there is one."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.format.encoding import STORED, encode_text
from lazygraph.format.native_types import CField
from lazygraph.format.record import checked_record, pack
from lazygraph.format.schema import Field, Schema
from lazygraph.native import address, kernels

__all__ = ["RecordEncoder"]

MOST = 2**26  # bytes of arrays, and so of values, that the loop is given: a copy of more would cost memory
_TYPES = {dtype: code for code, dtype in enumerate(STORED)} | {np.dtype(bool): STORED.index(np.dtype("u1"))}


class _Wanted(NamedTuple):
    """What the arrays of a field look like."""

    field: Field
    before: tuple[int, ...]
    """The sizes before the axis."""
    axis: int
    """The number of the axis; -1 for a field without an axis."""
    behind: tuple[int, ...]
    """The sizes behind the axis."""

    @classmethod
    def of(cls, schema: Schema, field: Field) -> _Wanted:
        if field.axis is None:
            return cls(field, field.shape, -1, ())
        dim = field.axis_dim
        return cls(field, field.shape[:dim], schema.axes.index(field.axis), field.shape[dim:])


class RecordEncoder:
    r"""Packs records as ``lazygraph.format.record.pack`` does, and gives the same bytes and errors.

    Preparing it takes about 50 us, so make one for many records. Any number of threads may use it. It is pickled as its
    schema. A record of a perovskite takes about 15 us with the loop, and 90 us without.

    Args:
        schema: what the records hold.

    Example:
        >>> encoder = RecordEncoder(Schema(("node",), (Field("z", "int64", axis="node"),)))
        >>> encoder.pack({"z": np.array([26, 8])})
        (b'\x93\x02\xc4\x01\x04\xc4\x02\x1a\x08', (2,))
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        library = kernels()
        self._encode: Callable[..., int] | None = None if library is None else library.lg_encode
        if self._encode is not None:
            first = {field.axis: field for field in reversed(schema.fields)}
            self._axes = [(axis, first.get(axis)) for axis in schema.axes]
            self._wanted = [_Wanted.of(schema, field) for field in schema.fields]
            self._described = (CField * len(schema.fields))(*(CField.of(schema, field) for field in schema.fields))
            self._told = ctypes.addressof(self._described), len(schema.fields), len(schema.axes)
            self._numbers = struct.Struct(f"={len(schema.axes) + len(schema.fields)}q")
            # Markers, counts and the lengths of buffers, which are never longer than the arrays.
            self._beside = 16 + 5 * len(schema.axes) + 6 * len(schema.fields)

    def __reduce__(self) -> tuple[type[RecordEncoder], tuple[Schema]]:
        return RecordEncoder, (self.schema,)

    def pack(
        self, values: Mapping[str, Any], rows_of: Mapping[str, int] = MappingProxyType({})
    ) -> tuple[bytes, tuple[int, ...]]:
        """The decompressed form of one record, and its axis counts; see ``lazygraph.format.record.pack``."""
        if self._encode is not None:
            # By the first field of each axis. If another one differs, the plain code raises its error.
            counts = tuple(
                [
                    rows_of.get(axis, 0) if field is None else values[field.name].shape[field.axis_dim]
                    for axis, field in self._axes
                ]
            )
            raw = self._compiled(self._encode, values, counts)
            if raw is not None:
                # What the loop takes has fewer than MAX_VALUES values, and counts up to MAX_COUNT.
                return checked_record(self.schema, raw, counts) if self.schema.hollow else raw, counts
        return pack(self.schema, values, rows_of)

    def _compiled(self, encode: Callable[..., int], values: Mapping[str, Any], counts: tuple[int, ...]) -> bytes | None:
        """The record by the compiled loop. None: the plain code does it, or raises its error."""
        types, arrays, size = [], [], 0
        for field, before, axis, behind in self._wanted:
            value = values[field.name]
            if field.dtype == "str":
                text = encode_text(field, value)
                types.append(len(text))
                arrays.append(text)
                size += len(text)
                continue
            kind = _TYPES.get(value.dtype)
            if kind is None or value.shape != ((*before, counts[axis], *behind) if axis >= 0 else before):
                return None
            types.append(kind)
            arrays.append(value)
            size += value.nbytes
        if size > MOST:
            return None
        try:
            data = b"".join(arrays)  # which takes arrays that are read-only too
        except (TypeError, ValueError):  # and none with gaps
            data = b"".join(one if isinstance(one, bytes) else np.ascontiguousarray(one) for one in arrays)
        out: NDArray[np.uint8] = np.empty(size + self._beside, np.uint8)
        numbers = self._numbers.pack(*counts, *types)
        length = encode(*self._told, numbers, data, size, address(out), len(out))
        return out[:length].tobytes() if length > 0 else None
