"""Fingerprints of crystals: distances to the nearest atoms, which do not depend on the choice of the cell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, StructureError
from lazygraph.graphs.neighbors import MAX_RADIUS
from lazygraph.graphs.spec import GraphSpec, graph

__all__ = ["DISPLACEMENT", "LENGTH", "STRAIN", "Tolerance", "fingerprint"]

STRAIN = 0.02
DISPLACEMENT = 0.02
NEIGHBORS = 24  # of all elements together
STATISTICS = 3
LENGTH = STATISTICS * NEIGHBORS  # numbers of a fingerprint
ROUNDING = 1e-5  # far above what single precision does to a number, far below any tolerance


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two crystals may differ that count as one structure, up to their volume.

    Two crystals are within the tolerance if one becomes the other by a change of its cell, a permutation of its atoms,
    a rotation or reflection, a strain, a change of volume, and a displacement of each atom.

    Attributes:
        strain: the greatest relative change of a length.
        displacement: the greatest displacement of an atom, as a fraction of the cube root of the volume per atom (which
            is the unit of pymatgen's ``stol``).

    Raises:
        InputError: the strain is not from 0 to 0.5, or the displacement not from 0 to 1.
    """

    strain: float = STRAIN
    displacement: float = DISPLACEMENT

    def __post_init__(self) -> None:
        if not (0 <= self.strain <= 0.5 and 0 <= self.displacement <= 1):
            msg = (
                f"found the strain {self.strain} and the displacement {self.displacement}; required: a strain from 0 "
                "to 0.5, and a displacement from 0 to 1"
            )
            raise InputError(msg)

    def reach(self, numbers: NDArray[np.floating]) -> NDArray[np.float64]:
        """The greatest numbers that fingerprints within the tolerance may have instead of these.

        A strain changes every distance, and the cube root of the volume, by a factor from 1 - strain to 1 + strain. A
        displacement of all atoms by d changes the distance to the k-th nearest atom by at most 2 d. Both bounds hold
        for means, least and greatest distances as well (Widdowson and others, "Average minimum distances of periodic
        point sets", MATCH Commun. Math. Comput. Chem. 87 (2022) 529).
        """
        factor = (1 + self.strain) / (1 - self.strain) * (1 + ROUNDING)
        out: NDArray[np.float64] = np.asarray(numbers, np.float64) * factor + (2 * self.displacement + ROUNDING)
        return out


def fingerprint(crystal: Crystal) -> NDArray[np.float32]:
    """Return 72 numbers that are the same for all cells of a crystal.

    For each of its E elements, in the order of their atomic numbers, these are the mean, the least and the greatest
    distance of the atoms of that element to their nearest, second nearest, ..., ``24 // E``-th nearest atoms, in units
    of the cube root of the volume per atom. What is left are zeros.

    Args:
        crystal: periodic in three directions.

    Returns:
        (72,) float32.

    Raises:
        StructureError: two atoms are closer than 0.15 A, or an atom has too few neighbours within 100 A.
    """
    elements, of_atom = np.unique(crystal.numbers, return_inverse=True)
    elements = elements[:NEIGHBORS]
    k = NEIGHBORS // len(elements)
    distances = _recipe(k).build(crystal).distances
    if len(distances) < len(crystal) * k:
        msg = f"an atom has fewer than {k} neighbours within {MAX_RADIUS:g} A"
        raise StructureError(msg)
    nearest = distances.reshape(len(crystal), k) / (crystal.volume / len(crystal)) ** (1 / 3)
    out = np.zeros((len(elements), STATISTICS, k), np.float32)
    for number in range(len(elements)):
        mine = nearest[of_atom == number]
        out[number] = mine.mean(axis=0), mine.min(axis=0), mine.max(axis=0)
    return np.concatenate([out.reshape(-1), np.zeros(LENGTH - out.size, np.float32)])


@cache
def _recipe(k: int) -> GraphSpec:
    """The recipe of graphs with the k nearest neighbours of each atom."""
    return graph("nearest", cutoff=MAX_RADIUS, max_neighbors=k)
