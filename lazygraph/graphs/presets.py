"""The recipes by name, one small declaration each: what a user may set, with its default, and what the model fixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from lazygraph.errors import RecipeError
from lazygraph.registry import Registry

__all__ = ["PRESETS", "PRESET_REGISTRY", "REQUIRED", "Preset"]

REQUIRED: Final = object()
"""Stands for the default of a parameter that has none."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One named recipe. Declare one of your own in any module, and name it ``module:variable``.

    Example:
        >>> close = Preset(
        ...     "close",
        ...     summary="the six closest within 5 A",
        ...     rule="nearest",
        ...     parameters={"cutoff": 5.0, "max_neighbors": 6},
        ...     fixed={"boundary": "<"},
        ... )  # in mypkg/graphs.py: lazygraph.graph("mypkg.graphs:close", max_neighbors=8)
    """

    name: str
    summary: str
    rule: str
    """How edges are chosen: ``shell``, ``nearest`` or ``radius``."""
    parameters: Mapping[str, Any]
    """What :func:`lazygraph.graph` takes for this preset, with defaults: fields of ``GraphSpec``."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the recipe that this preset sets and nobody changes."""


_TIES = {"ties": "shell", "tolerance": 1e-4}

_ALL = (
    Preset(
        "comformer",
        summary="ComFormer as trained on JARVIS and MP: k-th shell, both self images twice, three lattice vectors",
        rule="shell",
        parameters={"cutoff": 4.0, "max_neighbors": 25, **_TIES, "lattice_edges": "comformer"},
        fixed={"duplicates": True, "lattice_vectors": "comformer"},
    ),
    Preset(
        "matformer",
        summary="Matformer: k-th shell, both self images twice, six lattice edges unless the cutoff had to grow",
        rule="shell",
        parameters={"cutoff": 8.0, "max_neighbors": 12, **_TIES, "lattice_edges": "matformer"},
        fixed={"duplicates": True},
    ),
    Preset(
        "potnet",
        summary="PotNet's local graph: k-th shell, both self images twice",
        rule="shell",
        parameters={"cutoff": 4.0, "max_neighbors": 16, **_TIES},
        fixed={"duplicates": True},
    ),
    Preset(
        "alignn",
        summary="ALIGNN as published (to 2025): k-th shell, both self images twice; angles between all edges",
        rule="shell",
        parameters={"cutoff": 8.0, "max_neighbors": 12, **_TIES},
        fixed={"duplicates": True, "angles": "alignn"},
    ),
    Preset(
        "alignn-2026",
        summary="ALIGNN from 2026: the k nearest, directed; angles between edges within 3.5 A",
        rule="nearest",
        parameters={"cutoff": 5.0, "max_neighbors": 12, "threebody_cutoff": 3.5},
        fixed={"boundary": "<", "angles": "alignn-2026"},
    ),
    Preset(
        "cgcnn",
        summary="CGCNN: the k nearest, directed; the view pads atoms that have fewer",
        rule="nearest",
        parameters={"cutoff": 8.0, "max_neighbors": 12},
        fixed={"boundary": "<="},
    ),
    Preset(
        "atlas",
        summary="ATLAS (Accelerated Topological Learning And Screening): the k nearest, directed",
        rule="nearest",
        parameters={"cutoff": 5.0, "max_neighbors": 12},
        fixed={"boundary": "<="},
    ),
    Preset(
        "megnet",
        summary="MEGNet as matgl's model, 4 A (the class default of the original TensorFlow code was 5 A)",
        rule="radius",
        parameters={"cutoff": 4.0},
        fixed={"boundary": "<="},
    ),
    Preset(
        "m3gnet",
        summary="M3GNet: radius, with triplets of bonds within 4 A",
        rule="radius",
        parameters={"cutoff": 5.0, "threebody_cutoff": 4.0},
        fixed={"boundary": "<=", "angles": "m3gnet"},
    ),
    Preset(
        "chgnet",
        summary="CHGNet: radius, with a bond graph within 3 A; an isolated atom is an error",
        rule="radius",
        parameters={"cutoff": 6.0, "bond_cutoff": 3.0},
        fixed={"boundary": "<=", "isolated_atoms": "error", "angles": "chgnet"},
    ),
    Preset("mace", summary="MACE: radius", rule="radius", parameters={"cutoff": 5.0}, fixed={"boundary": "<"}),
    Preset(
        "nequip",
        summary="NequIP: radius (each of its models states a cutoff of its own)",
        rule="radius",
        parameters={"cutoff": 5.0},
        fixed={"boundary": "<"},
    ),
    Preset("sevennet", summary="SevenNet: radius", rule="radius", parameters={"cutoff": 4.5}, fixed={"boundary": "<"}),
    Preset(
        "shell",
        summary="every neighbour up to the shell of the k-th, made symmetric",
        rule="shell",
        parameters={"max_neighbors": REQUIRED, **_TIES},
    ),
    Preset(
        "nearest",
        summary="the k nearest within a cutoff, directed",
        rule="nearest",
        parameters={"max_neighbors": REQUIRED, "cutoff": REQUIRED, "boundary": "<="},
    ),
    Preset(
        "radius",
        summary="every neighbour within a cutoff",
        rule="radius",
        parameters={"cutoff": REQUIRED, "boundary": "<="},
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _ALL})
"""Name -> preset: the published models and the bare rules."""

PRESET_REGISTRY: Registry[Preset] = Registry(
    "preset", PRESETS, group="lazygraph.presets", type_=Preset, importable=True, error=RecipeError
)
"""The presets by name: those of ``PRESETS``, those of installed plug-ins, and ``module:variable``."""
