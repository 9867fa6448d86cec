"""The models iComFormer and eComFormer, written from the paper, with the parameters of the released networks.

Source: Yan, Fu, Qian, Qian and Ji, "Complete and Efficient Graph Transformers for Crystal Material Property
Prediction", ICLR 2024, arXiv:2403.11857, called "the paper" here. The paper does not state the sizes of the tensor
products, the maps for each lattice vector, the biases, and the linear map after the sums. These facts come from the
authors' own program. :mod:`lazygraph.training.models.comformer_weights` loads its weights.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Linear, Sequential, SiLU, Softplus
from torch.nn.functional import linear, silu, softplus
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from lazygraph.errors import InputError
from lazygraph.training.models.radial import COMPONENTS, BatchNorm, GaussianBasis, mean_over_atoms, spherical_harmonics

__all__ = ["EComformer", "EdgeTransformer", "EquivariantUpdate", "IComformer", "NodeTransformer"]


class Attention(torch.nn.Module):
    """The gated message of the paper's transformer layers, from three inputs a, b and c to a.

    ``sigmoid(BN(q * k / sqrt(C))) * v``, elementwise. The query q is linear in a. The key k is a two-layer perceptron
    of three linear projections, side by side: of a, of b and of c. The value v is another such perceptron, with
    projections of its own for a and b; keys and values share the projection of c. The layer that owns this module has
    the projections of b.

    The parameters are those of the released networks. The computation is not: a projection and the first layer of a
    perceptron are two linear maps in a row, and a map of several inputs side by side is a sum of one map per input.
    So the product of the two matrices is applied, and terms that depend on one atom are computed once per atom instead
    of once per edge.

    Args:
        channels: C, of all inputs and of the message.
        bias: whether the projection of c has a bias.
    """

    def __init__(self, channels: int, *, bias: bool) -> None:
        super().__init__()
        self.channels = channels
        self.query = Linear(channels, channels)
        self.key = Linear(channels, channels)
        self.value = Linear(channels, channels)
        self.third = Linear(channels, channels, bias=bias)
        self.key_update, self.value_update = (_perceptron(channels) for _ in range(2))
        self.norm = BatchNorm(channels)

    def projected(self, place: int, x: Tensor, key: Linear, value: Linear) -> Tensor:
        """Return the part (..., 2C) of the first layers of both perceptrons that comes from one input (..., C).

        Args:
            place: 0 for a, 1 for b, 2 for c.
            x: the input.
            key: its projection for keys.
            value: its projection for values.
        """
        block = slice(place * self.channels, (place + 1) * self.channels)
        pairs = ((_first_weight(self.key_update)[:, block], key), (_first_weight(self.value_update)[:, block], value))
        weight = torch.cat([first @ projection.weight for first, projection in pairs])
        biases = [first @ projection.bias for first, projection in pairs if projection.bias is not None]
        return linear(x, weight, torch.cat(biases) if biases else None)

    def of_first(self, a: Tensor) -> Tensor:
        """Return the part (..., 2C) of the first layers that comes from a (..., C), and their biases."""
        part = self.projected(0, a, self.key, self.value)
        return part + torch.cat([cast("Tensor", each[0].bias) for each in (self.key_update, self.value_update)])

    def of_third(self, c: Tensor) -> Tensor:
        """Return the part (..., 2C) of the first layers that comes from c (..., C)."""
        return self.projected(2, c, self.third, self.third)

    def forward(self, query: Tensor, parts: Tensor) -> Tensor:
        """Return the message (..., C) from ``query`` (..., C) and ``parts`` (..., 2C), the sum of the three parts."""
        for_key, for_value = silu(parts).chunk(2, dim=-1)
        score = query * self.key_update[2](for_key) / math.sqrt(self.channels)
        gate = torch.sigmoid(self.norm(score.flatten(0, -2))).view_as(score)
        message: Tensor = gate * self.value_update[2](for_value)
        return message


def _perceptron(channels: int) -> Sequential:
    return Sequential(Linear(3 * channels, channels), SiLU(), Linear(channels, channels))


def _first_weight(perceptron: Sequential) -> Tensor:
    return cast("Tensor", perceptron[0].weight)


class NodeTransformer(MessagePassing):  # type: ignore[misc]  # PyG is not typed
    """The node-wise transformer layer: ``softplus(x + BN(linear(sum of the messages from the neighbours)))``.

    An atom in row 0 of ``edge_index`` attends to its neighbours in row 1. The released networks sum at row 1. Their
    graphs have every edge in both directions, for which both are the same.

    Args:
        channels: C, of atoms and of edges.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(aggr="sum", flow="target_to_source")
        self.attention = Attention(channels, bias=True)
        self.out = Linear(channels, channels)
        self.norm = BatchNorm(channels)

    def forward(self, x: Tensor, edge_index: Tensor, edges: Tensor) -> Tensor:
        """Return new atom features (N, C) from atom features (N, C) and edge features (E, C)."""
        attention = self.attention
        total = self.propagate(
            edge_index,
            query=attention.query(x),
            center=attention.of_first(x),
            neighbor=attention.projected(1, x, attention.key, attention.value),
            edge=attention.of_third(edges),
        )
        return softplus(x + self.norm(self.out(total)))

    def message(self, query_i: Tensor, center_i: Tensor, neighbor_j: Tensor, edge: Tensor) -> Tensor:
        """Return the messages (E, C) for PyG; ``_i`` marks the centre of an edge, ``_j`` the neighbour."""
        message: Tensor = self.attention(query_i, center_i + neighbor_j + edge)
        return message


class EdgeTransformer(torch.nn.Module):
    """The edge-wise transformer layer: ``softplus(edge + BN(sum over m of linear(message from lattice vector m)))``.

    The message of a lattice vector depends on the edge, the length of the vector, and the angle between the two. The
    lengths of the first, second and third lattice vector have separate projections, for keys and for values.

    Args:
        channels: C, of edges, lengths and angles.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = Attention(channels, bias=False)
        self.keys, self.values = (torch.nn.ModuleList(Linear(channels, channels) for _ in range(3)) for _ in range(2))
        self.out = Linear(channels, channels)
        self.norm = BatchNorm(channels)

    def forward(self, edges: Tensor, lengths: Tensor, angles: Tensor, graph_of_edge: Tensor) -> Tensor:
        """Return new edge features (E, C).

        Args:
            edges: (E, C) edge features.
            lengths: (B, 3, C) features of the lengths of the lattice vectors of each graph.
            angles: (E, 3, C) features of the angles between each edge and the lattice vectors of its graph.
            graph_of_edge: (E,) index of the graph of each edge.
        """
        attention = self.attention
        maps = [(cast("Linear", key), cast("Linear", value)) for key, value in zip(self.keys, self.values, strict=True)]
        of_vectors = [attention.projected(1, lengths[:, m], key, value) for m, (key, value) in enumerate(maps)]
        of_lattice = torch.stack(of_vectors, dim=1)
        parts = attention.of_first(edges).unsqueeze(1) + of_lattice.index_select(0, graph_of_edge)
        messages = attention(attention.query(edges).unsqueeze(1), parts + attention.of_third(angles))
        # The linear map of each of the three messages, and then their sum.
        total = linear(messages.sum(dim=1), self.out.weight, 3 * self.out.bias)
        return softplus(edges + self.norm(total))


class EquivariantUpdate(torch.nn.Module):
    """The node-wise equivariant updating layer: two tensor products that turn directions into scalars.

    The first product combines scalars of neighbours with harmonics of edges into S scalars, K vectors (l = 1) and K
    tensors (l = 2). The second product multiplies the results of neighbours by the harmonics of edges, and keeps the
    invariant part. Both connect all channels, with weights that a perceptron computes for each edge::

        t_i = mean_j (A(e_ij) s_j) Y(r_ij),   + s_i where l = 0        s = linear(x),  A is (S + 2K, S)
        u_i = mean_j B(e_ij) (t_j . Y(r_ij))                           B is (S, S + 2K)
        x_i <- softplus(linear(softplus(BN(u_i)))) + linear(x_i)

    These are the fully connected tensor products of e3nn with the path normalisation "element" (a test compares them).

    Args:
        channels: C, of atoms and edges.
        scalars: S.
        tensors: K, of vectors and as many of tensors.
    """

    def __init__(self, channels: int, scalars: int, tensors: int) -> None:
        super().__init__()
        self.count, self.tensors = scalars, tensors
        self.width = scalars + 2 * tensors
        self.scalars = Linear(channels, scalars)
        self.first, self.second = (
            torch.nn.Sequential(Linear(channels, channels), Softplus(), Linear(channels, scalars * self.width))
            for _ in range(2)
        )
        self.nonlinear = torch.nn.Sequential(BatchNorm(scalars), Softplus(), Linear(scalars, channels), Softplus())
        self.skip = Linear(channels, channels)

    def forward(self, x: Tensor, edge_index: Tensor, edges: Tensor, harmonics: Tensor) -> Tensor:
        """Return new atom features (N, C) from atom features (N, C), edge features (E, C) and harmonics (E, 9)."""
        scalars = self.scalars(x)
        tensors = self.raised(scalars, edge_index, self.first(edges), harmonics)
        tensors = torch.cat([tensors[:, : self.count] + scalars, tensors[:, self.count :]], dim=1)
        invariants = self.lowered(tensors, edge_index, self.second(edges), harmonics)
        updated: Tensor = self.nonlinear(invariants) + self.skip(x)
        return updated

    def raised(self, scalars: Tensor, edge_index: Tensor, weights: Tensor, harmonics: Tensor) -> Tensor:
        """Compute the first product: (N, S) scalars, (E, (S + 2K) S) weights -> (N, S + 3K + 5K) tensors."""
        of_edges = weights.view(len(weights), self.width, self.count) / math.sqrt(self.count)
        products = torch.bmm(of_edges, scalars.index_select(0, edge_index[1]).unsqueeze(2))
        parts = torch.split(products, [self.count, self.tensors, self.tensors], dim=1)
        degrees = torch.split(harmonics.unsqueeze(1), [*COMPONENTS], dim=2)
        raised = torch.cat([(p * y).flatten(1) for p, y in zip(parts, degrees, strict=True)], dim=1)
        return _mean_over_neighbors(raised, edge_index, len(scalars))

    def lowered(self, tensors: Tensor, edge_index: Tensor, weights: Tensor, harmonics: Tensor) -> Tensor:
        """Compute the second product: (N, S + 3K + 5K) tensors, (E, S (S + 2K)) weights -> (N, S) scalars."""
        counts = (self.count, self.tensors, self.tensors)
        of_neighbors = tensors.index_select(0, edge_index[1])
        parts = torch.split(of_neighbors, [n * m for n, m in zip(counts, COMPONENTS, strict=True)], dim=1)
        degrees = torch.split(harmonics.unsqueeze(2), [*COMPONENTS], dim=1)
        # Over the root of 2l + 1, the product of two harmonics of any degree has the mean square 1.
        products = [
            torch.bmm(part.reshape(len(part), n, m), y) / math.sqrt(m)
            for part, y, n, m in zip(parts, degrees, counts, COMPONENTS, strict=True)
        ]
        invariants = torch.cat(products, dim=1)
        of_edges = weights.view(len(weights), self.count, self.width) / math.sqrt(self.width)
        return _mean_over_neighbors(torch.bmm(of_edges, invariants).squeeze(2), edge_index, len(tensors))


def _mean_over_neighbors(messages: Tensor, edge_index: Tensor, n_atoms: int) -> Tensor:
    mean: Tensor = scatter(messages, edge_index[0], dim=0, dim_size=n_atoms, reduce="mean")
    return mean


class _Comformer(torch.nn.Module):
    """The parts of both variants: embeddings, node-wise layers, mean pooling and a perceptron."""

    def __init__(self, outputs: int, node_features: int, hidden_channels: int, num_layers: int, num_rbf: int) -> None:
        super().__init__()
        if num_layers < 1 or num_rbf < 2:
            msg = f"found num_layers={num_layers}, num_rbf={num_rbf}; required: at least 1 layer and 2 centres"
            raise InputError(msg)
        self.atoms = Linear(node_features, hidden_channels)
        self.lengths = _expansion(-4.0, 0.0, num_rbf, hidden_channels)
        self.layers = torch.nn.ModuleList(NodeTransformer(hidden_channels) for _ in range(num_layers))
        hidden = Linear(hidden_channels, hidden_channels)
        self.readout = torch.nn.Sequential(hidden, SiLU(), Linear(hidden_channels, outputs))

    def embed(self, vectors: Tensor) -> Tensor:
        """Return features (..., C) of vectors (..., 3) in A from -0.75 A / length, which resembles a potential."""
        features: Tensor = self.lengths(-0.75 / vectors.norm(dim=-1))
        return features

    def predict(self, x: Tensor, batch: Any) -> Tensor:
        """Predict (B, outputs) from atom features (N, C)."""
        predicted: Tensor = self.readout(mean_over_atoms(x, batch))
        return predicted


class IComformer(_Comformer):
    """The model iComFormer, which uses distances and angles to three lattice vectors.

    It is invariant and complete, and distinguishes mirror images. It has node-wise transformer layers, and an edge-wise
    layer after the first one.

    It reads the view ``comformer``. For a batch of B graphs, N atoms and E edges it uses ``x`` (N, 92), ``edge_index``
    (2, E) with the centre in row 0, ``edge_attr`` (E, 3) vectors from the centre in A, ``edge_nei`` (E, 3, 3) three
    lattice vectors in A, equal for all edges of a graph, ``batch`` (N,) and ``num_graphs``. The angles are those
    between the lattice vectors and the vector from the neighbour to the centre, the atom that receives the message, as
    in the released network.

    Args:
        outputs: number of values to predict per graph.
        node_features: number of columns of ``x``.
        hidden_channels: number of channels of atoms, edges and angles.
        num_layers: number of node-wise layers. The paper reports 4 and 3.
        num_rbf: number of centres in the expansions of lengths and of cosines.

    Source: the paper. The defaults are the values of its experiments: 4,892,417 parameters.
    """

    def __init__(
        self,
        outputs: int = 1,
        *,
        node_features: int = 92,
        hidden_channels: int = 256,
        num_layers: int = 4,
        num_rbf: int = 256,
    ) -> None:
        super().__init__(outputs, node_features, hidden_channels, num_layers, num_rbf)
        self.angles = _expansion(-1.0, 1.0, num_rbf, hidden_channels)
        self.update = EdgeTransformer(hidden_channels)

    def forward(self, batch: Any) -> Tensor:
        """Predict (B, outputs) for a PyG batch of B graphs."""
        edge_index, vectors, to_lattice = batch.edge_index, batch.edge_attr, batch.edge_nei
        graph_of_edge = batch.batch[edge_index[0]]
        # The vectors of any edge are right. A graph without edges keeps ones, which nothing reads.
        lattice = to_lattice.new_ones(batch.num_graphs, 3, 3)
        lattice[graph_of_edge] = to_lattice
        edges = self.embed(vectors)
        x: Tensor = self.layers[0](self.atoms(batch.x), edge_index, edges)
        cosines = torch.nn.functional.cosine_similarity(to_lattice, -vectors.unsqueeze(1), dim=-1)
        edges = self.update(edges, self.embed(lattice), self.angles(cosines), graph_of_edge)
        for layer in self.layers[1:]:
            x = layer(x, edge_index, edges)
        return self.predict(x, batch)


class EComformer(_Comformer):
    """The model eComFormer, which uses distances, and spherical harmonics of edges to degree 2.

    It has node-wise transformer layers, and an equivariant updating layer after the first one.

    It reads the views ``comformer`` and ``matformer`` of graphs of any recipe, and was published with ``comformer``.
    For a batch of B graphs, N atoms and E edges it uses ``x`` (N, 92), ``edge_index`` (2, E) with the centre in row 0,
    ``edge_attr`` (E, 3) vectors from the centre in A, ``batch`` (N,) and ``num_graphs``.

    Args:
        outputs: number of values to predict per graph.
        node_features: number of columns of ``x``.
        hidden_channels: number of channels of atoms and edges.
        num_layers: number of node-wise layers.
        num_rbf: number of centres in the expansion of lengths.
        scalar_channels: number of scalars in the equivariant layer: 128 for eComFormer, 64 for eComFormer-half.
        tensor_channels: number of vectors, and of tensors, in the equivariant layer.

    Source: the paper, whose table of efficiency gives 12.4 million parameters for eComFormer and 5.6 million for
    eComFormer-half. The authors' program is the half network, with 5,583,809 parameters. The paper does not say which
    sizes the other one has: 128 scalars, the default here, come to 12,459,137 parameters.
    """

    def __init__(
        self,
        outputs: int = 1,
        *,
        node_features: int = 92,
        hidden_channels: int = 256,
        num_layers: int = 3,
        num_rbf: int = 256,
        scalar_channels: int = 128,
        tensor_channels: int = 8,
    ) -> None:
        super().__init__(outputs, node_features, hidden_channels, num_layers, num_rbf)
        self.update = EquivariantUpdate(hidden_channels, scalar_channels, tensor_channels)

    def forward(self, batch: Any) -> Tensor:
        """Predict (B, outputs) for a PyG batch of B graphs."""
        edge_index, vectors = batch.edge_index, batch.edge_attr
        edges = self.embed(vectors)
        x: Tensor = self.layers[0](self.atoms(batch.x), edge_index, edges)
        x = self.update(x, edge_index, edges, spherical_harmonics(vectors))
        for layer in self.layers[1:]:
            x = layer(x, edge_index, edges)
        return self.predict(x, batch)


def _expansion(start: float, stop: float, number: int, channels: int) -> torch.nn.Module:
    return torch.nn.Sequential(GaussianBasis(start, stop, number), Linear(number, channels), Softplus())
