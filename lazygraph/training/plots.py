"""Plots of a run: the learning curve, and predictions against labels.

Plots are drawn at the end of a run and must not make it fail. Names and units are therefore drawn as plain text, never
as formulas or TeX, in matplotlib's default style. A ``matplotlibrc`` in the current folder is ignored.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import NormalDist
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lazygraph.text import printable, shortened
from lazygraph.training.report import Prediction
from lazygraph.training.targets import Targets, with_unit

__all__ = ["draw_calibration", "draw_learning_curve", "draw_parity"]

LONGEST = 60  # characters of a name with its unit


def draw_learning_curve(metrics: Path, path: Path) -> None:
    """Draw training and validation loss by epoch, as PNG."""
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with _plain_style():
        _save(_learning_curve(rows), path)


def _learning_curve(rows: Sequence[Mapping[str, str]]) -> Figure:
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for column, label in (("train_loss", "training"), ("val_loss", "validation")):
        points = [(int(row["epoch"]) + 1, float(row[column])) for row in rows if row[column]]
        axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 30 else None)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss, of normalised targets")
    axes.set_yscale("log")
    axes.legend(frameon=False)
    return figure


def draw_parity(predictions: Sequence[Prediction], targets: Targets, path: Path) -> None:
    """Draw predictions against labels for each target, as PNG."""
    with _plain_style():
        _save(_parity(predictions, targets), path)


def _parity(predictions: Sequence[Prediction], targets: Targets) -> Figure:
    count = len(targets.names)
    columns = min(count, 3)
    figure = Figure(figsize=(4 * columns, 4 * -(-count // columns)), layout="constrained")
    for k, (name, unit) in enumerate(zip(targets.names, targets.units, strict=True)):
        axes = figure.add_subplot(-(-count // columns), columns, k + 1)
        labels = np.array([row.label[k] for row in predictions])
        predicted = np.array([row.predicted[k] for row in predictions])
        axes.scatter(labels, predicted, s=6, alpha=0.5, linewidths=0)
        there = np.isfinite(labels)
        if there.any():
            ends = [min(labels[there].min(), predicted.min()), max(labels[there].max(), predicted.max())]
            axes.plot(ends, ends, color="0.6", linewidth=0.8)
        title = shortened(with_unit(name, unit), LONGEST)
        axes.set_xlabel(title, parse_math=False, fontsize=_font_size(title))
        axes.set_ylabel(f"predicted {title}", parse_math=False, fontsize=_font_size(f"predicted {title}"))
        axes.set_aspect("equal", adjustable="datalim")
    return figure


def draw_calibration(predictions: Sequence[Prediction], targets: Targets, path: Path) -> None:
    """Draw the calibration of an ensemble, as PNG. A curve below the diagonal means that it is overconfident.

    For numbers, the curve compares the share of labels within a number of standard deviations of the prediction with a
    normal distribution (Kuleshov, Fenner and Ermon 2018). For classes, it shows how many of the predictions with a
    given probability are right (Guo et al. 2017).
    """
    with _plain_style():
        _save(_calibration(predictions, targets), path)


def _calibration(predictions: Sequence[Prediction], targets: Targets) -> Figure:
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.add_subplot()
    if targets.classes:
        _draw_reliability(axes, predictions)
    else:
        _draw_coverage(axes, predictions, targets)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
    longest = max((str(label) for label in axes.get_legend_handles_labels()[1]), key=len, default="")
    for text in axes.legend(frameon=False, fontsize=_font_size(f"{longest} and its line")).get_texts():
        text.set_parse_math(False)
    return figure


def _draw_reliability(axes: Any, predictions: Sequence[Prediction]) -> None:
    rows = [row for row in predictions if not np.isnan(row.label[0])]
    sure = np.array([max(row.probabilities) for row in rows])
    right = np.array([row.predicted[0] == row.label[0] for row in rows])
    bins = np.minimum((sure * 10).astype(int), 9)
    there = np.unique(bins)
    axes.plot(
        [sure[bins == b].mean() for b in there], [right[bins == b].mean() for b in there], marker=".", label="found"
    )
    axes.set_xlabel("probability of the predicted class")
    axes.set_ylabel("share of them that is right")


def _draw_coverage(axes: Any, predictions: Sequence[Prediction], targets: Targets) -> None:
    normal = NormalDist()
    expected = np.linspace(0.01, 0.99, 50)
    quantiles = np.array([normal.inv_cdf((1 + share) / 2) for share in expected])
    for k, name in enumerate(targets.names):
        rows = [row for row in predictions if row.deviation is not None and not np.isnan(row.label[k])]
        off = np.array([abs(row.predicted[k] - row.label[k]) for row in rows])
        deviation = np.array([0.0 if row.deviation is None else row.deviation[k] for row in rows])
        if rows:
            found = (off[:, None] <= quantiles * deviation[:, None]).mean(axis=0)
            # matplotlib leaves labels that begin with an underscore out of the legend.
            axes.plot(expected, found, label=shortened(f" {printable(name)}", LONGEST))
    axes.set_xlabel("expected share of labels")
    axes.set_ylabel("share found within that many deviations")


def _font_size(text: str) -> float:
    """Return the size in points at which a text fits along an axis of 4 inches."""
    return min(10.0, 360 / len(text))


def _plain_style() -> AbstractContextManager[None]:
    style: AbstractContextManager[None] = matplotlib.style.context("default")
    return style


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure).print_png(path)  # type: ignore[no-untyped-call]
