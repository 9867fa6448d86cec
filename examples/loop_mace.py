"""Train MACE with its own training loop. Needs `pip install 'lazygraph[interop]'`."""

import mace.modules
import mace.tools
import numpy as np
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from e3nn import o3

import lazygraph as lg
from lazygraph.interop.mace import batches

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
    crystals, "copper.lg", graph="mace", units=units, per={"energy": "cell"}, split=(0.8, 0.1, 0.1), overwrite=True
)

# The network, and what MACE's loop is given besides: mace_run_train makes these of its command line.
block = mace.modules.RealAgnosticResidualInteractionBlock
network = mace.modules.ScaleShiftMACE(
    r_max=5.0,
    num_bessel=8,
    num_polynomial_cutoff=5,
    max_ell=2,
    interaction_cls=block,
    interaction_cls_first=block,
    num_interactions=2,
    num_elements=1,
    hidden_irreps=o3.Irreps("8x0e + 8x1o"),
    MLP_irreps=o3.Irreps("8x0e"),
    gate=torch.nn.functional.silu,
    atomic_energies=np.zeros(1),
    avg_num_neighbors=42.0,
    atomic_numbers=[29],
    correlation=2,
    atomic_inter_scale=1.0,
    atomic_inter_shift=0.0,
)
optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
loss = mace.modules.WeightedEnergyForcesStressLoss(energy_weight=1.0, forces_weight=10.0, stress_weight=1.0)
outputs = {"energy": True, "forces": True, "stress": True, "virials": False, "dipoles": False}
rest = {
    "checkpoint_handler": mace.tools.CheckpointHandler(directory="checkpoints", tag="copper"),
    "logger": mace.tools.MetricsLogger(directory="results", tag="copper"),
    "device": torch.device("cpu"),
    "log_errors": "PerAtomRMSE",
}
mace.tools.setup_logger()

# ---- the training ----
ds = lg.LazyGraphDataset("copper.lg", view=lg.view("mace", elements=["Cu"]), target=["energy", "stress"])
loader = lg.loader(ds.split("train"), batch_size=8, shuffle=True)
train = batches(loader, stress_convention="ase", model=network)
validation = {"Default": batches(loader.evaluation(ds.split("val")), stress_convention="ase")}
mace.tools.train(
    network, loss, train, validation, optimizer, schedule, 0, 3, 10, output_args=outputs, eval_interval=1, **rest
)
