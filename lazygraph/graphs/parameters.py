"""What each parameter of a recipe may be, and the one type in which it is kept."""

from __future__ import annotations

import numbers
from typing import Any

from lazygraph.errors import RecipeError
from lazygraph.graphs.neighbors import MAX_RADIUS, MIN_DISTANCE

__all__ = ["check"]

MAX_TOLERANCE = 0.1  # A; a wider shell would join neighbours that no one calls equally far
LENGTHS = {"cutoff": (MIN_DISTANCE, MAX_RADIUS), "tolerance": (0.0, MAX_TOLERANCE)}
CHOICES = {"ties": ("shell",), "boundary": ("<", "<=")}


def check(name: str, value: Any, default: Any) -> Any:
    """The value of parameter ``name`` as a recipe keeps it: float, int, str, or None for off.

    Raises:
        RecipeError: the value is impossible; the message says what was found and what is required.
    """
    if name in CHOICES:
        if isinstance(value, str) and value in CHOICES[name]:
            return value
        raise _impossible(name, value, " or ".join(map(repr, CHOICES[name])))
    if name == "lattice_edges":  # on, which is the preset's kind, or off
        if value is None or value is False:
            return None
        if value is True or (isinstance(value, str) and value == default):
            return default
        raise _impossible(name, value, "True or False")
    if name == "max_neighbors":
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < 1:
            raise _impossible(name, value, "a whole number, at least 1")
        return int(value)
    least, most = LENGTHS[name]
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not least <= float(value) <= most:
        raise _impossible(name, value, f"a length from {least:g} to {most:g} A")
    return float(value)


def _impossible(name: str, value: Any, required: str) -> RecipeError:
    return RecipeError(f"found {name}={value!r}; required: {required}")
