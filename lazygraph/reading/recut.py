"""Selection of the edges of another recipe from a dataset of radius graphs, at reading."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import CorruptDataset, StructureError
from lazygraph.format.record_batch import RecordBatch, concatenate
from lazygraph.format.schema import Field, Schema
from lazygraph.format.store import Store
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.crystal_records import Untrue, check_fields
from lazygraph.graphs.recut import check_recut, recut
from lazygraph.graphs.sizes import min_neighbors
from lazygraph.graphs.spec import GraphSpec
from lazygraph.reading.crystals import Crystals

__all__ = ["RecutRecords"]


class RecutRecords:
    """The records of a store with the edges of another recipe.

    Selecting edges costs about as much as building the graph without its neighbour search.

    Args:
        store: a dataset of radius graphs.
        stored: the recipe of the dataset.
        wanted: the recipe of the graphs to read.

    Raises:
        RecipeMismatch: it is not proven that every graph holds the wanted edges.
    """

    def __init__(self, store: Store, stored: GraphSpec, wanted: GraphSpec) -> None:
        known = store.column("min_neighbors") if "min_neighbors" in store.manifest.columns else None
        check_recut(stored, wanted, known, store.graph_id)
        self._store, self._stored, self._wanted = store, stored, wanted
        # What proves that no edge is missing: the cutoff alone, or that every atom has so many near neighbours.
        self._proof = known if wanted.rule.reach > stored.rule.reach else None
        self.schema = _schema(store.manifest.schema, wanted)

    def decoded(self, row: int) -> tuple[tuple[int, ...], dict[str, Any]]:
        """Decode a record like ``Store.decoded``, with the wanted edges.

        Raises:
            CorruptDataset: the record contradicts the dataset.
            StructureError: the crystal cannot become a graph of the wanted recipe.
        """
        counts, fields = self._store.decoded(row)
        values: dict[str, Any] = dict(fields)
        try:
            check_fields(counts, values)
            cell = values["lattice"], values["frac_coords"], values["numbers"], tuple(values["pbc"].tolist())
            graph = CrystalGraph(Crystal(*cell), values["edge_index"], values["images"])
            self._check(row, graph)
            graph = recut(self._wanted, self._stored, graph)
        except Untrue as error:
            self._store.raise_corrupt(row, CorruptDataset(error.problem))
        except StructureError as error:
            msg = f"{self._store.where(row)}{error}"
            raise StructureError(msg) from error
        values |= {"edge_index": graph.edge_index.astype(np.int64), "images": graph.images.astype(np.int64)}
        values.pop("lattice_images", None)
        if graph.lattice_images is not None:
            values["lattice_images"] = graph.lattice_images.astype(np.int64)
        return (graph.n_atoms, graph.n_edges), values

    def _check(self, row: int, graph: CrystalGraph) -> None:
        """Raise Untrue if the stored edges violate what the selection relies on."""
        n_node, n_edge = np.array([graph.n_atoms]), np.array([graph.n_edges])
        crystal = graph.crystal
        Crystals(
            n_node, n_edge, crystal.numbers, crystal.frac_coords, crystal.lattice[None], crystal.pbc,
            graph.edge_index, graph.images,
        ).check_pairs()  # fmt: skip
        if self._proof is not None and (found := min_neighbors(self._stored, graph)) != self._proof[row]:
            said = f"an atom has {found} neighbours near enough; the column min_neighbors says {self._proof[row]}"
            raise Untrue(0, said)

    def read_batch(self, rows: NDArray[np.int64]) -> RecordBatch:
        """Decode several records like ``Store.read_batch``, with the wanted edges."""
        records: list[Any] = [None] * len(rows)
        for place in np.argsort(rows, kind="stable").tolist():
            records[place] = self.decoded(int(rows[place]))
        return concatenate(self.schema, records)


def _schema(stored: Schema, wanted: GraphSpec) -> Schema:
    """Return the schema of the records with the wanted edges."""
    fields = [field for field in stored.fields if field.name != "lattice_images"]
    if wanted.rule.lattice_vectors is not None:
        fields.append(Field("lattice_images", "int64", (3, 3)))
    return replace(stored, fields=tuple(fields))
