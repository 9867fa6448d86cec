"""The schema that ready-made graphs agree on: which of their arrays grow, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError
from lazygraph.format.schema import DTYPES, MAX_TEXT, Field, Schema

__all__ = ["Arrays", "SchemaGuess", "arrays_of"]

Arrays = dict[str, NDArray[Any] | str]

# As in torch_geometric.data.Data.num_nodes: the keys whose length is the number of nodes.
NODE_KEYS = ("x", "pos", "z", "numbers", "atomic_numbers", "batch", "node_species")
OWN = "own"  # an axis that no other field has


@dataclass(frozen=True, slots=True)
class _Guess:
    """What one field may be: its type, its shape with None for the size that may grow, and with what, best first."""

    dtype: str
    shape: tuple[int | None, ...]
    axes: tuple[str | None, ...]

    def field(self, name: str, axis: str | None, unit: str | None, counts: str | None) -> Field:
        """The field that it is, if it grows with this axis, or is of one row."""
        pair: Any = "swap" if name == "edge_index" and len(self.shape) == 2 and self.shape[0] == 2 else None
        if axis is None:
            return Field(name, self.dtype, tuple(1 if n is None else n for n in self.shape), unit=unit, counts=counts)
        rest = tuple(n for n in self.shape if n is not None)
        return Field(name, self.dtype, rest, axis, self.shape.index(None), unit, counts, pair)

    def told(self) -> str:
        """In words, for errors."""
        sizes = {"node": "nodes", "edge": "edges", None: "1", OWN: "n"}
        grows = " or ".join(sizes[axis] for axis in self.axes)
        return f"{self.dtype} ({', '.join(grows if n is None else str(n) for n in self.shape)})"


class SchemaGuess:
    """Narrowed by every graph until it is settled; from then on every graph must agree with it.

    One graph alone cannot tell: in a ring, edges are as many as nodes, and six numbers in a crystal of six atoms are
    one for each atom or the components of its stress. A field that grows with neither has an axis of its own.

    Args:
        counts: key -> ``"node"`` or ``"edge"``, what the values of an index field count; such a field is (k, M).
        units: name -> unit.
    """

    def __init__(self, counts: Mapping[str, str], units: Mapping[str, str]) -> None:
        self._counts, self._units = dict(counts), dict(units)
        self._guesses: dict[str, _Guess] = {}

    def narrow(self, arrays: Arrays, n_nodes: int, graph_id: str) -> None:
        """Take one more graph into account; one that is refused leaves no trace.

        Raises:
            InputError: it has other fields, types or shapes than the graphs before, or one that cannot be stored.
        """
        index = arrays.get("edge_index")
        n_edges = index.shape[-1] if isinstance(index, np.ndarray) and index.ndim else -1
        found = {name: self._guess(name, value, n_nodes, n_edges) for name, value in arrays.items()}
        before = self._guesses or found
        if stray := sorted(self._counts.keys() - found.keys()):
            msg = f"found counts for {stray[0]!r}; graph {graph_id!r} has the fields {', '.join(map(repr, found))}"
            raise InputError(msg)
        if found.keys() != before.keys():
            extra, missing = sorted(found.keys() - before.keys()), sorted(before.keys() - found.keys())
            msg = f"graph {graph_id!r} has other fields than the first one: {extra} too many, {missing} missing"
            raise InputError(msg)
        narrowed = {}
        for name, guess in before.items():
            other = found[name]
            axes = tuple(axis for axis in guess.axes if axis in other.axes)
            if (guess.dtype, guess.shape) != (other.dtype, other.shape) or not axes:
                value = arrays[name]
                shown = "text" if isinstance(value, str) else f"{value.dtype} {value.shape}"
                msg = f"graph {graph_id!r}: {name!r} is {shown}; required: {guess.told()}, as in the graphs before"
                raise InputError(msg)
            narrowed[name] = replace(guess, axes=axes)
        if not self._guesses:
            self._schema(narrowed)
        self._guesses = narrowed

    def settle(self, taken: frozenset[str]) -> Schema:
        """The schema, fixed from here on.

        Args:
            taken: names of columns, which the counts of an axis (``n_AXIS``) must not take.

        Raises:
            InputError: there are too many axes.
        """
        schema = self._schema(self._guesses, taken)
        self._guesses = {name: replace(guess, axes=guess.axes[:1]) for name, guess in self._guesses.items()}
        return schema

    def _schema(self, guesses: Mapping[str, _Guess], taken: frozenset[str] = frozenset()) -> Schema:
        """The schema of the best guesses."""
        axes = ["node", "edge"] if "edge_index" in guesses else ["node"]
        fields = []
        for name, guess in guesses.items():
            axis = guess.axes[0]
            if axis == OWN:
                axis = _identifier(name)
                while axis in axes or f"n_{axis}" in taken:
                    axis += "_"
                axes.append(axis)
            counts = self._counts.get(name)
            if counts is None and _is_index(name) and "int" in guess.dtype:
                counts = "node"
            fields.append(guess.field(name, axis, self._units.get(name), counts))
        return Schema(tuple(axes), tuple(fields))

    def _guess(self, name: str, value: NDArray[Any] | str, n_nodes: int, n_edges: int) -> _Guess:
        if isinstance(value, str):
            return _Guess("str", (), (None,))
        if value.ndim == 0:
            return _Guess(value.dtype.name, (), (None,))
        by_index = _is_index(name) or name in self._counts
        dim = value.ndim - 1 if by_index else 0
        rows = value.shape[dim]
        shape = (*value.shape[:dim], None, *value.shape[dim + 1 :])
        if name == "edge_index":
            return _Guess(value.dtype.name, shape, ("edge",))
        axes: list[str | None] = [OWN]
        if rows == n_edges:
            axes.insert(0, "edge")
        if rows == n_nodes and not by_index:
            # As in PyG, the name decides where there are as many edges as nodes.
            axes.insert(1 if "edge" in name and rows == n_edges else 0, "node")
        if rows == 1 and not by_index:
            axes.insert(len(axes) - 1 if name in NODE_KEYS or name.startswith("edge") else 0, None)
        return _Guess(value.dtype.name, shape, tuple(axes))


def arrays_of(data: Any) -> tuple[Arrays, int]:
    """Every field of a graph as numpy array or text, and its number of nodes.

    Raises:
        InputError: a field is neither numbers, booleans nor a text.
    """
    items = data if isinstance(data, Mapping) else data.to_dict()
    arrays = {str(name): _array(str(name), value) for name, value in items.items() if value is not None}
    given = arrays.get("num_nodes")
    if isinstance(given, np.ndarray) and given.ndim == 0:
        return arrays, int(given)
    for name in NODE_KEYS:
        value = arrays.get(name)
        if isinstance(value, np.ndarray) and value.ndim:
            return arrays, value.shape[0]
    index = arrays.get("edge_index")
    return arrays, int(index.max()) + 1 if isinstance(index, np.ndarray) and index.size else 0


def _array(name: str, value: Any) -> NDArray[Any] | str:
    if isinstance(value, str):
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            msg = f"the text {name!r} cannot be written in UTF-8: {error}"
            raise InputError(msg) from None
        if size > MAX_TEXT:
            msg = f"the text of {name!r} has {size} bytes; required: at most {MAX_TEXT}"
            raise InputError(msg)
        return value
    kind = type(value).__name__
    try:
        array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
        kind = f"{kind} of {array.dtype}"
        known = array.dtype.name in DTYPES
    except (TypeError, ValueError, RuntimeError, OverflowError):  # sparse tensors, bfloat16, ragged lists
        known = False
    if not known:
        msg = f"the field {name!r} is {kind}; required: an array, number or text, of type {', '.join(DTYPES)}"
        raise InputError(msg)
    return array


def _is_index(name: str) -> bool:
    return "index" in name or name == "face"


def _identifier(name: str) -> str:
    """The name of a field's own axis."""
    out = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)[:50]
    return out if out.isidentifier() and out not in ("node", "edge") else f"axis_{out}"
