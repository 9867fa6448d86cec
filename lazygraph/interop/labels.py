"""Energies, forces, stresses and other labels of a batch, in the unit and with the sign that a package takes.

What a label means is declared by the dataset (unit, per cell or per atom) or by the caller (convention of the stress).
A label whose meaning is unknown is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from lazygraph.errors import InputError, LabelError
from lazygraph.graphs.crystal_records import CRYSTAL_FIELDS
from lazygraph.loading.mixing import Mix
from lazygraph.reading.unit_conversion import conversion_factor, reason_against
from lazygraph.registry import unknown_name

if TYPE_CHECKING:
    from torch_geometric.data import Batch

    from lazygraph.loading.dataset import LazyGraphDataset
    from lazygraph.loading.mixing import LoadableDataset

__all__ = [
    "CONVENTIONS",
    "AtomLabel",
    "CrystalLabel",
    "Energy",
    "Stress",
    "StressConvention",
    "atom_label",
    "crystal_label",
    "energy_label",
    "real_type",
    "stress_label",
]


class StressConvention(NamedTuple):
    """What the numbers of a stress mean."""

    sign: int
    """1 if the stress of a stretched crystal is positive: (dE/d strain) / V. -1 if it is negative."""
    places: tuple[tuple[int, int, int], ...]
    """(3, 3) the place of each component among six numbers."""


CONVENTIONS: Mapping[str, StressConvention] = MappingProxyType(
    {
        "ase": StressConvention(1, ((0, 5, 4), (5, 1, 3), (4, 3, 2))),  # xx, yy, zz, yz, xz, xy
        "vasp": StressConvention(-1, ((0, 3, 5), (3, 1, 4), (5, 4, 2))),  # xx, yy, zz, xy, yz, zx
    }
)
"""The conventions by name: of ``Atoms.get_stress`` in ASE, and of the stresses that VASP writes into an OUTCAR."""


class _Described(NamedTuple):
    """What a dataset says of a label."""

    unit: str | None
    per: str | None
    shape: tuple[int, ...]
    """Of the label of one crystal, or of one atom."""


@dataclass(frozen=True, slots=True)
class CrystalLabel:
    """A label of crystals in another unit.

    Args:
        begin: its first column in ``y``.
        shape: its shape for one crystal.
        factor: by what it is multiplied.
    """

    begin: int
    shape: tuple[int, ...]
    factor: float = 1.0

    def __call__(self, batch: Batch) -> Tensor:
        """Return the label of every crystal of a batch, (B, *shape) float64; NaN where it is missing."""
        columns: Tensor = batch.y[:, self.begin : self.begin + math.prod(self.shape)]
        return columns.to(torch.float64).reshape(-1, *self.shape) * self.factor


@dataclass(frozen=True, slots=True)
class Energy:
    """The energy of crystals.

    Args:
        label: the label, in eV or eV/atom.
        is_per_atom: whether it is in eV/atom.
    """

    label: CrystalLabel
    is_per_atom: bool

    def total(self, batch: Batch) -> Tensor:
        """Return the energy of every cell of a batch, (B,) float64, eV."""
        found = self.label(batch)
        return found * batch.ptr.diff() if self.is_per_atom else found

    def per_atom(self, batch: Batch) -> Tensor:
        """Return the energy per atom of every crystal of a batch, (B,) float64, eV/atom."""
        found = self.label(batch)
        return found if self.is_per_atom else found / batch.ptr.diff()


@dataclass(frozen=True, slots=True)
class Stress:
    """The stress of crystals as matrices, positive if a crystal is stretched.

    Args:
        label: the label, of shape (3, 3) or (6,).
        convention: what its numbers mean.
    """

    label: CrystalLabel
    convention: StressConvention

    def __call__(self, batch: Batch) -> Tensor:
        """Return the stress of every crystal of a batch, (B, 3, 3) float64."""
        found = self.label(batch) * self.convention.sign
        return found if len(self.label.shape) == 2 else found[:, torch.tensor(self.convention.places)]


@dataclass(frozen=True, slots=True)
class AtomLabel:
    """A label of atoms in another unit.

    Args:
        name: its name in a batch.
        factor: by what it is multiplied.
    """

    name: str
    factor: float

    def __call__(self, batch: Batch) -> Tensor:
        """Return the label of every atom of a batch, (N, *shape), in the type of the view; NaN where it is missing."""
        found: Tensor = batch[self.name]
        return found if self.factor == 1 else found * self.factor


def real_type(dataset: LoadableDataset) -> torch.dtype:
    """Return the floating-point type of the view of a dataset."""
    found: torch.dtype = getattr(torch, dataset.view.dtype)
    return found


def crystal_label(
    dataset: LoadableDataset, name: str, unit: str | None = None, dtype: str | None = None
) -> CrystalLabel:
    """Find a label of crystals in ``y``.

    Args:
        dataset: the dataset.
        name: the name of the label.
        unit: the unit to convert it to; None for the unit of the dataset.
        dtype: the type that it is needed in, ``float32`` or ``float64``; default that of the view.

    Raises:
        LabelError: the dataset has no such label of crystals, or its unit cannot be converted.
        InputError: the dataset does not load the label, or loads it in a narrower type.
    """
    described = _of_crystals(dataset, name)
    factor = 1.0 if unit is None else _factor(name, described.unit, unit, f"lazygraph labels PATH --unit {name}={unit}")
    targets = (dataset.target,) if isinstance(dataset.target, str) else tuple(dataset.target or ())
    if name not in targets:
        msg = (
            f"{dataset.path} is opened with target={dataset.target!r}, so its batches have no {name!r}; open it with "
            f"target={[*targets, name]!r}"
        )
        raise InputError(msg)
    if (dtype or dataset.view.dtype) == "float64" and _members(dataset)[0].target_dtype == "float32":
        msg = (
            f"{dataset.path} is opened with target_dtype='float32', which rounds {name!r}, and float64 is needed; open "
            "it with target_dtype='float64'"
        )
        raise InputError(msg)
    before = targets[: targets.index(name)]
    begin = sum(math.prod(_of_crystals(dataset, other).shape) for other in before)
    return CrystalLabel(begin, described.shape, factor)


def energy_label(dataset: LoadableDataset, name: str, dtype: str | None = None) -> Energy:
    """Find the energy in ``y``.

    Args:
        dataset: the dataset.
        name: the name of the label, one number per crystal, in a unit of energy or of energy per atom.
        dtype: the type that it is needed in; default that of the view.

    Raises:
        LabelError: there is no such label, or it is not known what its numbers mean.
        InputError: the dataset does not load the label.
    """
    described = _of_crystals(dataset, name)
    if described.shape != ():
        msg = f"the label {name!r} has the shape {described.shape}; an energy is one number per crystal"
        raise LabelError(msg)
    if described.unit is not None and conversion_factor(described.unit, "eV/atom") is not None:
        if described.per == "cell":
            msg = (
                f"the label {name!r} is in {described.unit}, but it is declared per cell; correct one of them: "
                f"lazygraph labels PATH --per {name}=atom, or --unit {name}=eV"
            )
            raise LabelError(msg)
        return Energy(crystal_label(dataset, name, "eV/atom", dtype), is_per_atom=True)
    label = crystal_label(dataset, name, "eV", dtype)
    if described.per is None:
        msg = (
            f"it is not known whether the label {name!r} is the energy of the cell or of one atom; declare it: "
            f"lazygraph labels PATH --per {name}=cell (or {name}=atom)"
        )
        raise LabelError(msg)
    return Energy(label, is_per_atom=described.per == "atom")


def stress_label(
    dataset: LoadableDataset, name: str, convention: str | None, unit: str, dtype: str | None = None
) -> Stress:
    """Find the stress in ``y``.

    Args:
        dataset: the dataset.
        name: the name of the label, of shape (3, 3) or (6,), in a unit of pressure.
        convention: a name in ``CONVENTIONS``.
        unit: the unit to convert it to.
        dtype: the type that it is needed in; default that of the view.

    Raises:
        LabelError: there is no such label, or it has no unit of pressure.
        InputError: the convention is unknown, or the dataset does not load the label.
    """
    described = _of_crystals(dataset, name)
    if described.shape not in ((3, 3), (6,)):
        msg = f"the label {name!r} has the shape {described.shape}; a stress has the shape (3, 3) or (6,)"
        raise LabelError(msg)
    if convention is None:
        msg = (
            f"a dataset does not say which sign its stress {name!r} has; give stress_convention='ase' if the stress of "
            "a stretched crystal is positive (ASE), or 'vasp' if it is negative (VASP), or stress=None to train "
            "without stress"
        )
        raise InputError(msg)
    if convention not in CONVENTIONS:
        raise InputError(unknown_name("stress_convention", convention, CONVENTIONS))
    return Stress(crystal_label(dataset, name, unit, dtype), CONVENTIONS[convention])


def atom_label(dataset: LoadableDataset, name: str, unit: str, shape: tuple[int, ...]) -> AtomLabel:
    """Find a label of atoms.

    Args:
        dataset: the dataset.
        name: the name of the label.
        unit: the unit to convert it to.
        shape: the shape that it has for one atom.

    Raises:
        LabelError: there is no such label of atoms, it has another shape, or its unit cannot be converted.
    """
    schema = dataset.reader.schema
    known = [field for field in schema.names if field not in CRYSTAL_FIELDS]
    if name not in known:
        msg = f"{dataset.path}: {unknown_name('label of atoms', name, known)}"
        raise LabelError(msg)
    field = schema[name]
    if field.shape != shape:
        msg = f"the label {name!r} has the shape {field.shape} for one atom; required: {shape}"
        raise LabelError(msg)
    return AtomLabel(name, _factor(name, field.unit, unit, f"lazygraph-write PATH -o NEW.lg --unit {name}={unit}"))


def _factor(name: str, found: str | None, wanted: str, command: str) -> float:
    """By what a label is multiplied.

    Raises:
        LabelError: it has no unit, or one that cannot be converted.
    """
    if found is None:
        msg = f"the label {name!r} has no unit; give it one, such as: {command}"
        raise LabelError(msg)
    factor = conversion_factor(found, wanted)
    if factor is None:
        msg = (
            f"the label {name!r} is in {found}, which cannot be converted to {wanted}: {reason_against(found, wanted)}"
        )
        raise LabelError(msg)
    return factor


def _of_crystals(dataset: LoadableDataset, name: str) -> _Described:
    """What a dataset says of a label of crystals.

    Raises:
        LabelError: it has no such label.
    """
    members = _members(dataset)
    found = [member.manifest.labels().get(name) for member in members]
    columns = [column for column in found if column is not None]
    if not columns:
        known = dict.fromkeys(label for member in members for label in member.manifest.labels())
        msg = f"{dataset.path}: {unknown_name('label of crystals', name, known)}"
        raise LabelError(msg)
    unit = dataset.unit(name) if isinstance(dataset, Mix) else columns[0].unit
    per = next((column.per for column in columns if column.per is not None), None)
    return _Described(unit, per, columns[0].shape[1:])


def _members(dataset: LoadableDataset) -> list[LazyGraphDataset]:
    """The datasets of a mix, or the dataset itself."""
    return list(dataset.members.values()) if isinstance(dataset, Mix) else [dataset]
