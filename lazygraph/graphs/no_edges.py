"""The rule without edges, for datasets of crystals whose graphs are built when they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lazygraph.errors import RecipeError
from lazygraph.graphs.neighbors import Search
from lazygraph.graphs.rule import ChosenEdges, Rule

__all__ = ["NoEdges"]


@dataclass(frozen=True, kw_only=True, repr=False)
class NoEdges(Rule):
    """No edges: a dataset of crystals alone, with no edge axis and no fields of edges.

    No neighbours are searched. Atoms that are too close for another recipe are therefore refused only when graphs of
    that recipe are built.

    Example:
        >>> NoEdges()
        lazygraph.graphs.NoEdges()
    """

    name: ClassVar[str] = "none"

    def check(self) -> None:
        """Raise RecipeError for lattice vectors, which belong to edges."""
        if self.lattice_vectors is not None:
            msg = f"crystals alone have no edges; leave lattice_vectors={self.lattice_vectors!r} out"
            raise RecipeError(msg)

    @property
    def has_edges(self) -> bool:
        """Never."""
        return False

    @property
    def reach(self) -> float:
        """0 A, because there are no edges."""
        return 0.0

    def edges(self, search: Search) -> ChosenEdges:  # noqa: ARG002  # it looks for nothing
        """No edges, whatever the crystal."""
        return ChosenEdges((np.empty((2, 0), np.int32), np.empty((0, 3), np.int16)), np.empty(0))
