"""A dataset for the trainers of metatrain, which shuffle and batch datasets themselves.

Import this module before you open a dataset: see ``lazygraph.interop.early_imports``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lazygraph.crystal import symbols_to_numbers
from lazygraph.errors import InputError, MissingExtra, RecipeMismatch
from lazygraph.interop.early_imports import IS_USABLE
from lazygraph.interop.labels import AtomLabel, Energy, Stress, atom_label, energy_label, stress_label
from lazygraph.loading.mixing import as_dataset

if TYPE_CHECKING:
    from lazygraph.loading.mixing import LoadableDataset

__all__ = ["Sample", "Samples", "samples"]

TARGET = "energy"


class Sample(NamedTuple):
    """One crystal, as metatrain's datasets yield it."""

    system: Any
    """``metatomic.torch.System``: positions and cell in A, float64; rows of the cell are zero where it is not
    periodic."""
    energy: Any
    """``TensorMap``: the energy of the cell in eV, with the gradients ``positions``, which are -forces in eV/A, and
    ``strain``, which is stress times volume in eV."""

    def __getitem__(self, key: Any) -> Any:
        """Return a field by its position or, as metatrain does, by its name."""
        return getattr(self, key) if isinstance(key, str) else tuple.__getitem__(self, key)


class Samples(torch.utils.data.Dataset[Sample]):
    """A dataset of crystals for metatrain, created by :func:`samples`.

    A crystal is read when it is requested. It is picklable, so metatrain's worker processes can read it.

    Attributes:
        dataset: the dataset of lazygraph.
    """

    def __init__(
        self, dataset: LoadableDataset, energy: Energy, forces: AtomLabel | None, stress: Stress | None
    ) -> None:
        self.dataset, self._energy, self._forces, self._stress = dataset, energy, forces, stress

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Sample:
        """Read one crystal."""
        if not -len(self) <= position < len(self):
            msg = f"position {position} is out of range; the dataset has {len(self)} crystals"
            raise IndexError(msg)
        return self.__getitems__([position % len(self)])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Sample]:
        """Read several crystals at once; torch's ``DataLoader`` calls it for a batch."""
        from torch_geometric.data import Batch

        fetched = self.dataset.fetch(np.asarray(positions, np.int64))
        fields, counts = fetched.records.fields, np.asarray(next(iter(fetched.records.counts.values())), np.int64)
        values = {"ptr": torch.from_numpy(np.concatenate([[0], counts.cumsum()])), "y": torch.from_numpy(fetched.y)}
        if self._forces is not None:
            values[self._forces.name] = torch.from_numpy(fields[self._forces.name].astype(np.float64))
        labels = Batch(**values)
        energies = self._energy.total(labels)
        forces = None if self._forces is None else torch.split(self._forces(labels), counts.tolist())
        stresses = None if self._stress is None else self._stress(labels)
        ends = np.cumsum(counts)
        out = []
        for k, (begin, end) in enumerate(zip(ends - counts, ends, strict=True)):
            lattice, pbc = fields["lattice"][k], fields["pbc"][k]
            virial = None
            if stresses is not None:
                if not pbc.all():
                    msg = (
                        f"the crystal {fetched.ids[k]!r} is not periodic in all directions, so it has no volume for a "
                        "stress; leave it out, or give stress=None"
                    )
                    raise InputError(msg)
                virial = stresses[k] * float(abs(np.linalg.det(lattice)))
            system = _system(fields["numbers"][begin:end], fields["frac_coords"][begin:end], lattice, pbc)
            gradients = {"positions": None if forces is None else -forces[k], "strain": virial}
            out.append(Sample(system, _energy_map(int(positions[k]), energies[k], gradients)))
        return out

    def get_num_atoms(self, position: int) -> int:
        """Return the number of atoms of a crystal, without reading it."""
        return int(self.get_all_atom_counts()[position])

    def get_all_atom_counts(self) -> NDArray[np.int64]:
        """Return the number of atoms of every crystal, (n,), without reading them."""
        augmenter = self.dataset.augmenter
        counts: NDArray[np.int64] = self.dataset.columns["n_atoms"].astype(np.int64)
        return counts * (1 if augmenter is None else augmenter.times)

    def dataset_info(self) -> Any:
        """Return the ``DatasetInfo`` that a network is made with: lengths in A, the elements, and the target."""
        data = import_module("metatrain.utils.data")
        info = import_module("metatrain.utils.data.target_info").get_energy_target_info
        symbols = sorted(set(re.findall("[A-Z][a-z]?", "".join(set(self.dataset.columns["formula"].tolist())))))
        target = info(TARGET, {"unit": "eV"}, self._forces is not None, self._stress is not None)
        numbers = sorted(symbols_to_numbers(symbols).tolist())
        return data.DatasetInfo(length_unit="angstrom", atomic_types=numbers, targets={TARGET: target})


def samples(
    dataset: LoadableDataset | torch.utils.data.Subset[Any],
    *,
    energy: str = "energy",
    forces: str | None = "forces",
    stress: str | None = "stress",
    stress_convention: str | None = None,
) -> Samples:
    """Convert a dataset for the ``Trainer`` of an architecture of metatrain.

    metatrain shuffles and batches a dataset, and finds neighbours, itself. It therefore takes a dataset and not a
    loader. The recipe and the view of the dataset do not matter; ``graph="none"`` is the fastest to read. A missing
    value is NaN, which metatrain leaves out of the loss.

    Args:
        dataset: a dataset of crystals, opened with ``target_dtype="float64"``, because metatrain keeps its data in
            float64.
        energy: the label with the energy of the cell or per atom, one of the dataset's targets.
        forces: the label of atoms with the forces; None to train without.
        stress: the label with the stress, (3, 3) or (6,), one of the dataset's targets; None to train without.
        stress_convention: ``"ase"``: the stress of a stretched crystal is positive, and six numbers are xx, yy, zz, yz,
            xz, xy. ``"vasp"``: it is negative, and six numbers are xx, yy, zz, xy, yz, zx. Required with ``stress``.

    Raises:
        MissingExtra: metatrain is not installed.
        InputError: the dataset has a transform, an option does not fit, or torch_geometric was imported before this
            module.
        LabelError: a label does not exist, or it is not known what its numbers mean.
        RecipeMismatch: the graphs are ready-made.

    Source: ``metatrain.utils.data.Dataset`` and the reader ``ase`` of metatrain 2026.4.

    Example:
        >>> import lazygraph.interop.metatrain
        >>> def train(trainer, model, dataset, validation):
        ...     data = [lazygraph.interop.metatrain.samples(part, stress=None) for part in (dataset, validation)]
        ...     trainer.train(model, torch.float32, [torch.device("cpu")], data[:1], data[1:], ".")
    """
    if find_spec("metatrain") is None:
        raise MissingExtra(
            "samples for metatrain need metatrain, which is not installed: pip install 'lazygraph[interop]'"
        )
    if not IS_USABLE:
        msg = (
            "torch_geometric was imported before metatrain, which cannot be imported after it; begin the script with "
            "import lazygraph.interop.metatrain"
        )
        raise InputError(msg)
    found = as_dataset(dataset)
    if found.spec is None:
        msg = f"the graphs of {found.path} came ready-made, without crystals; metatrain needs crystals"
        raise RecipeMismatch(msg)
    if found.transform is not None:
        msg = f"{found.path} has a transform of graphs, and metatrain reads crystals; open it without transform"
        raise InputError(msg)
    return Samples(
        found,
        energy_label(found, energy, "float64"),
        None if forces is None else atom_label(found, forces, "eV/A", (3,)),
        None if stress is None else stress_label(found, stress, stress_convention, "eV/A^3", "float64"),
    )


def _system(numbers: Any, frac_coords: Any, lattice: Any, pbc: Any) -> Any:
    """Make a ``System`` of a crystal."""
    positions = frac_coords.astype(np.float64) @ lattice
    cell = np.where(pbc[:, None], lattice, 0.0)
    return import_module("metatomic.torch").System(
        positions=torch.from_numpy(positions),
        types=torch.from_numpy(numbers.astype(np.int32)),
        cell=torch.from_numpy(cell),
        pbc=torch.from_numpy(np.ascontiguousarray(pbc)),
    )


def _energy_map(position: int, energy: torch.Tensor, gradients: Mapping[str, torch.Tensor | None]) -> Any:
    """Make the ``TensorMap`` of an energy and its gradients.

    Args:
        position: the position of the crystal in the dataset, by which metatrain numbers systems.
        energy: () eV.
        gradients: ``positions`` (n, 3) and ``strain`` (3, 3); None for those that are not there.
    """
    metatensor = import_module("metatensor.torch")
    labels, properties = metatensor.Labels, metatensor.Labels.range("energy", 1)
    samples = labels(["system"], torch.tensor([[position]], dtype=torch.int32))
    block = metatensor.TensorBlock(energy.reshape(1, 1), samples, [], properties)
    if (forces := gradients["positions"]) is not None:
        atoms = torch.arange(len(forces), dtype=torch.int32)
        rows = labels(["sample", "atom"], torch.stack([torch.zeros_like(atoms), atoms], dim=1))
        block.add_gradient(
            "positions",
            metatensor.TensorBlock(forces.reshape(-1, 3, 1), rows, [labels.range("xyz", 3)], properties),
        )
    if (virial := gradients["strain"]) is not None:
        axes = [labels.range("xyz_1", 3), labels.range("xyz_2", 3)]
        rows = labels(["sample"], torch.zeros((1, 1), dtype=torch.int32))
        block.add_gradient("strain", metatensor.TensorBlock(virial.reshape(1, 3, 3, 1), rows, axes, properties))
    return metatensor.TensorMap(labels.single(), [block])
