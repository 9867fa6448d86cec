"""Pictures of any names, units and numbers: they are the last that a run makes, and must not end it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from lazygraph.training import plots
from lazygraph.training.plots import draw_calibration, draw_learning_curve, draw_parity, draw_residuals
from lazygraph.training.report import Prediction, scores_of
from lazygraph.training.residuals import Composition, groups_of
from lazygraph.training.targets import Targets

PNG = b"\x89PNG"
texts = st.text(max_size=40) | st.text("$\\{}^_%& \n\x1b\u202eAdfrac", max_size=20)


ONE = Targets(("e",), ("eV",), (0.0,), (1.0,))


def rows(labels, deviation=None):
    return [Prediction(str(n), [label + 0.5], [label], deviation) for n, label in enumerate(labels)]


def groups(predictions, targets, formula="NaCl"):
    n = len(predictions)
    return groups_of(predictions, targets, Composition(np.array([formula] * n), np.arange(1, n + 1)))


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
        draw_residuals(groups(predictions, targets), targets, path / "residuals.png")
        titles = [
            f"val_mae/{name} ({unit})".replace("\n", " ").replace("\ud800", "").replace('"', "") for name, unit in named
        ]
        columns = ",".join(["epoch", "train_loss", "val_loss", *(f'"{title}"' for title in titles)])
        numbers = ",".join(["0", "1.0", "2.0", *["0.5"] * many])
        (path / "metrics.csv").write_text(f"{columns}\n{numbers}\n", encoding="utf-8")
        draw_learning_curve(path / "metrics.csv", path / "curve.png")
        (path / "metrics.csv").unlink()
    assert {file.read_bytes()[:4] for file in path.iterdir()} == {PNG}


@pytest.mark.slow
@pytest.mark.parametrize(
    "labels", [[1e300, -1e300], [5e-324, 0.0], [np.nan, np.nan], [1.0, 1.0], [-563245.01, -563245.0]]
)
def test_any_numbers_are_drawn(tmp_path, labels):
    targets = Targets(("e",), ("eV",), (0.0,), (1.0,))
    draw_parity(rows(labels), targets, tmp_path / "parity.png")
    draw_calibration(rows(labels, [0.0]), targets, tmp_path / "calibration.png")
    draw_residuals(groups(rows(labels), targets), targets, tmp_path / "residuals.png")
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


# ---- what is seen ----


def pixels(figure, axes):
    """The picture of a figure, and the pixel (row, column) of a point of the axes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[:, :, :3] / 255
    height = picture.shape[0]

    def place(x, y):
        column, row = axes.transData.transform((x, y))
        return int(height - 1 - row), int(column)

    return picture, place


def is_seen(picture, at, radius=3):
    """Whether a pixel around a place differs clearly from white and from the grey line."""
    row, column = at
    part = picture[row - radius : row + radius + 1, column - radius : column + radius + 1]
    return bool(((part.max(axis=2) - part.min(axis=2)) > 0.2).any())


@pytest.mark.parametrize("n", [1, 2, 30, 1000, 2999, 3000, 30_000])
def test_every_mark_is_seen(n):
    """The last graph lies apart from all others, which form one heap."""
    rng = np.random.default_rng(n)
    labels = rng.normal(scale=0.1, size=n)
    predictions = [Prediction(str(k), [label + 0.01], [label]) for k, label in enumerate(labels.tolist())]
    predictions[-1] = Prediction("far", [-3.0], [3.0])
    figure = plots._parity(predictions, ONE)
    picture, place = pixels(figure, figure.axes[0])
    assert is_seen(picture, place(3.0, -3.0))
    assert not is_seen(picture, place(2.0, -2.0))
    if n > 2:
        assert is_seen(picture, place(0.0, 0.01))


def test_thirty_marks_are_told_apart():
    labels = np.linspace(-1, 1, 30)
    predictions = [Prediction(str(k), [(-1) ** k * 0.5], [label]) for k, label in enumerate(labels.tolist())]
    figure = plots._parity(predictions, ONE)
    picture, place = pixels(figure, figure.axes[0])
    assert all(is_seen(picture, place(row.label[0], row.predicted[0]), 2) for row in predictions)
    between = [place(row.label[0], -row.predicted[0]) for row in predictions if abs(abs(row.label[0]) - 0.5) > 0.1]
    assert not any(is_seen(picture, at, 1) for at in between)


def test_scores_stand_in_the_plot():
    predictions = [*rows([1.0, 2.0, 4.0]), Prediction("none", [1.0], [np.nan])]
    told = plots._parity(predictions, ONE).axes[0].get_title(loc="left")
    score = scores_of(predictions, ONE)["e"]
    assert told == f"MAE 0.5 eV, RMSE 0.5 eV\nR\u00b2 {score['r2']:.3f}, n = 3"
    assert plots._parity(rows([2.0, 2.0]), ONE).axes[0].get_title(loc="left") == "MAE 0.5 eV, RMSE 0.5 eV\nn = 2"
    assert plots._parity([Prediction("a", [1.0], [np.nan])], ONE).axes[0].get_title(loc="left") == "n = 0"


@pytest.mark.parametrize("count", [1, 2, 12, 13, 300])
def test_of_many_targets_the_first_are_drawn(count, tmp_path):
    targets = Targets(tuple(f"t{k}" for k in range(count)), (None,) * count, (0.0,) * count, (1.0,) * count)
    predictions = [Prediction("a", [0.5] * count, [0.0] * count), Prediction("b", [1.5] * count, [1.0] * count)]
    figure = plots._parity(predictions, targets)
    assert len(figure.axes) == min(count, 12)
    assert (figure.get_suptitle() == f"the first 12 of {count} targets") == (count > 12)
    draw_parity(predictions, targets, tmp_path / "parity.png")
    draw_residuals(groups(predictions, targets), targets, tmp_path / "residuals.png")
    assert max(max(imread(tmp_path / name).shape) for name in ("parity.png", "residuals.png")) < 5000


METRICS = [
    {
        "epoch": str(k),
        "train_loss": str(2.0 / (k + 1)),
        "val_loss": str(3.0 / (k + 1)),
        "val_mae/gap (eV)": str(0.9 / (k + 1)),
    }
    for k in range(40)
]


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 40])
def test_epochs_are_whole_numbers_from_one(epochs):
    for axes in plots._learning_curve(METRICS[:epochs], None).axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks().tolist() if low <= tick <= high]
        assert ticks
        assert all(tick == round(tick) and 1 <= tick <= epochs for tick in ticks)


def test_errors_are_in_the_unit_of_the_label():
    errors, losses = plots._learning_curve(METRICS, 0.25).axes
    assert (errors.get_ylabel(), losses.get_ylabel()) == ("MAE of gap (eV)", "loss of normalised targets")
    training, validation = errors.lines
    assert (training.get_label(), validation.get_label()) == ("training", "validation")
    assert validation.get_ydata().tolist() == [float(row["val_mae/gap (eV)"]) for row in METRICS]
    assert training.get_ydata().tolist() == [float(row["train_loss"]) * 0.25 for row in METRICS]
    (validation,) = plots._learning_curve(METRICS, None).axes[0].lines
    assert validation.get_label() == "validation"
    classes = [{**row, "val_accuracy": "0.5"} for row in METRICS]
    for row in classes:
        del row["val_mae/gap (eV)"]
    errors, losses = plots._learning_curve(classes, None).axes
    assert (errors.get_ylabel(), losses.get_ylabel()) == ("share of right predictions", "cross entropy")
    assert errors.get_yscale() == "linear"


def test_elements_and_sizes_of_a_plot_are_those_of_the_groups():
    predictions = rows([1.0, 2.0, 4.0])
    figure = plots._residuals(groups(predictions, ONE), ONE)
    table, _colours, sizes = figure.axes
    shown = [text.get_text() for text in table.texts]
    assert len([text for text in shown if text.isalpha()]) == 118
    assert [text for text in shown if text.isdecimal()] == ["3", "3"]  # sodium and chlorine
    assert [text.get_text() for text in sizes.get_xticklabels()] == ["1", "2", "3"]
    assert [bar.get_height() for bar in sizes.patches] == [0.5, 0.5, 0.5]
