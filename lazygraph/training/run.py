"""The function ``train``, which trains a model on a dataset and writes everything to one folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, TQDMProgressBar
from lightning.pytorch.utilities import rank_zero_warn

from lazygraph.errors import InputError, LabelError, RecipeMismatch
from lazygraph.graphs.spec import graph
from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.markup.elements import Html, or_plain
from lazygraph.storage.files import write_atomic
from lazygraph.training.checkpoints import Kept, Last, WholeFiles
from lazygraph.training.data import LazyGraphDataModule, column_of_splits
from lazygraph.training.folder import Folder
from lazygraph.training.identity import identity_of
from lazygraph.training.models import ModelEntry, find_model
from lazygraph.training.module import GraphModule, accelerator
from lazygraph.training.options import TrainOptions
from lazygraph.training.progress import Progress
from lazygraph.training.ranks import Ranks
from lazygraph.training.report import Prediction, Scores, check_titles, predictions_of, scores_of, write_predictions
from lazygraph.training.shown import results_html, scores_text
from lazygraph.training.stopping import Finite, Patience, interruptible
from lazygraph.training.targets import Targets
from lazygraph.writing.splits import DEFAULT

__all__ = ["Prepared", "Results", "claimed", "prepare", "train", "trainer_of"]

SEEN_EVERY = 10  # steps


@dataclass(frozen=True, slots=True, repr=False)
class Results:
    """The results of a training run.

    Attributes:
        scores: scores of the best checkpoint on the test graphs, for each target.
        baseline: scores of the mean of the training labels, or of the most frequent class, on the same graphs.
        predictions: predictions for the test graphs.
        checkpoint: the best checkpoint.
        folder: the folder with all files of the run.
        epochs: number of epochs that were trained.
        seconds: times of ``opening``, ``training`` (with validation, and with the time before a stop) and
            ``predicting``.
        waited: share of the time of training steps in which the device waited for data.
        quarantined: inputs of the dataset that could not become graphs.
        in_no_split: number of graphs that are in none of the splits train, val and test, and were not used.
        splits: the column of splits that was used; None if the graphs were split by the ratios.
    """

    scores: Scores
    baseline: Scores
    predictions: list[Prediction]
    checkpoint: Path
    folder: Folder
    epochs: int
    seconds: dict[str, float]
    waited: float
    quarantined: int
    in_no_split: int
    splits: str | None

    def to_json(self) -> dict[str, Any]:
        """Return everything except for the predictions, as plain values."""
        return {
            "test": self.scores,
            "baseline": self.baseline,
            "checkpoint": os.fspath(self.checkpoint.relative_to(self.folder.path)),
            "epochs": self.epochs,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "waited": round(self.waited, 4),
            "quarantined": self.quarantined,
            "in_no_split": self.in_no_split,
            "splits": self.splits,
        }

    def __repr__(self) -> str:
        lines = [f"Results({os.fspath(self.folder.path)!r}, {self._epochs()}, {len(self.predictions):,} predictions)"]
        return "\n  ".join(lines + scores_text(self.scores, self.baseline))

    def _epochs(self) -> str:
        return f"{self.epochs} epoch{'s' * (self.epochs != 1)}"

    def _repr_html_(self) -> str:
        return or_plain(self._html, self.__repr__)

    def _html(self) -> Html:
        others = {
            "folder": os.fspath(self.folder.path),
            "checkpoint": os.fspath(self.checkpoint),
            "times": ", ".join(f"{name} {value:.1f} s" for name, value in self.seconds.items()),
            "waited for data": f"{self.waited:.0%} of the time of training steps",
            "quarantined": f"{self.quarantined:,} inputs of the dataset" if self.quarantined else "",
            "in no split": f"{self.in_no_split:,} graphs, which were not used" if self.in_no_split else "",
        }
        title = f"Trained for {self._epochs()}: {len(self.predictions):,} test graphs"
        return results_html(title, self.scores, self.baseline, self.predictions, others)


def train(
    path: str | os.PathLike[str],
    options: TrainOptions,
    output_dir: str | os.PathLike[str],
    *,
    progress: bool = True,
    callbacks: tuple[Callback, ...] = (),
    seconds: Mapping[str, float] | None = None,
) -> Results:
    """Train a model on a dataset. A run that was stopped resumes at its last checkpoint.

    Args:
        path: the dataset directory. If it has splits, training uses them. Otherwise it splits by the ratios.
        options: the options of the training.
        output_dir: the folder of the run, for options, checkpoints, metrics, predictions and plots.
        progress: show a progress bar.
        callbacks: further callbacks for Lightning's ``Trainer``.
        seconds: times of earlier steps, such as writing the dataset, to include in the results.

    Returns:
        Scores and predictions of the best checkpoint for the test graphs, and the paths of all files.

    Raises:
        InputError: the options do not fit the dataset, there are too few graphs for the ratios, the number of processes
            has changed since the stop, losses are not numbers, or checkpoints are missing.
        LabelError: the dataset does not have a target, or no training graph has it.
        RecipeMismatch: the model cannot use the graphs; the message names the preset that the model needs.
        OutputExists: the folder holds another run (other options, labels, units or splits), or a finished run.

    Warns:
        UserWarning: graphs of the dataset are in no split and are not used.
    """
    begin = time.perf_counter()
    folder = Folder(Path(output_dir).resolve())
    clock = Progress(folder.metrics)
    best = Kept(
        folder.checkpoints, "best-{epoch}", monitor="val_loss", save_top_k=options.keep, enable_version_counter=False
    )
    if progress:
        callbacks = (TQDMProgressBar(refresh_rate=SEEN_EVERY), *callbacks)  # each time it waits for the device
    trainer = _trainer(options, folder, progress=progress, callbacks=[clock, best, *callbacks])
    ranks = Ranks.of(trainer)
    dataset, module, data, identity = ranks.together(partial(prepare, path, options))
    splits_of = column_of_splits(dataset, options.splits)
    unused = 0 if splits_of is None else _warn_of_unused(dataset, data, splits_of)
    resumes = claimed(folder, options.to_json() | {"dataset": identity}, ranks)
    trainer.log_every_n_steps = min(SEEN_EVERY, len(data.train))  # type: ignore[attr-defined]  # an argument of Trainer
    times = {**(seconds or {}), "opening": time.perf_counter() - begin}
    try:
        with interruptible():
            trainer.fit(module, data, ckpt_path=resumes, weights_only=True)
    finally:
        data.train.close()
    times["training"] = clock.elapsed

    begin = time.perf_counter()
    checkpoint = _best(best, folder)
    module.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    targets, splits = module.targets, data.splits
    found = predictions_of(trainer, module, data.test_dataloader()) if len(splits["test"]) else []
    scores, baseline = scores_of(found, targets), scores_of(_of_mean(found, splits["train"], targets), targets)
    times["predicting"] = time.perf_counter() - begin
    quarantine = dataset.manifest.quarantine
    results = Results(
        scores, baseline, found, checkpoint, folder, trainer.current_epoch, times, clock.waited,
        0 if quarantine is None else quarantine.count, unused, splits_of,
    )  # fmt: skip
    if trainer.is_global_zero:
        _write(results, targets)
    trainer.strategy.barrier()
    return results


class Prepared(NamedTuple):
    """What a run needs: all graphs, the module, the loaders, and the identity of the data."""

    dataset: LazyGraphDataset
    module: GraphModule
    data: LazyGraphDataModule
    identity: dict[str, Any]


def prepare(path: str | os.PathLike[str], options: TrainOptions) -> Prepared:
    """Prepare everything that a run needs. Raises all errors of options and dataset, and writes nothing."""
    entry = find_model(options.model)
    targets = list(options.targets)
    spec = None if options.graph is None else graph(options.graph, **options.graph_options)
    in_any_view = LazyGraphDataset(path, targets, target_dtype="float64", graph=spec)
    _check_edges(in_any_view, entry)
    view, model_options = entry.fitted(in_any_view, options.model_options)
    dataset = LazyGraphDataset(path, targets, view, target_dtype="float64", graph=spec)
    splits_of = column_of_splits(dataset, options.splits)
    data = LazyGraphDataModule(
        dataset,
        options.ratios if splits_of is None else None,
        seed=options.seed,
        split_seed=options.split_seed,
        splits=splits_of or DEFAULT,
        batch_size=options.batch_size,
        max_atoms=options.max_atoms,
        max_edges=options.max_edges,
        num_workers=options.num_workers or None,
    )
    for name, part in data.splits.items():
        for label in options.targets:
            _check_label(name, part, label)
    data.val_dataloader(), data.test_dataloader()  # these raise the errors of the options
    learned = Targets.of(data.splits["train"], options.targets, classify=options.task == "classification")
    check_titles(learned)
    lightning.seed_everything(options.seed, verbose=False)
    network = entry.build(learned.outputs, **model_options)
    stored = {
        "version": 1,
        "model": options.model,
        "model_options": model_options,
        "view": {"name": view.name, "parameters": view.parameters},
        "recipe": None if dataset.spec is None else dataset.spec.to_json(),
    }
    identity = identity_of(dataset, data.splits, options.targets)
    return Prepared(dataset, GraphModule(network, learned, options, stored), data, identity)


def claimed(folder: Folder, own: Mapping[str, Any], ranks: Ranks) -> Path | None:
    """Claim the folder of a run for all processes, if they train the same.

    Args:
        folder: the folder.
        own: everything that the run depends on, as plain values.
        ranks: the processes.

    Returns:
        The checkpoint to resume from, if there is one.
    """
    ranks.agree(own)
    ranks.together(lambda: folder.claim(own) if ranks.is_first else None)
    return ranks.together(lambda: folder.resume(own))


def trainer_of(options: TrainOptions, **settings: Any) -> lightning.Trainer:
    """Return a trainer for the devices of the options.

    Raises:
        InputError: this machine does not have the devices.
    """
    devices = options.devices or ("auto" if torch.cuda.is_available() else 1)
    try:
        return lightning.Trainer(
            accelerator=accelerator(),
            devices=devices,
            num_nodes=options.num_nodes,
            enable_model_summary=False,
            **settings,
        )
    except MisconfigurationException as error:
        msg = f"devices={options.devices} and num_nodes={options.num_nodes} cannot be used: {error}"
        raise InputError(msg) from error


def _check_edges(dataset: LazyGraphDataset, entry: ModelEntry) -> None:
    """Refuse crystals alone for a model that names a preset with edges.

    Raises:
        RecipeMismatch: the dataset has no edges, and no other recipe was chosen.
    """
    spec = dataset.spec
    if spec is not None and not spec.rule.has_edges and entry.preset not in ("", spec.preset):
        msg = (
            f"{dataset.path} holds crystals alone, without edges, but the model {entry.name!r} needs graphs such as "
            f"those of the preset {entry.preset!r}. Build them at every read with graph={entry.preset!r} (--graph), "
            f"or write them once: lazygraph-write OLD.lg -o NEW.lg --graph {entry.preset}"
        )
        raise RecipeMismatch(msg)


def _warn_of_unused(dataset: LazyGraphDataset, data: LazyGraphDataModule, splits_of: str) -> int:
    """Count, and warn of, graphs in none of the splits of a column."""
    unused = len(dataset) - sum(map(len, data.splits.values()))
    if unused:
        of = "" if splits_of == DEFAULT else f" of {splits_of}"
        msg = (
            f"{unused:,} of the {len(dataset):,} graphs of {Path(dataset.path).name} are in none of the splits train, "
            f"val and test{of}, so this run does not use them; 'lazygraph split' splits the whole dataset"
        )
        rank_zero_warn(msg, category=UserWarning, stacklevel=4)
    return unused


def _check_label(name: str, part: LazyGraphDataset, label: str) -> None:
    """Refuse a split with unusable labels.

    Raises:
        LabelError: a label is infinite, or the split is for training or validation and has no label.
    """
    values = part.columns[label]
    infinite = np.isinf(values.reshape(len(part), -1)).any(axis=1)
    if infinite.any():
        msg = (
            f"{int(infinite.sum())} of the {len(part)} graphs of {name} have an infinite {label!r}, the first "
            f"{str(part.ids[infinite.argmax()])!r}; set it to a number, or to NaN where it is missing ('lazygraph "
            "labels'), or leave these graphs out"
        )
        raise LabelError(msg)
    if name != "test" and not np.isfinite(values).any():
        msg = (
            f"none of the {len(part)} graphs of {name} has a value of {label!r}; add values with 'lazygraph labels', "
            "or choose another target"
        )
        raise LabelError(msg)


def _best(kept: Kept, folder: Folder) -> Path:
    """Return the best checkpoint."""
    path = Path(kept.best_model_path)
    if not path.is_file():
        found = ", ".join(sorted(file.name for file in folder.checkpoints.glob("*.ckpt"))) or "none"
        msg = (
            f"the best checkpoint {path.name} is missing in {folder.checkpoints} (there: {found}); nothing may be "
            "removed from this folder before the run is finished. Put the file back, or start a new run in another "
            "output_dir"
        )
        raise InputError(msg)
    return path


def _trainer(options: TrainOptions, folder: Folder, *, progress: bool, callbacks: list[Callback]) -> lightning.Trainer:
    last = Last(
        folder.checkpoints, "last", every_n_train_steps=options.checkpoint_every, save_top_k=1,
        enable_version_counter=False, save_on_train_epoch_end=False,
    )  # fmt: skip
    at_ends = Kept(
        folder.checkpoints, "last", every_n_epochs=1, save_top_k=1, enable_version_counter=False,
        save_on_train_epoch_end=True,
    )  # fmt: skip
    callbacks = [Finite(folder), *callbacks, last, at_ends]
    if options.patience is not None:
        callbacks.append(Patience("val_loss", patience=options.patience))
    if options.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=options.ema_decay, use_buffers=False))
    on_gpu = torch.cuda.is_available()
    precision: Any = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[options.precision if on_gpu else "32"]
    return trainer_of(
        options,
        default_root_dir=folder.path,
        plugins=[WholeFiles()],
        precision=precision,
        max_epochs=options.n_epochs,
        gradient_clip_val=options.gradient_clip,
        accumulate_grad_batches=options.accumulate,
        # With budgets, epochs differ in their number of batches, which Lightning must ask for.
        reload_dataloaders_every_n_epochs=int(options.max_atoms is not None or options.max_edges is not None),
        callbacks=callbacks,
        logger=_tensorboard(folder),
        enable_progress_bar=progress,
        num_sanity_val_steps=0,
    )


def _tensorboard(folder: Folder) -> Any:
    """Return a logger if TensorBoard is installed."""
    try:
        return lightning.pytorch.loggers.TensorBoardLogger(folder.path, name="tensorboard", version="")
    except ModuleNotFoundError:
        return False


def _of_mean(found: list[Prediction], train: LazyGraphDataset, targets: Targets) -> list[Prediction]:
    """Return the predictions of a baseline that ignores the graphs: mean or most frequent class."""
    guess = targets.mean if not targets.classes else (_most_frequent(train, targets),)
    return [prediction._replace(predicted=guess, probabilities=()) for prediction in found]


def _most_frequent(train: LazyGraphDataset, targets: Targets) -> float:
    values = train.columns[targets.names[0]]
    return max(targets.classes, key=lambda value: int((values == value).sum()))


def _write(results: Results, targets: Targets) -> None:
    """Write predictions and plots, and finally the results, which mark the run as finished."""
    from lazygraph.training.plots import draw_learning_curve, draw_parity

    folder = results.folder
    write_predictions(results.predictions, targets, folder.predictions)
    draw_learning_curve(folder.metrics, folder.path / "learning_curve.png")
    if results.predictions and not targets.classes:
        draw_parity(results.predictions, targets, folder.path / "parity.png")
    write_atomic(folder.results, json.dumps(results.to_json(), indent=1).encode() + b"\n")
