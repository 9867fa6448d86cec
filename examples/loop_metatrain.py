"""Train the architecture PET with metatrain's own trainer. Needs `pip install metatrain`."""

import lazygraph.interop.metatrain  # isort: skip  # before everything that imports torch_geometric

import logging

import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from metatrain.pet import PET, Trainer
from metatrain.utils.architectures import get_default_hypers
from metatrain.utils.hypers import init_with_defaults
from metatrain.utils.loss import LossSpecification
from omegaconf import OmegaConf

import lazygraph as lg

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
    crystals, "copper.lg", graph="none", units=units, per={"energy": "cell"}, split=(0.8, 0.1, 0.1), overwrite=True
)

# The hyperparameters, and a loss of energies and their gradients: mtt makes these of its options.yaml.
hypers = get_default_hypers("pet", 32)
hypers["model"] |= {"d_pet": 16, "d_node": 16, "d_head": 16, "d_feedforward": 16, "num_heads": 2, "num_gnn_layers": 1}
loss = {**init_with_defaults(LossSpecification)}
loss["gradients"] = {name: init_with_defaults(LossSpecification) for name in ("positions", "strain")}
loss = OmegaConf.create({"energy": loss})
OmegaConf.resolve(loss)
hypers["training"] |= {"num_epochs": 3, "batch_size": 8, "num_workers": 0, "learning_rate": 1e-2, "loss": loss}
logging.basicConfig(level=logging.INFO, format="%(message)s")

# ---- the training ----
ds = lg.LazyGraphDataset("copper.lg", target=["energy", "stress"], target_dtype="float64")
parts = {name: ds.split(name) for name in ("train", "val")}
data = {name: lazygraph.interop.metatrain.samples(part, stress_convention="ase") for name, part in parts.items()}
network = PET(hypers["model"], data["train"].dataset_info())
trainer = Trainer(hypers["training"])
trainer.train(network, torch.float32, [torch.device("cpu")], [data["train"]], [data["val"]], ".")

print(f"best error {trainer.best_metric:.3g} in epoch {trainer.best_epoch}")
