"""Removal of graphs: a new state of a dataset without them, with the reason in its history."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError, OutputExists
from lazygraph.format.columns import ColumnWriter, attributes, narrowest
from lazygraph.format.digests import BLOCK, BlockHasher, Blocks, content_id, graph_digest
from lazygraph.format.id_lookup import rows_of
from lazygraph.format.manifest import Manifest, Removal, Shard
from lazygraph.format.store import Store
from lazygraph.writing.edit import editing
from lazygraph.writing.id_order import order_type
from lazygraph.writing.label_columns import dropped_energies
from lazygraph.writing.parts import Part, Parts
from lazygraph.writing.publish import publish
from lazygraph.writing.quarantine import input_of_rows, read_quarantine

__all__ = ["RemoveReport", "remove"]

ROWS = 2**16  # rows that are copied at a time


@dataclass(frozen=True, slots=True)
class RemoveReport:
    """The result of ``remove``: the numbers of removed and remaining graphs, the new content id, and notes."""

    removed: int
    graphs: int
    content_id: str
    notes: tuple[str, ...] = ()


def remove(path: str | os.PathLike[str], ids: Iterable[str], *, reason: str) -> RemoveReport:
    """Remove graphs from a dataset, by publishing a new state without them. No shard is written again.

    The history in the manifest keeps the ids and the reason, and ``lazygraph info`` and ``lg.diff`` show them. The
    records stay in the shards, but no row points to them. To share the dataset without these records, make a subset of
    it.

    Args:
        path: the dataset.
        ids: the ids of the graphs to remove.
        reason: the reason, in a sentence.

    Raises:
        UnknownId: the dataset has no graph with one of the ids.
        InputError: no id is given, the reason is empty, or no graph would be left.
        OutputExists: graphs are being added to the dataset.
        WriterBusy: another process is writing the same dataset.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:5", folder.name + "/p.lg", workers=1)
        >>> remove(folder.name + "/p.lg", ["prototype-0000003"], reason="does not relax").graphs
        4
        >>> folder.cleanup()
    """
    wanted = list(dict.fromkeys(ids))
    if not reason.strip() or not reason.isprintable():
        msg = f"the reason {reason!r} cannot be stored; give a printable sentence that says why the graphs are removed"
        raise InputError(msg)
    if not wanted:
        msg = "no id is given; give the ids of the graphs to remove"
        raise InputError(msg)
    with editing(path) as (hold, store):
        if hold.layout.plan.exists():
            msg = (
                f"{hold.layout.partial} holds graphs that are being added; finish this run, or delete the folder, and "
                "then remove graphs"
            )
            raise OutputExists(msg)
        rows = np.sort(rows_of(store, wanted))
        left = len(store) - len(rows)
        if not left:
            msg = f"all {len(store)} graphs of {store.path} would be removed; delete the directory instead"
            raise InputError(msg)
        manifest = store.manifest
        blocks = _blocks(store, rows)
        columns = _columns(store, rows, ColumnWriter(hold.layout.edit))
        new = replace(
            manifest,
            graphs=left,
            shards=_shards(manifest, rows),
            columns=columns.columns,
            digests=columns.digests(blocks),
            history=(*manifest.history, Removal(tuple(wanted), reason)),
            content_id=content_id(manifest.recipe, manifest.schema, blocks),
        )
        publish(hold, hold.layout.edit, new)
    notes = [note for name in manifest.columns for note in dropped_energies(name, manifest)]
    return RemoveReport(len(rows), left, new.content_id, tuple(notes))


def _shards(manifest: Manifest, rows: NDArray[np.int64]) -> tuple[Shard, ...]:
    """Return the shards, with the records of these rows marked as spare."""
    out, start = [], 0
    for shard, end in zip(manifest.shards, accumulate(shard.rows for shard in manifest.shards), strict=True):
        mine = rows[(rows >= start) & (rows < end)] - start
        spare = np.union1d(np.array(shard.spare, np.int64), shard.keys()[mine]) if len(mine) else shard.spare
        out.append(replace(shard, spare=tuple(map(int, spare))))
        start = end
    return tuple(out)


def _blocks(store: Store, removed: NDArray[np.int64]) -> Blocks:
    """Return the digests of blocks of the remaining graphs. Blocks before the first removed graph are not read."""
    whole = int(removed[0]) // BLOCK
    ids, hasher = store.checked_column("id"), BlockHasher()
    for start in range(whole * BLOCK, len(store), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(store)))
        digests = [graph_digest(ids.row(row), store.raw(row)) for row in np.setdiff1d(rows, removed).tolist()]
        hasher.add(np.frombuffer(b"".join(digests), "V32"))
    return np.concatenate([store.digests()[0][:whole], hasher.blocks()])


def _columns(store: Store, removed: NDArray[np.int64], columns: ColumnWriter) -> ColumnWriter:
    """Write all columns without the removed rows."""
    manifest = store.manifest
    own = store.column("input") if "input" in manifest.columns else None
    inputs = None
    if manifest.provenance.sources:
        inputs = input_of_rows(manifest, read_quarantine(store.path, manifest), own)

    def values(start: int, end: int, name: str) -> NDArray[Any]:
        if name == "input" and inputs is not None:
            return inputs.of(np.arange(start, end))
        return store.column(name)[start:end]

    bounds = [*range(0, len(store), ROWS), len(store)]
    table = Parts([Part(end - start, partial(values, start, end)) for start, end in pairwise(bounds)], removed)
    for name, column in manifest.columns.items():
        if name == "id_order":
            columns.stream(name, _Order(store.column(name), removed), dtype=order_type(len(table)))
        elif name != "input":
            columns.stream(name, table.column(name), **attributes(column))
    if inputs is not None:
        columns.stream("input", table.column("input"), dtype=narrowest(table.column("input")))
    return columns


@dataclass(frozen=True, slots=True)
class _Order:
    """The remaining rows in the order of their ids, in pieces. It can be iterated any number of times."""

    order: NDArray[Any]
    removed: NDArray[np.int64]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(self.order), ROWS):
            rows = self.order[start : start + ROWS].astype(np.int64)
            before = np.searchsorted(self.removed, rows)
            stays = self.removed[np.minimum(before, len(self.removed) - 1)] != rows
            yield (rows - before)[stays]
