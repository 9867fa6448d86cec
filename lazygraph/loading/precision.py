"""Tests whether float32 is too coarse for labels."""

from __future__ import annotations

import numpy as np

__all__ = ["float32_rounding", "is_too_coarse"]

PART = 1e-3


def float32_rounding(largest: float) -> float:
    """Return the greatest rounding error of float32 for magnitudes up to ``largest``; infinity beyond its range.

    Example:
        >>> float32_rounding(563_245.0)
        0.03125
    """
    with np.errstate(over="ignore", invalid="ignore"):
        spacing = float(np.spacing(np.float32(abs(largest))))
    return spacing / 2 if np.isfinite(spacing) else float("inf")


def is_too_coarse(low: float, high: float, spread: float) -> bool:
    """Tell whether float32 may change numbers by more than a thousandth of their spread.

    Models reach errors of a hundredth of the spread. A rounding error near this would distort the reported error.

    Args:
        low: the smallest number.
        high: the greatest number.
        spread: the spread of the numbers, such as their standard deviation.

    Example:
        >>> is_too_coarse(-563_245.1, -563_244.9, 0.02), is_too_coarse(-9.0, 0.0, 1.5), is_too_coarse(1e9, 1e9, 0.0)
        (True, False, False)
    """
    return low < high and float32_rounding(max(abs(low), abs(high))) > PART * spread
