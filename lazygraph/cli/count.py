"""The command ``lazygraph count``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from lazygraph.cli.options import add_dataset, add_json, add_recipe, recipe
from lazygraph.cli.output import say, say_json
from lazygraph.errors import InputError
from lazygraph.writing.count import count

SUMMARY = "Count the edges and angles that a recipe builds, for the budgets of a loader."
EXAMPLES = """\
examples:
  lazygraph count mp.lg --graph mace
      build the edges of each crystal once, and store their number as the label "n_edges_mace"; after that,
      lg.loader(lg.LazyGraphDataset("mp.lg", graph="mace"), max_edges=20000) works
  lazygraph count mp.lg --graph m3gnet --cutoff 6 --name m3gnet_6
      count edges and angles of a recipe with another cutoff
  lazygraph count mp.lg --graph comformer --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser)
    add_recipe(parser)
    parser.add_argument("--name", help="ending of the names of the labels (default: the preset)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Count, and print the labels."""
    from tqdm import tqdm

    spec = recipe(arguments)
    if spec is None:
        msg = "no recipe to count; give --graph PRESET, such as --graph mace"
        raise InputError(msg)
    with tqdm(unit=" graphs", desc="counting", disable=arguments.json or not sys.stderr.isatty()) as bar:
        report = count(arguments.dataset, spec, name=arguments.name, progress=bar.update)
    if arguments.json:
        say_json(asdict(report))
        return 0
    angles = "" if report.angles is None else f" and {report.angles:,} angles"
    known = "" if report.computed else ", counted before"
    say(f"{report.edges:,} edges{angles} of {spec!r}, in the labels {', '.join(report.labels.values())}{known}")
    return 0
