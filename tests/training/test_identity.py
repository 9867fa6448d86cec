"""A stopped run resumes with the labels, units and splits that it was begun with, and with no others."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import OutputExists
from lazygraph.training.identity import differences, identity_of
from lazygraph.training.options import read_toml, write_toml
from lazygraph.writing.edit import set_labels, set_splits

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice

OPTIONS = lg.TrainOptions(
    target=("a", "b"), model="nets:Composition", n_epochs=3, batch_size=32, learning_rate=0.05, checkpoint_every=1
)
IDS = [f"c{n:03d}" for n in range(100)]


class Stop(Callback):
    """Ends a run: when it begins, in the middle of an epoch, or between two."""

    def __init__(self, when):
        self.when = when

    def on_train_start(self, trainer, module):
        if self.when == "at its start":
            raise RuntimeError("stopped")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if self.when == "in mid-epoch" and trainer.current_epoch == 1 and batch_idx == 1:
            raise RuntimeError("stopped")

    def on_train_epoch_start(self, trainer, module):
        if self.when == "between epochs" and trainer.current_epoch == 2:
            raise RuntimeError("stopped")


def crystals(n=100):
    return [lg.Crystal(np.eye(3) * (3 + k / 100), [[0, 0, 0]], [11 + k % 7]) for k in range(n)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two labels, and splits that leave out the last ten graphs."""
    path = tmp_path_factory.mktemp("identity") / "d.lg"
    inputs = [
        (name, each, {"a": k % 7 + 0.5, "b": None if k % 9 == 0 else k / 7})
        for k, (name, each) in enumerate(zip(IDS, crystals(), strict=True))
    ]
    lg.write(inputs, path, graph="comformer", workers=1, progress=False, units={"a": "eV"})
    set_splits(path, names={"train": IDS[:60], "val": IDS[60:75], "test": IDS[75:90]})
    return path


@pytest.fixture(scope="module", params=["at its start", "in mid-epoch", "between epochs", "when it was finished"])
def stopped(request, dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped") / "run"
    if request.param == "when it was finished":
        lg.train(dataset, OPTIONS, folder, progress=False)
    else:
        with pytest.raises(RuntimeError, match="stopped"):
            lg.train(dataset, OPTIONS, folder, progress=False, callbacks=(Stop(request.param),))
    return folder


def relabelled(dataset, name, change, units=None):
    column = lg.LazyGraphDataset(dataset).columns[name].copy()
    change(column)
    values = {each: {name: value} for each, value in zip(IDS, column.tolist(), strict=True)}
    set_labels(dataset, values, units=units or {})


def one_label(dataset):
    relabelled(dataset, "a", lambda column: column.__setitem__(80, column[80] + 1e-12), {"a": "eV"})


def one_is_missing(dataset):
    relabelled(dataset, "b", lambda column: column.__setitem__(3, np.nan))


def another_unit(dataset):
    relabelled(dataset, "a", lambda column: None, {"a": "meV"})


def no_unit(dataset):
    relabelled(dataset, "a", lambda column: None)


def another_split(dataset):
    set_splits(dataset, names={"train": IDS[1:60], "val": [IDS[0], *IDS[60:75]], "test": IDS[75:90]})


CHANGES = [
    (one_label, "the label 'a' has other values"),
    (one_is_missing, "the label 'b' has other values"),
    (another_unit, "the unit of 'a' is 'eV' there and 'meV' here"),
    (no_unit, "the unit of 'a' is 'eV' there and None here"),
    (
        another_split,
        r"the training graphs are others \(60 graphs, .* there, 59 graphs, .*; the validation graphs are others",
    ),
]


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=lambda each: getattr(each, "__name__", ""))
def test_a_run_whose_data_were_changed_is_refused(dataset, stopped, tmp_path, capsys, change, message):
    shutil.copytree(dataset, tmp_path / "d.lg")
    shutil.copytree(stopped, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    change(tmp_path / "d.lg")
    with pytest.raises(OutputExists, match=f"holds another run: {message}.*; choose another output_dir, or delete it"):
        lg.train(tmp_path / "d.lg", OPTIONS, tmp_path / "run", progress=False)
    command = ["train", str(tmp_path / "d.lg"), "--config", str(stopped / "options.toml"), "--model", OPTIONS.model]
    capsys.readouterr()
    assert main([*command, "--no-progress", "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lazygraph: error: ")
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_labels_of_graphs_that_no_split_has_may_change(dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "d.lg")
    with pytest.raises(RuntimeError, match="stopped"):
        lg.train(dataset, OPTIONS, tmp_path / "run", progress=False, callbacks=(Stop("in mid-epoch"),))
    relabelled(tmp_path / "d.lg", "a", lambda column: column.__setitem__(95, 7.0), {"a": "eV"})
    assert lg.train(tmp_path / "d.lg", OPTIONS, tmp_path / "run", progress=False).epochs == 3


@pytest.mark.slow
def test_an_ensemble_of_two_label_sets_is_refused(dataset, tmp_path):
    """Its first member is finished, and would not be trained again."""
    shutil.copytree(dataset, tmp_path / "d.lg")
    path, run = tmp_path / "d.lg", tmp_path / "run"
    lg.train_ensemble(path, OPTIONS, run, 2, progress=False)
    shutil.rmtree(run / "member-1")
    (run / "results.json").unlink()
    one_label(path)
    with pytest.raises(OutputExists, match="the label 'a' has other values"):
        lg.train_ensemble(path, OPTIONS, run, 2, progress=False)
    (run / "options.toml").unlink()
    (run / "member-0").rename(tmp_path / "of-others")
    shutil.rmtree(run)
    (tmp_path / "run").mkdir()
    # Whoever puts the member of another ensemble into its place.
    with pytest.raises(RuntimeError, match="stopped"):
        lg.train(path, OPTIONS, tmp_path / "begun", progress=False, callbacks=(Stop("at its start"),))
    ensemble = read_toml(tmp_path / "begun" / "options.toml")
    ensemble["dataset"]["members"] = 2
    write_toml(ensemble, run / "options.toml")
    (tmp_path / "of-others").rename(run / "member-0")
    with pytest.raises(OutputExists, match="member-0 holds another run: the label 'a' has other values"):
        lg.train_ensemble(path, OPTIONS, run, 2, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["labels", "unit"])
def test_train_from_list_refuses_other_labels(tmp_path, monkeypatch, change):
    labels = [k % 7 + 0.5 for k in range(40)]
    settings = {"model": "nets:Composition", "n_epochs": 3, "batch_size": 8, "progress": False}
    settings |= {"output_dir": tmp_path / "run", "graph_cache_dir": tmp_path / "cache"}

    def stopped_train(*arguments, **options):
        return lg.train(*arguments, callbacks=(Stop("between epochs"),), **options)

    monkeypatch.setattr("lazygraph.training.from_list.train", stopped_train)
    with pytest.raises(RuntimeError, match="stopped"):
        lg.train_from_list(crystals(40), labels, unit="eV", **settings)
    monkeypatch.undo()
    given = ([10 * y + 500 for y in labels], "eV") if change == "labels" else (labels, "meV")
    with pytest.raises(OutputExists, match="has other values" if change == "labels" else "'eV' there and 'meV' here"):
        lg.train_from_list(crystals(40), given[0], unit=given[1], **settings)
    assert lg.train_from_list(crystals(40), labels, unit="eV", **settings).epochs == 3


numbers = st.floats(allow_infinity=False)


@given(st.lists(numbers, min_size=4, max_size=12), st.data())
def test_an_identity_is_equal_where_nothing_changed_and_only_there(tmp_path_factory, values, data):
    def identity(values, unit, cuts, spec=None):
        columns = {"y": np.array(values)}
        named = SimpleNamespace(columns={"y": SimpleNamespace(unit=unit)})
        ds = SimpleNamespace(content_id="0" * 64, columns=columns, manifest=named, spec=spec)
        names = ("train", "val", "test")
        rows = np.split(np.arange(len(values)), cuts)
        return identity_of(
            ds, {n: SimpleNamespace(indices=lambda r=r: r) for n, r in zip(names, rows, strict=True)}, ["y"]
        )

    own = identity(values, "eV", [1, 3])
    path = tmp_path_factory.mktemp("identity") / "options.toml"
    write_toml({"dataset": own}, path)
    there = read_toml(path)["dataset"]
    assert list(differences(there, identity(list(values), "eV", [1, 3]))) == []
    assert list(differences(there, identity(values, None, [1, 3]))) != []
    (other_recipe,) = differences(there, identity(values, "eV", [1, 3], lg.graph("none")))
    assert "recipe is 'ready-made' there and \"lazygraph.graph('none')\" here" in other_recipe
    assert len(list(differences(there, identity(values, "eV", [2, 3])))) == 2
    place, other = data.draw(st.integers(0, len(values) - 1)), data.draw(numbers)
    changed = [*values[:place], other, *values[place + 1 :]]
    same = np.array_equal(values, changed, equal_nan=True)
    assert (list(differences(there, identity(changed, "eV", [1, 3]))) == []) == same
    for broken in ({}, 3, {"labels": 4, "splits": []}):
        assert len(list(differences(broken, own))) >= 5
