"""Models of other packages, fed through lazygraph's views."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lazygraph.errors import MissingExtra

__all__ = ["M3GNet"]


class M3GNet(torch.nn.Module):
    """matgl's M3GNet, with three-body interactions, for properties of a crystal that do not grow with it.

    Reads the view ``m3gnet``, whose triplets it is given, of graphs of the preset ``m3gnet``.

    Args:
        outputs: numbers to predict for a graph.
        hyperparameters: of ``matgl.models.M3GNet``.

    Raises:
        MissingExtra: matgl is not installed.

    Source: Chen and Ong, Nat. Comput. Sci. 2, 718 (2022); matgl 4.
    """

    def __init__(self, outputs: int = 1, **hyperparameters: Any) -> None:
        super().__init__()
        try:
            from matgl.models import M3GNet as Matgl
        except ModuleNotFoundError as error:
            msg = f"the model 'm3gnet' needs matgl, which is not installed ({error}): pip install 'lazygraph[interop]'"
            raise MissingExtra(msg) from error
        self.network = Matgl(is_intensive=True, ntargets=outputs, **hyperparameters)

    def forward(self, batch: Any) -> Tensor:
        """(B, outputs) for a PyG batch of B graphs."""
        line_graph = {name: batch[name] for name in ("line_edge_index", "n_triple_ij", "kept_edge_ids")}
        out: Tensor = self.network(batch, l_g=line_graph)
        return out.reshape(batch.num_graphs, -1)
