"""One array <-> the shortest buffer that gives back the same bits: narrow integers, decimals, pairs.

A buffer is component-major (all rows of component 0, then of component 1, ...): compressors find more in it. The code
byte says how values are stored; ``docs/format.md`` lists the codes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.coordinates import to_cartesian, to_fractional
from lazygraph.errors import CorruptDataset, LabelError
from lazygraph.format.schema import DTYPES, MAX_TEXT, Field

__all__ = ["LAYOUTS", "LOGICAL", "STORED", "decode", "encode", "encode_text", "is_widened", "rows_of"]

STORED: tuple[np.dtype[Any], ...] = tuple(
    np.dtype(t) for t in ("<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8")
)
CODES = {dtype: code for code, dtype in enumerate(STORED)}
# Little-endian, as on disk: on every common machine these are the native types themselves.
LOGICAL = {name: np.dtype(np.uint8 if name in ("bool", "str") else name).newbyteorder("<") for name in DTYPES}

# Which stored types may stand for which: none wider; integers for integers, of them signed ones for signed ones only
# (the encoder stores what is not negative unsigned), floats for floats.
_WIDENS = frozenset(
    (stored, name)
    for stored in STORED
    for name, logical in LOGICAL.items()
    if stored.itemsize <= logical.itemsize and stored.kind + logical.kind in ("ii", "ui", "uu", "ff")
)

DECIMAL = 1 << 4  # value = integer / 1e8
CARTESIAN = 2 << 4  # integer / 1e8 are Cartesian coordinates of values in a basis
HALF = 1 << 7  # only rows 0, 2, 4, ... are stored
SCALE = 1e8
MAX_EXACT = 2.0**53


class _Layout(NamedTuple):
    """What a code byte says."""

    stored: np.dtype[Any]
    itemsize: int
    transform: int
    half: int

    @property
    def cartesian(self) -> bool:
        """Whether it is of coordinates in their Cartesian form."""
        return self.transform == CARTESIAN


# By code; a code that is not here does not exist.
LAYOUTS = {
    kind | transform | half: _Layout(stored, stored.itemsize, transform, half)
    for kind, stored in enumerate(STORED)
    for transform in ((0, DECIMAL, CARTESIAN) if stored.kind in "iu" else (0,))
    for half in (0, HALF)
}


def is_widened(stored: np.dtype[Any], dtype: str) -> bool:
    """Whether values of a field of this type may be stored, untransformed, as that one."""
    return (stored, dtype) in _WIDENS


_UNSIGNED = [(np.dtype(f"<u{n}"), 256**n - 1) for n in (1, 2, 4)]
_SIGNED = [(np.dtype(f"<i{n}"), 256**n // 2 - 1) for n in (1, 2, 4)]


def rows_of(field: Field, value: NDArray[Any]) -> NDArray[Any]:
    """The array with its axis last: (..., rows), or the value itself where it has no axis."""
    return value if field.axis is None else _axis_last(value, field.axis_dim)


def encode(field: Field, value: Any, basis: NDArray[np.float64] | None = None) -> tuple[int, bytes]:
    """Code and buffer of one value of a field; ``decode`` gives the same bits back.

    Args:
        field: what the value is.
        value: text, or an array of the field's dtype in its full shape (axis at ``axis_dim``).
        basis: the (3, 3) array of the field's basis, if it has one.

    Raises:
        LabelError: a text longer than 65,536 bytes, or one that is not Unicode.
    """
    if field.dtype == "str":
        return 4, encode_text(field, value)
    array = rows_of(field, value)
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    flags = 0
    if field.pair is not None and _is_paired(field.pair, array):
        array = array[..., ::2]
        flags = HALF
    kind = array.dtype.kind
    if kind in "iu":
        array = _narrow(array)
    elif array.dtype.itemsize == 8:
        with np.errstate(all="ignore"):  # what overflows on the way is not shortened
            transform, array = _shorten(array, basis)
        flags |= transform
    stored = array.dtype.newbyteorder("<")
    return CODES[stored] | flags, array.astype(stored, copy=False).tobytes()


def decode(
    field: Field, code: int, buffer: bytes, rows: int, basis: NDArray[np.float64] | None = None
) -> NDArray[Any] | str:
    """The value that ``encode`` was given, bit for bit, in the field's dtype and full shape.

    Args:
        field: what the value is.
        code: its code byte.
        buffer: its bytes.
        rows: the count of its axis (1 where it has none).
        basis: the (3, 3) array of the field's basis, if it has one.

    Raises:
        CorruptDataset: the code does not exist, or does not fit the field or the length of the buffer.
    """
    if field.dtype == "str":
        return _decode_text(field, code, buffer)
    if (layout := LAYOUTS.get(code)) is None:
        msg = f"the field {field.name!r} has the unknown code {code}"
        raise CorruptDataset(msg)
    stored, itemsize, transform, half = layout
    if half and (field.pair is None or rows % 2):
        msg = f"the field {field.name!r} is stored by pairs, with {rows} rows and pair {field.pair!r}"
        raise CorruptDataset(msg)
    kept = rows // 2 if half else rows
    if len(buffer) != kept * field.components * itemsize:
        msg = f"the field {field.name!r} has {len(buffer)} bytes; required: {kept} x {field.components} of {stored}"
        raise CorruptDataset(msg)
    array = np.frombuffer(buffer, stored)
    if transform or stored != LOGICAL[field.dtype]:
        array = _widen(field, transform, array, basis)
    if half:
        array = _double(field.pair, array.reshape(*field.shape, kept))
    else:
        array = array.reshape(field.shape if field.axis is None else (*field.shape, rows))
    if field.dtype == "bool":
        array = _as_bool(field, buffer, array)
    return _axis_at(array, field.axis_dim) if field.axis is not None and field.shape else array


def _axis_last(array: NDArray[Any], dim: int) -> NDArray[Any]:
    # What np.moveaxis does, for the common cases without its cost (1.3 us, a third of decoding a field).
    if dim == array.ndim - 1:
        return array
    return array.T if array.ndim == 2 else np.moveaxis(array, dim, -1)


def _axis_at(array: NDArray[Any], dim: int) -> NDArray[Any]:
    if dim == array.ndim - 1:
        return array
    return array.T if array.ndim == 2 else np.moveaxis(array, -1, dim)


def encode_text(field: Field, value: str) -> bytes:
    """The buffer of a text; LabelError where it is longer than 65,536 bytes, or not Unicode."""
    try:
        text = value.encode()
    except UnicodeEncodeError as error:
        msg = f"the text of {field.name!r} is not Unicode: {error}"
        raise LabelError(msg) from error
    if len(text) > MAX_TEXT:
        msg = f"the text of {field.name!r} has {len(text)} bytes; required: at most {MAX_TEXT}"
        raise LabelError(msg)
    return text


def _decode_text(field: Field, code: int, buffer: bytes) -> str:
    if code != 4:
        msg = f"the text {field.name!r} has the code {code}; required: 4"
        raise CorruptDataset(msg)
    try:
        return buffer.decode()
    except UnicodeDecodeError as error:
        msg = f"the text {field.name!r} is not UTF-8: {error}"
        raise CorruptDataset(msg) from None


def _as_bool(field: Field, buffer: bytes, array: NDArray[Any]) -> NDArray[np.bool_]:
    if buffer.translate(None, b"\0\1"):
        msg = f"the field {field.name!r} of bool holds other bytes than 0 and 1"
        raise CorruptDataset(msg)
    return array.view(np.bool_)


def _widen(field: Field, transform: int, array: NDArray[Any], basis: NDArray[np.float64] | None) -> NDArray[Any]:
    """Stored values to those that they stand for, in the type of the field."""
    if not transform:
        if not is_widened(array.dtype, field.dtype):
            msg = f"the field {field.name!r} of {field.dtype} is stored as {array.dtype}"
            raise CorruptDataset(msg)
        return array.astype(LOGICAL[field.dtype])
    if field.dtype != "float64":
        msg = f"the field {field.name!r} of {field.dtype} is stored as decimals of {array.dtype}"
        raise CorruptDataset(msg)
    values: NDArray[np.float64] = array / SCALE
    if transform == DECIMAL:
        return values
    if basis is None:
        msg = f"the field {field.name!r} is stored in Cartesian form, but has no basis"
        raise CorruptDataset(msg)
    with np.errstate(all="ignore"):  # a stranger's basis may be singular: that is NaN, not a warning
        return to_fractional(values.reshape(3, -1).T, basis).T


def _double(pair: str | None, array: NDArray[Any]) -> NDArray[Any]:
    """Rows 0, 2, 4, ... to all rows."""
    out = np.empty((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    out[..., ::2] = array
    if pair == "swap":
        out[..., 1::2] = array[::-1]
    elif pair == "negate":
        np.negative(array, out=out[..., 1::2])
    else:
        out[..., 1::2] = array
    return out


def _is_paired(pair: str, array: NDArray[Any]) -> bool:
    """Whether every second row follows from the row before it, to the bit."""
    if array.shape[-1] % 2 or array.shape[-1] == 0:
        return False
    first, second = array[..., ::2], array[..., 1::2]
    if pair == "swap":
        first = first[::-1]
    elif pair == "negate":
        first = np.negative(first)
    if array.dtype.kind == "f":
        first, second = _bits(first), _bits(second)
    return bool((second == first).all())


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    """The bits of floats, so that -0.0 and NaN compare as what they are."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    """The same integers in the smallest type that holds them all; unsigned where none is negative."""
    if array.size == 0:
        return array.astype("<u1")
    low, high = int(array.min()), int(array.max())
    if low >= 0:
        for dtype, limit in _UNSIGNED:
            if high <= limit:
                return array.astype(dtype)
    else:
        for dtype, limit in _SIGNED:
            if -limit - 1 <= low and high <= limit:
                return array.astype(dtype)
    return array


def _shorten(array: NDArray[np.float64], basis: NDArray[np.float64] | None) -> tuple[int, NDArray[Any]]:
    """Float64 values as decimals, as Cartesian decimals or as float32, if that loses no bit; else as they are."""
    if (decimals := _decimals(array)) is not None:
        return DECIMAL, decimals
    if basis is not None and array.size:
        frac = array.reshape(3, -1).T
        cart = to_cartesian(frac, basis)
        scaled = np.rint(cart * SCALE)
        if np.abs(scaled).max() < MAX_EXACT:
            integers = scaled.astype(np.int64)  # -0.0 ends here, so what is compared starts from these
            if (_bits(to_fractional(integers / SCALE, basis)) == _bits(frac)).all():
                return CARTESIAN, _narrow(integers.T)
    single = array.astype(np.float32)
    if (_bits(single.astype(np.float64)) == _bits(array)).all():
        return 0, single
    return 0, array


def _decimals(array: NDArray[np.float64]) -> NDArray[Any] | None:
    """The integers q with ``q / 1e8`` equal to the values bit for bit, if there are such."""
    scaled = np.rint(array * SCALE)
    if not np.abs(scaled).max(initial=0.0) < MAX_EXACT:  # also false for NaN
        return None
    # -0.0 becomes the integer 0 and would come back as +0.0, hence bits.
    integers = scaled.astype(np.int64)
    if (_bits(integers / SCALE) != _bits(array)).any():
        return None
    return _narrow(integers)
