"""Train chgnet's CHGNet with its own trainer. Needs `pip install 'lazygraph[interop]'`."""

from ase.build import bulk
from ase.calculators.emt import EMT
from chgnet.model import CHGNet
from chgnet.trainer import Trainer

import lazygraph as lg
from lazygraph.interop.chgnet import batches

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
    crystals, "copper.lg", graph="chgnet", units=units, per={"energy": "cell"}, split=(0.8, 0.1, 0.1), overwrite=True
)

# ---- the training ----
ds = lg.LazyGraphDataset("copper.lg", view="chgnet", target=["energy", "stress"])
loader = lg.loader(ds.split("train"), batch_size=8, shuffle=True)
network = CHGNet(atom_fea_dim=16, bond_fea_dim=16, angle_fea_dim=16, atom_conv_hidden_dim=16, bond_conv_hidden_dim=16)
train = batches(loader, stress_convention="ase", model=network)
validation = batches(loader.evaluation(ds.split("val")), stress_convention="ase")
trainer = Trainer(network, targets="efs", epochs=3, use_device="cpu")
trainer.train(train, validation, save_dir="run", train_composition_model=True)

print("error of the energies in each epoch, eV/atom:", trainer.training_history["e"]["val"])
