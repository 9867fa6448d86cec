"""The fields that datasets share, and records with no others: per-atom labels that only some of them have go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lazygraph.errors import InputError
from lazygraph.format.record import pack, unpack
from lazygraph.format.schema import DTYPES, Field, Schema

__all__ = ["common_schema", "with_fields"]


def common_schema(schemas: Sequence[tuple[str, Schema]]) -> tuple[Schema, tuple[str, ...]]:
    """The fields that all records have with one meaning, in the order of the first.

    Fields are common if they have the same name, axis, shape and unit, and their values count and follow from the same
    things. Where all types are floats, the field gets the widest, which holds the values of the others exactly.

    Args:
        schemas: name of a dataset, and what its records hold; one at least.

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
    """A decompressed record with no other fields than those of ``new``, whose values are those that it had.

    Raises:
        CorruptDataset: it is no record of the old schema.
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
    """What a field needs that is not kept; empty where nothing is missing."""
    if lost := {field.axis, field.counts} - {None, *axes}:
        return f"not all datasets have the axis {min(map(str, lost))!r}"
    return "" if field.basis in {None, *kept} else f"its basis {field.basis!r} is left out"


def _told(found: Sequence[tuple[str, Field | None]], what: str) -> str:
    """What the datasets say, one after another."""
    return ", ".join(f"{getattr(field, what)} in {dataset}" for dataset, field in found)
