"""The k-th-shell rule as the published builders compute it, ``ties="reference"``: bit for bit, without their loops.

ALIGNN, PotNet, Matformer and ComFormer take their neighbours from ``Atoms.get_all_neighbors`` of jarvis-tools and keep
``d <= d_k`` in exact float64. Their edges therefore depend on its arithmetic, which is repeated here for the pairs that
the neighbour search proposes:

- positions are ``frac @ round(L, 5)``, each step rounded once as BLAS multiplies matrices (fused multiply-add), but
  each operation rounded where there is a single atom; translations ``S @ L`` use the lattice as given, image by image,
  each operation rounded; the distance is the length of ``(S L + x_j) - x_i``, so an edge and its reverse may have
  different distances, and one of them may be kept without the other;
- only images in a box around the cell are examined, ``floor(min frac) - m`` to ``ceil(max frac) + m - 1``. The box
  grows with the cutoff, and is too small where coordinates span more than one cell: such neighbours are lost;
- neighbours within 0.15 A are dropped, and cause no error;
- where an atom has fewer than k neighbours, the cutoff becomes the longest lattice vector, or doubles if it was longer.

The images are the published ones. The published edge vectors are ``(frac_j + S - frac_i) @ round(L, 5)``; a graph holds
the crystal as given, so its vectors differ from those by the rounding of the lattice, below 5e-5 A for images within
five cells.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError
from lazygraph.graphs.neighbors import MIN_DISTANCE, Neighbors, Search, farther, first_radius, kth_distances
from lazygraph.graphs.pairs import Pairs, distinct_pairs, image_codes
from lazygraph.graphs.rounding import fused_product
from lazygraph.graphs.vectors import components, lengths

__all__ = ["reference_pairs"]

DECIMALS = 5  # of jarvis' lattice; its lengths have one more


class _Cell(NamedTuple):
    """What jarvis knows of a crystal."""

    crystal: Crystal
    positions: NDArray[np.float64]
    """(3, N) A, with the rounded lattice."""
    reciprocal: NDArray[np.float64]
    """(3,) lengths of the reciprocal lattice vectors, 1/A."""
    longest: float
    """A, of the rounded lattice vectors."""
    slack: float
    """A; a distance by jarvis' arithmetic differs from the true one by less."""


def reference_pairs(
    search: Search,
    max_neighbors: int,
    cutoff: float,
    *,
    duplicates: bool,
    self_images: NDArray[np.float64] | None = None,
    self_cutoff: float | None = None,
) -> Pairs:
    """The pairs of the published builders; arguments as for :func:`lazygraph.graphs.shell.shell_pairs`.

    Args:
        search: what proposes neighbours in a crystal.
        max_neighbors: k.
        cutoff: A, where the published search begins. It changes edges only where coordinates span more than one cell.
        duplicates: keep an atom's own images S and -S as two pairs.
        self_images: (M, 3) whole numbers, lattice edges.
        self_cutoff: A; no lattice edges where the cutoff had to grow beyond it.

    Returns:
        The pairs, sorted.

    Raises:
        StructureError: the crystal does not repeat in all three directions, has no volume after rounding, or an atom
            has fewer than k neighbours within 100 A.

    Source: ``get_all_neighbors`` and ``nearest_neighbor_edges`` of jarvis-tools, ``use_canonize=True``.
    """
    crystal = search.crystal
    (i, j, image, distance), limit, reach = _nearest(search, max_neighbors, cutoff)
    keep = (distance <= limit.take(i)).nonzero()[0]
    i, j, image = i.take(keep), j.take(keep), image.take(keep, 0)
    turned = i > j
    if not duplicates:
        turned |= (i == j) & (image_codes(image) < 0)
    i, j, image = np.minimum(i, j), np.maximum(i, j), np.where(turned[:, None], -image, image)
    if self_images is not None and (self_cutoff is None or reach <= self_cutoff):
        atoms = np.arange(len(crystal)).repeat(len(self_images))
        i, j = np.concatenate((i, atoms)), np.concatenate((j, atoms))
        image = np.concatenate((image, np.tile(self_images, (len(crystal), 1))))
    return distinct_pairs(Pairs(i, j, image), len(crystal))


def _nearest(search: Search, k: int, cutoff: float) -> tuple[Neighbors, NDArray[np.float64], float]:
    """The neighbours that jarvis finds, the distance to each atom's k-th neighbour, (N,) A, and jarvis' last cutoff, A.

    ``reach`` is this cutoff, which determines the box of images. ``radius`` is the distance of the actual search, which
    is enough if it covers every k-th neighbour.
    """
    cell = _as_jarvis(search.crystal)
    n, reach, radius = len(cell.crystal), cutoff, first_radius(search, k)
    everything = _within(cell, radius, search)
    while True:
        seen = _in_box(everything, cell, reach)
        counts = np.bincount(seen.i, minlength=n)
        if counts.min() >= k:
            limit = kth_distances(seen.i, seen.distance, counts, k)
            if limit.max() <= reach:
                return seen, limit, reach
        if counts.min() >= k or radius >= reach:  # an atom has fewer than k neighbours within jarvis' cutoff
            reach = cell.longest if reach < cell.longest else 2 * reach
            continue
        radius = farther(search, radius, counts, k)
        everything = _within(cell, radius, search)


def _as_jarvis(crystal: Crystal) -> _Cell:
    if not all(crystal.pbc):
        msg = (
            f"the structure has pbc={crystal.pbc}, and ties='reference' needs a crystal that is periodic in all "
            "directions, as the published code does. Use ties='shell'"
        )
        raise StructureError(msg)
    rounded = np.around(crystal.lattice, DECIMALS)
    try:
        inverse = np.linalg.inv(rounded)
    except np.linalg.LinAlgError as error:
        msg = (
            f"the lattice rounded to {DECIMALS} decimals is singular; ties='reference' needs a cell that is not. Use "
            "ties='shell'"
        )
        raise StructureError(msg) from error
    spread = crystal.frac_coords.max(axis=0) - crystal.frac_coords.min(axis=0)
    return _Cell(
        crystal,
        fused_product(crystal.frac_coords, rounded).T.copy()
        if len(crystal) > 1
        else components(crystal.frac_coords.T, rounded),
        np.array(_lengths(np.around(2 * np.pi * inverse.T, DECIMALS))),
        max(_lengths(rounded)),
        10.0**-DECIMALS * float(spread.sum()),
    )


def _lengths(lattice: NDArray[np.float64]) -> list[float]:
    return [round(length, DECIMALS + 1) for length in np.sqrt(np.sum(lattice**2, axis=1)).tolist()]


def _within(cell: _Cell, radius: float, search: Search) -> Neighbors:
    """All neighbours within ``radius`` A, by jarvis' distances."""
    i, j, image = search.propose(radius + cell.slack)
    vectors = components(image.T, cell.crystal.lattice)
    vectors += cell.positions.take(j, 1)
    vectors -= cell.positions.take(i, 1)
    distance = lengths(vectors)
    keep = ((distance > MIN_DISTANCE) & (distance <= radius)).nonzero()[0]
    return Neighbors(i.take(keep), j.take(keep), image.take(keep, 0), distance.take(keep))


def _in_box(neighbors: Neighbors, cell: _Cell, reach: float) -> Neighbors:
    """The neighbours whose images jarvis looks at with the cutoff ``reach``."""
    frac, image = cell.crystal.frac_coords, neighbors.image
    margin = np.ceil((reach + MIN_DISTANCE) * cell.reciprocal / (2 * math.pi))
    low = np.floor(frac.min(axis=0)) - margin
    high = np.ceil(frac.max(axis=0)) + margin
    if (image.min(axis=0, initial=0) >= low).all() and (image.max(axis=0, initial=0) < high).all():
        return neighbors
    keep = ((image >= low) & (image < high)).all(axis=1).nonzero()[0]
    i, j, image, distance = neighbors
    return Neighbors(i.take(keep), j.take(keep), image.take(keep, 0), distance.take(keep))
