"""The class ``GraphModule``: a network with targets and optimiser as a Lightning module, and its base."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch_geometric.data import Batch
from torch_geometric.nn import norm
from torchmetrics import Metric

from lazygraph.errors import InputError
from lazygraph.training.options import TrainOptions
from lazygraph.training.targets import Targets, with_unit

__all__ = [
    "GraphModule",
    "MeanOfLabels",
    "Predicted",
    "TrainedModule",
    "accelerator",
    "own_rank",
    "sum_of_losses",
    "training_steps",
]

Predicted = tuple[list[str], Tensor, Tensor, Tensor]
"""Ids, (B, T) predictions and (B, T) labels, both in the units of the labels, and (B, classes) probabilities."""

LOSSES = {"l1": functional.l1_loss, "mse": functional.mse_loss, "huber": functional.smooth_l1_loss}
PLATEAU = 10  # epochs
MOMENTUM = 0.9  # of SGD
WARMUP = 0.3  # share of a cycle of onecycle in which the learning rate rises; torch's default
NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d, nn.LayerNorm, nn.GroupNorm,
    nn.RMSNorm, norm.GraphNorm, norm.InstanceNorm, norm.LayerNorm, norm.MeanSubtractionNorm,
)  # fmt: skip


def accelerator() -> str:
    """Return Lightning's accelerator: a CUDA GPU if there is one, else the CPU. Apple's GPU has no float64."""
    return "gpu" if torch.cuda.is_available() else "cpu"


def own_rank() -> int:
    """Return the index of this process among the processes that train together, from 0."""
    return int(rank_zero_only.rank)  # type: ignore[attr-defined]  # which Lightning sets


class MeanOfLabels(Metric):
    """The mean over all labels of an epoch, on all ranks; of several terms, the weighted sum of their means.

    torchmetrics' own mean ignores the weights unless it searches for NaN. This mean includes NaN, because a network
    that returns NaN must have a bad score. Of several terms, one without any label counts as 0.

    Args:
        weights: the weight of each of K terms.
    """

    total: Tensor
    count: Tensor

    def __init__(self, weights: Sequence[float] = (1.0,)) -> None:
        super().__init__()
        self._weights = tuple(weights)
        for name in ("total", "count"):
            self.add_state(name, torch.zeros(len(self._weights), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, total: Tensor, count: Tensor) -> None:
        """Add the sums over the labels of a batch, and their numbers, each (K,), or () of a single term."""
        self.total += total
        self.count += count

    def compute(self) -> Tensor:
        """Return the mean, or the weighted sum of the means."""
        means = self.total / self.count
        if len(self._weights) > 1:
            means = means.where(self.count > 0, 0.0)
        return (means * means.new_tensor(self._weights)).sum()


def sum_of_losses(loss: str, given: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the losses of known labels, and their number.

    Args:
        loss: ``l1``, ``mse`` or ``huber``.
        given: outputs of any shape.
        wanted: labels of the same shape; NaN where a label is missing.
    """
    wanted = wanted.float()
    there = wanted.isfinite()
    # A selection would wait for its size from the GPU. Instead, a missing label and its prediction become 0.
    known, out = wanted.where(there, 0.0), given.float().where(there, 0.0)
    return LOSSES[loss](out, known, reduction="sum"), there.sum()


class TrainedModule(lightning.LightningModule):
    """What the Lightning modules of a training share: a loss of K terms, the optimizer, its schedule, and checkpoints.

    The loss is the weighted sum of the means of the terms, each over the known labels in the batches of all ranks. It
    is logged as ``loss``. No step waits for the device.

    Args:
        network: the network.
        targets: the targets that it learns.
        options: the options of the training.
        stored: plain values that a checkpoint stores beside the weights, under ``lazygraph``.
        weights: the weight of each term of the loss.
    """

    weights: Tensor

    def __init__(
        self,
        network: nn.Module,
        targets: Targets,
        options: TrainOptions,
        stored: Mapping[str, Any] | None = None,
        weights: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        self.network, self.targets, self.options, self._stored = network, targets, options, dict(stored or {})
        self.register_buffer("weights", torch.tensor(weights), persistent=False)
        # The epoch of the losses of this process, and their sums and numbers on the device, so that no step waits.
        self._epoch, self._sums = -1, torch.zeros(len(weights), 2)
        self.val_loss = MeanOfLabels(weights)

    @abstractmethod
    def terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses of known labels for each term, and their numbers, both (K,)."""

    @abstractmethod
    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Any, ...]:
        """Return what ``Predicted`` describes, and for a potential the forces."""

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation. Modules whose parameters are all frozen stay in evaluation."""
        super().train(mode)
        for module in self.network.modules():
            parameters = list(module.parameters())
            if mode and parameters and not any(each.requires_grad for each in parameters):
                module.eval()
        return self

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002  # Lightning's signature
        """Return the mean loss over the known labels in the batches of all ranks."""
        totals, counts = self.terms(batch)
        ranks, everywhere = self.trainer.world_size, counts.float()
        if ranks > 1:
            distributed.all_reduce(everywhere)
        # The gradients of ranks are averaged, but each rank must count by its number of labels.
        loss = (self.weights * (totals * ranks / everywhere.clamp(min=1))).sum()
        if self._epoch != self.current_epoch:
            self._epoch, self._sums = self.current_epoch, torch.zeros(len(totals), 2)
        self._sums = self._sums.to(self.device) + torch.stack([totals.detach().float(), counts.float()], dim=1)
        self.log("loss", loss.detach(), prog_bar=True, batch_size=batch.num_graphs)
        return loss

    def train_loss(self) -> float:
        """Return the mean loss of the epoch so far over all ranks. Every rank must call it."""
        of_ranks: Any = self.all_gather(self._sums.to(self.device))
        sums = of_ranks.reshape(-1, *self._sums.shape).sum(0).tolist()
        each = zip(self.weights.tolist(), sums, strict=True)
        return float(sum(weight * (total / max(count, 1.0)) for weight, (total, count) in each))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer and its schedule."""
        options = self.options
        optimizer = _optimizer(_parameter_groups(self.network, options), options)
        if options.schedule == "none":
            return optimizer
        if options.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=PLATEAU)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
        if options.schedule == "multistep":
            steps_down = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(options.milestones))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": steps_down, "interval": "epoch"}}
        # Lightning's own estimate sets the loaders up before their state is restored, which is then forgotten.
        batches = len(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]  # that of train
        steps = training_steps(batches, options)
        schedule: torch.optim.lr_scheduler.LRScheduler
        if options.schedule == "onecycle":
            # The cycle also changes the first moment of Adam, as in the published networks.
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer,
                options.learning_rate,
                total_steps=steps + 1,
                pct_start=WARMUP if options.warmup_steps is None else options.warmup_steps / (steps + 1),
                cycle_momentum=options.optimizer != "sgd",
            )
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
        checkpoint["train_sums"] = self._epoch, of_ranks.reshape(-1, *self._sums.shape).cpu()

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


class GraphModule(TrainedModule):
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
        super().__init__(network, targets, options, stored)
        self.scale = targets.scale()
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

    def terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses of known labels, and their number, both (1,)."""
        total, count = self._loss(self(batch), batch.y)
        return total[None], count[None]

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

    def _loss(self, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses of known labels, and their number."""
        if self.targets.classes:
            places = self.scale.places(y)
            total = functional.cross_entropy(out.float(), places, ignore_index=-100, reduction="sum")
            return total, (places != -100).sum()
        return sum_of_losses(str(self.options.loss), out, self.scale.normalised(y))

    def _errors(self, predicted: Tensor, y: Tensor) -> Tensor:
        """Return the absolute errors (B, T), or for classes whether the prediction is right."""
        return (predicted == y.double()).double() if self.targets.classes else (predicted - y.double()).abs()

    def _error_names(self) -> list[str]:
        if self.targets.classes:
            return ["val_accuracy"]
        pairs = zip(self.targets.names, self.targets.units, strict=True)
        return [f"val_mae/{with_unit(name, unit)}" for name, unit in pairs]


def _parameter_groups(network: nn.Module, options: TrainOptions) -> list[dict[str, Any]]:
    """Return the parameters, with their weight decay.

    With ``weight_decay_on="weights"``, biases and all parameters of normalisations have none. A normalisation is found
    by its class and not by its name, which a network of your own may choose freely.
    """
    parameters = [each for each in network.parameters() if each.requires_grad]
    if options.weight_decay_on == "all":
        return [{"params": parameters, "weight_decay": options.weight_decay}]
    of_norms = {id(p) for m in network.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
    biases = {id(p) for name, p in network.named_parameters() if name.rpartition(".")[2] == "bias"}
    without = of_norms | biases
    return [
        {"params": [each for each in parameters if id(each) not in without], "weight_decay": options.weight_decay},
        {"params": [each for each in parameters if id(each) in without], "weight_decay": 0.0},
    ]


def training_steps(batches: int, options: TrainOptions) -> int:
    """Return the number of steps of the optimizer for which a schedule is made.

    Args:
        batches: number of batches of an epoch, at least 1.
        options: the options of the training.

    Raises:
        InputError: the training has no more steps than ``warmup_steps``.
    """
    steps = max(-(-batches // options.accumulate), 1) * options.n_epochs
    if options.max_atoms is not None or options.max_edges is not None:
        steps += steps // 20 + options.n_epochs  # epochs differ in their number of batches
    if options.warmup_steps is not None and options.warmup_steps >= steps:
        msg = (
            f"warmup_steps={options.warmup_steps}, but the whole training has {steps:,} steps; choose a smaller "
            "warmup_steps (--warmup-steps), or more epochs"
        )
        raise InputError(msg)
    return steps


def _optimizer(groups: list[dict[str, Any]], options: TrainOptions) -> torch.optim.Optimizer:
    if options.optimizer == "sgd":
        momentum = MOMENTUM if options.momentum is None else options.momentum
        return torch.optim.SGD(groups, lr=options.learning_rate, momentum=momentum)
    if options.optimizer == "adam":
        return torch.optim.Adam(groups, lr=options.learning_rate)
    return torch.optim.AdamW(groups, lr=options.learning_rate)
