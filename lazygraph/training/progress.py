"""``Progress``: writes a line of metrics an epoch, and tells how long the device waited for data."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from lazygraph.loading.loader import Loader
from lazygraph.storage.files import write_atomic
from lazygraph.training.module import GraphModule

__all__ = ["Progress"]


class Progress(Callback):
    """Lightning's callback for the metrics of a run.

    Attributes:
        waited: the share of the time of training steps that was spent waiting for data.
        elapsed: seconds from the start of training on, validation included.

    Both are of the whole run: checkpoints keep what was before a stop.

    Args:
        path: the CSV file; lines of epochs that are trained again are replaced.
        loader: the training loader.
    """

    def __init__(self, path: Path, loader: Loader) -> None:
        self._path, self._loader = path, loader
        self._seconds, self._waited, self._elapsed = 0.0, 0.0, 0.0
        self._graphs, self._begin, self._end, self._before, self._start = 0, 0.0, 0.0, 0.0, 0.0

    @property
    def waited(self) -> float:
        """See the class."""
        return self._waited / self._seconds if self._seconds else 0.0

    @property
    def elapsed(self) -> float:
        """See the class."""
        return self._elapsed + (time.perf_counter() - self._start if self._start else 0.0)

    def state_dict(self) -> dict[str, Any]:
        """What has passed so far, the epoch that is under way included, as far as it goes."""
        part, waited = self._of_epoch() if self._graphs else (0.0, 0.0)
        return {"seconds": self._seconds + part, "waited": self._waited + waited, "elapsed": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._seconds, self._waited, self._elapsed = (state_dict[k] for k in ("seconds", "waited", "elapsed"))

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock: in the middle of an epoch none is said to start."""
        self._start = time.perf_counter()
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Start the clock."""
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
        """Count graphs; validation comes behind the last batch and is not counted."""
        self._graphs += batch.num_graphs
        self._end = time.perf_counter()
        speed = self._graphs / max(self._end - self._begin, 1e-9)
        pl_module.log("graphs/s", speed, prog_bar=True, logger=False, batch_size=batch.num_graphs)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the line of the epoch."""
        loss = pl_module.train_loss() if isinstance(pl_module, GraphModule) else None
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
        """Seconds of the epoch's steps, and those of them spent waiting."""
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
