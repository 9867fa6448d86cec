"""Models: what they make of a batch, what leaves it as it is, and how they are found by name."""

from __future__ import annotations

import copy
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import lazygraph as lg
from lazygraph.errors import InputError, MissingExtra
from lazygraph.reading.views import VIEWS
from lazygraph.training.models import MODELS, cgcnn_pyg, comformer, find_model, radial
from lazygraph.training.models.radial import BatchNorm, GaussianBasis, mean_over_atoms, spherical_harmonics

SMALL = {
    "icomformer": {"hidden_channels": 24, "num_rbf": 16},
    "ecomformer": {"hidden_channels": 24, "num_rbf": 16, "scalar_channels": 6, "tensor_channels": 4},
    "cgcnn-pyg": {"atom_fea_len": 16, "h_fea_len": 24},
}
NAMES = sorted(SMALL)
ROTATION = Rotation.random(random_state=3).as_matrix()
MIRROR = np.diag([1.0, 1.0, -1.0])


def random_crystal(rng, n_atoms):
    """A crystal of no symmetry, so that no choice among equals can change with its orientation."""
    while True:
        lattice = np.diag([3.6, 4.3, 5.1]) + rng.uniform(-0.6, 0.6, (3, 3))
        crystal = lg.Crystal(lattice, rng.uniform(-0.3, 1.2, (n_atoms, 3)), rng.choice([3, 8, 14, 26, 51], n_atoms))
        if lg.graph("radius", cutoff=8.0).build(crystal).distances.min() > 1.2:
            return crystal


@pytest.fixture(scope="module")
def crystals():
    rng = np.random.default_rng(11)
    return [random_crystal(rng, n) for n in (3, 1, 4)]


@pytest.fixture
def batch_of(tmp_path):
    """The batch of some crystals that a model reads, in double precision."""

    def make(crystals, name, dtype="float64"):
        entry = find_model(name)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.lg"
        lg.write([(f"c{n}", c) for n, c in enumerate(crystals)], path, graph=entry.preset, workers=1, progress=False)
        return lg.LazyGraphDataset(path, view=lg.view(entry.view, dtype=dtype)).batch(range(len(crystals)))

    return make


def model_of(name, outputs=2, **more):
    """A model in double precision for evaluation, whose batch normalisations do something."""
    torch.manual_seed(5)
    model = find_model(name).build(outputs, **SMALL[name], **more)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.2, 1.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    return model.double().eval()


def by_hand(edges=(), n_atoms=1, graphs=None):
    """A batch with these edges, of vectors and lattice vectors that are all random."""
    rng = torch.Generator().manual_seed(7)
    shape = {"generator": rng, "dtype": torch.float64}
    graphs = [0] * n_atoms if graphs is None else graphs
    edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T
    lattices = torch.randn(max(graphs) + 1, 3, 3, **shape) * 4
    batch = torch.tensor(graphs)
    return SimpleNamespace(
        x=torch.rand(n_atoms, 92, **shape),
        edge_index=edge_index,
        edge_attr=torch.randn(edge_index.shape[1], 3, **shape) * 3,
        edge_nei=lattices[batch[edge_index[0]]],
        batch=batch,
        num_graphs=max(graphs) + 1,
    )


def close(found, expected, tolerance=1e-8):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


# ---- outputs and gradients ----


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_there_is_a_row_for_each_graph_and_a_column_for_each_output(name, dtype, crystals, batch_of):
    model = model_of(name, outputs=3).to(getattr(torch, dtype))
    found = model(batch_of(crystals, name, dtype))
    assert found.shape == (3, 3)
    assert found.dtype == getattr(torch, dtype)
    assert found.isfinite().all()
    assert (found[0] - found[1]).abs().min() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_is_close_to_double(name, crystals, batch_of):
    model = model_of(name)
    expected = model(batch_of(crystals, name))
    close(model.float()(batch_of(crystals, name, "float32")).double(), expected, 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name, crystals, batch_of):
    model = model_of(name).train()
    model(batch_of(crystals, name)).square().sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters()}
    assert {n for n, grad in gradients.items() if grad is None} == set()
    # The published networks have biases that the batch normalisation after them takes away again in training.
    lost = {n for n in gradients if n.endswith("out.bias") and n != "out.bias"}
    assert {n for n, grad in gradients.items() if not grad.abs().max() > 1e-12} - lost == set()


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_lower_the_loss(name, crystals, batch_of):
    batch, wanted = batch_of(crystals, name), torch.tensor([[1.0], [-1.0], [0.5]], dtype=torch.float64)
    model = model_of(name, outputs=1).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (model(batch) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_are_the_published_ones(name):
    model = find_model(name).build(1)
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
    if name == "cgcnn-pyg":
        assert shapes["embedding.weight"] == (64, 92)
        assert shapes["convs.0.lin_f.weight"] == (64, 2 * 64 + 41)
        assert [shapes[f"{layer}.weight"] for layer in ("hidden.0", "out")] == [(128, 64), (1, 128)]
        assert len(model.convs) == 3
        torch.testing.assert_close(model.gaussians.centers, torch.arange(0, 8.1, 0.2))
        return
    assert shapes["atoms.weight"] == (256, 92)
    assert shapes["lengths.1.weight"] == (256, 256)
    assert len(model.layers) == {"icomformer": 4, "ecomformer": 3}[name]
    assert sum(p.numel() for p in model.parameters()) == {"icomformer": 4_892_417, "ecomformer": 12_459_137}[name]
    assert (model.lengths[0].centers[0], model.lengths[0].centers[-1]) == (-4, 0)


# ---- what must not matter ----


@pytest.mark.parametrize("name", NAMES)
def test_a_rotated_crystal_is_the_same(name, crystals, batch_of):
    rotated = [lg.Crystal(c.lattice @ ROTATION.T, c.frac_coords, c.numbers) for c in crystals]
    model = model_of(name)
    close(model(batch_of(rotated, name)), model(batch_of(crystals, name)))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_atoms_does_not_matter(name, crystals, batch_of):
    orders = [np.arange(len(c))[::-1] for c in crystals]
    permuted = [lg.Crystal(c.lattice, c.frac_coords[o], c.numbers[o]) for c, o in zip(crystals, orders, strict=True)]
    model = model_of(name)
    close(model(batch_of(permuted, name)), model(batch_of(crystals, name)))


@pytest.mark.parametrize("name", NAMES)
def test_a_shifted_crystal_is_the_same(name, crystals, batch_of):
    shifted = [lg.Crystal(c.lattice, c.frac_coords + [0.4, -0.7, 1.3], c.numbers) for c in crystals]
    model = model_of(name)
    close(model(batch_of(shifted, name)), model(batch_of(crystals, name)))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_graphs_one_by_one(name, crystals, batch_of):
    model = model_of(name)
    single = torch.cat([model(batch_of([c], name)) for c in crystals])
    close(model(batch_of(crystals, name)), single, 1e-12)


def test_icomformer_tells_mirror_images_apart_and_the_others_do_not(crystals, batch_of):
    mirrored = [lg.Crystal(c.lattice @ MIRROR, c.frac_coords, c.numbers) for c in crystals]
    changes = {}
    for name in NAMES:
        model = model_of(name)
        changes[name] = (model(batch_of(mirrored, name)) - model(batch_of(crystals, name))).abs().amax(dim=1)
    assert changes["icomformer"][[0, 2]].min() > 1e-8
    # one atom alone is its own mirror image
    assert changes["icomformer"][1] < 1e-10
    assert max(changes["ecomformer"].max(), changes["cgcnn-pyg"].max()) < 1e-10


# ---- small graphs ----


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "batch",
    [
        by_hand(n_atoms=1),
        by_hand(n_atoms=3),
        by_hand([(0, 0)], n_atoms=1),
        by_hand([(0, 0), (0, 0)], n_atoms=1),
        by_hand([(1, 1), (1, 2), (2, 1)], n_atoms=4, graphs=[0, 1, 1, 2]),
    ],
    ids=["one atom, no edges", "no edges", "one edge", "one atom", "edges in one graph of three"],
)
def test_small_graphs(name, training, batch):
    model = model_of(name).train(training)
    found = model(batch)
    assert found.shape == (batch.num_graphs, 2)
    assert found.isfinite().all()
    found.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert all(b.isfinite().all() for b in model.buffers())
    assert model.eval()(batch).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_without_edges_is_the_same_beside_others(name):
    model = model_of(name)
    batch = by_hand([(1, 1), (1, 2), (2, 1)], n_atoms=4, graphs=[0, 1, 1, 2])
    alone = by_hand(n_atoms=1)
    alone.x = batch.x[:1]
    close(model(batch)[:1], model(alone), 1e-12)


def test_few_rows_get_the_running_statistics():
    norm = BatchNorm(4)
    norm.running_mean[:], norm.running_var[:] = 2.0, 9.0
    row = torch.randn(1, 4)
    close(norm(row), (row - 2) / 3, 1e-4)
    assert norm(row[:0]).shape == (0, 4)
    assert (norm.running_mean == 2).all()
    rows = torch.randn(5, 4)
    close(norm(rows).mean(dim=0), torch.zeros(4), 1e-5)
    assert (norm.running_mean != 2).all()


# ---- which way messages go ----


@pytest.mark.parametrize("name", NAMES)
def test_the_centre_hears_its_neighbours_and_not_the_other_way_round(name):
    model = model_of(name)
    layer = model.convs[0] if name == "cgcnn-pyg" else model.layers[0]
    seen = []
    layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    batch = by_hand([(0, 1)], n_atoms=2)
    for atom in (0, 1):
        changed = copy.copy(batch)
        changed.x = batch.x.clone()
        changed.x[atom] += 1
        model(batch), model(changed)
    before, other_centre, _, other_neighbor = seen
    assert (before[1] == other_centre[1]).all()
    assert (before[0] != other_neighbor[0]).any()


def test_the_equivariant_layer_hears_its_neighbours_too():
    layer = comformer.EquivariantUpdate(6, 4, 2).double().eval()
    batch = by_hand([(0, 1)], n_atoms=2)
    edges, harmonics = torch.rand(1, 6, dtype=torch.float64), spherical_harmonics(batch.edge_attr)
    x = batch.x[:, :6].clone().requires_grad_()
    found = layer(x, batch.edge_index, edges, harmonics)
    (of_centre,) = torch.autograd.grad(found[0].sum(), x, retain_graph=True)
    (of_neighbor,) = torch.autograd.grad(found[1].sum(), x)
    assert (of_centre[1] != 0).all()
    assert (of_neighbor[0] == 0).all()


def test_cgcnn_of_pyg_is_that_of_the_published_table(tmp_path, crystals):
    """The same network, written with CGCNN's own arrays: neighbours and Gaussians in a table of 12 columns."""
    path = tmp_path / "table.lg"
    lg.write([(f"c{n}", c) for n, c in enumerate(crystals)], path, graph="cgcnn", workers=1, progress=False)
    ours = lg.LazyGraphDataset(path, view=lg.view("matformer", dtype="float64")).batch(range(3))
    table = lg.LazyGraphDataset(path, view=lg.view("cgcnn", dtype="float64")).batch(range(3))
    model = model_of("cgcnn-pyg")
    # the view's centres are not rounded to single precision
    model.gaussians.centers = torch.arange(41, dtype=torch.float64) * 0.2
    x = model.embedding(table.atom_fea)
    for conv in model.convs:
        neighbors = x[table.nbr_fea_idx]
        z = torch.cat([x.unsqueeze(1).expand_as(neighbors), neighbors, table.nbr_fea], dim=-1)
        total = (conv.lin_f(z).sigmoid() * torch.nn.functional.softplus(conv.lin_s(z))).sum(dim=1)
        x = torch.nn.functional.softplus(x + conv.bn(total))
    crystal = torch.nn.functional.softplus(mean_over_atoms(x, table))
    close(model(ours), model.out(torch.nn.functional.softplus(model.hidden[0](crystal))), 1e-10)


# ---- lattice vectors and directions are read ----


def test_icomformer_reads_lengths_and_angles_of_lattice_vectors(crystals, batch_of):
    model, batch = model_of("icomformer"), batch_of(crystals, "icomformer")
    expected = model(batch)
    longer, turned = copy.copy(batch), copy.copy(batch)
    longer.edge_nei = batch.edge_nei * 1.1
    turned.edge_nei = batch.edge_nei @ torch.tensor(ROTATION)
    swapped = copy.copy(batch)
    swapped.edge_nei = batch.edge_nei[:, [2, 0, 1]]
    assert (model(longer) - expected).abs().max() > 1e-6
    assert (model(turned) - expected).abs().max() > 1e-6
    # each of the three has a map of its own
    assert (model(swapped) - expected).abs().max() > 1e-6


@pytest.mark.parametrize("degree", [1, 2])
def test_ecomformer_reads_harmonics_of_degrees_1_and_2(degree, monkeypatch, crystals, batch_of):
    model, batch = model_of("ecomformer"), batch_of(crystals, "ecomformer")
    expected = model(batch)

    def zeroed(vectors):
        parts = list(spherical_harmonics(vectors).split(radial.COMPONENTS, dim=-1))
        parts[degree] = torch.zeros_like(parts[degree])
        return torch.cat(parts, dim=-1)

    monkeypatch.setattr(comformer, "spherical_harmonics", zeroed)
    assert (model(batch) - expected).abs().max() > 1e-6


def test_the_equivariant_layer_sees_angles_and_not_orientations():
    """A path of three atoms with all lengths alike: bent, straight, and bent but turned."""
    torch.manual_seed(2)
    layer = comformer.EquivariantUpdate(6, 4, 2).double().eval()
    edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    x, edges = torch.rand(3, 6, dtype=torch.float64), torch.rand(1, 6, dtype=torch.float64).expand(4, 6)

    def seen(first, second, rotation=np.eye(3)):
        vectors = torch.tensor(np.array([first, -first, second, -second]) @ rotation.T)
        return layer(x, edge_index, edges, spherical_harmonics(vectors))

    along, across = np.array([1.0, 0, 0]), np.array([0, 0.6, 0.8])
    bent = seen(along, across)
    close(seen(along, across, ROTATION), bent, 1e-12)
    assert (seen(along, along) - bent).abs().max() > 1e-6


# ---- bases ----


def directions():
    """(D, 3) directions and (D,) weights of a product quadrature, exact to degree 9."""
    heights, weights = np.polynomial.legendre.leggauss(5)
    angles = 2 * np.pi * np.arange(10) / 10
    z, angle = (grid.ravel() for grid in np.meshgrid(heights, angles, indexing="ij"))
    radius = np.sqrt(1 - z**2)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
    return torch.tensor(points), torch.tensor(np.repeat(weights / 2 / 10, 10))


def test_harmonics_are_orthonormal():
    points, weights = directions()
    harmonics = spherical_harmonics(points)
    close(harmonics.T @ (weights[:, None] * harmonics), torch.eye(9, dtype=torch.float64), 1e-12)


def test_squares_of_a_degree_sum_to_the_number_of_its_components():
    vectors = torch.tensor(np.random.default_rng(0).normal(size=(20, 3)) * 5)
    for part, number in zip(spherical_harmonics(vectors).split(radial.COMPONENTS, dim=-1), (1, 3, 5), strict=True):
        close(part.square().sum(dim=-1), torch.full((20,), float(number), dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("rotation", [np.eye(3), ROTATION, MIRROR])
def test_products_of_harmonics_are_legendre_polynomials_of_the_angle(rotation):
    """The addition theorem, and with it that a rotation leaves inner products as they are."""
    u, v = np.random.default_rng(1).normal(size=(2, 20, 3))
    cosine = torch.tensor((u * v).sum(1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1))
    product = spherical_harmonics(torch.tensor(u @ rotation.T)) * spherical_harmonics(torch.tensor(v @ rotation.T))
    zeroth, first, second = (part.sum(dim=-1) for part in product.split(radial.COMPONENTS, dim=-1))
    close(zeroth, torch.ones_like(cosine), 1e-12)
    close(first, 3 * cosine, 1e-12)
    close(second, 5 * (3 * cosine**2 - 1) / 2, 1e-12)


def test_gaussians():
    gaussians = GaussianBasis(-1.0, 1.0, 5, width=0.5).double()
    found = gaussians(torch.tensor([[0.0], [0.25]], dtype=torch.float64))
    assert found.shape == (2, 1, 5)
    close(found[0, 0], torch.exp(-torch.tensor([4.0, 1.0, 0.0, 1.0, 4.0], dtype=torch.float64)), 1e-12)
    close(found[1, 0, 2:4], torch.full((2,), float(np.exp(-0.25)), dtype=torch.float64), 1e-12)
    assert GaussianBasis(-4.0, 0.0, 5).width == 1.0
    assert "centers" not in gaussians.state_dict()


# ---- by name ----

OWN = """
import torch

class Tiny(torch.nn.Module):
    view = "matformer"
    preset = "matformer"

    def __init__(self, outputs, width=3):
        super().__init__()
        self.layer = torch.nn.Linear(width, outputs)

class Plain(torch.nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def view(self):
        return None

class Thing:
    pass

number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_models_of_a_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_models_of_a_test"


def test_models_by_name():
    assert list(MODELS)[:3] == ["icomformer", "ecomformer", "ecomformer-half"]
    assert [type(MODELS[name].build(1, **SMALL[name])) for name in SMALL] == [
        comformer.IComformer,
        comformer.EComformer,
        cgcnn_pyg.CgcnnPyg,
    ]
    for name, entry in MODELS.items():
        assert entry.name == name
        assert find_model(name) is entry
        assert entry.view in VIEWS
        lg.graph(entry.preset)


def test_a_class_of_ones_own(own):
    entry = find_model(f"{own}:Tiny")
    assert (entry.name, entry.view, entry.preset) == (f"{own}:Tiny", "matformer", "matformer")
    assert entry.build(4, width=7).layer.weight.shape == (4, 7)
    assert entry.build(outputs=2).layer.weight.shape == (2, 3)


def test_a_class_without_outputs_is_not_given_any(own):
    entry = find_model(f"{own}:Plain")
    assert (entry.view, entry.preset) == ("pyg", "")
    assert entry.build(4, width=7).options == {"width": 7}


@pytest.mark.parametrize(
    "name", ["nonet", "", ":", "a:b:c", "no_such_module_anywhere:Net", "lazygraph.errors:Net", ":Net"]
)
def test_an_unknown_model_is_refused_with_the_known_ones(name):
    with pytest.raises(InputError, match="icomformer, ecomformer, ecomformer-half, "):
        find_model(name)


@pytest.mark.parametrize("kind", ["Thing", "number"])
def test_what_is_no_module_is_refused(kind, own):
    with pytest.raises(InputError, match="required: a subclass of torch.nn.Module"):
        find_model(f"{own}:{kind}")


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_hyperparameter_is_refused_with_the_known_ones(name):
    with pytest.raises(InputError, match=rf"unexpected.*'depth'.*hyperparameters are: .*{list(SMALL[name])[-1]}"):
        find_model(name).build(1, depth=3)


def test_a_comformer_needs_a_layer():
    with pytest.raises(InputError, match="num_layers=0"):
        find_model("ecomformer").build(1, num_layers=0)


@pytest.mark.parametrize("name", NAMES)
def test_entries_and_models_can_be_copied(name):
    entry, model, batch = pickle.loads(pickle.dumps(MODELS[name])), model_of(name), by_hand([(0, 1), (1, 0)], n_atoms=2)
    assert entry.name == name
    expected = model(batch)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert (other(batch) == expected).all()
    fresh = entry.build(2, **SMALL[name]).double().eval()
    fresh.load_state_dict(model.state_dict())
    assert (fresh(batch) == expected).all()


@pytest.mark.parametrize(
    ("name", "package", "module"), [("mace", "mace-torch", "mace.modules"), ("m3gnet", "matgl", "matgl.models")]
)
def test_a_model_of_a_package_that_is_missing_names_the_extra(name, package, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    required = {"elements": ["Na"], "cutoff": 4.0, "avg_num_neighbors": 1.0} if name == "mace" else {}
    with pytest.raises(MissingExtra, match=rf"'{name}' needs {package}, .*pip install 'lazygraph\[interop\]'"):
        find_model(name).build(1, **required)
