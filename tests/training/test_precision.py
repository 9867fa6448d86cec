"""Labels stay what they are: read, normalised, scored and reported in float64."""

from __future__ import annotations

import csv
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.errors import InputError, LabelError
from lazygraph.loading.precision import float32_rounding, is_too_coarse
from lazygraph.training.report import Prediction, check_titles, write_predictions
from lazygraph.training.targets import GREATEST, Targets, _mean_and_std

QUICK = {"model": "nets:Composition", "n_epochs": 1, "batch_size": 16, "learning_rate": 0.05}
finite = st.floats(allow_nan=False, allow_infinity=False)


def crystals(n):
    return [lg.Crystal(np.eye(3) * (3 + k / 100), [[0, 0, 0]], [11 + k % 7]) for k in range(n)]


def written(path, labels, name="energy", **options):
    inputs = [
        (f"c{k}", each, {name: label})
        for k, (each, label) in enumerate(zip(crystals(len(labels)), labels, strict=True))
    ]
    lg.write(inputs, path, graph="comformer", workers=1, progress=False, labels=[name], **options)
    return path


@pytest.fixture(scope="module")
def energies():
    """Total energies of one composition, eV: they differ by less than float32 numbers of their size do."""
    return (-563245.0 + 0.02 * np.random.default_rng(0).normal(size=60)).tolist()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, energies):
    return written(tmp_path_factory.mktemp("precision") / "e.lg", energies, units={"energy": "eV"})


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.filterwarnings("ignore")  # Lightning's advice
def test_a_run_tells_labels_apart_that_float32_cannot(dataset, energies, tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*float32")
        results = lg.train(dataset, lg.TrainOptions.of({**QUICK, "target": "energy"}), tmp_path / "run", progress=False)
        found = lg.predict(results.folder.path, dataset, model=QUICK["model"], progress=False)
    given_label = {f"c{k}": energy for k, energy in enumerate(energies)}
    assert {row.id: row.label for row in found.rows} == {name: [energy] for name, energy in given_label.items()}
    for row, told in zip(results.predictions, table(results.folder.predictions), strict=True):
        assert row.label == [given_label[row.id]]
        assert float(told["energy (eV)"]) == given_label[row.id]
        assert float(told["predicted energy (eV)"]) == row.predicted[0]
    train = lg.LazyGraphDataset(dataset, "energy", target_dtype="float64")
    from lazygraph.training.data import split_dataset

    mean = split_dataset(train, (0.8, 0.1, 0.1))["train"].columns["energy"].mean()
    off = np.array([given_label[row.id] - mean for row in results.predictions])
    assert results.baseline["energy"]["mae"] == pytest.approx(np.abs(off).mean(), rel=1e-6)
    assert results.baseline["energy"]["mae"] < 0.05
    (line,) = table(results.folder.metrics)
    assert float(line["val_mae/energy (eV)"]) < 1.0


def test_y_has_the_type_that_was_asked_for(dataset, energies):
    for dtype in ("float64", torch.float64):
        ds = lg.LazyGraphDataset(dataset, "energy", target_dtype=dtype)
        assert ds[3].y.dtype == torch.float64
        assert ds[3].y.tolist() == [[energies[3]]]
        assert ds.batch([5, 2]).y.tolist() == [[energies[5]], [energies[2]]]
        assert torch.cat([batch.y for batch in lg.loader(ds[10:], 7)]).flatten().tolist() == energies[10:]
        assert [data.y.item() for data in ds.__getitems__([1, 2])] == energies[1:3]
    with pytest.warns(UserWarning, match=r"may change the label 'energy' .* by 0\.0312; .*target_dtype='float64'"):
        ds = lg.LazyGraphDataset(dataset, "energy")
    assert ds[3].y.dtype == ds.batch([1]).y.dtype == torch.float32
    with pytest.raises(InputError, match="found target_dtype='float16'; required: 'float32' or 'float64'"):
        lg.LazyGraphDataset(dataset, "energy", target_dtype="float16")


@pytest.mark.parametrize(
    ("labels", "warns"),
    [
        ([0.0, 1.5, -9.25], False),
        ([-563245.5, -563240.5, -563250.0], True),  # told apart, but changed by a hundredth of their spread
        ([1e39, 0.0, 1.0], True),
        ([1e-50, 2e-50, 3e-50], True),
        ([563245.1, 563245.1, None], False),
        ([None, None, 0.1], False),
    ],
)
def test_a_warning_where_float32_cannot_tell_labels_apart(tmp_path, labels, warns):
    path = written(tmp_path / "x.lg", labels)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lg.LazyGraphDataset(path, "energy")
        lg.LazyGraphDataset(path, "energy", target_dtype="float64")
    assert [str(each.message)[:12] for each in caught] == ["y is float32"] * warns


@given(finite, finite)
def test_what_float32_changes_is_bounded(a, b):
    with np.errstate(over="ignore"):
        off = abs(float(np.float32(a)) - a)
        low, high = sorted((a, b))
        same = low < high and np.float32(low) == np.float32(high)
    assert off <= float32_rounding(a)
    if same:
        assert is_too_coarse(low, high, (high - low) / 2)


@given(st.lists(finite, min_size=1, max_size=5), st.data())
def test_tables_read_back_to_the_bit(tmp_path_factory, labels, data):
    path = tmp_path_factory.mktemp("table") / "p.csv"
    rows = [Prediction(f"c{k}", [data.draw(finite)], [label], [data.draw(finite)]) for k, label in enumerate(labels)]
    write_predictions(rows, Targets(("y",), ("eV",), (0.0,), (1.0,)), path)
    told = [(each["y (eV)"], each["predicted y (eV)"], each["deviation y (eV)"]) for each in table(path)]
    assert [tuple(map(float, each)) for each in told] == [(r.label[0], r.predicted[0], r.deviation[0]) for r in rows]


def test_classes_that_float32_cannot_tell_apart_are_two(tmp_path):
    values = [16777216.0, 16777217.0]
    path = written(tmp_path / "x.lg", values * 20, "kind")
    targets = Targets.of(lg.LazyGraphDataset(path), ["kind"], classify=True)
    assert targets.classes == tuple(values)
    assert targets.scale().places(torch.tensor([values[1:], values[:1]], dtype=torch.float64)).tolist() == [1, 0]
    rows = [Prediction("a", [values[0]], [values[1]], probabilities=[0.25, 0.75])]
    write_predictions(rows, targets, tmp_path / "p.csv")
    assert list(table(tmp_path / "p.csv")[0]) == [
        "id", "kind", "predicted kind", "probability kind=16777216", "probability kind=16777217",
    ]  # fmt: skip


@given(st.lists(st.floats(-GREATEST, GREATEST), min_size=1, max_size=9))
def test_any_labels_are_normalised(values):
    mean, std = _mean_and_std(np.array(values))
    assert math.isfinite(mean)
    assert 0 < std < math.inf
    assert (np.abs((np.array(values) - mean) / std) < 10).all() or len(set(values)) == 1


def test_labels_that_overflow_when_they_are_normalised_are_refused(tmp_path):
    path = written(tmp_path / "x.lg", [1.7e308, -1.7e308, 0.0])
    with pytest.raises(LabelError, match=r"reaches 1\.7e\+308; numbers beyond 9e\+307 overflow when normalised"):
        Targets.of(lg.LazyGraphDataset(path), ["energy"], classify=False)


def test_outliers_that_hide_the_other_labels(tmp_path):
    path = written(tmp_path / "x.lg", [1e12, *(k / 10 for k in range(30))])
    with pytest.warns(UserWarning, match="half of the training labels of energy lie within .* look for outliers"):
        Targets.of(lg.LazyGraphDataset(path), ["energy"], classify=False)


def test_columns_of_one_name_are_refused():
    def targets(names, units):
        return Targets(tuple(names), tuple(units), (0.0,) * len(names), (1.0,) * len(names))

    check_titles(targets(["gap", "mass"], ["eV", None]))
    for names, units in (
        (["gap", "predicted gap"], [None] * 2),
        (["gap", "gap (eV)"], ["eV", None]),
        (["a", "deviation a"], [None] * 2),
    ):
        with pytest.raises(LabelError, match="two columns of the table of predictions would be called"):
            check_titles(targets(names, units))


# ---- labels that are infinite ----


@pytest.mark.parametrize("value", [math.inf, "-inf", "1e999", np.float32(np.inf)])
def test_infinite_labels_are_not_written(tmp_path, value):
    path = written(tmp_path / "x.lg", [1.0, value, 3.0])
    assert lg.LazyGraphDataset(path).ids.tolist() == ["c0", "c2"]
    from lazygraph.format.manifest import Manifest
    from lazygraph.writing.edit import set_labels
    from lazygraph.writing.quarantine import read_quarantine

    (one,) = read_quarantine(path, Manifest.load(path))
    assert (one.id, one.error) == ("c1", "LabelError")
    assert "found an infinite number; required: finite ones" in one.message
    with pytest.raises(LabelError, match="id 'c2': label 'gap': found an infinite number"):
        set_labels(path, {"c0": {"gap": 1.0}, "c2": {"gap": value}})
    with pytest.raises(LabelError, match="found the label .* required: a finite number"):
        lg.train_from_list(crystals(3), [1.0, value, 2.0])


def test_infinite_numbers_in_arrays_are_not_written(tmp_path):
    array = {"forces": [[0.0, 1.0, -math.inf]]}
    good = {"forces": [[0.0, 1.0, 2.0]]}
    inputs = [
        (f"c{k}", each, labels) for k, (each, labels) in enumerate(zip(crystals(3), [good, array, good], strict=True))
    ]
    assert lg.write(inputs, tmp_path / "x.lg", workers=1, progress=False, labels=["forces"]).quarantined == 1
    with lg.GraphWriter(tmp_path / "g.lg") as writer:
        writer.add({"x": np.ones(3)}, labels={"size": [1.0, 2.0]})
        with pytest.raises(LabelError, match="label 'size': found an infinite number"):
            writer.add({"x": np.ones(3)}, labels={"size": [1.0, math.inf]})
