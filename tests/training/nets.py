"""Networks that train in no time."""

from __future__ import annotations

import torch
from torch_geometric.nn import global_mean_pool


class Composition(torch.nn.Module):
    """Knows of a crystal what it is made of, and forgets some of it at random."""

    def __init__(self, outputs, width=8, dropout=0.0):
        super().__init__()
        self.embed = torch.nn.Embedding(120, width)
        self.dropout = torch.nn.Dropout(dropout)
        self.out = torch.nn.Linear(width, outputs)

    def forward(self, batch):
        return self.out(global_mean_pool(self.dropout(self.embed(batch.x[:, 0])), batch.batch, batch.num_graphs))


class NeedsEdges(Composition):
    """Names the preset whose graphs it needs."""

    preset = "mace"


class Interrupted(Composition):
    """Ctrl-C is pressed while it trains."""

    def forward(self, batch):
        if self.training:
            raise KeyboardInterrupt
        return super().forward(batch)


class FewElements(Composition):
    """Has no row for elements beyond silver."""

    def __init__(self, outputs):
        super().__init__(outputs)
        self.embed = torch.nn.Embedding(48, 8)


class MeanLength(torch.nn.Module):
    """Gives NaN for a graph without edges, because it divides by their number; or refuses it."""

    view = "matformer"

    def __init__(self, outputs, strict=False):
        super().__init__()
        self.out, self.strict = torch.nn.Linear(1, outputs), strict

    def forward(self, batch):
        of_edge = batch.batch[batch.edge_index[0]]
        lengths = torch.zeros(batch.num_graphs).index_add(0, of_edge, batch.edge_attr.norm(dim=-1))
        counts = torch.bincount(of_edge, minlength=batch.num_graphs)
        if self.strict and not counts.all():
            raise ValueError("a graph has no edge")
        return self.out((lengths / counts)[:, None])


class Printing(Composition):
    """Greets, as the packages of some networks do."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__(outputs)
        print("this network says hello")


class Wrong(Composition):
    """Gives a value for every atom."""

    def forward(self, batch):
        return batch.x.float()


class Drawing(Composition):
    """Draws random numbers, also where it does not train."""

    def forward(self, batch):
        return super().forward(batch) + 0.1 * torch.randn(batch.num_graphs, 1)


class Mismatched(Composition):
    """Its layers do not fit together."""

    def __init__(self, outputs):
        super().__init__(outputs)
        self.out = torch.nn.Linear(9, outputs)
