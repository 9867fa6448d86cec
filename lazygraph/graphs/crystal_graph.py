"""One crystal with its edges: what a recipe builds."""

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
    """A crystal and its directed edges. Vectors and distances are computed when first asked for.

    Owns its arrays and shares the crystal's; picklable. Not to be changed: the computed arrays would not follow.

    Attributes:
        crystal: the crystal.
        edge_index: (2, E) int32, atoms: row 0 the centre, row 1 the neighbour.
        images: (E, 3) int16, the cell of the neighbour, for coordinates as given.
        lattice_images: (3, 3) int16, the three lattice vectors as images, where the recipe has them, else None.
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
        """(N,) uint8 atomic numbers."""
        return self.crystal.numbers

    @property
    def frac_coords(self) -> NDArray[np.float64]:
        """(N, 3) float64 fractional coordinates."""
        return self.crystal.frac_coords

    @property
    def lattice(self) -> NDArray[np.float64]:
        """(3, 3) float64, rows are the lattice vectors, A."""
        return self.crystal.lattice

    @property
    def n_atoms(self) -> int:
        """N."""
        return len(self.crystal)

    @property
    def n_edges(self) -> int:
        """E, both directions counted."""
        return len(self.images)

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """(E, 3) float32, A, from the centre to the neighbour, as :mod:`lazygraph.graphs.vectors` states."""
        vectors: NDArray[np.float32] = edge_vectors(self.frac_coords, self.lattice, self.edge_index, self.images)
        return vectors

    @cached_property
    def distances(self) -> NDArray[np.float64]:
        """(E,) float64, A: the numbers that the rule compared."""
        distances: NDArray[np.float64] = edge_distances(self.frac_coords, self.lattice, self.edge_index, self.images)
        return distances

    @property
    def lattice_vectors(self) -> NDArray[np.float64] | None:
        """(3, 3) float64, A: the translations of ``lattice_images``, where the recipe has them, else None."""
        if self.lattice_images is None:
            return None
        vectors: NDArray[np.float64] = components(self.lattice_images.T, self.lattice).T + 0.0
        return vectors

    def triplets(self, cutoff: float) -> NDArray[np.int32]:
        """(2, T) ordered pairs of edges with one centre, both within ``cutoff`` A; sorted by row 0, then row 1."""
        pairs: NDArray[np.int32] = triplets(self.edge_index, self.n_atoms, self.distances <= cutoff)
        return pairs

    def line_graph(self, cutoff: float | None = None) -> NDArray[np.int32]:
        """(2, T) pairs of edges, the second starting where the first ends, as DGL makes them; sorted as triplets are.

        Args:
            cutoff: A; only edges within it take part, if given.
        """
        kept = None if cutoff is None else self.distances <= cutoff
        pairs: NDArray[np.int32] = line_graph(self.edge_index, self.n_atoms, kept)
        return pairs

    def bond_graph(self, cutoff: float) -> NDArray[np.int32]:
        """(T, 5) CHGNet's bond graph, see :func:`lazygraph.graphs.angles.bond_graph`.

        Raises:
            RecipeError: the edges do not come in pairs, for the recipe is that of directed neighbours.
        """
        if not np.array_equal(self.edge_index[:, ::2], self.edge_index[::-1, 1::2]):
            raise RecipeError("found directed edges; required for a bond graph: the rule radius or shell")
        rows: NDArray[np.int32] = bond_graph(self.edge_index, self.n_atoms, self.distances, cutoff)
        return rows

    def to_data(self) -> Data:
        """The graph as ``torch_geometric.data.Data``.

        Returns:
            ``x`` (N, 1) int64 atomic numbers, ``pos`` (N, 3) float32 A, ``edge_index`` (2, E) int64, ``edge_attr``
            (E, 3) float32 vectors A, ``images`` (E, 3) int64, ``cell`` (1, 3, 3) float32 A, and ``lattice_vectors``
            (1, 3, 3) float32 A where the recipe has them.
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
