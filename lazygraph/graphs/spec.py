"""The recipe of a graph: which atoms are joined. Frozen, hashable, written into every dataset."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lazygraph.crystal import Crystal
from lazygraph.errors import RecipeError
from lazygraph.graphs.backends import Backend, backend_named
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.effort import MAX_IMAGES, MOST_IMAGES
from lazygraph.graphs.neighbors import BackendSearch
from lazygraph.graphs.parameters import check, impossible, switch
from lazygraph.graphs.presets import PRESET_REGISTRY, PRESETS, REQUIRED
from lazygraph.graphs.rules import RULES, build_graph
from lazygraph.registry import unknown_name

__all__ = ["GraphSpec", "check_images", "graph"]

# Fields younger than the first release: written where they are set, so that its recipes keep their bytes and are read.
YOUNGER = frozenset({"threebody_cutoff", "bond_cutoff", "isolated_atoms", "angles"})


@dataclass(frozen=True, slots=True, repr=False)
class GraphSpec:
    """Which edges a crystal gets. Made by :func:`graph`; checked, picklable, hashable, compared field by field.

    Complete in itself: rule and fields say everything, and the preset's name is a label, never looked up to build. A
    field that the recipe has no use for is None.

    Raises:
        RecipeError: a field is impossible, missing or of no use to the rule, or not what a preset of lazygraph fixes.
    """

    preset: str
    """What the recipe was made from: a name of ``PRESETS``, or ``module:variable`` for a preset of a user's own."""
    rule: str
    """``shell`` (up to the shell of the k-th neighbour), ``nearest`` (the k nearest, directed) or ``radius``."""
    cutoff: float | None = None
    """A. With the shell rule a record of the published setting, which changes edges only where :attr:`uses_cutoff`."""
    max_neighbors: int | None = None
    """k of the rules ``shell`` and ``nearest``."""
    ties: str | None = None
    """``shell``: distances within the tolerance make one shell, which is kept whole. ``reference``: the published
    arithmetic, bit for bit (see :mod:`lazygraph.graphs.reference`)."""
    tolerance: float | None = None
    """A; None with ``ties="reference"``, which compares exactly."""
    boundary: str | None = None
    """``<`` or ``<=``: how the rules ``nearest`` and ``radius`` compare a distance with the cutoff."""
    duplicates: bool = False
    """Whether an atom's own images S and -S make two pairs, and so each edge twice, or one."""
    lattice_edges: str | None = None
    """``comformer``: every atom is joined to its images along the three lattice vectors. ``matformer``: to six images,
    unless an atom has fewer than k neighbours within the cutoff."""
    lattice_vectors: str | None = None
    """``comformer``: the graph carries three lattice vectors."""
    threebody_cutoff: float | None = None
    """A, a record for views: triplets and line graphs are made of edges within it, at load."""
    bond_cutoff: float | None = None
    """A, a record for views: CHGNet's bond graph is made of edges within it, at load."""
    isolated_atoms: str | None = None
    """``error``: an atom without edges is a StructureError."""
    angles: str | None = None
    """A record for views and budgets: which pairs of edges make an angle. They are found at load and never stored.

    ``m3gnet``: edges of one centre within ``threebody_cutoff``. ``alignn``: an edge and one that starts where it ends,
    never itself. ``alignn-2026``: the same within ``threebody_cutoff``, itself included. ``chgnet``: the bond graph
    within ``bond_cutoff``. See :mod:`lazygraph.graphs.angles`."""

    def __post_init__(self) -> None:
        if not isinstance(self.preset, str):
            raise impossible("preset", self.preset, "a name")
        if not isinstance(self.rule, str) or self.rule not in RULES:
            raise RecipeError(unknown_name("rule", self.rule, RULES))
        rule = RULES[self.rule]
        for field in dataclasses.fields(self)[2:]:
            value = getattr(self, field.name)
            if field.name in rule.needs or (field.name in rule.takes and value is not None):
                object.__setattr__(self, field.name, check(field.name, value))
            elif value != field.default:
                raise impossible(field.name, value, f"{field.default!r}, for the rule {self.rule!r} has no use for it")
        self._check_together()
        if self.preset in PRESETS:
            self._check_preset()

    @property
    def uses_cutoff(self) -> bool:
        """Whether another cutoff can make other edges: always, but for the shell rule.

        There only Matformer's lattice edges hang on it and, with ``ties="reference"``, which neighbours are lost where
        coordinates span more than one cell.
        """
        return self.rule != "shell" or self.ties == "reference" or self.lattice_edges == "matformer"

    @property
    def reach(self) -> float:
        """The greatest distance within the cutoff, A; infinite for the shell rule.

        So ``d <= reach`` compares with either boundary: ``d < cutoff`` is ``d <= the number before the cutoff``.
        """
        if self.rule == "shell" or self.cutoff is None:
            return math.inf
        return self.cutoff if self.boundary == "<=" else math.nextafter(self.cutoff, 0.0)

    def build(self, structure: Any, *, backend: str | Backend = "native", max_images: int = MAX_IMAGES) -> CrystalGraph:
        """The graph of one structure: a ``Crystal``, a pymatgen, ASE or jarvis object, or one of their dicts.

        Edges of the rules ``shell`` and ``radius`` come in adjacent pairs, 2m (i -> j, S) and 2m + 1 (j -> i, -S),
        sorted by (i, j, S_0, S_1, S_2) of the first, i <= j; for i == j without ``duplicates``, the first non-zero
        component of S is positive. Those of ``nearest`` are sorted by (i, distance, j, S_0, S_1, S_2).

        Args:
            structure: the structure.
            backend: the neighbour search: ``"native"``, compiled at installation, and pymatgen's where it was not or
                where it leaves a structure; ``"pymatgen"``; ``"vesin"``; or a function with the contract of
                ``lazygraph.graphs.backends.Backend``. The graph is the same.
            max_images: how many images of atoms a search for neighbours may look at, and how many neighbours it may
                find. A structure that needs more, such as one with a very flat cell, is refused before the search
                begins, which would take hours or all memory.

        Raises:
            StructureError: the structure cannot become a graph of this recipe.
            RecipeError: the backend is unknown, or ``max_images`` no number from 1 to 1,000,000,000.
            MissingExtra: the backend is not installed.

        Example:
            >>> nacl = Crystal([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
            >>> graph("radius", cutoff=3.0).build(nacl)
            CrystalGraph(ClNa, n_atoms=2, n_edges=12)
        """
        crystal, most = Crystal.from_any(structure), check_images(max_images)
        search = BackendSearch(crystal, backend_named(backend), max_images=most)
        return build_graph(self, search, native=search if backend == "native" else None)

    def diff(self, other: GraphSpec) -> list[str]:
        """One sentence for every field in which ``other`` differs; empty where the recipes are equal.

        Example:
            >>> graph("comformer").diff(graph("comformer", cutoff=8.0))
            ['cutoff: 4.0 here, 8.0 there (the shell rule does not look at it: the edges are the same)']
        """
        unused = self.rule == other.rule and not self.uses_cutoff and not other.uses_cutoff
        note = f" (the {self.rule} rule does not look at it: the edges are the same)"
        return [
            f"{name}: {mine!r} here, {theirs!r} there{note if name == 'cutoff' and unused else ''}"
            for name, mine in dataclasses.asdict(self).items()
            if mine != (theirs := getattr(other, name))
        ]

    def to_json(self) -> dict[str, Any]:
        """The fields by name, only str, int, float, bool and None; those younger than version 0.1 only if set."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if value is not None or name not in YOUNGER}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GraphSpec:
        """The recipe that :meth:`to_json` wrote. Imports nothing, whatever the preset is called.

        Raises:
            RecipeError: a key is unknown or missing, or the values are no recipe.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        unknown, missing = sorted(set(data) - fields), sorted(fields - YOUNGER - set(data))
        if unknown or missing:
            msg = f"the recipe has the unknown keys {unknown} and lacks {missing}; required: exactly {sorted(fields)}"
            raise RecipeError(msg)
        return cls(**data)

    def __repr__(self) -> str:
        if self.preset not in PRESETS:
            fields = ((field.name, getattr(self, field.name), field.default) for field in dataclasses.fields(self))
            shown = [f"{name}={value!r}" for name, value, default in fields if value != default]
            return f"lazygraph.GraphSpec({', '.join(shown)})"
        shown = [repr(self.preset)]
        for name, default in PRESETS[self.preset].parameters.items():
            value = getattr(self, name)
            if name in ("cutoff", "max_neighbors") or value != _default(name, default, self.ties):
                shown.append(f"{name}={value!r}")
        return f"lazygraph.graph({', '.join(shown)})"

    def _check_together(self) -> None:
        """Raise where two fields contradict one another."""
        if self.ties == "reference":
            if self.tolerance is not None:
                raise impossible("tolerance", self.tolerance, "None with ties='reference', which compares exactly")
            if self.cutoff is None:
                msg = (
                    f"found ties='reference' without cutoff; required: where the published search begins. The preset "
                    f"{self.preset!r} was never published: use ties='shell'"
                )
                raise RecipeError(msg)
        elif self.ties == "shell" and self.tolerance is None:
            raise impossible("tolerance", None, "a length in A with ties='shell'")
        if self.lattice_edges is not None and not self.duplicates:
            raise impossible("duplicates", value=False, required=f"True with lattice_edges={self.lattice_edges!r}")
        if self.lattice_edges == "matformer" and self.cutoff is None:
            raise impossible("cutoff", None, "a length in A with lattice_edges='matformer'")
        for name in ("threebody_cutoff", "bond_cutoff"):
            inner = getattr(self, name)
            if inner is not None and self.rule != "shell" and inner > self.cutoff:
                raise impossible(name, inner, f"at most the cutoff, {self.cutoff:g} A")
        self._check_angles()

    def _check_angles(self) -> None:
        """Raise where the angles lack a cutoff, or edges in pairs."""
        cutoff = {"m3gnet": "threebody_cutoff", "alignn-2026": "threebody_cutoff", "chgnet": "bond_cutoff"}
        name = cutoff.get(str(self.angles))
        if name is not None and getattr(self, name) is None:
            raise impossible(name, None, f"a length in A with angles={self.angles!r}")
        if self.angles == "chgnet" and self.rule == "nearest":
            raise impossible("angles", self.angles, "another with the rule 'nearest', whose edges do not come in pairs")

    def _check_preset(self) -> None:
        """Raise where a recipe carries the name of a preset that fixes something else."""
        preset = PRESETS[self.preset]
        fixed = {field.name: field.default for field in dataclasses.fields(self)[2:]}
        fixed |= {"rule": preset.rule, **preset.fixed}
        for name, value in fixed.items():
            found = getattr(self, name)
            if name not in preset.parameters and found != value:
                msg = f"the recipe has {name}={found!r}; required for the preset {self.preset!r}: {value!r}"
                raise RecipeError(msg)
        if "lattice_edges" in preset.parameters:
            switch("lattice_edges", self.lattice_edges, preset.parameters["lattice_edges"])


def check_images(max_images: int) -> int:
    """The greatest number of images that a search may look at.

    Raises:
        RecipeError: it is no number from 1 to 1,000,000,000.
    """
    whole: object = max_images
    if not isinstance(whole, numbers.Integral) or not 1 <= max_images <= MOST_IMAGES:
        raise impossible("max_images", max_images, f"a whole number from 1 to {MOST_IMAGES:,}")
    return int(max_images)


def graph(preset: str, /, **parameters: Any) -> GraphSpec:
    """Make a recipe: a preset named after a published model, a bare rule, or a preset of your own, with parameters.

    Args:
        preset: ``comformer``, ``matformer``, ``potnet``, ``alignn``, ``alignn-2026``, ``cgcnn``, ``atlas``,
            ``megnet``, ``m3gnet``, ``chgnet``, ``mace``, ``nequip``, ``sevennet``; ``shell``, ``nearest``, ``radius``;
            or ``module:variable``, a :class:`lazygraph.graphs.Preset` in a module of yours, which is imported.
        **parameters: what the preset takes, defaults from its published settings: ``cutoff`` (A), ``max_neighbors``,
            ``ties`` (``"shell"`` or ``"reference"``), ``tolerance`` (A), ``lattice_edges`` (bool), ``boundary``
            (``"<"`` or ``"<="``), ``threebody_cutoff`` (A), ``bond_cutoff`` (A).

    Raises:
        RecipeError: the preset or a parameter is unknown, required and missing, or impossible.

    Example:
        >>> graph("comformer", max_neighbors=12)
        lazygraph.graph('comformer', cutoff=4.0, max_neighbors=12)
        >>> graph("alignn", ties="reference")
        lazygraph.graph('alignn', cutoff=8.0, max_neighbors=12, ties='reference')
    """
    declared = PRESET_REGISTRY.get(preset)
    if unknown := sorted(parameters.keys() - declared.parameters.keys()):
        raise RecipeError(unknown_name(f"parameter of the preset {preset!r}:", unknown[0], declared.parameters))
    ties = parameters.get("ties", declared.parameters.get("ties"))
    fields: dict[str, Any] = {}
    for name, declared_default in declared.parameters.items():
        default = _default(name, declared_default, ties)
        value = parameters.get(name, default)
        if value is REQUIRED:
            msg = f"the preset {preset!r} needs {name}, as in lazygraph.graph({preset!r}, {name}=...)"
            raise RecipeError(msg)
        if name == "lattice_edges":
            value = switch(name, value, default)
        elif value is None and default is not None:
            check(name, None)
        fields[name] = value
    try:
        return GraphSpec(preset, declared.rule, **fields, **declared.fixed)
    except TypeError as error:
        msg = f"the preset {preset!r} declares what no recipe has ({error}); required: fields of GraphSpec"
        raise RecipeError(msg) from error


def _default(name: str, declared: Any, ties: Any) -> Any:
    """What a parameter is where nobody sets it."""
    return None if name == "tolerance" and ties == "reference" else declared
