"""What every export format has: the class ``ExportFormat``, its two kinds, and what they are given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, StorageError
from lazygraph.sources.base import Label

__all__ = [
    "Contents",
    "CrystalFormat",
    "ExportFormat",
    "ExportedGraph",
    "GraphFormat",
    "LeftOut",
    "finite",
    "not_written",
    "taken_names",
]


@dataclass(frozen=True, slots=True)
class Contents:
    """What the exported graphs have beside their crystals.

    Args:
        id_key: the name under which the ids stand in the file.
        labels: the labels of the crystals.
        atom_labels: the labels of the atoms.
        splits: the columns of splits.
        about: what the dataset says about itself.
        content_id: the identity of its graphs.
    """

    id_key: str
    labels: tuple[Label, ...] = ()
    atom_labels: tuple[Label, ...] = ()
    splits: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    content_id: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of labels and columns of splits."""
        return (*(label.name for label in (*self.labels, *self.atom_labels)), *self.splits)

    def without(self, names: Sequence[str]) -> Contents:
        """Return the contents without these labels and columns of splits."""
        return Contents(
            self.id_key,
            tuple(label for label in self.labels if label.name not in names),
            tuple(label for label in self.atom_labels if label.name not in names),
            tuple(name for name in self.splits if name not in names),
            self.about,
            self.content_id,
        )

    def described(self) -> dict[str, Any]:
        """Return what formats with metadata keep of the dataset and its labels, as JSON."""
        of_labels = {
            label.name: {
                key: value
                for key, value in (("unit", label.unit), ("per", label.per), ("description", label.description))
                if value is not None
            }
            for label in (*self.labels, *self.atom_labels)
        }
        labels = {name: said for name, said in of_labels.items() if said}
        return {"content_id": self.content_id, "about": dict(self.about), "labels": labels}


@dataclass(frozen=True, slots=True)
class ExportedGraph:
    """One graph as formats get it. What is missing is left out.

    Args:
        id: the id.
        crystal: the crystal.
        labels: name -> bool, int, float, text, or array.
        of_atoms: name -> array with one row an atom.
        splits: column of splits -> name of the split.
        positions: (N, 3) float64, Cartesian coordinates, A.
    """

    id: str
    crystal: Crystal
    labels: dict[str, Any]
    of_atoms: dict[str, NDArray[Any]]
    splits: dict[str, str]
    positions: NDArray[np.float64]


class LeftOut(NamedTuple):
    """A label or a column of splits that a format cannot hold."""

    name: str
    reason: str
    """How the sentence "the label NAME is left out, because ..." ends."""


class ExportFormat(ABC):
    """One file format of another program: a ``CrystalFormat`` or a ``GraphFormat``.

    It has no state, so it is picklable, and safe in any thread or process. The new file has a temporary name, and gets
    its own name when it is complete.

    Attributes:
        kind: the name that ``--format`` takes.
        suffixes: the suffixes of its files.
        exact_positions: whether it holds fractional coordinates, with all bits. Others hold Cartesian ones.
        holds_descriptions: whether it holds units, descriptions of labels, and what a dataset says about itself.
    """

    kind: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    exact_positions: ClassVar[bool] = True
    holds_descriptions: ClassVar[bool] = False

    def left_out(self, contents: Contents) -> Iterator[LeftOut]:  # noqa: ARG002
        """Yield the labels and columns of splits that the format cannot hold."""
        yield from ()

    def notes(self, contents: Contents) -> Iterator[str]:  # noqa: ARG002
        """Yield sentences about values that the file holds in another form than the dataset."""
        yield from ()


class CrystalFormat(ExportFormat):
    """A format that holds crystals. ``encode`` runs in worker processes, and ``save`` in the process that exports."""

    @abstractmethod
    def encode(self, contents: Contents, graphs: Sequence[ExportedGraph]) -> Any:
        """Return some graphs in a picklable form that ``save`` takes.

        Raises:
            InputError: a value of a graph cannot be written; the message names the graph.
        """

    @abstractmethod
    def save(self, path: Path, contents: Contents, pieces: Iterator[Any]) -> None:
        """Write a new file from the results of ``encode``, in the order of the graphs."""


class GraphFormat(ExportFormat):
    """A format that holds graphs with their edges."""

    @abstractmethod
    def write(self, dataset: Any, path: Path, contents: Contents, tell: Callable[[int], None]) -> list[str]:
        """Write a new file with the graphs of an open dataset.

        Args:
            dataset: a ``LazyGraphDataset``.
            path: the new file.
            contents: the labels and splits to write.
            tell: called with the number of graphs that were read since the last call.

        Returns:
            Notes about labels that are left out.
        """


def taken_names(contents: Contents, names: Sequence[str], what: str) -> Iterator[LeftOut]:
    """Yield the labels and columns of splits whose names mean something else in a format.

    Args:
        contents: what is exported.
        names: the names that the format uses.
        what: what the format calls the things of these names.
    """
    return (LeftOut(name, f"{what} has this name") for name in contents.names if name in names)


def not_written(error: Exception) -> StorageError:
    """Return the error for a database that could not be written, most often because the disk is full."""
    return StorageError(f"the database could not be written: {error}; make room, or write to another disk")


def finite(name: str, graph: ExportedGraph, value: Any) -> Any:
    """Return a number or an array that JSON can hold.

    Raises:
        InputError: it is, or holds, an infinite number.
    """
    if np.isinf(value).any():
        msg = (
            f"the label {name!r} of {graph.id!r} holds an infinite number, which JSON cannot hold; set it to a finite "
            "number or NaN"
        )
        raise InputError(msg)
    return value
