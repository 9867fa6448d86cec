"""The one neighbour search: a replaceable backend proposes pairs, the stated expression decides how far they are."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError
from lazygraph.graphs.backends import Backend, Found
from lazygraph.graphs.effort import MAX_IMAGES, Effort
from lazygraph.graphs.pairs import image_codes
from lazygraph.graphs.vectors import edge_distances

__all__ = [
    "MAX_IMAGE",
    "MAX_RADIUS",
    "MIN_DISTANCE",
    "BackendSearch",
    "Neighbors",
    "Search",
    "farther",
    "first_radius",
    "kth_distances",
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


class Search(Protocol):
    """Where a rule finds the neighbours in one crystal."""

    @property
    def crystal(self) -> Crystal:
        """The crystal."""

    @property
    def reach(self) -> float:
        """A, how far every neighbour can be found."""

    def within(self, radius: float, *, once: bool = False) -> Neighbors:
        """All neighbours within ``radius`` A of every atom, and possibly a few a hair beyond it.

        Args:
            radius: A.
            once: only one of a relation and its reverse: i < j, or i == j and the first non-zero component of S
                positive.

        Raises:
            StructureError: two atoms, periodic images included, are closer than 0.15 A, or an image exceeds int16.
            RecipeMismatch: the search does not reach so far.
        """

    def propose(self, radius: float) -> Found:
        """What may lie within ``radius`` A, each atom itself included, for a rule that measures in its own way.

        Raises:
            StructureError: an image exceeds int16.
            RecipeMismatch: the search can serve no such rule.
        """


class BackendSearch(NamedTuple):
    """A search by a backend. Distances, and so every comparison that a rule makes with them, do not depend on it.

    Args:
        crystal: the crystal.
        backend: what proposes pairs.
        reach: A, how far it goes.
        max_images: how many images of atoms it may look at, and how many neighbours it may find; else it refuses.
    """

    crystal: Crystal
    backend: Backend
    reach: float = MAX_RADIUS
    max_images: int = MAX_IMAGES

    def within(self, radius: float, *, once: bool = False) -> Neighbors:
        """See :meth:`Search.within`."""
        i, j, image = self.propose(max(radius, MIN_DISTANCE))
        themselves = len(self.crystal)  # each atom itself is found once
        if once:
            half = ((i < j) | ((i == j) & (image_codes(image) > 0))).nonzero()[0]
            i, j, image, themselves = i.take(half), j.take(half), image.take(half, 0), 0
        distance = edge_distances(self.crystal.frac_coords, self.crystal.lattice, (i, j), image)
        if len(i) > self.max_images / 2:
            found = (int(np.count_nonzero(distance <= radius)) - themselves) * (2 if once else 1)
            if found > self.max_images:
                raise self._too_many("finds {:,} neighbours", found, radius)
        apart = (distance >= MIN_DISTANCE).nonzero()[0]
        if len(i) - len(apart) != themselves:  # and nothing else may be so near
            raise _too_close(i, j, image, distance)
        if not themselves:
            return Neighbors(i, j, image, distance)
        return Neighbors(i.take(apart), j.take(apart), image.take(apart, 0), distance.take(apart))

    def propose(self, radius: float) -> Found:
        """See :meth:`Search.propose`."""
        self._check_effort(radius)
        i, j, image = self.backend(self.crystal, radius + SEARCH_MARGIN)
        if np.abs(image).max(initial=0) > MAX_IMAGE:
            bad = int(np.abs(image).max(axis=1).argmax())
            msg = (
                f"atom {j[bad]} is a neighbour of atom {i[bad]} in the cell {_cell(image[bad])}; required: cells "
                f"within +-{MAX_IMAGE}. Wrap the fractional coordinates into one cell, or reduce the cell"
            )
            raise StructureError(msg)
        return i, j, image

    def _check_effort(self, radius: float) -> None:
        """Raise where a search would take too long, too much memory, or miss neighbours by rounding."""
        effort = Effort.of(self.crystal)
        images = effort.images(radius)
        if not images <= self.max_images:
            raise self._too_many("looks at {:,} images of atoms", images, radius)
        if not effort.rounding(radius) < SEARCH_MARGIN / 2:
            msg = (
                f"rounding may move atoms by {effort.rounding(radius):.2g} A in a search within {radius:.4g} A; "
                f"required: less than {SEARCH_MARGIN / 2:g} A. Reduce the cell, and wrap the atoms into it"
            )
            raise StructureError(msg)
        if effort.atoms**2 * effort.cells(radius) > 2 * self.max_images:
            expected = effort.neighbors(radius)
            if not expected <= 2 * self.max_images:
                raise self._too_many("finds about {:,} neighbours", expected, radius)

    def _too_many(self, what: str, number: float, radius: float) -> StructureError:
        return StructureError(
            f"a search within {radius:.4g} A {what.format(math.ceil(number))}; required: at most {self.max_images:,} "
            "(max_images). Is the cell reduced, and are its atoms where they should be?"
        )


def first_radius(search: Search, k: int) -> float:
    """Where a search for k neighbours of each atom begins, A: from the mean density."""
    crystal = search.crystal
    sphere: float = (0.75 / math.pi * (k + 1) * crystal.volume / len(crystal)) ** (1 / 3)
    return min(GUESS * sphere, search.reach)


def farther(search: Search, radius: float, counts: NDArray[np.int64], k: int) -> float:
    """Where it goes on, A, if an atom has fewer than k neighbours within ``radius``.

    Raises:
        StructureError: an atom has fewer within 100 A.
    """
    if radius >= MAX_RADIUS:
        loneliest = int(counts.argmin())
        msg = (
            f"atom {loneliest} has {counts[loneliest]} neighbours within {MAX_RADIUS:g} A; required: at least "
            f"max_neighbors={k}"
        )
        raise StructureError(msg)
    return min(radius * GROWTH, search.reach if radius < search.reach else MAX_RADIUS)


def kth_distances(
    centre: NDArray[np.int64], distance: NDArray[np.float64], counts: NDArray[np.int64], k: int
) -> NDArray[np.float64]:
    """The distance of each atom's k-th neighbour, (N,) A, where every atom has so many.

    Args:
        centre: (E,) atoms.
        distance: (E,) A, of their neighbours.
        counts: (N,) the number of neighbours of each atom.
        k: which of them, from 1.
    """
    order = distance.argsort()  # which of equal distances comes first does not matter here
    narrow = centre.astype(np.int16 if len(counts) <= 2**15 else np.int64)  # 16 bits are sorted in one pass
    order = order.take(narrow.take(order).argsort(kind="stable"))
    return distance.take(order.take(counts.cumsum() - counts + (k - 1)))


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
