"""Write ready-made graphs, such as molecules: any PyG ``Data`` or mapping of arrays. Then learn a label of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.utils import scatter

import lazygraph as lg


def alkane(size: int) -> Data:
    """Make a chain of carbon atoms with its hydrogen atoms, C(n) H(2n + 2)."""
    carbons = torch.arange(size)
    chain = torch.stack([carbons[:-1], carbons[1:]])
    return molecule(chain, torch.cat([carbons, carbons, carbons[[0, -1]]]))  # two each, and one more at each end


def annulene(size: int) -> Data:
    """Make a ring of carbon atoms with one hydrogen atom each, C(n) H(n)."""
    carbons = torch.arange(size)
    return molecule(torch.stack([carbons, (carbons + 1) % size]), carbons)


def molecule(carbon_bonds: Tensor, owners: Tensor) -> Data:
    """Make the PyG graph of carbon atoms and of hydrogen atoms, each bonded to the carbon atom in ``owners``."""
    n_carbons = int(owners.max()) + 1
    hydrogens = torch.arange(n_carbons, n_carbons + len(owners))
    bonds = torch.cat([carbon_bonds, torch.stack([owners, hydrogens])], dim=1)
    z = torch.tensor([6] * n_carbons + [1] * len(owners))
    return Data(z=z, edge_index=torch.cat([bonds, bonds.flip(0)], dim=1))


with lg.GraphWriter("molecules.lg", units={"mass": "g/mol"}, overwrite=True) as writer:
    for size in range(3, 30):
        for made in (alkane(size), annulene(size)):
            hydrogens = int((made.z == 1).sum())
            writer.add(made, id=f"C{size}H{hydrogens}", labels={"mass": 12.011 * size + 1.008 * hydrogens})

ds = lg.LazyGraphDataset("molecules.lg", target="mass")
unit = ds.manifest.columns["mass"].unit
print(ds["C6H14"], ds.where("mass > 400").ids)


class Masses(torch.nn.Module):
    """One number for each element, added up over the atoms of each molecule."""

    def __init__(self) -> None:
        super().__init__()
        self.masses = torch.nn.Embedding(119, 1)

    def forward(self, batch: Any) -> Tensor:
        """Predict one value per graph; the result has shape (B, 1)."""
        prediction: Tensor = scatter(self.masses(batch.z), batch.batch, dim_size=batch.num_graphs)
        return prediction


torch.manual_seed(0)
model = Masses()
optimizer = torch.optim.Adam(model.parameters(), lr=0.2)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 90)
for epoch in range(90):
    total = 0.0
    for batch in DataLoader(ds, batch_size=8, shuffle=True):
        optimizer.zero_grad()
        error = torch.nn.functional.l1_loss(model(batch), batch.y)
        error.backward()
        optimizer.step()
        total += float(error.detach()) * batch.num_graphs
    schedule.step()
    if epoch % 30 == 29:
        print(f"epoch {epoch}: MAE {total / len(ds):.2f} {unit}")
carbon, hydrogen = model.masses.weight[[6, 1], 0].tolist()
print(f"learned: C {carbon:.2f}, H {hydrogen:.2f} {unit}; true: C 12.01, H 1.01 {unit}")
