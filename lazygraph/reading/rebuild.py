"""The records of a dataset with the edges of another recipe, built from the stored crystals when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import CorruptDataset, InputError, NotEnoughMemory, RecipeMismatch, StructureError
from lazygraph.format.record_batch import RecordBatch
from lazygraph.format.schema import Schema
from lazygraph.format.store import Store
from lazygraph.graphs.compiled import EdgesOfCrystals, PackedCrystals, build_edges
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.crystal_records import CRYSTAL_FIELDS, are_possible, check_crystals, crystal_schema
from lazygraph.graphs.effort import MAX_IMAGES
from lazygraph.graphs.rule import native_rule
from lazygraph.graphs.spec import GraphSpec
from lazygraph.machine import memory_limit

__all__ = ["RebuiltRecords", "chosen_edges", "gives_the_stored_graphs"]

EDGE_BYTES = 40  # of two ids and three image numbers, as a view widens them


def gives_the_stored_graphs(stored: GraphSpec, wanted: GraphSpec) -> bool:
    """Whether two recipes build the same graphs with the same angles, whatever their presets are called.

    Example:
        >>> from lazygraph.graphs import graph
        >>> gives_the_stored_graphs(graph("mace", cutoff=4.5), graph("sevennet"))
        True
    """
    return (stored.rule, stored.angles) == (wanted.rule, wanted.angles)


def chosen_edges(edges: str, stored: GraphSpec | None, wanted: GraphSpec | None) -> tuple[bool, str]:
    """Choose between the stored edges of a dataset and edges that are built when it is read.

    Args:
        edges: ``auto``, ``stored`` or ``build``.
        stored: the recipe of the dataset; None for ready-made graphs.
        wanted: the recipe of the graphs to read; None for ready-made graphs.

    Returns:
        Whether edges are built, and one sentence that says why.

    Raises:
        InputError: ``edges`` is none of the three words, or it is ``build`` for ready-made graphs.
        RecipeMismatch: the stored edges were asked for, and the recipe gives others.
    """
    if edges not in ("auto", "stored", "build"):
        msg = f"found edges={edges!r}; required: 'auto', 'stored' or 'build'"
        raise InputError(msg)
    if stored is None or wanted is None:
        if edges == "build":
            msg = "found edges='build' for graphs that came ready-made; required: a dataset of crystals"
            raise InputError(msg)
        return False, "the graphs came ready-made"
    same = gives_the_stored_graphs(stored, wanted)
    if edges == "build":
        return True, "edges are built at every read (edges='build')"
    if same:
        return False, "the stored edges are those of the recipe"
    if edges == "stored":
        msg = (
            f"found edges='stored' and graph={wanted!r}, but the dataset stores graphs of {stored!r}: "
            f"{'; '.join(stored.diff(wanted))}. Leave edges= out to build the edges at every read"
        )
        raise RecipeMismatch(msg)
    return True, f"the dataset stores {_stored_graphs(stored)}, so the edges of {wanted!r} are built at every read"


def _stored_graphs(stored: GraphSpec) -> str:
    return f"graphs of {stored!r}" if stored.rule.has_edges else "crystals alone"


class RebuiltRecords:
    """The records of a store, with edges that a recipe builds from the stored crystals; the stored edges are not used.

    It stands in the place of the store: atoms keep their order, and per-atom labels their values. The edges of a batch
    are made in one compiled call, which lets other threads run, and nothing is kept. Without compiled loops, and for
    rules and crystals that these leave to Python, each crystal is built by itself. Picklable; safe in threads and under
    fork, like the store.

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
            edges = self._edges(rows, n_node, found.fields)
            counts["edge"] = edges.n_edge
            fields |= {"edge_index": edges.edge_index, "images": edges.images}
            if edges.lattice_images is not None and "lattice_images" in self.schema.names:
                fields["lattice_images"] = edges.lattice_images
        return RecordBatch(counts, {name: fields[name] for name in self.schema.names})

    def _edges(self, rows: NDArray[np.int64], n_node: NDArray[np.int64], fields: Mapping[str, Any]) -> EdgesOfCrystals:
        """Build the edges of every crystal of a batch of stored records."""
        told = native_rule(self._wanted.rule)
        packed = PackedCrystals(fields["frac_coords"], fields["lattice"], fields["pbc"], n_node)
        if told is None or not are_possible(packed):  # each by itself, which says what is wrong
            return _joined(list(self._built(rows, n_node, fields)), n_node)
        found = build_edges(told, packed, MAX_IMAGES, most_edges=memory_limit() // EDGE_BYTES)
        if found is None or (found.n_edge < 0).any():
            return _joined(list(self._built(rows, n_node, fields)), n_node)
        return found

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


def _joined(graphs: list[CrystalGraph], n_node: NDArray[np.int64]) -> EdgesOfCrystals:
    """Return the edges of graphs one after another."""
    n_edge = np.array([graph.n_edges for graph in graphs], dtype=np.int64)
    first = (n_node.cumsum() - n_node).astype(np.int32)
    ends = np.concatenate([graph.edge_index for graph in graphs], axis=1) + first.repeat(n_edge)
    along = [graph.lattice_images for graph in graphs if graph.lattice_images is not None]
    images = np.concatenate([graph.images for graph in graphs])
    return EdgesOfCrystals(n_edge, ends, images, np.stack(along) if along else None, None)
