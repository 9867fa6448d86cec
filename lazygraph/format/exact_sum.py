"""The exact sum of many numbers, rounded once: the result of ``math.fsum``, computed with arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["exact_sum"]

CHUNK_BITS = 15
CHUNK = 2**CHUNK_BITS  # numbers that are added at once: 256 KiB, which stay in the cache of a core
PASSES = 4  # beyond which the numbers of a chunk differ so much in size that fsum is as fast
GREATEST = 1000  # exponent beyond which sums of a chunk may overflow


def exact_sum(pieces: Iterable[NDArray[np.float64]]) -> float:
    """Add the numbers of arrays exactly, and round the sum once.

    Args:
        pieces: arrays of one dimension.

    Raises:
        OverflowError, ValueError: as ``math.fsum``.

    Example:
        >>> exact_sum([np.array([1e100, 1.0]), np.array([-1e100])])
        1.0
    """
    return math.fsum(chain.from_iterable(map(_parts, pieces)))


def _parts(values: NDArray[np.float64]) -> Iterator[float]:
    """A few numbers with the same exact sum as these.

    Let all numbers of a chunk be less than 2^e, and sigma = 2^(e + 1 + CHUNK_BITS). Then ``(x + sigma) - sigma`` is x
    rounded to a multiple of 2^-53 sigma. All sums of such multiples in a chunk are at most sigma / 2, so that float64
    holds every one of them, and numpy adds them without an error in any order. What the rounding took away is exact
    too, and is added in the same way. Each pass takes 53 - 1 - CHUNK_BITS bits.
    """
    for start in range(0, len(values), CHUNK):
        rest: NDArray[Any] = values[start : start + CHUNK]
        for _ in range(PASSES):
            greatest = max(float(rest.max()), -float(rest.min()))
            if greatest == 0:
                break
            exponent = math.frexp(greatest)[1]
            if not math.isfinite(greatest) or exponent > GREATEST:
                yield from rest.tolist()
                break
            sigma = math.ldexp(1.0, exponent + 1 + CHUNK_BITS)
            high = rest + sigma
            high -= sigma
            yield float(high.sum())
            rest = rest - high
        else:
            yield from rest[rest != 0].tolist()
