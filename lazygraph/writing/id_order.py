"""The order of the ids of a dataset, and the rows whose id an earlier row has, in memory that does not grow.

Ids are sorted in runs that fit into memory. The runs are cut at common ids into ranges, each of which fits into memory
too, and the parts of a range are merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.format.columns import Pieces, common_type
from lazygraph.format.digests import CheckedColumn
from lazygraph.format.id_lookup import holders, insertion_places
from lazygraph.writing.temporary_arrays import TemporaryArrays

__all__ = ["IdOrder", "added_to", "order_ids", "order_type", "sorted_ranges"]

RUN = 2**19  # bytes of the values that are sorted at once
RUNS = 512  # beyond which they become longer
SAMPLES = 256  # values of each run by which ranges are chosen
STEP = 2**16  # rows


@dataclass(frozen=True, slots=True)
class IdOrder:
    """What sorts ids. Iterated, it gives the column ``id_order`` in pieces.

    Rows are counted before any are dropped, except in that column.
    """

    sorted_ids: NDArray[np.bytes_]
    """The different ids, in their order."""
    rows: NDArray[np.int64]
    """The first row of each."""
    dropped: NDArray[np.int64]
    """The rows whose id an earlier row has, in increasing order."""
    first: NDArray[np.int64]
    """The earlier row of each of those."""
    places: NDArray[np.int64] | None = None
    """Where each id comes among all ids, sorted, where there was a dataset before; None where there was none."""
    before: NDArray[Any] | None = None
    """The column ``id_order`` of that dataset."""

    def __len__(self) -> int:
        return len(self.rows) + (0 if self.before is None else len(self.before))

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """The rows in the order of their ids, as the column ``id_order`` has them once rows are dropped."""
        for start in range(0, len(self), STEP):
            end = min(start + STEP, len(self))
            low, high = (start, end) if self.places is None else np.searchsorted(self.places, [start, end]).tolist()
            rows = self.rows[low:high]
            rows = rows - np.searchsorted(self.dropped, rows)
            if self.places is None or self.before is None:
                yield rows
                continue
            new = np.zeros(end - start, bool)
            new[self.places[low:high] - start] = True
            out = np.empty(end - start, np.int64)
            out[new], out[~new] = rows, self.before[start - low : end - high]
            yield out


def order_type(rows: int) -> np.dtype[Any]:
    """The type of the column ``id_order`` of so many rows."""
    return np.dtype("<u4" if rows < 2**32 else "<u8")


def order_ids(pieces: Pieces, scratch: TemporaryArrays, first_row: int = 0) -> IdOrder:
    """Sort ids.

    Args:
        pieces: the ids of all rows, one array after the other.
        scratch: for what does not fit into memory.
        first_row: the number of the first row.
    """
    kind, (n,) = common_type(pieces)
    return _unique(sorted_ranges(pieces, scratch, first_row), n, kind, scratch)


def sorted_ranges(
    pieces: Pieces, scratch: TemporaryArrays, first_row: int = 0
) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
    """Sort values that do not fit into memory.

    Args:
        pieces: the values of all rows, texts or numbers, one array after the other.
        scratch: for what does not fit into memory.
        first_row: the number of the first row.

    Yields:
        The values of one range in order, and their rows; of equal values the first row comes first. Ranges follow one
        another in order and share no value.
    """
    kind, (n,) = common_type(pieces)
    run = max(1, RUN // kind.itemsize, -(-n // RUNS))
    keys, rows = scratch.array(kind, n), scratch.array(np.int64, n)
    starts = list(range(0, n, run))
    samples = []
    for start, values in zip(starts, _runs(pieces, kind, run), strict=True):
        order = np.argsort(values, kind="stable")
        keys[start : start + len(values)] = sorted_run = values[order]
        rows[start : start + len(values)] = order + (start + first_row)
        samples.append(sorted_run[:: max(1, run // SAMPLES)].copy())  # a view would keep the whole run
    if len(starts) < 2:
        yield keys, rows
        return
    every = np.sort(np.concatenate(samples))
    cuts = np.unique(every[SAMPLES::SAMPLES])
    bounds = []
    for start in starts:
        end = min(start + run, n)
        bounds.append([start, *(start + np.searchsorted(keys[start:end], cuts)).tolist(), end])
    for low, high in zip(range(len(cuts) + 1), range(1, len(cuts) + 2), strict=True):
        parts = [slice(bound[low], bound[high]) for bound in bounds]
        values = np.concatenate([keys[part] for part in parts])
        order = np.argsort(values, kind="stable")  # the runs in their order: of equal values the first row stays first
        yield values[order], np.concatenate([rows[part] for part in parts])[order]


def _runs(pieces: Pieces, kind: np.dtype[Any], run: int) -> Iterator[NDArray[Any]]:
    """The values in arrays of ``run`` rows, the last one of fewer."""
    waiting = np.empty(min(run, common_type(pieces)[1][0]), kind)
    filled = 0
    for piece in pieces:
        at = 0
        while at < len(piece):
            taken = piece[at : at + len(waiting) - filled]
            waiting[filled : filled + len(taken)] = taken
            filled += len(taken)
            at += len(taken)
            if filled == len(waiting):
                yield waiting
                filled = 0
    if filled:
        yield waiting[:filled]


def _unique(
    ranges: Iterable[tuple[NDArray[np.bytes_], NDArray[np.int64]]],
    n: int,
    kind: np.dtype[Any],
    scratch: TemporaryArrays,
) -> IdOrder:
    """The first row of each id, from sorted ids in ranges that share no id."""
    keys, rows = scratch.array(kind, n), scratch.array(np.int64, n)
    found = 0
    dropped: list[NDArray[np.int64]] = []
    first: list[NDArray[np.int64]] = []
    for ids, own in ranges:
        same = np.zeros(len(ids), bool)
        same[1:] = ids[1:] == ids[:-1]
        if same.any():
            begins = np.maximum.accumulate(np.where(same, 0, np.arange(len(ids))))
            dropped.append(own[same])
            first.append(own[begins[same]])
        end = found + len(ids) - int(same.sum())
        keys[found:end], rows[found:end] = ids[~same], own[~same]
        found = end
    return IdOrder(keys[:found], rows[:found], *_by_row(dropped, first))


def _by_row(
    dropped: list[NDArray[np.int64]], first: list[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows, firsts = (np.concatenate([np.empty(0, np.int64), *parts]) for parts in (dropped, first))
    order = np.argsort(rows)
    return rows[order], firsts[order]


def added_to(new: IdOrder, ids: CheckedColumn, order: CheckedColumn, scratch: TemporaryArrays) -> IdOrder:
    """The order of the ids of a dataset and of new ones, of which those that the dataset has are dropped.

    Args:
        new: the new ids; their rows are counted from the end of the dataset.
        ids: the column ``id`` of the dataset.
        order: its column ``id_order``.
        scratch: for what does not fit into memory.
    """
    n = len(new.rows)
    places, rows, keys = scratch.array(np.int64, n), scratch.array(np.int64, n), scratch.array(new.sorted_ids.dtype, n)
    dropped, first = [new.dropped], [new.first]
    taken: dict[int, int] = {}
    found = 0
    for start in range(0, n, STEP):
        wanted, own = new.sorted_ids[start : start + STEP], new.rows[start : start + STEP]
        place = insertion_places(ids, order, wanted)
        holder = holders(ids, order, wanted, place)
        there = holder >= 0
        if there.any():
            dropped.append(own[there])
            first.append(holder[there])
            taken |= zip(own[there].tolist(), holder[there].tolist(), strict=True)
            wanted, own, place = wanted[~there], own[~there], place[~there]
        end = found + len(own)
        places[found:end], rows[found:end], keys[found:end] = place + np.arange(found, end), own, wanted
        found = end
    all_dropped, all_first = _by_row(dropped, first)
    # Of rows that were dropped for a new row that is dropped itself, the dataset's row is the first.
    all_first = np.array([taken.get(row, row) for row in all_first.tolist()], np.int64) if taken else all_first
    return IdOrder(keys[:found], rows[:found], all_dropped, all_first, places[:found], order.whole())
