"""The network PotNet, written from its paper, with the parameters of the released network.

Source: Lin, Yan, Luo, Liu, Qian and Ji, "Efficient Approximations of Complete Interatomic Potentials for Crystal
Property Prediction", ICML 2023, arXiv:2306.10045. The widths of the layers, the normalisations, and the weights of the
three potentials come from the authors' own program and its configuration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Linear, Sequential, SiLU
from torch.nn.functional import relu, softplus
from torch_geometric.nn.models.schnet import ShiftedSoftplus

from lazygraph.errors import InputError
from lazygraph.reading.views import View, view
from lazygraph.training.models.edge_layers import EdgeLinear, sum_at
from lazygraph.training.models.radial import BatchNorm, GaussianBasis, mean_over_atoms
from lazygraph.training.models.released_weights import cleaned, filled, layers_of, without
from lazygraph.training.models.sizes import check_sizes
from lazygraph.training.option_types import real_number

if TYPE_CHECKING:
    from lazygraph.loading.dataset import LazyGraphDataset

__all__ = ["PotNet", "PotNetLayer", "fit_to", "from_released"]

POTENTIALS = (-0.801, -0.074, 0.145)
"""The published weights of the sums of the Coulomb, London and Pauli potentials."""
NEAR = -0.75  # the numerator of the potential of a local edge


class PotNetLayer(torch.nn.Module):
    """The gated messages from the neighbours of an atom.

    For an edge from atom i to its neighbour j, with | for features side by side, and two perceptrons of two layers::

        message = sigmoid(BN(gate(x_i | x_j | e))) * value(x_i | x_j | e)
        x_i <- relu(x_i + BN(sum over j of messages))

    An atom in row 0 of ``edge_index`` hears its neighbours in row 1; the released network sums at row 1. Graphs of the
    preset ``potnet`` have every edge in both directions, for which both are the same.

    Args:
        channels: C, of atoms and edges.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate_first, self.value_first = (EdgeLinear(channels, channels, channels) for _ in range(2))
        self.gate, self.value = (Sequential(SiLU(), Linear(channels, channels)) for _ in range(2))
        self.gate_norm = BatchNorm(channels)
        self.norm = BatchNorm(channels)

    def forward(self, x: Tensor, edge_index: Tensor, edges: Tensor) -> Tensor:
        """Return new atom features (N, C) from atom features (N, C) and edge features (E, C)."""
        gate = torch.sigmoid(self.gate_norm(self.gate(self.gate_first(x, edges, edge_index))))
        messages = gate * self.value(self.value_first(x, edges, edge_index))
        return relu(x + self.norm(sum_at(messages, edge_index[0], len(x))))


class PotNet(torch.nn.Module):
    """The model PotNet, in its euclidean form, or with sums of potentials over all images of each pair of atoms.

    It reads the view ``potnet`` of graphs of any recipe, and was published with the preset ``potnet``. For a batch of B
    graphs, N atoms and E edges it uses ``x`` (N, 92), ``edge_index`` (2, E) with the centre in row 0, ``edge_attr``
    (E,) lengths in A, ``batch`` (N,) and ``num_graphs``. Features of edges are Gaussians of the lengths.

    With ``infinite``, features of edges are Gaussians of -0.75 A / length, which resembles a potential. The network
    then also has an edge for each of P ordered pairs of atoms of a crystal, whose features are multiquadrics
    ``sqrt(1 + ((s - centre) / spacing)^2)`` of s, a weighted sum of three potentials. It needs the arrays
    ``inf_edge_index`` (2, P) and ``inf_edge_attr`` (P, 3) of the view with ``sums=True``.

    In the euclidean form, a supercell has the prediction of its cell. With ``infinite`` it does not, because the sums
    over images are split among more pairs of atoms, before functions that are not linear.

    Args:
        outputs: number of values to predict per graph.
        infinite: whether to use the sums over all images, as the published results do.
        atom_input_features: number of columns of ``x``.
        conv_layers: number of layers.
        fc_features: number of channels of atoms and edges, and of Gaussians.
        inf_edge_features: number of multiquadrics.
        rbf_min: centre of the first Gaussian and of the first multiquadric, A, or without unit for potentials.
        rbf_max: centre of the last ones.
        potentials: the weights of the three sums: Coulomb, in A, London, in A^6, and Pauli.

    Raises:
        InputError: a size, a range, or the potentials are invalid.

    Source: the paper, with the names and defaults of the released program: 1,734,657 parameters in the euclidean form,
    1,751,809 with ``infinite``.

    Example:
        >>> [sum(p.numel() for p in PotNet(infinite=infinite).parameters()) for infinite in (False, True)]
        [1734657, 1751809]
    """

    def __init__(
        self,
        outputs: int = 1,
        *,
        infinite: bool = False,
        atom_input_features: int = 92,
        conv_layers: int = 3,
        fc_features: int = 256,
        inf_edge_features: int = 64,
        rbf_min: float = -4.0,
        rbf_max: float = 4.0,
        potentials: Sequence[float] = POTENTIALS,
    ) -> None:
        super().__init__()
        check_sizes(atom_input_features=atom_input_features, conv_layers=conv_layers)
        check_sizes(2, fc_features=fc_features, inf_edge_features=inf_edge_features)
        _check_infinite(infinite)
        rbf_min = real_number("rbf_min", rbf_min, least=-math.inf)
        rbf_max = real_number("rbf_max", rbf_max, above=rbf_min)
        self.infinite, self.potentials = infinite, _weights(potentials)
        self.atoms = Linear(atom_input_features, fc_features)
        spacing = (rbf_max - rbf_min) / (fc_features - 1)
        self.edges = Sequential(
            GaussianBasis(rbf_min, rbf_max, fc_features, width=spacing), Linear(fc_features, fc_features), SiLU()
        )
        if infinite:
            self.pairs = Sequential(
                Multiquadrics(rbf_min, rbf_max, inf_edge_features), Linear(inf_edge_features, fc_features)
            )
            self.pair_norm = BatchNorm(fc_features)
        self.layers = torch.nn.ModuleList(PotNetLayer(fc_features) for _ in range(conv_layers))
        self.readout = Sequential(Linear(fc_features, fc_features), ShiftedSoftplus(), Linear(fc_features, outputs))

    def forward(self, batch: Any) -> Tensor:
        """Predict (B, outputs) for a PyG batch of B graphs.

        Raises:
            InputError: the batch has no sums over images, and the network needs them.
        """
        lengths, edge_index = batch.edge_attr, batch.edge_index
        edges = self.edges(NEAR / lengths if self.infinite else lengths)
        if self.infinite:
            of_potentials = getattr(batch, "inf_edge_attr", None)
            if of_potentials is None:
                raise InputError("PotNet with infinite=True needs sums; read with lazygraph.view('potnet', sums=True)")
            # Not a product with a tensor, which would have the precision of the network.
            sums = sum(weight * of_potentials[:, n] for n, weight in enumerate(self.potentials))
            edges = torch.cat([edges, self.pair_norm(softplus(self.pairs(sums)))])
            edge_index = torch.cat([edge_index, batch.inf_edge_index], dim=1)
        x: Tensor = self.atoms(batch.x)
        for layer in self.layers:
            x = layer(x, edge_index, edges)
        predicted: Tensor = self.readout(mean_over_atoms(x, batch))
        return predicted


class Multiquadrics(torch.nn.Module):
    """An expansion of numbers (...) in multiquadrics (..., number): ``sqrt(1 + ((x - centre) / spacing)^2)``.

    Args:
        start: first centre.
        stop: last centre.
        number: number of equally spaced centres.
    """

    centers: Tensor

    def __init__(self, start: float, stop: float, number: int) -> None:
        super().__init__()
        self.spacing = (stop - start) / (number - 1)
        self.register_buffer("centers", torch.linspace(start, stop, number), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; the class describes the shapes."""
        return (1.0 + ((x.unsqueeze(-1) - self.centers) / self.spacing) ** 2).sqrt()


def fit_to(dataset: LazyGraphDataset, options: Mapping[str, Any]) -> tuple[View, dict[str, Any]]:  # noqa: ARG001
    """Return PotNet's view, with the sums if the network uses them, and its hyperparameters as they are.

    Raises:
        InputError: ``infinite`` is neither True nor False.
    """
    infinite = options.get("infinite", False)
    _check_infinite(infinite)
    return view("potnet", sums=infinite), dict(options)


def _check_infinite(infinite: Any) -> None:
    if not isinstance(infinite, bool):
        msg = f"found infinite={infinite!r}; required: True or False"
        raise InputError(msg)


def _weights(potentials: Any) -> list[float]:
    if not isinstance(potentials, (list, tuple)) or len(potentials) != len(POTENTIALS):
        msg = f"found potentials={potentials!r}; required: three numbers, for the Coulomb, London and Pauli potentials"
        raise InputError(msg)
    return [real_number(f"potentials[{n}]", weight, least=-math.inf) for n, weight in enumerate(potentials)]


PARTS = {
    "gate_first": "nonlinear_full.0",
    "gate.1": "nonlinear_full.2",
    "value_first": "nonlinear.0",
    "value.1": "nonlinear.2",
    "gate_norm": "bn_interaction",
    "norm": "bn",
}
"""The parts of a layer: name here -> released name."""

WHOLE = {
    "atoms": "atom_embedding",
    "edges.1": "edge_embedding.1",
    "pairs.1": "infinite_linear",
    "pair_norm": "infinite_bn",
    "readout.0": "fc.0",
    "readout.2": "fc_out",
}
"""The parts outside the layers: name here -> released name."""

CENTERS = "edge_embedding.0.centers"


def from_released(state_dict: Mapping[str, Any], potentials: Sequence[float] = POTENTIALS) -> PotNet:
    """Build a PotNet from weights of the authors' program, with the sizes of the weights.

    The weights tell whether the network uses the sums over all images. For graphs of the preset ``potnet`` with
    ``ties="reference"``, the published rule for edges of equal length, the network gives the outputs of the released
    one.

    Args:
        state_dict: the released weights by name, or a checkpoint that has them under ``model``.
        potentials: the weights of the three sums in the configuration of the run; they are not among the weights.

    Raises:
        InputError: weights are missing, unknown, or of sizes that do not fit together. That includes the released
            variants ``charge_map`` and ``transformer``, which are not here.
    """
    given = cleaned(state_dict, "PotNet")
    limits: dict[str, Any] = {}
    if CENTERS in given:
        limits = {"rbf_min": float(given[CENTERS][0]), "rbf_max": float(given[CENTERS][-1])}

    def of_sizes(weights: Mapping[str, Tensor]) -> PotNet:
        channels, features = weights["atom_embedding.weight"].shape
        infinite = "infinite_linear.weight" in weights
        more: dict[str, Any] = {"inf_edge_features": weights["infinite_linear.weight"].shape[1]} if infinite else {}
        return PotNet(
            len(weights["fc_out.weight"]),
            infinite=infinite,
            atom_input_features=features,
            conv_layers=layers_of(weights, "conv_layers"),
            fc_features=channels,
            potentials=potentials,
            **limits,
            **more,
        )

    return filled(of_sizes, without(given, r"(inf_edge_embedding|edge_embedding\.0)\.centers"), _released, "PotNet")


def _released(name: str) -> str:
    part, _, kind = name.rpartition(".")
    if part.startswith("layers."):
        _, layer, inner = part.split(".", 2)
        return f"conv_layers.{layer}.{PARTS[inner]}.{kind}"
    return f"{WHOLE[part]}.{kind}"
