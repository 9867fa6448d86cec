"""Seeding of random transforms for every graph, without changing the random states of the training.

A transform draws from the generators of the process: torch's CPU generator, ``np.random`` and ``random``. A loader
seeds all three for every graph and restores the random states afterwards. The seed depends on the loader's seed, the
epoch and the position of the graph in the order of the epoch over all ranks. A graph therefore gets the same noise in
this process, from a thread or from a worker, on any rank, and after resuming.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Batch, Data
from torch_geometric.data.data import BaseData

from lazygraph.errors import InputError
from lazygraph.loading.graph_list import collate
from lazygraph.loading.orders import AUGMENTATIONS, BATCH_TRANSFORMS, TRANSFORMS, random_keys
from lazygraph.reading.augment import AugmentationCounts

if TYPE_CHECKING:
    from lazygraph.loading.mixing import LoadableDataset

__all__ = [
    "Draw",
    "PlacedGraphs",
    "PlacedPositions",
    "Untransformed",
    "fingerprint_of",
    "taken_counts",
    "transformed_batch",
    "with_counts",
]

_COUNTS = "_lazygraph_augmented"
GENERATORS = 3  # torch, numpy and random: each has a key of its own, for equal seeds give two of them equal numbers


class Draw(NamedTuple):
    """The seeds that the random numbers of a batch depend on."""

    seed: int
    epoch: int
    place: int
    """Of the first graph of the batch, in the order of the epoch over all ranks."""

    def keys(self, n: int) -> NDArray[np.uint64]:
        """Return a seed of each generator for each graph, (n, 3) uint64."""
        start, count = GENERATORS * self.place, GENERATORS * n
        return random_keys(count, self.seed, self.epoch, TRANSFORMS, start=start).reshape(n, GENERATORS)

    def batch_keys(self) -> NDArray[np.uint64]:
        """Return a seed of each generator, and of that of a device, for the transform of the batch, (4,) uint64."""
        return random_keys(GENERATORS + 1, self.seed, self.epoch, BATCH_TRANSFORMS, start=(GENERATORS + 1) * self.place)

    def augmentation_seeds(self, n: int) -> NDArray[np.uint64]:
        """Return the seed of the augmentation of each graph, (n,) uint64."""
        return random_keys(n, self.seed, self.epoch, AUGMENTATIONS, start=self.place)


class PlacedPositions(list[int]):
    """The positions of a batch with the seeds for its transforms, as a loader's ``batch_sampler`` yields them."""

    def __init__(self, positions: list[int], draw: Draw) -> None:
        super().__init__(positions)
        self.draw = draw

    def __reduce__(self) -> tuple[Any, ...]:
        return PlacedPositions, (list(self), self.draw)


class PlacedGraphs(list[Any]):
    """The graphs of a batch with the seeds for the transform of the batch."""

    def __init__(self, graphs: Iterable[Any], draw: Draw) -> None:
        super().__init__(graphs)
        self.draw = draw

    def __reduce__(self) -> tuple[Any, ...]:
        return PlacedGraphs, (list(self), self.draw)


class Untransformed(NamedTuple):
    """A batch of graphs before their transform."""

    dataset: LoadableDataset
    rows: list[int]
    graphs: list[Data]
    draw: Draw
    augmented: AugmentationCounts | None = None
    """What became of the crystals, if they are augmented."""

    def single(self) -> list[Any]:
        """Apply the transform to each graph; the random states of this process stay unchanged."""
        with kept_random_states():
            out = []
            for row, graph, keys in zip(self.rows, self.graphs, self.draw.keys(len(self.rows)), strict=True):
                seed_generators(*keys.tolist())
                out.append(self.dataset.transformed(row, graph))
            return out

    def batch(self) -> Batch:
        """Apply the transform to all graphs and collate them.

        Raises:
            InputError: the transform returned something other than a ``Data``.
        """
        made = self.single()
        for row, graph in zip(self.rows, made, strict=True):
            if not isinstance(graph, BaseData):
                where = self.dataset.reader.where(row).removesuffix(": ")
                msg = f"the transform returned {type(graph).__name__} for {where}; it must return a graph"
                raise InputError(msg)
        return with_counts(collate(made), self.augmented)


def with_counts(batch: Batch, counts: AugmentationCounts | None) -> Batch:
    """Let a batch carry what became of its crystals, beside its values; ``taken_counts`` takes it out again."""
    if counts is not None:
        batch.__dict__[_COUNTS] = counts
    return batch


def taken_counts(batch: Batch) -> AugmentationCounts | None:
    """Return the counts that a batch carries, and leave it without them."""
    counts: AugmentationCounts | None = batch.__dict__.pop(_COUNTS, None)
    return counts


def transformed_batch(transform: Callable[[Batch], Any], batch: Batch, draw: Draw | None, device: Any) -> Batch:
    """Apply a transform to a batch; the random states of this process, and of the device, stay unchanged.

    Args:
        transform: the function of the user.
        batch: the batch.
        draw: what its random numbers depend on; None for those of the process.
        device: the device of the batch; None for the memory of this process.

    Raises:
        InputError: the function returned something other than a ``Batch``.
    """
    counts = taken_counts(batch)
    try:
        if draw is None:
            made = transform(batch)
        else:
            keys = draw.batch_keys().tolist()
            with kept_random_states(), _seeded_device(device, keys[GENERATORS]):
                seed_generators(*keys[:GENERATORS])
                made = transform(batch)
    except Exception as error:
        error.add_note(f"in the batch_transform {transform!r}")
        raise
    if not isinstance(made, Batch):
        msg = f"the batch_transform returned {type(made).__name__}; it must return a Batch"
        raise InputError(msg)
    return with_counts(made, counts)


@contextmanager
def _seeded_device(device: torch.device | None, key: int) -> Iterator[None]:
    """Seed the generator of a device within the block. Nothing happens for the CPU, whose generator is seeded apart."""
    if device is None or device.type in ("cpu", "meta"):
        yield
        return
    of_type = torch.get_device_module(device)
    number = of_type.current_device() if device.index is None else device.index
    with torch.random.fork_rng([number], device_type=device.type), of_type.device(number):
        of_type.manual_seed(key >> 1)
        yield


def seed_generators(of_torch: int, of_numpy: int, of_python: int) -> None:
    """Seed the generators that transforms draw from, with 64-bit integers."""
    torch.default_generator.manual_seed(of_torch >> 1)  # torch.manual_seed would seed those of all devices too
    np.random.seed(of_numpy >> 32)  # noqa: NPY002  # it is what transforms draw from
    random.seed(of_python)


@contextmanager
def kept_random_states() -> Iterator[None]:
    """Restore the random states of this process at the end of the block."""
    of_torch, of_numpy = torch.default_generator.get_state(), np.random.get_state(legacy=False)  # noqa: NPY002
    of_python = random.getstate()
    try:
        yield
    finally:
        torch.default_generator.set_state(of_torch)
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)


def fingerprint_of(transform: Any) -> bytes | None:
    """Return bytes that change when a transform is replaced or changed; None if it cannot be pickled.

    Objects that the user's script or notebook defines count by value, including closures and their variables. A change
    of something that a transform uses from an imported module is not noticed.
    """
    try:
        found: bytes = cloudpickle.dumps(transform)
    except Exception:  # noqa: BLE001  # whatever its parts raise, as locks and open files do
        return None
    return found
