"""The class ``TrainOptions``: all options of a training run, as arguments, in TOML and in checkpoints."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from lazygraph.errors import InputError
from lazygraph.registry import unknown_name
from lazygraph.storage.files import write_atomic
from lazygraph.training.option_types import real_number, to_builtin, whole_number
from lazygraph.writing.splits import SplitRule

__all__ = ["FurtherOptions", "TrainOptions", "read_toml", "write_toml"]

CHOICES = {
    "task": ("regression", "classification"),
    "schedule": ("onecycle", "cosine", "plateau", "none"),
    "precision": ("32", "bf16", "16"),
}
LOSSES = {"regression": ("l1", "mse", "huber"), "classification": ("cross_entropy",)}
"""The losses of each task; the first one is the default."""
SEEDS = 2**32 - 1  # the greatest that numpy takes
# name: least, and most
WHOLE: dict[str, tuple[int, int | None]] = {
    "n_epochs": (1, None),
    "batch_size": (1, None),
    "max_atoms": (1, None),
    "max_edges": (1, None),
    "accumulate": (1, None),
    "patience": (1, None),
    "keep": (1, None),
    "checkpoint_every": (1, None),
    "seed": (0, SEEDS),
    "split_seed": (0, SEEDS),
    "num_workers": (0, None),
    "devices": (0, None),
    "num_nodes": (1, None),
}
# name: its bounds, as real_number takes them
REAL: dict[str, dict[str, float]] = {
    "learning_rate": {"above": 0},
    "weight_decay": {"least": 0},
    "gradient_clip": {"above": 0},
    "ema_decay": {"above": 0, "below": 1},
    "train_ratio": {"above": 0},
    "val_ratio": {"above": 0},
    "test_ratio": {"least": 0},
}
MAY_BE_NONE = ("batch_size", "max_atoms", "max_edges", "gradient_clip", "patience", "ema_decay")


class FurtherOptions(TypedDict, total=False):
    """The options of a training run that ``train_from_list`` takes besides its own arguments."""

    model_options: Mapping[str, Any]
    task: str
    max_atoms: int | None
    max_edges: int | None
    weight_decay: float
    schedule: str
    loss: str | None
    gradient_clip: float | None
    accumulate: int
    precision: str
    patience: int | None
    ema_decay: float | None
    keep: int
    checkpoint_every: int
    seed: int
    split_seed: int
    devices: int
    num_nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """The options of a training run. The defaults are ComFormer's published settings, as far as they were published.

    Numpy numbers and texts, tuples and paths are converted to plain numbers, texts and lists, which the files of a run
    can store.

    Args:
        target: the label, or the labels, to learn; kept as a tuple.
        model: ``icomformer``, ``ecomformer``, ``cgcnn``, ``m3gnet``, ``mace``, the name of a plug-in, or
            ``package.module:Class``.
        model_options: keyword arguments of the model.
        graph: the preset whose graphs are built from the stored crystals at every read, as ``LazyGraphDataset(graph=)``
            takes it; None for the stored graphs.
        graph_options: parameters of the preset, such as ``{"cutoff": 5.0}``.
        task: ``regression``, or ``classification`` of one label whose values are the classes.
        n_epochs: passes over the training graphs.
        batch_size: graphs in a batch; None if only ``max_atoms`` or ``max_edges`` limit it.
        max_atoms: greatest number of atoms in a batch; None for no limit.
        max_edges: greatest number of edges in a batch; None for no limit.
        learning_rate: greatest learning rate of AdamW's schedule.
        weight_decay: weight decay of AdamW.
        schedule: schedule of the learning rate: ``onecycle``, ``cosine``, ``plateau`` (divide by ten if the validation
            loss has not fallen for 10 epochs) or ``none``.
        loss: loss of normalised targets: ``l1`` (default), ``mse`` or ``huber``; for classes ``cross_entropy``. Missing
            labels are left out.
        gradient_clip: greatest norm of the gradients; None for no limit.
        accumulate: number of batches whose gradients are added for one step.
        precision: ``32``, or on a GPU ``bf16`` or ``16`` for training steps. Predictions always use 32.
        patience: stop after this number of epochs without a lower validation loss; None for never.
        ema_decay: decay of an exponential moving average of the weights, which is validated, used for predictions and
            kept; None to use the weights themselves.
        keep: number of best checkpoints to keep, in addition to the last one.
        checkpoint_every: number of steps between two writes of the last checkpoint, which is also written after every
            epoch.
        seed: random seed of weights and order.
        split_seed: random seed of the split by ratios; 123 as in the published crystal networks.
        train_ratio: share of the graphs for training, unless the dataset has named splits.
        val_ratio: share of the graphs for validation.
        test_ratio: share of the graphs for testing.
        splits: the column of splits that is used, such as ``fold_0``, if the dataset has several; None for the default
            column, or for a split by the ratios if the dataset has none.
        num_workers: worker processes that read; 0 to let the loader choose.
        devices: number of devices on each machine; 0 for all.
        num_nodes: number of machines. Slurm or torchrun must start the same command on each, with the same graphs,
            labels and splits, and with a folder of the run that all machines share.

    Raises:
        InputError: an option is invalid; the message says what was found and what is required.
    """

    target: str | Sequence[str]
    model: str = "icomformer"
    model_options: Mapping[str, Any] = field(default_factory=dict)
    graph: str | None = None
    graph_options: Mapping[str, Any] = field(default_factory=dict)
    task: str = "regression"
    n_epochs: int = 100
    batch_size: int | None = 64
    max_atoms: int | None = None
    max_edges: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    schedule: str = "onecycle"
    loss: str | None = None
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
    splits: str | None = None
    num_workers: int = 0
    devices: int = 0
    num_nodes: int = 1

    def __post_init__(self) -> None:
        self._set("target", self._checked_target())
        self._set("model_options", self._plain_model_options())
        self._set("graph_options", self._plain_mapping("graph_options"))
        self._set_texts()
        for name, (least, most) in WHOLE.items():
            if not self._is_left_out(name):
                self._set(name, whole_number(name, getattr(self, name), least, most))
        for name, bounds in REAL.items():
            if not self._is_left_out(name):
                self._set(name, real_number(name, getattr(self, name), **bounds))
        if self.batch_size is None and self.max_atoms is None and self.max_edges is None:
            raise InputError("the size of a batch has no limit; set batch_size, max_atoms or max_edges")
        SplitRule(self.ratios, self.split_seed)  # raises the error if the ratios do not fit together

    def _set_texts(self) -> None:
        if not (isinstance(self.model, str) and self.model):
            msg = f"found model={self.model!r}; required: the name of a model, or package.module:Class for your own"
            raise InputError(msg)
        self._set("graph", self._optional_name("graph", "a preset, or None for the stored graphs"))
        self._set("splits", self._optional_name("splits", "a column of splits, or None for the default one"))
        if self.graph is None and self.graph_options:
            msg = f"graph_options={self.graph_options!r} needs graph=, the preset to which they belong"
            raise InputError(msg)
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if not (isinstance(value, str) and value in choices):
                raise InputError(unknown_name(name, value, choices))
        if self.task == "classification" and len(self.targets) > 1:
            msg = (
                f"{len(self.targets)} targets are given ({', '.join(self.targets)}), but classification learns one; "
                "name one"
            )
            raise InputError(msg)
        self._set("loss", self._loss())
        for name in ("model", "loss", *CHOICES):
            self._set(name, str.__str__(getattr(self, name)))

    def _optional_name(self, name: str, of: str) -> str | None:
        value = getattr(self, name)
        if value is None:
            return None
        if not (isinstance(value, str) and value):
            msg = f"found {name}={value!r}; required: the name of {of}"
            raise InputError(msg)
        return str.__str__(value)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _is_left_out(self, name: str) -> bool:
        return name in MAY_BE_NONE and getattr(self, name) is None

    def _checked_target(self) -> tuple[str, ...]:
        given: Any = self.target
        several = isinstance(given, (list, tuple, np.ndarray))
        names = [given] if isinstance(given, str) else list(given) if several else []
        if not names or not all(isinstance(name, str) and name for name in names):
            msg = f"found target={given!r}; required: the name of a label, or several"
            raise InputError(msg)
        target = tuple(str.__str__(name) for name in names)
        if twice := [name for name in target if target.count(name) > 1]:
            msg = f"found target={given!r}, with {twice[0]!r} twice; name each label once"
            raise InputError(msg)
        return target

    def _plain_mapping(self, name: str) -> dict[str, Any]:
        given: Any = getattr(self, name)
        if not isinstance(given, Mapping):
            msg = f"found {name}={given!r}; required: names with their values, such as {{'width': 128}}"
            raise InputError(msg)
        options: dict[str, Any] = to_builtin(name, given)
        return options

    def _plain_model_options(self) -> dict[str, Any]:
        options = self._plain_mapping("model_options")
        if "outputs" in options:
            msg = "model_options cannot have 'outputs', because the targets determine the number of outputs"
            raise InputError(msg)
        return options

    def _loss(self) -> str:
        choices = LOSSES[self.task]
        if self.loss is None:
            return choices[0]
        if not (isinstance(self.loss, str) and self.loss in choices):
            raise InputError(unknown_name(f"loss of {self.task}", self.loss, choices))
        return self.loss

    @property
    def targets(self) -> tuple[str, ...]:
        """The labels to learn."""
        return tuple(self.target)

    @property
    def ratios(self) -> tuple[float, float, float]:
        """The shares of train, val and test."""
        return self.train_ratio, self.val_ratio, self.test_ratio

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TrainOptions:
        """Create options from names and values.

        Raises:
            InputError: a name is unknown; the message lists the valid names.
        """
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise InputError(unknown_name("option", unknown[0], known))
        if "target" not in values:
            raise InputError("no target is given; name the label, or the labels, to learn")
        return cls(**values)

    def changed(self, **values: Any) -> TrainOptions:
        """Return a copy with some options changed."""
        return replace(self, **values)

    def to_json(self) -> dict[str, Any]:
        """Return all options as plain values."""
        plain = {"model_options": dict(self.model_options), "graph_options": dict(self.graph_options)}
        return asdict(self) | {"target": list(self.targets), **plain}


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the options in a TOML file.

    Raises:
        InputError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"{os.fspath(path)} cannot be read as TOML: {error}"
        raise InputError(msg) from error


def write_toml(values: Mapping[str, Any], path: Path) -> None:
    """Write all options that have a value, for ``read_toml``."""
    import tomli_w

    text = tomli_w.dumps({name: value for name, value in values.items() if value is not None})
    write_atomic(path, text.encode())
