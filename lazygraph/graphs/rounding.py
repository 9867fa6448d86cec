"""``a * b + c`` rounded once, for whole arrays, as BLAS computes it in a matrix product on a processor with FMA.

numpy has no such operation, and it depends on the machine which products a BLAS fuses. If published edges depend on the
last bit, this module computes it from ordinary operations, so every machine gives the same edges.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["fused", "fused_product"]

Array = NDArray[np.float64]

_SPLIT = 134217729.0  # 2**27 + 1, Dekker's constant: halves of 26 bits


def fused_product(rows: Array, matrix: Array) -> Array:
    """``rows @ matrix`` (N, 3) of (N, 3) and (3, 3), each sum in order and each step rounded once.

    Example:
        >>> fused_product(np.array([[0.5, 0.0, 0.25]]), np.diag([3.0, 4.0, 8.0])).tolist()
        [[1.5, 0.0, 2.0]]
    """
    out = rows[:, :1] * matrix[0]
    out = fused(rows[:, 1:2], matrix[1], out)
    return fused(rows[:, 2:], matrix[2], out)


def fused(a: Array, b: Array, c: Array) -> Array:
    """``a * b + c``, correctly rounded, of float64 arrays that broadcast; for numbers far from overflow and underflow.

    Source: S. Boldo and G. Melquiond, Emulation of FMA and correctly rounded sums, IEEE Trans. Comput. 57, 462 (2008):
    the two error terms are added with rounding to odd, after which an ordinary sum cannot round wrongly.
    """
    high, low = _product(a, b)
    middle, lowest = _sum(c, low)
    total, rest = _sum(high, middle)
    tail, lost = _sum(lowest, rest)
    bits: NDArray[np.int64] = tail.view(np.int64)
    inexact_and_even = (lost != 0) & ((bits & 1) == 0)
    away = (lost > 0) == (tail > 0)
    odd = np.where(inexact_and_even, np.where(away, bits + 1, bits - 1), bits).view(np.float64)
    out: Array = total + odd
    return out


def _product(a: Array, b: Array) -> tuple[Array, Array]:
    """Dekker's exact product: rounded, and what rounding lost."""
    product = a * b
    a1 = _SPLIT * a
    a1 = a1 - (a1 - a)
    b1 = _SPLIT * b
    b1 = b1 - (b1 - b)
    a2, b2 = a - a1, b - b1
    return product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2


def _sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Knuth's exact sum: rounded, and what rounding lost."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
