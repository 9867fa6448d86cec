"""The k-th-shell rule: per atom, every neighbour up to the distance of the k-th, made symmetric."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError
from lazygraph.graphs.backends import Backend
from lazygraph.graphs.neighbors import GROWTH, MAX_RADIUS, Neighbors, first_radius, search, too_few
from lazygraph.graphs.pairs import Pairs, image_codes, sort_pairs
from lazygraph.graphs.vectors import components, lengths

__all__ = ["shell_pairs"]


def shell_pairs(
    crystal: Crystal,
    max_neighbors: int,
    tolerance: float,
    *,
    backend: Backend,
    duplicates: bool,
    self_images: NDArray[np.float64] | None = None,
    self_cutoff: float | None = None,
) -> Pairs:
    """Pairs i-j where j is no farther from i than the k-th neighbour of i plus the tolerance, or the other way round.

    Args:
        crystal: the crystal.
        max_neighbors: k, which is rather the least number of neighbours: a shell is kept whole.
        tolerance: A, the width within which distances count as one shell.
        backend: the neighbour search.
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
    (i, j, image, distance), limit = _nearest(crystal, max_neighbors, tolerance, backend)
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


def _nearest(crystal: Crystal, k: int, tolerance: float, backend: Backend) -> tuple[Neighbors, NDArray[np.float64]]:
    """Neighbours that cover each atom's k-th shell, and how far that shell reaches: (N,) A, tolerance included."""
    n = len(crystal)
    if n <= k and not any(crystal.pbc):
        msg = f"the structure has {n} atoms and repeats in no direction; required: more than max_neighbors={k} atoms"
        raise StructureError(msg)
    radius = first_radius(crystal, k)
    while True:
        neighbors = search(crystal, radius, backend)
        counts = np.bincount(neighbors.i, minlength=n)
        if counts.min() < k:
            if radius >= MAX_RADIUS:
                too_few(counts, k)
            radius = min(radius * GROWTH, MAX_RADIUS)
            continue
        order = np.lexsort((neighbors.distance, neighbors.i))
        kth = counts.cumsum() - counts + (k - 1)
        limit = neighbors.distance.take(order.take(kth)) + tolerance
        reach = float(limit.max())
        if reach <= radius:
            return neighbors, limit
        radius = reach  # the shell may go on beyond what was searched; this radius covers it
