"""What a terminal and a notebook show of a dataset: facts of the manifest and of columns that are cheap to read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from lazygraph.crystal import SYMBOLS
from lazygraph.format.store import Store
from lazygraph.graphs.spec import GraphSpec
from lazygraph.markup.charts import legend
from lazygraph.markup.elements import Html, card, facts, statistics_cells, table, tag
from lazygraph.markup.periodic_table import element_picture
from lazygraph.reading.distributions import UNSPLIT, element_counts, split_sizes
from lazygraph.reading.pictures import OUTLINES, number_chart, title_of
from lazygraph.reading.views import View
from lazygraph.text import printable, shortened

__all__ = ["Shown"]

SPLITS = 8  # splits that are named
LABELS = 20  # rows of the table of labels
CHARTS = 3
CHEAP = 200_000  # graphs of which columns are read, in some tens of milliseconds
LONGEST = 200  # characters of a line
FIRST = ("kind", "n", "of", "seed")  # of the rule of a sample


class Shown:
    """The parts of a dataset that are shown. A damaged or missing column leaves out what it would give.

    Args:
        store: the dataset.
        rows: the graphs of this (sub)set.
        spec: the recipe of the graphs that are read.
        rebuilds: whether they are built at every read.
        steps: the steps of the augmentation.
        target: the labels that become ``y``.
        view: the arrays of a graph.
        rule: by which a sample was chosen.
    """

    def __init__(
        self,
        store: Store,
        rows: Any,
        spec: GraphSpec | None,
        *,
        rebuilds: bool,
        steps: Sequence[Any] = (),
        target: str | Sequence[str] | None,
        view: View,
        rule: Mapping[str, Any] | None = None,
    ) -> None:
        self._store, self._rows, self._rebuilds = store, rows, rebuilds
        recipe = "ready-made graphs" if spec is None else repr(spec) + (", built at every read" if rebuilds else "")
        targets = [target] if isinstance(target, str) else list(target or ())
        self._facts = {
            "recipe": recipe,
            "augment": ", ".join(map(repr, steps)),
            "view": view.name if spec is not None else "",
            "target": ", ".join(targets) or "none",
            "splits": self._splits(),
            "sample": _rule(rule or {}),
        }

    def text(self) -> str:
        """Return the dataset in a few lines, for ``repr``."""
        total = self._store.manifest.graphs
        part = f" of {total}" if len(self._rows) != total else ""
        lines = [f"LazyGraphDataset({os.fspath(self._store.name)!r}, {len(self._rows)}{part} graphs)"]
        lines += [f"  {name:7} {printable(shortened(said, LONGEST))}" for name, said in self._facts.items() if said]
        return "\n".join(lines)

    def html(self) -> Html:
        """Return the dataset for a notebook: facts, labels, and for up to 200,000 graphs histograms and elements."""
        manifest = self._store.manifest
        title = f"{manifest.about.get('title', self._store.name)}: {len(self._rows):,} graphs"
        labels = manifest.all_labels()
        rows = [[title_of(name, column), *statistics_cells(column.statistics)] for name, column in labels.items()]
        parts: list[Html] = [facts([("path", self._store.name), *self._facts.items()])]
        if rows:
            parts.append(table(["label", "mean", "std", "min", "max", "missing"], rows[:LABELS]))
        if len(rows) > LABELS:
            parts.append(tag("p", f"and {len(rows) - LABELS} more labels", class_="note"))
        if 0 < len(self._rows) <= CHEAP and not self._store.is_remote:
            parts += self._pictures()
        return card(title, *parts, tag("p", "lazygraph.report writes all of this, with crystals.", class_="note"))

    def _splits(self) -> str:
        columns = self._store.manifest.splits()
        if not columns:
            return "none"
        name = "split" if "split" in columns else next(iter(columns))
        of = "" if name == "split" else f"{name}: "
        try:
            # A far dataset would have to be asked for its column.
            sizes = split_sizes(self._store, name, self._rows) if not self._store.is_remote else None
        except Exception:  # noqa: BLE001  # the next read of the column says what is wrong
            sizes = None
        parts = list(columns[name].categories or ()) if sizes is None else [f"{k} {n:,}" for k, n in sizes.items()]
        others = len(columns) - 1
        return (
            of
            + ", ".join(parts[:SPLITS])
            + (f" and {len(parts) - SPLITS} more" if len(parts) > SPLITS else "")
            + (f"; {others} other column{'s' * (others > 1)} of splits" if others else "")
        )

    def _pictures(self) -> list[Html]:
        manifest = self._store.manifest
        splits = next((name for name in ("split", *manifest.splits()) if name in manifest.splits()), None)
        sizes = ["n_node"] if self._rebuilds else ["n_node", "n_edge"]
        names = [name for name in sizes if name in manifest.columns]
        names += [name for name in manifest.labels() if name not in names][: CHARTS - len(names)]
        charts = [number_chart(self._store, name, self._rows, splits) for name in names]
        parts = [tag("div", *charts, class_="charts")]
        found_splits = {} if splits is None else split_sizes(self._store, splits, self._rows)
        groups = {name: size for name, size in found_splits.items() if size and name != UNSPLIT}
        if 1 < len(groups) <= OUTLINES:
            parts.insert(0, legend(groups))
        found = element_counts(self._store, self._rows)
        if found is not None:
            summary = tag("summary", f"{len(found.graphs)} elements: graphs that hold each")
            parts.append(tag("details", summary, element_picture(found.graphs, SYMBOLS)))
        return parts


def _rule(rule: Mapping[str, Any]) -> str:
    """Say how a sample was chosen, such as "random, n 50, of 300, seed 3"."""
    names = sorted(rule, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    return ", ".join(str(rule[name]) if name == "kind" else f"{name} {rule[name]}" for name in names)
