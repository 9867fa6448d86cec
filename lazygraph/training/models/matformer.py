"""The network Matformer, written from its paper, with the parameters of the released network.

Source: Yan, Liu, Lin and Ji, "Periodic Graph Transformers for Crystal Material Property Prediction", NeurIPS 2022,
arXiv:2209.11807. The paper does not state the widths of the layers, the skip connection and the normalisations. These
facts come from the authors' own program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import LayerNorm, Linear, Sequential, SiLU, Softplus
from torch.nn.functional import silu

from lazygraph.training.models.edge_layers import EdgeLinear, sum_at
from lazygraph.training.models.radial import BatchNorm, GaussianBasis, mean_over_atoms
from lazygraph.training.models.released_weights import check_centers, cleaned, filled, layers_of, without
from lazygraph.training.models.sizes import check_sizes

__all__ = ["Matformer", "MatformerLayer", "from_released"]

LAST_CENTER = 8.0  # A


class MatformerLayer(torch.nn.Module):
    """The attention of an atom over its neighbours, which has no softmax.

    For an edge from atom i to its neighbour j with the features e, for each of H heads of C channels, with all products
    elementwise and | for features side by side::

        k = k_i | k_j | W e                       v = v_i | v_j | W e
        message = LN(U (sigmoid(LN(q_i | q_i | q_i) * k / sqrt(3 C)) * (V v)))      U is (C, 3C), V is (3C, 3C)
        x_i <- silu(BN(linear(sum over j of messages of all heads))) + linear(x_i)

    q, k and v are linear in the features of an atom. The first LN is that of the product with k. All heads share U, V
    and both LN. An atom in row 0 of ``edge_index`` hears its neighbours in row 1; the released network sums at row 1.
    Graphs of the preset ``matformer`` have every edge in both directions, for which both are the same.

    Args:
        channels: C, of atoms, of edges, and of each head.
        heads: H.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.channels, self.heads = channels, heads
        self.query, self.key, self.value = (Linear(channels, heads * channels) for _ in range(3))
        self.edge = Linear(channels, heads * channels, bias=False)
        self.score_norm = LayerNorm(3 * channels)
        self.update = EdgeLinear(channels, channels, 3 * channels)
        self.message = Sequential(Linear(3 * channels, channels), LayerNorm(channels))
        self.merge = Linear(heads * channels, channels)
        self.norm = BatchNorm(channels)
        self.skip = Linear(channels, channels)

    def forward(self, x: Tensor, edge_index: Tensor, edges: Tensor) -> Tensor:
        """Return new atom features (N, C) from atom features (N, C) and edge features (E, C)."""
        query, key, value, edge = (
            of(features).view(-1, self.heads, self.channels)
            for of, features in ((self.query, x), (self.key, x), (self.value, x), (self.edge, edges))
        )
        center, neighbor = edge_index
        # index_select, whose gradient has one order of summation; that of [...] depends on the threads.
        query = (query / math.sqrt(3 * self.channels)).index_select(0, center)
        keys = [key.index_select(0, center), key.index_select(0, neighbor), edge]
        scores = torch.cat([query * each for each in keys], dim=-1)
        gate = torch.sigmoid(self.score_norm(scores))
        messages = self.message(gate * self.update(value, edge, edge_index))
        total = sum_at(messages.flatten(1), center, len(x))
        updated: Tensor = silu(self.norm(self.merge(total))) + self.skip(x)
        return updated


class Matformer(torch.nn.Module):
    """The model Matformer: a transformer over the atoms of a crystal, which uses lengths of edges alone.

    The edges between an atom and its own images tell it the lengths of lattice vectors. It reads the view ``matformer``
    of graphs of any recipe, and was published with the preset ``matformer``. For a batch of B graphs, N atoms and E
    edges it uses ``x`` (N, 92), ``edge_index`` (2, E) with the centre in row 0, ``edge_attr`` (E, 3) vectors in A,
    ``batch`` (N,) and ``num_graphs``.

    Args:
        outputs: number of values to predict per graph.
        atom_input_features: number of columns of ``x``.
        conv_layers: number of layers.
        edge_features: number of Gaussians of lengths, with centres from 0 A to 8 A.
        node_features: number of channels of atoms and edges.
        fc_features: number of channels after pooling.
        node_layer_head: number of heads.

    Raises:
        InputError: a size is not a whole number of at least 1, or of at least 2 for ``edge_features``.

    Source: the paper, with the names and defaults of the released program: 2,782,849 parameters. The released network
    counts 2,880,641, with 97,792 of layers for angles that it never calls.

    Example:
        >>> sum(parameter.numel() for parameter in Matformer().parameters())
        2782849
    """

    def __init__(
        self,
        outputs: int = 1,
        *,
        atom_input_features: int = 92,
        conv_layers: int = 5,
        edge_features: int = 128,
        node_features: int = 128,
        fc_features: int = 128,
        node_layer_head: int = 4,
    ) -> None:
        super().__init__()
        check_sizes(
            atom_input_features=atom_input_features,
            conv_layers=conv_layers,
            node_features=node_features,
            fc_features=fc_features,
            node_layer_head=node_layer_head,
        )
        check_sizes(2, edge_features=edge_features)
        self.atoms = Linear(atom_input_features, node_features)
        self.lengths = Sequential(
            GaussianBasis(0.0, LAST_CENTER, edge_features),
            Linear(edge_features, node_features),
            Softplus(),
            Linear(node_features, node_features),
        )
        self.layers = torch.nn.ModuleList(MatformerLayer(node_features, node_layer_head) for _ in range(conv_layers))
        self.readout = Sequential(Linear(node_features, fc_features), SiLU(), Linear(fc_features, outputs))

    def forward(self, batch: Any) -> Tensor:
        """Predict (B, outputs) for a PyG batch of B graphs."""
        x: Tensor = self.atoms(batch.x)
        edges = self.lengths(batch.edge_attr.norm(dim=-1))
        for layer in self.layers:
            x = layer(x, batch.edge_index, edges)
        predicted: Tensor = self.readout(mean_over_atoms(x, batch))
        return predicted


PARTS = {
    "query": "lin_query",
    "key": "lin_key",
    "value": "lin_value",
    "edge": "lin_edge",
    "score_norm": "layer_norm",
    "update": "lin_msg_update",
    "message": "msg_layer",
    "merge": "lin_concate",
    "norm": "bn",
    "skip": "lin_skip",
}
"""The parts of a layer: name here -> released name."""

WHOLE = {"atoms.": "atom_embedding.", "lengths.": "rbf.", "readout.0.": "fc.0.", "readout.2.": "fc_out."}
"""The parts outside the layers: name here -> released name."""

UNREAD = r"(edge_init|angle_init_layers|sbf)\..*|rbf\.0\.centers"


def from_released(state_dict: Mapping[str, Any]) -> Matformer:
    """Build a Matformer from weights of the authors' program, with the sizes of the weights.

    For graphs of the preset ``matformer`` with ``ties="reference"``, the published rule for edges of equal length, the
    network gives the outputs of the released one: normalised targets.

    Args:
        state_dict: the released weights by name, or a checkpoint that has them under ``model``.

    Raises:
        InputError: weights are missing, unknown, or of sizes that do not fit together.
    """
    weights = cleaned(state_dict, "Matformer")
    check_centers(weights, "rbf.0.centers", 0.0, LAST_CENTER)
    return filled(_of_sizes, without(weights, UNREAD), _released, "Matformer")


def _of_sizes(weights: Mapping[str, Tensor]) -> Matformer:
    channels, features = weights["atom_embedding.weight"].shape
    outputs, hidden = weights["fc_out.weight"].shape
    return Matformer(
        outputs,
        atom_input_features=features,
        conv_layers=layers_of(weights, "att_layers"),
        edge_features=weights["rbf.1.weight"].shape[1],
        node_features=channels,
        fc_features=hidden,
        node_layer_head=weights["att_layers.0.lin_query.weight"].shape[0] // channels,
    )


def _released(name: str) -> str:
    if name.startswith("layers."):
        _, layer, part, *others = name.split(".")
        return ".".join(["att_layers", layer, PARTS[part], *others])
    here = next(here for here in WHOLE if name.startswith(here))
    return WHOLE[here] + name.removeprefix(here)
