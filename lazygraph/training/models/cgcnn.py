"""The network CGCNN as published, written from its paper, with the parameters of the released network.

Source: Xie and Grossman, "Crystal Graph Convolutional Neural Networks for an Accurate and Interpretable Prediction of
Material Properties", Phys. Rev. Lett. 120, 145301 (2018), arXiv:1710.10324. The normalisations and the widths of the
layers come from the authors' own program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Dropout, Linear
from torch.nn.functional import softplus

from lazygraph.errors import InputError
from lazygraph.training.models.edge_layers import EdgeLinear, sum_at
from lazygraph.training.models.radial import BatchNorm, GaussianBasis, mean_over_atoms
from lazygraph.training.models.released_weights import cleaned, filled, layers_of
from lazygraph.training.models.sizes import check_sizes
from lazygraph.training.option_types import real_number

__all__ = ["Cgcnn", "CgcnnLayer", "from_released"]

STEP = 0.2  # A


class CgcnnLayer(torch.nn.Module):
    """The crystal graph convolution: gated messages from the neighbours of an atom.

    For an edge from atom i to its neighbour j, with | for features side by side, and all products elementwise::

        f | s = BN(linear(x_i | x_j | e_ij))                  2C channels, normalised over all edges
        x_i <- softplus(x_i + BN(sum over j of sigmoid(f) * softplus(s)))

    An atom in row 0 of ``edge_index`` hears its neighbours in row 1.

    Args:
        channels: C, of atoms.
        edge_channels: number of channels of edges.
    """

    def __init__(self, channels: int, edge_channels: int) -> None:
        super().__init__()
        self.gates = EdgeLinear(channels, edge_channels, 2 * channels)
        self.gate_norm = BatchNorm(2 * channels)
        self.norm = BatchNorm(channels)

    def forward(self, x: Tensor, edge_index: Tensor, edges: Tensor) -> Tensor:
        """Return new atom features (N, C) from atom features (N, C) and edge features (E, channels)."""
        filtered, core = self.gate_norm(self.gates(x, edges, edge_index)).chunk(2, dim=-1)
        messages = torch.sigmoid(filtered) * softplus(core)
        return softplus(x + self.norm(sum_at(messages, edge_index[0], len(x))))


class Cgcnn(torch.nn.Module):
    """A crystal graph convolutional neural network, as published.

    It reads the view ``matformer`` of graphs of any recipe, and was published with the preset ``cgcnn``. For a batch of
    B graphs, N atoms and E edges it uses ``x`` (N, 92), ``edge_index`` (2, E) with the centre in row 0, ``edge_attr``
    (E, 3) vectors in A, ``batch`` (N,) and ``num_graphs``.

    An atom with fewer neighbours than the recipe asks for has fewer messages. The released program gives it messages
    from the first atom of the crystal instead, at 1 A beyond the cutoff, so that its predictions for such crystals
    depend on the order of the atoms.

    Args:
        outputs: number of values to predict per graph.
        atom_features: number of columns of ``x``.
        atom_fea_len: C, number of channels per atom.
        n_conv: number of convolutions.
        h_fea_len: number of channels after pooling.
        n_h: number of hidden layers after pooling.
        cutoff: centre of the last Gaussian of lengths, A. The first one is at 0 A.
        step: distance between the centres of the Gaussians, and their width, A.
        dropout: share of the channels after the first hidden layer that training sets to 0. The released program has
            0.5 for classes, and none for regression.

    Raises:
        InputError: a size, a length or ``dropout`` is invalid.

    Source: the paper, with the names and defaults of the released program: 80,833 parameters.

    Example:
        >>> sum(parameter.numel() for parameter in Cgcnn().parameters())
        80833
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
        step: float = STEP,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(atom_features=atom_features, atom_fea_len=atom_fea_len, n_conv=n_conv, h_fea_len=h_fea_len, n_h=n_h)
        step = real_number("step", step, above=0.0)
        centers = round(real_number("cutoff", cutoff, least=step) / step) + 1
        self.lengths = GaussianBasis(0.0, step * (centers - 1), centers, width=step)
        self.embedding = Linear(atom_features, atom_fea_len)
        self.convs = torch.nn.ModuleList(CgcnnLayer(atom_fea_len, centers) for _ in range(n_conv))
        widths = [atom_fea_len] + [h_fea_len] * n_h
        self.hidden = torch.nn.ModuleList(map(Linear, widths, widths[1:]))
        self.dropout = Dropout(real_number("dropout", dropout, below=1.0))
        self.out = Linear(h_fea_len, outputs)

    def forward(self, batch: Any) -> Tensor:
        """Predict (B, outputs) for a PyG batch of B graphs."""
        x: Tensor = self.embedding(batch.x)
        edges = self.lengths(batch.edge_attr.norm(dim=-1))
        for conv in self.convs:
            x = conv(x, batch.edge_index, edges)
        first, *others = self.hidden
        x = self.dropout(softplus(first(softplus(mean_over_atoms(x, batch)))))
        for layer in others:
            x = softplus(layer(x))
        predicted: Tensor = self.out(x)
        return predicted


PARTS = {"gates": "fc_full", "gate_norm": "bn1", "norm": "bn2"}
"""The parts of a convolution: name here -> released name."""

WHOLE = {"embedding": "embedding", "hidden.0": "conv_to_fc", "out": "fc_out"}
"""The parts outside the convolutions, but for further hidden layers: name here -> released name."""


def from_released(state_dict: Mapping[str, Any], *, step: float = STEP) -> Cgcnn:
    """Build a CGCNN from weights of the authors' program, with the sizes of the weights.

    For graphs of the preset ``cgcnn`` in which every atom has all its neighbours, the network gives the outputs of the
    released one: normalised targets, or for classes the logits, whose log-softmax the released network returns. It has
    the dropout 0.5 if the weights are those of two classes.

    Args:
        state_dict: the released weights by name, or a checkpoint that has them under ``state_dict``.
        step: distance between the centres of the Gaussians, A, in the options of the run. It is not among the weights.

    Raises:
        InputError: weights are missing, unknown, or of sizes that do not fit together.
    """

    def of_sizes(weights: Mapping[str, Tensor]) -> Cgcnn:
        channels, features = weights["embedding.weight"].shape
        outputs, hidden = weights["fc_out.weight"].shape
        centers = weights["convs.0.fc_full.weight"].shape[1] - 2 * channels
        if centers < 2:
            msg = f"the weight 'convs.0.fc_full.weight' leaves {centers} channels to the edges; required: at least 2"
            raise InputError(msg)
        return Cgcnn(
            outputs,
            atom_features=features,
            atom_fea_len=channels,
            n_conv=layers_of(weights, "convs"),
            h_fea_len=hidden,
            n_h=1 + layers_of(weights, "fcs"),
            cutoff=step * (centers - 1),
            step=step,
            dropout=0.5 if outputs == 2 else 0.0,
        )

    return filled(of_sizes, cleaned(state_dict, "CGCNN", "state_dict"), _released, "CGCNN")


def _released(name: str) -> str:
    part, _, kind = name.rpartition(".")
    if part.startswith("convs."):
        _, layer, inner = part.split(".")
        return f"convs.{layer}.{PARTS[inner]}.{kind}"
    if part.startswith("hidden.") and part != "hidden.0":
        return f"fcs.{int(part.removeprefix('hidden.')) - 1}.{kind}"
    return f"{WHOLE[part]}.{kind}"
