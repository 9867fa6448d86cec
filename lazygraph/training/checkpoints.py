"""Checkpoints of a run: written as complete files between steps, and found again after the folder was moved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from lazygraph.storage.files import fsync_directory, move_file
from lazygraph.storage.positioned import sync

__all__ = ["Kept", "Last", "WholeFiles"]


class WholeFiles(TorchCheckpointIO):
    """A checkpoint plugin that publishes complete files only, where Lightning may copy a file in place."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ARG002
        """Write a temporary file and rename it."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            sync(file.fileno())
        move_file(temporary, target)
        fsync_directory(target.parent)


class Kept(ModelCheckpoint):
    """Lightning's checkpoint callback, but with checkpoints identified by name, so that the folder can be moved.

    When training resumes, a missing checkpoint is no longer among the best. The epoch in which a run was killed may
    have replaced it.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the files of these names in the current folder."""
        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {name: self._here(state_dict[name]) for name in paths}
        best = {self._here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": best, "dirpath": self.dirpath})

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Forget missing checkpoints. The view of the first process counts for all."""
        super().on_train_start(trainer, pl_module)
        there: list[str] = trainer.strategy.broadcast([path for path in self.best_k_models if Path(path).exists()])
        if self.monitor is None or len(there) == len(self.best_k_models):
            return
        self.best_k_models = {path: self.best_k_models[path] for path in there}
        in_order = sorted(there, key=lambda path: float(self.best_k_models[path]))
        self.best_model_path, self.kth_best_model_path = (in_order[0], in_order[-1]) if in_order else ("", "")
        self.best_model_score = self.best_k_models.get(self.best_model_path)

    def _here(self, path: str) -> str:
        return os.path.join(self.dirpath or "", Path(path).name) if path else path  # noqa: PTH118  # Lightning's paths are texts


class Last(Kept):
    """A callback that writes a checkpoint after a number of steps, never between accumulated batches."""

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint if it is due, without gradients."""
        # A checkpoint at the last step of an epoch would come before its validation, which a resumed run would skip.
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
