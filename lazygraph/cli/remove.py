"""The command ``lazygraph remove``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import add_dataset, ids_of
from lazygraph.cli.output import say, warn
from lazygraph.writing.remove import remove

SUMMARY = "Remove graphs from a dataset, and keep the reason in its history."
EXAMPLES = """\
examples:
  lazygraph remove mp.lg --ids mp-149 --ids mp-13 --reason "wrong pseudopotential"
      publish a state of the dataset without these graphs
  lazygraph remove mp.lg --ids-from retracted.txt --reason "retracted by the authors"
      the file has one id per line
  lazygraph info mp.lg
      show which graphs were removed, and why
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser, "the dataset directory")
    parser.add_argument("--ids", action="append", default=[], metavar="ID", help="an id to remove; repeat for more")
    parser.add_argument(
        "--ids-from", metavar="FILE", help="a file with one id per line, or a subset that save_subset wrote"
    )
    parser.add_argument("--reason", required=True, metavar="TEXT", help="the reason, in a sentence")


def run(arguments: argparse.Namespace) -> int:
    """Remove the graphs and print what is left."""
    report = remove(arguments.dataset, ids_of(arguments) or [], reason=arguments.reason)
    for note in report.notes:
        warn(f"note: {note}")
    say(f"removed {report.removed:,} graphs; {report.graphs:,} are left, with the content id {report.content_id}")
    return 0
