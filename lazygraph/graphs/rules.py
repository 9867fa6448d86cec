"""The selection rules by name: the fields of a recipe that each takes and needs, and the edges it makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError
from lazygraph.graphs import compiled
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.lattice import comformer_images
from lazygraph.graphs.nearest import nearest_edges
from lazygraph.graphs.neighbors import BackendSearch, Search
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
    compiled: Callable[[GraphSpec, BackendSearch, NDArray[np.float64] | None], compiled.Found]
    """The same by the compiled loops, which search on their own; None where they leave it to ``edges``."""
    needs: frozenset[str]
    """The fields that the rule cannot do without."""
    takes: frozenset[str]
    """The other fields that a recipe of this rule may have."""


def _shell(spec: GraphSpec, search: Search, lattice_images: NDArray[np.float64] | None) -> tuple[Edges, None]:
    settings = _shell_settings(spec, lattice_images)
    if spec.ties == "reference":
        return both_directions(reference_pairs(search, **_fields(spec, "cutoff"), **settings)), None
    return both_directions(shell_pairs(search, **_fields(spec, "tolerance"), **settings)), None


def _compiled_shell(
    spec: GraphSpec, search: BackendSearch, lattice_images: NDArray[np.float64] | None
) -> compiled.Found:
    if spec.ties == "reference":
        return None
    return compiled.shell_edges(search, **_fields(spec, "tolerance"), **_shell_settings(spec, lattice_images))


def _shell_settings(spec: GraphSpec, lattice_images: NDArray[np.float64] | None) -> dict[str, Any]:
    settings = _fields(spec, "max_neighbors", "duplicates")
    if spec.lattice_edges == "matformer":
        settings |= {"self_images": MATFORMER_IMAGES, "self_cutoff": spec.cutoff}
    elif spec.lattice_edges == "comformer":
        settings["self_images"] = lattice_images
    return settings


def _nearest(spec: GraphSpec, search: Search, _: NDArray[np.float64] | None) -> tuple[Edges, NDArray[np.float64]]:
    return nearest_edges(search, **_fields(spec, "max_neighbors", "reach"))


def _compiled_nearest(spec: GraphSpec, search: BackendSearch, _: NDArray[np.float64] | None) -> compiled.Found:
    return compiled.nearest_edges(search, **_fields(spec, "max_neighbors", "reach"))


def _radius(spec: GraphSpec, search: Search, _: NDArray[np.float64] | None) -> tuple[Edges, NDArray[np.float64]]:
    pairs, distances = radius_pairs(search, spec.reach)
    return both_directions(pairs), distances.repeat(2)


def _compiled_radius(spec: GraphSpec, search: BackendSearch, _: NDArray[np.float64] | None) -> compiled.Found:
    return compiled.radius_edges(search, spec.reach)


def _fields(spec: GraphSpec, *names: str) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in names}


def _check_isolated_atoms(spec: GraphSpec, crystal: Crystal, centres: NDArray[np.int32]) -> None:
    counts = np.bincount(centres, minlength=len(crystal))
    if not counts.all():
        msg = (
            f"atom {int(counts.argmin())} has no neighbour within {spec.cutoff:g} A; required for the preset "
            f"{spec.preset!r}: at least one for every atom"
        )
        raise StructureError(msg)


_EXTRAS = frozenset({"threebody_cutoff", "bond_cutoff", "lattice_vectors", "angles"})

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "shell": Rule(
            _shell,
            _compiled_shell,
            needs=frozenset({"max_neighbors", "ties"}),
            takes=_EXTRAS | {"cutoff", "tolerance", "duplicates", "lattice_edges"},
        ),
        "nearest": Rule(
            _nearest,
            _compiled_nearest,
            needs=frozenset({"max_neighbors", "cutoff", "boundary"}),
            takes=_EXTRAS | {"isolated_atoms"},
        ),
        "radius": Rule(
            _radius,
            _compiled_radius,
            needs=frozenset({"cutoff", "boundary"}),
            takes=_EXTRAS | {"isolated_atoms"},
        ),
    }
)


def build_graph(spec: GraphSpec, search: Search, *, native: BackendSearch | None = None) -> CrystalGraph:
    """The graph, by the rule of a recipe, of the crystal in which a search looks.

    Args:
        spec: the recipe.
        search: what finds neighbours.
        native: the same search, to let the compiled loops do it where they can.
    """
    crystal, rule = search.crystal, RULES[spec.rule]
    lattice_images = comformer_images(crystal) if "comformer" in (spec.lattice_vectors, spec.lattice_edges) else None
    found = rule.compiled(spec, native, lattice_images) if native else None
    (edge_index, images), distances = found or rule.edges(spec, search, lattice_images)
    if spec.isolated_atoms == "error":
        _check_isolated_atoms(spec, crystal, edge_index[0])
    stored = lattice_images.astype(np.int16) if lattice_images is not None and spec.lattice_vectors else None
    graph = CrystalGraph(crystal, edge_index, images, stored)
    if distances is not None:
        graph.distances = distances  # the same numbers, which would be computed again when asked for
    return graph
