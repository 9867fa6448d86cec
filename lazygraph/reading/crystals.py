"""``Crystals``: the stored fields of one graph or of a whole batch, joined; what every view is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from lazygraph.basis import to_cartesian
from lazygraph.cached import cached_property
from lazygraph.errors import CorruptDataset
from lazygraph.format.joint import Joined
from lazygraph.format.schema import Schema
from lazygraph.graphs.vectors import batch_positions, batch_vectors, components, edge_components, edge_vectors, lengths

__all__ = ["CRYSTAL_FIELDS", "Crystals"]

# docs/format.md, Crystals: name -> type, shape without axis, axis, its place, and what the values count.
_FIELDS: dict[str, tuple[Any, ...]] = {
    "numbers": ("uint8", (), "node", 0, None),
    "lattice": ("float64", (3, 3), None, 0, None),
    "pbc": ("bool", (3,), None, 0, None),
    "frac_coords": ("float64", (3,), "node", 0, None),
    "edge_index": ("int64", (2,), "edge", 1, "node"),
    "images": ("int64", (3,), "edge", 0, None),
    "lattice_images": ("int64", (3, 3), None, 0, None),
}
CRYSTAL_FIELDS = frozenset(_FIELDS)
"""The fields of a crystal's record; any other one is a label of its atoms."""


def check_crystals(schema: Schema) -> None:
    """Refuse a schema that is not that of crystals: what is made of their records relies on it.

    Raises:
        CorruptDataset: a field is missing, or of another kind.
    """
    found = {f.name: (f.dtype, f.shape, f.axis, f.axis_dim, f.counts) for f in schema.fields}
    for name, kind in _FIELDS.items():
        if (name in found or name != "lattice_images") and found.get(name) != kind:
            msg = f"the recipe is one of crystals, and the field {name!r} is {found.get(name)}; required: {kind}"
            raise CorruptDataset(msg)
    if schema.axes != ("node", "edge"):
        msg = f"the recipe is one of crystals, and the axes are {schema.axes}; required: node and edge"
        raise CorruptDataset(msg)
    for label in schema.fields:
        if label.name not in _FIELDS and (label.dtype, label.axis, label.axis_dim) != ("float64", "node", 0):
            msg = f"the recipe is one of crystals, and {label.name!r} is no label of atoms: {label}"
            raise CorruptDataset(msg)


@dataclass(frozen=True)
class Crystals:
    """B crystals with their edges, N atoms and E edges in all; the arrays are numpy's or torch's.

    Derived arrays are computed when first asked for. Not to be changed.

    Attributes:
        n_node: (B,) int64 numpy, atoms of each crystal.
        n_edge: (B,) int64 numpy, edges of each crystal.
        numbers: (N,) atomic numbers.
        frac_coords: (N, 3) float64.
        lattice: (B, 3, 3) float64, rows are the lattice vectors, A.
        pbc: (B, 3) bool.
        edge_index: (2, E) integers, atoms counted through the batch.
        images: (E, 3) integers, the cell of the atom in row 1.
        lattice_images: (B, 3, 3) integers, ComFormer's lattice vectors as images, where the recipe has them.
        atom_labels: name -> (N, ...) float64.
    """

    n_node: NDArray[np.int64]
    n_edge: NDArray[np.int64]
    numbers: Any
    frac_coords: Any
    lattice: Any
    pbc: Any
    edge_index: Any
    images: Any
    lattice_images: Any = None
    atom_labels: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, joined: Joined) -> Crystals:
        """The crystals of records put together."""
        fields = dict(joined.fields)
        named = {name: fields.pop(name) for name in joined.fields if name in CRYSTAL_FIELDS}
        return cls(joined.counts["node"], joined.counts["edge"], **named, atom_labels=fields)

    def as_published(self) -> Crystals:
        """The same crystals with lattices rounded to five decimals, as jarvis-tools makes its vectors of."""
        return replace(self, lattice=array_namespace(self.lattice).round(self.lattice * 1e5) / 1e5)

    def take_edges(self, edges: Any) -> Crystals:
        """The same crystals with their edges in another order, which keeps crystals in their places.

        Args:
            edges: (E,) int64 edge ids.
        """
        xp = array_namespace(self.images)
        return replace(
            self, edge_index=xp.take(self.edge_index, edges, axis=1), images=xp.take(self.images, edges, axis=0)
        )

    @property
    def n_atoms(self) -> int:
        """N."""
        return int(self.numbers.shape[0])

    @cached_property
    def graph_of_atom(self) -> Any:
        """(N,) int64, the crystal of each atom."""
        return self.spread(self.n_node)

    @cached_property
    def graph_of_edge(self) -> Any:
        """(E,) int64, the crystal of each edge."""
        return self.spread(self.n_edge)

    def edges_in(self, edges: Any) -> NDArray[np.int64]:
        """(B,) how many of these edge ids, which ascend, are of each crystal."""
        xp = array_namespace(edges)
        ends = xp.searchsorted(edges, xp.asarray(np.cumsum(self.n_edge), device=device(edges)))
        return np.diff(np.asarray(ends.cpu() if hasattr(ends, "cpu") else ends), prepend=0)

    def spread(self, counts: NDArray[np.int64]) -> Any:
        """(sum of counts,) int64: crystal b repeated ``counts[b]`` times."""
        xp = array_namespace(self.images)
        where = device(self.images)
        return xp.repeat(xp.arange(len(counts), device=where), xp.asarray(counts, device=where))

    @cached_property
    def cart_coords(self) -> Any:
        """(N, 3) float64, A."""
        if len(self.lattice) == 1:
            return to_cartesian(self.frac_coords, self.lattice[0])
        if isinstance(self.frac_coords, np.ndarray):
            return batch_positions(self.frac_coords, self.lattice, self.n_node)
        return components(self.frac_coords.T, self.lattice[self.graph_of_atom]).T

    @cached_property
    def edge_lattice(self) -> Any:
        """The lattice of each edge, (E, 3, 3); (3, 3) where all edges share it."""
        return self.lattice[0] if len(self.lattice) == 1 else self.lattice[self.graph_of_edge]

    @cached_property
    def components(self) -> Any:
        """(3, E) float64, A: the edge vectors from row 0 to row 1, as :mod:`lazygraph.graphs.vectors` states."""
        return edge_components(self.frac_coords, self.edge_lattice, self.edge_index, self.images)

    @cached_property
    def vectors(self) -> Any:
        """(E, 3) float32, A: these vectors in single precision, without -0.0."""
        if len(self.lattice) == 1 or not isinstance(self.images, np.ndarray):
            return edge_vectors(self.frac_coords, self.edge_lattice, self.edge_index, self.images)
        return batch_vectors(self.frac_coords, self.lattice, self.n_edge, self.edge_index, self.images)

    @cached_property
    def distances(self) -> Any:
        """(E,) float64, A: the numbers that the recipe compared; torch's may differ in the last bit."""
        return lengths(self.components)

    @cached_property
    def shifts(self) -> Any:
        """(E, 3) float64, A: the translation of the atom in row 1."""
        return components(self.images.T, self.edge_lattice).T

    @cached_property
    def lattice_vectors(self) -> Any:
        """(B, 3, 3) float64, A: the translations of ``lattice_images``."""
        xp = array_namespace(self.lattice)
        rows = xp.reshape(self.lattice_images, (-1, 3))
        own = xp.repeat(self.lattice, 3, axis=0)
        return xp.reshape(components(rows.T, own).T, (-1, 3, 3)) + 0.0
