"""The recipe of a graph: which atoms are joined. Frozen, hashable, written into every dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazygraph.crystal import Crystal
from lazygraph.errors import RecipeError
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.lattice import comformer_images
from lazygraph.graphs.pairs import both_directions, sort_pairs
from lazygraph.graphs.parameters import check
from lazygraph.graphs.presets import PRESETS, REQUIRED, Preset
from lazygraph.graphs.rules import RULES

__all__ = ["GraphSpec", "graph"]


@dataclass(frozen=True, slots=True, repr=False)
class GraphSpec:
    """Which edges a crystal gets. Made by :func:`graph`; picklable, hashable, compared field by field.

    A field that the preset has no use for is None.
    """

    preset: str
    rule: str
    """``shell`` (up to the shell of the k-th neighbour) or ``radius``."""
    cutoff: float | None = None
    """A. With the shell rule a record of the published setting: it does not change the edges."""
    max_neighbors: int | None = None
    """k of the shell rule."""
    ties: str | None = None
    """``shell``: distances within the tolerance make one shell, which is kept whole."""
    tolerance: float | None = None
    """A."""
    boundary: str | None = None
    """``<`` or ``<=``: how the radius rule compares a distance with the cutoff."""
    duplicates: bool = False
    """Whether an atom's own images S and -S make two pairs, and so each edge twice, or one."""
    lattice_edges: str | None = None
    """``comformer``: every atom is joined to its images along the three lattice vectors."""
    lattice_vectors: str | None = None
    """``comformer``: the graph carries three lattice vectors."""

    def build(self, structure: Any) -> CrystalGraph:
        """The graph of one structure: a ``Crystal``, a pymatgen, ASE or jarvis object, or one of their dicts.

        Edges come in adjacent pairs, 2m (i -> j, S) and 2m + 1 (j -> i, -S), sorted by (i, j, S_0, S_1, S_2) of the
        first, i <= j; for i == j without ``duplicates``, the first non-zero component of S is positive.

        Raises:
            StructureError: the structure cannot become a graph of this recipe.

        Example:
            >>> nacl = Crystal([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
            >>> graph("radius", cutoff=3.0).build(nacl)
            CrystalGraph(ClNa, n_atoms=2, n_edges=12)
        """
        crystal = Crystal.from_any(structure)
        pairs_of, reads = RULES[self.rule]
        settings = {name: getattr(self, name) for name in reads}
        lattice_images = comformer_images(crystal) if self.lattice_vectors else None
        if self.lattice_edges:
            settings["self_images"] = lattice_images
        pairs = pairs_of(crystal, **settings)
        edge_index, images = both_directions(sort_pairs(pairs, len(crystal)))
        stored = None if lattice_images is None else lattice_images.astype(np.int16)
        return CrystalGraph(crystal, edge_index, images, stored)

    def diff(self, other: GraphSpec) -> list[str]:
        """One sentence for every field in which ``other`` differs; empty where the recipes are equal.

        Example:
            >>> graph("comformer").diff(graph("comformer", cutoff=8.0))
            ['cutoff: 4.0 here, 8.0 there (the shell rule does not look at it: the edges are the same)']
        """
        unused = self.rule == other.rule and "cutoff" not in RULES[self.rule].reads
        note = f" (the {self.rule} rule does not look at it: the edges are the same)"
        return [
            f"{name}: {mine!r} here, {theirs!r} there{note if name == 'cutoff' and unused else ''}"
            for name, mine in self.to_json().items()
            if mine != (theirs := getattr(other, name))
        ]

    def to_json(self) -> dict[str, Any]:
        """Every field by name; only str, int, float, bool and None."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GraphSpec:
        """The recipe that :meth:`to_json` wrote.

        Raises:
            RecipeError: a key is unknown or missing, or the values are not a recipe that :func:`graph` makes.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        if set(data) != fields:
            msg = (
                f"the recipe has the unknown keys {sorted(set(data) - fields)} and lacks {sorted(fields - set(data))}; "
                f"required: exactly {sorted(fields)}"
            )
            raise RecipeError(msg)
        preset = _preset(data["preset"])
        spec = graph(preset.name, **{name: data[name] for name in preset.parameters})
        for name, value in spec.to_json().items():
            if value != data[name]:
                msg = f"the recipe has {name}={data[name]!r}; required for the preset {preset.name!r}: {value!r}"
                raise RecipeError(msg)
        return spec

    def __repr__(self) -> str:
        shown = [repr(self.preset)]
        for name, default in PRESETS[self.preset].parameters.items():
            value = getattr(self, name)
            if value != default or name in ("cutoff", "max_neighbors"):
                shown.append(f"{name}={value!r}")
        return f"lazygraph.graph({', '.join(shown)})"


def graph(preset: str, /, **parameters: Any) -> GraphSpec:
    """Make a recipe: a preset named after a published model, or a bare rule, with its parameters.

    Args:
        preset: ``comformer``, ``shell`` or ``radius``.
        **parameters: what the preset takes, defaults from its published training settings: ``cutoff`` (A),
            ``max_neighbors``, ``ties`` (``"shell"``), ``tolerance`` (A), ``lattice_edges`` (bool), ``boundary``
            (``"<"`` or ``"<="``).

    Raises:
        RecipeError: the preset or a parameter is unknown, required and missing, or impossible.

    Example:
        >>> graph("comformer", max_neighbors=12)
        lazygraph.graph('comformer', cutoff=4.0, max_neighbors=12)
    """
    declared = _preset(preset)
    if unknown := sorted(parameters.keys() - declared.parameters.keys()):
        msg = f"the preset {preset!r} has no parameter {unknown[0]!r}; it takes {', '.join(declared.parameters)}"
        raise RecipeError(msg)
    fields: dict[str, Any] = {}
    for name, default in declared.parameters.items():
        value = parameters.get(name, default)
        if value is REQUIRED:
            msg = f"the preset {preset!r} needs {name}, as in lazygraph.graph({preset!r}, {name}=...)"
            raise RecipeError(msg)
        fields[name] = check(name, value, default)
    return GraphSpec(declared.name, declared.rule, **fields, **declared.fixed)


def _preset(name: Any) -> Preset:
    if not isinstance(name, str) or name not in PRESETS:
        msg = f"found the preset {name!r}; required: one of {', '.join(PRESETS)}"
        raise RecipeError(msg)
    return PRESETS[name]
