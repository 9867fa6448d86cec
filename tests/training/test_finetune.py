"""Training that begins with other weights, keeps some of them, or goes on after its end."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import InputError, OutputExists
from lazygraph.training.finetune import _are_the_same, freeze, start_from
from lazygraph.training.models.comformer_weights import comformer_state_dict
from lazygraph.training.rate_finder import _suggestion, find_learning_rate
from lazygraph.training.run import prepare
from lazygraph.training.targets import Targets

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = {"hidden_channels": 8, "num_rbf": 4, "num_layers": 2}
BASE = {"model": "icomformer", "model_options": SMALL, "target": "density", "n_epochs": 2, "batch_size": 16}
TARGETS = Targets(("density",), ("g/cm^3",), (0.0,), (1.0,))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("finetune") / "p.lg"
    lg.write("prototypes:60?seed=1", path, graph="comformer", workers=1, progress=False)
    return path


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    options = lg.TrainOptions.of({**BASE, "schedule": "none"})
    return lg.train(dataset, options, tmp_path_factory.mktemp("first") / "run", progress=False)


def network_of(path, **changes):
    return prepare(path, lg.TrainOptions.of({**BASE, **changes})).module


@pytest.mark.parametrize("of", ["folder", "checkpoint"])
def test_the_first_predictions_are_those_of_the_checkpoint(dataset, run, of):
    start = run.folder.path if of == "folder" else run.checkpoint
    module = network_of(dataset, from_checkpoint=start, split_seed=7)  # other training graphs have another mean
    trained = lg.predict(run.folder.path, dataset, progress=False)
    batch = lg.LazyGraphDataset(dataset, view="comformer").batch(range(10))
    with torch.no_grad():
        found = module.scale.restored(module.eval()(batch))
    expected = [row.predicted[0] for row in trained.rows[:10]]
    assert found[:, 0].tolist() == pytest.approx(expected, rel=1e-5)


def test_other_targets_have_their_own_mean(dataset, run):
    own = network_of(dataset)
    started = network_of(dataset, from_checkpoint=run.folder.path, split_seed=7)
    assert started.targets.mean == run_targets(run).mean
    module = torch.nn.Module()
    module.network = lg.models.find_model("icomformer").build(1, **SMALL)
    other = Targets(("energy",), ("eV",), (4.0,), (2.0,))
    assert start_from(module.network, other, str(run.folder.path)) == other
    assert own.targets.names == ("density",)


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [("cell", "cell", True), ("cell", None, True), ("cell", "atom", False)],
)
def test_a_label_per_atom_is_another_target_than_one_per_cell(before, after, same):
    """What one of the two does not say is not compared."""
    one, other = (Targets(("energy",), ("eV",), (0.0,), (1.0,), per=(per,)) for per in (before, after))
    assert _are_the_same(Targets.from_json(one.to_json()), other) is same
    assert _are_the_same(Targets(("energy",), ("eV",), (0.0,), (1.0,)), other)


def run_targets(run):
    from lazygraph.training.predict import Trained

    return Trained.load(run.checkpoint).module.targets


def test_weights_that_do_not_fit_are_named(dataset, run):
    with pytest.raises(InputError, match=r"'atoms.weight' has the shape \(12, 92\).*has the shape \(8, 92\).*fresh="):
        network_of(dataset, from_checkpoint=run.folder.path, model_options={**SMALL, "hidden_channels": 12})
    with pytest.raises(InputError, match=r"'layers.2.*does not have it"):
        network_of(dataset, from_checkpoint=run.folder.path, model_options={**SMALL, "num_layers": 3})
    with pytest.raises(InputError, match=r"has the weight 'layers.1.*and this network does not"):
        network_of(dataset, from_checkpoint=run.folder.path, model_options={**SMALL, "num_layers": 1})


def test_some_weights_can_be_new(dataset, run):
    before = torch.load(run.checkpoint, weights_only=True)["state_dict"]
    module = network_of(dataset, from_checkpoint=run.folder.path, fresh=["readout.*"])
    for name, value in module.network.state_dict().items():
        assert (value == before[f"network.{name}"]).all() == (not name.startswith("readout.")), name
    with pytest.raises(InputError, match=r"fresh: unknown weight 'reedout.\*'; did you mean 'readout"):
        network_of(dataset, from_checkpoint=run.folder.path, fresh=["reedout.*"])
    with pytest.raises(InputError, match="fresh=.*needs from_checkpoint="):
        lg.TrainOptions(target="x", fresh=["a"])


def test_released_weights_begin_a_training(dataset, tmp_path):
    torch.manual_seed(3)
    released = lg.models.find_model("icomformer").build(1, **SMALL)
    torch.save({"model": comformer_state_dict(released)}, tmp_path / "released.pt")
    module = network_of(dataset, from_checkpoint=tmp_path / "released.pt")
    assert all((value == released.state_dict()[name]).all() for name, value in module.network.state_dict().items())


def test_a_file_of_something_else_is_refused(dataset, tmp_path):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="not a checkpoint that lazygraph wrote"):
        network_of(dataset, from_checkpoint=tmp_path / "other.pt")
    with pytest.raises(InputError, match="no finished run in"):
        network_of(dataset, from_checkpoint=tmp_path)


@pytest.mark.slow
def test_frozen_parameters_and_statistics_stay(dataset, run, tmp_path):
    before = torch.load(run.checkpoint, weights_only=True)["state_dict"]
    options = {**BASE, "from_checkpoint": run.folder.path, "freeze": ["atoms.*", "layers.0.*"], "schedule": "none"}
    found = lg.train(dataset, lg.TrainOptions.of(options), tmp_path / "run", progress=False)
    after = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    frozen = ("network.atoms.", "network.layers.0.")
    for name, value in after.items():
        if name.startswith("network.") and "num_batches" not in name:
            assert (value == before[name]).all() == name.startswith(frozen), name
    everything = sum(value.numel() for name, value in after.items() if name.startswith("network."))
    assert found.to_json()["parameters"] < everything
    # Trained for the same targets: a frozen network that was trained is better than a random one.
    assert json.loads((tmp_path / "run" / "results.json").read_text())["test"]["density"]["count"] == 6


def test_freezing_everything_or_nothing_is_refused():
    network = lg.models.find_model("icomformer").build(1, **SMALL)
    with pytest.raises(InputError, match="nothing would be trained"):
        freeze(network, ["*"])
    with pytest.raises(InputError, match=r"freeze: unknown weight 'layer.0.\*'; did you mean 'layers.0"):
        freeze(network, ["layer.0.*"])
    freeze(network, [])
    assert all(each.requires_grad for each in network.parameters())


@pytest.mark.slow
def test_a_finished_run_takes_more_epochs(dataset, tmp_path):
    options = lg.TrainOptions.of({**BASE, "schedule": "none"})
    lg.train(dataset, options, tmp_path / "run", progress=False)
    longer = lg.train(dataset, options.changed(n_epochs=4), tmp_path / "run", progress=False)
    at_once = lg.train(dataset, options.changed(n_epochs=4), tmp_path / "at once", progress=False)
    assert longer.epochs == at_once.epochs == 4
    assert longer.scores == at_once.scores
    with pytest.raises(OutputExists, match="finished.*from_checkpoint"):
        lg.train(dataset, options.changed(n_epochs=4), tmp_path / "run", progress=False)
    with pytest.raises(OutputExists, match="n_epochs is 4 there and 3 here"):
        lg.train(dataset, options.changed(n_epochs=3), tmp_path / "run", progress=False)
    with pytest.raises(OutputExists, match="seed is 123 there and 5 here"):
        lg.train(dataset, options.changed(n_epochs=5, seed=5), tmp_path / "run", progress=False)


@pytest.mark.slow
def test_a_run_whose_schedule_depends_on_its_end_does_not(dataset, tmp_path):
    options = lg.TrainOptions.of(BASE)
    lg.train(dataset, options, tmp_path / "run", progress=False)
    with pytest.raises(OutputExists, match="n_epochs is 2 there and 4 here"):
        lg.train(dataset, options.changed(n_epochs=4), tmp_path / "run", progress=False)


@pytest.mark.parametrize("given", ["layers.0.*", [3], [""], {"a": 1}])
def test_names_are_a_list(given):
    with pytest.raises(InputError, match="required: a list of names of weights or patterns"):
        lg.TrainOptions(target="x", freeze=given)
    assert lg.TrainOptions(target="x", freeze=np.array(["a.*"])).freeze == ("a.*",)


# ---- learning rates ----


def test_learning_rates_are_tried_and_nothing_is_kept(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = lg.LazyGraphDataset(dataset).content_id
    found = find_learning_rate(dataset, lg.TrainOptions.of(BASE), batches=30, progress=False)
    assert len(found.rates) == len(found.losses) <= 30
    assert found.rates[0] < 1e-6
    assert all(a < b for a, b in zip(found.rates, found.rates[1:], strict=False))
    assert found.suggestion is None or found.rates[0] <= found.suggestion <= found.rates[-1]
    assert list(tmp_path.iterdir()) == []
    assert lg.LazyGraphDataset(dataset).content_id == before


def test_the_suggestion_is_where_the_loss_falls_fastest():
    rates = np.logspace(-6, 0, 60).tolist()
    losses = [1 / (1 + (rate / 1e-3)) for rate in rates]
    assert 3e-4 < _suggestion(rates, losses) < 3e-3
    assert _suggestion(rates, list(range(60))) is None
    assert _suggestion(rates[:5], losses[:5]) is None


@pytest.mark.slow
def test_the_command_suggests_a_learning_rate(dataset, capsys):
    sizes = [f"--model-option={name}={value}" for name, value in SMALL.items()]
    command = ["train", str(dataset), "--target", "density", "--batch-size", "16", "--no-progress", *sizes]
    assert main([*command, "--find-learning-rate"]) == 0
    told = capsys.readouterr().out
    assert "suggestion: " in told or "falls nowhere" in told
    assert "\\n" not in told
    assert len(told.splitlines()) > 5
    assert main(command) == 2
    assert "add -o FOLDER" in capsys.readouterr().err


# ---- folds ----


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    path = tmp_path_factory.mktemp("folds") / "p.lg"
    lg.write("prototypes:60?seed=1", path, graph="comformer", workers=1, progress=False)
    lg.set_splits(path, folds=3, val=0.2, seed=1)
    return path


FOLDS = ["fold_0", "fold_1", "fold_2"]
QUICK = {"model": "nets:Composition", "target": "density", "n_epochs": 2, "batch_size": 16, "learning_rate": 0.05}


@pytest.mark.slow
def test_a_cross_validation_tests_every_graph_once(folded, tmp_path):
    options = lg.TrainOptions.of(QUICK)
    found = lg.cross_validate(folded, options, tmp_path / "run", FOLDS, progress=False)
    ids = [row.id for row in found.predictions]
    assert sorted(ids) == sorted(lg.LazyGraphDataset(folded).ids.tolist())
    for k, name in enumerate(FOLDS):
        single = lg.train(folded, options.changed(splits=name, seed=123 + k), tmp_path / name, progress=False)
        assert found.folds[name] == single.to_json()["test"]
        of_fold = {row.id: row.predicted for row in single.predictions}
        assert {row.id: row.predicted for row in found.predictions if row.id in of_fold} == of_fold
    label = dict(zip(lg.LazyGraphDataset(folded).ids.tolist(), found_labels(folded), strict=True))
    off = [abs(row.predicted[0] - label[row.id]) for row in found.predictions]
    assert found.scores["density"]["mae"] == pytest.approx(np.mean(off))
    told = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(told["folds"]) == FOLDS
    assert told["graphs"]["test"] == 60
    assert lg.predict(tmp_path / "run", folded, model=QUICK["model"], progress=False).rows[0].deviation is not None
    with pytest.raises(OutputExists, match="finished"):
        lg.cross_validate(folded, options, tmp_path / "run", FOLDS, progress=False)


def found_labels(path):
    return lg.LazyGraphDataset(path).columns["density"].tolist()


@pytest.mark.parametrize(
    ("folds", "changes", "message"),
    [
        (["fold_0"], {}, "at least two different columns"),
        ("fold_0", {}, "at least two different columns"),
        (["fold_0", "fold_0"], {}, "at least two different columns"),
        (FOLDS, {"splits": "fold_0"}, "leave splits out"),
        (["fold_0", "nope"], {}, "unknown column of splits 'nope'"),
    ],
)
def test_folds_that_cannot_be_are_refused(folded, tmp_path, folds, changes, message):
    with pytest.raises(InputError, match=message):
        lg.cross_validate(folded, lg.TrainOptions.of(QUICK | changes), tmp_path / "run", folds, progress=False)


def test_a_graph_that_is_tested_twice_is_refused(folded, tmp_path):
    path = tmp_path / "p.lg"
    lg.subset(lg.LazyGraphDataset(folded), path)
    lg.set_splits(path, (0.5, 0.2, 0.3), name="a", seed=1)
    lg.set_splits(path, (0.5, 0.2, 0.3), name="b", seed=2)
    with pytest.raises(InputError, match="graphs are in the test split of more than one fold, the first 'prototype"):
        lg.cross_validate(path, lg.TrainOptions.of(QUICK), tmp_path / "run", ["a", "b"], progress=False)
