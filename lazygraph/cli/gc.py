"""``lazygraph gc``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import add_dataset
from lazygraph.cli.output import say
from lazygraph.writing.edit import gc

SUMMARY = "Delete the files of earlier states of a dataset; yours beside them stay."
EXAMPLES = """\
examples:
  lazygraph gc mp.lg --dry-run
      names what would be deleted, and deletes nothing
  lazygraph gc mp.lg
      after labels, splits or graphs were added; programs that still read the state before are told to open it again
  lazygraph labels mp.lg --from gaps.csv && lazygraph gc mp.lg
  lazygraph gc mp.lg && du -sh mp.lg
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_dataset(parser)
    parser.add_argument("--dry-run", action="store_true", help="name what would be deleted, and delete nothing")


def run(arguments: argparse.Namespace) -> int:
    """Delete, and print what and how much."""
    verb = "would delete" if arguments.dry_run else "deleted"
    files, size = gc(arguments.dataset, dry_run=arguments.dry_run, tell=lambda name: say(f"{verb} {name}"))
    say(f"{verb} {files:,} files, {size:,} bytes")
    return 0
