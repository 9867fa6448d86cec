"""The selection rules by name: the fields of a recipe that each takes and needs, and the edges it makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError
from lazygraph.graphs.backends import Backend
from lazygraph.graphs.nearest import nearest_edges
from lazygraph.graphs.pairs import Edges, both_directions
from lazygraph.graphs.radius import radius_pairs
from lazygraph.graphs.reference import reference_pairs
from lazygraph.graphs.shell import shell_pairs

if TYPE_CHECKING:
    from lazygraph.graphs.spec import GraphSpec

__all__ = ["RULES", "Rule"]

MATFORMER_IMAGES = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=np.float64)


class Rule(NamedTuple):
    """One way to choose edges."""

    edges: Callable[[GraphSpec, Crystal, Backend, NDArray[np.float64] | None], Edges]
    """Of a recipe, a crystal, a neighbour search, and ComFormer's lattice images where the recipe has them."""
    needs: frozenset[str]
    """The fields that the rule cannot do without."""
    takes: frozenset[str]
    """The other fields that a recipe of this rule may have."""


def _shell(spec: GraphSpec, crystal: Crystal, backend: Backend, lattice_images: NDArray[np.float64] | None) -> Edges:
    settings = _fields(spec, "max_neighbors", "duplicates")
    if spec.lattice_edges == "matformer":
        settings |= {"self_images": MATFORMER_IMAGES, "self_cutoff": spec.cutoff}
    elif spec.lattice_edges == "comformer":
        settings["self_images"] = lattice_images
    if spec.ties == "reference":
        return both_directions(reference_pairs(crystal, **_fields(spec, "cutoff"), **settings, backend=backend))
    return both_directions(shell_pairs(crystal, **_fields(spec, "tolerance"), **settings, backend=backend))


def _nearest(spec: GraphSpec, crystal: Crystal, backend: Backend, _: NDArray[np.float64] | None) -> Edges:
    edges = nearest_edges(crystal, **_fields(spec, "max_neighbors", "cutoff", "boundary"), backend=backend)
    return _without_isolated_atoms(spec, crystal, edges)


def _radius(spec: GraphSpec, crystal: Crystal, backend: Backend, _: NDArray[np.float64] | None) -> Edges:
    pairs = radius_pairs(crystal, **_fields(spec, "cutoff", "boundary"), backend=backend)
    return _without_isolated_atoms(spec, crystal, both_directions(pairs))


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


_EXTRAS = frozenset({"threebody_cutoff", "bond_cutoff", "lattice_vectors"})

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
