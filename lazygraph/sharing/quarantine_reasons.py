"""The reasons why inputs of a dataset could not become graphs, counted line by line."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass

from lazygraph.errors import CorruptDataset
from lazygraph.format.store import Store

__all__ = ["Reason", "quarantine_reasons"]

MOST = 100  # reasons that are told apart
LONGEST = 2**20  # bytes of a line
OTHERS = "(other reasons)"


@dataclass(frozen=True, slots=True)
class Reason:
    """One class of error: how many inputs it met, and the first of them with its message."""

    error: str
    count: int
    id: str
    message: str


def quarantine_reasons(store: Store) -> list[Reason]:
    """Return the classes of errors of quarantined inputs, the most frequent first. One line is in memory at a time.

    Raises:
        CorruptDataset: the list of quarantined inputs is not the one that was written.
    """
    quarantine = store.manifest.quarantine
    if quarantine is None:
        return []
    path = f"{store.name}/{quarantine.file.name}"
    counts: Counter[str] = Counter()
    first: dict[str, tuple[str, str]] = {}
    with os.fdopen(store.storage.descriptor(quarantine.file), "rb") as file:
        if (found := hashlib.file_digest(file, "sha256").hexdigest()) != quarantine.file.sha256:
            msg = f"{path} has the sha256 {found}; required: {quarantine.file.sha256}, as the manifest says"
            raise CorruptDataset(msg)
        file.seek(0)
        for line in iter(lambda: file.readline(LONGEST), b""):
            try:
                entry = json.loads(line)
                error, graph_id, message = (str(entry[key]) for key in ("error", "id", "message"))
            except (ValueError, LookupError, TypeError, RecursionError) as wrong:
                msg = f"{path} is no list of quarantined inputs: {wrong}"
                raise CorruptDataset(msg) from wrong
            if error not in counts and len(counts) >= MOST:
                error = OTHERS
            counts[error] += 1
            first.setdefault(error, (graph_id, message))
    return [Reason(error, count, *first[error]) for error, count in counts.most_common()]
