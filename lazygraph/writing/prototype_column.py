"""The label ``prototype`` of a finished dataset, computed from its crystals by several processes."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError, WorkerDied
from lazygraph.format.columns import Column, ColumnWriter, Pieces
from lazygraph.format.store import Store
from lazygraph.machine import usable_cpus
from lazygraph.sources.base import Label
from lazygraph.sources.dataset import crystal_of
from lazygraph.writing.label_columns import label_column
from lazygraph.writing.pool import processes
from lazygraph.writing.prototypes import SYMPREC, prototype_of
from lazygraph.writing.remarks import Remarks
from lazygraph.writing.temporary_arrays import TemporaryArrays
from lazygraph.writing.value_groups import PROTOTYPE, columns_of

__all__ = ["Prototypes", "check_symprec", "compute_prototypes", "stored_prototypes"]

LEAST, MOST = 2**8, 2**14  # crystals per call; fewer would not be worth a process


class Prototypes(NamedTuple):
    """The prototypes of a dataset.

    Attributes:
        pieces: the texts of all rows, one array after the other.
        notes: sentences about crystals for which spglib found no symmetry.
    """

    pieces: Pieces
    notes: tuple[str, ...] = ()


def stored_prototypes(store: Store, scratch: TemporaryArrays, symprec: float | None) -> Prototypes | None:
    """Return the prototypes of a dataset, its own label or stored ones; None if they must be computed.

    Args:
        store: the dataset.
        scratch: for what does not fit into memory.
        symprec: the requested distance, A; None for any.

    Raises:
        InputError: something else in the dataset has the name, or a distance is given and the label is the dataset's
            own.
    """
    columns = columns_of(store, scratch)
    there = store.manifest.columns.get(PROTOTYPE)
    if PROTOTYPE not in columns.names:
        if there is not None or PROTOTYPE in store.manifest.schema.names:
            msg = (
                f"something else in the dataset has the name {PROTOTYPE!r}; rename it, because prototypes are stored "
                "under this name"
            )
            raise InputError(msg)
        return None
    if there is None or there.rule is None:
        if symprec is not None:
            msg = (
                f"the dataset has a label {PROTOTYPE!r} of its own, for which symprec has no meaning; leave "
                f"symprec={symprec:g} out"
            )
            raise InputError(msg)
        told = f"the label {PROTOTYPE!r} is the dataset's own, and was not computed"
        return Prototypes(columns.values(PROTOTYPE), (told,))
    return Prototypes(columns.values(PROTOTYPE)) if symprec in (None, there.rule["symprec"]) else None


def compute_prototypes(
    store: Store,
    columns: ColumnWriter,
    symprec: float | None,
    scratch: TemporaryArrays,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Prototypes:
    """Compute the prototype of each crystal, and write them as a label. One takes about 1 ms.

    Args:
        store: the dataset.
        columns: takes the label.
        symprec: how far an atom may be from its ideal position, A; None for 0.01.
        scratch: for what does not fit into memory.
        workers: processes that compute at the same time; None takes one for each usable CPU. No more are started
            than there are parts of 256 crystals.
        progress: called with the number of crystals that were finished since the last call.

    Raises:
        InputError: the graphs are ready-made, without crystals, or there is no worker.
        WorkerDied: a worker process was killed.
    """
    if store.manifest.recipe is None:
        msg = f"the graphs of {store.path} are ready-made, without crystals; give a dataset of crystals"
        raise InputError(msg)
    if workers is not None and workers < 1:
        msg = f"found {workers} workers; required: at least 1"
        raise InputError(msg)
    distance = SYMPREC if symprec is None else float(symprec)
    workers = usable_cpus() if workers is None else workers
    step = min(MOST, max(LEAST, len(store) // (4 * workers)))
    starts = range(0, len(store), step)
    pieces: list[NDArray[np.bytes_]] = []
    remarks = Remarks()
    for texts, own in _computed(store, distance, starts, min(workers, len(starts))):
        piece = scratch.array(texts.dtype, len(texts))
        piece[:] = texts
        pieces.append(piece)
        remarks.join(own)
        if progress is not None:
            progress(len(texts))
    line = f"structure type by spglib {importlib.metadata.version('spglib')}, symprec {distance:g} A"
    label_column(columns, Label(PROTOTYPE, "graph", dtype="text", description=line, symprec=distance), pieces)
    return Prototypes(pieces, remarks.notes())


def check_symprec(columns: Mapping[str, Column], symprec: float | None) -> None:
    """Check the distance. Refuse another distance than before while splits depend on the stored prototypes.

    Args:
        columns: the columns of the dataset, without the splits that are made again.
        symprec: the distance, A; None for the default.

    Raises:
        InputError: the distance cannot be used; the message says what to do.
    """
    if symprec is not None and not 0 < symprec < math.inf:
        msg = f"found symprec={symprec}; required: a distance greater than 0 A"
        raise InputError(msg)
    there = columns.get(PROTOTYPE)
    users = [name for name, column in columns.items() if _follows(column.rule or {})]
    if users and there is not None and there.rule is not None:
        msg = (
            f"the prototypes were computed with symprec={there.rule['symprec']:g}, and the splits {', '.join(users)} "
            f"depend on them; use the same symprec, not {symprec:g}, or split these in another way first"
        )
        raise InputError(msg)


def _follows(rule: Mapping[str, Any]) -> bool:
    """Whether a rule of splits depends on prototypes."""
    return PROTOTYPE in (rule.get("group"), rule.get("stratify", {}).get("label"))


class _Some(NamedTuple):
    texts: NDArray[np.bytes_]
    remarks: Remarks


def _computed(store: Store, symprec: float, starts: range, workers: int) -> Iterator[_Some]:
    """Yield the prototypes from each start to the next, in order."""
    if workers <= 1:
        for start in starts:
            yield _some(store, symprec, start, start + starts.step)
        return
    try:
        with processes(workers) as pool:
            tasks = [pool.submit(_in_worker, store.path, symprec, start, start + starts.step) for start in starts]
            for task in tasks:
                yield task.result()
    except BrokenExecutor as error:
        msg = (
            "a worker process died while prototypes were computed, most often because memory ran out; nothing was "
            "changed: use fewer workers (workers=1, --workers 1)"
        )
        raise WorkerDied(msg) from error


def _some(store: Store, symprec: float, start: int, end: int) -> _Some:
    texts: list[bytes] = []
    remarks = Remarks()
    for row in range(start, min(end, len(store))):
        found = prototype_of(crystal_of(store.arrays(row)), symprec)
        texts.append(found.text.encode())
        remarks.add(store.graph_id(row), found.remarks())
    return _Some(np.array(texts, f"S{max(map(len, texts), default=1)}"), remarks)


def _in_worker(path: Path, symprec: float, start: int, end: int) -> _Some:
    return _some(_opened(path), symprec, start, end)


@cache
def _opened(path: Path) -> Store:
    """Return the dataset, which each worker opens once. Workers end before the dataset can change."""
    return Store(path)
