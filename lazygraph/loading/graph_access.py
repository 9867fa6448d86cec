"""The class ``GraphAccess``: several graphs at once by position, the same for one dataset and for a mix of several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch_geometric.data import Batch, Data

from lazygraph.errors import InputError
from lazygraph.loading.graph_list import GraphList, collate
from lazygraph.loading.positions import Several, non_negative
from lazygraph.loading.reader import Fetched, Reader
from lazygraph.loading.transforms import Draw, PlacedGraphs, PlacedPositions, Untransformed
from lazygraph.reading.augment import AugmentationCounts

__all__ = ["GraphAccess"]

Self = TypeVar("Self", bound="GraphAccess")


class GraphAccess(ABC):
    """The base of everything that a loader reads.

    A subclass has a length and a transform, and says where its graphs are and how they are read.

    Attributes:
        reader: reads the graphs.
    """

    reader: Reader

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of graphs."""

    @abstractmethod
    def index_select(self: Self, idx: Several) -> Self:
        """Return a part, by slice, positions, ids, or boolean mask."""

    @abstractmethod
    def transformed(self, row: int, data: Data) -> Any:
        """Apply the transform to the graph in a row of the reader; its errors name the graph."""

    @abstractmethod
    def _rows_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of the reader at non-negative positions."""

    @abstractmethod
    def _own_seeds(self, n: int) -> NDArray[np.uint64] | None:
        """Draw seeds of the augmentation from torch's generator, as PyG's random transforms do; None without one."""

    def __getitems__(self, positions: Sequence[int]) -> Sequence[Any]:
        """Read several graphs at once, in file order; torch's ``DataLoader`` calls this for a batch."""
        draw = positions.draw if isinstance(positions, PlacedPositions) else None
        n = len(positions)
        seeds = self._own_seeds(n) if draw is None else draw.augmentation_seeds(n)
        if getattr(self, "transform", None) is None:
            return GraphList(self.reader, self.fetch(self._non_negative(positions), seeds), draw)
        if draw is not None:
            return PlacedGraphs(self.untransformed(positions, draw).single(), draw)
        rows, graphs, _ = self._read(positions, seeds)
        return [self.transformed(row, graph) for row, graph in zip(rows, graphs, strict=True)]

    def batch(self, idx: Several) -> Batch:
        """Return the graphs at these positions, or with these ids, as one PyG ``Batch``."""
        chosen = self.index_select(idx)
        if len(chosen) == 0:
            raise InputError("a batch needs at least one graph, and none was chosen")
        return collate(chosen.__getitems__(range(len(chosen))))

    def fetch(self, positions: NDArray[np.int64], seeds: NDArray[np.uint64] | None = None) -> Fetched:
        """Read the graphs at these positions in a compact form; ``reader.expand`` turns it into a batch.

        Args:
            positions: (B,) non-negative positions.
            seeds: (B,) seeds of the augmentation, as ``Draw.augmentation_seeds`` gives them; default from torch's
                generator of this process.
        """
        seeds = self._own_seeds(len(positions)) if seeds is None else seeds
        return self.reader.fetch(self._rows_at(positions), seeds)

    def untransformed(self, positions: Sequence[int], draw: Draw) -> Untransformed:
        """Read the graphs at these positions before the transform; their ``batch`` applies it later."""
        rows, graphs, counts = self._read(positions, draw.augmentation_seeds(len(positions)))
        readable: Any = self  # one of the classes that a loader reads
        return Untransformed(readable, rows, graphs, draw, counts)

    def _read(
        self, positions: Sequence[int], seeds: NDArray[np.uint64] | None
    ) -> tuple[list[int], list[Data], AugmentationCounts | None]:
        """Return the rows of these positions, and their graphs as separate objects with contiguous arrays."""
        rows = self._rows_at(self._non_negative(positions))
        if not len(rows):
            return [], [], None
        fetched = self.reader.fetch(rows, seeds)
        graphs = self.reader.single(fetched)
        for graph in graphs:
            graph.contiguous()
        return rows.tolist(), graphs, fetched.augmented

    def _non_negative(self, positions: Sequence[int]) -> NDArray[np.int64]:
        return non_negative(np.asarray(positions, dtype=np.int64), len(self))
