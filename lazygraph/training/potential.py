"""The class ``PotentialModule``: an interatomic potential with its labels and optimiser as a Lightning module."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Batch

from lazygraph.errors import InputError, LabelError
from lazygraph.interop.labels import (
    CONVENTIONS,
    AtomLabel,
    CrystalLabel,
    Energy,
    Stress,
    atom_label,
    energy_label,
    stress_label,
)
from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.registry import unknown_name
from lazygraph.training.checks import first_ids
from lazygraph.training.models.potentials import Derived, Potential
from lazygraph.training.module import GraphModule, MeanOfLabels, Predicted, TrainedModule, sum_of_losses
from lazygraph.training.options import TrainOptions
from lazygraph.training.report import Prediction, root_mean_square
from lazygraph.training.targets import Targets, with_unit
from lazygraph.writing.reference_energies import fit_by_elements, sums_of_elements

__all__ = [
    "PotentialLabels",
    "PotentialModule",
    "errors_of",
    "fitted_labels",
    "made_module",
    "of_elements",
    "terms_of",
]

SAMPLED = 1000  # training graphs whose forces give the unit of the network's energy
READ = 64  # graphs that are read at once
UNITS = {"energy": "eV/atom", "forces": "eV/A", "stress": "GPa"}


@dataclass(frozen=True, slots=True)
class PotentialLabels:
    """The labels of a potential, and what their numbers mean. Checkpoints store them.

    Args:
        names: the label of ``energy``, ``forces`` and, if it is learned, ``stress``.
        energy: the energy, in eV or eV/atom.
        forces: the forces, in eV/A.
        unit: the unit of the forces in the dataset.
        stress: the stress, in GPa; None if it is not learned.
    """

    names: dict[str, str]
    energy: Energy
    forces: AtomLabel
    unit: str
    stress: Stress | None = None

    @classmethod
    def of(cls, dataset: LazyGraphDataset, options: TrainOptions) -> PotentialLabels:
        """Find the labels in a dataset, which was opened with the labels of the options in float64.

        Raises:
            LabelError: a label does not exist, or it is not known what its numbers mean.
        """
        (target,), forces, stress = options.targets, str(options.forces), options.stress
        names = {"energy": target, "forces": forces} | ({} if stress is None else {"stress": stress})
        return cls(
            names,
            energy_label(dataset, target, "float64"),
            atom_label(dataset, forces, UNITS["forces"], (3,)),
            str(dataset.reader.schema[forces].unit),
            None if stress is None else stress_label(dataset, stress, options.stress_convention, "GPa", "float64"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the labels as plain values."""
        found = asdict(self)
        if self.stress is not None:
            convention = next(name for name, each in CONVENTIONS.items() if each == self.stress.convention)
            found["stress"] = {"label": _plain(found["stress"]["label"]), "convention": convention}
        return found | {"energy": found["energy"] | {"label": _plain(found["energy"]["label"])}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PotentialLabels:
        """Create the labels from the result of ``to_json``.

        Raises:
            LookupError, TypeError, ValueError: the value is something else.
        """
        energy, stress = data["energy"], data["stress"]
        return cls(
            {str(term): str(name) for term, name in data["names"].items()},
            Energy(_label(energy["label"]), bool(energy["is_per_atom"])),
            AtomLabel(str(data["forces"]["name"]), float(data["forces"]["factor"])),
            str(data["unit"]),
            None if stress is None else Stress(_label(stress["label"]), CONVENTIONS[stress["convention"]]),
        )

    def restored(self, energy: Tensor, stress: Tensor | None, n_atoms: Tensor) -> Tensor:
        """Convert energies and stresses into the numbers of the labels.

        Args:
            energy: (B,) float64 eV per cell.
            stress: (B, 3, 3) GPa, positive if a crystal is stretched; None if it is not learned.
            n_atoms: (B,) numbers of atoms.

        Returns:
            (B, T) float64: the energy, and the components of the stress in their order.
        """
        own = energy / n_atoms if self.energy.is_per_atom else energy
        columns = [own[:, None] / self.energy.label.factor]
        if self.stress is not None and stress is not None:
            matrices = (stress + stress.mT).double() / 2 * (self.stress.convention.sign / self.stress.label.factor)
            if len(self.stress.label.shape) == 1:
                places = np.array(self.stress.convention.places)
                rows, others = zip(*(np.argwhere(places == k)[0].tolist() for k in range(6)), strict=True)
                columns.append(matrices[:, rows, others])
            else:
                columns.append(matrices.flatten(1))
        return torch.cat(columns, dim=1)


def _plain(label: Mapping[str, Any]) -> dict[str, Any]:
    return {**label, "shape": list(label["shape"])}


def _label(data: Mapping[str, Any]) -> CrystalLabel:
    return CrystalLabel(int(data["begin"]), tuple(map(int, data["shape"])), float(data["factor"]))


class PotentialModule(TrainedModule):
    """A Lightning module around a :class:`lazygraph.training.models.potentials.Potential`.

    The terms of the loss are the energy per atom (eV/atom), the components of the forces (eV/A), and the nine
    components of the stress (GPa). Missing labels are left out of each. It logs ``loss``, ``val_loss``, and
    ``val_mae/NAME (UNIT)`` for each term.

    Args:
        network: the potential.
        targets: the energy and the components of the stress.
        options: the options of the training.
        labels: the labels of a batch.
        stored: plain values that a checkpoint stores beside the weights, under ``lazygraph``.
    """

    network: Potential

    def __init__(
        self,
        network: nn.Module,
        targets: Targets,
        options: TrainOptions,
        labels: PotentialLabels,
        stored: Mapping[str, Any] | None = None,
    ) -> None:
        weights = [float(getattr(options, f"{term}_weight")) for term in labels.names]
        super().__init__(network, targets, options, {**(stored or {}), "labels": labels.to_json()}, weights)
        self.labels = labels
        self._val_errors = [MeanOfLabels() for _ in weights]
        self.val_errors = nn.ModuleList(self._val_errors)

    def forward(self, batch: Batch) -> Derived:
        """Return energies without the references, forces, and the stress if it is learned."""
        found: Derived = self.network(batch, stress=self.labels.stress is not None)
        return found

    def terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses of known labels for each term, and their numbers, both (K,)."""
        return self._sums_of_losses(self._pairs(batch))

    def _sums_of_losses(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        totals, counts = zip(*(sum_of_losses(str(self.options.loss), *pair) for pair in pairs), strict=True)
        return torch.stack(totals), torch.stack(counts)

    def _pairs(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Return what the network gives for each term, and the labels, of which the references are subtracted."""
        found, n_atoms = self(batch), batch.ptr.diff()
        # The difference in float64: total energies have more digits than the network's float32.
        wanted = (self.labels.energy.total(batch) - self.network.offsets(batch)) / n_atoms
        pairs = [(found.energy / n_atoms, wanted), (found.forces, self.labels.forces(batch))]
        if self.labels.stress is not None:
            pairs.append((found.stress, self.labels.stress(batch)))
        return pairs

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Log losses and errors of each term, each weighted by the number of labels."""
        pairs = self._pairs(batch)
        self.val_loss.update(*self._sums_of_losses(pairs))
        self.log("val_loss", self.val_loss, on_epoch=True, prog_bar=True, batch_size=batch.num_graphs)
        for (term, name), metric, (given, wanted) in zip(
            self.labels.names.items(), self._val_errors, pairs, strict=True
        ):
            there = wanted.isfinite()
            metric.update((given - wanted).abs().where(there, 0.0).sum(), there.sum())
            title = f"val_mae/{with_unit(name, UNITS[term])}"
            self.log(title, metric, on_epoch=True, batch_size=batch.num_graphs)

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[*Predicted, list[Tensor], list[Tensor]]:  # noqa: ARG002
        """Return what ``Predicted`` describes, and the forces of each crystal and their labels, in the label's unit."""
        with torch.autocast(self.device.type, enabled=False):
            found = self(batch)
        n_atoms = batch.ptr.diff()
        predicted = self.labels.restored(
            found.energy.double() + self.network.offsets(batch), found.stress, n_atoms
        ).cpu()
        forces = found.forces.double().cpu() / self.labels.forces.factor
        # A dataset that is opened to predict has no labels of graphs, and its forces may have another unit.
        known = getattr(batch, "y", None) is not None and batch.y.shape == predicted.shape
        y = batch.y.double().cpu() if known else torch.full_like(predicted, torch.nan)
        labels = batch[self.labels.forces.name].double().cpu() if known else torch.full_like(forces, torch.nan)
        sizes = n_atoms.tolist()
        return batch.id, predicted, y, predicted[:, :0], list(forces.split(sizes)), list(labels.split(sizes))


def made_module(
    network: nn.Module,
    targets: Targets,
    options: TrainOptions,
    labels: PotentialLabels | None,
    stored: Mapping[str, Any] | None = None,
) -> TrainedModule:
    """Return the module of a network: of a potential if it has labels of one."""
    if labels is None:
        return GraphModule(network, targets, options, stored)
    return PotentialModule(network, targets, options, labels, stored)


def terms_of(module: TrainedModule, predictions: Sequence[Prediction]) -> dict[str, dict[str, Any]]:
    """Return :func:`errors_of` predictions of a potential; nothing for another module."""
    return errors_of(predictions, module.labels) if isinstance(module, PotentialModule) and predictions else {}


def of_elements(
    found: Sequence[Prediction], splits: Mapping[str, LazyGraphDataset], labels: PotentialLabels
) -> list[Prediction]:
    """Return predictions with the energy of the elements alone, fitted to the training graphs, instead of their own.

    Args:
        found: predictions for the test graphs, the energy first.
        splits: the graphs of ``train`` and ``test``.
        labels: the labels of the potential.
    """
    train, test = splits["train"], splits["test"]
    name, per_atom = labels.names["energy"], labels.energy.is_per_atom
    of_train = train.columns.raw("formula"), train.columns["n_atoms"]
    fit = fit_by_elements(*of_train, train.columns[name].astype(np.float64), per_atom=per_atom)
    of_test = test.columns.raw("formula"), test.columns["n_atoms"]
    energies = sums_of_elements(fit.elements, *of_test, per_atom=per_atom).tolist()
    energy_of = dict(zip(test.ids.tolist(), energies, strict=True))
    return [each._replace(predicted=(energy_of[each.id], *each.predicted[1:])) for each in found]


def fitted_labels(
    network: nn.Module, dataset: LazyGraphDataset, splits: Mapping[str, LazyGraphDataset], options: TrainOptions
) -> PotentialLabels:
    """Find the labels of a potential, and set its references of the elements and its scale from the training graphs.

    The scale is the root mean square of the components of the forces, of up to 1,000 graphs, times 1 A.

    Args:
        network: the potential.
        dataset: all graphs, opened with the labels of the options.
        splits: the graphs of ``train``, ``val`` and ``test``.
        options: the options of the training.

    Raises:
        LabelError: a label does not exist, it is not known what its numbers mean, no training graph has forces, or
            forces are infinite.
        InputError: the network is no potential, or an element has no reference.
    """
    if not isinstance(network, Potential):
        msg = f"the model {options.model!r} makes a {type(network).__name__}; a potential is a {Potential.__qualname__}"
        raise InputError(msg)
    labels = PotentialLabels.of(dataset, options)
    energies = _references(splits["train"], labels, str(options.element_references))
    if energies is not None:
        _check_elements(splits, energies, options)
    network.set_references(energies, _scale(splits["train"], labels))
    return labels


def _references(train: LazyGraphDataset, labels: PotentialLabels, kind: str) -> dict[str, float] | None:
    """Return symbol -> eV; None for no references.

    Raises:
        InputError: the dataset stores none.
    """
    name, energy = labels.names["energy"], labels.energy
    if kind == "none":
        return None
    if kind == "stored":
        stored = (train.manifest.columns[name].statistics or {}).get("elements")
        if not stored:
            msg = (
                f"element_references='stored', but {train.path} stores no energies of elements for {name!r}; fit them "
                f"with 'lazygraph labels {train.path} --fit-elements {name}', or use element_references='fit'"
            )
            raise InputError(msg)
        return {symbol: value * energy.label.factor for symbol, value in stored.items()}
    fit = fit_by_elements(
        train.columns.raw("formula"),
        train.columns["n_atoms"],
        train.columns[name].astype(np.float64) * energy.label.factor,
        per_atom=energy.is_per_atom,
    )
    return fit.elements


def _check_elements(
    splits: Mapping[str, LazyGraphDataset], energies: Mapping[str, float], options: TrainOptions
) -> None:
    """Refuse graphs with an element that has no reference.

    Raises:
        InputError: there are such graphs.
    """
    for name, part in splits.items():
        known = np.unique(part.columns.raw("formula")).tolist()
        strange = sorted({symbol for formula in known for symbol in _symbols(formula)} - set(energies))
        if not strange:
            continue
        ids = part.ids[part.columns.operand("elements").any_of(strange)]
        condition = " and ".join(f"'{symbol}' not in elements" for symbol in strange)
        msg = (
            f"element_references={options.element_references!r} gives no energy for {', '.join(strange)}, which "
            f"{len(ids):,} of the {len(part):,} graphs of {name} hold (the first: {first_ids(ids)}). Use another "
            "split, so that graphs of train hold every element, or leave these graphs out: lazygraph subset OLD.lg -o "
            f'NEW.lg --where "{condition}"'
        )
        raise InputError(msg)


def _symbols(formula: bytes) -> list[str]:
    return re.findall("[A-Z][a-z]?", formula.decode())


def _scale(train: LazyGraphDataset, labels: PotentialLabels) -> float:
    """Return the root mean square of the components of the training forces, eV/A.

    Raises:
        LabelError: there are none, or some are infinite.
    """
    name = labels.names["forces"]
    places = np.unique(np.linspace(0, len(train) - 1, min(len(train), SAMPLED)).astype(np.int64))
    parts = [train.fetch(some).records.fields[name] for some in np.split(places, range(READ, len(places), READ))]
    values = np.concatenate(parts).astype(np.float64)
    if np.isinf(values).any():
        msg = f"training graphs have infinite {name!r}; set them to numbers, or to NaN where they are missing"
        raise LabelError(msg)
    values = values[np.isfinite(values)]
    if not len(values):
        msg = (
            f"none of the {len(train):,} training graphs has a value of {name!r}; write the dataset with forces, or "
            "train without them"
        )
        raise LabelError(msg)
    return root_mean_square(values * labels.forces.factor) or 1.0


def errors_of(predictions: Sequence[Prediction], labels: PotentialLabels) -> dict[str, dict[str, Any]]:
    """Return the errors of each term over all predictions with labels.

    Returns:
        Label -> ``count`` of numbers, and of these ``mae``, ``rmse``, the population standard deviation of the labels
        ``deviation``, which is the root mean square error of the best constant, and their ``unit``: eV/atom, eV/A or
        GPa. Without labels, only ``count`` and ``unit``.
    """
    found: dict[str, dict[str, Any]] = {}
    for term, name in labels.names.items():
        predicted, wanted = _values(predictions, labels, term)
        there = np.isfinite(wanted)
        off, known = predicted[there] - wanted[there], wanted[there]
        found[name] = {"count": len(known), "unit": UNITS[term]}
        if len(known):
            found[name] |= {
                "mae": float(np.abs(off).mean()),
                "rmse": root_mean_square(off),
                "deviation": float(known.std()),
            }
    return found


def _values(
    predictions: Sequence[Prediction], labels: PotentialLabels, term: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the numbers of a term, predicted and as labels, in its unit."""
    if term == "forces":
        pairs = [(row.forces, row.label_forces) for row in predictions if row.forces is not None]
        each = [np.concatenate([np.zeros((0, 3)), *of]) * labels.forces.factor for of in zip(*pairs, strict=True)]
        return each[0], each[1]
    pairs_of_graphs = [(row.predicted, row.label) for row in predictions]
    values = [np.array(of, dtype=np.float64) for of in zip(*pairs_of_graphs, strict=True)]
    if term == "energy":
        n_atoms = np.array([0 if row.forces is None else len(row.forces) for row in predictions])
        divisor = 1.0 if labels.energy.is_per_atom else n_atoms
        energies = [of[:, 0] * labels.energy.label.factor / divisor for of in values]
        return energies[0], energies[1]
    if labels.stress is None:
        raise InputError(unknown_name("term", term, labels.names))
    label = labels.stress.label
    matrices = [of[:, 1:] * label.factor for of in values]
    if len(label.shape) == 1:
        matrices = [of[:, np.array(labels.stress.convention.places).ravel()] for of in matrices]
    return matrices[0], matrices[1]
