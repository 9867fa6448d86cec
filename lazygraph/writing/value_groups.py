"""Groups of graphs with equal values in a column, numbered in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError
from lazygraph.format.columns import Pieces, bounded, common_type, texts_of
from lazygraph.format.store import Store
from lazygraph.reading.operands import chemical_systems
from lazygraph.registry import unknown_name
from lazygraph.writing.id_order import sorted_ranges
from lazygraph.writing.temporary_arrays import TemporaryArrays

__all__ = [
    "CHEMICAL_SYSTEM",
    "FORMULA",
    "PROTOTYPE",
    "Groups",
    "Labelled",
    "RuleColumns",
    "check_group",
    "columns_of",
    "number_groups",
]

FORMULA = "formula"
CHEMICAL_SYSTEM = "chemical_system"  # it follows from the formula, and is not stored
PROTOTYPE = "prototype"


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of graphs that have the same value.

    Attributes:
        numbers: (n,) unsigned, the number of the group of each graph. Groups are numbered in the order of their values.
        values: (g,) the value of each group; NaN, the last one, is one group.
    """

    numbers: NDArray[Any]
    values: NDArray[Any]

    def shown(self, number: int) -> str:
        """Return the value of a group, for a message."""
        value = self.values[number].item()
        return repr(value.decode() if isinstance(value, bytes) else value)

    def missing(self) -> int:
        """Return the number of graphs without a value: NaN, or an empty text."""
        if not len(self.values):
            return 0
        of_texts = self.values.dtype.kind == "S"
        number = 0 if of_texts else len(self.values) - 1
        value = self.values[number]
        there = value != b"" if of_texts else value == value  # noqa: PLR0124  # NaN differs from itself
        return 0 if there else sum(int((piece == number).sum()) for piece in bounded([self.numbers]))


def number_groups(pieces: Pieces, scratch: TemporaryArrays) -> Groups:
    """Number the groups of rows with equal values.

    The different values are sorted on disk. Files take 4 bytes per row, and the width of each different value.

    Args:
        pieces: the values of all rows, texts or numbers, one array after the other.
        scratch: for what does not fit into memory.

    Example:
        >>> from pathlib import Path
        >>> groups = number_groups([np.array([2.5, np.nan]), np.array([0.5, 2.5])], TemporaryArrays(Path()))
        >>> groups.numbers.tolist(), groups.values.tolist()
        ([1, 2, 0, 1], [0.5, 2.5, nan])
    """
    kind, (n,) = common_type(pieces)
    found = scratch.array(kind, n)
    filled = 0
    for piece in bounded(pieces):
        own = np.unique(piece)
        found[filled : filled + len(own)] = own
        filled += len(own)
    values = scratch.array(kind, filled)
    count = 0
    for some, _ in sorted_ranges([found[:filled]], scratch):
        different = np.unique(some)
        values[count : count + len(different)] = different
        count += len(different)
    values = values[:count]
    numbers = scratch.array(np.uint32 if count < 2**32 else np.uint64, n)
    row = 0
    for piece in bounded(pieces):
        # numpy searches sorted values faster, and copies all values if the types differ.
        own, inverse = np.unique(piece.astype(kind, copy=False), return_inverse=True)
        numbers[row : row + len(piece)] = np.searchsorted(values, own)[inverse]
        row += len(piece)
    return Groups(numbers, values)


@dataclass(frozen=True, slots=True)
class RuleColumns:
    """The columns that rules of splits read.

    Args:
        stored: a function of a name that returns the values of a column, texts as UTF-8 bytes. It is called for
            ``formula`` and for ``names``.
        names: the columns with one value per graph: ``formula`` if there is one, and labels.
        scratch: for what does not fit into memory.
        arrays: the labels with several numbers per graph. ``stored`` is called for them too, and they form no groups.
    """

    stored: Callable[[str], Pieces]
    names: Sequence[str]
    scratch: TemporaryArrays
    arrays: Sequence[str] = ()
    _groups: dict[str, Groups] = field(default_factory=dict, init=False)
    """Groups by column, kept because several rules may need them."""
    _labelled: dict[str, Labelled] = field(default_factory=dict, init=False)
    """Graphs with a value by label, kept because the rules of all folds need them."""

    def values(self, name: str) -> Pieces:
        """Return the values of a column, one array after the other.

        Raises:
            InputError: there is no such column.
        """
        check_group(name, self.names)
        if name == CHEMICAL_SYSTEM and name not in self.names:
            return _Mapped(self.stored(FORMULA), chemical_systems)
        return self.stored(name)

    def with_column(self, name: str, pieces: Pieces) -> RuleColumns:
        """Return the same columns with another column of this name."""
        names = self.names if name in self.names else [*self.names, name]
        return RuleColumns(
            lambda wanted: pieces if wanted == name else self.stored(wanted), names, self.scratch, self.arrays
        )

    def groups(self, name: str) -> Groups:
        """Return the groups of graphs with equal values in a column. Raises the errors of ``values``."""
        if name not in self._groups:
            self._groups[name] = number_groups(self.values(name), self.scratch)
        return self._groups[name]

    def with_value(self, label: str) -> Iterator[NDArray[np.bool_]]:
        """Yield whether each graph has a value of a label, in pieces: a text, or a number that is not NaN.

        Raises:
            InputError: there is no such label.
        """
        known = [*(name for name in self.names if name != FORMULA), *self.arrays]
        if label not in known:
            msg = f"{unknown_name('label', label, known)}. Name a label with values for graphs, not for single atoms"
            raise InputError(msg)
        yield from map(_are_values, bounded(self.stored(label)))

    def labelled(self, label: str) -> Labelled:
        """Return the graphs with a value of a label, and their columns. Raises the errors of ``with_value``."""
        if label not in self._labelled:
            there = self.scratch.array(np.bool_, sum(len(piece) for piece in self.with_value(label)))
            row = 0
            for piece in self.with_value(label):
                there[row : row + len(piece)] = piece
                row += len(piece)
            stored = self.stored  # a function of self would keep the temporary files until cycles are collected
            chosen = stored if there.all() else lambda name: _Chosen(stored(name), there)
            self._labelled[label] = Labelled(there, RuleColumns(chosen, self.names, self.scratch, self.arrays))
        return self._labelled[label]


class Labelled(NamedTuple):
    """The graphs with a value of one label.

    Attributes:
        there: (n,) whether each graph of the dataset has a value.
        columns: the columns of the graphs with a value, in their order.
    """

    there: NDArray[np.bool_]
    columns: RuleColumns


def columns_of(store: Store, scratch: TemporaryArrays) -> RuleColumns:
    """Return the columns of a finished dataset for the rules of splits."""
    columns = store.manifest.columns
    labels = store.manifest.all_labels()
    names = [name for name, column in columns.items() if name == FORMULA or (name in labels and len(column.shape) == 1)]

    def stored(name: str) -> Pieces:
        column, values = columns[name], [store.column(name)]
        # Categories are read as texts, because their codes depend on the other texts.
        return _Mapped(values, lambda codes: texts_of(column, codes)) if column.role == "category" else values

    return RuleColumns(stored, names, scratch, [name for name, column in labels.items() if len(column.shape) > 1])


def check_group(name: str, known: Sequence[str]) -> None:
    """Refuse an unknown column, or a column with more than one value per graph.

    Args:
        name: the name of the column.
        known: the columns with one value per graph.

    Raises:
        InputError: the column cannot be used; the message names the known columns.
    """
    names = [*known, *([CHEMICAL_SYSTEM] if FORMULA in known and CHEMICAL_SYSTEM not in known else [])]
    if name in names:
        return
    if name == PROTOTYPE:
        msg = (
            "the dataset has no prototypes of its crystals; 'lazygraph split --group prototype' computes them for a "
            "finished dataset of crystals"
        )
    else:
        unknown = unknown_name("group", name, names)
        msg = f"{unknown}. A group is formula, chemical_system, or a label with one value for each graph"
    raise InputError(msg)


@dataclass(frozen=True, slots=True)
class _Mapped:
    """The pieces of a column after a function. They can be iterated any number of times."""

    pieces: Pieces
    function: Callable[[NDArray[Any]], NDArray[Any]]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for piece in self.pieces:
            # An empty piece still has the type.
            yield from map(self.function, bounded([piece]) if len(piece) else [piece])


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The values of some of the graphs. They can be iterated any number of times."""

    pieces: Pieces
    there: NDArray[np.bool_]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        row = 0
        for piece in self.pieces:
            for some in bounded([piece]) if len(piece) else [piece]:  # an empty piece still has the type
                yield some[self.there[row : row + len(some)]]
                row += len(some)


def _are_values(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether each row is a text that is not empty, or has at least one number that is not NaN."""
    if values.dtype.kind == "f":
        there: NDArray[np.bool_] = ~np.isnan(values).all(axis=tuple(range(1, values.ndim)))
        return there
    return np.not_equal(values, b"") if values.dtype.kind == "S" else np.ones(len(values), bool)
