"""The function ``count``, which stores the numbers of edges and angles of another recipe as labels."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lazygraph.errors import InputError, LabelError
from lazygraph.format.store import Store
from lazygraph.graphs.spec import GraphSpec
from lazygraph.graphs.spec import graph as graph_spec
from lazygraph.reading.counted_sizes import counted_sizes, description_of
from lazygraph.reading.crystals import Crystals
from lazygraph.reading.derived import angles_of_each
from lazygraph.reading.rebuild import RebuiltRecords, gives_the_stored_graphs
from lazygraph.sources.base import Label
from lazygraph.writing.edit import editing, kept_columns, with_columns
from lazygraph.writing.label_columns import label_column
from lazygraph.writing.publish import publish

__all__ = ["CountReport", "count"]

BATCH = 1024  # crystals whose edges are built together


@dataclass(frozen=True, slots=True)
class CountReport:
    """The result of ``count``."""

    labels: dict[str, str]
    """Size (``n_edges``, ``n_triplets``) -> the label that holds it."""
    edges: int
    """The number of edges of all graphs together."""
    angles: int | None
    """The number of angles of all graphs together; None if the recipe has no angles."""
    computed: bool
    """False if the dataset had the labels already."""


def count(
    path: str | os.PathLike[str],
    graph: GraphSpec | str,
    *,
    name: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> CountReport:
    """Count the edges and angles that a recipe builds from the stored crystals, and store the numbers as labels.

    ``LazyGraphDataset(path, graph=graph)`` then has the columns ``n_edges`` and ``n_triplets``. The loader needs
    them for ``max_edges``, ``max_triplets``, ``bucket`` and ``balance``. Only columns are written, and the content id
    stays.

    Args:
        path: the dataset.
        graph: the recipe, or the name of a preset.
        name: ending of the labels' names; the preset by default, as in ``n_edges_mace``.
        progress: called with the number of graphs counted since the last call.

    Raises:
        InputError: the dataset stores the graphs of this recipe, and so has their sizes, or it has no crystals.
        LabelError: the dataset has other labels of these names.
        StructureError: a crystal cannot become a graph of the recipe; the message names its id.
        OutputExists: graphs are being added to the dataset.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:20", folder.name + "/p.lg", graph="none", workers=1)
        >>> lg.count(folder.name + "/p.lg", "mace").labels
        {'n_edges': 'n_edges_mace'}
        >>> ds = lg.LazyGraphDataset(folder.name + "/p.lg", graph="mace")
        >>> int(ds.columns["n_edges"][3]) == ds[3].num_edges
        True
        >>> folder.cleanup()
    """
    spec = graph_spec(graph) if isinstance(graph, str) else graph
    with editing(path) as (hold, store):
        records, angles = _records(store, spec), spec.angles is not None
        sizes = ["n_edges", *(["n_triplets"] if angles else [])]
        labels = counted_sizes(store.manifest, spec)
        if computed := labels.keys() != set(sizes):
            labels = {size: f"{size}_{name or spec.preset}" for size in sizes}
            _check_names(store, spec, labels)
            found = _counted(store, records, spec, progress or (lambda _: None))
            columns = kept_columns(store, hold.layout)
            for size, label in labels.items():
                described = Label(label, "graph", dtype="int64", description=description_of(size, spec))
                label_column(columns, described, [found[size]])
            publish(hold, hold.layout.edit, with_columns(store, columns))
            totals = {size: int(numbers.sum()) for size, numbers in found.items()}
        else:
            totals = {size: int(store.column(label).sum()) for size, label in labels.items()}
    return CountReport(dict(labels), totals["n_edges"], totals.get("n_triplets"), computed)


def _records(store: Store, spec: GraphSpec) -> RebuiltRecords:
    recipe = store.manifest.recipe
    if recipe is None:
        msg = f"the graphs of {store.name} are ready-made, without crystals; give a dataset of crystals"
        raise InputError(msg)
    stored = GraphSpec.from_json(recipe)
    if gives_the_stored_graphs(stored, spec):
        msg = f"{store.name} stores the graphs of {spec!r} and knows their sizes; name another recipe"
        raise InputError(msg)
    if not spec.rule.has_edges:
        msg = f"graphs of {spec!r} have no edges to count; name a recipe with edges"
        raise InputError(msg)
    return RebuiltRecords(store, stored, spec)


def _check_names(store: Store, spec: GraphSpec, labels: dict[str, str]) -> None:
    """Refuse to replace a label that holds something else."""
    columns = store.manifest.columns
    for size, label in labels.items():
        there = columns.get(label)
        if label in store.manifest.schema.names or (
            there is not None and there.description != description_of(size, spec)
        ):
            msg = (
                f"the dataset has another column {label!r}; give an ending for the name, as in "
                "lg.count(path, graph, name='mace_6') or --name mace_6"
            )
            raise LabelError(msg)


def _counted(
    store: Store, records: RebuiltRecords, spec: GraphSpec, progress: Callable[[int], None]
) -> dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    found = {size: np.empty(len(store), np.int64) for size in ("n_edges", "n_triplets")}
    for start in range(0, len(store), BATCH):
        rows = np.arange(start, min(start + BATCH, len(store)))
        batch = records.read_batch(rows)
        found["n_edges"][rows] = batch.counts["edge"]
        if spec.angles is not None:
            found["n_triplets"][rows] = angles_of_each(Crystals.of(batch), spec)
        progress(len(rows))
    return found if spec.angles is not None else {"n_edges": found["n_edges"]}
