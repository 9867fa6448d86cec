"""Which of the values beside a structure are labels, and how each becomes a row of numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import LabelError
from lazygraph.sources.base import Label, label_value

__all__ = ["Label", "LabelSet", "choose_labels"]

# Index columns, the fields of a crystal record, and the names under which ds.where() and views know them.
RESERVED = frozenset(
    "record id id_order formula split n_node n_edge n_atoms n_edges n_triplets min_neighbors numbers lattice pbc "
    "frac_coords edge_index images lattice_images x pos edge_attr cell y batch ptr num_nodes".split()
)
# Arrays of a whole crystal that could be taken for one row an atom where all crystals looked at have 3 atoms.
WHOLE_CRYSTAL = frozenset("stress stresses virial virials dipole polarizability born elastic_tensor".split())
# The kind of a value that is neither a number nor missing.
TEXT: tuple[str, tuple[int, ...]] = ("text", ())


class LabelSet:
    """The labels of a dataset, applied to one input after another.

    Raises:
        LabelError: from ``row``, where a value has not the type or shape of its label, or is infinite.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self.graph = [label for label in labels if label.level == "graph"]
        self.node = [label for label in labels if label.level == "node"]

    def row(self, values: Mapping[str, Any], n_atoms: int) -> tuple[list[Any], dict[str, NDArray[np.float64]]]:
        """Values of the graph labels in order, and the arrays of the per-atom labels; NaN where one is missing."""
        graph = [_graph_value(label, values.get(label.name)) for label in self.graph]
        node = {label.name: _array(label, values.get(label.name), (n_atoms, *label.shape)) for label in self.node}
        for label, value in zip((*self.graph, *self.node), (*graph, *node.values()), strict=True):
            if math.isinf(value) if isinstance(value, float) else np.isinf(value).any():
                msg = f"label {label.name!r}: found an infinite number; required: finite ones, or NaN for missing ones"
                raise LabelError(msg)
        return graph, node


def choose_labels(
    samples: Iterable[tuple[int, Mapping[str, Any]]],
    wanted: Sequence[str] | None,
    units: Mapping[str, str],
    declared: Iterable[Label] = (),
) -> tuple[list[Label], list[str]]:
    """The labels of a data set, from its first inputs: the columns that are mostly numbers, or those asked for.

    Args:
        samples: number of atoms and raw labels of some inputs.
        wanted: the names to take, or None for all that are numeric.
        units: name -> unit.
        declared: the labels that the sources declare, whatever the samples hold; ``units`` counts before theirs.

    Returns:
        The labels, and sentences about columns that were left out for a reason worth telling.

    Raises:
        LabelError: a label or a unit was asked for that does not exist, or is not numeric; or two sources declare one
            in different ways.
    """
    known = _agreed(declared, wanted, units)
    columns: dict[str, list[tuple[int, Any]]] = {name: [] for name in known}
    for n_atoms, values in samples:
        for name, value in values.items():
            columns.setdefault(name, []).append((n_atoms, value))
    if wanted is None:
        labels, notes = _numeric_columns(columns, known)
    else:
        labels, notes = [_required(name, columns, known) for name in dict.fromkeys(wanted)], []
    names = [label.name for label in labels]
    if stray := [name for name in units if name not in names]:
        msg = f"found a unit for {stray[0]!r}; the labels are {', '.join(map(repr, names)) or 'none'}"
        raise LabelError(msg)
    return [replace(label, unit=units.get(label.name, label.unit)) for label in labels], notes


def _agreed(declared: Iterable[Label], wanted: Sequence[str] | None, units: Mapping[str, str]) -> dict[str, Label]:
    """Name -> the one label that all who declare it mean; who gives no unit means that of the others."""
    known: dict[str, Label] = {}
    for label in declared:
        if wanted is not None and label.name not in wanted:
            continue
        mine = replace(label, unit=units.get(label.name, label.unit))
        other = known.get(label.name, mine)
        known[label.name] = replace(other, unit=other.unit or mine.unit)
        if replace(mine, unit=mine.unit or other.unit) != known[label.name]:
            msg = (
                f"the sources declare the label {label.name!r} as {_told(other)} and as {_told(mine)}; required: one "
                "meaning: give its unit with --unit if only that differs, or name the labels to keep with --label"
            )
            raise LabelError(msg)
    return known


def _told(label: Label) -> str:
    """In words, for errors."""
    what = "one number" if not label.shape else f"an array of shape {label.shape}"
    return f"{what} {'an atom' if label.level == 'node' else 'a crystal'}, unit {label.unit or 'not given'}"


def _numeric_columns(
    columns: Mapping[str, Sequence[tuple[int, Any]]], known: Mapping[str, Label]
) -> tuple[list[Label], list[str]]:
    """Every column whose values are mostly of one numeric kind, and notes about some others."""
    labels, notes = [], []
    for name, column in columns.items():
        label, votes, present = _elect(name, column, known)
        if not present:
            notes.append(
                f"column {name!r} is left out: no value among the inputs looked at; name it with --label to keep it"
            )
        elif label is None:
            continue  # text
        elif problem := _bad_name(name):
            notes.append(f"column {name!r} is left out: {problem}")
        elif 2 * votes >= present:
            labels.append(label)
        else:
            notes.append(f"column {name!r} is left out: {_minority(label, votes, present)}")
    return labels, notes


def _required(name: str, columns: Mapping[str, Sequence[tuple[int, Any]]], known: Mapping[str, Label]) -> Label:
    """The label that a column becomes because it was asked for; LabelError if it cannot be one."""
    if name not in columns:
        msg = f"found no label {name!r}; the columns are {', '.join(map(repr, columns)) or 'none'}"
        raise LabelError(msg)
    if problem := _bad_name(name):
        msg = f"the column {name!r} cannot be a label: {problem}"
        raise LabelError(msg)
    label, votes, present = _elect(name, columns[name], known)
    if 2 * votes < present:
        example = next(value for _, value in columns[name] if _kinds(0, value))
        found = _minority(label, votes, present) if label else f"found {str(example)[:60]!r}"
        msg = f"the column {name!r} cannot be a label: {found}; required: numbers, in at least half of its values"
        raise LabelError(msg)
    return label or Label(name, "graph")


def _minority(label: Label, votes: int, present: int) -> str:
    what = f"arrays of {'rows an atom of ' * (label.level == 'node')}shape {label.shape}" if label.shape else "numbers"
    return f"only {votes} of {present} values are {what}"


def _bad_name(name: str) -> str | None:
    if name in RESERVED:
        return "lazygraph uses this name itself; rename the column"
    if not (name.isprintable() and 0 < len(name.encode()) <= 255):
        return "its name is empty, not printable, or longer than 255 bytes; rename the column"
    return None


def _elect(name: str, column: Sequence[tuple[int, Any]], known: Mapping[str, Label]) -> tuple[Label | None, int, int]:
    """The label that most values of a column fit, the number that fit it, and the number that are not missing.

    One input with a broken value must not decide what a column is: it is quarantined for it.
    """
    if name in known:
        return known[name], 1, 1
    votes: Counter[tuple[str, tuple[int, ...]]] = Counter()
    present = 0
    for n_atoms, value in column:
        kinds = _kinds(n_atoms, value)
        present += bool(kinds)
        votes.update(kind for kind in kinds if kind != TEXT)
    if name in WHOLE_CRYSTAL and len({n for n, _ in column}) == 1:
        votes = Counter({kind: n for kind, n in votes.items() if kind[0] == "graph"})
    if not votes:
        return None, 0, present
    # Per-atom comes first among equals: all crystals looked at may have as many atoms as a row has numbers.
    (level, shape), count = max(votes.items(), key=lambda item: (item[1], item[0][0] == "node"))
    return Label(name, "node" if level == "node" else "graph", shape), count, present


def _kinds(n_atoms: int, value: Any) -> list[tuple[str, tuple[int, ...]]]:
    """What a value could be: level and shape; ``TEXT`` where it is no number, nothing where it is missing."""
    try:
        if isinstance(value, (list, tuple, np.ndarray)):
            shape = _numeric(value).shape
            kinds: list[tuple[str, tuple[int, ...]]] = [("graph", shape)]
            return [*kinds, ("node", shape[1:])] if shape and shape[0] == n_atoms else kinds
        return [] if math.isnan(label_value(value)) else [("graph", ())]
    except LabelError:
        return [TEXT]


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
    except (TypeError, ValueError, OverflowError):
        msg = f"found {str(value)[:60]!r}; required: an array of numbers"
        raise LabelError(msg) from None
    if array.size == 0 or array.ndim > 3:
        msg = f"found an array of shape {array.shape}; required: one to three dimensions, none empty"
        raise LabelError(msg)
    return array
