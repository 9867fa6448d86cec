"""What errors does training reach on two cores, and how long does the device wait for data?

    python tools/bench/training.py --json training.json   (an hour and a half)

Published hyperparameters and the split by 80, 10 and 10 percent that the published crystal networks use; fewer epochs
than published, for a processor. The mean predictor knows the training labels and nothing else. One seed each. Minutes
are those of the processor over two cores, which other work on the machine does not lengthen.

Published errors are those of matbench v0.1 (Dunn et al., npj Comput. Mater. 6, 138, 2020; its leaderboard): five folds
of all 1,265 phonons, and of all 18,928 perovskites, of which 7,572 have their labels here (there and here of a whole
cell of five atoms).
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
PEROVSKITES = ["perov_5/val.csv", "perov_5/test.csv"], "heat_all", "eV/cell"
CASES = {
    "JARVIS superconductors, formation energy, iComFormer": (*JARVIS, "icomformer", 50, None),
    "JARVIS superconductors, formation energy, CGCNN": (*JARVIS, "cgcnn", 200, None),
    "matbench phonons, last phdos peak, iComFormer": (*PHONONS, "icomformer", 40, None),
    "matbench phonons, last phdos peak, CGCNN": (*PHONONS, "cgcnn", 100, 57.8),
    "perov-5 (val, test), heat of formation, CGCNN": (*PEROVSKITES, "cgcnn", 60, 0.0452),
}
CORES = 2
PRESETS = {"icomformer": "comformer", "cgcnn": "cgcnn"}


def row(folder, source, target, unit, model, epochs, published):
    path = folder / "graphs.lg"
    names = [source] if isinstance(source, str) else source
    lg.write(common.data(*names), path, graph=PRESETS[model], labels=[target], units={target: unit}, progress=False)
    labelled = lg.LazyGraphDataset(path).where(f"isfinite(`{target}`)")
    options = lg.TrainOptions(target=target, model=model, n_epochs=epochs)
    begin = time.process_time()
    results = lg.train(path, options, folder / "run", progress=False)
    score, baseline = results.scores[target], results.baseline[target]
    return {
        "labelled_graphs": len(labelled),
        "epochs": epochs,
        "minutes": (time.process_time() - begin) / 60 / CORES,
        "test_MAE": score["mae"],
        "MAE_of_a_mean_predictor": baseline["mae"],
        "published_MAE": published,
        "unit": unit,
        "waiting_for_data_percent": 100 * results.waited,
    }


def main():
    options = common.parser(__doc__, repeats=1).parse_args()
    torch.set_num_threads(CORES)
    table = {}
    for title, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            table[title] = row(Path(folder), *case)
            print(title, table[title], flush=True)
    common.publish(__doc__, options, {"Training on two cores": table})


if __name__ == "__main__":
    main()
