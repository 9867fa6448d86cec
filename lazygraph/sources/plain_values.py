"""Conversion of values that JSON writes as objects into plain numbers, texts and arrays.

- numpy arrays of monty (``{"@module": "numpy", "@class": "array", "dtype": ..., "data": ...}``) and of ASE
  (``{"__ndarray__": [shape, dtype, flat]}``)
- MongoDB's extended JSON: ``{"$numberDouble": "1.5"}``, ``{"$oid": "..."}``, ``{"$date": ...}``
- members of an enumeration (``{"@module": ..., "@class": ..., "value": "FM"}``)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["array_of", "plain"]

_EXTENDED_NUMBERS = {"$numberDouble": float, "$numberInt": int, "$numberLong": int, "$numberDecimal": float}
_EXTENDED_TEXTS = frozenset({"$oid", "$date", "$uuid"})
_KINDS = "biuf"  # numpy's letters for booleans, integers and real numbers


def plain(value: Any) -> Any:
    """Return the number, text or array that an object represents, and any other value unchanged.

    Example:
        >>> plain({"$numberDouble": "1.5"}), plain({"__ndarray__": [[2], "int64", [55, 17]]}), plain({"a": 1})
        (1.5, array([55, 17]), {'a': 1})
    """
    if isinstance(value, list):
        first: Any = value
        while isinstance(first, list) and first:  # an array of numbers is nested lists, recognised by the first number
            first = first[0]
        return [plain(part) for part in value] if isinstance(first, dict) else value
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        key, inner = next(iter(value.items()))
        if key in _EXTENDED_NUMBERS:
            try:
                return _EXTENDED_NUMBERS[key](inner)
            except (TypeError, ValueError, OverflowError):
                return value
        if key in _EXTENDED_TEXTS and isinstance(inner, str):
            return inner
    found = array_of(value)
    if found is not None:
        return found
    if "@class" in value and value.keys() <= {"@module", "@class", "@version", "value"} and "value" in value:
        return plain(value["value"])
    return value


def array_of(value: Mapping[str, Any]) -> NDArray[Any] | None:
    """Return the array that an object of monty or ASE represents; None if it is not an array of numbers."""
    try:
        if value.get("@module") == "numpy" and "data" in value:
            kind = np.dtype(value["dtype"])
            return np.array(value["data"], dtype=kind) if kind.kind in _KINDS else None
        if isinstance(content := value.get("__ndarray__"), list):
            shape, name, flat = content
            kind = np.dtype(name)
            return np.array(flat, dtype=kind).reshape(shape) if kind.kind in _KINDS else None
    except (TypeError, ValueError, KeyError, OverflowError, SyntaxError):
        return None
    return None
