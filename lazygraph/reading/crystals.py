"""``Crystals``: the stored fields of one graph or of a whole batch, joined; what every view is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from lazygraph.cached import cached_property
from lazygraph.coordinates import to_cartesian
from lazygraph.errors import NotEnoughMemory
from lazygraph.format.record_batch import Joined
from lazygraph.graphs.crystal_records import (
    CRYSTAL_FIELDS,
    UNORDERED,
    UNPAIRED,
    Untrue,
    odd_edges,
    too_many_neighbors,
)
from lazygraph.graphs.vectors import batch_positions, batch_vectors, components, edge_components, edge_vectors, lengths
from lazygraph.machine import memory_limit

__all__ = ["AnglesDiffer", "Crystals"]

ANGLE_BYTES = 16  # at least, of two ids
ANY_NUMBER = 0.0, math.inf


class AnglesDiffer(Exception):
    """There are other angles than the dataset says, of some of several crystals."""


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
        angles: the least and the greatest number of angles that they may have.
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
    angles: tuple[float, float] = ANY_NUMBER

    @classmethod
    def of(cls, joined: Joined, n_angles: NDArray[Any] | None = None) -> Crystals:
        """The crystals of records put together.

        Args:
            joined: the records.
            n_angles: (B,) how many angles each has, as its dataset says; None where nothing says it.
        """
        fields = dict(joined.fields)
        named = {name: fields.pop(name) for name in joined.fields if name in CRYSTAL_FIELDS}
        # As a float, which does not wrap where a column holds 2^63.
        angles = ANY_NUMBER if n_angles is None else (total := float(n_angles.sum(dtype=np.float64)), total)
        return cls(joined.counts["node"], joined.counts["edge"], **named, atom_labels=fields, angles=angles)

    def check_angles(self, found: int) -> None:
        """Compare the number of angles with what the dataset says, before memory is taken for them.

        Raises:
            AnglesDiffer: it says another one.
            NotEnoughMemory: there is no room for them.
        """
        least, most = self.angles
        if not least <= found <= most:
            raise AnglesDiffer
        if ANGLE_BYTES * found > memory_limit():
            msg = (
                f"{len(self.n_node)} graphs have {found} angles, which take more than the "
                f"{memory_limit() / 2**30:.3g} GiB that this process may use. Read fewer graphs at a time"
            )
            raise NotEnoughMemory(msg)

    def check_neighbors(self, degree: Any, most: int) -> None:
        """Refuse atoms with more neighbours than their recipe lets them have.

        Args:
            degree: (N,) the number of edges from each atom.
            most: how many there may be.

        Raises:
            Untrue: an atom has more.
        """
        xp = array_namespace(degree)
        if self.n_atoms and int(xp.max(degree)) > most:
            atom = int(xp.argmax(degree))
            crystal = int(np.searchsorted(self.n_node.cumsum(), atom, side="right"))
            raise Untrue(crystal, too_many_neighbors(int(degree[atom]), most))

    def check_order(self) -> None:
        """Refuse edges that do not come by their first atom.

        Raises:
            Untrue: they do not; it says of which crystal.
        """
        xp, centre = array_namespace(self.images), self.edge_index[0]
        descending = centre[1:] < centre[:-1]
        if bool(xp.any(descending)):
            edge = int(xp.argmax(xp.astype(descending, xp.int8)))
            crystal = int(np.searchsorted(self.n_edge.cumsum(), edge, side="right"))
            raise Untrue(crystal, UNORDERED)

    def check_pairs(self) -> None:
        """Refuse edges of which each second one is not the reverse of the one before it.

        Raises:
            Untrue: they are not so; it says of which crystal.
        """
        if (odd := self.n_edge % 2).any():
            crystal = int(odd.argmax())
            raise Untrue(crystal, odd_edges(int(self.n_edge[crystal])))
        xp = array_namespace(self.images)
        there, back = self.edge_index[:, ::2], self.edge_index[:, 1::2]
        same = (there[0] == back[1]) & (there[1] == back[0])
        if not bool(xp.all(same)) or not bool(xp.all(self.images[::2] == -self.images[1::2])):
            same &= xp.all(self.images[::2] == -self.images[1::2], axis=1)
            edge = 2 * int(xp.argmin(xp.astype(same, xp.int8)))
            crystal = int(np.searchsorted(self.n_edge.cumsum(), edge, side="right"))
            raise Untrue(crystal, UNPAIRED)

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
