"""Facts that the settings of a loader depend on, measured when they are needed."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lazygraph.loading.mixing import LoadableDataset
from lazygraph.loading.settings import free_shared_memory
from lazygraph.machine import memory_limit, usable_cpus
from lazygraph.native import kernels

__all__ = ["MeasuredFacts"]


class MeasuredFacts:
    """Facts of this machine and of a dataset. A batch is read only if its cost is needed.

    Args:
        dataset: the dataset.
        measure: reads a batch and returns its seconds and the bytes of its tensors; called as often as they are asked
            for.
    """

    def __init__(self, dataset: LoadableDataset, measure: Callable[[], tuple[float, int]]) -> None:
        self._measure = measure
        self.cpus, self.shared_memory = usable_cpus(), free_shared_memory()
        self.compiled = kernels() is not None and not dataset.builds_in_python
        self.transform = dataset.transform is not None
        self.cuda = torch.cuda.is_available()
        self.shard_bytes, self.memory = dataset.shards_to_read()[1], memory_limit()
        self.is_remote = dataset.is_remote

    @property
    def batch_seconds(self) -> float:
        """Seconds to read one batch in this process."""
        return self._measure()[0]

    @property
    def batch_bytes(self) -> int:
        """Bytes of the tensors of one batch."""
        return self._measure()[1]
