"""The one neighbour search: a replaceable backend proposes pairs, the stated expression decides how far they are."""

from __future__ import annotations

import math
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError
from lazygraph.graphs.backends import Backend, Found
from lazygraph.graphs.pairs import image_codes
from lazygraph.graphs.vectors import edge_distances

__all__ = [
    "GROWTH",
    "MAX_IMAGE",
    "MAX_RADIUS",
    "MIN_DISTANCE",
    "Neighbors",
    "first_radius",
    "propose",
    "search",
    "too_few",
]

MIN_DISTANCE = 0.15  # A; closer atoms are a mistake in the input (jarvis drops such neighbours without a word)
MAX_RADIUS = 100.0  # A; no search goes farther
MAX_IMAGE = 2**15 - 1  # images are kept as int16
SEARCH_MARGIN = 1e-6  # A; far above what rounding does to a distance, far below what would cost time
GUESS = 1.14  # first radius over that of the sphere that holds an atom and k others at the mean density
GROWTH = 1.3  # of the radius where that was not enough (1 in 30 crystals at k = 12): about twice the volume


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


def search(crystal: Crystal, radius: float, backend: Backend, *, once: bool = False) -> Neighbors:
    """All neighbours within ``radius`` A of every atom, and possibly a few a hair beyond it.

    The distances, and so every comparison that a rule makes with them, do not depend on the backend.

    Args:
        crystal: the crystal.
        radius: A.
        backend: what proposes the pairs.
        once: only one of a relation and its reverse: i < j, or i == j and the first non-zero component of S positive.

    Raises:
        StructureError: two atoms, periodic images included, are closer than 0.15 A, or an image exceeds int16.
    """
    i, j, image = propose(crystal, max(radius, MIN_DISTANCE), backend)
    themselves = len(crystal)  # each atom itself is found once
    if once:
        half = ((i < j) | ((i == j) & (image_codes(image) > 0))).nonzero()[0]
        i, j, image, themselves = i.take(half), j.take(half), image.take(half, 0), 0
    distance = edge_distances(crystal.frac_coords, crystal.lattice, (i, j), image)
    apart = (distance >= MIN_DISTANCE).nonzero()[0]
    if len(i) - len(apart) != themselves:  # and nothing else may be so near
        raise _too_close(i, j, image, distance)
    if not themselves:
        return Neighbors(i, j, image, distance)
    return Neighbors(i.take(apart), j.take(apart), image.take(apart, 0), distance.take(apart))


def propose(crystal: Crystal, radius: float, backend: Backend) -> Found:
    """What the backend finds within ``radius`` A and a hair beyond it, each atom itself included.

    Raises:
        StructureError: an image exceeds int16.
    """
    i, j, image = backend(crystal, radius + SEARCH_MARGIN)
    if np.abs(image).max() > MAX_IMAGE:
        bad = int(np.abs(image).max(axis=1).argmax())
        msg = (
            f"atom {j[bad]} is a neighbour of atom {i[bad]} in the cell {_cell(image[bad])}; required: cells within "
            f"+-{MAX_IMAGE}. Wrap the fractional coordinates into one cell, or reduce the cell"
        )
        raise StructureError(msg)
    return i, j, image


def first_radius(crystal: Crystal, k: int) -> float:
    """Where a search for k neighbours of each atom begins, A: from the mean density."""
    sphere: float = (0.75 / math.pi * (k + 1) * crystal.volume / len(crystal)) ** (1 / 3)
    return min(GUESS * sphere, MAX_RADIUS)


def too_few(counts: NDArray[np.int64], k: int) -> NoReturn:
    """Raise the StructureError for an atom with fewer than k neighbours within the farthest search."""
    loneliest = int(counts.argmin())
    msg = (
        f"atom {loneliest} has {counts[loneliest]} neighbours within {MAX_RADIUS:g} A; required: at least "
        f"max_neighbors={k}"
    )
    raise StructureError(msg)


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
