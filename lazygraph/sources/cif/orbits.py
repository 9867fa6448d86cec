"""Expansion of sites by symmetry operations into all atoms of the cell; a special position is one atom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import StructureError

__all__ = ["Operations", "expand", "strain"]

CLOSEST = 0.5  # A; no two atoms of a crystal are closer (H-H in H2: 0.74)
MERGED = 0.1  # A; closer images of one site are always one atom
EXACT = 1e-6  # fractional; how well operations that belong together agree on their common position
WRITTEN = 1e-9  # fractional; a coordinate that is this close to the ideal one stays as it is written


@dataclass(frozen=True, slots=True)
class Operations:
    """The symmetry operations of a cell: (M, 3, 3) rotations and (M, 3) translations, fractional, identity first."""

    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rotations)


def strain(operations: Operations, lattice: NDArray[np.float64]) -> float:
    """Return the relative change of lengths and angles of a cell by the operations; 0 if they leave it as it is."""
    metric = lattice @ lattice.T
    rotated = np.swapaxes(operations.rotations, 1, 2) @ metric @ operations.rotations
    lengths = np.sqrt(np.diag(metric))
    return float((np.abs(rotated - metric) / np.outer(lengths, lengths)).max()) / 2


def expand(
    sites: NDArray[np.float64],
    operations: Operations,
    lattice: NDArray[np.float64],
    rounding: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return (N, 3) images of (S, 3) sites under all operations, each position once, and (N,) the site of each.

    A site is on a special position if some operations move it by less than 0.1 A, or by no more than the rounding of
    its coordinates. It is moved to the position that these operations leave in place, and is one atom there. All images
    are wrapped into [0, 1), site after site.

    Args:
        sites: fractional coordinates, as they are written.
        operations: the group.
        lattice: (3, 3) lattice vectors, A.
        rounding: (S, 3) how far each coordinate may be from the exact one, for the digits that it has.

    Raises:
        StructureError: two images of a site, or of two sites, are closer than two atoms can be, and are not one atom.
    """
    rotations, translations = operations.rotations, operations.translations
    images = np.einsum("mij,sj->smi", rotations, sites) + translations
    apart = images - sites[:, None]
    cells = np.rint(apart)
    apart -= cells
    distances = _lengths(apart, lattice)
    close = distances < CLOSEST
    kept = []
    for s, site in enumerate(sites):
        stays = close[s]
        if np.count_nonzero(stays) == 1:  # the identity alone
            kept.append(images[s])
            continue
        explained = np.abs(rotations) @ rounding[s] + rounding[s] + WRITTEN
        one = (distances[s] < MERGED) | (np.abs(apart[s]) <= explained).all(axis=1)
        ideal = (images[s] - cells[s])[stays].mean(axis=0)
        ideal = np.where(np.abs(ideal - site) <= WRITTEN, site, ideal)
        moved = rotations @ ideal + translations
        if not one[stays].all() or np.abs(moved - cells[s] - ideal)[stays].max() > EXACT:
            msg = (
                f"site {s} has an image of itself {distances[s, stays].max():.2f} A away, which is neither a special "
                f"position nor another atom; images of a site must lie on one position, or {CLOSEST} A apart"
            )
            raise StructureError(msg)
        images[s] = moved
        same = _same(moved, moved)
        kept.append(moved[same.argmax(axis=1) == np.arange(len(moved))])
    positions = np.concatenate(kept)
    positions = positions - np.floor(positions)
    of_site = np.repeat(np.arange(len(sites)), [len(k) for k in kept])
    _require_apart(images[:, 0], positions, of_site, lattice)
    return positions, of_site


def _require_apart(
    sites: NDArray[np.float64], positions: NDArray[np.float64], of_site: NDArray[np.intp], lattice: NDArray[np.float64]
) -> None:
    """Refuse two sites on one position. One image of each site is enough, because its other images are as far apart."""
    for s, site in enumerate(sites):
        apart = positions - site
        distances = _lengths(apart - np.rint(apart), lattice)
        distances[of_site == s] = np.inf
        closest = int(distances.argmin())
        if distances[closest] < CLOSEST:
            msg = (
                f"symmetry puts sites {s} and {of_site[closest]} {distances[closest]:.2f} A from one another; each "
                f"position must hold one whole atom, and atoms must be at least {CLOSEST} A apart"
            )
            raise StructureError(msg)


def _lengths(vectors: NDArray[np.float64], lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(vectors @ lattice, axis=-1))


def _same(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (N, M) whether two positions agree up to whole cells."""
    apart = some[:, None] - others[None]
    apart -= np.rint(apart)
    return np.asarray((np.abs(apart) <= EXACT).all(axis=2))
