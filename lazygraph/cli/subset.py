"""The command ``lazygraph subset``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import add_dataset, add_part, ids_of
from lazygraph.cli.output import say, warn
from lazygraph.writing.copy import subset

SUMMARY = "Write some graphs of a dataset as a new dataset, without building a graph again."
EXAMPLES = """\
examples:
  lazygraph subset mp.lg -o small.lg --where "n_atoms < 20 and band_gap > 0"
      keep the graphs that meet a condition, with their labels and splits
  lazygraph subset mp.lg -o test.lg --split test
      give a colleague the test set only
  lazygraph subset mp.lg -o mine.lg --ids-from ids.txt
      keep the graphs of a list with one id per line, in the order of the list
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser)
    parser.add_argument("-o", "--output", required=True, metavar="SMALL.lg", help="the dataset directory to write")
    add_part(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing dataset")


def run(arguments: argparse.Namespace) -> int:
    """Copy the graphs and print what was left out."""
    report = subset(
        arguments.dataset,
        arguments.output,
        where=arguments.where,
        ids=ids_of(arguments),
        split=arguments.split,
        overwrite=arguments.overwrite,
    )
    for note in report.notes:
        warn(f"note: {note}")
    say(f"{report.graphs:,} graphs in {arguments.output}")
    return 0
