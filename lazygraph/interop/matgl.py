"""Batches for the Lightning modules of matgl 4: ``PotentialLightningModule`` and ``ModelLightningModule``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lazygraph.errors import InputError, LabelError, RecipeMismatch
from lazygraph.graphs.angles import Triplets
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

if TYPE_CHECKING:
    from torch_geometric.data import Batch

    from lazygraph.graphs.spec import GraphSpec
    from lazygraph.loading.loader import Loader
    from lazygraph.loading.mixing import LoadableDataset

__all__ = ["batches", "property_batches"]

LINE_GRAPH = ("line_edge_index", "n_triple_ij", "kept_edge_ids")
VIEWS = ("m3gnet", "megnet", "matgl-chgnet")


@dataclass(frozen=True, slots=True)
class _Graphs:
    """The first elements of both tuples."""

    line_graph: bool

    def __call__(self, batch: Batch) -> tuple[Any, ...]:
        line_graph = ({name: batch[name] for name in LINE_GRAPH},) if self.line_graph else ()
        return batch, batch.lattice, *line_graph, batch.state_attr


@dataclass(frozen=True, slots=True)
class _Potential:
    """Converts a batch for ``PotentialLightningModule.step``."""

    graphs: _Graphs
    energy: Energy
    forces: AtomLabel
    stress: Stress | None
    of_sites: tuple[AtomLabel, ...]
    magmoms: bool
    dtype: torch.dtype

    def __call__(self, batch: Batch) -> tuple[Any, ...]:
        energies, forces = self.energy.total(batch).to(self.dtype), self.forces(batch)
        if self.stress is None:
            # One number that no step without stresses reads. A module with a stress_weight refuses its shape; zeros
            # for every crystal it might take for stresses.
            stresses = forces.new_full((1,), torch.nan)
        else:
            stresses = self.stress(batch).reshape(-1, 3).to(self.dtype)
        sites = [label(batch).reshape(-1, 1) if self.magmoms else label(batch).reshape(-1) for label in self.of_sites]
        return *self.graphs(batch), energies, forces, stresses, *sites


@dataclass(frozen=True, slots=True)
class _Property:
    """Converts a batch for ``ModelLightningModule.step``."""

    graphs: _Graphs
    label: CrystalLabel
    dtype: torch.dtype

    def __call__(self, batch: Batch) -> tuple[Any, ...]:
        return *self.graphs(batch), self.label(batch).to(self.dtype)


def batches(
    loader: Loader,
    *,
    energy: str = "energy",
    forces: str = "forces",
    stress: str | None = "stress",
    stress_convention: str | None = None,
    magmoms: str | None = None,
    charges: str | None = None,
    include_line_graph: bool = False,
    model: Any = None,
) -> PeerBatches[tuple[Any, ...]]:
    """Convert the batches of a loader for matgl's ``PotentialLightningModule``.

    A batch is the tuple (graph, lattices (B, 3, 3) in A, line graph if wanted, state (B, 2), energies (B,) in eV,
    forces (N, 3) in eV/A, stresses (3B, 3) in GPa, magnetic moments (N, 1) in mu_B or charges (N,) in e if wanted).
    Floating-point numbers have the type of the view. A missing value is NaN, which needs
    ``PotentialLightningModule(allow_missing_labels=True)``.

    Args:
        loader: the loader of a dataset with the view ``m3gnet``, ``megnet`` or ``matgl-chgnet``.
        energy: the label with the energy of the cell or per atom, one of the dataset's targets.
        forces: the label of atoms with the forces.
        stress: the label with the stress, (3, 3) or (6,), one of the dataset's targets; None for training with
            ``stress_weight=0``.
        stress_convention: ``"ase"``: the stress of a stretched crystal is positive, and six numbers are xx, yy, zz, yz,
            xz, xy. ``"vasp"``: it is negative, and six numbers are xx, yy, zz, xy, yz, zx. Required with ``stress``.
        magmoms: the label of atoms with magnetic moments, for a module with a ``magmom_weight``.
        charges: the label of atoms with charges, for a module with a ``charge_weight``.
        include_line_graph: whether the tuple has the line graph, as in ``PotentialLightningModule``. It needs the view
            ``m3gnet``. Without it, the network makes the line graph itself.
        model: the network, its ``Potential`` or its Lightning module; its elements and cutoffs are compared with those
            of the graphs.

    Raises:
        MissingExtra: matgl is not installed.
        InputError: the view, an option or the elements of the network do not fit.
        LabelError: a label does not exist, or it is not known what its numbers mean.
        RecipeMismatch: the graphs have other cutoffs than the network.

    Source: ``PotentialLightningModule.step`` and ``collate_fn_pes`` of matgl 4.1.

    Example:
        >>> import lazygraph.interop.matgl
        >>> def train(loader, trainer, module):
        ...     trainer.fit(module, lazygraph.interop.matgl.batches(loader, stress=None))
    """
    dataset, graphs = _checked(loader, model, include_line_graph=include_line_graph)
    if magmoms is not None and charges is not None:
        raise InputError("matgl's batches have magnetic moments or charges, not both; leave one of them out")
    sites = magmoms or charges
    convert = _Potential(
        graphs,
        energy_label(dataset, energy),
        atom_label(dataset, forces, "eV/A", (3,)),
        None if stress is None else stress_label(dataset, stress, stress_convention, "GPa"),
        () if sites is None else (atom_label(dataset, sites, "mu_B" if magmoms else "e", ()),),
        magmoms is not None,
        real_type(dataset),
    )
    return PeerBatches(loader, convert)


def property_batches(
    loader: Loader, target: str, *, include_line_graph: bool = False, model: Any = None
) -> PeerBatches[tuple[Any, ...]]:
    """Convert the batches of a loader for matgl's ``ModelLightningModule``.

    A batch is the tuple (graph, lattices (B, 3, 3) in A, line graph if wanted, state (B, 2), labels). Labels have the
    shape (B,), or (B, k) for a label of k numbers, the unit of the dataset, and the type of the view.

    Args:
        loader: the loader of a dataset with the view ``m3gnet``, ``megnet`` or ``matgl-chgnet``.
        target: the label, one of the dataset's targets. No graph of the loader may lack it.
        include_line_graph: whether the tuple has the line graph, as in ``ModelLightningModule``. It needs the view
            ``m3gnet``.
        model: the network or its Lightning module; its elements and cutoffs are compared with those of the graphs.

    Raises:
        MissingExtra: matgl is not installed.
        InputError: the view, an option or the elements of the network do not fit.
        LabelError: the label does not exist, or values are missing.
        RecipeMismatch: the graphs have other cutoffs than the network.

    Source: ``ModelLightningModule.step`` and ``collate_fn_graph`` of matgl 4.1.
    """
    dataset, graphs = _checked(loader, model, include_line_graph=include_line_graph)
    label = crystal_label(dataset, target)
    values = dataset.columns[target].astype(np.float64).reshape(len(dataset), -1)
    if missing := int(np.isnan(values).any(axis=1).sum()):
        msg = (
            f"{missing:,} of {len(dataset):,} graphs have no {target!r}, and ModelLightningModule needs it for every "
            f"graph; leave them out: dataset.where('not isnan({target})')"
        )
        raise LabelError(msg)
    return PeerBatches(loader, _Property(graphs, label, real_type(dataset)))


def _checked(loader: Any, model: Any, *, include_line_graph: bool) -> tuple[LoadableDataset, _Graphs]:
    """Return the dataset of a loader, and the conversion of its graphs."""
    dataset, spec = checked_dataset(loader, package="matgl", distribution="matgl", views=VIEWS, preset="m3gnet")
    if include_line_graph and dataset.view.name != "m3gnet":
        msg = (
            f"include_line_graph=True needs the view 'm3gnet', and {dataset.path} is opened with the view "
            f"{dataset.view.name!r}; open it with view='m3gnet' and graph='m3gnet', or leave include_line_graph out"
        )
        raise InputError(msg)
    if model is not None:
        _check_model(dataset, spec, model)
    return dataset, _Graphs(include_line_graph)


def _check_model(dataset: LoadableDataset, spec: GraphSpec, model: Any) -> None:
    """Compare a network with the graphs; a module or a potential holds the network in ``model``."""
    while not hasattr(model, "element_types") and hasattr(model, "model"):
        model = model.model
    check_elements(dataset, tuple(attribute_of(model, "element_types", "matgl")))
    check_cutoff(spec, float(attribute_of(model, "cutoff", "matgl")))
    angles, cutoff = spec.angles, getattr(model, "threebody_cutoff", None)
    if cutoff is not None and isinstance(angles, Triplets) and angles.threebody_cutoff != cutoff:
        msg = (
            f"the network has threebody_cutoff={cutoff:g}, and the recipe of the graphs is {spec!r}; open the dataset "
            f"with graph=lazygraph.graph('m3gnet', threebody_cutoff={cutoff:g}), or make the network with the cutoff "
            "of the graphs"
        )
        raise RecipeMismatch(msg)
