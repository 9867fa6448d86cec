"""What is learned: normalised, given back in the units of the labels, missing labels left out."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import Composition

import lazygraph as lg
from lazygraph.errors import InputError, LabelError
from lazygraph.training.module import GraphModule
from lazygraph.training.report import Prediction, scores_of
from lazygraph.training.targets import Targets

numbers = st.floats(-1e3, 1e3, width=32)


@given(st.lists(st.tuples(numbers, st.floats(0.01, 100)), min_size=1, max_size=4), st.data())
def test_what_is_normalised_is_restored(of_each, data):
    mean, std = zip(*of_each, strict=True)
    targets = Targets(tuple("abcd"[: len(mean)]), (None,) * len(mean), mean, std)
    y = torch.tensor(data.draw(st.lists(st.lists(numbers, min_size=len(mean), max_size=len(mean)), min_size=1)))
    assert torch.allclose(targets.scale().restored(targets.scale().normalised(y)), y.double(), rtol=1e-4, atol=1e-2)
    assert Targets.from_json(json.loads(json.dumps(targets.to_json()))) == targets


def dataset(tmp_path, labels):
    inputs = [(f"c{n}", lg.Crystal(np.eye(3) * 3, [[0, 0, 0]], [29]), each) for n, each in enumerate(labels)]
    units = {"gap": "eV"} if "gap" in labels[0] else {}
    names = list(labels[0])
    lg.write(inputs, tmp_path / "t.lg", graph="comformer", workers=1, progress=False, labels=names, units=units)
    return lg.LazyGraphDataset(tmp_path / "t.lg")


def test_targets_of_a_dataset(tmp_path):
    ds = dataset(tmp_path, [{"gap": gap, "dipole": [n, 2.0, 3.0]} for n, gap in enumerate([1.0, None, 4.0, 7.0])])
    targets = Targets.of(ds, ["gap", "dipole"], classify=False)
    assert targets.names == ("gap", "dipole[0]", "dipole[1]", "dipole[2]")
    assert targets.units == ("eV", None, None, None)
    assert targets.mean == pytest.approx((4.0, 1.5, 2.0, 3.0))
    assert targets.std == pytest.approx((math.sqrt(6), math.sqrt(1.25), 1.0, 1.0))
    assert targets.outputs == 4
    with pytest.raises(LabelError, match="none of the 1 training graphs has a value of 'gap'"):
        Targets.of(ds[[1]], ["gap"], classify=False)
    with pytest.raises(LabelError, match="the label has 3 values"):
        Targets.of(ds, ["dipole"], classify=True)
    with pytest.raises(InputError, match="found 1 different values of 'gap'"):
        Targets.of(ds[[0]], ["gap"], classify=True)


def test_missing_labels_neither_count_nor_move_weights(tmp_path):
    ds = dataset(tmp_path, [{"a": 1.0, "b": None}, {"a": None, "b": 2.0}, {"a": 3.0, "b": 0.0}])
    ds = lg.LazyGraphDataset(ds.path, target=["a", "b"])
    targets = Targets(("a", "b"), (None, None), (0.0, 0.0), (1.0, 1.0))
    module = GraphModule(Composition(2), targets, lg.TrainOptions(target=("a", "b"), loss="mse"))
    batch = ds.batch([0, 1, 2])
    out = module(batch).detach().requires_grad_()
    total, count = module._loss(out, batch.y)
    there = ~batch.y.isnan()
    assert int(count) == 4
    assert float(total) == pytest.approx(float(((out - batch.y)[there] ** 2).sum()))
    total.backward()
    assert (out.grad[~there] == 0).all()
    assert (out.grad[there] != 0).all()


class Gives(torch.nn.Module):
    def __init__(self, out):
        super().__init__()
        self.out = out

    def forward(self, batch):
        return self.out


@pytest.mark.parametrize(
    ("shape", "graphs", "targets", "fits"),
    [
        ((3, 2), 3, 2, True),
        ((2,), 1, 2, True),
        ((3,), 3, 1, True),
        ((), 1, 1, True),
        ((2, 3), 3, 2, False),
        ((6,), 3, 2, False),
        ((6, 1), 3, 2, False),
        ((6, 1), 3, 1, False),
        ((3, 3), 3, 2, False),
    ],
)
def test_a_network_gives_a_row_for_each_graph(shape, graphs, targets, fits):
    names = tuple("ab"[:targets])
    ones = (1.0,) * targets
    options = lg.TrainOptions(target=names)
    module = GraphModule(Gives(torch.ones(shape)), Targets(names, (None,) * targets, ones, ones), options)
    batch = SimpleNamespace(num_graphs=graphs)
    if fits:
        assert module(batch).shape == (graphs, targets)
        return
    with pytest.raises(
        InputError, match=rf"an output of shape .*for {graphs} graphs; required: .*\({graphs}, {targets}\)"
    ):
        module(batch)
    module.network.out = {"energy": 1.0}
    with pytest.raises(InputError, match="the model gives a dict"):
        module(batch)


def test_places_of_classes():
    targets = Targets(("kind",), (None,), (0.0,), (1.0,), (0.0, 2.0, 4.0))
    y = torch.tensor([[4.0], [0.0], [torch.nan], [3.0], [2.0]])
    assert targets.scale().places(y).tolist() == [2, 0, -100, -100, 1]
    assert targets.scale().restored(torch.eye(3)).tolist() == [[0.0], [2.0], [4.0]]
    assert targets.outputs == 3


def test_scores():
    targets = Targets(("a", "b"), ("eV", None), (0.0, 0.0), (1.0, 1.0))
    rows = [Prediction("x", [1.0, 5.0], [2.0, math.nan]), Prediction("y", [1.0, 5.0], [4.0, math.nan])]
    assert scores_of(rows, targets) == {
        "a": {"count": 2, "mae": 2.0, "rmse": pytest.approx(math.sqrt(5)), "r2": pytest.approx(-4), "unit": "eV"},
        "b": {"count": 0},
    }
    assert scores_of([], targets)["a"] == {"count": 0}


@pytest.mark.parametrize(
    ("names", "labels", "places"),
    [
        (["gap"], ["gap"], {"gap": [0]}),
        (["d[0]", "d[1]", "gap", "e"], ["d", "gap"], None),
        (["d[0]", "d[1]", "gap"], ["d", "gap"], {"d": [0, 1], "gap": [2]}),
        (["d[1][0]", "d[1][1]", "d[0]"], ["d[1]", "d[0]"], {"d[1]": [0, 1], "d[0]": [2]}),
        (["d[0]", "d[1]", "d[2]"], ["d", "d[2]"], {"d": [0, 1], "d[2]": [2]}),
        (["gap"], ["gap", "d"], None),
        (["gap", "d"], ["gap"], None),
        ([], ["gap"], None),
    ],
)
def test_components_of_labels(names, labels, places):
    many = len(names)
    targets = Targets(tuple(names), (None,) * many, (0.0,) * many, (1.0,) * many)
    if places is None:
        with pytest.raises(ValueError, match="are not of the labels"):
            targets.components(labels)
    else:
        assert targets.components(labels) == places
