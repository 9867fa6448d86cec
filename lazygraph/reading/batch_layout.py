"""Layouts of batches: the dimension along which each field is joined, and the offset of its indices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

__all__ = ["BatchField", "BatchLayout"]


class BatchField(NamedTuple):
    """The position of one field of a graph in a batch."""

    axis: str | None = None
    """What its rows are: ``node``, ``edge`` or an axis of the view's own; None for one row, or one value, a graph."""
    dim: int | None = 0
    """The dimension of the rows; -1 for the last one, None for a number a graph, which has no dimension."""
    counts: str | tuple[str, ...] | None = None
    """The axis whose rows the values are ids of: they are raised by its rows in the graphs before. A tuple where each
    column of (M, k) values has an axis of its own."""


class BatchLayout(Mapping[str, BatchField]):
    """The layout of a batch by field name. A field that is not named has one row, or one value, per graph.

    Args:
        places: field name -> position.
        nodes_told: whether graphs have no ``num_nodes``, because PyG derives it from the fields; found out by default.

    Attributes:
        usual: whether PyG, which decides by names, would join every field in the same way.
        nodes_told: the given or found value.
    """

    def __init__(self, places: Mapping[str, BatchField], *, nodes_told: bool | None = None) -> None:
        self._places = dict(places)
        self.usual = all(
            "batch" not in name
            and (place.counts, place.dim or 0) == (("node", -1) if "index" in name or name == "face" else (None, 0))
            for name, place in places.items()
        )
        self.nodes_told = not {"x", "pos"}.isdisjoint(places) if nodes_told is None else nodes_told

    def __getitem__(self, name: str) -> BatchField:
        return self._places.get(name) or BatchField()

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
