"""The command ``lazygraph show``."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from lazygraph.cli.options import add_dataset, add_json
from lazygraph.cli.output import say, say_json
from lazygraph.crystal import SYMBOLS
from lazygraph.errors import CorruptDataset, InputError
from lazygraph.format.store import Store
from lazygraph.graphs.crystal_records import check_crystals
from lazygraph.graphs.spec import GraphSpec
from lazygraph.reading.table import Columns

SUMMARY = "Show one graph: fields with shapes and units, labels, and the crystal."
EXAMPLES = """\
examples:
  lazygraph show mp.lg mp-149
  lazygraph show mp.lg --row 0
  lazygraph show mp.lg mp-149 --json
"""
MAX_ATOMS = 20  # lines of atoms that are shown unless --all is given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser)
    parser.add_argument("id", nargs="?", metavar="ID", help="the id of the graph")
    parser.add_argument("--row", type=int, metavar="N", help="position of the graph, from 0, instead of its id")
    parser.add_argument("--all", action="store_true", help=f"show all atoms, not only the first {MAX_ATOMS}")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print one graph."""
    store = Store(arguments.dataset)
    row = _row(store, arguments)
    arrays = store.arrays(row)
    labels = {name: store.column(name)[row] for name in store.manifest.labels()}
    columns = Columns(store, np.array([row]))
    labels |= {name: str(columns[name][0]) for name in store.manifest.texts()}
    if arguments.json:
        fields = {name: value if isinstance(value, str) else value.tolist() for name, value in arrays.items()}
        values = {name: _plain(value) for name, value in labels.items()}
        say_json({"id": store.graph_id(row), "row": row, "labels": values, "fields": fields})
        return 0
    say(f"{store.graph_id(row)}  (row {row} of {len(store):,})")
    for name, value in labels.items():
        unit = store.manifest.columns[name].unit
        say(f"  {name} = {_short(value)}{f' {unit}' if unit else ''}")
    say("fields")
    for field in store.manifest.schema.fields:
        value = arrays[field.name]
        text = repr(value) if isinstance(value, str) else f"{value.dtype} {value.shape}"
        notes = [f"[{field.unit}]"] if field.unit else []
        notes += [f"indices of {field.counts}s"] if field.counts else []
        say(f"  {field.name:16} {text} {' '.join(notes)}".rstrip())
    if store.manifest.recipe is not None:
        check_crystals(store.manifest.schema, GraphSpec.from_json(store.manifest.recipe))
        _print_crystal(arrays, None if arguments.all else MAX_ATOMS)
    return 0


def _row(store: Store, arguments: argparse.Namespace) -> int:
    if (arguments.id is None) == (arguments.row is None):
        msg = "give either ID or --row"
        raise InputError(msg)
    if arguments.id is not None:
        return store.row_of(arguments.id)
    row = int(arguments.row)
    if not -len(store) <= row < len(store):
        msg = f"found --row {row}; the dataset has rows 0 to {len(store) - 1}"
        raise InputError(msg)
    return row % len(store)


def _print_crystal(arrays: dict[str, Any], most: int | None) -> None:
    say("lattice [A]")
    for vector in arrays["lattice"].tolist():
        say("  " + " ".join(f"{x:12.6f}" for x in vector))
    if not arrays["pbc"].all():
        say(f"  periodic along {arrays['pbc'].tolist()}")
    numbers, coordinates = arrays["numbers"].tolist(), arrays["frac_coords"].tolist()
    degrees = [""] * len(numbers)
    if "edge_index" in arrays:
        centres = arrays["edge_index"][0]
        if centres.size and not 0 <= centres.min() <= centres.max() < len(numbers):
            msg = f"the edges of this graph begin at atoms {centres.min()} to {centres.max()}; it has {len(numbers)}"
            raise CorruptDataset(msg)
        degrees = [f"  {degree:4}" for degree in np.bincount(centres, minlength=len(numbers))]
        say("atoms: symbol, fractional coordinates, edges that begin there")
    else:
        say("atoms: symbol, fractional coordinates")
    for z, frac, degree in list(zip(numbers, coordinates, degrees, strict=True))[:most]:
        say(f"  {_symbol(z):2} " + " ".join(f"{x:12.8f}" for x in frac) + degree)
    if most is not None and len(numbers) > most:
        say(f"  and {len(numbers) - most} more atoms (--all shows them)")


def _symbol(number: int) -> str:
    return SYMBOLS[number] if number < len(SYMBOLS) else str(number)


def _plain(value: Any) -> Any:
    """A label as JSON: what is missing becomes null."""
    if np.ndim(value):
        return [_plain(v) for v in value]
    if isinstance(value, str):
        return value or None
    return None if np.isnan(value) else value.item()


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value or "(none)"
    return np.array2string(np.asarray(value), precision=6, threshold=9, separator=", ").replace("\n", "")
