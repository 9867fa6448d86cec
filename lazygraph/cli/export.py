"""The command ``lazygraph export``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import add_dataset, add_part, ids_of
from lazygraph.cli.output import say, warn
from lazygraph.sharing.export import ID_KEY, export

SUMMARY = "Write the graphs of a dataset to a file of another program: extended XYZ, ASE, CSV, Parquet, JSON, PyG."
EXAMPLES = """\
examples:
  lazygraph export mp.lg -o mp.xyz
      extended XYZ, which ASE and most programs for potentials read; labels are in the comment lines
  lazygraph export mp.lg -o test.aselmdb --split test
      an ASE database in LMDB with one split, for fairchem
  lazygraph export mp.lg -o stable.csv --where "e_above_hull < 0.05"
      a table with labels, and the structure as JSON of pymatgen
  lazygraph export mp.lg -o mp.parquet --workers 8
      a table for pandas, polars and others, with arrays
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="the file to write; its suffix decides the format: .xyz, .extxyz, .db, .aselmdb, .csv, .parquet, .json, "
        ".jsonl or .pt (see docs/export.md)",
    )
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="the format, whatever the suffix: extxyz, ase-db, aselmdb, csv, parquet, json, jsonl, pyg, or a plug-in",
    )
    add_part(parser)
    parser.add_argument(
        "--id-key", default=ID_KEY, metavar="NAME", help="the name of the ids in the file (default %(default)s)"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes (default: one per available CPU)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="show no progress")


def run(arguments: argparse.Namespace) -> int:
    """Write the file and print what is not in it."""
    report = export(
        arguments.dataset,
        arguments.output,
        format=arguments.format,
        where=arguments.where,
        ids=ids_of(arguments),
        split=arguments.split,
        id_key=arguments.id_key,
        workers=arguments.workers,
        overwrite=arguments.overwrite,
        progress=arguments.progress,
    )
    for note in report.notes:
        warn(f"note: {note}")
    say(f"{report.graphs:,} graphs in {arguments.output}: {report.format}, {report.size:,} bytes")
    return 0
