"""Which pairs of edges make an angle: triplets, line graphs and CHGNet's bond graph, made at load and never stored.

Every function takes the edges of one crystal or of a whole batch, as numpy arrays or torch tensors, and returns ids of
edges in the same kind of array, on the same device. A batch needs no offsets: edges of different crystals share no
atom, and the order, by first edge and then by second, is that of the crystals one after another.

The classes are the kinds of angles that a recipe may have, each with its parameters and its number of pairs, which is
known from degrees alone. Whoever does not trust the edges passes ``check``: it is called with that number before memory
is taken for the pairs, and may raise an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lazygraph.graphs.edge_pairs import EdgePairs, find_pairs
from lazygraph.graphs.parameters import Length, Parameters

__all__ = [
    "ANGLES",
    "Angles",
    "BondGraph",
    "LineGraph",
    "Triplets",
    "WholeLineGraph",
    "bond_graph",
    "line_graph",
    "triplets",
    "whole_line_graph",
]


def triplets(edge_index: Any, n_atoms: int, kept: Any = None, check: Callable[[int], None] | None = None) -> Any:
    """Ordered pairs of different edges with the same centre.

    Args:
        edge_index: (2, E) integers, row 0 the centre.
        n_atoms: N.
        kept: (E,) booleans, the edges that take part, such as those within a three-body cutoff; None for all.
        check: called with T before the pairs are made.

    Returns:
        (2, T) int32 edge ids, sorted by row 0, then row 1; T is the sum of n (n - 1) over the degrees n of the atoms.

    Source: M3GNet's three-body interactions, ``create_line_graph`` of matgl 4.1 and ``compute_threebody`` of the
    original; its row 0 is the bond that receives.

    Example:
        >>> triplets(np.array([[0, 0, 0, 1], [1, 1, 1, 0]]), 2, np.array([True, False, True, True]))
        array([[0, 2],
               [2, 0]], dtype=int32)
    """
    return _checked(find_pairs(edge_index, n_atoms, kept, kept, end=0, itself=False), check).ids()


def whole_line_graph(
    edge_index: Any, n_atoms: int, kept: Any = None, check: Callable[[int], None] | None = None
) -> Any:
    """Pairs of edges A -> B where A ends at the atom that B starts from.

    Args:
        edge_index: (2, E) integers.
        n_atoms: N.
        kept: (E,) booleans, the edges that take part; None for all.
        check: called with T before the pairs are made.

    Returns:
        (2, T) int32 edge ids, sorted by A, then B. B may be the reverse of A, and A itself where both ends are one
        atom.

    Source: ``_line_graph_edges`` of alignn 2026.
    """
    return _checked(find_pairs(edge_index, n_atoms, kept, kept, end=1, itself=True), check).ids()


def line_graph(edge_index: Any, n_atoms: int, kept: Any = None, check: Callable[[int], None] | None = None) -> Any:
    """The pairs of :func:`whole_line_graph` without those of an edge with itself.

    Source: ``DGLGraph.line_graph(backtracking=True)``, of which the published ALIGNN is fed.

    Example:
        >>> line_graph(np.array([[0, 0], [0, 0]]), 1)
        array([[0, 1],
               [1, 0]], dtype=int32)
    """
    return _checked(find_pairs(edge_index, n_atoms, kept, kept, end=1, itself=False), check).ids()


def bond_graph(
    edge_index: Any, n_atoms: int, distances: Any, cutoff: float, check: Callable[[int], None] | None = None
) -> Any:
    """CHGNet's bond graph: pairs of edges with the same centre, for edges in adjacent pairs (2m, 2m + 1).

    The first edge is within the cutoff, the second strictly within it: a bond of exactly the cutoff is a node that
    has partners and is nobody's partner. Undirected edge m stands for both directions.

    Args:
        edge_index: (2, E) integers, edge e ^ 1 the reverse of edge e.
        n_atoms: N.
        distances: (E,) A.
        cutoff: A.
        check: called with T before the rows are made.

    Returns:
        (T, 5) int32: centre, undirected and directed id of the first edge, the same of the second; sorted by the two
        directed ids.

    Source: ``Graph.line_graph_adjacency_list`` of chgnet, whose order of rows is another.
    """
    pairs = find_pairs(edge_index, n_atoms, distances <= cutoff, distances < cutoff, end=0, itself=False)
    return _checked(pairs, check).bonds()


@dataclass(frozen=True, kw_only=True, repr=False)
class Angles(Parameters):
    """Which pairs of edges of a recipe's graphs make an angle: a frozen dataclass of its parameters.

    Angles are found at load and never stored; their number is the column ``n_triplets`` of a dataset. Angles of your
    own are one subclass, which a :class:`lazygraph.graphs.Preset` holds. Edges are given as an object with
    ``edge_index`` (2, E), ``n_atoms`` and ``distances`` (E,) A.
    """

    shares_centre: ClassVar[bool]
    """Whether the second edge starts where the first starts; else it starts where the first ends."""
    with_itself: ClassVar[bool] = False
    """Whether an edge may make a pair with itself."""
    needs_pairs: ClassVar[bool] = False
    """Whether edges have to come in adjacent pairs, each edge followed by its reverse."""

    @property
    def cutoff(self) -> float | None:
        """A; only edges within it take part. None for all edges."""
        return None

    def first(self, edges: Any, slack: float = 0.0) -> Any:
        """(E,) the edges that may come first in a pair, with a cutoff that is ``slack`` A greater; None for all."""
        return None if self.cutoff is None else edges.distances <= self.cutoff + slack

    def second(self, edges: Any, slack: float = 0.0) -> Any:
        """(E,) the edges that may come second in a pair; all of them may come first."""
        return self.first(edges, slack)

    def find(self, edges: Any) -> EdgePairs:
        """Find the pairs of edges that make an angle, and count them, without making them.

        Args:
            edges: of one crystal, or of a batch with ``n_edge`` (B,), the number of edges of each crystal.
        """
        first = self.first(edges)
        second = first if type(self).second is Angles.second else self.second(edges)
        end = 0 if self.shares_centre else 1
        n_edge = getattr(edges, "n_edge", None)
        itself = self.with_itself
        return find_pairs(edges.edge_index, edges.n_atoms, first, second, end=end, itself=itself, n_edge=n_edge)

    def pairs(self, edges: Any, check: Callable[[int], None] | None = None) -> Any:
        """(2, T) int32 ids of edges, sorted by the first, then by the second.

        Args:
            edges: of one crystal or of a batch.
            check: called with T before the pairs are made, and may raise an error.
        """
        return _checked(self.find(edges), check).ids()

    def count_by_edge(self, edges: Any, slack: float = 0.0) -> NDArray[np.int64]:
        """(E,) in how many pairs each edge comes first, without making the pairs; numpy only."""
        start, end = edges.edge_index
        joint = start if self.shares_centre else end
        first, second = self.first(edges, slack), self.second(edges, slack)
        degree = np.bincount(start if second is None else start[second], minlength=edges.n_atoms)
        counts: NDArray[np.int64] = degree[joint] if first is None else degree[joint] * first
        if not self.with_itself:
            own = joint == start
            counts = counts - (own if second is None else own & second)
        return counts

    def count(self, edges: Any) -> int:
        """T, the number of pairs, from the degrees of atoms alone; numpy only."""
        start, end = edges.edge_index
        first = self.first(edges)
        second = first if type(self).second is Angles.second else self.second(edges)
        starts = start if second is None else start[second]
        degree = np.bincount(starts, minlength=edges.n_atoms)
        if self.shares_centre and first is second:
            joint = degree
        else:
            ends = start if self.shares_centre else end
            joint = np.bincount(ends if first is None else ends[first], minlength=edges.n_atoms)
        own: Any = 0
        if not self.with_itself:
            own = (
                len(starts)
                if self.shares_centre
                else np.count_nonzero(starts == (end if second is None else end[second]))
            )
        return int(joint @ degree) - int(own)


@dataclass(frozen=True, kw_only=True, repr=False)
class _WithinThreebodyCutoff(Angles):
    """Angles between edges within a cutoff of their own."""

    threebody_cutoff: Length

    @property
    def cutoff(self) -> float:
        """``threebody_cutoff``, A."""
        return self.threebody_cutoff


@dataclass(frozen=True, kw_only=True, repr=False)
class Triplets(_WithinThreebodyCutoff):
    """M3GNet's: two different edges of one centre, both within a cutoff. See :func:`triplets`.

    Args:
        threebody_cutoff: A.
    """

    name: ClassVar[str] = "m3gnet"
    shares_centre: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True, repr=False)
class LineGraph(Angles):
    """ALIGNN's to 2025: an edge, and another that starts where it ends. See :func:`line_graph`."""

    name: ClassVar[str] = "alignn"
    shares_centre: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True, repr=False)
class WholeLineGraph(_WithinThreebodyCutoff):
    """ALIGNN's from 2026: the same within a cutoff, and an edge with itself. See :func:`whole_line_graph`.

    Args:
        threebody_cutoff: A.
    """

    name: ClassVar[str] = "alignn-2026"
    shares_centre: ClassVar[bool] = False
    with_itself: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True, repr=False)
class BondGraph(Angles):
    """CHGNet's: two different edges of one centre, the second strictly within the cutoff. See :func:`bond_graph`.

    Args:
        bond_cutoff: A.
    """

    name: ClassVar[str] = "chgnet"
    shares_centre: ClassVar[bool] = True
    needs_pairs: ClassVar[bool] = True

    bond_cutoff: Length

    @property
    def cutoff(self) -> float:
        """``bond_cutoff``, A."""
        return self.bond_cutoff

    def second(self, edges: Any, slack: float = 0.0) -> Any:
        """(E,) the edges strictly within the cutoff."""
        return edges.distances < self.bond_cutoff + slack


ANGLES: Mapping[str, type[Angles]] = MappingProxyType(
    {angles.name: angles for angles in (Triplets, LineGraph, WholeLineGraph, BondGraph)}
)
"""Name -> angles of the package."""


def _checked(pairs: EdgePairs, check: Callable[[int], None] | None) -> EdgePairs:
    """Call the check of a caller who does not trust the edges, before the pairs are made."""
    if check is not None:
        check(pairs.total)
    return pairs
