"""Views: the arrays of a whole batch are those of its graphs one by one, and what each model's own code makes."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from same import same_batches, same_values
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader as PygLoader

import lazygraph as lg
from lazygraph.errors import InputError, RecipeMismatch
from lazygraph.reading.views import VIEWS
from lazygraph.reading.views.features import cgcnn_features

GRAPHS = 24
PRESETS = {
    "pyg": "comformer",
    "comformer": "comformer",
    "matformer": "matformer",
    "potnet": "potnet",
    "alignn": "alignn",
    "cgcnn": "cgcnn",
    "atlas": "atlas",
    "megnet": "megnet",
    "m3gnet": "m3gnet",
    "matgl-chgnet": "chgnet",
    "chgnet": "chgnet",
    "mace": "mace",
}


@pytest.fixture(scope="module")
def crystals():
    """Small random crystals of a few elements; one atom alone among them."""
    rng = np.random.default_rng(5)
    out = [lg.Crystal(np.diag([2.5, 2.5, 2.5]), [[0.1, 0.2, 0.3]], [29])]
    while len(out) < GRAPHS:
        n = int(rng.integers(2, 6))
        lattice = np.diag(rng.uniform(3.0, 5.0, 3)) + rng.uniform(-0.6, 0.6, (3, 3))
        numbers = rng.choice([8, 11, 17, 26, 29], n)
        crystal = lg.Crystal(lattice, rng.uniform(-0.3, 1.2, (n, 3)), numbers)
        if lg.graph("radius", cutoff=8.0).build(crystal).distances.min() > 0.9:
            out.append(crystal)
    return out


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, crystals):
    """A dataset of these crystals for a recipe, with an energy, a dipole and forces; written once for each."""
    folder = tmp_path_factory.mktemp("views")
    rng = np.random.default_rng(6)
    inputs = [
        (
            f"c{n}",
            crystal,
            {"energy": float(n), "dipole": [n, -n, 0.5], "forces": rng.normal(size=(len(crystal), 3)).tolist()},
        )
        for n, crystal in enumerate(crystals)
    ]

    def write(spec):
        path = folder / f"{abs(hash(spec))}.lg"
        if not path.exists():
            lg.write(inputs, path, graph=spec, workers=1, progress=False)
        return path

    return write


def make(name, **parameters):
    own = {"mace": {"elements": ["O", "Na", "Cl", "Fe", "Cu"]}, "potnet": {"sums": True}}
    return lg.view(name, **own.get(name, {}), **parameters)


@pytest.fixture(params=PRESETS)
def ds(request, dataset):
    path = dataset(lg.graph(PRESETS[request.param]))
    return lg.LazyGraphDataset(path, view=make(request.param), target=["energy", "dipole"])


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [[3], [5, 0, 17, 5], list(range(GRAPHS))])
def test_a_batch_is_that_of_the_single_graphs(ds, chosen):
    batch = ds.batch(chosen)
    singles = [ds[n] for n in chosen]
    same_batches(batch, Batch.from_data_list(singles))
    for n, single in enumerate(singles):
        same_values(batch.get_example(n), single)
    for taken, single in zip(batch.to_data_list(), singles, strict=True):
        same_values(taken, single)
    same_batches(Batch.from_data_list(batch.to_data_list()), batch)  # what came out of a batch goes into one


def test_pygs_loader_and_pickles_give_the_same_batches(ds):
    batches = list(PygLoader(ds, batch_size=10))
    assert [batch.num_graphs for batch in batches] == [10, 10, 4]
    for n, batch in enumerate(batches):
        same_batches(batch, ds.batch(range(10 * n, min(10 * n + 10, GRAPHS))))
    same_values(pickle.loads(pickle.dumps(ds))[7], ds[7])
    same_values(pickle.loads(pickle.dumps(ds[7])), ds[7])


def test_the_layout_names_every_array_and_floats_are_of_the_wanted_type(ds):
    name = ds.view.name
    for dtype in ("float32", "float64"):
        view = make(name, dtype=dtype)
        data = lg.LazyGraphDataset(ds.path, view=view)[2]
        own = set(data.keys()) - {"id", "num_nodes", "energy", "dipole"}
        assert own == set(view.layout) - ({"lattice_vectors"} - own) | {"forces"}
        for key in own:
            if data[key].is_floating_point():
                assert data[key].dtype == getattr(torch, dtype), key


def test_single_precision_is_double_precision_rounded(ds):
    name = ds.view.name
    if name == "m3gnet":
        pytest.skip("its bonds are judged in the type of the view")
    double = lg.LazyGraphDataset(ds.path, view=make(name, dtype="float64")).batch(range(GRAPHS))
    single = lg.LazyGraphDataset(ds.path, view=make(name)).batch(range(GRAPHS))
    for key in make(name).layout.keys() & set(single.keys()):
        if single[key].is_floating_point():
            assert torch.equal(double[key].float(), single[key]), key


def test_views_are_calls_that_make_them():
    assert set(VIEWS) == set(PRESETS)
    for name in VIEWS:
        view = make(name, dtype="float64")
        assert eval(repr(view), {"lazygraph": lg}) == view
        assert pickle.loads(pickle.dumps(view)) == view
    assert repr(lg.view("pyg", features=["Na", "Cl"])) == "lazygraph.view('pyg', features=('Na', 'Cl'))"


# ---- what is in them ----


def test_pyg_with_features(dataset, crystals):
    path = dataset(lg.graph("mace"))
    number = lg.LazyGraphDataset(path)[4]
    assert number.x[:, 0].tolist() == crystals[4].numbers.tolist()
    table = lg.LazyGraphDataset(path, view=lg.view("pyg", features="cgcnn"))[4].x
    assert np.array_equal(table.numpy(), cgcnn_features()[crystals[4].numbers])
    elements = ["Cu", "Fe", "Cl", "Na", "O"]
    onehot = lg.LazyGraphDataset(path, view=lg.view("pyg", features=elements))[4].x
    symbols = [elements[place] for place in onehot.argmax(1)]
    assert onehot.sum(1).tolist() == [1.0] * len(symbols)
    assert symbols == [site.specie.symbol for site in crystals[4].to_pymatgen()]


def test_the_table_of_features_is_cgcnns():
    from importlib.resources import files

    published = json.loads((files("jarvis") / "core" / "atom_init.json").read_text())
    assert len(published) == 100
    for number, row in published.items():
        assert cgcnn_features()[int(number)].tolist() == row
    assert not cgcnn_features()[0].any()


def test_comformer_repeats_the_lattice_vectors_on_every_edge(dataset):
    path = dataset(lg.graph("comformer"))
    batch = lg.LazyGraphDataset(path, view="comformer").batch([0, 7])
    plain = lg.LazyGraphDataset(path).batch([0, 7])
    owner = plain.batch[plain.edge_index[0]]
    assert torch.equal(batch.edge_nei, plain.lattice_vectors[owner])
    assert torch.equal(batch.edge_attr, plain.edge_attr)
    assert batch.x.shape[1] == 92


@pytest.mark.parametrize("preset", ["comformer", "matformer", "alignn"])
def test_reference_ties_give_the_published_vectors(dataset, crystals, preset):
    path = dataset(lg.graph(preset, ties="reference"))
    data = lg.LazyGraphDataset(path, view=preset)[3]
    plain = lg.LazyGraphDataset(path)[3]
    crystal = crystals[3]
    i, j = plain.edge_index.numpy()
    delta = crystal.frac_coords[j] - crystal.frac_coords[i] + plain.images.numpy()
    expected = (delta @ np.around(crystal.lattice, 5)).astype(np.float32)
    found = data.r if preset == "alignn" else data.edge_attr
    assert np.abs(found.numpy() - expected).max() < 1e-6
    assert np.abs(found.numpy() - plain.edge_attr.numpy()).max() > 1e-6  # the rounding is there


@pytest.mark.parametrize("preset", ["alignn", "alignn-2026"])
def test_alignn_has_the_cosines_of_its_line_graph(dataset, preset):
    data = lg.LazyGraphDataset(dataset(lg.graph(preset)), view="alignn")[5]
    first, second = data.line_graph
    assert torch.equal(data.edge_index[1, first], data.edge_index[0, second])
    a, b = -data.r[first].double(), data.r[second].double()
    expected = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    assert torch.allclose(data.h.double(), expected, atol=1e-6)
    if preset == "alignn-2026":
        kept = (data.r.norm(dim=1) <= 3.5).nonzero()[:, 0]
        assert set(first.tolist()) <= set(kept.tolist())


def test_alignn_2026_keeps_an_edge_of_an_atom_with_itself_and_dgl_does_not(dataset):
    alone = 0  # one atom: every edge is of it with itself
    for preset, itself in (("alignn", False), ("alignn-2026", True)):
        first, second = lg.LazyGraphDataset(dataset(lg.graph(preset)), view="alignn")[alone].line_graph
        assert bool((first == second).any()) == itself


def test_cgcnn_is_the_table_of_the_published_code(dataset, crystals):
    """As ``CIFData``: the first 12 of pymatgen's neighbours sorted by distance, as Gaussians."""
    ds = lg.LazyGraphDataset(dataset(lg.graph("cgcnn")), view="cgcnn")
    for n in (0, 3, 9):
        check_table(ds[n], crystals[n])


def check_table(data, crystal):
    centres = np.arange(0, 8.2, 0.2)
    neighbours = crystal.to_pymatgen().get_all_neighbors(8.0)
    assert data.nbr_fea.shape == (len(crystal), 12, 41)
    for atom, near in enumerate(neighbours):
        distances = np.sort([n.nn_distance for n in near])[:12]
        distances = np.append(distances, np.full(12 - len(distances), 9.0))
        expected = np.exp(-((distances[:, None] - centres) ** 2) / 0.2**2)
        assert np.allclose(data.nbr_fea[atom], expected, atol=1e-5)


def test_cgcnn_pads_with_the_first_atom_of_the_crystal(tmp_path):
    sparse = lg.Crystal(np.diag([7.0, 7.5, 30.0]), [[0, 0, 0], [0.5, 0.5, 0.01]], [11, 17])
    lg.write([sparse, sparse], tmp_path / "s.lg", graph="cgcnn", workers=1, progress=False)
    ds = lg.LazyGraphDataset(tmp_path / "s.lg", view="cgcnn")
    check_table(ds[0], sparse)
    degree = [len(near) for near in sparse.to_pymatgen().get_all_neighbors(8.0)]
    assert max(degree) < 12
    batch = ds.batch([0, 1])
    for graph in range(2):
        for atom in range(2):
            assert batch.nbr_fea_idx[2 * graph + atom, degree[atom] :].tolist() == [2 * graph] * (12 - degree[atom])


def test_m3gnet_has_triplets_of_edges_sorted_by_centre(dataset, crystals):
    ds = lg.LazyGraphDataset(dataset(lg.graph("m3gnet")), view=lg.view("m3gnet", dtype="float64"))
    for n in (0, 5, 11):
        data = ds[n]
        assert (data.edge_index[0].diff() >= 0).all()
        assert data.line_edge_index.shape[1] == int(ds.columns["n_triplets"][n])
        bond = data.pos[data.edge_index[1].long()] + data.pbc_offshift - data.pos[data.edge_index[0].long()]
        kept = (bond.norm(dim=1) <= 4.0).nonzero()[:, 0]
        assert torch.equal(kept, data.kept_edge_ids)
        first, second = data.line_edge_index
        assert torch.equal(data.edge_index[0, first], data.edge_index[0, second])
        assert torch.equal(first.bincount(minlength=data.num_edges), data.n_triple_ij)
        assert data.frac_coords.tolist() == crystals[n].frac_coords.tolist()


@pytest.mark.parametrize(("view", "preset"), [("alignn", "alignn"), ("alignn", "alignn-2026"), ("chgnet", "chgnet")])
def test_n_triplets_says_how_many_angles_a_graph_has(dataset, view, preset):
    ds = lg.LazyGraphDataset(dataset(lg.graph(preset)), view=view)
    angles = "bond_graph" if view == "chgnet" else "h"
    assert ds.columns["n_triplets"].tolist() == [len(data[angles]) for data in ds]
    assert len(ds.where("n_triplets < 100")) == int((ds.columns["n_triplets"] < 100).sum())


def test_chgnets_undirected_edges_are_the_two_directions(dataset):
    data = lg.LazyGraphDataset(dataset(lg.graph("chgnet")), view="chgnet").batch([2, 3, 4])
    first = data.undirected2directed
    assert torch.equal(data.directed2undirected[first.long()], torch.arange(len(first), dtype=torch.int32))
    reverse = (first + 1).long()
    assert torch.equal(data.atom_graph[first.long()], data.atom_graph[reverse].flip(1))
    assert torch.equal(data.neighbor_image[first.long()], -data.neighbor_image[reverse])
    centre, one, directed, other, directed_too = data.bond_graph.T.long()
    assert torch.equal(data.directed2undirected[directed].long(), one)
    assert torch.equal(data.directed2undirected[directed_too].long(), other)
    assert torch.equal(data.atom_graph[directed, 0].long(), centre)


# ---- bad input ----


@pytest.mark.parametrize(
    ("name", "preset", "wanted"),
    [
        ("comformer", "mace", "comformer"),
        ("alignn", "potnet", "alignn"),
        ("cgcnn", "comformer", "cgcnn"),
        ("m3gnet", "mace", "m3gnet"),
        ("chgnet", "mace", "chgnet"),
    ],
)
def test_a_view_of_other_graphs_names_the_preset_it_needs(dataset, name, preset, wanted):
    with pytest.raises(RecipeMismatch, match=rf"the view '{name}' found .* needs the graphs of the preset '{wanted}'"):
        lg.LazyGraphDataset(dataset(lg.graph(preset)), view=name)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("pgy", {}, r"unknown view 'pgy'; did you mean 'pyg'. known: pyg"),
        ("pyg", {"cutoff": 3}, "view 'pyg': 'cutoff'; known: dtype, features, images"),
        ("pyg", {"dtype": "float16"}, "found dtype='float16'; required: 'float32' or 'float64'"),
        ("pyg", {"features": "onehot"}, "found features='onehot'"),
        ("pyg", {"features": ["Na", "Na"]}, "the elements Na, Na are not all different; give"),
        ("pyg", {"features": ["Xx"]}, "unknown element 'Xx'"),
        ("mace", {}, "needs the elements of the model"),
        ("megnet", {"elements": []}, "the list of elements is empty"),
    ],
)
def test_impossible_views(name, parameters, message):
    with pytest.raises(InputError, match=message):
        lg.view(name, **parameters)


def test_an_element_that_the_view_does_not_have_is_named(dataset):
    ds = lg.LazyGraphDataset(dataset(lg.graph("mace")), view=lg.view("mace", elements=["O", "Na", "Cl", "Fe"]))
    with pytest.raises(InputError, match="found atoms of Cu, which are not among the 4 elements of the view"):
        ds[0]


def test_an_element_without_cgcnn_features_is_named(tmp_path):
    heavy = lg.Crystal(np.diag([4.0, 4.0, 4.0]), [[0, 0, 0]], [110])
    lg.write([heavy], tmp_path / "h.lg", graph="comformer", workers=1, progress=False)
    with pytest.raises(InputError, match="found an atom of Ds; the features 'cgcnn' exist only for elements up to Lr"):
        lg.LazyGraphDataset(tmp_path / "h.lg", view="comformer")[0]


@given(numbers=st.lists(st.integers(1, 103), min_size=1, max_size=5))
def test_features_are_looked_up_by_number_in_torch_as_in_numpy(numbers):
    from lazygraph.reading.views.features import node_features

    array = np.array(numbers, dtype=np.uint8)
    for features in ("number", "cgcnn"):
        mine = node_features(array, features, "float32")
        assert np.array_equal(node_features(torch.from_numpy(array), features, "float32").numpy(), mine)
