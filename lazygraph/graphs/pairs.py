"""Pairs of atoms in the order that the specification fixes, and the two edges that each of them stands for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pairs", "both_directions", "image_codes", "sort_pairs"]

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


def both_directions(pairs: Pairs) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
    """``edge_index`` (2, 2P) and ``images`` (2P, 3): edge 2m is pair m (i -> j, S), edge 2m + 1 is (j -> i, -S)."""
    i, j, image = pairs
    edge_index = np.empty((2, len(i), 2), dtype=np.int32)
    edge_index[0, :, 0] = edge_index[1, :, 1] = i
    edge_index[0, :, 1] = edge_index[1, :, 0] = j
    images = np.empty((len(i), 2, 3), dtype=np.int16)
    images[:, 0] = image
    images[:, 1] = -image
    return edge_index.reshape(2, -1), images.reshape(-1, 3)
