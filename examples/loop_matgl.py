"""Train matgl's own M3GNet in your own loop. Needs `pip install 'lazygraph[interop]'`."""

import itertools

import torch
from matgl.models import M3GNet
from pymatgen.core import Lattice, Structure

import lazygraph as lg

salts = [
    (f"{a}{b}-{length}", Structure.from_spacegroup("Fm-3m", Lattice.cubic(length), [a, b], [[0, 0, 0], [0.5] * 3]), {})
    for a, b, length in itertools.product(["Li", "Na", "K"], ["F", "Cl", "Br", "I"], [4.8, 5.4, 6.0])
]
for _, structure, labels in salts:
    labels["density"] = float(structure.density)
lg.write(salts, "salts.lg", graph="m3gnet", units={"density": "g/cm^3"}, split=(0.8, 0.1, 0.1))
# The view gives the arrays that matgl's models read, including triplets, for a whole batch at once.
ds = lg.LazyGraphDataset("salts.lg", target="density", view="m3gnet")
loader = lg.loader(ds.split("train"), batch_size=16, shuffle=True)

model = M3GNet(is_intensive=True, units=16, dim_node_embedding=16, dim_edge_embedding=16, nblocks=2)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(2):
    total = 0.0
    for batch in loader:
        triplets = {name: batch[name] for name in ("line_edge_index", "n_triple_ij", "kept_edge_ids")}
        optimizer.zero_grad()
        loss = torch.nn.functional.l1_loss(model(batch, l_g=triplets), batch.y[:, 0])
        loss.backward()
        optimizer.step()
        total += float(loss.detach()) * batch.num_graphs
    print(f"epoch {epoch}: error {total / len(loader.dataset):.2f} g/cm^3")
