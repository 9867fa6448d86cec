"""The one neighbour search: a replaceable backend proposes pairs, the stated expression decides how far they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.optimization.neighbors import find_points_in_spheres

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError
from lazygraph.graphs.vectors import edge_distances

__all__ = ["MAX_IMAGE", "MAX_RADIUS", "MIN_DISTANCE", "Neighbors", "search"]

MIN_DISTANCE = 0.15  # A; closer atoms are a mistake in the input (jarvis drops such neighbours without a word)
MAX_RADIUS = 100.0  # A; no search goes farther
MAX_IMAGE = 2**15 - 1  # images are kept as int16
SEARCH_MARGIN = 1e-6  # A; far above what rounding does to a distance, far below what would cost time

_PERIODIC = np.ones(3, dtype=np.int64)


class Neighbors(NamedTuple):
    """Directed neighbour relations i -> j, in no particular order, the atom itself left out."""

    i: NDArray[np.int64]
    """(E,) centres."""
    j: NDArray[np.int64]
    """(E,) neighbours."""
    image: NDArray[np.float64]
    """(E, 3) whole numbers: the cell of j, for coordinates as given. float64, the type that they are computed with."""
    distance: NDArray[np.float64]
    """(E,) A, by :mod:`lazygraph.graphs.vectors`, the same number for a relation and its reverse."""


def search(crystal: Crystal, radius: float) -> Neighbors:
    """All neighbours within ``radius`` A of every atom, and possibly a few a hair beyond it.

    The distances, and so every comparison that a rule makes with them, do not depend on the backend.

    Raises:
        StructureError: two atoms, periodic images included, are closer than 0.15 A, or an image exceeds int16.
    """
    i, j, image = find_pairs(crystal, max(radius, MIN_DISTANCE) + SEARCH_MARGIN)
    distance = edge_distances(crystal.frac_coords, crystal.lattice, (i, j), image)
    apart = (distance >= MIN_DISTANCE).nonzero()[0]
    if len(i) - len(apart) != len(crystal):  # each atom itself is found once, and nothing else may be so near
        raise _too_close(i, j, image, distance)
    if np.abs(image).max() > MAX_IMAGE:
        bad = int(np.abs(image).max(axis=1).argmax())
        msg = (
            f"atom {j[bad]} is a neighbour of atom {i[bad]} in the cell {_cell(image[bad])}; required: cells within "
            f"+-{MAX_IMAGE}. Wrap the fractional coordinates into one cell, or reduce the cell"
        )
        raise StructureError(msg)
    return Neighbors(i.take(apart), j.take(apart), image.take(apart, 0), distance.take(apart))


def find_pairs(crystal: Crystal, radius: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The backend: i (E,), j (E,) and image (E, 3) of all pairs within ``radius`` A, each atom with itself included.

    Any function with this contract may take its place; order and distances are not looked at.
    """
    periodic = _PERIODIC if all(crystal.pbc) else np.array(crystal.pbc, dtype=np.int64)
    cart = crystal.frac_coords @ crystal.lattice
    i, j, image, _ = find_points_in_spheres(cart, cart, radius, periodic, crystal.lattice)
    return i, j, image


def _too_close(
    i: NDArray[np.int64], j: NDArray[np.int64], image: NDArray[np.float64], distance: NDArray[np.float64]
) -> StructureError:
    others = (i != j) | image.any(axis=1)
    nearest = int(np.where(others, distance, np.inf).argmin())
    return StructureError(
        f"atoms {i[nearest]} and {j[nearest]} (in the cell {_cell(image[nearest])}) are {distance[nearest]:.3g} A "
        f"apart; required: at least {MIN_DISTANCE} A"
    )


def _cell(image: NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(image.astype(int).tolist())
