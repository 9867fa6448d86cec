"""The batches of an epoch as a table, of which only the needed rows are computed.

An epoch may have millions of batches. Held in memory are two numbers for each section of some thousand graphs: how many
batches begin before it, and where its first batch begins. The batches of a section are computed when they are needed,
from the sizes of its graphs. Packing is greedy, so packing again from the start of a batch gives the same batches.
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

__all__ = ["BatchTable", "Batches", "Extent", "totals"]

START, COUNT, PLACE = range(3)  # columns
TOGETHER = 65536  # graphs whose sizes are added up together
MANY = 4096  # batches of which the largest are chosen together


class Extent(NamedTuple):
    """A batch as a part of the order of an epoch: a row of a ``BatchTable``."""

    start: int
    """Where in the order it begins."""
    graphs: int
    """The number of its graphs."""
    place: int
    """The place of its first graph among all that are visited."""


class BatchTable:
    """The batches of an epoch, one row per batch: start, number of graphs and place, as in ``Extent``.

    The rows are computed in sections, of which the last two are kept (24 bytes per batch). A section has the batches
    that begin in one part of the order. Any number of threads may use a table. It cannot be pickled.

    Args:
        firsts: (s + 1,) the number of the first batch of each section, and the number of all batches.
        starts: (s + 1,) where in the order each section of batches begins, and where the last one ends.
        make: number of a section -> its rows, (batches, 3) int64 in an array of their own.
    """

    def __init__(
        self, firsts: NDArray[np.int64], starts: NDArray[np.int64], make: Callable[[int], NDArray[np.int64]]
    ) -> None:
        self._firsts, self._starts, self._make = firsts, starts, make
        self._rows = InParts(firsts, make)

    @classmethod
    def from_counts(cls, counts: NDArray[np.int64]) -> BatchTable:
        """The table of batches that follow each other, held in memory.

        Args:
            counts: (k,) the number of graphs in each batch.

        Example:
            >>> BatchTable.from_counts(np.array([3, 2])).rows(0, 2).tolist()
            [[0, 3, 0], [3, 2, 3]]
        """
        ends = np.append(0, np.cumsum(counts, dtype=np.int64))
        return cls(np.array([0, len(counts)]), ends[[0, -1]], lambda _: _rows_between(ends))

    @classmethod
    def of_size(cls, n: int, size: int, section: int) -> BatchTable:
        """The table of ``n`` graphs in batches of ``size`` graphs; a last batch may be smaller.

        Args:
            n: number of graphs.
            size: number of graphs in a batch.
            section: number of graphs in a section.

        Example:
            >>> BatchTable.of_size(5, 2, section=4).rows(0, 3).tolist()
            [[0, 2, 0], [2, 2, 2], [4, 1, 4]]
        """
        size = min(size, max(n, 1))
        firsts = -(-np.append(np.arange(0, n, section), n) // size)
        starts = np.minimum(firsts * size, n)

        def make(number: int) -> NDArray[np.int64]:
            return _rows_between(np.append(np.arange(firsts[number], firsts[number + 1]) * size, starts[number + 1]))

        return cls(firsts, starts, make)

    @classmethod
    def within_limits(
        cls,
        limits: Mapping[str, int],
        parts: Iterable[Mapping[str, NDArray[Any]]],
        sizes: Callable[[int, int], Mapping[str, NDArray[Any]]],
        section: int,
    ) -> tuple[BatchTable, bool]:
        """The table of batches that are as long as limits allow; and whether the last one fills one of them.

        Args:
            limits: name -> greatest sum over the graphs of one batch.
            parts: the sizes of all graphs, in parts of whole sections: name -> integers, one per graph.
            sizes: the same of the graphs from one place of the order to before another.
            section: number of graphs in a section.

        Example:
            >>> atoms = np.array([3, 3, 3, 5, 2])
            >>> table, is_full = BatchTable.within_limits(
            ...     {"atoms": 6}, [{"atoms": atoms}], lambda start, stop: {"atoms": atoms[start:stop]}, section=4
            ... )
            >>> table.rows(0, len(table)).tolist(), is_full
            ([[0, 2, 0], [2, 1, 2], [3, 1, 3], [4, 1, 4]], False)
        """
        packer, n, batches = Packer(limits), 0, 0
        firsts, starts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for part in parts:
            begun = n + packer.add(part)
            end = n + min(len(part[name]) for name in limits)
            before = np.searchsorted(begun, np.arange(n, end, section))
            firsts.append(batches + before)
            starts.append(np.append(begun, -1)[before])
            n, batches = end, batches + len(begun)
        first, start = np.append(np.concatenate(firsts), batches), np.append(np.concatenate(starts), n)
        # A section in which no batch begins has no rows. It starts with the next batch, so that the section before it
        # ends where its last batch ends.
        start[start < 0] = n
        start = np.minimum.accumulate(start[::-1])[::-1]

        def make(number: int) -> NDArray[np.int64]:
            begin, stop = start[number : number + 2].tolist()
            return _rows_between(begin + pack(sizes(begin, stop), limits))

        return cls(first, start, make), packer.is_full

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def rows(self, first: int, last: int) -> NDArray[np.int64]:
        """Return the rows from batch number ``first`` to before ``last``, (last - first, 3) int64."""
        return self._rows.part(first, last).reshape(-1, 3)

    def end_of_section(self, number: int) -> int:
        """Return the number of the first batch behind the section of a batch."""
        return int(self._firsts[np.searchsorted(self._firsts, number, side="right")])

    def without_last(self) -> BatchTable:
        """Return all batches but the last; there must be one."""
        last = len(self) - 1
        end = self.rows(last, last + 1)[0, START]

        def make(number: int) -> NDArray[np.int64]:
            return self._make(number)[: max(last - int(self._firsts[number]), 0)]

        return BatchTable(np.minimum(self._firsts, last), np.minimum(self._starts, end), make)

    def shuffled(self, keys: Callable[[int, int], NDArray[Any]], pool: int) -> BatchTable:
        """Return the batches in the order of random keys among those that begin in the same pool.

        Args:
            keys: numbers of batches -> a key for each, from the first to before the last.
            pool: number of graphs in a pool; a section consists of whole pools.
        """

        def make(number: int) -> NDArray[np.int64]:
            rows = self._make(number)
            first = int(self._firsts[number])
            rows = rows[np.lexsort((keys(first, first + len(rows)), rows[:, START] // pool))]
            rows[:, PLACE] = int(self._starts[number]) + np.cumsum(rows[:, COUNT]) - rows[:, COUNT]
            return rows

        return BatchTable(self._firsts, self._starts, make)

    def halved(self, more: int) -> BatchTable:
        """Return ``more`` batches than these, by halving the largest repeatedly; of equal batches, the last.

        Raises:
            InputError: there are fewer graphs than batches.

        Example:
            >>> BatchTable.from_counts(np.array([4, 4, 1])).halved(1).rows(0, 4).tolist()
            [[0, 4, 0], [4, 2, 4], [6, 2, 6], [8, 1, 8]]
        """
        if not more:
            return self
        graphs, wanted = int(self._starts[-1] - self._starts[0]), len(self) + more
        if graphs < wanted:
            msg = f"{graphs} graphs cannot fill {wanted} batches; every batch needs at least one"
            raise InputError(msg)
        largest = self._largest(more)
        cuts = halvings(largest[:, COUNT], largest[:, PLACE], more)
        before = np.searchsorted(cuts, self._starts)

        def make(number: int) -> NDArray[np.int64]:
            rows = self._make(number)
            places = np.sort(np.concatenate((rows[:, PLACE], cuts[before[number] : before[number + 1]])))
            batch = np.searchsorted(rows[:, PLACE], places, side="right") - 1
            halves = rows[batch]
            halves[:, START] += places - rows[batch, PLACE]
            halves[:, COUNT] = np.diff(np.append(places, self._starts[number + 1]))
            halves[:, PLACE] = places
            return halves

        return BatchTable(self._firsts + before, self._starts, make)

    def _largest(self, most: int) -> NDArray[np.int64]:
        """The rows of the largest batches; of equal batches, the last. No others are halved so many times."""
        found = np.empty((0, 3), np.int64)
        seen, rows = [found], 0
        for number in range(len(self._firsts) - 1):
            seen.append(self._make(number))
            rows += len(seen[-1])
            if rows > 4 * most + MANY or number == len(self._firsts) - 2:
                found = np.concatenate(seen)
                found = found[np.lexsort((found[:, PLACE], found[:, COUNT]))[-most:]]
                seen, rows = [found], len(found)
        return found


def _rows_between(ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of batches that follow each other, from where each begins, and the end."""
    return np.stack((ends[:-1], np.diff(ends), ends[:-1]), axis=1)


class Batches:
    """Batches of graphs, as parts of the order of an epoch. Iteration yields the positions of each batch.

    Any number of threads may iterate. Every iteration computes the rows of its batches again, section by section.

    Args:
        order: the order of the epoch.
        table: the batches of the epoch.
        numbers: which of them, ascending; all of them by default.

    Example:
        >>> from lazygraph.loading.orders import Sequential
        >>> batches = Batches(Sequential(5), BatchTable.of_size(5, 2, section=4))
        >>> [batch.tolist() for batch in batches.skip(1)]
        [[2, 3], [4]]
    """

    def __init__(self, order: EpochOrder, table: BatchTable, numbers: range | None = None) -> None:
        self.order, self.table = order, table
        self.numbers = range(len(table)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return map(self.positions, self.extents())

    def positions(self, extent: Extent) -> NDArray[np.int64]:
        """Return the positions of the graphs of a batch."""
        return self.order.part(extent.start, extent.start + extent.graphs)

    def extents(self) -> Iterator[Extent]:
        """Iterate over the batches, without the positions of their graphs."""
        for rows in self._rows():
            yield from map(Extent._make, rows.tolist())

    def _rows(self) -> Iterator[NDArray[np.int64]]:
        """The rows of the batches, those of a section together."""
        left = self.numbers
        while left:
            in_section = -((left[0] - self.table.end_of_section(left[0])) // left.step)
            some, left = left[:in_section], left[in_section:]
            yield self.table.rows(some[0], some[-1] + 1)[:: some.step]

    def skip(self, count: int) -> Batches:
        """Return all but the first ``count`` batches."""
        return self.take(slice(count, None)) if count else self

    def take(self, which: slice) -> Batches:
        """Select batches, with a step of at least 1; each keeps its place in the epoch."""
        return Batches(self.order, self.table, self.numbers[which])

    @cached_property
    def graphs(self) -> int:
        """The number of graphs in all batches; at its first use, the rows are computed."""
        return sum(int(rows[:, COUNT].sum()) for rows in self._rows())


def totals(batches: Batches, sizes: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
    """Return what each batch holds in total: name -> (k,) int64, and ``graphs``, the number of its graphs.

    Args:
        batches: the batches.
        sizes: name -> (n,) integers, one per graph.

    Example:
        >>> from lazygraph.loading.orders import Sequential
        >>> batches = Batches(Sequential(3), BatchTable.of_size(3, 2, section=4))
        >>> totals(batches, {"atoms": np.array([5, 1, 2])})
        {'atoms': array([6, 2]), 'graphs': array([2, 1])}
    """
    found: dict[str, list[NDArray[np.int64]]] = {name: [np.empty(0, np.int64)] for name in (*sizes, "graphs")}
    several: list[NDArray[np.int64]] = []

    def add_up() -> None:
        counts = np.array([len(one) for one in several], np.int64)
        positions, starts = np.concatenate(several), np.cumsum(counts) - counts
        for name, size in sizes.items():
            found[name].append(np.add.reduceat(size[positions], starts, dtype=np.int64))
        found["graphs"].append(counts)
        several.clear()

    waiting = 0
    for positions in batches:
        several.append(positions)
        waiting += len(positions)
        if waiting >= TOGETHER:
            add_up()
            waiting = 0
    if several:
        add_up()
    return {name: np.concatenate(parts) for name, parts in found.items()}
