"""PyG's ``Data`` and ``Batch``, built from a layout that says how each field is collated.

PyG guesses from the name of a field how to collate it. It adds the number of nodes to every name that contains "index",
and joins these fields along the last dimension; all others along the first. This is wrong for indices of edges
(triplets, line graphs). A layout states it instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Batch, Data

from lazygraph.format.schema import Field, Schema
from lazygraph.loading.pyg_internals import NODE_KEYS, empty_batch, set_batch, set_values
from lazygraph.reading.batch_layout import BatchField, BatchLayout

__all__ = ["GraphData", "layout_of", "make_batch", "make_data", "split_batch"]


_NAMES = BatchLayout({})  # leaves everything to PyG


class GraphData(Data):  # type: ignore[misc]  # PyG is not typed
    """A PyG ``Data`` whose fields are collated by a layout, also after it was taken from a batch.

    Args:
        layout: how each field is collated. PyG decides for fields that it does not name.
    """

    def __init__(self, layout: BatchLayout = _NAMES, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__dict__["_lazygraph_layout"] = layout

    def stores_as(self, data: Data) -> GraphData:
        """Copy the layout. PyG calls this when it makes a batch of graphs, or a graph of a batch."""
        self.__dict__["_lazygraph_layout"] = data.__dict__["_lazygraph_layout"]
        return self

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the offset that PyG adds to this field of the next graph."""
        layout = self.__dict__["_lazygraph_layout"]
        if key not in layout:
            return super().__inc__(key, value, *args, **kwargs)
        counts = layout[key].counts
        if isinstance(counts, tuple):
            # In the values' own type, or PyG would widen them.
            return torch.tensor([self._rows(axis) for axis in counts], dtype=value.dtype)
        return 0 if counts is None else self._rows(counts)

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the dimension along which PyG joins this field."""
        layout = self.__dict__["_lazygraph_layout"]
        return layout[key].dim if key in layout else super().__cat_dim__(key, value, *args, **kwargs)

    def _rows(self, axis: str) -> int:
        """Return the number of rows of an axis."""
        if axis == "node":
            return int(self.num_nodes)
        layout: BatchLayout = self.__dict__["_lazygraph_layout"]
        return next(int(self[name].size(place.dim)) for name, place in layout.items() if place.axis == axis)


def layout_of(schema: Schema) -> BatchLayout:
    """Return the layout of ready-made graphs: the layout of their records, but ``num_nodes`` is an int as in PyG."""
    fields = [field for field in schema.fields if field.name != "num_nodes"]
    places = {field.name: BatchField(field.axis, _dim(field), field.counts) for field in fields}
    # PyG counts the rows of the first field that has one of these names, or else of the first whose name holds "node".
    of_nodes = [field for field in fields if field.dtype != "str" and field.name in NODE_KEYS]
    of_nodes += [field for field in fields if field.dtype != "str" and "node" in field.name]
    told = len(fields) == len(schema.fields) and bool(of_nodes) and of_nodes[0].axis == "node"
    return BatchLayout(places, nodes_told=told)


def _dim(field: Field) -> int | None:
    if field.axis is None and not field.shape:
        return None
    # PyG joins an index along its last dimension, which it calls -1.
    by_index = "index" in field.name or field.name == "face"
    return -1 if by_index and field.axis_dim == len(field.shape) else field.axis_dim


def make_data(values: dict[str, Any], layout: BatchLayout, n_nodes: int) -> Data:
    """Build one graph.

    Args:
        values: name -> tensor, text or number.
        layout: how each field is collated.
        n_nodes: number of nodes N; needed if PyG cannot derive it.
    """
    data = Data() if layout.usual else GraphData(layout)
    if not layout.nodes_told:
        values["num_nodes"] = n_nodes
    set_values(data, values)
    return data


def make_batch(
    values: Mapping[str, Any],
    layout: BatchLayout,
    rows: Mapping[str, NDArray[np.int64]],
    device: torch.device | None = None,
) -> Batch:
    """Build the batch that ``Batch.from_data_list`` would make, from values that are already collated.

    Args:
        values: name -> tensor of the whole batch with shifted indices, or a list with one object per graph.
        layout: how each field is collated.
        rows: axis -> (B,) number of rows of each graph; the first axis is the node axis.
        device: the device of the values; None for the CPU.
    """
    nodes = next(iter(rows))
    n = len(rows[nodes])
    graphs, zeros = _of_every_batch(n)
    starts = {axis: _starts(counts) for axis, counts in rows.items()}
    tensors = {axis: torch.from_numpy(start) for axis, start in starts.items()}
    slices: dict[str, Any] = {}
    raised: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            place = layout[name]
            if place.axis is not None:
                slices[name] = tensors[place.axis]
            else:
                each = value.size(0) // n
                slices[name] = graphs if each == 1 else graphs * each
            raised[name] = zeros if place.counts is None else _raised(place.counts, starts, value.dtype)
        else:
            slices[name], raised[name] = graphs, None
    batch = empty_batch(Data if layout.usual else GraphData)
    if not layout.usual:
        batch.__dict__["_lazygraph_layout"] = layout
    joined = dict(values)
    if not layout.nodes_told:
        joined["num_nodes"] = int(starts[nodes][-1])
    # By numpy: torch would use threads for it, which hangs in a process forked from one that has used them.
    batch_of, ptr = torch.from_numpy(np.arange(n).repeat(rows[nodes])), tensors[nodes]
    joined["batch"], joined["ptr"] = (batch_of, ptr) if device is None else (batch_of.to(device), ptr.to(device))
    n_nodes = None if layout.nodes_told else rows[nodes].tolist()
    set_batch(batch, joined, slices=slices, increments=raised, n_graphs=n, n_nodes=n_nodes)
    return batch


def split_batch(values: Mapping[str, Any], layout: BatchLayout, rows: Mapping[str, NDArray[np.int64]]) -> list[Data]:
    """Split collated values into single graphs; the arguments are those of :func:`make_batch`, on the CPU.

    The tensors are views of the collated tensors. This is several times as fast as reading each graph.
    """
    n_node = next(iter(rows.values())).tolist()
    columns = []
    for name, value in values.items():
        place = layout[name]
        if not isinstance(value, torch.Tensor):
            columns.append(value)
            continue
        own = value if place.counts is None else torch.from_numpy(_lowered(value.numpy(), place, rows))
        if place.dim is None:
            columns.append(own.unbind())
        elif place.axis is None:
            columns.append(torch.split(own, own.size(0) // len(n_node)))
        else:
            columns.append(torch.split(own, rows[place.axis].tolist(), place.dim))
    names = list(values)
    return [
        make_data(dict(zip(names, graph, strict=True)), layout, n) for n, *graph in zip(n_node, *columns, strict=True)
    ]


def _lowered(value: NDArray[Any], place: BatchField, rows: Mapping[str, NDArray[np.int64]]) -> NDArray[Any]:
    """Shift indices back to the numbering of their own graph, with numpy for the reason given in ``make_batch``."""
    counted = place.counts if isinstance(place.counts, tuple) else (str(place.counts),)
    dim = (place.dim or 0) % value.ndim
    moved = np.moveaxis(value, dim, 0)
    first = next(iter(rows.values()))
    of_each = np.full(len(first), len(moved) // len(first)) if place.axis is None else rows[place.axis]
    raised = [(np.cumsum(rows[axis]) - rows[axis]).repeat(of_each) for axis in counted]
    by_row = np.stack(raised, axis=1).astype(value.dtype)  # (M, 1), or (M, k) for k columns with axes of their own
    shape = (len(by_row), *(1,) * (value.ndim - 2), by_row.shape[1])
    lowered = moved - by_row.reshape(shape) if value.ndim > 1 else value - by_row[:, 0]
    return np.ascontiguousarray(np.moveaxis(lowered, 0, dim))


@lru_cache(maxsize=8)
def _of_every_batch(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 0 to n as (n + 1,) int64, and n zeros as (n,) int64."""
    return torch.from_numpy(np.arange(n + 1)), torch.from_numpy(np.zeros(n, np.int64))


def _raised(counts: str | tuple[str, ...], starts: Mapping[str, NDArray[np.int64]], dtype: torch.dtype) -> torch.Tensor:
    """Return the offsets that were added to the indices of each graph, (B,) or (B, k)."""
    if isinstance(counts, tuple):
        return torch.from_numpy(np.stack([starts[axis][:-1] for axis in counts], axis=1)).to(dtype)
    return torch.from_numpy(starts[counts][:-1])


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first row of each graph and the end, (B + 1,) int64."""
    starts = np.zeros(len(counts) + 1, dtype=np.int64)
    counts.cumsum(out=starts[1:])
    return starts
