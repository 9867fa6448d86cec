"""The recipes by name, one small declaration each: what a user may set, with its default, and what the model fixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

__all__ = ["PRESETS", "REQUIRED", "Preset"]

REQUIRED: Final = object()
"""Stands for the default of a parameter that has none."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One named recipe."""

    name: str
    summary: str
    rule: str
    """How edges are chosen: ``shell`` or ``radius``."""
    parameters: Mapping[str, Any]
    """What :func:`lazygraph.graph` takes for this preset, with defaults."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the recipe that this preset sets and nobody changes."""


_ALL = (
    Preset(
        "comformer",
        summary="ComFormer as trained on JARVIS and MP: k-th shell, both self images twice, three lattice vectors",
        rule="shell",
        parameters={
            "cutoff": 4.0,
            "max_neighbors": 25,
            "ties": "shell",
            "tolerance": 1e-4,
            "lattice_edges": "comformer",
        },
        fixed={"duplicates": True, "lattice_vectors": "comformer"},
    ),
    Preset(
        "shell",
        summary="every neighbour up to the shell of the k-th, made symmetric",
        rule="shell",
        parameters={"max_neighbors": REQUIRED, "ties": "shell", "tolerance": 1e-4},
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
