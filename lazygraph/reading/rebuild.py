"""The records of a dataset with the edges of another recipe, built from the stored crystals when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import CorruptDataset, NotEnoughMemory, StructureError
from lazygraph.format.record_batch import RecordBatch
from lazygraph.format.schema import Field, Schema
from lazygraph.format.store import Store
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.crystal_records import CRYSTAL_FIELDS, check_crystals, crystal_schema
from lazygraph.graphs.spec import GraphSpec
from lazygraph.machine import memory_limit
from lazygraph.reading.augment import AugmentationCounts, Augmenter, RefusedCrystal
from lazygraph.reading.crystal_batch import CrystalBatch

__all__ = ["Augmented", "RebuiltRecords", "gives_the_stored_graphs"]

EDGE_BYTES = 40  # of two ids and three image numbers, as a view widens them


def gives_the_stored_graphs(stored: GraphSpec, wanted: GraphSpec) -> bool:
    """Whether two recipes build the same graphs with the same angles, whatever their presets are called.

    Example:
        >>> from lazygraph.graphs import graph
        >>> gives_the_stored_graphs(graph("mace", cutoff=4.5), graph("sevennet"))
        True
    """
    return (stored.rule, stored.angles) == (wanted.rule, wanted.angles)


class Augmented(NamedTuple):
    """Augmented records of a batch."""

    records: RecordBatch
    labels: dict[str, NDArray[Any]]
    """The targets, as the augmentation left them."""
    counts: AugmentationCounts


class RebuiltRecords:
    """The records of a store, with edges that a recipe builds from the stored crystals; the stored edges are not used.

    It stands in the place of the store: atoms keep their order, and per-atom labels their values. A record costs about
    as much as building its graph, 50 to 120 us for a dozen atoms, and nothing is kept. Picklable; safe in threads and
    under fork, like the store.

    Args:
        store: a dataset of crystals.
        stored: the recipe of the dataset.
        wanted: the recipe of the graphs to read.
        augmenter: changes the crystals before their edges are built.

    Attributes:
        schema: what the records hold.

    Raises:
        CorruptDataset: the records of the dataset are not those of its recipe.
    """

    def __init__(self, store: Store, stored: GraphSpec, wanted: GraphSpec, augmenter: Augmenter | None = None) -> None:
        check_crystals(store.manifest.schema, stored)
        self._store, self._wanted, self._augmenter = store, wanted, augmenter
        labels = [field for field in store.manifest.schema.fields if field.name not in CRYSTAL_FIELDS]
        self._labels = [field.name for field in labels]
        if augmenter is not None:
            labels += [Field(name, "float64", shape, axis="node") for name, shape in augmenter.adds.items()]
        self.schema: Schema = crystal_schema(wanted, labels)

    def read_batch(self, rows: NDArray[np.int64]) -> RecordBatch:
        """Read several records at once like ``Store.read_batch``, with the wanted edges and without augmentation.

        Args:
            rows: (B,) int64 rows of the dataset.

        Raises:
            CorruptDataset: a record is damaged.
            StructureError: a crystal cannot become a graph of the wanted recipe; the message names its id.
            NotEnoughMemory: the edges do not fit into memory.
        """
        crystals = self._crystals(rows, {})
        return self._records(crystals, self._built(rows, crystals))

    def read_augmented(
        self, rows: NDArray[np.int64], seeds: NDArray[np.uint64], labels: Mapping[str, NDArray[Any]]
    ) -> Augmented:
        """Read several records at once like ``read_batch``, after the augmentation.

        A crystal whose augmented form is refused is drawn again, and finally taken unchanged.

        Args:
            rows: (B,) int64 rows of the dataset.
            seeds: (B,) uint64, which the random numbers of each crystal depend on.
            labels: name -> (B, ...) the targets.

        Raises:
            CorruptDataset, StructureError, NotEnoughMemory: as ``read_batch``, of stored crystals.
        """
        augmenter = self._augmenter
        if augmenter is None:
            msg = "these records have no augmentation"
            raise ValueError(msg)
        stored = self._crystals(rows, labels)
        left, parts, graphs = np.arange(len(rows)), [], dict[int, CrystalGraph]()
        redrawn = 0
        for attempt in range(augmenter.attempts):
            try:
                drawn = augmenter.draw(stored.take(left) if attempt else stored, seeds[left], attempt)
            except RefusedCrystal as error:
                where = self._store.where(int(rows[left[error.crystal]]))
                msg = f"{where}this crystal cannot be augmented: {error.problem}"
                raise StructureError(msg) from error
            found = list(self._graphs(rows[left], drawn))
            fit = np.array([isinstance(graph, CrystalGraph) for graph in found])
            graphs.update((int(p), g) for p, g in zip(left, found, strict=True) if isinstance(g, CrystalGraph))
            parts.append((left[fit], drawn if fit.all() else drawn.take(np.flatnonzero(fit))))
            left = left[~fit]
            redrawn = redrawn or len(left)
            if not len(left):
                break
        if len(left):
            unchanged = stored.take(left)
            parts.append((left, unchanged))
            graphs.update(zip(left.tolist(), self._built(rows[left], unchanged), strict=True))
        crystals = CrystalBatch.joined([part for _, part in parts])
        if len(parts) > 1:
            crystals = crystals.take(np.argsort(np.concatenate([places for places, _ in parts])))
        records = self._records(crystals, [graphs[place] for place in range(len(rows))])
        return Augmented(records, dict(crystals.labels), AugmentationCounts(len(rows), redrawn, len(left)))

    def _crystals(self, rows: NDArray[np.int64], labels: Mapping[str, NDArray[Any]]) -> CrystalBatch:
        """Read crystals with the labels of their atoms."""
        found = self._store.read_batch(rows)
        crystals = CrystalBatch(
            n_node=found.counts["node"],
            numbers=found.fields["numbers"],
            frac_coords=found.fields["frac_coords"],
            lattice=found.fields["lattice"],
            pbc=found.fields["pbc"],
            atom_labels={name: found.fields[name] for name in self._labels},
            labels=labels,
        )
        return crystals if self._augmenter is None else self._augmenter.begin(crystals)

    def _records(self, crystals: CrystalBatch, graphs: Sequence[CrystalGraph]) -> RecordBatch:
        """Return the records of crystals and their graphs."""
        n_node = crystals.n_node
        fields: dict[str, Any] = {
            "numbers": crystals.numbers,
            "frac_coords": crystals.frac_coords,
            "lattice": crystals.lattice,
            "pbc": crystals.pbc,
            **crystals.atom_labels,
        }
        counts = {"node": n_node}
        if self._wanted.rule.has_edges:
            n_edge = counts["edge"] = np.array([graph.n_edges for graph in graphs], dtype=np.int64)
            ends = [graph.edge_index for graph in graphs]
            first = (n_node.cumsum() - n_node).astype(np.int32)
            fields["edge_index"] = np.concatenate(ends, axis=1) + first.repeat(n_edge)
            fields["images"] = np.concatenate([graph.images for graph in graphs])
            images = [graph.lattice_images for graph in graphs if graph.lattice_images is not None]
            if images:
                fields["lattice_images"] = np.stack(images)
        return RecordBatch(counts, {name: fields[name] for name in self.schema.names})

    def _built(self, rows: NDArray[np.int64], crystals: CrystalBatch) -> list[CrystalGraph]:
        """Build the graphs of stored crystals.

        Raises:
            CorruptDataset: a record holds no possible crystal.
            StructureError: a crystal cannot become a graph.
        """
        graphs = []
        for row, graph in zip(rows.tolist(), self._graphs(rows, crystals), strict=True):
            if isinstance(graph, _Impossible):
                self._store.raise_corrupt(row, CorruptDataset(str(graph.error)))
            if isinstance(graph, StructureError):
                msg = f"{self._store.where(row)}this crystal cannot become a graph of {self._wanted!r}: {graph}"
                raise StructureError(msg) from graph
            graphs.append(graph)
        return graphs

    def _graphs(
        self, rows: NDArray[np.int64], crystals: CrystalBatch
    ) -> Iterator[CrystalGraph | StructureError | _Impossible]:
        """Build the graph of every crystal, or give the error that refuses it.

        Raises:
            NotEnoughMemory: the edges do not fit into memory.
        """
        bytes_built = 0
        ends = crystals.n_node.cumsum().tolist()
        for row, start, end, lattice, pbc in zip(
            rows.tolist(), [0, *ends], ends, crystals.lattice, crystals.pbc.tolist(), strict=False
        ):
            try:
                crystal = Crystal(lattice, crystals.frac_coords[start:end], crystals.numbers[start:end], tuple(pbc))
            except StructureError as error:
                yield _Impossible(error)
                continue
            try:
                graph = self._wanted.build(crystal)
            except StructureError as error:
                yield error
                continue
            bytes_built += EDGE_BYTES * graph.n_edges
            if bytes_built > memory_limit():
                msg = (
                    f"{self._store.where(row)}the edges of {len(rows)} graphs of {self._wanted!r} take more than the "
                    f"{memory_limit() / 2**30:.3g} GiB that this process may use. Read fewer graphs at a time"
                )
                raise NotEnoughMemory(msg)
            yield graph


class _Impossible(NamedTuple):
    """What is no crystal at all, with the reason."""

    error: StructureError
