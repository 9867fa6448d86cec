"""What each field of a recipe may be, and the one type in which it is kept."""

from __future__ import annotations

import numbers
from typing import Any

from lazygraph.errors import RecipeError
from lazygraph.graphs.neighbors import MAX_RADIUS, MIN_DISTANCE

__all__ = ["MAX_TOLERANCE", "check", "impossible", "switch"]

MAX_TOLERANCE = 0.1  # A; a wider shell would join neighbours that no one calls equally far
MAX_NEIGHBORS = 1_000_000  # of one atom
LENGTHS = {
    "cutoff": (MIN_DISTANCE, MAX_RADIUS),
    "threebody_cutoff": (MIN_DISTANCE, MAX_RADIUS),
    "bond_cutoff": (MIN_DISTANCE, MAX_RADIUS),
    "tolerance": (0.0, MAX_TOLERANCE),
}
CHOICES = {
    "ties": ("shell", "reference"),
    "boundary": ("<", "<="),
    "lattice_edges": ("comformer", "matformer"),
    "lattice_vectors": ("comformer",),
    "isolated_atoms": ("error",),
    "angles": ("m3gnet", "alignn", "alignn-2026", "chgnet"),
}


def check(name: str, value: Any) -> Any:
    """The value of the field ``name`` as a recipe keeps it: float, int, str or bool.

    Raises:
        RecipeError: the value is impossible; the message says what was found and what is required.
    """
    if name in CHOICES:
        if isinstance(value, str) and value in CHOICES[name]:
            return value
        raise impossible(name, value, " or ".join(map(repr, CHOICES[name])))
    if name == "max_neighbors":
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not whole or not 1 <= int(value) <= MAX_NEIGHBORS:
            raise impossible(name, value, f"a whole number from 1 to {MAX_NEIGHBORS:,}")
        return int(value)
    if name == "duplicates":
        if not isinstance(value, bool):
            raise impossible(name, value, "True or False")
        return value
    least, most = LENGTHS[name]
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not least <= value <= most:  # an int may be too great for a float
        raise impossible(name, value, f"a length from {least:g} to {most:g} A")
    return float(value)


def switch(name: str, value: Any, kind: Any) -> Any:
    """A parameter that is on, which is the preset's ``kind``, or off, which is None.

    Raises:
        RecipeError: the value is neither on nor off.
    """
    if value is None or value is False:
        return None
    if value is True or (isinstance(value, str) and value == kind):
        return kind
    raise impossible(name, value, "True or False")


def impossible(name: str, value: Any, required: str) -> RecipeError:
    """The error for a value that field ``name`` cannot have."""
    return RecipeError(f"found {name}={value!r}; required: {required}")
