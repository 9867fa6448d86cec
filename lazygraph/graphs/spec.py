"""The recipe of a graph: which atoms are joined. Frozen, hashable, written into every dataset."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from types import MappingProxyType
from typing import Any

from lazygraph.crystal import Crystal
from lazygraph.errors import RecipeError
from lazygraph.graphs.angles import Angles
from lazygraph.graphs.backends import Backend, backend_named
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.effort import MAX_IMAGES, MOST_IMAGES
from lazygraph.graphs.neighbors import BackendSearch
from lazygraph.graphs.parameters import impossible
from lazygraph.graphs.presets import PRESET_REGISTRY, PRESETS, REQUIRED, Preset
from lazygraph.graphs.rule import Rule
from lazygraph.graphs.rules import find_angles, find_rule
from lazygraph.registry import unknown_name

__all__ = ["GraphSpec", "check_images", "graph"]

# The keys of a recipe in JSON, in their order, with what they are where rule and angles lack them. The first stand in
# each recipe; the others, which are younger, only where they are set.
FIRST: Mapping[str, Any] = MappingProxyType(
    {
        "cutoff": None,
        "max_neighbors": None,
        "ties": None,
        "tolerance": None,
        "boundary": None,
        "duplicates": False,
        "lattice_edges": None,
        "lattice_vectors": None,
    }
)
YOUNGER = ("threebody_cutoff", "bond_cutoff", "isolated_atoms", "angles")


@dataclass(frozen=True, slots=True, repr=False)
class GraphSpec:
    """Which edges a crystal gets. Made by :func:`graph`; checked, picklable, hashable, compared part by part.

    Complete in itself: rule and angles say everything, and the preset's name is a label, never looked up to build.

    Raises:
        RecipeError: rule and angles do not fit each other, or are not what a preset of lazygraph fixes.

    Example:
        >>> spec = graph("m3gnet")
        >>> spec.rule.cutoff, spec.angles.threebody_cutoff
        (5.0, 4.0)
    """

    preset: str
    """What the recipe was made from: a name of ``PRESETS``, a plug-in's preset, or ``module:variable``."""
    rule: Rule
    """How edges are chosen, with all parameters: ``Shell``, ``Nearest``, ``Radius``, ``NoEdges``, or a plug-in's."""
    angles: Angles | None = None
    """A record for views and budgets: which pairs of edges make an angle. They are found at load and never stored."""

    def __post_init__(self) -> None:
        if not isinstance(self.preset, str):
            raise impossible("preset", self.preset, "a name")
        if not isinstance(self.rule, Rule):
            raise impossible("rule", self.rule, "a rule such as lazygraph.graphs.Radius(cutoff=5.0)")
        if self.angles is not None:
            self._check_angles(self.angles)
        if self.preset in PRESETS:
            self._check_preset(PRESETS[self.preset])

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
        return self.rule.build(search, search if backend == "native" else None)

    def diff(self, other: GraphSpec) -> list[str]:
        """One sentence for every field in which ``other`` differs; empty where the recipes are equal.

        Example:
            >>> graph("comformer").diff(graph("comformer", cutoff=8.0))
            ['cutoff: 4.0 here, 8.0 there (the shell rule does not look at it: the edges are the same)']
        """
        unused = self.rule.unused & other.rule.unused if self.rule.name == other.rule.name else frozenset()
        note = f" (the {self.rule.name} rule does not look at it: the edges are the same)"
        mine, theirs = self._flat(), other._flat()  # of its own class
        return [
            f"{name}: {mine.get(name)!r} here, {theirs.get(name)!r} there{note if name in unused else ''}"
            for name in {**mine, **theirs}
            if mine.get(name) != theirs.get(name)
        ]

    def to_json(self) -> dict[str, Any]:
        """Preset, rule, angles and all parameters by name, in one level: only str, int, float, bool and None."""
        return {name: value for name, value in self._flat().items() if value is not None or name not in YOUNGER}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GraphSpec:
        """The recipe that :meth:`to_json` wrote. Imports nothing, whatever preset and rule are called.

        Raises:
            RecipeError: a key is unknown or missing, the values are no recipe, or the rule or the angles belong to a
                plug-in that is not in use.
        """
        required = ("preset", "rule", *FIRST)
        if missing := [name for name in required if name not in data]:
            msg = f"the recipe lacks {', '.join(missing)}; required: {', '.join(required)}"
            raise RecipeError(msg)
        rule, angles = find_rule(data["rule"]), find_angles(data.get("angles"))
        values = {name: value for name, value in data.items() if name not in ("preset", "rule", "angles")}
        spec = _assembled(data["preset"], rule, angles, values)
        written = spec._flat()  # noqa: SLF001  # of its own class
        for name, value in data.items():
            if written[name] != value:  # such as a tolerance that is left to its default
                raise impossible(name, value, f"{written[name]!r}, as every recipe states it")
        return spec

    def __repr__(self) -> str:
        if self.preset not in PRESETS:
            parts = [repr(self.preset), repr(self.rule), *([repr(self.angles)] if self.angles is not None else [])]
            return f"lazygraph.GraphSpec({', '.join(parts)})"
        shown, declared, values = [repr(self.preset)], PRESETS[self.preset].parameters, self._flat()
        for name in declared:
            given = {other: value for other, value in values.items() if other != name}
            if name in ("cutoff", "max_neighbors") or values[name] != self.rule.setting(name, given, declared):
                shown.append(f"{name}={values[name]!r}")
        return f"lazygraph.graph({', '.join(shown)})"

    def _flat(self) -> dict[str, Any]:
        """Everything in one level, with None for what rule and angles do not have."""
        values = {**FIRST, **dict.fromkeys(YOUNGER), **self.rule.values}
        if self.angles is not None:
            values |= {**self.angles.values, "angles": self.angles.name}
        return {"preset": self.preset, "rule": self.rule.name, **values}

    def _check_angles(self, angles: Angles) -> None:
        """Raise where the angles reach beyond the edges, or need edges in pairs."""
        if not isinstance(angles, Angles):
            raise impossible(
                "angles", angles, "angles such as lazygraph.graphs.Triplets(threebody_cutoff=4.0), or None"
            )
        if not self.rule.has_edges:
            raise impossible("angles", angles.name, f"None with the rule {self.rule.name!r}, which has no edges")
        if angles.needs_pairs and self.rule.most_neighbors is not None:
            required = f"others with the rule {self.rule.name!r}, whose edges do not come in pairs"
            raise impossible("angles", angles.name, required)
        for name, value in angles.values.items():
            if value == angles.cutoff and value is not None and value > math.nextafter(self.rule.reach, math.inf):
                raise impossible(name, value, f"at most the cutoff, {self.rule.values['cutoff']:g} A")

    def _check_preset(self, preset: Preset) -> None:
        """Raise where a recipe carries the name of a preset that fixes something else."""
        values, angles = self._flat(), None if self.angles is None else self.angles.name
        fixed = {**FIRST, **self.rule.defaults(), "rule": preset.rule, "angles": preset.angles, **preset.fixed}
        for name, found in {**values, "angles": angles}.items():
            if name not in preset.parameters and name != "preset" and found != fixed.get(name):
                msg = f"the recipe has {name}={found!r}; required for the preset {self.preset!r}: {fixed.get(name)!r}"
                raise RecipeError(msg)
        for name in preset.parameters:
            self.rule.setting(name, values, preset.parameters)


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
            ``none`` for crystals alone; or ``module:variable``, a :class:`lazygraph.graphs.Preset` in a module of
            yours, which is imported.
        **parameters: what the preset takes, defaults from its published settings: ``cutoff`` (A), ``max_neighbors``,
            ``ties`` (``"shell"`` or ``"reference"``), ``tolerance`` (A), ``lattice_edges`` (bool), ``boundary``
            (``"<"`` or ``"<="``), ``threebody_cutoff`` (A), ``bond_cutoff`` (A).

    Raises:
        RecipeError: the preset or a parameter is unknown, required and missing, or impossible.

    Example:
        >>> graph("comformer", max_neighbors=12)
        lazygraph.graph('comformer', cutoff=4.0, max_neighbors=12)
        >>> graph("none").build(Crystal([[4, 0, 0], [0, 4, 0], [0, 0, 4]], [[0, 0, 0]], [84]))
        CrystalGraph(Po, n_atoms=1, n_edges=0)
        >>> graph("alignn", ties="reference")
        lazygraph.graph('alignn', cutoff=8.0, max_neighbors=12, ties='reference')
    """
    declared = PRESET_REGISTRY.get(preset)
    if unknown := sorted(parameters.keys() - declared.parameters.keys()):
        raise RecipeError(unknown_name(f"parameter of the preset {preset!r}:", unknown[0], declared.parameters))
    rule = find_rule(declared.rule) if isinstance(declared.rule, str) else declared.rule
    angles = declared.angles if isinstance(declared.angles, type) else find_angles(declared.angles)
    values: dict[str, Any] = {}
    for name in declared.parameters:
        values[name] = rule.setting(name, parameters, declared.parameters)
        if values[name] is REQUIRED:
            msg = f"the preset {preset!r} needs {name}, as in lazygraph.graph({preset!r}, {name}=...)"
            raise RecipeError(msg)
    known = {*rule.defaults(), *(angles.defaults() if angles else ())}
    if wrong := sorted({*values, *declared.fixed} - known):
        msg = (
            f"the preset {preset!r} declares {wrong[0]!r}, which neither its rule nor its angles have; required: of "
            f"{', '.join(sorted(known))}"
        )
        raise RecipeError(msg)
    return _assembled(preset, rule, angles, {**values, **declared.fixed})


def _assembled(preset: Any, rule: type[Rule], angles: type[Angles] | None, values: Mapping[str, Any]) -> GraphSpec:
    """The recipe of these parts and of their parameters by name, all in one level.

    Raises:
        RecipeError: a parameter is impossible, missing, or of no use to the parts.
    """
    left = dict(values)
    settings = []
    for part in (rule, angles):
        mine = {} if part is None else {name: left.pop(name, default) for name, default in part.defaults().items()}
        # A missing value is refused as None, unless its check lets None pass.
        settings.append({name: None if value is MISSING else value for name, value in mine.items()})
    for name, value in left.items():
        if name not in FIRST and name not in YOUNGER:
            known = (*rule.defaults(), *(angles.defaults() if angles else ()))
            raise RecipeError(unknown_name("parameter of a recipe:", name, known))
        if value is not FIRST.get(name):
            said = f"the rule {rule.name!r}" + (f" with the angles {angles.name!r}" if angles else " without angles")
            raise impossible(name, value, f"{FIRST.get(name)!r}, for {said} has no use for it")
    return GraphSpec(preset, rule(**settings[0]), None if angles is None else angles(**settings[1]))
