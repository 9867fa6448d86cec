"""The command ``lazygraph predict``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from lazygraph.cli.options import import_from_here
from lazygraph.cli.output import say, warn
from lazygraph.errors import InputError, OutputExists

SUMMARY = "Predict with a trained model, for structures of any format or for a dataset."
EXAMPLES = """\
examples:
  lazygraph predict run new_structures/ -o predictions.csv
      build the graphs with the recipe that the model was trained with
  lazygraph predict run mp.lg -o predictions.csv
      predict for the graphs of a dataset, and write their labels beside the predictions
  lazygraph predict run 'candidates/*.cif' -o predictions.parquet

If Slurm or torchrun starts several processes with this command, the first process does all the work.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("run_folder", metavar="RUN", help="the folder of a run, or a checkpoint")
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="files, folders, globs, or one dataset")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE.csv", help="the table to write, .csv or .parquet"
    )
    parser.add_argument(
        "--forces", metavar="FILE.csv", help="of a potential: write the forces too, one row per atom, .csv or .parquet"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the table if it exists")
    parser.add_argument(
        "--model", metavar="PACKAGE.MODULE:CLASS", help="your own class, if the run was trained with one"
    )
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="show no progress bar")


def run(arguments: argparse.Namespace) -> int:
    """Predict and write the table."""
    from lazygraph.training.module import own_rank
    from lazygraph.training.predict import predict
    from lazygraph.training.report import check_table, write_forces, write_predictions

    tables = [name for name in (arguments.output, arguments.forces) if name is not None]
    for name in tables:
        if not Path(name).absolute().parent.is_dir():
            msg = f"there is no folder {Path(name).parent} to write {name} to"
            raise InputError(msg)
        check_table(Path(name))
    if rank := own_rank():
        warn(f"lazygraph: process {rank} leaves the predictions to process 0")
        return 0
    for name in tables:
        if os.path.lexists(name) and not arguments.overwrite:
            msg = f"{name} exists; choose another name, or replace it with --overwrite"
            raise OutputExists(msg)
    if ":" in (arguments.model or ""):
        import_from_here()
    source = arguments.source[0] if len(arguments.source) == 1 else arguments.source
    found = predict(arguments.run_folder, source, model=arguments.model, progress=arguments.progress)
    if arguments.forces is not None:
        if found.forces is None:
            msg = f"{arguments.run_folder} is no potential, so it has no forces; leave --forces out"
            raise InputError(msg)
        write_forces(found.rows, *found.forces, Path(arguments.forces))
    write_predictions(found.rows, found.targets, Path(arguments.output))
    for entry in found.quarantined:
        warn(f"lazygraph: no graph of {entry['id']!r}: {entry['message']}")
    left_out = f"; {len(found.quarantined):,} left out" if found.quarantined else ""
    say(f"{len(found.rows):,} predictions in {arguments.output}{left_out}")
    return 0
