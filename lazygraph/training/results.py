"""The class ``Results``, and the files that a finished run or ensemble leaves."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.markup.elements import Html, or_plain
from lazygraph.storage.files import write_atomic
from lazygraph.training.folder import Folder
from lazygraph.training.options import TrainOptions
from lazygraph.training.report import Prediction, Scores, write_predictions
from lazygraph.training.residuals import Composition, Worst, groups_of, write_groups, write_worst
from lazygraph.training.shown import results_html, scores_text
from lazygraph.training.targets import Targets

__all__ = ["Results", "write_results"]

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Results:
    """The results of a training run, or of an ensemble.

    Attributes:
        options: the options of the run; of an ensemble, those of its first member.
        members: number of models of an ensemble; 1 for a single run.
        parameters: number of trainable parameters of the network; of an ensemble, of each member.
        graphs: number of graphs in ``train``, ``val`` and ``test``.
        scores: scores of ``checkpoint`` on the test graphs, for each target.
        terms: of a potential, the errors of the energy per atom, of the components of forces and of the stress on the
            test graphs, by label: ``count``, ``mae``, ``rmse``, ``deviation`` of the labels, and ``unit``.
        folds: of a cross-validation, the scores of each fold on its own test graphs.
        baseline: scores of the mean of the training labels, or of the most frequent class, on the same graphs; for the
            energy of a potential, of the energies of the elements alone.
        predictions: predictions for the test graphs.
        worst: the ten worst of them for each target, the worst first.
        checkpoint: the checkpoint that was tested: the best one, or the last one with ``weights="last"``.
        folder: the folder with all files of the run.
        epochs: number of epochs that were trained.
        seconds: times of ``opening``, ``training`` (with validation, and with the time before a stop) and
            ``predicting``.
        waited: share of the time of training steps in which the device waited for data.
        quarantined: inputs of the dataset that could not become graphs.
        unlabelled: number of graphs without a value of any target that are in no split.
        in_no_split: number of other graphs that are in none of train, val and test, and were not used.
        splits: the column of splits that was used; None if the graphs were split by the ratios or counts.
    """

    options: TrainOptions
    members: int = 1
    parameters: int
    graphs: dict[str, int]
    scores: Scores
    terms: dict[str, dict[str, Any]] = field(default_factory=dict)
    folds: dict[str, Scores] = field(default_factory=dict)
    baseline: Scores
    predictions: list[Prediction]
    worst: dict[str, list[Worst]]
    checkpoint: Path
    folder: Folder
    epochs: int
    seconds: dict[str, float]
    waited: float
    quarantined: int
    unlabelled: int
    in_no_split: int
    splits: str | None

    def to_json(self) -> dict[str, Any]:
        """Return everything except for the predictions, as docs/training.md describes ``results.json``.

        A number that JSON does not have, such as the error of a prediction that is NaN, becomes None.
        """
        options = self.options
        found: dict[str, Any] = _finite(
            {
                "version": VERSION,
                "model": options.model,
                "parameters": self.parameters,
                "task": options.task,
                "target": list(options.targets),
                "seeds": [options.seed + number for number in range(self.members)],
                "splits": self.splits,
                "split_seed": options.split_seed if self.splits is None else None,
                "graphs": self.graphs,
                "unlabelled": self.unlabelled,
                "in_no_split": self.in_no_split,
                "quarantined": self.quarantined,
                "epochs": self.epochs,
                "checkpoint": os.fspath(self.checkpoint.relative_to(self.folder.path)),
                "test": self.scores,
                "baseline": self.baseline,
                "worst": {name: [row._asdict() for row in rows] for name, rows in self.worst.items()},
                "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
                "waited": round(self.waited, 4),
            }
            | ({"terms": self.terms} if self.terms else {})
            | ({"folds": dict(self.folds)} if self.folds else {})
        )
        return found

    def __repr__(self) -> str:
        lines = [f"Results({os.fspath(self.folder.path)!r}, {self._epochs()}, {len(self.predictions):,} predictions)"]
        return "\n  ".join(lines + scores_text(self.scores, self.baseline))

    def _epochs(self) -> str:
        return f"{self.epochs} epoch{'s' * (self.epochs != 1)}"

    def _repr_html_(self) -> str:
        return or_plain(self._html, self.__repr__)

    def _html(self) -> Html:
        others = {
            "model": f"{self.options.model}, {self.parameters:,} trainable parameters",
            "graphs": ", ".join(f"{name} {count:,}" for name, count in self.graphs.items()),
            "folder": os.fspath(self.folder.path),
            "checkpoint": os.fspath(self.checkpoint),
            "times": ", ".join(f"{name} {value:.1f} s" for name, value in self.seconds.items()),
            "waited for data": f"{self.waited:.0%} of the time of training steps",
            "quarantined": f"{self.quarantined:,} inputs of the dataset" if self.quarantined else "",
            "without a label": f"{self.unlabelled:,} graphs, which were not used" if self.unlabelled else "",
            "in no split": f"{self.in_no_split:,} graphs, which were not used" if self.in_no_split else "",
        }
        title = f"Trained for {self._epochs()}: {len(self.predictions):,} test graphs"
        return results_html(title, self.scores, self.baseline, self.predictions, worst=self.worst, others=others)


def write_results(results: Results, targets: Targets, test: LazyGraphDataset) -> None:
    """Write predictions, tables of errors and plots, and finally ``results.json``, which marks the run as finished.

    Args:
        results: the results.
        targets: the targets of the predictions.
        test: the test graphs.
    """
    from lazygraph.training.plots import draw_calibration, draw_forces, draw_learning_curve, draw_parity, draw_residuals

    folder, predictions = results.folder, results.predictions
    write_predictions(predictions, targets, folder.predictions)
    if folder.metrics.exists():  # not of an ensemble, whose members have their own
        options = results.options
        in_units = options.loss == "l1" and options.forces is None and len(targets.names) == 1 and not targets.classes
        draw_learning_curve(
            folder.metrics,
            folder.path / "learning_curve.png",
            training_scale=targets.std[0] if in_units else None,
            loss="loss of normalised targets" if options.forces is None else "weighted loss",
        )
    if predictions:
        groups = groups_of(predictions, targets, Composition.of(test, predictions))
        write_groups(groups, targets, folder.path / "residuals.csv")
        write_worst(results.worst, targets, folder.path / "worst.csv")
        draw_residuals(groups, targets, folder.path / "residuals.png")
        if not targets.classes:
            draw_parity(predictions, targets, folder.path / "parity.png")
        if results.options.forces is not None:
            unit = str(test.reader.schema[results.options.forces].unit)
            draw_forces(predictions, results.options.forces, unit, folder.path / "forces.png")
        if results.members > 1 and not results.folds:
            draw_calibration(predictions, targets, folder.path / "calibration.png")
    write_atomic(folder.results, json.dumps(results.to_json(), indent=1).encode() + b"\n")


def _finite(value: Any) -> Any:
    """Return plain values with None in place of every number that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
