"""Checks of many records at once, which only tell whether all of them are sound.

They read the records of some rows by :meth:`Store.read_batch`, and compare arrays of all records instead of arrays of
one record. What they find sound has no problem by :func:`lazygraph.reading.verify_checks.check_rows` either. They do
not say what is wrong: records that they do not find sound are checked again, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, NotEnoughMemory
from lazygraph.format.manifest import row_starts
from lazygraph.format.record_batch import RecordBatch
from lazygraph.format.schema import Schema
from lazygraph.format.store import Store
from lazygraph.graphs.compiled import PackedCrystals
from lazygraph.graphs.crystal_records import Untrue, are_possible, check_record_batch
from lazygraph.graphs.sizes import derived_names
from lazygraph.graphs.spec import GraphSpec

__all__ = ["can_check_together", "pieces", "records_are_sound"]

ROWS = 256  # that are checked at once
VALUES = 2**19  # in their records: 4 MiB, unless one record has more


def can_check_together(store: Store, spec: GraphSpec | None) -> bool:
    """Whether the records of a dataset can be checked together.

    Columns that count what a graph does not store, such as angles, need each graph.

    Args:
        store: the dataset.
        spec: the recipe, if the records hold crystals.
    """
    return spec is None or not set(derived_names(spec)) & set(store.manifest.columns)


def pieces(store: Store, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield rows in pieces that take little memory when they are read at once, as far as the columns tell."""
    schema, start, total = store.manifest.schema, 0, 0.0
    try:
        counts = [store.checked_column(f"n_{axis}").rows(rows).astype(np.float64) for axis in schema.axes]
    except (CorruptDataset, OSError):  # which is said when the rows are read
        yield rows
        return
    sizes = np.broadcast_to(np.asarray(schema.values(counts), np.float64), len(rows))
    for place, size in enumerate(sizes.tolist()):
        if place - start == ROWS or (place > start and total + size > VALUES):
            yield rows[start:place]
            start, total = place, 0.0
        total += size
    yield rows[start:]


def records_are_sound(store: Store, rows: NDArray[np.int64], spec: GraphSpec | None) -> bool:
    """Whether the records of rows have the form of the schema, valid indices, and what their recipe promises.

    Args:
        store: the dataset, for which :func:`can_check_together` is true.
        rows: (B,)
        spec: the recipe, if the records hold crystals.

    Returns:
        False if something is wrong, and also in rare cases if nothing is.
    """
    if store.is_remote and not _are_at_hand(store, rows):
        return False
    try:
        records = store.read_batch(rows)
    except (CorruptDataset, NotEnoughMemory, OSError):
        return False
    return _indices_are_valid(store.manifest.schema, records) and (spec is None or _promises_are_kept(spec, records))


def _are_at_hand(store: Store, rows: NDArray[np.int64]) -> bool:
    """Whether the shards of rows are on this machine. Otherwise each record would be fetched twice."""
    shards = np.unique(np.searchsorted(row_starts(store.manifest.shards)[1:], rows, side="right"))
    return all(store.storage.is_at_hand(store.manifest.shards[shard].file) for shard in shards.tolist())


def _indices_are_valid(schema: Schema, records: RecordBatch) -> bool:
    """Whether all indices of each record point at what the record has.

    Indices are numbered through the batch, so those of each record lie in a range of their own.
    """
    for field in schema.fields:
        value = records.fields[field.name]
        if field.counts is None or isinstance(value, list):
            continue
        counted = records.counts[field.counts]
        end = counted.cumsum()
        bounds = np.stack([end - counted, end])
        if field.axis is not None:
            bounds = bounds.repeat(records.counts[field.axis], axis=1)
        place = 0 if field.axis is None else field.axis_dim
        low, high = bounds.reshape(2, *(1,) * place, -1, *(1,) * (value.ndim - 1 - place))
        if (value < low).any() or (value >= high).any():
            return False
    return True


def _promises_are_kept(spec: GraphSpec, records: RecordBatch) -> bool:
    """Whether the records hold possible crystals, with edges in the order and number of the recipe.

    Args:
        spec: the recipe.
        records: records with valid indices, of a schema that ``check_crystals`` lets pass.
    """
    fields = records.fields
    try:
        check_record_batch(records)
    except Untrue:
        return False
    crystals = PackedCrystals(fields["frac_coords"], fields["lattice"], fields["pbc"], records.counts["node"])
    return are_possible(crystals) and ("edge" not in records.counts or _edges_are_ordered(spec, records))


def _edges_are_ordered(spec: GraphSpec, records: RecordBatch) -> bool:
    """``check_edges`` for several crystals.

    The atoms of each crystal are numbered after those of the crystals before it. So the edges of all crystals are
    ordered if those of each are. Two edges of different crystals share no atom and are no pair, so no crystal has an
    odd number of edges if all edges are pairs.
    """
    (first, second), images = records.fields["edge_index"], records.fields["images"]
    if (most := spec.rule.most_neighbors) is not None:
        ordered = bool((first[1:] >= first[:-1]).all())
        return ordered and int(np.bincount(first, minlength=1).max()) <= most
    # In the type of the field: the least number of a narrower type is its own negative.
    images = images.astype(np.int64, copy=False)
    return bool(
        np.array_equal(first[::2], second[1::2])
        and np.array_equal(first[1::2], second[::2])
        and np.array_equal(images[::2], -images[1::2])
    )
