"""The radius rule: every neighbour within a cutoff."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lazygraph.graphs.compiled import RULE_RADIUS, CRule
from lazygraph.graphs.neighbors import Search
from lazygraph.graphs.pairs import Pairs, both_directions, image_codes
from lazygraph.graphs.rule import ChosenEdges, WithinCutoff

__all__ = ["Radius", "radius_pairs"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Radius(WithinCutoff):
    """Every neighbour within a cutoff.

    Args:
        cutoff: A.
        boundary: ``<`` or ``<=``: how a distance is compared with the cutoff.
        isolated_atoms: ``error``: an atom without edges is a StructureError.
        lattice_vectors: ``comformer``: the graph carries ComFormer's three lattice vectors.

    Example:
        >>> Radius(cutoff=5.0)
        lazygraph.graphs.Radius(cutoff=5.0)
    """

    name: ClassVar[str] = "radius"

    @property
    def is_complete(self) -> bool:
        """Every neighbour within the cutoff is there."""
        return True

    def edges(self, search: Search) -> ChosenEdges:
        """See :func:`radius_pairs`; each pair with both its edges."""
        pairs, distances = radius_pairs(search, self.reach)
        return ChosenEdges(both_directions(pairs), distances.repeat(2))

    def loop(self) -> CRule:
        """Return the rule as the compiled loops take it."""
        lattice, isolated = self.lattice_vectors == "comformer", self.isolated_atoms == "error"
        return CRule(kind=RULE_RADIUS, reach=self.reach, finds_lattice=lattice, none_isolated=isolated)


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
