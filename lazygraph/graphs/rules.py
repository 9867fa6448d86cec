"""The selection rules by name: the fields of a recipe that each takes and needs, and the edges it makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.lattice import comformer_images
from lazygraph.graphs.nearest import nearest_edges
from lazygraph.graphs.neighbors import Search
from lazygraph.graphs.pairs import Edges, both_directions
from lazygraph.graphs.radius import radius_pairs
from lazygraph.graphs.reference import reference_pairs
from lazygraph.graphs.shell import shell_pairs

if TYPE_CHECKING:
    from lazygraph.graphs.spec import GraphSpec

__all__ = ["RULES", "Rule", "build_graph"]

MATFORMER_IMAGES = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=np.float64)


class Rule(NamedTuple):
    """One way to choose edges."""

    edges: Callable[[GraphSpec, Search, NDArray[np.float64] | None], tuple[Edges, NDArray[np.float64] | None]]
    """Of a recipe, a neighbour search in a crystal, and ComFormer's lattice images where the recipe has them. Gives the
    distances of the edges, A, where the rule knows those of all."""
    needs: frozenset[str]
    """The fields that the rule cannot do without."""
    takes: frozenset[str]
    """The other fields that a recipe of this rule may have."""


def _shell(spec: GraphSpec, search: Search, lattice_images: NDArray[np.float64] | None) -> tuple[Edges, None]:
    settings = _fields(spec, "max_neighbors", "duplicates")
    if spec.lattice_edges == "matformer":
        settings |= {"self_images": MATFORMER_IMAGES, "self_cutoff": spec.cutoff}
    elif spec.lattice_edges == "comformer":
        settings["self_images"] = lattice_images
    if spec.ties == "reference":
        return both_directions(reference_pairs(search, **_fields(spec, "cutoff"), **settings)), None
    return both_directions(shell_pairs(search, **_fields(spec, "tolerance"), **settings)), None


def _nearest(spec: GraphSpec, search: Search, _: NDArray[np.float64] | None) -> tuple[Edges, NDArray[np.float64]]:
    edges, distances = nearest_edges(search, **_fields(spec, "max_neighbors", "reach"))
    return _without_isolated_atoms(spec, search.crystal, edges), distances


def _radius(spec: GraphSpec, search: Search, _: NDArray[np.float64] | None) -> tuple[Edges, NDArray[np.float64]]:
    pairs, distances = radius_pairs(search, spec.reach)
    return _without_isolated_atoms(spec, search.crystal, both_directions(pairs)), distances.repeat(2)


def _fields(spec: GraphSpec, *names: str) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in names}


def _without_isolated_atoms(spec: GraphSpec, crystal: Crystal, edges: Edges) -> Edges:
    if spec.isolated_atoms == "error":
        counts = np.bincount(edges[0][0], minlength=len(crystal))
        if not counts.all():
            msg = (
                f"atom {int(counts.argmin())} has no neighbour within {spec.cutoff:g} A; required for the preset "
                f"{spec.preset!r}: at least one for every atom"
            )
            raise StructureError(msg)
    return edges


_EXTRAS = frozenset({"threebody_cutoff", "bond_cutoff", "lattice_vectors", "angles"})

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "shell": Rule(
            _shell,
            needs=frozenset({"max_neighbors", "ties"}),
            takes=_EXTRAS | {"cutoff", "tolerance", "duplicates", "lattice_edges"},
        ),
        "nearest": Rule(
            _nearest, needs=frozenset({"max_neighbors", "cutoff", "boundary"}), takes=_EXTRAS | {"isolated_atoms"}
        ),
        "radius": Rule(_radius, needs=frozenset({"cutoff", "boundary"}), takes=_EXTRAS | {"isolated_atoms"}),
    }
)


def build_graph(spec: GraphSpec, search: Search) -> CrystalGraph:
    """The graph of the crystal in which a search looks, by the rule of a recipe."""
    lattice_images = (
        comformer_images(search.crystal) if "comformer" in (spec.lattice_vectors, spec.lattice_edges) else None
    )
    (edge_index, images), distances = RULES[spec.rule].edges(spec, search, lattice_images)
    stored = lattice_images.astype(np.int16) if lattice_images is not None and spec.lattice_vectors else None
    graph = CrystalGraph(search.crystal, edge_index, images, stored)
    if distances is not None:
        graph.distances = distances  # the same numbers, which would be computed again when asked for
    return graph
