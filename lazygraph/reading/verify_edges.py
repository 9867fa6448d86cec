"""The check that the stored edges are the edges of the recipe, by every search that is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, LazyGraphError
from lazygraph.format.store import Store
from lazygraph.graphs.compiled import PackedCrystals, build_edges
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.crystal_records import crystal_graph
from lazygraph.graphs.effort import MAX_IMAGES
from lazygraph.graphs.nvalchemi import DEVICE_BACKEND
from lazygraph.graphs.rule import native_rule
from lazygraph.graphs.spec import GraphSpec
from lazygraph.native import kernels

__all__ = ["check_edges_of_rows", "recipe_with_edges", "ways_of_building"]

LOOP = "the compiled loop"
BATCH = 256  # crystals whose edges are made in one compiled call


def recipe_with_edges(store: Store) -> GraphSpec:
    """Return the recipe of a dataset whose edges can be checked.

    Raises:
        InputError: its graphs came ready-made, or it stores crystals alone.
    """
    recipe = store.manifest.recipe
    spec = None if recipe is None else GraphSpec.from_json(recipe)
    if spec is None or not spec.rule.has_edges:
        found = "graphs that came ready-made" if spec is None else "crystals alone"
        msg = f"{store.name} stores {found}; edges can be compared only for graphs that a recipe built"
        raise InputError(msg)
    return spec


def ways_of_building(spec: GraphSpec) -> tuple[str, ...]:
    """Return the ways in which this installation builds the edges of a recipe.

    The compiled loop leaves some crystals to the plain rule, such as cells that are far from reduced. The search of a
    device builds edges by the plain rule too, from pairs that the device proposes.
    """
    has_loop = kernels() is not None and native_rule(spec.rule) is not None
    return (LOOP, *_plain_ways()) if has_loop else tuple(_plain_ways())


def _plain_ways() -> dict[str, str]:
    """The ways by the plain rule: way -> search backend."""
    installed = importlib.util.find_spec("nvalchemiops") is not None
    return {"the plain rule": "pymatgen"} | ({f"the search of {DEVICE_BACKEND}": DEVICE_BACKEND} if installed else {})


def check_edges_of_rows(store: Store, rows: NDArray[np.int64]) -> Iterator[str]:
    """Build the edges of stored crystals in all :func:`ways_of_building`, and compare each with the stored edges.

    Args:
        store: a dataset that :func:`recipe_with_edges` accepts.
        rows: the rows to check, in increasing order.

    Yields:
        One sentence for each difference. Records that cannot be read are left to the checks of records.
    """
    spec = recipe_with_edges(store)
    for start in range(0, len(rows), BATCH):
        some, stored = [], []
        for row in rows[start : start + BATCH].tolist():
            try:
                fields: dict[str, Any] = store.record(row).arrays()
                graph = crystal_graph(fields)
                graph.lattice_images = fields.get("lattice_images")
            except (LazyGraphError, OSError):
                continue
            stored.append(graph)
            some.append(row)
        compiled = _compiled([graph.crystal for graph in stored], spec)
        for row, graph, looped in zip(some, stored, compiled, strict=True):
            plain = ((way, _plain(graph.crystal, spec, backend)) for way, backend in _plain_ways().items())
            for way, made in ((LOOP, looped), *plain):
                if made is not None and (problem := _difference(graph, made, way)):
                    yield store.where(row) + problem


Made = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]
"""Ends (2, E), images (E, 3), and the lattice vectors (3, 3) if the recipe has them."""


def _compiled(crystals: list[Crystal], spec: GraphSpec) -> list[Made | str | None]:
    """The edges by the compiled loop; None without a loop, and for crystals that it leaves to the plain rule."""
    none: list[Made | str | None] = [None] * len(crystals)
    told = native_rule(spec.rule)
    if told is None or not crystals:
        return none
    packed = PackedCrystals(
        np.concatenate([crystal.frac_coords for crystal in crystals]),
        np.stack([crystal.lattice for crystal in crystals]),
        np.array([crystal.pbc for crystal in crystals]),
        np.array([len(crystal) for crystal in crystals]),
    )
    found = build_edges(told, packed, MAX_IMAGES)
    if found is None:
        return none
    out: list[Made | str | None] = []
    atom = edge = 0
    for number, crystal in enumerate(crystals):
        count = int(found.n_edge[number])
        here = slice(edge, edge + max(count, 0))
        along = found.lattice_images if spec.rule.lattice_vectors else None
        lattice = None if along is None else along[number]
        out.append(None if count < 0 else (found.edge_index[:, here] - atom, found.images[here], lattice))
        atom, edge = atom + len(crystal), here.stop
    return out


def _plain(crystal: Crystal, spec: GraphSpec, backend: str) -> Made | str:
    """The edges by the plain rule, or the reason why it refuses the crystal."""
    try:
        graph = spec.build(crystal, backend=backend)
    except LazyGraphError as error:
        return str(error)
    return graph.edge_index, graph.images, graph.lattice_images


def _difference(stored: CrystalGraph, made: Made | str, way: str) -> str | None:
    """Return a sentence if the stored edges differ from edges that were made; None if they are equal."""
    if isinstance(made, str):
        return f"{way} cannot build the edges of this crystal: {made}"
    edge_index, images, lattice = made
    if edge_index.shape != stored.edge_index.shape:
        return f"the record has {stored.n_edges} edges; {way} finds {edge_index.shape[1]}"
    other = (edge_index != stored.edge_index).any(axis=0) | (images != stored.images).any(axis=1)
    if other.any():
        edge = int(other.argmax())
        both = (stored.edge_index, stored.images), (edge_index, images)
        mine, theirs = ((*ends[:, edge].tolist(), cells[edge].tolist()) for ends, cells in both)
        return f"edge {edge} of the record is {mine}; {way} finds {theirs}"
    if lattice is not None and (stored.lattice_images is None or (lattice != stored.lattice_images).any()):
        return f"the lattice vectors of the record are not those that {way} finds"
    return None
