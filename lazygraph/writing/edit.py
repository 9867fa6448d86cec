"""Changes to a finished dataset that touch no graph: labels added or replaced, splits named, old files removed."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError, LabelError
from lazygraph.format.columns import NO_SPLIT, write_column
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.writing.labels import RESERVED, choose_labels
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
from lazygraph.writing.publish import collect_garbage, publish

__all__ = ["LabelReport", "gc", "set_labels", "set_splits"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What ``set_labels`` did: the labels set, graphs without a value, and ids that the dataset does not have."""

    names: tuple[str, ...]
    missing: int
    unknown_ids: tuple[str, ...]


def set_labels(
    path: str | os.PathLike[str],
    values: Mapping[str, Mapping[str, Any]],
    *,
    labels: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
) -> LabelReport:
    """Add or replace label columns of a finished dataset, without touching a graph.

    Args:
        path: the dataset.
        values: id -> label -> value. Graphs that are not named have NaN. Ids that the dataset does not have are
            reported, not refused: a table may cover more than one dataset.
        labels: the labels to take; all numeric ones unless said.
        units: name -> unit.

    Raises:
        LabelError: a label does not exist, is not numeric, or none of the ids is known.
    """
    layout = Layout.of(path)
    with exclusive(layout):
        store = Store(layout.final)
        rows, unknown = _rows_of(store, values)
        if not rows:
            example = next(iter(values), None)
            msg = f"none of the {len(values)} ids (such as {example!r}) is in {layout.final}, whose ids are like {_ids(store)}"
            raise LabelError(msg)
        # No graph has -1 atoms, so no array is taken for per-atom values: those are part of the records.
        chosen, _ = choose_labels(((-1, values[i]) for i in rows), labels, units or {})
        if not chosen:
            msg = "found no numeric column to take as a label; required: at least one"
            raise LabelError(msg)
        columns = {}
        for label in chosen:
            if label.name in RESERVED or label.name in store.manifest.schema.names:
                msg = f"the label {label.name!r} has the name of something else in the dataset; rename it"
                raise LabelError(msg)
            column = _column(label.name, label.shape, values, rows, len(store))
            columns[label.name] = write_column(layout.edit, label.name, column, role="label", unit=label.unit)
        publish(layout, layout.edit, store.manifest.with_columns(columns))
    return LabelReport(tuple(columns), len(store) - len(rows), tuple(unknown))


def set_splits(
    path: str | os.PathLike[str],
    fractions: Sequence[float] | None = None,
    *,
    names: Mapping[str, Iterable[str]] | None = None,
    seed: int = 123,
    group: str | None = None,
) -> dict[str, int]:
    """Name the splits of a finished dataset, in place of any it has.

    Args:
        path: the dataset.
        fractions: of train, val and test; together at most 1.
        names: or split -> ids, such as a published split.
        seed: of the shuffle.
        group: ``formula`` keeps all crystals of one formula in one split.

    Returns:
        The number of graphs in each split.

    Raises:
        InputError: the fractions, the names or the ids cannot be used.
    """
    if (fractions is None) == (names is None):
        msg = "found both or neither of fractions and named ids; required: one of them"
        raise InputError(msg)
    if fractions is not None:
        check_fractions(fractions)
    layout = Layout.of(path)
    with exclusive(layout):
        if fractions is not None:
            return add_splits(layout, fractions, seed=seed, group=group)
        return _publish_splits(layout, *_named_codes(Store(layout.final), names or {}))


def gc(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Delete the files of earlier states of a dataset. Readers that still have one open get ``DatasetReplaced``.

    Returns:
        How many files were deleted, and how many bytes.
    """
    layout = Layout.of(path)
    manifest = Manifest.load(layout.final)
    with exclusive(layout):
        return collect_garbage(layout.final, manifest)


def add_splits(layout: Layout, fractions: Sequence[float], *, seed: int, group: str | None) -> dict[str, int]:
    """``set_splits`` by fractions, for a caller that holds the lock."""
    store = Store(layout.final)
    if group not in (None, "formula"):
        msg = f"found group={group!r}; required: 'formula', or none"
        raise InputError(msg)
    if group is None:
        codes = split_codes(len(store), fractions, seed)
    elif "formula" not in store.manifest.columns:
        msg = f"{layout.final} has no formulas, since its graphs came ready-made; required: crystals"
        raise InputError(msg)
    else:
        _, members = np.unique(store.column("formula"), return_inverse=True)
        codes = grouped_codes(members, fractions, seed)
    return _publish_splits(layout, codes, SPLITS)


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise InputError unless these are three fractions of a whole."""
    good = len(fractions) == 3 and all(0 <= f <= 1 for f in fractions) and 0 < math.fsum(fractions) <= 1 + 1e-9
    if not good:
        msg = f"found the fractions {tuple(fractions)}; required: three from 0 to 1 for train, val and test, together at most 1"
        raise InputError(msg)


def split_codes(n: int, fractions: Sequence[float], seed: int) -> NDArray[np.uint8]:
    """A random split as published crystal networks make theirs (``get_id_train_val_test`` of ALIGNN and its successors).

    ``random.Random(seed)`` shuffles the rows; train is the beginning, test the end, val what lies before test.

    Example:
        >>> split_codes(10, (0.8, 0.1, 0.1), 123).tolist()
        [0, 1, 0, 0, 0, 0, 2, 0, 0, 0]
    """
    order = list(range(n))
    random.Random(seed).shuffle(order)  # noqa: S311 - a split, not a secret
    train, val, test = (int(fraction * n + 1e-9) for fraction in fractions)
    codes = np.full(n, NO_SPLIT, np.uint8)
    codes[order[:train]] = 0
    codes[order[n - test - val : n - test]] = 1
    codes[order[n - test :]] = 2
    return codes


def grouped_codes(members: NDArray[np.int64], fractions: Sequence[float], seed: int) -> NDArray[np.uint8]:
    """A split that keeps groups whole: shuffled groups fill train, then val, then test, up to their share of rows."""
    sizes = np.bincount(members)
    order = list(range(len(sizes)))
    random.Random(seed).shuffle(order)  # noqa: S311 - a split, not a secret
    # A group belongs where its middle falls, so shares are met as closely as whole groups allow.
    ends = np.cumsum(sizes[order])
    middles = (ends - sizes[order] / 2) / len(members)
    bounds = np.cumsum(fractions)
    of_group = np.empty(len(sizes), np.uint8)
    code = np.searchsorted(bounds, middles, side="right").astype(np.uint8)
    of_group[order] = np.where(code > 2, NO_SPLIT, code)
    out: NDArray[np.uint8] = of_group[members]
    return out


def _publish_splits(layout: Layout, codes: NDArray[np.uint8], names: Sequence[str]) -> dict[str, int]:
    manifest = Manifest.load(layout.final)
    column = write_column(layout.edit, "split", codes, categories=names)
    publish(layout, layout.edit, manifest.with_columns({"split": column}))
    return {name: int((codes == code).sum()) for code, name in enumerate(names)}


def _named_codes(store: Store, names: Mapping[str, Iterable[str]]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    if not 0 < len(names) < NO_SPLIT:
        msg = f"found {len(names)} splits; required: 1 to {NO_SPLIT - 1}"
        raise InputError(msg)
    codes = np.full(len(store), NO_SPLIT, np.uint8)
    for code, (name, ids) in enumerate(names.items()):
        for graph_id in ids:
            row = store.row_of(graph_id)
            if codes[row] != NO_SPLIT:
                msg = f"the id {graph_id!r} is in the splits {list(names)[codes[row]]!r} and {name!r}; required: in one"
                raise InputError(msg)
            codes[row] = code
    return codes, tuple(names)


def _rows_of(store: Store, values: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """Id -> row for the ids that the dataset has, and those that it has not."""
    known = {raw.decode(): row for row, raw in enumerate(store.column("id").tolist())}
    rows = {graph_id: known[graph_id] for graph_id in values if graph_id in known}
    return rows, [graph_id for graph_id in values if graph_id not in known]


def _column(
    name: str, shape: tuple[int, ...], values: Mapping[str, Mapping[str, Any]], rows: Mapping[str, int], n: int
) -> NDArray[np.float64]:
    from lazygraph.writing.labels import Label, LabelSet

    one = LabelSet([Label(name, "graph", shape)])
    column = np.full((n, *shape), np.nan)
    for graph_id, row in rows.items():
        try:
            column[row] = one.row(values[graph_id], 0)[0][0]
        except LabelError as error:
            msg = f"id {graph_id!r}: {error}"
            raise LabelError(msg) from error
    return column


def _ids(store: Store) -> str:
    return ", ".join(repr(store.graph_id(row)) for row in range(min(3, len(store))))
