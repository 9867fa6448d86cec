"""The command ``lazygraph split``."""

from __future__ import annotations

import argparse
import json
import sys

from lazygraph.cli.options import add_dataset, fractions
from lazygraph.cli.output import say, warn
from lazygraph.errors import InputError
from lazygraph.sources.table import read_text
from lazygraph.writing.edit import set_splits
from lazygraph.writing.prototypes import SYMPREC
from lazygraph.writing.split_request import FOLD
from lazygraph.writing.split_rules import BINS
from lazygraph.writing.splits import DEFAULT
from lazygraph.writing.value_groups import PROTOTYPE

SUMMARY = "Split a dataset into named splits, and store the splits in the dataset."
EXAMPLES = """\
examples:
  lazygraph split mp.lg 0.8,0.1,0.1 --seed 123
      shuffle as the published crystal networks do; read a split with ds.split("train")
  lazygraph split mp.lg 0.8,0.1,0.1 --for band_gap
      split only the crystals that have a band gap, as the published networks do for each target
  lazygraph split mp.lg --counts 60000,5000,4239
      exact numbers of crystals, as in the published splits of the Materials Project
  lazygraph split mp.lg 0.8,0.1,0.1 --group formula
      keep crystals with the same formula in one split. Other groups: chemical_system (the elements), prototype (the
      structure type, by spglib), or a label such as a material id or a trajectory
  lazygraph split mp.lg 0.8,0.1,0.1 --stratify band_gap
      give every split its share of low and of high band gaps; with a label of texts, its share of each text
  lazygraph split mp.lg --folds 5 --seed 18012019
      five folds, as in scikit-learn's KFold and in matbench; read a fold with ds.split("test", of="fold_0")
  lazygraph split mp.lg --folds 5 --val 0.1 --group chemical_system --name system
      folds of whole chemical systems, with a tenth of the other graphs for validation: system_0 to system_4
  lazygraph split mp.lg --leave-out Fe,Co --val 0.1
      test on all crystals with iron or cobalt
  lazygraph split mp.lg 0.8,0.1,0.1 --seed 1 --name other
      store other splits beside the default splits; read them with ds.split("train", of="other")
  lazygraph split mp.lg --from splits.json
      use a published split: {"train": ["mp-149", ...], "val": [...], "test": [...]}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser, "the dataset directory")
    how = parser.add_argument_group("how the graphs are split: one of these")
    how.add_argument("fractions", nargs="?", metavar="TRAIN,VAL,TEST", help="fractions of the graphs")
    how.add_argument("--counts", metavar="TRAIN,VAL,TEST", help="exact numbers of graphs, such as 60000,5000,4239")
    how.add_argument("--folds", type=int, metavar="K", help="K folds of a cross-validation: NAME_0, NAME_1, ...")
    how.add_argument(
        "--leave-out",
        metavar="ELEMENTS",
        help="put all crystals with one of these elements into test, such as Fe or Fe,Co",
    )
    how.add_argument("--from", dest="file", metavar="FILE.json", help="a JSON object: split -> list of ids")
    parser.add_argument(
        "--for",
        dest="labelled",
        metavar="LABEL",
        help="split only the graphs with a value of this label; all other graphs are in no split",
    )
    parser.add_argument(
        "--val",
        type=float,
        metavar="FRACTION",
        help="with --folds or --leave-out: fraction of the other graphs for val (default 0)",
    )
    parser.add_argument("--seed", type=int, default=123, help="random seed of the shuffle (default %(default)s)")
    parser.add_argument(
        "--group",
        metavar="COLUMN",
        help="keep graphs with the same value in one split: formula, chemical_system, prototype, or a label",
    )
    parser.add_argument(
        "--stratify", metavar="LABEL", help="give every split its share of each value, or of each bin of numbers"
    )
    parser.add_argument(
        "--bins",
        type=int,
        metavar="N",
        help=f"with --stratify: number N of bins of equal size, for more than N different numbers (default {BINS})",
    )
    parser.add_argument(
        "--symprec",
        type=float,
        metavar="A",
        help=f"with --group prototype: how far an atom may be from its ideal position, A (default {SYMPREC})",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that compute prototypes (default: all CPUs)"
    )
    parser.add_argument(
        "--name", help=f"the name under which the splits are stored (default {DEFAULT}, and {FOLD} for folds)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Set the splits and print their sizes."""
    from tqdm import tqdm

    computes = PROTOTYPE in (arguments.group, arguments.stratify)
    with tqdm(unit=" crystals", desc="prototypes", disable=not computes or not sys.stderr.isatty()) as bar:
        report = set_splits(
            arguments.dataset,
            None if arguments.fractions is None else fractions(arguments.fractions),
            counts=None if arguments.counts is None else _counts(arguments.counts),
            names=None if arguments.file is None else _read(arguments.file),
            folds=arguments.folds,
            leave_out=None if arguments.leave_out is None else arguments.leave_out.split(","),
            val=arguments.val,
            seed=arguments.seed,
            group=arguments.group,
            stratify=arguments.stratify,
            bins=arguments.bins,
            symprec=arguments.symprec,
            labelled=arguments.labelled,
            name=arguments.name,
            workers=arguments.workers,
            progress=bar.update,
        )
    for column, sizes in report.sizes.items():
        if arguments.folds is not None:
            say(f"{column}: " + ", ".join(f"{name} {size:,}" for name, size in sizes.items()))
        else:
            say(*(f"{name}: {size:,} graphs" for name, size in sizes.items()))
    for note in report.notes:
        warn(f"note: {note}")
    return 0


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        msg = f"found the counts {text!r}; required: numbers of graphs for train,val,test such as 60000,5000,4239"
        raise InputError(msg) from None


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
