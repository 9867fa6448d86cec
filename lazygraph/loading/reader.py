"""The class ``Reader``, which turns rows of a dataset into PyG's ``Data`` and ``Batch``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn, Protocol

# Both now: a child forked while a thread imports them, at its first read, would wait for that for ever.
import array_api_compat.numpy
import array_api_compat.torch  # noqa: F401
import numpy as np
import torch
from array_api_compat import array_namespace
from numpy.typing import NDArray
from torch_geometric.data import Batch, Data

from lazygraph.errors import CorruptDataset, InputError, LabelError
from lazygraph.format.record_batch import RecordBatch
from lazygraph.format.schema import Schema
from lazygraph.format.store import Store
from lazygraph.graphs.crystal_records import CRYSTAL_FIELDS, Untrue, check_crystals, check_record_batch
from lazygraph.graphs.presets import PRESETS
from lazygraph.graphs.spec import GraphSpec
from lazygraph.loading.device_copy import to_device
from lazygraph.loading.device_edges import CrystalsForDevice
from lazygraph.loading.graph_data import layout_of, make_batch, make_data, split_batch
from lazygraph.reading.augment import AugmentationCounts
from lazygraph.reading.batch_layout import BatchLayout
from lazygraph.reading.crystals import AnglesDiffer, Crystals
from lazygraph.reading.derived import most_angles
from lazygraph.reading.rebuild import RebuiltRecords
from lazygraph.reading.views.base import EDGE, NODE, Arrays, View

__all__ = ["Fetched", "Read", "Reader", "StoredPresenter", "ViewPresenter"]

_OF_EVERY_GRAPH = ("y", "id", "num_nodes", "batch", "ptr")  # what PyG and the reader add to a view's arrays
Values = dict[str, Any]
Rows = dict[str, NDArray[np.int64]]
"""Axis -> (B,) rows of each graph."""


class Records(Protocol):
    """A source of records: a store, or a store whose crystals get other edges, now or on their device."""

    def read_batch(self, rows: NDArray[np.int64]) -> RecordBatch:
        """Return one or several records in one batch."""


class Presenter(Protocol):
    """The conversion of records into the arrays that a user sees."""

    layout: BatchLayout

    derived: str | None
    """The column with numbers that follow from the records, and that ``single`` and ``batch`` compare with them."""

    def check(self, records: RecordBatch) -> None:
        """Check what the arrays rely on; raise Untrue if a record violates it."""

    def single(self, records: RecordBatch, said: NDArray[Any] | None) -> Values:
        """Return the arrays of one graph from a batch of its record; ``said`` is (1,) of the column."""

    def batch(self, records: RecordBatch, said: NDArray[Any] | None) -> tuple[Values, Rows]:
        """Return the arrays of several graphs from their record batch; ``said`` is (B,) of the column."""


class ViewPresenter:
    """The conversion of crystals through a view. Per-atom labels keep their own names.

    Args:
        view: the view.
        spec: the recipe of the graphs.
        schema: the schema of their records.
    """

    def __init__(self, view: View, spec: GraphSpec, schema: Schema) -> None:
        view.check(spec)
        if view.needs_edges and not spec.rule.has_edges:
            raise view.mismatch(spec, "no edges", view.name if view.name in PRESETS else "comformer")
        check_crystals(schema, spec)
        self._view, self._spec = view, spec
        atom_labels = [name for name in schema.names if name not in CRYSTAL_FIELDS]
        if taken := sorted({*view.layout, *_OF_EVERY_GRAPH} & set(atom_labels)):
            name = taken[0]
            msg = f"the name of the atom label {name!r} is that of an array of the view {view.name!r}; use another view"
            raise LabelError(msg)
        self.layout = BatchLayout({**view.layout, **dict.fromkeys(atom_labels, NODE)})
        self.derived = None if spec.angles is None else "n_triplets"

    def check(self, records: RecordBatch) -> None:
        """Check that every edge ends at atoms of its own crystal, and that every atom has an element."""
        check_record_batch(records)

    def single(self, records: RecordBatch, said: NDArray[Any] | None) -> Values:
        """Return the arrays of a batch of one."""
        return self.batch(records, said)[0]

    def batch(self, records: RecordBatch, said: NDArray[Any] | None) -> tuple[Values, Rows]:
        """Return the arrays of all graphs at once."""
        crystals = Crystals.of(records, said)
        try:
            made = self._view.arrays(crystals, self._spec)
            if said is not None and (made.rows.get("angle", said) != said).any():
                raise AnglesDiffer  # noqa: TRY301  # from one crystal to another
        except AnglesDiffer:
            made = self._without_said(crystals, said)
        labels = {name: self._view.real(value) for name, value in crystals.atom_labels.items()}
        return {**made.values, **labels}, {"node": crystals.n_node, "edge": crystals.n_edge, **made.rows}

    def _without_said(self, crystals: Crystals, said: Any) -> Arrays:
        """Return the arrays if an edge is so close to a cutoff that the arithmetic of the model decides differently.

        Raises:
            Untrue: the column contradicts the records.
            InputError: the coordinates are so large that single precision moves edges.
        """
        allowed = 0.0, most_angles(crystals, self._spec, said)
        try:
            return self._view.arrays(replace(crystals, angles=allowed), self._spec)
        except AnglesDiffer:
            msg = (
                f"the view {self._view.name!r} in {self._view.dtype} finds other edges within its cutoff than the "
                "recipe, because coordinates are very large; use dtype='float64', or wrap the atoms into their cell"
            )
            raise InputError(msg) from None


class StoredPresenter:
    """The conversion of ready-made graphs: fields keep names, types and shapes, and are collated as in PyG."""

    derived: str | None = None

    def __init__(self, schema: Schema) -> None:
        self.layout = layout_of(schema)
        self._fields = [field for field in schema.fields if field.name in self.layout]

    def check(self, records: RecordBatch) -> None:
        """Check nothing: ready-made graphs may hold any numbers."""

    def single(self, records: RecordBatch, said: Any) -> Values:  # noqa: ARG002
        """Return the fields."""
        values: Values = {}
        for field in self._fields:
            value = records.fields[field.name]
            if field.dtype == "str":
                values[field.name] = value[0]
            else:
                value = value.astype(field.dtype, copy=False)
                values[field.name] = value.reshape(field.shape) if field.axis is None else value
        return values

    def batch(self, records: RecordBatch, said: Any) -> tuple[Values, Rows]:  # noqa: ARG002
        """Return the fields; fields with one row per graph are concatenated."""
        values = {}
        for field in self._fields:
            value = records.fields[field.name]
            if field.dtype != "str":
                xp = array_namespace(value)
                value = xp.astype(value, getattr(xp, field.dtype), copy=False)
                if field.axis is None and field.shape:
                    value = value.reshape(-1, *field.shape[1:])
            values[field.name] = value
        return values, records.counts


class Fetched(NamedTuple):
    """A batch in compact form for other processes: narrow types in one buffer, a tenth of the final size."""

    rows: NDArray[np.int64]
    """(B,) where they stand in their dataset."""
    records: RecordBatch
    y: NDArray[np.floating[Any]] | None
    """(B, T) targets, float32 or float64."""
    ids: list[str]
    augmented: AugmentationCounts | None = None
    """What became of the crystals, if they are augmented."""


class Read(NamedTuple):
    """The records of some rows, checked and decoded, with what belongs to them."""

    records: RecordBatch
    y: NDArray[np.floating[Any]] | None
    """(B, T) targets, float32 or float64."""
    augmented: AugmentationCounts | None
    """What became of the crystals, if they are augmented."""


class Reader:
    """A reader of rows that builds graphs. Picklable; safe in threads and under fork, like the store.

    If the records are augmented, reading needs the seeds of the graphs.

    Args:
        store: the dataset.
        records: the source of its records.
        presenter: converts records into arrays.
        targets: the label columns that become ``y``, in this order.
        target_dtype: type of ``y``, ``float32`` or ``float64``.
        augmented: the records, if they are augmented before their edges are built.

    Attributes:
        store: the dataset.
        schema: what the records hold.
    """

    _for_device: CrystalsForDevice | None = None

    def __init__(
        self,
        store: Store,
        records: Records,
        presenter: Presenter,
        targets: Sequence[str],
        target_dtype: str = "float32",
        *,
        augmented: RebuiltRecords | None = None,
    ) -> None:
        self._augmented = augmented
        self._for_device = records if isinstance(records, CrystalsForDevice) else None
        self.store, self._records, self._presenter, self._targets = store, records, presenter, tuple(targets)
        self._target_dtype = np.dtype(target_dtype)
        self.schema: Schema = getattr(records, "schema", store.manifest.schema)
        # Graphs that are built from the stored crystals may have columns of their own.
        columns = store.manifest.columns
        stored = dict(zip(columns, columns, strict=True))
        sizes = records.sizes if isinstance(records, (RebuiltRecords, CrystalsForDevice)) else stored
        self._derived = None if presenter.derived is None else sizes.get(presenter.derived)

    def data(self, row: int, seeds: NDArray[np.uint64] | None = None) -> Data:
        """Return the graph in a row; ``seeds`` (1,) is needed if graphs are augmented."""
        rows = np.array([row], np.int64)
        records, y, _ = self.read(rows, seeds)
        try:
            arrays = self._presenter.single(self._with_edges(records, rows), self._said(rows))
        except Untrue as error:
            self._raise_corrupt(row, error)
        ids = self._ids(rows)
        values = _tensors(arrays | self._of_graphs(Fetched(rows, records, y, ids)))
        values["id"] = ids[0]
        return make_data(values, self._presenter.layout, int(next(iter(records.counts.values()))[0]))

    def fetch(self, rows: NDArray[np.int64], seeds: NDArray[np.uint64] | None = None) -> Fetched:
        """Read, check and decode the graphs in these rows, in file order, without expanding them.

        Args:
            rows: (B,) rows of the dataset.
            seeds: (B,) seeds of the augmentation; needed if graphs are augmented.
        """
        records, y, counts = self.read(rows, seeds)
        return Fetched(rows, records, y, self._ids(rows), counts)

    def read(self, rows: NDArray[np.int64], seeds: NDArray[np.uint64] | None) -> Read:
        """Read, check and decode the records of these rows, with their targets."""
        records, labels, counts = self.read_labelled(rows, seeds, self._targets)
        return Read(records, self._y(labels, len(rows)), counts)

    def read_labelled(
        self, rows: NDArray[np.int64], seeds: NDArray[np.uint64] | None, names: Sequence[str]
    ) -> tuple[RecordBatch, dict[str, NDArray[Any]], AugmentationCounts | None]:
        """Read, check and decode the records of these rows, with some labels, which an augmentation may change.

        Args:
            rows: (B,) rows of the dataset.
            seeds: (B,) seeds of the augmentation; needed if graphs are augmented.
            names: labels of the crystals.
        """
        labels = {name: self.store.column(name)[rows] for name in names}
        counts = None
        if self._augmented is None:
            records = self._records.read_batch(rows)
        else:
            if seeds is None:
                msg = "augmented graphs are read with seeds"
                raise ValueError(msg)
            made = self._augmented.read_augmented(rows, seeds, labels)
            records, labels, counts = made.records, dict(made.labels), made.counts
        try:
            self._presenter.check(records)
        except Untrue as error:
            self._raise_corrupt(int(rows[error.crystal]), error)
        return records, labels, counts

    def expand(
        self,
        fetched: Fetched,
        device: torch.device | None = None,
        *,
        pin: bool = False,
        masks: Mapping[str, NDArray[np.bool_]] = MappingProxyType({}),
    ) -> Batch:
        """Expand fetched graphs into one batch.

        Args:
            fetched: the graphs.
            device: the device to expand on, after one copy of the records; None expands with numpy in this process.
            pin: whether the copy uses page-locked memory.
            masks: ``node_mask``, ``edge_mask`` and ``graph_mask`` of padded graphs.
        """
        records = fetched.records if device is None else to_device(fetched.records, device, pin=pin)
        arrays, counts = self._batch_arrays(records, fetched.rows)
        values = _tensors(arrays)
        of_graphs = _tensors(self._of_graphs(fetched))
        values |= of_graphs if device is None else {name: value.to(device) for name, value in of_graphs.items()}
        values["id"] = fetched.ids
        layout = self._presenter.layout
        if masks:
            there = {name: torch.from_numpy(mask) for name, mask in masks.items()}
            values |= there if device is None else {name: mask.to(device) for name, mask in there.items()}
            layout = BatchLayout({**layout, "node_mask": NODE, "edge_mask": EDGE}, nodes_told=layout.nodes_told)
        return make_batch(values, layout, counts, device)

    def single(self, fetched: Fetched) -> list[Data]:
        """Expand fetched graphs into single graphs, equal to those of ``data``."""
        arrays, counts = self._batch_arrays(fetched.records, fetched.rows)
        values = _tensors(arrays | self._of_graphs(fetched))
        values["id"] = fetched.ids
        return split_batch(values, self._presenter.layout, counts)

    def _batch_arrays(self, records: RecordBatch, rows: NDArray[np.int64]) -> tuple[Values, Rows]:
        """Return the arrays of the graphs in these rows."""
        try:
            return self._presenter.batch(self._with_edges(records, rows), self._said(rows))
        except Untrue as error:
            self._raise_corrupt(int(rows[error.crystal]), error)

    def _with_edges(self, records: RecordBatch, rows: NDArray[np.int64]) -> RecordBatch:
        """Return records with the edges that are built on their device; the same records if they have edges."""
        return records if self._for_device is None else self._for_device.with_edges(records, rows)

    def where(self, row: int) -> str:
        """Return the start of a message about a row: dataset, shard, row and id."""
        return self.store.where(row)

    # ---- what a reader of several datasets does otherwise ----

    def _raise_corrupt(self, row: int, error: Untrue) -> NoReturn:
        """Raise what is wrong with the record of a row, with dataset, shard, row and id."""
        self.store.raise_corrupt(row, CorruptDataset(error.problem))

    def _ids(self, rows: NDArray[np.int64]) -> list[str]:
        return self.store.graph_ids(rows)

    def _of_graphs(self, fetched: Fetched) -> Values:
        """Return the arrays beside those of the records, with one row per graph."""
        return {} if fetched.y is None else {"y": fetched.y}

    def _said(self, rows: NDArray[np.int64]) -> Any:
        """Return the column (B,) that follows from the records of these rows; None if the dataset has none."""
        name = self._derived
        return None if name is None else self.store.column(name)[rows]

    def _y(self, labels: Mapping[str, NDArray[Any]], n: int) -> NDArray[np.floating[Any]] | None:
        """Return the targets, (B, T) float32 or float64; components of a vector label are consecutive."""
        if not self._targets:
            return None
        columns = [labels[name].reshape(n, -1) for name in self._targets]
        together = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
        return together.astype(self._target_dtype)


def _tensors(values: Mapping[str, Any]) -> Values:
    """Convert arrays to tensors that own their memory, because torch warns of the read-only buffers of records."""
    return {
        name: torch.from_numpy(value if value.flags.writeable else value.copy())
        if isinstance(value, np.ndarray)
        else value
        for name, value in values.items()
    }
