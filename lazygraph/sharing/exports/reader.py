"""The graphs of a dataset as export formats get them, read row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, InputError, StructureError
from lazygraph.format.columns import NO_SPLIT, Column, texts_of
from lazygraph.format.encoding import decode
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.sharing.exports.base import Contents, ExportedGraph
from lazygraph.sharing.exports.positions import exact_positions
from lazygraph.sources.dataset import CRYSTAL, crystal_of, label_of, label_of_field

__all__ = ["GraphReader", "contents_of", "require_crystals"]


def contents_of(manifest: Manifest, id_key: str) -> Contents:
    """Return the labels and splits of a dataset.

    Args:
        manifest: of the dataset.
        id_key: the name that the ids get in the file.
    """
    labels = tuple(label_of(name, column) for name, column in manifest.all_labels().items())
    fields = (field for field in manifest.schema.fields if field.axis == "node" and field.name not in CRYSTAL)
    of_atoms = tuple(map(label_of_field, fields)) if manifest.recipe is not None else ()
    return Contents(id_key, labels, of_atoms, tuple(manifest.splits()), manifest.about, manifest.content_id)


class GraphReader:
    """Reads crystals, labels and splits of a dataset.

    Edges are not decoded. The largest difference that Cartesian coordinates make is in ``worst``, and the number of
    graphs with a difference in ``inexact``.

    Args:
        store: the dataset.
        contents: the labels and splits to read.
        cartesian: whether the Cartesian coordinates must give back the fractional ones, as far as they can.
    """

    def __init__(self, store: Store, contents: Contents, *, cartesian: bool) -> None:
        self._store, self._contents, self._cartesian = store, contents, cartesian
        self._fields = {*CRYSTAL, *(label.name for label in contents.atom_labels)}
        self.inexact, self.worst = 0, 0.0

    def read(self, rows: NDArray[np.int64]) -> list[ExportedGraph]:
        """Return the graphs of some rows.

        Raises:
            CorruptDataset: a record or a column is damaged.
        """
        columns = self._store.manifest.columns
        labels = {label.name: self._values(columns[label.name], label.name, rows) for label in self._contents.labels}
        splits = {name: self._splits(columns[name], name, rows) for name in self._contents.splits}
        ids = self._store.graph_ids(rows)
        return [
            self._graph(row, graph_id, _present(labels, place), _present(splits, place))
            for place, (row, graph_id) in enumerate(zip(rows.tolist(), ids, strict=True))
        ]

    def _graph(self, row: int, graph_id: str, labels: dict[str, Any], splits: dict[str, str]) -> ExportedGraph:
        arrays = self._arrays(row)
        try:
            crystal = crystal_of(arrays)
        except StructureError as error:
            self._store.raise_corrupt(row, CorruptDataset(str(error)))
        positions = crystal.cart_coords
        if self._cartesian:
            positions, error_of = exact_positions(crystal)
            self.inexact += error_of > 0
            self.worst = max(self.worst, error_of)
        of_atoms = {label.name: arrays[label.name] for label in self._contents.atom_labels}
        there = {name: array for name, array in of_atoms.items() if not _is_missing(array)}
        return ExportedGraph(graph_id, crystal, labels, there, splits, positions)

    def _arrays(self, row: int) -> dict[str, Any]:
        """The fields of a record that are exported."""
        record = self._store.record(row)
        out: dict[str, Any] = {}
        try:
            for field, code, buffer in zip(record.schema.fields, record.codes, record.buffers, strict=True):
                if field.name in self._fields:
                    basis = None if field.basis is None else out[field.basis]
                    out[field.name] = decode(field, code, buffer, record.rows(field), basis)
        except CorruptDataset as error:
            self._store.raise_corrupt(row, error)
        return out

    def _values(self, column: Column, name: str, rows: NDArray[np.int64]) -> Sequence[Any]:
        """The values of a label; None where one is missing."""
        stored = self._store.checked_column(name).rows(rows)
        if column.role != "label":
            return self._texts(name, texts_of(column, stored))
        if stored.ndim == 1:
            return [None if type(value) is float and math.isnan(value) else value for value in stored.tolist()]
        return [None if _is_missing(array) else array for array in stored]

    def _splits(self, column: Column, name: str, rows: NDArray[np.int64]) -> Sequence[str | None]:
        names = dict(enumerate(column.categories or ()))
        codes = self._store.checked_column(name).rows(rows).tolist()
        if wrong := next((code for code in codes if code not in names and code != NO_SPLIT), None):
            msg = f"{self._store.name}: the column {name!r} has the code {wrong}, and names {len(names)} splits"
            raise CorruptDataset(msg)
        return [names.get(code) for code in codes]

    def _texts(self, name: str, texts: NDArray[np.bytes_]) -> list[str | None]:
        try:
            return [text.decode() or None for text in texts.tolist()]
        except UnicodeDecodeError as error:
            msg = f"{self._store.name}: the column {name!r} is not UTF-8: {error}"
            raise CorruptDataset(msg) from error


def require_crystals(store: Store, kind: str) -> None:
    """Refuse a dataset whose graphs are ready-made.

    Raises:
        InputError: with the format that holds such graphs.
    """
    schema = store.manifest.schema
    if store.manifest.recipe is None or not set(CRYSTAL) <= set(schema.names):
        msg = f"the graphs of {store.name} are ready-made, and {kind} needs crystals; export them to a .pt file"
        raise InputError(msg)


def _present(values: dict[str, Sequence[Any]], place: int) -> dict[str, Any]:
    return {name: found for name, column in values.items() if (found := column[place]) is not None}


def _is_missing(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and array.size > 0 and bool(np.isnan(array).all())
