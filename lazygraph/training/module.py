"""The class ``GraphModule``: a network with targets and optimiser as a Lightning module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch_geometric.data import Batch
from torchmetrics import Metric

from lazygraph.errors import InputError
from lazygraph.training.options import TrainOptions
from lazygraph.training.targets import Targets, with_unit

__all__ = ["GraphModule", "Predicted", "accelerator", "own_rank"]

Predicted = tuple[list[str], Tensor, Tensor, Tensor]
"""Ids, (B, T) predictions and (B, T) labels, both in the units of the labels, and (B, classes) probabilities."""

LOSSES = {"l1": functional.l1_loss, "mse": functional.mse_loss, "huber": functional.smooth_l1_loss}
PLATEAU = 10  # epochs


def accelerator() -> str:
    """Return Lightning's accelerator: a CUDA GPU if there is one, else the CPU. Apple's GPU has no float64."""
    return "gpu" if torch.cuda.is_available() else "cpu"


def own_rank() -> int:
    """Return the index of this process among the processes that train together, from 0."""
    return int(rank_zero_only.rank)  # type: ignore[attr-defined]  # which Lightning sets


class MeanOfLabels(Metric):
    """The mean over all labels of an epoch, on all ranks.

    torchmetrics' own mean ignores the weights unless it searches for NaN. This mean includes NaN, because a network
    that returns NaN must have a bad score.
    """

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, total: Tensor, count: Tensor) -> None:
        """Add the sum over the labels of a batch, and their number."""
        self.total += total
        self.count += count

    def compute(self) -> Tensor:
        """Return the mean."""
        return self.total / self.count


class GraphModule(lightning.LightningModule):
    """A Lightning module around a network that takes a PyG batch and returns (B, outputs).

    It logs ``loss`` of a batch and ``val_loss``, both of normalised targets, and ``val_mae/NAME (UNIT)`` for each
    target, or ``val_accuracy``. No step waits for the device.

    Args:
        network: any module that takes a PyG ``Batch``.
        targets: the targets that it learns.
        options: the options of the training.
        stored: plain values that a checkpoint stores beside the weights, under ``lazygraph``.
    """

    def __init__(
        self, network: nn.Module, targets: Targets, options: TrainOptions, stored: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.network, self.targets, self.options, self._stored = network, targets, options, dict(stored or {})
        self.scale = targets.scale()
        # The epoch of the losses of this process, and their sum and number on the device, so that no step waits for it.
        self._epoch, self._sums = -1, torch.zeros(2)
        self.val_loss = MeanOfLabels()
        self._val_errors = [MeanOfLabels() for _ in targets.names]
        self.val_errors = nn.ModuleList(self._val_errors)

    def forward(self, batch: Batch) -> Tensor:
        """Return the output of the network, (B, outputs); the network may omit dimensions of size 1.

        Raises:
            InputError: the network returns another shape or type.
        """
        out, wanted = self.network(batch), (batch.num_graphs, self.targets.outputs)
        found = tuple(out.shape) if isinstance(out, Tensor) else None
        # Comparing only the number of values would accept values of atoms, or transposed ones, as values of graphs.
        if found is None or [n for n in found if n != 1] != [n for n in wanted if n != 1]:
            what = f"a {type(out).__name__}" if found is None else f"an output of shape {found}"
            msg = f"the model gives {what} for {wanted[0]} graphs; required: a tensor of shape {wanted}, (B, outputs)"
            raise InputError(msg)
        return torch.as_tensor(out).reshape(wanted)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002  # Lightning's signature
        """Return the mean loss over the known labels in the batches of all ranks."""
        total, count = self._loss(self(batch), batch.y)
        ranks, everywhere = self.trainer.world_size, count.float()
        if ranks > 1:
            distributed.all_reduce(everywhere)
        # The gradients of ranks are averaged, but each rank must count by its number of labels.
        loss = total * ranks / everywhere.clamp(min=1)
        if self._epoch != self.current_epoch:
            self._epoch, self._sums = self.current_epoch, torch.zeros(2)
        self._sums = self._sums.to(self.device) + torch.stack([total.detach().float(), count.float()])
        self.log("loss", loss.detach(), prog_bar=True, batch_size=batch.num_graphs)
        return loss

    def train_loss(self) -> float:
        """Return the mean loss of the epoch so far over all ranks. Every rank must call it."""
        of_ranks: Any = self.all_gather(self._sums.to(self.device))
        total, count = of_ranks.reshape(-1, 2).sum(0).tolist()
        return float(total / max(count, 1.0))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Log losses and errors, each weighted by the number of labels."""
        out = self(batch)
        total, count = self._loss(out, batch.y)
        self.val_loss.update(total, count)
        wrong, there = self._errors(self.scale.restored(out), batch.y), batch.y.isfinite()
        for metric, values, counted in zip(self._val_errors, wrong.T, there.T, strict=True):
            metric.update(values.where(counted, 0.0).sum(), counted.sum())
        self.log("val_loss", self.val_loss, on_epoch=True, prog_bar=True, batch_size=batch.num_graphs)
        for name, metric in zip(self._error_names(), self._val_errors, strict=True):
            self.log(name, metric, on_epoch=True, prog_bar=len(self.val_errors) == 1, batch_size=batch.num_graphs)

    def predict_step(self, batch: Batch, batch_idx: int) -> Predicted:  # noqa: ARG002
        """Return ids, predictions, labels and probabilities on the CPU, in the precision of the weights."""
        with torch.autocast(self.device.type, enabled=False):
            out = self(batch)
        predicted = self.scale.restored(out).cpu()
        labels = getattr(batch, "y", None)
        if labels is None or labels.shape != predicted.shape:  # no labels, or a field of ready-made graphs
            labels = torch.full_like(predicted, torch.nan)
        labels = labels.double().cpu()
        classes = len(self.targets.classes)
        return batch.id, predicted, labels, out[:, :classes].double().softmax(dim=1).cpu()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW and its schedule."""
        options = self.options
        optimizer = torch.optim.AdamW(self.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
        if options.schedule == "none":
            return optimizer
        if options.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=PLATEAU)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
        # Lightning's own estimate sets the loaders up before their state is restored, which is then forgotten.
        batches = len(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]  # that of train
        steps = max(-(-batches // options.accumulate), 1) * options.n_epochs
        if options.max_atoms is not None or options.max_edges is not None:
            steps += steps // 20 + options.n_epochs  # epochs differ in their number of batches
        schedule: torch.optim.lr_scheduler.LRScheduler
        if options.schedule == "onecycle":
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, total_steps=steps + 1)
        else:
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Take a step of the schedule; ``plateau`` steps in ``on_train_epoch_end``."""
        if self.options.schedule != "plateau":
            super().lr_scheduler_step(scheduler, metric)

    def on_train_epoch_end(self) -> None:
        """Take the step of ``plateau``, before the checkpoint of the epoch is written."""
        if self.options.schedule == "plateau":
            schedule: Any = self.lr_schedulers()
            schedule.step(self.trainer.callback_metrics["val_loss"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the values that predictions need, and the random states."""
        of_ranks: Any = self.all_gather(self._sums.to(self.device))
        checkpoint["lazygraph"] = self._stored | {"targets": self.targets.to_json(), "options": self.options.to_json()}
        checkpoint["random_states"] = self._of_ranks(torch.get_rng_state())
        if self.device.type == "cuda":
            checkpoint["cuda_random_states"] = self._of_ranks(torch.cuda.get_rng_state(self.device))
        checkpoint["train_sums"] = self._epoch, of_ranks.reshape(-1, 2).cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the random states and, in the middle of an epoch, its losses.

        Raises:
            InputError: the checkpoint was written with another number of processes.
        """
        states, rank = checkpoint["random_states"].cpu(), self.trainer.global_rank
        if self.trainer.world_size != len(states):
            msg = (
                f"the number of processes is {self.trainer.world_size}, but the run was started with {len(states)}. "
                "Use the same number, because each process has its own graphs and random numbers: set devices and "
                "num_nodes, or start a new run in another output_dir"
            )
            raise InputError(msg)
        # Copies: torch 2.13 reads a row of a larger tensor from the wrong place, and crashes.
        torch.set_rng_state(states[rank].clone())
        if self.device.type == "cuda" and "cuda_random_states" in checkpoint:
            torch.cuda.set_rng_state(checkpoint["cuda_random_states"].cpu()[rank].clone(), self.device)
        self._epoch, sums = checkpoint["train_sums"]
        self._sums = sums[rank].clone()

    def _of_ranks(self, state: Tensor) -> Tensor:
        """Gather a random state as (ranks, bytes) on the CPU. Every rank must call it."""
        states: Any = self.all_gather(state.to(self.device))
        return torch.as_tensor(states).reshape(self.trainer.world_size, -1).cpu()

    def _loss(self, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses of known labels, and their number."""
        if self.targets.classes:
            places = self.scale.places(y)
            total = functional.cross_entropy(out.float(), places, ignore_index=-100, reduction="sum")
            return total, (places != -100).sum()
        wanted = self.scale.normalised(y).float()
        there = wanted.isfinite()
        # A selection would wait for its size from the GPU. Instead, a missing label and its prediction become 0.
        known, given = wanted.where(there, 0.0), out.float().where(there, 0.0)
        return LOSSES[str(self.options.loss)](given, known, reduction="sum"), there.sum()

    def _errors(self, predicted: Tensor, y: Tensor) -> Tensor:
        """Return the absolute errors (B, T), or for classes whether the prediction is right."""
        return (predicted == y.double()).double() if self.targets.classes else (predicted - y.double()).abs()

    def _error_names(self) -> list[str]:
        if self.targets.classes:
            return ["val_accuracy"]
        pairs = zip(self.targets.names, self.targets.units, strict=True)
        return [f"val_mae/{with_unit(name, unit)}" for name, unit in pairs]
