"""What a record holds: axes and fields, each with type, shape, unit and what its values count."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from types import NoneType
from typing import Any, Literal

from lazygraph.cached import cached_property
from lazygraph.errors import CorruptDataset, InputError
from lazygraph.format.strict_json import sequence

__all__ = ["DTYPES", "Field", "Schema"]

# The types that a field may have when it is read, and the bytes of one value.
DTYPES: dict[str, int] = {
    "bool": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "float16": 2,
    "float32": 4,
    "float64": 8,
    "str": 1,
}

MAX_AXES = 16
MAX_FIELDS = 256
MAX_NAME = 255
MAX_COMPONENTS = 2**27  # values a row of a field, a size of 0 counted as 1; a record has at most 2**30 bytes
MAX_TEXT = 65536  # bytes of one text field
MAX_VALUES = 2**27  # values of a record in all fields but texts: 1 GiB where each takes 8 bytes
MAX_HOLLOW = 65536  # rows along an axis of no field, or of fields without components

Pair = Literal["swap", "negate", "same"]


@dataclass(frozen=True, slots=True)
class Field:
    """One array of a record.

    Args:
        name: the key under which it is read.
        dtype: a key of ``DTYPES``; stored narrower wherever the values allow.
        shape: the shape without the axis, at most three dimensions.
        axis: the axis along which it grows, or None for one value a graph.
        axis_dim: where that axis stands in the full shape (1 for ``edge_index``, which is (2, E)).
        unit: such as ``A`` or ``eV/A``.
        counts: the axis that the values are indices of; batching adds its running total.
        pair: how every second row follows from the row before it, where a record stores only the first of each two.
        basis: the (3, 3) field in whose rows these coordinates are expressed.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    axis: str | None = None
    axis_dim: int = 0
    unit: str | None = None
    counts: str | None = None
    pair: Pair | None = None
    basis: str | None = None

    @property
    def components(self) -> int:
        """Values per row."""
        n = 1
        for size in self.shape:
            n *= size
        return n

    def problem(self) -> str | None:
        """What makes this field impossible, or None."""
        if not self.name.isprintable() or not 0 < len(self.name.encode()) <= MAX_NAME:
            return f"the name {self.name!r}; required: 1 to {MAX_NAME} printable bytes"
        if self.dtype not in DTYPES:
            return f"the dtype {self.dtype!r}; required: one of {', '.join(DTYPES)}"
        return self._layout_problem() or self._meaning_problem()

    def _layout_problem(self) -> str | None:
        """What is wrong with shape and axis."""
        if len(self.shape) > 3 or not all(type(n) is int and n >= 0 for n in self.shape):
            return f"the shape {self.shape}; required: at most three sizes"
        if math.prod(max(n, 1) for n in self.shape) > MAX_COMPONENTS:
            return f"the shape {self.shape}; required: at most {MAX_COMPONENTS} values a row"
        if type(self.axis_dim) is not int or not 0 <= self.axis_dim <= (0 if self.axis is None else len(self.shape)):
            return f"axis_dim {self.axis_dim} with the shape {self.shape} and the axis {self.axis!r}"
        if self.dtype == "str" and (self.shape or self.axis or self.counts):
            return "text with a shape, an axis or a count"
        return None

    def _meaning_problem(self) -> str | None:
        """What is wrong with counts, pair and basis."""
        if self.counts is not None and "int" not in self.dtype:
            return f"indices of dtype {self.dtype}; required: integers"
        if self.pair is not None and (self.axis is None or self.pair not in ("swap", "negate", "same")):
            return f"pair {self.pair!r} on axis {self.axis!r}"
        if self.pair == "swap" and self.shape != (2,):
            return f"pair 'swap' with the shape {self.shape}; required: (2,)"
        if self.pair == "negate" and not self.dtype.startswith(("int", "float")):
            return f"pair 'negate' with dtype {self.dtype}; required: a signed type"
        if self.basis is not None and (self.shape != (3,) or self.dtype != "float64"):
            return f"a basis for shape {self.shape} {self.dtype}; required: (3,) float64"
        return None


@dataclass(frozen=True)
class Schema:
    """Axes and fields of every record of a dataset, in the order in which records hold them."""

    axes: tuple[str, ...]
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        if problem := self._problem():
            msg = f"the schema has {problem}"
            raise InputError(msg)

    def _problem(self) -> str | None:
        if len(self.axes) > MAX_AXES or len(self.fields) > MAX_FIELDS:
            return f"{len(self.axes)} axes and {len(self.fields)} fields; required: at most {MAX_AXES} and {MAX_FIELDS}"
        if len(set(self.axes)) < len(self.axes):
            return f"an axis twice: {self.axes}"
        for axis in self.axes:
            # An axis names a column, n_AXIS.
            if not axis.isidentifier() or len(axis.encode()) > 64:
                return f"the axis {axis!r}; required: an identifier of at most 64 bytes"
        seen: dict[str, Field] = {}
        for field in self.fields:
            if field.name in seen:
                return f"the field {field.name!r} twice"
            if problem := field.problem() or self._stray(field, seen):
                return f"a field {field.name!r} with {problem}"
            seen[field.name] = field
        return None

    def _stray(self, field: Field, seen: Mapping[str, Field]) -> str | None:
        """What a field refers to that is not there."""
        if not {field.axis, field.counts} - {None} <= set(self.axes):
            return f"the axis {field.axis!r}, counting {field.counts!r}; the axes are {', '.join(self.axes) or 'none'}"
        if field.basis is not None:
            basis = seen.get(field.basis)
            if basis is None or (basis.axis, basis.shape, basis.dtype) != (None, (3, 3), "float64"):
                return f"the basis {field.basis!r}; required: an earlier (3, 3) float64 field"
        return None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the fields, in order."""
        return tuple(field.name for field in self.fields)

    @cached_property
    def hollow(self) -> tuple[int, ...]:
        """The places of the axes along which no field holds anything, so that rows cost no bytes."""
        filled = {field.axis for field in self.fields if field.components}
        return tuple(place for place, axis in enumerate(self.axes) if axis not in filled)

    def __getitem__(self, name: str) -> Field:
        return self.fields[self.names.index(name)]

    @cached_property
    def _components(self) -> tuple[int, tuple[int, ...], int]:
        """The values of a record without rows, those of a row of each axis, and the number of texts."""
        arrays = [field for field in self.fields if field.dtype != "str"]
        of_axes = [sum(field.components for field in arrays if field.axis == axis) for axis in (None, *self.axes)]
        return of_axes[0], tuple(of_axes[1:]), len(self.fields) - len(arrays)

    def values(self, counts: Iterable[Any]) -> Any:
        """The number of values of a record with these axis counts, in all fields but texts.

        Of counts that are arrays, one for each record.
        """
        alone, of_axes, _ = self._components
        return sum((rows * components for rows, components in zip(counts, of_axes, strict=True)), alone)

    def bound(self, counts: Iterable[Any]) -> Any:
        """The greatest size of a decompressed record with these axis counts, as ``docs/format.md`` defines it.

        Text and own axes are covered too: their lengths are counts. Of counts that are arrays, one for each record.
        """
        texts = self._components[2]
        return 64 + 16 * (len(self.axes) + len(self.fields)) + MAX_TEXT * texts + 8 * self.values(counts)

    def to_json(self) -> dict[str, Any]:
        """The JSON form, every key of every field written out."""
        return {"axes": list(self.axes), "fields": [asdict(f) | {"shape": list(f.shape)} for f in self.fields]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schema:
        """Read the JSON form; CorruptDataset where it is not one."""
        try:
            if set(data) != {"axes", "fields"}:
                msg = f"a schema with the keys {sorted(data)}; required: axes and fields"
                raise CorruptDataset(msg)
            return cls(tuple(sequence(data["axes"])), tuple(_field(raw) for raw in sequence(data["fields"])))
        except (TypeError, AttributeError, KeyError, InputError) as error:
            msg = f"the schema cannot be read: {error}"
            raise CorruptDataset(msg) from error


_KEYS = {f.name for f in fields(Field)}


def _field(raw: Mapping[str, Any]) -> Field:
    if set(raw) != _KEYS or not isinstance(raw["unit"], (str, NoneType)):
        msg = f"a field {raw!r}; required: the keys {sorted(_KEYS)}, unit a text or null"
        raise CorruptDataset(msg)
    return Field(**{**raw, "shape": tuple(sequence(raw["shape"]))})
