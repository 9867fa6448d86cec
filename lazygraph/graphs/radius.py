"""The radius rule: every neighbour within a cutoff."""

from __future__ import annotations

from lazygraph.crystal import Crystal
from lazygraph.graphs.backends import Backend
from lazygraph.graphs.neighbors import search
from lazygraph.graphs.pairs import Pairs, sort_pairs

__all__ = ["radius_pairs"]


def radius_pairs(crystal: Crystal, cutoff: float, boundary: str, backend: Backend) -> Pairs:
    """All pairs with ``d <= cutoff`` (A), or ``d < cutoff`` where the boundary is ``<``; each undirected pair once.

    Returns:
        The pairs, sorted.

    Raises:
        StructureError: two atoms are closer than 0.15 A, or an image exceeds int16.

    Source: radius graphs are closed (``<=``) in pymatgen, matgl and CHGNet, and open (``<``) in matscipy and MACE.
    """
    i, j, image, distance = search(crystal, cutoff, backend, once=True)
    keep = (distance < cutoff if boundary == "<" else distance <= cutoff).nonzero()[0]
    return sort_pairs(Pairs(i.take(keep), j.take(keep), image.take(keep, 0)), len(crystal))
