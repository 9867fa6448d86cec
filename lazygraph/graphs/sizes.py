"""Derived sizes: whole numbers that are counted when a graph is written, so no record must be read later."""

from __future__ import annotations

from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.spec import GraphSpec

__all__ = ["derived_names", "derived_sizes"]


def derived_names(spec: GraphSpec) -> tuple[str, ...]:
    """The names of the derived sizes that graphs of a recipe have: columns of its datasets.

    Example:
        >>> from lazygraph.graphs import graph
        >>> derived_names(graph("m3gnet"))
        ('n_triplets',)
    """
    return () if spec.angles is None else ("n_triplets",)


def derived_sizes(spec: GraphSpec, graph: CrystalGraph) -> dict[str, int]:
    """The derived sizes of one graph, in the order of :func:`derived_names`.

    ``n_triplets`` is the number of angles that the recipe's ``angles`` make.

    Args:
        spec: the recipe.
        graph: a graph that it built.
    """
    return {} if spec.angles is None else {"n_triplets": spec.angles.count(graph)}
