"""The command ``lazygraph report``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import add_dataset
from lazygraph.cli.output import say, warn
from lazygraph.sharing.report import STRUCTURES, report

SUMMARY = "Write one HTML file that shows a dataset: distributions, elements, crystals, provenance."
EXAMPLES = """\
examples:
  lazygraph report mp.lg -o mp.html
      open mp.html in any browser; it needs no network, and has at most 2 MB
  lazygraph report mp.lg -o mp.html --overwrite --structures 300
      show more graphs one by one, with crystals that you can turn
  lazygraph subset mp.lg -o oxides.lg --where "'O' in elements" && lazygraph report oxides.lg -o oxides.html
      a report of a part
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE.html", help="the file to write")
    parser.add_argument(
        "--structures",
        type=int,
        default=STRUCTURES,
        metavar="N",
        help="number of graphs that are shown one by one, 1 to 1,000 (default %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(arguments: argparse.Namespace) -> int:
    """Write the report and print what it holds."""
    written = report(
        arguments.dataset, arguments.output, structures=arguments.structures, overwrite=arguments.overwrite
    )
    for note in written.notes:
        warn(f"note: {note}")
    say(
        f"{arguments.output}: {written.size:,} bytes, {written.graphs:,} graphs, {written.shown:,} of them one by one, "
        f"{written.drawn:,} crystals"
    )
    return 0
