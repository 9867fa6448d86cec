"""The radius rule: every neighbour within a cutoff."""

from __future__ import annotations

from lazygraph.crystal import Crystal
from lazygraph.graphs.neighbors import search
from lazygraph.graphs.pairs import Pairs, image_codes

__all__ = ["radius_pairs"]


def radius_pairs(crystal: Crystal, cutoff: float, boundary: str) -> Pairs:
    """All pairs with ``d <= cutoff`` (A), or ``d < cutoff`` where the boundary is ``<``; each undirected pair once.

    Raises:
        StructureError: two atoms are closer than 0.15 A.

    Source: radius graphs are closed (``<=``) in pymatgen, matgl and CHGNet, and open (``<``) in matscipy and MACE.
    """
    i, j, image, distance = search(crystal, cutoff)
    within = distance < cutoff if boundary == "<" else distance <= cutoff
    keep = (within & ((i < j) | ((i == j) & (image_codes(image) > 0)))).nonzero()[0]
    return Pairs(i.take(keep), j.take(keep), image.take(keep, 0))
