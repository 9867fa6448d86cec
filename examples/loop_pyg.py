"""Train in a loop like those in PyG's examples, with PyG's own DataLoader."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.loader import DataLoader
from torch_geometric.nn import CGConv, global_mean_pool

import lazygraph as lg


class Net(torch.nn.Module):
    """Two CGCNN layers that use the lengths of the edges."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(119, 32)
        self.layers = torch.nn.ModuleList(CGConv(32, dim=1, batch_norm=True, flow="target_to_source") for _ in range(2))
        self.out = torch.nn.Linear(32, 1)

    def forward(self, batch: Any) -> Tensor:
        """Predict one value per graph; the result has shape (B, 1)."""
        x = self.embed(batch.x[:, 0])
        for layer in self.layers:
            x = layer(x, batch.edge_index, batch.edge_attr.norm(dim=1, keepdim=True))
        prediction: Tensor = self.out(global_mean_pool(x, batch.batch))
        return prediction


lg.write(
    "prototypes:400?seed=0", "demo.lg", graph="cgcnn", units={"density": "g/cm^3"}, split=(0.8, 0.1, 0.1),
    overwrite=True,
)  # fmt: skip
ds = lg.LazyGraphDataset("demo.lg", target="density")
unit = ds.manifest.columns["density"].unit
train, validation = ds.split("train"), ds.split("val")
labels = torch.from_numpy(train.columns["density"])
mean, deviation = labels.mean().float(), labels.std().float()

torch.manual_seed(0)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)


def errors(batch: Any) -> Tensor:
    """Return the absolute errors of a batch in the unit of the label, (B, 1)."""
    return (mean + deviation * model(batch) - batch.y).abs()


for epoch in range(10):
    model.train()
    for batch in DataLoader(train, batch_size=32, shuffle=True):
        optimizer.zero_grad()
        errors(batch).mean().backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        error = torch.cat([errors(batch) for batch in DataLoader(validation, batch_size=32)]).mean()
    print(f"epoch {epoch}: validation MAE {error:.2f} {unit}")

baseline = (torch.from_numpy(validation.columns["density"]) - mean).abs().mean()
print(f"a predictor of the mean: {baseline:.2f} {unit}")
