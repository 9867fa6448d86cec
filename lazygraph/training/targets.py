"""The class ``Targets``: names and units of the targets, and the conversion of network outputs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lazygraph.errors import InputError, LabelError
from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.loading.precision import is_too_coarse
from lazygraph.text import printable

__all__ = ["Scale", "Targets", "with_unit"]

GREATEST = float(np.finfo(np.float64).max) / 2  # of a label: the difference of two such numbers is a number too
MOST_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets of a run. Checkpoints store them, so that predictions have the units of the labels.

    Args:
        names: name of each target; a vector label has several targets, ``dipole[0]`` and so on.
        units: unit of each target; None if the dataset names no unit.
        mean: mean of each target over the training graphs that have it.
        std: population standard deviation, as in the published crystal networks; 1 if all values are equal.
        classes: the values of a classification, in order; empty for a regression.
        per: ``cell`` or ``atom`` for each target, None where the dataset does not say; empty if it never does.
    """

    names: tuple[str, ...]
    units: tuple[str | None, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[float, ...] = ()
    per: tuple[str | None, ...] = ()

    @classmethod
    def of(cls, dataset: LazyGraphDataset, labels: Sequence[str], *, classify: bool) -> Targets:
        """Create the targets from the training graphs.

        Args:
            dataset: the training graphs.
            labels: the labels to learn.
            classify: whether each value is a class.

        Raises:
            LabelError: no training graph has a label, a label is greater than 9e307, or there is only one class.

        Warns:
            UserWarning: a few outliers are so far away that float32, in which networks compute, cannot tell the other
                labels apart.
        """
        names: list[str] = []
        units: list[str | None] = []
        per: list[str | None] = []
        columns: list[NDArray[np.float64]] = []
        for label in labels:
            values = np.asarray(dataset.columns[label], dtype=np.float64).reshape(len(dataset), -1)
            many = values.shape[1] > 1
            names += [f"{label}[{k}]" if many else label for k in range(values.shape[1])]
            units += [dataset.manifest.columns[label].unit] * values.shape[1]
            per += [dataset.manifest.columns[label].per] * values.shape[1]
            columns += list(values.T)
        finite = [column[np.isfinite(column)] for column in columns]
        for name, values in zip(names, finite, strict=True):
            if not len(values):
                msg = (
                    f"none of the {len(dataset)} training graphs has a value of {name!r}; add values with 'lazygraph "
                    "labels', or choose another target"
                )
                raise LabelError(msg)
            if (greatest := float(np.abs(values).max())) > GREATEST:
                msg = f"the label {name!r} reaches {greatest:g}; numbers beyond {GREATEST:.2g} overflow when normalised"
                raise LabelError(msg)
        if classify:
            return cls(tuple(names), tuple(units), (0.0,), (1.0,), _classes(names, finite), tuple(per))
        mean, std = zip(*map(_mean_and_std, finite), strict=True)
        targets = cls(tuple(names), tuple(units), mean, std, per=tuple(per))
        for k, values in enumerate(finite):
            _warn_of_rounding(targets, k, values)
        return targets

    @property
    def outputs(self) -> int:
        """The number of outputs that a network must have per graph."""
        return len(self.classes) or len(self.names)

    def scale(self) -> Scale:
        """Return the conversion for tensors."""
        return Scale(self)

    def components(self, labels: Sequence[str]) -> dict[str, list[int]]:
        """Return label -> positions of its components among the targets.

        Args:
            labels: the labels of the targets, in order.

        Raises:
            ValueError: the targets do not belong to these labels.
        """
        widths = self._widths(tuple(labels), 0)
        if widths is None:
            msg = f"the targets {self.names} are not of the labels {tuple(labels)}"
            raise ValueError(msg)
        ends = np.cumsum(widths, dtype=int).tolist()
        each = zip(labels, widths, ends, strict=True)
        return {label: list(range(end - width, end)) for label, width, end in each}

    def _widths(self, labels: tuple[str, ...], at: int) -> list[int] | None:
        """Return the number of components of each label, if they cover all targets from ``at`` on."""
        if not labels:
            return [] if at == len(self.names) else None
        width = 0
        while self.names[at + width : at + width + 1] == (f"{labels[0]}[{width}]",):
            width += 1
        # The longest match first, because a label may have the name of a component of another label.
        widths = list(range(width, 0, -1))
        if self.names[at : at + 1] == (labels[0],):
            widths.append(1)
        for each in widths:
            rest = self._widths(labels[1:], at + each)
            if rest is not None:
                return [each, *rest]
        return None

    def named(self, values: Sequence[float]) -> dict[str, float]:
        """Return a mapping from target names to numbers."""
        return dict(zip(self.names, values, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return the targets as plain values."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Targets:
        """Create the targets from the result of ``to_json``.

        Raises:
            TypeError, ValueError: the value is something else.
        """
        targets = cls(**{name: tuple(value) for name, value in data.items()})
        numbers = (*targets.mean, *targets.std, *targets.classes)
        if not all(isinstance(value, float) and math.isfinite(value) for value in numbers):
            raise TypeError("mean, std and classes hold something else than finite numbers")
        texts = targets.names + tuple(filter(None, targets.units)) + tuple(filter(None, targets.per))
        if not all(isinstance(name, str) for name in texts):
            raise TypeError("names, units and per hold something else than texts")
        many = 1 if targets.classes else len(targets.names)
        if not len(targets.names) == len(targets.units) == len(targets.mean) == len(targets.std) == many:
            raise ValueError("names, units, mean and std differ in their number")
        if len(targets.per) not in (0, many):
            raise ValueError("names and per differ in their number")
        return targets


def with_unit(name: str, unit: str | None) -> str:
    """Return ``band_gap (eV)`` without control characters, for progress bars, tables and plots."""
    return printable(name if unit is None else f"{name} ({unit})")


class Scale(nn.Module):
    """The conversion between labels and network outputs, in float64. Its constants move to the device of the module.

    Args:
        targets: the targets.
    """

    mean: Tensor
    std: Tensor
    classes: Tensor

    def __init__(self, targets: Targets) -> None:
        super().__init__()
        for name in ("mean", "std", "classes"):
            values = torch.tensor(getattr(targets, name), dtype=torch.float64)
            self.register_buffer(name, values, persistent=False)

    def normalised(self, y: Tensor) -> Tensor:
        """Convert labels (B, T) to float64 network outputs, with NaN for missing labels."""
        return (y.double() - self.mean) / self.std

    def restored(self, outputs: Tensor) -> Tensor:
        """Convert outputs (B, outputs) to float64 (B, T) in the units of the labels, or to the likeliest class."""
        out = outputs.double()
        if len(self.classes):
            return self.classes[out.argmax(dim=1)][:, None]
        return out * self.std + self.mean

    def places(self, y: Tensor) -> Tensor:
        """Convert labels (B, 1) to int64 (B,) indices of ``classes``; -100 for a missing label or unknown class."""
        same = y[:, :1].double() == self.classes
        return torch.where(same.any(dim=1), same.int().argmax(dim=1), -100)


def _mean_and_std(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean and the population standard deviation, which is 1 if all values are equal."""
    # Squares of numbers beyond 1e150 overflow, and those below 1e-150 vanish.
    largest = float(np.abs(values).max())
    scale = 1.0 if 1e-100 < largest < 1e100 or not largest else largest
    scaled = values / scale
    return float(scaled.mean()) * scale, float(scaled.std()) * scale or 1.0


def _warn_of_rounding(targets: Targets, k: int, values: NDArray[np.float64]) -> None:
    low, high = np.quantile((values - targets.mean[k]) / targets.std[k], (0.25, 0.75)).tolist()
    if is_too_coarse(low, high, high - low):
        name = with_unit(targets.names[k], targets.units[k])
        msg = (
            f"half of the training labels of {name} lie within {(high - low) * targets.std[k]:.3g} of one another, and "
            f"their standard deviation is {targets.std[k]:.3g}: networks compute in float32, which cannot tell these "
            "labels apart; look for outliers"
        )
        warnings.warn(msg, stacklevel=2)


def _classes(names: list[str], finite: list[NDArray[np.float64]]) -> tuple[float, ...]:
    if len(names) > 1:
        msg = (
            f"the label has {len(names)} values ({names[0]} to {names[-1]}), but classification needs a label of one "
            "value"
        )
        raise LabelError(msg)
    classes = np.unique(finite[0]).tolist()
    if not 2 <= len(classes) <= MOST_CLASSES:
        msg = f"found {len(classes)} different values of {names[0]!r}; required: 2 to {MOST_CLASSES} classes"
        raise InputError(msg)
    return tuple(float(c) for c in classes)
