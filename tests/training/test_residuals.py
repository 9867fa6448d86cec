"""Errors by element, by number of atoms, and of the worst predictions."""

from __future__ import annotations

import csv
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.training.report import Prediction
from lazygraph.training.residuals import Composition, groups_of, worst_of, write_groups, write_worst
from lazygraph.training.targets import Targets

ONE = Targets(("e",), ("eV",), (0.0,), (1.0,))
CLASSES = Targets(("kind",), (None,), (0.0,), (1.0,), (0.0, 2.0))
FORMULAS = ["NaCl", "Cl", "Na", "C", "CsCl", "Fe2O3", "FeO"]


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


graphs = st.lists(
    st.tuples(st.sampled_from(FORMULAS), st.integers(1, 200), st.none() | st.integers(-9, 9), st.integers(-9, 9)),
    min_size=1,
    max_size=60,
)


@given(graphs)
def test_groups_are_those_of_plain_loops(drawn):
    predictions = [
        Prediction(f"g{k}", [float(p)], [math.nan if y is None else float(y)]) for k, (_, _, y, p) in enumerate(drawn)
    ]
    composition = Composition(np.array([row[0] for row in drawn]), np.array([row[1] for row in drawn]))
    found = groups_of(predictions, ONE, composition)
    errors = {}
    for formula, _, y, p in drawn:
        for symbol in re.findall("[A-Z][a-z]?", formula):
            if y is not None:
                errors.setdefault(symbol, []).append(p - y)
    elements = [group for group in found if group.by == "element"]
    order = [symbol for symbol in ("C", "O", "Na", "Cl", "Fe", "Cs") if symbol in errors]
    assert [group.name for group in elements] == order
    for group in elements:
        own = np.array(errors[group.name])
        assert group.graphs == len(own)
        assert group.mae == pytest.approx(np.abs(own).mean())
        assert group.rmse == pytest.approx(np.sqrt((own**2).mean()))
        assert group.mean_error == pytest.approx(own.mean())

    sizes = [group for group in found if group.by == "atoms"]
    known = [(n, p - y) for _, n, y, p in drawn if y is not None]
    assert sum(group.graphs for group in sizes) == len(known)
    last = 0
    for group in sizes:
        low, _, high = group.name.partition("-")
        low, high = int(low), int(high or low)
        assert last < low <= high  # in order, and none overlaps another one
        last = high
        own = [off for n, off in known if low <= n <= high]
        assert group.graphs == len(own)
        assert group.mae == pytest.approx(np.abs(own).mean())
    different = len({row[1] for row in drawn})
    assert len(sizes) <= (different if different <= 12 else 8)


def test_many_sizes_are_put_into_groups_of_about_equal_size():
    n = 4000
    predictions = [Prediction(str(k), [1.0], [0.0]) for k in range(n)]
    groups = groups_of(predictions, ONE, Composition(None, np.arange(n) % 200 + 1))
    assert [group.name for group in groups] == [
        "1-25",
        "26-50",
        "51-75",
        "76-100",
        "101-125",
        "126-150",
        "151-175",
        "176-200",
    ]
    assert {group.graphs for group in groups} == {500}


@given(st.lists(st.tuples(st.none() | st.floats(-1e6, 1e6), st.floats()), max_size=40))
def test_the_worst_are_those_with_the_largest_errors(drawn):
    predictions = [Prediction(f"g{k}", [p], [math.nan if y is None else y]) for k, (y, p) in enumerate(drawn)]
    composition = Composition(np.array(["Na"] * len(drawn)), np.arange(len(drawn)))
    worst = worst_of(predictions, ONE, composition)["e"]
    known = {row.id: abs(row.predicted[0] - row.label[0]) for row in predictions if not math.isnan(row.label[0])}
    assert len(worst) == min(10, len(known))
    sizes = [math.inf if math.isnan(known[row.id]) else known[row.id] for row in worst]
    assert sizes == sorted(sizes, reverse=True)
    others = [known[name] for name in known if name not in {row.id for row in worst}]
    assert all(size <= sizes[-1] for size in others)
    for row in worst:
        assert row.n_atoms == int(row.id[1:])
        assert row.error == row.predicted - row.label or math.isnan(row.error)


def test_classes_have_shares_of_wrong_predictions(tmp_path):
    predictions = [
        Prediction("a", [0.0], [0.0], probabilities=(0.9, 0.1)),
        Prediction("b", [0.0], [2.0], probabilities=(0.7, 0.3)),
        Prediction("c", [2.0], [2.0], probabilities=(0.4, 0.6)),
        Prediction("unknown", [2.0], [5.0], probabilities=(0.4, 0.6)),
        Prediction("unlabelled", [2.0], [math.nan], probabilities=(0.4, 0.6)),
    ]
    composition = Composition(np.array(["Na", "NaCl", "Na", "C", "C"]), np.array([1, 2, 1, 1, 1]))
    groups = groups_of(predictions, CLASSES, composition)
    shares = {group.name: group.mae for group in groups if group.by == "element"}
    assert shares == {"C": 1.0, "Na": pytest.approx(1 / 3), "Cl": 1.0}
    worst = worst_of(predictions, CLASSES, composition)["kind"]
    assert [(row.id, row.error) for row in worst] == [
        ("unknown", 1.0), ("b", pytest.approx(0.7)), ("c", pytest.approx(0.4)), ("a", pytest.approx(0.1)),
    ]  # fmt: skip
    write_groups(groups, CLASSES, tmp_path / "r.csv")
    assert list(read(tmp_path / "r.csv")[0]) == ["target", "group", "value", "graphs", "wrong"]


def test_tables_hold_any_names(tmp_path):
    targets = Targets(("gap\n,\ud800", "x"), ('"eV"', None), (0.0, 0.0), (1.0, 1.0))
    predictions = [Prediction('a,"b"\n', [1.0, 2.0], [0.1, math.nan])]
    composition = Composition(None, None)
    groups = groups_of(predictions, targets, Composition(None, np.array([3])))
    assert groups_of(predictions, targets, composition) == []
    write_groups(groups, targets, tmp_path / "r.csv")
    write_worst(worst_of(predictions, targets, composition), targets, tmp_path / "w.csv")
    (group,) = read(tmp_path / "r.csv")
    assert (group["target"], group["unit"], group["value"]) == (r"gap\n,\ud800", '"eV"', "3")
    (row,) = read(tmp_path / "w.csv")
    assert (row["id"], row["formula"], row["n_atoms"]) == ('a,"b"\n', "", "")
    assert float(row["error"]) == 1.0 - 0.1


def test_compositions_are_found_by_id(prototypes):
    ds = lg.LazyGraphDataset(prototypes)
    some = [7, 3, 11]
    predictions = [Prediction(str(ds.ids[k]), [0.0], [0.0]) for k in some]
    found = Composition.of(ds, predictions)
    assert found.formulas.tolist() == ds.columns["formula"][some].tolist()
    assert found.n_atoms.tolist() == ds.columns["n_atoms"][some].tolist()


def test_ready_made_graphs_have_no_formula(tmp_path):
    with lg.GraphWriter(tmp_path / "o.lg") as writer:
        writer.add({"x": np.ones((2, 1)), "edge_index": np.array([[0, 1], [1, 0]])}, id="a")
    found = Composition.of(lg.LazyGraphDataset(tmp_path / "o.lg"), [Prediction("a", [0.0], [1.0])])
    assert found.formulas is None
    assert found.n_atoms is None or found.n_atoms.tolist() == [2]
