"""``Reader``: rows of a dataset -> PyG's ``Data`` and ``Batch``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from array_api_compat import array_namespace
from numpy.typing import NDArray
from torch_geometric.data import Batch, Data

from lazygraph.errors import CorruptDataset, LabelError
from lazygraph.format.joint import Joined, join
from lazygraph.format.schema import Schema
from lazygraph.format.store import Store
from lazygraph.graphs.spec import GraphSpec
from lazygraph.graphs.vectors import stray
from lazygraph.reading.crystals import CRYSTAL_FIELDS, Crystals, check_crystals
from lazygraph.reading.graph_data import Layout, layout_of, make_batch, make_data, split_batch
from lazygraph.reading.transfer import to_device
from lazygraph.reading.views.base import NODE, View

__all__ = ["Fetched", "Reader", "ShownAsStored", "ShownThroughView"]

STRAY = "an edge ends at an atom that the crystal does not have"
_OF_EVERY_GRAPH = ("y", "id", "num_nodes", "batch", "ptr")  # what PyG and the reader add to a view's arrays
Values = dict[str, Any]
Rows = dict[str, NDArray[np.int64]]
"""Axis -> (B,) rows of each graph."""


class Records(Protocol):
    """Where records come from: a store, or one whose edges are recut."""

    def decoded(self, row: int) -> tuple[tuple[int, ...], dict[str, Any]]:
        """Axis counts and fields of one."""

    def joined(self, rows: NDArray[np.int64]) -> Joined:
        """Several put together."""


class Shown(Protocol):
    """How records become the arrays that a user sees."""

    layout: Layout

    def problem(self, joined: Joined) -> int | None:
        """The first of several graphs whose edges end elsewhere, or None."""

    def problem_of_one(self, counts: Sequence[int], fields: Mapping[str, Any]) -> bool:
        """Whether the edges of a graph end elsewhere."""

    def one(self, counts: Sequence[int], fields: Mapping[str, Any]) -> Values:
        """The arrays of one graph, of the axis counts and fields of its record."""

    def many(self, joined: Joined) -> tuple[Values, Rows]:
        """The arrays of several graphs, of their records put together."""


class ShownThroughView:
    """Crystals, through a view; per-atom labels follow under their own names.

    Args:
        view: which arrays.
        spec: the recipe of the graphs.
        schema: what their records hold.
    """

    def __init__(self, view: View, spec: GraphSpec, schema: Schema) -> None:
        view.check(spec)
        check_crystals(schema)
        self._view, self._spec, self._schema = view, spec, schema
        atom_labels = [name for name in schema.names if name not in CRYSTAL_FIELDS]
        if taken := sorted({*view.layout, *_OF_EVERY_GRAPH} & set(atom_labels)):
            name = taken[0]
            msg = f"the name of the atom label {name!r} is that of an array of the view {view.name!r}; use another view"
            raise LabelError(msg)
        self.layout = Layout({**view.layout, **dict.fromkeys(atom_labels, NODE)})

    def problem(self, joined: Joined) -> int | None:
        """The first crystal with an edge that does not end at its own atoms."""
        return stray(joined.fields["edge_index"], joined.counts["edge"], joined.counts["node"])

    def problem_of_one(self, counts: Sequence[int], fields: Mapping[str, Any]) -> bool:
        """Whether an edge ends at an atom that is not there."""
        ends = fields["edge_index"]
        return bool(ends.size) and not 0 <= ends.min() <= ends.max() < counts[0]

    def one(self, counts: Sequence[int], fields: Mapping[str, Any]) -> Values:
        """A batch of one."""
        return self.many(join(self._schema, [(counts, fields)]))[0]

    def many(self, joined: Joined) -> tuple[Values, Rows]:
        """Made in one go."""
        crystals = Crystals.of(joined)
        made = self._view.arrays(crystals, self._spec)
        labels = {name: self._view.real(value) for name, value in crystals.atom_labels.items()}
        return {**made.values, **labels}, {**joined.counts, **made.rows}


class ShownAsStored:
    """Ready-made graphs: their fields with their own names, types and shapes, joined as PyG joins."""

    def __init__(self, schema: Schema) -> None:
        self.layout = layout_of(schema)
        self._fields = [field for field in schema.fields if field.name in self.layout]

    def problem(self, joined: Joined) -> None:
        """Ready-made graphs may hold any numbers."""

    def problem_of_one(self, counts: Sequence[int], fields: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Likewise."""
        return False

    def one(self, counts: Sequence[int], fields: Mapping[str, Any]) -> Values:  # noqa: ARG002  # they are as stored
        """The fields."""
        return {field.name: fields[field.name] for field in self._fields}

    def many(self, joined: Joined) -> tuple[Values, Rows]:
        """The fields; what has one row a graph stands one after another."""
        values = {}
        for field in self._fields:
            value = joined.fields[field.name]
            if field.dtype != "str":
                xp = array_namespace(value)
                value = xp.astype(value, getattr(xp, field.dtype), copy=False)
                if field.axis is None and field.shape:
                    value = value.reshape(-1, *field.shape[1:])
            values[field.name] = value
        return values, joined.counts


class Fetched(NamedTuple):
    """A batch of graphs as it travels between processes: narrow types in one buffer, a tenth of what it expands to."""

    joined: Joined
    y: NDArray[np.floating[Any]] | None
    """(B, T) targets, float32 or float64."""
    ids: list[str]


class Reader:
    """Reads rows of a store and makes graphs of them. Picklable; safe in threads and under fork, as the store is.

    Args:
        store: the dataset.
        records: its records.
        shown: how they become arrays.
        targets: the label columns that become ``y``, in this order.
        target_dtype: of ``y``, ``float32`` or ``float64``.
    """

    def __init__(
        self, store: Store, records: Records, shown: Shown, targets: Sequence[str], target_dtype: str = "float32"
    ) -> None:
        self._store, self._records, self._shown, self._targets = store, records, shown, tuple(targets)
        self._target_dtype = np.dtype(target_dtype)

    def data(self, row: int) -> Data:
        """The graph in a row."""
        counts, fields = self._records.decoded(row)
        if self._shown.problem_of_one(counts, fields):
            self._store.blame(row, CorruptDataset(STRAY))
        values = _tensors(self._shown.one(counts, fields))
        if self._targets:
            values["y"] = torch.from_numpy(self._y([row]))
        values["id"] = self._store.graph_id(row)
        return make_data(values, self._shown.layout, counts[0])

    def fetch(self, rows: NDArray[np.int64]) -> Fetched:
        """The graphs in these rows, checked and decoded but not expanded yet; read in file order, given in this one."""
        y = self._y(rows) if self._targets else None
        joined = self._records.joined(rows)
        if (place := self._shown.problem(joined)) is not None:
            self._store.blame(int(rows[place]), CorruptDataset(STRAY))
        return Fetched(joined, y, self._store.graph_ids(rows))

    def expand(self, fetched: Fetched, device: torch.device | None = None, *, pin: bool = False) -> Batch:
        """What was fetched as one batch.

        Args:
            fetched: the graphs.
            device: where to expand them, after one copy of their records; None for this process, by numpy.
            pin: whether that copy goes through page-locked memory.
        """
        joined = fetched.joined if device is None else to_device(fetched.joined, device, pin=pin)
        shown, counts = self._shown.many(joined)
        if fetched.y is not None:
            shown["y"] = fetched.y
        values = _tensors(shown)
        if fetched.y is not None and device is not None:
            values["y"] = values["y"].to(device)
        values["id"] = fetched.ids
        return make_batch(values, self._shown.layout, counts, device)

    def single(self, fetched: Fetched) -> list[Data]:
        """What was fetched as single graphs, the same as ``data`` gives."""
        shown, counts = self._shown.many(fetched.joined)
        if fetched.y is not None:
            shown["y"] = fetched.y
        values = _tensors(shown)
        values["id"] = fetched.ids
        return split_batch(values, self._shown.layout, counts)

    def where(self, row: int) -> str:
        """The beginning of a message about a row: dataset, shard, row and id."""
        return self._store.where(row)

    def _y(self, rows: Any) -> NDArray[np.floating[Any]]:
        """(B, T) float32 or float64: the targets, those of a vector label one after another."""
        columns = [self._store.column(name)[rows].reshape(len(rows), -1) for name in self._targets]
        together = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
        return together.astype(self._target_dtype)


def _tensors(values: Mapping[str, Any]) -> Values:
    """Arrays as tensors that own their memory: buffers of records are read-only, and torch warns of those."""
    return {
        name: torch.from_numpy(value if value.flags.writeable else value.copy())
        if isinstance(value, np.ndarray)
        else value
        for name, value in values.items()
    }
