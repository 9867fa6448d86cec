"""A dataset of radius graphs read as graphs of another recipe, chosen from its edges when they are read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError
from lazygraph.format.joint import Joined, join
from lazygraph.format.schema import Field, Schema
from lazygraph.format.store import Store
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.recut import check_recut, recut
from lazygraph.graphs.spec import GraphSpec

__all__ = ["RecutRecords"]


class RecutRecords:
    """The records of a store with other edges. Costs about as much as building the graph without its search.

    Args:
        store: a dataset of radius graphs.
        stored: its recipe.
        wanted: the recipe of the graphs to be read.

    Raises:
        RecipeMismatch: it is not proven that every graph holds the wanted edges.
    """

    def __init__(self, store: Store, stored: GraphSpec, wanted: GraphSpec) -> None:
        known = "min_neighbors" in store.manifest.columns
        check_recut(stored, wanted, store.column("min_neighbors") if known else None, store.graph_id)
        self._store, self._stored, self._wanted = store, stored, wanted
        self.schema = _schema(store.manifest.schema, wanted)

    def decoded(self, row: int) -> tuple[tuple[int, ...], dict[str, Any]]:
        """As ``Store.decoded``, with the wanted edges.

        Raises:
            StructureError: the crystal cannot become a graph of the wanted recipe.
        """
        _, fields = self._store.decoded(row)
        values: dict[str, Any] = dict(fields)
        crystal = Crystal(values["lattice"], values["frac_coords"], values["numbers"], tuple(values["pbc"].tolist()))
        try:
            graph = recut(self._wanted, self._stored, CrystalGraph(crystal, values["edge_index"], values["images"]))
        except StructureError as error:
            msg = f"{self._store.where(row)}{error}"
            raise StructureError(msg) from error
        values |= {"edge_index": graph.edge_index.astype(np.int64), "images": graph.images.astype(np.int64)}
        values.pop("lattice_images", None)
        if graph.lattice_images is not None:
            values["lattice_images"] = graph.lattice_images.astype(np.int64)
        return (graph.n_atoms, graph.n_edges), values

    def joined(self, rows: NDArray[np.int64]) -> Joined:
        """As ``Store.joined``, with the wanted edges."""
        records: list[Any] = [None] * len(rows)
        for place in np.argsort(rows, kind="stable").tolist():
            records[place] = self.decoded(int(rows[place]))
        return join(self.schema, records)


def _schema(stored: Schema, wanted: GraphSpec) -> Schema:
    """What the records hold with the wanted edges."""
    fields = [field for field in stored.fields if field.name != "lattice_images"]
    if wanted.lattice_vectors is not None:
        fields.append(Field("lattice_images", "int64", (3, 3)))
    return replace(stored, fields=tuple(fields))
