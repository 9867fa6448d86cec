"""Lists of graphs that were read at once, and ``collate`` for the loaders of torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch_geometric.data import Batch, Data

from lazygraph.cached import cached_property
from lazygraph.loading.reader import Fetched, Reader

__all__ = ["GraphList", "collate"]


class GraphList(Sequence[Data]):
    """A list of graphs that were read together. Each ``Data`` is built at its first access.

    The tensors of a graph are views of the tensors of all graphs. A graph that you keep therefore keeps the memory of
    all of them: ``clone`` it.
    """

    def __init__(self, reader: Reader, fetched: Fetched, draw: Any = None) -> None:
        self._reader, self.fetched = reader, fetched
        self.draw = draw  # of a loader's batch

    @cached_property
    def _single(self) -> list[Data]:
        return self._reader.single(self.fetched)

    def __getitem__(self, place: Any) -> Any:
        return self._single[place]

    def __len__(self) -> int:
        return len(self.fetched.ids)

    def batch(self) -> Batch:
        """Return all graphs as one batch."""
        if "_single" in self.__dict__:  # somebody has seen them, and may have changed them
            return Batch.from_data_list(self._single)
        return self._reader.expand(self.fetched)


def collate(graphs: Iterable[Data]) -> Batch:
    """Collate graphs of a dataset into one PyG ``Batch``; use it as torch's ``collate_fn``."""
    return graphs.batch() if isinstance(graphs, GraphList) else Batch.from_data_list(list(graphs))
