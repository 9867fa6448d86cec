"""What a transform draws at random: seeded for every graph, and the random numbers of the training left alone.

A transform draws from the generators of the process: torch's for the CPU, numpy's ``np.random`` and Python's
``random``. A loader seeds all three for every graph, by its own seed, the epoch and the place of the graph in the order
of the epoch over all ranks, and gives the process its random states back. So the same graph is given the same noise
whether it is read here, by a thread or by a process, on whichever rank, and after resuming.
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
    from lazygraph.loading.dataset import LazyGraphDataset

__all__ = ["Draw", "PlacedPositions", "Untransformed", "fingerprint_of"]

GENERATORS = 3  # torch, numpy and random: each has a key of its own, for equal seeds give two of them equal numbers


class Draw(NamedTuple):
    """What the random numbers of a batch depend on."""

    seed: int
    epoch: int
    place: int
    """Of the first graph of the batch, in the order of the epoch over all ranks."""

    def keys(self, n: int) -> NDArray[np.uint64]:
        """(n, 3) uint64, a seed of each generator for each graph."""
        start, count = GENERATORS * self.place, GENERATORS * n
        return random_keys(count, self.seed, self.epoch, TRANSFORMS, start=start).reshape(n, GENERATORS)


class PlacedPositions(list[int]):
    """The positions of a batch, and what its transforms draw; what a loader's ``batch_sampler`` gives."""

    def __init__(self, positions: list[int], draw: Draw) -> None:
        super().__init__(positions)
        self.draw = draw

    def __reduce__(self) -> tuple[Any, ...]:
        return PlacedPositions, (list(self), self.draw)


class Untransformed(NamedTuple):
    """A batch of graphs that were read, and that a transform has not seen."""

    dataset: LazyGraphDataset
    rows: list[int]
    graphs: list[Data]
    draw: Draw

    def single(self) -> list[Any]:
        """What the transform makes of each graph; the random states of this process are kept."""
        with kept_random_states():
            out = []
            for row, graph, keys in zip(self.rows, self.graphs, self.draw.keys(len(self.rows)), strict=True):
                seed_generators(*keys.tolist())
                out.append(self.dataset.transformed(row, graph))
            return out

    def batch(self) -> Batch:
        """All graphs, transformed, as one batch.

        Raises:
            InputError: the transform gave something that is no graph.
        """
        made = self.single()
        for row, graph in zip(self.rows, made, strict=True):
            if not isinstance(graph, BaseData):
                where = self.dataset.reader.where(row).removesuffix(": ")
                msg = f"the transform gave {type(graph).__name__} for {where}; required: a graph, which it must return"
                raise InputError(msg)
        return collate(made)


def seed_generators(of_torch: int, of_numpy: int, of_python: int) -> None:
    """Seed the generators that transforms draw from, by integers of 64 bits."""
    torch.default_generator.manual_seed(of_torch >> 1)  # torch.manual_seed would seed those of all devices too
    np.random.seed(of_numpy >> 32)  # noqa: NPY002  # it is what transforms draw from
    random.seed(of_python)


@contextmanager
def kept_random_states() -> Iterator[None]:
    """Whatever is drawn and seeded within, afterwards the random states of this process are those from before."""
    of_torch, of_numpy = torch.default_generator.get_state(), np.random.get_state(legacy=False)  # noqa: NPY002
    of_python = random.getstate()
    try:
        yield
    finally:
        torch.default_generator.set_state(of_torch)
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)


def fingerprint_of(transform: Any) -> bytes | None:
    """Bytes that differ where a transform was replaced or changed; None where nobody can tell.

    By value for what the user's script or notebook defines, closures and their variables included. A change of what a
    transform takes from a module that can be imported is not seen.
    """
    try:
        found: bytes = cloudpickle.dumps(transform)
    except Exception:  # noqa: BLE001  # whatever its parts raise, as locks and open files do
        return None
    return found
