"""The command ``lazygraph pull``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import add_part, ids_of
from lazygraph.cli.output import say, warn
from lazygraph.sharing.pull import pull

SUMMARY = "Copy a dataset, or a part of it, to this machine, and check every byte."
EXAMPLES = """\
examples:
  lazygraph pull hf://datasets/our-group/mp-graphs -o mp.lg
      copy a dataset from the Hub; s3://, gs://, az://, sftp:// and https:// work too
  lazygraph pull s3://our-bucket/mp.lg -o small.lg --where 'n_atoms < 20'
      fetch the columns, and then only the records that are needed
  lazygraph pull https://example.org/mp.lg -o mp.lg --content-id 5b1c...
      refuse graphs that differ from the graphs of a paper
  lazygraph pull /shared/mp.lg -o /local/nvme/mp.lg
      copy the dataset to the disk of this node; after an interruption, the same command continues
  lazygraph pull /shared/mp.lg -o mp.lg --overwrite
      bring an older copy up to date; files that both have are not copied again
  lazygraph pull /shared/mp.lg -o train.lg --split train
      copy the graphs of one split, as lazygraph subset does
  srun --ntasks-per-node=1 lazygraph pull /shared/mp.lg -o /local/nvme/mp.lg
      once on every node of a job
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("source", metavar="SOURCE", help="the dataset: a directory or a URL")
    parser.add_argument("-o", "--output", required=True, metavar="NAME.lg", help="the dataset directory to write")
    add_part(parser)
    parser.add_argument("--content-id", metavar="ID", help="refuse a dataset with another content id")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="show no progress")


def run(arguments: argparse.Namespace) -> int:
    """Copy the dataset and print what was copied."""
    report = pull(
        arguments.source,
        arguments.output,
        where=arguments.where,
        ids=ids_of(arguments),
        split=arguments.split,
        content_id=arguments.content_id,
        overwrite=arguments.overwrite,
        progress=arguments.progress,
    )
    for note in report.notes:
        warn(f"note: {note}")
    done = f"{report.copied:,} bytes copied" if report.copied else "nothing to copy"
    kept = f", {report.kept:,} bytes were there" if report.kept else ""
    say(f"{report.graphs:,} graphs in {arguments.output}: {done}{kept}", f"content id: {report.content_id}")
    return 0
