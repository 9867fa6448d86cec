"""The command ``lazygraph labels``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import add_dataset, add_descriptions, said_of_labels, units
from lazygraph.cli.output import say, warn
from lazygraph.errors import InputError
from lazygraph.format.store import Store
from lazygraph.sources.table import read_table
from lazygraph.writing.descriptions import Descriptions
from lazygraph.writing.edit import describe_labels, fit_elements, set_labels

SUMMARY = "Add, replace or describe labels of a dataset; the graphs stay as they are."
EXAMPLES = """\
examples:
  lazygraph labels mp.lg --from gaps.csv --unit gap_pbe=eV
      a table with a column of ids (jid, material_id, id, ...) and columns of numbers or texts
  lazygraph labels mp.lg --from results.json --id-key name --label energy
      one label of a JSON list of objects
  lazygraph labels mp.lg --from new.csv && lazygraph gc mp.lg
  lazygraph labels mp.lg --unit energy=eV --per energy=cell --describe energy='total energy, without corrections'
      describe a label that the dataset already has
  lazygraph labels mp.lg --fit-elements energy
      fit the energy of one atom of each element by least squares, and store the energies
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser, "the dataset directory")
    parser.add_argument(
        "--from",
        dest="file",
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
    add_descriptions(parser)
    parser.add_argument(
        "--fit-elements",
        metavar="NAME",
        help="fit this label by the elements of the crystals, and store the energy of each element",
    )


def run(arguments: argparse.Namespace) -> int:
    """Set or describe the labels and print what was done."""
    said = said_of_labels(arguments)
    descriptions = Descriptions(said["per"], said["describe"], said["required"])
    new_units = units(arguments.units)
    if arguments.file is not None:
        _set(arguments, new_units, descriptions)
    elif arguments.labels or arguments.id_key:
        msg = "--label and --id-key need --from FILE, the table that holds the labels"
        raise InputError(msg)
    elif descriptions or new_units:
        describe_labels(arguments.dataset, descriptions, units=new_units)
        say(f"described {', '.join(dict.fromkeys((*new_units, *descriptions.names())))}")
    elif arguments.fit_elements is None:
        msg = "nothing to do; give --from FILE, --unit, --per, --describe, --required or --fit-elements"
        raise InputError(msg)
    if arguments.fit_elements is not None:
        _fit(arguments)
    return 0


def _fit(arguments: argparse.Namespace) -> None:
    name = arguments.fit_elements
    fit = fit_elements(arguments.dataset, name)
    unit = Store(arguments.dataset).manifest.columns[name].unit
    told = "" if unit is None else f" {unit}"
    say(
        f"fitted {name} of {fit.graphs:,} graphs by {len(fit.elements)} elements; root mean square of the rest "
        f"{fit.rms:.6g}{told}"
    )
    say(*(f"  {symbol:2} {energy:14.6f}{told}" for symbol, energy in fit.elements.items()))
    if not fit.determined:
        warn("note: the compositions do not tell all elements apart; of all solutions this is the one of least norm")


def _set(arguments: argparse.Namespace, new_units: dict[str, str], descriptions: Descriptions) -> None:
    table = read_table(arguments.file, arguments.id_key)
    report = set_labels(arguments.dataset, table, labels=arguments.labels, units=new_units, descriptions=descriptions)
    warn(*(f"note: {note}" for note in report.notes))
    say(f"set {', '.join(report.names)}; {report.missing:,} graphs have no value in {arguments.file}")
    if report.unknown_ids:
        shown = ", ".join(report.unknown_ids[:3])
        say(f"{len(report.unknown_ids):,} ids of the table are not in the dataset, such as {shown}")
