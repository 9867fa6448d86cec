"""What a recipe builds, and what of it a user sees."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import lazygraph.graphs as lg

COMFORMER = lg.graph("comformer", max_neighbors=4)


def test_arrays_have_the_promised_shapes_and_types(silicon):
    graph = COMFORMER.build(silicon)
    n, e = graph.n_atoms, graph.n_edges
    promised = {
        "numbers": ((n,), np.uint8),
        "frac_coords": ((n, 3), np.float64),
        "lattice": ((3, 3), np.float64),
        "edge_index": ((2, e), np.int32),
        "images": ((e, 3), np.int16),
        "vectors": ((e, 3), np.float32),
        "distances": ((e,), np.float64),
        "lattice_images": ((3, 3), np.int16),
        "lattice_vectors": ((3, 3), np.float64),
    }
    for name, (shape, dtype) in promised.items():
        array = getattr(graph, name)
        assert (array.shape, array.dtype) == (shape, dtype), name
    assert (n, e) == (2, 8 + 2 * 3 * 2)
    assert repr(graph) == "CrystalGraph(Si, n_atoms=2, n_edges=20)"


def test_silicon_is_tetrahedral(silicon):
    graph = lg.graph("shell", max_neighbors=4).build(silicon)
    assert np.bincount(graph.edge_index[0]).tolist() == [4, 4]
    np.testing.assert_allclose(graph.distances, 5.43 * np.sqrt(3) / 4, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(graph.vectors, axis=1), graph.distances, rtol=1e-6)
    cosines = (
        graph.vectors[graph.edge_index[0] == 0] @ graph.vectors[graph.edge_index[0] == 0].T / graph.distances[0] ** 2
    )
    np.testing.assert_allclose(cosines[~np.eye(4, dtype=bool)], -1 / 3, atol=1e-6)
    assert graph.lattice_images is None
    assert graph.lattice_vectors is None


def test_lattice_vectors_are_right_handed_and_short_and_the_images_say_where_they_come_from(golden_crystals):
    for crystal in golden_crystals[::10]:
        graph = COMFORMER.build(crystal)
        vectors = graph.lattice_vectors
        np.testing.assert_allclose(vectors, graph.lattice_images @ crystal.lattice, atol=1e-9)
        assert np.linalg.det(vectors) > 0
        assert (np.diff(np.linalg.norm(vectors, axis=1)) > -1e-6).all()
        assert np.linalg.norm(vectors, axis=1).max() <= np.linalg.norm(crystal.lattice, axis=1).max() + 1e-9


def test_every_kind_of_structure_makes_the_same_graph(silicon):
    expected = COMFORMER.build(silicon)
    pytest.importorskip("jarvis")  # which a test of another platform may lack
    for structure in (silicon.to_pymatgen(), silicon.to_ase(), silicon.to_jarvis(), silicon.to_pymatgen().as_dict()):
        graph = COMFORMER.build(structure)
        assert (graph.edge_index == expected.edge_index).all()
        assert (graph.images == expected.images).all()


def test_pickle_keeps_everything(silicon):
    graph = COMFORMER.build(silicon)
    again = pickle.loads(pickle.dumps(graph))
    assert again.crystal == graph.crystal
    for name in ("edge_index", "images", "vectors", "lattice_images"):
        assert (getattr(again, name) == getattr(graph, name)).all()


def test_data_is_the_default_view(silicon):
    torch = pytest.importorskip("torch")
    graph = COMFORMER.build(silicon)
    data = graph.to_data()
    n, e = graph.n_atoms, graph.n_edges
    promised = {
        "x": ((n, 1), torch.int64),
        "pos": ((n, 3), torch.float32),
        "edge_index": ((2, e), torch.int64),
        "edge_attr": ((e, 3), torch.float32),
        "images": ((e, 3), torch.int64),
        "cell": ((1, 3, 3), torch.float32),
        "lattice_vectors": ((1, 3, 3), torch.float32),
    }
    assert set(data.keys()) == set(promised)
    for name, (shape, dtype) in promised.items():
        assert (tuple(data[name].shape), data[name].dtype) == (shape, dtype), name
    assert data.x.ravel().tolist() == [14, 14]
    assert data.validate()
    i, j = data.edge_index
    torch.testing.assert_close(data.pos[j] - data.pos[i] + data.images.float() @ data.cell[0], data.edge_attr)
    data.edge_attr.zero_()
    assert graph.vectors.any(), "the data shares memory with the graph"


def test_data_has_no_lattice_vectors_where_the_recipe_has_none(silicon):
    pytest.importorskip("torch")
    assert "lattice_vectors" not in lg.graph("radius", cutoff=3.0).build(silicon).to_data()


def test_a_graph_without_edges_is_a_graph(silicon):
    graph = lg.graph("radius", cutoff=1.0).build(silicon)
    assert graph.edge_index.shape == (2, 0)
    assert graph.images.shape == graph.vectors.shape == (0, 3)
