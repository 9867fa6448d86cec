"""Which pairs of edges make an angle: triplets, line graphs and CHGNet's bond graph, made at load and never stored.

Every function takes the edges of one crystal or of a whole batch, as numpy arrays or torch tensors, and returns ids of
edges in the same kind of array, on the same device. A batch needs no offsets: edges of different crystals share no
atom, and the order, by first edge and then by second, is that of the crystals one after another.

The number of pairs is known from degrees alone, which is what the ``count_`` functions do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

__all__ = [
    "bond_graph",
    "count_bond_graph",
    "count_line_graph",
    "count_triplets",
    "line_graph",
    "triplets",
    "whole_line_graph",
]


def triplets(edge_index: Any, n_atoms: int, kept: Any = None) -> Any:
    """Ordered pairs of different edges with the same centre.

    Args:
        edge_index: (2, E) integers, row 0 the centre.
        n_atoms: N.
        kept: (E,) booleans, the edges that take part, such as those within a three-body cutoff; None for all.

    Returns:
        (2, T) int64 edge ids, sorted by row 0, then row 1; T is the sum of n (n - 1) over the degrees n of the atoms.

    Source: M3GNet's three-body interactions, ``create_line_graph`` of matgl 4.1 and ``compute_threebody`` of the
    original; its row 0 is the bond that receives.

    Example:
        >>> triplets(np.array([[0, 0, 0, 1], [1, 1, 1, 0]]), 2, np.array([True, False, True, True]))
        array([[0, 2],
               [2, 0]])
    """
    xp = array_namespace(edge_index)
    ids = _kept(edge_index, kept)
    centre = xp.take(edge_index[0], ids)
    degree = xp.bincount(centre, minlength=n_atoms)
    order = xp.argsort(centre, stable=True)
    place = xp.empty_like(order)
    place[order] = xp.arange(order.shape[0], device=device(order))
    first, partner = _expand(xp.take(degree, centre) - 1, xp.take(xp.cumulative_sum(degree) - degree, centre))
    partner += partner >= xp.take(place, first)  # step over the edge itself
    return xp.stack((xp.take(ids, first), xp.take(xp.take(ids, order), partner)))


def whole_line_graph(edge_index: Any, n_atoms: int, kept: Any = None) -> Any:
    """Pairs of edges A -> B where A ends at the atom that B starts from.

    Args:
        edge_index: (2, E) integers.
        n_atoms: N.
        kept: (E,) booleans, the edges that take part; None for all.

    Returns:
        (2, T) int64 edge ids, sorted by A, then B. B may be the reverse of A, and A itself where both ends are one
        atom.

    Source: ``_line_graph_edges`` of alignn 2026.
    """
    xp = array_namespace(edge_index)
    ids = _kept(edge_index, kept)
    start, end = xp.take(edge_index[0], ids), xp.take(edge_index[1], ids)
    degree = xp.bincount(start, minlength=n_atoms)
    first, second = _expand(xp.take(degree, end), xp.take(xp.cumulative_sum(degree) - degree, end))
    by_start = xp.take(ids, xp.argsort(start, stable=True))
    return xp.stack((xp.take(ids, first), xp.take(by_start, second)))


def line_graph(edge_index: Any, n_atoms: int, kept: Any = None) -> Any:
    """The pairs of :func:`whole_line_graph` without those of an edge with itself.

    Source: ``DGLGraph.line_graph(backtracking=True)``, of which the published ALIGNN is fed.

    Example:
        >>> line_graph(np.array([[0, 0], [0, 0]]), 1)
        array([[0, 1],
               [1, 0]])
    """
    pairs = whole_line_graph(edge_index, n_atoms, kept)
    return pairs[:, pairs[0] != pairs[1]]


def bond_graph(edge_index: Any, n_atoms: int, distances: Any, cutoff: float) -> Any:
    """CHGNet's bond graph: pairs of edges with the same centre, for edges in adjacent pairs (2m, 2m + 1).

    The first edge is within the cutoff, the second strictly within it: a bond of exactly the cutoff is a node that
    has partners and is nobody's partner. Undirected edge m stands for both directions.

    Args:
        edge_index: (2, E) integers, edge e ^ 1 the reverse of edge e.
        n_atoms: N.
        distances: (E,) A.
        cutoff: A.

    Returns:
        (T, 5) int64: centre, undirected and directed id of the first edge, the same of the second; sorted by the two
        directed ids.

    Source: ``Graph.line_graph_adjacency_list`` of chgnet, whose order of rows is another.
    """
    xp = array_namespace(edge_index)
    first, second = triplets(edge_index, n_atoms, distances <= cutoff)
    if xp.any(distances == cutoff):
        within = xp.take(distances, second) < cutoff
        first, second = first[within], second[within]
    centre = xp.astype(xp.take(edge_index[0], first), first.dtype)
    return xp.stack((centre, first >> 1, first, second >> 1, second), axis=1)


def count_triplets(edge_index: Any, n_atoms: int, kept: Any = None) -> int:
    """How many pairs :func:`triplets` makes, without making them; numpy only."""
    centre = edge_index[0] if kept is None else edge_index[0][kept]
    degree = np.bincount(centre, minlength=n_atoms)
    return int(degree @ degree - degree.sum())


def count_line_graph(edge_index: Any, n_atoms: int, kept: Any = None, *, itself: bool = False) -> int:
    """How many pairs :func:`line_graph` makes, or with ``itself`` :func:`whole_line_graph`; numpy only."""
    start, end = edge_index if kept is None else edge_index[:, kept]
    ends = np.bincount(end, minlength=n_atoms) @ np.bincount(start, minlength=n_atoms)
    return int(ends) - (0 if itself else int(np.count_nonzero(start == end)))


def count_bond_graph(edge_index: Any, n_atoms: int, distances: Any, cutoff: float) -> int:
    """How many rows :func:`bond_graph` makes; numpy only."""
    strictly = distances < cutoff
    degree = np.bincount(edge_index[0][strictly], minlength=n_atoms)
    return int(degree[edge_index[0][distances <= cutoff]].sum()) - int(np.count_nonzero(strictly))


def _kept(edge_index: Any, kept: Any) -> Any:
    """The ids of the edges that take part, ascending."""
    xp = array_namespace(edge_index)
    if kept is None:
        return xp.arange(edge_index.shape[1], device=device(edge_index))
    return xp.nonzero(kept)[0]


def _expand(counts: Any, starts: Any) -> tuple[Any, Any]:
    """Row r repeated ``counts[r]`` times, and beside it ``starts[r]``, ``starts[r] + 1``, ..."""
    xp = array_namespace(counts)
    row = xp.repeat(xp.arange(counts.shape[0], device=device(counts)), counts)
    shift = starts - (xp.cumulative_sum(counts) - counts)
    return row, xp.arange(row.shape[0], device=device(counts)) + xp.take(shift, row)
