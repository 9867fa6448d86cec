"""Callbacks that tell how a run goes on: metrics of every epoch, the time spent waiting for data, a progress bar."""

from __future__ import annotations

import csv
import io
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from lazygraph.loading.loader import Loader
from lazygraph.storage.files import write_atomic
from lazygraph.training.module import TrainedModule

__all__ = ["SEEN_EVERY", "Bar", "Progress"]

SEEN_EVERY = 10  # steps


class Bar(TQDMProgressBar):
    """Lightning's progress bar, but on stderr, so that stdout holds nothing but results."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=SEEN_EVERY)  # each time it waits for the device

    def init_train_tqdm(self) -> Tqdm:
        """Return the bar of an epoch."""
        with redirect_stdout(sys.stderr):
            return super().init_train_tqdm()

    def init_validation_tqdm(self) -> Tqdm:
        """Return the bar of a validation."""
        with redirect_stdout(sys.stderr):
            return super().init_validation_tqdm()

    def init_predict_tqdm(self) -> Tqdm:
        """Return the bar of a prediction."""
        with redirect_stdout(sys.stderr):
            return super().init_predict_tqdm()


class Progress(Callback):
    """A Lightning callback for the metrics of a run.

    Attributes:
        waited: share of the time of training steps that was spent waiting for data.
        elapsed: seconds since the start of training, including validation.

    Both cover the whole run, because checkpoints store their values before a stop.

    Args:
        path: the CSV file. Lines of epochs that are trained again are replaced.
    """

    _loader: Loader

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds, self._waited, self._elapsed = 0.0, 0.0, 0.0
        self._graphs, self._begin, self._end, self._before, self._start = 0, 0.0, 0.0, 0.0, 0.0

    @property
    def waited(self) -> float:
        """See the attributes of the class."""
        return self._waited / self._seconds if self._seconds else 0.0

    @property
    def elapsed(self) -> float:
        """See the attributes of the class."""
        return self._elapsed + (time.perf_counter() - self._start if self._start else 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Return the times so far, including the current epoch."""
        part, waited = self._of_epoch() if self._graphs else (0.0, 0.0)
        return {"seconds": self._seconds + part, "waited": self._waited + waited, "elapsed": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state."""
        self._seconds, self._waited, self._elapsed = (state_dict[k] for k in ("seconds", "waited", "elapsed"))

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Take the training loader, which counts the seconds that it was waited for."""
        self._loader = trainer.datamodule.train  # type: ignore[attr-defined]  # that of train

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, because a run that resumes within an epoch gets no start of an epoch."""
        self._start = time.perf_counter()
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Start the clock of the epoch."""
        self._begin = self._end = time.perf_counter()
        self._before, self._graphs = self._loader.seconds_waited, 0

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Count the graphs of the batch. Validation follows the last batch and does not count."""
        self._graphs += batch.num_graphs
        self._end = time.perf_counter()
        speed = self._graphs / max(self._end - self._begin, 1e-9)
        pl_module.log("graphs/s", speed, prog_bar=True, logger=False, batch_size=batch.num_graphs)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the line of this epoch."""
        loss = pl_module.train_loss() if isinstance(pl_module, TrainedModule) else None
        seconds, waited = self._of_epoch()
        self._seconds += seconds
        self._waited += waited
        graphs, self._graphs = self._graphs, 0
        if not trainer.is_global_zero:
            return
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "train_loss": loss,
            "val_loss": found.get("val_loss"),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "graphs_per_s": round(graphs / max(seconds, 1e-9), 1),
            "seconds": round(seconds, 3),
            "waited": round(waited / max(seconds, 1e-9), 4),
        }
        row |= {name: value for name, value in found.items() if name.startswith(("val_mae", "val_accuracy"))}
        self._write(row)

    def _of_epoch(self) -> tuple[float, float]:
        """Return the seconds of the steps in the epoch, and the seconds spent waiting."""
        return self._end - self._begin, self._loader.seconds_waited - self._before

    def _write(self, row: dict[str, Any]) -> None:
        rows = []
        if self._path.exists():
            with self._path.open(newline="", encoding="utf-8") as file:
                rows = [old for old in csv.DictReader(file) if int(old["epoch"]) < row["epoch"]]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(row))
        writer.writeheader()
        writer.writerows([*rows, row])
        write_atomic(self._path, text.getvalue().encode())
