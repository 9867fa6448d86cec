"""Draws graphs/s by store and number of workers: the first table of ``loaders.py``, as a picture for the README.

    python tools/bench/plot.py loaders.json docs/loaders.png

``loaders.py --plot`` does the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SHADES = {"no_workers": "#1b4f72", "1_worker": "#5499c7", "2_workers": "#a9cce3"}
HEIGHT = 0.26  # of a bar, where the rows of stores are 1 apart


def draw(result, path):
    """A picture of a result of ``loaders.py``; a bar is a median, the line on it the least and the greatest value."""
    title, table = next(iter(result["tables"].items()))
    rows = {name: row for name, row in table.items() if row}
    figure = Figure(figsize=(8, 0.6 + 0.62 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for bar, (column, shade) in enumerate(SHADES.items()):
        there = [place for place, row in enumerate(rows.values()) if row[column] is not None]
        measured = [row for row in rows.values() if row[column] is not None]
        places = [store + (bar - 1) * HEIGHT for store in there]
        medians = [row[column] for row in measured]
        ends = zip(medians, (row[f"{column}_range"] for row in measured), strict=True)
        spread = [(median - low, high - median) for median, (low, high) in ends]
        axes.barh(places, medians, HEIGHT, color=shade, label=column.replace("_", " "))
        axes.errorbar(medians, places, xerr=list(zip(*spread, strict=True)), fmt="none", ecolor="#444", elinewidth=0.8)
        for place, median, (_, above) in zip(places, medians, spread, strict=True):
            axes.annotate(
                f"{median:,.0f}", (median + above, place), (3, 0), textcoords="offset points", va="center", fontsize=7
            )
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title.removeprefix("Graphs/s, "), loc="left", fontsize=10)
    axes.set_xlabel("shuffled graphs a second, in PyG batches of 64")
    axes.legend(frameon=False)
    FigureCanvasAgg(figure).print_png(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="the JSON that loaders.py wrote")
    parser.add_argument("picture", type=Path, help="the PNG to draw")
    options = parser.parse_args()
    draw(json.loads(options.result.read_text()), options.picture)


if __name__ == "__main__":
    main()
