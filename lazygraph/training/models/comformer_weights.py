"""Networks from the weights that the authors of ComFormer released."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lazygraph.training.models.comformer import EComformer, IComformer
from lazygraph.training.models.released_weights import check_centers, cleaned, filled, layers_of, without

__all__ = ["comformer_state_dict", "load_comformer"]

NODE = {
    "lin_query": "attention.query",
    "lin_key": "attention.key",
    "lin_value": "attention.value",
    "lin_edge": "attention.third",
    "key_update.0": "attention.key_update.0",
    "key_update.2": "attention.key_update.2",
    "lin_msg_update.0": "attention.value_update.0",
    "lin_msg_update.2": "attention.value_update.2",
    "bn_att": "attention.norm",
    "lin_concate": "out",
    "bn": "norm",
}
"""The parts of a node-wise layer: released name -> name here."""

EDGE = NODE | {f"lin_{kind}_e{m + 1}": f"{kind}s.{m}" for kind in ("key", "value") for m in range(3)}
"""The parts of the edge-wise layer."""

EQUIVARIANT = {
    "node_linear": "scalars",
    "nlayer_1.fc.0": "first.0",
    "nlayer_1.fc.2": "first.2",
    "nlayer_2.fc.0": "second.0",
    "nlayer_2.fc.2": "second.2",
    "bn": "nonlinear.0",
    "node_linear_2": "nonlinear.2",
    "skip_linear": "skip",
}
"""The parts of the equivariant layer. The rows of the last maps of both products are in another order."""

WHOLE = {
    "atom_embedding": "atoms",
    "rbf.1": "lengths.1",
    "rbf_angle.1": "angles.1",
    "fc.0": "readout.0",
    "fc_out": "readout.2",
}
"""The parts outside the layers."""

_IN_NODE, _IN_EDGE, _IN_EQUIVARIANT, _IN_WHOLE = (
    {here: there for there, here in names.items()} for names in (NODE, EDGE, EQUIVARIANT, WHOLE)
)

# Parameters that no output depends on, centres of Gaussians, and constants of e3nn.
UNUSED = r"edge_update_layer\.(lemb|lin_edge_len)\..*|rbf(_angle)?\.0\..*|equi_update\.nlayer_\d\.tp\..*"


def load_comformer(state_dict: Mapping[str, Any]) -> IComformer | EComformer:
    """Build a ComFormer network from weights of the authors' program.

    The weights determine which of the two networks it is, and all of its sizes. The network gives the outputs of the
    released one for graphs of the preset ``comformer`` with ``ties="reference"``, the published rule for edges of equal
    length. It predicts normalised targets, as the released one does.

    Args:
        state_dict: the released weights by name; read them with ``torch.load(path, weights_only=True)``. A checkpoint
            that holds them under ``model`` is accepted too, and so are names that begin with ``module.``, which
            ``DistributedDataParallel`` adds.

    Raises:
        InputError: weights are missing, unknown, or of sizes that do not fit together.

    Example:
        >>> network = IComformer(hidden_channels=8, num_rbf=4)
        >>> type(load_comformer(comformer_state_dict(network))).__name__
        'IComformer'
    """
    weights = cleaned(state_dict, "ComFormer")
    check_centers(weights, "rbf.0.centers", -4.0, 0.0)
    check_centers(weights, "rbf_angle.0.centers", -1.0, 1.0)
    network = filled(_of_sizes, without(weights, UNUSED), _released_name, "ComFormer")
    for name, value in network.state_dict().items():
        if (order := _order(network, name)) is not None:
            value.copy_(value[order])
    return network


def comformer_state_dict(network: IComformer | EComformer) -> dict[str, Tensor]:
    """Return the weights of a network under the names and in the order of the authors' program.

    It is the inverse of :func:`load_comformer`. The parameters that the released iComFormer has and does not use are
    not among them, so load them there with ``strict=False``.
    """
    out = {}
    for name, value in network.state_dict().items():
        order = _order(network, name)
        out[_released_name(name)] = value if order is None else value[order.argsort()]
    return out


def _released_name(name: str) -> str:
    """Return the released name of a weight."""
    part, _, kind = name.rpartition(".")
    if part.startswith("layers."):
        _, layer, inner = part.split(".", maxsplit=2)
        return f"att_layers.{layer}.{_IN_NODE[inner]}.{kind}"
    if part.startswith("update."):
        inner = part.removeprefix("update.")
        place, names = ("equi_update", _IN_EQUIVARIANT) if inner in _IN_EQUIVARIANT else ("edge_update_layer", _IN_EDGE)
        return f"{place}.{names[inner]}.{kind}"
    return f"{_IN_WHOLE[part]}.{kind}"


def _of_sizes(weights: Mapping[str, Tensor]) -> IComformer | EComformer:
    """Return a network of the sizes of the weights."""
    channels, features = weights["atom_embedding.weight"].shape
    options: dict[str, Any] = {
        "outputs": len(weights["fc_out.weight"]),
        "node_features": features,
        "hidden_channels": channels,
        "num_layers": layers_of(weights, "att_layers"),
        "num_rbf": weights["rbf.1.weight"].shape[1],
    }
    if any(name.startswith("edge_update_layer.") for name in weights):
        return IComformer(**options)
    scalars = len(weights["equi_update.node_linear.weight"])
    width = len(weights["equi_update.nlayer_1.fc.2.weight"]) // max(scalars, 1)
    return EComformer(**options, scalar_channels=scalars, tensor_channels=(width - scalars) // 2)


def _order(network: IComformer | EComformer, name: str) -> Tensor | None:
    """Return the released row of each row of a weight; None if the order is the same.

    e3nn keeps the weights of a tensor product path by path (scalars, vectors, tensors), in each of them with the input
    channel first. The layer here has one matrix of outputs by inputs.
    """
    found = re.fullmatch(r"update\.(first|second)\.2\.(weight|bias)", name)
    if found is None or not isinstance(network, EComformer):
        return None
    update = network.update
    released, begin = [], 0
    for count in (update.count, update.tensors, update.tensors):
        inputs, outputs = (update.count, count) if found[1] == "first" else (count, update.count)
        released.append(torch.arange(begin, begin + inputs * outputs).view(inputs, outputs).T)
        begin += inputs * outputs
    return torch.cat(released, dim=0 if found[1] == "first" else 1).flatten()
