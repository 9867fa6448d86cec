"""Search for pairs of crystals that may have the same structure, by their fingerprints."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lazygraph.graphs.fingerprint import Tolerance

__all__ = ["Components", "candidate_pairs"]

STEP = 256  # fingerprints that are compared at a time, with up to FACTOR times as many
FACTOR = 16


def candidate_pairs(
    fingerprints: NDArray[np.float32], tolerance: Tolerance
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Find all pairs of fingerprints that differ by no more than the tolerance.

    The fingerprints are sorted by the number that separates them best. Each is compared only with the next ones within
    the tolerance, so memory depends on the pairs that are found at a time, and not on the number of fingerprints.

    Args:
        fingerprints: (n, d), of crystals with the same formula.
        tolerance: the greatest allowed difference of a number.

    Yields:
        (p,) and (p,), the two positions of each pair, and (p,) the greatest difference of their numbers.
    """
    n = len(fingerprints)
    if n < 2:
        return
    column = int(fingerprints.std(axis=0).argmax())
    order = np.argsort(fingerprints[:, column], kind="stable")
    ends = np.searchsorted(fingerprints[order, column], tolerance.reach(fingerprints[order, column]), side="right")
    for start in range(0, n, STEP):
        mine = np.arange(start, min(start + STEP, n))
        here = fingerprints[order[mine]]
        last = int(ends[mine[-1]])
        for low in range(start + 1, last, STEP * FACTOR):
            theirs = np.arange(low, min(low + STEP * FACTOR, last))
            i, j = np.nonzero((theirs[None, :] > mine[:, None]) & (theirs[None, :] < ends[mine][:, None]))
            there = fingerprints[order[theirs]]
            difference = np.zeros(len(i))
            for k in range(fingerprints.shape[1]):
                one, other = here[i, k], there[j, k]
                least, most = np.minimum(one, other), np.maximum(one, other)
                near = most <= tolerance.reach(least)
                i, j, difference = i[near], j[near], np.maximum(difference, most - least)[near]
            if len(i):
                yield order[mine[i]], order[theirs[j]], difference


class Components:
    """The connected components of n things (union-find).

    The least number of a component identifies it.

    Args:
        parents: (n,) an array of integers for the result. At first, each number must be its own parent.

    Example:
        >>> components = Components(np.arange(5))
        >>> components.join(3, 1), components.join(3, 4), components.join(4, 1)
        (True, True, False)
        >>> components.roots(np.arange(5)).tolist()
        [0, 1, 2, 1, 1]
    """

    def __init__(self, parents: NDArray[np.integer]) -> None:
        self._parents = parents

    def join(self, one: int, other: int) -> bool:
        """Connect two things; return False if they were connected already."""
        a, b = self._root(one), self._root(other)
        if a == b:
            return False
        self._parents[max(a, b)] = min(a, b)
        return True

    def connected(self, one: int, other: int) -> bool:
        """Whether two things are connected."""
        return self._root(one) == self._root(other)

    def roots(self, numbers: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the least number in the component of each of these, and shorten the paths to it."""
        found = numbers.astype(np.int64)
        while (further := self._parents[found] != found).any():
            found[further] = self._parents[found[further]]
        self._parents[numbers] = found
        return found

    def _root(self, number: int) -> int:
        parents, found = self._parents, number
        while (parent := int(parents[found])) != found:
            found = parent
        while (parent := int(parents[number])) != found:
            parents[number], number = found, parent
        return found
