"""Pairs of edges that share an atom: found, counted, and written in the form that a model takes.

A pair is a first edge and a second edge. The second edge starts from an atom of the first edge: from the atom where the
first edge starts, or from the atom where it ends. Some edges may come first, and some of these may come second.

:func:`find_pairs` works on numpy arrays and torch tensors. :class:`PlainPairs` states what a pair is, in operations
that both share. :class:`CompiledPairs` gives the same for numpy arrays in compiled loops.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from lazygraph.errors import LazyGraphError
from lazygraph.native import address, kernels
from lazygraph.native.arrays import empty

__all__ = ["CompiledPairs", "EdgePairs", "PlainPairs", "find_pairs"]

MOST_EDGES = 2**31 - 1  # ids of edges are int32
SLACK = 8  # ids behind the last one that may be read; angles.c


class EdgePairs(Protocol):
    """The pairs of the edges of a crystal or of a batch, sorted by the first edge, then by the second."""

    @property
    def total(self) -> int:
        """The number of pairs T, known without making them."""

    def ids(self, dtype: str = "int32") -> Any:
        """Return the pairs as ids of edges, (2, T) int32 or int64."""

    def bonds(self) -> Any:
        """Return CHGNet's rows, (T, 5) int32, for edges in adjacent pairs (2m, 2m + 1).

        The columns are the atom that both edges share, the undirected id m and the id of the first edge, and the same
        two ids of the second.
        """

    def cosines(self, vectors: Any, dtype: str = "float64") -> Any:
        """Return the cosine between minus the first vector and the second, (T,), from -1 to 1.

        Args:
            vectors: (E, 3) float64, the vector of each edge.
            dtype: ``float64``, or ``float32`` for the same numbers rounded once.
        """

    def of_edges(self) -> Any:
        """Return in how many pairs each edge comes first, (E,) int64."""

    @property
    def of_graphs(self) -> NDArray[np.int64]:
        """The number of pairs of each graph, (B,); one graph unless ``n_edge`` was given."""


def find_pairs(
    edge_index: Any,
    n_atoms: int,
    first: Any,
    second: Any,
    *,
    end: int,
    itself: bool,
    n_edge: NDArray[np.int64] | None = None,
) -> EdgePairs:
    """Find the pairs of edges.

    Args:
        edge_index: (2, E) integers, the atom that each edge starts from and the atom where it ends.
        n_atoms: the number of atoms N.
        first: (E,) booleans, the edges that may come first; None for all.
        second: (E,) booleans, the edges that may come second, all of which may come first; None for all.
        end: the second edge starts from the atom in this row of the first edge.
        itself: whether an edge may make a pair with itself.
        n_edge: (B,) the number of edges of each graph, one graph after another; None for one graph.

    Raises:
        IndexError: an edge starts or ends at an atom outside 0 to N - 1, or the graphs have another number of edges.
    """
    kind = CompiledPairs if isinstance(edge_index, np.ndarray) and kernels() is not None else PlainPairs
    n_edge = np.array([edge_index.shape[1]]) if n_edge is None else n_edge
    return kind(edge_index, n_atoms, first, second, end=end, itself=itself, n_edge=n_edge)


class PlainPairs:
    """The pairs in operations of numpy and torch; arguments as for :func:`find_pairs`."""

    def __init__(
        self,
        edge_index: Any,
        n_atoms: int,
        first: Any,
        second: Any,
        *,
        end: int,
        itself: bool,
        n_edge: NDArray[np.int64],
    ) -> None:
        xp = array_namespace(edge_index)
        self._xp, self._where, self._edges, self._itself = xp, device(edge_index), edge_index, itself
        self._all = edge_index.shape[1]
        self._end, self._n_edge = end, n_edge
        ids = xp.arange(self._all, device=self._where)
        self._first = ids if first is None else xp.nonzero(first)[0]
        others = ids if second is None else xp.nonzero(second)[0]
        start, self._joint = xp.take(edge_index[0], others), xp.take(edge_index[end], self._first)
        self._degree = xp.bincount(start, minlength=n_atoms)
        if len(self._degree) > n_atoms:
            raise _outside(n_atoms)
        self._by_start = xp.take(others, xp.argsort(start, stable=True))
        self._counts = xp.take(self._degree, self._joint)  # with the edge itself
        self._own = xp.zeros((self._all,), dtype=xp.bool, device=self._where)
        if not itself:
            is_second = xp.ones_like(self._own) if second is None else second
            self._own = is_second & (edge_index[0] == edge_index[end])

    @property
    def total(self) -> int:
        """The number of pairs T."""
        own = self._xp.astype(self._xp.take(self._own, self._first), self._xp.int64)
        return int(self._xp.sum(self._counts)) - int(self._xp.sum(own))

    def ids(self, dtype: str = "int32") -> Any:
        """Return the pairs, (2, T)."""
        xp = self._xp
        row = xp.repeat(xp.arange(self._first.shape[0], device=self._where), self._counts)
        begin = xp.cumulative_sum(self._degree) - self._degree
        shift = xp.take(begin, self._joint) - (xp.cumulative_sum(self._counts) - self._counts)
        place = xp.arange(row.shape[0], device=self._where) + xp.take(shift, row)
        pairs = xp.stack((xp.take(self._first, row), xp.take(self._by_start, place)))
        pairs = pairs if self._itself else pairs[:, pairs[0] != pairs[1]]
        return xp.astype(pairs, getattr(xp, dtype))

    def bonds(self) -> Any:
        """Return CHGNet's rows, (T, 5) int32."""
        xp = self._xp
        one, other = self.ids()
        atom = xp.astype(xp.take(self._edges[self._end], one), one.dtype)
        return xp.stack((atom, one >> 1, one, other >> 1, other), axis=1)

    def cosines(self, vectors: Any, dtype: str = "float64") -> Any:
        """Return the cosines, (T,)."""
        xp, pairs = self._xp, self.ids("int64")
        x, y, z = vectors.T
        unit = vectors.T / xp.sqrt((x * x + y * y) + z * z)
        u, v = xp.take(unit, pairs[0], axis=1), xp.take(unit, pairs[1], axis=1)
        cosine = xp.clip(-((u[0] * v[0] + u[1] * v[1]) + u[2] * v[2]), -1.0, 1.0)
        return xp.astype(cosine, getattr(xp, dtype), copy=False)

    def of_edges(self) -> Any:
        """Return the number of pairs of each edge, (E,) int64."""
        xp = self._xp
        counts = self._counts - xp.astype(xp.take(self._own, self._first), xp.int64)
        out = xp.zeros((self._all,), dtype=xp.int64, device=self._where)
        out[self._first] = counts
        return out

    @property
    def of_graphs(self) -> NDArray[np.int64]:
        """The number of pairs of each graph, (B,)."""
        before = np.cumsum([0, *np.asarray(_on_cpu(self.of_edges())).tolist()])
        behind = np.cumsum(self._n_edge)
        return np.asarray(before[behind] - before[behind - self._n_edge], np.int64)


class CompiledPairs:
    """The pairs of numpy arrays in compiled loops; arguments as for :func:`find_pairs`."""

    def __init__(
        self,
        edge_index: NDArray[Any],
        n_atoms: int,
        first: Any,
        second: Any,
        *,
        end: int,
        itself: bool,
        n_edge: NDArray[np.int64],
    ) -> None:
        count = edge_index.shape[1]
        if max(count, n_atoms) > MOST_EDGES:
            msg = f"a batch has {count} edges and {n_atoms} atoms; at most {MOST_EDGES} of each are allowed"
            raise LazyGraphError(msg)
        library: Any = kernels()
        self._library = library
        self._count, self._n_atoms, self._end, self._itself = count, n_atoms, end, itself
        self._ends = np.ascontiguousarray(edge_index, np.int32)
        if self._ends is not edge_index and (self._ends != edge_index).any():
            raise _outside(n_atoms)
        self._first, self._second = (
            None if some is None else np.ascontiguousarray(some, np.bool_) for some in (first, second)
        )
        # One piece of memory: where the edges of each atom begin, a cursor of each atom, and the edges by their atom.
        work = empty(2 * n_atoms + 1 + count + SLACK, np.int32)
        parts = work[: n_atoms + 1], work[n_atoms + 1 : 2 * n_atoms + 1], work[2 * n_atoms + 1 :]
        self._start, self._cursor, self._by_start = map(address, parts)
        self._work = work
        n_edge = np.ascontiguousarray(n_edge, np.int64)
        self.of_graphs = np.empty(len(n_edge), np.int64)
        graphs = address(n_edge), len(n_edge), address(self.of_graphs)
        self.total = int(library.lg_pairs_find(*self._given(), self._start, self._by_start, *graphs))
        if self.total < 0:
            raise _outside(n_atoms)

    def ids(self, dtype: str = "int32") -> NDArray[Any]:
        """Return the pairs, (2, T)."""
        out = empty((2, self.total), dtype)
        self._check(self._library.lg_pairs_write(*self._told(), self.total, dtype == "int64", address(out)))
        return out

    def bonds(self) -> NDArray[np.int32]:
        """Return CHGNet's rows, (T, 5) int32."""
        out = empty((self.total, 5), np.int32)
        self._check(self._library.lg_pairs_bonds(*self._told(), self.total, address(out)))
        return out

    def cosines(self, vectors: NDArray[np.float64], dtype: str = "float64") -> NDArray[np.floating[Any]]:
        """Return the cosines, (T,)."""
        out, work = empty(self.total, dtype), empty(6 * self._count, np.float64)
        vectors = np.ascontiguousarray(vectors, np.float64)
        given = address(vectors), address(work), self.total, dtype == "float64", address(out)
        self._check(self._library.lg_pairs_cosines(*self._told(), *given))
        return out

    def of_edges(self) -> NDArray[np.int64]:
        """Return the number of pairs of each edge, (E,) int64."""
        out = empty(self._count, np.int64)
        self._library.lg_pairs_of_edges(*self._told(), address(out))
        return out

    def _given(self) -> tuple[int, ...]:
        first, second = (0 if some is None else address(some) for some in (self._first, self._second))
        return address(self._ends), self._count, self._n_atoms, first, second, self._end, self._itself

    def _told(self) -> tuple[int, ...]:
        return (*self._given(), self._start, self._by_start, self._cursor)

    def _check(self, written: int) -> None:
        if written != self.total:
            msg = f"found {written} pairs of edges, but the degrees of atoms give {self.total}. Report this as a bug"
            raise LazyGraphError(msg)


def _outside(n_atoms: int) -> IndexError:
    return IndexError(
        "an edge starts or ends at an atom that is not there, or the graphs have another number of edges; required: "
        f"atoms 0 to {n_atoms - 1}"
    )


def _on_cpu(array: Any) -> Any:
    return array.cpu() if hasattr(array, "cpu") else array
