"""Packing of a sequence of graphs into batches, by pure functions that are vectorised over all graphs."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError
from lazygraph.loading.orders import PART, EpochOrder

__all__ = ["Batches", "OversizedGraphs", "pack", "pack_in_parts", "refuse_oversized", "split"]

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
    """Batches of graphs, as parts of the order of an epoch. Iteration yields the positions of each batch.

    Args:
        order: the order of the epoch.
        starts: (k,) int64, where in the order each batch begins.
        counts: (k,) int64, the number of its graphs.
        places: (k,) int64, the place of its first graph among all that the ranks visit.
    """

    order: EpochOrder
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        for start, count in zip(self.starts, self.counts, strict=True):
            yield self.order.part(int(start), int(start) + int(count))

    def skip(self, count: int) -> Batches:
        """Return all but the first ``count`` batches."""
        return self.take(slice(count, None))

    def take(self, which: slice) -> Batches:
        """Select batches; each keeps its place in the epoch."""
        return Batches(self.order, self.starts[which], self.counts[which], self.places[which])

    @property
    def graphs(self) -> int:
        """The number of graphs in all batches."""
        return int(self.counts.sum())


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


def pack_in_parts(
    parts: Iterable[Mapping[str, NDArray[Any]]], limits: Mapping[str, int]
) -> tuple[NDArray[np.int64], bool]:
    """Pack graphs whose sizes come in parts, as ``pack`` does for all of them together.

    Args:
        parts: name -> (m,) integers, one per graph, of graphs that follow each other.
        limits: name -> greatest sum over the graphs of one batch.

    Returns:
        (k,) int64 the number of graphs in each batch; and whether the last one fills one of the limits.

    Example:
        >>> parts = {"atoms": np.array([3, 3])}, {"atoms": np.array([3, 5, 2])}
        >>> pack_in_parts(parts, {"atoms": 6})
        (array([2, 1, 1, 1]), False)
    """
    done: list[NDArray[np.int64]] = []
    begun, used = 0, dict.fromkeys(limits, 0)  # of the batch that may go on: its graphs, and what they take
    for sizes in parts:
        n = min(len(sizes[name]) for name in limits)
        more = min(
            int(np.searchsorted(np.cumsum(sizes[name], dtype=np.int64), limit - used[name], side="right"))
            for name, limit in limits.items()
        )
        begun += more
        last = 0
        if more < n:
            ends = pack({name: sizes[name][more:] for name in limits}, limits)
            done += [np.array([begun] if begun else [], np.int64), np.diff(ends[:-1])]
            last = more + int(ends[-2])
            begun, used = n - last, dict.fromkeys(limits, 0)
        for name in limits:
            used[name] += int(sizes[name][last:].sum(dtype=np.int64))
    counts = np.concatenate([*done, np.array([begun] if begun else [], np.int64)])
    return counts, any(used[name] >= limit for name, limit in limits.items())


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
    found, named_parts = [], []
    for name, limit in limits.items():
        parts = (
            start + np.flatnonzero(sizes[name][start : start + PART] > limit)
            for start in range(0, len(sizes[name]), PART)
        )
        over = np.concatenate([np.empty(0, np.int64), *parts])
        if len(over):
            largest = over[np.argsort(-sizes[name][over].astype(np.int64), kind="stable")][:NAMED]
            named = ", ".join(f"{sizes[name][i]} at position {i}" for i in largest)
            more = ", ..." if len(over) > NAMED else ""
            named_parts.append(f"{len(over)} with more than {limit} {name} ({named}{more})")
            found.append(over)
    if found:
        positions = np.unique(np.concatenate(found))
        count = "1 graph is" if len(positions) == 1 else f"{len(positions)} graphs are"
        told = "; ".join(named_parts)
        msg = f"{count} too large for any batch: {told}; raise the limits, or use a subset without them"
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
    largest = np.argsort(counts, kind="stable")[-more:].copy()
    heap = list(zip((-counts[largest]).tolist(), (-ptr[largest]).tolist(), strict=True))
    del counts
    heapq.heapify(heap)
    cuts = []
    for _ in range(more):
        count, start = (-value for value in heapq.heappop(heap))
        half = (count + 1) // 2
        heapq.heappush(heap, (-half, -start))
        heapq.heappush(heap, (half - count, -start - half))
        cuts.append(start + half)
    return np.sort(np.concatenate((ptr, cuts)))
