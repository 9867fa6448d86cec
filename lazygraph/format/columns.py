"""Columns: one ``.npy`` file each, memory-mapped, whose header must be the one that the manifest implies."""

from __future__ import annotations

import io
import mmap
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, InputError
from lazygraph.format.files import FileRef, named_after_content, sha256_of

__all__ = ["MAX_ID", "NO_SPLIT", "Column", "open_column", "text_array", "unsigned", "write_column"]

MAX_ID = 255  # bytes of an id, as UTF-8
NO_SPLIT = 255  # the code in the column ``split`` of a graph that is in no split


@dataclass(frozen=True, slots=True)
class Column:
    """One column as the manifest describes it.

    ``dtype`` is numpy's ``descr`` of the array's type, ``role`` says whether it is a label or part of the index,
    ``statistics`` and ``unit`` belong to labels, ``categories`` name the codes of the column ``split``.
    """

    file: FileRef
    dtype: Any
    shape: tuple[int, ...]
    role: Literal["index", "label"]
    unit: str | None = None
    statistics: dict[str, Any] | None = None
    categories: tuple[str, ...] | None = None


def write_column(
    directory: Path,
    name: str,
    array: NDArray[Any],
    *,
    role: Literal["index", "label"] = "index",
    unit: str | None = None,
    categories: Sequence[str] | None = None,
) -> Column:
    """Write one array below ``directory/columns`` and describe it."""
    array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    file = named_after_content(
        directory, f"columns/{name}", ".npy", _header(array.dtype, array.shape) + array.tobytes()
    )
    descr = np.lib.format.dtype_to_descr(array.dtype)
    return Column(
        file,
        [list(part) for part in descr] if isinstance(descr, list) else descr,
        array.shape,
        role,
        unit,
        statistics(array) if role == "label" else None,
        None if categories is None else tuple(categories),
    )


def open_column(directory: Path, column: Column) -> NDArray[Any]:
    """Map a column into memory, read-only, after its size, checksum and header were compared with the manifest.

    Costs one pass over the file (about 1 ms per MB); the pages are shared by all processes.

    Raises:
        FileNotFoundError: the file is gone.
        CorruptDataset: it is not the file that was written, or its header is not the one that the manifest implies.
    """
    path = column.file.check_size(directory)
    dtype = dtype_of(column)
    header = _header(dtype, column.shape)
    with path.open("rb") as file:
        if column.file.size != len(header) + dtype.itemsize * int(np.prod(column.shape, dtype=object)) or (
            file.read(len(header)) != header
        ):
            msg = f"{path} does not begin as a .npy file of {dtype} and shape {column.shape}, as the manifest says"
            raise CorruptDataset(msg)
        if (found := sha256_of(path)) != column.file.sha256:
            msg = f"{path} has the sha256 {found}; required: {column.file.sha256}, as the manifest says"
            raise CorruptDataset(msg)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, dtype, offset=len(header)).reshape(column.shape)


def dtype_of(column: Column) -> np.dtype[Any]:
    """The numpy type of a column; CorruptDataset for any that a column may not have."""
    descr = column.dtype
    try:
        dtype = np.dtype([(n, t) for n, t in descr] if isinstance(descr, list) else descr)
    except (TypeError, ValueError) as error:
        msg = f"the column {column.file.name} has the type {descr!r}, which is none"
        raise CorruptDataset(msg) from error
    kinds = {dtype[i].kind for i in range(len(dtype.names))} if dtype.names else {dtype.kind}
    if not kinds <= set("iufbS") or dtype.hasobject or dtype.itemsize == 0:
        msg = f"the column {column.file.name} has the type {dtype}; required: numbers, booleans or byte strings"
        raise CorruptDataset(msg)
    return dtype


def text_array(texts: Sequence[str], what: str = "id") -> NDArray[np.bytes_]:
    """Texts as a fixed-width byte array (UTF-8).

    Raises:
        InputError: a text of more than 255 bytes, or one that holds a zero byte (it would be cut off).
    """
    encoded = [text.encode() for text in texts]
    for position, raw in enumerate(encoded):
        if len(raw) > MAX_ID or b"\0" in raw:
            msg = f"the {what} {texts[position][:40]!r} has {len(raw)} bytes; required: at most {MAX_ID}, none of them zero"
            raise InputError(msg)
    return np.array(encoded, dtype=f"S{max(map(len, encoded), default=1) or 1}")


def unsigned(values: NDArray[Any]) -> NDArray[Any]:
    """Counts in the smallest unsigned type that holds them all."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def statistics(array: NDArray[Any]) -> dict[str, Any]:
    """Count, missing, mean, standard deviation, least and greatest value of a label, NaN left out (over all components)."""
    present = array[~np.isnan(array)]
    out: dict[str, Any] = {"count": int(present.size), "missing": int(array.size - present.size)}
    # fsum-like accuracy is not needed, but the result may not depend on how the column was cut: one pass, one order.
    finite = present[np.isfinite(present)]
    if finite.size:
        out |= {
            "mean": float(finite.mean()),
            "std": float(finite.std()),
            "min": float(finite.min()),
            "max": float(finite.max()),
        }
    return out


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The bytes with which numpy begins a version 1.0 ``.npy`` file of this type and shape in C order."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(shape)}
    )
    return buffer.getvalue()
