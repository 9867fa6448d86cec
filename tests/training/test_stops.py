"""Runs that go on elsewhere than they were stopped, or that cannot: moved, with files gone, with losses of NaN."""

from __future__ import annotations

import math
import signal

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice

OPTIONS = lg.TrainOptions(
    target="density",
    model="nets:Composition",
    n_epochs=4,
    batch_size=64,
    learning_rate=np.float64(1e-3),
    model_options={"width": np.int64(8)},
    schedule="none",
    keep=2,
    train_ratio=0.6,
    val_ratio=0.2,
    test_ratio=0.2,
)


class Stopped(Exception):
    pass


class Shifts(Callback):
    """Makes the losses of epochs known: the first is the best, the last the second best."""

    def __init__(self, stop=None, shifts=(0.0, 5.0, 5.0, -7.0)):
        self.stop, self.shifts = stop, shifts

    def on_train_epoch_start(self, trainer, module):
        with torch.no_grad():
            module.network.out.bias += self.shifts[trainer.current_epoch]
        if trainer.current_epoch == self.stop:
            raise Stopped


def train(dataset, folder, *callbacks, options=OPTIONS):
    return lg.train(dataset, options, folder, progress=False, callbacks=callbacks)


def names(folder):
    return {file.name for file in (folder / "checkpoints").iterdir()}


@pytest.mark.slow
def test_a_run_whose_folder_was_moved_knows_its_best_checkpoints(prototypes, tmp_path, recwarn):
    whole = train(prototypes, tmp_path / "whole", Shifts())
    assert names(tmp_path / "whole") == {"last.ckpt", "best-epoch=0.ckpt", "best-epoch=3.ckpt"}
    assert whole.checkpoint.name == "best-epoch=0.ckpt"
    with pytest.raises(Stopped):
        train(prototypes, tmp_path / "old", Shifts(stop=2))
    assert names(tmp_path / "old") == {"last.ckpt", "best-epoch=0.ckpt", "best-epoch=1.ckpt"}
    (tmp_path / "old").rename(tmp_path / "new")
    recwarn.clear()
    resumed = train(prototypes, tmp_path / "new", Shifts())
    assert [str(w.message) for w in recwarn if "dirpath" in str(w.message)] == []
    assert resumed.checkpoint == tmp_path / "new" / "checkpoints" / "best-epoch=0.ckpt"
    assert names(tmp_path / "new") == names(tmp_path / "whole")
    assert resumed.scores == whole.scores
    assert not (tmp_path / "old").exists()

    # Finished, but for its results: the best is known, and missed where it is gone.
    resumed.folder.results.unlink()
    (tmp_path / "new").rename(tmp_path / "newer")
    assert train(prototypes, tmp_path / "newer").scores == whole.scores
    (tmp_path / "newer" / "results.json").unlink()
    (tmp_path / "newer" / "checkpoints" / "best-epoch=0.ckpt").unlink()
    with pytest.raises(
        InputError, match=r"the best checkpoint best-epoch=0.ckpt is missing .*there: best-epoch=3.ckpt, last.ckpt"
    ):
        train(prototypes, tmp_path / "newer")


def test_the_best_of_the_checkpoints_that_are_left(prototypes, tmp_path):
    """A run can be killed when the best checkpoint was replaced, and before the last one says so."""
    with pytest.raises(Stopped):
        train(prototypes, tmp_path / "run", Shifts(stop=2))
    (tmp_path / "run" / "checkpoints" / "best-epoch=0.ckpt").unlink()
    results = train(prototypes, tmp_path / "run", Shifts())
    assert results.checkpoint.name == "best-epoch=3.ckpt"
    assert names(tmp_path / "run") == {"last.ckpt", "best-epoch=1.ckpt", "best-epoch=3.ckpt"}


@pytest.mark.slow
@pytest.mark.parametrize("patience", [None, 3])
def test_a_loss_that_is_no_number_ends_the_run(prototypes, tmp_path, patience):
    run = tmp_path / "run"
    with pytest.raises(InputError, match=r"the validation loss is nan in epoch 1, counted from 0\. .*learning_rate"):
        train(prototypes, run, Shifts(shifts=(0.0, math.nan)), options=OPTIONS.changed(patience=patience))
    assert "best-epoch=0.ckpt" in names(run)
    assert "best-epoch=1.ckpt" not in names(run)
    assert not (run / "results.json").exists()
    assert lg.predict(run / "checkpoints" / "best-epoch=0.ckpt", prototypes, model=OPTIONS.model, progress=False).rows


@pytest.mark.slow
def test_a_run_goes_on_with_other_means(prototypes, tmp_path):
    with pytest.raises(Stopped):
        train(prototypes, tmp_path / "run", Shifts(stop=2))
    train(prototypes, tmp_path / "run", Shifts(), options=OPTIONS.changed(num_workers=1, devices=1))


def test_ctrl_c_ends_a_run_and_nothing_else(prototypes, tmp_path, capsys):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        lg.train(prototypes, OPTIONS.changed(model="nets:Interrupted"), tmp_path / "run", progress=False)
    assert signal.getsignal(signal.SIGINT) is before
    command = ["train", str(prototypes), "--target", "density", "--model", "nets:Interrupted", "--no-progress"]
    assert main([*command, "-o", str(tmp_path / "other")]) == 130
    assert "run the same command again to continue" in capsys.readouterr().err.split("\n")[-2]
