"""The list of inputs that are no graphs: what it says of each, read and written."""

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

PIECE = 2**16  # rows of which the inputs are told at once
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
        """The input, with the class and the text of the error that it met, of which no more than 2,000 letters."""
        text = readable(str(error) or repr(error))
        message = text if len(text) <= LONGEST else text[:LONGEST] + "..."
        return cls(source, position, entry, readable(graph_id[:LONGEST]), type(error).__name__, message)


def read_quarantine(place: Path | Storage, manifest: Manifest) -> list[Rejected]:
    """The inputs of a dataset that could not become graphs.

    Raises:
        FileNotFoundError, CorruptDataset: the list is gone, or not the one that was written.
    """
    if manifest.quarantine is None:
        return []
    storage = LocalStorage(place) if isinstance(place, Path) else place
    file = manifest.quarantine.file
    # splitlines() also breaks at U+2028 and its like, which an id may hold.
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
    """What a list says that it may not."""
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
    """The number of the input that each row came from. Iterated, it gives those of all rows in pieces.

    Attributes:
        rows: how many there are.
        column: the column ``input``, if there is one.
        skipped: (q,) without such a column, the number of rows before each quarantined input, in order.
    """

    rows: int
    column: NDArray[Any] | None
    skipped: NDArray[np.int64]

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some rows."""
        if self.column is not None:
            return self.column[rows].astype(np.int64)
        return rows + np.searchsorted(self.skipped, rows, side="right")

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        for start in range(0, self.rows, PIECE):
            yield self.of(np.arange(start, min(start + PIECE, self.rows)))


def input_of_rows(
    manifest: Manifest, quarantined: Iterable[Rejected], column: NDArray[Any] | None
) -> InputNumbers | None:
    """The number of the input that each row came from; None where it is not known of any.

    Where it is not known of some rows, ``manifest.inputs`` stands for it, which is the number of no input.

    Args:
        manifest: of the dataset.
        quarantined: its quarantined inputs.
        column: its column ``input``, if it has one: else its rows are all inputs that are not quarantined, in order.

    Raises:
        CorruptDataset: the column names inputs that are not there, or one for two rows.
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
    """The inputs of rows in a dataset with more inputs than these.

    Args:
        inputs: (N,) as ``input_of_rows`` gives them.
        count: the number of inputs there, which stands for an input that is not known.
        first: the number that input 0 gets.
        total: the number of all inputs, which stands for it now.
    """
    return np.where(inputs == count, total, inputs + first)


def write_quarantine(directory: Path, rejected: Iterable[Rejected]) -> Quarantine | None:
    """Write the list, in the order of the inputs, into the folder of a dataset; nothing where it is empty."""
    ordered = sorted(rejected, key=lambda one: one.position)
    if not ordered:
        return None
    lines = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in ordered)
    return Quarantine(named_after_content(directory, "quarantine", ".jsonl", lines.encode()), len(ordered))
