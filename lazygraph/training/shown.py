"""The display of results and predictions in a terminal and a notebook: scores, and only some predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lazygraph.markup.charts import scatter
from lazygraph.markup.elements import Html, card, facts, number, table, tag
from lazygraph.text import printable, shortened
from lazygraph.training.report import Prediction, Scores
from lazygraph.training.residuals import Worst
from lazygraph.training.targets import Targets, with_unit

__all__ = ["predictions_html", "predictions_text", "results_html", "scores_text"]

TARGETS = 6  # targets with scores and plots
POINTS = 500  # of a plot
ROWS = 5  # of a table of predictions
LONGEST = 60  # characters of a name
METRICS = ("mae", "rmse", "r2", "accuracy", "roc_auc")


def scores_text(scores: Scores, baseline: Scores) -> list[str]:
    """Return one line for each target: its scores, and the scores of the baseline."""
    lines = [
        f"{_name(name, of)}: " + (", ".join(_compared(of, baseline.get(name, {}))) or "no label to compare with")
        for name, of in list(scores.items())[:TARGETS]
    ]
    return lines + ([f"and {len(scores) - TARGETS} more targets"] if len(scores) > TARGETS else [])


def results_html(
    title: str,
    scores: Scores,
    baseline: Scores,
    predictions: Sequence[Prediction],
    *,
    worst: Mapping[str, Sequence[Worst]],
    others: Mapping[str, str],
) -> Html:
    """Return the results of a run for a notebook.

    Args:
        title: the title of the card.
        scores: the scores of the run.
        baseline: the scores of a predictor that ignores the graphs.
        predictions: the predictions for the test graphs, in the order of the targets in ``scores``.
        worst: the worst predictions of each target.
        others: further facts.
    """
    shown = list(scores.items())[:TARGETS]
    metrics = [metric for metric in METRICS if any(metric in of for _, of in shown)]
    titles = ["target", "graphs", *(name for metric in metrics for name in (metric, f"baseline {metric}"))]
    rows = [
        [
            _name(name, of),
            number(of.get("count")),
            *(number(x.get(metric)) for metric in metrics for x in (of, baseline.get(name, {}))),
        ]
        for name, of in shown
    ]
    plots = [
        _parity(_name(name, of), predictions, k) for k, (name, of) in enumerate(shown) if "mae" in of and predictions
    ]
    more = [tag("p", f"and {len(scores) - TARGETS} more targets", class_="note")] if len(scores) > TARGETS else []
    lists = [_worst(_name(name, of), worst[name]) for name, of in shown if worst.get(name)]
    return card(title, table(titles, rows), *more, tag("div", *plots, class_="charts"), *lists, facts(others.items()))


def predictions_text(targets: Targets, rows: Sequence[Prediction], quarantined: int) -> str:
    """Return predictions in one line, with the first of them."""
    names = ", ".join(printable(shortened(with_unit(*pair), LONGEST)) for pair in _pairs(targets)[:TARGETS])
    first = f", the first: {printable(rows[0].id)} {_short(rows[0].predicted)}" if rows else ""
    lost = f"; {quarantined:,} inputs quarantined" if quarantined else ""
    return f"Predictions({len(rows):,} graphs, {names}{first}{lost})"


def predictions_html(targets: Targets, rows: Sequence[Prediction], quarantined: int) -> Html:
    """Return the first five predictions for a notebook, and how many there are."""
    pairs = _pairs(targets)[:TARGETS]
    deviation = any(row.deviation is not None for row in rows[:ROWS])
    titles = ["id"]
    for pair in pairs:
        titles += [f"predicted {with_unit(*pair)}", *(["deviation"] if deviation else []), "label"]
    cells = [
        [
            row.id,
            *(
                cell
                for k in range(len(pairs))
                for cell in (
                    number(row.predicted[k]),
                    *([number(row.deviation[k])] if row.deviation is not None else []),
                    "" if math.isnan(row.label[k]) else number(row.label[k]),
                )
            ),
        ]
        for row in rows[:ROWS]
    ]
    left = [tag("p", f"and {len(rows) - ROWS:,} more predictions", class_="note")] if len(rows) > ROWS else []
    lost = [tag("p", f"{quarantined:,} inputs could not be predicted", class_="note")] if quarantined else []
    return card(f"Predictions for {len(rows):,} graphs", table(titles, cells), *left, *lost)


def _pairs(targets: Targets) -> list[tuple[str, str | None]]:
    return list(zip(targets.names, targets.units, strict=True))


def _name(name: str, scores: Mapping[str, Any]) -> str:
    return printable(shortened(with_unit(name, scores.get("unit")), LONGEST))


def _compared(scores: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[str]:
    return [
        f"{metric} {number(scores[metric])}"
        + (f" (baseline {number(baseline[metric])})" if baseline.get(metric) is not None else "")
        for metric in METRICS
        if scores.get(metric) is not None
    ]


def _short(values: Sequence[float]) -> str:
    said = ", ".join(number(value) for value in values[:TARGETS])
    return said + (", ..." if len(values) > TARGETS else "")


def _worst(name: str, rows: Sequence[Worst]) -> Html:
    """Return a table of the worst predictions, which a click opens."""
    cells = [
        [
            row.id,
            row.formula or "",
            number(row.n_atoms),
            number(row.label),
            number(row.predicted),
            number(row.error),
        ]
        for row in rows
    ]
    titles = ["id", "formula", "atoms", "label", "predicted", "error"]
    return tag("details", tag("summary", f"The worst predictions of {name}"), table(titles, cells, texts=2))


def _parity(name: str, predictions: Sequence[Prediction], k: int) -> Html:
    """Plot predictions against labels, for evenly spaced graphs."""
    points = [(row.label[k], row.predicted[k]) for row in predictions]
    points = [point for point in points if all(map(math.isfinite, point))]
    step = -(-len(points) // POINTS) or 1
    drawn = points[::step]
    if not drawn:
        return Html("")
    title = f"Predicted against {name}"
    said = "" if step == 1 else f", {len(drawn):,} of {len(points):,} graphs"
    return tag("figure", tag("figcaption", title + said), scatter(drawn, title=title))
