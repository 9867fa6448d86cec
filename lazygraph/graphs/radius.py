"""The radius rule: every neighbour within a cutoff."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lazygraph.graphs.neighbors import Search
from lazygraph.graphs.pairs import Pairs, image_codes

__all__ = ["radius_pairs"]


def radius_pairs(search: Search, reach: float) -> tuple[Pairs, NDArray[np.float64]]:
    """All pairs with ``d <= reach`` (A), each undirected pair once.

    Returns:
        The pairs, sorted, and their distances, A.

    Raises:
        StructureError: two atoms are closer than 0.15 A, or an image exceeds int16.

    Source: radius graphs are closed (``<=``) in pymatgen, matgl and CHGNet, and open (``<``) in matscipy and MACE.
    """
    i, j, image, distance = search.within(reach, once=True)
    keep = (distance <= reach).nonzero()[0]
    i, j, image, distance = i.take(keep), j.take(keep), image.take(keep, 0), distance.take(keep)
    order = np.lexsort((image_codes(image), i * len(search.crystal) + j))
    return Pairs(i.take(order), j.take(order), image.take(order, 0)), distance.take(order)
