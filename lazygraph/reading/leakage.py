"""Leakage between splits: graphs of one split that have the structure, formula or chemical system of another's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lazygraph.format.digests import BLOCK

__all__ = ["Leakage", "leakage"]


@dataclass(frozen=True, slots=True)
class Leakage:
    """What splits share.

    Attributes:
        splits: the name of the column of splits.
        what: what is shared: ``structure``, ``formula`` or ``chemical system``.
        sizes: split -> the number of its graphs.
        shared: (a, b) -> the number of graphs of split b that share it with a graph of split a.
    """

    splits: str
    what: str
    sizes: Mapping[str, int]
    shared: Mapping[tuple[str, str], int]

    def __str__(self) -> str:
        return "\n".join(
            f"{self.splits}: {count:,} of {self.sizes[b]:,} graphs in {b} have the {self.what} of a graph in {a}"
            for (a, b), count in self.shared.items()
        )


def leakage(
    name: str, codes: NDArray[np.uint8], names: Sequence[str], *, what: str, numbers: NDArray[np.integer], count: int
) -> Leakage:
    """Count the graphs that share something with graphs of another split.

    Args:
        name: of the column of splits.
        codes: (n,) the split of each graph, an index into ``names``; 255 for a graph in no split.
        names: of the splits.
        what: what they may share, in words.
        numbers: (n,) graphs that share it have the same number.
        count: all numbers are less than this.
    """
    sizes = {split: int((codes == code).sum()) for code, split in enumerate(names)}
    shared: dict[tuple[str, str], int] = {}
    for one, other in combinations(range(len(names)), 2):
        present = np.zeros(count, bool)
        for rows in _steps(len(numbers)):
            present[numbers[rows][codes[rows] == one]] = True
        both = sum(int(present[numbers[rows][codes[rows] == other]].sum()) for rows in _steps(len(numbers)))
        shared[names[one], names[other]] = both
    return Leakage(name, what, sizes, shared)


def _steps(n: int) -> Iterator[slice]:
    return (slice(start, start + 16 * BLOCK) for start in range(0, n, 16 * BLOCK))
