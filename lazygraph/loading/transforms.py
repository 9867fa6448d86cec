"""Seeding of random transforms for every graph, without changing the random states of the training.

A transform draws from the generators of the process: torch's CPU generator, ``np.random`` and ``random``. A loader
seeds all three for every graph and restores the random states afterwards. The seed depends on the loader's seed, the
epoch and the position of the graph in the order of the epoch over all ranks. A graph therefore gets the same noise in
this process, from a thread or from a worker, on any rank, and after resuming.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
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
from lazygraph.loading.orders import TRANSFORMS, random_keys

if TYPE_CHECKING:
    from lazygraph.loading.mixing import LoadableDataset

__all__ = ["Draw", "PlacedPositions", "Untransformed", "fingerprint_of"]

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


class PlacedPositions(list[int]):
    """The positions of a batch with the seeds for its transforms, as a loader's ``batch_sampler`` yields them."""

    def __init__(self, positions: list[int], draw: Draw) -> None:
        super().__init__(positions)
        self.draw = draw

    def __reduce__(self) -> tuple[Any, ...]:
        return PlacedPositions, (list(self), self.draw)


class Untransformed(NamedTuple):
    """A batch of graphs before their transform."""

    dataset: LoadableDataset
    rows: list[int]
    graphs: list[Data]
    draw: Draw

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
                msg = f"the transform gave {type(graph).__name__} for {where}; required: a graph, which it must return"
                raise InputError(msg)
        return collate(made)


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
