"""The command ``lazygraph-write shard``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import add_dataset
from lazygraph.cli.output import say
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import shared
from lazygraph.writing.worker import make_shard

SUMMARY = "Write one or several shards of a plan; any number of processes and machines may do so at once."
EXAMPLES = """\
examples:
  lazygraph-write shard mp.lg --task 3
  lazygraph-write shard mp.lg --task $SLURM_ARRAY_TASK_ID
  lazygraph-write shard mp.lg --task 0 --task 1 --task 2
      skip shards that are already finished
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser)
    parser.add_argument(
        "--task", type=int, action="append", required=True, metavar="N", help="number of the shard, from 0"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the shards."""
    layout = Layout.of(arguments.dataset)
    with shared(layout):
        for task in arguments.task:
            made = make_shard(layout.final, task)
            say(f"shard {task}: {made.written:,} graphs, {made.quarantined:,} quarantined")
    return 0
