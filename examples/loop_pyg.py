"""Train in a loop like those in PyG's examples, with PyG's own DataLoader."""

import torch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import CGConv, global_mean_pool

import lazygraph as lg


class Net(torch.nn.Module):
    """Two CGCNN layers that use the lengths of the edges."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(119, 32)
        self.layers = torch.nn.ModuleList(CGConv(32, dim=1, flow="target_to_source") for _ in range(2))
        self.out = torch.nn.Linear(32, 1)

    def forward(self, batch):
        """Predict one value per graph; the result has shape (B, 1)."""
        x = self.embed(batch.x[:, 0])
        for layer in self.layers:
            x = layer(x, batch.edge_index, batch.edge_attr.norm(dim=1, keepdim=True))
        return self.out(global_mean_pool(x, batch.batch))


lg.write("prototypes:200?seed=0", "demo.lg", graph="cgcnn", split=(0.8, 0.1, 0.1))
ds = lg.LazyGraphDataset("demo.lg", target="density")
loader = DataLoader(ds.split("train"), batch_size=32, shuffle=True)

model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(3):
    total = 0.0
    for batch in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(batch), batch.y)
        loss.backward()
        optimizer.step()
        total += float(loss.detach()) * batch.num_graphs
    print(f"epoch {epoch}: loss {total / len(loader.dataset):.3f}")
