"""The sorted order of the ids of a dataset, and the rows with repeated ids, in bounded memory.

Ids are sorted in runs that fit into memory. All runs are cut at the same ids into ranges that also fit into memory. The
parts of each range are then merged.
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
RUNS = 512  # more runs than this become fewer, longer runs
SAMPLES = 256  # values of each run that are used to choose the ranges
STEP = 2**16  # rows


@dataclass(frozen=True, slots=True)
class IdOrder:
    """The sorted ids of a dataset. Iterating it gives the column ``id_order`` in pieces.

    Row numbers count all rows, before any are dropped. Only the column ``id_order`` counts the remaining rows.
    """

    sorted_ids: NDArray[np.bytes_]
    """The different ids, sorted."""
    rows: NDArray[np.int64]
    """The first row of each id."""
    dropped: NDArray[np.int64]
    """The rows whose id an earlier row has, in increasing order."""
    first: NDArray[np.int64]
    """The earlier row with the same id, for each of ``dropped``."""
    places: NDArray[np.int64] | None = None
    """The position of each new id among all sorted ids, if there was a dataset before; otherwise None."""
    before: NDArray[Any] | None = None
    """The column ``id_order`` of the earlier dataset."""

    def __len__(self) -> int:
        return len(self.rows) + (0 if self.before is None else len(self.before))

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Yield the rows in the order of their ids, numbered as in the dataset without the dropped rows."""
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
    """Return the type of the column ``id_order`` for a number of rows."""
    return np.dtype("<u4" if rows < 2**32 else "<u8")


def order_ids(pieces: Pieces, scratch: TemporaryArrays, first_row: int = 0) -> IdOrder:
    """Sort ids.

    Args:
        pieces: the ids of all rows, one array after the other.
        scratch: holds arrays that do not fit into memory.
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
        The sorted values of one range, and their rows. Equal values keep the order of their rows. The ranges are
        sorted, and no two of them share a value.
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
        samples.append(sorted_run[:: max(1, run // SAMPLES)].copy())  # a view would keep the whole run in memory
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
        order = np.argsort(values, kind="stable")  # the runs are in order, so equal values keep their order
        yield values[order], np.concatenate([rows[part] for part in parts])[order]


def _runs(pieces: Pieces, kind: np.dtype[Any], run: int) -> Iterator[NDArray[Any]]:
    """Yield the values in arrays of ``run`` rows; the last array may be shorter."""
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
    """Find the first row of each id, from ranges of sorted ids that share no id."""
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
    """Sort new ids into the ids of a dataset. New rows whose id the dataset has are dropped.

    Args:
        new: the new ids. Their row numbers begin at the end of the dataset.
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
    # If the first new row with an id is dropped itself, the row of the dataset is the first one with this id.
    all_first = np.array([taken.get(row, row) for row in all_first.tolist()], np.int64) if taken else all_first
    return IdOrder(keys[:found], rows[:found], all_dropped, all_first, places[:found], order.whole())
