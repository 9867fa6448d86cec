"""Adapters of a loader for Lightning (samplers), Accelerate (positions) and torch (ranks)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any, Protocol

import torch
from torch.utils.data import BatchSampler, SequentialSampler

from lazygraph.loading.batch_table import Batches
from lazygraph.loading.mixing import LoadableDataset
from lazygraph.loading.transforms import PlacedPositions

__all__ = ["EpochBatches", "EpochSampler", "distributed_ranks"]


class LoaderEpochs(Protocol):
    """The methods of a loader that the adapters use."""

    dataset: LoadableDataset
    batch_size: int | None

    def set_epoch(self, epoch: int) -> None:
        """Set the next epoch."""

    def next_batches(self) -> Batches:
        """Return the batches of the next epoch."""

    def begin_positions(self) -> Iterator[PlacedPositions]:
        """Begin the next epoch and return its batches as positions."""


class EpochSampler(SequentialSampler):
    """A sampler with the order of a loader's epochs. Lightning calls it to set the epoch.

    Each iteration begins the next epoch. It is a ``SequentialSampler``, because for ``overfit_batches`` Lightning
    replaces any other sampler, and with it the loader, by one without shuffling.

    Args:
        loader: the loader.
    """

    def __init__(self, loader: LoaderEpochs) -> None:
        super().__init__(loader.dataset)
        self._loader = loader

    def set_epoch(self, epoch: int) -> None:
        """Set the next epoch; always epoch 0 for a ``Trainer(overfit_batches=...)``."""
        self._loader.set_epoch(0 if _is_overfitting(sys._getframe(1)) else epoch)  # noqa: SLF001 - see there

    def __iter__(self) -> Iterator[int]:
        """Iterate over the positions of the next epoch."""
        return chain.from_iterable(self._loader.begin_positions())

    def __len__(self) -> int:
        return self._loader.next_batches().graphs


def _is_overfitting(caller: Any) -> bool:
    """Tell whether a ``Trainer`` with ``overfit_batches`` is the caller, which wants the same graphs in every epoch.

    Lightning turns off shuffling only for torch's own loaders. It sets the epoch of every loader from a loop, and only
    this loop knows about ``overfit_batches``.
    """
    if caller.f_code.co_name != "_set_sampler_epoch" or caller.f_back is None:
        return False
    trainer = getattr(caller.f_back.f_locals.get("self"), "trainer", None)
    return bool(getattr(trainer, "overfit_batches", 0))


class EpochBatches(BatchSampler):
    """The batches of a loader as positions, for a ``torch.utils.data.DataLoader`` that reads them itself.

    Each iteration begins the next epoch of the loader, like an iteration of the loader. Accelerate's
    ``skip_first_batches`` uses it.

    Args:
        loader: the loader.
        drop_last: whether a last batch that is not full is left out.
    """

    def __init__(self, loader: LoaderEpochs, *, drop_last: bool) -> None:
        # Not the constructor of torch's, which wants a size of every batch.
        self._loader, self.sampler, self.drop_last = loader, EpochSampler(loader), drop_last
        self.batch_size = loader.batch_size  # type: ignore[assignment]  # None where only budgets limit it

    def __iter__(self) -> Iterator[list[int]]:
        """Iterate over the positions of each batch of the next epoch."""
        return self._loader.begin_positions()

    def __len__(self) -> int:
        return len(self._loader.next_batches())


def distributed_ranks() -> tuple[int, int]:
    """Return the rank of this process and the number of ranks, from torch.distributed if it is initialised."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
