"""Errors of predictions in detail: by element, by number of atoms, and of the worst predictions."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import ATOMIC_NUMBERS
from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.storage.files import write_atomic
from lazygraph.text import printable
from lazygraph.training.report import Prediction, root_mean_square
from lazygraph.training.targets import Targets

__all__ = ["Composition", "Group", "Worst", "groups_of", "worst_of", "write_groups", "write_worst"]

WORST = 10  # predictions of each target
SINGLE = 12  # different numbers of atoms with a group of their own; more are put together
PARTS = 8  # groups of numbers of atoms, of about equal size


class Composition(NamedTuple):
    """What the graphs of some predictions are made of, in the order of the predictions.

    Args:
        formulas: reduced formulas; None for ready-made graphs, which have none.
        n_atoms: (n,) numbers of atoms; None for ready-made graphs without nodes.
    """

    formulas: NDArray[np.str_] | None
    n_atoms: NDArray[np.int64] | None

    @classmethod
    def of(cls, dataset: LazyGraphDataset, predictions: Sequence[Prediction]) -> Composition:
        """Look up the graphs of predictions in a dataset that holds all of them, by id."""
        row_of = {graph_id: row for row, graph_id in enumerate(dataset.ids.tolist())}
        rows = np.array([row_of[prediction.id] for prediction in predictions], dtype=np.int64)
        columns = dataset.columns
        formulas = columns["formula"][rows] if "formula" in columns else None
        n_atoms = np.asarray(columns["n_atoms"], dtype=np.int64)[rows] if "n_atoms" in columns else None
        return cls(formulas, n_atoms)


class Group(NamedTuple):
    """The errors of the predictions for some of the graphs."""

    target: str
    unit: str | None
    by: str
    """``element`` or ``atoms``."""
    name: str
    """A symbol, a number of atoms, or a range of numbers such as ``5-8``."""
    graphs: int
    """Number of labels that were compared."""
    mae: float
    """Mean absolute error in the unit; for classes the share of predictions that are wrong."""
    rmse: float | None
    """Root mean square error; None for classes."""
    mean_error: float | None
    """Mean of prediction minus label, which shows whether predictions are too high or too low; None for classes."""


class Worst(NamedTuple):
    """One of the worst predictions of a target."""

    id: str
    formula: str | None
    n_atoms: int | None
    label: float
    predicted: float
    error: float
    """Prediction minus label. For classes: one minus the probability of the right class, from 0 to 1."""


def worst_of(
    predictions: Sequence[Prediction], targets: Targets, composition: Composition, most: int = WORST
) -> dict[str, list[Worst]]:
    """Return the worst predictions of each target, the worst first. Predictions that are not numbers come before them.

    Args:
        predictions: predictions with labels. Those without a label are left out.
        targets: the targets of the predictions.
        composition: what the graphs are made of, in the same order.
        most: greatest number of predictions for each target.
    """
    out = {}
    for k, name in enumerate(targets.names):
        labels, errors = _column(predictions, "label", k), _errors(predictions, targets, k)
        there = np.flatnonzero(np.isfinite(labels))
        sizes = np.nan_to_num(np.abs(errors[there]), nan=math.inf, posinf=math.inf)
        rows = there[np.argsort(-sizes, kind="stable")[:most]].tolist()
        out[name] = [
            Worst(
                predictions[row].id,
                None if composition.formulas is None else str(composition.formulas[row]),
                None if composition.n_atoms is None else int(composition.n_atoms[row]),
                float(labels[row]),
                float(predictions[row].predicted[k]),
                float(errors[row]),
            )
            for row in rows
        ]
    return out


def groups_of(predictions: Sequence[Prediction], targets: Targets, composition: Composition) -> list[Group]:
    """Return the errors by element, in the order of atomic numbers, and by number of atoms, for each target.

    A graph counts for each of its elements. Groups without a label are left out.
    """
    parts = [*_by_element(composition.formulas), *_by_atoms(composition.n_atoms)]
    found = []
    for k, (name, unit) in enumerate(zip(targets.names, targets.units, strict=True)):
        labels = _column(predictions, "label", k)
        off = _column(predictions, "predicted", k) - labels
        there = np.isfinite(labels)
        for by, of, rows in parts:
            own = off[rows[there[rows]]]
            if not len(own):
                continue
            if targets.classes:
                found.append(Group(name, unit, by, of, len(own), float((own != 0).mean()), None, None))
            else:
                mae, mean = float(np.abs(own).mean()), float(own.mean())
                found.append(Group(name, unit, by, of, len(own), mae, root_mean_square(own), mean))
    return found


def write_groups(groups: Sequence[Group], targets: Targets, path: Path) -> None:
    """Write errors by element and by number of atoms as CSV. A file for classes has the share of wrong predictions."""
    if targets.classes:
        head = ["target", "group", "value", "graphs", "wrong"]
        rows = [[_plain(group.target), group.by, group.name, group.graphs, group.mae] for group in groups]
    else:
        head = ["target", "unit", "group", "value", "graphs", "mae", "rmse", "mean error"]
        rows = [[_plain(group.target), _plain(group.unit), *group[2:]] for group in groups]
    _write_csv(head, rows, path)


def write_worst(worst: dict[str, list[Worst]], targets: Targets, path: Path) -> None:
    """Write the worst predictions of each target as CSV, the worst first."""
    units = dict(zip(targets.names, targets.units, strict=True))
    rows = [[_plain(name), _plain(units[name]), *row] for name, several in worst.items() for row in several]
    _write_csv(["target", "unit", *Worst._fields], rows, path)


def _by_element(formulas: NDArray[np.str_] | None) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    if formulas is None:
        return
    different, of_graph = np.unique(formulas, return_inverse=True)
    having: dict[str, list[int]] = {}
    for place, formula in enumerate(different.tolist()):
        for symbol in set(re.findall("[A-Z][a-z]?", formula)):
            having.setdefault(symbol, []).append(place)
    for symbol in sorted(having, key=lambda symbol: ATOMIC_NUMBERS.get(symbol, len(ATOMIC_NUMBERS))):
        yield "element", symbol, np.flatnonzero(np.isin(of_graph, having[symbol]))


def _by_atoms(n_atoms: NDArray[np.int64] | None) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    if n_atoms is None or not len(n_atoms):
        return
    sizes = np.unique(n_atoms)
    # The greatest number of each group.
    shares = np.arange(1, PARTS + 1) / PARTS
    ends = sizes if len(sizes) <= SINGLE else np.unique(np.quantile(n_atoms, shares, method="inverted_cdf"))
    of_graph = np.searchsorted(ends, n_atoms)
    for place in np.unique(of_graph).tolist():
        rows = np.flatnonzero(of_graph == place)
        low, high = int(n_atoms[rows].min()), int(n_atoms[rows].max())
        yield "atoms", str(low) if low == high else f"{low}-{high}", rows


def _column(predictions: Sequence[Prediction], name: str, k: int) -> NDArray[np.float64]:
    """Return ``label`` or ``predicted`` of a target, (n,), NaN for a missing label."""
    return np.array([getattr(prediction, name)[k] for prediction in predictions], dtype=np.float64)


def _errors(predictions: Sequence[Prediction], targets: Targets, k: int) -> NDArray[np.float64]:
    """Return the errors of a target, (n,), as ``Worst`` has them."""
    labels = _column(predictions, "label", k)
    if not targets.classes:
        return _column(predictions, "predicted", k) - labels
    places = {value: place for place, value in enumerate(targets.classes)}
    # A class that training did not know has no probability.
    sure = [
        prediction.probabilities[places[label]] if label in places else 0.0
        for prediction, label in zip(predictions, labels.tolist(), strict=True)
    ]
    return 1.0 - np.array(sure, dtype=np.float64)


def _plain(text: str | None) -> str | None:
    """Return a name or unit of a dataset in a form that any file can hold."""
    return None if text is None else printable(text)


def _write_csv(head: Sequence[str], rows: Sequence[Sequence[Any]], path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows(rows)  # numbers with all digits, None as an empty cell
    write_atomic(path, text.getvalue().encode())
