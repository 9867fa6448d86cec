"""When float32 is too coarse for labels."""

from __future__ import annotations

import numpy as np

__all__ = ["float32_rounding", "is_too_coarse"]

PART = 1e-3


def float32_rounding(largest: float) -> float:
    """By how much float32 may change a number whose magnitude is at most ``largest``; infinity beyond its range.

    Example:
        >>> float32_rounding(563_245.0)
        0.03125
    """
    with np.errstate(over="ignore", invalid="ignore"):
        spacing = float(np.spacing(np.float32(abs(largest))))
    return spacing / 2 if np.isfinite(spacing) else float("inf")


def is_too_coarse(low: float, high: float, spread: float) -> bool:
    """Whether float32 cannot tell numbers apart: it may change them by more than a thousandth of their spread.

    Models come down to a hundredth of the spread; with a rounding error near that, their error is no longer theirs.

    Args:
        low: the least of the numbers.
        high: the greatest.
        spread: how far they are apart, such as their standard deviation.

    Example:
        >>> is_too_coarse(-563_245.1, -563_244.9, 0.02), is_too_coarse(-9.0, 0.0, 1.5), is_too_coarse(1e9, 1e9, 0.0)
        (True, False, False)
    """
    return low < high and float32_rounding(max(abs(low), abs(high))) > PART * spread
