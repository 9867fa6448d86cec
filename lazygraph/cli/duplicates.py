"""The command ``lazygraph duplicates``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from lazygraph.cli.options import add_dataset, add_json
from lazygraph.cli.output import say, say_json, warn
from lazygraph.errors import InputError, OutputExists
from lazygraph.graphs.fingerprint import DISPLACEMENT, STRAIN
from lazygraph.writing.duplicates import NAME, duplicates

SUMMARY = "Find graphs of the same structure, also between splits or in another dataset."
EXAMPLES = """\
examples:
  lazygraph duplicates mp.lg
      store for each graph the id of the first graph with its structure, in the column "group", and count the graphs
      whose structure, formula or chemical system is also in another split
  lazygraph split mp.lg 0.8,0.1,0.1 --group group
      split afterwards, and keep all graphs of a structure in one split
  lazygraph duplicates train.lg --against test.lg --ids-to leaked.txt
      list the graphs of train.lg whose structure is in test.lg ...
  lazygraph remove train.lg --ids-from leaked.txt --reason "in the test set"
      ... and remove them
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser, "the dataset: a directory, or a URL with --dry-run")
    parser.add_argument(
        "--against", metavar="OTHER.lg", help="look for structures of this other dataset, and store nothing"
    )
    parser.add_argument(
        "--strain",
        type=float,
        default=STRAIN,
        help="greatest relative change of a length between two graphs of one structure (default %(default)s)",
    )
    parser.add_argument(
        "--displacement",
        type=float,
        default=DISPLACEMENT,
        help="greatest displacement of an atom, in units of the cube root of the volume per atom (default %(default)s)",
    )
    parser.add_argument("--name", help=f"name of the column (default {NAME})")
    parser.add_argument("--dry-run", action="store_true", help="store no column")
    parser.add_argument(
        "--ids-to",
        metavar="FILE",
        help="write the ids of the graphs that repeat the structure of another graph, one per line",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes (default: one per available CPU)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Find the duplicates and print the report."""
    from tqdm import tqdm

    if arguments.against is not None and (arguments.dry_run or arguments.name is not None):
        msg = "--against stores no column, so it cannot be combined with --name or --dry-run"
        raise InputError(msg)
    if arguments.ids_to is not None and Path(arguments.ids_to).exists():
        msg = f"{arguments.ids_to} exists already; give another name, or delete it first"
        raise OutputExists(msg)
    with tqdm(unit=" graphs", desc="comparing", disable=arguments.json or not sys.stderr.isatty()) as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = duplicates(
            arguments.dataset,
            arguments.against,
            strain=arguments.strain,
            displacement=arguments.displacement,
            name=None if arguments.dry_run else arguments.name or NAME,
            workers=arguments.workers,
            progress=tell,
        )
    if arguments.ids_to is not None:
        _write_ids(Path(arguments.ids_to), found.matches)
    for note in found.notes:
        warn(f"note: {note}")
    if arguments.json:
        shared = [
            {"splits": one.splits, "what": one.what, "in": a, "of": b, "graphs": count, "size": one.sizes[b]}
            for one in found.leakage
            for (a, b), count in one.shared.items()
        ]
        names = ("graphs", "groups", "duplicates", "candidates", "compared")
        numbers = {name: getattr(found, name) for name in names}
        say_json({**numbers, "matches": [list(pair) for pair in found.matches], "leakage": shared})
    else:
        say(*str(found).split("\n"))
    return 0


def _write_ids(path: Path, matches: Iterable[tuple[str, str]]) -> None:
    """Write the first id of each pair in a line, as ``--ids-from`` reads them."""
    for graph_id, _ in matches:
        if "\n" in graph_id or graph_id.endswith("\r"):
            msg = f"the id {graph_id!r} holds a line end, so no file with one id per line can hold it; use --json"
            raise InputError(msg)
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{graph_id}\n" for graph_id, _ in matches)
