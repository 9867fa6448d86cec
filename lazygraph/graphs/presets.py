"""The recipes by name. Each declares what a user may set, with defaults, and the parameters that the model fixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from lazygraph.errors import RecipeError
from lazygraph.graphs.angles import Angles
from lazygraph.graphs.rule import Rule
from lazygraph.registry import Registry

__all__ = ["PRESETS", "PRESET_REGISTRY", "REQUIRED", "Preset"]

REQUIRED: Final = object()
"""Stands for the default of a parameter that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A recipe. Its name comes from the table of this module, from an entry point, or from the variable that holds it.

    A package declares a preset of its own by an entry point in the group ``lazygraph.presets``; without one, the preset
    in a variable of any module is called ``module:variable``.

    Args:
        rule: how edges are chosen: ``shell``, ``nearest``, ``radius``, ``none``, or a :class:`lazygraph.graphs.Rule` of
            yours.
        parameters: what :func:`lazygraph.graph` takes for this preset, with defaults: parameters of the rule and of the
            angles. ``REQUIRED`` stands for a default that does not exist.
        fixed: parameters that this preset sets and a user cannot change.
        angles: which pairs of edges make an angle: ``m3gnet``, ``alignn``, ``alignn-2026``, ``chgnet``, or a
            :class:`lazygraph.graphs.Angles` of yours; None for no angles.
        summary: one line about it.

    Example:
        >>> close = Preset(rule="radius", parameters={"cutoff": 3.3})  # in mypkg/graphs.py
        >>> # lazygraph.graph("mypkg.graphs:close", cutoff=3.5)
    """

    rule: str | type[Rule]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    angles: str | type[Angles] | None = None
    summary: str = ""


_TIES = {"ties": "shell", "tolerance": 1e-4}

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "comformer": Preset(
            summary="ComFormer as trained on JARVIS and MP: k-th shell, both self images twice, three lattice vectors",
            rule="shell",
            parameters={"cutoff": 4.0, "max_neighbors": 25, **_TIES, "lattice_edges": "comformer"},
            fixed={"duplicates": True, "lattice_vectors": "comformer"},
        ),
        "matformer": Preset(
            summary="Matformer: k-th shell, both self images twice, six lattice edges unless the cutoff had to grow",
            rule="shell",
            parameters={"cutoff": 8.0, "max_neighbors": 12, **_TIES, "lattice_edges": "matformer"},
            fixed={"duplicates": True},
        ),
        "potnet": Preset(
            summary="PotNet's local graph: k-th shell, both self images twice",
            rule="shell",
            parameters={"cutoff": 4.0, "max_neighbors": 16, **_TIES},
            fixed={"duplicates": True},
        ),
        "alignn": Preset(
            summary="ALIGNN as published (to 2025): k-th shell, both self images twice; angles between all edges",
            rule="shell",
            parameters={"cutoff": 8.0, "max_neighbors": 12, **_TIES},
            fixed={"duplicates": True},
            angles="alignn",
        ),
        "alignn-2026": Preset(
            summary="ALIGNN from 2026: the k nearest, directed; angles between edges within 3.5 A",
            rule="nearest",
            parameters={"cutoff": 5.0, "max_neighbors": 12, "threebody_cutoff": 3.5},
            fixed={"boundary": "<"},
            angles="alignn-2026",
        ),
        "cgcnn": Preset(
            summary="CGCNN: the k nearest, directed; the view pads atoms that have fewer",
            rule="nearest",
            parameters={"cutoff": 8.0, "max_neighbors": 12},
            fixed={"boundary": "<="},
        ),
        "atlas": Preset(
            summary="ATLAS (Accelerated Topological Learning And Screening): the k nearest, directed",
            rule="nearest",
            parameters={"cutoff": 5.0, "max_neighbors": 12},
            fixed={"boundary": "<="},
        ),
        "megnet": Preset(
            summary="MEGNet as matgl's model, 4 A (the class default of the original TensorFlow code was 5 A)",
            rule="radius",
            parameters={"cutoff": 4.0},
            fixed={"boundary": "<="},
        ),
        "m3gnet": Preset(
            summary="M3GNet: radius, with triplets of bonds within 4 A",
            rule="radius",
            parameters={"cutoff": 5.0, "threebody_cutoff": 4.0},
            fixed={"boundary": "<="},
            angles="m3gnet",
        ),
        "chgnet": Preset(
            summary="CHGNet: radius, with a bond graph within 3 A; an isolated atom is an error",
            rule="radius",
            parameters={"cutoff": 6.0, "bond_cutoff": 3.0},
            fixed={"boundary": "<=", "isolated_atoms": "error"},
            angles="chgnet",
        ),
        "mace": Preset(summary="MACE: radius", rule="radius", parameters={"cutoff": 5.0}, fixed={"boundary": "<"}),
        "nequip": Preset(
            summary="NequIP: radius (each of its models states a cutoff of its own)",
            rule="radius",
            parameters={"cutoff": 5.0},
            fixed={"boundary": "<"},
        ),
        "sevennet": Preset(
            summary="SevenNet: radius", rule="radius", parameters={"cutoff": 4.5}, fixed={"boundary": "<"}
        ),
        "shell": Preset(
            summary="every neighbour up to the shell of the k-th, made symmetric",
            rule="shell",
            parameters={"max_neighbors": REQUIRED, **_TIES},
        ),
        "nearest": Preset(
            summary="the k nearest within a cutoff, directed",
            rule="nearest",
            parameters={"max_neighbors": REQUIRED, "cutoff": REQUIRED, "boundary": "<="},
        ),
        "radius": Preset(
            summary="every neighbour within a cutoff",
            rule="radius",
            parameters={"cutoff": REQUIRED, "boundary": "<="},
        ),
        "none": Preset(summary="crystals alone, without edges; graph= builds graphs when they are read", rule="none"),
    }
)
"""Name -> preset: the published models, the bare rules, and crystals alone."""

PRESET_REGISTRY: Registry[Preset] = Registry(
    "preset", PRESETS, group="lazygraph.presets", type_=Preset, importable=True, error=RecipeError
)
"""The presets by name: those of ``PRESETS``, those of installed plug-ins, and ``module:variable``."""
