"""One crystal with its edges, as a recipe builds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lazygraph.cached import cached_property
from lazygraph.crystal import Crystal
from lazygraph.errors import RecipeError
from lazygraph.graphs.angles import bond_graph, line_graph, triplets
from lazygraph.graphs.vectors import components, edge_distances, edge_vectors

if TYPE_CHECKING:
    from torch_geometric.data import Data

__all__ = ["CrystalGraph"]


class CrystalGraph:
    """A crystal and its directed edges. Vectors and distances are computed at their first use.

    It owns the arrays of edges, and shares the arrays of the crystal. It is picklable. Do not change the arrays,
    because computed arrays would not change with them.

    Attributes:
        crystal: the crystal.
        edge_index: (2, E) int32, atoms. Row 0 is the centre, row 1 the neighbour.
        images: (E, 3) int16, the cell of the neighbour; it refers to the coordinates of ``crystal``, which are not
            wrapped.
        lattice_images: (3, 3) int16, ComFormer's three lattice vectors as images; None if the recipe has no lattice
            vectors.
    """

    def __init__(
        self,
        crystal: Crystal,
        edge_index: NDArray[np.int32],
        images: NDArray[np.int16],
        lattice_images: NDArray[np.int16] | None = None,
    ) -> None:
        self.crystal = crystal
        self.edge_index = edge_index
        self.images = images
        self.lattice_images = lattice_images

    @property
    def numbers(self) -> NDArray[np.uint8]:
        """The atomic numbers, (N,) uint8."""
        return self.crystal.numbers

    @property
    def frac_coords(self) -> NDArray[np.float64]:
        """The fractional coordinates, (N, 3) float64."""
        return self.crystal.frac_coords

    @property
    def lattice(self) -> NDArray[np.float64]:
        """The lattice vectors as rows, (3, 3) float64, A."""
        return self.crystal.lattice

    @property
    def n_atoms(self) -> int:
        """The number N of atoms."""
        return len(self.crystal)

    @property
    def n_edges(self) -> int:
        """The number E of directed edges; both directions of an edge count."""
        return len(self.images)

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors from the centre to the neighbour, (E, 3) float32, A; see :mod:`lazygraph.graphs.vectors`."""
        vectors: NDArray[np.float32] = edge_vectors(self.frac_coords, self.lattice, self.edge_index, self.images)
        return vectors

    @cached_property
    def distances(self) -> NDArray[np.float64]:
        """The lengths of the edges, (E,) float64, A; the same numbers that the rule compared."""
        distances: NDArray[np.float64] = edge_distances(self.frac_coords, self.lattice, self.edge_index, self.images)
        return distances

    @property
    def lattice_vectors(self) -> NDArray[np.float64] | None:
        """The translations of ``lattice_images``, (3, 3) float64, A; None if the recipe has no lattice vectors."""
        if self.lattice_images is None:
            return None
        vectors: NDArray[np.float64] = components(self.lattice_images.T, self.lattice).T + 0.0
        return vectors

    def triplets(self, cutoff: float) -> NDArray[np.int32]:
        """Return the ordered pairs of edges with the same centre, (2, T), sorted by row 0, then row 1.

        Args:
            cutoff: greatest length of both edges, A.
        """
        pairs: NDArray[np.int32] = triplets(self.edge_index, self.n_atoms, self.distances <= cutoff)
        return pairs

    def line_graph(self, cutoff: float | None = None) -> NDArray[np.int32]:
        """Return the pairs of edges in which the second starts where the first ends, (2, T), as DGL makes them.

        The pairs are sorted by row 0, then row 1.

        Args:
            cutoff: greatest length of both edges, A; None for no limit.
        """
        kept = None if cutoff is None else self.distances <= cutoff
        pairs: NDArray[np.int32] = line_graph(self.edge_index, self.n_atoms, kept)
        return pairs

    def bond_graph(self, cutoff: float) -> NDArray[np.int32]:
        """Return CHGNet's bond graph, (T, 5); see :func:`lazygraph.graphs.angles.bond_graph`.

        Args:
            cutoff: the bond cutoff, A.

        Raises:
            RecipeError: the edges do not come in pairs, because the rule is ``nearest``.
        """
        if not np.array_equal(self.edge_index[:, ::2], self.edge_index[::-1, 1::2]):
            raise RecipeError("a bond graph needs edges that come in pairs; use the rule 'radius' or 'shell'")
        rows: NDArray[np.int32] = bond_graph(self.edge_index, self.n_atoms, self.distances, cutoff)
        return rows

    def to_data(self) -> Data:
        """Return the graph as ``torch_geometric.data.Data``.

        Returns:
            ``x`` (N, 1) int64 atomic numbers, ``pos`` (N, 3) float32 A, ``edge_index`` (2, E) int64, ``edge_attr``
            (E, 3) float32 vectors A, ``images`` (E, 3) int64, ``cell`` (1, 3, 3) float32 A, and ``lattice_vectors``
            (1, 3, 3) float32 A if the recipe has them.
        """
        import torch
        from torch_geometric.data import Data

        data = Data(
            x=torch.from_numpy(self.numbers.astype(np.int64)[:, None]),
            pos=torch.from_numpy(self.crystal.cart_coords.astype(np.float32)),
            edge_index=torch.from_numpy(self.edge_index.astype(np.int64)),
            edge_attr=torch.from_numpy(self.vectors.copy()),
            images=torch.from_numpy(self.images.astype(np.int64)),
            cell=torch.from_numpy(self.lattice.astype(np.float32)[None]),
        )
        if self.lattice_vectors is not None:
            data.lattice_vectors = torch.from_numpy(self.lattice_vectors.astype(np.float32)[None])
        return data

    def __repr__(self) -> str:
        return f"CrystalGraph({self.crystal.formula}, n_atoms={self.n_atoms}, n_edges={self.n_edges})"
