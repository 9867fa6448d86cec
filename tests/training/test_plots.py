"""Pictures of any names, units and numbers: they are the last that a run makes, and must not end it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lazygraph.training.plots import draw_calibration, draw_learning_curve, draw_parity
from lazygraph.training.report import Prediction
from lazygraph.training.targets import Targets

PNG = b"\x89PNG"
texts = st.text(max_size=40) | st.text("$\\{}^_%& \n\x1b\u202eAdfrac", max_size=20)


def rows(labels, deviation=None):
    return [Prediction(str(n), [label + 0.5], [label], deviation) for n, label in enumerate(labels)]


@settings(max_examples=30)
@given(texts.filter(bool), st.none() | texts)
@example("gap", r"$\AA$")
@example("gap", r"eV $\cdot$ \AA")
@example("gap", "$x_{$")
@example("gap", "a$b$c^^")
@example("gap", r"\$x$")
@example("gap", "%s{}%")
@example("gap", "x" * 5000)
@example("gap", "\n" * 50)
@example("_gap", "日本")
@example("\ud800", "\x00")
def test_any_name_and_unit_are_drawn(tmp_path_factory, name, unit):
    path = tmp_path_factory.mktemp("plots")
    targets = Targets((name, f"{name}2"), (unit, None), (0.0, 0.0), (1.0, 1.0))
    predictions = [
        Prediction("a", [0.1, 2.0], [0.0, 1.0], [0.1, 0.1]),
        Prediction("b", [1.0, 2.0], [0.5, 3.0], [0.1, 9]),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Glyph")  # which a font may lack
        draw_parity(predictions, targets, path / "parity.png")
        draw_calibration(predictions, targets, path / "calibration.png")
    assert {file.read_bytes()[:4] for file in path.iterdir()} == {PNG}


@pytest.mark.parametrize(
    "labels", [[1e300, -1e300], [5e-324, 0.0], [np.nan, np.nan], [1.0, 1.0], [-563245.01, -563245.0]]
)
def test_any_numbers_are_drawn(tmp_path, labels):
    targets = Targets(("e",), ("eV",), (0.0,), (1.0,))
    draw_parity(rows(labels), targets, tmp_path / "parity.png")
    draw_calibration(rows(labels, [0.0]), targets, tmp_path / "calibration.png")
    (tmp_path / "metrics.csv").write_text("epoch,train_loss,val_loss\n0,1e-300,\n1,0.0,nan\n")
    draw_learning_curve(tmp_path / "metrics.csv", tmp_path / "curve.png")


def test_a_style_of_the_current_folder_does_not_count(tmp_path):
    """A matplotlibrc of a stranger's folder would have names set by TeX."""
    import matplotlib as mpl

    targets = Targets(("e",), (None,), (0.0,), (1.0,))
    draw_parity(rows([1.0, 2.0]), targets, tmp_path / "one.png")
    with mpl.rc_context({"text.usetex": True, "lines.linewidth": 9, "savefig.dpi": 7}):
        draw_parity(rows([1.0, 2.0]), targets, tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
