"""Lightning's own messages never reach a user; warnings that concern the user do, and nothing is changed for good."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

import lazygraph as lg
from lazygraph.training.quiet import LOGGERS, quiet

OPTIONS = lg.TrainOptions(target="density", model="nets:Composition", n_epochs=1, batch_size=64)

# What a user types, in a Python of its own: Lightning repeats some of its messages only once per process.
TYPED = """
import sys
sys.path.append(sys.argv[1])
import lazygraph as lg
lg.train(sys.argv[2], lg.TrainOptions(target="density", model="nets:Composition", n_epochs=1), "run", progress=False)
lg.predict("run", sys.argv[2], model="nets:Composition", progress=False)
crystals = [lg.Crystal([[a, 0, 0], [0, a, 0], [0, 0, a]], [[0, 0, 0]], [29]) for a in (3.1, 3.2, 3.3, 3.4, 3.5, 3.6)]
lg.train_from_list(crystals, list(range(6)), model="cgcnn", n_epochs=1, batch_size=2, train_ratio=0.5, val_ratio=0.25,
                   test_ratio=0.25, output_dir="listed", progress=False)
lg.train_ensemble(sys.argv[2], lg.TrainOptions(target="density", model="nets:Composition", n_epochs=1), "both", 2,
                  progress=False)
"""


@pytest.mark.slow
def test_nothing_is_printed_in_python(prototypes, tmp_path):
    command = [sys.executable, "-c", TYPED, str(Path(__file__).parent), str(prototypes)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.slow
def test_the_commands_print_their_own_lines_only(prototypes, tmp_path):
    lazygraph = str(Path(sys.executable).with_name("lazygraph"))
    train = [lazygraph, "train", prototypes, "--target", "density", "--model", "cgcnn", "--n-epochs", "1", "-o", "run"]
    predict = [lazygraph, "predict", "run", prototypes, "-o", "p.csv"]
    for command, lines in ((train, 4), (predict, 1)):
        done = subprocess.run([*command, "--no-progress"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert len(done.stdout.splitlines()) == lines


class Noisy(Callback):
    """What Lightning says in its modules, and what a callback of the user says in its own."""

    def on_train_start(self, trainer, module):
        advice = {"__name__": "lightning.pytorch.trainer.connectors.data_connector", "warnings": warnings}
        exec("import warnings\nwarnings.warn('few workers', UserWarning)", advice)
        exec("import warnings\nwarnings.warn('Be aware that when using `ckpt_path`, callbacks', UserWarning)", advice)
        exec("import warnings\nwarnings.warn('no such metric', RuntimeWarning)", advice)
        exec("import warnings\nwarnings.warn('overflow', UserWarning)", {"__name__": "torch.somewhere"})
        rank_zero_warn("mine")
        rank_zero_info("💡 Tip: try installing litlogger")


def test_warnings_of_others_come(prototypes, tmp_path, caplog):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lg.train(prototypes, OPTIONS, tmp_path / "run", progress=False, callbacks=(Noisy(),))
    said = [str(each.message) for each in caught]
    for text in ("no such metric", "overflow", "mine", "Be aware that when using `ckpt_path`, callbacks"):
        assert text in said
    assert "few workers" not in said
    assert not any(issubclass(each.category, PossibleUserWarning) for each in caught)
    assert not any("LeafSpec" in text for text in said)
    assert not [record for record in caplog.records if record.name.startswith("lightning")]


def test_filters_and_levels_are_restored():
    before = list(warnings.filters), [logging.getLogger(name).level for name in LOGGERS]
    assert before[1] == [logging.INFO] * len(LOGGERS)
    with quiet():
        inside = list(warnings.filters)
        assert [logging.getLogger(name).level for name in LOGGERS] == [logging.WARNING] * len(LOGGERS)
        with quiet():
            assert list(warnings.filters) == inside
        assert list(warnings.filters) == inside
    assert (list(warnings.filters), [logging.getLogger(name).level for name in LOGGERS]) == before
    with pytest.raises(ZeroDivisionError), quiet():
        1 / 0
    assert (list(warnings.filters), [logging.getLogger(name).level for name in LOGGERS]) == before


def test_a_level_that_the_user_has_set_stays():
    logger = logging.getLogger(LOGGERS[0])
    logger.setLevel(logging.DEBUG)
    try:
        with quiet():
            assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(logging.INFO)


def test_the_same_warning_of_two_runs_is_shown_once():
    """Those of an ensemble have the same labels, and each begins a block of its own within that of the ensemble."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        with quiet():
            for _ in range(3):
                with quiet():
                    warnings.warn("the label is constant", stacklevel=1)
    assert len(caught) == 1
