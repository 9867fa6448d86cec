"""``lazygraph gc``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import add_dataset
from lazygraph.cli.output import say
from lazygraph.writing.edit import gc

SUMMARY = "Delete the files of earlier states of a dataset."
EXAMPLES = """\
examples:
  lazygraph gc mp.lg
      after labels, splits or graphs were added; programs that still read the state before are told to open it again
  lazygraph labels mp.lg --from gaps.csv && lazygraph gc mp.lg
  lazygraph gc mp.lg && du -sh mp.lg
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_dataset(parser)


def run(arguments: argparse.Namespace) -> int:
    """Delete, and print how much."""
    files, size = gc(arguments.dataset)
    say(f"deleted {files:,} files, {size:,} bytes")
    return 0
