"""The command ``lazygraph verify``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from lazygraph.cli.options import add_dataset, add_json
from lazygraph.cli.output import say, say_json
from lazygraph.reading.verify import verify

SUMMARY = "Verify every byte of a dataset: files, records, indices, ids, content id."
EXAMPLES = """\
examples:
  lazygraph verify mp.lg
      exit with 0 if the dataset is intact, else with 3 and one line for each problem
  lazygraph verify mp.lg --json
  lazygraph verify mp.lg && rsync -a mp.lg colleague:
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verify the dataset and print every problem."""
    from tqdm import tqdm

    with tqdm(unit=" graphs", desc="verifying", disable=arguments.json or not sys.stderr.isatty()) as bar:
        result = verify(arguments.dataset, bar.update)
    if arguments.json:
        say_json(asdict(result))
    else:
        for problem in result.problems:
            say(problem)
        found = f"{len(result.problems)} problems" if result.problems else "all as written"
        say(f"{result.graphs:,} graphs in {result.files:,} files of {result.size:,} bytes: {found}")
    return 3 if result.problems else 0
