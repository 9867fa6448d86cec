"""Predictions of a trained module: computed, scored against labels, and written as a table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from lazygraph.errors import InputError, LabelError, MissingExtra
from lazygraph.loading.loader import Loader
from lazygraph.storage.files import write_atomic
from lazygraph.training.module import TrainedModule
from lazygraph.training.stopping import interruptible
from lazygraph.training.targets import Targets, with_unit

__all__ = [
    "Prediction",
    "Scores",
    "check_table",
    "check_titles",
    "predictions_of",
    "root_mean_square",
    "scores_of",
    "write_forces",
    "write_predictions",
]


class Prediction(NamedTuple):
    """The prediction for one graph: id, and prediction and label of each target in the unit of the label."""

    id: str
    predicted: Sequence[float]
    label: Sequence[float]
    """NaN for a missing label."""
    deviation: Sequence[float] | None = None
    """For an ensemble: the standard deviation of the predictions; for classes, of the probability of this class."""
    probabilities: Sequence[float] = ()
    """The probability of each class, in a classification."""
    forces: NDArray[np.float64] | None = None
    """Of a potential: (atoms, 3), in the unit of the label; of an ensemble, the mean."""
    label_forces: NDArray[np.float64] | None = None
    """Of a potential: (atoms, 3), with NaN where they are missing."""


Scores = dict[str, dict[str, Any]]
"""For each target: ``count`` of labels, ``mae``, ``rmse``, ``r2`` and ``unit``; for classes ``count``, ``accuracy``,
and ``roc_auc`` if there are two classes. Without labels, only ``count``."""


def predictions_of(trainer: lightning.Trainer, module: TrainedModule, loader: Loader) -> list[Prediction]:
    """Predict for all graphs of a loader, on every rank, in the order of its dataset.

    Args:
        trainer: the Lightning ``Trainer``.
        module: the module with its weights.
        loader: a loader in any order.
    """
    with interruptible():
        told = trainer.predict(module, loader) or []
    own = [row for of_batch in told for row in _rows(*of_batch)]
    if trainer.world_size == 1:
        return own
    gathered: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(gathered, own)
    of_id = {prediction.id: prediction for rank in gathered for prediction in rank}
    return [of_id[graph_id] for graph_id in loader.dataset.ids.tolist()]


def _rows(
    ids: Sequence[str], predicted: Tensor, labels: Tensor, probabilities: Tensor, *of_atoms: Sequence[Tensor]
) -> list[Prediction]:
    """Return the predictions of one batch; of a potential with the forces of each graph and their labels."""
    numbers = zip(ids, predicted.tolist(), labels.tolist(), probabilities.tolist(), strict=True)
    rows = [Prediction(graph_id, mine, theirs, probabilities=each) for graph_id, mine, theirs, each in numbers]
    if not of_atoms:
        return rows
    forces, known = of_atoms
    each = zip(rows, forces, known, strict=True)
    return [row._replace(forces=mine.numpy(), label_forces=theirs.numpy()) for row, mine, theirs in each]


def scores_of(predictions: Sequence[Prediction], targets: Targets) -> Scores:
    """Score predictions against labels, over the graphs that have a label.

    ``r2`` is the coefficient of determination, 1 - sum (p - y)**2 / sum (y - m)**2, where m is the mean of the labels y
    that are scored. It is None if these labels are all equal, because both sums then say nothing about the model.
    """
    shape = len(predictions), len(targets.names)
    predicted = np.array([prediction.predicted for prediction in predictions], dtype=np.float64).reshape(shape)
    labels = np.array([prediction.label for prediction in predictions], dtype=np.float64).reshape(shape)
    out: Scores = {}
    for name, unit, mine, theirs in zip(targets.names, targets.units, predicted.T, labels.T, strict=True):
        there = np.isfinite(theirs)
        off = mine[there] - theirs[there]
        out[name] = {"count": int(there.sum())}
        if not out[name]["count"]:
            continue
        if targets.classes:
            out[name]["accuracy"] = float((off == 0).mean())
            if (
                len(targets.classes) == 2
                and set(theirs[there].tolist()) == set(targets.classes)
                and predictions[0].probabilities
            ):
                of_second = torch.tensor([row.probabilities[1] for row in predictions], dtype=torch.float64)[
                    torch.tensor(there)
                ]
                labelled = torch.tensor(theirs[there] == targets.classes[1])
                out[name]["roc_auc"] = float(binary_auroc(of_second, labelled.int()))
        else:
            out[name] |= {
                "mae": float(np.abs(off).mean()),
                "rmse": root_mean_square(off),
                "r2": _determination(off, theirs[there]),
                "unit": unit,
            }
    return out


def root_mean_square(values: NDArray[np.float64]) -> float:
    """Return the root mean square of values (n,), n > 0, without overflow.

    Example:
        >>> root_mean_square(np.array([3e200, -3e200]))
        3e+200
    """
    # Squares of numbers beyond 1e150 overflow, and those below 1e-150 vanish.
    scale = float(np.abs(values).max()) or 1.0
    return scale * math.sqrt(float(((values / scale) ** 2).mean())) if math.isfinite(scale) else scale


def _determination(off: NDArray[np.float64], labels: NDArray[np.float64]) -> float | None:
    if labels.min() == labels.max():
        return None
    largest = float(np.abs(labels).max())
    scale = 1.0 if 1e-100 < largest < 1e100 else largest
    scaled = labels / scale
    with np.errstate(over="ignore"):
        ratio = root_mean_square(off / scale) / root_mean_square(scaled - scaled.mean())
    return 1.0 - ratio * ratio  # a power of a float raises an error where a product is infinite


def check_titles(targets: Targets) -> None:
    """Refuse targets that would give two columns of a table the same name.

    Raises:
        LabelError: two columns would have the same name; the message gives it.
    """
    titles = [title for title, _ in _columns([], targets, deviations=True)]
    if twice := [title for title in titles if titles.count(title) > 1]:
        msg = f"two columns of the table of predictions would be called {twice[0]!r}; rename a label, or its unit"
        raise LabelError(msg)


def check_table(path: Path) -> None:
    """Refuse a table that this environment cannot write.

    Raises:
        InputError: the name ends neither in ``.csv`` nor in ``.parquet``.
        MissingExtra: the table is Parquet, and pyarrow is not installed.
    """
    if path.suffix not in (".csv", ".parquet"):
        msg = f"found the name {path.name!r} for a table; required: a name that ends in .csv or .parquet"
        raise InputError(msg)
    if path.suffix == ".parquet":
        _parquet(path)


def write_predictions(predictions: Sequence[Prediction], targets: Targets, path: Path) -> None:
    """Write a table with one row per graph: id, and for each target label and prediction.

    An ensemble adds the standard deviation. Classes add the probability of each class, and the deviation then belongs
    to the probability of the predicted class. The file is Parquet if its name ends in ``.parquet``, else CSV. Column
    names contain the units, and a missing label is empty. Numbers read back as the same float64.

    Raises:
        MissingExtra: the table is Parquet, and pyarrow is not installed.
    """
    deviations = any(row.deviation is not None for row in predictions)
    _write_table(list(_columns(predictions, targets, deviations=deviations)), path)


def write_forces(predictions: Sequence[Prediction], name: str, unit: str, path: Path) -> None:
    """Write a table of forces with one row per atom: id, atom counted from 0, and for x, y and z label and prediction.

    Atoms have the order of their crystal. The file is Parquet if its name ends in ``.parquet``, else CSV. Columns of
    labels are left out if there are none.

    Args:
        predictions: the predictions of a potential.
        name: the label of the forces.
        unit: their unit.
        path: the file to write.

    Raises:
        MissingExtra: the table is Parquet, and pyarrow is not installed.
    """
    empty = np.zeros((0, 3))
    found = [empty if row.forces is None else row.forces for row in predictions]
    labels = np.concatenate([empty, *(empty if row.label_forces is None else row.label_forces for row in predictions)])
    forces = np.concatenate([empty, *found])
    table: list[tuple[str, list[Any]]] = [
        ("id", [row.id for row, of in zip(predictions, found, strict=True) for _ in of]),
        ("atom", [atom for of in found for atom in range(len(of))]),
    ]
    for k, axis in enumerate("xyz"):
        title = with_unit(f"{name} {axis}", unit)
        if np.isfinite(labels).any():
            table.append((title, [None if math.isnan(value) else value for value in labels[:, k].tolist()]))
        table.append((f"predicted {title}", forces[:, k].tolist()))
    _write_table(table, path)


def _write_table(table: Sequence[tuple[str, list[Any]]], path: Path) -> None:
    """Write columns with their titles."""
    if path.suffix == ".parquet":
        parquet, arrow_table = _parquet(path)
        file = io.BytesIO()
        parquet.write_table(arrow_table(dict(table)), file)
        write_atomic(path, file.getvalue())
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(title for title, _ in table)
    writer.writerows([_text(value) for value in row] for row in zip(*(column for _, column in table), strict=True))
    write_atomic(path, text.getvalue().encode())


def _columns(
    predictions: Sequence[Prediction], targets: Targets, *, deviations: bool
) -> Iterator[tuple[str, list[Any]]]:
    """Yield title and values of each column."""
    yield "id", [row.id for row in predictions]
    for k, pair in enumerate(zip(targets.names, targets.units, strict=True)):
        title = with_unit(*pair)
        yield title, [None if math.isnan(row.label[k]) else row.label[k] for row in predictions]
        yield f"predicted {title}", [row.predicted[k] for row in predictions]
        if deviations:
            deviation = "deviation of the probability" if targets.classes else f"deviation {title}"
            yield deviation, [None if row.deviation is None else row.deviation[k] for row in predictions]
    for place, value in enumerate(targets.classes):
        yield (
            f"probability {with_unit(targets.names[0], None)}={_class_name(value)}",
            [row.probabilities[place] for row in predictions],
        )


def _class_name(value: float) -> str:
    """Return a name that differs for different classes: ``2`` instead of ``2.0``."""
    return repr(value).removesuffix(".0")


def _parquet(path: Path) -> tuple[Any, Any]:
    """Return ``pyarrow.parquet`` and ``pyarrow.table``."""
    try:
        from pyarrow import parquet, table
    except ModuleNotFoundError as error:
        msg = f"{path} needs the package pyarrow, which is not installed: pip install 'lazygraph[parquet]'"
        raise MissingExtra(msg) from error
    return parquet, table


def _text(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)
