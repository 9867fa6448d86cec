"""Random splits by fractions: which graphs train, validate and test."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError
from lazygraph.format.columns import NO_SPLIT

__all__ = ["SPLITS", "SplitRule", "grouped_codes", "split_codes"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class SplitRule:
    """Fractions of train, val and test, the seed of the shuffle, and what must stay together.

    Raises:
        InputError: they are not three fractions of a whole, or ``group`` is neither None nor ``formula``.
    """

    fractions: Sequence[float]
    seed: int = 123
    group: str | None = None

    def __post_init__(self) -> None:
        fractions = self.fractions
        if not (len(fractions) == 3 and all(0 <= f <= 1 for f in fractions) and 0 < math.fsum(fractions) <= 1 + 1e-9):
            msg = (
                f"found the fractions {tuple(fractions)}; required: three from 0 to 1 for train, val and test, "
                "together at most 1"
            )
            raise InputError(msg)
        if self.group not in (None, "formula"):
            msg = f"found group={self.group!r}; required: 'formula', or none"
            raise InputError(msg)

    def codes(self, n: int, formulas: NDArray[np.bytes_] | None) -> NDArray[np.uint8]:
        """(n,) uint8, an index into ``SPLITS`` for each of n graphs; 255 for those that are in none.

        Raises:
            InputError: formulas are needed, and there are none.
        """
        if self.group is None:
            return split_codes(n, self.fractions, self.seed)
        if formulas is None:
            msg = "the graphs came ready-made and have no formulas to group by; required: crystals, or no group"
            raise InputError(msg)
        _, members = np.unique(formulas, return_inverse=True)
        return grouped_codes(members, self.fractions, self.seed)


def split_codes(n: int, fractions: Sequence[float], seed: int) -> NDArray[np.uint8]:
    """A random split as published crystal networks make theirs (``get_id_train_val_test`` of ALIGNN, and successors).

    ``random.Random(seed)`` shuffles the rows; train is the beginning, test the end, val what lies before test. Sizes
    are rounded down as there, so that a few graphs can be in no split.

    Example:
        >>> split_codes(10, (0.8, 0.1, 0.1), 123).tolist()
        [2, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    """
    order = list(range(n))
    random.Random(seed).shuffle(order)  # noqa: S311 - a split, not a secret
    train, val, test = (int(fraction * n) for fraction in fractions)
    codes = np.full(n, NO_SPLIT, np.uint8)
    codes[order[:train]] = 0
    codes[order[n - test - val : n - test]] = 1
    codes[order[n - test :]] = 2
    return codes


def grouped_codes(members: NDArray[np.int64], fractions: Sequence[float], seed: int) -> NDArray[np.uint8]:
    """A split that keeps groups whole: shuffled groups fill train, then val, then test, up to their share of rows."""
    sizes = np.bincount(members)
    order = list(range(len(sizes)))
    random.Random(seed).shuffle(order)  # noqa: S311 - a split, not a secret
    # A group belongs where its middle falls, so shares are met as closely as whole groups allow.
    ends = np.cumsum(sizes[order])
    middles = (ends - sizes[order] / 2) / len(members)
    code = np.searchsorted(np.cumsum(fractions), middles, side="right")
    of_group = np.empty(len(sizes), np.uint8)
    of_group[order] = np.where(code > 2, NO_SPLIT, code)
    out: NDArray[np.uint8] = of_group[members]
    return out
