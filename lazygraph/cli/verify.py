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
  lazygraph verify mp.lg --sample 0.01
      hash all files but the shards, and read 1 % of the records of each shard
  lazygraph verify mp.lg --workers 16 --state /tmp/mp.verify
      store the progress in a file; after an interruption, the same command continues
  lazygraph verify mp.lg --edges --sample 0.05
      also build the edges of 5 % of the crystals in every way, and compare them with the stored edges
  lazygraph verify mp.lg && rsync -a mp.lg colleague:
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser)
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes (default: one per available CPU)")
    parser.add_argument(
        "--sample", type=float, metavar="FRACTION", help="check this fraction of the records of each shard, not all"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of the sample (default %(default)s)")
    parser.add_argument(
        "--state",
        metavar="FILE",
        help="store the progress in this file, and continue from it; the file is removed at the end",
    )
    parser.add_argument(
        "--edges",
        action="store_true",
        help="also build the edges of each crystal in every way that is installed (the compiled loop, the plain rule, "
        "the search of nvalchemi), and compare them with the stored edges (about 2 ms a crystal for each way)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verify the dataset and print every problem."""
    from tqdm import tqdm

    with tqdm(unit=" graphs", desc="verifying", disable=arguments.json or not sys.stderr.isatty()) as bar:
        result = verify(
            arguments.dataset,
            bar.update,
            workers=arguments.workers,
            sample=arguments.sample,
            seed=arguments.seed,
            state=arguments.state,
            edges=arguments.edges,
        )
    if arguments.json:
        say_json(asdict(result))
    else:
        for problem in result.problems:
            say(problem)
        found = f"{len(result.problems)} problems" if result.problems else "all as written"
        read = "" if arguments.sample is None else f", of which {result.records:,} were read,"
        compared = ""
        if arguments.edges:
            ways = " and by ".join(result.edges_built_by)
            compared = f"; edges compared with edges built by {ways}" if ways else "; edges were not compared"
        say(f"{result.graphs:,} graphs{read} in {result.files:,} files of {result.size:,} bytes: {found}{compared}")
    return 3 if result.problems else 0
