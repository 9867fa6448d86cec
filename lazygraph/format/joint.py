"""Several records as one: every field of all of them in one array, as a batch of graphs needs it.

Two ways that give the same values: ``join`` puts decoded records together, with numpy alone; ``join_raw`` takes the
decompressed records of a whole batch and decodes them field by field in compiled loops, all into one buffer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Joined:
    """B records put together.

    Attributes:
        counts: axis -> (B,) int64, the rows of each record.
        fields: name -> array: the rows of all records along the field's axis, (B, ...) where it has none. Ids are
            raised by what they count in the records before. Integers may be of a narrower type than the field's. Texts
            are a list.
    """

    counts: dict[str, NDArray[np.int64]]
    fields: dict[str, Any]


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
    n, n_axes, n_fields = len(starts), len(schema.axes), len(schema.fields)
    numbers = np.empty(n * (n_axes + 2 * n_fields), dtype=np.int64)
    counts = numbers[: n * n_axes].reshape(n, n_axes)
    places, lengths = numbers[n * n_axes :].reshape(2, n, n_fields)
    by_record = np.empty((n, n_fields), dtype=np.uint8)
    raw_at, counts_at, codes_at = address(np.frombuffer(raw, dtype=np.uint8)), address(numbers), address(by_record)
    places_at = counts_at + 8 * n * n_axes
    lengths_at = places_at + 8 * n * n_fields
    found = counts_at, places_at, lengths_at, codes_at
    if library.lg_scan(raw_at, address(starts), address(sizes), n, n_axes, n_fields, *found) >= 0:
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
    totals = by_axis.sum(axis=1).tolist()
    before = np.cumsum(by_axis, axis=1) - by_axis
    most = int((rows * plan.components).max(initial=0))
    scratch = np.empty(2 * most, dtype=np.int64)
    scratch_at, rows_at, before_at = address(scratch), address(by_axis), address(before)
    unsigned, signed = _UNSIGNED[codes].max(axis=1).tolist(), _SIGNED[codes].max(axis=1).tolist()
    dtypes = [_dtype(*widths, totals) for widths in zip(plan.parts, unsigned, signed, strict=True)]
    arrays, buffer_at, offsets = _arrays(plan, dtypes, totals)
    fields: dict[str, Any] = {}
    for k, (field, axis, _, _, pre, post, ids) in enumerate(plan.parts):
        array = arrays[k]
        if array is None:
            texts = zip(places[:, k].tolist(), lengths[:, k].tolist(), strict=True)
            try:
                fields[field.name] = [raw[at : at + length].decode() for at, length in texts]
            except UnicodeDecodeError:
                return None
            continue
        where = raw_at, codes_at + k, places_at + 8 * k, n_fields, rows_at + 8 * n * axis, n, totals[axis], pre, post
        pair, out_at = PAIRS[field.pair], buffer_at + offsets[k]
        dtype = array.dtype
        if field.dtype == "float64":
            basis_at = None if field.basis is None else buffer_at + offsets[schema.names.index(field.basis)]
            library.lg_floats(*where, pair, basis_at, scratch_at, scratch_at + 8 * most, out_at)
        else:
            add_at = None if ids is None else before_at + 8 * n * ids
            library.lg_integers(*where, pair, add_at, scratch_at, _TYPES[dtype], out_at)
        if field.dtype == "bool":
            if array.max(initial=0) > 1:
                return None
            array = array.view(np.bool_)
        fields[field.name] = array
    return Joined(dict(zip(schema.axes, by_axis, strict=False)), fields)


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


def _arrays(
    plan: _Plan, dtypes: Sequence[np.dtype[Any] | None], totals: Sequence[int]
) -> tuple[list[NDArray[Any] | None], int, list[int]]:
    """An array for every field but texts, not filled yet, all in one buffer; its address; where they begin in it."""
    shapes = [(*part.before, totals[part.axis], *part.after) for part in plan.parts]
    offsets = [0]
    for shape, dtype in zip(shapes, dtypes, strict=True):
        nbytes = 0 if dtype is None else dtype.itemsize * math.prod(shape)
        offsets.append(offsets[-1] - (-nbytes // ALIGNMENT) * ALIGNMENT)
    buffer = np.empty(offsets[-1], dtype=np.uint8)
    arrays = [
        None if dtype is None else np.ndarray(shape, dtype, buffer, offset)
        for shape, dtype, offset in zip(shapes, dtypes, offsets, strict=False)
    ]
    return arrays, address(buffer), offsets
