"""Matformer, PotNet, ALIGNN and CGCNN: published sizes, the published functions in loops, and what they ignore."""

from __future__ import annotations

import copy
import hashlib
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import reference_networks as reference
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import InputError, RecipeMismatch, StructureError
from lazygraph.reading.crystals import Crystals
from lazygraph.training.models import alignn, cgcnn, cgcnn_pyg, find_model, matformer, potnet
from lazygraph.training.models.edge_layers import EdgeLinear, sum_at

CASES = {
    "matformer": {"node_features": 6, "edge_features": 5, "fc_features": 7, "conv_layers": 2, "node_layer_head": 3},
    "potnet": {"fc_features": 6, "conv_layers": 2},
    "potnet-infinite": {"infinite": True, "fc_features": 6, "inf_edge_features": 5, "conv_layers": 2},
    "alignn": {
        "hidden_features": 6, "embedding_features": 4, "edge_input_features": 5, "triplet_input_features": 7,
        "alignn_layers": 2, "gcn_layers": 2,
    },
    "alignn-batch": {
        "norm": "batch", "hidden_features": 6, "embedding_features": 4, "edge_input_features": 5,
        "triplet_input_features": 7, "alignn_layers": 2, "gcn_layers": 2,
    },
    "cgcnn": {"atom_fea_len": 6, "h_fea_len": 7, "n_conv": 2, "n_h": 3},
    "cgcnn-pyg": {"atom_fea_len": 6, "h_fea_len": 7},
}  # fmt: skip
NAMES = list(CASES)
MODULES = {"matformer": matformer, "potnet": potnet, "alignn": alignn, "cgcnn": cgcnn}
GRAPHS = {
    "matformer": lg.graph("matformer"),
    "potnet": lg.graph("potnet"),
    "potnet-infinite": lg.graph("potnet"),
    "alignn": lg.graph("alignn-2026"),
    "alignn-batch": lg.graph("alignn"),
    "cgcnn": lg.graph("cgcnn"),
    "cgcnn-pyg": lg.graph("cgcnn"),
}


def model_name(case):
    """The name of the model of a case."""
    return case if case in ("cgcnn", "cgcnn-pyg") else case.split("-")[0]


def model_of(case, outputs=2, **more):
    """A small model in double precision for evaluation, whose normalisations do something."""
    torch.manual_seed(5)
    model = find_model(model_name(case)).build(outputs, **CASES[case], **more)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.2, 1.0)
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.LayerNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    return model.double().eval()


def view_of(case, dtype="float64"):
    if case == "potnet-infinite":
        return lg.view("potnet", sums=True, dtype=dtype)
    return lg.view(find_model(model_name(case)).view, dtype=dtype)


def batch_of(case, crystals, spec=None):
    """The batch of some crystals that a model reads, without a dataset."""
    spec = spec or GRAPHS[case]
    graphs = [spec.build(crystal) for crystal in crystals]
    n_node, n_edge = (np.array([getattr(graph, name) for graph in graphs]) for name in ("n_atoms", "n_edges"))
    first = np.cumsum(n_node) - n_node
    gathered = Crystals(
        n_node,
        n_edge,
        numbers=np.concatenate([crystal.numbers for crystal in crystals]),
        frac_coords=np.concatenate([crystal.frac_coords for crystal in crystals]),
        lattice=np.stack([crystal.lattice for crystal in crystals]),
        pbc=np.array([crystal.pbc for crystal in crystals]),
        edge_index=np.concatenate([graph.edge_index + at for graph, at in zip(graphs, first, strict=True)], axis=1),
        images=np.concatenate([graph.images for graph in graphs]),
    )
    arrays = view_of(case).arrays(gathered, spec).values
    tensors = {name: torch.as_tensor(np.asarray(array)) for name, array in arrays.items()}
    graph_of_atom = torch.repeat_interleave(torch.arange(len(crystals)), torch.tensor(n_node))
    return SimpleNamespace(**tensors, batch=graph_of_atom, num_graphs=len(crystals))


def random_crystal(seed, n_atoms):
    """A crystal without symmetry, whose atoms are at least 1.2 A apart; None if the seed gives another one."""
    rng = np.random.default_rng(seed)
    lattice = np.diag([3.6, 4.3, 5.1]) + rng.uniform(-0.6, 0.6, (3, 3))
    crystal = lg.Crystal(lattice, rng.uniform(-0.3, 1.2, (n_atoms, 3)), rng.choice([3, 8, 14, 26, 51], n_atoms))
    try:
        return crystal if lg.graph("radius", cutoff=8.0).build(crystal).distances.min() > 1.2 else None
    except StructureError:  # two atoms at almost one place
        return None


@st.composite
def crystals_without_ties(draw):
    """A random crystal in which the 12 nearest neighbours of each atom are nearer than the others."""
    crystal = random_crystal(draw(st.integers(0, 10_000)), draw(st.integers(1, 4)))
    assume(crystal is not None)
    graph = lg.graph("nearest", max_neighbors=13, cutoff=8.0).build(crystal)
    distances = graph.distances.reshape(-1, 13)
    assume((distances[:, 12] - distances[:, 11]).min() > 1e-6)
    return crystal


@pytest.fixture(scope="module")
def crystals():
    found = (random_crystal(seed, n) for n in (3, 1, 2) for seed in range(100 * n, 100 * n + 20))
    by_size = {}
    for crystal in found:
        if crystal is not None:
            by_size.setdefault(len(crystal), crystal)
    return [by_size[n] for n in (3, 1, 2)]


def close(found, expected, tolerance=1e-8):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


# ---- published sizes ----


def shapes_hash(shapes):
    """A hash of the shapes of parameters, in any order."""
    return hashlib.sha256(repr(sorted(map(tuple, shapes))).encode()).hexdigest()[:16]


C, H = 128, 256
UNREAD = {  # parameters of the released networks that no output depends on
    "matformer": [(C, 3 * C), (C,), (C, C), (C,), (C, 120), (C,), (C, C), (C,)],
    "alignn": [(H,)] * 4,
}


@pytest.mark.parametrize(
    ("name", "options", "parameters", "published", "hashed"),
    [
        ("matformer", {}, 2_782_849, 2_880_641, "b2225323ca00a4bc"),
        ("potnet", {}, 1_734_657, 1_734_657, "d015b196373f3dbb"),
        ("potnet", {"infinite": True}, 1_751_809, 1_751_809, "284c6d60ba6a9fa2"),
        ("alignn", {}, 4_025_729, 4_026_753, "bdc4ec75a73526d3"),
        ("alignn", {"norm": "batch"}, 4_025_729, 4_026_753, "bdc4ec75a73526d3"),
        ("cgcnn", {}, 80_833, 80_833, "f5abd9a7d842b75a"),
    ],
)
def test_the_defaults_are_the_published_ones(name, options, parameters, published, hashed):
    """With the parameters that nothing reads, they are all those of the released network."""
    shapes = [tuple(p.shape) for p in find_model(name).build(1, **options).parameters()]
    assert sum(map(np.prod, shapes)) == parameters
    shapes += UNREAD.get(name, [])
    assert sum(map(np.prod, shapes)) == published
    assert shapes_hash(shapes) == hashed


def test_the_smaller_alignn_of_2026():
    """The defaults of the released network without forces, and CGCNN's features of atoms."""
    small = find_model("alignn").build(1, alignn_layers=2, gcn_layers=2, hidden_features=64)
    assert sum(p.numel() for p in small.parameters()) + 4 * 64 == 149_121


# ---- the published functions ----


def released_weights(case, model):
    """The weights of a model under their released names, with further ones that no output depends on."""
    module = MODULES[model_name(case)]
    weights = {module._released(name): value for name, value in model.state_dict().items()}
    more = {
        "matformer": {"edge_init.0.weight": (6, 18), "sbf.anything": (1,), "angle_init_layers.2.bias": (6,)},
        "potnet": {"inf_edge_embedding.centers": (5,)},
        "alignn": {
            "alignn_layers.1.edge_update.bn_edges.weight": (6,), "alignn_layers.1.edge_update.bn_edges.bias": (6,),
            "gcn_layers.1.bn_edges.weight": (6,), "gcn_layers.1.bn_edges.bias": (6,),
        },
    }.get(model_name(case), {})  # fmt: skip
    rng = torch.Generator().manual_seed(3)
    return weights | {name: torch.rand(shape, generator=rng, dtype=torch.float64) for name, shape in more.items()}


def in_loops(case, weights, batch):
    match model_name(case):
        case "matformer":
            return reference.matformer(weights, batch, heads=3)
        case "potnet":
            return reference.potnet(weights, batch, [0.3, -0.2, 0.5] if case == "potnet-infinite" else None)
        case "alignn":
            return reference.alignn(weights, batch)
    table, neighbors = table_of(batch)
    return reference.cgcnn(weights, batch.x, table, neighbors, batch.batch, batch.num_graphs)


def table_of(batch):
    """CGCNN's tables of neighbours of a batch in which every atom has 12."""
    neighbors = batch.edge_index[1].reshape(-1, 12)
    lengths = batch.edge_attr.norm(dim=1).reshape(-1, 12)
    centres = torch.arange(41, dtype=torch.float64) * 0.2
    return torch.exp(-(((lengths[..., None] - centres) / 0.2) ** 2)), neighbors


@pytest.mark.parametrize("case", [name for name in NAMES if name != "cgcnn-pyg"])
def test_it_is_the_published_function_with_released_weights(case, crystals):
    """Written as plain loops over edges, with weights by their released names."""
    more = {"potentials": [0.3, -0.2, 0.5]} if case == "potnet-infinite" else {}
    weights = released_weights(case, model_of(case, **more))
    # A graph that is not symmetric tells which atom hears. The released Matformer and PotNet sum at the other row.
    turns = model_name(case) in ("matformer", "potnet")
    batch = batch_of(case, crystals, lg.graph("nearest", max_neighbors=5, cutoff=8.0) if turns else None)
    module = MODULES[model_name(case)]
    loaded = module.from_released(weights, **more).eval()
    double = copy.deepcopy(loaded)
    for part in double.modules():
        if "centers" in dict(part.named_buffers(recurse=False)):  # single precision rounds them
            first, last = float(part.centers[0]), round(float(part.centers[-1]), 1)
            part.centers = torch.linspace(first, last, len(part.centers), dtype=torch.float64)
    found = double(batch)
    theirs = copy.copy(batch)
    theirs.edge_index = batch.edge_index.flip(0) if turns else batch.edge_index
    expected = in_loops(case, weights, theirs)
    close(found, expected, 1e-12)
    assert found.std(dim=0).min() > 1e-4
    close(loaded(batch), expected, 1e-4)


@pytest.mark.parametrize("case", ["matformer", "potnet"])
def test_it_does_not_matter_for_published_graphs_which_atom_of_an_edge_hears(case, crystals):
    model, batch = model_of(case), batch_of(case, crystals)
    turned = copy.copy(batch)
    turned.edge_index = batch.edge_index.flip(0)
    close(model(turned), model(batch), 1e-12)


@pytest.mark.parametrize("case", ["matformer", "potnet", "cgcnn"])
def test_the_centre_hears_its_neighbours(case):
    assert heard(case) == [True, False]


def test_alignn_sends_messages_along_the_edges():
    """As in the released network: the neighbour hears the centre."""
    assert heard("alignn") == [False, True]


def heard(case):
    """Whether the features of atom 0, and those of atom 1, depend on the other atom, with one edge from 0 to 1."""
    model, batch = model_of(case), by_hand(case, [(0, 1)], n_atoms=2)
    layer = model.convs[0] if case == "cgcnn" else model.gcn_layers[0] if case == "alignn" else model.layers[0]
    x = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    edges = torch.randn(1, 41 if case == "cgcnn" else 6, dtype=torch.float64)
    found = layer(x, batch.edge_index, edges)
    found = found[0] if case == "alignn" else found
    gradients = [torch.autograd.grad(found[atom].sum(), x, retain_graph=True)[0] for atom in (0, 1)]
    return [bool((gradient[1 - atom] != 0).any()) for atom, gradient in enumerate(gradients)]


def test_an_edge_linear_is_a_linear_map_of_three_inputs_side_by_side():
    layer = EdgeLinear(3, 2, 4).double()
    atoms, edges = torch.randn(5, 7, 3, dtype=torch.float64), torch.randn(6, 7, 2, dtype=torch.float64)
    edge_index = torch.randint(5, (2, 6))
    plain = torch.nn.Linear(8, 4).double()
    plain.load_state_dict(layer.state_dict())
    side_by_side = torch.cat([atoms[edge_index[0]], atoms[edge_index[1]], edges], dim=-1)
    close(layer(atoms, edges, edge_index), plain(side_by_side), 1e-12)


def test_sums_by_place():
    found = sum_at(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([2, 0, 2]), 4)
    assert found.tolist() == [[3, 4], [0, 0], [6, 8], [0, 0]]


# ---- released weights that do not fit ----

LOADED = ["matformer", "potnet", "potnet-infinite", "alignn", "alignn-batch", "cgcnn"]


@pytest.mark.parametrize("case", LOADED)
def test_released_weights_make_the_network_that_they_come_from(case):
    model = model_of(case)
    weights = released_weights(case, model)
    place = "state_dict" if case == "cgcnn" else "model"
    parallel = {f"module.{name}": value for name, value in weights.items()}
    for checkpoint in (weights, parallel, {place: weights, "epoch": 3}):
        found = MODULES[model_name(case)].from_released(checkpoint)
        assert type(found) is type(model)
        assert {name: value.tolist() for name, value in found.state_dict().items()} == {
            name: value.tolist() for name, value in model.state_dict().items()
        }


@pytest.mark.parametrize("case", LOADED)
def test_released_weights_that_do_not_fit_are_refused(case):
    load = MODULES[model_name(case)].from_released
    weights = released_weights(case, model_of(case))
    name = next(name for name in weights if name.endswith("bias") and name.count(".") > 2 and "bn_edges" not in name)
    for wrong, message in (
        ({n: v for n, v in weights.items() if n != name}, f"the weights lack '{name}'"),
        (weights | {"stranger.weight": torch.ones(1)}, "found the weight 'stranger.weight', which a released"),
        (weights | {name: torch.ones(99)}, rf"'{name}' has the shape \(99,\); required: "),
        ({}, "the weights are not those of a released"),
        ({"fc.weight": [1.0]}, "something else than tensors by name"),
    ):
        with pytest.raises(InputError, match=message):
            load(wrong)


@pytest.mark.parametrize(
    ("case", "name", "first", "last"),
    [
        ("matformer", "rbf.0.centers", 0.0, 8.0),
        ("alignn", "edge_embedding.0.centers", 0.0, 8.0),
        ("alignn", "angle_embedding.0.centers", -1.0, 1.0),
    ],
)
def test_centres_among_released_weights_must_be_those_of_the_network(case, name, first, last):
    load, weights = MODULES[case].from_released, released_weights(case, model_of(case))
    load(weights | {name: torch.linspace(first, last, 5)})
    with pytest.raises(
        InputError, match=f"the centres '{name}' run from {first - 1:g} to {last:g}; required: {first:g}"
    ):
        load(weights | {name: torch.linspace(first - 1, last, 5)})


def test_potnet_takes_the_range_of_its_centres_from_released_weights():
    weights = released_weights("potnet", model_of("potnet"))
    assert potnet.from_released(weights).edges[0].centers.tolist()[0] == -4
    found = potnet.from_released(weights | {"edge_embedding.0.centers": torch.linspace(-2.0, 5.0, 6)}).edges[0]
    assert (found.centers[0], found.centers[-1], found.width) == (-2, 5, pytest.approx(1.4))


def test_weights_of_an_old_torch_need_no_number_of_batches():
    weights = released_weights("cgcnn", model_of("cgcnn"))
    old = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(weights)
    assert cgcnn.from_released(old).state_dict().keys() == model_of("cgcnn").state_dict().keys()


def test_cgcnn_drops_channels_for_classes_alone():
    """The published dropout is a training option of classes; released weights of two outputs are of classes."""
    assert find_model("cgcnn").build(1).dropout.p == 0
    assert cgcnn.from_released(released_weights("cgcnn", model_of("cgcnn", outputs=1))).dropout.p == 0
    assert cgcnn.from_released(released_weights("cgcnn", model_of("cgcnn", outputs=2))).dropout.p == 0.5
    model, batch = model_of("cgcnn", dropout=0.5), by_hand("cgcnn", [(0, 1), (1, 0)], n_atoms=2)
    assert (model(batch) == model(batch)).all()
    for norm in (part for part in model.modules() if isinstance(part, torch.nn.BatchNorm1d)):
        norm.momentum = 0.0
    model.train()
    assert (model(batch) != model(batch)).any()


# ---- outputs and gradients ----


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_there_is_a_row_for_each_graph_and_a_column_for_each_output(case, dtype, crystals):
    batch = batch_of(case, crystals)
    for name, value in vars(batch).items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            setattr(batch, name, value.to(getattr(torch, dtype)))
    found = model_of(case, outputs=3).to(getattr(torch, dtype))(batch)
    assert found.shape == (3, 3)
    assert found.dtype == getattr(torch, dtype)
    assert found.isfinite().all()
    assert (found[0] - found[1]).abs().min() > 1e-5


@pytest.mark.parametrize("case", NAMES)
def test_gradients_reach_every_parameter(case, crystals):
    """Also those of biases before a batch normalisation, which takes them away again in training but not after it."""
    model, batch = model_of(case).train(), batch_of(case, crystals)
    model(batch).square().sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()} == set()
    model.zero_grad()
    model.eval()(batch).square().sum().backward()
    # The features of the last layer can be negative everywhere, and PotNet's relu then stops a channel.
    assert {name for name, p in model.named_parameters() if not p.grad.abs().max() > 1e-14} == set()


@pytest.mark.parametrize("case", NAMES)
def test_a_few_steps_lower_the_loss(case, crystals):
    batch, wanted = batch_of(case, crystals), torch.tensor([[1.0], [-1.0], [0.5]], dtype=torch.float64)
    model = model_of(case, outputs=1).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = (model(batch) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


# ---- what must not matter ----


@pytest.mark.parametrize("case", NAMES)
@settings(max_examples=8)
@given(crystal=crystals_without_ties(), seed=st.integers(0, 1000))
def test_a_rotated_shifted_and_permuted_crystal_is_the_same(case, crystal, seed):
    rng = np.random.default_rng(seed)
    rotation, order = Rotation.random(random_state=seed).as_matrix(), rng.permutation(len(crystal))
    moved = crystal.frac_coords[order] + rng.uniform(-1, 1, 3) + rng.integers(-2, 3, (len(crystal), 3))
    other = lg.Crystal(crystal.lattice @ rotation.T, moved, crystal.numbers[order])
    model = model_of(case)
    close(model(batch_of(case, [other])), model(batch_of(case, [crystal])))


def without_lattice(case):
    """The recipe of a case, without Matformer's edges along the vectors of the cell."""
    return lg.graph("matformer", lattice_edges=False) if case == "matformer" else GRAPHS[case]


@pytest.mark.parametrize("case", NAMES)
@settings(max_examples=8)
@given(crystal=crystals_without_ties(), change=st.sampled_from([(0, 1, 1), (1, 2, -1), (2, 0, 2), (1, 0, -1)]))
def test_another_cell_of_the_same_lattice_is_the_same(case, crystal, change):
    vector, by, times = change
    whole = np.eye(3)
    whole[vector, by] = times
    other = lg.Crystal(whole @ crystal.lattice, crystal.frac_coords @ np.linalg.inv(whole), crystal.numbers)
    model, spec = model_of(case), without_lattice(case)
    close(model(batch_of(case, [other], spec)), model(batch_of(case, [crystal], spec)))


# Graphs of a supercell are as those of the cell, atom by atom. The published graphs that count edges between an atom
# and its own images twice are not.
OF_SUPERCELLS = {
    "matformer": lg.graph("shell", max_neighbors=12),
    "potnet": lg.graph("shell", max_neighbors=12),
    "alignn": lg.graph("alignn-2026"),
    "cgcnn": lg.graph("cgcnn"),
    "cgcnn-pyg": lg.graph("mace"),
}


@pytest.mark.parametrize("case", OF_SUPERCELLS)
@settings(max_examples=8)
@given(crystal=crystals_without_ties(), repeats=st.sampled_from([(2, 1, 1), (1, 3, 1), (1, 2, 2)]))
def test_a_supercell_is_the_same(case, crystal, repeats):
    other = supercell(crystal, repeats)
    model, spec = model_of(case), OF_SUPERCELLS[case]
    close(model(batch_of(case, [other], spec)), model(batch_of(case, [crystal], spec)))


def supercell(crystal, repeats):
    steps = np.stack(np.meshgrid(*map(np.arange, repeats), indexing="ij"), axis=-1).reshape(-1, 3)
    frac = (crystal.frac_coords[None] + steps[:, None]).reshape(-1, 3) / repeats
    return lg.Crystal(crystal.lattice * np.array(repeats)[:, None], frac, np.tile(crystal.numbers, len(steps)))


@pytest.mark.parametrize("case", NAMES)
def test_a_batch_is_its_graphs_one_by_one(case, crystals):
    model = model_of(case)
    single = torch.cat([model(batch_of(case, [crystal])) for crystal in crystals])
    close(model(batch_of(case, crystals)), single, 1e-12)


@pytest.mark.parametrize("case", NAMES)
def test_lengths_matter(case, crystals):
    model = model_of(case)
    longer = [lg.Crystal(1.05 * c.lattice, c.frac_coords, c.numbers) for c in crystals]
    assert (model(batch_of(case, longer)) - model(batch_of(case, crystals))).abs().max() > 1e-5


def test_alignn_reads_angles(crystals):
    model, batch = model_of("alignn"), batch_of("alignn", crystals)
    turned = copy.copy(batch)
    turned.h = -batch.h
    assert (model(turned) - model(batch)).abs().max() > 1e-6


def test_potnet_reads_each_sum(crystals):
    model, batch = model_of("potnet-infinite"), batch_of("potnet-infinite", crystals)
    for column in range(3):
        other = copy.copy(batch)
        other.inf_edge_attr = batch.inf_edge_attr.clone()
        other.inf_edge_attr[:, column] *= 1.5
        assert (model(other) - model(batch)).abs().max() > 1e-8


# ---- small graphs ----


def by_hand(case, edges=(), n_atoms=1, graphs=None):
    """A batch with these edges, of features that are all random; angles of all edges that follow each other."""
    rng = torch.Generator().manual_seed(7)
    shape = {"generator": rng, "dtype": torch.float64}
    graphs = [0] * n_atoms if graphs is None else graphs
    edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T
    vectors = torch.randn(edge_index.shape[1], 3, **shape) * 3
    x = torch.rand(n_atoms, 92, **shape)
    pairs = [(a, b) for a, b in np.ndindex(n_atoms, n_atoms) if graphs[a] == graphs[b]]
    angles = [(a, b) for a, (_, end) in enumerate(edges) for b, (start, _) in enumerate(edges) if end == start]
    line_graph = torch.tensor(angles, dtype=torch.int64).reshape(-1, 2).T
    return SimpleNamespace(
        x=x,
        atom_features=x,
        edge_index=edge_index,
        edge_attr=vectors.norm(dim=1) if case.startswith("potnet") else vectors,
        r=vectors,
        line_graph=line_graph,
        h=torch.rand(line_graph.shape[1], **shape),
        inf_edge_index=torch.tensor(pairs).T,
        inf_edge_attr=torch.randn(len(pairs), 3, **shape),
        batch=torch.tensor(graphs),
        num_graphs=max(graphs) + 1,
    )


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("edges", "graphs"),
    [
        ([], [0]),
        ([], [0, 0, 0]),
        ([(0, 0)], [0]),
        ([(0, 0), (0, 0)], [0]),
        ([(1, 1), (1, 2), (2, 1)], [0, 1, 1, 2]),
    ],
    ids=["one atom, no edges", "no edges", "one edge", "one atom", "edges in one graph of three"],
)
def test_small_graphs(case, training, edges, graphs):
    model, batch = model_of(case).train(training), by_hand(case, edges, len(graphs), graphs)
    found = model(batch)
    assert found.shape == (batch.num_graphs, 2)
    assert found.isfinite().all()
    found.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    assert all(b.isfinite().all() for b in model.buffers())
    assert model.eval()(batch).isfinite().all()


@pytest.mark.parametrize("case", NAMES)
def test_a_graph_without_edges_is_the_same_beside_others(case):
    model = model_of(case)
    batch = by_hand(case, [(1, 1), (1, 2), (2, 1)], n_atoms=4, graphs=[0, 1, 1, 2])
    alone = by_hand(case, n_atoms=1)
    alone.x = alone.atom_features = batch.x[:1]
    alone.inf_edge_attr = batch.inf_edge_attr[:1]
    close(model(batch)[:1], model(alone), 1e-12)


# ---- options ----


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("matformer", {"conv_layers": 0}, "found conv_layers=0; required: a whole number from 1 on"),
        ("matformer", {"edge_features": 1}, "found edge_features=1; required: a whole number from 2 on"),
        ("matformer", {"node_layer_head": "4"}, "found node_layer_head='4'"),
        ("potnet", {"infinite": "yes"}, "found infinite='yes'; required: True or False"),
        ("potnet", {"potentials": [1.0]}, r"found potentials=\[1.0\]; required: three numbers"),
        ("potnet", {"potentials": [1.0, None, 2.0]}, r"found potentials\[1\]=None"),
        ("potnet", {"rbf_min": 2.0, "rbf_max": 2.0}, "found rbf_max=2.0; required: a finite number greater than 2"),
        ("alignn", {"norm": "bach"}, "unknown norm of ALIGNN: 'bach'; did you mean 'batch'"),
        ("alignn", {"gcn_layers": 0}, "found gcn_layers=0"),
        ("cgcnn", {"dropout": 1.0}, "found dropout=1.0; required: a finite number of 0 or more and less than 1"),
        ("cgcnn", {"step": 0}, "found step=0; required: a finite number greater than 0"),
        ("cgcnn", {"cutoff": 0.1}, "found cutoff=0.1; required: a finite number of 0.2 or more"),
        ("cgcnn", {"n_h": 0}, "found n_h=0"),
    ],
)
def test_wrong_hyperparameters_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        find_model(name).build(1, **options)


def test_potnet_with_sums_needs_a_batch_with_sums():
    batch = by_hand("potnet", [(0, 0)])
    del batch.inf_edge_attr
    with pytest.raises(InputError, match=r"needs sums; read with lazygraph.view\('potnet', sums=True\)"):
        model_of("potnet-infinite")(batch)


@pytest.mark.parametrize("case", NAMES)
def test_models_can_be_copied(case):
    model, batch = model_of(case), by_hand(case, [(0, 1), (1, 0)], n_atoms=2)
    expected = model(batch)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert (other(batch) == expected).all()


# ---- training by name ----


def test_the_two_cgcnns_have_names_of_their_own():
    assert type(find_model("cgcnn").build(1)) is cgcnn.Cgcnn
    assert type(find_model("cgcnn-pyg").build(1)) is cgcnn_pyg.CgcnnPyg


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Preset -> a dataset of prototypes."""
    folder, written = tmp_path_factory.mktemp("networks"), {}

    def write(preset):
        if preset not in written:
            written[preset] = folder / f"{preset}.lg"
            lg.write("prototypes:40?seed=1", written[preset], graph=preset, workers=1, progress=False)
        return written[preset]

    return write


@pytest.mark.slow
@pytest.mark.parametrize("case", NAMES)
def test_it_trains_and_predicts_by_name(case, datasets, tmp_path, capsys):
    preset = "alignn" if case == "alignn-batch" else find_model(model_name(case)).preset
    options = [
        text for name, value in CASES[case].items() for text in ("--model-option", f"{name}={str(value).lower()}")
    ]
    command = ["train", str(datasets(preset)), "--target", "density", "--model", model_name(case), *options]
    assert main([*command, "--n-epochs", "2", "-o", str(tmp_path / "run"), "--no-progress"]) == 0
    predictions = lg.predict(tmp_path / "run", "prototypes:5?seed=2", progress=False)
    assert len(predictions.rows) == 5
    assert np.isfinite([row.predicted for row in predictions.rows]).all()
    capsys.readouterr()


@pytest.mark.parametrize(("name", "preset"), [("alignn", "cgcnn"), ("alignn", "comformer")])
def test_graphs_of_another_recipe_are_refused_with_the_preset_that_helps(name, preset, datasets, tmp_path):
    options = lg.TrainOptions(target="density", model=name)
    with pytest.raises(RecipeMismatch, match=r"the view 'alignn' found graphs with no line graph .*--graph alignn"):
        lg.train(datasets(preset), options, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
