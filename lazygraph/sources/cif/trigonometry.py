"""Cosines, sines and arc cosines with the same bits on every machine: rounded correctly.

The functions of numpy and of C libraries may be wrong in the last bit, and differ between machines. With AVX-512, for
example, numpy's arc cosine gives other lattice vectors than without it for every twelfth cell of the set carbon_24. The
same files would have another ``content_id`` on another machine.
"""

from __future__ import annotations

import math
from functools import lru_cache

__all__ = ["arc_cosine", "cosine_and_sine"]

BITS = 160  # after the point, of numbers that are whole multiples of 2**-160
ONE = 1 << BITS
HALVINGS = 4
TINY = 2.0**-60  # below it, cos(x) is 1 and sin(x) is x, to the last bit


@lru_cache(maxsize=4096)
def cosine_and_sine(x: float) -> tuple[float, float]:
    """Return the cosine and the sine of an angle.

    Args:
        x: the angle in radians, from 0 to pi.

    Returns:
        The doubles that are nearest to cos(x) and sin(x).

    Example:
        >>> cosine_and_sine(0.5)
        (0.8775825618903728, 0.479425538604203)
    """
    if x < TINY:
        return 1.0, x
    cosine, sine = _cosine_and_sine(_fixed(x))
    return cosine / ONE, sine / ONE  # the quotient of whole numbers is rounded correctly


@lru_cache(maxsize=4096)
def arc_cosine(x: float) -> float:
    """Return the angle of a cosine.

    Args:
        x: the cosine, from -1 to 1.

    Returns:
        The double that is nearest to the angle, in radians, from 0 to pi.

    Example:
        >>> arc_cosine(0.5)
        1.0471975511965979
    """
    near = math.acos(x)
    if abs(x) == 1.0:
        return near
    # Each step of Newton's method doubles the number of correct bits.
    angle = _fixed(near)
    cosine, sine = _cosine_and_sine(angle)
    return (angle + (cosine - _fixed(x)) * ONE // sine) / ONE


def _fixed(x: float) -> int:
    numerator, denominator = x.as_integer_ratio()
    return numerator * ONE // denominator


def _cosine_and_sine(x: int) -> tuple[int, int]:
    """Return the sums of the Taylor series at x / 16, doubled four times."""
    x >>= HALVINGS
    square = x * x >> BITS
    cosine = sine = n = 0
    term = ONE  # x**n / n!, for even n
    while term:
        cosine += term
        term //= n + 1
        sine += term
        n += 2
        term = -(term * square >> BITS) // n
    sine = sine * x >> BITS
    for _ in range(HALVINGS):
        cosine, sine = (cosine * cosine >> BITS - 1) - ONE, sine * cosine >> BITS - 1
    return cosine, sine
