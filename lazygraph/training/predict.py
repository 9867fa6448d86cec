"""The function ``predict``, which applies a trained model to new structures."""

from __future__ import annotations

import json
import os
import re
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from numpy.typing import NDArray

from lazygraph.errors import InputError, LazyGraphError, RecipeMismatch, UnsupportedFormat
from lazygraph.format.manifest import Manifest
from lazygraph.graphs.spec import GraphSpec
from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.loading.loader import loader
from lazygraph.markup.elements import or_plain
from lazygraph.reading.views import View, known_view, view
from lazygraph.sources.dataset import is_dataset
from lazygraph.storage.base import is_url
from lazygraph.text import printable
from lazygraph.training.folder import Folder
from lazygraph.training.models import MODELS, find_model, find_potential
from lazygraph.training.module import TrainedModule, accelerator
from lazygraph.training.options import TrainOptions
from lazygraph.training.potential import PotentialLabels, PotentialModule, made_module
from lazygraph.training.progress import Bar
from lazygraph.training.quiet import quiet
from lazygraph.training.report import Prediction, predictions_of
from lazygraph.training.shown import predictions_html, predictions_text
from lazygraph.training.targets import Targets
from lazygraph.writing.quarantine import read_quarantine
from lazygraph.writing.write import write

__all__ = [
    "Predictions",
    "Trained",
    "find_checkpoint",
    "joined",
    "predict",
    "predictions",
    "read_checkpoint",
    "read_weights",
]

BATCH = 128
LISTED = 20  # elements of a message
VERSION = 1
DEEPEST = 50  # depth of nested lists in the values beside the weights


@dataclass(frozen=True, slots=True, repr=False)
class Predictions:
    """The predictions of a model.

    Attributes:
        targets: names and units of the targets.
        rows: one prediction per graph, in the order of the input.
        forces: name and unit of the forces of each row, of a potential; None for another model.
        quarantined: inputs that could not become graphs, or contain elements that the model does not know. Each has at
            least ``id`` and ``message``.
    """

    targets: Targets
    rows: list[Prediction]
    quarantined: list[dict[str, Any]]
    forces: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return predictions_text(self.targets, self.rows, len(self.quarantined))

    def _repr_html_(self) -> str:
        return or_plain(lambda: predictions_html(self.targets, self.rows, len(self.quarantined)), self.__repr__)


@dataclass(frozen=True, slots=True)
class Trained:
    """A model from a checkpoint, with the recipe and view of its graphs."""

    module: TrainedModule
    spec: GraphSpec | None
    view: View

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: str | None = None) -> Trained:
        """Read a checkpoint of ``train``. This runs no code from it and imports nothing that it names.

        Args:
            path: a checkpoint, or the folder of a run, whose best checkpoint is used.
            model: your own class that the run was trained with, as ``package.module:Class``; not needed for the models
                of lazygraph.

        Raises:
            InputError: there is no checkpoint, or it is not from lazygraph, has another model, or names a class that
                ``model`` does not name.
            UnsupportedFormat: a newer release wrote the checkpoint.
        """
        file = find_checkpoint(Path(path))
        stored, weights = read_checkpoint(file)
        try:
            return cls._of(stored, weights, model)
        except LazyGraphError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
            msg = f"{file} is not as lazygraph writes checkpoints: {type(error).__name__}: {error}"
            raise InputError(msg) from error

    @classmethod
    def _of(cls, stored: dict[str, Any], weights: dict[str, Any], model: str | None) -> Trained:
        targets, options = Targets.from_json(stored["targets"]), TrainOptions.of(stored["options"])
        targets.components(options.labels)
        _check_trust(stored["model"], model)
        is_potential = options.forces is not None
        entry = find_potential(stored["model"]) if is_potential else find_model(stored["model"])
        network = entry.build(targets.outputs, **stored["model_options"])
        labels = PotentialLabels.from_json(stored["labels"]) if is_potential else None
        module = made_module(network, targets, options, labels)
        module.load_state_dict(weights)
        spec = None if stored["recipe"] is None else GraphSpec.from_json(stored["recipe"])
        name, parameters = stored["view"]["name"], stored["view"]["parameters"]
        # Only a model that the user named may have the view of a plug-in. Other names come from the checkpoint alone.
        seen = view(entry.view, **parameters) if name == entry.view else known_view(name, parameters)
        return cls(module, spec, seen)

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements that the model knows; empty if it takes any."""
        of_view: tuple[str, ...] = getattr(self.view, "elements", ())
        if not isinstance(self.module, PotentialModule):
            return of_view
        of_network = self.module.network.elements
        return tuple(symbol for symbol in of_network if not of_view or symbol in of_view)

    def open(self, path: str | os.PathLike[str]) -> LazyGraphDataset:
        """Open a dataset with the recipe and view of the model, without labels.

        If the dataset has another recipe, graphs of the model's recipe are built from the stored crystals.

        Raises:
            RecipeMismatch: only one of the dataset and the training has ready-made graphs, without a recipe.
        """
        dataset = LazyGraphDataset(path, view=self.view, graph=self.spec)
        if dataset.spec != self.spec:
            msg = f"{dataset.path} holds graphs of a recipe; the model was trained with ready-made ones"
            raise RecipeMismatch(msg)
        return dataset


@quiet()
def predict(
    run: str | os.PathLike[str],
    source: Any,
    *,
    model: str | None = None,
    progress: bool = True,
    num_workers: int | None = None,
) -> Predictions:
    """Predict for structures of any source, or for the graphs of a dataset.

    The graphs have the recipe that the model was trained with.

    Args:
        run: the folder of a run, a checkpoint, or the folder of an ensemble, which gives mean and standard deviation.
        source: a source as for :func:`lazygraph.write`, or a dataset directory.
        model: your own class that the run was trained with, as ``package.module:Class``. The class is imported and
            called only if you name it, because the checkpoint may come from someone else.
        progress: show a progress bar.
        num_workers: worker processes that read; by default the loader chooses.

    Raises:
        InputError: there is no checkpoint, or nothing to predict.
        RecipeMismatch: the dataset or the training run, but not both, has ready-made graphs without a recipe.

    Warns:
        UserWarning: labels of a dataset are left out, because their unit or shape differs from training.
    """
    folder = Folder(Path(run))
    of_members = folder.members() if folder.results.exists() else []
    models = [Trained.load(member, model) for member in of_members or [Path(run)]]
    first = models[0]
    if isinstance(source, (str, os.PathLike)) and (is_url(os.fspath(source)) or is_dataset(Path(source))):
        return _told(models, source, [], progress=progress, num_workers=num_workers)
    if first.spec is None:
        raise InputError("the model was trained with ready-made graphs; give a dataset of ready-made graphs")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "structures.lg"
        report = write(source, path, graph=first.spec, labels=[], progress=progress)
        quarantined = [asdict(one) for one in read_quarantine(report.path, Manifest.load(report.path))]
        return _told(models, path, quarantined, progress=progress, num_workers=num_workers)


def _told(
    models: Sequence[Trained],
    path: str | os.PathLike[str],
    quarantined: list[dict[str, Any]],
    *,
    progress: bool,
    num_workers: int | None,
) -> Predictions:
    """Predict for the graphs of a dataset whose elements the models know."""
    parts = [known_to(model.elements, model.open(path)) for model in models]
    targets, (dataset, left_out) = models[0].module.targets, parts[0]
    rows = joined(
        [predictions(model, part, progress, num_workers) for model, (part, _) in zip(models, parts, strict=True)],
        targets,
    )
    labels = labels_of(dataset, models[0].module.options.labels, targets).tolist()
    rows = [row._replace(label=label) for row, label in zip(rows, labels, strict=True)]
    module = models[0].module
    forces = (module.labels.names["forces"], module.labels.unit) if isinstance(module, PotentialModule) else None
    return Predictions(targets, rows, [*quarantined, *left_out], forces)


def labels_of(dataset: LazyGraphDataset, names: Sequence[str], targets: Targets) -> NDArray[np.float64]:
    """Return the labels of a dataset as they are stored, (n, T), with NaN for missing labels.

    Args:
        dataset: the graphs.
        names: the labels that the model was trained with.
        targets: the targets of the model: each label, or its components.

    Warns:
        UserWarning: a label of this name has another unit or shape, or is per cell instead of per atom, so it cannot be
            compared with the predictions.
    """
    out = np.full((len(dataset), len(targets.names)), np.nan)
    for name, places in targets.components(names).items():
        column = dataset.manifest.labels().get(name)
        if column is None:
            continue
        unit, width = targets.units[places[0]], int(np.prod(column.shape[1:]))
        per = targets.per[places[0]] if targets.per else None
        # What one of the two does not say is not compared.
        agrees = all(None in pair or pair[0] == pair[1] for pair in ((unit, column.unit), (per, column.per)))
        if width == len(places) and agrees:
            out[:, places] = dataset.columns[name].reshape(len(dataset), -1)
            continue
        msg = (
            f"the label {name!r} of {dataset.path} is left out beside the predictions: it has {width} numbers a graph "
            f"and the unit {column.unit}{_per(column.per)}, and the model was trained with {len(places)} and "
            f"{unit}{_per(per)}"
        )
        warnings.warn(printable(msg), stacklevel=2)
    return out


def _per(per: str | None) -> str:
    return "" if per is None else f" per {per}"


def known_to(elements: Sequence[str], dataset: LazyGraphDataset) -> tuple[LazyGraphDataset, list[dict[str, Any]]]:
    """Return the graphs whose elements are among those of a model, and the other graphs with a reason."""
    if not elements or "formula" not in dataset.columns:
        return dataset, []
    formulas, of_graph = np.unique(dataset.columns["formula"], return_inverse=True)
    missing = [sorted(set(re.findall("[A-Z][a-z]?", str(formula))) - set(elements)) for formula in formulas.tolist()]
    strange = np.flatnonzero(np.array([bool(symbols) for symbols in missing], dtype=bool)[of_graph])
    if not len(strange):
        return dataset, []
    few = len(elements) <= LISTED
    knows = f"it knows {', '.join(elements) if few else f'{len(elements)} elements, {elements[0]} to {elements[-1]}'}"
    reasons = [f"found atoms of {', '.join(symbols)}, which the model does not know; {knows}" for symbols in missing]
    told = zip(dataset.ids[strange].tolist(), of_graph[strange].tolist(), strict=True)
    left = dataset[np.setdiff1d(np.arange(len(dataset)), strange)]
    return left, [{"id": graph_id, "message": reasons[k]} for graph_id, k in told]


def predictions(
    trained: Trained, dataset: LazyGraphDataset, progress: bool, num_workers: int | None = None
) -> list[Prediction]:
    """Return the predictions of one model for all graphs of a dataset, on every process."""
    trainer = lightning.Trainer(
        accelerator=accelerator(), devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=progress,
        enable_model_summary=False, callbacks=[Bar()] if progress else None,
        inference_mode=trained.module.options.forces is None,  # forces are gradients
        plugins=[LightningEnvironment()],  # Slurm and torchrun have as many devices as processes
    )  # fmt: skip
    batches = loader(dataset, BATCH, num_workers=num_workers, rank=0, world_size=1)
    try:
        return predictions_of(trainer, trained.module, batches)
    finally:
        batches.close()


def joined(members: Sequence[Sequence[Prediction]], targets: Targets) -> list[Prediction]:
    """Combine predictions of several models for the same graphs: mean and population standard deviation.

    For classes: the mean probabilities, the most probable class, and the standard deviation of its probability.
    """
    first = list(members[0])
    if len(members) == 1 or not first:
        return first
    of_classes = bool(targets.classes)
    values = np.array([[row.probabilities if of_classes else row.predicted for row in rows] for rows in members])
    means, deviations = values.mean(axis=0), values.std(axis=0)
    if not of_classes:
        rows = zip(first, means.tolist(), deviations.tolist(), strict=True)
        found = [row._replace(predicted=mean, deviation=deviation) for row, mean, deviation in rows]
        of_atoms = zip(found, *([row.forces for row in rows] for rows in members), strict=True)
        return [row if row.forces is None else row._replace(forces=np.mean(each, axis=0)) for row, *each in of_atoms]
    best = means.argmax(axis=1)
    return [
        row._replace(predicted=[targets.classes[k]], deviation=[float(off[k])], probabilities=mean.tolist())
        for row, k, mean, off in zip(first, best.tolist(), means, deviations, strict=True)
    ]


def _check_trust(named: str, model: str | None) -> None:
    """Refuse a checkpoint of another model, and a class that only the checkpoint names.

    Raises:
        InputError: the checkpoint is refused.
    """
    if model is not None and model != named:
        msg = (
            f"the checkpoint is of the model {named!r}, and the option says {model!r}; name the model of the checkpoint"
        )
        raise InputError(msg)
    if model is None and named not in MODELS:
        msg = (
            f"the checkpoint is of the model {named!r}, which would be imported and called; if you trust it, name it "
            f"too: --model {named}, or model={named!r} in Python"
        )
        raise InputError(msg)


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Tell whether a value consists of numbers and texts. Calls no method that a file may have chosen."""
    if depth > DEEPEST:  # a list may hold itself
        return False
    if type(value) in (list, tuple):
        return all(_is_plain(each, depth + 1) for each in value)
    if type(value) is dict:
        return all(type(key) is str and _is_plain(each, depth + 1) for key, each in value.items())
    return value is None or type(value) in (bool, int, float, str)


def read_weights(file: Path) -> Any:
    """Read what a file of weights holds: tensors, numbers and texts. This runs no code from it.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    file.open("rb").close()  # opened first, because torch also raises errors of this class
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        msg = f"{file} cannot be read as a checkpoint of nothing but numbers and texts: {error}"
        raise InputError(msg) from error


def read_checkpoint(file: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read the plain values that lazygraph stores in a checkpoint, and the weights of the module.

    Raises:
        InputError: lazygraph did not write the file.
        UnsupportedFormat: a newer release wrote the checkpoint.
    """
    checkpoint = read_weights(file)
    stored = checkpoint.get("lazygraph") if type(checkpoint) is dict else None
    if type(stored) is not dict:
        msg = f"{file} is not a checkpoint that lazygraph wrote; give a checkpoint of a run of lazygraph"
        raise InputError(msg)
    if not _is_plain(stored):
        # torch lets some of its own classes pass, and objects of them that were never initialised.
        msg = f"{file} holds objects where lazygraph writes numbers and texts"
        raise InputError(msg)
    if stored.get("version") != VERSION:
        msg = f"{file} has version {stored.get('version')!r}; this release reads {VERSION}"
        raise UnsupportedFormat(msg)
    weights = checkpoint.get("state_dict")
    if type(weights) not in (dict, OrderedDict) or any(type(each) is not torch.Tensor for each in weights.values()):
        msg = f"{file} is not as lazygraph writes checkpoints: the weights are not tensors by name"
        raise InputError(msg)
    return stored, dict(weights)


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint file that a path names: itself, or the tested one of a finished run in this folder.

    Raises:
        InputError: there is no finished run.
    """
    if path.is_file():
        return path
    folder = Folder(path)
    if folder.results.exists():
        try:
            named = Path(json.loads(folder.results.read_text(encoding="utf-8"))["checkpoint"])
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            msg = f"{folder.results} is not as lazygraph writes it: {type(error).__name__}: {error}"
            raise InputError(msg) from error
        # The folder may come from a stranger, who could name a device or a file of the user.
        if named.is_absolute() or ".." in named.parts or not (path / named).is_file():
            msg = f"{folder.results} names the checkpoint {os.fspath(named)!r}; there is no such file in {path}"
            raise InputError(msg)
        return path / named
    msg = f"there is no finished run in {path}; give the folder of a finished run, or one of its checkpoints"
    raise InputError(msg)
