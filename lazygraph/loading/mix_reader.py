"""The class ``MixReader``, which reads batches whose graphs are of several datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import LabelError, RecipeMismatch
from lazygraph.format.record_batch import RecordBatch, join
from lazygraph.format.schema import Field, Schema
from lazygraph.graphs.crystal_records import CRYSTAL_FIELDS, Untrue
from lazygraph.loading.reader import Fetched, Presenter, Read, Reader, Values
from lazygraph.reading.augment import AugmentationCounts
from lazygraph.reading.joined_columns import DATASET, JoinedLabel, join_labels

__all__ = ["MixReader", "joined_schema"]


class _Part(NamedTuple):
    """The rows of one member among those of a batch."""

    member: int
    places: NDArray[np.int64]
    """(b,) ascending, where in the batch its graphs come."""
    rows: NDArray[np.int64]
    """(b,) its own rows."""


class MixReader(Reader):
    """A reader of rows of several datasets, numbered one dataset after the other.

    The graphs of a batch are read member by member. Their records are then joined in the order of the batch, and
    expanded at once. Picklable; safe in threads and under fork, like a reader of one dataset.

    Args:
        readers: a reader of each member, for graphs of one recipe.
        rows: the number of rows of each member.
        presenter: converts the joined records into arrays.
        schema: what the joined records hold (:func:`joined_schema`).
        labels: the labels that become ``y``, in this order.
        target_dtype: type of ``y``, ``float32`` or ``float64``.
    """

    def __init__(
        self,
        readers: Sequence[Reader],
        rows: Sequence[int],
        presenter: Presenter,
        *,
        schema: Schema,
        labels: Sequence[JoinedLabel],
        target_dtype: str,
    ) -> None:
        # Not the constructor of a reader of one dataset: there is no one store.
        self._readers, self.schema, self._presenter = tuple(readers), schema, presenter
        self._is_aligned = [reader.schema == schema for reader in self._readers]
        self._labels, self._target_dtype = tuple(labels), np.dtype(target_dtype)
        self._ends = np.cumsum(rows, dtype=np.int64)
        self._atom_labels = {
            name: join_labels(name, {str(k): _field(reader.schema, name) for k, reader in enumerate(self._readers)})
            for name in schema.names
            if name not in CRYSTAL_FIELDS and not all(self._is_aligned)
        }

    def read(self, rows: NDArray[np.int64], seeds: NDArray[np.uint64] | None) -> Read:
        """Read, check and decode the records of these rows, with their targets; ``seeds`` as for one dataset."""
        parts, read, counts = list(self._parts(rows)), [], AugmentationCounts()
        widths = [int(np.prod(label.shape)) for label in self._labels]
        y = np.full((len(rows), sum(widths)), np.nan, self._target_dtype) if self._labels else None
        for part in parts:
            names = [label.name for label in self._labels if label.factors[part.member] is not None]
            own = None if seeds is None else seeds[part.places]
            records, values, augmented = self._readers[part.member].read_labelled(part.rows, own, names)
            read.append(self._aligned(part.member, records))
            counts += AugmentationCounts() if augmented is None else augmented
            begin = 0
            for label, width in zip(self._labels, widths, strict=True):
                factor, end = label.factors[part.member], begin + width
                if factor is not None and y is not None:
                    value = values[label.name].reshape(len(part.rows), -1)
                    y[part.places, begin:end] = value if factor == 1 else value * factor
                begin = end
        joined = join(self.schema, read, [part.places for part in parts])
        return Read(joined, y, counts if counts.crystals else None)

    def where(self, row: int) -> str:
        """Return the start of a message about a row: dataset, shard, row and id."""
        member, own = self.member_row(row)
        return self._readers[member].where(own)

    def member_row(self, row: int) -> tuple[int, int]:
        """Return the number of the member that a row belongs to, and its row there."""
        member = int(np.searchsorted(self._ends, row, side="right"))
        return member, row - self._start(member)

    def _start(self, member: int) -> int:
        return int(self._ends[member - 1]) if member else 0

    def _parts(self, rows: NDArray[np.int64]) -> Iterator[_Part]:
        members = np.searchsorted(self._ends, rows, side="right")
        for member in np.unique(members).tolist():
            places = np.flatnonzero(members == member)
            yield _Part(member, places, rows[places] - self._start(member))

    def _aligned(self, member: int, records: RecordBatch) -> RecordBatch:
        """Return the records of a member with the fields of the mix: labels in its units, missing ones NaN."""
        if self._is_aligned[member]:
            return records
        fields: dict[str, Any] = {}
        for name in self.schema.names:
            label = self._atom_labels.get(name)
            if label is None:
                fields[name] = records.fields[name]
                continue
            factor, dtype = label.factors[member], self.schema[name].dtype
            if factor is None:
                fields[name] = np.full((int(records.counts["node"].sum()), *label.shape), np.nan, dtype)
            else:
                values = records.fields[name].astype(dtype, copy=False)
                fields[name] = values if factor == 1 else values * np.dtype(dtype).type(factor)
        return RecordBatch(records.counts, fields)

    def _raise_corrupt(self, row: int, error: Untrue) -> NoReturn:
        member, own = self.member_row(row)
        self._readers[member]._raise_corrupt(own, error)  # noqa: SLF001  # of its base class

    def _ids(self, rows: NDArray[np.int64]) -> list[str]:
        out = [""] * len(rows)
        for part in self._parts(rows):
            ids = self._readers[part.member]._ids(part.rows)  # noqa: SLF001  # of its base class
            for place, graph_id in zip(part.places.tolist(), ids, strict=True):
                out[place] = graph_id
        return out

    def _of_graphs(self, fetched: Fetched) -> Values:
        return super()._of_graphs(fetched) | {DATASET: np.searchsorted(self._ends, fetched.rows, side="right")}

    def _said(self, rows: NDArray[np.int64]) -> Any:
        parts = list(self._parts(rows))
        said = [self._readers[part.member]._said(part.rows) for part in parts]  # noqa: SLF001  # of its base class
        if any(column is None for column in said):
            return None
        return np.concatenate(said)[np.argsort(np.concatenate([part.places for part in parts]))]


def joined_schema(schemas: Mapping[str, Schema], *, of_crystals: bool) -> Schema:
    """Return what the records of several members hold together.

    Crystals may have different labels of atoms: the records of the mix have the labels of all of them, in the widest
    type. Ready-made graphs must have the same fields.

    Args:
        schemas: member -> what its records hold.
        of_crystals: whether the graphs have a recipe, and not the fields that somebody gave them.

    Raises:
        LabelError: labels of atoms cannot be joined.
        RecipeMismatch: ready-made graphs have different fields.
    """
    first, base = next(iter(schemas.items()))
    if not of_crystals:
        for member, schema in schemas.items():
            if schema != base:
                msg = f"the ready-made graphs of a mix need the same fields; {_difference(first, base, member, schema)}"
                raise RecipeMismatch(msg)
        return base
    names = dict.fromkeys(name for schema in schemas.values() for name in schema.names if name not in CRYSTAL_FIELDS)
    if DATASET in names:
        msg = f"a label of atoms is called {DATASET!r}, the field in which a mix names the member; rename the label"
        raise LabelError(msg)
    labels = []
    for name in names:
        found = {member: _field(schema, name) for member, schema in schemas.items()}
        join_labels(name, found)
        there = [field for field in found.values() if field is not None]
        labels.append(replace(there[0], dtype=np.result_type(*(field.dtype for field in there)).name))
    return Schema(base.axes, (*(field for field in base.fields if field.name in CRYSTAL_FIELDS), *labels))


def _field(schema: Schema, name: str) -> Field | None:
    return schema[name] if name in schema.names else None


def _difference(first: str, base: Schema, member: str, schema: Schema) -> str:
    """The sentence about the first difference between two schemas."""
    for name in dict.fromkeys((*base.names, *schema.names)):
        here, there = _field(base, name), _field(schema, name)
        if here is None or there is None:
            having, lacking = (first, member) if there is None else (member, first)
            return f"{having!r} has the field {name!r}, and {lacking!r} does not"
        if here != there:
            return f"the field {name!r} is {here} in {first!r} and {there} in {member!r}"
    mine, theirs = (f"{one.names} along {one.axes}" for one in (base, schema))
    return f"{first!r} has {mine}, and {member!r} {theirs}"
