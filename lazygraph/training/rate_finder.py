"""The function ``find_learning_rate``, which tries learning rates on the first batches of a training."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning.pytorch.tuner.tuning import Tuner

from lazygraph.errors import InputError
from lazygraph.training.option_types import real_number, whole_number
from lazygraph.training.options import TrainOptions
from lazygraph.training.quiet import quiet
from lazygraph.training.run import prepare, trainer_of

__all__ = ["LearningRates", "find_learning_rate"]

EDGE = 10  # of the first points and 1 of the last, which the suggestion leaves out, as Lightning does


@dataclass(frozen=True, slots=True)
class LearningRates:
    """Losses at increasing learning rates.

    Attributes:
        rates: the learning rates, one per batch.
        losses: the smoothed loss of normalised targets after the batch of each.
        suggestion: the rate at which the loss falls fastest; None if it falls nowhere. It is a value for the options
            ``learning_rate`` and ``schedule="onecycle"``.
    """

    rates: Sequence[float]
    losses: Sequence[float]
    suggestion: float | None

    def __str__(self) -> str:
        pairs = list(zip(self.rates, self.losses, strict=True))
        shown = pairs[:: max(len(pairs) // 10, 1)]
        lines = [f"{rate:10.2e}  {loss:10.4g}" for rate, loss in shown]
        told = "the loss falls nowhere" if self.suggestion is None else f"suggestion: {self.suggestion:.2g}"
        return "\n".join([f"{'rate':>10}  {'loss':>10}", *lines, told])


@quiet()
def find_learning_rate(
    path: str | os.PathLike[str],
    options: TrainOptions,
    *,
    lowest: float = 1e-7,
    highest: float = 1.0,
    batches: int = 100,
    progress: bool = True,
) -> LearningRates:
    """Try learning rates that grow from batch to batch, and suggest one.

    The training begins as it would with these options, but every batch has a larger learning rate than the one before.
    It stops early if the loss becomes four times its least value. Nothing is kept.

    Args:
        path: the dataset directory.
        options: the options of the training. The schedule is not used.
        lowest: the first learning rate.
        highest: the last learning rate.
        batches: number of learning rates, at least 20.
        progress: show a progress bar.

    Raises:
        InputError: a number is out of range. Also the errors of :func:`train`.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017; Lightning's ``Tuner.lr_find``.
    """
    lowest = real_number("lowest", lowest, above=0)
    highest = real_number("highest", highest, above=lowest)
    batches = whole_number("batches", batches, 20)
    # Nothing but the rate changes from batch to batch.
    module, data = prepare(path, options.changed(schedule="none", milestones=(), warmup_steps=None))[1:3]
    if options.num_nodes > 1 or options.devices > 1:
        raise InputError("learning rates are tried in one process; set devices and num_nodes to 1")
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(
            options.changed(devices=1),
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=progress,
            max_epochs=math.ceil(batches / max(len(data.train), 1)) + 1,
            num_sanity_val_steps=0,
        )
        module.learning_rate = torch.tensor(options.learning_rate)  # Lightning looks for this name
        try:
            found = Tuner(trainer).lr_find(
                module, datamodule=data, min_lr=lowest, max_lr=highest, num_training=batches, update_attr=False
            )
        finally:
            data.train.close()
    if found is None:
        raise InputError("no learning rate was tried")
    rates, losses = ([float(each) for each in found.results[name]] for name in ("lr", "loss"))
    return LearningRates(rates, losses, _suggestion(rates, losses))


def _suggestion(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate at which the loss falls fastest per order of magnitude, away from both ends of the curve."""
    inner = slice(EDGE, len(losses) - 1)
    values, places = np.array(losses[inner]), np.log(np.array(rates[inner]))
    finite = np.isfinite(values)
    values, places = values[finite], places[finite]
    if len(values) < 2:
        return None
    slopes = np.gradient(values, places)
    steepest = int(slopes.argmin())
    return float(np.exp(places[steepest])) if slopes[steepest] < 0 else None
