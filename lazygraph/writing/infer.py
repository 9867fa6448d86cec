"""Inference of the schema of ready-made graphs: which arrays grow with nodes, edges or other rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError
from lazygraph.format.schema import MAX_HOLLOW, Field, Schema
from lazygraph.registry import unknown_name
from lazygraph.writing.ready_made import Joining, ReadyMade, is_index, is_of_nodes

__all__ = ["SchemaGuess"]

OWN = "own"  # an axis that no other field has


class RowsOf(NamedTuple):
    """An index counts the rows of another field."""

    name: str


Counted = str | RowsOf | None
"""What an index counts: ``node``, ``edge``, the rows of a field, or nothing."""


@dataclass(frozen=True, slots=True)
class _Guess:
    """What one field may be: type, shape (None where it may grow), and the possible axes and counts, best first."""

    dtype: str
    shape: tuple[int | None, ...]
    axes: tuple[str | None, ...]
    """The axes that the field may grow with."""
    counts: tuple[Counted, ...] = (None,)
    """What its values may be indices of."""

    def field(self, name: str, axis: str | None, unit: str | None, counts: str | None) -> Field:
        """Return the field of the schema, if it grows with this axis, or has one row per graph (None)."""
        pair: Any = "swap" if name == "edge_index" and len(self.shape) == 2 and self.shape[0] == 2 else None
        if axis is None:
            return Field(name, self.dtype, tuple(1 if n is None else n for n in self.shape), unit=unit, counts=counts)
        rest = tuple(n for n in self.shape if n is not None)
        return Field(name, self.dtype, rest, axis, self.shape.index(None), unit, counts, pair)

    def told(self) -> str:
        """Return the guess in words, for errors."""
        sizes = {"node": "nodes", "edge": "edges", None: "1", OWN: "n"}
        grows = " or ".join(sizes[axis] for axis in self.axes)
        return f"{self.dtype} ({', '.join(grows if n is None else str(n) for n in self.shape)})"


class SchemaGuess:
    """The schema that every graph narrows until it is settled. Later graphs must agree with it.

    One graph is not enough. In a ring there are as many edges as nodes, and six numbers of a crystal with six atoms may
    be one per atom, or the components of its stress. A field that grows with neither nodes nor edges has an axis of its
    own. What an index counts follows from its name, from ``counts``, or from the class of the graph. The class gives
    only a number, so again several graphs show whether it is the number of nodes, of edges, or of rows of a field.

    Args:
        counts: field -> ``"node"`` or ``"edge"``, which its values are indices of; such a field has the shape (k, M).
        units: name -> unit.
    """

    def __init__(self, counts: Mapping[str, str], units: Mapping[str, str]) -> None:
        self._counts, self._units = dict(counts), dict(units)
        self._guesses: dict[str, _Guess] = {}
        self._most_nodes = 0

    def narrow(self, graph: ReadyMade) -> None:
        """Take one more graph into account. A graph that is refused changes nothing.

        Raises:
            InputError: the graph has other fields, types or shapes than the graphs before, a field that cannot be
                stored, or indices of nodes, edges or rows that it does not have.
        """
        arrays = graph.arrays
        _check_edges(arrays.get("edge_index"))
        found = {name: self._guess(name, graph) for name in arrays}
        before = self._guesses or found
        if stray := sorted(self._counts.keys() - found.keys()):
            raise InputError(unknown_name("field of counts", stray[0], found))
        if found.keys() != before.keys():
            extra, missing = sorted(found.keys() - before.keys()), sorted(before.keys() - found.keys())
            msg = f"its fields differ from the fields of the first graph: {extra} too many, {missing} missing"
            raise InputError(msg)
        narrowed = {}
        for name, guess in before.items():
            other = found[name]
            axes = tuple(axis for axis in guess.axes if axis in other.axes)
            if (guess.dtype, guess.shape) != (other.dtype, other.shape) or not axes:
                msg = f"{_described(name, arrays[name])}; required: {guess.told()}, as in the graphs before"
                raise InputError(msg)
            counts = tuple(counted for counted in guess.counts if counted in other.counts)
            if not counts:
                step = graph.joining[name].step if name in graph.joining else _rows(other.counts[0], graph)
                msg = f"its class {graph.kind} raises {name!r} by {step}, which differs from the graphs before"
                raise InputError(msg)
            narrowed[name] = replace(guess, axes=axes, counts=counts)
        most = max(self._most_nodes, graph.n_nodes)
        if most > MAX_HOLLOW and not any(guess.axes[0] == "node" for guess in narrowed.values()):
            msg = (
                f"a graph has {most} nodes, but no array of them; add such an array, or write graphs of at most "
                f"{MAX_HOLLOW} nodes"
            )
            raise InputError(msg)
        if not self._guesses:
            self._schema(narrowed)
        for name, guess in narrowed.items():
            _check_within(name, guess, graph)
        self._guesses, self._most_nodes = narrowed, most

    def settle(self, taken: frozenset[str]) -> Schema:
        """Fix the schema, and return it.

        Args:
            taken: names of columns. The count of an axis (``n_AXIS``) gets none of these names.

        Raises:
            InputError: there are too many axes.
        """
        schema = self._schema(self._guesses, taken)
        axis_of = {field.name: field.axis for field in schema.fields}
        self._guesses = {
            name: replace(guess, axes=guess.axes[:1], counts=(_first(name, guess.counts, axis_of),))
            for name, guess in self._guesses.items()
        }
        return schema

    def _schema(self, guesses: Mapping[str, _Guess], taken: frozenset[str] = frozenset()) -> Schema:
        """Return the schema of the best guesses."""
        axes = ["node", "edge"] if "edge_index" in guesses else ["node"]
        axis_of: dict[str, str | None] = {}
        for name, guess in guesses.items():
            axis = guess.axes[0]
            if axis == OWN:
                axis = _identifier(name)
                while axis in axes or f"n_{axis}" in taken:
                    axis += "_"
                axes.append(axis)
            axis_of[name] = axis
        fields = []
        for name, guess in guesses.items():
            counted = _first(name, guess.counts, axis_of)
            counts = axis_of[counted.name] if isinstance(counted, RowsOf) else counted
            fields.append(guess.field(name, axis_of[name], self._units.get(name), counts))
        return Schema(tuple(axes), tuple(fields))

    def _guess(self, name: str, graph: ReadyMade) -> _Guess:
        value = graph.arrays[name]
        if isinstance(value, str):
            return _Guess("str", (), (None,))
        joining = graph.joining.get(name)
        counts = self._counted(name, value, joining, graph)
        if value.ndim == 0:
            return _Guess(value.dtype.name, (), (None,), counts)
        by_index = is_index(name) or name in self._counts
        dim = joining.dim if joining is not None else value.ndim - 1 if by_index else 0
        rows = value.shape[dim]
        shape = (*value.shape[:dim], None, *value.shape[dim + 1 :])
        if name in graph.numbers:
            return _Guess(value.dtype.name, shape, (None,), counts)
        if name == "edge_index":
            return _Guess(value.dtype.name, shape, ("edge",), counts)
        axes: list[str | None] = [OWN]
        if rows == _n_edges(graph):
            axes.insert(0, "edge")
        if rows == graph.n_nodes and not by_index:
            # As in PyG, the name decides if there are as many edges as nodes.
            axes.insert(1 if "edge" in name and rows == _n_edges(graph) else 0, "node")
        if rows == 1 and not by_index and dim == 0:
            one_a_node = is_of_nodes(name) or name.startswith("edge")
            axes.insert(len(axes) - 1 if one_a_node else 0, None)
        return _Guess(value.dtype.name, shape, tuple(axes), counts)

    def _counted(
        self, name: str, value: NDArray[Any], joining: Joining | None, graph: ReadyMade
    ) -> tuple[Counted, ...]:
        """Return what the values of a field may be indices of.

        Raises:
            InputError: the class of the graph raises it by a number that no rows of the graph explain.
        """
        if name in self._counts:
            return (self._counts[name],)
        integers = value.dtype.kind in "iu"
        if joining is None:
            return ("node",) if is_index(name) and integers else (None,)
        others = [RowsOf(other) for other in graph.arrays if other != name]
        possible: list[Counted] = ["node", "edge", *others] if integers else []
        counts = tuple(counted for counted in possible if _rows(counted, graph) == joining.step)
        if joining.step == 0:
            counts = (None, *counts)
        if not counts:
            what = "" if integers else f", {value.dtype} values"
            msg = (
                f"its class {graph.kind} raises {name!r} by {joining.step}{what}; it can raise numbers by 0, and "
                f"integers by the {graph.n_nodes} nodes, the edges or the rows of a field"
            )
            raise InputError(msg)
        return counts


def _first(name: str, counts: Iterable[Counted], axis_of: Mapping[str, str | None]) -> Counted:
    """Return the first one that a schema can store. A field with one row per graph has no axis to count."""
    for counted in counts:
        if not isinstance(counted, RowsOf) or axis_of[counted.name] is not None:
            return counted
    msg = (
        f"the class of the graphs always raises {name!r} by 1; it must raise it by the number of nodes, edges or rows "
        "of a field"
    )
    raise InputError(msg)


def _n_edges(graph: ReadyMade) -> int:
    index = graph.arrays.get("edge_index")
    return index.shape[-1] if isinstance(index, np.ndarray) else -1


def _rows(counted: Counted, graph: ReadyMade) -> int:
    """Return the number of nodes, edges or rows that are counted; -1 if the graph cannot have any."""
    if not isinstance(counted, RowsOf):
        return graph.n_nodes if counted == "node" else _n_edges(graph)
    value, joining = graph.arrays[counted.name], graph.joining.get(counted.name)
    if isinstance(value, str) or value.ndim == 0:
        return -1
    return int(value.shape[joining.dim if joining is not None else -1 if is_index(counted.name) else 0])


def _check_edges(index: Any) -> None:
    """Refuse an ``edge_index`` of another type or shape."""
    if index is None:
        return
    if isinstance(index, str) or index.dtype.kind not in "iu" or index.ndim != 2 or len(index) != 2:
        msg = f"{_described('edge_index', index)}; required: integers of shape (2, E)"
        raise InputError(msg)


def _check_within(name: str, guess: _Guess, graph: ReadyMade) -> None:
    """Refuse indices that are out of range, because in a batch they would point into another graph."""
    value = graph.arrays[name]
    if None in guess.counts or isinstance(value, str) or value.size == 0:
        return
    rows = max(_rows(counted, graph) for counted in guess.counts)
    # As unsigned integers, negative numbers are large, so one pass finds both errors.
    if int(value.view(f"u{value.itemsize}").max()) >= rows:
        low, high = int(value.min()), int(value.max())
        counted = guess.counts[0]
        what = "row" if isinstance(counted, RowsOf) else str(counted)
        allowed = (
            f"0 to {rows - 1}, as the graph has {rows} {what}s" if rows > 0 else f"no values, as there is no {what}"
        )
        hint = "" if name == "edge_index" or name in graph.joining else "; rename it where it is no index"
        msg = f"{name!r} holds {low} to {high}; required: {allowed}{hint}"
        raise InputError(msg)


def _described(name: str, value: NDArray[Any] | str) -> str:
    return f"{name!r} is {'text' if isinstance(value, str) else f'{value.dtype} {value.shape}'}"


def _identifier(name: str) -> str:
    """Return the name of a field's own axis."""
    out = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)[:50]
    return out if out.isidentifier() and out not in ("node", "edge") else f"axis_{out}"
