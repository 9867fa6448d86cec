"""The list of inputs that are no graphs: what it says of each, read and written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from lazygraph.errors import CorruptDataset
from lazygraph.format.manifest import Manifest, Quarantine
from lazygraph.sources.base import readable
from lazygraph.storage.files import named_after_content

__all__ = ["UNKNOWN_SOURCE", "Rejected", "read_quarantine", "write_quarantine"]

LONGEST = 2000  # letters of a message
UNKNOWN_SOURCE = ""
"""The source of a graph that was lost later: nothing but its position among all inputs is known."""


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
    def of(cls, source: str, position: int, entry: int, graph_id: str, error: Exception) -> Rejected:
        """The input, with the class and the text of the error that it met, of which no more than 2,000 letters."""
        text = readable(str(error) or repr(error))
        message = text if len(text) <= LONGEST else text[:LONGEST] + "..."
        return cls(source, position, entry, readable(graph_id[:LONGEST]), type(error).__name__, message)


def read_quarantine(directory: Path, manifest: Manifest) -> list[Rejected]:
    """The inputs of a dataset that could not become graphs.

    Raises:
        FileNotFoundError, CorruptDataset: the list is gone, or not the one that was written.
    """
    if manifest.quarantine is None:
        return []
    path = manifest.quarantine.file.check(directory)
    # splitlines() also breaks at U+2028 and its like, which an id may hold.
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    try:
        return [Rejected(**json.loads(line)) for line in lines]
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"{path} is no list of quarantined inputs: {error}"
        raise CorruptDataset(msg) from error


def write_quarantine(directory: Path, rejected: Iterable[Rejected]) -> Quarantine | None:
    """Write the list, in the order of the inputs, into the folder of a dataset; nothing where it is empty."""
    ordered = sorted(rejected, key=lambda one: one.position)
    if not ordered:
        return None
    lines = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in ordered)
    return Quarantine(named_after_content(directory, "quarantine", ".jsonl", lines.encode()), len(ordered))
