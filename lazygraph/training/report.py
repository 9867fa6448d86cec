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
from torchmetrics.functional.classification import binary_auroc

from lazygraph.errors import LabelError, MissingExtra
from lazygraph.loading.loader import Loader
from lazygraph.storage.files import write_atomic
from lazygraph.training.module import GraphModule
from lazygraph.training.stopping import interruptible
from lazygraph.training.targets import Targets, with_unit

__all__ = [
    "Prediction",
    "Scores",
    "check_table",
    "check_titles",
    "predictions_of",
    "scores_of",
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


Scores = dict[str, dict[str, Any]]
"""For each target: ``count`` of labels, ``mae``, ``rmse`` and ``unit``; for classes ``count``, ``accuracy``, and
``roc_auc`` if there are two classes."""


def predictions_of(trainer: lightning.Trainer, module: GraphModule, loader: Loader) -> list[Prediction]:
    """Predict for all graphs of a loader, on every rank, in the order of its dataset.

    Args:
        trainer: the Lightning ``Trainer``.
        module: the module with its weights.
        loader: a loader in any order.
    """
    with interruptible():
        told = trainer.predict(module, loader) or []
    own = [
        Prediction(graph_id, predicted, label, probabilities=probabilities)
        for ids, *arrays in told
        for graph_id, predicted, label, probabilities in zip(ids, *(a.tolist() for a in arrays), strict=True)
    ]
    if trainer.world_size == 1:
        return own
    gathered: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(gathered, own)
    of_id = {prediction.id: prediction for rank in gathered for prediction in rank}
    return [of_id[graph_id] for graph_id in loader.dataset.ids.tolist()]


def scores_of(predictions: Sequence[Prediction], targets: Targets) -> Scores:
    """Score predictions against labels, over the graphs that have a label."""
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
            out[name] |= {"mae": float(np.abs(off).mean()), "rmse": math.sqrt((off**2).mean()), "unit": unit}
    return out


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
        MissingExtra: the table is Parquet, and pyarrow is not installed.
    """
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
    table = list(_columns(predictions, targets, deviations=deviations))
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
