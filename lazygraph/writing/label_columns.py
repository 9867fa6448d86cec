"""The column that the values of a label become: numbers in their own type, texts as codes or as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.format.columns import MAX_CATEGORIES, ColumnWriter, missing_code
from lazygraph.format.manifest import Manifest
from lazygraph.format.strict_json import canonical_json
from lazygraph.sources.base import Label
from lazygraph.sources.dataset import energies_left_out

__all__ = ["Gathered", "dropped_energies", "gather", "label_column", "missing_rows"]

MAX_VOCABULARY = 2**20  # bytes of the categories of one column in the manifest
EXACT = 2**53  # the greatest integer up to which float64 holds every one


class Gathered(NamedTuple):
    """The values of one label, and the rows whose value had to be rounded."""

    values: NDArray[Any]
    rounded: NDArray[np.int64]


def gather(label: Label, values: Sequence[Any]) -> Gathered:
    """The values of one label, one for each row, as an array.

    Args:
        label: the label.
        values: as ``LabelSet.row`` gives them.

    Returns:
        ``values``: bytes for texts; bool or int64 if all numbers are; float64 else, with NaN where one is missing.
        ``rounded``: rows with an integer beyond 2^53 among floats, which float64 cannot hold.
    """
    if label.dtype == "text":
        return Gathered(_texts(values), np.empty(0, np.int64))
    n = len(values)
    if n == 0:
        return Gathered(np.empty((0, *label.shape), bool), np.empty(0, np.int64))  # fits beside any other numbers
    # By the types of the values and not by numpy, which would take an integer beyond int64 for an unsigned one.
    types = {value.dtype.kind for value in values} if label.shape else {_KINDS[type(value)] for value in values}
    dtype: Any = np.float64 if "f" in types else np.int64 if "i" in types else np.bool_
    out = np.array(values, dtype).reshape(n, *label.shape)
    rounded = [row for row, value in enumerate(values) if _is_rounded(value)] if {"i", "f"} <= types else []
    return Gathered(out, np.array(rounded, np.int64))


_KINDS = {bool: "b", int: "i", float: "f"}


def label_column(columns: ColumnWriter, label: Label, parts: Sequence[NDArray[Any]]) -> tuple[str, ...]:
    """Write the column of a label.

    Texts become a category if each of them is there at least twice on average, they are at most 65,535 different ones,
    and those take at most 1 MiB. The categories are sorted by their UTF-8 bytes, so they depend on nothing but the
    texts. All other texts are stored as they are.

    Args:
        columns: takes the column.
        label: the label.
        parts: the values of all rows, one array after the other, as ``gather`` gives them. Numbers of several types
            become the type that holds all of them.

    Returns:
        Sentences where its numbers have another type than the first inputs had, or were rounded.
    """
    values = np.concatenate(parts)
    said: dict[str, Any] = {"description": label.description, "required": label.required}
    if label.dtype != "text":
        columns.write(label.name, values, role="label", unit=label.unit, per=label.per, **said)
        return (*_type_notes(label, values), *_rounding_notes(label, parts, values.dtype))
    vocabulary, codes = np.unique(values, return_inverse=True)
    if len(vocabulary) and vocabulary[0] == b"":
        vocabulary, codes = vocabulary[1:], codes - 1
    present = int((codes >= 0).sum())
    names = [name.decode() for name in vocabulary.tolist()]
    if 2 * len(names) <= present and len(names) <= MAX_CATEGORIES and len(canonical_json(names)) <= MAX_VOCABULARY:
        dtype = np.dtype(np.uint8 if len(names) <= missing_code(np.dtype(np.uint8)) else np.uint16)
        coded = np.where(codes < 0, missing_code(dtype), codes).astype(dtype)
        columns.write(label.name, coded, role="category", categories=names, **said)
    else:
        columns.write(label.name, values, role="text", **said)
    return ()


def _rounding_notes(label: Label, parts: Sequence[NDArray[Any]], dtype: np.dtype[Any]) -> tuple[str, ...]:
    rounded = 0
    for part in parts:
        if dtype.kind == "f" and part.dtype.kind == "i":
            rounded += sum(map(_is_rounded, part[(part > EXACT) | (part < -EXACT)].tolist()))
    what = f"{rounded:,} integers beyond 2^53 of the label {label.name!r} are rounded to float64"
    return (what,) if rounded else ()


def _is_rounded(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "i" and any(map(_is_rounded, value.ravel().tolist()))
    return type(value) is int and abs(value) > EXACT and int(float(value)) != value


def missing_rows(label: Label, n: int) -> NDArray[Any]:
    """The values of a label for n rows that do not have it."""
    return np.zeros(n, "S1") if label.dtype == "text" else np.full((n, *label.shape), np.nan)


def _texts(values: Sequence[bytes]) -> NDArray[np.bytes_]:
    return np.array(values, f"S{max(map(len, values), default=1) or 1}")


def dropped_energies(name: str, before: Manifest | None) -> tuple[str, ...]:
    """A sentence where a label had reference energies, which are those of its values before."""
    column = None if before is None else before.columns.get(name)
    if column is None or "elements" not in (column.statistics or {}):
        return ()
    return (energies_left_out(name),)


def _type_notes(label: Label, values: NDArray[Any]) -> tuple[str, ...]:
    if label.dtype not in ("bool", "int64") or values.dtype.kind != "f":
        return ()
    missing = int(np.isnan(values).sum())
    what = "truth values" if label.dtype == "bool" else "integers"
    why = f"{missing:,} values are missing (NaN)" if missing else "others are no such values"
    return (f"the label {label.name!r} has {what} and is stored as float64: {why}",)
