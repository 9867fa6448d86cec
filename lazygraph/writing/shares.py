"""Random division of graphs, or of groups of graphs, by shares: the arithmetic of the rules of splits.

Codes are indices into ``SPLITS``, and 255 marks a graph in no split. All functions are pure.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.format.columns import NO_SPLIT

__all__ = [
    "SPLITS",
    "at_most",
    "chunks",
    "group_sizes",
    "grouped_codes",
    "of_members",
    "rows_by_number",
    "shuffled",
    "shuffled_rows",
    "split_codes",
    "stratified_codes",
]

SPLITS = ("train", "val", "test")
STEP = 2**16  # rows that are processed at a time


def split_codes(n: int, fractions: Sequence[float], seed: int) -> NDArray[np.uint8]:
    """Split rows at random, in the same way as published networks (``get_id_train_val_test`` of ALIGNN, and others).

    ``random.Random(seed)`` shuffles the rows. Train is the beginning, test the end, and val comes before test. Sizes
    are rounded down as in these networks, so a few graphs can be in no split.

    Example:
        >>> split_codes(10, (0.8, 0.1, 0.1), 123).tolist()
        [2, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    """
    return shuffled(n, [int(fraction * n) for fraction in fractions], seed)


def shuffled(n: int, counts: Sequence[int], seed: int) -> NDArray[np.uint8]:
    """Return the numbers of rows for train, val and test."""
    order = shuffled_rows(n, seed)
    train, val, test = counts
    codes = np.full(n, NO_SPLIT, np.uint8)
    codes[order[:train]] = 0
    codes[order[n - test - val : n - test]] = 1
    codes[order[n - test :]] = 2
    return codes


def shuffled_rows(n: int, seed: int) -> NDArray[Any]:
    """Return the numbers 0 to n - 1 in random order, (n,) unsigned."""
    # An array takes 4 bytes per graph, and a list 40. Both are shuffled in the same way.
    rows = array("I" if n < 2**32 else "Q", range(n))
    random.Random(seed).shuffle(rows)  # noqa: S311 - a split, not a secret
    return np.frombuffer(rows, rows.typecode) if n else np.empty(0, np.uint32)


def grouped_codes(members: NDArray[Any], fractions: Sequence[float], seed: int) -> NDArray[np.uint8]:
    """Split whole groups: shuffled groups fill train, then val, then test, up to their shares of the rows.

    Args:
        members: (n,) the number of the group of each row, without gaps.
        fractions: the share of each split.
        seed: random seed of the order of the groups.
    """
    n = len(members)
    sizes = group_sizes(members)
    order = shuffled_rows(len(sizes), seed)
    bounds = np.cumsum(fractions)
    of_group = np.empty(len(sizes), np.uint8)
    before = 0
    for part in chunks(order):
        own = sizes[part].astype(np.int64)
        ends = before + np.cumsum(own)
        # The middle of a group decides about its split, so the shares are as exact as whole groups allow.
        codes = np.searchsorted(bounds, (ends - own / 2) / n, side="right")
        of_group[part] = np.where(codes < len(bounds), codes, NO_SPLIT)
        before = int(ends[-1])
    return of_members(of_group, members)


def of_members(of_group: NDArray[np.uint8], members: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the value of the group of each row, (n,)."""
    out = np.empty(len(members), np.uint8)
    for start, part in zip(range(0, len(members), STEP), chunks(members), strict=True):
        out[start : start + len(part)] = of_group[part]
    return out


def group_sizes(members: NDArray[Any]) -> NDArray[Any]:
    """Return the number of rows of each group, (g,) unsigned."""
    count = max((int(part.max()) + 1 for part in chunks(members)), default=0)
    sizes = np.zeros(count, np.uint32 if len(members) < 2**32 else np.uint64)
    for part in chunks(members):
        np.add.at(sizes, part, 1)
    return sizes


def rows_by_number(numbers: NDArray[Any]) -> NDArray[Any]:
    """Return the rows sorted by their numbers, (n,) unsigned. Rows with equal numbers keep their order.

    This is a stable argsort with 4 bytes per row, instead of numpy's 16.

    Args:
        numbers: (n,) not negative, and not much greater than n.
    """
    sizes = group_sizes(numbers)
    ends = np.cumsum(sizes, dtype=np.int64) - sizes.astype(np.int64)  # end of the rows that were placed so far
    out = np.empty(len(numbers), np.uint32 if len(numbers) < 2**32 else np.uint64)
    for start, part in zip(range(0, len(numbers), STEP), chunks(numbers), strict=True):
        order = np.argsort(part, kind="stable")
        different, first, counts = np.unique(part[order], return_index=True, return_counts=True)
        out[np.repeat(ends[different] - first, counts) + np.arange(len(part))] = order + start
        ends[different] += counts
    return out


def stratified_codes(
    strata: NDArray[Any], have: NDArray[np.int64], fractions: Sequence[float], seed: int
) -> NDArray[np.uint8]:
    """Split rows so that each split gets its share of every stratum, including the rows that it already has.

    A count is rounded down or up, in the direction that keeps the sizes of the splits closest to their shares of all
    rows.

    Args:
        strata: (m,) the number of the stratum of each row.
        have: (strata, 4) the number of other rows of each stratum that are in train, val, test and in no split.
        fractions: the shares of train, val and test of each stratum, including these other rows.
        seed: random seed of the shuffle.
    """
    rest = 1 - math.fsum(fractions)
    shares = np.array([*fractions, rest if rest > 1e-9 else 0.0])
    order = shuffled_rows(len(strata), seed)
    by_stratum = order[rows_by_number(strata[order])]
    codes = np.full(len(strata), NO_SPLIT, np.uint8)
    owed = np.zeros(len(shares))
    start = 0
    for there, size in zip(have, group_sizes(strata).tolist(), strict=False):  # the last strata may have no rows here
        total = int(there.sum()) + size
        lacking = np.maximum(0.0, shares * total - there)
        quotas = lacking * (size / lacking.sum()) if lacking.sum() > 0 else shares * size / shares.sum()
        counts = _rounded(quotas, owed)
        owed += quotas - counts
        for code, count in enumerate(counts[: len(SPLITS)].tolist()):
            codes[by_stratum[start : start + count]] = code
            start += count
        start += int(counts[-1])
    return codes


def _rounded(quotas: NDArray[np.float64], owed: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round quotas down or up to the same sum. The quotas with the greatest debt are rounded up."""
    counts = np.floor(quotas + 1e-9).astype(np.int64)
    left = round(float(quotas.sum())) - int(counts.sum())
    fraction = quotas - counts
    wanted = np.where(fraction > 1e-9, fraction + owed, -np.inf)
    counts[np.argsort(-wanted, kind="stable")[:left]] += 1
    return counts


def at_most(n: int, counts: Sequence[int]) -> list[int]:
    """Reduce counts to a sum of at most n, in the same proportions, by largest remainders."""
    total = sum(counts)
    if total <= n:
        return list(counts)
    out = [count * n // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda code: (-(counts[code] * n % total), code))
    for code in by_remainder[: n - sum(out)]:
        out[code] += 1
    return out


def chunks(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield rows in pieces that are small enough to copy."""
    for start in range(0, len(rows), STEP):
        yield rows[start : start + STEP]
