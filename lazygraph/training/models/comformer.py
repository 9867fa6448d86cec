"""iComFormer and eComFormer, written from the paper.

Source of all of it: Yan, Fu, Qian, Qian and Ji, "Complete and Efficient Graph Transformers for Crystal Material
Property Prediction", ICLR 2024, arXiv:2403.11857, called "the paper" here; where it is silent (sizes of the tensor
products, a map for each lattice vector, a linear map after the sums) the facts are those of the authors' own program.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear, SiLU, Softplus
from torch.nn.functional import silu, softplus
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from lazygraph.errors import InputError
from lazygraph.training.models.radial import COMPONENTS, BatchNorm, GaussianBasis, mean_over_atoms, spherical_harmonics

__all__ = ["EComformer", "EdgeTransformer", "EquivariantUpdate", "IComformer", "NodeTransformer"]


class Attention(torch.nn.Module):
    """The gated message of the paper's transformer layers, from three inputs a, b and c to a.

    ``sigmoid(BN(q * k / sqrt(C))) * v``, elementwise, where q is linear in a, and k and v are two-layer perceptrons of
    a, b and c together. The published projections (LN_K, LN_V) and the first layers of the perceptrons are linear maps
    one after the other, hence one here, and a map of several inputs is a sum of one map each. So what depends on an
    atom is computed once an atom, not once an edge. The layer that owns it has the map of b.

    Args:
        channels: C, of all inputs and of the message.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = Linear(channels, channels)
        self.from_a = Linear(channels, 2 * channels)
        self.from_c = Linear(channels, 2 * channels, bias=False)
        self.key = Linear(channels, channels)
        self.value = Linear(channels, channels)
        self.norm = BatchNorm(channels)

    def forward(self, query: Tensor, parts: Tensor) -> Tensor:
        """The message (..., C), of ``query`` (..., C) of a, and ``parts`` (..., 2C): the sum of the maps of a, b, c."""
        for_key, for_value = silu(parts).chunk(2, dim=-1)
        score = query * self.key(for_key) / math.sqrt(query.shape[-1])
        gate = torch.sigmoid(self.norm(score.flatten(0, -2))).view_as(score)
        message: Tensor = gate * self.value(for_value)
        return message


class NodeTransformer(MessagePassing):  # type: ignore[misc]  # PyG is not typed
    """The node-wise transformer layer: ``softplus(x + BN(linear(sum of the messages from the neighbours)))``.

    An atom in row 0 of ``edge_index`` attends to those in row 1.

    Args:
        channels: C, of atoms and of edges.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(aggr="sum", flow="target_to_source")
        self.attention = Attention(channels)
        self.from_neighbor = Linear(channels, 2 * channels, bias=False)
        self.out = Linear(channels, channels, bias=False)  # a bias would be lost in the normalisation
        self.norm = BatchNorm(channels)

    def forward(self, x: Tensor, edge_index: Tensor, edges: Tensor) -> Tensor:
        """(N, C) new features of atoms, from theirs (N, C) and those of edges (E, C)."""
        attention = self.attention
        total = self.propagate(
            edge_index,
            query=attention.query(x),
            center=attention.from_a(x),
            neighbor=self.from_neighbor(x),
            edge=attention.from_c(edges),
        )
        return softplus(x + self.norm(self.out(total)))

    def message(self, query_i: Tensor, center_i: Tensor, neighbor_j: Tensor, edge: Tensor) -> Tensor:
        """(E, C), for PyG: ``_i`` is of the centre of an edge, ``_j`` of its neighbour."""
        message: Tensor = self.attention(query_i, center_i + neighbor_j + edge)
        return message


class EdgeTransformer(torch.nn.Module):
    """The edge-wise transformer layer: ``softplus(edge + BN(linear(sum of the messages from the lattice vectors)))``.

    The message of a lattice vector is made of the edge, the vector's length, and the angle between the two. Lengths of
    the first, second and third lattice vector have a map each.

    Args:
        channels: C, of edges, lengths and angles.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = Attention(channels)
        self.from_lengths = torch.nn.ModuleList(Linear(channels, 2 * channels, bias=False) for _ in range(3))
        self.out = Linear(channels, channels, bias=False)
        self.norm = BatchNorm(channels)

    def forward(self, edges: Tensor, lengths: Tensor, angles: Tensor, graph_of_edge: Tensor) -> Tensor:
        """New features of edges.

        Args:
            edges: (E, C).
            lengths: (B, 3, C) of the lattice vectors of each graph.
            angles: (E, 3, C) between each edge and each of its graph's lattice vectors.
            graph_of_edge: (E,).
        """
        attention = self.attention
        of_lattice = torch.stack([self.from_lengths[m](lengths[:, m]) for m in range(3)], dim=1)
        parts = attention.from_a(edges).unsqueeze(1) + of_lattice[graph_of_edge]
        messages = attention(attention.query(edges).unsqueeze(1), parts + attention.from_c(angles))
        return softplus(edges + self.norm(self.out(messages.sum(dim=1))))


class EquivariantUpdate(torch.nn.Module):
    """The node-wise equivariant updating layer: what two rounds of tensor products see of directions, as scalars.

    The first round makes S scalars, K vectors (l = 1) and K tensors (l = 2) of the scalars of neighbours and the
    harmonics of edges; the second multiplies those of neighbours with the harmonics of edges and keeps what a rotation
    leaves as it is. Every channel meets every other, with weights that a perceptron makes of each edge::

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
        """(N, C) new features of atoms, from theirs (N, C), those of edges (E, C), and harmonics (E, 9) of edges."""
        scalars = self.scalars(x)
        tensors = self.raised(scalars, edge_index, self.first(edges), harmonics)
        tensors = torch.cat([tensors[:, : self.count] + scalars, tensors[:, self.count :]], dim=1)
        invariants = self.lowered(tensors, edge_index, self.second(edges), harmonics)
        updated: Tensor = self.nonlinear(invariants) + self.skip(x)
        return updated

    def raised(self, scalars: Tensor, edge_index: Tensor, weights: Tensor, harmonics: Tensor) -> Tensor:
        """The first product: (N, S) scalars, (E, (S + 2K) S) weights -> (N, S + 3K + 5K) scalars, vectors, tensors."""
        of_edges = weights.view(len(weights), self.width, self.count) / math.sqrt(self.count)
        products = torch.bmm(of_edges, scalars[edge_index[1]].unsqueeze(2))
        parts = torch.split(products, [self.count, self.tensors, self.tensors], dim=1)
        degrees = torch.split(harmonics.unsqueeze(1), [*COMPONENTS], dim=2)
        raised = torch.cat([(p * y).flatten(1) for p, y in zip(parts, degrees, strict=True)], dim=1)
        return _mean_over_neighbors(raised, edge_index, len(scalars))

    def lowered(self, tensors: Tensor, edge_index: Tensor, weights: Tensor, harmonics: Tensor) -> Tensor:
        """The second product: (N, S + 3K + 5K) tensors, (E, S (S + 2K)) weights -> (N, S) scalars."""
        counts = (self.count, self.tensors, self.tensors)
        parts = torch.split(tensors[edge_index[1]], [n * m for n, m in zip(counts, COMPONENTS, strict=True)], dim=1)
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
    """What both variants have: embeddings, node-wise layers, mean pooling and a perceptron."""

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
        """(..., C) features of the lengths of vectors (..., 3), A; they enter as -0.75 A / length, like a potential."""
        features: Tensor = self.lengths(-0.75 / vectors.norm(dim=-1))
        return features

    def predict(self, x: Tensor, batch: Any) -> Tensor:
        """(B, outputs) from the features of atoms (N, C)."""
        predicted: Tensor = self.readout(mean_over_atoms(x, batch))
        return predicted


class IComformer(_Comformer):
    """iComFormer: distances, and angles to three lattice vectors; invariant, complete, and tells mirror images apart.

    Node-wise transformer layers, with an edge-wise one after the first.

    Reads of a batch of B graphs, N atoms and E edges: ``x`` (N, 92), ``edge_index`` (2, E) with the centre in row 0,
    ``edge_attr`` (E, 3) vectors from there in A, ``edge_nei`` (E, 3, 3) three lattice vectors in A, the same for all
    edges of a graph, ``batch`` (N,) and ``num_graphs``: the view ``comformer``.

    Args:
        outputs: numbers to predict for a graph.
        node_features: columns of ``x``.
        hidden_channels: of atoms, edges and angles.
        num_layers: node-wise layers.
        num_rbf: centres of the expansions of lengths and of cosines.

    Source: the paper; the defaults are those of its experiments.
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
        """(B, outputs) for a PyG batch of B graphs; see the class."""
        edge_index, vectors, to_lattice = batch.edge_index, batch.edge_attr, batch.edge_nei
        graph_of_edge = batch.batch[edge_index[0]]
        # Any edge's will do; a graph without edges keeps ones, which nothing reads.
        lattice = to_lattice.new_ones(batch.num_graphs, 3, 3)
        lattice[graph_of_edge] = to_lattice
        edges = self.embed(vectors)
        x: Tensor = self.layers[0](self.atoms(batch.x), edge_index, edges)
        cosines = torch.nn.functional.cosine_similarity(to_lattice, vectors.unsqueeze(1), dim=-1)
        edges = self.update(edges, self.embed(lattice), self.angles(cosines), graph_of_edge)
        for layer in self.layers[1:]:
            x = layer(x, edge_index, edges)
        return self.predict(x, batch)


class EComformer(_Comformer):
    """eComFormer: distances, and spherical harmonics of edges to degree 2.

    Node-wise transformer layers, with an equivariant updating layer after the first.

    Reads of a batch of B graphs, N atoms and E edges: ``x`` (N, 92), ``edge_index`` (2, E) with the centre in row 0,
    ``edge_attr`` (E, 3) vectors from there in A, ``batch`` (N,) and ``num_graphs``: the views ``comformer`` and
    ``matformer``, of any recipe; published with ``comformer``.

    Args:
        outputs: numbers to predict for a graph.
        node_features: columns of ``x``.
        hidden_channels: of atoms and edges.
        num_layers: node-wise layers.
        num_rbf: centres of the expansion of lengths.
        scalar_channels: of the scalars in the equivariant layer.
        tensor_channels: of its vectors, and of its tensors.

    Source: the paper; the defaults are those of its experiments.
    """

    def __init__(
        self,
        outputs: int = 1,
        *,
        node_features: int = 92,
        hidden_channels: int = 256,
        num_layers: int = 3,
        num_rbf: int = 256,
        scalar_channels: int = 64,
        tensor_channels: int = 8,
    ) -> None:
        super().__init__(outputs, node_features, hidden_channels, num_layers, num_rbf)
        self.update = EquivariantUpdate(hidden_channels, scalar_channels, tensor_channels)

    def forward(self, batch: Any) -> Tensor:
        """(B, outputs) for a PyG batch of B graphs; see the class."""
        edge_index, vectors = batch.edge_index, batch.edge_attr
        edges = self.embed(vectors)
        x: Tensor = self.layers[0](self.atoms(batch.x), edge_index, edges)
        x = self.update(x, edge_index, edges, spherical_harmonics(vectors))
        for layer in self.layers[1:]:
            x = layer(x, edge_index, edges)
        return self.predict(x, batch)


def _expansion(start: float, stop: float, number: int, channels: int) -> torch.nn.Module:
    return torch.nn.Sequential(GaussianBasis(start, stop, number), Linear(number, channels), Softplus())
