"""The command ``lazygraph write``, also installed as ``lazygraph-write``."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lazygraph.cli.config import add_config
from lazygraph.cli.options import (
    add_graph,
    add_json,
    add_source,
    add_splits,
    input_options,
    recipe,
    refuse_options_of_new_datasets,
    split_rule,
    write_options,
)
from lazygraph.cli.output import say, say_json, warn
from lazygraph.errors import InputError
from lazygraph.writing.extend import plan_append, plan_retry
from lazygraph.writing.options import RunOptions
from lazygraph.writing.split_rules import SplitRule
from lazygraph.writing.write import Report, add_inputs, write_dataset

STDIN = "-"
SUMMARY = "Read structures, build their graphs in parallel, and write a dataset."
EXAMPLES = """\
examples:
  lazygraph-write jdft_3d.json.zip -o jarvis.lg --unit optb88vdw_bandgap=eV
      all structures of a JARVIS file with all labels, as graphs of the preset comformer (4 A, 25 neighbours)
  lazygraph-write 'cifs/*.cif' -o cifs.lg --graph radius --cutoff 6 --workers 8
      CIF files; edges join each atom to all atoms within 6 A
  lazygraph-write --config mp.toml -o mp.lg
      all options in a file, one a line: source = ["mp.json"], graph = "alignn", unit = {gap = "eV"}
  lazygraph-write 'prototypes:2000?seed=0' -o demo.lg --split 0.8,0.1,0.1 --seed 123
      2,000 generated crystals (no download), split into train, val and test

If every SOURCE is a dataset with the requested recipe, its stored graphs are copied. With an option that changes the
stored data, such as --label, --unit, --split or --level, the graphs are built again, and a note names the option.
To continue a run that was killed, give the same command again.
To write on many machines, use lazygraph-write plan, shard and merge, or lazygraph slurm.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_source(parser)
    add_config(parser)
    add_graph(parser)
    output = parser.add_argument_group("adding to a dataset")
    output.add_argument("--append", action="store_true", help="add the source's graphs to the dataset")
    output.add_argument(
        "--retry-quarantined", action="store_true", help="try the quarantined inputs again; needs the same source"
    )
    add_splits(parser)
    run = parser.add_argument_group("run")
    run.add_argument("--workers", type=int, metavar="N", help="worker processes (default: one per available CPU)")
    run.add_argument("--no-progress", action="store_true", help="show no progress")
    run.add_argument("--strict", action="store_true", help="exit with 1 if any input was quarantined")
    add_json(run)  # type: ignore[arg-type]


def run(arguments: argparse.Namespace) -> int:
    """Write the dataset and print a summary."""
    with standard_input(arguments.source) as source:
        report = _write(source, arguments)
    print_report(report, as_json=arguments.json)
    return 1 if arguments.strict and report.quarantined else 0


def _write(source: list[str], arguments: argparse.Namespace) -> Report:
    """Write a dataset, or add to one."""
    run = RunOptions(arguments.workers, progress=not arguments.no_progress)
    reading = input_options(arguments)
    if not (arguments.append or arguments.retry_quarantined):
        rule = split_rule(arguments, named=False)
        return write_dataset(
            source,
            arguments.output,
            recipe(arguments),
            reading=reading,
            options=write_options(arguments),
            run=run,
            split=rule if isinstance(rule, SplitRule) else None,
            overwrite=arguments.overwrite,
        )
    if arguments.append and arguments.retry_quarantined:
        raise InputError("--append and --retry-quarantined cannot be combined; give one of them")
    refuse_options_of_new_datasets(arguments, retries=arguments.retry_quarantined)
    planned = plan_append if arguments.append else plan_retry
    options = write_options(arguments)
    rule = split_rule(arguments, named=True)
    return add_inputs(arguments.output, source, planned, reading=reading, options=options, run=run, split=rule)


@contextmanager
def standard_input(source: list[str]) -> Iterator[list[str]]:
    """Replace the source ``-`` by a temporary file with the contents of standard input.

    Several processes read the inputs several times. A pipe can be read only once.

    Raises:
        InputError: standard input is named twice, or closed.
    """
    if STDIN not in source:
        yield source
        return
    if source.count(STDIN) > 1:
        msg = (
            f"{STDIN} is given {source.count(STDIN)} times as a source; give it once, because standard input can be "
            "read only once"
        )
        raise InputError(msg)
    if sys.stdin is None:
        msg = f"the source {STDIN} cannot be read, because standard input is closed; open it, or give a file by name"
        raise InputError(msg)
    with tempfile.TemporaryDirectory(prefix="lazygraph-") as folder:
        path = Path(folder, "stdin")
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        yield [os.fspath(path) if one == STDIN else one for one in source]


def print_report(report: Report, *, as_json: bool) -> None:
    """Print the summary: figures on stdout, notes on stderr."""
    for note in report.notes:
        warn(f"note: {note}")
    if as_json:
        facts = {
            "path": os.fspath(report.path),
            "written": report.written,
            "quarantined": report.quarantined,
            "seconds": round(report.seconds, 3),
            "recipe": None if report.recipe is None else report.recipe.to_json(),
            "quarantine_file": None if report.quarantine_file is None else os.fspath(report.quarantine_file),
            "notes": list(report.notes),
            "in_no_split": report.in_no_split,
            "copied": report.copied,
        }
        say_json(facts)
        return
    rate = report.written / report.seconds if report.seconds else 0.0
    done = "copied" if report.copied else "wrote"
    say(f"{done} {report.written:,} graphs to {report.path} in {report.seconds:.1f} s ({rate:,.0f} a second)")
    say(f"recipe: {report.recipe}")
    if report.quarantined:
        say(f"{report.quarantined:,} inputs could not become graphs; the reasons are in {report.quarantine_file}")
