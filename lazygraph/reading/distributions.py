"""Distributions of columns by split, read in blocks of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import SYMBOLS
from lazygraph.format.store import Store

__all__ = [
    "ALL",
    "UNSPLIT",
    "Distribution",
    "ElementCounts",
    "category_counts",
    "distribution",
    "distribution_of",
    "element_counts",
    "split_sizes",
    "total",
]

BINS = 40  # at most
BLOCK = 2**14  # rows that are read at once
SAMPLE = 2**15  # values by which the range of a histogram is chosen
UNSPLIT = "in no split"
ALL = "all graphs"
LETTERS = 26


@dataclass(frozen=True, slots=True)
class Distribution:
    """How the values of a column are distributed. Values of vectors count by component.

    Attributes:
        edges: (B + 1,) limits of the bins, increasing. The last bin includes its upper limit.
        counts: group -> (B,) number of values in each bin; a group is a split, or all graphs.
        below: number of values that are less than the first limit.
        above: number of values that are greater than the last limit.
        missing: number of values that are NaN.
        infinite: number of values that are infinite.
        least, greatest: the least and the greatest finite value; NaN without finite values.
        mean: the mean of the finite values; NaN without finite values.
        steps: whether all values are integers, and the limits lie between integers.
    """

    edges: tuple[float, ...]
    counts: dict[str, list[int]]
    below: int
    above: int
    missing: int
    infinite: int
    least: float
    greatest: float
    mean: float
    steps: bool


@dataclass(frozen=True, slots=True)
class ElementCounts:
    """How many graphs hold each element, by the column of reduced formulas.

    Attributes:
        graphs: symbol -> number of graphs that hold the element, in the order of atomic numbers.
        first: symbol -> position of the first such graph.
        unknown: number of symbols in formulas that are no elements.
    """

    graphs: dict[str, int]
    first: dict[str, int]
    unknown: int


def blocks(rows: Any, width: int = 1) -> Iterator[tuple[int, Any]]:
    """Yield rows in blocks: the position of the first row of a block, and what selects its rows from a column.

    Args:
        rows: as ``LazyGraphDataset.indices`` gives them: a range, or an int64 array.
        width: number of components of each row.
    """
    step = max(1, BLOCK // max(1, width))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        yield start, slice(part.start, part.stop) if isinstance(part, range) and part.step == 1 else np.asarray(part)


def total(store: Store, name: str, rows: Any) -> int:
    """Return the sum of a column of counts, such as ``n_node``."""
    column = store.column(name)
    return sum(int(column[part].sum(dtype=np.uint64)) for _, part in blocks(rows))


def split_sizes(store: Store, name: str, rows: Any) -> dict[str, int]:
    """Return the number of graphs in each split of a column of splits, and in none where there are such graphs.

    Args:
        store: the dataset.
        name: of the column.
        rows: the graphs.
    """
    names = store.manifest.columns[name].categories or ()
    codes = store.column(name)
    counts = np.zeros(256, np.int64)
    for _, part in blocks(rows):
        counts += np.bincount(codes[part], minlength=256)
    sizes = dict(zip(names, counts.tolist(), strict=False))
    unsplit = int(counts[len(names) :].sum())
    return sizes | ({UNSPLIT: unsplit} if unsplit else {})


def category_counts(store: Store, name: str, rows: Any) -> tuple[dict[str, int], int]:
    """Return the number of graphs with each text of a category, and the number of graphs without a text."""
    names = store.manifest.columns[name].categories or ()
    codes = store.column(name)
    counts = np.zeros(len(names) + 1, np.int64)
    for _, part in blocks(rows):
        counts += np.bincount(np.minimum(codes[part], len(names)), minlength=len(names) + 1)
    return dict(zip(names, counts.tolist(), strict=False)), int(counts[-1])


def distribution(store: Store, name: str, rows: Any, splits: str | None = None) -> Distribution:
    """Return the histogram of a column of numbers.

    Args:
        store: the dataset.
        name: of a label, or of a column of counts such as ``n_node``.
        rows: the graphs.
        splits: a column of splits, each of which becomes a group. Default: one group, ``"all graphs"``.
    """
    column = store.column(name)
    if splits is None:
        return distribution_of(column, rows)
    names = store.manifest.columns[splits].categories or ()
    return distribution_of(column, rows, store.column(splits), [*names, UNSPLIT])


def distribution_of(
    column: NDArray[Any], rows: Any, codes: NDArray[Any] | None = None, groups: Sequence[str] = (ALL,)
) -> Distribution:
    """Return the histogram of an array of numbers, with at most 40 bins.

    A few values far away from all others are counted in ``below`` and ``above``, because one bin would hold all other
    values otherwise. Memory does not grow with the number of graphs.

    Args:
        column: (n, ...) numbers.
        rows: the rows to count, as ``LazyGraphDataset.indices`` gives them: a range, or an int64 array.
        codes: (n,) the group of each row, an index into ``groups``; a greater code stands for the last group.
        groups: their names. The last of several groups is left out if no value is in it.

    Example:
        >>> found = distribution_of(np.array([0, 1, 1, 3]), range(4))
        >>> found.edges, found.counts
        ((-0.5, 0.5, 1.5, 2.5, 3.5), {'all graphs': [1, 2, 0, 1]})
    """
    whole = column.dtype.kind != "f"
    least, greatest, sum_, count, missing, infinite = _extremes(column, rows)
    if not count:
        return Distribution((), {}, 0, 0, missing, infinite, np.nan, np.nan, np.nan, whole)
    edges = _edges(_sample(column, rows), least, greatest, _bins(count), whole=whole)
    counts = np.zeros((len(groups), len(edges) + 1), np.int64)
    for _, part in blocks(rows, _width(column)):
        values = _numbers(column[part])
        of = np.zeros(len(values), np.int64)
        if codes is not None:
            of = np.minimum(codes[part], len(groups) - 1).astype(np.int64)
        finite = np.isfinite(values)
        of = np.broadcast_to(of[:, None], values.shape)[finite]
        bins = np.searchsorted(edges, values[finite], side="right")
        bins[values[finite] == edges[-1]] -= 1
        counts += np.bincount(of * (len(edges) + 1) + bins, minlength=counts.size).reshape(counts.shape)
    inside = dict(zip(groups, counts[:, 1:-1].tolist(), strict=True))
    if len(groups) > 1 and not counts[-1].any():
        del inside[groups[-1]]
    below, above = int(counts[:, 0].sum()), int(counts[:, -1].sum())
    return Distribution(
        tuple(edges.tolist()), inside, below, above, missing, infinite, least, greatest, sum_ / count, whole
    )


def element_counts(store: Store, rows: Any) -> ElementCounts | None:
    """Count the graphs that hold each element; None without the column ``formula``.

    A reduced formula names each element of a crystal once, so the counts are exact. Memory does not grow with the
    number of graphs.
    """
    if "formula" not in store.manifest.columns:
        return None
    formulas = store.column("formula")
    counts = np.zeros(LETTERS * (LETTERS + 1), np.int64)
    first: dict[int, int] = {}
    for start, part in blocks(rows):
        found, places = _symbols(formulas[part])
        counts += np.bincount(found, minlength=len(counts))
        codes, where = np.unique(found, return_index=True)
        for code, place in zip(codes.tolist(), places[where].tolist(), strict=True):
            first.setdefault(code, start + place)
    code_of = {symbol: _code(symbol) for symbol in SYMBOLS[1:]}
    known = {symbol: int(counts[code]) for symbol, code in code_of.items() if counts[code]}
    return ElementCounts(
        known, {symbol: first[code_of[symbol]] for symbol in known}, int(counts.sum()) - sum(known.values())
    )


def _code(symbol: str) -> int:
    return (ord(symbol[0]) - ord("A")) * (LETTERS + 1) + (ord(symbol[1]) - ord("a") + 1 if symbol[1:] else 0)


def _symbols(formulas: NDArray[np.bytes_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The code of each symbol in some formulas, and which formula it is in; in the order of the formulas."""
    width = formulas.dtype.itemsize
    letters = np.ascontiguousarray(formulas).view(np.uint8).reshape(len(formulas), width)
    rows, columns = np.nonzero((letters >= ord("A")) & (letters <= ord("Z")))
    after = np.where(columns + 1 < width, letters[rows, np.minimum(columns + 1, width - 1)], 0).astype(np.int64)
    small = np.where((after >= ord("a")) & (after <= ord("z")), after - ord("a") + 1, 0)
    return (letters[rows, columns].astype(np.int64) - ord("A")) * (LETTERS + 1) + small, rows


def _width(column: NDArray[Any]) -> int:
    """The number of components of a row, at least 1."""
    return max(1, math.prod(column.shape[1:]))


def _numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """(n, components) as float64."""
    return values.reshape(len(values), math.prod(values.shape[1:])).astype(np.float64)


def _extremes(column: NDArray[Any], rows: Any) -> tuple[float, float, float, int, int, int]:
    """Least, greatest, sum and number of the finite values, and the numbers of missing and of infinite values."""
    least, greatest, sum_, count, missing, infinite = np.inf, -np.inf, 0.0, 0, 0, 0
    for _, part in blocks(rows, _width(column)):
        values = _numbers(column[part])
        nan = np.isnan(values)
        finite = values[np.isfinite(values)]
        missing += int(nan.sum())
        infinite += values.size - int(nan.sum()) - finite.size
        if finite.size:
            least, greatest = min(least, float(finite.min())), max(greatest, float(finite.max()))
            with np.errstate(over="ignore", invalid="ignore"):
                sum_ += float(finite.sum())
            count += finite.size
    return least, greatest, sum_, count, missing, infinite


def _sample(column: NDArray[Any], rows: Any) -> NDArray[np.float64]:
    """Some of the finite values, of graphs at even distances."""
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), max(1, SAMPLE // _width(column)))).astype(np.int64)
    chosen = rows.start + chosen * rows.step if isinstance(rows, range) else np.asarray(rows)[chosen]
    values = _numbers(column[chosen]).reshape(-1)
    return values[np.isfinite(values)]


def _bins(count: int) -> int:
    """The number of bins for so many values: by the rule of Rice, 2 n^(1/3), and at most 40."""
    return max(5, min(BINS, math.ceil(2 * math.cbrt(count))))


def _edges(
    sample: NDArray[np.float64], least: float, greatest: float, bins: int, *, whole: bool
) -> NDArray[np.float64]:
    """The limits of the bins, for a range that holds nearly all values."""
    low, high = least, greatest
    if len(sample):
        bottom, top = np.quantile(sample / 2, [0.005, 0.995]).tolist()  # halves, whose differences do not overflow
        span = top - bottom
        if span > 0 and high / 2 - low / 2 > 2 * span:
            low, high = max(low, 2 * (bottom - span / 2)), min(high, 2 * (top + span / 2))
    if whole:
        low, high = float(np.floor(low)), float(np.ceil(high))
        width = max(1.0, float(np.ceil((high - low + 1) / bins)))
        number = int(np.ceil((high - low + 1) / width))
        edges: NDArray[np.float64] = low - 0.5 + width * np.arange(number + 1, dtype=np.float64)
        if (np.diff(edges) > 0).all():
            return edges
    if low == high:
        away = abs(low) / 2 or 0.5
        return np.array([low - away, low + away])
    edges = np.unique(np.linspace(low / 2, high / 2, bins + 1) * 2)
    if len(edges) < 2 or edges[0] > low or edges[-1] < high:  # the halves of the smallest numbers are rounded
        return np.array([low, high])
    return edges
