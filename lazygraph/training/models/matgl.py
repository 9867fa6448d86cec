"""The model M3GNet from matgl, which reads the view ``m3gnet``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lazygraph.errors import MissingExtra
from lazygraph.training.models.potentials import check_hyperparameters

__all__ = ["M3GNet"]


class M3GNet(torch.nn.Module):
    """matgl's M3GNet with three-body interactions, for intensive properties of a crystal.

    It reads the view ``m3gnet``, including its triplets, of graphs of the preset ``m3gnet``.

    Args:
        outputs: number of values to predict per graph.
        hyperparameters: keyword arguments of ``matgl.models.M3GNet``.

    Raises:
        MissingExtra: matgl is not installed.
        InputError: a hyperparameter is unknown, which matgl would ignore.

    Source: Chen and Ong, Nat. Comput. Sci. 2, 718 (2022); matgl 4.
    """

    def __init__(self, outputs: int = 1, **hyperparameters: Any) -> None:
        super().__init__()
        try:
            from matgl.models import M3GNet as Matgl
        except ModuleNotFoundError as error:
            msg = f"the model 'm3gnet' needs matgl, which is not installed ({error}): pip install 'lazygraph[interop]'"
            raise MissingExtra(msg) from error
        check_hyperparameters(Matgl, hyperparameters, set_here=frozenset({"is_intensive", "ntargets"}), use="")
        self.network = Matgl(is_intensive=True, ntargets=outputs, **hyperparameters)

    def forward(self, batch: Any) -> Tensor:
        """Predict (B, outputs) for a PyG batch of B graphs."""
        line_graph = {name: batch[name] for name in ("line_edge_index", "n_triple_ij", "kept_edge_ids")}
        out: Tensor = self.network(batch, l_g=line_graph)
        # matgl keeps the features of the last batch, with which the network cannot be copied for a moving average.
        self.network.feature_dict = {}
        return out.reshape(batch.num_graphs, -1)
