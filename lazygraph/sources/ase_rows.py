"""Conversion of a JSON row of an ASE database (``ase.db`` in JSON and ``aselmdb``) into an :class:`Entry`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.sources.base import Entry, attempt, shown
from lazygraph.sources.extxyz import take_id
from lazygraph.sources.plain_values import plain

__all__ = ["NOT_LABELS", "OF_ATOMS", "entry_of_row"]

# What a row holds besides results: the structure, and the book-keeping of the database.
NOT_LABELS = frozenset(
    "id unique_id ctime mtime user numbers positions cell pbc calculator calculator_parameters constraints tags "
    "masses momenta initial_magmoms initial_charges".split()
)
# The results that have one row an atom (ase.calculators.calculator.all_properties).
OF_ATOMS = frozenset({"forces", "stresses", "charges", "magmoms", "energies"})


def entry_of_row(row: Any, default: str, id_key: str | None) -> Entry:
    """Return the entry of a row; never raises for a bad one.

    Labels are the results of the calculator, the key-value pairs and the data. If two of them share a name, the first
    in this order is used.

    Args:
        row: the decoded JSON of the row.
        default: the id if ``id_key`` is None.
        id_key: the key-value pair, or the entry of the data, that holds the id.
    """
    if not isinstance(row, dict):
        return Entry(default, UnreadableInput(f"found {type(row).__name__} {shown(row, 40)}; required: a row"), {})
    labels: dict[str, Any] = {}
    of_atoms: dict[str, Any] = {}
    for name in ("data", "key_value_pairs"):
        if isinstance(part := row.get(name), dict):
            labels |= {key: plain(value) for key, value in part.items()}
    for key, value in row.items():
        if key in OF_ATOMS:
            of_atoms[key] = plain(value)
            labels.pop(key, None)
        elif key not in NOT_LABELS and key not in ("data", "key_value_pairs"):
            labels[key] = plain(value)
    crystal: Crystal | InputError = attempt(_crystal, row)
    if id_key is not None:
        try:
            default = take_id(labels, id_key, default)
        except UnreadableInput as error:
            crystal = error if isinstance(crystal, Crystal) else crystal
    return Entry(default, crystal, labels, atom_labels=of_atoms)


def _crystal(row: dict[str, Any]) -> Crystal:
    if lacking := [key for key in ("numbers", "positions") if key not in row]:
        msg = f"the row has no {lacking[0]}; it must have numbers, positions and cell, as ASE writes them"
        raise UnreadableInput(msg)
    cell = row.get("cell")
    if isinstance(cell, dict) and "array" in cell:  # the class Cell
        cell = cell["array"]
    cell = np.zeros((3, 3)) if cell is None else plain(cell)
    pbc = np.broadcast_to(np.asarray(plain(row.get("pbc", False)), dtype=bool), (3,))
    return Crystal.from_cartesian(cell, plain(row["positions"]), np.asarray(plain(row["numbers"])), tuple(pbc.tolist()))
