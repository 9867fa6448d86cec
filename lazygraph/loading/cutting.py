"""Where the order of an epoch is cut into batches, computed block by block.

An epoch may have millions of batches. Held in memory are only two numbers for each block of the order: how many batches
begin before it, and where its first batch begins. The batches of a block are computed when they are asked for, from the
sizes of its graphs. Packing is greedy, so packing again from the start of a batch gives the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.cached import cached_property
from lazygraph.errors import InputError
from lazygraph.loading.orders import EpochOrder, InParts
from lazygraph.loading.packing import Packer, halvings, pack

__all__ = ["Batches", "Cuts", "Extent", "totals"]

START, COUNT, PLACE = range(3)  # columns of a table of batches
TOGETHER = 256  # batches whose rows are looked up together


class Cuts:
    """The batches of an epoch, as a table that is computed in blocks: (batches, 3) int64.

    Its columns are where in the order a batch begins, the number of its graphs, and the place of its first graph among
    all that are visited. The batches of a block are those that begin in the same part of the order.

    Args:
        firsts: (b + 1,) the number of the first batch of each block, and the number of all batches.
        starts: (b + 1,) where in the order each block of batches begins, and where the last one ends.
        make: number of a block -> its rows of the table.
    """

    def __init__(
        self, firsts: NDArray[np.int64], starts: NDArray[np.int64], make: Callable[[int], NDArray[np.int64]]
    ) -> None:
        self._firsts, self._starts, self._make = firsts, starts, make
        self._rows = InParts(firsts, make)

    @classmethod
    def held(cls, counts: NDArray[np.int64]) -> Cuts:
        """The table of batches that follow each other, held in memory.

        Args:
            counts: (k,) the number of graphs in each batch.

        Example:
            >>> Cuts.held(np.array([3, 2])).part(0, 2).tolist()
            [[0, 3, 0], [3, 2, 3]]
        """
        ends = np.append(0, np.cumsum(counts, dtype=np.int64))
        return cls(np.array([0, len(counts)]), ends[[0, -1]], lambda _: _table(ends))

    @classmethod
    def every(cls, n: int, size: int, block: int) -> Cuts:
        """The table of ``n`` graphs in batches of ``size`` graphs; a last batch may be smaller.

        Example:
            >>> Cuts.every(5, 2, block=4).part(0, 3).tolist()
            [[0, 2, 0], [2, 2, 2], [4, 1, 4]]
        """
        firsts = -(-np.append(np.arange(0, n, block), n) // size)
        starts = np.minimum(firsts * size, n)

        def make(number: int) -> NDArray[np.int64]:
            return _table(np.append(np.arange(firsts[number], firsts[number + 1]) * size, starts[number + 1]))

        return cls(firsts, starts, make)

    @classmethod
    def within(
        cls,
        limits: Mapping[str, int],
        blocks: Iterable[Mapping[str, NDArray[Any]]],
        sizes: Callable[[int, int], Mapping[str, NDArray[Any]]],
    ) -> tuple[Cuts, bool]:
        """The table of batches that are as long as limits allow; and whether the last one fills one of them.

        Args:
            limits: name -> greatest sum over the graphs of one batch.
            blocks: for each block of the order, name -> integers, one per graph.
            sizes: the same of the graphs from one place of the order to before another.

        Example:
            >>> atoms = np.array([3, 3, 3, 5, 2])
            >>> cuts, is_full = Cuts.within(
            ...     {"atoms": 6}, [{"atoms": atoms}], lambda start, stop: {"atoms": atoms[start:stop]}
            ... )
            >>> cuts.part(0, len(cuts))[:, COUNT].tolist(), is_full
            ([2, 1, 1, 1], False)
        """
        packer, n = Packer(limits), 0
        counts: list[int] = []
        starts: list[int] = []
        for block in blocks:
            begun = packer.add(block)
            counts.append(len(begun))
            # A block in which no batch begins has no rows, wherever it is said to begin.
            starts.append(n + int(begun[0]) if len(begun) else -1)
            n += min(len(block[name]) for name in limits)
        marks = np.array([*starts, n], np.int64)
        # Those without rows begin where the next batch does.
        for empty in np.flatnonzero(marks < 0)[::-1]:
            marks[empty] = marks[empty + 1]

        def make(number: int) -> NDArray[np.int64]:
            start, stop = marks[number : number + 2].tolist()
            return _table(start + pack(sizes(start, stop), limits))

        return cls(np.append(0, np.cumsum(counts, dtype=np.int64)), marks, make), packer.is_full

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def part(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the rows of the batches from number ``start`` to before ``stop``, (stop - start, 3) int64."""
        return self._rows.part(start, stop).reshape(-1, 3)

    def without_last(self) -> Cuts:
        """Return all batches but the last."""
        last = len(self) - 1
        end = self.part(last, last + 1)[0, START]

        def make(number: int) -> NDArray[np.int64]:
            return self._make(number)[: max(last - int(self._firsts[number]), 0)]

        return Cuts(np.minimum(self._firsts, last), np.minimum(self._starts, end), make)

    def shuffled(self, keys: Callable[[int, int], NDArray[Any]]) -> Cuts:
        """Return the batches in the order of random keys within each block.

        Args:
            keys: number of a batch, number of another -> a key for each from the first to before the other.
        """

        def make(number: int) -> NDArray[np.int64]:
            rows = self._make(number)
            first = int(self._firsts[number])
            rows = rows[np.argsort(keys(first, first + len(rows)), kind="stable")]
            rows[:, PLACE] = int(self._starts[number]) + np.cumsum(rows[:, COUNT]) - rows[:, COUNT]
            return rows

        return Cuts(self._firsts, self._starts, make)

    def halved(self, more: int) -> Cuts:
        """Return ``more`` batches than these, by halving the largest repeatedly; of equal batches, the last.

        Raises:
            InputError: there are fewer graphs than batches.

        Example:
            >>> Cuts.held(np.array([4, 4, 1])).halved(1).part(0, 4)[:, COUNT].tolist()
            [4, 2, 2, 1]
        """
        graphs, wanted = int(self._starts[-1] - self._starts[0]), len(self) + more
        if graphs < wanted:
            msg = f"{graphs} graphs cannot fill {wanted} batches; every batch needs at least one"
            raise InputError(msg)
        largest = self._largest(more)
        cut = halvings(largest[:, COUNT], largest[:, PLACE], more)
        before = np.searchsorted(cut, self._starts)

        def make(number: int) -> NDArray[np.int64]:
            rows = self._make(number)
            places = np.sort(np.concatenate((rows[:, PLACE], cut[before[number] : before[number + 1]])))
            of = np.searchsorted(rows[:, PLACE], places, side="right") - 1
            halves = rows[of]
            halves[:, START] += places - rows[of, PLACE]
            halves[:, COUNT] = np.diff(np.append(places, self._starts[number + 1]))
            halves[:, PLACE] = places
            return halves

        return Cuts(self._firsts + before, self._starts, make)

    def _largest(self, most: int) -> NDArray[np.int64]:
        """The rows of the largest batches; of equal batches, the last. No others are halved so many times."""
        found = np.empty((0, 3), np.int64)
        for number in range(len(self._firsts) - 1):
            found = np.concatenate((found, self._make(number)))
            found = found[np.lexsort((found[:, PLACE], found[:, COUNT]))[-most:]]
        return found


def _table(ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of batches that follow each other, from where each begins, and the end."""
    return np.stack((ends[:-1], np.diff(ends), ends[:-1]), axis=1)


class Extent(NamedTuple):
    """A batch as a part of the order of an epoch."""

    start: int
    """Where in the order it begins."""
    graphs: int
    """The number of its graphs."""
    place: int
    """The place of its first graph among all that the ranks visit."""


class Batches:
    """Batches of graphs, as parts of the order of an epoch. Iteration yields the positions of each batch.

    Args:
        order: the order of the epoch.
        cuts: the batches of the epoch.
        numbers: which of them, ascending; all of them by default.

    Example:
        >>> from lazygraph.loading.orders import Sequential
        >>> batches = Batches(Sequential(5), Cuts.every(5, 2, block=4))
        >>> [batch.tolist() for batch in batches.skip(1)]
        [[2, 3], [4]]
    """

    def __init__(self, order: EpochOrder, cuts: Cuts, numbers: range | None = None) -> None:
        self.order, self.cuts = order, cuts
        self.numbers = range(len(cuts)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        for start, graphs, _ in self.extents():
            yield self.order.part(start, start + graphs)

    def extents(self) -> Iterator[Extent]:
        """Iterate over the batches, without the positions of their graphs."""
        for rows in self._rows():
            yield from map(Extent._make, rows.tolist())

    def _rows(self) -> Iterator[NDArray[np.int64]]:
        step = self.numbers.step
        for begin in range(0, len(self), max(TOGETHER // step, 1)):
            some = self.numbers[begin : begin + max(TOGETHER // step, 1)]
            yield self.cuts.part(some[0], some[-1] + 1)[::step]

    def skip(self, count: int) -> Batches:
        """Return all but the first ``count`` batches."""
        return self.take(slice(count, None)) if count else self

    def take(self, which: slice) -> Batches:
        """Select batches, with a step of at least 1; each keeps its place in the epoch."""
        return Batches(self.order, self.cuts, self.numbers[which])

    @cached_property
    def graphs(self) -> int:
        """The number of graphs in all batches."""
        return sum(int(rows[:, COUNT].sum()) for rows in self._rows())


def totals(batches: Batches, sizes: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
    """Return what each batch holds in total: name -> (k,) int64, and ``graphs``, the number of its graphs.

    Args:
        batches: the batches.
        sizes: name -> (n,) integers, one per graph.

    Example:
        >>> from lazygraph.loading.orders import Sequential
        >>> totals(Batches(Sequential(3), Cuts.every(3, 2, block=4)), {"atoms": np.array([5, 1, 2])})
        {'atoms': array([6, 2]), 'graphs': array([2, 1])}
    """
    out = {name: np.empty(len(batches), np.int64) for name in (*sizes, "graphs")}
    for number, positions in enumerate(batches):
        for name, size in sizes.items():
            out[name][number] = size[positions].sum(dtype=np.int64)
        out["graphs"][number] = len(positions)
    return out
