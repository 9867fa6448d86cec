"""Lookup of many ids at once, by binary search on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset
from lazygraph.format.digests import CheckedColumn
from lazygraph.format.store import Store

__all__ = ["find_ids", "holders", "insertion_places", "known_ids", "rows_of"]

STEP = 2**14  # ids that are looked up at once


def holders(
    ids: CheckedColumn, order: CheckedColumn, wanted: NDArray[np.bytes_], places: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The row that has each of these ids; -1 where none has it.

    Args:
        ids: the column ``id``.
        order: the column ``id_order``.
        wanted: (m,) ids.
        places: (m,) what ``insertion_places`` gives for them.
    """
    out = np.full(len(wanted), -1)
    inside = np.flatnonzero(places < len(ids.values))
    rows = order.rows(places[inside]).astype(np.int64)
    same = ids.rows(rows) == wanted[inside]
    out[inside[same]] = rows[same]
    return out


def insertion_places(ids: CheckedColumn, order: CheckedColumn, wanted: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """How many ids of a dataset are less than each of these, by binary search on disk.

    Args:
        ids: the column ``id``.
        order: the column ``id_order``.
        wanted: (m,) ids.
    """
    low = np.zeros(len(wanted), np.int64)
    high = np.full(len(wanted), len(ids.values))
    while (active := np.flatnonzero(low < high)).size:
        middle = (low[active] + high[active]) // 2
        less = ids.rows(order.rows(middle).astype(np.int64)) < wanted[active]
        low[active[less]] = middle[less] + 1
        high[active[~less]] = middle[~less]
    return low


def find_ids(store: Store, texts: Iterable[str]) -> Iterator[tuple[list[str], NDArray[np.int64]]]:
    """The rows of many ids, by binary search on disk: no table in memory.

    Args:
        store: the dataset.
        texts: the ids. They may come from a file: only some are held at once.

    Yields:
        Some ids, and the row of each; -1 where the dataset does not have it.

    Raises:
        CorruptDataset: the column ``id_order`` is no order.
    """
    ids, order = store.checked_column("id"), store.checked_column("id_order")
    for some in _batched(texts):
        raw = [one.encode(errors="surrogatepass") for one in some]
        wanted = np.array(raw, "S")
        try:
            rows = holders(ids, order, wanted, insertion_places(ids, order, wanted))
        except IndexError as error:
            msg = f"{store.name}: id_order names a row that is not there: {error}"
            raise CorruptDataset(msg) from error
        # Numpy leaves zeros at the end of a text out, and no id holds one.
        rows[[b"\0" in one for one in raw]] = -1
        yield some, rows


def rows_of(store: Store, texts: Iterable[str]) -> NDArray[np.int64]:
    """The rows of several ids.

    Raises:
        UnknownId: no graph has one of them.
    """
    return np.concatenate([np.empty(0, np.int64), *(rows for _, rows in known_ids(store, texts))])


def known_ids(store: Store, texts: Iterable[str]) -> Iterator[tuple[list[str], NDArray[np.int64]]]:
    """As ``find_ids``, for ids that the dataset must have.

    Raises:
        UnknownId: no graph has one of them.
    """
    for some, rows in find_ids(store, texts):
        for number in np.flatnonzero(rows < 0).tolist():
            rows[number] = store.row_of(some[number])  # raises UnknownId, with examples of ids
        yield some, rows


def _batched(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    while some := list(islice(iterator, STEP)):
        yield some
