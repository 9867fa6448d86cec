"""Scores of predictions against their definitions, for numbers of any size."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lazygraph.training.report import Prediction, root_mean_square, scores_of
from lazygraph.training.targets import Targets

ONE = Targets(("e",), ("eV",), (0.0,), (1.0,))
reals = st.floats(-1e6, 1e6)


def score(labels, predicted):
    rows = zip(labels, predicted, strict=True)
    return scores_of([Prediction(str(k), [p], [y]) for k, (y, p) in enumerate(rows)], ONE)["e"]


@given(st.lists(st.tuples(reals, reals), min_size=2, max_size=30))
def test_scores_are_their_definitions(pairs):
    y, p = np.array(pairs).T
    assume(np.ptp(y) > 1e-3)
    found = score(y, p)
    assert found["count"] == len(y)
    assert found["mae"] == pytest.approx(np.abs(p - y).mean())
    assert found["rmse"] == pytest.approx(np.sqrt(((p - y) ** 2).mean()))
    assert found["r2"] == pytest.approx(1 - ((p - y) ** 2).sum() / ((y - y.mean()) ** 2).sum(), rel=1e-6)


@given(st.lists(reals, min_size=2, max_size=30), st.sampled_from([1e-290, 1e-100, 1.0, 1e100, 1e290]))
def test_the_determination_has_no_unit(labels, scale):
    """A perfect prediction has 1, the mean 0, and another unit changes nothing."""
    y = np.array(labels) * scale
    assume(np.ptp(np.array(labels)) > 1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(y, y)["r2"] == 1
        assert score(y, np.full(len(y), y.mean()))["r2"] == pytest.approx(0, abs=1e-6)
        half = (y + y.mean()) / 2
        assert score(y, half)["r2"] == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize("labels", [[1.5], [2.0, 2.0, 2.0], [0.0, 0.0], [-563245.01] * 7, [3.0, math.nan]])
def test_equal_labels_have_no_determination(labels):
    found = score(labels, [1.0] * len(labels))
    assert found["r2"] is None
    assert found["mae"] >= 0


def test_large_labels_that_differ_little():
    """Total energies near -563,245 eV, which squares would round away."""
    rng = np.random.default_rng(0)
    small = rng.normal(size=100) * 0.02
    off = rng.normal(size=100) * 0.01
    found = score(small - 563245.0, small - 563245.0 + off)
    assert found["r2"] == pytest.approx(1 - (off**2).sum() / ((small - small.mean()) ** 2).sum(), abs=1e-6)


def test_predictions_that_are_no_numbers_give_bad_scores():
    assert score([1.0, 2.0], [math.inf, 1.0]) == {
        "count": 2,
        "mae": math.inf,
        "rmse": math.inf,
        "r2": -math.inf,
        "unit": "eV",
    }
    found = score([1.0, 2.0], [math.nan, 1.0])
    assert all(math.isnan(found[name]) for name in ("mae", "rmse", "r2"))


def test_without_labels_there_are_no_scores():
    assert score([math.nan, math.nan], [1.0, 2.0]) == {"count": 0}
    assert scores_of([], ONE) == {"e": {"count": 0}}


@pytest.mark.parametrize("value", [1e-200, 1.0, 1e200])
def test_root_mean_square_of_any_size(value):
    assert root_mean_square(np.array([3 * value, -4 * value])) == pytest.approx(value * math.sqrt(12.5))
    assert root_mean_square(np.zeros(2)) == 0
