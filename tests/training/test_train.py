"""A run from a dataset to its predictions; stopped anywhere it goes on to the same end, and nothing is overwritten."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.cli.train_options import train_options
from lazygraph.errors import InputError, LabelError, OutputExists, RecipeMismatch
from lazygraph.training.report import write_predictions
from lazygraph.training.targets import Targets
from lazygraph.writing.edit import set_splits
from tools.fuzz.hostile import Hostile

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice

NEEDED = {
    "cross_entropy": {"task": "classification"},
    "multistep": {"milestones": [2]},
    **dict.fromkeys(("ase", "vasp"), {"model": "mace", "forces": "f", "stress": "s"}),
    **dict.fromkeys(("fit", "stored", "none"), {"model": "mace", "forces": "f"}),
}
QUICK = {"model": "nets:Composition", "n_epochs": 3, "batch_size": 32, "learning_rate": 0.05, "target": "density"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """300 crystals with 240, 30 and 30 of them in splits, and a label that most of them do not have."""
    path = tmp_path_factory.mktemp("train") / "p.lg"
    lg.write("prototypes:300?seed=1", path, graph="comformer", workers=1, progress=False, split=(0.8, 0.1, 0.1))
    return path


def train(dataset, folder, *, callbacks=(), **changes):
    options = lg.TrainOptions.of({**QUICK, **changes})
    return lg.train(dataset, options, folder, progress=False, callbacks=callbacks)


def predict(run, source):
    return lg.predict(run, source, model=QUICK["model"], progress=False)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def losses(folder):
    names = ("epoch", "step", "train_loss", "val_loss", "learning_rate")
    return [tuple(row[name] for name in names) for row in rows(folder / "metrics.csv")]


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    return train(dataset, tmp_path_factory.mktemp("finished") / "run", n_epochs=20)


def test_a_run_leaves_everything(finished, dataset):
    folder, ds = finished.folder.path, lg.LazyGraphDataset(dataset)
    test = ds.split("test")
    assert finished.epochs == 20
    score, baseline = finished.scores["density"], finished.baseline["density"]
    assert score["unit"] == baseline["unit"] == ds.manifest.columns["density"].unit
    assert score["count"] == len(test)
    assert score["mae"] < 0.7 * baseline["mae"]
    assert 0 <= finished.waited < 1
    assert set(finished.seconds) == {"opening", "training", "predicting"}

    expected = dict(zip(test.ids.tolist(), test.columns["density"].tolist(), strict=True))
    assert {row.id: row.label[0] for row in finished.predictions} == pytest.approx(expected)
    off = [abs(row.predicted[0] - row.label[0]) for row in finished.predictions]
    assert score["mae"] == pytest.approx(np.mean(off))
    mean = ds.split("train").columns["density"].mean()
    assert baseline["mae"] == pytest.approx(np.abs(test.columns["density"] - mean).mean())

    table = rows(folder / "predictions.csv")
    unit = f" ({score['unit']})" if score["unit"] else ""
    assert list(table[0]) == ["id", f"density{unit}", f"predicted density{unit}"]
    assert [row["id"] for row in table] == [row.id for row in finished.predictions]
    metrics = rows(folder / "metrics.csv")
    assert [int(row["epoch"]) for row in metrics] == list(range(20))
    assert float(metrics[-1]["val_loss"]) < float(metrics[0]["val_loss"])
    assert float(metrics[-1]["graphs_per_s"]) > 0
    assert json.loads((folder / "results.json").read_text()) == finished.to_json()
    for picture in ("parity.png", "learning_curve.png"):
        assert (folder / picture).read_bytes()[:4] == b"\x89PNG"
    best = min(metrics, key=lambda row: float(row["val_loss"]))
    assert finished.checkpoint.name == f"best-epoch={best['epoch']}.ckpt"
    assert {file.name for file in (folder / "checkpoints").iterdir()} == {"last.ckpt", finished.checkpoint.name}


@pytest.mark.slow
def test_the_options_of_a_run_make_another_one(finished, dataset, tmp_path, capsys):
    again = tmp_path / "again"
    command = ["train", str(dataset), "--config", str(finished.folder.options)]
    assert main([*command, "-o", str(again), "--no-progress"]) == 2
    assert "names the model 'nets:Composition', which would be imported and called" in capsys.readouterr().err
    assert main([*command, "-o", str(again), "--no-progress", "--model", QUICK["model"]]) == 0
    assert losses(again) == losses(finished.folder.path)
    out = capsys.readouterr().out
    assert f"density, 30 test graphs: MAE {finished.scores['density']['mae']:.4g}" in out


KILLED = """
import os, signal, sys
sys.path.append(sys.argv[3])
from lightning.pytorch.callbacks import Callback
import lazygraph as lg

class Kill(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)

lg.train(sys.argv[1], lg.TrainOptions.of(eval(sys.argv[5])), sys.argv[2], progress=False, callbacks=(Kill(),))
"""


DROPOUT = {"model_options": {"dropout": 0.3}}
BUDGETS = {"batch_size": None, "max_atoms": 400, **DROPOUT}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "changes"),
    [
        (3, {"ema_decay": 0.9, **DROPOUT}),
        (8, {"ema_decay": 0.9, **DROPOUT}),
        (12, {"ema_decay": 0.9, **DROPOUT}),
        (19, {"num_workers": 1, **DROPOUT}),
        (40, {"schedule": "plateau", "n_epochs": 15, "learning_rate": 1e-7, **DROPOUT}),
        (7, BUDGETS),
        (13, BUDGETS),
    ],
    ids=str,
)
def test_a_killed_run_goes_on_to_the_same_losses(dataset, tmp_path, step, changes):
    """Killed in the first epoch, at the end of one, in the middle of later ones; the network draws random numbers."""
    changes = {"checkpoint_every": 3, **changes}
    whole = train(dataset, tmp_path / "whole", **changes)
    folder = tmp_path / "killed"
    command = [
        sys.executable,
        "-c",
        KILLED,
        dataset,
        folder,
        Path(__file__).parent,
        str(step),
        repr({**QUICK, **changes}),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (folder / "results.json").exists()
    resumed = train(dataset, folder, **changes)
    assert losses(folder) == losses(whole.folder.path)
    assert resumed.scores == whole.scores
    assert resumed.predictions == whole.predictions
    assert max(float(row["seconds"]) for row in rows(folder / "metrics.csv")) < 60
    before = sum(float(row["seconds"]) for row in rows(folder / "metrics.csv"))
    assert resumed.seconds["training"] > before  # validation too, and what was before the kill
    if "schedule" in changes:
        # It has seen that nothing is learned, from before the kill on.
        assert float(losses(folder)[-1][-1]) == pytest.approx(1e-8, abs=0)


def test_a_folder_belongs_to_one_run(finished, dataset, tmp_path):
    with pytest.raises(OutputExists, match="holds this run, finished"):
        train(dataset, finished.folder.path, n_epochs=20)
    with pytest.raises(OutputExists, match=r"another run: learning_rate is 0\.05 there and 0\.1 here"):
        train(dataset, finished.folder.path, n_epochs=20, learning_rate=0.1)
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(OutputExists, match="files that are not of a run"):
        train(dataset, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_errors_come_before_anything_is_made(dataset, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(LabelError, match="unknown label 'gap'; known: .*density"):
        train(dataset, run, target="gap")
    with pytest.raises(InputError, match="unknown model 'transformer'; did you mean 'matformer'"):
        train(dataset, run, model="transformer")
    with pytest.raises(InputError, match="unknown option 'epochs'; did you mean 'n_epochs'. known: target, .*model"):
        train(dataset, run, epochs=3)
    radius = tmp_path / "r.lg"
    lg.write("prototypes:20?seed=1", radius, graph=lg.graph("radius", cutoff=3.0), workers=1, progress=False)
    with pytest.raises(RecipeMismatch, match="preset 'comformer'"):
        train(radius, run, model="icomformer")
    with pytest.raises(InputError, match="20 graphs are too few for the ratios .*: test would get no graph"):
        train(radius, run, test_ratio=0.01)
    with pytest.raises(InputError, match="hyperparameters are: width, dropout"):
        train(dataset, run, model_options={"hidden": 3})
    with pytest.raises(InputError, match="with more than 2 atoms"):
        train(dataset, run, max_atoms=2)
    parts = tmp_path / "parts.lg"
    names = [f"prototype-{n:07d}" for n in range(300)]
    lg.write("prototypes:300?seed=1", parts, graph="comformer", workers=1, progress=False)
    set_splits(parts, names={"train": names[:200], "test": names[200:]})
    with pytest.raises(InputError, match="has the splits test, train; required: train, val and test"):
        train(parts, run)
    assert not run.exists()


FOLD = {"train": range(100), "val": range(100, 120), "test": range(120, 150)}


@pytest.fixture(scope="module")
def folded(dataset, tmp_path_factory):
    """The same dataset with the column ``fold_0``, whose splits are others than those of ``split``, and ``half``."""
    path = Path(shutil.copytree(dataset, tmp_path_factory.mktemp("folded") / "p.lg"))
    ids = lg.LazyGraphDataset(path).ids
    set_splits(path, names={name: ids[list(rows)].tolist() for name, rows in FOLD.items()}, name="fold_0")
    set_splits(path, names={"train": ids[:200].tolist(), "test": ids[200:].tolist()}, name="half")
    return path


@pytest.mark.slow
def test_a_run_uses_the_column_of_splits_that_is_named(folded, tmp_path, capsys):
    class Seen(Callback):
        def __init__(self):
            self.ids = set()

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.ids.update(batch.id)

    ds, seen = lg.LazyGraphDataset(folded), Seen()
    with pytest.warns(UserWarning, match="150 of the 300 graphs of p.lg are in none of the splits .* of fold_0"):
        run = train(folded, tmp_path / "fold", splits="fold_0", callbacks=(seen,))
    assert seen.ids == set(ds.ids[FOLD["train"]].tolist())
    assert [row.id for row in run.predictions] == ds.ids[FOLD["test"]].tolist()
    assert (run.splits, run.in_no_split) == ("fold_0", 150)
    assert json.loads(run.folder.results.read_text())["splits"] == "fold_0"
    assert tomllib.loads(run.folder.options.read_text())["splits"] == "fold_0"
    stored = torch.load(run.checkpoint, map_location="cpu", weights_only=True)["lazygraph"]
    assert stored["options"]["splits"] == "fold_0"
    train_labels = ds.split("train", of="fold_0").columns["density"]
    assert stored["targets"]["mean"] == pytest.approx([train_labels.mean()])
    assert len(predict(run.folder.path, folded).rows) == 300  # a prediction is for all graphs, whatever their split

    command = ["train", str(folded), "--config", str(run.folder.options), "--model", QUICK["model"], "--json"]
    assert main([*command, "-o", str(tmp_path / "again"), "--no-progress"]) == 0
    assert json.loads(capsys.readouterr().out)["test"] == json.loads(run.folder.results.read_text())["test"]
    with pytest.raises(OutputExists, match="splits is 'fold_0' there and None here"):
        train(folded, run.folder.path)
    members = lg.train_ensemble(
        folded, lg.TrainOptions.of({**QUICK, "splits": "fold_0"}), tmp_path / "both", 2, progress=False
    )
    assert [row.id for row in members.predictions] == ds.ids[FOLD["test"]].tolist()
    assert members.splits == "fold_0"


def test_columns_of_splits_that_do_not_serve(folded, tmp_path):
    for name, message in (
        ("fold_1", "unknown column of splits 'fold_1'; did you mean 'fold_0'"),
        ("density", "unknown column of splits 'density'; known: fold_0, half, split"),
        ("half", "has the splits test, train in the column 'half'; required: train, val and test"),
    ):
        with pytest.raises(InputError, match=message):
            train(folded, tmp_path / "run", splits=name)
    bare = tmp_path / "bare.lg"
    lg.write("prototypes:60?seed=1", bare, graph="comformer", workers=1, progress=False)
    with pytest.raises(InputError, match="unknown column of splits 'fold_0'.*lazygraph split .* --name fold_0"):
        train(bare, tmp_path / "run", splits="fold_0")
    assert not (tmp_path / "run").exists()


def test_the_data_module_takes_a_column_of_splits(folded):
    ds = lg.LazyGraphDataset(folded)
    data = lg.LazyGraphDataModule(ds, splits="fold_0", batch_size=50)
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 100, "val": 20, "test": 30}
    data = lg.LazyGraphDataModule(ds, batch_size=50)
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 240, "val": 30, "test": 30}


def test_a_list_has_no_columns_of_splits():
    with pytest.raises(InputError, match="splits= cannot be given"):
        lg.train_from_list(strucs=[1], labels=[1.0], splits="fold_0")


def test_the_processes_of_a_launcher_are_those_of_the_options(dataset, tmp_path, monkeypatch):
    """As torchrun --nproc-per-node 4 starts them, but with --devices 2."""
    launched = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "4", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "4"}
    for name, value in (launched | {"TORCHELASTIC_RUN_ID": "none"}).items():
        monkeypatch.setenv(name, value)
    for devices in (1, 2):
        message = f"the launcher started 4 processes, but devices={devices} .* need {devices}"
        with pytest.raises(InputError, match=message):
            train(dataset, tmp_path / "run", devices=devices)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_folder_behind_a_link(dataset, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    results = train(dataset, tmp_path / "link" / "run", n_epochs=1)
    assert (tmp_path / "real" / "run" / "results.json").exists()
    assert predict(tmp_path / "link" / "run", dataset).rows
    assert results.checkpoint.exists()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_infinite_labels_are_refused(dataset, tmp_path, split):
    """No release writes them today; a dataset of an earlier one, or of a stranger, may hold them."""
    stored = Hostile(dataset)
    ds = lg.LazyGraphDataset(dataset)
    rows = ds.split(split).indices()[[3, 5]]
    stored.columns["density"][rows] = [np.inf, -np.inf]
    stored.write(tmp_path / "x.lg")
    named = (
        f"2 of the {len(ds.split(split))} graphs of {split} have an infinite 'density', the first '{ds.ids[rows[0]]}'"
    )
    with pytest.raises(LabelError, match=f"{named}; set it to a number, or to NaN"):
        train(tmp_path / "x.lg", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"target": ["density", "volume_per_atom"], "loss": "mse", "schedule": "cosine"},
        {"schedule": "plateau", "loss": "huber", "gradient_clip": 0.1, "accumulate": 3},
        {"schedule": "none", "ema_decay": 0.9, "patience": 1, "keep": 2, "batch_size": None, "max_atoms": 400},
        {"num_workers": 2, "max_edges": 9000},
    ],
    ids=str,
)
def test_options_work_together(dataset, tmp_path, changes):
    results = train(dataset, tmp_path / "run", **changes)
    assert all(math.isfinite(score["mae"]) for score in results.scores.values())
    assert list(results.scores) == [changes.get("target", "density")] if "target" not in changes else changes["target"]
    steps = int(rows(results.folder.metrics)[-1]["step"])
    if "accumulate" in changes:
        assert steps == 3 * 3  # three epochs of eight batches
    if "keep" in changes:
        assert len(list(results.folder.checkpoints.glob("best-*"))) == min(2, results.epochs)


@pytest.mark.slow
def test_every_option_changes_what_is_learned(dataset, tmp_path):
    """Each by itself: an option that does nothing would give the losses of the defaults."""
    alone = {
        "loss": "mse",
        "schedule": "cosine",
        "gradient_clip": 1e-3,
        "accumulate": 2,
        "ema_decay": 0.9,
        "weight_decay": 0.9,
        "learning_rate": 0.02,
        "batch_size": 16,
        "max_atoms": 300,
        "seed": 7,
        "model_options": {"dropout": 0.5},
    }
    seen = [losses(train(dataset, tmp_path / "defaults").folder.path)]
    for name, value in alone.items():
        seen.append(losses(train(dataset, tmp_path / name, **{name: value}).folder.path))
        assert seen[-1] not in seen[:-1], name


def test_patience_ends_a_run_that_learns_nothing(dataset, tmp_path):
    results = train(dataset, tmp_path / "run", n_epochs=50, learning_rate=1e-12, schedule="none", patience=2)
    assert results.epochs < 10


KILLED_TWICE = KILLED.replace("def on_train", "batches = 0\n    def on_train").replace(
    "if trainer.global_step ==", "self.batches += 1\n        if self.batches =="
)


@pytest.mark.slow
def test_checkpoints_fall_between_steps_of_added_up_batches(dataset, tmp_path):
    """Killed in the middle of a step, and again in the middle of the one that is begun anew."""
    changes = {"accumulate": 3, "checkpoint_every": 1, "batch_size": 16}
    whole = train(dataset, tmp_path / "whole", **changes)
    folder = tmp_path / "killed"
    for batches in (8, 3):
        command = [sys.executable, "-c", KILLED_TWICE, dataset, folder, Path(__file__).parent, str(batches)]
        done = subprocess.run([*command, repr({**QUICK, **changes})], capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
    train(dataset, folder, **changes)
    assert losses(folder) == losses(whole.folder.path)


@pytest.mark.slow
def test_a_run_that_was_stopped_early_and_then_killed_trains_no_further(dataset, tmp_path):
    changes = {"patience": 2, "learning_rate": 1e-9, "n_epochs": 20}
    whole = train(dataset, tmp_path / "run", **changes)
    before = losses(tmp_path / "run")
    whole.folder.results.unlink()
    again = train(dataset, tmp_path / "run", **changes)
    assert losses(tmp_path / "run") == before
    assert again.epochs == whole.epochs < 20
    assert again.scores == whole.scores


@pytest.mark.slow
def test_models_of_the_registry_train(tmp_path):
    few = tmp_path / "few.lg"
    lg.write("prototypes:40?seed=1", few, graph=lg.graph("comformer", max_neighbors=6), workers=1, progress=False)
    small = {"hidden_channels": 8, "num_rbf": 8}
    for model, options in (("icomformer", small), ("ecomformer", small | {"tensor_channels": 4}), ("cgcnn", {})):
        results = train(few, tmp_path / model, model=model, model_options=options, n_epochs=1, learning_rate=1e-3)
        assert math.isfinite(results.scores["density"]["mae"])


@pytest.mark.slow
def test_classes(tmp_path):
    inputs = [
        (f"c{n}", lg.Crystal(np.eye(3) * (3 + n % 5 / 10), [[0, 0, 0]], [(11, 29, 55)[n % 3]]), {"kind": n % 3 * 2.0})
        for n in range(90)
    ]
    lg.write(inputs, tmp_path / "c.lg", graph="comformer", workers=1, progress=False)
    results = train(tmp_path / "c.lg", tmp_path / "run", target="kind", task="classification", n_epochs=20)
    assert results.scores["kind"] == {"count": 9, "accuracy": 1.0}
    table = rows(results.folder.predictions)
    for row, told in zip(results.predictions, table, strict=True):
        assert sum(row.probabilities) == pytest.approx(1)
        assert row.predicted[0] == 2 * np.argmax(row.probabilities)
        assert float(told["probability kind=2"]) == pytest.approx(row.probabilities[1])
    assert results.baseline["kind"]["accuracy"] < 0.7
    assert {row.predicted[0] for row in results.predictions} <= {0.0, 2.0, 4.0}
    with pytest.raises(InputError, match="2 targets are given .a, b., but classification learns one"):
        lg.TrainOptions(target=("a", "b"), task="classification")


@pytest.mark.slow
def test_missing_labels_are_left_out(tmp_path):
    """The labels that are there are learnt as if the others' graphs were not."""
    rng = np.random.default_rng(0)
    inputs = []
    for n in range(100):
        labels = {"a": None if n % 4 else float(n % 5), "b": rng.normal()}
        inputs.append((f"c{n}", lg.Crystal(np.eye(3) * 3, [[0, 0, 0]], [11 + n % 5]), labels))
    lg.write(inputs, tmp_path / "c.lg", graph="comformer", workers=1, progress=False, labels=["a", "b"])
    results = train(tmp_path / "c.lg", tmp_path / "run", target=["a", "b"], n_epochs=60)
    there = [row for row in results.predictions if not math.isnan(row.label[0])]
    assert results.scores["a"]["count"] == len(there) < results.scores["b"]["count"] == 10
    assert results.scores["a"]["mae"] < 0.3
    table = rows(results.folder.predictions)
    assert {row["a"] for row in table} >= {""}


@pytest.mark.slow
def test_validation_counts_the_labels_that_are_there(tmp_path):
    """Over batches that hold different numbers of them, and of two targets each by itself."""
    rng = np.random.default_rng(0)
    inputs = []
    for n in range(100):
        labels = {
            "a": rng.normal() if rng.random() < 0.3 else None,
            "b": rng.normal() * 9 if rng.random() < 0.6 else None,
        }
        inputs.append((f"c{n}", lg.Crystal(np.eye(3) * 3, [[0, 0, 0]], [11 + n % 5]), labels))
    lg.write(
        inputs,
        tmp_path / "c.lg",
        graph="comformer",
        workers=1,
        progress=False,
        labels=["a", "b"],
        split=(0.5, 0.4, 0.1),
    )
    results = train(tmp_path / "c.lg", tmp_path / "run", target=["a", "b"], n_epochs=1, batch_size=4)
    told = rows(results.folder.metrics)[0]
    ids = set(lg.LazyGraphDataset(tmp_path / "c.lg").split("val").ids.tolist())
    found = predict(results.folder.last, tmp_path / "c.lg")
    off = np.array([np.abs(np.subtract(row.predicted, row.label)) for row in found.rows if row.id in ids])
    assert off.shape == (40, 2)
    assert float(told["val_mae/a"]) == pytest.approx(np.nanmean(off[:, 0]), rel=1e-5)
    assert float(told["val_mae/b"]) == pytest.approx(np.nanmean(off[:, 1]), rel=1e-5)
    assert float(told["val_loss"]) == pytest.approx(np.nanmean(off / found.targets.std), rel=1e-5)


@pytest.mark.parametrize("source", ["dataset", "files", "structures"])
def test_predictions_are_those_of_the_run_from_any_source(finished, dataset, tmp_path, source):
    expected = {row.id: row.predicted for row in finished.predictions}
    test = lg.LazyGraphDataset(dataset).split("test")
    if source == "dataset":
        found = predict(finished.folder.path, dataset)
        assert len(found.rows) == 300
    else:
        crystals = {}
        for graph_id in test.ids.tolist():
            stored = test._store.arrays(test._store.row_of(graph_id))
            crystals[graph_id] = lg.Crystal(stored["lattice"], stored["frac_coords"], stored["numbers"])
        inputs = [(name, crystal, {}) for name, crystal in crystals.items()]
        if source == "files":
            for name, crystal in crystals.items():
                crystal.to_pymatgen().to(str(tmp_path / f"{name}.cif"))
            inputs = str(tmp_path / "*.cif")
        found = predict(finished.folder.path, inputs)
        assert len(found.rows) == 30
        assert all(math.isnan(row.label[0]) for row in found.rows)
    for row in found.rows:
        if row.id in expected:
            assert row.predicted == pytest.approx(expected[row.id], abs=1e-4)


def test_predictions_for_a_dataset_of_another_recipe_are_of_the_graphs_of_the_run(finished, dataset, tmp_path):
    found = {}
    for recipe in (lg.LazyGraphDataset(dataset).spec, "alignn", "none"):
        path = tmp_path / f"{len(found)}.lg"
        lg.write("prototypes:10?seed=4", path, graph=recipe, workers=1, progress=False)
        found[recipe] = [row.predicted for row in predict(finished.folder.path, path).rows]
    first, *others = found.values()
    for other in others:
        assert other == first


@pytest.mark.slow
def test_a_run_on_graphs_that_are_built_is_the_run_on_stored_ones(dataset, tmp_path):
    alone, stored = tmp_path / "alone.lg", tmp_path / "stored.lg"
    spec = lg.graph("cgcnn", cutoff=4.0, max_neighbors=4)
    lg.write(dataset, alone, graph="none", workers=1, progress=False)
    lg.write(dataset, stored, graph=spec, workers=1, progress=False)
    chosen = {"graph": "cgcnn", "graph_options": {"cutoff": 4.0, "max_neighbors": 4}}
    built = train(alone, tmp_path / "built", model="cgcnn", **chosen)
    assert losses(tmp_path / "built") == losses(train(stored, tmp_path / "read", model="cgcnn").folder.path)
    text = (tmp_path / "built" / "options.toml").read_text()
    assert 'graph = "cgcnn"' in text
    assert "recipe = \"lazygraph.graph('cgcnn', cutoff=4.0, max_neighbors=4)\"" in text
    with pytest.raises(OutputExists, match="graph_options"):
        train(alone, tmp_path / "built", model="cgcnn", graph="cgcnn", graph_options={"cutoff": 4.0})
    found = [lg.predict(built.folder.path, path, progress=False).rows for path in (alone, stored)]
    assert [row.predicted for row in found[0]] == [row.predicted for row in found[1]]


@pytest.mark.parametrize("model", ["icomformer", "cgcnn", "nets:NeedsEdges"])
def test_crystals_alone_are_refused_by_models_of_edges(dataset, tmp_path, model):
    lg.write(dataset, tmp_path / "alone.lg", graph="none", workers=1, progress=False)
    with pytest.raises(RecipeMismatch, match=r"holds crystals alone, without edges, but the model .*with graph="):
        train(tmp_path / "alone.lg", tmp_path / "run", model=model)
    assert not (tmp_path / "run").exists()


def test_a_config_file_does_not_make_a_preset_be_imported(dataset, tmp_path, capsys):
    (tmp_path / "c.toml").write_text('target = "density"\ngraph = "stranger:preset"\n')
    assert main(["train", str(dataset), "-o", str(tmp_path / "run"), "--config", str(tmp_path / "c.toml")]) == 2
    assert "names the preset 'stranger:preset', whose module would be imported" in capsys.readouterr().err


def test_predictions_need_a_finished_run_and_crystals(finished, dataset, tmp_path):
    with lg.GraphWriter(tmp_path / "o.lg") as writer:
        writer.add({"x": np.ones((2, 1)), "edge_index": np.array([[0, 1], [1, 0]])}, id="a")
    with pytest.raises(RecipeMismatch, match="came ready-made, so graph=.* leave graph out"):
        predict(finished.folder.path, tmp_path / "o.lg")
    with pytest.raises(InputError, match="there is no finished run"):
        lg.predict(tmp_path, dataset)
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="is not a checkpoint that lazygraph wrote"):
        lg.predict(tmp_path / "other.ckpt", dataset)


def test_a_checkpoint_that_holds_code_is_refused(finished, dataset, tmp_path):
    class Harm:
        def __reduce__(self):
            return (Path(tmp_path / "harm").touch, ())

    torch.save({"lazygraph": Harm()}, tmp_path / "bad.ckpt")
    with pytest.raises(InputError, match="nothing but numbers and texts"):
        lg.predict(tmp_path / "bad.ckpt", dataset)
    assert not (tmp_path / "harm").exists()


def test_nothing_is_imported_because_a_checkpoint_names_it(finished, dataset, tmp_path, monkeypatch, capsys):
    """Of a checkpoint with a class of one's own, or of a stranger's, beside a module that the stranger sent with it."""
    monkeypatch.chdir(tmp_path)
    module = "sent_along_with_it"
    checkpoint = torch.load(finished.checkpoint, weights_only=True)
    home, _, kind = checkpoint["lazygraph"]["model"].partition(":")
    (tmp_path / f"{module}.py").write_text(
        f"from pathlib import Path\nPath('ran').touch()\nfrom {home} import {kind} as Net\n"
    )
    checkpoint["lazygraph"]["model"] = f"{module}:Net"
    torch.save(checkpoint, "own.ckpt")
    command = ["predict", "own.ckpt", str(dataset), "-o", "p.csv", "--overwrite", "--no-progress"]
    with pytest.raises(InputError, match=f"--model {module}:Net"):
        lg.predict("own.ckpt", dataset, progress=False)
    assert main(command) == 2
    assert not Path("ran").exists()
    with pytest.raises(InputError, match="the option says 'cgcnn'"):
        lg.predict("own.ckpt", dataset, model="cgcnn", progress=False)
    assert main([*command, "--model", f"{module}:Net"]) == 0
    assert Path("ran").exists()
    assert len(rows(tmp_path / "p.csv")) == len(lg.LazyGraphDataset(dataset))
    assert main(command) == 2  # though it is imported now
    del sys.modules[module]


@pytest.mark.parametrize("key", ["model", "model_options", "targets", "options", "view", "recipe", "state_dict"])
def test_a_checkpoint_that_lacks_something_is_refused(finished, dataset, tmp_path, key):
    checkpoint = torch.load(finished.checkpoint, weights_only=True)
    del (checkpoint if key == "state_dict" else checkpoint["lazygraph"])[key]
    torch.save(checkpoint, tmp_path / "bad.ckpt")
    with pytest.raises(InputError, match="bad.ckpt is not as lazygraph writes checkpoints"):
        predict(tmp_path / "bad.ckpt", dataset)


def test_the_command_line_predicts(finished, tmp_path, capsys):
    (tmp_path / "bad.cif").write_text("data_x\n_cell_length_a 3\n")
    lg.Crystal(np.eye(3) * 3, [[0, 0, 0]], [29]).to_pymatgen().to(str(tmp_path / "good.cif"))
    out = tmp_path / "p.csv"
    command = ["predict", str(finished.folder.path), "--model", QUICK["model"]]
    assert main([*command, str(tmp_path / "*.cif"), "-o", str(out), "--no-progress"]) == 0
    assert [row["id"] for row in rows(out)] == ["good"]
    told = capsys.readouterr()
    assert "1 predictions" in told.out
    assert "no graph of 'bad'" in told.err


def test_quarantined_ids_may_hold_any_line_separator(finished, tmp_path):
    """At some of which splitlines() breaks."""
    name = "a\u2028b\x85c"
    found = predict(
        finished.folder.path, [(name, "no structure", {}), ("good", lg.Crystal(np.eye(3) * 3, [[0, 0, 0]], [29]), {})]
    )
    assert [row.id for row in found.rows] == ["good"]
    assert [entry["id"] for entry in found.quarantined] == [name]


@pytest.mark.slow
def test_labels_beside_predictions_are_those_of_the_model(finished, tmp_path):
    """Those that a dataset has; one with another unit or shape, or per atom, is another label, and is left out."""
    crystals = [lg.Crystal(np.eye(3) * (3 + k / 50), [[0, 0, 0]], [11 + k % 7]) for k in range(40)]
    inputs = [(f"c{k}", each, {"a": k + 0.1, "v": [k, 1.0, 2.0], "b": -k / 3}) for k, each in enumerate(crystals)]
    names = ["a", "v", "b"]
    same = {"graph": "comformer", "workers": 1, "progress": False}
    lg.write(inputs, tmp_path / "c.lg", labels=names, units={"a": "eV"}, per={"a": "cell"}, **same)
    run = train(tmp_path / "c.lg", tmp_path / "run", target=names, n_epochs=1).folder.path
    nan = pytest.approx(math.nan, nan_ok=True)
    for path, label, units, per, warned in (
        ("same", {"a": 1.1, "v": [3.1, 4.1, 5.1], "b": 0.1}, {"a": "eV"}, "cell", None),
        ("silent", {"a": 1.1, "b": 0.1}, {"a": "eV"}, None, None),
        ("some", {"b": 0.3}, {}, None, None),
        (
            "unit",
            {"a": 1.1, "b": 0.1},
            {"a": "meV"},
            "cell",
            "'a' of .* left out .* 1 numbers a graph and the unit meV per cell, .* 1 and eV per cell",
        ),
        ("per", {"a": 1.1, "b": 0.1}, {"a": "eV"}, "atom", "'a' of .* left out .* eV per atom, .* 1 and eV per cell"),
        ("shape", {"v": [1.0, 2.0], "b": 0.1}, {}, None, "'v' of .* left out .* 2 numbers a graph .* trained with 3 "),
    ):
        described = {} if per is None else {"a": per}
        lg.write([("x", crystals[0], label)], tmp_path / path, units=units, per=described, labels=list(label), **same)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            (row,) = predict(run, tmp_path / path).rows
        told = [str(each.message) for each in caught if "left out" in str(each.message)]
        assert len(told) == (warned is not None)
        assert not told or re.search(warned, told[0])
        kept = label if warned is None else {"b": label["b"]}
        assert row.label == [kept.get("a", nan), *kept.get("v", [nan] * 3), kept.get("b", nan)]


def test_the_command_line_has_every_option():
    from dataclasses import fields

    declared = {
        f.name: (str(f.type).removesuffix(" | None"), f.default)
        for f in fields(lg.TrainOptions)
        if f.name not in ("target", "model_options", "graph_options")
    }
    kinds = {"whole_numbers": "Sequence[int]", "names": "Sequence[str]"}
    found = {one.name: (kinds.get(one.kind.__name__, one.kind.__name__), one.default) for one in train_options()}
    assert found == declared
    for option in train_options():
        assert len(option.text) > 10
        assert "`" not in option.text
        for choice in option.choices or ():
            assert lg.TrainOptions.of({"target": "x", option.name: choice, **NEEDED.get(choice, {})})


@pytest.mark.slow
def test_an_ensemble_gives_means_and_deviations(dataset, tmp_path):
    options = lg.TrainOptions.of({**QUICK, "seed": 5})
    found = lg.train_ensemble(dataset, options, tmp_path / "run", 3, progress=False)
    single = train(dataset, tmp_path / "single", seed=6)
    runs = [predict(tmp_path / "run" / f"member-{k}", dataset) for k in range(3)]
    assert losses(tmp_path / "run" / "member-1") == losses(single.folder.path)
    assert losses(tmp_path / "run" / "member-0") != losses(tmp_path / "run" / "member-1")
    together = predict(tmp_path / "run", dataset)
    for row, *members in zip(together.rows, *(run.rows for run in runs), strict=True):
        values = [member.predicted[0] for member in members]
        assert row.predicted[0] == pytest.approx(np.mean(values))
        assert row.deviation[0] == pytest.approx(np.std(values))
    expected = {row.id: row for row in together.rows}
    assert len(found.predictions) == 30
    for row in found.predictions:
        assert row.predicted == pytest.approx(expected[row.id].predicted, abs=1e-5)
        assert row.deviation == pytest.approx(expected[row.id].deviation, abs=1e-5)
    table = rows(tmp_path / "run" / "predictions.csv")
    assert [name.split()[0] for name in table[0]] == ["id", "density", "predicted", "deviation"]
    assert (tmp_path / "run" / "calibration.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(OutputExists, match="finished"):
        lg.train_ensemble(dataset, options, tmp_path / "run", 3, progress=False)
    with pytest.raises(InputError, match="found members=1; required: a whole number from 2 on"):
        lg.train_ensemble(dataset, options, tmp_path / "other", 1)


@pytest.mark.slow
def test_an_ensemble_of_classifiers_gives_probabilities(tmp_path):
    rng = np.random.default_rng(2)
    inputs = [
        (f"c{n}", lg.Crystal(np.eye(3) * 3, [[0, 0, 0]], [11 + n % 3]), {"metal": float((n % 3 + rng.random()) > 1.4)})
        for n in range(120)
    ]
    lg.write(inputs, tmp_path / "c.lg", graph="comformer", workers=1, progress=False)
    options = lg.TrainOptions.of({**QUICK, "target": "metal", "task": "classification"})
    results = lg.train_ensemble(tmp_path / "c.lg", options, tmp_path / "run", 2, progress=False)
    members = [rows(tmp_path / "run" / f"member-{k}" / "predictions.csv") for k in range(2)]
    for row, first, second in zip(results.predictions, *members, strict=True):
        pair = [float(member["probability metal=1"]) for member in (first, second)]
        assert row.probabilities[1] == pytest.approx(np.mean(pair))
        assert row.predicted == [float(np.mean(pair) > 0.5)]
        assert row.deviation[0] == pytest.approx(np.std(pair), abs=1e-8)
    right = [(row.probabilities[1], row.label[0]) for row in results.predictions]
    above = [(p > q) + (p == q) / 2 for p, y in right for q, z in right if y > z]
    assert results.scores["metal"]["roc_auc"] == pytest.approx(np.mean(above))
    assert (tmp_path / "run" / "calibration.png").read_bytes()[:4] == b"\x89PNG"
    assert list(rows(tmp_path / "run" / "predictions.csv")[0]) == [
        "id",
        "metal",
        "predicted metal",
        "deviation of the probability",
        "probability metal=0",
        "probability metal=1",
    ]
    found = predict(tmp_path / "run", tmp_path / "c.lg")
    assert {row.id: row.deviation for row in found.rows}[results.predictions[0].id] == pytest.approx(
        results.predictions[0].deviation, abs=1e-6
    )


@pytest.mark.slow
def test_names_may_hold_brackets_and_dollars(tmp_path):
    names = ["gap[eV]", "gap", r"$\frac$"]
    inputs = [
        (
            f"c{n}",
            lg.Crystal(np.eye(3) * 3, [[0, 0, 0]], [11 + n % 5]),
            {**dict.fromkeys(names, n / 7), "d[1]": [n, 2.0]},
        )
        for n in range(40)
    ]
    lg.write(inputs, tmp_path / "c.lg", graph="comformer", workers=1, progress=False, units={"gap": "eV[1]"})
    options = lg.TrainOptions.of({**QUICK, "target": [*names, "d[1]"], "n_epochs": 1})
    results = lg.train_ensemble(tmp_path / "c.lg", options, tmp_path / "run", 2, progress=False)
    assert list(results.scores) == [*names, "d[1][0]", "d[1][1]"]
    found = {row.id: row.label for row in predict(tmp_path / "run", tmp_path / "c.lg").rows}
    for row in results.predictions:
        assert found[row.id] == pytest.approx(row.label)


def test_predictions_as_parquet(finished, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    targets = Targets(("density",), ("g/cm3",), (0.0,), (1.0,))
    write_predictions(finished.predictions, targets, tmp_path / "p.parquet")
    table = parquet.read_table(tmp_path / "p.parquet").to_pydict()
    assert list(table) == ["id", "density (g/cm3)", "predicted density (g/cm3)"]
    assert table["id"] == [row.id for row in finished.predictions]
