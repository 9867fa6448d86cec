"""Batches for ``mace.tools.train`` of mace-torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import Batch

from lazygraph.crystal import SYMBOLS
from lazygraph.interop.labels import (
    AtomLabel,
    CrystalLabel,
    Energy,
    Stress,
    atom_label,
    crystal_label,
    energy_label,
    real_type,
    stress_label,
)
from lazygraph.interop.peer_batches import PeerBatches, attribute_of, check_cutoff, check_elements, checked_dataset
from lazygraph.reading.views.mace import Mace

if TYPE_CHECKING:
    from lazygraph.loading.loader import Loader

__all__ = ["batches"]

ARRAYS = (*Mace.layout, "batch", "ptr")


@dataclass(frozen=True, slots=True)
class _Train:
    """Converts a batch into the one that MACE's networks, losses and metrics read."""

    energy: Energy
    forces: AtomLabel | None
    stress: Stress | None
    weight: CrystalLabel | None
    dtype: torch.dtype

    def __call__(self, batch: Batch) -> Batch:
        n_graphs, n_atoms = batch.num_graphs, batch.num_nodes
        ones = batch.positions.new_ones(n_graphs, dtype=self.dtype)
        values = {name: batch[name] for name in ARRAYS}
        values["head"] = torch.zeros_like(batch.ptr[:-1])
        values["weight"] = ones if self.weight is None else self.weight(batch).to(self.dtype)
        energy = self.energy.total(batch).to(self.dtype)
        values["energy"], values["energy_weight"] = _present(energy, energy.isnan())
        if self.forces is None:
            values["forces"], values["forces_weight"] = ones.new_zeros(n_atoms, 3), torch.zeros_like(ones)
        else:
            forces = self.forces(batch)
            of_atoms = forces.isnan().any(dim=1)
            missing = torch.bincount(batch.batch[of_atoms], minlength=n_graphs) > 0
            values["forces"], values["forces_weight"] = _present(forces, missing, batch.batch)
        if self.stress is None:
            values["stress"], values["stress_weight"] = ones.new_zeros(n_graphs, 3, 3), torch.zeros_like(ones)
        else:
            stress = self.stress(batch).to(self.dtype)
            values["stress"], values["stress_weight"] = _present(stress, stress.flatten(1).isnan().any(dim=1))
        values["virials"], values["virials_weight"] = ones.new_zeros(n_graphs, 3, 3), torch.zeros_like(ones)
        return Batch(**values)


def _present(values: Tensor, missing: Tensor, graph_of_row: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Replace missing values by zeros.

    Args:
        values: (B, ...), or rows of atoms.
        missing: (B,) whether the value of a graph is missing.
        graph_of_row: the graph of each row of ``values``, if there is more than one row a graph.

    Returns:
        The values, and the weights (B,): 0 where they are missing, and otherwise 1.
    """
    of_rows = missing if graph_of_row is None else missing[graph_of_row]
    zeros = of_rows.reshape(-1, *(1,) * (values.dim() - 1))
    return values.masked_fill(zeros, 0.0), (~missing).to(values.dtype)


def batches(
    loader: Loader,
    *,
    energy: str = "energy",
    forces: str | None = "forces",
    stress: str | None = "stress",
    stress_convention: str | None = None,
    weight: str | None = None,
    model: Any = None,
) -> PeerBatches[Batch]:
    """Convert the batches of a loader for ``mace.tools.train`` and ``mace.tools.evaluate``.

    A batch has the arrays of the view ``mace``, ``energy`` (B,) eV, ``forces`` (N, 3) eV/A, ``stress`` (B, 3, 3)
    eV/A^3, positive if the crystal is stretched, and ``virials`` (B, 3, 3), which are zeros. ``weight``,
    ``energy_weight``, ``forces_weight``, ``stress_weight``, ``virials_weight`` and ``head``, which is 0, have the shape
    (B,). As in MACE's own batches, a label that is missing has zeros and the weight 0: forces for all atoms of a
    crystal if one of them has none, and virials always. Floating-point numbers have the type of the view. Fields of
    networks for dipoles, charges, spins or several heads are not there.

    Args:
        loader: the loader of a dataset with the view ``mace``.
        energy: the label with the energy of the cell or per atom, one of the dataset's targets.
        forces: the label of atoms with the forces; None to train without.
        stress: the label with the stress, (3, 3) or (6,), one of the dataset's targets; None to train without.
        stress_convention: ``"ase"``: the stress of a stretched crystal is positive, and six numbers are xx, yy, zz, yz,
            xz, xy. ``"vasp"``: it is negative, and six numbers are xx, yy, zz, xy, yz, zx. Required with ``stress``.
        weight: the label with the weight of each crystal in the loss, one of the dataset's targets. Default: 1 for
            every crystal.
        model: the network; its elements and cutoff are compared with those of the graphs.

    Raises:
        MissingExtra: mace-torch is not installed.
        InputError: the view, an option or the elements of the network do not fit.
        LabelError: a label does not exist, or it is not known what its numbers mean.
        RecipeMismatch: the graphs do not hold every neighbour within the cutoff of the network.

    Source: ``mace.tools.train``, ``mace.modules.loss`` and ``mace.data.AtomicData`` of mace-torch 0.3.

    Example:
        >>> import lazygraph.interop.mace
        >>> def train_loader(loader, model):
        ...     return lazygraph.interop.mace.batches(loader, stress_convention="ase", model=model)
    """
    dataset, spec = checked_dataset(loader, package="mace", distribution="mace-torch", views=("mace",), preset="mace")
    if model is not None:
        numbers = attribute_of(model, "atomic_numbers", "mace-torch")
        check_elements(dataset, tuple(SYMBOLS[int(number)] for number in numbers))
        check_cutoff(spec, float(attribute_of(model, "r_max", "mace-torch")), may_be_larger=True)
    convert = _Train(
        energy_label(dataset, energy),
        None if forces is None else atom_label(dataset, forces, "eV/A", (3,)),
        None if stress is None else stress_label(dataset, stress, stress_convention, "eV/A^3"),
        None if weight is None else crystal_label(dataset, weight),
        real_type(dataset),
    )
    return PeerBatches(loader, convert)
