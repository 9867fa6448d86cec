"""The network ALIGNN, written from its paper, with the parameters of the released network.

Source: Choudhary and DeCost, "Atomistic Line Graph Neural Network for improved materials property predictions", npj
Comput. Mater. 7, 185 (2021), arXiv:2106.01829; the edge-gated convolution is that of Bresson and Laurent, "Residual
Gated Graph ConvNets", arXiv:1711.07553. The form of 2026, with layer normalisation, is that of the package alignn
2026.8.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import LayerNorm, Linear, Sequential, SiLU
from torch.nn.functional import silu

from lazygraph.errors import InputError
from lazygraph.registry import unknown_name
from lazygraph.training.models.edge_layers import sum_at
from lazygraph.training.models.radial import BatchNorm, GaussianBasis, mean_over_atoms
from lazygraph.training.models.released_weights import check_centers, cleaned, filled, layers_of, without
from lazygraph.training.models.sizes import check_sizes

__all__ = ["Alignn", "AlignnLayer", "EdgeGatedConvolution", "from_released"]

NORMS = {"layer": LayerNorm, "batch": BatchNorm}
LAST_CENTER = 8.0  # A
TINY = 1e-6  # added to the sum of the gates


class EdgeGatedConvolution(torch.nn.Module):
    """The edge-gated graph convolution, which updates the nodes and the edges of a graph.

    For an edge from node i to node j with the features e, all products elementwise::

        m_ij = A x_i + B x_j + C e_ij                         with biases, as U and V
        h_j = sum over i of sigmoid(m_ij) * V x_i / (sum over i of sigmoid(m_ij) + 1e-6)
        x_j <- x_j + silu(norm(U x_j + h_j))
        e_ij <- e_ij + silu(norm(m_ij))

    A node hears the nodes from which edges lead to it: it is in row 1 of ``edge_index``. In graphs of the nearest
    neighbours, an atom thus hears the atoms that have it among their nearest.

    Args:
        channels: C, of nodes and edges.
        norm: ``layer`` or ``batch``.
        last: whether nothing reads the edges after this layer. It then leaves them as they are, and has no
            normalisation of them.
    """

    def __init__(self, channels: int, norm: str, *, last: bool = False) -> None:
        super().__init__()
        self.source_gate, self.target_gate, self.edge_gate = (Linear(channels, channels) for _ in range(3))
        self.source_update, self.target_update = (Linear(channels, channels) for _ in range(2))
        self.node_norm = NORMS[norm](channels)
        self.edge_norm = None if last else NORMS[norm](channels)

    def forward(self, x: Tensor, edge_index: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Return new features of nodes (N, C) and edges (E, C)."""
        source, target = edge_index
        # index_select, whose gradient has one order of summation; that of [...] depends on the threads.
        gates = self.source_gate(x).index_select(0, source) + self.target_gate(x).index_select(0, target)
        gates = gates + self.edge_gate(edges)
        open_ = torch.sigmoid(gates)
        heard = sum_at(open_ * self.source_update(x).index_select(0, source), target, len(x))
        heard = heard / (sum_at(open_, target, len(x)) + TINY)
        x = x + silu(self.node_norm(self.target_update(x) + heard))
        return x, edges if self.edge_norm is None else edges + silu(self.edge_norm(gates))


class AlignnLayer(torch.nn.Module):
    """A convolution over the atoms and edges of a crystal, and one over its edges and their angles.

    Args:
        channels: number of channels of atoms, edges and angles.
        norm: ``layer`` or ``batch``.
        last: whether nothing reads the angles after this layer.
    """

    def __init__(self, channels: int, norm: str, *, last: bool = False) -> None:
        super().__init__()
        self.of_atoms = EdgeGatedConvolution(channels, norm)
        self.of_edges = EdgeGatedConvolution(channels, norm, last=last)

    def forward(
        self, x: Tensor, edge_index: Tensor, edges: Tensor, line_graph: Tensor, angles: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return new features of atoms (N, C), edges (E, C) and angles (T, C).

        ``line_graph`` (2, T) has the two edges of each angle, where the second edge starts where the first one ends.
        """
        x, edges = self.of_atoms(x, edge_index, edges)
        edges, angles = self.of_edges(edges, line_graph, angles)
        return x, edges, angles


class Alignn(torch.nn.Module):
    """The model ALIGNN: convolutions over a crystal graph and over its line graph, whose edges are angles.

    It reads the view ``alignn``, with the angles that it computes when it loads a graph. The default is the form of
    2026, with layer normalisation, for the preset ``alignn-2026``. The published form has ``norm="batch"``, for the
    preset ``alignn``. For a batch of B graphs, N atoms, E edges and T angles it uses ``atom_features`` (N, 92),
    ``edge_index`` (2, E), ``r`` (E, 3) vectors in A, ``line_graph`` (2, T) pairs of edges, ``h`` (T,) cosines,
    ``batch`` (N,) and ``num_graphs``.

    Args:
        outputs: number of values to predict per graph.
        norm: ``layer`` for layer normalisation, ``batch`` for batch normalisation.
        alignn_layers: number of layers that use angles.
        gcn_layers: number of layers after them that use edges alone.
        atom_input_features: number of columns of ``atom_features``.
        edge_input_features: number of Gaussians of lengths, with centres from 0 A to 8 A.
        triplet_input_features: number of Gaussians of cosines, with centres from -1 to 1.
        embedding_features: number of channels of the first layer of the embeddings of edges and angles.
        hidden_features: number of channels of atoms, edges and angles.

    Raises:
        InputError: ``norm`` is unknown; or a size is not a whole number of at least 1, or of at least 2 for Gaussians.

    Source: the paper, with the names of the released program, and the sizes of the paper: 4,025,729 parameters. The
    released network counts 4,026,753, with 1,024 of the normalisations of the last edges and the last angles, which
    nothing reads. The network of 2026 without forces has by default two layers of each kind, and 64 hidden channels.

    Example:
        >>> sum(parameter.numel() for parameter in Alignn().parameters())
        4025729
    """

    def __init__(
        self,
        outputs: int = 1,
        *,
        norm: str = "layer",
        alignn_layers: int = 4,
        gcn_layers: int = 4,
        atom_input_features: int = 92,
        edge_input_features: int = 80,
        triplet_input_features: int = 40,
        embedding_features: int = 64,
        hidden_features: int = 256,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise InputError(unknown_name("norm of ALIGNN:", norm, NORMS))
        check_sizes(
            alignn_layers=alignn_layers,
            gcn_layers=gcn_layers,
            atom_input_features=atom_input_features,
            embedding_features=embedding_features,
            hidden_features=hidden_features,
        )
        check_sizes(2, edge_input_features=edge_input_features, triplet_input_features=triplet_input_features)
        channels, inner = hidden_features, embedding_features
        self.atoms = _embedding(norm, atom_input_features, channels)
        lengths = GaussianBasis(0.0, LAST_CENTER, edge_input_features)
        self.edges = Sequential(lengths, *_embedding(norm, edge_input_features, inner, channels))
        cosines = GaussianBasis(-1.0, 1.0, triplet_input_features)
        self.angles = Sequential(cosines, *_embedding(norm, triplet_input_features, inner, channels))
        self.alignn_layers = torch.nn.ModuleList(
            AlignnLayer(channels, norm, last=n == alignn_layers - 1) for n in range(alignn_layers)
        )
        self.gcn_layers = torch.nn.ModuleList(
            EdgeGatedConvolution(channels, norm, last=n == gcn_layers - 1) for n in range(gcn_layers)
        )
        self.out = Linear(channels, outputs)

    def forward(self, batch: Any) -> Tensor:
        """Predict (B, outputs) for a PyG batch of B graphs."""
        x = self.atoms(batch.atom_features)
        edges, angles = self.edges(batch.r.norm(dim=-1)), self.angles(batch.h)
        for layer in self.alignn_layers:
            x, edges, angles = layer(x, batch.edge_index, edges, batch.line_graph, angles)
        for layer in self.gcn_layers:
            x, edges = layer(x, batch.edge_index, edges)
        predicted: Tensor = self.out(mean_over_atoms(x, batch))
        return predicted


def _embedding(norm: str, *channels: int) -> Sequential:
    """A perceptron with a normalisation in each layer."""
    layers = [
        part
        for inputs, outputs in pairwise(channels)
        for part in (Linear(inputs, outputs), NORMS[norm](outputs), SiLU())
    ]
    return Sequential(*layers)


CONVOLUTION = {
    "source_gate": "src_gate",
    "target_gate": "dst_gate",
    "edge_gate": "edge_gate",
    "source_update": "dst_update",
    "target_update": "src_update",
    "node_norm": "bn_nodes",
    "edge_norm": "bn_edges",
}
"""The parts of a convolution: name here -> released name. The released names of the updates are the other way round."""

INNER = {"of_atoms": "node_update", "of_edges": "edge_update"}
"""The parts of a layer with angles: name here -> released name."""

WHOLE = {
    "atoms.0": "atom_embedding.layer.0",
    "atoms.1": "atom_embedding.layer.1",
    **{
        f"{here}.{first + place}": f"{there}.{1 + first // 3}.layer.{place - 1}"
        for here, there in (("edges", "edge_embedding"), ("angles", "angle_embedding"))
        for first in (0, 3)
        for place in (1, 2)
    },
    "out": "fc",
}
"""The parts outside the layers: name here -> released name."""


def from_released(state_dict: Mapping[str, Any]) -> Alignn:
    """Build an ALIGNN from weights of the authors' program, with the sizes of the weights.

    The weights of the published network have batch normalisations, and those of the network of 2026 have layer
    normalisations. The network gives the outputs of the released one for the graphs of its preset: ``alignn`` with
    ``ties="reference"``, the published rule for edges of equal length, or ``alignn-2026``. Of the network of 2026, it
    has the property of a crystal (``out``), and no forces.

    Args:
        state_dict: the released weights by name, or a checkpoint that has them under ``model``.

    Raises:
        InputError: weights are missing, unknown, or of sizes that do not fit together. That includes the released
            variants with further features or outputs, which are not here.
    """
    given = cleaned(state_dict, "ALIGNN")
    check_centers(given, "edge_embedding.0.centers", 0.0, LAST_CENTER)
    check_centers(given, "angle_embedding.0.centers", -1.0, 1.0)
    last, last_gcn = (layers_of(given, kind) - 1 for kind in ("alignn_layers", "gcn_layers"))
    norms = rf"(alignn_layers\.{last}\.edge_update|gcn_layers\.{last_gcn})\.bn_edges\..*"
    unread = rf"(edge|angle)_embedding\.0\.centers|_species_table|{norms}"
    return filled(_of_sizes, without(given, unread), _released, "ALIGNN")


def _of_sizes(weights: Mapping[str, Tensor]) -> Alignn:
    channels, features = weights["atom_embedding.layer.0.weight"].shape
    inner, lengths = weights["edge_embedding.1.layer.0.weight"].shape
    return Alignn(
        len(weights["fc.weight"]),
        norm="batch" if "atom_embedding.layer.1.running_mean" in weights else "layer",
        alignn_layers=layers_of(weights, "alignn_layers"),
        gcn_layers=layers_of(weights, "gcn_layers"),
        atom_input_features=features,
        edge_input_features=lengths,
        triplet_input_features=weights["angle_embedding.1.layer.0.weight"].shape[1],
        embedding_features=inner,
        hidden_features=channels,
    )


def _released(name: str) -> str:
    part, _, kind = name.rpartition(".")
    if part.startswith("alignn_layers."):
        _, layer, inner, of_convolution = part.split(".")
        return f"alignn_layers.{layer}.{INNER[inner]}.{CONVOLUTION[of_convolution]}.{kind}"
    if part.startswith("gcn_layers."):
        _, layer, of_convolution = part.split(".")
        return f"gcn_layers.{layer}.{CONVOLUTION[of_convolution]}.{kind}"
    return f"{WHOLE[part]}.{kind}"
