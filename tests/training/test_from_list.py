"""Structures and labels in, a model out; graphs are built once for the same content and recipe."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
import torch

import lazygraph as lg
from lazygraph.errors import InputError, LabelError
from lazygraph.training.label_tables import columns_of

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice

QUICK = {"model": "nets:Composition", "n_epochs": 1, "learning_rate": 0.05, "progress": False}


def crystals(n=40):
    rng = np.random.default_rng(3)
    ends = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return [lg.Crystal(np.eye(3) * rng.uniform(3, 5), ends, rng.choice([11, 17, 29], 2)) for _ in range(n)]


def as_it_is(crystal):
    return crystal


def as_dict(crystal):
    return crystal.to_pymatgen().as_dict()


@pytest.fixture
def inputs():
    """Structures of every kind that people have."""
    kinds = [as_it_is, lg.Crystal.to_pymatgen, lg.Crystal.to_ase, lg.Crystal.to_jarvis, as_dict]
    found = [kinds[n % 5](crystal) for n, crystal in enumerate(crystals())]
    return found, [float(n % 7) for n in range(len(found))]


def train(inputs, tmp_path, name, **changes):
    options = {"output_dir": tmp_path / name, "graph_cache_dir": tmp_path / "cache", **QUICK, **changes}
    return lg.train_from_list(strucs=inputs[0], labels=inputs[1], **options)


def built(tmp_path):
    return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}


def test_from_structures_to_predictions(inputs, tmp_path):
    results = train(inputs, tmp_path, "run", unit="eV")
    assert results.scores["target"]["unit"] == "eV"
    assert {row.label[0] for row in results.predictions} <= set(range(7))
    assert set(results.seconds) == {"conversion", "building", "opening", "training", "predicting"}
    assert len(results.predictions) == 4
    written = json.loads(results.folder.results.read_text())
    assert written["seconds"].keys() == results.seconds.keys()


def test_the_recipe_is_not_chosen_twice(inputs, tmp_path):
    with pytest.raises(InputError, match="graph= cannot be given, because the model chooses the preset"):
        train(inputs, tmp_path, "run", graph="mace")


@pytest.mark.slow
def test_several_targets_with_units_of_their_own(inputs, tmp_path):
    strucs, gaps = inputs
    masses = [None, *range(39)]
    results = train((strucs, {"gap": gaps, "mass": masses}), tmp_path, "run", unit={"gap": "eV"})
    assert {name: score["unit"] for name, score in results.scores.items()} == {"gap": "eV", "mass": None}
    for row in results.predictions:
        assert row.label == [gaps[int(row.id)], masses[int(row.id)]]
    train((strucs, {"gap": gaps, "weight": masses}), tmp_path, "other")
    assert len(built(tmp_path)) == 2
    with pytest.raises(InputError, match="there is a unit for 'mess', which is not a label; the labels are gap, mass"):
        train((strucs, {"gap": gaps, "mass": masses}), tmp_path, "bad", unit={"mess": "kg"})
    with pytest.raises(InputError, match="none of the 40 labels of 'mass' is a number"):
        train((strucs, {"gap": gaps, "mass": [None] * 40}), tmp_path, "bad")
    with pytest.raises(InputError, match="found 40 structures and 2 labels of 'mass'"):
        train((strucs, {"gap": gaps, "mass": [1, 2]}), tmp_path, "bad")


@pytest.mark.slow
def test_graphs_are_built_once_for_the_same_content_and_recipe(inputs, tmp_path):
    train(inputs, tmp_path, "first")
    first = built(tmp_path)
    assert len(first) == 1
    train(inputs, tmp_path, "second", learning_rate=0.01, seed=7, train_ratio=0.5, batch_size=8)
    assert built(tmp_path) == first
    moved = [crystals()[0].to_ase(), *inputs[0][1:]]
    moved[0].positions[1] += 0.01
    for n, (changed, more) in enumerate(
        [
            ((moved, inputs[1]), {}),
            ((inputs[0], [1.5, *inputs[1][1:]]), {}),
            (inputs, {"max_neighbors": 8}),
            (inputs, {"use_lattice": False}),
            (inputs, {"ids": [f"x{k}" for k in range(40)]}),
            (inputs, {"unit": "eV"}),
        ],
        2,
    ):
        train(changed, tmp_path, f"changed {n}", **more)
        assert len(built(tmp_path)) == n
    assert first.items() <= built(tmp_path).items()


def test_without_a_cache_nothing_is_left(inputs, tmp_path):
    train(inputs, tmp_path, "run", cache_graphs=False)
    assert not (tmp_path / "cache").exists()


def test_bad_input_is_named_before_anything_is_built(inputs, tmp_path):
    strucs, labels = inputs
    with pytest.raises(InputError, match="found 40 structures and 39 labels"):
        train((strucs, labels[1:]), tmp_path, "run")
    with pytest.raises(InputError, match="there are 40 structures and 2 ids"):
        train(inputs, tmp_path, "run", ids=["a", "b"])
    with pytest.raises(InputError, match="target= cannot be given, because the names of the labels are the targets"):
        train(inputs, tmp_path, "run", target="gap")
    with pytest.raises(InputError, match="the structures are in a dict; give a list"):
        train((dict(enumerate(strucs)), labels), tmp_path, "run")
    with pytest.raises(InputError, match="different indexes"):
        train((pd.Series(strucs), pd.Series(labels, range(1, 41))), tmp_path, "run")
    with pytest.raises(InputError, match="none of the 40 labels"):
        train((strucs, [math.nan, None] * 20), tmp_path, "run")
    with pytest.raises(InputError, match="unknown option 'lr'"):
        train(inputs, tmp_path, "run", lr=0.1)
    with pytest.raises(InputError, match="fractions"):
        train(inputs, tmp_path, "run", train_ratio=0.9)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


def test_a_structure_that_is_none_is_left_out(inputs, tmp_path):
    strucs, labels = inputs
    with pytest.warns(UserWarning, match="1 structures could not become graphs; the first, id '40': "):
        results = train(([*strucs, "no structure"], [*labels, 3.0]), tmp_path, "run")
    assert len(results.predictions) == 4
    assert results.quarantined == json.loads(results.folder.results.read_text())["quarantined"] == 1


@pytest.mark.slow
def test_tables_name_their_targets(inputs, tmp_path):
    strucs, gaps = inputs
    masses = pd.array([pd.NA, *range(39)], dtype="Int64")
    table = pd.DataFrame({"gap": gaps, "mass": masses})
    results = train((pd.Series(strucs), table), tmp_path, "run", unit={"gap": "eV"})
    same = train((strucs, {"gap": gaps, "mass": [None, *range(39)]}), tmp_path, "same", unit={"gap": "eV"})
    assert list(results.scores) == ["gap", "mass"]
    assert [row[:2] for row in results.predictions] == [row[:2] for row in same.predictions]
    assert len(built(tmp_path)) == 1


ONE = [3.0, None, 1.0, 2.0]


@pytest.mark.parametrize(
    "labels",
    [
        ONE,
        iter(ONE),
        np.array(ONE, dtype=float),
        np.array(ONE, dtype=object)[:, None],
        pd.Series([3, pd.NA, 1, 2], index=[7, 5, 3, 1]),
        pd.Series(ONE, name="gap"),
        torch.tensor([[3.0], [math.nan], [1.0], [2.0]]),
        [np.float32(3), pd.NaT, True, "2"],
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_labels_of_one_target(labels):
    assert columns_of(labels, 4) == {"target": pytest.approx([3.0, math.nan, 1.0, 2.0], nan_ok=True)}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((4, 2)), r"labels have the shape \(4, 2\); give .*{'gap': y\[:, 0\], 'mass': y\[:, 1\]}"),
        (np.float64(3), r"labels have the shape \(\)"),
        (3.0, "the labels are 3.0; give one number for each"),
        ("1234", "the labels are '1234'; give one number"),
        ([[1.0, 2.0]] * 4, r"found the label \[1.0, 2.0\]; required: a number, .*mapping"),
        ([{"gap": 1.0}] * 4, "found the label {'gap': 1.0}; required"),
        (["1", "2", "3", "metal"], "found the label 'metal'"),
        ({}, "the labels have no column; give one number"),
        ({"mp-1": 1.0, "mp-2": 2.0}, "the labels of 'mp-1' are 1.0; give one number for each"),
        ({"gap": np.zeros((4, 3))}, r"labels of 'gap' have the shape \(4, 3\)"),
        ({0: ONE}, "the label name 0 cannot name a target"),
        (pd.DataFrame(np.zeros((4, 2))), r"the label name 0 .*columns = \['gap', 'mass'\]"),
        (pd.DataFrame(np.zeros((4, 2)), columns=["gap", "gap"]), "a name of the labels gap, gap is given twice"),
        (pd.DataFrame({("a", "b"): ONE}), "the label name .'a', 'b'."),
        ([1.0, 2.0], "found 4 structures and 2 labels; give one label for each"),
        ([pd.NA] * 4, "none of the 4 labels"),
    ],
    ids=[str(n) for n in range(16)],
)
def test_labels_that_cannot_be_told(labels, message):
    with pytest.raises(LabelError, match=message):
        columns_of(labels, 4)


HOLDER = """
import sys, time
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
with exclusive(Layout.of(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_two_runs_share_the_graphs_that_one_of_them_writes(inputs, tmp_path, monkeypatch, caplog):
    """While another process writes the same graphs, a run waits, says for whom, and writes them if they never come."""
    monkeypatch.setattr("lazygraph.training.from_list.REMIND", 0.3)  # instead of a minute
    train(inputs, tmp_path, "first")
    (path,) = (tmp_path / "cache").iterdir()
    shutil.rmtree(path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, "\x1b[2J"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    release = threading.Timer(2.0, holder.stdin.close)
    try:
        assert holder.stdout.readline() == "held\n"
        release.start()
        assert train(inputs, tmp_path, "second").predictions
        assert holder.wait(60) == 0
    finally:
        release.cancel()
        holder.kill()
        holder.wait()
    told = [record.getMessage() for record in caplog.records if "waiting" in record.getMessage()]
    assert len(told) > 1
    assert told[0].startswith("waiting for 0 s for the graphs of these structures: ")
    assert all(f"is being written by process {holder.pid} on " in each and each.isprintable() for each in told)
