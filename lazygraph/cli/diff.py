"""The command ``lazygraph diff``."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from lazygraph.cli.options import add_json
from lazygraph.cli.output import say, say_json
from lazygraph.reading.diff import diff

SUMMARY = "Compare two datasets: recipe, labels, ids, and graphs."
EXAMPLES = """\
examples:
  lazygraph diff mine.lg yours.lg
      exit with 0 if nothing differs, else with 1
  lazygraph diff mp-2024.lg mp-2025.lg --json
      list every id that only one of them has, and every graph that differs
  lazygraph diff mp.lg copy.lg || lazygraph verify copy.lg
      check whether the difference is damage
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("a", metavar="A.lg", help="the first dataset: a directory or a URL")
    parser.add_argument("b", metavar="B.lg", help="the second dataset: a directory or a URL")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the differences."""
    found = diff(arguments.a, arguments.b)
    if arguments.json:
        say_json({**asdict(found), "equal": found.equal})
    else:
        for line in str(found).splitlines():
            say(line)
    return 0 if found.equal else 1
