"""Conversion of options to plain values that TOML, JSON and checkpoints can store."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from lazygraph.errors import InputError

__all__ = ["real_number", "to_builtin", "whole_number"]


def to_builtin(name: str, value: Any) -> Any:
    """Convert a value to int, float, str, bool, or a list or dict of these.

    numpy numbers and texts become Python's; arrays and tuples become lists, mappings dicts, and paths texts. The value
    in use, the written value and the value that is read back are therefore equal.

    Args:
        name: name of the option, for the error.
        value: a value of any type.

    Raises:
        InputError: the value cannot be converted: None, NaN, a set, an object.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and not math.isnan(value):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, os.PathLike):
        return to_builtin(name, os.fspath(value))
    if isinstance(value, np.ndarray) and value.dtype != object:
        return to_builtin(name, value.tolist())
    if isinstance(value, (list, tuple)):
        return [to_builtin(f"{name}[{n}]", each) for n, each in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {str.__str__(key): to_builtin(f"{name}[{key!r}]", each) for key, each in value.items()}
    msg = f"found {name}={value!r}; required: numbers, texts, True, False, or lists or mappings of them by name"
    raise InputError(msg)


def whole_number(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return a whole number in a range as an int.

    Raises:
        InputError: the value is not a whole number in the range.
    """
    fits = not isinstance(value, bool) and isinstance(value, numbers.Integral) and int(value) >= least
    if not fits or (most is not None and int(value) > most):
        upto = "on" if most is None else f"to {most}"
        msg = f"found {name}={value!r}; required: a whole number from {least} {upto}"
        raise InputError(msg)
    return int(value)


def real_number(
    name: str, value: Any, *, above: float | None = None, least: float = 0.0, below: float = math.inf
) -> float:
    """Return a finite number in a range as a float.

    Args:
        name: name of the option, for the error.
        value: a value of any type.
        above: exclusive lower bound; None for none.
        least: inclusive lower bound; None for none.
        below: exclusive upper bound; None for none.

    Raises:
        InputError: the value is not a finite number in the range.
    """
    number = math.nan
    if not isinstance(value, (bool, np.bool_)) and isinstance(value, numbers.Real):
        try:
            number = float(value)
        except OverflowError:  # of a whole number of more than 308 digits
            number = math.inf
    if (number >= least if above is None else number > above) and number < below:
        return number
    low = f"of {least:g} or more" if above is None else f"greater than {above:g}"
    high = "" if below == math.inf else f" and less than {below:g}"
    msg = f"found {name}={value!r}; required: a finite number {low}{high}"
    raise InputError(msg)
