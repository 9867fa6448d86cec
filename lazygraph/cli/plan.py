"""The command ``lazygraph-write plan``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import (
    add_graph,
    add_json,
    add_source,
    add_splits,
    input_options,
    recipe,
    refuse_options_of_new_datasets,
    split_rule,
    write_options,
)
from lazygraph.cli.output import say, say_json
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
  lazygraph-write plan more.json -o mp.lg --append --split train --json
      plan shards that are added to a dataset; print their number as JSON

lazygraph slurm prints a script that submits all three steps.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_what_is_planned(parser)
    add_json(parser)


def add_what_is_planned(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide a plan, which lazygraph slurm takes too."""
    add_source(parser)
    add_graph(parser)
    output = parser.add_argument_group("adding to a dataset")
    output.add_argument("--append", action="store_true", help="add the source's graphs to the dataset")
    add_splits(parser)


def run(arguments: argparse.Namespace) -> int:
    """Plan the shards and print their number."""
    if "-" in arguments.source:
        msg = "a plan cannot read - (standard input); give files that all machines that write the shards can read"
        raise InputError(msg)
    if arguments.append:
        refuse_options_of_new_datasets(arguments)
    new = plan_dataset(
        arguments.source,
        arguments.output,
        recipe(arguments),
        reading=input_options(arguments),
        options=write_options(arguments),
        overwrite=arguments.overwrite,
        split=split_rule(arguments, named=arguments.append),
        append=arguments.append,
    )
    if arguments.json:
        say_json({"tasks": len(new.tasks), "inputs": new.entries, "plan": new.digest, "recipe": new.recipe})
        return 0
    say(
        f"{len(new.tasks)} shards for {new.entries:,} inputs; make each with",
        f"  lazygraph-write shard {arguments.output} --task N      N = 0 to {len(new.tasks) - 1}",
        "and then put them together with",
        f"  lazygraph-write merge {arguments.output}",
        f"recipe: {GraphSpec.from_json(new.recipe)}",
    )
    return 0
