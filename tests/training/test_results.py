"""``results.json`` is what docs/training.md says, what --json prints, and what the predictions give."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nets import Composition

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.interop.labels import AtomLabel, CrystalLabel, Energy
from lazygraph.training.potential import PotentialLabels, errors_of
from lazygraph.training.report import Prediction

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
QUICK = {"model": "nets:Composition", "n_epochs": 2, "batch_size": 16, "learning_rate": 0.05}


def documented():
    """The fields in the table of the page, each of which is explained once."""
    section = PAGE.read_text(encoding="utf-8").partition("\n### results.json\n")[2].partition("\n##")[0]
    cells = re.findall(r"^\| (`.*?) \| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    assert all(kind and meaning for _, kind, meaning in cells)
    names = [name for cell, _, _ in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert len(set(names)) == len(names)
    return set(names)


NAMES = {"test.": "TARGET", "baseline.": "TARGET", "worst.": "TARGET", "terms.": "LABEL", "folds.": "NAME"}


def fields_of(results, prefix=""):
    """The names of all values of an object, as the page writes them."""
    for key, value in results.items():
        name = prefix + NAMES.get(prefix, key)
        if isinstance(value, dict) and prefix != "folds.":
            yield from fields_of(value, f"{name}.")
            continue
        yield name
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from (f"{name}[].{each}" for row in value for each in row)


def write(path, labels, **options):
    """Crystals of three elements, with labels by name."""
    inputs = [
        (
            f"c{n}",
            lg.Crystal(np.eye(3) * 3, [[0, 0, 0], [0.5, 0.5, 0.5]][: 1 + n % 2], [11 + n % 3, 29][: 1 + n % 2]),
            {name: values[n] for name, values in labels.items()},
        )
        for n in range(len(next(iter(labels.values()))))
    ]
    lg.write(inputs, path, graph="comformer", workers=1, progress=False, labels=list(labels), **options)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A regression of two labels, one of them a vector; a classification; an ensemble; and a run from a list."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    numbers = write(
        folder / "n.lg", {"gap": [*rng.normal(size=60)], "v": rng.normal(size=(60, 2)).tolist()}, units={"gap": "eV"}
    )
    classes = write(folder / "c.lg", {"kind": [float(n % 3 > 1) for n in range(90)]}, split=(0.6, 0.2, 0.2))
    folds = write(folder / "f.lg", {"gap": [*rng.normal(size=40)]})
    assert main(["split", str(folds), "--folds", "2", "--val", "0.2"]) == 0
    options = lg.TrainOptions.of({**QUICK, "target": ["gap", "v"], "seed": 7})
    return {
        "numbers": lg.train(numbers, options, folder / "numbers", progress=False),
        "classes": lg.train(
            classes, lg.TrainOptions.of({**QUICK, "target": "kind", "task": "classification"}), folder / "classes",
            progress=False,
        ),
        "folds": lg.cross_validate(
            folds, lg.TrainOptions.of({**QUICK, "target": "gap", "n_epochs": 1}), folder / "folds",
            ["fold_0", "fold_1"], progress=False,
        ),
        "ensemble": lg.train_ensemble(numbers, options, folder / "ensemble", 2, progress=False),
        "list": lg.train_from_list(
            [lg.Crystal(np.eye(3) * (3 + n / 90), [[0, 0, 0]], [29]) for n in range(30)], [n / 7 for n in range(30)],
            model="cgcnn", n_epochs=1, batch_size=8, output_dir=folder / "list", graph_cache_dir=folder / "cache",
            progress=False,
        ),
    }  # fmt: skip


pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_the_page_names_every_field_and_no_other(runs):
    found = {name: set(fields_of(json.loads(run.folder.results.read_text()))) for name, run in runs.items()}
    energy, forces = Energy(CrystalLabel(0, (), 1.0), is_per_atom=True), AtomLabel("forces", 1.0)
    labels = PotentialLabels({"energy": "e", "forces": "f"}, energy, forces, "eV/A")
    atoms = np.ones((2, 3))
    predictions = [Prediction("a", [1.0], [2.0], forces=atoms, label_forces=2 * atoms)]
    potential = replace(runs["numbers"], terms=errors_of(predictions, labels))
    assert set().union(*found.values(), fields_of(potential.to_json())) == documented()
    for name, fields in found.items():
        assert fields == set(fields_of(runs[name].to_json()))


def test_the_values_are_those_of_the_run(runs):
    run = runs["numbers"]
    told = json.loads(run.folder.results.read_text())
    assert told == run.to_json()
    assert told["version"] == 1
    assert told["parameters"] == sum(each.numel() for each in Composition(3).parameters()) == run.parameters
    stored = torch.load(run.checkpoint, weights_only=True)["state_dict"]
    assert told["parameters"] == sum(value.numel() for name, value in stored.items() if name.startswith("network."))
    assert (told["model"], told["task"], told["target"]) == ("nets:Composition", "regression", ["gap", "v"])
    assert (told["seeds"], told["splits"], told["split_seed"]) == ([7], None, 123)
    assert told["graphs"] == {"train": 48, "val": 6, "test": 6}
    assert (told["epochs"], told["unlabelled"], told["in_no_split"], told["quarantined"]) == (2, 0, 0, 0)
    assert list(told["test"]) == list(told["baseline"]) == list(told["worst"]) == ["gap", "v[0]", "v[1]"]
    assert (run.folder.path / told["checkpoint"]).exists()
    assert runs["ensemble"].to_json()["seeds"] == [7, 8]
    assert runs["ensemble"].parameters == run.parameters
    assert runs["classes"].to_json()["splits"] == "split"
    assert runs["classes"].to_json()["split_seed"] is None
    assert runs["list"].parameters == 80_833  # of CGCNN with its published sizes, PyG's convolution


def test_scores_are_those_of_the_predictions(runs):
    for name in ("numbers", "ensemble"):
        run = runs[name]
        for k, (target, score) in enumerate(run.scores.items()):
            labels = np.array([row.label[k] for row in run.predictions])
            off = np.array([row.predicted[k] for row in run.predictions]) - labels
            assert score["count"] == len(labels)
            assert score["mae"] == pytest.approx(np.abs(off).mean())
            assert score["rmse"] == pytest.approx(np.sqrt((off**2).mean()))
            assert score["r2"] == pytest.approx(1 - (off**2).sum() / ((labels - labels.mean()) ** 2).sum())
            worst = run.worst[target]
            order = np.argsort(-np.abs(off))
            assert [row.id for row in worst] == [run.predictions[place].id for place in order]
            assert [row.error for row in worst] == pytest.approx(off[order])


def test_the_tables_are_of_the_test_graphs(runs):
    run = runs["numbers"]
    ds = lg.LazyGraphDataset(run.folder.path.parent / "n.lg")
    formula = dict(zip(ds.ids.tolist(), ds.columns["formula"].tolist(), strict=True))
    n_atoms = dict(zip(ds.ids.tolist(), ds.columns["n_atoms"].tolist(), strict=True))
    for row in read(run.folder.path / "worst.csv"):
        assert (row["formula"], row["n_atoms"]) == (formula[row["id"]], str(n_atoms[row["id"]]))
        assert row["unit"] == ("eV" if row["target"] == "gap" else "")
        assert float(row["error"]) == float(row["predicted"]) - float(row["label"])
    groups = read(run.folder.path / "residuals.csv")
    for by, parts in (
        ("element", lambda name: re.findall("[A-Z][a-z]?", formula[name])),
        ("atoms", lambda name: [str(n_atoms[name])]),
    ):
        of_group = {}
        for prediction in run.predictions:
            for part in parts(prediction.id):
                of_group.setdefault(part, []).append(prediction.predicted[0] - prediction.label[0])
        rows = {row["value"]: row for row in groups if row["group"] == by and row["target"] == "gap"}
        assert set(rows) == set(of_group)
        for part, off in of_group.items():
            assert int(rows[part]["graphs"]) == len(off)
            assert float(rows[part]["mae"]) == pytest.approx(np.abs(off).mean())
            assert float(rows[part]["rmse"]) == pytest.approx(np.sqrt(np.square(off).mean()))
            assert float(rows[part]["mean error"]) == pytest.approx(np.mean(off))


def test_the_worst_classes_are_the_surest_errors(runs):
    run = runs["classes"]
    right = [row.probabilities[int(row.label[0])] for row in run.predictions]
    assert [row.error for row in run.worst["kind"]] == pytest.approx(sorted((1 - p for p in right), reverse=True)[:10])
    wrong = np.mean([row.predicted[0] != row.label[0] for row in run.predictions])
    assert run.scores["kind"]["accuracy"] == pytest.approx(1 - wrong)
    sizes = [row for row in read(run.folder.path / "residuals.csv") if row["group"] == "atoms"]
    assert sum(int(row["graphs"]) * float(row["wrong"]) for row in sizes) == pytest.approx(wrong * len(run.predictions))


def test_every_run_leaves_its_plots_and_tables(runs):
    common = {"predictions.csv", "residuals.csv", "residuals.png", "results.json", "worst.csv", "options.toml"}
    single = common | {"learning_curve.png", "metrics.csv", "checkpoints"}
    for name, files in {
        "numbers": single | {"parity.png"},
        "classes": single,
        "ensemble": common | {"parity.png", "calibration.png", "member-0", "member-1"},
        "list": single | {"parity.png"},
        "folds": common | {"parity.png", "member-0", "member-1"},
    }.items():
        found = {file.name for file in runs[name].folder.path.iterdir()} - {"tensorboard"}
        assert found == files, name


def test_a_notebook_shows_the_worst_predictions(runs):
    run = runs["numbers"]
    shown = run._repr_html_()
    assert "The worst predictions of gap (eV)" in shown
    assert f"{run.parameters:,} trainable parameters" in shown
    for row in run.worst["gap"]:
        assert row.id in shown
    assert f"r2 {run.scores['gap']['r2']:.4g}" in repr(run)


@pytest.mark.parametrize("more", [[], ["--ensemble", "2"], ["--no-progress"]], ids=str)
def test_json_on_stdout_is_the_file(runs, tmp_path, capsys, more):
    dataset = runs["numbers"].folder.path.parent / "n.lg"
    command = ["train", str(dataset), "--target", "gap", "--model", "cgcnn", "--n-epochs", "1", "--json", *more]
    assert main([*command, "-o", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads((tmp_path / "run" / "results.json").read_text())
    assert ("Epoch 0" in err) == ("--no-progress" not in more)


@pytest.mark.parametrize("task", [[], ["--find-learning-rate"]], ids=str)
def test_what_a_network_prints_is_not_in_the_json(runs, tmp_path, capsys, task):
    dataset = runs["numbers"].folder.path.parent / "n.lg"
    command = ["train", str(dataset), "--target", "gap", "--model", "nets:Printing", "--n-epochs", "1", "--json", *task]
    assert main([*command, "--no-progress", "-o", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    json.loads(out)
    assert "this network says hello" in err


def test_the_command_says_which_graphs_it_used(runs, tmp_path, capsys):
    dataset = runs["numbers"].folder.path.parent / "n.lg"
    command = ["train", str(dataset), "--target", "gap", "--model", "nets:Composition", "--n-epochs", "1"]
    assert main([*command, "--no-progress", "-o", str(tmp_path / "run")]) == 0
    told = json.loads((tmp_path / "run" / "results.json").read_text())
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(
        "graphs: " + ", ".join(f"{told['graphs'][name]} {name}" for name in ("train", "val", "test"))
    )
    assert ("seed 123" in line) == (told["splits"] is None)
    assert (f"{told['unlabelled']} without a label" in line) == bool(told["unlabelled"])


def test_the_command_says_the_determination(runs, tmp_path, capsys):
    dataset = runs["numbers"].folder.path.parent / "n.lg"
    command = ["train", str(dataset), "--target", "gap", "--model", "cgcnn", "--n-epochs", "1", "--no-progress"]
    assert main([*command, "-o", str(tmp_path / "run")]) == 0
    score = json.loads((tmp_path / "run" / "results.json").read_text())["test"]["gap"]
    assert f"RMSE {score['rmse']:.4g} eV, R2 {score['r2']:.3f}; a mean predictor" in capsys.readouterr().out


def test_a_run_without_test_graphs_has_no_scores(runs, tmp_path):
    dataset = runs["numbers"].folder.path.parent / "n.lg"
    options = lg.TrainOptions.of({**QUICK, "target": "gap", "n_epochs": 1, "test_ratio": 0.0})
    run = lg.train(dataset, options, tmp_path / "run", progress=False)
    told = json.loads(run.folder.results.read_text())
    assert told["graphs"]["test"] == 0
    assert (told["test"], told["worst"]) == ({"gap": {"count": 0}}, {"gap": []})
    assert run._repr_html_()


def test_numbers_that_json_does_not_have_are_null(runs):
    run = runs["numbers"]
    worst = {"gap": [run.worst["gap"][0]._replace(predicted=math.nan, error=math.nan)]}
    scores = {"gap": {"count": 1, "mae": math.inf, "rmse": math.nan, "r2": -math.inf, "unit": "eV"}}
    told = replace(run, scores=scores, worst=worst).to_json()
    assert told["test"]["gap"] == {"count": 1, "mae": None, "rmse": None, "r2": None, "unit": "eV"}
    assert told["worst"]["gap"][0]["error"] is None
    json.loads(json.dumps(told, allow_nan=False))


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
