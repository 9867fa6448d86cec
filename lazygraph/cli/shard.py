"""The command ``lazygraph-write shard``."""

from __future__ import annotations

import argparse
import re

from lazygraph.cli.options import add_dataset
from lazygraph.cli.output import say
from lazygraph.errors import InputError
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import shared
from lazygraph.writing.plan import read_head
from lazygraph.writing.worker import make_shard

SUMMARY = "Write one or several shards of a plan; any number of processes and machines may do so at once."
EXAMPLES = """\
examples:
  lazygraph-write shard mp.lg --task 3
  lazygraph-write shard mp.lg --part $SLURM_ARRAY_TASK_ID/64
      write the shards of one of 64 tasks (numbered from 1), for any number of shards
  lazygraph-write shard mp.lg --task 0-99 --task 120
      write these shards; finished shards are skipped
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser, "the dataset directory")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--task",
        action="append",
        metavar="N|A-B",
        help="number of a shard, from 0, or a range such as 0-99; repeat for more",
    )
    which.add_argument(
        "--part", metavar="K/N", help="divide the shards into N equal parts, and write part K, from 1 to N"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the shards."""
    layout = Layout.of(arguments.dataset)
    with shared(layout):
        shards = read_head(layout).shards
        if arguments.part is None:
            tasks = [task for text in arguments.task for task in tasks_of(text, shards)]
        else:
            tasks = list(part_of(arguments.part, shards))
        if not tasks:
            say(f"part {arguments.part} has no shard: there are only {shards}")
        for task in tasks:
            made = make_shard(layout.final, task)
            say(f"shard {task}: {made.written:,} graphs, {made.quarantined:,} quarantined")
    return 0


def tasks_of(text: str, shards: int) -> range:
    """The shards that a number or a range names.

    Raises:
        InputError: the text has another form, or the plan has no such shards.

    Example:
        >>> list(tasks_of("2-4", 10))
        [2, 3, 4]
    """
    found = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", text)
    if found is None:
        msg = f"found --task {text!r}; required: the number of a shard, or a range such as 0-99"
        raise InputError(msg)
    first, last = int(found[1]), int(found[2] or found[1])
    if not first <= last < shards:
        msg = f"found --task {text}; required: shards of the plan, 0 to {shards - 1}, the smaller number first"
        raise InputError(msg)
    return range(first, last + 1)


def part_of(text: str, shards: int) -> range:
    """The shards of one part of all: consecutive ones, as many as in the other parts or one fewer.

    Raises:
        InputError: the text has another form, or there is no such part.

    Example:
        >>> [list(part_of(f"{part}/3", 10)) for part in (1, 2, 3)]
        [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        msg = f"found --part {text!r}; required: K/N with K from 1 to N, such as 3/64"
        raise InputError(msg)
    part, parts = int(found[1]), int(found[2])
    return range((part - 1) * shards // parts, part * shards // parts)
