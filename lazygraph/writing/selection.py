"""Selection of rows of a dataset by a condition, ids or a split, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError
from lazygraph.format.id_lookup import rows_of
from lazygraph.format.store import Store
from lazygraph.reading.conditions import evaluate
from lazygraph.reading.table import Columns
from lazygraph.registry import unknown_name
from lazygraph.writing.temporary_arrays import TemporaryArrays

__all__ = ["Rows", "chosen_rows", "pieces_of", "rows_where", "some_rows"]

PIECE = 2**15  # rows that are examined, or copied, at a time
Rows: TypeAlias = range | NDArray[np.int64]
"""Rows of a dataset: a range, which takes no memory, or an array of any rows, in memory or in a file."""


def chosen_rows(
    store: Store,
    rows: Rows,
    scratch: TemporaryArrays,
    *,
    where: str | None = None,
    ids: Sequence[str] | None = None,
    split: str | None = None,
) -> Rows:
    """Return the rows that meet all conditions.

    Args:
        store: the dataset.
        rows: the rows to choose from.
        scratch: for what does not fit into memory.
        where: a condition on columns, as ``LazyGraphDataset.where`` takes it.
        ids: the ids to take, in this order.
        split: the name of a split.

    Raises:
        InputError: the condition or the split is invalid, or an id is listed twice.
        UnknownId: the dataset has no graph with one of the ids.
    """
    if ids is not None:
        rows = _rows_of_ids(store, rows, ids)
    if where is not None:
        rows = rows_where(rows, lambda some: evaluate(where, Columns(store, some).operand), scratch)
    if split is not None:
        rows = rows_where(rows, _in_split(store, split), scratch)
    return rows


def pieces_of(rows: Rows) -> Iterator[NDArray[np.int64]]:
    """Yield rows in pieces that are small enough to copy."""
    for start in range(0, len(rows), PIECE):
        yield some_rows(rows, start, start + PIECE)


def some_rows(rows: Rows, start: int, end: int) -> NDArray[np.int64]:
    """Return the rows from one place to another, as an array."""
    part = rows[start:end]
    return np.arange(part.start, part.stop, part.step) if isinstance(part, range) else part


def rows_where(rows: Rows, choose: Callable[[NDArray[np.int64]], NDArray[np.bool_]], scratch: TemporaryArrays) -> Rows:
    """Return the rows for which ``choose`` is true."""
    out = scratch.array(np.int64, len(rows))
    found = 0
    for some in pieces_of(rows):
        taken = some[choose(some)]
        out[found : found + len(taken)] = taken
        found += len(taken)
    return out[:found]


def _rows_of_ids(store: Store, rows: Rows, ids: Sequence[str]) -> NDArray[np.int64]:
    wanted = rows_of(store, map(str, ids))
    if len(np.unique(wanted)) < len(wanted):
        twice = next(one for k, one in enumerate(ids) if wanted[k] in wanted[:k])
        msg = f"the id {twice!r} is listed twice; list each id once"
        raise InputError(msg)
    if isinstance(rows, range) and len(rows) == len(store):
        return wanted
    return wanted[np.isin(wanted, np.asarray(rows))]


def _in_split(store: Store, name: str) -> Callable[[NDArray[np.int64]], NDArray[np.bool_]]:
    column = store.manifest.columns.get("split")
    names = () if column is None else column.categories or ()
    if name not in names:
        raise InputError(unknown_name("split", name, names))
    return lambda rows: store.checked_column("split").rows(rows) == names.index(name)
