"""Derived sizes: one whole number a graph, counted when its record is made, for which no record must be read later."""

from __future__ import annotations

from typing import Any

import numpy as np

from lazygraph.graphs.angles import count_bond_graph, count_line_graph, count_triplets
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.parameters import MAX_TOLERANCE
from lazygraph.graphs.spec import GraphSpec

__all__ = ["derived_names", "derived_sizes", "min_neighbors"]


def derived_names(spec: GraphSpec) -> tuple[str, ...]:
    """The names of the derived sizes that graphs of a recipe have: columns of its datasets.

    Example:
        >>> from lazygraph.graphs import graph
        >>> derived_names(graph("m3gnet"))
        ('n_triplets', 'min_neighbors')
    """
    asked = {"n_triplets": spec.angles is not None, "min_neighbors": spec.rule == "radius"}
    return tuple(name for name, yes in asked.items() if yes)


def derived_sizes(spec: GraphSpec, graph: CrystalGraph) -> dict[str, int]:
    """The derived sizes of one graph, in the order of :func:`derived_names`.

    ``n_triplets`` is the number of angles that the recipe's ``angles`` make. ``min_neighbors`` is the least number of
    neighbours that any atom has with ``d + 0.1 A`` within the cutoff: no tolerance is greater, so where it is at least
    k, the graph holds the whole shell of every atom's k-th neighbour.

    Args:
        spec: the recipe.
        graph: a graph that it built.
    """
    return {name: _SIZES[name](spec, graph) for name in derived_names(spec)}


def _n_triplets(spec: GraphSpec, graph: CrystalGraph) -> int:
    edges, n = graph.edge_index, graph.n_atoms
    if spec.angles == "alignn":
        return count_line_graph(edges, n)
    cutoff: Any = spec.bond_cutoff if spec.angles == "chgnet" else spec.threebody_cutoff
    if spec.angles == "chgnet":
        return count_bond_graph(edges, n, graph.distances, cutoff)
    kept = graph.distances <= cutoff
    return count_triplets(edges, n, kept) if spec.angles == "m3gnet" else count_line_graph(edges, n, kept, itself=True)


def min_neighbors(spec: GraphSpec, graph: CrystalGraph) -> int:
    """The derived size of this name of a graph of the rule ``radius``; see :func:`derived_sizes`."""
    centres = graph.edge_index[0][graph.distances + MAX_TOLERANCE <= spec.reach]
    return int(np.bincount(centres, minlength=graph.n_atoms).min())


_SIZES = {"n_triplets": _n_triplets, "min_neighbors": min_neighbors}
