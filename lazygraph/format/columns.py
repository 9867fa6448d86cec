"""Columns: one ``.npy`` file each, memory-mapped, whose header must be the one that the manifest implies."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, InputError
from lazygraph.format.digests import Blocks, blocks_of_column, write_digests
from lazygraph.storage.base import Storage
from lazygraph.storage.descriptors import opening
from lazygraph.storage.files import FileRef, named_after_content, sha256_of
from lazygraph.storage.mapping import mapped

__all__ = [
    "MAX_CATEGORIES",
    "MAX_ID",
    "NO_SPLIT",
    "Column",
    "ColumnWriter",
    "Role",
    "attributes",
    "invalid_inputs",
    "invalid_values",
    "missing_code",
    "open_column",
    "text_array",
    "texts_of",
    "unsigned",
    "write_column",
]

MAX_ID = 255  # bytes of an id, and of any other text in a column, as UTF-8
NO_SPLIT = 255  # the code in a column of splits of a graph that is in none of them
MAX_CATEGORIES = 2**16 - 1  # of one column: the code that is left means that there is no text
Role: TypeAlias = Literal["index", "label", "category", "text", "split"]

_DESCR = re.compile("[<|][iufbS][1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class Column:
    """One column as the manifest describes it.

    ``dtype`` is numpy's ``descr`` of the array's type. ``role`` tells numbers (``label``), codes of texts
    (``category``), texts (``text``), codes of splits (``split``) and what belongs to the index. ``unit`` belongs to
    numbers, ``statistics`` to all labels, and ``categories`` are the texts that codes stand for. ``rule`` is the one by
    which all graphs were split. ``per`` says what a number is given per (``cell``, ``atom``), ``description`` is one
    line on a label, and no graph lacks a label that is ``required``.
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


class ColumnWriter:
    """Writes the columns of a dataset, and the file of digests that their blocks are checked with.

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
        self.columns[name] = write_column(self._directory, name, array, **description)
        self._blocks[name] = blocks_of_column(_little(array))

    def digests(self, graphs: Blocks) -> FileRef:
        """Write the file of digests: those of the graphs' blocks, and of all columns."""
        return write_digests(self._directory, graphs, self._blocks)


def write_column(
    directory: Path,
    name: str,
    array: NDArray[Any],
    *,
    role: Role = "index",
    unit: str | None = None,
    categories: Sequence[str] | None = None,
    rule: dict[str, Any] | None = None,
    per: str | None = None,
    description: str | None = None,
    required: bool = False,
) -> Column:
    """Write one array below ``directory/columns``, compute its statistics, and describe it."""
    array = _little(array)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, (1, 0), allow_pickle=False)
    # The name of the file is for people; the manifest holds that of the column.
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:100]
    file = named_after_content(directory, f"columns/{stem}", ".npy", buffer.getvalue())
    return Column(
        file,
        _descr(array.dtype),
        array.shape,
        role,
        unit,
        None if role in ("index", "split") else statistics(array, role),
        None if categories is None else tuple(categories),
        rule,
        per,
        description,
        required,
    )


def _little(array: NDArray[Any]) -> NDArray[Any]:
    """The array as its file holds it."""
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))


def attributes(column: Column) -> dict[str, Any]:
    """What ``write_column`` must be told to describe other rows of the same column."""
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
        check: compare its sha256 too, which takes one pass over the file (about 1 ms per MB). Who does not must check
            the blocks that are used (``CheckedColumn``).

    Raises:
        FileNotFoundError: the file is gone.
        CorruptDataset: it is not the file that was written, or its header is not the one that the manifest implies.
    """
    path = storage.path(column.file)
    dtype = dtype_of(column)
    with opening(path, lambda: path.open("rb")) as file:
        start = _data_start(file, dtype, column.shape)
        if start is None or column.file.size != start + dtype.itemsize * math.prod(column.shape):
            msg = f"{path} is not a .npy file of {dtype} and shape {column.shape}, as the manifest says"
            raise CorruptDataset(msg)
        if check and (found := sha256_of(path)) != column.file.sha256:
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
    """What a column holds that it may not, though its file is as it was written; None where all is well.

    Args:
        column: as the manifest describes it.
        array: its values.
    """
    if array.dtype.kind == "S":
        try:
            b"\n".join(array.tolist()).decode()
        except UnicodeDecodeError as error:
            return f"is not UTF-8: {error}"
    if column.categories is not None:
        nameless = (array >= len(column.categories)) & (array != missing_code(array.dtype))
        if nameless.any():
            return f"has a code without a name: it names {len(column.categories)}"
    if array.dtype.kind == "b" and (array.view(np.uint8) > 1).any():
        return "has a truth value that is neither 0 nor 1"
    return None


def invalid_inputs(array: NDArray[Any], inputs: int) -> str | None:
    """What the column ``input`` holds that it may not; None where all is well.

    Args:
        array: (N,) its values, unsigned.
        inputs: the number of inputs of the dataset, which stands for an input that is not known.
    """
    ordered = np.sort(array[array != inputs])
    if len(ordered) and int(ordered[-1]) > inputs:
        return f"names the input {ordered[-1]}; required: 0 to {inputs - 1}, or {inputs} where it is not known"
    if (same := ordered[1:] == ordered[:-1]).any():
        return f"names the input {ordered[int(np.argmax(same))]} twice; required: one row an input"
    return None


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
    try:
        encoded = [text.encode() for text in texts]
    except UnicodeEncodeError as error:
        msg = f"the {what} {error.object[:40]!r} is not Unicode: {error.reason} at position {error.start}"
        raise InputError(msg) from error
    for text, raw in zip(texts, encoded, strict=True):
        if len(raw) > MAX_ID or b"\0" in raw:
            msg = f"the {what} {text[:40]!r} has {len(raw)} bytes; required: at most {MAX_ID}, none of them zero"
            raise InputError(msg)
    return np.array(encoded, dtype=f"S{max(map(len, encoded), default=1) or 1}")


def unsigned(values: NDArray[Any]) -> NDArray[Any]:
    """Counts in the smallest unsigned type that holds them all."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def statistics(array: NDArray[Any], role: Role = "label") -> dict[str, Any]:
    """Statistics of a label: of texts how many there are, of numbers also mean, deviation, least and greatest.

    Args:
        array: the column. Vectors count by component.
        role: of the column.

    Returns:
        ``count`` and ``missing``; where there is a finite number, ``mean``, ``std``, ``min`` and ``max`` of those, the
        last two as integers where all values are.
    """
    if role != "label":
        missing = array == (b"" if role == "text" else missing_code(array.dtype))
        return {"count": int(array.size - missing.sum()), "missing": int(missing.sum())}
    whole = array.dtype.kind != "f"
    present = array if whole else array[~np.isnan(array)]
    out: dict[str, Any] = {"count": int(present.size), "missing": int(array.size - present.size)}
    finite = present if whole else present[np.isfinite(present)]
    if finite.size:
        low, high = finite.min().item(), finite.max().item()
        low, high = (int(low), int(high)) if whole else (low, high)
        # The squares of values beyond 1e150 are more than JSON can hold.
        scale = max(-low, high) if max(-low, high) > 1e150 else 1.0
        scaled = finite / scale
        out |= {"mean": float(scaled.mean()) * scale, "std": float(scaled.std()) * scale, "min": low, "max": high}
    return out


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
