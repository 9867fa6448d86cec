"""Derived sizes: one whole number a graph, counted when its record is made, for which no record must be read later."""

from __future__ import annotations

import numpy as np

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
    asked = {"n_triplets": spec.angles is not None, "min_neighbors": spec.rule.is_complete}
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
    sizes: dict[str, int] = {}
    if spec.angles is not None:
        sizes["n_triplets"] = spec.angles.count(graph)
    if spec.rule.is_complete:
        sizes["min_neighbors"] = min_neighbors(spec, graph)
    return sizes


def min_neighbors(spec: GraphSpec, graph: CrystalGraph) -> int:
    """The derived size of this name of a graph that holds every neighbour; see :func:`derived_sizes`."""
    centres = graph.edge_index[0][graph.distances + MAX_TOLERANCE <= spec.rule.reach]
    return int(np.bincount(centres, minlength=graph.n_atoms).min())
