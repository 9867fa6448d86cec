"""The command ``lazygraph concat``."""

from __future__ import annotations

import argparse

from lazygraph.cli.output import say, warn
from lazygraph.writing.copy import concat

SUMMARY = "Join several datasets to one dataset, without building a graph again."
EXAMPLES = """\
examples:
  lazygraph concat mine.lg yours.lg -o ours.lg
      join the datasets of two people; an id that both have is an error
  lazygraph concat mp-2024.lg mp-2025.lg -o mp.lg --on-duplicate skip
      keep the first graph of every id
  lazygraph concat a/mp.lg b/mp.lg -o both.lg --on-duplicate prefix
      put the name of the dataset before each id; equal names get numbers: mp1-mp-149, mp2-mp-149
  lazygraph concat forces.lg energies.lg -o both.lg --fields common
      keep the per-atom labels that both have, and leave out all others
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("datasets", nargs="+", metavar="NAME.lg", help="the dataset directories, in order")
    parser.add_argument("-o", "--output", required=True, metavar="ALL.lg", help="the dataset directory to write")
    parser.add_argument(
        "--on-duplicate",
        choices=("refuse", "skip", "prefix"),
        default="refuse",
        help="what to do with an id that two datasets have (default %(default)s)",
    )
    parser.add_argument(
        "--fields",
        choices=("same", "common"),
        default="same",
        help="what to do with per-atom labels and other fields that not all datasets have: refuse them (same, the "
        "default), or leave them out (common)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing dataset")


def run(arguments: argparse.Namespace) -> int:
    """Copy the graphs and print what was left out."""
    report = concat(
        arguments.datasets,
        arguments.output,
        on_duplicate=arguments.on_duplicate,
        fields=arguments.fields,
        overwrite=arguments.overwrite,
    )
    for note in report.notes:
        warn(f"note: {note}")
    say(f"{report.graphs:,} graphs in {arguments.output}")
    return 0
