"""The selection rules by name, and the fields of a recipe that each of them reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from lazygraph.graphs.pairs import Pairs
from lazygraph.graphs.radius import radius_pairs
from lazygraph.graphs.shell import shell_pairs

__all__ = ["RULES", "Rule"]


class Rule(NamedTuple):
    """One way to choose pairs: ``pairs(crystal, **{field: value})``."""

    pairs: Callable[..., Pairs]
    reads: tuple[str, ...]
    """The fields that decide which edges there are; any other that a recipe records does not."""


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "shell": Rule(shell_pairs, ("max_neighbors", "tolerance", "duplicates")),
        "radius": Rule(radius_pairs, ("cutoff", "boundary")),
    }
)
