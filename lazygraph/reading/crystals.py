"""The class ``Crystals``: the stored fields of a batch of graphs, from which every view is computed."""

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
from lazygraph.format.record_batch import RecordBatch
from lazygraph.graphs.crystal_records import (
    CRYSTAL_FIELDS,
    UNORDERED,
    UNPAIRED,
    Untrue,
    odd_edges,
    too_many_neighbors,
)
from lazygraph.graphs.edge_order import by_first_atom
from lazygraph.graphs.vectors import (
    EDGE_LENGTHS,
    EDGE_SHIFTS,
    EDGE_VECTORS,
    EdgesOfBatch,
    batch_positions,
    batch_values,
    components,
    edge_components,
    lengths,
)
from lazygraph.machine import memory_limit
from lazygraph.native import address, kernels
from lazygraph.native.arrays import empty

__all__ = ["AnglesDiffer", "Crystals", "cast"]

ANGLE_BYTES = 16  # at least, of two ids
ANY_NUMBER = 0.0, math.inf


class AnglesDiffer(Exception):
    """The number of angles of some crystals differs from the dataset's column."""


@dataclass(frozen=True)
class Crystals:
    """B crystals with N atoms and E edges in total, as arrays of numpy or torch.

    Derived arrays are computed at their first access. The arrays must not be changed.

    Attributes:
        n_node: (B,) int64 numpy, atoms of each crystal.
        n_edge: (B,) int64 numpy, edges of each crystal.
        numbers: (N,) atomic numbers.
        frac_coords: (N, 3) float64.
        lattice: (B, 3, 3) float64, rows are the lattice vectors, A.
        pbc: (B, 3) bool.
        edge_index: (2, E) integers, with atoms numbered through the batch.
        images: (E, 3) integers, the cell of the atom in row 1.
        lattice_images: (B, 3, 3) integers, ComFormer's lattice vectors as images; only if the recipe has them.
        atom_labels: name -> (N, ...) float64 or float32, as they came.
        angles: the smallest and the greatest number of angles that the crystals may have.
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
    def of(cls, records: RecordBatch, n_angles: NDArray[Any] | None = None) -> Crystals:
        """Create crystals from a batch of records; records of crystals alone give no edges.

        Args:
            records: the records.
            n_angles: (B,) the number of angles of each crystal in the dataset's column; None without such a column.
        """
        fields = dict(records.fields)
        named = {name: fields.pop(name) for name in records.fields if name in CRYSTAL_FIELDS}
        n_node = records.counts["node"]
        if "edge" not in records.counts:  # crystals alone
            xp, where = array_namespace(named["numbers"]), device(named["numbers"])
            named["edge_index"] = xp.zeros((2, 0), dtype=xp.int32, device=where)
            named["images"] = xp.zeros((0, 3), dtype=xp.int16, device=where)
        # As a float, which does not wrap where a column holds 2^63.
        angles = ANY_NUMBER if n_angles is None else (total := float(n_angles.sum(dtype=np.float64)), total)
        n_edge = records.counts.get("edge", np.zeros_like(n_node))
        return cls(n_node, n_edge, **named, atom_labels=fields, angles=angles)

    def check_angles(self, found: int) -> None:
        """Compare the number of angles with the dataset's column, before allocating memory for them.

        Raises:
            AnglesDiffer: the numbers differ.
            NotEnoughMemory: the angles do not fit into memory.
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
        """Refuse atoms with more neighbours than the recipe allows.

        Args:
            degree: (N,) number of edges from each atom.
            most: greatest allowed number.

        Raises:
            Untrue: an atom has more.
        """
        xp = array_namespace(degree)
        if self.n_atoms and int(xp.max(degree)) > most:
            atom = int(xp.argmax(degree))
            crystal = int(np.searchsorted(self.n_node.cumsum(), atom, side="right"))
            raise Untrue(crystal, too_many_neighbors(int(degree[atom]), most))

    def check_order(self) -> None:
        """Refuse edges that are not sorted by their first atom.

        Raises:
            Untrue: the edges of a crystal are not sorted; the error names the crystal.
        """
        xp, centre = array_namespace(self.images), self.edge_index[0]
        descending = centre[1:] < centre[:-1]
        if bool(xp.any(descending)):
            edge = int(xp.argmax(xp.astype(descending, xp.int8)))
            crystal = int(np.searchsorted(self.n_edge.cumsum(), edge, side="right"))
            raise Untrue(crystal, UNORDERED)

    def check_pairs(self) -> None:
        """Refuse edges that are not pairs of an edge and its reverse.

        Raises:
            Untrue: a crystal has an unpaired edge; the error names the crystal.
        """
        if (odd := self.n_edge % 2).any():
            crystal = int(odd.argmax())
            raise Untrue(crystal, odd_edges(int(self.n_edge[crystal])))
        library = kernels() if isinstance(self.images, np.ndarray) else None
        if library is not None and self.edge_index.dtype == np.int32 and self.images.dtype.kind == "i":
            ends, images = np.ascontiguousarray(self.edge_index), np.ascontiguousarray(self.images)
            edge = int(library.lg_unpaired(address(ends), len(images), address(images), images.itemsize))
            if edge >= 0:
                raise Untrue(int(np.searchsorted(self.n_edge.cumsum(), edge, side="right")), UNPAIRED)
            return
        xp = array_namespace(self.images)
        there, back = self.edge_index[:, ::2], self.edge_index[:, 1::2]
        same = (there[0] == back[1]) & (there[1] == back[0])
        if not bool(xp.all(same)) or not bool(xp.all(self.images[::2] == -self.images[1::2])):
            same &= xp.all(self.images[::2] == -self.images[1::2], axis=1)
            edge = 2 * int(xp.argmin(xp.astype(same, xp.int8)))
            crystal = int(np.searchsorted(self.n_edge.cumsum(), edge, side="right"))
            raise Untrue(crystal, UNPAIRED)

    def as_published(self) -> Crystals:
        """Return the crystals with lattices rounded to five decimals, from which jarvis-tools computes its vectors."""
        return replace(self, lattice=array_namespace(self.lattice).round(self.lattice * 1e5) / 1e5)

    def by_first_atom(self) -> Crystals:
        """Return the crystals with edges sorted by their first atom, in their order where that is the same."""
        ends, images = by_first_atom(self.edge_index, self.images, self.n_atoms)
        return self if ends is self.edge_index else replace(self, edge_index=ends, images=images)

    @property
    def n_atoms(self) -> int:
        """The number of atoms N."""
        return int(self.numbers.shape[0])

    @cached_property
    def graph_of_atom(self) -> Any:
        """The index of the crystal of each atom, (N,) int64."""
        return self.spread(self.n_node)

    @cached_property
    def graph_of_edge(self) -> Any:
        """The index of the crystal of each edge, (E,) int64."""
        return self.spread(self.n_edge)

    def edges_in(self, edges: Any) -> NDArray[np.int64]:
        """Count how many of these ascending edge indices belong to each crystal, (B,)."""
        xp = array_namespace(edges)
        ends = xp.searchsorted(edges, xp.asarray(np.cumsum(self.n_edge), device=device(edges)))
        return np.diff(np.asarray(ends.cpu() if hasattr(ends, "cpu") else ends), prepend=0)

    def spread(self, counts: NDArray[np.int64]) -> Any:
        """Return each crystal index b repeated ``counts[b]`` times, as int64."""
        xp = array_namespace(self.images)
        where = device(self.images)
        return xp.repeat(xp.arange(len(counts), device=where), xp.asarray(counts, device=where))

    def positions(self, dtype: str = "float64") -> Any:
        """Return the Cartesian coordinates, (N, 3), A, computed in float64 and rounded once to ``dtype``."""
        if len(self.lattice) == 1:
            out = to_cartesian(self.frac_coords, self.lattice[0])
        elif isinstance(self.frac_coords, np.ndarray):
            return batch_positions(self.frac_coords, self.lattice, self.n_node, dtype)
        else:
            out = components(self.frac_coords.T, self.lattice[self.graph_of_atom]).T
        return cast(out, dtype)

    @cached_property
    def edge_lattice(self) -> Any:
        """The lattice of each edge, (E, 3, 3); (3, 3) if all edges share one lattice."""
        return self.lattice[0] if len(self.lattice) == 1 else self.lattice[self.graph_of_edge]

    def vectors(self, dtype: str = "float32") -> Any:
        """Return the edge vectors from row 0 to row 1, (E, 3), A, computed in float64 and rounded once to ``dtype``.

        See :mod:`lazygraph.graphs.vectors`.
        """
        if isinstance(self.images, np.ndarray):
            return batch_values(EDGE_VECTORS, self._edges, dtype)
        return _rows(edge_components(self.frac_coords, self.edge_lattice, self.edge_index, self.images), dtype)

    def shifts(self, dtype: str = "float64") -> Any:
        """Return the translation of the atom in row 1 of each edge, (E, 3), A, rounded once to ``dtype``."""
        if isinstance(self.images, np.ndarray):
            return batch_values(EDGE_SHIFTS, self._edges, dtype)
        return _rows(components(self.images.T, self.edge_lattice), dtype)

    @cached_property
    def distances(self) -> Any:
        """The lengths of the edges that the recipe compared, (E,) float64, A; with torch the last bit may differ."""
        if isinstance(self.images, np.ndarray):
            return batch_values(EDGE_LENGTHS, self._edges)
        return lengths(edge_components(self.frac_coords, self.edge_lattice, self.edge_index, self.images))

    @property
    def _edges(self) -> EdgesOfBatch:
        return EdgesOfBatch(self.frac_coords, self.lattice, self.n_node, self.n_edge, self.edge_index, self.images)

    @cached_property
    def lattice_vectors(self) -> Any:
        """The translations of ``lattice_images``, (B, 3, 3) float64, A."""
        xp = array_namespace(self.lattice)
        rows = xp.reshape(self.lattice_images, (-1, 3))
        own = xp.repeat(self.lattice, 3, axis=0)
        return xp.reshape(components(rows.T, own).T, (-1, 3, 3)) + 0.0


def _rows(values: Any, dtype: str) -> Any:
    """Components (3, E) of torch as C-contiguous rows (E, 3) without -0.0."""
    rows = cast(values.T, dtype).contiguous()
    rows += 0.0
    return rows


def cast(array: Any, dtype: str) -> Any:
    """Convert an array of numpy or torch to a type by name; no copy if it has this type."""
    if not isinstance(array, np.ndarray):
        xp = array_namespace(array)
        return xp.astype(array, getattr(xp, dtype), copy=False)
    if array.dtype == dtype:
        return array
    out = empty(array.shape, dtype)
    np.copyto(out, array, casting="unsafe")
    return out
