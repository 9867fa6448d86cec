"""ComFormer with released weights: names, sizes, orientation, and the functions themselves, written as plain loops."""

from __future__ import annotations

import hashlib
import math
from types import SimpleNamespace

import pytest
import torch

from lazygraph.errors import InputError
from lazygraph.training.models import find_model
from lazygraph.training.models.comformer import EComformer, IComformer
from lazygraph.training.models.comformer_weights import comformer_state_dict, load_comformer

CHANNELS, CENTRES, FEATURES = 6, 5, 4


def linear(weights, name, x):
    y = weights[f"{name}.weight"] @ x
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def normed(weights, name, x):
    mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    return weights[f"{name}.weight"] * (x - mean) / (variance + 1e-5).sqrt() + weights[f"{name}.bias"]


def softplus(x):
    return torch.log1p(x.exp())


def silu(x):
    return x / (1 + (-x).exp())


def perceptron(weights, name, x):
    return linear(weights, f"{name}.2", silu(linear(weights, f"{name}.0", x)))


def gaussians(start, stop, x):
    spacing = (stop - start) / (CENTRES - 1)
    return torch.stack([torch.exp(-((x - start - k * spacing) ** 2) / spacing) for k in range(CENTRES)])


def of_length(weights, vector):
    return softplus(linear(weights, "rbf.1", gaussians(-4.0, 0.0, -0.75 / vector.norm())))


def message(weights, layer, query, keys, values):
    score = query * perceptron(weights, f"{layer}.key_update", torch.cat(keys)) / math.sqrt(CHANNELS)
    gate = 1 / (1 + (-normed(weights, f"{layer}.bn_att", score)).exp())
    return gate * perceptron(weights, f"{layer}.lin_msg_update", torch.cat(values))


def node_layer(weights, layer, x, edge_index, edges):
    """Each edge (u, v) tells v about u, as in the authors' program."""
    total = [torch.zeros(CHANNELS, dtype=torch.float64) for _ in x]
    for n, (u, v) in enumerate(edge_index.T.tolist()):
        third = linear(weights, f"{layer}.lin_edge", edges[n])
        keys = [linear(weights, f"{layer}.lin_key", x[atom]) for atom in (v, u)]
        values = [linear(weights, f"{layer}.lin_value", x[atom]) for atom in (v, u)]
        query = linear(weights, f"{layer}.lin_query", x[v])
        total[v] = total[v] + message(weights, layer, query, [*keys, third], [*values, third])
    out = []
    for atom, features in enumerate(x):
        added = normed(weights, f"{layer}.bn", linear(weights, f"{layer}.lin_concate", total[atom]))
        out.append(softplus(features + added))
    return out


def edge_layer(weights, edges, vectors, lattices):
    layer, out = "edge_update_layer", []
    for edge, vector, lattice in zip(edges, vectors, lattices, strict=True):
        total = torch.zeros(CHANNELS, dtype=torch.float64)
        for m in range(3):
            length = of_length(weights, lattice[m])
            cosine = lattice[m] @ vector / lattice[m].norm() / vector.norm()
            angle = softplus(linear(weights, "rbf_angle.1", gaussians(-1.0, 1.0, cosine)))
            third = linear(weights, f"{layer}.lin_edge", angle)
            keys = [linear(weights, f"{layer}.lin_key", edge), linear(weights, f"{layer}.lin_key_e{m + 1}", length)]
            values = [
                linear(weights, f"{layer}.lin_value", edge),
                linear(weights, f"{layer}.lin_value_e{m + 1}", length),
            ]
            query = linear(weights, f"{layer}.lin_query", edge)
            told = message(weights, layer, query, [*keys, third], [*values, third])
            total = total + linear(weights, f"{layer}.lin_concate", told)
        out.append(softplus(edge + normed(weights, f"{layer}.bn", total)))
    return out


def icomformer(weights, batch, n_layers):
    x = [linear(weights, "atom_embedding", features) for features in batch.x]
    edges = [of_length(weights, vector) for vector in batch.edge_attr]
    x = node_layer(weights, "att_layers.0", x, batch.edge_index, edges)
    edges = edge_layer(weights, edges, batch.edge_attr, batch.edge_nei)
    for n in range(1, n_layers):
        x = node_layer(weights, f"att_layers.{n}", x, batch.edge_index, edges)
    rows = []
    for graph in range(batch.num_graphs):
        atoms = [features for features, of in zip(x, batch.batch.tolist(), strict=True) if of == graph]
        rows.append(linear(weights, "fc_out", silu(linear(weights, "fc.0", sum(atoms) / len(atoms)))))
    return torch.stack(rows)


def both_ways(pairs, graphs, seed=0):
    """A batch of graphs that have every edge in both directions, as ComFormer's."""
    rng = torch.Generator().manual_seed(seed)
    shape = {"generator": rng, "dtype": torch.float64}
    vectors = torch.randn(len(pairs), 3, **shape) * 2
    edge_index = torch.tensor([*pairs, *((v, u) for u, v in pairs)]).T
    batch = torch.tensor(graphs)
    lattices = torch.randn(max(graphs) + 1, 3, 3, **shape) * 4
    return SimpleNamespace(
        x=torch.rand(len(graphs), FEATURES, **shape),
        edge_index=edge_index,
        edge_attr=torch.cat([vectors, -vectors]),
        edge_nei=lattices[batch[edge_index[0]]],
        batch=batch,
        num_graphs=max(graphs) + 1,
    )


BATCH = both_ways([(0, 1), (0, 1), (1, 2), (0, 0), (3, 3), (3, 4)], [0, 0, 0, 1, 1])


def small(kind, seed=3, **options):
    """A small network whose normalisations do something."""
    torch.manual_seed(seed)
    network = kind(hidden_channels=CHANNELS, num_rbf=CENTRES, node_features=FEATURES, **options)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.2, 1.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    return network.double().eval()


def shapes(network):
    """A hash of the shapes of all parameters, sorted, without their names."""
    listed = sorted(tuple(parameter.shape) for parameter in network.parameters())
    return hashlib.sha256(repr(listed).encode()).hexdigest()[:16]


@pytest.mark.parametrize("n_layers", [1, 4])
def test_icomformer_is_the_published_network_in_plain_loops(n_layers):
    network = small(IComformer, outputs=2, num_layers=n_layers)
    expected = icomformer(comformer_state_dict(network), BATCH, n_layers)
    torch.testing.assert_close(network(BATCH), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "count", "digest"),
    [
        ("icomformer", 4_892_417, "b552abb359fe05ef"),
        ("ecomformer-half", 5_583_809, "085a2464b29a0659"),
        ("ecomformer", 12_459_137, "6ff34679d90cc87f"),
    ],
)
def test_parameters_are_those_of_the_published_networks(name, count, digest):
    network = find_model(name).build(1)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert shapes(network) == digest


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (IComformer, {"num_layers": 3, "outputs": 2}),
        (EComformer, {"num_layers": 2, "scalar_channels": 5, "tensor_channels": 3}),
    ],
)
@pytest.mark.parametrize("form", ["plain", "wrapped", "distributed"])
def test_weights_come_back(kind, options, form):
    network = small(kind, **options)
    released = comformer_state_dict(network)
    if form == "wrapped":
        released = {"model": released}
    if form == "distributed":
        released = {f"module.{name}": value for name, value in released.items()}
    loaded = load_comformer(released).eval()
    assert type(loaded) is kind
    assert (loaded(BATCH) == network(BATCH)).all()


def test_parameters_that_the_released_network_never_uses_may_be_there():
    released = comformer_state_dict(small(IComformer))
    released |= {
        "edge_update_layer.lemb.weight": torch.zeros(3, 32),
        "edge_update_layer.lin_edge_len.weight": torch.zeros(CHANNELS, CHANNELS + 32),
        "rbf.0.centers": torch.linspace(-4, 0, CENTRES),
        "rbf_angle.0.centers": torch.linspace(-1, 1, CENTRES),
    }
    assert isinstance(load_comformer(released), IComformer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("att_layers.1.bn.weight"), r"lack 'att_layers.1.bn.weight' \(1 of \d+ are missing\)"),
        (lambda w: w.update({"att_layers.0.extra": torch.zeros(1)}), "found the weight 'att_layers.0.extra'"),
        (lambda w: w.update({"fc.0.bias": torch.zeros(1)}), r"'fc.0.bias' has the shape \(1,\); required: \(6,\)"),
        (lambda w: w.pop("fc_out.weight"), "not those of a released ComFormer: 'fc_out.weight'"),
        (lambda w: w.update({"fc.0.bias": 3}), "something else than tensors by name"),
    ],
)
def test_other_weights_are_refused(change, message):
    released = comformer_state_dict(small(IComformer))
    change(released)
    with pytest.raises(InputError, match=message):
        load_comformer(released)


def test_the_initialisation_is_the_published_one():
    """Pre-activations of the first node-wise layer deviate by 0.145, as the authors' program gives for its defaults."""
    torch.manual_seed(0)
    network = IComformer()
    layer = network.layers[0].attention
    x = network.atoms((torch.rand(200, 92) < 0.1).float())
    edges = network.embed(torch.randn(4000, 3) * 2.5)
    u, v = torch.randint(200, (2, 4000))
    parts = layer.of_first(x)[u] + layer.projected(1, x, layer.key, layer.value)[v] + layer.of_third(edges)
    assert 0.08 < parts.std().item() < 0.22
