"""Structures and labels in, a model out; graphs are built once for the same content and recipe."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.errors import InputError

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


def test_several_targets_with_units_of_their_own(inputs, tmp_path):
    strucs, gaps = inputs
    masses = [None, *range(39)]
    results = train((strucs, {"gap": gaps, "mass": masses}), tmp_path, "run", unit={"gap": "eV"})
    assert {name: score["unit"] for name, score in results.scores.items()} == {"gap": "eV", "mass": None}
    for row in results.predictions:
        assert row.label == [gaps[int(row.id)], masses[int(row.id)]]
    train((strucs, {"gap": gaps, "weight": masses}), tmp_path, "other")
    assert len(built(tmp_path)) == 2
    with pytest.raises(InputError, match="found a unit of 'mess'; required: of the labels gap, mass"):
        train((strucs, {"gap": gaps, "mass": masses}), tmp_path, "bad", unit={"mess": "kg"})
    with pytest.raises(InputError, match="found no number among the 40 labels of 'mass'"):
        train((strucs, {"gap": gaps, "mass": [None] * 40}), tmp_path, "bad")
    with pytest.raises(InputError, match="found 40 structures, 2 labels"):
        train((strucs, {"gap": gaps, "mass": [1, 2]}), tmp_path, "bad")


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
    with pytest.raises(InputError, match="found 40 structures, 39 labels and 40 ids"):
        train((strucs, labels[1:]), tmp_path, "run")
    with pytest.raises(InputError, match="found no number among the 40 labels"):
        train((strucs, [math.nan, None] * 20), tmp_path, "run")
    with pytest.raises(InputError, match="found the option 'lr'"):
        train(inputs, tmp_path, "run", lr=0.1)
    with pytest.raises(InputError, match="fractions"):
        train(inputs, tmp_path, "run", train_ratio=0.9)
    assert not (tmp_path / "run").exists()


def test_a_structure_that_is_none_is_left_out(inputs, tmp_path):
    strucs, labels = inputs
    with pytest.warns(UserWarning, match="1 structures could not become graphs; the first, id '40': "):
        results = train(([*strucs, "no structure"], [*labels, 3.0]), tmp_path, "run")
    assert len(results.predictions) == 4
    assert results.quarantined == json.loads(results.folder.results.read_text())["quarantined"] == 1
