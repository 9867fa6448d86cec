"""Charts of the columns of a dataset, as SVG with a caption."""

from __future__ import annotations

from typing import Any

from lazygraph.format.columns import Column
from lazygraph.format.store import Store
from lazygraph.markup.charts import COLORS, bars, histogram
from lazygraph.markup.elements import Html, number, tag
from lazygraph.reading.distributions import ALL, UNSPLIT, Distribution, category_counts, distribution
from lazygraph.text import shortened

__all__ = ["OUTLINES", "category_chart", "number_chart", "title_of"]

OUTLINES = len(COLORS) - 1  # groups that one histogram shows
BARS = 12  # texts that one chart shows
NAME = 30  # characters of the name of a split
SIZES = {"n_node": "atoms in a graph", "n_edge": "edges of a graph", "n_triplets": "angles of a graph"}


def title_of(name: str, column: Column) -> str:
    """Return what a column is called above its chart: its name with its unit, or what is counted."""
    if column.role == "index":
        return SIZES.get(name, name)
    per = "" if column.per is None else f" per {column.per}"
    return f"{name}{'' if column.unit is None else f' [{column.unit}]'}{per}"


def number_chart(store: Store, name: str, rows: Any, splits: str | None = None) -> Html:
    """Return the histogram of a label, or of a column of counts.

    Args:
        store: the dataset.
        name: of the column.
        rows: the graphs.
        splits: the column of splits that are compared. More than six splits are drawn as one. Graphs in no split are
            not compared with them.
    """
    column = store.manifest.columns[name]
    found, title = distribution(store, name, rows, splits), title_of(name, column)
    compared = {group: values for group, values in found.counts.items() if any(values) and group != UNSPLIT}
    counts = _short_names(compared)
    if not 2 <= len(compared) <= OUTLINES:
        counts = {ALL: [sum(values) for values in zip(*found.counts.values(), strict=True)]} if found.edges else {}
    drawn = histogram(found.edges, counts, title=title, steps=found.steps) if counts else tag("p", "no value")
    return _figure(title, drawn, _said(found, components=len(column.shape) > 1))


def category_chart(store: Store, name: str, rows: Any) -> Html:
    """Return the number of graphs with each text of a category; texts beyond the twelve most frequent are one bar."""
    counts, missing = category_counts(store, name, rows)
    present = {text: count for text, count in counts.items() if count}
    ordered = dict(sorted(present.items(), key=lambda item: -item[1]))
    shown = dict(list(ordered.items())[:BARS])
    rest = sum(ordered.values()) - sum(shown.values())
    if rest:
        shown[f"({len(ordered) - BARS:,} other texts)"] = rest
    said = f"{len(present):,} different texts" + (f"; {missing:,} missing" if missing else "")
    return _figure(name, bars(shown, title=name) if shown else tag("p", "no text"), said)


def _short_names(counts: dict[str, list[int]]) -> dict[str, list[int]]:
    """The groups by names that fit beside a chart; numbered where two would be the same."""
    short = {shortened(group, NAME): values for group, values in counts.items()}
    if len(short) == len(counts):
        return short
    return {f"{k}: {shortened(group, NAME)}": values for k, (group, values) in enumerate(counts.items(), 1)}


def _figure(title: str, drawn: Html, said: str) -> Html:
    return tag("figure", tag("figcaption", tag("strong", shortened(title, 80))), drawn, tag("p", said, class_="note"))


def _said(found: Distribution, *, components: bool) -> str:
    if not found.edges:
        said = ["no finite value"]
    elif found.steps:
        said = [f"{number(int(found.least))} to {number(int(found.greatest))}, mean {number(found.mean)}"]
    else:
        said = [f"{number(found.least)} to {number(found.greatest)}, mean {number(found.mean)}"]
    said += ["all components together"] if components else []
    said += [f"{found.missing:,} missing"] if found.missing else []
    said += [f"{found.infinite:,} infinite"] if found.infinite else []
    said += [f"{found.below:,} below the axis"] if found.below else []
    said += [f"{found.above:,} above the axis"] if found.above else []
    return "; ".join(said)
