"""Packing of a sequence of graphs into batches, by pure functions that are vectorised over all graphs."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError
from lazygraph.loading.orders import PART

__all__ = ["OversizedGraphs", "Packer", "halvings", "pack", "refuse_oversized"]

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


class Packer:
    """Packs graphs whose sizes come in parts, as ``pack`` does for all of them together.

    Args:
        limits: name -> greatest sum over the graphs of one batch.

    Example:
        >>> packer = Packer({"atoms": 6})
        >>> packer.add({"atoms": np.array([3, 3])}), packer.add({"atoms": np.array([3, 5, 2])})
        (array([0]), array([0, 1, 2]))
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = limits
        self._used: dict[str, int] | None = None  # by the batch that may go on; None before the first graph

    @property
    def is_full(self) -> bool:
        """Whether the last batch fills one of the limits."""
        return self._used is not None and any(self._used[name] >= limit for name, limit in self._limits.items())

    def add(self, sizes: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
        """Add the next graphs and return where among them batches begin, (k,) int64.

        Args:
            sizes: name -> (m,) integers, one per graph.
        """
        limits, used = self._limits, self._used
        n = min(len(sizes[name]) for name in limits)
        if not n:
            return np.empty(0, np.int64)
        more = 0  # graphs that go into the batch that was begun
        if used is not None:
            more = min(
                int(np.searchsorted(np.cumsum(sizes[name], dtype=np.int64), limit - used[name], side="right"))
                for name, limit in limits.items()
            )
        begun = more + pack({name: sizes[name][more:] for name in limits}, limits)[:-1]
        last = int(begun[-1]) if len(begun) else 0
        before = dict.fromkeys(limits, 0) if used is None or len(begun) else used
        self._used = {name: before[name] + int(sizes[name][last:].sum(dtype=np.int64)) for name in limits}
        return begun


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


def halvings(counts: NDArray[np.int64], places: NDArray[np.int64], more: int) -> NDArray[np.int64]:
    """Return where batches are cut if the largest is halved ``more`` times; of equal batches, the last.

    Args:
        counts: (k,) the number of graphs in each of the ``more`` largest batches, or in all.
        places: (k,) the place of the first graph of each.
        more: number of cuts.

    Returns:
        (more,) int64 ascending places.

    Example:
        >>> halvings(np.array([4, 4, 1]), np.array([0, 4, 8]), 1).tolist()
        [6]
    """
    heap = list(zip((-counts).tolist(), (-places).tolist(), strict=True))
    heapq.heapify(heap)
    cuts = []
    for _ in range(more):
        count, place = (-value for value in heapq.heappop(heap))
        half = (count + 1) // 2
        heapq.heappush(heap, (-half, -place))
        heapq.heappush(heap, (half - count, -place - half))
        cuts.append(place + half)
    return np.sort(np.array(cuts, np.int64))
