"""The class ``Rule``, the base of all rules that choose the edges of a crystal."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError
from lazygraph.graphs.compiled import CRule, build_edges_of_crystal
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.lattice import comformer_images
from lazygraph.graphs.neighbors import BackendSearch, Search
from lazygraph.graphs.pairs import Edges
from lazygraph.graphs.parameters import Boundary, Length, Parameters, choice, impossible, optional

__all__ = ["ChosenEdges", "Rule", "WithinCutoff", "native_rule"]


class ChosenEdges(NamedTuple):
    """The edges that a rule chooses in one crystal."""

    edges: Edges
    """``edge_index`` (2, E) int32 and ``images`` (E, 3) int16, in the order that the rule states."""
    distances: NDArray[np.float64] | None = None
    """(E,) A, where the rule knows the distances of all edges."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Rule(Parameters, ABC):
    """One way to choose the edges of a crystal: a frozen dataclass of its parameters.

    To add a rule, write a subclass with a ``name`` and ``edges``, and a :class:`lazygraph.graphs.Preset` that names the
    class. Edges have one of two orders, which :attr:`most_neighbors` tells apart:

    - None: edge 2m + 1 (j -> i, -S) is the reverse of edge 2m (i -> j, S), and only edge 2m is stored;
    - a number: edges are sorted by their first atom, and each atom has at most this number of edges.

    Args:
        lattice_vectors: ``comformer``: the graph carries ComFormer's three lattice vectors.
    """

    lattice_vectors: Annotated[str | None, optional(choice("comformer"))] = None

    @abstractmethod
    def edges(self, search: Search) -> ChosenEdges:
        """The edges of the crystal of a search. The same crystal gives the same edges in the same order.

        Raises:
            StructureError: the crystal cannot become a graph of this rule.
        """

    def loop(self) -> CRule | None:
        """Return the rule as the compiled loops take it, which give the edges of :meth:`edges` to the bit.

        None for a rule without a loop, as of every subclass that states other edges than its base class.
        """
        return None

    def compiled(self, search: BackendSearch, lattice_images: NDArray[np.float64] | None = None) -> ChosenEdges | None:
        """Return the result of :meth:`edges`, to the bit, from a compiled loop. If None, :meth:`edges` is used instead.

        Args:
            search: the search in a crystal.
            lattice_images: (3, 3) ComFormer's lattice vectors, for a rule that joins atoms along them.
        """
        told = native_rule(self, finds_lattice=False)
        if told is None:
            return None
        images = None if lattice_images is None else lattice_images.astype(np.int16)
        found = build_edges_of_crystal(told, search.crystal, search.max_images, images)
        return None if found is None else ChosenEdges(found[:2], found[2])

    def build(self, search: Search, native: BackendSearch | None = None) -> CrystalGraph:
        """The graph of the crystal of a search.

        Args:
            search: the neighbour search.
            native: the same search for the compiled loop, if there is one.
        """
        found = self.compiled(native) if native is not None else None
        images = comformer_images(search.crystal) if self.lattice_vectors else None
        return self._graph(search.crystal, found or self.edges(search), images)

    @property
    def has_edges(self) -> bool:
        """Whether graphs may have edges. Datasets of a rule without edges have no edge axis."""
        return True

    @property
    def reach(self) -> float:
        """The greatest length of an edge, A; infinite if the rule has no bound."""
        return math.inf

    @property
    def most_neighbors(self) -> int | None:
        """The greatest number of edges per atom, if sorted by their first atom; None if edges come in pairs."""
        return None

    @property
    def is_complete(self) -> bool:
        """Whether a graph holds every neighbour within :attr:`reach`."""
        return False

    @property
    def replays_rounding(self) -> bool:
        """Whether distances equal the distances of the published code, which rounds the lattice."""
        return False

    @property
    def unused(self) -> frozenset[str]:
        """The parameters that have no influence on the edges."""
        return frozenset()

    @classmethod
    def setting(cls, name: str, given: Mapping[str, Any], declared: Mapping[str, Any]) -> Any:
        """The value of a preset's parameter.

        Args:
            name: the parameter, one of ``declared``.
            given: the values that the user set.
            declared: the preset's parameters with their defaults.

        Raises:
            RecipeError: None was given in place of a value.
        """
        value, default = given.get(name, declared[name]), declared[name]
        if value is None and isinstance(default, (str, int, float)):
            raise impossible(name, None, f"a value such as {default!r}")
        return value

    def _graph(self, crystal: Crystal, found: ChosenEdges, lattice_images: NDArray[np.float64] | None) -> CrystalGraph:
        """The graph with these edges; ``lattice_images``: (3, 3) that it carries, or None."""
        (edge_index, images), distances = found
        stored = None if lattice_images is None else lattice_images.astype(np.int16)
        graph = CrystalGraph(crystal, edge_index, images, stored)
        if distances is not None:
            graph.distances = distances  # the same numbers, which would be computed again when asked for
        return graph


@lru_cache(maxsize=64)
def native_rule(rule: Rule, *, finds_lattice: bool = True) -> CRule | None:
    """The result of ``rule.loop()``; None if a subclass of the rule with the loop states other edges.

    Args:
        rule: the rule.
        finds_lattice: whether the loops find ComFormer's lattice vectors, if the rule needs them.
    """
    classes = type(rule).__mro__
    stated, looped = (next(k for k, one in enumerate(classes) if name in vars(one)) for name in ("edges", "loop"))
    told = rule.loop() if looped <= stated else None
    if told is not None and not finds_lattice:
        told.finds_lattice = 0
    return told


@dataclass(frozen=True, kw_only=True, repr=False)
class WithinCutoff(Rule):
    """The base of rules that use only neighbours within a cutoff.

    Args:
        cutoff: A.
        boundary: ``<`` or ``<=``: how a distance is compared with the cutoff.
        isolated_atoms: ``error``: an atom without edges is a StructureError.
    """

    cutoff: Length
    boundary: Boundary = "<="
    isolated_atoms: Annotated[str | None, optional(choice("error"))] = None

    @property
    def reach(self) -> float:
        """A; ``d <= reach`` compares with either boundary: ``d < cutoff`` is ``d <= the number before the cutoff``."""
        return self.cutoff if self.boundary == "<=" else math.nextafter(self.cutoff, 0.0)

    def _graph(self, crystal: Crystal, found: ChosenEdges, lattice_images: NDArray[np.float64] | None) -> CrystalGraph:
        if self.isolated_atoms == "error":
            counts = np.bincount(found.edges[0][0], minlength=len(crystal))
            if not counts.all():
                msg = (
                    f"atom {int(counts.argmin())} has no neighbour within {self.cutoff:g} A, which "
                    "isolated_atoms='error' does not allow; increase the cutoff"
                )
                raise StructureError(msg)
        return Rule._graph(self, crystal, found, lattice_images)  # noqa: SLF001  # of its own base
