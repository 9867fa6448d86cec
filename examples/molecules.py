"""Write ready-made graphs, such as molecules: any PyG ``Data`` or mapping of arrays."""

import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

import lazygraph as lg


def ring(size: int) -> Data:
    """Make a ring of carbon atoms as a PyG graph."""
    atoms = torch.arange(size)
    one_way = torch.stack([atoms, (atoms + 1) % size])
    return Data(z=torch.full((size,), 6), edge_index=torch.cat([one_way, one_way.flip(0)], dim=1))


with lg.GraphWriter("rings.lg", overwrite=True) as writer:
    for size in range(3, 50):
        writer.add(ring(size), id=f"C{size}", labels={"size": size})

ds = lg.LazyGraphDataset("rings.lg", target="size")
print(ds["C6"], ds.where("size > 40").ids)
for batch in DataLoader(ds, batch_size=16, shuffle=True):
    print(batch.num_graphs, "rings,", batch.num_nodes, "atoms")
