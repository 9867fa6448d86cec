"""Columns: one ``.npy`` file each, memory-mapped, whose header must be the one that the manifest implies."""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, InputError
from lazygraph.format.digests import BLOCK, BlockHasher, Blocks, CheckedColumn, write_digests
from lazygraph.format.exact_sum import exact_sum
from lazygraph.storage.base import Storage
from lazygraph.storage.files import FileRange, FileRef, streamed
from lazygraph.storage.local import LocalStorage
from lazygraph.storage.mapping import mapped
from lazygraph.storage.names import safe_stem

__all__ = [
    "MAX_CATEGORIES",
    "MAX_ID",
    "NO_SPLIT",
    "Column",
    "ColumnWriter",
    "Extended",
    "Pieces",
    "Repeats",
    "Role",
    "attributes",
    "bounded",
    "common_type",
    "dtype_of",
    "invalid_inputs",
    "invalid_values",
    "missing_code",
    "narrowest",
    "open_column",
    "text_array",
    "text_bytes",
    "texts_of",
    "unsigned",
    "write_column",
]

MAX_ID = 255  # bytes of an id, and of any other text in a column, as UTF-8
NO_SPLIT = 255  # the code in a column of splits of a graph that is in none of them
MAX_CATEGORIES = 2**16 - 1  # of one column: the code that is left means that there is no text
PIECE = 2**20  # bytes of a column that are copied at once
TEXTS = 1 << 14  # that are decoded together: a short text takes 40 bytes as an object of Python
Pieces: TypeAlias = Iterable[NDArray[Any]]
"""The rows of a column, one array after the other. It is iterated several times, so it is no generator."""
Role: TypeAlias = Literal["index", "label", "category", "text", "split"]

_DESCR = re.compile("[<|][iufbS][1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class Column:
    """One column as the manifest describes it.

    ``dtype`` is numpy's ``descr`` of the array's type. ``role`` distinguishes numbers (``label``), codes of texts
    (``category``), texts (``text``), codes of splits (``split``) and what belongs to the index. ``unit`` belongs to
    numbers, ``statistics`` to all labels, and ``categories`` are the texts that codes stand for. ``rule`` is the one by
    which all graphs were split, or all prototypes were computed. ``per`` says what a number is given per (``cell``,
    ``atom``), ``description`` is one line on a label, and no graph lacks a label that is ``required``.
    """

    file: FileRef
    dtype: Any
    shape: tuple[int, ...]
    role: Role
    unit: str | None = None
    statistics: dict[str, Any] | None = None
    categories: tuple[str, ...] | None = None
    rule: dict[str, Any] | None = None
    per: str | None = None
    description: str | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Extended:
    """The rows of a finished column, and the rows that come after them.

    Where the new column has the type of the finished one, ``ColumnWriter`` copies the bytes of its file, and keeps the
    digests of its full blocks, after all blocks were compared with their digests.

    Attributes:
        column: the finished column, as the manifest describes it.
        rows: its rows. They are the first piece.
        descriptor: opens its file.
        added: the rows that come after them.
    """

    column: Column
    rows: CheckedColumn
    descriptor: Callable[[], int]
    added: Pieces

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return chain([self.rows.whole()], self.added)


class ColumnWriter:
    """Writes the columns of a dataset, and the file of digests that their blocks are checked with.

    Holds no column in memory: each is written in pieces.

    Args:
        directory: the dataset directory.
        kept: columns that stay as they are, each with the digests of its blocks.
    """

    def __init__(self, directory: Path, kept: Mapping[str, tuple[Column, Blocks]] = MappingProxyType({})) -> None:
        self._directory = directory
        self.columns = {name: column for name, (column, _) in kept.items()}
        """Every column so far, as the manifest describes it."""
        self._blocks = {name: blocks for name, (_, blocks) in kept.items()}

    def write(self, name: str, array: NDArray[Any], **description: Any) -> None:
        """Write one column; see ``write_column``."""
        self.stream(name, [array], **description)

    def stream(self, name: str, pieces: Pieces, *, dtype: Any = None, **description: Any) -> None:
        """Write one column in pieces.

        Args:
            name: of the column.
            pieces: its rows, one array after the other.
            dtype: the type of the column; that which holds all pieces unless given.
            description: as ``write_column`` takes it.
        """
        found = _write(self._directory, name, pieces, dtype, **description)
        self.columns[name], self._blocks[name] = found

    def drop(self, name: str) -> None:
        """Leave out a column that was kept or written."""
        del self.columns[name], self._blocks[name]

    def digests(self, graphs: Blocks) -> FileRef:
        """Write the file of digests: those of the graphs' blocks, and of all columns."""
        return write_digests(self._directory, graphs, self._blocks)


def write_column(directory: Path, name: str, array: NDArray[Any], **description: Any) -> Column:
    """Write one array below ``directory/columns``, compute its statistics, and describe it.

    Args:
        directory: the dataset directory.
        name: of the column.
        array: its rows.
        description: ``role``, ``unit``, ``categories``, ``rule``, ``per``, ``description`` and ``required``, as
            ``Column`` has them.
    """
    return _write(directory, name, [array], None, **description)[0]


def _write(
    directory: Path,
    name: str,
    pieces: Pieces,
    dtype: Any,
    *,
    role: Role = "index",
    unit: str | None = None,
    categories: Sequence[str] | None = None,
    rule: dict[str, Any] | None = None,
    per: str | None = None,
    description: str | None = None,
    required: bool = False,
) -> tuple[Column, Blocks]:
    """Write a column in pieces; what the manifest says of it, and the digests of its blocks."""
    common, shape = common_type(pieces)
    kind = np.dtype(common if dtype is None else dtype).newbyteorder("<")
    header = _header(kind, shape)
    hasher, kept = BlockHasher(), 0
    with ExitStack() as stack:
        copied = None
        if isinstance(pieces, Extended) and pieces.rows.values.dtype == kind:
            rows = pieces.rows.whole()
            kept = len(rows) // BLOCK * BLOCK
            hasher = BlockHasher(pieces.rows.blocks[: len(rows) // BLOCK])
            descriptor = pieces.descriptor()
            stack.callback(os.close, descriptor)
            copied = FileRange(descriptor, pieces.column.file.size - rows.nbytes, len(header), rows.nbytes)

        def content() -> Iterator[Any]:
            yield header
            at = 0
            for piece in bounded(pieces):
                values = np.ascontiguousarray(piece.astype(kind, copy=False))
                if (known := min(max(0, kept - at), len(values))) < len(values):
                    hasher.add(values[known:])
                at += len(values)
                yield values.reshape(-1).view(np.uint8).data if values.nbytes else b""

        # The name of the file helps people; the manifest holds the name of the column.
        file = streamed(directory, f"columns/{safe_stem(name)}", ".npy", content(), copied)
    column = Column(
        file,
        _descr(kind),
        shape,
        role,
        unit,
        None,
        None if categories is None else tuple(categories),
        rule,
        per,
        description,
        required,
    )
    if role not in ("index", "split"):
        written = open_column(LocalStorage(directory), column, check=False)  # mapped: it takes no memory of its own
        column = replace(column, statistics=statistics(written, role))
    return column, hasher.blocks()


def _header(kind: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The bytes before the values of a ``.npy`` file."""
    out = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, fields)
    return out.getvalue()


def bounded(pieces: Pieces) -> Iterator[NDArray[Any]]:
    """The rows of pieces, in pieces of at most 1 MiB (or one row), so that copies of them are small."""
    for piece in pieces:
        size = piece.dtype.itemsize * math.prod(piece.shape[1:])
        step = max(1, PIECE // max(1, size))
        for start in range(0, len(piece), step):
            yield piece[start : start + step]


def common_type(pieces: Pieces) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The type that holds the values of all pieces, and the shape of all of their rows together.

    Example:
        >>> common_type([np.zeros(3, bool), np.zeros(2)])
        (dtype('float64'), (5,))
    """
    kinds: dict[np.dtype[Any], None] = {}
    rows, tail = 0, None
    for piece in pieces:
        kinds[piece.dtype] = None
        rows += len(piece)
        tail = piece.shape[1:] if tail is None else tail
        if piece.shape[1:] != tail:
            msg = f"one column has rows of the shapes {tail} and {piece.shape[1:]}; all its rows need the same shape"
            raise InputError(msg)
    return np.result_type(*kinds), (rows, *(tail or ()))


def narrowest(pieces: Pieces) -> np.dtype[Any]:
    """The smallest unsigned type that holds all of these counts.

    Example:
        >>> narrowest([np.array([3]), np.array([256])])
        dtype('uint16')
    """
    return np.min_scalar_type(max((int(piece.max(initial=0)) for piece in pieces), default=0))


def attributes(column: Column) -> dict[str, Any]:
    """The arguments of ``write_column`` that describe other rows of the same column."""
    names = ("role", "unit", "categories", "rule", "per", "description", "required")
    return {name: getattr(column, name) for name in names}


def missing_code(dtype: np.dtype[Any]) -> int:
    """The code of a graph without a text: the greatest number of the type.

    Example:
        >>> missing_code(np.dtype("u1")), missing_code(np.dtype("u2"))
        (255, 65535)
    """
    return int(np.iinfo(dtype).max)


def open_column(storage: Storage, column: Column, *, check: bool = True) -> NDArray[Any]:
    """Map a column into memory, read-only, after its size and header were compared with the manifest.

    The pages are shared by all processes.

    Args:
        storage: where the dataset lies.
        column: as the manifest describes it.
        check: compare its sha256 too, which takes one pass over the file (about 1 ms per MB). A caller that passes
            False must check the blocks that it uses (``CheckedColumn``).

    Raises:
        FileNotFoundError: the file is gone.
        CorruptDataset: it is not the file that was written, or its header is not the one that the manifest implies.
    """
    path = f"{storage.name}/{column.file.name}"
    dtype = dtype_of(column)
    with os.fdopen(storage.descriptor(column.file), "rb") as file:
        start = _data_start(file, dtype, column.shape)
        if start is None or column.file.size != start + dtype.itemsize * math.prod(column.shape):
            msg = f"{path} is not a .npy file of {dtype} and shape {column.shape}, as the manifest says"
            raise CorruptDataset(msg)
        if check:
            file.seek(0)
            if (found := hashlib.file_digest(file, "sha256").hexdigest()) != column.file.sha256:
                msg = f"{path} has the sha256 {found}; required: {column.file.sha256}, as the manifest says"
                raise CorruptDataset(msg)
        content = mapped(file.fileno(), column.file.size)
    try:
        return np.ndarray(column.shape, dtype, content, start)
    except ValueError as error:  # no rows of more components than numpy can count
        msg = f"{path} has the shape {column.shape}: {error}"
        raise CorruptDataset(msg) from error


def dtype_of(column: Column) -> np.dtype[Any]:
    """The numpy type of a column; CorruptDataset for any that a column may not have."""
    descr = column.dtype
    try:
        parts = [(name, kind) for name, kind in descr] if isinstance(descr, list) else [("", descr)]
        if parts and all(_DESCR.fullmatch(kind) for _, kind in parts):
            dtype = np.dtype(parts if isinstance(descr, list) else descr)
            if _descr(dtype) == descr:
                return dtype
    except (TypeError, ValueError):  # no pairs, no text, no type: said below
        pass
    msg = f"the column {column.file.name} has the type {descr!r}; required: numbers, booleans or byte strings"
    raise CorruptDataset(msg)


def invalid_values(column: Column, array: NDArray[Any]) -> str | None:
    """Return a sentence about an invalid value in a column whose file is undamaged; None if all values are valid.

    Args:
        column: as the manifest describes it.
        array: its values.
    """
    return next(filter(None, (_invalid(column, piece) for piece in bounded([array]))), None)


def _invalid(column: Column, values: NDArray[Any]) -> str | None:
    """What some values of a column are that they may not be."""
    if values.dtype.kind == "S":
        try:
            for start in range(0, len(values), TEXTS):
                b"\n".join(values[start : start + TEXTS].tolist()).decode()
        except UnicodeDecodeError as error:
            return f"is not UTF-8: {error}"
    if column.categories is not None:
        nameless = (values >= len(column.categories)) & (values != missing_code(values.dtype))
        if nameless.any():
            return f"has a code without a name: it names {len(column.categories)}"
    if values.dtype.kind == "b" and (values.view(np.uint8) > 1).any():
        return "has a boolean that is neither 0 nor 1"
    return None


def invalid_inputs(array: NDArray[Any], inputs: int) -> str | None:
    """Return a sentence about an invalid value in the column ``input``; None if all values are valid.

    Args:
        array: (N,) its values, unsigned.
        inputs: the number of inputs of the dataset, which stands for an input that is not known.
    """
    # A bit for each input, or where only a few of them are named, the rows in order: whichever is smaller.
    few = inputs > 64 * len(array)
    seen = Repeats(0 if few else inputs)
    for piece in [array] if few else bounded([array]):
        known = piece[piece != inputs]
        if len(known) and (greatest := int(known.max())) > inputs:
            return f"names the input {greatest}; required: 0 to {inputs - 1}, or {inputs} where it is not known"
        again = _first_repeated(np.sort(known)) if few else seen.first(known)
        if again is not None:
            return f"names the input {again} twice; an input has at most one row"
    return None


class Repeats:
    """A detector of repeated numbers, with one bit for each possible number.

    Args:
        limit: no number is so great.

    Example:
        >>> repeats = Repeats(10)
        >>> repeats.first(np.array([3, 9])), repeats.first(np.array([1, 9, 2]))
        (None, 9)
    """

    def __init__(self, limit: int) -> None:
        self._seen = np.zeros(-(-limit // 8), np.uint8)

    def first(self, numbers: NDArray[Any]) -> int | None:
        """Return the least number that came before or comes twice, or note all numbers and return None."""
        ordered = np.sort(numbers)
        places, bits = ordered >> 3, np.left_shift(np.uint8(1), (ordered & 7).astype(np.uint8))
        before = ordered[(self._seen[places] & bits) != 0]
        twice = _first_repeated(ordered)
        if len(before) or twice is not None:
            return min(int(one) for one in (*before[:1].tolist(), twice) if one is not None)
        np.bitwise_or.at(self._seen, places, bits)
        return None

    def has(self, numbers: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each of these came before."""
        return np.asarray(self._seen[numbers >> 3] >> (numbers & 7).astype(np.uint8) & 1, bool)


def _first_repeated(ordered: NDArray[Any]) -> int | None:
    same = ordered[1:] == ordered[:-1]
    return int(ordered[int(np.argmax(same))]) if same.any() else None


def texts_of(column: Column, values: NDArray[Any]) -> NDArray[np.bytes_]:
    """Return the texts of a category or text column as UTF-8 bytes. A missing text is empty.

    Args:
        column: as the manifest describes it.
        values: codes of the categories, or texts.
    """
    if column.categories is None:
        return values
    names = text_array([*column.categories, ""], "category")
    out: NDArray[np.bytes_] = names[np.minimum(values, len(column.categories))]
    return out


def text_array(texts: Sequence[str], what: str = "id") -> NDArray[np.bytes_]:
    """Texts as a fixed-width byte array (UTF-8).

    Raises:
        InputError: a text of more than 255 bytes, one that holds a zero byte (it would be cut off) or is not Unicode.
    """
    encoded = [text_bytes(text, what) for text in texts]
    return np.array(encoded, dtype=f"S{max(map(len, encoded), default=1) or 1}")


def text_bytes(text: str, what: str = "id") -> bytes:
    """One text as UTF-8. Raises as ``text_array`` does."""
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        msg = f"the {what} {text[:40]!r} is not Unicode: {error.reason} at position {error.start}"
        raise InputError(msg) from error
    if len(raw) > MAX_ID or b"\0" in raw:
        msg = f"the {what} {text[:40]!r} has {len(raw)} bytes; required: at most {MAX_ID}, none of them zero"
        raise InputError(msg)
    return raw


def unsigned(values: NDArray[Any]) -> NDArray[Any]:
    """Counts in the smallest unsigned type that holds them all."""
    return values.astype(narrowest([values]))


def statistics(array: NDArray[Any], role: Role = "label") -> dict[str, Any]:
    """Statistics of a label: of texts how many there are, of numbers also mean, deviation, least and greatest.

    Sums are exact and then rounded once (``exact_sum``), so they are the same on every machine and however the column
    is cut into pieces.

    Args:
        array: the column. Vectors count by component. It is read in pieces: a mapped one takes no memory of its own.
        role: of the column.

    Returns:
        ``count`` and ``missing``; where there is a finite number, ``mean``, ``std``, ``min`` and ``max`` of those, the
        last two as integers where all values are.
    """
    if role != "label":
        absent = b"" if role == "text" else missing_code(array.dtype)
        missing = sum(int((piece == absent).sum()) for piece in bounded([array]))
        return {"count": array.size - missing, "missing": missing}
    whole = array.dtype.kind != "f"
    missing = 0 if whole else sum(int(np.isnan(piece).sum()) for piece in bounded([array]))
    out: dict[str, Any] = {"count": array.size - missing, "missing": missing}
    count, low, high = 0, math.inf, -math.inf
    for values in _finite(array):
        count += values.size
        low, high = min(low, values.min().item()), max(high, values.max().item())
    if count:
        low, high = (int(low), int(high)) if whole else (low + 0.0, high + 0.0)  # a zero has no sign
        # The squares of values beyond 1e150 are more than JSON can hold.
        scale = max(-low, high) if max(-low, high) > 1e150 else 1.0
        mean = exact_sum(values / scale for values in _finite(array)) / count
        squares = exact_sum((values / scale - mean) ** 2 for values in _finite(array))
        out |= {"mean": mean * scale, "std": math.sqrt(squares / count) * scale, "min": low, "max": high}
    return out


def _finite(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The finite values of a column of numbers, in pieces that are not empty."""
    for piece in bounded([array]):
        finite = np.isfinite(piece) if piece.dtype.kind == "f" else np.True_
        values = piece.reshape(-1) if finite.all() else piece[finite]
        if values.size:
            yield values


def _descr(dtype: np.dtype[Any]) -> Any:
    """What the manifest says of a type."""
    descr = np.lib.format.dtype_to_descr(dtype)
    return [list(part) for part in descr] if isinstance(descr, list) else descr


def _data_start(file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int | None:
    """Where the values of a ``.npy`` file begin, or None where its header is not that of this type and shape."""
    beginning = file.read(10)
    length = int.from_bytes(beginning[8:], "little")
    header = file.read(length)
    descr = np.lib.format.dtype_to_descr(dtype)
    expected = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    start = len(beginning) + len(header)
    if len(header) < length:
        return None
    if beginning[:8] != b"\x93NUMPY\1\0" or start % 64 or header.rstrip(b" \n") != expected or header[-1:] != b"\n":
        return None
    return start
