"""One graph <-> bytes: one msgpack array of counts, codes and field buffers, independent of its position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgpack
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, InputError
from lazygraph.format.codec import MAX_RECORD
from lazygraph.format.encoding import decode, encode
from lazygraph.format.schema import MAX_HOLLOW, MAX_VALUES, Field, Schema

__all__ = ["Record", "check_counts", "checked_record", "pack", "unpack"]

MAX_COUNT = 2**31 - 1


class Record(NamedTuple):
    """One decompressed record, its buffers still encoded."""

    schema: Schema
    counts: tuple[int, ...]
    codes: bytes
    buffers: Sequence[bytes]

    def rows(self, field: Field) -> int:
        """The rows of a field in this record."""
        return 1 if field.axis is None else self.counts[self.schema.axes.index(field.axis)]

    def arrays(self) -> dict[str, NDArray[Any] | str]:
        """Every field by name, decoded, in its dtype and full shape. Arrays may be read-only views."""
        out: dict[str, NDArray[Any] | str] = {}
        rows = dict(zip(self.schema.axes, self.counts, strict=True))
        for field, code, buffer in zip(self.schema.fields, self.codes, self.buffers, strict=True):
            basis: Any = None if field.basis is None else out[field.basis]
            out[field.name] = decode(field, code, buffer, 1 if field.axis is None else rows[field.axis], basis)
        return out

    def invalid_indices(self, arrays: Mapping[str, Any]) -> list[str]:
        """A sentence for every field of indices that point beyond what they count.

        Args:
            arrays: the decoded fields, as :meth:`arrays` returns them.
        """
        rows = dict(zip(self.schema.axes, self.counts, strict=True))
        out = []
        for field in self.schema.fields:
            value = arrays[field.name]
            if field.counts is not None and not isinstance(value, str) and value.size:
                low, high = int(value.min()), int(value.max())
                if low < 0 or high >= rows[field.counts]:
                    out.append(f"{field.name} holds {low} to {high}; required: 0 to {rows[field.counts] - 1}")
        return out


def pack(
    schema: Schema, values: Mapping[str, Any], rows_of: Mapping[str, int] = MappingProxyType({})
) -> tuple[bytes, tuple[int, ...]]:
    """The decompressed form of one record, and its axis counts.

    Args:
        schema: what the record holds.
        values: field name -> array in the field's dtype and full shape, or text.
        rows_of: axis -> its rows, where no field grows with it; 0 unless said.

    Raises:
        InputError: two fields disagree about the length of their axis, the record is larger than 1 GiB or has more than
            2^27 values, or rows that no bytes stand for are more than 65,536.
    """
    counts = _axis_counts(schema, values, rows_of)
    codes = bytearray()
    buffers = []
    for field in schema.fields:
        code, buffer = encode(field, values[field.name], None if field.basis is None else values[field.basis])
        codes.append(code)
        buffers.append(buffer)
    raw: bytes = msgpack.packb([*counts, bytes(codes), *buffers])
    return checked_record(schema, raw, counts), counts


def _axis_counts(schema: Schema, values: Mapping[str, Any], rows_of: Mapping[str, int]) -> tuple[int, ...]:
    """The rows along each axis. Arguments and errors are those of ``pack``."""
    counts: dict[str, int] = {}
    for field in schema.fields:
        if field.axis is not None:
            rows = values[field.name].shape[field.axis_dim]
            before = counts.setdefault(field.axis, rows)
            if before != rows:
                msg = f"{field.name!r} has {rows} rows along the axis {field.axis!r}, a field before it {before}"
                raise InputError(msg)
    return tuple([counts.get(axis, rows_of.get(axis, 0)) for axis in schema.axes])


def checked_record(schema: Schema, raw: bytes, counts: tuple[int, ...]) -> bytes:
    """The record, if it is not too large. Errors are those of ``pack``."""
    if len(raw) > MAX_RECORD or max(counts, default=0) > MAX_COUNT:
        msg = f"the graph takes {len(raw)} bytes with the counts {counts}; required: at most {MAX_RECORD} bytes"
        raise InputError(msg)
    if problem := _too_many(schema, counts):
        raise InputError(problem)
    return raw


def unpack(schema: Schema, raw: bytes) -> Record:
    """Read the decompressed form of one record; its fields are decoded on demand.

    Raises:
        CorruptDataset: it is not a record of this schema.
    """
    n_axes, n_fields = len(schema.axes), len(schema.fields)
    try:
        # The defaults of msgpack's limits are the length of the input; extension types would come as ExtType objects.
        parts = msgpack.unpackb(raw, max_ext_len=0, max_map_len=0, max_array_len=n_axes + n_fields + 1)
    except Exception as error:  # msgpack raises ValueError, its own classes and UnicodeDecodeError
        msg = f"the record is not msgpack: {type(error).__name__}: {error}"
        raise CorruptDataset(msg) from error
    if type(parts) is not list or len(parts) != n_axes + n_fields + 1:
        msg = f"the record is not an array of {n_axes + n_fields + 1} elements"
        raise CorruptDataset(msg)
    numbers, codes, buffers = parts[:n_axes], parts[n_axes], parts[n_axes + 1 :]
    if (
        any(type(n) is not int or n < 0 for n in numbers)
        or max(numbers, default=0) > MAX_COUNT
        or type(codes) is not bytes
        or len(codes) != n_fields
        or any(type(b) is not bytes for b in buffers)
    ):
        msg = "the record does not hold counts, codes and one byte string a field"
        raise CorruptDataset(msg)
    if problem := _too_many(schema, numbers):
        raise CorruptDataset(problem)
    return Record(schema, tuple(numbers), codes, buffers)


def check_counts(record: Record, said: Sequence[int]) -> None:
    """Compare the axis counts of a record with the counts in the columns of its dataset.

    Raises:
        CorruptDataset: they differ.
    """
    for axis, count, expected in zip(record.schema.axes, record.counts, said, strict=True):
        if count != expected:
            msg = f"{count} rows along {axis!r}; the column n_{axis} says {expected}"
            raise CorruptDataset(msg)


def _too_many(schema: Schema, counts: Sequence[int]) -> str | None:
    """Return a sentence about counts that few or no bytes back: reading them would take memory."""
    if (values := schema.values(counts)) > MAX_VALUES:
        return f"{values} values; required: at most {MAX_VALUES}"
    for place in schema.hollow:
        if counts[place] > MAX_HOLLOW:
            return (
                f"{counts[place]} rows of nothing along the axis {schema.axes[place]!r}; required: at most {MAX_HOLLOW}"
            )
    return None
