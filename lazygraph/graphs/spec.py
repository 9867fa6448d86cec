"""The recipe of a graph: which atoms are joined by edges. Every dataset stores its recipe."""

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
from lazygraph.markup.elements import Html, card, facts, or_plain
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
    """A recipe: which edges and angles a crystal gets. Create it with :func:`graph`.

    A recipe is checked when it is created. It is picklable and hashable, and two recipes are equal if all their parts
    are equal. Rule and angles define the recipe completely. The name of the preset is only a label, and building a
    graph never looks it up.

    Raises:
        RecipeError: the angles do not fit the rule, or the recipe has the name of a preset of lazygraph but other
            parameters.

    Example:
        >>> spec = graph("m3gnet")
        >>> spec.rule.cutoff, spec.angles.threebody_cutoff
        (5.0, 4.0)
    """

    preset: str
    """The preset that the recipe was made from: a name in ``PRESETS``, a preset of a plug-in, or
    ``module:variable``."""
    rule: Rule
    """The rule that chooses the edges, with its parameters: ``Shell``, ``Nearest``, ``Radius``, ``NoEdges``, or your
    own."""
    angles: Angles | None = None
    """Which pairs of edges form an angle. Angles are computed when a graph is read, and never stored."""

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
        """Build the graph of one structure.

        The rules ``shell`` and ``radius`` give pairs of edges: edge 2m is (i -> j, S), and edge 2m + 1 is (j -> i, -S).
        The pairs are sorted by (i, j, S_0, S_1, S_2) of edge 2m, with i <= j. For i == j without ``duplicates``, the
        first non-zero component of S is positive. The edges of ``nearest`` are sorted by (i, distance, j, S_0, S_1,
        S_2).

        Args:
            structure: a ``Crystal``, a pymatgen, ASE or jarvis object, or one of their dicts.
            backend: the neighbour search. ``"native"`` (default) is compiled at installation. It uses pymatgen's search
                if it was not compiled, or if it cannot handle a structure. Others are ``"pymatgen"``, ``"vesin"``,
                ``"nvalchemi"`` (on a GPU if there is one), or a function with the contract of
                ``lazygraph.graphs.backends.Backend``. All backends give the same graph.
            max_images: greatest number of images of atoms that the neighbour search may examine, and greatest number of
                neighbours that it may find. A structure that needs more images, for example because its cell is very
                flat, is refused before the search begins. Without this limit, the search could take hours or all
                memory.

        Raises:
            StructureError: the structure cannot become a graph of this recipe.
            RecipeError: the backend is unknown, or ``max_images`` is not an integer from 1 to 1,000,000,000.
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
        """Return one sentence for every field in which ``other`` differs; an empty list if the recipes are equal.

        Example:
            >>> graph("comformer").diff(graph("comformer", cutoff=8.0))
            ['cutoff: 4.0 here, 8.0 there (the shell rule does not use it, so the edges are the same)']
        """
        unused = self.rule.unused & other.rule.unused if self.rule.name == other.rule.name else frozenset()
        note = f" (the {self.rule.name} rule does not use it, so the edges are the same)"
        mine, theirs = self._flat(), other._flat()  # of its own class
        return [
            f"{name}: {mine.get(name)!r} here, {theirs.get(name)!r} there{note if name in unused else ''}"
            for name in {**mine, **theirs}
            if mine.get(name) != theirs.get(name)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return preset, rule, angles and all parameters as one flat dict of str, int, float, bool and None."""
        return {name: value for name, value in self._flat().items() if value is not None or name not in YOUNGER}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GraphSpec:
        """Return the recipe that :meth:`to_json` wrote. This never imports a module, whatever names the data contain.

        Raises:
            RecipeError: a key is unknown or missing, the values are not a valid recipe, or the rule or the angles
                belong to a plug-in that is not in use.
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
                msg = f"the recipe has {name}={value!r}; a recipe must state the value that it means, {written[name]!r}"
                raise RecipeError(msg)
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

    def _repr_html_(self) -> str:
        return or_plain(self._html, self.__repr__)

    def _html(self) -> Html:
        """Return the recipe for a notebook: its parameters that are set."""
        values = [(name, str(value)) for name, value in self.to_json().items() if value is not None]
        return card(repr(self), facts(values))

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
            msg = f"the rule {self.rule.name!r} has no edges and therefore no angles; leave angles={angles.name!r} out"
            raise RecipeError(msg)
        if angles.needs_pairs and self.rule.most_neighbors is not None:
            msg = (
                f"angles={angles.name!r} needs edges that come in pairs, and the edges of the rule {self.rule.name!r} "
                "do not; use another rule, such as 'radius', or other angles"
            )
            raise RecipeError(msg)
        for name, value in angles.values.items():
            if value == angles.cutoff and value is not None and value > math.nextafter(self.rule.reach, math.inf):
                raise impossible(name, value, f"at most the cutoff, {self.rule.values['cutoff']:g} A")

    def _check_preset(self, preset: Preset) -> None:
        """Raise where a recipe carries the name of a preset that fixes something else."""
        values, angles = self._flat(), None if self.angles is None else self.angles.name
        fixed = {**FIRST, **self.rule.defaults(), "rule": preset.rule, "angles": preset.angles, **preset.fixed}
        for name, found in {**values, "angles": angles}.items():
            if name not in preset.parameters and name != "preset" and found != fixed.get(name):
                msg = f"the recipe has {name}={found!r}; the preset {self.preset!r} needs {name}={fixed.get(name)!r}"
                raise RecipeError(msg)
        for name in preset.parameters:
            self.rule.setting(name, values, preset.parameters)


def check_images(max_images: int) -> int:
    """Return the greatest number of images that a search may examine.

    Raises:
        RecipeError: it is not an integer from 1 to 1,000,000,000.
    """
    whole: object = max_images
    if not isinstance(whole, numbers.Integral) or not 1 <= max_images <= MOST_IMAGES:
        raise impossible("max_images", max_images, f"a whole number from 1 to {MOST_IMAGES:,}")
    return int(max_images)


def graph(preset: str, /, **parameters: Any) -> GraphSpec:
    """Create a recipe from a preset and its parameters.

    Args:
        preset: a preset named after a published model: ``comformer``, ``matformer``, ``potnet``, ``alignn``,
            ``alignn-2026``, ``cgcnn``, ``atlas``, ``megnet``, ``m3gnet``, ``chgnet``, ``mace``, ``nequip``,
            ``sevennet``. Or a rule: ``shell``, ``nearest``, ``radius``, or ``none`` for crystals alone. Or
            ``module:variable`` for a :class:`lazygraph.graphs.Preset` in your own module, which is imported. Or the
            name of a preset that an installed plug-in declares.
        **parameters: parameters of the preset. The defaults are the published settings. Depending on the preset:
            ``cutoff`` (A), ``max_neighbors``, ``ties`` (``"shell"`` or ``"reference"``), ``tolerance`` (A),
            ``lattice_edges`` (bool), ``boundary`` (``"<"`` or ``"<="``), ``threebody_cutoff`` (A), ``bond_cutoff`` (A).

    Raises:
        RecipeError: the preset or a parameter is unknown, a required parameter is missing, or a value is invalid.

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
            f"the preset {preset!r} declares {wrong[0]!r}, which is not a parameter of its rule or angles; the "
            f"parameters are {', '.join(sorted(known))}"
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
            msg = f"{said} does not use {name}={value!r}; leave it out, or set it to {FIRST.get(name)!r}"
            raise RecipeError(msg)
    return GraphSpec(preset, rule(**settings[0]), None if angles is None else angles(**settings[1]))
