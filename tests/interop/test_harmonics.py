"""Spherical harmonics and tensor products, which eComFormer has written out, are those of e3nn."""

from __future__ import annotations

import mace.tools  # noqa: F401  # e3nn 0.4.4 cannot be imported before mace makes torch.load trust every file
import numpy as np
import torch
from e3nn import o3

from lazygraph.training.models.comformer import EComformer, EquivariantUpdate
from lazygraph.training.models.comformer_weights import comformer_state_dict
from lazygraph.training.models.radial import spherical_harmonics


def test_harmonics_are_those_of_e3nn():
    vectors = torch.tensor(np.random.default_rng(4).normal(size=(20, 3)))
    # e3nn's polar axis is y: its (x, y, z) are our (y, z, x).
    theirs = o3.spherical_harmonics([0, 1, 2], vectors[:, [1, 2, 0]], normalize=True, normalization="component")
    assert torch.allclose(spherical_harmonics(vectors), theirs, atol=1e-6)


def test_the_two_products_are_fully_connected_tensor_products_of_e3nn():
    torch.manual_seed(0)
    scalars, tensors, n_edges = 5, 3, 12
    high = f"{scalars}x0e + {tensors}x1o + {tensors}x2e"
    layer = EquivariantUpdate(4, scalars, tensors).double()
    edge_index = torch.stack(
        [torch.arange(n_edges), torch.arange(n_edges).flip(0)]
    )  # a neighbour each: means are values
    harmonics = spherical_harmonics(torch.randn(n_edges, 3, dtype=torch.float64))

    def theirs(inputs, outputs, values, weights):
        product = o3.FullyConnectedTensorProduct(inputs, "1x0e + 1x1o + 1x2e", outputs, shared_weights=False).double()
        return product(values[edge_index[1]], harmonics, weights), product

    def in_their_order(product, weights):
        """Weights (E, outputs, inputs) of each path, as they have them: a path after the other, inputs first."""
        ins = torch.tensor([0, scalars, scalars + tensors, scalars + 2 * tensors])
        parts = []
        for path in product.instructions:
            rows = slice(ins[path.i_out], ins[path.i_out + 1])
            columns = slice(ins[path.i_in1], ins[path.i_in1 + 1])
            parts.append(weights[:, rows, columns].transpose(1, 2).flatten(1))
        return torch.cat(parts, dim=1)

    values = torch.randn(n_edges, scalars, dtype=torch.float64)
    weights = torch.randn(n_edges, scalars + 2 * tensors, scalars, dtype=torch.float64)
    _, product = theirs(f"{scalars}x0e", high, values, torch.zeros(n_edges, weights[0].numel()).double())
    expected, _ = theirs(f"{scalars}x0e", high, values, in_their_order(product, weights))
    found = layer.raised(values, edge_index, weights.flatten(1), harmonics)
    assert torch.allclose(found, expected, atol=1e-6)

    values = torch.randn(n_edges, scalars + 8 * tensors, dtype=torch.float64)
    weights = torch.randn(n_edges, scalars, scalars + 2 * tensors, dtype=torch.float64)
    _, product = theirs(high, f"{scalars}x0e", values, torch.zeros(n_edges, weights[0].numel()).double())
    expected, _ = theirs(high, f"{scalars}x0e", values, in_their_order(product, weights))
    assert torch.allclose(layer.lowered(values, edge_index, weights.flatten(1), harmonics), expected, atol=1e-6)


def test_released_weights_of_both_products_have_the_order_of_e3nn():
    torch.manual_seed(1)
    scalars, tensors, n_edges = 5, 3, 12
    high = f"{scalars}x0e + {tensors}x1o + {tensors}x2e"
    network = EComformer(hidden_channels=4, num_rbf=3, scalar_channels=scalars, tensor_channels=tensors).double()
    released = comformer_state_dict(network)
    edge_index = torch.stack([torch.arange(n_edges), torch.arange(n_edges).flip(0)])
    harmonics = spherical_harmonics(torch.randn(n_edges, 3, dtype=torch.float64))
    edges = torch.rand(n_edges, 4, dtype=torch.float64)

    def theirs(number, inputs, outputs, values):
        product = o3.FullyConnectedTensorProduct(inputs, "1x0e + 1x1o + 1x2e", outputs, shared_weights=False).double()
        part = f"equi_update.nlayer_{number}.fc"
        hidden = torch.nn.functional.softplus(
            torch.nn.functional.linear(edges, released[f"{part}.0.weight"], released[f"{part}.0.bias"])
        )
        weights = torch.nn.functional.linear(hidden, released[f"{part}.2.weight"], released[f"{part}.2.bias"])
        return product(values[edge_index[1]], harmonics, weights)

    update = network.update
    values = torch.randn(n_edges, scalars, dtype=torch.float64)
    found = update.raised(values, edge_index, update.first(edges), harmonics)
    assert torch.allclose(found, theirs(1, f"{scalars}x0e", high, values), atol=1e-6)
    values = torch.randn(n_edges, scalars + 8 * tensors, dtype=torch.float64)
    found = update.lowered(values, edge_index, update.second(edges), harmonics)
    assert torch.allclose(found, theirs(2, high, f"{scalars}x0e", values), atol=1e-6)
