"""Several records as one: every field of all of them in one array, as a batch of graphs needs it.

Two ways that give the same values: ``join`` puts decoded records together, with numpy alone; ``join_raw`` takes the
decompressed records of a whole batch and decodes them field by field in compiled loops, all into one buffer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.format.encoding import LAYOUTS, LOGICAL, is_widened
from lazygraph.format.record import MAX_COUNT
from lazygraph.format.schema import Field, Schema
from lazygraph.native import address, kernels

__all__ = ["Joined", "join", "join_raw"]

PAIRS = {None: 0, "swap": 1, "negate": 2, "same": 3}
# The types that lg_integers writes; floating-point numbers narrower than float64 are moved as bits.
_TYPES = {np.dtype(f"<{name}"): code for code, name in enumerate("i1 i2 i4 i8 u1 u2 u4 u8".split())}
_TYPES |= {np.dtype("<f2"): _TYPES[np.dtype("<u2")], np.dtype("<f4"): _TYPES[np.dtype("<u4")]}
ALIGNMENT = 64


class Place(NamedTuple):
    """Where an array lies in a buffer."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Joined:
    """B records put together. Pickled as one buffer, without copying where they were decoded into one.

    Attributes:
        counts: axis -> (B,) int64, the rows of each record.
        fields: name -> array: the rows of all records along the field's axis, (B, ...) where it has none. Ids are
            raised by what they count in the records before. Integers may be of a narrower type than the field's. Texts
            are a list.
        buffer: the bytes that all arrays are views of, if they are.
    """

    counts: dict[str, NDArray[np.int64]]
    fields: dict[str, Any]
    buffer: NDArray[np.uint8] | None = None

    def packed(self) -> tuple[NDArray[np.uint8], tuple[Place, ...]]:
        """All arrays as one buffer, and where each lies in it."""
        arrays = {name: value for name, value in self.fields.items() if isinstance(value, np.ndarray)}
        if self.buffer is None:
            places, size = _places({name: (array.dtype, array.shape) for name, array in arrays.items()})
            buffer = np.empty(size, dtype=np.uint8)
            for place in places:
                _view(buffer, place)[...] = arrays[place.name]
            return buffer, places
        start = address(self.buffer)
        places = tuple(Place(name, a.dtype.str, a.shape, address(a) - start) for name, a in arrays.items())
        return self.buffer, places

    def __reduce__(self) -> tuple[Any, ...]:
        buffer, places = self.packed()
        texts = {name: value for name, value in self.fields.items() if isinstance(value, list)}
        return _unpacked, (self.counts, list(self.fields), texts, buffer, places)


def _unpacked(
    counts: dict[str, NDArray[np.int64]],
    names: list[str],
    texts: dict[str, list[str]],
    buffer: NDArray[np.uint8],
    places: tuple[Place, ...],
) -> Joined:
    """What was pickled."""
    arrays = {place.name: _view(buffer, place) for place in places}
    return Joined(counts, {name: texts[name] if name in texts else arrays[name] for name in names}, buffer)


def _view(buffer: NDArray[np.uint8], place: Place) -> NDArray[Any]:
    return np.ndarray(place.shape, place.dtype, buffer, place.offset)


def _places(arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> tuple[tuple[Place, ...], int]:
    """Room for arrays in one buffer, each aligned, and the size of the buffer."""
    places, size = [], 0
    for name, (dtype, shape) in arrays.items():
        places.append(Place(name, dtype.str, shape, size))
        size += -(-dtype.itemsize * math.prod(shape) // ALIGNMENT) * ALIGNMENT
    return tuple(places), size


def join(schema: Schema, records: Sequence[tuple[Sequence[int], Mapping[str, Any]]]) -> Joined:
    """Decoded records put together, in their order.

    Args:
        schema: what they hold.
        records: the axis counts and the fields of each (see ``Record.arrays``).
    """
    columns = np.array([counts for counts, _ in records], dtype=np.int64).reshape(len(records), len(schema.axes)).T
    counts = dict(zip(schema.axes, columns, strict=True))
    fields = {name: [fields[name] for _, fields in records] for name in schema.names}
    return Joined(counts, {field.name: _join(field, fields[field.name], counts) for field in schema.fields})


def _join(field: Field, values: list[Any], counts: Mapping[str, NDArray[np.int64]]) -> Any:
    if field.dtype == "str":
        return values
    if field.counts is not None and len(values) > 1:
        first = (np.cumsum(counts[field.counts]) - counts[field.counts]).astype(field.dtype)
        values = [value + ids for value, ids in zip(values, first, strict=True)]
    if field.axis is None:
        return np.stack(values)
    return values[0] if len(values) == 1 else np.concatenate(values, axis=field.axis_dim)


class _Part(NamedTuple):
    """One field, and what of its decoding does not depend on the records."""

    field: Field
    axis: int
    """The number of its axis; that of all axes where it has none."""
    before: tuple[int, ...]
    """Its shape before the axis."""
    after: tuple[int, ...]
    """Its shape behind the axis."""
    pre: int
    post: int
    counts: int | None
    """The number of the axis that its values are ids of."""


class _Plan(NamedTuple):
    """What of a schema does not depend on the records: F fields."""

    n_axes: int
    parts: tuple[_Part, ...]
    axis: NDArray[np.intp]
    components: NDArray[np.int64]
    """(F, 1)"""
    allowed: NDArray[np.bool_]
    """(F * 256,) whether the compiled loops read a field stored with a code."""
    first: NDArray[np.intp]
    """(F, 1) where the codes of each field begin there."""
    texts: NDArray[np.bool_]
    """(F, 1)"""


def _by_code(kinds: str) -> NDArray[np.int64]:
    """(256,) the bytes of a value stored with a code, 0 where its type is of another kind or there is no such code."""
    known = {code: layout.itemsize for code, layout in LAYOUTS.items() if layout.stored.kind in kinds}
    return np.array([known.get(code, 0) for code in range(256)])


_ITEMSIZE, _UNSIGNED, _SIGNED = _by_code("iuf"), _by_code("u"), _by_code("i")


@lru_cache(maxsize=64)
def _plan(schema: Schema) -> _Plan:
    numbers = {axis: number for number, axis in enumerate(schema.axes)}
    parts = []
    for field in schema.fields:
        before, after = field.shape[: field.axis_dim], field.shape[field.axis_dim :]
        axis = len(numbers) if field.axis is None else numbers[field.axis]
        counts = None if field.counts is None else numbers[field.counts]
        parts.append(_Part(field, axis, before, after, math.prod(before), math.prod(after), counts))
    return _Plan(
        n_axes=len(numbers),
        parts=tuple(parts),
        axis=np.array([part.axis for part in parts], dtype=np.intp),
        components=np.array([[field.components] for field in schema.fields], dtype=np.int64),
        allowed=np.array([_taken(field, code) for field in schema.fields for code in range(256)], dtype=bool),
        first=256 * np.arange(len(parts))[:, None],
        texts=np.array([[field.dtype == "str"] for field in schema.fields]),
    )


def _taken(field: Field, code: int) -> bool:
    """Whether the compiled loops read this field stored so; what they do not read need not be wrong."""
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
    return layout.stored == logical or is_widened(layout.stored, field.dtype)


def join_raw(schema: Schema, raw: bytes, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> Joined | None:
    """Decompressed records decoded and put together.

    Args:
        schema: what they hold.
        raw: their bytes.
        starts: (B,) where each begins there.
        sizes: (B,) how many are its.

    Returns:
        What ``join`` makes of the decoded records; None where there are no compiled loops, or where a record is not as
        it must be or is stored in a way that they do not read: decode it by itself then, which says what is wrong.
    """
    library = kernels()
    if library is None or not schema.fields:
        return None
    plan = _plan(schema)
    found = _scan(library, plan, raw, starts, sizes)
    if found is None:
        return None
    n, n_fields, codes = len(starts), len(plan.parts), found.codes.T
    totals = found.by_axis.sum(axis=1).tolist()
    before = np.cumsum(found.by_axis, axis=1) - found.by_axis
    unsigned, signed = _UNSIGNED[codes].max(axis=1).tolist(), _SIGNED[codes].max(axis=1).tolist()
    dtypes = [_dtype(*widths, totals) for widths in zip(plan.parts, unsigned, signed, strict=True)]
    room, nbytes = _places(
        {
            part.field.name: (dtype, (*part.before, totals[part.axis], *part.after))
            for part, dtype in zip(plan.parts, dtypes, strict=True)
            if dtype is not None
        }
    )
    buffer, scratch = np.empty(nbytes, dtype=np.uint8), np.empty(2 * found.most, dtype=np.int64)
    arrays = {place.name: _view(buffer, place) for place in room}
    at = {place.name: address(buffer) + place.offset for place in room}
    raw_at, scratch_at, rows_at = address(np.frombuffer(raw, np.uint8)), address(scratch), address(found.by_axis)
    codes_at, places_at, before_at = address(found.codes), address(found.places), address(before)
    fields: dict[str, Any] = {}
    for k, (field, axis, _, _, pre, post, ids) in enumerate(plan.parts):
        if field.dtype == "str":
            try:
                fields[field.name] = [raw[a : a + m].decode() for a, m in found.texts(k)]
            except UnicodeDecodeError:
                return None
            continue
        array, out_at = arrays[field.name], at[field.name]
        where = raw_at, codes_at + k, places_at + 8 * k, n_fields, rows_at + 8 * n * axis, n, totals[axis], pre, post
        if field.dtype == "float64":
            basis_at = None if field.basis is None else at[field.basis]
            library.lg_floats(*where, PAIRS[field.pair], basis_at, scratch_at, scratch_at + 8 * found.most, out_at)
        else:
            add_at = None if ids is None else before_at + 8 * n * ids
            library.lg_integers(*where, PAIRS[field.pair], add_at, scratch_at, _TYPES[array.dtype], out_at)
        if field.dtype == "bool":
            if array.max(initial=0) > 1:
                return None
            array = array.view(np.bool_)
        fields[field.name] = array
    return Joined(dict(zip(schema.axes, found.by_axis, strict=False)), fields, buffer)


class _Scanned(NamedTuple):
    """What is where in B records of F fields and A axes, and may be read."""

    by_axis: NDArray[np.int64]
    """(A + 1, B) rows; the last are those of fields without axis, one each."""
    codes: NDArray[np.uint8]
    """(B, F)"""
    places: NDArray[np.int64]
    """(B, F) where the buffers begin."""
    lengths: NDArray[np.int64]
    """(B, F) their bytes."""
    most: int
    """The most values that a record has in a field."""

    def texts(self, field: int) -> Iterator[tuple[int, int]]:
        """Begin and length of a field in each record."""
        return zip(self.places[:, field].tolist(), self.lengths[:, field].tolist(), strict=True)


def _scan(
    library: Any, plan: _Plan, raw: bytes, starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> _Scanned | None:
    """Find the parts of the records, and make sure that every buffer has the length that its counts and code demand."""
    n, n_axes, n_fields = len(starts), plan.n_axes, len(plan.parts)
    counts = np.empty((n, n_axes), dtype=np.int64)
    places, lengths = np.empty((2, n, n_fields), dtype=np.int64)
    by_record = np.empty((n, n_fields), dtype=np.uint8)
    out = address(counts), address(places), address(lengths), address(by_record)
    data = np.frombuffer(raw, dtype=np.uint8)
    if library.lg_scan(address(data), address(starts), address(sizes), n, n_axes, n_fields, *out) >= 0:
        return None
    codes = by_record.T
    by_axis = np.ones((n_axes + 1, n), dtype=np.int64)
    by_axis[:n_axes] = counts.T
    rows = by_axis[plan.axis]
    half = codes >> 7
    size = (rows >> half) * plan.components * _ITEMSIZE[codes]
    if (
        (by_axis > MAX_COUNT).any()
        or not plan.allowed[plan.first + codes].all()
        or (rows & half).any()
        or ((size != lengths.T) & ~plan.texts).any()
    ):
        return None
    return _Scanned(by_axis, by_record, places, lengths, int((rows * plan.components).max(initial=0)))


def _dtype(part: _Part, unsigned: int, signed: int, totals: Sequence[int]) -> np.dtype[Any] | None:
    """The type in which a field is put together: of integers the narrowest, else its own; None for text.

    Args:
        part: the field.
        unsigned: bytes of the widest unsigned type that its values are stored in, 0 where there are none.
        signed: the same of signed types.
        totals: the rows of every axis.
    """
    field = part.field
    if field.dtype == "str":
        return None
    if part.counts is not None:
        short = max(unsigned, signed) <= 2 and totals[part.counts] < 2**31 - 2**16
        return np.dtype(np.int32 if short else np.int64)
    if field.dtype == "bool" or "float" in field.dtype:
        return LOGICAL[field.dtype]
    if signed or field.pair == "negate":
        return np.dtype(f"<i{min(max(signed, 2 * unsigned), 8)}")
    return np.dtype(f"<u{unsigned}")
