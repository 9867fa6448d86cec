"""The command ``lazygraph stats``."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.cli.options import add_dataset, add_json
from lazygraph.cli.output import say, say_json
from lazygraph.format.store import Store

SUMMARY = "Show distributions of atoms, edges, labels and elements, from columns alone, without reading a graph."
EXAMPLES = """\
examples:
  lazygraph stats mp.lg
  lazygraph stats mp.lg --json
  lazygraph stats mp.lg --json | python -c 'import json, sys; print(json.load(sys.stdin)["n_edges"]["max"])'
"""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the distributions."""
    statistics = statistics_of(Store(arguments.dataset))
    if arguments.json:
        say_json(statistics)
        return 0
    names = ["count", "missing", "mean", "std", "min", *(f"{q:.0%}" for q in QUANTILES), "max"]
    rows = {"n_atoms": statistics["n_atoms"], "n_edges": statistics["n_edges"], **statistics["labels"]}
    width = max(map(len, rows))
    say(" " * width + "".join(f"{name:>11}" for name in names))
    for name, row in rows.items():
        if row is not None:
            say(f"{name:{width}}" + "".join(f"{_number(row.get(key)):>11}" for key in names))
    if statistics["elements"]:
        ordered = sorted(statistics["elements"].items(), key=lambda item: (-item[1], item[0]))
        say(f"{len(ordered)} elements: " + ", ".join(f"{element} {n:,}" for element, n in ordered))
    return 0


def statistics_of(store: Store) -> dict[str, Any]:
    """Return what ``--json`` prints: ``n_atoms``, ``n_edges``, ``labels``, and crystals by element."""
    columns = store.manifest.columns
    elements: Counter[str] = Counter()
    if "formula" in columns:
        formulas, counts = np.unique(store.column("formula"), return_counts=True)
        for formula, count in zip(formulas.tolist(), counts.tolist(), strict=True):
            for element in re.findall(rb"[A-Z][a-z]?", formula):
                elements[element.decode()] += count
    return {
        "graphs": len(store),
        "n_atoms": _distribution(store.column("n_node")) if "n_node" in columns else None,
        "n_edges": _distribution(store.column("n_edge")) if "n_edge" in columns else None,
        "labels": {
            name: {"unit": column.unit, **_distribution(store.column(name))}
            for name, column in store.manifest.labels().items()
        },
        "elements": dict(sorted(elements.items())),
    }


def _distribution(values: NDArray[Any]) -> dict[str, Any]:
    present = values[np.isfinite(values)].astype(np.float64)
    out: dict[str, Any] = {"count": int(present.size), "missing": int(values.size - present.size)}
    if present.size:
        out |= {"mean": float(present.mean()), "std": float(present.std())}
        out |= {"min": float(present.min()), "max": float(present.max())}
        out |= {f"{q:.0%}": float(x) for q, x in zip(QUANTILES, np.quantile(present, QUANTILES), strict=True)}
    return out


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
