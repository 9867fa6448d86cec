"""The fields that several datasets share, and records that are reduced to these fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lazygraph.errors import InputError
from lazygraph.format.record import pack, unpack
from lazygraph.format.schema import DTYPES, Field, Schema

__all__ = ["common_schema", "with_fields"]


def common_schema(schemas: Sequence[tuple[str, Schema]]) -> tuple[Schema, tuple[str, ...]]:
    """Find the fields that have the same meaning in all datasets, in the order of the first dataset.

    A field is common if its name, axis, shape and unit are the same in all datasets, and if its values are indices of
    the same things. If all types are floats, the field gets the widest type, which holds all values exactly.

    Args:
        schemas: the name of each dataset and the schema of its records; at least one.

    Returns:
        The schema, and a sentence for each field that is left out or gets another type.

    Raises:
        InputError: no field is common.
    """
    axes = tuple(axis for axis in schemas[0][1].axes if all(axis in schema.axes for _, schema in schemas))
    kept: dict[str, Field] = {}
    notes = []
    for name in dict.fromkeys(field.name for _, schema in schemas for field in schema.fields):
        found = [(dataset, next((f for f in schema.fields if f.name == name), None)) for dataset, schema in schemas]
        field, reason = _common(found)
        if field is not None:
            reason = _needs(field, axes, kept)
        if field is None or reason:
            notes.append(f"the field {name!r} is left out, because {reason}")
            continue
        kept[name] = field
        if narrow := [
            f"{one.dtype} in {dataset}" for dataset, one in found if one is not None and one.dtype != field.dtype
        ]:
            notes.append(f"the field {name!r} is {', '.join(narrow)} and is stored as {field.dtype}")
    if not kept:
        names = ", ".join(name for name, _ in schemas)
        msg = f"{names} have no field in common, so there is nothing to keep of their graphs: {'; '.join(notes)}"
        raise InputError(msg)
    return Schema(axes, tuple(kept.values())), tuple(notes)


def with_fields(raw: bytes, old: Schema, new: Schema) -> bytes:
    """Reduce a decompressed record to the fields of ``new``. The values stay the same.

    Raises:
        CorruptDataset: the record does not have the old schema.
    """
    record = unpack(old, raw)
    arrays: Mapping[str, Any] = record.arrays()
    values = {
        field.name: arrays[field.name] if field.dtype == "str" else arrays[field.name].astype(field.dtype, copy=False)
        for field in new.fields
    }
    return pack(new, values, dict(zip(old.axes, record.counts, strict=True)))[0]


def _common(found: Sequence[tuple[str, Field | None]]) -> tuple[Field | None, str]:
    """Return the field that all datasets share under one name; or None and the reason why they share none."""
    if lacking := [dataset for dataset, field in found if field is None]:
        return None, f"{', '.join(lacking)} {'lacks' if len(lacking) == 1 else 'lack'} it"
    fields = [field for _, field in found if field is not None]
    for what in ("axis", "axis_dim", "shape", "unit", "counts", "pair", "basis"):
        if any(getattr(field, what) != getattr(fields[0], what) for field in fields):
            return None, f"its {what} differs: {_told(found, what)}"
    types = {field.dtype for field in fields}
    if len(types) > 1 and not all(name.startswith("float") for name in types):
        return None, f"its types differ, and not all of them are floats: {_told(found, 'dtype')}"
    return replace(fields[0], dtype=max(types, key=DTYPES.__getitem__)), ""


def _needs(field: Field, axes: Sequence[str], kept: Mapping[str, Field]) -> str:
    """Tell which other field a field needs that is not kept; empty if nothing is missing."""
    if lost := {field.axis, field.counts} - {None, *axes}:
        return f"not all datasets have the axis {min(map(str, lost))!r}"
    return "" if field.basis in {None, *kept} else f"its basis {field.basis!r} is left out"


def _told(found: Sequence[tuple[str, Field | None]], what: str) -> str:
    """What the datasets say, one after another."""
    return ", ".join(f"{getattr(field, what)} in {dataset}" for dataset, field in found)
