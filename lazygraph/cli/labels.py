"""The command ``lazygraph labels``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import add_dataset, units
from lazygraph.cli.output import say, warn
from lazygraph.sources.table import read_table
from lazygraph.writing.edit import set_labels

SUMMARY = "Add or replace labels of a dataset; the graphs stay as they are."
EXAMPLES = """\
examples:
  lazygraph labels mp.lg --from gaps.csv --unit gap_pbe=eV
      a table with a column of ids (jid, material_id, id, ...) and columns of numbers or texts
  lazygraph labels mp.lg --from results.json --id-key name --label energy
      one label of a JSON list of objects
  lazygraph labels mp.lg --from new.csv && lazygraph gc mp.lg
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser)
    parser.add_argument(
        "--from",
        dest="file",
        required=True,
        metavar="FILE",
        help="a table with commas, semicolons or tabs, JSON (a list of objects), or JSON Lines",
    )
    parser.add_argument("--id-key", metavar="KEY", help="the column with the ids (default: jid, material_id, ..., id)")
    parser.add_argument(
        "--label", action="append", metavar="NAME", dest="labels", help="use this column; repeat for more"
    )
    parser.add_argument(
        "--unit",
        action="append",
        metavar="NAME=UNIT",
        dest="units",
        default=[],
        help="unit of a label, such as gap=eV; repeat for more",
    )


def run(arguments: argparse.Namespace) -> int:
    """Set the labels and print what was set."""
    table = read_table(arguments.file, arguments.id_key)
    report = set_labels(arguments.dataset, table, labels=arguments.labels, units=units(arguments.units))
    warn(*(f"note: {note}" for note in report.notes))
    say(f"set {', '.join(report.names)}; {report.missing:,} graphs have no value in {arguments.file}")
    if report.unknown_ids:
        shown = ", ".join(report.unknown_ids[:3])
        say(f"{len(report.unknown_ids):,} ids of the table are not in the dataset, such as {shown}")
    return 0
