"""What a run is trained on, as digests of graphs, labels and splits: a stopped run resumes with nothing else."""

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
    """The identity of what a run is trained on, as plain values that TOML can hold.

    Args:
        dataset: all graphs.
        splits: the parts of it that the run uses: ``train``, ``val`` and ``test``.
        targets: the labels to learn.

    Returns:
        ``content_id`` of the graphs; ``splits``: a digest of the rows of each; ``labels``: for each target its unit,
        where it has one, and a digest of its values in the graphs of the splits.
    """
    rows = {name: np.asarray(splits[name].indices(), dtype=np.int64) for name in SPLITS}
    used = np.concatenate(list(rows.values()))
    labels = {}
    for target in targets:
        values = np.asarray(dataset.columns[target], dtype=np.float64)[used] + 0.0  # -0.0 is 0.0
        values[np.isnan(values)] = np.nan  # whatever its bits
        unit = dataset.manifest.columns[target].unit
        labels[target] = {"values": f"xxh3 {digest(values)}"} | ({} if unit is None else {"unit": unit})
    return {
        "content_id": dataset.content_id,
        "splits": {name: f"{len(of)} graphs, xxh3 {digest(of)}" for name, of in rows.items()},
        "labels": labels,
    }


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about how two identities differ; none where they are equal.

    Args:
        there: of a run that was begun.
        here: of the run that is to resume it.
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
    """What a file of another release, or an edited one, may hold in its place."""
    return value if isinstance(value, Mapping) else {}
