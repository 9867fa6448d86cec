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
from lazygraph.training.published import published_options
from lazygraph.writing.splits import SplitRule

__all__ = ["FurtherOptions", "TrainOptions", "read_toml", "write_toml"]

CHOICES = {
    "task": ("regression", "classification"),
    "optimizer": ("adamw", "adam", "sgd"),
    "weight_decay_on": ("all", "weights"),
    "schedule": ("onecycle", "cosine", "plateau", "multistep", "none"),
    "drop_last": ("none", "train", "train_val"),
    "weights": ("best", "last"),
    "unlabelled": ("drop", "keep"),
    "precision": ("32", "bf16", "16"),
}
# of potentials; None for a network of labels of graphs
OPTIONAL_CHOICES = {"stress_convention": ("ase", "vasp"), "element_references": ("fit", "stored", "none")}
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
    "train_count": (1, None),
    "val_count": (1, None),
    "test_count": (0, None),
    "warmup_steps": (1, None),
}
# name: its bounds, as real_number takes them
REAL: dict[str, dict[str, float]] = {
    "learning_rate": {"above": 0},
    "weight_decay": {"least": 0},
    "momentum": {"least": 0, "below": 1},
    "gradient_clip": {"above": 0},
    "ema_decay": {"above": 0, "below": 1},
    "energy_weight": {"least": 0},
    "forces_weight": {"least": 0},
    "stress_weight": {"least": 0},
    "train_ratio": {"above": 0},
    "val_ratio": {"above": 0},
    "test_ratio": {"least": 0},
}
COUNTS = ("train_count", "val_count", "test_count")
# of the terms of the loss of a potential: those of the publications of M3GNet and CHGNet
TERM_WEIGHTS = {"energy_weight": 1.0, "forces_weight": 1.0, "stress_weight": 0.1}
MAY_BE_NONE = (
    "batch_size", "max_atoms", "max_edges", "gradient_clip", "patience", "ema_decay", "momentum", "warmup_steps",
    *COUNTS, *TERM_WEIGHTS,
)  # fmt: skip


class FurtherOptions(TypedDict, total=False):
    """The options of a training run that ``train_from_list`` takes besides its own arguments."""

    model_options: Mapping[str, Any]
    from_checkpoint: str | None
    fresh: Sequence[str]
    freeze: Sequence[str]
    task: str
    max_atoms: int | None
    max_edges: int | None
    drop_last: str
    optimizer: str
    momentum: float | None
    weight_decay: float
    weight_decay_on: str
    schedule: str
    milestones: Sequence[int]
    warmup_steps: int | None
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
    unlabelled: str
    train_count: int | None
    val_count: int | None
    test_count: int | None
    weights: str
    devices: int
    num_nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """The options of a training run. The defaults are ComFormer's published settings, as far as they were published.

    Numpy numbers and texts, tuples and paths are converted to plain numbers, texts and lists, which the files of a run
    can store.

    Args:
        target: the label, or the labels, to learn; kept as a tuple.
        forces: the label of atoms with the forces, to train an interatomic potential: the target is then the energy,
            and forces are derivatives of it. None for a network of labels of graphs.
        stress: the label with the stress, of shape (3, 3) or (6,), which a potential learns too; None for none.
        stress_convention: what the numbers of the stress mean; required with ``stress``. ``ase``: the stress of a
            stretched crystal is positive, and six numbers are xx, yy, zz, yz, xz, xy. ``vasp``: it is negative, and six
            numbers are xx, yy, zz, xy, yz, zx.
        energy_weight: weight of the loss of energies per atom, eV/atom, of a potential; default 1.
        forces_weight: weight of the loss of the components of forces, eV/A; default 1.
        stress_weight: weight of the loss of the components of the stress, GPa; default 0.1.
        element_references: the energy of an atom of each element, to which a potential adds its own energy: ``fit``
            (default) to the training graphs by least squares, the energies ``stored`` in the dataset (``lazygraph
            labels --fit-elements``), or ``none``.
        model: the name of a model such as ``icomformer`` (docs/training.md lists them) or of a plug-in, or
            ``package.module:Class``.
        model_options: keyword arguments of the model.
        from_checkpoint: weights that the training begins with: a checkpoint, the folder of a finished run, or weights
            that ComFormer's authors released; None for random weights.
        fresh: names of weights that are not taken from the checkpoint, or patterns such as ``readout.*``.
        freeze: names of parameters that are not trained, or patterns such as ``layers.0.*``. A normalisation without
            trained parameters also keeps its mean and variance.
        graph: the preset whose graphs are built from the stored crystals at every read, as ``LazyGraphDataset(graph=)``
            takes it; None for the stored graphs.
        graph_options: parameters of the preset, such as ``{"cutoff": 5.0}``.
        task: ``regression``, or ``classification`` of one label whose values are the classes.
        n_epochs: passes over the training graphs.
        batch_size: graphs in a batch; None if only ``max_atoms`` or ``max_edges`` limit it.
        max_atoms: greatest number of atoms in a batch; None for no limit.
        max_edges: greatest number of edges in a batch; None for no limit.
        drop_last: batches that are left out if they are not full: ``none``, the last one of an epoch of training
            (``train``), or also the last one of a validation (``train_val``), which then has batches of ``batch_size``.
        optimizer: ``adamw``, ``adam`` or ``sgd``.
        learning_rate: greatest learning rate of the schedule.
        momentum: momentum of the optimizer ``sgd``; default 0.9. The other optimizers have none.
        weight_decay: weight decay of the optimizer; for ``adam`` and ``sgd`` an L2 penalty.
        weight_decay_on: ``all`` parameters, or ``weights`` for all but biases and normalisations.
        schedule: schedule of the learning rate: ``onecycle``, ``cosine``, ``plateau`` (divide by ten if the validation
            loss has not fallen for 10 epochs), ``multistep`` (divide by ten after each of ``milestones``) or ``none``.
        milestones: numbers of epochs after which ``multistep`` divides the learning rate.
        warmup_steps: number of steps of the optimizer in which ``onecycle`` raises the learning rate, fewer than the
            training has; None for 30 percent of the training.
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
        weights: the weights that are tested and that predict: the ``best`` by validation loss, or the ``last``.
        seed: random seed of weights and order.
        split_seed: random seed of the split by ratios or counts; 123 as in the published crystal networks.
        unlabelled: ``drop`` graphs without a value of any target before the split by ratios or counts, as the published
            crystal networks do, or ``keep`` them, which changes the split; they are then left out of the loss.
        train_ratio: share of the graphs for training, unless the dataset has named splits.
        val_ratio: share of the graphs for validation.
        test_ratio: share of the graphs for testing.
        train_count: number of graphs for training. Give all three counts instead of the ratios, or none.
        val_count: number of graphs for validation.
        test_count: number of graphs for testing.
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
    forces: str | None = None
    stress: str | None = None
    stress_convention: str | None = None
    energy_weight: float | None = None
    forces_weight: float | None = None
    stress_weight: float | None = None
    element_references: str | None = None
    model: str = "icomformer"
    model_options: Mapping[str, Any] = field(default_factory=dict)
    from_checkpoint: str | None = None
    fresh: Sequence[str] = ()
    freeze: Sequence[str] = ()
    graph: str | None = None
    graph_options: Mapping[str, Any] = field(default_factory=dict)
    task: str = "regression"
    n_epochs: int = 100
    batch_size: int | None = 64
    max_atoms: int | None = None
    max_edges: int | None = None
    drop_last: str = "none"
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    momentum: float | None = None
    weight_decay: float = 1e-5
    weight_decay_on: str = "all"
    schedule: str = "onecycle"
    milestones: Sequence[int] = ()
    warmup_steps: int | None = None
    loss: str | None = None
    gradient_clip: float | None = None
    accumulate: int = 1
    precision: str = "32"
    patience: int | None = None
    ema_decay: float | None = None
    keep: int = 1
    checkpoint_every: int = 500
    weights: str = "best"
    seed: int = 123
    split_seed: int = 123
    unlabelled: str = "drop"
    train_ratio: float = 0.8
    val_ratio: float = 0.1
    test_ratio: float = 0.1
    train_count: int | None = None
    val_count: int | None = None
    test_count: int | None = None
    splits: str | None = None
    num_workers: int = 0
    devices: int = 0
    num_nodes: int = 1

    def __post_init__(self) -> None:
        self._set("target", self._checked_target())
        self._set("model_options", self._plain_model_options())
        self._set("graph_options", self._plain_mapping("graph_options"))
        self._set_texts()
        self._set_terms()
        for name, (least, most) in WHOLE.items():
            if not self._is_left_out(name):
                self._set(name, whole_number(name, getattr(self, name), least, most))
        for name, bounds in REAL.items():
            if not self._is_left_out(name):
                self._set(name, real_number(name, getattr(self, name), **bounds))
        if self.batch_size is None and self.max_atoms is None and self.max_edges is None:
            raise InputError("the size of a batch has no limit; set batch_size, max_atoms or max_edges")
        self._set("milestones", self._checked_milestones())
        for name in ("fresh", "freeze"):
            self._set(name, self._checked_names(name))
        if self.fresh and self.from_checkpoint is None:
            msg = f"fresh={list(self.fresh)} needs from_checkpoint=, the weights of which these are left out"
            raise InputError(msg)
        self._check_steps()
        if self.counts is None and any(getattr(self, name) is not None for name in COUNTS):
            msg = f"{' and '.join(n for n in COUNTS if getattr(self, n) is None)} must be given with the other counts"
            raise InputError(msg)
        SplitRule(self.ratios, self.split_seed)  # raises the error if the ratios do not fit together

    def _set_texts(self) -> None:
        if not (isinstance(self.model, str) and self.model):
            msg = f"found model={self.model!r}; required: the name of a model, or package.module:Class for your own"
            raise InputError(msg)
        self._set("graph", self._optional_name("graph", "a preset, or None for the stored graphs"))
        given: Any = self.from_checkpoint
        if isinstance(given, os.PathLike):
            self._set("from_checkpoint", os.fspath(given))
        self._set("from_checkpoint", self._optional_name("from_checkpoint", "a checkpoint, or None for random weights"))
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

    def _set_terms(self) -> None:
        """Check the options of potentials, and set those that are left out."""
        for name, of in {"forces": "a label of atoms", "stress": "a label"}.items():
            self._set(name, self._optional_name(name, f"{of}, or None for none"))
        for name, choices in OPTIONAL_CHOICES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if not (isinstance(value, str) and value in choices):
                raise InputError(unknown_name(name, value, choices))
            self._set(name, str.__str__(value))
        self._check_terms()
        if self.forces is None:
            return
        for name, default in TERM_WEIGHTS.items():
            if getattr(self, name) is None and (name != "stress_weight" or self.stress is not None):
                self._set(name, default)
        if self.element_references is None:
            self._set("element_references", "fit")

    def _check_steps(self) -> None:
        """Refuse options that the optimizer or the schedule does not have."""
        if self.momentum is not None and self.optimizer != "sgd":
            msg = f"momentum={self.momentum!r} needs optimizer='sgd'; {self.optimizer!r} has no momentum to set"
            raise InputError(msg)
        if self.warmup_steps is not None and self.schedule != "onecycle":
            msg = (
                f"warmup_steps={self.warmup_steps} needs schedule='onecycle'; {self.schedule!r} does not raise the "
                "learning rate"
            )
            raise InputError(msg)

    def _check_terms(self) -> None:
        needs = {
            "forces": ("stress", "energy_weight", "forces_weight", "element_references"),
            "stress": ("stress_convention", "stress_weight"),
        }
        for label, others in needs.items():
            given = [name for name in others if getattr(self, name) is not None]
            if getattr(self, label) is None and given:
                msg = f"{given[0]}={getattr(self, given[0])!r} needs {label}=, the label that a potential learns"
                raise InputError(msg)
        if self.forces is None:
            return
        labels = self.labels
        if self.task != "regression" or len(self.targets) != 1 or len({*labels, self.forces}) <= len(labels):
            msg = (
                f"found target={list(self.targets)!r}, forces={self.forces!r}, stress={self.stress!r} and task="
                f"{self.task!r}; a potential learns the energy as its only target, forces, and perhaps the stress, by "
                "regression"
            )
            raise InputError(msg)
        if self.stress is not None and self.stress_convention is None:
            msg = (
                f"a dataset does not say which sign its stress {self.stress!r} has; give stress_convention='ase' "
                "(--stress-convention ase) if the stress of a stretched crystal is positive (ASE), or 'vasp' if it is "
                "negative (VASP), or leave the stress out"
            )
            raise InputError(msg)

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

    def _checked_names(self, name: str) -> tuple[str, ...]:
        given: Any = getattr(self, name)
        if not isinstance(given, (list, tuple, np.ndarray)) or not all(isinstance(one, str) and one for one in given):
            msg = f"found {name}={given!r}; required: a list of names of weights or patterns, such as ['layers.0.*']"
            raise InputError(msg)
        return tuple(str.__str__(one) for one in given)

    def _checked_milestones(self) -> tuple[int, ...]:
        given: Any = self.milestones
        if not isinstance(given, (list, tuple, np.ndarray)):
            msg = f"found milestones={given!r}; required: numbers of epochs, such as [100, 200]"
            raise InputError(msg)
        found = tuple(whole_number("milestones", each, 1) for each in given)
        if list(found) != sorted(set(found)):
            msg = f"found milestones={list(found)}; required: increasing numbers of epochs"
            raise InputError(msg)
        if (self.schedule == "multistep") != bool(found):
            msg = (
                f"found schedule={self.schedule!r} and milestones={list(found)}; the schedule 'multistep' needs "
                "milestones, and the other schedules have none"
            )
            raise InputError(msg)
        return found

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
    def labels(self) -> tuple[str, ...]:
        """The labels of graphs to learn: the targets, and for a potential perhaps the stress."""
        return self.targets if self.stress is None else (*self.targets, self.stress)

    @property
    def ratios(self) -> tuple[float, float, float]:
        """The shares of train, val and test."""
        return self.train_ratio, self.val_ratio, self.test_ratio

    @property
    def counts(self) -> tuple[int, int, int] | None:
        """The numbers of graphs of train, val and test; None if the ratios split."""
        if self.train_count is None or self.val_count is None or self.test_count is None:
            return None
        return self.train_count, self.val_count, self.test_count

    @classmethod
    def published(cls, name: str, **values: Any) -> TrainOptions:
        """Create the options of a published training, with some of them changed.

        Args:
            name: a name of :data:`lazygraph.training.published.PUBLISHED`, such as ``comformer-2024``.
            values: options that replace the published ones. ``target`` is needed.

        Raises:
            InputError: the name or an option is unknown.

        Example:
            >>> options = TrainOptions.published("comformer-2024", target="band_gap", n_epochs=50)
            >>> options.loss, options.n_epochs, options.graph_options
            ('mse', 50, {'ties': 'reference'})
        """
        return cls.of(published_options(name, **values))

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
        lists = {name: list(getattr(self, name)) for name in ("target", "milestones", "fresh", "freeze")}
        return asdict(self) | lists | plain


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
