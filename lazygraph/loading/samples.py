"""Samples of a dataset: at random, with a share of every stratum, or of graphs that are far from each other.

All functions depend on nothing but their arguments. numpy guarantees the stream of random keys that they draw from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import char
from numpy.typing import ArrayLike, NDArray

from lazygraph.errors import InputError
from lazygraph.loading.orders import PART, SAMPLES, check_whole, digest, random_keys
from lazygraph.reading.operands import chemical_systems

__all__ = [
    "CHEMICAL_SYSTEM",
    "check_matrix",
    "farthest_points",
    "random_sample",
    "sample_rule",
    "strata_of",
    "stratified_sample",
]

CHEMICAL_SYSTEM = "chemical_system"  # which follows from the formula, and is not stored
BINS = 10  # into which numbers are divided, as for splits
ORDER, START = range(2)  # what keys are drawn for


def random_sample(total: int, n: int, seed: int) -> NDArray[np.int64]:
    """Return n of ``total`` positions, ascending. Every set of n positions is equally likely.

    Example:
        >>> random_sample(10, 3, seed=0).tolist()
        [2, 6, 8]
    """
    return np.sort(np.argsort(random_keys(total, seed, ORDER, SAMPLES), kind="stable")[:n])


def stratified_sample(strata: NDArray[np.int64], n: int, seed: int) -> NDArray[np.int64]:
    """Return n positions, ascending, with each stratum's share of n, rounded down or up at random.

    This is systematic sampling: the graphs are ordered by stratum, in random order within each, and every (total / n)th
    is taken, from a random start. Every graph has the same chance, also if most strata hold one graph.

    Args:
        strata: (total,) the number of the stratum of each graph.
        n: number of graphs.
        seed: seed of all random choices.

    Example:
        >>> strata = np.array([0] * 6 + [1] * 3)
        >>> np.bincount(strata[stratified_sample(strata, 3, seed=0)]).tolist()
        [2, 1]
    """
    total = len(strata)
    # The strata come in random order too, so that those next to each other are not rounded together.
    of_stratum = random_keys(int(strata.max(initial=0)) + 1, seed, START, SAMPLES, start=1)
    order = np.lexsort((random_keys(total, seed, ORDER, SAMPLES), of_stratum[strata]))
    start = int(random_keys(1, seed, START, SAMPLES)[0]) % total
    places = [(k * total + start) // n for k in range(n)]
    return np.sort(order[places])


def farthest_points(matrix: ArrayLike, n: int, seed: int) -> NDArray[np.int64]:
    """Return n positions, each the farthest from all before it, in the order in which they were chosen.

    The first one is drawn by the seed. The others follow by the greatest Euclidean distance to the nearest chosen point
    (Gonzalez 1985, doi:10.1016/0304-3975(85)90224-5). Of several, the first in position is taken. Any beginning of the
    result is therefore a sample too. The time is that of n passes over the matrix.

    Args:
        matrix: (total, d) finite numbers, one row per graph.
        n: number of graphs.
        seed: seed of the first choice.

    Example:
        >>> farthest_points([[0.0], [1.0], [10.0], [4.0]], 4, seed=1).tolist()
        [3, 2, 0, 1]
    """
    points = np.asarray(matrix)
    nearest = np.full(len(points), np.inf)
    chosen = np.empty(n, np.int64)
    chosen[0] = int(random_keys(1, seed, START, SAMPLES)[0]) % len(points)
    for k in range(n):
        if k:
            chosen[k] = nearest.argmax()
        point = points[chosen[k]].astype(np.float64)
        for start in range(0, len(points), PART):
            apart = points[start : start + PART] - point
            near = nearest[start : start + PART]
            np.minimum(near, np.einsum("ij,ij->i", apart, apart), out=near)
        nearest[chosen[: k + 1]] = -1  # also where others lie at the same point
    return chosen


def check_matrix(matrix: Any, total: int) -> NDArray[Any]:
    """Return the user's matrix as an array.

    Raises:
        InputError: it is not a matrix of finite numbers with one row per graph.
    """
    points = np.asarray(matrix)
    if points.ndim != 2 or points.dtype.kind not in "fiub" or len(points) != total or not points.shape[1]:
        msg = (
            f"found a matrix of shape {points.shape} and type {points.dtype}; required: numbers of shape ({total}, d), "
            "one row for each graph"
        )
        raise InputError(msg)
    for start in range(0, total, PART):
        wrong = ~np.isfinite(points[start : start + PART]).all(axis=1)
        if wrong.any():
            msg = f"row {start + int(wrong.argmax())} of the matrix is not finite; required: finite numbers"
            raise InputError(msg)
    return points if points.dtype.kind == "f" else points.astype(np.float64)


def strata_of(name: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return the number of the stratum of each graph, (n,) int64.

    Texts, booleans, and numbers with at most 10 different values are strata by value. Other numbers are divided into 10
    bins of about equal size. Graphs without a value are a stratum of their own.

    Args:
        name: a column with one value per graph, or ``"chemical_system"``.
        columns: the columns.

    Raises:
        InputError: there is no such column, or it has several values per graph.

    Example:
        >>> strata_of("gap", {"gap": np.array([0.5, np.nan, 0.5, 0.0])}).tolist()
        [1, 2, 1, 0]
    """
    if name == CHEMICAL_SYSTEM and name not in columns and "formula" in columns:
        values: NDArray[Any] = chemical_systems(char.encode(columns["formula"], "utf-8"))
    else:
        values = columns[name]
    if values.ndim != 1:
        msg = f"the column {name!r} has {values[0].size if len(values) else 'several'} values per graph; required: one"
        raise InputError(msg)
    if values.dtype.kind == "f":
        # NaN sorts last, and np.unique counts it once.
        different, numbers = np.unique(values, return_inverse=True)
        there = different[~np.isnan(different)]
        if len(there) > BINS:
            known = np.sort(values[~np.isnan(values)])
            edges = np.unique(known[[-(-k * len(known) // BINS) - 1 for k in range(1, BINS)]])
            numbers = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values))
        return numbers.astype(np.int64)
    different, numbers = np.unique(values, return_inverse=True)
    if values.dtype.kind in "iu" and len(different) > BINS:
        return strata_of(name, {name: values.astype(np.float64)})
    return numbers.astype(np.int64)


def sample_rule(
    n: int, total: int, *, seed: int, stratify: str | None, farthest: NDArray[Any] | None
) -> dict[str, str | int]:
    """Return the rule of a sample in the form in which it is written down.

    Raises:
        InputError: n is not a number from 1 to ``total``, or two options exclude each other.
    """
    check_whole("n", n, 1)
    check_whole("seed", seed, 0)
    if n > total:
        msg = f"found a sample of {n:,} graphs; required: at most {total:,}, the graphs of the dataset"
        raise InputError(msg)
    if stratify is not None and farthest is not None:
        raise InputError("stratify cannot be used with farthest; give only one")
    rule: dict[str, str | int] = {"kind": "random", "n": int(n), "of": total, "seed": int(seed)}
    if stratify is not None:
        return rule | {"kind": "stratified", "column": stratify}
    if farthest is not None:
        shape = " x ".join(map(str, farthest.shape))
        return rule | {"kind": "farthest", "matrix": f"{shape}, xxh3 {digest(farthest.reshape(-1))}"}
    return rule
