"""Which arrays a model gets: stored fields -> the tensors of one PyG ``Data``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data

from lazygraph.basis import to_cartesian
from lazygraph.errors import InputError
from lazygraph.format.schema import Schema
from lazygraph.graphs.vectors import edge_vectors

__all__ = ["VIEWS", "GraphData", "as_stored", "batching_of", "crystal_arrays", "make_data", "view_of"]

Arrays = Mapping[str, Any]
View = Callable[[Schema, Arrays], dict[str, Any]]

_CRYSTAL = frozenset(("numbers", "lattice", "pbc", "frac_coords", "edge_index", "images", "lattice_images"))


class GraphData(Data):  # type: ignore[misc]  # PyG is not typed
    """A PyG ``Data`` whose fields are batched as the schema says.

    PyG adds the number of nodes to every key that contains "index" and nothing to any other, which is wrong for ids of
    edges (triplets, line graphs), and joins along the last dimension what it adds to, along the first what it does not.

    Args:
        batching: field -> what the next graph's values are raised by, and the dimension along which they are joined.
    """

    def __init__(self, batching: dict[str, tuple[int, int]] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__dict__["_lazygraph_batching"] = batching or {}

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """What the next graph's values of this field are raised by."""
        batching = self.__dict__.get("_lazygraph_batching", {})
        return batching[key][0] if key in batching else super().__inc__(key, value, *args, **kwargs)

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """The dimension along which this field is joined."""
        batching = self.__dict__.get("_lazygraph_batching", {})
        return batching[key][1] if key in batching else super().__cat_dim__(key, value, *args, **kwargs)


def batching_of(schema: Schema) -> dict[str, tuple[str | None, int]]:
    """What each field counts and where its axis stands, for the fields that PyG would batch in another way."""
    out = {}
    for field in schema.fields:
        by_name = "index" in field.name or field.name == "face"
        dim = len(field.shape) if by_name and field.axis is not None else 0
        if field.dtype != "str" and (field.counts, field.axis_dim) != ("node" if by_name else None, dim):
            out[field.name] = (field.counts, field.axis_dim)
    return out


def crystal_arrays(arrays: Arrays) -> dict[str, Any]:
    """The numpy arrays of view ``pyg`` of one crystal; per-atom labels follow under their own names, float32."""
    lattice, frac = arrays["lattice"], arrays["frac_coords"]
    edge_index, images = arrays["edge_index"], arrays["images"]
    rows = frac
    if "lattice_images" in arrays:
        rows = np.concatenate((frac, arrays["lattice_images"]))  # translations are coordinates too: one pass for both
    cart = to_cartesian(rows, lattice).astype(np.float32)
    n = len(frac)
    out = {
        "x": arrays["numbers"].astype(np.int64)[:, None],
        "pos": cart[:n],
        "edge_index": edge_index,
        "edge_attr": edge_vectors(frac, lattice, edge_index, images),
        "images": images,
        "cell": lattice.astype(np.float32)[None],
    }
    if len(cart) > n:
        out["lattice_vectors"] = cart[None, n:]
    for name, value in arrays.items():
        if name not in _CRYSTAL:
            out[name] = value.astype(np.float32)
    return out


def pyg(schema: Schema, arrays: Arrays) -> dict[str, Any]:
    """The default view: what most PyG models read.

    ``x`` (N, 1) int64 atomic numbers, ``pos`` (N, 3) float32 A, ``edge_index`` (2, E) int64, ``edge_attr`` (E, 3)
    float32 vectors from row 0 to row 1, A, ``images`` (E, 3) int64, ``cell`` (1, 3, 3) float32 A, ``lattice_vectors``
    (1, 3, 3) float32 A where the recipe has them, and per-atom labels under their names, float32.
    """
    del schema
    return {name: _tensor(value) for name, value in crystal_arrays(arrays).items()}


def as_stored(schema: Schema, arrays: Arrays) -> dict[str, Any]:
    """The fields of a dataset of ready-made graphs, with their own names, types and shapes."""
    del schema
    return {name: value if isinstance(value, str) else _tensor(value) for name, value in arrays.items()}


def make_data(values: Mapping[str, Any], batching: dict[str, tuple[int, int]] | None = None) -> Data:
    """A PyG ``Data`` of these values; with ``batching``, one that batches those fields so (see ``GraphData``)."""
    data = GraphData(batching) if batching else Data()
    # Data(**values) sets one attribute after another, 19 us for eight of them; their storage takes all in 1 us.
    data._store._mapping.update(values)  # noqa: SLF001
    return data


VIEWS: dict[str, View] = {"pyg": pyg}


def view_of(name: str, *, crystals: bool) -> View:
    """The view with this name; ready-made graphs are always given as they were stored.

    Raises:
        InputError: there is no such view.
    """
    if name not in VIEWS:
        msg = f"found the view {name!r}; the views are {', '.join(map(repr, VIEWS))}"
        raise InputError(msg)
    return VIEWS[name] if crystals else as_stored


def _tensor(array: Any) -> torch.Tensor:
    """A tensor that owns its memory: buffers of records are read-only, and torch warns of those."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())
