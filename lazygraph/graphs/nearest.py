"""The k-nearest rule: exactly k directed edges per atom, to its closest neighbours within a cutoff."""

from __future__ import annotations

import numpy as np

from lazygraph.crystal import Crystal
from lazygraph.graphs.backends import Backend
from lazygraph.graphs.neighbors import GROWTH, first_radius, search
from lazygraph.graphs.pairs import Edges, image_codes

__all__ = ["nearest_edges"]


def nearest_edges(crystal: Crystal, max_neighbors: int, cutoff: float, boundary: str, backend: Backend) -> Edges:
    """Edges from every atom to its k closest neighbours with ``d <= cutoff`` (A), or ``d < cutoff`` for ``<``.

    Directed: j among the closest of i says nothing about i among those of j. Neighbours are ordered by distance, then
    neighbour, then image (S_0, S_1, S_2), and the first k are taken: a shell may be cut through. The published codes
    cut it where their search happens to have put it. An atom with fewer neighbours within the cutoff has fewer edges.

    Returns:
        The edges, sorted by (centre, distance, neighbour, image).

    Raises:
        StructureError: two atoms are closer than 0.15 A, or an image exceeds int16.

    Source: CGCNN's ``CIFData`` (closed boundary) and the graphs of ALIGNN 2026 (open boundary).
    """
    n = len(crystal)
    radius = min(first_radius(crystal, max_neighbors), cutoff)
    while True:
        i, j, image, distance = search(crystal, radius, backend)
        counts = np.bincount(i[distance <= radius], minlength=n)
        if radius >= cutoff or counts.min() >= max_neighbors:
            break
        radius = min(radius * GROWTH, cutoff)
    within = (distance < cutoff if boundary == "<" else distance <= cutoff).nonzero()[0]
    i, j, image, distance = i.take(within), j.take(within), image.take(within, 0), distance.take(within)
    order = np.lexsort((image_codes(image), j, distance, i))
    i = i.take(order)
    counts = np.bincount(i, minlength=n)
    rank = np.arange(len(i)) - (counts.cumsum() - counts).take(i)
    first = (rank < max_neighbors).nonzero()[0]
    kept = order.take(first)
    edge_index = np.stack((i.take(first), j.take(kept))).astype(np.int32)
    return edge_index, image.take(kept, 0).astype(np.int16)
