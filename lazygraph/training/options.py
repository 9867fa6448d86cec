"""``TrainOptions``: all that a training run hangs on beside its graphs, as arguments, TOML and checkpoints say it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lazygraph.errors import InputError
from lazygraph.format.files import write_atomic
from lazygraph.writing.splits import SplitRule

__all__ = ["TrainOptions", "read_toml", "write_toml"]

CHOICES = {
    "task": ("regression", "classification"),
    "schedule": ("onecycle", "cosine", "plateau", "none"),
    "loss": ("l1", "mse", "huber"),
    "precision": ("32", "bf16", "16"),
}
NUMBERS = ("learning_rate", "weight_decay", "gradient_clip", "ema_decay", "train_ratio", "val_ratio", "test_ratio")
AT_LEAST_ONE = (
    "n_epochs",
    "batch_size",
    "max_atoms",
    "max_edges",
    "accumulate",
    "patience",
    "keep",
    "checkpoint_every",
    "num_nodes",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How a model is trained; the defaults are those that ComFormer was published with where it says them.

    Args:
        target: the labels to learn.
        model: a name that :func:`lazygraph.training.models.find_model` knows, or ``package.module:Class``.
        model_options: keyword arguments of the model.
        task: ``regression``, or ``classification`` of one label, each of whose values is a class.
        n_epochs: passes over the training graphs.
        batch_size: graphs in a batch; None where only ``max_atoms`` or ``max_edges`` limit it.
        max_atoms: the most atoms in a batch.
        max_edges: the most edges in a batch.
        learning_rate: of AdamW; the greatest one of its schedule.
        weight_decay: of AdamW.
        schedule: ``onecycle``, ``cosine``, ``plateau`` (a tenth where the validation loss has not fallen for 10 epochs)
            or ``none``.
        loss: ``l1``, ``mse`` or ``huber``, of normalised targets; missing labels are left out.
        gradient_clip: the greatest norm of the gradients; None for any.
        accumulate: batches whose gradients are added up for one step.
        precision: ``32``, or on a GPU ``bf16`` or ``16`` for training steps; predictions are made in 32.
        patience: end after so many epochs in which the validation loss has not fallen; None for never.
        ema_decay: validate, predict and keep an exponential moving average of the weights with this decay; None for the
            weights themselves.
        keep: the best checkpoints that are kept, beside the last one.
        checkpoint_every: steps after which the last checkpoint is written, beside the end of every epoch.
        seed: of weights and order.
        split_seed: of the split by ratios; 123 as the published crystal networks have it.
        train_ratio: share of the graphs that are trained with, unless the dataset has named splits.
        val_ratio: share that is validated with.
        test_ratio: share that is tested with.
        num_workers: processes that read; 0 to let the loader choose.
        devices: how many devices of each machine; 0 for all that there are.
        num_nodes: how many machines, on each of which the same command is given, by Slurm or torchrun.
    """

    target: tuple[str, ...]
    model: str = "icomformer"
    model_options: Mapping[str, Any] = field(default_factory=dict)
    task: str = "regression"
    n_epochs: int = 100
    batch_size: int | None = 64
    max_atoms: int | None = None
    max_edges: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    schedule: str = "onecycle"
    loss: str = "l1"
    gradient_clip: float | None = None
    accumulate: int = 1
    precision: str = "32"
    patience: int | None = None
    ema_decay: float | None = None
    keep: int = 1
    checkpoint_every: int = 500
    seed: int = 123
    split_seed: int = 123
    train_ratio: float = 0.8
    val_ratio: float = 0.1
    test_ratio: float = 0.1
    num_workers: int = 0
    devices: int = 0
    num_nodes: int = 1

    def __post_init__(self) -> None:
        given: Any = self.target
        target = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, (list, tuple)) else ()
        object.__setattr__(self, "target", target)
        if not target or not all(isinstance(name, str) for name in target):
            msg = f"found target={given!r}; required: the name of a label, or several"
            raise InputError(msg)
        if self.task == "classification" and len(target) > 1:
            msg = f"found the targets {', '.join(target)}; required for classification: one"
            raise InputError(msg)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                msg = f"found {name}={getattr(self, name)!r}; required: one of {', '.join(map(repr, choices))}"
                raise InputError(msg)
        if not _is_plain(self.model_options):
            msg = f"found model_options={self.model_options!r}; required: names with numbers, texts, or lists of them"
            raise InputError(msg)
        self._check_numbers()
        SplitRule(self.ratios, self.split_seed)  # which says what is wrong with them

    def _check_numbers(self) -> None:
        for name in NUMBERS:
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                msg = f"found {name}={value!r}; required: a number"
                raise InputError(msg)
        for name in AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                msg = f"found {name}={value!r}; required: a whole number from 1 on"
                raise InputError(msg)
        if self.batch_size is None and self.max_atoms is None and self.max_edges is None:
            raise InputError("found no limit of a batch; required: batch_size, max_atoms or max_edges")
        for name in ("learning_rate", "train_ratio", "val_ratio"):
            if not getattr(self, name) > 0:
                msg = f"found {name}={getattr(self, name)!r}; required: a positive number"
                raise InputError(msg)
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            msg = f"found ema_decay={self.ema_decay!r}; required: a number between 0 and 1"
            raise InputError(msg)

    @property
    def ratios(self) -> tuple[float, float, float]:
        """The shares of train, val and test."""
        return self.train_ratio, self.val_ratio, self.test_ratio

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TrainOptions:
        """The options with these names.

        Raises:
            InputError: a name that is none; the message lists those there are.
        """
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            msg = f"found the option {unknown[0]!r}; the options are {', '.join(known)}"
            raise InputError(msg)
        if "target" not in values:
            raise InputError("found no target; required: the label, or the labels, to learn")
        return cls(**values)

    def changed(self, **values: Any) -> TrainOptions:
        """These options with others in the place of some."""
        return replace(self, **values)

    def to_json(self) -> dict[str, Any]:
        """All of them as plain values."""
        return asdict(self) | {"target": list(self.target), "model_options": dict(self.model_options)}


def _is_plain(value: Any) -> bool:
    """Whether TOML can hold it."""
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(each) for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, (str, bool, int, float))


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The options in a TOML file.

    Raises:
        InputError: the file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"{os.fspath(path)} cannot be read as TOML: {error}"
        raise InputError(msg) from error


def write_toml(values: Mapping[str, Any], path: Path) -> None:
    """Write what has a value: what ``read_toml`` gives back."""
    import tomli_w

    text = tomli_w.dumps({name: value for name, value in values.items() if value is not None})
    write_atomic(path, text.encode())
