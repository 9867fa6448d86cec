"""Expansion of sites by symmetry operations into all atoms of the cell; a special position is one atom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import StructureError

__all__ = ["Operations", "expand", "strain"]

CLOSEST = 0.5  # A; no two atoms of a crystal are closer (H-H in H2: 0.74)
MERGED = 0.1  # A; images of one site that are closer than this are one atom
EXACT = 1e-6  # fractional; tolerance for two images on the same special position
WRITTEN = 1e-9  # fractional; a written coordinate that is this close to the ideal coordinate is kept unchanged


@dataclass(frozen=True, slots=True)
class Operations:
    """The symmetry operations of a cell: (M, 3, 3) rotations and (M, 3) translations, fractional, identity first."""

    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rotations)


def strain(operations: Operations, lattice: NDArray[np.float64]) -> float:
    """Return the greatest relative change of lengths and angles of a cell by the operations; 0 for a cell that fits."""
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
    """Return all atoms of the cell: the images of the sites under all operations, each position once.

    A site is on a special position if some operations move it by less than 0.1 A, or by no more than the rounding of
    its coordinates. The site then moves to the exact position that these operations leave unchanged, and its images
    there are one atom. All images are wrapped into [0, 1).

    Args:
        sites: (S, 3) fractional coordinates, as written in the file.
        operations: the operations of the group.
        lattice: (3, 3) lattice vectors, A.
        rounding: (S, 3) the greatest error of each coordinate that its written digits allow.

    Returns:
        (N, 3) fractional coordinates of the atoms, site after site, and (N,) the site of each atom.

    Raises:
        StructureError: two images of one site, or of two sites, are too close for two atoms, but are not one atom.
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
    """Refuse two sites on one position.

    It is enough to compare one image of each site with all positions: the operations preserve distances.
    """
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
    """Return (N, M) booleans: whether two positions are equal, up to whole cells."""
    apart = some[:, None] - others[None]
    apart -= np.rint(apart)
    return np.asarray((np.abs(apart) <= EXACT).all(axis=2))
