"""ASE's sqlite database, written by ``ase.db``: results, key-value pairs that can be searched, and data."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from lazygraph.sharing.exports.base import Contents, CrystalFormat, ExportedGraph, not_written
from lazygraph.sharing.exports.results import is_result, other_units

__all__ = ["AseDbFormat", "Row", "results_of", "structure_of"]

_NO_COLUMN = frozenset({"energies", "stresses"})  # results that the tables of sqlite have no column for


class Row(NamedTuple):
    """One row of an ASE database."""

    row: dict[str, Any]
    """The structure and the results, as ``ase.db.row.AtomsRow`` takes them."""
    pairs: dict[str, Any]
    """The key-value pairs."""
    data: dict[str, Any]


class AseDbFormat(CrystalFormat):
    """One row a graph, which ``ase.db.connect("x.db")`` reads.

    Energy, forces and the other results of ASE's calculators are results if they have the level, the shape and the unit
    of ASE. Other numbers, truth values and texts are key-value pairs, if ASE takes them. Everything else is in
    ``data``: arrays, texts that look like numbers, and names that are not identifiers or that ASE reserves. Units and
    descriptions are in the metadata of the database.
    """

    kind: ClassVar[str] = "ase-db"
    suffixes: ClassVar[tuple[str, ...]] = (".db",)
    exact_positions: ClassVar[bool] = False
    holds_descriptions: ClassVar[bool] = True

    def notes(self, contents: Contents) -> Iterator[str]:
        """Yield the labels that are not in the units of ASE's results."""
        return other_units((*contents.labels, *contents.atom_labels), "it is in 'data', because the result of ASE has")

    def encode(self, contents: Contents, graphs: Sequence[ExportedGraph]) -> list[Row]:
        """Return some rows."""
        of_results = [
            label.name
            for label in (*contents.labels, *contents.atom_labels)
            if is_result(label) and label.name not in _NO_COLUMN and (label.name, label.shape) != ("stress", (3, 3))
        ]
        allowed = {name for name in (contents.id_key, *contents.names) if _is_pair(name, 1.0)}
        return [_row(contents, graph, of_results, allowed) for graph in graphs]

    def save(self, path: Path, contents: Contents, pieces: Iterator[list[Row]]) -> None:
        """Write the rows, in transactions of a few thousand."""
        from sqlite3 import Error

        from ase.db import connect
        from ase.db.core import now
        from ase.db.row import AtomsRow

        try:
            with warnings.catch_warnings(), connect(path, type="db", use_lock_file=False, append=False) as database:
                warnings.simplefilter("ignore")  # of keys that are formulas too
                database.metadata = {"lazygraph": contents.described()}
                time = now()
                for rows in pieces:
                    for one in rows:
                        row = AtomsRow(one.row | {"ctime": time, "user": None})
                        database.write(row, key_value_pairs=one.pairs, data=one.data)
        except Error as error:
            raise not_written(error) from error


def structure_of(graph: ExportedGraph) -> dict[str, Any]:
    """Return the structure of a row, and a name that no other id has."""
    crystal = graph.crystal
    return {
        "numbers": crystal.numbers.astype(np.int32),
        "positions": graph.positions,
        "cell": crystal.lattice,
        "pbc": np.array(crystal.pbc),
        "unique_id": hashlib.sha256(graph.id.encode()).hexdigest()[:32],
    }


def results_of(graph: ExportedGraph, names: Sequence[str]) -> dict[str, Any]:
    """Return the results of a row, in double precision, and the calculator that ASE needs beside them."""
    values = {**graph.labels, **graph.of_atoms}
    there = {name: values[name] for name in names if name in values}
    results = {
        name: value.astype(np.float64) if isinstance(value, np.ndarray) else float(value)
        for name, value in there.items()
    }
    return results | {"calculator": "unknown", "calculator_parameters": {}} if results else {}


def _row(contents: Contents, graph: ExportedGraph, of_results: list[str], allowed: set[str]) -> Row:
    others = {contents.id_key: graph.id, **graph.labels, **graph.splits, **graph.of_atoms}
    results = results_of(graph, of_results)
    pairs: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for name, value in others.items():
        if name in results:
            continue
        if (
            name in allowed
            and not isinstance(value, np.ndarray)
            and (not isinstance(value, str) or _is_pair("a", value))
        ):
            pairs[name] = value
        else:
            data[name] = value
    return Row(structure_of(graph) | results, pairs, data)


def _is_pair(name: str, value: Any) -> bool:
    """Whether ASE takes a key-value pair."""
    from ase.db.core import check

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check({name: value})
        except ValueError:
            return False
    return name != "external_tables"
