"""Options with which published numbers are repeated: splits of the labelled, weight decay, dropped batches, weights."""

from __future__ import annotations

import json
import random
import warnings

import numpy as np
import pytest
import torch

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import InputError
from lazygraph.training.module import GraphModule
from lazygraph.training.published import PUBLISHED
from lazygraph.training.run import prepare
from lazygraph.training.targets import Targets
from tests.real import existing

pytestmark = pytest.mark.filterwarnings("ignore")

QUICK = {"model": "nets:Composition", "n_epochs": 2, "batch_size": 32, "learning_rate": 0.05, "target": "gap"}


def crystals(n, missing):
    """Crystals of which some have no label ``gap``."""
    rng = np.random.default_rng(4)
    for k in range(n):
        labels = {"gap": None if k in missing else float(rng.normal()), "other": float(k)}
        yield f"c{k}", lg.Crystal(np.eye(3) * (3.5 + k / n), [[0, 0, 0]], [int(rng.integers(3, 80))]), labels


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "d.lg"
    missing = set(random.Random(1).sample(range(150), 30))
    lg.write(crystals(150, missing), path, graph="cgcnn", labels=["gap", "other"], workers=1, progress=False)
    return path


def published_split(ids, ratios, seed=123):
    """The rule of ALIGNN, Matformer and ComFormer: labelled ids, shuffled; test is the end, val comes before it."""
    ids = list(ids)
    random.seed(seed)
    random.shuffle(ids)
    train, val, test = (int(ratio * len(ids)) for ratio in ratios)
    return {"train": ids[:train], "val": ids[len(ids) - val - test : len(ids) - test], "test": ids[len(ids) - test :]}


def split_of(path, **changes):
    return prepare(path, lg.TrainOptions.of({**QUICK, **changes}))


def ids_of(prepared):
    return {name: sorted(part.ids.tolist()) for name, part in prepared.data.splits.items()}


def test_graphs_without_a_label_are_dropped_before_the_split(dataset):
    ds = lg.LazyGraphDataset(dataset)
    labelled = ds.ids[np.isfinite(ds.columns["gap"])].tolist()
    prepared = split_of(dataset)
    expected = published_split(labelled, (0.8, 0.1, 0.1))
    assert ids_of(prepared) == {name: sorted(ids) for name, ids in expected.items()}
    assert prepared.unlabelled == 30
    kept = split_of(dataset, unlabelled="keep")
    assert ids_of(kept) == {k: sorted(v) for k, v in published_split(ds.ids.tolist(), (0.8, 0.1, 0.1)).items()}
    assert kept.unlabelled == 0
    # A graph with one of two targets stays.
    assert split_of(dataset, target=["gap", "other"]).unlabelled == 0


@pytest.mark.slow
def test_the_split_of_jarvis_is_the_published_one(tmp_path):
    path, target = tmp_path / "jarvis.lg", "formation_energy_peratom"
    source = existing("jarvis/jdft_3d_superconductors.json.zip")
    lg.write(source, path, graph="none", labels=[target], workers=1, progress=False)
    ds = lg.LazyGraphDataset(path)
    labelled = ds.ids[np.isfinite(ds.columns[target])].tolist()
    assert len(labelled) < len(ds)
    prepared = split_of(path, target=target)
    expected = published_split(labelled, (0.8, 0.1, 0.1))
    assert ids_of(prepared) == {name: sorted(ids) for name, ids in expected.items()}


def test_counts_split_instead_of_ratios(dataset):
    ds = lg.LazyGraphDataset(dataset)
    labelled = ds.ids[np.isfinite(ds.columns["gap"])].tolist()
    random.seed(123)
    random.shuffle(labelled)
    prepared = split_of(dataset, train_count=60, val_count=20, test_count=10)
    assert ids_of(prepared) == {
        "train": sorted(labelled[:60]),
        "val": sorted(labelled[-30:-10]),
        "test": sorted(labelled[-10:]),
    }


@pytest.mark.slow
def test_a_split_for_the_target_is_the_same_and_warns_of_nothing(dataset, tmp_path):
    path = tmp_path / "split.lg"
    lg.subset(lg.LazyGraphDataset(dataset), path)
    lg.set_splits(path, (0.8, 0.1, 0.1), labelled="gap")
    assert ids_of(split_of(path)) == ids_of(split_of(dataset))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        results = lg.train(path, lg.TrainOptions.of(QUICK), tmp_path / "run", progress=False)
    assert (results.unlabelled, results.in_no_split) == (30, 0)
    assert not [each for each in told if "none of the splits" in str(each.message)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_count": 100, "val_count": 20, "test_count": 1}, "100, 20, 1 graphs, together 121, but only 120"),
        ({"train_count": 100}, "val_count and test_count must be given with the other counts"),
        ({"momentum": 0.5}, "momentum=0.5 needs optimizer='sgd'"),
        ({"milestones": [3]}, "schedule='onecycle' and milestones="),
        ({"schedule": "multistep"}, "needs milestones"),
        ({"schedule": "multistep", "milestones": [3, 3]}, "increasing numbers of epochs"),
        ({"schedule": "multistep", "milestones": "3"}, "numbers of epochs, such as"),
        ({"warmup_steps": 5, "schedule": "cosine"}, "warmup_steps=5 needs schedule='onecycle'"),
        ({"warmup_steps": 0}, "found warmup_steps=0; required"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion'"),
    ],
)
def test_options_that_do_not_fit_are_refused(changes, message, dataset):
    with pytest.raises(InputError, match=message):
        split_of(dataset, **changes)


def test_counts_and_splits_of_the_dataset_are_refused_together(dataset, tmp_path):
    path = tmp_path / "split.lg"
    lg.subset(lg.LazyGraphDataset(dataset)[:100], path)
    lg.set_splits(path, (0.8, 0.1, 0.1))
    with pytest.raises(InputError, match="has splits of its own in the column 'split'"):
        split_of(path, train_count=60, val_count=20, test_count=10)
    for changes in ({"split_seed": 7}, {"train_ratio": 0.5}, {"test_ratio": 0.05}):
        with pytest.raises(InputError, match="so the ratios .* cannot split it; leave them out"):
            split_of(path, **changes)


def test_biases_and_normalisations_have_no_weight_decay():
    network = lg.models.find_model("icomformer").build(1, hidden_channels=8, num_rbf=4)
    options = lg.TrainOptions(target="x", weight_decay_on="weights", weight_decay=0.5, schedule="none")
    module = GraphModule(network, Targets(("x",), (None,), (0.0,), (1.0,)), options)
    optimizer = module.configure_optimizers()
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        # The rule of the authors' programs is by name, and comes to the same.
        assert decay[id(parameter)] == (0.0 if "bias" in name or "norm" in name else 0.5), name


def test_the_optimizers_and_their_schedules(dataset):
    options = {"optimizer": "sgd", "schedule": "multistep", "milestones": [1, 3], "weight_decay": 0.25}
    module = split_of(dataset, **options).module
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert optimizer.param_groups[0]["weight_decay"] == 0.25
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.05, 0.005, 0.005, 0.0005])
    assert type(split_of(dataset, optimizer="adam", schedule="none").module.configure_optimizers()) is torch.optim.Adam


class EightSteps:
    """A trainer whose epoch has eight batches."""

    def __init__(self):
        self.datamodule = self

    def train_dataloader(self):
        return range(8)


@pytest.mark.parametrize(("warmup", "highest"), [(None, 0.3 * 17), (4, 4), (15, 15)])
def test_the_rate_of_onecycle_rises_for_the_steps_of_the_warmup(dataset, warmup, highest):
    module = split_of(dataset, warmup_steps=warmup, batch_size=12).module  # of 2 epochs with 8 batches each
    module.trainer = EightSteps()
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(17):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step() if len(rates) < 17 else None
    # torch counts from the first step, whose number is 0.
    assert np.argmax(rates) == int(np.rint(highest)) - 1
    assert rates[-1] == min(rates)


def test_a_warmup_longer_than_the_training_is_refused(dataset, tmp_path):
    options = lg.TrainOptions.of({**QUICK, "warmup_steps": 6})
    with pytest.raises(InputError, match="warmup_steps=6, but the whole training has 6 steps; choose a smaller"):
        lg.train(dataset, options, tmp_path / "run", progress=False)
    lg.train(dataset, options.changed(warmup_steps=5), tmp_path / "run", progress=False)


@pytest.mark.parametrize(("drop", "train", "val"), [("none", 96, 12), ("train", 90, 12), ("train_val", 90, 10)])
def test_last_batches_are_dropped(dataset, drop, train, val):
    data = split_of(dataset, drop_last=drop, batch_size=10).data  # of 96, 12 and 12 graphs
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    assert [sum(batch.num_graphs for batch in batches) for batches in loaders] == [train, val, 12]


def test_the_last_weights_are_tested_and_predict(dataset, tmp_path):
    results = lg.train(dataset, lg.TrainOptions.of({**QUICK, "weights": "last"}), tmp_path / "run", progress=False)
    assert results.checkpoint.name == "last.ckpt"
    told = lg.predict(tmp_path / "run", dataset, model=QUICK["model"], progress=False)
    by_id = {row.id: row.predicted[0] for row in told.rows}
    assert {row.id: row.predicted[0] for row in results.predictions} == pytest.approx(
        {row.id: by_id[row.id] for row in results.predictions}
    )
    assert json.loads((tmp_path / "run" / "results.json").read_text())["unlabelled"] == 30


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_options_are_options(name):
    options = lg.TrainOptions.published(name, target="x")
    told = options.to_json()
    assert {key: told[key] for key in PUBLISHED[name]} == PUBLISHED[name]
    assert lg.TrainOptions.published(name, target="x", n_epochs=3).n_epochs == 3
    lg.graph(options.graph, **options.graph_options)
    lg.models.find_model(options.model)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("potnet-2023", {"model_options": {"hidden_channels": 8}}, {"infinite": True, "hidden_channels": 8}),
        ("potnet-2023", {"model_options": {"infinite": False}}, {"infinite": False}),
        ("potnet-2023", {"model": "icomformer"}, {}),
        ("potnet-2023", {"model": "icomformer", "model_options": {"num_rbf": 8}}, {"num_rbf": 8}),
        ("cgcnn-2018", {}, {}),
        ("cgcnn-2018", {"task": "classification"}, {"dropout": 0.5}),
        ("cgcnn-2018", {"task": "classification", "model": "icomformer"}, {}),
    ],
)
def test_options_of_the_model_are_added_to_the_published_ones(name, changes, expected):
    assert lg.TrainOptions.published(name, target="x", **changes).model_options == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"graph_options": {"cutoff": 5.0}}, {"ties": "reference", "cutoff": 5.0}),
        ({"graph_options": {"ties": "shell"}}, {"ties": "shell"}),
        ({"graph": "mace"}, {}),
        ({"graph": "mace", "graph_options": {"cutoff": 5.0}}, {"cutoff": 5.0}),
        ({"graph": None}, {}),
    ],
)
def test_parameters_of_the_graph_are_added_to_the_published_ones(changes, expected):
    assert lg.TrainOptions.published("comformer-2024", target="x", **changes).graph_options == expected


def test_unknown_published_options_are_refused():
    with pytest.raises(InputError, match="unknown published training 'comformer'; did you mean 'comformer-2024'"):
        lg.TrainOptions.published("comformer", target="x")


@pytest.mark.slow
def test_the_command_takes_published_options(dataset, tmp_path):
    command = ["train", str(dataset), "--preset-recipe", "comformer-2024", "--target", "gap", "--no-progress"]
    sizes = ["--model-option", "hidden_channels=8", "--model-option", "num_rbf=8", "--n-epochs", "1"]
    assert main([*command, *sizes, "--batch-size", "10", "-o", str(tmp_path / "run")]) == 0
    written = (tmp_path / "run" / "options.toml").read_text()
    for line in ('loss = "mse"', "n_epochs = 1", 'weights = "last"', 'drop_last = "train_val"', 'ties = "reference"'):
        assert line in written
