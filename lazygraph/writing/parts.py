"""The rows of a dataset that is being written, as parts that are read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.format.columns import ColumnWriter, Pieces, narrowest
from lazygraph.writing.id_order import IdOrder, order_type

__all__ = ["NOTHING", "Before", "Joined", "Part", "Parts", "write_index"]

NOTHING: NDArray[np.int64] = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows, such as the rows of one shard: their number, and a function that returns a column of them."""

    rows: int
    column: Callable[[str], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Before:
    """The rows of a finished dataset, to which parts are added.

    Attributes:
        rows: the number of rows.
        extended: a function of a name and of the values of the added rows; it returns the whole column.
    """

    rows: int
    extended: Callable[[str, Pieces], Pieces]


@dataclass(frozen=True, slots=True)
class _Rows:
    """A column of parts, without the rows that were dropped. It can be iterated any number of times."""

    parts: Sequence[Part]
    dropped: NDArray[np.int64]
    values: Callable[[Part], NDArray[Any]]
    first: int
    """The number of the first row."""

    def __iter__(self) -> Iterator[NDArray[Any]]:
        start = self.first
        for part in self.parts:
            low, high = np.searchsorted(self.dropped, [start, start + part.rows])
            values = self.values(part)
            yield np.delete(values, self.dropped[low:high] - start, axis=0) if high > low else values
            start += part.rows


@dataclass(frozen=True, slots=True)
class Joined:
    """The pieces of several columns, one column after the other. It can be iterated any number of times."""

    columns: Sequence[Pieces]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return chain.from_iterable(self.columns)


class Parts:
    """Parts in order, without some of their rows.

    Args:
        parts: in the order of the rows.
        dropped: the rows that are left out, in increasing order, counted over all rows.
        before: the rows before the parts, none of which is dropped.
    """

    def __init__(
        self, parts: Sequence[Part], dropped: NDArray[np.int64] = NOTHING, before: Before | None = None
    ) -> None:
        self.parts, self.dropped, self._before = parts, dropped, before
        first = 0 if before is None else before.rows
        self._starts = np.cumsum([first, *(part.rows for part in parts)], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1]) - len(self.dropped)

    def without(self, dropped: NDArray[np.int64]) -> Parts:
        """Return the same parts without these rows."""
        return Parts(self.parts, dropped, self._before)

    def column(self, name: str) -> Pieces:
        """Return the values of a column, one array for each part."""
        own = _Rows(self.parts, self.dropped, lambda part: part.column(name), int(self._starts[0]))
        return own if self._before is None else self._before.extended(name, own)

    def locate(self, row: int) -> tuple[int, int]:
        """Return the part of a row (counted with the dropped rows), and the number of the row in this part."""
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return part, row - int(self._starts[part])


def write_index(columns: ColumnWriter, table: Parts, order: IdOrder, counts: Sequence[str]) -> None:
    """Write the columns with the positions and sizes of records, and the columns for looking up ids.

    Args:
        columns: takes the columns.
        table: the rows, with ``record``, ``id`` and a column for each of ``counts``.
        order: the sorted ids.
        counts: the names of columns of whole numbers, each of which gets the narrowest type.
    """
    columns.stream("record", table.column("record"))
    columns.stream("id", table.column("id"))
    columns.stream("id_order", order, dtype=order_type(len(table)))
    for name in counts:
        values = table.column(name)
        columns.stream(name, values, dtype=narrowest(values))
