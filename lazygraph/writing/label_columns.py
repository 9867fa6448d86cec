"""The column of a label: numbers in their own type, texts as codes of categories or as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.format.columns import (
    MAX_CATEGORIES,
    ColumnWriter,
    Extended,
    Pieces,
    bounded,
    dtype_of,
    missing_code,
    text_array,
    texts_of,
)
from lazygraph.format.manifest import Manifest
from lazygraph.format.strict_json import canonical_json
from lazygraph.sources.base import Label
from lazygraph.sources.dataset import energies_left_out

__all__ = ["ExtendedTexts", "Gathered", "dropped_energies", "gather", "label_column", "missing_rows"]

MAX_VOCABULARY = 2**20  # bytes of the categories of one column in the manifest
ROWS = 2**16  # rows of a finished column that are decoded at a time
EXACT = 2**53  # float64 holds every integer up to this one


class Gathered(NamedTuple):
    """The values of one label, and the rows with rounded values."""

    values: NDArray[Any]
    rounded: NDArray[np.int64]


def gather(label: Label, values: Sequence[Any]) -> Gathered:
    """Make an array of the values of one label, with one value per row.

    Args:
        label: the label.
        values: the values that ``LabelSet.row`` returns.

    Returns:
        ``values``: bytes for texts; bool or int64 if all numbers are; otherwise float64, with NaN for missing ones.
        ``rounded``: rows with an integer beyond 2^53 among floats, which float64 cannot hold.
    """
    if label.dtype == "text":
        return Gathered(_texts(values), np.empty(0, np.int64))
    n = len(values)
    if n == 0:
        return Gathered(np.empty((0, *label.shape), bool), np.empty(0, np.int64))  # fits beside any other numbers
    # The types of the values decide, because numpy would make integers beyond int64 unsigned.
    types = {value.dtype.kind for value in values} if label.shape else {_KINDS[type(value)] for value in values}
    dtype: Any = np.float64 if "f" in types else np.int64 if "i" in types else np.bool_
    out = np.array(values, dtype).reshape(n, *label.shape)
    rounded = [row for row, value in enumerate(values) if _is_rounded(value)] if {"i", "f"} <= types else []
    return Gathered(out, np.array(rounded, np.int64))


_KINDS = {bool: "b", int: "i", float: "f"}


def label_column(columns: ColumnWriter, label: Label, parts: Pieces) -> tuple[str, ...]:
    """Write the column of a label.

    Texts become a category if each occurs at least twice on average, and if there are at most 65,535 different texts
    of together at most 1 MiB. The categories are sorted by their UTF-8 bytes, so they depend only on the texts. All
    other texts are stored as they are.

    Args:
        columns: takes the column.
        label: the label.
        parts: the values of all rows, one array after the other, as ``gather`` gives them. Numbers of several types
            become the type that holds all of them.

    Returns:
        Sentences about numbers that were rounded, or have another type than in the first inputs.
    """
    said: dict[str, Any] = {"description": label.description, "required": label.required}
    if label.dtype != "text":
        columns.stream(label.name, parts, role="label", unit=label.unit, per=label.per, **said)
        dtype = dtype_of(columns.columns[label.name])
        return (*_type_notes(label, parts, dtype), *_rounding_notes(label, parts, dtype))
    if label.symprec is not None:
        said["rule"] = {"symprec": label.symprec}
    names = _categories(parts)
    if names is None:
        columns.stream(label.name, parts, role="text", **said)
        return ()
    dtype = np.dtype(np.uint8 if len(names) <= missing_code(np.dtype(np.uint8)) else np.uint16)
    texts = [name.decode() for name in names.tolist()]
    codes = parts.codes(names, dtype) if isinstance(parts, ExtendedTexts) else _Codes(parts, names, dtype)
    columns.stream(label.name, codes, role="category", categories=texts, **said)
    return ()


@dataclass(frozen=True, slots=True)
class ExtendedTexts:
    """The texts of a finished column of categories, and the added texts.

    Attributes:
        before: the codes of the finished column.
        added: the texts of the added rows.
    """

    before: Extended
    added: Pieces

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return chain((texts_of(self.before.column, codes) for codes in _rows_at_once(self.before)), self.added)

    def used(self) -> tuple[NDArray[np.bytes_], int]:
        """The different texts of the finished column, sorted, and the number of rows that have one."""
        names = self._names()
        counts = np.zeros(len(names) + 1, np.int64)  # the last count is for rows without a text
        for codes in bounded(self.before):
            counts += np.bincount(np.minimum(codes, len(names)), minlength=len(counts))
        return np.unique(names[counts[:-1] > 0]), int(counts[:-1].sum())

    def codes(self, names: NDArray[np.bytes_], dtype: np.dtype[Any]) -> Pieces:
        """Yield the codes of all texts in other categories, which must contain all of these texts."""
        added, own = _Codes(self.added, names, dtype), self._names()
        if self.before.rows.values.dtype == dtype and np.array_equal(names, own):
            return replace(self.before, added=added)
        table = np.full(len(own) + 1, missing_code(dtype), dtype)
        table[:-1] = np.minimum(np.searchsorted(names, own), len(names) - 1)  # unused texts may be missing
        return _Recoded(self.before, table, added)

    def _names(self) -> NDArray[np.bytes_]:
        return text_array(self.before.column.categories or (), "category")


@dataclass(frozen=True, slots=True)
class _Recoded:
    """The codes of a finished column, translated, and the codes of the added rows."""

    before: Extended
    table: NDArray[Any]
    added: Pieces

    def __iter__(self) -> Iterator[NDArray[Any]]:
        most = len(self.table) - 1
        return chain((self.table[np.minimum(codes, most)] for codes in _rows_at_once(self.before)), self.added)


def _rows_at_once(pieces: Pieces) -> Iterator[NDArray[Any]]:
    """Yield the rows in small pieces, because the decoded values may be much wider."""
    for piece in pieces:
        for start in range(0, len(piece), ROWS):
            yield piece[start : start + ROWS]


def _categories(parts: Pieces) -> NDArray[np.bytes_] | None:
    """Return the different texts, sorted; None if they cannot be categories."""
    vocabulary, present = np.empty(0, "S1"), 0
    if isinstance(parts, ExtendedTexts):
        vocabulary, present = parts.used()
        parts = parts.added
    for part in bounded(parts):
        values = part[part != b""]
        present += len(values)
        vocabulary = np.union1d(vocabulary, values)
        if len(vocabulary) > MAX_CATEGORIES:
            return None
    listed = canonical_json([name.decode() for name in vocabulary.tolist()])
    return vocabulary if 2 * len(vocabulary) <= present and len(listed) <= MAX_VOCABULARY else None


@dataclass(frozen=True, slots=True)
class _Codes:
    """Yield the codes of texts, in pieces."""

    parts: Pieces
    names: NDArray[np.bytes_]
    dtype: np.dtype[Any]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for part in bounded(self.parts):
            codes = np.searchsorted(self.names, part)
            yield np.where(part == b"", missing_code(self.dtype), codes).astype(self.dtype)


def _rounding_notes(label: Label, parts: Pieces, dtype: np.dtype[Any]) -> tuple[str, ...]:
    rounded = 0
    for part in bounded(parts) if dtype.kind == "f" else ():
        if part.dtype.kind == "i":
            rounded += sum(map(_is_rounded, part[(part > EXACT) | (part < -EXACT)].tolist()))
    what = f"{rounded:,} integers beyond 2^53 of the label {label.name!r} are rounded to float64"
    return (what,) if rounded else ()


def _is_rounded(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "i" and any(map(_is_rounded, value.ravel().tolist()))
    return type(value) is int and abs(value) > EXACT and int(float(value)) != value


def missing_rows(label: Label, n: int) -> NDArray[Any]:
    """Return the values of a label for n rows that do not have it."""
    return np.zeros(n, "S1") if label.dtype == "text" else np.full((n, *label.shape), np.nan)


def _texts(values: Sequence[bytes]) -> NDArray[np.bytes_]:
    return np.array(values, f"S{max(map(len, values), default=1) or 1}")


def dropped_energies(name: str, before: Manifest | None) -> tuple[str, ...]:
    """Yield a sentence if a label had reference energies, which belong to its earlier values."""
    column = None if before is None else before.columns.get(name)
    if column is None or "elements" not in (column.statistics or {}):
        return ()
    return (energies_left_out(name),)


def _type_notes(label: Label, parts: Pieces, dtype: np.dtype[Any]) -> tuple[str, ...]:
    if label.dtype not in ("bool", "int64") or dtype.kind != "f":
        return ()
    missing = sum(int(np.isnan(part).sum()) for part in bounded(parts) if part.dtype.kind == "f")
    what = "booleans" if label.dtype == "bool" else "integers"
    why = f"{missing:,} values are missing (NaN)" if missing else "others are no such values"
    return (f"the label {label.name!r} has {what} and is stored as float64: {why}",)
