"""Edges in the order that the specification fixes: pairs of atoms with both their edges, or directed edges."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Edges", "Pairs", "both_directions", "distinct_pairs", "image_codes", "sort_pairs"]

Edges: TypeAlias = tuple[NDArray[np.int32], NDArray[np.int16]]
"""``edge_index`` (2, E) and ``images`` (E, 3), as a graph keeps them."""

# One number per image, below 2**49 and so exact in float64; it orders images as (S_0, S_1, S_2) does, and the code
# of -S is minus the code of S. Images are within int16.
_RADIX = np.array([2.0**32, 2.0**16, 1.0])


class Pairs(NamedTuple):
    """P undirected edges, i <= j."""

    i: NDArray[np.int64]
    """(P,) first atoms."""
    j: NDArray[np.int64]
    """(P,) second atoms."""
    image: NDArray[np.float64]
    """(P, 3) whole numbers: the cell of j when i is in the cell (0, 0, 0)."""


def image_codes(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P,) one whole number per image: ordered as (S_0, S_1, S_2), positive where the first non-zero one is."""
    codes: NDArray[np.float64] = image @ _RADIX
    return codes


def sort_pairs(pairs: Pairs, n_atoms: int) -> Pairs:
    """The same pairs sorted by (i, j, S_0, S_1, S_2)."""
    i, j, image = pairs
    order = np.lexsort((image_codes(image), i * n_atoms + j))
    return Pairs(i.take(order), j.take(order), image.take(order, 0))


def distinct_pairs(pairs: Pairs, n_atoms: int) -> Pairs:
    """The pairs sorted by (i, j, S_0, S_1, S_2), each one once."""
    i, j, image = sort_pairs(pairs, n_atoms)
    new = np.ones(len(i), dtype=bool)
    new[1:] = (i[1:] != i[:-1]) | (j[1:] != j[:-1]) | (image[1:] != image[:-1]).any(axis=1)
    keep = new.nonzero()[0]
    return Pairs(i.take(keep), j.take(keep), image.take(keep, 0))


def both_directions(pairs: Pairs) -> Edges:
    """``edge_index`` (2, 2P) and ``images`` (2P, 3): edge 2m is pair m (i -> j, S), edge 2m + 1 is (j -> i, -S)."""
    i, j, image = pairs
    edge_index = np.empty((2, len(i), 2), dtype=np.int32)
    edge_index[0, :, 0] = edge_index[1, :, 1] = i
    edge_index[0, :, 1] = edge_index[1, :, 0] = j
    images = np.empty((len(i), 2, 3), dtype=np.int16)
    images[:, 0] = image
    images[:, 1] = -image
    return edge_index.reshape(2, -1), images.reshape(-1, 3)
