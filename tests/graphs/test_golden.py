"""Against what the published codes build from real crystals."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

import lazygraph.graphs as lg
from lazygraph.graphs.vectors import edge_vectors

TOLERANCE = 1e-4


def parts(file, name):
    """The ragged array ``name`` of a golden file, one piece per structure."""
    rows, values = file[f"{name}_ptr"], file[name]
    cut = (lambda a, b: values[:, a:b]) if name == "edge_index" else (lambda a, b: values[a:b])
    return [cut(a, b) for a, b in zip(rows[:-1], rows[1:], strict=True)]


def relations(edge_index, images):
    """The multiset of (row 0, row 1, image)."""
    return Counter(map(tuple, np.column_stack([edge_index.T, images]).astype(int).tolist()))


def kth_distances(crystal, k):
    """Distance of each atom's k-th neighbour, by pymatgen's public search."""
    structure, radius = crystal.to_pymatgen(), 6.0
    while True:
        i, _, _, d = structure.get_neighbor_list(radius)
        if np.bincount(i, minlength=len(crystal)).min() >= k:
            return np.array([np.sort(d[i == atom])[k - 1] for atom in range(len(crystal))])
        radius *= 1.5


def beyond_kth(crystal, edges, k):
    """How much longer each edge is than the k-th neighbour distance of the one of its atoms that is nearer to it."""
    rows = np.array(list(edges))
    i, j, images = rows[:, 0], rows[:, 1], rows[:, 2:]
    distance = np.linalg.norm((crystal.frac_coords[j] - crystal.frac_coords[i] + images) @ crystal.lattice, axis=1)
    kth = kth_distances(crystal, k)
    excess = distance[:, None] - np.stack([kth[i], kth[j]], axis=1)
    return excess[np.arange(len(rows)), np.abs(excess).argmin(axis=1)]


JARVIS = {
    "comformer_k12_r8": lg.graph("comformer", cutoff=8.0, max_neighbors=12),
    "comformer_k25_r4": lg.graph("comformer"),
    "matformer_k12_r8": lg.graph("matformer"),
    "alignn_k12_r8": lg.graph("alignn"),
}


@pytest.mark.parametrize("name", JARVIS)
def test_ties_reference_is_the_published_graph(golden, golden_crystals, name):
    rule = dataclasses.replace(JARVIS[name].rule, ties="reference", tolerance=None)
    spec = dataclasses.replace(JARVIS[name], rule=rule)
    with np.load(golden / f"{name}.npz") as file:
        edges, vectors = parts(file, "edge_index"), parts(file, "vector")
        assert len(edges) == len(golden_crystals)
        for crystal, edge_index, vector in zip(golden_crystals, edges, vectors, strict=True):
            graph = spec.build(crystal)
            # The published vectors are those of the rounded lattice; a graph holds the crystal as given.
            rounded = np.around(crystal.lattice, 5)
            ours = edge_vectors(crystal.frac_coords, rounded, graph.edge_index, graph.images)
            assert_same_multiset(graph.edge_index, ours, edge_index, vector, 2e-5)
            assert np.abs(graph.vectors - ours).max() < 5e-5


def assert_same_multiset(edge_index, vectors, others, other_vectors, within):
    """Equal multisets of (row 0, row 1, vector): both sorted by the ends, then by the vector on a coarse grid."""
    assert edge_index.shape == others.shape

    def order(ends, v):
        # 0.01 A and an offset that no symmetric position has: no vector lies where rounding decides.
        return np.lexsort((*np.floor((v + 0.0038217) / 0.01).T, ends[1], ends[0]))

    mine, theirs = order(edge_index, vectors), order(others, other_vectors)
    assert (edge_index[:, mine] == others[:, theirs]).all()
    assert np.abs(vectors[mine] - other_vectors[theirs]).max() < within


@pytest.mark.parametrize("name", JARVIS)
def test_every_published_shell_edge_is_there_and_only_shell_mates_are_added(golden, golden_crystals, name):
    spec = JARVIS[name]
    k = spec.rule.max_neighbors
    with np.load(golden / f"{name}.npz") as file:
        edges, vectors = parts(file, "edge_index"), parts(file, "vector")
        assert len(edges) == len(golden_crystals)
        added = spread = 0
        for crystal, edge_index, vector in zip(golden_crystals, edges, vectors, strict=True):
            frac, rounded = crystal.frac_coords, np.around(crystal.lattice, 5)
            exact = vector @ np.linalg.inv(rounded) - (frac[edge_index[1]] - frac[edge_index[0]])
            images = np.rint(exact)
            assert np.abs(exact - images).max() < 1e-4
            graph = spec.build(crystal)
            ours, published = relations(graph.edge_index, graph.images), relations(edge_index, images)
            missing, extra = published - ours, ours - published
            if missing and np.ptp(frac, axis=0).max() > 1:
                # jarvis loses neighbours where coordinates span more than a cell, and takes farther ones for them.
                assert beyond_kth(crystal, missing, k).min() > TOLERANCE
                spread += 1
                continue
            assert not missing, crystal.formula
            added += len(extra)
            if extra:
                assert np.abs(beyond_kth(crystal, extra, k)).max() <= 1.1 * TOLERANCE, crystal.formula
        assert added > 0  # the published rule splits shells: no difference at all would mean that nothing was compared
        assert spread == (1 if k == 12 else 0)


@pytest.mark.parametrize("name", ["comformer_k12_r8", "comformer_k25_r4"])
def test_the_published_lattice_vectors(golden, golden_crystals, name):
    spec = lg.graph("comformer", max_neighbors=12)
    with np.load(golden / f"{name}.npz") as file:
        for crystal, published in zip(golden_crystals, file["lattice"], strict=True):
            images = spec.build(crystal).lattice_images
            assert np.abs(images @ np.around(crystal.lattice, 5) - published).max() < 2e-5, crystal.formula


@pytest.mark.parametrize(
    ("name", "preset"), [("mace_r5", "mace"), ("m3gnet_r5_r4", "m3gnet"), ("chgnet_r6_r3", "chgnet")]
)
def test_the_published_radius_graphs(golden, golden_crystals, name, preset):
    spec = lg.graph(preset)
    with np.load(golden / f"{name}.npz") as file:
        for crystal, edge_index, images in zip(
            golden_crystals, parts(file, "edge_index"), parts(file, "image"), strict=True
        ):
            graph = spec.build(crystal)
            assert relations(graph.edge_index, graph.images) == relations(edge_index, images), crystal.formula
