"""What errors does training reach on two cores, and how long does the device wait for data?

    python tools/bench/training.py --json training.json   (half an hour)

Published hyperparameters and the split by 80, 10 and 10 percent that the published crystal networks use; fewer epochs
than published, for a processor. The mean predictor knows the training labels and nothing else. One seed each.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import common
import torch

import lazygraph as lg

# title: source, target, unit, model, epochs
JARVIS = "jarvis/jdft_3d_superconductors.json.zip", "formation_energy_peratom", "eV/atom"
PHONONS = "matbench/matbench_phonons.json.gz", "last phdos peak", "1/cm"
PEROVSKITES = ["perov_5/val.csv", "perov_5/test.csv"], "heat_all", "eV/atom"
CASES = {
    "JARVIS superconductors, formation energy, iComFormer": (*JARVIS, "icomformer", 25),
    "JARVIS superconductors, formation energy, CGCNN": (*JARVIS, "cgcnn", 100),
    "matbench phonons, last phdos peak, CGCNN": (*PHONONS, "cgcnn", 100),
    "perov-5 (val, test), heat of formation, CGCNN": (*PEROVSKITES, "cgcnn", 30),
}
PRESETS = {"icomformer": "comformer", "cgcnn": "cgcnn"}


def row(folder, source, target, unit, model, epochs):
    path = folder / "graphs.lg"
    names = [source] if isinstance(source, str) else source
    lg.write(common.data(*names), path, graph=PRESETS[model], labels=[target], units={target: unit}, progress=False)
    labelled = lg.LazyGraphDataset(path).where(f"isfinite(`{target}`)")
    options = lg.TrainOptions(target=target, model=model, n_epochs=epochs)
    begin = time.perf_counter()
    results = lg.train(path, options, folder / "run", progress=False)
    score, baseline = results.scores[target], results.baseline[target]
    return {
        "labelled_graphs": len(labelled),
        "epochs": epochs,
        "minutes": (time.perf_counter() - begin) / 60,
        "test_MAE": score["mae"],
        "of_a_mean_predictor": baseline["mae"],
        "unit": unit,
        "waiting_for_data_percent": 100 * results.waited,
    }


def main():
    options = common.parser(__doc__, repeats=1).parse_args()
    torch.set_num_threads(2)
    table = {}
    for title, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            table[title] = row(Path(folder), *case)
            print(title, table[title], flush=True)
    common.publish(__doc__, options, {"Training on two cores": table})


if __name__ == "__main__":
    main()
