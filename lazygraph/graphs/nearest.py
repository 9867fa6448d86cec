"""The k-nearest rule: exactly k directed edges per atom, to its closest neighbours within a cutoff."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lazygraph.graphs.compiled import MANY, RULE_NEAREST, CRule
from lazygraph.graphs.neighbors import Search, farther, first_radius
from lazygraph.graphs.pairs import Edges, image_codes
from lazygraph.graphs.parameters import MaxNeighbors
from lazygraph.graphs.rule import ChosenEdges, WithinCutoff

__all__ = ["Nearest", "nearest_edges"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Nearest(WithinCutoff):
    """The k nearest neighbours within a cutoff, directed.

    Args:
        cutoff: A.
        max_neighbors: k.
        boundary: ``<`` or ``<=``: how a distance is compared with the cutoff.
        isolated_atoms: ``error``: an atom without edges is a StructureError.
        lattice_vectors: ``comformer``: the graph carries ComFormer's three lattice vectors.

    Example:
        >>> Nearest(cutoff=8.0, max_neighbors=12)
        lazygraph.graphs.Nearest(cutoff=8.0, max_neighbors=12)
    """

    name: ClassVar[str] = "nearest"

    max_neighbors: MaxNeighbors

    @property
    def most_neighbors(self) -> int:
        """k; edges come by their first atom, then by distance."""
        return self.max_neighbors

    def edges(self, search: Search) -> ChosenEdges:
        """See :func:`nearest_edges`."""
        return ChosenEdges(*nearest_edges(search, self.max_neighbors, self.reach))

    def loop(self) -> CRule:
        """Return the rule as the compiled loops take it."""
        lattice, isolated = self.lattice_vectors == "comformer", self.isolated_atoms == "error"
        k = min(self.max_neighbors, MANY)
        return CRule(kind=RULE_NEAREST, k=k, reach=self.reach, finds_lattice=lattice, none_isolated=isolated)


def nearest_edges(search: Search, max_neighbors: int, reach: float) -> tuple[Edges, NDArray[np.float64]]:
    """Edges from every atom to its k closest neighbours with ``d <= reach`` (A).

    Directed: j among the closest of i says nothing about i among those of j. Neighbours are ordered by distance, then
    neighbour, then image (S_0, S_1, S_2), and the first k are taken: a shell may be cut through. The published codes
    cut it where their search happens to have put it. An atom with fewer neighbours within reach has fewer edges.

    Returns:
        The edges, sorted by (centre, distance, neighbour, image), and their distances, A.

    Raises:
        StructureError: two atoms are closer than 0.15 A, or an image exceeds int16.

    Source: CGCNN's ``CIFData`` (closed boundary) and the graphs of ALIGNN 2026 (open boundary).
    """
    n = len(search.crystal)
    radius = min(first_radius(search, max_neighbors), reach)
    while True:
        i, j, image, distance = search.within(radius)
        counts = np.bincount(i[distance <= radius], minlength=n)
        if radius >= reach or counts.min() >= max_neighbors:
            break
        radius = min(farther(search, radius, counts, max_neighbors), reach)
    within = (distance <= reach).nonzero()[0]
    i, j, image, distance = i.take(within), j.take(within), image.take(within, 0), distance.take(within)
    order = np.lexsort((image_codes(image), j, distance, i))
    i = i.take(order)
    counts = np.bincount(i, minlength=n)
    rank = np.arange(len(i)) - (counts.cumsum() - counts).take(i)
    first = (rank < max_neighbors).nonzero()[0]
    kept = order.take(first)
    edge_index = np.stack((i.take(first), j.take(kept))).astype(np.int32)
    return (edge_index, image.take(kept, 0).astype(np.int16)), distance.take(kept)
