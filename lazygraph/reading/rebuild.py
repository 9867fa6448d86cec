"""The records of a dataset with the edges of another recipe, built from the stored crystals when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import CorruptDataset, InputError, NotEnoughMemory, RecipeMismatch, StructureError
from lazygraph.format.manifest import Manifest
from lazygraph.format.record_batch import RecordBatch
from lazygraph.format.schema import Field, Schema
from lazygraph.format.store import Store
from lazygraph.graphs.compiled import EdgesOfCrystals, PackedCrystals, build_edges
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.crystal_records import CRYSTAL_FIELDS, are_possible, check_crystals, crystal_schema
from lazygraph.graphs.effort import MAX_IMAGES
from lazygraph.graphs.rule import native_rule
from lazygraph.graphs.spec import GraphSpec
from lazygraph.machine import memory_limit
from lazygraph.reading.augment import AugmentationCounts, Augmenter, RefusedCrystal
from lazygraph.reading.counted_sizes import counted_sizes
from lazygraph.reading.crystal_batch import CrystalBatch
from lazygraph.registry import unknown_name

__all__ = ["Augmented", "RebuiltRecords", "chosen_edges", "gives_the_stored_graphs"]

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
    if edges not in (known := ("auto", "stored", "build")):
        raise InputError(unknown_name("value of edges:", edges, known))
    if stored is None or wanted is None:
        if edges == "build":
            msg = "edges='build' needs a dataset of crystals, and these graphs came ready-made; leave edges out"
            raise InputError(msg)
        return False, "the graphs came ready-made"
    same = gives_the_stored_graphs(stored, wanted)
    if edges == "build":
        return True, "edges are built at every read (edges='build')"
    if same:
        return False, "the stored edges are those of the recipe"
    if edges == "stored":
        msg = (
            f"edges='stored' cannot be used with graph={wanted!r}, because the dataset stores graphs of {stored!r}: "
            f"{'; '.join(stored.diff(wanted))}. Leave edges= out to build the edges at every read"
        )
        raise RecipeMismatch(msg)
    return True, f"the dataset stores {_stored_graphs(stored)}, so the edges of {wanted!r} are built at every read"


def _stored_graphs(stored: GraphSpec) -> str:
    return f"graphs of {stored!r}" if stored.rule.has_edges else "crystals alone"


class Augmented(NamedTuple):
    """Augmented records of a batch."""

    records: RecordBatch
    labels: dict[str, NDArray[Any]]
    """The targets, as the augmentation left them."""
    counts: AugmentationCounts


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
        augmenter: changes the crystals before their edges are built.

    Attributes:
        schema: what the records hold.
        sizes: the columns that hold sizes of these graphs, ``n_edges`` and ``n_triplets`` -> column. None of augmented
            crystals.

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
        self.sizes = _known_sizes(store.manifest, stored, wanted) if augmenter is None else {}

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
        edges = self._edges(rows, crystals) if self._wanted.rule.has_edges else None
        if edges is not None:
            self.check_counts(rows, edges.n_edge)
        return self._records(crystals, edges)

    def read_crystals(self, rows: NDArray[np.int64]) -> RecordBatch:
        """Read several records at once like ``read_batch``, without edges, which somebody else builds.

        Raises:
            CorruptDataset: a record is damaged, or holds no possible crystal.
        """
        crystals = self._crystals(rows, {})
        if not are_possible(PackedCrystals(crystals.frac_coords, crystals.lattice, crystals.pbc, crystals.n_node)):
            self._edges(rows, crystals)  # which says what is wrong
        return self._records(crystals, None)

    def check_counts(self, rows: NDArray[np.int64], n_edge: NDArray[np.int64]) -> None:
        """Refuse graphs that have another number of edges than a column says, on which budgets rely.

        Args:
            rows: (B,) int64 rows of the dataset.
            n_edge: (B,) the numbers of edges that were built.

        Raises:
            CorruptDataset: a number differs; the message names the graph.
        """
        name = self.sizes.get("n_edges")
        if name is None:
            return
        said = self._store.column(name)[rows]
        if (different := n_edge != said).any():
            place = int(different.argmax())
            msg = f"its graph has {n_edge[place]} edges; the column {name!r} says {said[place]}"
            self._store.raise_corrupt(int(rows[place]), CorruptDataset(msg))

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
        left, parts, redrawn, edges = np.arange(len(rows)), [], 0, None
        for attempt in range(augmenter.attempts):
            if attempt == 1:
                redrawn = len(left)
            try:
                drawn = augmenter.draw(stored.take(left) if attempt else stored, seeds[left], attempt)
            except RefusedCrystal as error:
                where = self._store.where(int(rows[left[error.crystal]]))
                msg = f"{where}this crystal cannot be augmented: {error.problem}"
                raise StructureError(msg) from error
            edges, refused = self._attempt(rows[left], drawn)
            fit = np.ones(len(left), bool)
            fit[list(refused)] = False
            parts.append((left[fit], drawn if fit.all() else drawn.take(np.flatnonzero(fit))))
            left = left[~fit]
            if not len(left):
                break
        if len(left):
            parts.append((left, stored.take(left)))
        crystals = CrystalBatch.joined([part for _, part in parts])
        if len(parts) > 1:
            crystals = crystals.take(np.argsort(np.concatenate([places for places, _ in parts])))
            edges = self._edges(rows, crystals)
        records = self._records(crystals, edges if self._wanted.rule.has_edges else None)
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

    def _records(self, crystals: CrystalBatch, edges: EdgesOfCrystals | None) -> RecordBatch:
        """Return the records of crystals and their edges."""
        fields: dict[str, Any] = {
            "numbers": crystals.numbers,
            "frac_coords": crystals.frac_coords,
            "lattice": crystals.lattice,
            "pbc": crystals.pbc,
            **crystals.atom_labels,
        }
        counts = {"node": crystals.n_node}
        if edges is not None:
            counts["edge"] = edges.n_edge
            fields |= {"edge_index": edges.edge_index, "images": edges.images}
            if edges.lattice_images is not None and "lattice_images" in self.schema.names:
                fields["lattice_images"] = edges.lattice_images
        return RecordBatch(counts, {name: fields[name] for name in self.schema.names if name in fields})

    def _edges(self, rows: NDArray[np.int64], crystals: CrystalBatch) -> EdgesOfCrystals | None:
        """Build the edges of every crystal of a batch of stored records; None if the recipe has none.

        Raises:
            CorruptDataset: a record holds no possible crystal.
            StructureError: a crystal cannot become a graph.
            NotEnoughMemory: the edges do not fit into memory.
        """
        edges, refused = self._attempt(rows, crystals)
        if refused:
            place = min(refused)
            row, error = int(rows[place]), refused[place]
            if isinstance(error, _Impossible):
                self._store.raise_corrupt(row, CorruptDataset(str(error.error)))
            msg = f"{self._store.where(row)}this crystal cannot become a graph of {self._wanted!r}: {error}"
            raise StructureError(msg) from error
        return edges

    def _attempt(
        self, rows: NDArray[np.int64], crystals: CrystalBatch
    ) -> tuple[EdgesOfCrystals | None, dict[int, StructureError | _Impossible]]:
        """Build the edges of a batch in one call; or tell the place of each refused crystal, and why.

        Raises:
            NotEnoughMemory: the edges do not fit into memory.
        """
        packed = PackedCrystals(crystals.frac_coords, crystals.lattice, crystals.pbc, crystals.n_node)
        told, possible = native_rule(self._wanted.rule), are_possible(packed)
        if possible and not self._wanted.rule.has_edges:
            return None, {}
        if possible and told is not None:
            found = build_edges(told, packed, MAX_IMAGES, most_edges=memory_limit() // EDGE_BYTES)
            if found is not None:
                left = np.flatnonzero(found.n_edge < 0)
                if not len(left):
                    return found, {}
                tried = enumerate(self._graphs(rows[left], crystals.take(left)))
                refused = {int(left[k]): made for k, made in tried if not isinstance(made, CrystalGraph)}
                if refused:
                    return None, refused
        graphs, errors = [], {}  # each by itself, which says what is wrong
        for place, made in enumerate(self._graphs(rows, crystals)):
            if isinstance(made, CrystalGraph):
                graphs.append(made)
            else:
                errors[place] = made
        return (None if errors else _joined(graphs, crystals.n_node)), errors

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


def _known_sizes(manifest: Manifest, stored: GraphSpec, wanted: GraphSpec) -> Mapping[str, str]:
    """Return the columns that hold sizes of the wanted graphs: size -> column."""
    if not gives_the_stored_graphs(stored, wanted):
        return counted_sizes(manifest, wanted)
    columns = {"n_edges": "n_edge", "n_triplets": "n_triplets"}
    return {size: name for size, name in columns.items() if name in manifest.columns}


class _Impossible(NamedTuple):
    """What is no crystal at all, with the reason."""

    error: StructureError


def _joined(graphs: list[CrystalGraph], n_node: NDArray[np.int64]) -> EdgesOfCrystals:
    """Return the edges of graphs one after another."""
    n_edge = np.array([graph.n_edges for graph in graphs], dtype=np.int64)
    first = (n_node.cumsum() - n_node).astype(np.int32)
    ends = np.concatenate([graph.edge_index for graph in graphs], axis=1) + first.repeat(n_edge)
    along = [graph.lattice_images for graph in graphs if graph.lattice_images is not None]
    images = np.concatenate([graph.images for graph in graphs])
    return EdgesOfCrystals(n_edge, ends, images, np.stack(along) if along else None, None)
