"""The command ``lazygraph salvage``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from lazygraph.cli.options import add_dataset, add_json
from lazygraph.cli.output import say, say_json
from lazygraph.writing.salvage import salvage

SUMMARY = "Save the undamaged graphs of a damaged dataset as a new dataset."
EXAMPLES = """\
examples:
  lazygraph salvage bad.lg -o good.lg
      exit with 0 if nothing is lost, else with 1 and one line for each loss
  lazygraph salvage bad.lg -o good.lg --json
  lazygraph salvage bad.lg -o good.lg || lazygraph-write mp.json.gz -o good.lg --retry-quarantined
      build the lost graphs again; needs all sources of bad.lg in the same order
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser, "the dataset directory")
    parser.add_argument("-o", "--output", required=True, metavar="GOOD.lg", help="the dataset directory to write")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Salvage the dataset and print what is lost."""
    from tqdm import tqdm

    with tqdm(unit=" graphs", desc="salvaging", disable=arguments.json or not sys.stderr.isatty()) as bar:
        result = salvage(arguments.dataset, arguments.output, bar.update)
    if arguments.json:
        say_json({**asdict(result), "path": str(result.path)})
    else:
        for one in result.lost:
            say(f"lost row {one.row}, id {one.id!r}: {one.reason}")
        for note in result.notes:
            say(note)
        say(f"kept {result.kept:,} of {result.graphs:,} graphs in {arguments.output}")
    return 0 if result.complete else 1
