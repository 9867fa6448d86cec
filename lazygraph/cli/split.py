"""The command ``lazygraph split``."""

from __future__ import annotations

import argparse
import json

from lazygraph.cli.options import add_dataset, fractions
from lazygraph.cli.output import say, warn
from lazygraph.errors import InputError
from lazygraph.format.store import Store
from lazygraph.sources.table import read_text
from lazygraph.writing.edit import set_splits
from lazygraph.writing.splits import DEFAULT, Splits

SUMMARY = "Split a dataset into named splits, and store the splits in the dataset."
EXAMPLES = """\
examples:
  lazygraph split mp.lg 0.8,0.1,0.1 --seed 123
      shuffle as the published crystal networks do; read a split with ds.split("train")
  lazygraph split mp.lg 0.8,0.1,0.1 --group formula
      keep crystals with the same formula in one split; with --group config_type, crystals with the same label
  lazygraph split mp.lg 0.8,0.1,0.1 --seed 1 --name fold_1
      store other splits beside the default splits; read them with ds.split("train", of="fold_1")
  lazygraph split mp.lg --from splits.json
      use a published split: {"train": ["mp-149", ...], "val": [...], "test": [...]}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser)
    parser.add_argument("fractions", nargs="?", metavar="TRAIN,VAL,TEST", help="fractions of the graphs")
    parser.add_argument("--from", dest="file", metavar="FILE.json", help="a JSON object: split -> list of ids")
    parser.add_argument("--seed", type=int, default=123, help="random seed of the shuffle (default %(default)s)")
    parser.add_argument(
        "--group", metavar="COLUMN", help="keep graphs with the same formula, or value of a label, in one split"
    )
    parser.add_argument(
        "--name", default=DEFAULT, help="the name under which the splits are stored (default %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Set the splits and print their sizes."""
    names = None if arguments.file is None else _read(arguments.file)
    shares = None if arguments.fractions is None else fractions(arguments.fractions)
    sizes = set_splits(
        arguments.dataset, shares, names=names, seed=arguments.seed, group=arguments.group, name=arguments.name
    )
    for name, size in sizes.items():
        say(f"{name}: {size:,} graphs")
    for note in Splits.of(Store(arguments.dataset), arguments.name).notes():
        warn(f"note: {note}")
    return 0


def _read(path: str) -> dict[str, list[str]]:
    try:
        data = json.loads(read_text(path, "a JSON object of splits and their ids"))
    except (json.JSONDecodeError, RecursionError) as error:
        msg = f"{path}: not JSON: {error}"
        raise InputError(msg) from None
    if not isinstance(data, dict) or not all(isinstance(ids, list) for ids in data.values()):
        msg = f'{path} is not of the form {{"train": [id, ...], "val": [...], "test": [...]}}'
        raise InputError(msg)
    return {name: [str(i) for i in ids] for name, ids in data.items()}
