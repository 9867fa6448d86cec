"""The network of the toy model, in a module of its own so that the writer does not import torch."""

from __future__ import annotations

import torch
from torch_geometric.utils import scatter


class ToyNetwork(torch.nn.Module):
    """One number per atom, from its element and the mean length of its edges, averaged over the crystal."""

    def __init__(self, outputs: int, width: int = 8) -> None:
        super().__init__()
        self.element = torch.nn.Embedding(120, width)
        self.out = torch.nn.Linear(width + 1, outputs)

    def forward(self, batch) -> torch.Tensor:
        length = scatter(batch.length, batch.edge_index[0], dim_size=batch.num_nodes, reduce="mean")
        atoms = self.out(torch.cat([self.element(batch.z), length[:, None]], dim=1))
        return scatter(atoms, batch.batch, dim_size=batch.num_graphs, reduce="mean")
