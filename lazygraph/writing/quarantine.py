"""The list of quarantined inputs, which could not become graphs: reading and writing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset
from lazygraph.format.columns import invalid_inputs
from lazygraph.format.manifest import Manifest, Quarantine
from lazygraph.sources.base import readable
from lazygraph.storage.base import Storage, read_checked
from lazygraph.storage.files import named_after_content
from lazygraph.storage.local import LocalStorage

__all__ = ["InputNumbers", "Rejected", "input_of_rows", "read_quarantine", "renumbered", "write_quarantine"]

PIECE = 2**16  # rows whose inputs are computed at a time
LONGEST = 2000  # letters of a message


@dataclass(frozen=True, slots=True)
class Rejected:
    """One input that could not become a graph: number ``entry`` of its source, number ``position`` of all inputs."""

    source: str
    position: int
    entry: int
    id: str
    error: str
    message: str

    @classmethod
    def of(cls, source: str, entry: int, position: int, graph_id: str, error: Exception) -> Rejected:
        """Make the entry of an input from its error: the class, and up to 2,000 letters of the message."""
        text = readable(str(error) or repr(error))
        message = text if len(text) <= LONGEST else text[:LONGEST] + "..."
        return cls(source, position, entry, readable(graph_id[:LONGEST]), type(error).__name__, message)


def read_quarantine(place: Path | Storage, manifest: Manifest) -> list[Rejected]:
    """The inputs of a dataset that could not become graphs.

    Raises:
        FileNotFoundError, CorruptDataset: the list is missing or damaged.
    """
    if manifest.quarantine is None:
        return []
    storage = LocalStorage(place) if isinstance(place, Path) else place
    file = manifest.quarantine.file
    # splitlines() also breaks at characters such as U+2028, which an id may hold.
    lines = read_checked(storage, file).removesuffix(b"\n").split(b"\n")
    try:
        found = [Rejected(**json.loads(line)) for line in lines]
        problem = _problem(found, manifest)
    except (TypeError, ValueError, RecursionError) as error:
        problem = str(error)
    if problem is not None:
        msg = f"{storage.name}/{file.name} is no list of quarantined inputs: {problem}"
        raise CorruptDataset(msg)
    return found


def _problem(found: list[Rejected], manifest: Manifest) -> str | None:
    """Return the first entry of a list that is not allowed, in words, or None if all are allowed."""
    if manifest.quarantine is not None and len(found) != manifest.quarantine.count:
        return f"it has {len(found)} lines; required: {manifest.quarantine.count}, as the manifest says"
    before = -1
    for line, one in enumerate(found, 1):
        texts = one.source, one.id, one.error, one.message
        if {*map(type, texts)} != {str} or type(one.position) is not int or type(one.entry) is not int:
            return f"line {line} has values of other types than docs/format.md states"
        if not before < one.position < manifest.inputs or not 0 <= one.entry <= one.position:
            return (
                f"line {line} has the position {one.position!r:.40} and the entry {one.entry!r:.40}; required: "
                f"positions in increasing order, all below {manifest.inputs}, and entries that are no greater"
            )
        before = one.position
    return None


@dataclass(frozen=True, slots=True)
class InputNumbers:
    """The number of the input of each row. Iterating it gives the numbers of all rows, in pieces.

    Attributes:
        rows: the number of rows.
        column: the column ``input``, if there is one.
        skipped: (q,) if there is no such column, the number of rows before each quarantined input, in order.
    """

    rows: int
    column: NDArray[Any] | None
    skipped: NDArray[np.int64]

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of some rows."""
        if self.column is not None:
            return self.column[rows].astype(np.int64)
        return rows + np.searchsorted(self.skipped, rows, side="right")

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        for start in range(0, self.rows, PIECE):
            yield self.of(np.arange(start, min(start + PIECE, self.rows)))


def input_of_rows(
    manifest: Manifest, quarantined: Iterable[Rejected], column: NDArray[Any] | None
) -> InputNumbers | None:
    """Return the number of the input of each row; None if no input is known.

    Rows with an unknown input get the number ``manifest.inputs``, which no input has.

    Args:
        manifest: the manifest of the dataset.
        quarantined: the quarantined inputs of the dataset.
        column: the column ``input``, if there is one. Otherwise the rows are all inputs that are not quarantined.

    Raises:
        CorruptDataset: the column names an input that does not exist, or the same input for two rows.
    """
    if column is not None:
        if problem := invalid_inputs(column, manifest.inputs):
            msg = f"the column 'input' {problem}; 'lazygraph salvage' leaves it out"
            raise CorruptDataset(msg)
        return InputNumbers(manifest.graphs, column, np.empty(0, np.int64))
    rejected = np.sort(np.array([one.position for one in quarantined], np.int64))
    if manifest.inputs != manifest.graphs + len(rejected):
        return None
    return InputNumbers(manifest.graphs, None, rejected - np.arange(len(rejected)))


def renumbered(inputs: NDArray[np.int64], count: int, first: int, total: int) -> NDArray[np.int64]:
    """Renumber the inputs of rows for a dataset with more inputs.

    Args:
        inputs: (N,) the numbers from ``input_of_rows``.
        count: the number of inputs so far, which marks an unknown input.
        first: the number that input 0 gets.
        total: the new number of inputs, which marks an unknown input in the result.
    """
    return np.where(inputs == count, total, inputs + first)


def write_quarantine(directory: Path, rejected: Iterable[Rejected]) -> Quarantine | None:
    """Write the list, in the order of the inputs, into the folder of a dataset. An empty list is not written."""
    ordered = sorted(rejected, key=lambda one: one.position)
    if not ordered:
        return None
    lines = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in ordered)
    return Quarantine(named_after_content(directory, "quarantine", ".jsonl", lines.encode()), len(ordered))
