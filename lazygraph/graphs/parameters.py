"""Parameters of rules and angles: the values that are allowed, and the type in which each value is stored."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeAlias, get_type_hints

from lazygraph.errors import RecipeError
from lazygraph.registry import unknown_name

__all__ = [
    "MAX_TOLERANCE",
    "Boundary",
    "Length",
    "MaxNeighbors",
    "Parameters",
    "choice",
    "flag",
    "impossible",
    "length",
    "optional",
    "switch",
    "whole",
]

MIN_LENGTH, MAX_LENGTH = 0.15, 100.0  # A, the least distance of two atoms and the farthest search
MAX_TOLERANCE = 0.1  # A; a wider shell would join neighbours that no one calls equally far
MAX_NEIGHBORS = 1_000_000  # of one atom

Check: TypeAlias = Callable[[str, Any], Any]
"""Of the name and the value of a parameter: the value as a recipe keeps it, or RecipeError."""


def length(least: float = MIN_LENGTH, most: float = MAX_LENGTH) -> Check:
    """A length in A within bounds, kept as float."""

    def check(name: str, value: Any) -> float:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not real or not least <= value <= most:  # an int may be too great for a float
            raise impossible(name, value, f"a length from {least:g} to {most:g} A")
        return float(value)

    return check


def whole(least: int, most: int) -> Check:
    """A whole number within bounds, kept as int."""

    def check(name: str, value: Any) -> int:
        integral = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not integral or not least <= int(value) <= most:
            raise impossible(name, value, f"a whole number from {least} to {most:,}")
        return int(value)

    return check


def choice(*allowed: str) -> Check:
    """One of a few texts."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            if isinstance(value, str) and all(map(str.isidentifier, allowed)):
                raise RecipeError(unknown_name(name, value, allowed))
            raise impossible(name, value, " or ".join(map(repr, allowed)))  # such as '<', which is not a name
        return value

    return check


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise impossible(name, value, "True or False")
    return value


def optional(check: Check) -> Check:
    """What another check allows, or None."""
    return lambda name, value: None if value is None else check(name, value)


Length: TypeAlias = Annotated[float, length()]
MaxNeighbors: TypeAlias = Annotated[int, whole(1, MAX_NEIGHBORS)]
Boundary: TypeAlias = Annotated[str, choice("<", "<=")]


@dataclass(frozen=True, repr=False)
class Parameters:
    """A named set of parameters: the base of rules and angles.

    A subclass is a frozen dataclass with a ``name``, one field a parameter. A field is annotated with its check, as in
    ``cutoff: Annotated[float, length()]``; without one it may be any text, number, boolean or None. Immutable,
    hashable, picklable; compared by class and parameters.
    """

    name: ClassVar[str]
    """How recipes in JSON call it."""

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, check in _checks(kind).items():
            object.__setattr__(self, name, check(name, getattr(self, name)))
        self.check()

    def check(self) -> None:
        """Raise RecipeError where parameters contradict one another."""

    @classmethod
    def defaults(cls) -> Mapping[str, Any]:
        """Name of each parameter -> its default, or ``dataclasses.MISSING``."""
        return MappingProxyType({field.name: field.default for field in fields(cls)})

    @property
    def values(self) -> dict[str, Any]:
        """The parameters by name, as they stand in JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __repr__(self) -> str:
        defaults = self.defaults()
        shown = [f"{name}={value!r}" for name, value in self.values.items() if value != defaults[name]]
        home = "lazygraph.graphs" if type(self).__module__.startswith("lazygraph.graphs.") else type(self).__module__
        return f"{home}.{type(self).__name__}({', '.join(shown)})"


@cache
def _checks(kind: Any) -> Mapping[str, Check]:
    """The check of every parameter of a class."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: getattr(hints[field.name], "__metadata__", (_plain,))[0] for field in fields(kind)}


def _plain(name: str, value: Any) -> Any:
    if value is not None and type(value) not in (bool, int, float, str):
        raise impossible(name, value, "a text, a number, True, False or None, which JSON can hold")
    return value


def switch(name: str, value: Any, kind: Any) -> Any:
    """A parameter that is on (the ``kind`` of the preset) or off (None).

    Raises:
        RecipeError: the value is neither on nor off.
    """
    if value is None or value is False:
        return None
    if value is True or (isinstance(value, str) and value == kind):
        return kind
    raise impossible(name, value, "True or False")


def impossible(name: str, value: Any, required: str) -> RecipeError:
    """The error for a value that a parameter cannot have."""
    found = None if value is MISSING else value
    return RecipeError(f"found {name}={found!r}; required: {required}")
