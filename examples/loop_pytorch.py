"""Train in a plain PyTorch loop, with lazygraph's loader. It needs neither Lightning nor PyG's layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import lazygraph as lg


class Net(torch.nn.Module):
    """A network that weighs the neighbours of each atom by their distances, as SchNet does."""

    def __init__(self, channels: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(119, channels)
        self.register_buffer("centers", torch.linspace(0, 8, 40))  # A
        self.filters = torch.nn.ModuleList(torch.nn.Linear(40, channels) for _ in range(layers))
        self.updates = torch.nn.ModuleList(torch.nn.Linear(channels, channels) for _ in range(layers))
        self.out = torch.nn.Linear(channels, 1)

    def forward(self, batch: Any) -> Tensor:
        """Predict one value per graph; the result has shape (B, 1)."""
        x = self.embed(batch.x[:, 0])  # (N, channels), of the atomic numbers
        center, neighbor = batch.edge_index
        distances = batch.edge_attr.norm(dim=1, keepdim=True)  # (E, 1), A
        basis = torch.exp(-((distances - self.centers) ** 2) / 0.08)
        for weigh, update in zip(self.filters, self.updates, strict=True):
            messages = x[neighbor] * weigh(basis)
            x = x + torch.nn.functional.silu(update(torch.zeros_like(x).index_add(0, center, messages) / 12))
        means = x.new_zeros(batch.num_graphs, x.shape[1]).index_add(0, batch.batch, x) / batch.ptr.diff()[:, None]
        prediction: Tensor = self.out(means)
        return prediction


lg.write(
    "prototypes:400?seed=0", "demo.lg", graph="cgcnn", units={"density": "g/cm^3"}, split=(0.8, 0.1, 0.1),
    overwrite=True,
)  # fmt: skip
ds = lg.LazyGraphDataset("demo.lg", target="density")
unit = ds.manifest.columns["density"].unit
train = lg.loader(ds.split("train"), batch_size=32, shuffle=True, seed=0)
validation = train.evaluation(ds.split("val"))
labels = torch.from_numpy(ds.split("train").columns["density"])
mean, deviation = labels.mean().float(), labels.std().float()

torch.manual_seed(0)
model = Net()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)


def errors(batch: Any) -> Tensor:
    """Return the absolute errors of a batch in the unit of the label, (B, 1)."""
    return (mean + deviation * model(batch) - batch.y).abs()


for epoch in range(10):
    model.train()
    for batch in train:  # each iteration is the next epoch, in a new order
        optimizer.zero_grad()
        errors(batch).mean().backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        error = torch.cat([errors(batch) for batch in validation]).mean()
    print(f"epoch {epoch}: validation MAE {error:.2f} {unit}")
    # Save this state in the checkpoint too. Training can then continue in the middle of an epoch.
    state = train.state_dict()

baseline = (torch.from_numpy(ds.split("val").columns["density"]) - mean).abs().mean()
print(f"a predictor of the mean: {baseline:.2f} {unit}")
