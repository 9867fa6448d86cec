"""Other graphs of a radius graph: its edges are a neighbour search already done, complete up to its cutoff.

A smaller radius, the k nearest or a k-th shell are chosen by the same rules from the stored edges, without a search,
and come out the same to the bit. That a dataset's graphs hold every edge that a recipe wants is proven beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import RecipeMismatch
from lazygraph.graphs.backends import Found
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.nearest import Nearest
from lazygraph.graphs.neighbors import Neighbors
from lazygraph.graphs.parameters import MAX_TOLERANCE
from lazygraph.graphs.rule import Rule, WithinCutoff
from lazygraph.graphs.shell import Shell
from lazygraph.graphs.spec import GraphSpec
from lazygraph.graphs.vectors import edge_distances

__all__ = ["check_recut", "recut"]

_ANEW = "Write the graphs anew from this dataset: lazygraph-write OLD.lg -o NEW.lg --graph ..."


def recut(wanted: GraphSpec, stored: GraphSpec, graph: CrystalGraph) -> CrystalGraph:
    """The graph that ``wanted`` builds of the crystal of ``graph``, made of its edges.

    Args:
        wanted: the recipe of the result.
        stored: the recipe of ``graph``.
        graph: a graph that ``stored`` built.

    Returns:
        What ``wanted.build(graph.crystal)`` returns: the same edges, in the same order.

    Raises:
        StructureError: the crystal cannot become a graph of ``wanted``.
        RecipeMismatch: the edges do not reach so far, which :func:`check_recut` tells of a whole dataset.

    Example:
        >>> from lazygraph.crystal import Crystal
        >>> from lazygraph.graphs import graph
        >>> wide, cubic = graph("radius", cutoff=6.0), Crystal(np.eye(3) * 3.0, [[0, 0, 0]], [84])
        >>> recut(graph("cgcnn", max_neighbors=6), wide, wide.build(cubic))
        CrystalGraph(Po, n_atoms=1, n_edges=6)
    """
    return wanted.rule.build(_StoredSearch(graph, _reach(stored, wanted)))


def check_recut(
    stored: GraphSpec, wanted: GraphSpec, min_neighbors: NDArray[Any] | None, graph_id: Callable[[int], str]
) -> None:
    """Make sure that the graphs of a dataset hold every edge that a recipe wants.

    A smaller radius is contained in a larger one, and the k nearest are where they may lie no farther. Otherwise every
    atom must have k neighbours so near that their shell ends within the stored cutoff. Edges along lattice vectors
    follow from the cell alone.

    Args:
        stored: the recipe of the dataset.
        wanted: the recipe of the graphs to be made of its edges.
        min_neighbors: (G,) the dataset's column of this name (see :func:`lazygraph.graphs.sizes.derived_sizes`), or
            None if it has none.
        graph_id: the id of a row, for the message.

    Raises:
        RecipeMismatch: it is not proven for every graph.
    """
    reach = _reach(stored, wanted)
    if wanted.rule.replays_rounding:
        raise _other_distances()
    if wanted.rule.reach <= reach:
        return
    if not isinstance(wanted.rule, (Shell, Nearest)):
        msg = (
            f"the dataset holds the neighbours with {_limit(stored.rule)}; required for {wanted}: those with "
            f"{_limit(wanted.rule)}. {_ANEW}"
        )
        raise RecipeMismatch(msg)
    if min_neighbors is None:
        msg = f"the dataset has no column 'min_neighbors'; required for {wanted}, to see that none is missing. {_ANEW}"
        raise RecipeMismatch(msg)
    few = (min_neighbors < wanted.rule.max_neighbors).nonzero()[0]
    if few.size:
        row = int(few[0])
        msg = (
            f"an atom of {graph_id(row)!r} (row {row}) has {min_neighbors[row]} neighbours within "
            f"{reach - MAX_TOLERANCE:g} A, and {few.size} of {len(min_neighbors)} graphs have such an atom; "
            f"required for {wanted}: at least {wanted.rule.max_neighbors}, so that none can be missing. {_ANEW}"
        )
        raise RecipeMismatch(msg)


class _StoredSearch:
    """A search among the edges of a radius graph."""

    def __init__(self, graph: CrystalGraph, reach: float) -> None:
        self.crystal, self.reach = graph.crystal, reach
        self._edge_index, self._images = graph.edge_index, graph.images
        # Edges 2m and 2m + 1 are each other's reverse, and the first of them is the one that a search gives once.
        if "distances" in graph.__dict__:  # computed already, to compare a size
            self._distances = graph.distances
        else:
            half = edge_distances(graph.frac_coords, graph.lattice, graph.edge_index[:, ::2], graph.images[::2])
            self._distances = half.repeat(2)

    def within(self, radius: float, *, once: bool = False) -> Neighbors:
        """See :meth:`lazygraph.graphs.neighbors.Search.within`."""
        if radius > self.reach:
            msg = f"the stored edges end at {self.reach:.9g} A; required: all neighbours within {radius:.9g} A"
            raise RecipeMismatch(msg)
        near = (self._distances <= radius).nonzero()[0]
        if once:
            near = near[::2]
        i, j = self._edge_index.take(near, 1).astype(np.int64)
        return Neighbors(i, j, self._images.take(near, 0).astype(np.float64), self._distances.take(near))

    def propose(self, radius: float) -> Found:  # noqa: ARG002
        """See :meth:`lazygraph.graphs.neighbors.Search.propose`."""
        raise _other_distances()


def _reach(stored: GraphSpec, wanted: GraphSpec) -> float:
    """How far the edges of a recipe are all neighbours that there are, A."""
    if not stored.rule.is_complete:
        msg = (
            f"the dataset holds graphs of {stored}; required for {wanted}: these very graphs, or graphs of the rule "
            f"'radius', which hold every neighbour within a cutoff. {_ANEW}"
        )
        raise RecipeMismatch(msg)
    return stored.rule.reach


def _limit(rule: Rule) -> str:
    return f"d {rule.boundary} {rule.cutoff} A" if isinstance(rule, WithinCutoff) else f"d <= {rule.reach:.9g} A"


def _other_distances() -> RecipeMismatch:
    return RecipeMismatch(
        "the dataset holds edges within a cutoff by the distances as they are; required for ties='reference': those of "
        f"the published arithmetic, which rounds the lattice. {_ANEW}"
    )
