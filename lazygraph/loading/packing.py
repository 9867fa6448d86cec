"""Packing of a sequence of graphs into batches, by pure functions that are vectorised over all graphs."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError

__all__ = ["Batches", "OversizedGraphs", "pack", "refuse_oversized", "split"]

NAMED = 3  # so many graphs does an error name for each limit


class OversizedGraphs(InputError):
    """Single graphs exceed a limit, so no batch can hold them.

    Args:
        message: what was found, and what to do.
        positions: (k,) int64, ascending positions of these graphs.
    """

    def __init__(self, message: str, positions: NDArray[np.int64]) -> None:
        super().__init__(message, positions)
        self.positions = positions

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Batches of graphs as two arrays. Iteration yields the positions of each batch.

    Args:
        positions: (m,) int64, graphs in the order in which they are read.
        ptr: (k + 1,) int64: batch i holds ``positions[ptr[i] : ptr[i + 1]]``; other positions are in no batch.
        places: (k,) int64, position of the first graph of each batch in the epoch of all ranks; default the index in
            ``positions``.
    """

    positions: NDArray[np.int64]
    ptr: NDArray[np.int64]
    places: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.ptr) - 1

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        for start, end in zip(self.ptr[:-1].tolist(), self.ptr[1:].tolist(), strict=True):
            yield self.positions[start:end]

    def skip(self, count: int) -> Batches:
        """Return all but the first ``count`` batches, over the same arrays."""
        count = min(count, len(self))
        return Batches(self.positions, self.ptr[count:], self.first_places()[count:])

    def take(self, which: NDArray[np.int64]) -> Batches:
        """Select batches, in this order; each keeps its position in the epoch."""
        counts = np.diff(self.ptr)[which]
        ptr = np.concatenate(([0], np.cumsum(counts)))
        shift = np.repeat(self.ptr[:-1][which] - ptr[:-1], counts)
        return Batches(self.positions[np.arange(ptr[-1]) + shift], ptr, self.first_places()[which])

    @property
    def graphs(self) -> int:
        """The number of graphs in all batches."""
        return int(self.ptr[-1] - self.ptr[0])

    def first_places(self) -> NDArray[np.int64]:
        """The position of the first graph of each batch in the epoch, (k,) int64."""
        return self.ptr[:-1] if self.places is None else self.places


def pack(sizes: Mapping[str, NDArray[Any]], limits: Mapping[str, int]) -> NDArray[np.int64]:
    """Pack graphs into batches without changing their order. A batch ends before a graph that would exceed a limit.

    Args:
        sizes: name -> (n,) integers, at least 0, one per graph.
        limits: name -> greatest sum over the graphs of one batch; at least one name.

    Returns:
        (k + 1,) int64: batch i holds the graphs from ptr[i] to ptr[i + 1]. No batch is empty.

    Raises:
        OversizedGraphs: a single graph exceeds a limit.

    Example:
        >>> pack({"atoms": np.array([3, 3, 3, 5, 2])}, {"atoms": 6}).tolist()
        [0, 2, 3, 4, 5]
    """
    refuse_oversized(sizes, limits)
    n = min(len(sizes[name]) for name in limits)
    end = np.full(n + 1, n)  # where a batch that began here would end
    for name, limit in limits.items():
        total = np.concatenate(([0], np.cumsum(sizes[name], dtype=np.int64)))
        within = total + min(limit, int(total[-1]))
        end = np.minimum(end, np.searchsorted(total, within, side="right") - 1)
    # Follow the ends from 0 by doubling: with the first 2^i batches and jumps over 2^i of them, find the next 2^i.
    ptr = np.zeros(1, np.int64)
    while ptr[-1] < n:
        ptr = np.concatenate((ptr, end[ptr]))
        end = end[end]
    return ptr[: np.searchsorted(ptr, n) + 1]


def refuse_oversized(sizes: Mapping[str, NDArray[Any]], limits: Mapping[str, int]) -> None:
    """Refuse graphs that fit into no batch.

    Raises:
        OversizedGraphs: there are such graphs; the message counts them and names the largest.

    Example:
        >>> try:
        ...     refuse_oversized({"atoms": np.array([3, 9, 4])}, {"atoms": 5})
        ... except OversizedGraphs as error:
        ...     print(error.positions)
        [1]
    """
    found, parts = [], []
    for name, limit in limits.items():
        over = np.flatnonzero(sizes[name] > limit)
        if len(over):
            largest = over[np.argsort(-sizes[name][over].astype(np.int64), kind="stable")][:NAMED]
            named = ", ".join(f"{sizes[name][i]} at position {i}" for i in largest)
            more = ", ..." if len(over) > NAMED else ""
            parts.append(f"{len(over)} with more than {limit} {name} ({named}{more})")
            found.append(over)
    if found:
        positions = np.unique(np.concatenate(found))
        count = "1 graph is" if len(positions) == 1 else f"{len(positions)} graphs are"
        msg = f"{count} too large for any batch: {'; '.join(parts)}; required: higher limits, or a subset without them"
        raise OversizedGraphs(msg, positions)


def split(ptr: NDArray[np.int64], more: int) -> NDArray[np.int64]:
    """Make ``more`` additional batches by halving the largest batch repeatedly; of equal batches, the last.

    Args:
        ptr: (k + 1,) int64, a result of ``pack``.
        more: number of batches to add.

    Returns:
        (k + 1 + more,) int64.

    Raises:
        InputError: there are fewer graphs than batches.

    Example:
        >>> split(np.array([0, 4, 8, 9]), 1).tolist()
        [0, 4, 6, 8, 9]
    """
    if more == 0:
        return ptr
    graphs, wanted = int(ptr[-1] - ptr[0]), len(ptr) - 1 + more
    if graphs < wanted:
        msg = f"{graphs} graphs cannot fill {wanted} batches; every batch needs at least one"
        raise InputError(msg)
    counts = np.diff(ptr)
    # No more than this many can have their turn, and those that do are the largest.
    largest = np.argsort(counts, kind="stable")[-more:]
    heap = list(zip((-counts[largest]).tolist(), (-ptr[largest]).tolist(), strict=True))
    heapq.heapify(heap)
    cuts = []
    for _ in range(more):
        count, start = (-value for value in heapq.heappop(heap))
        half = (count + 1) // 2
        heapq.heappush(heap, (-half, -start))
        heapq.heappush(heap, (half - count, -start - half))
        cuts.append(start + half)
    return np.sort(np.concatenate((ptr, cuts)))
