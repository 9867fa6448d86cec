"""Edges sorted by the atom that they start from."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from lazygraph.native import address, kernels
from lazygraph.native.arrays import empty

__all__ = ["by_first_atom"]


def by_first_atom(edge_index: Any, images: Any, n_atoms: int) -> tuple[Any, Any]:
    """Sort edges by the atom in row 0; edges with the same atom keep their order.

    Args:
        edge_index: (2, E) integers.
        images: (E, 3) integers, the cell of the atom in row 1.
        n_atoms: the number of atoms N.

    Returns:
        The sorted arrays, of the same types; the given arrays if they are sorted.

    Raises:
        IndexError: an edge starts from an atom outside 0 to N - 1.

    Example:
        >>> by_first_atom(np.array([[1, 0, 1], [0, 1, 1]]), np.zeros((3, 3), int), 2)[0]
        array([[0, 1, 1],
               [1, 0, 1]])
    """
    library = kernels() if isinstance(images, np.ndarray) else None
    if library is None or edge_index.dtype != np.int32 or n_atoms > np.iinfo(np.int32).max:
        xp = array_namespace(images)
        order = xp.argsort(edge_index[0], stable=True)
        return xp.take(edge_index, order, axis=1), xp.take(images, order, axis=0)
    ends, shifts = np.ascontiguousarray(edge_index), np.ascontiguousarray(images)
    sorted_ends, sorted_images = empty(ends.shape, ends.dtype), empty(shifts.shape, shifts.dtype)
    start = empty(n_atoms + 1, np.int32)
    given = address(ends), ends.shape[1], n_atoms, address(shifts), 3 * shifts.itemsize
    found = library.lg_edge_order(*given, *map(address, (start, sorted_ends, sorted_images)))
    if found < 0:
        msg = f"an edge starts from an atom that is not there; required: atoms 0 to {n_atoms - 1}"
        raise IndexError(msg)
    return (edge_index, images) if found else (sorted_ends, sorted_images)
