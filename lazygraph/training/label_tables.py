"""Conversion of labels (lists, dictionaries, arrays, pandas tables) into named columns of numbers."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lazygraph.errors import LabelError

__all__ = ["TARGET", "columns_of"]

TARGET = "target"
"""The name of a single target whose labels have no name."""

WAYS = "one number for each structure, or, for several targets, a mapping such as {'gap': [...], 'mass': [...]}"


def columns_of(labels: Any, n: int) -> dict[str, list[float]]:
    """Return name -> one number per structure, with NaN for a missing label.

    Args:
        labels: one column of numbers, which gets the name ``target``; or a mapping from names to columns; or a pandas
            ``DataFrame``. None, NaN and pandas' ``NA`` are missing labels.
        n: number of structures.

    Raises:
        LabelError: another type, another number of labels, an infinite label, or no label at all.
    """
    out = {name: _column(name, values, n) for name, values in _named(labels).items()}
    for name, values in out.items():
        if not np.isfinite(values).any():
            msg = f"none of the {n} labels{_of(name)} is a number; give at least one number"
            raise LabelError(msg)
    return out


def _named(labels: Any) -> Mapping[str, Any]:
    if not (isinstance(labels, Mapping) or _is_table(labels)):
        return {TARGET: labels}
    names = list(labels.keys())
    if not names:
        msg = f"the labels have no column; give {WAYS}"
        raise LabelError(msg)
    if strange := [name for name in names if not (isinstance(name, str) and name)]:
        msg = (
            f"the label name {strange[0]!r} cannot name a target; names are texts, and not empty: rename the columns, "
            "as in labels.columns = ['gap', 'mass'], or give a mapping"
        )
        raise LabelError(msg)
    if len(set(names)) < len(names):
        msg = f"a name of the labels {', '.join(names)} is given twice; use each name once"
        raise LabelError(msg)
    return {str.__str__(name): labels[name] for name in names}


def _is_table(labels: Any) -> bool:
    pandas: Any = sys.modules.get("pandas")  # a caller with a table has imported pandas
    return pandas is not None and isinstance(labels, pandas.DataFrame)


def _column(name: str, values: Any, n: int) -> list[float]:
    shape: Sequence[int] | None = getattr(values, "shape", None)
    if shape is not None and len(shape) == 2 and shape[1] == 1 and not _is_table(values):
        values = values.reshape(-1)
    elif shape is not None and len(shape) != 1:
        msg = (
            f"the labels{_of(name)} have the shape {tuple(shape)}; give {WAYS}. For an array y this is "
            "{'gap': y[:, 0], 'mass': y[:, 1]}"
        )
        raise LabelError(msg)
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        msg = f"the labels{_of(name)} are {values!r}; give {WAYS}"
        raise LabelError(msg)
    numbers = [_number(name, label) for label in values]
    if len(numbers) != n:
        msg = (
            f"found {n} structures and {len(numbers)} labels{_of(name)}; give one label for each structure, None "
            "where it is missing"
        )
        raise LabelError(msg)
    return numbers


def _number(name: str, label: Any) -> float:
    if label is None or type(label).__name__ in ("NAType", "NaTType"):  # missing values of pandas
        return math.nan
    try:
        number = float(label)
    except (TypeError, ValueError, OverflowError):
        msg = f"found the label {label!r}{_of(name)}; required: a number, or None where it is missing. Give {WAYS}"
        raise LabelError(msg) from None
    if math.isinf(number):
        msg = f"found the label {label!r}{_of(name)}; required: a finite number, or None where it is missing"
        raise LabelError(msg)
    return number


def _of(name: str) -> str:
    return "" if name == TARGET else f" of {name!r}"
