"""Reasons to stop a run early: Ctrl-C, patience, and losses that are not numbers."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import lightning
from lightning.pytorch.callbacks import Callback, EarlyStopping

from lazygraph.errors import InputError
from lazygraph.training.folder import Folder

__all__ = ["Finite", "Patience", "interruptible"]


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` for Ctrl-C within the block.

    Lightning raises ``SystemExit`` instead, which would end a notebook or look like an error of the command. It also
    ignores every later Ctrl-C.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        if before is not None:  # one that Python does not know
            signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from error


class Patience(EarlyStopping):
    """Early stopping that persists: a run that was killed after it has stopped trains no further epoch."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Stop before the first step if the checkpoint says that training has ended."""
        trainer.should_stop = self.wait_count >= self.patience


class Finite(Callback):
    """A callback that raises an error if the validation loss is NaN or infinite.

    Args:
        folder: the folder of the run, for the error.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Check the loss, which is the same on all ranks.

        Raises:
            InputError: the loss is not finite.
        """
        loss = float(trainer.callback_metrics["val_loss"])
        if not math.isfinite(loss):
            msg = (
                f"the validation loss is {loss} in epoch {trainer.current_epoch}, counted from 0. "
                "Start a new run in another output_dir, with a smaller learning_rate or a gradient_clip, "
                "with precision 32, or with another model if this one gives NaN for some graph. The best checkpoint "
                f"of the earlier epochs, if there is one, is in {self._folder.checkpoints}"
            )
            raise InputError(msg)
