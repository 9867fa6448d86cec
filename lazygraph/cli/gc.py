"""The command ``lazygraph gc``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import add_dataset
from lazygraph.cli.output import say
from lazygraph.writing.edit import gc

SUMMARY = "Delete the files of earlier states of a dataset; your own files stay."
EXAMPLES = """\
examples:
  lazygraph gc mp.lg --dry-run
      print what would be deleted, and delete nothing
  lazygraph gc mp.lg
      after you added labels, splits or graphs; a program that still reads an earlier state must open the dataset again
  lazygraph labels mp.lg --from gaps.csv && lazygraph gc mp.lg
  lazygraph gc mp.lg && du -sh mp.lg
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser, "the dataset directory")
    parser.add_argument("--dry-run", action="store_true", help="print what would be deleted, and delete nothing")


def run(arguments: argparse.Namespace) -> int:
    """Delete the files and print their names and size."""
    verb = "would delete" if arguments.dry_run else "deleted"
    files, size = gc(arguments.dataset, dry_run=arguments.dry_run, tell=lambda name: say(f"{verb} {name}"))
    say(f"{verb} {files:,} files, {size:,} bytes")
    return 0
