"""The command ``lazygraph-write merge``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import add_dataset, add_json, add_splits, split_rule
from lazygraph.cli.write import print_report
from lazygraph.writing.write import finish

SUMMARY = "Merge the finished shards of a plan and publish the dataset."
EXAMPLES = """\
examples:
  lazygraph-write merge mp.lg
  lazygraph-write merge mp.lg --split 0.8,0.1,0.1 --json
      split the graphs, if the plan does not name a split
  lazygraph-write merge mp.lg || lazygraph-write shard mp.lg --task 7
      merge prints which shards are missing
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser, "the dataset directory")
    add_splits(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Merge the shards and print a summary."""
    print_report(finish(arguments.dataset, split_rule(arguments, named=True)), as_json=arguments.json)
    return 0
