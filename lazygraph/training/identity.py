"""Digests of graphs, labels and splits, which a stopped run must match to resume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.loading.orders import digest

__all__ = ["differences", "identity_of"]

SPLITS = {"train": "training", "val": "validation", "test": "test"}


def identity_of(
    dataset: LazyGraphDataset, splits: Mapping[str, LazyGraphDataset], targets: Sequence[str]
) -> dict[str, Any]:
    """Return the identity of the training data as plain values for TOML.

    Args:
        dataset: all graphs.
        splits: the parts that the run uses: ``train``, ``val`` and ``test``.
        targets: the labels to learn.

    Returns:
        ``content_id`` of the stored graphs; ``recipe`` of the graphs that are read; ``splits`` with a digest of the
        rows of each split; ``labels`` with the unit of each target, if it has one, and a digest of its values in the
        splits.
    """
    rows = {name: np.asarray(splits[name].indices(), dtype=np.int64) for name in SPLITS}
    used = np.concatenate(list(rows.values()))
    labels = {}
    for target in targets:
        values = np.asarray(dataset.columns[target], dtype=np.float64)[used] + 0.0  # -0.0 becomes 0.0
        values[np.isnan(values)] = np.nan  # every NaN gets the same bits
        unit = dataset.manifest.columns[target].unit
        labels[target] = {"values": f"xxh3 {digest(values)}"} | ({} if unit is None else {"unit": unit})
    return {
        "content_id": dataset.content_id,
        "recipe": "ready-made" if dataset.spec is None else repr(dataset.spec),
        "splits": {name: f"{len(of)} graphs, xxh3 {digest(of)}" for name, of in rows.items()},
        "labels": labels,
    }


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Describe the differences of two identities in sentences; empty if they are equal.

    Args:
        there: identity of the run that was begun.
        here: identity of the run that resumes it.
    """
    there = _mapping(there)
    for name, value in here.items():
        if name == "splits":
            theirs = _mapping(there.get(name))
            yield from (
                f"the {told} graphs are others ({theirs.get(split, 'not recorded')} there, {value[split]} here)"
                for split, told in SPLITS.items()
                if theirs.get(split) != value[split]
            )
        elif name == "labels":
            yield from _of_labels(_mapping(there.get(name)), value)
        elif name == "content_id":
            if there.get(name) != value:
                yield f"the dataset holds other graphs (content id {there.get(name)} there, {value} here)"
        elif there.get(name) != value:
            yield f"{name} is {there.get(name)!r} there and {value!r} here"


def _of_labels(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    for label, own in here.items():
        theirs = _mapping(there.get(label))
        if theirs.get("unit") != own.get("unit"):
            yield f"the unit of {label!r} is {theirs.get('unit')!r} there and {own.get('unit')!r} here"
        if theirs.get("values") != own["values"]:
            yield f"the label {label!r} has other values than the run was begun with"


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return the value if it is a mapping, else an empty one: a file may be edited or of another release."""
    return value if isinstance(value, Mapping) else {}
