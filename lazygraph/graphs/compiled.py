"""The rules in compiled loops: search, choice and order of a crystal's edges in one call, about 10 us.

They are the twins of the plain rules, which say what is done, and give the same edges, images and distances to the bit.
None from one of them means that the plain rule has to do it, which may raise an error: there are no compiled loops, the
cell is too skewed or too large for them, the structure is at fault, or the search takes more than it may
(``native/search.c``).
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lazygraph.graphs.neighbors import BackendSearch, first_radius
from lazygraph.graphs.pairs import Edges
from lazygraph.native import address, kernels

__all__ = ["Found", "nearest_edges", "radius_edges", "shell_edges"]

Found: TypeAlias = tuple[Edges, NDArray[np.float64]] | None
"""Edges as a graph keeps them and their distances, A, all C-contiguous."""

MAX_ATOMS = 500  # beyond it looking at every pair of atoms costs more than sorting them into boxes first
MAX_ROOM = 2**20  # edges; where there are more, they are found twice
MANY = 2**40  # more neighbours than any atom has


def radius_edges(search: BackendSearch, reach: float) -> Found:
    """See :func:`lazygraph.graphs.radius.radius_pairs`."""
    crystal = search.crystal
    expected = 4 / 3 * math.pi * reach**3 * len(crystal) ** 2 / crystal.volume
    return _edges("lg_radius", search, (reach,), 1.5 * expected)


def shell_edges(
    search: BackendSearch,
    max_neighbors: int,
    tolerance: float,
    *,
    duplicates: bool,
    self_images: NDArray[np.float64] | None = None,
    self_cutoff: float | None = None,
) -> Found:
    """See :func:`lazygraph.graphs.shell.shell_pairs`."""
    own = np.empty((0, 3), np.int16) if self_images is None else self_images.astype(np.int16)
    own_limit = math.inf if self_cutoff is None else self_cutoff + 2 * tolerance
    k = min(max_neighbors, MANY)
    arguments = (k, tolerance, first_radius(search, k), duplicates, address(own), len(own), own_limit)
    return _edges("lg_shell", search, arguments, 3.0 * len(search.crystal) * k)


def nearest_edges(search: BackendSearch, max_neighbors: int, reach: float) -> Found:
    """See :func:`lazygraph.graphs.nearest.nearest_edges`."""
    k = min(max_neighbors, MANY)
    radius = min(first_radius(search, k), reach)
    return _edges("lg_nearest", search, (k, reach, radius), len(search.crystal) * k)


def _edges(function: str, search: BackendSearch, arguments: tuple[Any, ...], expected: float) -> Found:
    library, crystal, atoms = kernels(), search.crystal, len(search.crystal)
    if library is None or atoms > MAX_ATOMS:
        return None
    numbers = np.ascontiguousarray(np.concatenate((crystal.lattice, crystal.frac_coords)))
    a, b, c = crystal.pbc
    room = int(min(MAX_ROOM, expected)) + 64 * atoms
    while True:
        edge_index, images, distances = np.empty(2 * room, np.int32), np.empty((room, 3), np.int16), np.empty(room)
        n = getattr(library, function)(
            address(numbers), atoms, a | b << 1 | c << 2, search.max_images, *arguments,
            room, address(edge_index), address(images), address(distances),
        )  # fmt: skip
        if n < 0:
            return None
        if n <= room:
            return (edge_index[: 2 * n].reshape(2, n).copy(), images[:n].copy()), distances[:n].copy()
        room = n
