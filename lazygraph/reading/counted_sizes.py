"""Labels that hold the sizes of graphs of a recipe other than the stored one.

Edges that are built when a dataset is read are not counted beforehand. ``lazygraph count`` counts them once and stores
the numbers as labels, whose description names the recipe. A dataset that is opened with this recipe finds them by that
description.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from lazygraph.format.manifest import Manifest
from lazygraph.graphs.spec import GraphSpec

__all__ = ["counted_sizes", "description_of"]

SIZES = {"n_edges": "number of edges", "n_triplets": "number of angles"}


def description_of(size: str, spec: GraphSpec) -> str:
    """Return the description of the label that holds a size of a recipe's graphs.

    Args:
        size: ``n_edges`` or ``n_triplets``.
        spec: the recipe. Its name counts as little as the name of its preset: recipes that build the same graphs with
            the same angles have one description.

    Example:
        >>> from lazygraph.graphs import graph
        >>> description_of("n_edges", graph("mace", cutoff=4.5)) == description_of("n_edges", graph("sevennet"))
        True
    """
    recipe = {name: value for name, value in spec.to_json().items() if name != "preset"}
    return f"{SIZES[size]} of graphs with the recipe {json.dumps(recipe, sort_keys=True)}"


def counted_sizes(manifest: Manifest, spec: GraphSpec) -> Mapping[str, str]:
    """Return the labels of a dataset that hold sizes of a recipe's graphs: size -> label.

    A label with a missing value does not count: graphs were added to the dataset after it was made. Readers compare
    the numbers with the graphs that they build.
    """
    wanted = {description_of(size, spec): size for size in SIZES if size == "n_edges" or spec.angles is not None}
    return {
        wanted[column.description]: name
        for name, column in manifest.labels().items()
        if column.description in wanted and column.dtype == "<i8" and not (column.statistics or {}).get("missing")
    }
