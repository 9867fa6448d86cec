"""What errors do trainings on a processor reach, beside published ones, and how long does the device wait for data?

    python tools/bench/training.py --json training.json                  (hours)
    python tools/bench/training.py --only phonons --models cgcnn         (some minutes)

The networks have the published sizes. CGCNN is trained with the default options, the others as published, but for fewer
epochs: PotNet with sums over all images and a warm-up that has the same share of the training as in 500 epochs, ALIGNN
with angles between all edges. JARVIS and perov-5: the split by 80, 10 and 10 percent of the published crystal networks,
and several seeds of weights and order. Phonons: the five folds of matbench, one model each, a tenth of the other
crystals for validation. The mean predictor knows the training labels and nothing else. Minutes are those of the
processor, which other work on the machine hardly lengthens.

Published errors are those of matbench v0.1 (Dunn et al., npj Comput. Mater. 6, 138, 2020; its leaderboard): five folds
of all 1,265 phonons, and of all 18,928 perovskites, of which 7,572 have their labels here (there and here of a whole
cell of five atoms).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import common
import numpy as np
import torch

import lazygraph as lg

MATBENCH_SEED = 18012019  # of scikit-learn's KFold, of which matbench's folds are
FOLDS = 5


class Case(NamedTuple):
    sources: list[str]
    target: str
    unit: str
    epochs: dict[str, int]
    """Model -> epochs."""
    published: dict[str, float]
    """Model -> published error."""
    folds: bool = False


RECIPES = {
    "icomformer": ("comformer-2024", {}),
    "matformer": ("matformer-2022", {}),
    "potnet": ("potnet-2023", {"warmup_steps": 120}),  # of 330; published: 2,000, here of 5,500
    "alignn": ("alignn-2021", {}),
}
"""Model -> published training, and what else but the number of epochs is not taken from it."""

CASES = {
    "JARVIS superconductors, formation energy": Case(
        ["jarvis/jdft_3d_superconductors.json.zip"],
        "formation_energy_peratom",
        "eV/atom",
        {"cgcnn": 200, "icomformer": 30, "matformer": 30, "potnet": 30, "alignn": 10},
        {},
    ),
    "matbench phonons, last phdos peak": Case(
        ["matbench/matbench_phonons.json.gz"],
        "last phdos peak",
        "1/cm",
        {"cgcnn": 100, "icomformer": 40},
        {"cgcnn": 57.8},
        folds=True,
    ),
    "perov-5 (val, test), heat of formation": Case(
        ["perov_5/val.csv", "perov_5/test.csv"], "heat_all", "eV/cell", {"cgcnn": 60}, {"cgcnn": 0.0452}
    ),
}


def row(folder, case, model, seeds):
    path, target = folder / "graphs.lg", case.target
    options = lg.TrainOptions(target=target, model=model, n_epochs=case.epochs[model])
    graph = lg.graph(lg.models.find_model(model).preset)
    if model in RECIPES:
        recipe, changes = RECIPES[model]
        options = lg.TrainOptions.published(recipe, target=target, n_epochs=case.epochs[model], **changes)
        graph = lg.graph(options.graph, **options.graph_options)
    lg.write(common.data(*case.sources), path, graph=graph, labels=[target], units={target: case.unit}, progress=False)
    begin = time.process_time()
    if case.folds:
        report = lg.set_splits(path, folds=FOLDS, val=0.1, seed=MATBENCH_SEED)
        results = [lg.cross_validate(path, options, folder / "run", list(report.sizes), progress=False)]
        scores = [each[target] for each in results[0].folds.values()]
    else:
        results = [lg.train(path, options.changed(seed=seed), folder / f"{seed}", progress=False) for seed in seeds]
        scores = [each.scores[target] for each in results]
    errors = [score["mae"] for score in scores]
    return {
        "trainings": len(errors),
        "graphs_used": results[0].graphs["test"] if case.folds else sum(results[0].graphs.values()),
        "parameters": results[0].parameters,
        "epochs": case.epochs[model],
        "processor_minutes_of_one": (time.process_time() - begin) / 60 / len(errors),
        "test_MAE": float(np.mean(errors)),
        "deviation": float(np.std(errors)) if len(errors) > 1 else None,
        "MAE_of_a_mean_predictor": float(np.mean([each.baseline[target]["mae"] for each in results])),
        "published_MAE": case.published.get(model),
        "unit": case.unit,
        "waiting_for_data_percent": 100 * float(np.mean([each.waited for each in results])),
    }


def main():
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--only", default="", metavar="TEXT", help="the data sets whose names have this text")
    parser.add_argument("--models", metavar="NAME,NAME,...", help="these models; default: all of a data set")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds where there are no folds (default 3)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of torch (default 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chosen = {title: case for title, case in CASES.items() if options.only in title}
    if not chosen:
        parser.error(f"--only {options.only!r} matches nothing; there are: {'; '.join(CASES)}")
    table = {}
    for title, case in chosen.items():
        for model in case.epochs if options.models is None else options.models.split(","):
            with tempfile.TemporaryDirectory() as folder:
                name = f"{title}, {model}"
                table[name] = row(Path(folder), case, model, range(123, 123 + options.seeds))
                print(name, table[name], flush=True)
    common.publish(__doc__, options, {"Training on a processor": table})


if __name__ == "__main__":
    main()
