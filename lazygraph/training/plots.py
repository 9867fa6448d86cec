"""Plots of a run: the learning curve, predictions against labels, errors by element and size, and calibration.

Plots are drawn at the end of a run and must not make it fail. Names and units are therefore drawn as plain text, never
as formulas or TeX, in matplotlib's default style. A ``matplotlibrc`` in the current folder is ignored. Of many targets,
the first 12 are drawn, and the plot says so.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import NormalDist
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogFormatter, MaxNLocator
from numpy.typing import NDArray

from lazygraph.crystal import SYMBOLS
from lazygraph.markup.elements import number
from lazygraph.markup.periodic_table import place_of
from lazygraph.text import printable, shortened
from lazygraph.training.report import Prediction, scores_of
from lazygraph.training.residuals import Group
from lazygraph.training.targets import Targets, with_unit

__all__ = ["draw_calibration", "draw_forces", "draw_learning_curve", "draw_parity", "draw_residuals"]

LONGEST = 60  # characters of a name with its unit
PANELS = 12  # targets of a plot
SIDE = 4.0  # inches, of a panel of one target
DENSE = 3000  # points from which on a plot shows how many lie in each hexagon
LARGE, SMALL = 30.0, 6.0  # areas of single and of many marks, in square points
ERRORS = ("val_mae/", "val_accuracy")  # columns of the metrics in the unit of a label
LINE = "0.6"  # grey
ABSENT = "0.93"
LUMINANCE = (0.2126, 0.7152, 0.0722)  # of red, green and blue (ITU-R BT.709)


def draw_learning_curve(
    metrics: Path, path: Path, *, training_scale: float | None = None, loss: str = "loss of normalised targets"
) -> None:
    """Draw the losses and the validation errors in the unit of each label by epoch, counted from 1, as PNG.

    Args:
        metrics: the table with one line for each epoch.
        path: the file to write.
        training_scale: the factor that turns the training loss into the mean absolute error of the only target, if
            there is one: the standard deviation of the labels if the loss is L1. None draws no training error.
        loss: what the loss of a regression is called.
    """
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with _plain_style():
        _save(_learning_curve(rows, training_scale, loss), path)


def _learning_curve(
    rows: Sequence[Mapping[str, str]], training_scale: float | None, loss: str = "loss of normalised targets"
) -> Figure:
    errors = [column for column in (rows[0] if rows else {}) if column.startswith(ERRORS)]
    figure, panels = _panels(len(errors[:PANELS]) + 1, width=4.5, height=3.5)
    for column, axes in zip(errors, panels, strict=False):
        if training_scale is not None:
            _draw_curve(axes, rows, "train_loss", "training", scale=training_scale, color="C0")
        _draw_curve(axes, rows, column, "validation", color="C1")
        name = column.removeprefix("val_mae/")
        title = "share of right predictions" if name == "val_accuracy" else f"MAE of {shortened(name, LONGEST)}"
        axes.set_ylabel(title, parse_math=False, fontsize=_font_size(title, 3.3))
    losses = panels[-1]
    _draw_curve(losses, rows, "train_loss", "training", color="C0")
    _draw_curve(losses, rows, "val_loss", "validation", color="C1")
    losses.set_ylabel("cross entropy" if "val_accuracy" in errors else loss)
    for axes, column in zip(panels, [*errors[:PANELS], "val_loss"], strict=True):
        if column != "val_accuracy":
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(_PlainNumbers())
            axes.yaxis.set_minor_formatter(_PlainNumbers(minor_thresholds=(2, 0.5)))
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, max((int(row["epoch"]) for row in rows), default=0) + 1.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend(frameon=False)
    _tell_left_out(figure, len(errors))
    return figure


class _PlainNumbers(LogFormatter):
    """Writes 0.6 on a logarithmic axis, where matplotlib writes a product with a power of ten."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _draw_curve(
    axes: Any, rows: Sequence[Mapping[str, str]], column: str, label: str, *, color: str, scale: float = 1.0
) -> None:
    points = [(int(row["epoch"]) + 1, float(row[column]) * scale) for row in rows if row.get(column)]
    marker = "." if len(points) < 30 else None
    axes.plot([x for x, _ in points], [y for _, y in points], label=label, marker=marker, color=color)


def draw_parity(predictions: Sequence[Prediction], targets: Targets, path: Path) -> None:
    """Draw predictions against labels for each target, with scores and the number of graphs, as PNG.

    Few graphs are large marks, and more graphs are smaller and more transparent marks. From 3,000 graphs on, colours
    show how many graphs lie in each hexagon.
    """
    with _plain_style():
        _save(_parity(predictions, targets), path)


def _parity(predictions: Sequence[Prediction], targets: Targets) -> Figure:
    figure, panels = _panels(len(targets.names[:PANELS]), width=SIDE, height=SIDE)
    scores = scores_of(predictions, targets)
    for k, (name, unit, axes) in enumerate(zip(targets.names, targets.units, panels, strict=False)):
        labels = np.array([row.label[k] for row in predictions], dtype=np.float64)
        predicted = np.array([row.predicted[k] for row in predictions], dtype=np.float64)
        there = np.isfinite(labels) & np.isfinite(predicted)
        _draw_points(figure, axes, labels[there], predicted[there])
        _describe(axes, with_unit(name, unit), scores[name])
    _tell_left_out(figure, len(targets.names))
    return figure


def draw_forces(predictions: Sequence[Prediction], name: str, unit: str, path: Path) -> None:
    """Draw predicted components of forces against those of the labels, as :func:`draw_parity` draws graphs.

    Args:
        predictions: the predictions of a potential.
        name: the label of the forces.
        unit: the unit of both.
        path: the file to write.
    """
    none = np.zeros((0, 3))
    predicted = np.concatenate([none, *(none if row.forces is None else row.forces for row in predictions)])
    labels = np.concatenate([none, *(none if row.label_forces is None else row.label_forces for row in predictions)])
    there = np.isfinite(labels) & np.isfinite(predicted)
    columns = Targets((name,), (unit,), (0.0,), (1.0,))
    rows = [Prediction("", (p,), (y,)) for p, y in zip(predicted[there].tolist(), labels[there].tolist(), strict=True)]
    with _plain_style():
        figure, (axes, *_) = _panels(1, width=SIDE, height=SIDE)
        _draw_points(figure, axes, labels[there], predicted[there], "components")
        _describe(axes, with_unit(f"component of {name}", unit), scores_of(rows, columns)[name])
        _save(figure, path)


def _describe(axes: Any, name: str, score: Mapping[str, Any]) -> None:
    """Write the name of a target at both axes, and its scores above them, where they cover no points."""
    lines = list(_score_lines(score))
    scores = "\n".join(", ".join(lines[k : k + 2]) for k in range(0, len(lines), 2))
    axes.set_title(scores, fontsize=8, loc="left", parse_math=False)
    title = shortened(name, LONGEST)
    axes.set_xlabel(title, parse_math=False, fontsize=_font_size(title))
    axes.set_ylabel(f"predicted {title}", parse_math=False, fontsize=_font_size(f"predicted {title}"))


def _draw_points(
    figure: Figure, axes: Any, labels: NDArray[np.float64], predicted: NDArray[np.float64], what: str = "graphs"
) -> None:
    n = len(labels)
    low, high = _limits(labels, predicted)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_box_aspect(1)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.plot([low, high], [low, high], color=LINE, linewidth=0.8, zorder=1)
    if n < DENSE:
        axes.scatter(labels, predicted, s=_mark_area(n), alpha=_opacity(n), linewidths=0, color="C0", zorder=2)
        return
    bins = axes.hexbin(labels, predicted, gridsize=60, extent=(low, high, low, high), mincnt=1, bins="log", zorder=2)
    bar = figure.colorbar(bins, ax=axes, shrink=0.7, pad=0.02)
    bar.set_label(what, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _limits(labels: NDArray[np.float64], predicted: NDArray[np.float64]) -> tuple[float, float]:
    """Return limits that hold all points, with a margin, for both axes."""
    if not len(labels):
        return 0.0, 1.0
    low, high = float(min(labels.min(), predicted.min())), float(max(labels.max(), predicted.max()))
    # Halves, because a difference of the greatest numbers overflows; at least what float64 can tell apart on an axis.
    margin = max((high / 2 - low / 2) * 0.1, 1e-9 * max(abs(low), abs(high)), 1e-300)
    return low - margin, high + margin


def _mark_area(n: int) -> float:
    """Return the area of a mark, which shrinks with the square root of the number of points."""
    return max(LARGE / math.sqrt(max(n, 30) / 30), SMALL)


def _opacity(n: int) -> float:
    return min(0.8, max(0.35, 0.8 * math.sqrt(100 / max(n, 1))))


def _score_lines(score: Mapping[str, Any]) -> Iterator[str]:
    """Yield the scores of a target, in its unit."""
    unit = "" if score.get("unit") is None else f" {shortened(printable(score['unit']), 20)}"
    if "mae" in score:
        yield f"MAE {number(score['mae'])}{unit}"
        yield f"RMSE {number(score['rmse'])}{unit}"
        if score["r2"] is not None:
            yield f"R² {score['r2']:.3f}"
    yield f"n = {score['count']:,}"


def draw_residuals(groups: Sequence[Group], targets: Targets, path: Path) -> None:
    """Draw the mean absolute errors by element and by number of atoms for each target, as PNG.

    For classes, the errors are the shares of wrong predictions. A target without groups has empty panels.
    """
    with _plain_style():
        _save(_residuals(groups, targets), path)


def _residuals(groups: Sequence[Group], targets: Targets) -> Figure:
    names = targets.names[: PANELS // 2]
    figure = Figure(figsize=(11, 3.6 * len(names)), dpi=150, layout="constrained")
    grid = figure.add_gridspec(len(names), 2, width_ratios=(1.9, 1))
    for k, name in enumerate(names):
        own = [group for group in groups if group.target == name and math.isfinite(group.mae)]
        what = "share of wrong predictions" if targets.classes else f"MAE of {with_unit(name, targets.units[k])}"
        title = shortened(what, LONGEST)
        _draw_elements(figure, figure.add_subplot(grid[k, 0]), [group for group in own if group.by == "element"], title)
        _draw_sizes(figure.add_subplot(grid[k, 1]), [group for group in own if group.by == "atoms"], title)
    _tell_left_out(figure, len(targets.names), PANELS // 2)
    return figure


def _draw_elements(figure: Figure, axes: Any, groups: Sequence[Group], title: str) -> None:
    """Draw the periodic table, with the error as colour and below each symbol the number of graphs."""
    found = {group.name: group for group in groups}
    errors = [group.mae for group in groups]
    low, high = min(errors, default=0.0), max(errors, default=1.0)
    norm = Normalize(low, high) if low < high else Normalize(low * 0.9, high * 1.1 or 1.0)
    colours = mpl.colormaps["viridis_r"]
    for z, symbol in enumerate(SYMBOLS[1:], 1):
        row, column = place_of(z)
        y = row - 0.6 * (row > 8)
        group = found.get(symbol)
        colour: Any = ABSENT if group is None else colours(norm(group.mae))
        axes.add_patch(Rectangle((column - 0.47, y - 0.47), 0.94, 0.94, facecolor=colour, linewidth=0))
        ink = "0.7" if group is None else "black" if np.dot(colour[:3], LUMINANCE) > 0.45 else "white"
        axes.text(column, y - 0.1, symbol, ha="center", va="center", fontsize=8, color=ink)
        if group is not None:
            axes.text(column, y + 0.29, _short(group.graphs), ha="center", va="center", fontsize=4.5, color=ink)
    axes.set_xlim(0.4, 18.6)
    axes.set_ylim(10.0, 0.4)
    axes.set_aspect("equal")
    axes.set_axis_off()
    if not groups:
        return
    bar = figure.colorbar(mpl.cm.ScalarMappable(norm, colours), ax=axes, shrink=0.85, pad=0.01)
    bar.set_label(title, fontsize=_font_size(title, 3.0), parse_math=False)
    bar.ax.tick_params(labelsize=8)


def _draw_sizes(axes: Any, groups: Sequence[Group], title: str) -> None:
    places = range(len(groups))
    bars = axes.bar(places, [group.mae for group in groups], color="C0", width=0.8)
    axes.bar_label(bars, [_short(group.graphs) for group in groups], fontsize=7, padding=1)
    axes.set_xticks(places, [group.name for group in groups], rotation=45 if len(groups) > 6 else 0, fontsize=8)
    axes.set_xlabel("atoms in the cell (above bars: number of graphs)", fontsize=8)
    axes.set_ylabel(title, parse_math=False, fontsize=_font_size(title, 3.0))
    axes.set_xlim(-0.6, max(len(groups), 4) - 0.4)
    axes.margins(y=0.12)


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
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=0.8)
    longest = max((str(label) for label in axes.get_legend_handles_labels()[1]), key=len, default="")
    if longest:  # without a label to compare with there is no curve
        for text in axes.legend(frameon=False, fontsize=_font_size(f"{longest} and its line")).get_texts():
            text.set_parse_math(False)
    _tell_left_out(figure, len(targets.names))
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
    for k, name in enumerate(targets.names[:PANELS]):
        rows = [row for row in predictions if row.deviation is not None and not np.isnan(row.label[k])]
        off = np.array([abs(row.predicted[k] - row.label[k]) for row in rows])
        deviation = np.array([0.0 if row.deviation is None else row.deviation[k] for row in rows])
        if rows:
            found = (off[:, None] <= quantiles * deviation[:, None]).mean(axis=0)
            # matplotlib leaves labels that begin with an underscore out of the legend.
            axes.plot(expected, found, label=shortened(f" {printable(name)}", LONGEST))
    axes.set_xlabel("expected share of labels")
    axes.set_ylabel("share found within that many deviations")


def _panels(count: int, *, width: float, height: float) -> tuple[Figure, list[Any]]:
    """Return a figure and the axes of panels of a size in inches, at most three in a row."""
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, k + 1) for k in range(count)]


def _tell_left_out(figure: Figure, count: int, most: int = PANELS) -> None:
    if count > most:
        figure.suptitle(f"the first {most} of {count:,} targets", fontsize=10)


def _short(count: int) -> str:
    """Return a count in at most five characters."""
    return f"{count}" if count < 10_000 else f"{count / 1000:.0f}k" if count < 1_000_000 else f"{count / 1e6:.1f}M"


def _font_size(text: str, inches: float = SIDE) -> float:
    """Return the size in points at which a text fits along an axis of so many inches."""
    return min(10.0, 90 * inches / max(len(text), 1))


def _plain_style() -> AbstractContextManager[None]:
    style: AbstractContextManager[None] = matplotlib.style.context("default")
    return style


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure).print_png(path)  # type: ignore[no-untyped-call]
