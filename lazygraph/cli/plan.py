"""The command ``lazygraph-write plan``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import add_graph, add_source, input_options, recipe, write_options
from lazygraph.cli.output import say
from lazygraph.errors import InputError
from lazygraph.graphs.spec import GraphSpec
from lazygraph.writing.write import plan_dataset

SUMMARY = "Read the source once and plan shards that any machine can write."
EXAMPLES = """\
examples:
  lazygraph-write plan mp.json -o mp.lg
      print the number of shards; the plan is in mp.lg.partial
  sbatch --array=0-47 --wrap 'lazygraph-write shard mp.lg --task $SLURM_ARRAY_TASK_ID'
      write one shard per task, on any machines that share the folder
  lazygraph-write merge mp.lg
      publish the dataset when all shards are written
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_source(parser)
    add_graph(parser)


def run(arguments: argparse.Namespace) -> int:
    """Plan the shards and print their number."""
    if "-" in arguments.source:
        msg = "found - among the sources; required: files, which the machines that make the shards can read"
        raise InputError(msg)
    new = plan_dataset(
        arguments.source,
        arguments.output,
        recipe(arguments),
        reading=input_options(arguments),
        options=write_options(arguments),
        overwrite=arguments.overwrite,
    )
    say(
        f"{len(new.tasks)} shards for {new.entries:,} inputs; make each with",
        f"  lazygraph-write shard {arguments.output} --task N      N = 0 to {len(new.tasks) - 1}",
        "and then put them together with",
        f"  lazygraph-write merge {arguments.output}",
        f"recipe: {GraphSpec.from_json(new.recipe)}",
    )
    return 0
