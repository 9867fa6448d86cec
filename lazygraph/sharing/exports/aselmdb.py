"""ASE's database in LMDB (``.aselmdb``), which ``ase-db-backends`` and fairchem read: zlib-compressed JSON."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lazygraph.sharing.exports.ase_db import results_of, structure_of
from lazygraph.sharing.exports.base import Contents, CrystalFormat, ExportedGraph, not_written
from lazygraph.sharing.exports.results import is_result, other_units

__all__ = ["AseLmdbFormat"]

MAP_SIZE = 2**41  # bytes of addresses; the file takes what it holds
LEVEL = 6  # of zlib


class AseLmdbFormat(CrystalFormat):
    """One row a graph, under the keys 1, 2, ...

    Energy, forces and the other results of ASE's calculators are results if they have the level, the shape and the unit
    of ASE. The id, all other labels and the splits are in ``data``, which fairchem puts into ``atoms.info``. Units and
    descriptions are in the metadata of the database.
    """

    kind: ClassVar[str] = "aselmdb"
    suffixes: ClassVar[tuple[str, ...]] = (".aselmdb",)
    exact_positions: ClassVar[bool] = False
    holds_descriptions: ClassVar[bool] = True

    def notes(self, contents: Contents) -> Iterator[str]:
        """Yield the labels that are not in the units of ASE's results."""
        return other_units((*contents.labels, *contents.atom_labels), "it is in 'data', because the result of ASE has")

    def encode(self, contents: Contents, graphs: Sequence[ExportedGraph]) -> list[bytes]:
        """Return the compressed rows."""
        names = [label.name for label in (*contents.labels, *contents.atom_labels) if is_result(label)]
        return [_row(contents, graph, names) for graph in graphs]

    def save(self, path: Path, contents: Contents, pieces: Iterator[list[bytes]]) -> None:
        """Write the rows, one transaction for each piece."""
        import lmdb

        number = 0
        try:
            # Without a lock file: no other process knows this name.
            with lmdb.open(str(path), map_size=MAP_SIZE, subdir=False, lock=False, sync=False) as database:
                for rows in pieces:
                    with database.begin(write=True) as transaction:
                        for row in rows:
                            number += 1
                            transaction.put(b"%d" % number, row)
                with database.begin(write=True) as transaction:
                    transaction.put(b"nextid", _packed(number + 1))
                    transaction.put(b"metadata", _packed({"lazygraph": contents.described()}))
                database.sync(True)
        except lmdb.Error as error:
            raise not_written(error) from error


def _row(contents: Contents, graph: ExportedGraph, names: Sequence[str]) -> bytes:
    results = results_of(graph, names)
    others = {contents.id_key: graph.id, **graph.labels, **graph.splits, **graph.of_atoms}
    data = {name: value for name, value in others.items() if name not in results}
    row = structure_of(graph) | results | {"ctime": 0.0, "mtime": 0.0, "user": None}
    return _packed(row | {"key_value_pairs": {}, "data": data})


def _packed(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, default=_array).encode(), LEVEL)


def _array(array: Any) -> dict[str, Any]:
    """An array as ASE writes it in JSON."""
    wide = array.astype(np.float64) if array.dtype == np.float32 else array
    return {"__ndarray__": [list(wide.shape), str(wide.dtype), wide.ravel().tolist()]}
