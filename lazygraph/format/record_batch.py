"""Several records as one: every field of all of them in one array, as a batch of graphs needs it.

``concatenate`` joins decoded records with numpy; ``native_reader.py`` computes the same result with compiled loops.
``join`` makes one batch of several batches, whose records may alternate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.format.schema import Field, Schema
from lazygraph.native import address

__all__ = ["BufferSlice", "RecordBatch", "concatenate", "join", "view"]

ALIGNMENT = 64


class BufferSlice(NamedTuple):
    """The position of an array in a buffer."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """B records put together. Pickled as one buffer, without copying where they were decoded into one.

    Attributes:
        counts: axis -> (B,) int64, the rows of each record.
        fields: name -> array: the rows of all records along the field's axis, (B, ...) where it has none. Ids are
            raised by what they count in the records before. Integers may be of another type than the field's, as narrow
            as their values allow. Texts are a list.
        buffer: the bytes that all arrays are views of, if they are.
    """

    counts: dict[str, NDArray[np.int64]]
    fields: dict[str, Any]
    buffer: NDArray[np.uint8] | None = None

    def to_buffer(self) -> tuple[NDArray[np.uint8], tuple[BufferSlice, ...]]:
        """All arrays as one buffer, and where each lies in it."""
        arrays = {name: value for name, value in self.fields.items() if isinstance(value, np.ndarray)}
        if self.buffer is None:
            places, size = _places({name: (array.dtype, array.shape) for name, array in arrays.items()})
            buffer = np.empty(size, dtype=np.uint8)
            for place in places:
                view(buffer, place)[...] = arrays[place.name]
            return buffer, places
        start = address(self.buffer)
        places = tuple(BufferSlice(name, a.dtype.str, a.shape, address(a) - start) for name, a in arrays.items())
        return self.buffer, places

    def __reduce__(self) -> tuple[Any, ...]:
        buffer, places = self.to_buffer()
        texts = {name: value for name, value in self.fields.items() if isinstance(value, list)}
        return _unpacked, (self.counts, list(self.fields), texts, buffer, places)


def _unpacked(
    counts: dict[str, NDArray[np.int64]],
    names: list[str],
    texts: dict[str, list[str]],
    buffer: NDArray[np.uint8],
    places: tuple[BufferSlice, ...],
) -> RecordBatch:
    """What was pickled."""
    arrays = {place.name: view(buffer, place) for place in places}
    return RecordBatch(counts, {name: texts[name] if name in texts else arrays[name] for name in names}, buffer)


def view(buffer: NDArray[np.uint8], place: BufferSlice) -> NDArray[Any]:
    """The array in its place."""
    return np.ndarray(place.shape, place.dtype, buffer, place.offset)


def _places(arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> tuple[tuple[BufferSlice, ...], int]:
    """Room for arrays in one buffer, each aligned, and the size of the buffer."""
    places, size = [], 0
    for name, (dtype, shape) in arrays.items():
        places.append(BufferSlice(name, dtype.str, shape, size))
        size += -(-dtype.itemsize * math.prod(shape) // ALIGNMENT) * ALIGNMENT
    return tuple(places), size


def concatenate(schema: Schema, records: Sequence[tuple[Sequence[int], Mapping[str, Any]]]) -> RecordBatch:
    """Join decoded records, in their order.

    Args:
        schema: what they hold.
        records: the axis counts and the fields of each (see ``Record.arrays``).
    """
    columns = np.array([counts for counts, _ in records], dtype=np.int64).reshape(len(records), len(schema.axes)).T
    counts = dict(zip(schema.axes, columns, strict=True))
    fields = {name: [fields[name] for _, fields in records] for name in schema.names}
    return RecordBatch(counts, {field.name: _join(field, fields[field.name], counts) for field in schema.fields})


def _join(field: Field, values: list[Any], counts: Mapping[str, NDArray[np.int64]]) -> Any:
    if field.dtype == "str":
        return values
    if field.counts is not None and len(values) > 1:
        first = (np.cumsum(counts[field.counts]) - counts[field.counts]).astype(field.dtype)
        values = [value + ids for value, ids in zip(values, first, strict=True)]
    if field.axis is None:
        return np.stack(values)
    return values[0] if len(values) == 1 else np.concatenate(values, axis=field.axis_dim)


def join(schema: Schema, parts: Sequence[RecordBatch], places: Sequence[NDArray[np.int64]]) -> RecordBatch:
    """Several batches of records as one, as ``concatenate`` makes it of the single records.

    Args:
        schema: what the records of all parts hold.
        parts: the batches.
        places: for each part, (b,) the place of each of its records; all places together are 0 to B - 1.
    """
    if len(parts) == 1 and (np.diff(places[0]) > 0).all():
        return parts[0]
    order = np.argsort(np.concatenate(places))  # the record, among those of all parts, that comes to each place
    before = {axis: np.concatenate([part.counts[axis] for part in parts]) for axis in schema.axes}
    counts = {axis: rows[order] for axis, rows in before.items()}
    moved = {axis: _moved_rows(rows, order) for axis, rows in before.items()}
    fields: dict[str, Any] = {}
    for field in schema.fields:
        values = [part.fields[field.name] for part in parts]
        if field.dtype == "str":
            texts = [text for some in values for text in some]
            fields[field.name] = [texts[record] for record in order.tolist()]
            continue
        if field.counts is not None:
            values = _with_ids_raised(field, values, parts, places, counts[field.counts])
        kind = np.result_type(*values)
        if kind.kind != "f" or field.dtype.startswith("float"):
            joined = np.concatenate(values, axis=field.axis_dim)
        else:  # integers that no common integer type holds
            joined = np.concatenate([value.astype(field.dtype) for value in values], axis=field.axis_dim)
        fields[field.name] = np.take(joined, order if field.axis is None else moved[field.axis], axis=field.axis_dim)
    return RecordBatch(counts, fields)


def _moved_rows(counts: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row that comes to each place if records with so many rows each come in another order."""
    first, moved = (np.cumsum(counts) - counts)[order], counts[order]
    rows: NDArray[np.int64] = np.arange(moved.sum()) + (first - (np.cumsum(moved) - moved)).repeat(moved)
    return rows


def _with_ids_raised(
    field: Field,
    values: Sequence[NDArray[Any]],
    parts: Sequence[RecordBatch],
    places: Sequence[NDArray[np.int64]],
    counts: NDArray[np.int64],
) -> list[NDArray[Any]]:
    """Ids of each part, numbered through the whole batch, whose records have so many rows to count."""
    first = np.cumsum(counts) - counts
    # Ids stay narrow, as they cross to workers and devices.
    kind = np.int32 if counts.sum() < 2**31 else np.int64
    out = []
    for value, part, own in zip(values, parts, places, strict=True):
        counted = part.counts[str(field.counts)]
        shift = first[own] - (np.cumsum(counted) - counted)
        shift = (shift if field.axis is None else shift.repeat(part.counts[field.axis])).astype(kind)
        behind = value.ndim - 1 - field.axis_dim
        out.append(value.astype(kind) + shift.reshape(-1, *(1,) * behind))
    return out
