"""The k-th-shell rule: per atom, every neighbour up to the distance of the k-th, made symmetric."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import StructureError
from lazygraph.graphs.neighbors import Neighbors, Search, farther, first_radius, kth_distances
from lazygraph.graphs.pairs import Pairs, image_codes, sort_pairs
from lazygraph.graphs.vectors import components, lengths

__all__ = ["shell_pairs"]


def shell_pairs(
    search: Search,
    max_neighbors: int,
    tolerance: float,
    *,
    duplicates: bool,
    self_images: NDArray[np.float64] | None = None,
    self_cutoff: float | None = None,
) -> Pairs:
    """Pairs i-j where j is no farther from i than the k-th neighbour of i plus the tolerance, or the other way round.

    Args:
        search: the neighbours in a crystal.
        max_neighbors: k, which is rather the least number of neighbours: a shell is kept whole.
        tolerance: A, the width within which distances count as one shell.
        duplicates: keep an atom's own images S and -S as two pairs, so that each of the two edges appears twice, as
            the published builders of the jarvis family do; else one pair.
        self_images: (M, 3) whole numbers, lattice edges: images of every atom that are joined to it in any case; for
            recipes that keep duplicates.
        self_cutoff: A; where the k-th neighbour of any atom is farther (by more than the tolerance), there are no
            lattice edges: Matformer's published builder forgets them when it enlarges its cutoff.

    Returns:
        The pairs, sorted.

    Raises:
        StructureError: an atom has fewer than k neighbours within 100 A, or two atoms are closer than 0.15 A.

    Source: ``nearest_neighbor_edges`` of jarvis-tools (canonized), with a tolerance where it compares exactly. Its
    ``cutoff`` only sets where its search begins.
    """
    crystal = search.crystal
    (i, j, image, distance), limit = _nearest(search, max_neighbors, tolerance)
    # A relation and its reverse have one distance, so one of them is enough to see both atoms' wishes.
    wanted = distance <= np.maximum(limit.take(i), limit.take(j))
    once = i <= j if duplicates else (i < j) | ((i == j) & (image_codes(image) > 0))
    keep = (wanted & once).nonzero()[0]
    i, j, image = i.take(keep), j.take(keep), image.take(keep, 0)
    if self_images is not None and (self_cutoff is None or limit.max() <= self_cutoff + 2 * tolerance):
        far = lengths(components(self_images.T, crystal.lattice))
        which, atom = (far[:, None] > limit).nonzero()  # the nearer ones are there already
        i, j = np.concatenate((i, atom)), np.concatenate((j, atom))
        image = np.concatenate((image, self_images.take(which, 0)))
    return sort_pairs(Pairs(i, j, image), len(crystal))


def _nearest(search: Search, k: int, tolerance: float) -> tuple[Neighbors, NDArray[np.float64]]:
    """Neighbours that cover each atom's k-th shell, and how far that shell reaches: (N,) A, tolerance included."""
    crystal = search.crystal
    n = len(crystal)
    if n <= k and not any(crystal.pbc):
        msg = f"the structure has {n} atoms and repeats in no direction; required: more than max_neighbors={k} atoms"
        raise StructureError(msg)
    radius = first_radius(search, k)
    while True:
        neighbors = search.within(radius)
        counts = np.bincount(neighbors.i, minlength=n)
        if counts.min() < k:
            radius = farther(search, radius, counts, k)
            continue
        limit = kth_distances(neighbors.i, neighbors.distance, counts, k) + tolerance
        reach = float(limit.max())
        if reach <= radius:
            return neighbors, limit
        radius = reach  # the shell may go on beyond what was searched; this radius covers it
