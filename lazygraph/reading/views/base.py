"""The base class of views, which compute the arrays that a model's forward takes from stored crystals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError, RecipeMismatch
from lazygraph.graphs.spec import GraphSpec
from lazygraph.reading.batch_layout import BatchField
from lazygraph.reading.crystals import Crystals, cast

__all__ = ["EDGE", "EDGE_INDEX", "GRAPH", "NODE", "Arrays", "View", "cast", "published"]

GRAPH, NODE, EDGE = BatchField(), BatchField("node"), BatchField("edge")
EDGE_INDEX = BatchField("edge", -1, "node")


class Arrays(NamedTuple):
    """The arrays that a view computes from crystals."""

    values: dict[str, Any]
    """Name -> array, or a list with one object a crystal."""
    rows: Mapping[str, NDArray[np.int64]] = MappingProxyType({})
    """(B,) rows of each crystal, for every axis of the view's own."""


@dataclass(frozen=True)
class View(ABC):
    """A view with its parameters. It is frozen and picklable, and its repr is the call that creates it.

    A view is a function of a whole batch. It needs no offsets, because atoms and edges are numbered through the batch.
    Its layout says what the indices in each array count. A single graph is a batch of one.

    Args:
        dtype: type of floating-point arrays, ``float32`` or ``float64``.
    """

    name: ClassVar[str]
    layout: ClassVar[dict[str, BatchField]]
    needs_edges: ClassVar[bool] = True
    """Whether the arrays are of no use without edges. If so, the view refuses crystals alone."""

    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float64"):
            msg = f"found dtype={self.dtype!r}; required: 'float32' or 'float64'"
            raise InputError(msg)

    def check(self, spec: GraphSpec) -> None:  # noqa: B027  # most views can show any recipe
        """Raise RecipeMismatch if the view does not accept this recipe; the message names the preset to use."""

    @abstractmethod
    def arrays(self, crystals: Crystals, spec: GraphSpec) -> Arrays:
        """Compute the arrays of crystals with the recipe ``spec``, in numpy or torch like the input."""

    def real(self, array: Any) -> Any:
        """Convert an array to the floating-point type of the view."""
        return cast(array, self.dtype)

    def vectors(self, crystals: Crystals) -> Any:
        """Return the edge vectors (E, 3) in A, in the floating-point type of the view."""
        return crystals.vectors(self.dtype)

    def mismatch(self, spec: GraphSpec, found: str, preset: str) -> RecipeMismatch:
        """Return the error for a recipe that this view does not accept."""
        return RecipeMismatch(
            f"the view {self.name!r} found graphs with {found} (recipe {spec!r}) and needs the graphs of the preset "
            f"{preset!r}. Open the dataset with graph={preset!r}, which builds them at every read, or write them once: "
            f"lazygraph-write OLD.lg -o NEW.lg --graph {preset}"
        )

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that differ from their defaults: ``lazygraph.view(v.name, **v.parameters)`` equals ``v``."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    def __repr__(self) -> str:
        shown = [repr(self.name), *(f"{name}={value!r}" for name, value in self.parameters.items())]
        return f"lazygraph.view({', '.join(shown)})"


def published(crystals: Crystals, spec: GraphSpec) -> Crystals:
    """The crystals as their model saw them: jarvis-tools rounds lattices, and ``ties="reference"`` replays it."""
    return crystals.as_published() if spec.rule.replays_rounding else crystals
