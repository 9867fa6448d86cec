"""The one expression that turns an edge into a vector: builder, single graphs, batches and kernels all use it.

For an edge i -> j whose neighbour lies in the cell S, with fractional coordinates f and lattice rows L, all float64 and
elementwise in this order (no matrix product, whose order of summation no library states)::

    d   = (f_j - f_i) + S
    v_x = ((d_0 * L_0x) + (d_1 * L_1x)) + d_2 * L_2x
    |v| = sqrt((v_x * v_x + v_y * v_y) + v_z * v_z)

Every step rounds symmetrically, so the vector of the reverse edge is exactly ``0.0 - v`` and both lengths are the same
number. Vectors are handed out as ``float32(v) + 0.0``, which turns -0.0 into 0.0. They are written in the arithmetic
that numpy arrays and torch tensors share, and have the same bits in both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lazygraph.native import address, kernels
from lazygraph.native.arrays import empty

__all__ = [
    "EDGE_LENGTHS",
    "EDGE_SHIFTS",
    "EDGE_VECTORS",
    "EdgesOfBatch",
    "batch_positions",
    "batch_values",
    "components",
    "edge_components",
    "edge_distances",
    "edge_vectors",
    "first_invalid",
    "lengths",
]

EDGE_VECTORS, EDGE_SHIFTS, EDGE_LENGTHS = 0, 1, 2  # what lg_edge_values computes
WIDE = 8  # bytes of a float64


class EdgesOfBatch(NamedTuple):
    """The edges of B crystals with N atoms and E edges in total, one crystal after another."""

    frac_coords: NDArray[np.float64]
    """(N, 3)"""
    lattice: NDArray[np.float64]
    """(B, 3, 3) A, rows are the lattice vectors."""
    n_node: NDArray[np.int64]
    """(B,) the number of atoms of each crystal."""
    n_edge: NDArray[np.int64]
    """(B,) the number of edges of each crystal."""
    edge_index: NDArray[Any]
    """(2, E) integers, with atoms numbered through the batch."""
    images: NDArray[Any]
    """(E, 3) integers, the cell of the atom in row 1."""


def components(delta: Any, lattice: Any) -> Any:
    """Cartesian components (3, E) float64, A, of fractional differences.

    Args:
        delta: (3, E) float64 fractional differences ``(f_j - f_i) + S``.
        lattice: (3, 3) float64, rows are the lattice vectors, A; or (E, 3, 3), one lattice per edge.
    """
    # Three rows as columns: (3, 1) where all edges share a lattice, (3, E) where each has its own.
    a, b, c = lattice[:, :, None] if lattice.ndim == 2 else (lattice[:, 0].T, lattice[:, 1].T, lattice[:, 2].T)
    out = a * delta[0]
    out += b * delta[1]
    out += c * delta[2]
    return out


def edge_vectors(frac_coords: Any, lattice: Any, edge_index: Any, images: Any) -> Any:
    """Edge vectors (E, 3) float32, A, from row 0 to row 1 of ``edge_index``, for one crystal or a whole batch.

    Args:
        frac_coords: (N, 3) float64 fractional coordinates.
        lattice: (3, 3) float64, rows are the lattice vectors, A. For a batch, (E, 3, 3): the lattice of each edge.
        edge_index: (2, E) integers, atoms.
        images: (E, 3) integers, the cell of the atom in row 1.

    Returns:
        A numpy array or a torch tensor, as the arguments are; C-contiguous, without -0.0.

    Example:
        >>> images = np.array([[1, 0, 0], [-1, 0, 0]])
        >>> edge_vectors(np.zeros((1, 3)), np.eye(3) * 4.0, np.array([[0, 0], [0, 0]]), images)
        array([[ 4.,  0.,  0.],
               [-4.,  0.,  0.]], dtype=float32)
    """
    rows = edge_components(frac_coords, lattice, edge_index, images).T
    out = rows.astype(np.float32, order="C") if isinstance(rows, np.ndarray) else rows.float().contiguous()
    out += 0.0
    return out


def batch_positions(
    frac_coords: Any, lattice: Any, n_node: NDArray[np.int64], dtype: DTypeLike = "float64"
) -> NDArray[np.floating[Any]]:
    """Cartesian coordinates (N, 3), A, of the atoms of several crystals, one crystal after another.

    Args:
        frac_coords: (N, 3) float64.
        lattice: (B, 3, 3) float64, A.
        n_node: (B,) the number of atoms of each crystal.
        dtype: ``float64``, or ``float32`` for the same values rounded once.
    """
    library = kernels()
    if library is None:
        rows: NDArray[np.float64] = components(frac_coords.T, lattice.repeat(n_node, 0)).T
        return rows.astype(dtype)
    frac, cells, counts = map(np.ascontiguousarray, (frac_coords, lattice, n_node))
    out = empty(frac.shape, dtype)
    wide = out.itemsize == WIDE
    if library.lg_positions(address(frac), len(frac), address(cells), address(counts), len(cells), wide, address(out)):
        msg = f"the crystals count {n_node.sum()} atoms (n_node); required: {len(frac)}, the rows of frac_coords"
        raise IndexError(msg)
    return out


def batch_values(what: int, edges: EdgesOfBatch, dtype: DTypeLike = "float64") -> NDArray[np.floating[Any]]:
    """Compute values of the edges of several crystals, one crystal after another.

    Args:
        what: ``EDGE_VECTORS`` or ``EDGE_SHIFTS`` for (E, 3), or ``EDGE_LENGTHS`` for (E,), A.
        edges: the edges of the crystals.
        dtype: ``float64``, or ``float32`` for the same vectors or shifts rounded once. Lengths are float64.

    Returns:
        A C-contiguous array without -0.0.

    Raises:
        IndexError: the counts of the crystals do not add up, or an edge ends at an atom that its crystal does not have.
    """
    library = kernels()
    if library is None or edges.images.dtype.kind != "i" or edges.edge_index.dtype != np.int32:
        return _plain_values(what, edges, dtype)
    frac, cells, n_edge, n_node = map(
        np.ascontiguousarray, (edges.frac_coords, edges.lattice, edges.n_edge, edges.n_node)
    )
    ends, images = np.ascontiguousarray(edges.edge_index), np.ascontiguousarray(edges.images)
    count = len(images)
    out = empty(count if what == EDGE_LENGTHS else (count, 3), dtype)
    failed = library.lg_edge_values(
        address(frac), len(frac), address(cells), address(n_edge), address(n_node), len(cells), count,
        address(ends), address(ends) + 4 * count, address(images), images.itemsize, what, out.itemsize == WIDE,
        address(out),
    )  # fmt: skip
    if failed:
        msg = (
            f"the crystals count {n_node.sum()} atoms and {n_edge.sum()} edges, or an edge ends at an atom of another "
            f"crystal; required: {len(frac)} atoms and {count} edges, each within one crystal"
        )
        raise IndexError(msg)
    return out


def _plain_values(what: int, edges: EdgesOfBatch, dtype: DTypeLike) -> NDArray[np.floating[Any]]:
    """:func:`batch_values` in numpy."""
    ends, images, lattice = edges.edge_index, edges.images, edges.lattice.repeat(edges.n_edge, 0)
    if what == EDGE_SHIFTS:
        rows = components(images.T, lattice)
    else:
        rows = edge_components(edges.frac_coords, lattice, ends, images)
    if what == EDGE_LENGTHS:
        return np.ascontiguousarray(lengths(rows), dtype)
    out: NDArray[np.floating[Any]] = rows.T.astype(dtype, order="C")
    out += 0.0
    return out


def first_invalid(edge_index: NDArray[Any], n_edge: NDArray[np.int64], n_node: NDArray[np.int64]) -> int | None:
    """The first of several crystals with an edge that does not end at its own atoms; None where there is none.

    Args:
        edge_index: (2, E) integers, atoms counted through the batch.
        n_edge: (B,) the number of edges of each crystal.
        n_node: (B,) the number of its atoms.
    """
    library = kernels()
    if library is not None and edge_index.dtype == np.int32:
        ends, edges, atoms = map(np.ascontiguousarray, (edge_index, n_edge, n_node))
        found = int(library.lg_ends(address(ends), address(edges), address(atoms), len(edges)))
        return None if found < 0 else found
    behind = n_node.cumsum()
    outside = (edge_index < (behind - n_node).repeat(n_edge)) | (edge_index >= behind.repeat(n_edge))
    columns = np.flatnonzero(outside.any(axis=0))
    return int(np.searchsorted(n_edge.cumsum(), columns[0], side="right")) if len(columns) else None


def edge_components(frac_coords: Any, lattice: Any, edge_index: Any, images: Any) -> Any:
    """Edge vectors as components (3, E) float64, A; arguments as for :func:`edge_vectors`."""
    return components(_delta(frac_coords, edge_index[0], edge_index[1], images), lattice)


def edge_distances(
    frac_coords: NDArray[np.float64], lattice: NDArray[np.float64], edge_index: Any, images: NDArray[Any]
) -> NDArray[np.float64]:
    """Edge lengths (E,) float64, A, numpy only; arguments as for :func:`edge_vectors`."""
    distances: NDArray[np.float64] = lengths(edge_components(frac_coords, lattice, edge_index, images))
    return distances


def lengths(vectors: Any) -> Any:
    """Lengths (E,) float64 of vectors given as components (3, E), numpy's or torch's.

    Recipes are decided by numpy's: torch's square root may be off by one bit.
    """
    squares = vectors * vectors
    total = squares[0] + squares[1]
    total += squares[2]
    return np.sqrt(total, out=total) if isinstance(total, np.ndarray) else total.sqrt_()


def _delta(frac_coords: Any, i: Any, j: Any, images: Any) -> Any:
    """Fractional differences (3, E) of the edges i -> j."""
    if isinstance(frac_coords, np.ndarray):  # take is three times as fast as indexing
        delta = frac_coords.take(j, 0)
        delta -= frac_coords.take(i, 0)
    else:
        delta = frac_coords.index_select(0, j) - frac_coords.index_select(0, i)
    delta += images
    return delta.T
