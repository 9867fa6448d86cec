"""Batches for the ``Trainer`` of chgnet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lazygraph.errors import RecipeMismatch
from lazygraph.extras import require
from lazygraph.graphs.angles import BondGraph
from lazygraph.graphs.rule import WithinCutoff
from lazygraph.interop.labels import AtomLabel, Energy, Stress, atom_label, energy_label, real_type, stress_label
from lazygraph.interop.peer_batches import PeerBatches, attribute_of, check_cutoff, checked_dataset

if TYPE_CHECKING:
    from torch_geometric.data import Batch

    from lazygraph.graphs.spec import GraphSpec
    from lazygraph.loading.loader import Loader

__all__ = ["batches", "crystal_graphs", "cutoffs_of"]


@dataclass(frozen=True, slots=True)
class _Trainer:
    """Converts a batch into graphs and targets."""

    cutoffs: dict[str, float]
    energy: Energy
    forces: AtomLabel | None
    stress: Stress | None
    magmoms: AtomLabel | None
    dtype: torch.dtype

    def __call__(self, batch: Batch) -> tuple[list[Any], dict[str, Any]]:
        graphs = crystal_graphs(batch, self.cutoffs)
        targets: dict[str, Any] = {"e": self.energy.per_atom(batch).to(self.dtype)}
        sizes = batch.ptr.diff().tolist()
        if self.forces is not None:
            targets["f"] = list(torch.split(self.forces(batch), sizes))
        if self.stress is not None:
            targets["s"] = list(self.stress(batch).to(self.dtype).unbind())
        if self.magmoms is not None:
            targets["m"] = [_or_none(own) for own in torch.split(self.magmoms(batch).abs(), sizes)]
        return graphs, targets


def crystal_graphs(batch: Batch, cutoffs: Mapping[str, float]) -> list[Any]:
    """Return the ``CrystalGraph`` of every crystal of a batch.

    Args:
        batch: a batch of the view ``chgnet``.
        cutoffs: what :func:`cutoffs_of` returns for its recipe.

    Raises:
        MissingExtra: chgnet is not installed.
    """
    crystal_graph = require("chgnet.graph", "interop", "batches for chgnet").CrystalGraph
    return [
        crystal_graph(**arrays, graph_id=own_id, mp_id=own_id, **cutoffs)
        for own_id, arrays in zip(batch.id, _single_graphs(batch), strict=True)
    ]


def _single_graphs(batch: Batch) -> list[dict[str, Tensor]]:
    """Split the arrays of a batch, and number the atoms and edges of each graph from 0.

    PyG's ``to_data_list`` does the same in several times the time.
    """
    n = batch.num_graphs
    edge_graph, angle_graph = (batch.batch[batch[name][:, 0]] for name in ("atom_graph", "bond_graph"))
    atoms, edges, angles = (
        batch.ptr.diff(),
        torch.bincount(edge_graph, minlength=n),
        torch.bincount(angle_graph, minlength=n),
    )
    pairs, pair_graph = edges // 2, edge_graph[batch.undirected2directed]
    first_atom, first_edge, first_pair = (
        (count.cumsum(0) - count).to(torch.int32)[:, None] for count in (atoms, edges, pairs)
    )
    of_bonds = torch.cat([first_atom, first_pair, first_edge, first_pair, first_edge], dim=1)
    arrays = {
        "atomic_number": (batch.atomic_number, atoms),
        "atom_frac_coord": (batch.atom_frac_coord.detach(), atoms),
        "atom_graph": (batch.atom_graph - first_atom[edge_graph], edges),
        "neighbor_image": (batch.neighbor_image, edges),
        "directed2undirected": (batch.directed2undirected - first_pair[edge_graph, 0], edges),
        "undirected2directed": (batch.undirected2directed - first_edge[pair_graph, 0], pairs),
        "bond_graph": (batch.bond_graph - of_bonds[angle_graph], angles),
    }
    split = {name: torch.split(values, counts.tolist()) for name, (values, counts) in arrays.items()}
    split["lattice"] = batch.lattice.unbind()
    # As in chgnet's own graphs. Without stress, nothing else has a gradient from which forces could be derived.
    split["atom_frac_coord"] = tuple(own.requires_grad_() for own in split["atom_frac_coord"])
    return [dict(zip(split, single, strict=True)) for single in zip(*split.values(), strict=True)]


def _or_none(magmoms: Tensor) -> Tensor | None:
    """The magnetic moments of a crystal; None if one is missing."""
    return None if bool(magmoms.isnan().any()) else magmoms


def batches(
    loader: Loader,
    *,
    energy: str = "energy",
    forces: str | None = "forces",
    stress: str | None = "stress",
    stress_convention: str | None = None,
    magmoms: str | None = None,
    model: Any = None,
) -> PeerBatches[tuple[list[Any], dict[str, Any]]]:
    """Convert the batches of a loader for the ``Trainer`` of chgnet.

    A batch is a list of ``CrystalGraph`` and a dictionary of targets: ``e`` (B,) eV/atom; lists with a tensor for each
    crystal of ``f`` (n, 3) eV/A, ``s`` (3, 3) GPa, positive if the crystal is stretched, and ``m`` (n,) absolute values
    in mu_B. Floating-point numbers have the type of the view. A missing value is NaN, and None for the magnetic moments
    of a crystal; ``Trainer`` leaves both out of the loss unless ``allow_missing_labels=False``.

    Args:
        loader: the loader of a dataset with the view ``chgnet``.
        energy: the label with the energy of the cell or per atom, one of the dataset's targets.
        forces: the label of atoms with the forces; None for ``Trainer(targets="e")``.
        stress: the label with the stress, (3, 3) or (6,), one of the dataset's targets; None for
            ``Trainer(targets="ef")``.
        stress_convention: ``"ase"``: the stress of a stretched crystal is positive, and six numbers are xx, yy, zz, yz,
            xz, xy. ``"vasp"``: it is negative, and six numbers are xx, yy, zz, xy, yz, zx. Required with ``stress``.
        magmoms: the label of atoms with magnetic moments, for ``Trainer(targets="efsm")``.
        model: the ``CHGNet``; its cutoffs are compared with those of the graphs.

    Raises:
        MissingExtra: chgnet is not installed.
        InputError: the view or an option does not fit.
        LabelError: a label does not exist, or it is not known what its numbers mean.
        RecipeMismatch: the graphs have other cutoffs than the network.

    Source: ``Trainer`` and ``StructureData`` of chgnet 0.4.

    Example:
        >>> import lazygraph.interop.chgnet
        >>> def train(trainer, loader, validation):
        ...     of = lazygraph.interop.chgnet.batches
        ...     trainer.train(of(loader, stress=None), of(validation, stress=None))
    """
    dataset, spec = checked_dataset(loader, package="chgnet", distribution="chgnet", views=("chgnet",), preset="chgnet")
    cutoffs = cutoffs_of(spec)
    if model is not None:
        wanted = attribute_of(model, "graph_converter", "chgnet")
        check_cutoff(spec, float(wanted.atom_graph_cutoff))
        if cutoffs["bond_graph_cutoff"] != wanted.bond_graph_cutoff:
            msg = (
                f"the network has bond_graph_cutoff={wanted.bond_graph_cutoff:g}, and the recipe of the graphs is "
                f"{spec!r}; open the dataset with graph=lazygraph.graph('chgnet', bond_cutoff="
                f"{wanted.bond_graph_cutoff:g}), or make the network with the cutoff of the graphs"
            )
            raise RecipeMismatch(msg)
    convert = _Trainer(
        cutoffs,
        energy_label(dataset, energy),
        None if forces is None else atom_label(dataset, forces, "eV/A", (3,)),
        None if stress is None else stress_label(dataset, stress, stress_convention, "GPa"),
        None if magmoms is None else atom_label(dataset, magmoms, "mu_B", ()),
        real_type(dataset),
    )
    return PeerBatches(loader, convert)


def cutoffs_of(spec: GraphSpec) -> dict[str, float]:
    """Return the cutoffs of the graphs, A, as ``CrystalGraph`` names them.

    Raises:
        RecipeMismatch: the graphs are not those of chgnet.
    """
    if not isinstance(spec.rule, WithinCutoff) or not isinstance(spec.angles, BondGraph):
        msg = (
            f"chgnet takes graphs of the preset 'chgnet', but the recipe of the graphs is {spec!r}; open the dataset "
            "with graph='chgnet'"
        )
        raise RecipeMismatch(msg)
    return {"atom_graph_cutoff": spec.rule.cutoff, "bond_graph_cutoff": spec.angles.bond_cutoff}
