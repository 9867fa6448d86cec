"""The selection rules by name: the rules of this package, and the rules of imported plug-ins."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lazygraph.errors import RecipeError
from lazygraph.graphs.angles import ANGLES, Angles
from lazygraph.graphs.nearest import Nearest
from lazygraph.graphs.no_edges import NoEdges
from lazygraph.graphs.presets import PRESET_REGISTRY
from lazygraph.graphs.radius import Radius
from lazygraph.graphs.rule import Rule
from lazygraph.graphs.shell import Shell
from lazygraph.registry import unknown_name

__all__ = ["RULES", "find_angles", "find_rule", "presets_needed"]

RULES: Mapping[str, type[Rule]] = MappingProxyType({rule.name: rule for rule in (Shell, Nearest, Radius, NoEdges)})
"""Name -> rule of the package."""


def find_rule(name: Any) -> type[Rule]:
    """Return the rule of a recipe, from this package or from an imported plug-in. Imports nothing.

    Raises:
        RecipeError: there is no such rule here.
    """
    found: dict[str, type[Rule]] = {**_of_presets(Rule, "rule"), **RULES}
    if not isinstance(name, str) or name not in found:
        raise RecipeError(unknown_name("rule", name, found) + _hint())
    return found[name]


def find_angles(name: Any) -> type[Angles] | None:
    """Return the angles of a recipe, as :func:`find_rule` returns its rule; None for None."""
    if name is None:
        return None
    found: dict[str, type[Angles]] = {**_of_presets(Angles, "angles"), **ANGLES}
    if not isinstance(name, str) or name not in found:
        raise RecipeError(unknown_name("angles", name, found) + _hint())
    return found[name]


def presets_needed(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """The presets of imported plug-ins that have the rule or the angles of a recipe. Worker processes need them too."""
    parts = ((Rule, "rule", RULES), (Angles, "angles", ANGLES))
    return tuple(
        preset
        for kind, part, own in parts
        if (name := recipe.get(part)) is not None and name not in own
        for preset, held in _held(kind, part)
        if held.name == name
    )


def _of_presets(kind: type[Any], part: str) -> dict[str, Any]:
    return {held.name: held for _, held in _held(kind, part)}


def _held(kind: type[Any], part: str) -> list[tuple[str, Any]]:
    """The presets of imported plug-ins that have a class of this kind, each with the class."""
    values = [(name, getattr(PRESET_REGISTRY.known(name), part)) for name in PRESET_REGISTRY.used()]
    return [(name, value) for name, value in values if isinstance(value, type) and issubclass(value, kind)]


def _hint() -> str:
    """What a user can do if the name may belong to a plug-in."""
    plugins = [name for name in PRESET_REGISTRY.plugins() if PRESET_REGISTRY.known(name) is None]
    if not plugins:
        return "; install the plug-in that it belongs to, if any"
    return (
        f"; if it belongs to a plug-in, load a preset of the plug-in first ({', '.join(plugins)}), because a file "
        "never imports a plug-in: lazygraph.graph(NAME) in Python, --plugin NAME on the command line"
    )
