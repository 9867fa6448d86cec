"""The columns of several datasets as one: labels are matched by name, and their units are converted or refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy import char
from numpy.typing import NDArray

from lazygraph.errors import InputError, LabelError
from lazygraph.format.columns import Column
from lazygraph.format.schema import Field
from lazygraph.reading.operands import Categories, Elements
from lazygraph.reading.table import Columns, UnknownColumn
from lazygraph.reading.unit_conversion import conversion_factor, reason_against
from lazygraph.registry import unknown_name

__all__ = ["DATASET", "JoinedColumns", "JoinedLabel", "Member", "join_labels"]

DATASET = "dataset"  # the column that names the member that a graph is of


class Member(NamedTuple):
    """One of the datasets."""

    name: str
    columns: Columns
    described: Mapping[str, Column]
    """The columns as the manifest describes them."""
    graphs: int
    """The number of rows."""


@dataclass(frozen=True, slots=True)
class JoinedLabel:
    """A label that several datasets have under one name.

    Attributes:
        name: of the label.
        unit: the unit of the joined values, which is the unit of the first dataset that has the label.
        shape: the shape of the label of one graph, or of one atom.
        factors: for each dataset, by what its values are multiplied; None for a dataset without the label.
    """

    name: str
    unit: str | None
    shape: tuple[int, ...]
    factors: tuple[float | None, ...]


def join_labels(name: str, found: Mapping[str, Column | Field | None]) -> JoinedLabel:
    """Match the labels of one name.

    Args:
        name: the name.
        found: dataset -> the label as its manifest describes it; None for a dataset without it.

    Raises:
        LabelError: they cannot be joined: their units cannot be converted, or they have different shapes, or one of
            them is a text, or one is given per atom and another per cell.
    """
    there = {member: label for member, label in found.items() if label is not None}
    first, wanted = next(iter(there.items()))
    factors: list[float | None] = []
    for member, label in found.items():
        if label is None:
            factors.append(None)
            continue
        for what, of in (("shape", _shape), ("kind", _kind), ("per", _per)):
            mine, theirs = of(wanted), of(label)
            if mine != theirs and (what != "per" or None not in (mine, theirs)):
                msg = (
                    f"the label {name!r} has {_said(what, mine)} in {first!r} and {_said(what, theirs)} in {member!r}; "
                    "rename one of the labels, or leave one of the members out"
                )
                raise LabelError(msg)
        factors.append(_factor(name, (first, wanted.unit), (member, label.unit)))
    return JoinedLabel(name, wanted.unit, _shape(wanted), tuple(factors))


def _factor(name: str, first: tuple[str, str | None], other: tuple[str, str | None]) -> float:
    (member, wanted), (theirs, unit) = first, other
    if unit == wanted:
        return 1.0
    found = f"the label {name!r} is {_in_unit(wanted)} in {member!r} and {_in_unit(unit)} in {theirs!r}"
    if unit is None or wanted is None:
        known = wanted or unit
        msg = f"{found}; give it its unit, such as: lazygraph labels PATH --unit {name}={known}"
        raise LabelError(msg)
    factor = conversion_factor(unit, wanted)
    if factor is None:
        msg = f"{found}, and {reason_against(unit, wanted)}; use units that can be converted"
        raise LabelError(msg)
    return factor


def _in_unit(unit: str | None) -> str:
    return "without a unit" if unit is None else f"in {unit}"


def _shape(label: Column | Field) -> tuple[int, ...]:
    """The shape of the label of one graph, or of one atom."""
    return label.shape[1:] if isinstance(label, Column) else label.shape


def _kind(label: Column | Field) -> str:
    return "texts" if isinstance(label, Column) and label.role in ("category", "text", "split") else "numbers"


def _per(label: Column | Field) -> str | None:
    return label.per if isinstance(label, Column) else "atom"


def _said(what: str, value: Any) -> str:
    return {"shape": f"the shape {value}", "kind": str(value), "per": f"values per {value}"}[what]


class JoinedColumns(Mapping[str, NDArray[Any]]):
    """A mapping from column names to arrays with one row per graph of several datasets, one dataset after the other.

    Labels and splits are there if one of the datasets has them. Missing numbers are NaN, and missing texts are empty.
    Numbers are in the unit of the first dataset that has the label. Sizes, ``id`` and ``formula`` are there if all of
    the datasets have them. The column ``dataset`` names the dataset of each graph.

    Args:
        members: the datasets.
        rows: (n,) the rows of these columns, among those of all datasets; None for all.
    """

    def __init__(self, members: Sequence[Member], rows: NDArray[np.int64] | None = None) -> None:
        self._members, self._rows = members, rows

    def __getitem__(self, name: str) -> NDArray[Any]:
        array = self.raw(name)
        return char.decode(array, "utf-8") if array.dtype.kind == "S" else array

    def raw(self, name: str) -> NDArray[Any]:
        """Return the column ``name`` with texts as bytes.

        Raises:
            UnknownColumn: no dataset has the column, or not all of them have it and cannot lack it.
            LabelError: the labels of this name cannot be joined.
        """
        if name == DATASET:
            return self._dataset().texts()
        self._check_known(name)
        factors = self._label(name).factors
        if any(column is not None and _kind(column) == "texts" for column in self._described(name).values()):
            return self._chosen([self._texts(member, name) for member in self._members])
        parts = []
        for member, factor in zip(self._members, factors, strict=True):
            if factor is None:
                shape = self._label(name).shape
                parts.append(np.full((member.graphs, *shape), np.nan))
            else:
                values = member.columns.raw(name)
                parts.append(values if factor == 1 else values * factor)
        return self._chosen(parts)

    def operand(self, name: str) -> Any:
        """Return what a condition compares, as ``Columns.operand`` does for one dataset.

        Raises:
            UnknownColumn, LabelError: as ``raw`` does.
        """
        if name == DATASET:
            return self._dataset()
        names = self._names()
        if name == "elements" and name not in names and "formula" in names:
            return Elements(self.raw("formula"))
        self._check_known(name)
        described = [column for column in self._described(name).values() if column is not None]
        if not described or any(column.categories is None for column in described):
            return self.raw(name)
        self._label(name)
        known = tuple(dict.fromkeys(text.encode() for column in described for text in column.categories or ()))
        codes = []
        for member in self._members:
            if name not in member.columns:
                codes.append(np.full(member.graphs, len(known), np.int64))
                continue
            own: Categories = member.columns.operand(name)
            of_own = np.array([*map(known.index, own.names), len(known)], np.int64)
            codes.append(of_own[np.minimum(own.codes, len(own.names))])
        return Categories(name, self._chosen(codes), known)

    def label(self, name: str) -> JoinedLabel:
        """Return how the labels of a name are joined.

        Raises:
            UnknownColumn, LabelError: as ``raw`` does.
        """
        self._check_known(name)
        return self._label(name)

    def _label(self, name: str) -> JoinedLabel:
        found = self._described(name)
        if not any(found.values()):  # a column that the manifest does not describe, such as n_elements
            return JoinedLabel(name, None, (), (1.0,) * len(self._members))
        return join_labels(name, found)

    def _described(self, name: str) -> dict[str, Column | None]:
        """The column of each dataset; None for a dataset without it, and for columns that follow from others."""
        return {m.name: m.described.get(name) if name in m.columns else None for m in self._members}

    def _texts(self, member: Member, name: str) -> NDArray[Any]:
        if name in member.columns:
            return member.columns.raw(name)
        return np.zeros(member.graphs, "S1")

    def _dataset(self) -> Categories:
        if holders := [member.name for member in self._members if DATASET in member.columns]:
            msg = (
                f"the column {DATASET!r} would be the names of the members of the mix, and {holders[0]!r} has a column "
                "of this name; read it as mix.members[...].columns, or write the dataset with another name of the label"
            )
            raise InputError(msg)
        sizes = [member.graphs for member in self._members]
        names = tuple(member.name.encode() for member in self._members)
        return Categories(DATASET, self._chosen([np.repeat(np.arange(len(sizes)), sizes)]), names)

    def _chosen(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return joined if self._rows is None else joined[self._rows]

    def _check_known(self, name: str) -> None:
        if name in (names := self._names()):
            return
        having = [member.name for member in self._members if name in member.columns]
        hint = f"; of the members of the mix only {', '.join(map(repr, having))} have it" if having else ""
        raise UnknownColumn(unknown_name("column", name, names) + hint)

    def _names(self) -> list[str]:
        every = dict.fromkeys(name for member in self._members for name in member.columns)
        may_lack = {
            name
            for member in self._members
            for name, column in member.described.items()
            if column.role in ("label", "category", "text", "split")
        }
        everywhere = set.intersection(*(set(member.columns) for member in self._members))
        return [DATASET, *(name for name in every if name != DATASET and name in may_lack | everywhere)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        return f"Columns({', '.join(self)})"
