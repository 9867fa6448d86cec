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


HARD = [r"$\AA$", r"eV $\cdot$ \AA", "$x_{$", "a$b$c^^", r"\$x$", "%s{}%", "x" * 5000, "\n" * 50, "日本", "\ud800\x00"]


@pytest.mark.slow
@settings(max_examples=5)
@given(st.lists(st.tuples(texts.filter(bool), st.none() | texts), min_size=1, max_size=3))
@example([("gap", unit) for unit in HARD])
@example([(f"_{name}", None) for name in HARD])
@example([("0000\x1f\x1f\x1f\x1e\x1e\U0001342f\U0001e150\U0003134b", None)])
@example([("W" * 60, None)])
def test_any_names_and_units_are_drawn(tmp_path_factory, named):
    path = tmp_path_factory.mktemp("plots")
    names, units = zip(*named, strict=True)
    many = len(named)
    targets = Targets(names, units, (0.0,) * many, (1.0,) * many)
    predictions = [
        Prediction("a", [0.1] * many, [0.0] * many, [0.1] * many),
        Prediction("b", [1.0] * many, [0.5] * many, [9.0] * many),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Glyph")  # which a font may lack
        draw_parity(predictions, targets, path / "parity.png")
        draw_calibration(predictions, targets, path / "calibration.png")
    assert {file.read_bytes()[:4] for file in path.iterdir()} == {PNG}


@pytest.mark.slow
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
