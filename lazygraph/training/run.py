"""The function ``train``, which trains a model on a dataset and writes everything to one folder."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.utilities import rank_zero_warn

from lazygraph.errors import InputError, LabelError, RecipeMismatch
from lazygraph.graphs.spec import graph
from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.training.checkpoints import Kept, Last, WholeFiles
from lazygraph.training.checks import check_labels, check_network, check_sizes
from lazygraph.training.data import LazyGraphDataModule, column_of_splits, with_labels
from lazygraph.training.finetune import freeze, start_from
from lazygraph.training.folder import Folder
from lazygraph.training.identity import identity_of
from lazygraph.training.models import ModelEntry, find_model, find_potential
from lazygraph.training.module import TrainedModule, accelerator
from lazygraph.training.options import TrainOptions
from lazygraph.training.potential import PotentialModule, fitted_labels, made_module, of_elements, terms_of
from lazygraph.training.progress import SEEN_EVERY, Bar, Progress
from lazygraph.training.quiet import quiet
from lazygraph.training.ranks import Ranks
from lazygraph.training.report import Prediction, check_titles, predictions_of, scores_of
from lazygraph.training.residuals import Composition, worst_of
from lazygraph.training.results import Results, write_results
from lazygraph.training.stopping import Finite, Patience, interruptible
from lazygraph.training.targets import Targets
from lazygraph.writing.splits import DEFAULT

__all__ = ["Prepared", "baseline_of", "claimed", "prepare", "train", "trainer_of"]


@quiet()
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
        Scores and predictions for the test graphs, by default of the best checkpoint, and the paths of all files.

    Raises:
        InputError: the options do not fit the dataset, there are too few graphs for the ratios, the number of processes
            has changed since the stop, losses are not numbers, or checkpoints are missing.
        LabelError: the dataset does not have a target, or no training graph has it.
        RecipeMismatch: the model cannot use the graphs; the message names the preset that the model needs.
        OutputExists: the folder holds another run (other options, labels, units or splits), or a finished run.

    Warns:
        UserWarning: graphs of the dataset are in no split and are not used; labels are missing, all equal, or look like
            classes; graphs have no edges; or a batch holds more graphs than there are.
    """
    begin = time.perf_counter()
    folder = Folder.of(output_dir)
    clock = Progress(folder.metrics)
    best = Kept(
        folder.checkpoints, "best-{epoch}", monitor="val_loss", save_top_k=options.keep, enable_version_counter=False
    )
    if progress:
        callbacks = (Bar(), *callbacks)
    trainer = _trainer(options, folder, progress=progress, callbacks=[clock, best, *callbacks])
    ranks = Ranks.of(trainer)
    dataset, module, data, identity, unlabelled = ranks.together(partial(prepare, path, options))
    splits_of = column_of_splits(dataset, options.splits)
    unused = len(dataset) - unlabelled - sum(map(len, data.splits.values()))
    if splits_of is not None:
        _warn_of_unused(dataset, unused, splits_of)
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
    checkpoint = folder.last if options.weights == "last" else _best(best, folder)
    module.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    targets, splits = module.targets, data.splits
    found = predictions_of(trainer, module, data.test_dataloader()) if len(splits["test"]) else []
    scores, baseline = scores_of(found, targets), scores_of(baseline_of(module, found, splits), targets)
    times["predicting"] = time.perf_counter() - begin
    quarantine = dataset.manifest.quarantine
    results = Results(
        options=options,
        parameters=sum(each.numel() for each in module.network.parameters() if each.requires_grad),
        graphs={name: len(part) for name, part in splits.items()},
        scores=scores,
        terms=terms_of(module, found),
        baseline=baseline,
        predictions=found,
        worst=worst_of(found, targets, Composition.of(splits["test"], found)),
        checkpoint=checkpoint,
        folder=folder,
        epochs=trainer.current_epoch,
        seconds=times,
        waited=clock.waited,
        quarantined=0 if quarantine is None else quarantine.count,
        unlabelled=unlabelled,
        in_no_split=unused,
        splits=splits_of,
    )
    if trainer.is_global_zero:
        write_results(results, targets, splits["test"])
    trainer.strategy.barrier()
    return results


class Prepared(NamedTuple):
    """What a run needs.

    Attributes:
        dataset: all graphs.
        module: the network with its targets.
        data: the loaders.
        identity: digests of the data, which a stopped run must match.
        unlabelled: number of graphs that are in no split because they have no value of any target.
    """

    dataset: LazyGraphDataset
    module: TrainedModule
    data: LazyGraphDataModule
    identity: dict[str, Any]
    unlabelled: int


def prepare(path: str | os.PathLike[str], options: TrainOptions) -> Prepared:
    """Prepare everything that a run needs. Raises all errors of options and dataset, and writes nothing."""
    entry = find_model(options.model) if options.forces is None else find_potential(options.model)
    targets = list(options.labels)
    spec = None if options.graph is None else graph(options.graph, **options.graph_options)
    in_any_view = LazyGraphDataset(path, targets, target_dtype="float64", graph=spec)
    _check_edges(in_any_view, entry)
    view, model_options = entry.fitted(in_any_view, options.model_options)
    dataset = LazyGraphDataset(path, targets, view, target_dtype="float64", graph=spec)
    splits_of = column_of_splits(dataset, options.splits)
    by_options = splits_of is None
    if not by_options and options.counts is not None:
        msg = (
            f"{path} has splits of its own in the column {splits_of!r}, so the counts {options.counts} cannot split "
            "it; leave the counts out"
        )
        raise InputError(msg)
    default = TrainOptions(target=options.target)
    if not by_options and (options.ratios, options.split_seed) != (default.ratios, default.split_seed):
        msg = (
            f"{path} has splits of its own in the column {splits_of!r}, so the ratios {options.ratios} and split_seed="
            f"{options.split_seed} cannot split it; leave them out, or split the dataset again with lazygraph split"
        )
        raise InputError(msg)
    labelled = with_labels(dataset, options.targets) if by_options and options.unlabelled == "drop" else dataset
    data = LazyGraphDataModule(
        labelled,
        options.ratios if by_options else None,
        seed=options.seed,
        split_seed=options.split_seed,
        counts=options.counts,
        splits=splits_of or DEFAULT,
        drop_last=options.drop_last != "none",
        drop_last_val=options.drop_last == "train_val",
        batch_size=options.batch_size,
        max_atoms=options.max_atoms,
        max_edges=options.max_edges,
        num_workers=options.num_workers or None,
    )
    for name, part in data.splits.items():
        for label in options.labels:
            _check_label(name, part, label)
    data.test_dataloader()  # it raises the errors of the options, as the other loaders do in check_sizes
    check_labels(data.splits, options)
    check_sizes(data, options)
    learned = Targets.of(data.splits["train"], options.labels, classify=options.task == "classification")
    check_titles(learned)
    lightning.seed_everything(options.seed, verbose=False)
    network = entry.build(learned.outputs, **model_options)
    labels = None if options.forces is None else fitted_labels(network, dataset, data.splits, options)
    if options.from_checkpoint is not None:
        learned = start_from(network, learned, options.from_checkpoint, options.fresh)
    freeze(network, options.freeze)
    stored = {
        "version": 1,
        "model": options.model,
        "model_options": model_options,
        "view": {"name": view.name, "parameters": view.parameters},
        "recipe": None if dataset.spec is None else dataset.spec.to_json(),
    }
    identity = identity_of(dataset, data.splits, options.labels)
    module = made_module(network, learned, options, labels, stored)
    check_network(module, dataset, data.splits)
    left_out = len(dataset) - len(labelled) if by_options else _unsplit_and_unlabelled(dataset, data, options)
    return Prepared(dataset, module, data, identity, left_out)


def _unsplit_and_unlabelled(dataset: LazyGraphDataset, data: LazyGraphDataModule, options: TrainOptions) -> int:
    """Count the graphs in none of the dataset's own splits that have no value of any target."""
    used = np.concatenate([np.asarray(part.indices()) for part in data.splits.values()])
    labelled = np.asarray(with_labels(dataset, options.targets).indices())
    return len(dataset) - len(np.union1d(used, labelled))


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
            inference_mode=options.forces is None,  # forces are gradients, also in a validation
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


def _warn_of_unused(dataset: LazyGraphDataset, unused: int, splits_of: str) -> None:
    """Warn of graphs in none of the splits of a column."""
    if unused:
        of = "" if splits_of == DEFAULT else f" of {splits_of}"
        msg = (
            f"{unused:,} of the {len(dataset):,} graphs of {Path(dataset.path).name} are in none of the splits train, "
            f"val and test{of}, so this run does not use them; 'lazygraph split' splits the whole dataset"
        )
        rank_zero_warn(msg, category=UserWarning, stacklevel=4)


def _check_label(name: str, part: LazyGraphDataset, label: str) -> None:
    """Refuse a split with unusable labels.

    Raises:
        LabelError: a label is infinite, or the split is for training or validation and has no label.
    """
    values = part.columns[label]
    infinite = np.isinf(values).any(axis=tuple(range(1, values.ndim)))
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


def baseline_of(
    module: TrainedModule, found: Sequence[Prediction], splits: Mapping[str, LazyGraphDataset]
) -> list[Prediction]:
    """Return the predictions of a baseline that ignores the graphs, for the graphs of some predictions.

    It gives the mean of the training labels or the most frequent class, and for the energy of a potential, the energies
    of the elements alone, which a fit to the training graphs gives.
    """
    targets = module.targets
    guess = targets.mean if not targets.classes else (_most_frequent(splits["train"], targets),)
    guesses = [prediction._replace(predicted=guess, probabilities=()) for prediction in found]
    return of_elements(guesses, splits, module.labels) if isinstance(module, PotentialModule) else guesses


def _most_frequent(train: LazyGraphDataset, targets: Targets) -> float:
    values = train.columns[targets.names[0]]
    return max(targets.classes, key=lambda value: int((values == value).sum()))
