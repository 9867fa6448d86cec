"""A variant of CGCNN, built on PyG's crystal graph convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear
from torch.nn.functional import softplus
from torch_geometric.nn import CGConv

from lazygraph.training.models.radial import BatchNorm, GaussianBasis, mean_over_atoms

__all__ = ["CgcnnPyg"]


class CgcnnPyg(torch.nn.Module):
    """A crystal graph convolutional neural network of PyG's ``CGConv``.

    It reads the view ``matformer`` of graphs of any recipe, and was published with ``cgcnn``. For a batch of B graphs,
    N atoms and E edges it uses ``x`` (N, 92), ``edge_index`` (2, E) with the centre in row 0, ``edge_attr`` (E, 3)
    vectors in A, ``batch`` (N,) and ``num_graphs``.

    Args:
        outputs: number of values to predict per graph.
        atom_features: number of columns of ``x``.
        atom_fea_len: number of channels per atom.
        n_conv: number of convolutions.
        h_fea_len: number of channels after pooling.
        n_h: number of hidden layers after pooling.
        cutoff: centre of the last Gaussian of distances, A.
        step: distance between the centres of the Gaussians, and their width, A.

    Source: Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), with the names and defaults of their code. PyG's
    ``CGConv`` has one batch normalisation, of the sum over neighbours. The published network, which is ``cgcnn``, has
    another one within the gates.
    """

    def __init__(
        self,
        outputs: int = 1,
        *,
        atom_features: int = 92,
        atom_fea_len: int = 64,
        n_conv: int = 3,
        h_fea_len: int = 128,
        n_h: int = 1,
        cutoff: float = 8.0,
        step: float = 0.2,
    ) -> None:
        super().__init__()
        centers = round(cutoff / step) + 1
        self.gaussians = GaussianBasis(0.0, step * (centers - 1), centers, width=step)
        self.embedding = Linear(atom_features, atom_fea_len)
        self.convs = torch.nn.ModuleList(_convolution(atom_fea_len, centers) for _ in range(n_conv))
        widths = [atom_fea_len] + [h_fea_len] * n_h
        self.hidden = torch.nn.ModuleList(map(Linear, widths, widths[1:]))
        self.out = Linear(widths[-1], outputs)

    def forward(self, batch: Any) -> Tensor:
        """Predict (B, outputs) for a PyG batch of B graphs."""
        x: Tensor = self.embedding(batch.x)
        edges = self.gaussians(batch.edge_attr.norm(dim=-1))
        for conv in self.convs:
            x = softplus(conv(x, batch.edge_index, edges))
        x = softplus(mean_over_atoms(x, batch))
        for layer in self.hidden:
            x = softplus(layer(x))
        predicted: Tensor = self.out(x)
        return predicted


def _convolution(channels: int, edge_channels: int) -> torch.nn.Module:
    # Edges to the nearest neighbours have one direction: the centre, in row 0, sums over its neighbours, in row 1. The
    # default of PyG is the other way round.
    conv: torch.nn.Module = CGConv(channels, dim=edge_channels, batch_norm=True, flow="target_to_source")
    conv.bn = BatchNorm(channels)
    return conv
