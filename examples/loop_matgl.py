"""Train a potential of matgl with matgl's own Lightning module. Needs `pip install 'lazygraph[interop]'`."""

import lightning
from ase.build import bulk
from ase.calculators.emt import EMT
from matgl.models import M3GNet
from matgl.utils.training import PotentialLightningModule

import lazygraph as lg
from lazygraph.interop.matgl import batches

# A potential computes energies, forces and stresses of 40 cells of copper with displaced atoms.
crystals = []
for seed in range(40):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=seed)
    atoms.calc = EMT()
    labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    crystals.append((f"copper-{seed}", atoms, labels))
units = {"energy": "eV", "forces": "eV/A", "stress": "eV/A^3"}
lg.write(
    crystals, "copper.lg", graph="m3gnet", units=units, per={"energy": "cell"}, split=(0.8, 0.1, 0.1), overwrite=True
)

# ---- the training ----
ds = lg.LazyGraphDataset("copper.lg", view="m3gnet", target=["energy", "stress"])
loader = lg.loader(ds.split("train"), batch_size=8, shuffle=True)
network = M3GNet(is_intensive=False, units=16, dim_node_embedding=16, dim_edge_embedding=16, nblocks=2)
module = PotentialLightningModule(network, stress_weight=0.1)
train = batches(loader, stress_convention="ase", model=network)
validation = batches(loader.evaluation(ds.split("val")), stress_convention="ase")
trainer = lightning.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False)
trainer.fit(module, train, validation)

print(f"error of the forces {float(trainer.callback_metrics['val_Force_MAE']):.3f} eV/A")
