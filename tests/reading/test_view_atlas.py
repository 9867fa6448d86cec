"""The view atlas: features of elements, Gaussians, vectors and pairs of edges, against pymatgen and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from pymatgen.core import Element

import lazygraph as lg
from lazygraph.crystal import SYMBOLS
from lazygraph.errors import RecipeMismatch
from lazygraph.reading.views.atlas import atlas_features


def rock_salt(length, numbers):
    """The primitive cell, a little sheared so that no two distances are the same by symmetry alone."""
    lattice = np.array([[0, 1, 1.02], [1, 0, 1.01], [1.03, 1, 0]]) * length / 2
    return lg.Crystal(lattice, [[0.01, 0, 0], [0.5, 0.52, 0.49]], numbers)


CRYSTALS = [
    rock_salt(5.64, [11, 17]),
    rock_salt(4.21, [12, 8]),
    lg.Crystal(np.diag([30.0, 30.0, 30.0]), [[0, 0, 0], [0.5, 0.5, 0.5]], [2, 10]),  # too far apart for any edge
    lg.Crystal(np.diag([3.1, 3.3, 3.6]), [[0, 0, 0]], [92]),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("atlas") / "a.lg"
    lg.write(CRYSTALS, path, graph="atlas", workers=1, progress=False)
    return path


@pytest.mark.parametrize(
    ("symbol", "column", "electronegativity", "radius", "metal", "heavy"),
    [
        ("H", 0, 2.2, 0.31, 0, 0),
        ("Na", 10, 0.93, 1.66, 1, 0),
        ("Tc", 42, 1.9, 1.5, 1, 0),  # ATLAS has no radius of technetium
        ("In", 48, 1.78, 1.42, 1, 0),
        ("Sn", 49, 1.96, 1.39, 1, 1),
        ("Xe", 53, 2.6, 1.4, 0, 1),
        ("Ce", 57, 1.5, 1.5, 1, 1),  # nor anything of the lanthanoids behind lanthanum
        ("Bi", 82, 2.02, 1.48, 1, 1),
        ("Rn", 85, 1.5, 1.5, 0, 1),
        ("U", 0, 1.5, 1.5, 1, 1),  # has no column of its own
    ],
)
def test_features_of_elements(symbol, column, electronegativity, radius, metal, heavy):
    row = atlas_features()[SYMBOLS.index(symbol)]
    assert row[:86].nonzero()[0].tolist() == [column]
    assert row[column] == 1
    number = Element(symbol).Z
    assert row[86:].tolist() == [number / 100, electronegativity / 4, radius / 3, metal, heavy]


def test_every_element_has_features_and_metals_are_pymatgens():
    table = atlas_features()
    assert table.shape == (119, 91)
    assert table[:, :86].sum(axis=1).tolist() == [0] + [1] * 118
    assert table[1:104, 89].tolist() == [float(Element.from_Z(z).is_metal) for z in range(1, 104)]
    # pymatgen has the same electronegativities, so a slip of a digit shows.
    known = [z for z in range(1, 84) if table[z, 87] not in (0, 1.5 / 4)]
    assert [SYMBOLS[z] for z in known if abs(4 * table[z, 87] - Element.from_Z(z).X) > 0.011] == []


@pytest.mark.parametrize("row", [0, 1, 3])
def test_edges_are_the_twelve_nearest_of_pymatgen(path, row):
    data = lg.LazyGraphDataset(path, view=lg.view("atlas", dtype="float64"))[row]
    crystal = CRYSTALS[row]
    assert np.array_equal(data.x.numpy(), atlas_features()[crystal.numbers])
    mu = np.arange(20) * 5.0 / 19
    width = 2.5 / 19
    for atom, near in enumerate(crystal.to_pymatgen().get_all_neighbors(5.0)):
        expected = np.sort([neighbor.nn_distance for neighbor in near])[:12]
        edges = (data.edge_index[0] == atom).nonzero()[:, 0]
        vectors = data.edge_vec[edges].numpy()
        assert np.allclose(np.linalg.norm(vectors, axis=1), expected, atol=1e-9)
        gaussians = np.exp(-((expected[:, None] - mu) ** 2) / width**2)
        assert np.allclose(data.edge_attr[edges].numpy(), gaussians, atol=1e-9)
        for vector, neighbour in zip(vectors, data.edge_index[1, edges].tolist(), strict=True):
            images = np.linalg.solve(crystal.lattice.T, vector) + crystal.frac_coords[atom]
            images -= crystal.frac_coords[neighbour]
            assert np.allclose(images, images.round(), atol=1e-9)


def test_triples_are_the_ordered_pairs_of_edges_with_one_centre(path):
    ds = lg.LazyGraphDataset(path, view="atlas")
    batch = ds.batch(range(len(CRYSTALS)))
    centre = batch.edge_index[0].tolist()
    expected = [[a, b] for a, b in itertools.permutations(range(len(centre)), 2) if centre[a] == centre[b]]
    assert batch.edge_index_3body.T.tolist() == expected
    assert len(expected) == 12 * 11 * 5
    assert batch.edge_index_3body.dtype == torch.int64
    # What PyG's own rule for a name with "index" would do: count atoms.
    last = ds[3]
    assert last.edge_index_3body.min() == 0
    assert batch.get_example(3).edge_index_3body.equal(last.edge_index_3body)


def test_a_crystal_without_edges_has_none(path):
    data = lg.LazyGraphDataset(path, view="atlas")[2]
    assert data.x.shape == (2, 91)
    for name, shape in {
        "edge_index": (2, 0),
        "edge_attr": (0, 20),
        "edge_vec": (0, 3),
        "edge_index_3body": (2, 0),
    }.items():
        assert tuple(data[name].shape) == shape, name


def test_gaussians_follow_the_cutoff_of_the_recipe(tmp_path):
    lg.write([CRYSTALS[0]], tmp_path / "w.lg", graph=lg.graph("atlas", cutoff=7.6), workers=1, progress=False)
    data = lg.LazyGraphDataset(tmp_path / "w.lg", view="atlas")[0]
    assert torch.equal(data.edge_attr.argmax(1), (data.edge_vec.norm(dim=1) / 0.4).round().long())


def test_other_graphs_are_refused(prototypes):
    with pytest.raises(RecipeMismatch, match=r"the view 'atlas' found graphs with the rule 'shell' .* preset 'atlas'"):
        lg.LazyGraphDataset(prototypes, view="atlas")
