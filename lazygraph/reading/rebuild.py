"""The records of a dataset with the edges of another recipe, built from the stored crystals when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import CorruptDataset, NotEnoughMemory, StructureError
from lazygraph.format.record_batch import RecordBatch
from lazygraph.format.schema import Schema
from lazygraph.format.store import Store
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.crystal_records import CRYSTAL_FIELDS, check_crystals, crystal_schema
from lazygraph.graphs.spec import GraphSpec
from lazygraph.machine import memory_limit

__all__ = ["RebuiltRecords", "gives_the_stored_graphs"]

EDGE_BYTES = 40  # of two ids and three image numbers, as a view widens them


def gives_the_stored_graphs(stored: GraphSpec, wanted: GraphSpec) -> bool:
    """Whether two recipes build the same graphs with the same angles, whatever their presets are called.

    Example:
        >>> from lazygraph.graphs import graph
        >>> gives_the_stored_graphs(graph("mace", cutoff=4.5), graph("sevennet"))
        True
    """
    return (stored.rule, stored.angles) == (wanted.rule, wanted.angles)


class RebuiltRecords:
    """The records of a store, with edges that a recipe builds from the stored crystals; the stored edges are not used.

    It stands in the place of the store: atoms keep their order, and per-atom labels their values. A record costs about
    as much as building its graph, 50 to 120 us for a dozen atoms, and nothing is kept. Picklable; safe in threads and
    under fork, like the store.

    Args:
        store: a dataset of crystals.
        stored: the recipe of the dataset.
        wanted: the recipe of the graphs to read.

    Attributes:
        schema: what the records hold.

    Raises:
        CorruptDataset: the records of the dataset are not those of its recipe.
    """

    def __init__(self, store: Store, stored: GraphSpec, wanted: GraphSpec) -> None:
        check_crystals(store.manifest.schema, stored)
        self._store, self._wanted = store, wanted
        labels = [field for field in store.manifest.schema.fields if field.name not in CRYSTAL_FIELDS]
        self.schema: Schema = crystal_schema(wanted, labels)

    def read_batch(self, rows: NDArray[np.int64]) -> RecordBatch:
        """Read several records at once like ``Store.read_batch``, with the wanted edges.

        Args:
            rows: (B,) int64 rows of the dataset.

        Raises:
            CorruptDataset: a record is damaged.
            StructureError: a crystal cannot become a graph of the wanted recipe; the message names its id.
            NotEnoughMemory: the edges do not fit into memory.
        """
        found = self._store.read_batch(rows)
        n_node = found.counts["node"]
        fields = {name: value for name, value in found.fields.items() if name in self.schema.names}
        counts = {"node": n_node}
        if self._wanted.rule.has_edges:
            graphs = list(self._built(rows, n_node, found.fields))
            n_edge = counts["edge"] = np.array([graph.n_edges for graph in graphs], dtype=np.int64)
            ends = [graph.edge_index for graph in graphs]
            first = (n_node.cumsum() - n_node).astype(np.int32)
            fields["edge_index"] = np.concatenate(ends, axis=1) + first.repeat(n_edge)
            fields["images"] = np.concatenate([graph.images for graph in graphs])
            images = [graph.lattice_images for graph in graphs if graph.lattice_images is not None]
            if images:
                fields["lattice_images"] = np.stack(images)
        return RecordBatch(counts, {name: fields[name] for name in self.schema.names})

    def _built(
        self, rows: NDArray[np.int64], n_node: NDArray[np.int64], fields: Mapping[str, Any]
    ) -> Iterator[CrystalGraph]:
        """Build the graph of every crystal of a batch of stored records."""
        bytes_built = 0
        ends = n_node.cumsum().tolist()
        for row, start, end, lattice, pbc in zip(
            rows.tolist(), [0, *ends], ends, fields["lattice"], fields["pbc"].tolist(), strict=False
        ):
            try:
                crystal = Crystal(lattice, fields["frac_coords"][start:end], fields["numbers"][start:end], tuple(pbc))
            except StructureError as error:
                self._store.raise_corrupt(row, CorruptDataset(str(error)))
            try:
                graph = self._wanted.build(crystal)
            except StructureError as error:
                msg = f"{self._store.where(row)}this crystal cannot become a graph of {self._wanted!r}: {error}"
                raise StructureError(msg) from error
            bytes_built += EDGE_BYTES * graph.n_edges
            if bytes_built > memory_limit():
                msg = (
                    f"{self._store.where(row)}the edges of {len(rows)} graphs of {self._wanted!r} take more than the "
                    f"{memory_limit() / 2**30:.3g} GiB that this process may use. Read fewer graphs at a time"
                )
                raise NotEnoughMemory(msg)
            yield graph
