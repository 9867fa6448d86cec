"""The choice of labels among the values of the inputs, and their conversion: to a number, a text or an array."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import LabelError
from lazygraph.format.columns import MAX_ID
from lazygraph.registry import unknown_name
from lazygraph.sources.base import NO_LABELS, ImpliedUnits, Label, LabelType, Remark, label_value, shown
from lazygraph.sources.levels import is_per_atom
from lazygraph.text import shortened

__all__ = [
    "Chosen",
    "Label",
    "LabelSet",
    "LabelValues",
    "Sample",
    "bad_name",
    "choose_labels",
    "is_missing",
    "told_left_out",
    "with_implied_units",
]

# Index columns, the fields of a crystal record, and the names under which ds.where() and views know them.
RESERVED = frozenset(
    "record id id_order formula split n_node n_edge n_atoms n_edges n_triplets numbers lattice pbc "
    "frac_coords edge_index images lattice_images x pos edge_attr cell y batch ptr num_nodes".split()
)
Kind: TypeAlias = tuple[str, tuple[int, ...], LabelType]
"""Level, shape and type of a value."""
# A value that is not a number, not a text, and not missing.
OTHER: Kind = ("other", (), "float64")
NAMED = 500  # columns that a note names at most
LENGTH = 80  # characters of a name that a note repeats
Sample: TypeAlias = tuple[int, Mapping[str, Any], Mapping[str, Any]]
"""Number of atoms, labels and per-atom labels of one input, as its source gives them."""
Column: TypeAlias = list[tuple[int, Any]]
"""(Number of atoms, value) of every input that has the column."""


class LabelValues(NamedTuple):
    """The labels of one input."""

    of_crystal: list[Any]
    """One value for each label of crystals, in order: a bool, an int, a float, the bytes of a text, or an array."""
    of_atoms: dict[str, NDArray[Any]]
    """Name -> array with one row for each atom."""
    remarks: tuple[Remark, ...]
    """Remarks about values that were left out or rounded."""


class LabelSet:
    """The labels of a dataset, applied to one input after another.

    Raises:
        LabelError: from ``row``, if a value does not have the type or shape of its label, or is infinite.
    """

    def __init__(self, labels: Sequence[Label]) -> None:
        self.graph = [label for label in labels if label.level == "graph"]
        self.node = [label for label in labels if label.level == "node"]
        self._required = [label for label in self.graph if label.required]

    def row(self, values: Mapping[str, Any], n_atoms: int, of_atoms: Mapping[str, Any] = NO_LABELS) -> LabelValues:
        """Return the labels of one input. A missing number is NaN, and a missing text is empty.

        Args:
            values: name -> value of the crystal, or of its atoms if the name says so.
            n_atoms: the number of atoms.
            of_atoms: name -> value of the atoms.
        """
        remarks: list[Remark] = []
        for label in self._required:
            if is_missing(values.get(label.name)) or values.get(label.name) == "":
                msg = f"label {label.name!r} is missing, and the dataset requires it"
                raise LabelError(msg)
        of_crystal = [
            _text(label, values.get(label.name), remarks)
            if label.dtype == "text"
            else _graph_value(label, values.get(label.name))
            for label in self.graph
        ]
        arrays = {
            label.name: _node_array(
                label, of_atoms[label.name] if label.name in of_atoms else values.get(label.name), n_atoms, remarks
            )
            for label in self.node
        }
        return LabelValues(of_crystal, arrays, tuple(remarks))


class Chosen(NamedTuple):
    """The labels of a data set, and notes about the columns that are not labels."""

    labels: list[Label]
    notes: list[str]
    """Sentences for the report: columns that were left out, each once with the reason, and implied units."""
    columns: list[str]
    """The names of all columns that were examined."""


def choose_labels(
    samples: Iterable[Sample],
    wanted: Sequence[str] | None,
    units: Mapping[str, str],
    declared: Iterable[Label] = (),
    implied: Iterable[ImpliedUnits] = (),
) -> Chosen:
    """Choose the labels of a data set from its first inputs: columns of mostly numbers or texts, or the requested ones.

    A column holds numbers if at least half of its values are numbers, or texts that spell numbers. Otherwise it holds
    texts if at least half of its values are texts of at most 255 bytes.

    A column is per atom if its source or its name says so (``sources.levels``), or if its rows are as many as the
    atoms in crystals of several sizes.

    Args:
        samples: number of atoms, raw labels and raw per-atom labels of some inputs.
        wanted: the names to take, or None for all numbers and texts.
        units: name -> unit.
        declared: the labels that the sources declare, independent of the samples. ``units`` overrides their units.
        implied: the units that labels have by the convention of their source. All other units override them.

    Raises:
        LabelError: a requested label does not exist or cannot be stored, a unit is given for a text, or two sources
            declare a label differently.
    """
    known = _agreed(declared, wanted, units)
    columns: dict[str, Column] = {name: [] for name in known}
    of_atoms: dict[str, Column] = {}
    for n_atoms, values, atom_values in samples:
        for name, value in values.items():
            columns.setdefault(name, []).append((n_atoms, value))
        for name, value in atom_values.items():
            (columns if name in known else of_atoms).setdefault(name, []).append((n_atoms, value))
    if wanted is None:
        labels, left_out = _fit_columns(columns, of_atoms, known)
    else:
        labels, left_out = [_required(name, columns, of_atoms, known) for name in dict.fromkeys(wanted)], {}
    names = [label.name for label in labels]
    if stray := [name for name in units if name not in names]:
        msg = (
            f"there is a unit for {stray[0]!r}, which is not a label; the labels are "
            f"{', '.join(map(repr, names)) or 'none'}"
        )
        raise LabelError(msg)
    if texts := [label.name for label in labels if label.dtype == "text" and label.name in units]:
        msg = f"there is a unit for {texts[0]!r}, whose values are texts; only labels of numbers have units"
        raise LabelError(msg)
    labels = [replace(label, unit=units.get(label.name, label.unit)) for label in labels]
    labels, unit_notes = with_implied_units(labels, implied)
    return Chosen(labels, [*told_left_out(left_out), *unit_notes], sorted({*columns, *of_atoms}))


def is_missing(value: Any) -> bool:
    """Whether a value is missing: ``None``, NaN, or a text such as ``na``."""
    try:
        return not isinstance(value, (list, tuple, Mapping, np.ndarray)) and math.isnan(label_value(value))
    except LabelError:
        return False


def with_implied_units(labels: Sequence[Label], implied: Iterable[ImpliedUnits]) -> tuple[list[Label], list[str]]:
    """Give labels without a unit the unit that their source implies, and say which convention implies it.

    Raises:
        LabelError: two sources imply different units for one label.
    """
    found: dict[str, tuple[str, str]] = {}
    for convention in implied:
        for label in labels:
            unit = convention.units.get(label.name)
            if label.unit is not None or unit is None or label.dtype == "text":
                continue
            other, origin = found.setdefault(label.name, (unit, convention.origin))
            if other != unit:
                msg = (
                    f"the label {label.name!r} is in {other} by {origin} and in {unit} by {convention.origin}; give "
                    f"its unit with --unit {label.name}=UNIT if they agree, or convert one source"
                )
                raise LabelError(msg)
    notes = [
        f"units by {origin}: {', '.join(f'{name} in {unit}' for name, (unit, o) in found.items() if o == origin)}; "
        "override them with --unit"
        for origin in dict.fromkeys(origin for _, origin in found.values())
    ]
    return [replace(label, unit=found[label.name][0]) if label.name in found else label for label in labels], notes


def told_left_out(reasons: Mapping[str, str]) -> list[str]:
    """Return one sentence for each reason why columns are left out, with their names.

    Example:
        >>> told_left_out({"spg": "text", "bulk": "objects", "formula": "text"})
        ["columns 'spg', 'formula' are left out: text", "column 'bulk' is left out: objects"]
    """
    return [
        f"column{'s' * (len(names) > 1)} {_listed(names)} {'are' if len(names) > 1 else 'is'} left out: {reason}"
        for reason in dict.fromkeys(reasons.values())
        for names in ([name for name in reasons if reasons[name] == reason],)
    ]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} others" if len(names) > NAMED else ""
    return ", ".join(shortened(repr(name), LENGTH) for name in names[:NAMED]) + more


def _agreed(declared: Iterable[Label], wanted: Sequence[str] | None, units: Mapping[str, str]) -> dict[str, Label]:
    """Return name -> the label that all sources agree on. A source without a unit accepts the unit of the others."""
    known: dict[str, Label] = {}
    for label in declared:
        if wanted is not None and label.name not in wanted:
            continue
        mine = replace(label, unit=units.get(label.name, label.unit))
        other = known.get(label.name, mine)
        if (mine.dtype == "text") == (other.dtype == "text"):  # numbers get the type that holds all
            common = _common({mine.dtype, other.dtype})
            mine, other = replace(mine, dtype=common), replace(other, dtype=common)
        unit, per = other.unit or mine.unit, other.per or mine.per
        line, required = other.description or mine.description, other.required and mine.required
        symprec = other.symprec if other.symprec == mine.symprec else None  # the values are kept as they are
        known[label.name] = replace(other, unit=unit, per=per, description=line, required=required, symprec=symprec)
        if any(
            getattr(one, key) not in (None, getattr(known[label.name], key))
            for one in (mine, other)
            for key in ("level", "shape", "dtype", "unit", "per")
        ):
            msg = (
                f"the sources declare the label {label.name!r} as {_told(other)} and as {_told(mine)}; a label has "
                "one meaning. If only the unit differs, give it with --unit; otherwise name the labels to keep with "
                "--label"
            )
            raise LabelError(msg)
    return known


def _told(label: Label) -> str:
    """Return the label in words, for errors."""
    one = "one text" if label.dtype == "text" else "one number"
    what = one if not label.shape else f"an array of shape {label.shape}"
    per = "" if label.per is None else f" per {label.per}"
    return f"{what} {'an atom' if label.level == 'node' else 'a crystal'}, unit {label.unit or 'not given'}{per}"


def _fit_columns(
    columns: Mapping[str, Column], of_atoms: Mapping[str, Column], known: Mapping[str, Label]
) -> tuple[list[Label], dict[str, str]]:
    """Return a label for every column with mostly one kind of values, and reasons why others are not labels."""
    labels: dict[str, Label] = {}
    left_out: dict[str, str] = {}
    for name, column in columns.items():
        label, reason = _judge(name, column, known, of_atoms=False)
        if label is not None:
            labels[name] = label
        else:
            left_out[name] = reason
    for name, column in of_atoms.items():
        label, reason = _judge(name, column, {}, of_atoms=True)
        if name in labels:
            left_out[f"{name} (of the atoms)"] = "a label of the crystal has the same name"
        elif label is not None:
            labels[name] = label
            left_out.pop(name, None)
        elif name not in left_out:
            left_out[name] = reason
    return list(labels.values()), left_out


def _judge(name: str, column: Column, known: Mapping[str, Label], *, of_atoms: bool) -> tuple[Label | None, str]:
    """Return the label for a column, or the reason why the column cannot be a label."""
    label, votes, present = _elect(name, column, known, of_atoms=of_atoms)
    if not present:
        return None, "no value among the inputs looked at; name it with --label to keep it"
    if label is None:
        return None, _unfit(next(value for n, value in column if _kinds(name, n, value, of_atoms=of_atoms)), of_atoms)
    if problem := bad_name(name):
        return None, problem
    if 2 * votes < present:
        return None, _minority(label, votes, present)
    return label, ""


def _unfit(value: Any, of_atoms: bool) -> str:
    """Say why a value is not a number, a text or an array of numbers."""
    if isinstance(value, str):
        too_long = f"texts of more than {MAX_ID} bytes" if not _fits(value) else "infinite numbers"
        return "text, and labels of atoms are numbers" if of_atoms else too_long
    if isinstance(value, Mapping):
        return "objects, and labels are numbers or texts"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        flat = list(_flat(value))
        if any(isinstance(part, str) for part in flat):
            return "lists with text, and a label is one text or numbers"
        if any(isinstance(part, Mapping) for part in flat):
            return "lists of objects, and labels are numbers or texts"
        if any(isinstance(part, float) and math.isinf(part) for part in flat):
            return "infinite numbers"
        if of_atoms:
            return "arrays that do not have one row for each atom"
        return "lists that are no arrays of one to three dimensions"
    if isinstance(value, float):
        return "infinite numbers"
    return f"values of the type {type(value).__name__}, and labels are numbers or texts"


def _flat(value: Any) -> Iterable[Any]:
    waiting = list(value)
    while waiting:
        part = waiting.pop()
        if isinstance(part, (list, tuple)):
            waiting += part
        else:
            yield part


def _required(
    name: str, columns: Mapping[str, Column], of_atoms: Mapping[str, Column], known: Mapping[str, Label]
) -> Label:
    """Return the label for a requested column, or raise LabelError if the column cannot be a label."""
    per_atom = name not in columns
    if per_atom and name not in of_atoms:
        names = dict.fromkeys((*columns, *of_atoms))
        raise LabelError(unknown_name("label", name, names))
    if problem := bad_name(name):
        msg = f"the column {name!r} cannot be a label: {problem}"
        raise LabelError(msg)
    column = of_atoms[name] if per_atom else columns[name]
    label, votes, present = _elect(name, column, known, of_atoms=per_atom)
    if 2 * votes < present:
        example = next(value for n, value in column if _kinds(name, n, value, of_atoms=per_atom))
        found = _minority(label, votes, present) if label else f"found {shown(example, 60)}"
        msg = (
            f"the column {name!r} cannot be a label: {found}; required: numbers, or texts, in at least half of its "
            "values"
        )
        raise LabelError(msg)
    return label or Label(name, "node" if per_atom else "graph")


def _minority(label: Label, votes: int, present: int) -> str:
    if label.dtype == "text":
        return f"only {votes} of {present} values are texts of at most {MAX_ID} bytes"
    what = f"arrays of {'rows an atom of ' * (label.level == 'node')}shape {label.shape}" if label.shape else "numbers"
    return f"only {votes} of {present} values are {what}"


def bad_name(name: str) -> str | None:
    """Return why a label cannot have this name; None if it can."""
    if name in RESERVED:
        return "lazygraph uses this name itself; rename the column"
    if not (name.isprintable() and 0 < len(name.encode()) <= 255):
        return "its name is empty, not printable, or longer than 255 bytes; rename the column"
    return None


def _elect(name: str, column: Column, known: Mapping[str, Label], *, of_atoms: bool) -> tuple[Label | None, int, int]:
    """Return the label that most values of a column fit, how many fit, and how many are not missing.

    One input with a broken value must not decide about the column. Such an input is quarantined instead.
    """
    if name in known:
        return known[name], 1, 1
    found: dict[tuple[str, tuple[int, ...]], set[LabelType]] = {}
    votes: Counter[tuple[str, tuple[int, ...]]] = Counter()
    present = texts = 0
    for n_atoms, value in column:
        kinds = _kinds(name, n_atoms, value, of_atoms=of_atoms)
        present += bool(kinds)
        texts += bool(kinds) and not of_atoms and _is_text(value)
        for level, shape, dtype in kinds:
            if dtype != "text" and level != OTHER[0]:
                votes[level, shape] += 1
                found.setdefault((level, shape), set()).add(dtype)
    # In a tie, per crystal wins: a number of values that equals the number of atoms may be chance.
    best, count = max(votes.items(), key=lambda item: (item[1], item[0][0] == "graph"), default=(None, 0))
    if texts and 2 * count < present and texts > count:
        return Label(name, "graph", dtype="text"), texts, present
    if best is None:
        return None, 0, present
    level, shape = best
    if level == "node":
        # The atoms of a crystal without the label get NaN, so the type is float: float32 only if all values are.
        return Label(name, "node", shape, dtype="float32" if found[best] == {"float32"} else "float64"), count, present
    return Label(name, "graph", shape, dtype=_common(found[best])), count, present


def _common(types: Iterable[LabelType]) -> LabelType:
    """Return the type that holds the values of all these types.

    Example:
        >>> _common(["bool", "int64"]), _common(["int64", "float32"]), _common(["text"])
        ('int64', 'float64', 'text')
    """
    names = set(types)
    if len(names) == 1:
        return names.pop()
    return "int64" if names == {"bool", "int64"} else "float64"


def _kinds(name: str, n_atoms: int, value: Any, *, of_atoms: bool) -> list[Kind]:
    """Return what a value could be: nothing if it is missing, ``OTHER`` if it is neither a number nor a text."""
    try:
        if isinstance(value, (list, tuple, np.ndarray)):
            array = _numeric(value)
            shape, dtype = array.shape, _type_of(array)
            rows = bool(shape) and shape[0] == n_atoms
            if of_atoms:
                return [("node", shape[1:], dtype)] if rows else [OTHER]
            if is_per_atom(name, shape, n_atoms):
                return [("node", shape[1:], dtype)]
            # Labels of crystals are float64. Only labels of atoms stay float32 if all values are float32.
            of_crystal: Kind = ("graph", shape, "float64" if dtype == "float32" else dtype)
            return [of_crystal, ("node", shape[1:], dtype)] if rows else [of_crystal]
        number = label_value(value)
        if math.isnan(number):
            return []
        if of_atoms:
            return [OTHER]
        return [("graph", (), "bool" if type(number) is bool else "int64" if type(number) is int else "float64")]
    except LabelError:
        return [("graph", (), "text")] if not of_atoms and _is_text(value) else [OTHER]


def _type_of(array: NDArray[Any]) -> LabelType:
    return {"b": "bool", "i": "int64"}.get(array.dtype.kind, "float32" if array.dtype == np.float32 else "float64")  # type: ignore[return-value]


def _is_text(value: Any) -> bool:
    """Whether a value is a text that a column can hold, and does not spell an infinite number."""
    return isinstance(value, str) and _fits(value) and value.strip().lstrip("+-").lower() not in ("inf", "infinity")


def _fits(text: str) -> bool:
    """Whether a column can hold a text."""
    try:
        return "\0" not in text and len(text.encode()) <= MAX_ID
    except UnicodeEncodeError:
        return False


def _text(label: Label, value: Any, remarks: list[Remark]) -> bytes:
    """Return the bytes of a text; empty if it is missing, or if it is left out with a remark."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return b""
    if not isinstance(value, str):
        msg = f"label {label.name!r}: found {type(value).__name__} {shown(value, 60)}; required: a text"
        raise LabelError(msg)
    if not _fits(value):
        what = (
            f"have a text under {shortened(repr(label.name), LENGTH)} that has more than {MAX_ID} bytes, holds a zero "
            "byte or is not Unicode, and is left out"
        )
        remarks.append(Remark(what, shown(value, 20)))
        return b""
    return value.encode()


def _graph_value(label: Label, value: Any) -> Any:
    if label.shape:
        return _array(label, value, label.shape)
    if type(value) is float and not math.isinf(value):
        return value
    return _scalar(label, value)


def _node_array(label: Label, value: Any, n_atoms: int, remarks: list[Remark]) -> NDArray[Any]:
    """Convert the values of atoms to the type of their label, with a remark if a value changes."""
    array = _array(label, value, (n_atoms, *label.shape))
    out = array.astype(label.dtype, copy=False)
    if array.dtype != out.dtype and not np.array_equal(_exactly(array), _exactly(out), equal_nan=True):
        what = (
            f"have {array.dtype} values under {shortened(repr(label.name), LENGTH)} that are rounded to {label.dtype}, "
            "the type of the label"
        )
        remarks.append(Remark(what, f"{array.dtype} {array.shape}"))
    return out


def _exactly(array: NDArray[Any]) -> NDArray[np.longdouble]:
    return array.astype(np.longdouble)


def _array(label: Label, value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    if value is None or (isinstance(value, (str, float)) and math.isnan(_scalar(label, value))):
        return np.full(shape, np.nan, np.float32 if label.dtype == "float32" else np.float64)
    try:
        array = _numeric(value)
    except LabelError as error:
        msg = f"label {label.name!r}: {error}"
        raise LabelError(msg) from None
    if array.shape != shape:
        msg = f"label {label.name!r}: found an array of shape {array.shape}; required: {shape}"
        raise LabelError(msg)
    return array.astype(np.float64) if array.dtype == np.float32 and label.level == "graph" else array


def _scalar(label: Label, value: Any) -> bool | int | float:
    try:
        return label_value(value)
    except LabelError as error:
        msg = f"label {label.name!r}: {error}"
        raise LabelError(msg) from None


def _numeric(value: Any) -> NDArray[Any]:
    """Return a new array of a value, of type bool, int64, float32 or float64."""
    try:
        array = np.array(value)
        if array.dtype.kind == "u" and array.max(initial=0) < 2**63:
            array = array.astype(np.int64)
        if array.dtype.kind == "i":
            array = array.astype(np.int64, copy=False)
        elif array.dtype.kind != "b" and array.dtype != np.float32:
            array = array.astype(np.float64, casting="unsafe" if array.dtype.kind in "ufOUS" else "safe", copy=False)
    except (TypeError, ValueError, OverflowError):
        msg = f"found {shown(value, 60)}; required: an array of numbers"
        raise LabelError(msg) from None
    if array.size == 0 or array.ndim > 3:
        msg = f"found an array of shape {array.shape}; required: one to three dimensions, none empty"
        raise LabelError(msg)
    if array.dtype.kind == "f" and np.isinf(array).any():
        raise LabelError("found an infinite number; required: finite ones, or NaN for missing ones")
    return array
