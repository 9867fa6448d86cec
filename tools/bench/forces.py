"""What errors of energies, forces and stresses does a potential reach on one core?

    python tools/bench/forces.py --json forces.json   (up to half an hour)

300 structures of germanium and silicon of the mlearn set (Zuo et al., J. Phys. Chem. A 124, 731, 2020), evenly spread
over it: ground states, strained cells, surfaces, vacancies, and molecular dynamics of crystal and melt; 80, 10 and 10
percent of them in a random split. The stresses of these two elements have VASP's order and sign. A small MACE learns
energy, forces and stress. The standard deviation of the test labels is the root mean square error of the best constant.
For energies, those of the elements alone, which are fitted to the training energies, do better. Minutes are those of
the processor, which other work on the machine does not lengthen.
"""

from __future__ import annotations

import json
import tempfile
import time
import zipfile
from pathlib import Path

import common
import numpy as np
import torch
from lightning.pytorch.callbacks import Timer

import lazygraph as lg
from lazygraph.training.run import prepare

STRUCTURES = 300
UNITS = {"energy": "eV", "forces": "eV/A", "stress": "kbar"}
MODEL = {"channels": 16, "max_L": 0, "max_ell": 2, "correlation": 2, "num_bessel": 8, "radial_MLP": [32, 32]}
OPTIONS = {
    "stress_convention": "vasp",
    "model": "mace",
    "model_options": MODEL,
    "batch_size": 4,
    "loss": "huber",
    "learning_rate": 0.01,
    "gradient_clip": 10.0,
    "ema_decay": 0.99,
    "forces_weight": 10.0,
}


def structures():
    """The structures with their labels."""
    (path,) = common.data("forces/mlearn.json.zip")
    with zipfile.ZipFile(path) as archive:
        entries = json.loads(archive.read("mlearn.json"))
    chosen = [entry for entry in entries if set(entry["atoms"]["elements"]) <= {"Ge", "Si"}]
    for place in np.linspace(0, len(chosen) - 1, STRUCTURES).astype(int).tolist():
        entry = chosen[place]
        labels = {"energy": entry["energy"], "forces": np.array(entry["forces"]), "stress": entry["stresses"]}
        yield entry["jid"], entry["atoms"], labels


def rmse_of_the_elements(path, options):
    """The root mean square error of the energies per atom of the test graphs, predicted as energies of the elements."""
    prepared = prepare(path, options)
    prepared.data.train.close()
    test, module = prepared.data.splits["test"], prepared.module
    batch = test.batch(range(len(test)))
    off = (module.labels.energy.total(batch) - module.network.offsets(batch)) / batch.ptr.diff()
    return float(off.square().mean().sqrt())


def fit(folder, epochs, minutes):
    path = folder / "graphs.lg"
    lg.write(structures(), path, graph="mace", units=UNITS, per={"energy": "cell"}, workers=1, progress=False)
    options = lg.TrainOptions(target="energy", forces="forces", stress="stress", n_epochs=epochs, **OPTIONS)
    begin = time.process_time()
    limit = Timer({"minutes": minutes}, verbose=False)
    results = lg.train(path, options, folder / "run", progress=False, callbacks=(limit,))
    used = (time.process_time() - begin) / 60
    rows = {}
    for name, score in results.terms.items():
        rows[f"MACE, {name}"] = {
            "test_numbers": score["count"],
            "MAE": score["mae"],
            "RMSE": score["rmse"],
            "standard_deviation_of_the_labels": score["deviation"],
            "RMSE_of_the_elements_alone": rmse_of_the_elements(path, options) if name == "energy" else None,
            "unit": score["unit"],
        }
    told = f"{sum(results.graphs.values())} structures, {results.epochs} of {epochs} epochs, {used:.1f} minutes, "
    return f"{told}{results.parameters:,} parameters", rows


def main():
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--minutes", type=int, default=30, help="stop after this time, at the end of a batch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        title, rows = fit(Path(folder), options.epochs, options.minutes)
    common.publish(__doc__, options, {title: rows})


if __name__ == "__main__":
    main()
