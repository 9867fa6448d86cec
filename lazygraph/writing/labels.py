"""Which of the values beside a structure are labels, and how each becomes a row of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import LabelError
from lazygraph.sources.base import label_value

__all__ = ["Label", "LabelSet", "choose_labels"]

# Index columns, the fields of a crystal record, and the names under which ds.where() and views know them.
RESERVED = frozenset(
    "record id id_order formula split n_node n_edge n_atoms n_edges numbers lattice pbc frac_coords edge_index images "
    "lattice_images x pos edge_attr cell y batch ptr num_nodes".split()
)
# Arrays of a whole crystal that could be taken for one row an atom where all crystals looked at have 3 atoms.
WHOLE_CRYSTAL = frozenset("stress stresses virial virials dipole polarizability born elastic_tensor".split())


@dataclass(frozen=True, slots=True)
class Label:
    """One label: a number or a fixed-size array a crystal (``graph``), or a row an atom (``node``)."""

    name: str
    level: Literal["graph", "node"]
    shape: tuple[int, ...] = ()
    unit: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON form in a plan."""
        return asdict(self) | {"shape": list(self.shape)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Label:
        """Read the JSON form."""
        return cls(**{**data, "shape": tuple(data["shape"])})


class LabelSet:
    """The labels of a dataset, applied to one input after another.

    Raises:
        LabelError: from ``row``, where a value has not the type or shape of its label.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self.graph = [label for label in labels if label.level == "graph"]
        self.node = [label for label in labels if label.level == "node"]

    def row(self, values: Mapping[str, Any], n_atoms: int) -> tuple[list[Any], dict[str, NDArray[np.float64]]]:
        """Values of the graph labels in order, and the arrays of the per-atom labels; NaN where one is missing."""
        return [_graph_value(label, values.get(label.name)) for label in self.graph], {
            label.name: _array(label, values.get(label.name), (n_atoms, *label.shape)) for label in self.node
        }


def choose_labels(
    samples: Iterable[tuple[int, Mapping[str, Any]]], wanted: Sequence[str] | None, units: Mapping[str, str]
) -> tuple[list[Label], list[str]]:
    """The labels of a data set, from its first inputs: the numeric ones, or those that were asked for.

    Args:
        samples: number of atoms and raw labels of some inputs.
        wanted: the names to take, or None for all that are numeric.
        units: name -> unit.

    Returns:
        The labels, and sentences about columns that were left out for a reason worth telling.

    Raises:
        LabelError: a label or a unit was asked for that does not exist, or is not numeric.
    """
    columns: dict[str, list[tuple[int, Any]]] = {}
    for n_atoms, values in samples:
        for name, value in values.items():
            columns.setdefault(name, []).append((n_atoms, value))
    notes = []
    labels = []
    if wanted is not None and (unknown := [name for name in wanted if name not in columns]):
        msg = f"found no label {unknown[0]!r}; the columns are {', '.join(map(repr, columns)) or 'none'}"
        raise LabelError(msg)
    for name in columns if wanted is None else dict.fromkeys(wanted):
        try:
            found = _infer(name, columns[name], keep_empty=wanted is not None)
        except LabelError as error:
            if wanted is not None:
                msg = f"the column {name!r} cannot be a label: {error}"
                raise LabelError(msg) from error
            continue
        if found is None:
            notes.append(
                f"column {name!r} is left out: no value among the inputs looked at; name it with --label to keep it"
            )
        elif name in RESERVED:
            if wanted is not None:
                msg = f"the label {name!r} has a name that lazygraph uses itself; rename the column"
                raise LabelError(msg)
            notes.append(f"column {name!r} is left out: lazygraph uses this name itself")
        else:
            level, shape = found
            labels.append(Label(name, level, shape, units.get(name)))
    names = [label.name for label in labels]
    if stray := [name for name in units if name not in names]:
        msg = f"found a unit for {stray[0]!r}; the labels are {', '.join(map(repr, names)) or 'none'}"
        raise LabelError(msg)
    return labels, notes


def _infer(
    name: str, column: Sequence[tuple[int, Any]], *, keep_empty: bool
) -> tuple[Literal["graph", "node"], tuple[int, ...]] | None:
    """Level and shape of a column, None if all its values are missing; LabelError if it is not numeric."""
    scalar_seen = False
    shapes: list[tuple[int, tuple[int, ...]]] = []
    for n_atoms, value in column:
        if isinstance(value, (list, tuple, np.ndarray)):
            shapes.append((n_atoms, _numeric(value).shape))
        else:
            scalar_seen |= not math.isnan(label_value(value))
    if shapes and scalar_seen:
        msg = "some values are numbers and some are arrays"
        raise LabelError(msg)
    if not shapes:
        return ("graph", ()) if scalar_seen or keep_empty else None
    if all(shape and shape[0] == n for n, shape in shapes) and (
        name not in WHOLE_CRYSTAL or len({n for n, _ in shapes}) > 1
    ):
        tails = {shape[1:] for _, shape in shapes}
        if len(tails) == 1:
            return "node", tails.pop()
    different = {shape for _, shape in shapes}
    if len(different) > 1:
        msg = f"its arrays have different shapes, such as {sorted(different)[:3]}"
        raise LabelError(msg)
    return "graph", different.pop()


def _graph_value(label: Label, value: Any) -> Any:
    if label.shape:
        return _array(label, value, label.shape)
    if type(value) is float:
        return value
    try:
        return label_value(value)
    except LabelError as error:
        msg = f"label {label.name!r}: {error}"
        raise LabelError(msg) from None


def _array(label: Label, value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    if value is None or (isinstance(value, (str, float)) and math.isnan(_scalar(label, value))):
        return np.full(shape, np.nan)
    try:
        array = _numeric(value)
    except LabelError as error:
        msg = f"label {label.name!r}: {error}"
        raise LabelError(msg) from None
    if array.shape != shape:
        msg = f"label {label.name!r}: found an array of shape {array.shape}; required: {shape}"
        raise LabelError(msg)
    return array


def _scalar(label: Label, value: Any) -> float:
    try:
        return label_value(value)
    except LabelError as error:
        msg = f"label {label.name!r}: {error}"
        raise LabelError(msg) from None


def _numeric(value: Any) -> NDArray[np.float64]:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        msg = f"found {str(value)[:60]!r}; required: an array of numbers"
        raise LabelError(msg) from None
    if array.size == 0 or array.ndim > 3:
        msg = f"found an array of shape {array.shape}; required: one to three dimensions, none empty"
        raise LabelError(msg)
    return array
