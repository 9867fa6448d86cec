"""The function ``train``, which trains a model on a dataset and writes everything to one folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, TQDMProgressBar
from lightning.pytorch.utilities import rank_zero_warn

from lazygraph.errors import InputError, LabelError, RecipeMismatch
from lazygraph.graphs.spec import graph
from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.storage.files import write_atomic
from lazygraph.training.checkpoints import Kept, Last, WholeFiles
from lazygraph.training.data import LazyGraphDataModule, has_splits
from lazygraph.training.folder import Folder
from lazygraph.training.identity import identity_of
from lazygraph.training.models import ModelEntry, find_model
from lazygraph.training.module import GraphModule, accelerator
from lazygraph.training.options import TrainOptions
from lazygraph.training.progress import Progress
from lazygraph.training.report import Prediction, Scores, check_titles, predictions_of, scores_of, write_predictions
from lazygraph.training.stopping import Finite, Patience, interruptible
from lazygraph.training.targets import Targets

__all__ = ["Results", "prepare", "train"]

SEEN_EVERY = 10  # steps


@dataclass(frozen=True, slots=True)
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
        }


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
    dataset, module, data = prepare(path, options)
    unused = _warn_of_unused(dataset, data)
    own = options.to_json() | {"dataset": identity_of(dataset, data.splits, options.targets)}
    folder.check(own)
    clock = Progress(folder.metrics, data.train)
    best = Kept(
        folder.checkpoints, "best-{epoch}", monitor="val_loss", save_top_k=options.keep, enable_version_counter=False
    )
    if progress:
        callbacks = (TQDMProgressBar(refresh_rate=SEEN_EVERY), *callbacks)  # each time it waits for the device
    every = min(SEEN_EVERY, len(data.train))
    trainer = _trainer(options, folder, every, progress=progress, callbacks=[clock, best, *callbacks])
    resumes = folder.claim(own, first=trainer.is_global_zero)
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
        0 if quarantine is None else quarantine.count, unused,
    )  # fmt: skip
    if trainer.is_global_zero:
        _write(results, targets)
    trainer.strategy.barrier()
    return results


def prepare(
    path: str | os.PathLike[str], options: TrainOptions
) -> tuple[LazyGraphDataset, GraphModule, LazyGraphDataModule]:
    """Prepare everything that a run needs. Raises all errors of options and dataset, and writes nothing."""
    entry = find_model(options.model)
    targets = list(options.targets)
    spec = None if options.graph is None else graph(options.graph, **options.graph_options)
    in_any_view = LazyGraphDataset(path, targets, target_dtype="float64", graph=spec)
    _check_edges(in_any_view, entry)
    view, model_options = entry.fitted(in_any_view, options.model_options)
    dataset = LazyGraphDataset(path, targets, view, target_dtype="float64", graph=spec)
    data = LazyGraphDataModule(
        dataset,
        None if has_splits(dataset) else options.ratios,
        seed=options.seed,
        split_seed=options.split_seed,
        batch_size=options.batch_size,
        max_atoms=options.max_atoms,
        max_edges=options.max_edges,
        num_workers=options.num_workers or None,
    )
    for name, part in data.splits.items():
        for label in options.targets:
            _check_label(name, part, label)
    data.val_dataloader(), data.test_dataloader()  # which say what is wrong with them
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
    return dataset, GraphModule(network, learned, options, stored), data


def _check_edges(dataset: LazyGraphDataset, entry: ModelEntry) -> None:
    """Refuse crystals alone for a model that names a preset with edges.

    Raises:
        RecipeMismatch: the dataset has no edges, and no other recipe was chosen.
    """
    spec = dataset.spec
    if spec is not None and not spec.rule.has_edges and entry.preset not in ("", spec.preset):
        msg = (
            f"{dataset.path} holds crystals alone, without edges; required for the model {entry.name!r}: graphs such "
            f"as those of the preset {entry.preset!r}. Build them at every read with graph={entry.preset!r} (--graph), "
            f"or write them once: lazygraph-write OLD.lg -o NEW.lg --graph {entry.preset}"
        )
        raise RecipeMismatch(msg)


def _warn_of_unused(dataset: LazyGraphDataset, data: LazyGraphDataModule) -> int:
    """Count, and warn of, graphs in none of the dataset's own splits. A split by ratios gives no warning."""
    unused = len(dataset) - sum(map(len, data.splits.values())) if has_splits(dataset) else 0
    if unused:
        msg = (
            f"{unused:,} of the {len(dataset):,} graphs of {Path(dataset.path).name} are in none of the splits train, "
            "val and test, so this run does not use them; 'lazygraph split' splits the whole dataset"
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
        msg = f"found no value of {label!r} among the {len(part)} graphs of {name}; required: at least one"
        raise LabelError(msg)


def _best(kept: Kept, folder: Folder) -> Path:
    """Return the best checkpoint."""
    path = Path(kept.best_model_path)
    if not path.is_file():
        found = ", ".join(sorted(file.name for file in folder.checkpoints.glob("*.ckpt"))) or "none"
        msg = (
            f"found no best checkpoint {path.name} in {folder.checkpoints} (there: {found}); nothing may be removed "
            "from this folder before the run is finished. Put the file back, or start a new run in another output_dir"
        )
        raise InputError(msg)
    return path


def _trainer(
    options: TrainOptions, folder: Folder, every: int, *, progress: bool, callbacks: list[Callback]
) -> lightning.Trainer:
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
    return lightning.Trainer(
        default_root_dir=folder.path,
        accelerator=accelerator(),
        plugins=[WholeFiles()],
        devices=options.devices or ("auto" if on_gpu else 1),
        num_nodes=options.num_nodes,
        precision=precision,
        max_epochs=options.n_epochs,
        gradient_clip_val=options.gradient_clip,
        accumulate_grad_batches=options.accumulate,
        # With budgets every epoch has a number of batches of its own, which Lightning has to ask for.
        reload_dataloaders_every_n_epochs=int(options.max_atoms is not None or options.max_edges is not None),
        callbacks=callbacks,
        logger=_tensorboard(folder),
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=every,
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
