"""Folds of a cross-validation: numbers from 0 to K - 1, equal to those of scikit-learn where it has the same kind.

Graphs that are added later continue the folds. The fold of a new graph depends only on the number of old graphs and on
the new graphs, so the rules of all folds agree about it.
"""

from __future__ import annotations

import heapq
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.writing.shares import chunks, group_sizes, of_members, rows_by_number, shuffled_rows

__all__ = ["folds_of_graphs", "folds_of_groups", "folds_of_strata"]


def folds_of_graphs(n: int, folds: int, seed: int, old: int = 0) -> NDArray[np.uint8]:
    """Return the fold of each of n graphs. The folds differ in size by at most one.

    Without old graphs these are the test folds of ``KFold(folds, shuffle=True, random_state=seed)`` of scikit-learn.

    Example:
        >>> folds_of_graphs(7, 3, 0).tolist()
        [1, 0, 0, 1, 2, 2, 0]
    """
    order = _shuffled(np.arange(n, dtype=np.uint32 if n < 2**32 else np.uint64), np.random.RandomState(seed))
    out = np.empty(n, np.uint8)
    start = 0
    for fold in range(folds):
        end = start + (old + n + folds - 1 - fold) // folds - (old + folds - 1 - fold) // folds
        out[order[start:end]] = fold
        start = end
    return out


def folds_of_strata(strata: NDArray[Any], folds: int, seed: int, old: int = 0) -> NDArray[np.uint8]:
    """Return the fold of each graph. The folds differ by at most one in their number of graphs of any stratum.

    Without old graphs these are the test folds of ``StratifiedKFold(folds, shuffle=True, random_state=seed)`` of
    scikit-learn.

    Args:
        strata: (n,) the number of the stratum of each graph.
        folds: how many.
        seed: random seed of the shuffle.
        old: how many graphs have folds already.
    """
    random = np.random.RandomState(seed)
    rows = rows_by_number(strata)
    ends = np.cumsum(group_sizes(strata), dtype=np.int64).tolist()
    pieces = [rows[start:end] for start, end in pairwise([0, *ends]) if end > start]
    out = np.empty(len(strata), np.uint8)
    start = old
    for piece in sorted(pieces, key=lambda piece: int(piece[0])):  # in the order in which the strata appear
        end = start + len(piece)
        # Of all graphs sorted by stratum, number p goes to fold (old + p) mod K.
        out[piece] = _shuffled(np.sort(np.arange(start, end) % folds).astype(np.uint8), random)
        start = end
    return out


def folds_of_groups(members: NDArray[Any], folds: int, seed: int, old: int = 0) -> NDArray[np.uint8]:
    """Return the fold of each graph. Groups stay whole, and no fold is empty if there are as many groups as folds.

    The groups are shuffled and sorted by size. The largest goes first, each to the fold with the fewest graphs.

    Args:
        members: (n,) the number of the group of each graph, without gaps.
        folds: how many.
        seed: random seed of the shuffle.
        old: how many graphs have folds already. New groups are distributed evenly on their own. The number of old
            graphs decides the first fold.
    """
    sizes = group_sizes(members)
    order = shuffled_rows(len(sizes), seed)
    order = order[rows_by_number(sizes.max(initial=0) - sizes[order])]
    of_group = np.empty(len(sizes), np.uint8)
    loads = [(0, (fold - old) % folds, fold) for fold in range(folds)]
    heapq.heapify(loads)
    for part in chunks(order):
        for group, size in zip(part.tolist(), sizes[part].tolist(), strict=True):
            load, tie, fold = loads[0]
            of_group[group] = fold
            heapq.heapreplace(loads, (load + size, tie, fold))
    return of_members(of_group, members)


def _shuffled(values: NDArray[Any], random: np.random.RandomState) -> NDArray[Any]:
    random.shuffle(values)
    return values
