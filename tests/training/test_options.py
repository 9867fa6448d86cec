"""Options: plain whatever they are given as, and refused where they cannot be, before anything is built."""

from __future__ import annotations

import collections
import io
import math
import types
from dataclasses import fields
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.errors import InputError
from lazygraph.training.option_types import to_builtin
from lazygraph.training.options import read_toml, write_toml

PLAIN = (int, float, str, bool, list, dict, type(None))


def all_types(value):
    if isinstance(value, dict):
        return {type(value), *map(type, value), *(t for each in value.values() for t in all_types(each))}
    if isinstance(value, list):
        return {list, *(t for each in value for t in all_types(each))}
    return {type(value)}


numbers = st.one_of(
    st.integers(0, 200).flatmap(lambda n: st.sampled_from([n, np.int8(n % 100), np.uint64(n)])),
    st.floats(allow_nan=False).flatmap(lambda x: st.sampled_from([x, np.float64(x)])),
    st.booleans().flatmap(lambda b: st.sampled_from([b, np.bool_(b)])),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5).flatmap(lambda t: st.sampled_from([t, np.str_(t)])),
    st.sampled_from([Path("a/b"), np.array([[1.5, 2.0]]), np.array(["Cu", "O"]), np.array(3), np.float32(0.1)]),
)
nested = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["a", "b.c", np.str_("d")]), inner, max_size=2).map(types.MappingProxyType),
    ),
    max_leaves=6,
)


@given(nested)
def test_what_is_made_plain_is_read_back_from_everything_that_holds_it(tmp_path_factory, value):
    options = lg.TrainOptions(target="gap", model_options={"x": value})
    told = options.to_json()
    assert all_types(told) <= set(PLAIN)
    assert to_builtin("x", told["model_options"]) == told["model_options"]
    path = tmp_path_factory.getbasetemp() / "options.toml"
    write_toml(told, path)
    assert lg.TrainOptions.of(read_toml(path)) == options
    file = io.BytesIO()
    torch.save(told, file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == told


OF_POTENTIALS = {
    "forces": np.str_("forces"),
    "stress": np.str_("stress"),
    "stress_convention": np.str_("ase"),
    "energy_weight": np.int64(1),
    "forces_weight": np.float32(2),
    "stress_weight": np.float64(0),
    "element_references": np.str_("stored"),
}


def test_every_option_of_potentials_is_plain():
    options = lg.TrainOptions(target="energy", **OF_POTENTIALS)
    assert all_types(options.to_json()) <= set(PLAIN)
    assert lg.TrainOptions.of(options.to_json()) == options
    assert (options.forces_weight, options.stress_weight) == (2.0, 0.0)


def test_every_option_is_plain():
    given = {
        "target": np.array(["gap", "mass"]),
        **dict.fromkeys(OF_POTENTIALS),  # which learn one target
        "model": np.str_("cgcnn"),
        "model_options": collections.OrderedDict(sizes=(np.int64(3), 4), path=Path("x"), on=np.bool_(1)),
        "from_checkpoint": Path("run"),
        "fresh": np.array(["readout.*"]),
        "freeze": ("layers.0.*",),
        "task": np.str_("regression"),
        "n_epochs": np.int64(3),
        "batch_size": np.uint8(8),
        "graph": np.str_("cgcnn"),
        "graph_options": {"cutoff": np.float32(4)},
        "max_atoms": np.int32(100),
        "max_edges": np.int64(10000),
        "drop_last": np.str_("train"),
        "optimizer": np.str_("sgd"),
        "learning_rate": np.float64(1e-3),
        "momentum": np.float32(0.5),
        "weight_decay": np.float32(0.5),
        "weight_decay_on": np.str_("weights"),
        "schedule": np.str_("multistep"),
        "milestones": np.array([2, 3]),
        "warmup_steps": None,  # of another schedule
        "loss": np.str_("mse"),
        "gradient_clip": np.float16(0.5),
        "accumulate": np.int64(2),
        "precision": np.str_("32"),
        "patience": np.int64(2),
        "ema_decay": np.float64(0.9),
        "keep": np.int64(2),
        "checkpoint_every": np.int64(7),
        "weights": np.str_("last"),
        "seed": np.uint32(1),
        "split_seed": np.int64(2),
        "unlabelled": np.str_("keep"),
        "train_count": np.int64(5),
        "val_count": np.uint8(2),
        "test_count": np.int64(0),
        "train_ratio": np.float64(0.5),
        "val_ratio": np.float32(0.25),
        "test_ratio": np.float64(0.25),
        "splits": np.str_("fold_0"),
        "num_workers": np.int64(1),
        "devices": np.int64(0),
        "num_nodes": np.int64(1),
    }
    assert given.keys() == {f.name for f in fields(lg.TrainOptions)}
    options = lg.TrainOptions.of(given)
    assert all_types(options.to_json()) <= set(PLAIN)
    assert options.target == ("gap", "mass")
    assert {type(name) for name in options.target} == {str}
    assert options.model_options == {"sizes": [3, 4], "path": "x", "on": True}
    assert type(lg.TrainOptions(target="gap", learning_rate=1).learning_rate) is float
    assert type(lg.TrainOptions(target="gap", warmup_steps=np.int64(4)).to_json()["warmup_steps"]) is int


@pytest.mark.parametrize(
    "value",
    [
        None,
        math.nan,
        np.float64("nan"),
        {1: 2},
        {1, 2},
        1j,
        Decimal("0.1"),
        b"x",
        object(),
        [np.array([None])],
        torch.ones(2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_plain_is_named(value):
    with pytest.raises(InputError, match=r"found model_options\['x'\].*required: numbers, texts"):
        lg.TrainOptions(target="gap", model_options={"x": value})


INTS = (
    "n_epochs",
    "batch_size",
    "max_atoms",
    "max_edges",
    "accumulate",
    "patience",
    "keep",
    "checkpoint_every",
    "num_nodes",
    "warmup_steps",
)
COUNTS = ("seed", "split_seed", "num_workers", "devices")
FLOATS = ("learning_rate", "weight_decay", "gradient_clip", "ema_decay", "train_ratio", "val_ratio", "test_ratio")
MAY_BE_NONE = {"batch_size", "max_atoms", "max_edges", "gradient_clip", "patience", "ema_decay"}
MAY_BE_NONE |= {"loss", "graph", "splits", "warmup_steps"}
NO_INTS = (True, np.bool_(1), 1.0, np.float64(2), "1", math.nan, [1], -1)
NO_FLOATS = (True, np.bool_(1), "0.1", math.nan, math.inf, -math.inf, -0.1, [0.1], 10**400, 1j)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *((name, (0, *NO_INTS)) for name in INTS),
        *((name, NO_INTS) for name in COUNTS),
        *((name, NO_FLOATS) for name in FLOATS),
        ("seed", (2**32,)),
        ("learning_rate", (0,)),
        ("gradient_clip", (0.0,)),
        ("ema_decay", (0.0, 1.0)),
        ("train_ratio", (0,)),
        ("val_ratio", (0,)),
        ("target", ((), "", [], 3, None, {"gap"}, ["gap", 3], ["gap", "gap"])),
        ("model", ("", 3, torch.nn.Linear)),
        ("model_options", ([("a", 1)], "a=1", None)),
        ("graph", ("", 3, torch.nn.Linear)),
        ("graph_options", ([("a", 1)], "a=1", None)),
        ("splits", ("", 3, ("fold_0",))),
        ("task", ("classify", 1)),
        ("schedule", ("step", None)),
        ("loss", ("mae", 1)),
        ("precision", (32, "64")),
    ],
)
def test_every_option_has_its_range(name, values):
    for value in values:
        with pytest.raises(InputError, match=f"(found|unknown) {name}"):
            lg.TrainOptions.of({"target": "gap", name: value})
    if name not in MAY_BE_NONE:
        with pytest.raises(InputError, match=f"(found|unknown) {name}"):
            lg.TrainOptions.of({"target": "gap", name: None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": ()}, r"found target=\(\); required: the name of a label"),
        ({"target": ["gap", "gap"]}, "with 'gap' twice; name each label once"),
        ({"schedule": "step"}, "unknown schedule 'step'; known: onecycle, "),
        ({"n_epochs": 0}, "found n_epochs=0; required: a whole number from 1 on"),
        ({"seed": 2**32}, "required: a whole number from 0 to 4294967295"),
        ({"batch_size": None}, "the size of a batch has no limit"),
        ({"learning_rate": 0}, "found learning_rate=0; required: a finite number greater than 0"),
        ({"weight_decay": math.inf}, "found weight_decay=inf; required: a finite number of 0 or more"),
        ({"train_ratio": 0.95}, "fractions"),
        ({"ema_decay": 1.0}, "found ema_decay=1.0; required: a finite number greater than 0 and less than 1"),
        ({"model_options": {"outputs": 2}}, "model_options cannot have 'outputs', because the targets"),
        ({"graph_options": {"cutoff": 4.0}}, r"graph_options=.* needs graph=, the preset"),
        ({"model": torch.nn.Linear}, "found model=.*package.module:Class"),
        ({"loss": "cross_entropy"}, "unknown loss of regression 'cross_entropy'; known: l1, mse, huber"),
        ({"task": "classification", "loss": "mse"}, "unknown loss of classification 'mse'; known: cross_entropy"),
    ],
    ids=str,
)
def test_impossible_options(changes, message):
    with pytest.raises(InputError, match=message):
        lg.TrainOptions.of({"target": "gap", **changes})


def test_the_loss_is_that_of_the_task():
    assert lg.TrainOptions(target="gap").loss == "l1"
    options = lg.TrainOptions(target="gap", task="classification")
    assert options.loss == "cross_entropy"
    assert lg.TrainOptions.of(options.to_json()) == options
