"""Interatomic potentials with forces and stresses: MACE of mace-torch, matgl's M3GNet and CHGNet, chgnet's CHGNet."""

from __future__ import annotations

import inspect
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lazygraph.crystal import SYMBOLS, symbols_to_numbers
from lazygraph.errors import InputError, RecipeMismatch
from lazygraph.extras import require
from lazygraph.graphs.angles import BondGraph, Triplets
from lazygraph.graphs.rule import WithinCutoff
from lazygraph.interop.chgnet import crystal_graphs, cutoffs_of
from lazygraph.interop.peer_batches import check_cutoff
from lazygraph.reading.unit_conversion import conversion_factor
from lazygraph.reading.views import View, view
from lazygraph.registry import unknown_name
from lazygraph.training.models.mace import READS, mace_network

if TYPE_CHECKING:
    from torch_geometric.data import Batch

    from lazygraph.graphs.spec import GraphSpec
    from lazygraph.loading.dataset import LazyGraphDataset

__all__ = [
    "ChgnetPotential",
    "Derived",
    "M3GNetPotential",
    "MacePotential",
    "MatglChgnetPotential",
    "Potential",
    "check_hyperparameters",
    "fit_chgnet",
    "fit_m3gnet",
    "fit_m3gnet_of_properties",
    "fit_matgl_chgnet",
]

PRESSURE = conversion_factor("eV/A^3", "GPa") or 0.0
# Hyperparameters that a potential sets itself: what the network predicts, and for which elements.
SET_HERE = frozenset(
    {"element_types", "is_intensive", "ntargets", "num_targets", "task_type", "pooling_operation", "composition_model",
     "version"}
)  # fmt: skip
FURTHER = ("conv_norm", "final_mlp", "mlp_out_bias", "num_heads")  # which chgnet's CHGNet takes without declaring them
LINE_GRAPH = ("line_edge_index", "n_triple_ij", "kept_edge_ids")


class Derived(NamedTuple):
    """Energies of a batch of B crystals with N atoms, and their derivatives."""

    energy: Tensor
    """(B,) eV per cell, without the energies of the elements."""
    forces: Tensor
    """(N, 3) eV/A."""
    stress: Tensor | None
    """(B, 3, 3) GPa, positive if a crystal is stretched; None if it was not wanted."""


class Potential(nn.Module):
    """A network whose forces and stresses are derivatives of its energy.

    The energy of a cell is the sum of ``references`` over its atoms, plus ``scale`` times the energy of the network.
    Both are set from the training graphs, and belong to the weights of a checkpoint. A network in float32 can only tell
    energies apart to seven digits. The references are therefore never added in float32.

    Attributes:
        references: (119,) float64, the energy of an atom by atomic number, eV; NaN for an element without one.
        scale: () float64, the unit of the network's energy, eV.
    """

    references: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("references", torch.zeros(len(SYMBOLS), dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    @abstractmethod
    def numbers(self, batch: Batch) -> Tensor:
        """Return the atomic numbers of a batch, (N,) int64."""

    @abstractmethod
    def derived(self, batch: Batch, *, stress: bool) -> Derived:
        """Return what the network gives for a batch; in training with the graph of the derivatives."""

    def forward(self, batch: Batch, *, stress: bool = False) -> Derived:
        """Return energies without the references, forces, and the stress if it is wanted.

        Args:
            batch: a batch of the view of this network. Its arrays must not be inference tensors.
            stress: whether the stress is needed.
        """
        with torch.enable_grad():
            found = self.derived(batch, stress=stress)
        scale = self.scale.to(found.energy.dtype)
        energy, forces = found.energy * scale, found.forces * scale
        of_cells = None if found.stress is None else found.stress * scale
        if self.training:
            return Derived(energy, forces, of_cells)
        return Derived(energy.detach(), forces.detach(), None if of_cells is None else of_cells.detach())

    def offsets(self, batch: Batch) -> Tensor:
        """Return the sum of the references of each crystal, (B,) float64, eV."""
        of_atoms = self.references[self.numbers(batch)]
        return of_atoms.new_zeros(batch.num_graphs).index_add(0, batch.batch, of_atoms)

    def set_references(self, energies: Mapping[str, float] | None, scale: float) -> None:
        """Set the energy of an atom of each element, and the unit of the network's energy.

        Args:
            energies: symbol -> eV; None for 0 for all elements.
            scale: eV.
        """
        self.scale.fill_(scale)
        if energies is None:
            self.references.zero_()
            return
        self.references.fill_(torch.nan)
        for symbol, energy in energies.items():
            self.references[int(symbols_to_numbers([symbol])[0])] = energy

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements that have a reference."""
        return tuple(SYMBOLS[number] for number in range(1, len(SYMBOLS)) if self.references[number].isfinite())


class MacePotential(Potential):
    """MACE of mace-torch with its own energies, which reads the view ``mace``.

    Args:
        hyperparameters: those of :func:`lazygraph.training.models.mace.mace_network`.

    Raises:
        MissingExtra: mace-torch is not installed.

    Source: Batatia et al., NeurIPS 2022, arXiv:2206.07697; mace-torch 0.3.
    """

    __signature__ = inspect.signature(mace_network)  # which the check of hyperparameters reads

    _numbers: Tensor

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__()
        self.network = mace_network(**hyperparameters)
        numbers = sorted(symbols_to_numbers(list(hyperparameters["elements"])).tolist())
        self.register_buffer("_numbers", torch.tensor(numbers), persistent=False)

    def numbers(self, batch: Batch) -> Tensor:
        """Return the atomic numbers of a batch, (N,) int64."""
        return self._numbers[batch["node_attrs"].argmax(dim=1)]

    def derived(self, batch: Batch, *, stress: bool) -> Derived:
        """Return what the network gives for a batch."""
        # A copy, because MACE makes the positions require gradients in place.
        arrays = {name: batch[name] for name in READS} | {"positions": batch.positions.detach().clone()}
        found = self.network(arrays, training=self.training, compute_force=True, compute_stress=stress)
        return Derived(found["energy"], found["forces"], found["stress"] * PRESSURE if stress else None)


class _Matgl(Potential):
    """A network of matgl in its ``Potential``.

    Args:
        network: the network, with one extensive energy.
        elements: its elements, in its order.
    """

    _numbers: Tensor

    def __init__(self, network: nn.Module, elements: Sequence[str]) -> None:
        super().__init__()
        apps = require("matgl.apps.pes", "interop", "potentials of matgl")
        self.network = apps.Potential(network)
        numbers = torch.from_numpy(symbols_to_numbers(list(elements)).astype(np.int64))
        self.register_buffer("_numbers", numbers, persistent=False)

    def numbers(self, batch: Batch) -> Tensor:
        """Return the atomic numbers of a batch, (N,) int64."""
        return self._numbers[batch.node_type]

    def derived(self, batch: Batch, *, stress: bool) -> Derived:
        """Return what the network gives for a batch."""
        self.network.calc_stresses = stress
        energy, forces, stresses, _ = self._called(batch)
        # matgl keeps the features of the last batch, with which the network cannot be copied for a moving average.
        self.network.model.feature_dict = {}
        return Derived(energy.reshape(-1), forces, stresses.reshape(-1, 3, 3) if stress else None)

    def _called(self, batch: Batch) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self.network(batch, batch.lattice)
        return found


class M3GNetPotential(_Matgl):
    """matgl's M3GNet with one extensive energy, which reads the view ``m3gnet``, including its triplets.

    Args:
        elements: symbols of the elements, in the order of the view.
        cutoff: cutoff of the edges, A; from the recipe.
        threebody_cutoff: cutoff of the edges of triplets, A; from the recipe.
        hyperparameters: other keyword arguments of ``matgl.models.M3GNet``.

    Raises:
        MissingExtra: matgl is not installed.

    Source: Chen and Ong, Nat. Comput. Sci. 2, 718 (2022); matgl 4.
    """

    def __init__(
        self, *, elements: Sequence[str], cutoff: float, threebody_cutoff: float, **hyperparameters: Any
    ) -> None:
        models = require("matgl.models", "interop", "potentials of matgl")
        check_hyperparameters(models.M3GNet, hyperparameters)
        network = models.M3GNet(
            element_types=tuple(elements),
            cutoff=cutoff,
            threebody_cutoff=threebody_cutoff,
            is_intensive=False,
            **hyperparameters,
        )
        super().__init__(network, elements)

    def _called(self, batch: Batch) -> tuple[Tensor, ...]:
        line_graph = {name: batch[name] for name in LINE_GRAPH}
        try:
            found: tuple[Tensor, ...] = self.network(batch, batch.lattice, l_g=line_graph)
        except ValueError:
            # matgl rounds the positions again, and an edge within rounding of the cutoff may change its side.
            return super()._called(batch)
        return found


class MatglChgnetPotential(_Matgl):
    """matgl's CHGNet with one extensive energy, which reads the view ``matgl-chgnet``.

    Args:
        elements: symbols of the elements, in the order of the view.
        cutoff: cutoff of the edges, A; from the recipe.
        threebody_cutoff: cutoff of the bonds that make angles, A.
        hyperparameters: other keyword arguments of ``matgl.models.CHGNet``.

    Raises:
        MissingExtra: matgl is not installed.

    Source: Deng et al., Nat. Mach. Intell. 5, 1031 (2023); matgl 4.
    """

    def __init__(
        self, *, elements: Sequence[str], cutoff: float, threebody_cutoff: float, **hyperparameters: Any
    ) -> None:
        models = require("matgl.models", "interop", "potentials of matgl")
        check_hyperparameters(models.CHGNet, hyperparameters)
        network = models.CHGNet(
            element_types=tuple(elements), cutoff=cutoff, threebody_cutoff=threebody_cutoff, **hyperparameters
        )
        last = network.bond_graph_layers[-1:] if network.use_bond_graph else []
        unused = [network.sitewise_readout, *(layer.conv.edge_update_func for layer in last)]
        if hyperparameters.get("bond_update_hidden_dims") is None:
            unused.append(network.bond_bond_weights)
        _freeze(unused)
        super().__init__(network, elements)


class ChgnetPotential(Potential):
    """CHGNet of chgnet, without its own energies of the elements, which reads the view ``chgnet``.

    Args:
        atom_graph_cutoff: cutoff of the edges, A; from the recipe.
        bond_graph_cutoff: cutoff of the bonds that make angles, A; from the recipe.
        hyperparameters: other keyword arguments of ``chgnet.model.CHGNet``.

    Raises:
        MissingExtra: chgnet is not installed.

    Source: Deng et al., Nat. Mach. Intell. 5, 1031 (2023); chgnet 0.4.
    """

    def __init__(self, *, atom_graph_cutoff: float, bond_graph_cutoff: float, **hyperparameters: Any) -> None:
        super().__init__()
        model = require("chgnet.model.model", "interop", "potentials of chgnet")
        check_hyperparameters(model.CHGNet, hyperparameters, further=FURTHER)
        self._cutoffs = {"atom_graph_cutoff": atom_graph_cutoff, "bond_graph_cutoff": bond_graph_cutoff}
        with redirect_stdout(sys.stderr):  # it prints its size
            self.network = model.CHGNet(composition_model=None, is_intensive=False, **self._cutoffs, **hyperparameters)
        _freeze([self.network.site_wise, *self.network.angle_layers[-1:]])

    def numbers(self, batch: Batch) -> Tensor:
        """Return the atomic numbers of a batch, (N,) int64."""
        return torch.as_tensor(batch.atomic_number).long()

    def derived(self, batch: Batch, *, stress: bool) -> Derived:
        """Return what the network gives for a batch."""
        found = self.network(crystal_graphs(batch, self._cutoffs), task="efs" if stress else "ef")
        if not stress:
            return Derived(found["e"], torch.cat(found["f"]), None)
        # chgnet divides by a volume that is negative if the lattice is left-handed.
        handedness = torch.linalg.det(batch.lattice).sign()[:, None, None]
        return Derived(found["e"], torch.cat(found["f"]), torch.stack(found["s"]) * handedness)


def check_hyperparameters(
    kind: type[nn.Module],
    given: Mapping[str, Any],
    *,
    further: tuple[str, ...] = (),
    set_here: frozenset[str] = SET_HERE,
    use: str = " as a potential",
) -> None:
    """Refuse hyperparameters that a network would ignore.

    Args:
        kind: the class of the network.
        given: the hyperparameters.
        further: names that the class takes without declaring them.
        set_here: names that the model sets itself.
        use: what the network is used as, for the error.

    Raises:
        InputError: a name is unknown, or the model sets it itself.
    """
    parameters = inspect.signature(kind).parameters.values()
    known = {each.name for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD} | set(further)
    if unknown := sorted(set(given) - (known - set_here)):
        what = f"hyperparameter of {kind.__name__}{use}:"
        raise InputError(unknown_name(what, unknown[0], sorted(known - set_here)))


def _freeze(unused: Sequence[nn.Module | None]) -> None:
    """Freeze weights that the energy does not depend on. Without a gradient they are an error in several processes."""
    for module in unused:
        if module is not None:
            module.requires_grad_(requires_grad=False)


def fit_m3gnet(dataset: LazyGraphDataset, options: Mapping[str, Any]) -> tuple[View, dict[str, Any]]:
    """Return the view for a dataset, and the hyperparameters of M3GNet with the cutoffs of the graphs.

    Raises:
        RecipeMismatch: the graphs do not have the neighbours or triplets that the network takes.
        InputError: an option is invalid.
    """
    return _fit_matgl("m3gnet", dataset, _threebody_cutoff(dataset), options)


def fit_m3gnet_of_properties(dataset: LazyGraphDataset, options: Mapping[str, Any]) -> tuple[View, dict[str, Any]]:
    """Return the same for M3GNet without forces, whose elements are the option ``element_types`` of matgl.

    Raises:
        RecipeMismatch: the graphs do not have the neighbours or triplets that the network takes.
        InputError: an option is invalid.
    """
    named = {"elements": options["element_types"]} if "element_types" in options else {}
    seen, filled = _fit_matgl("m3gnet", dataset, _threebody_cutoff(dataset), {**options, **named})
    elements = filled.pop("elements")
    return seen, {**filled, "element_types": elements}


def _threebody_cutoff(dataset: LazyGraphDataset) -> dict[str, float]:
    angles = None if dataset.spec is None else dataset.spec.angles
    if not isinstance(angles, Triplets):
        raise _mismatch("m3gnet", dataset.spec, "m3gnet")
    return {"threebody_cutoff": angles.threebody_cutoff}


def fit_matgl_chgnet(dataset: LazyGraphDataset, options: Mapping[str, Any]) -> tuple[View, dict[str, Any]]:
    """Return the view for a dataset, and the hyperparameters of matgl's CHGNet with the cutoff of the graphs.

    Raises:
        RecipeMismatch: the graphs do not have the neighbours that the network takes.
        InputError: an option is invalid.
    """
    angles = None if dataset.spec is None else dataset.spec.angles
    bonds = {"threebody_cutoff": angles.bond_cutoff if isinstance(angles, BondGraph) else 3.0}
    given = {name: options[name] for name in ("threebody_cutoff",) if name in options}
    return _fit_matgl("matgl-chgnet", dataset, bonds | given, options, preset="chgnet")


def fit_chgnet(dataset: LazyGraphDataset, options: Mapping[str, Any]) -> tuple[View, dict[str, Any]]:
    """Return the view for a dataset, and the hyperparameters of chgnet's CHGNet with the cutoffs of the graphs.

    Raises:
        RecipeMismatch: the graphs are not those of chgnet.
        InputError: an option differs from the graphs.
    """
    spec = dataset.spec
    if spec is None:
        raise _mismatch("chgnet", spec, "chgnet")
    return view("chgnet"), _with_cutoffs("chgnet", cutoffs_of(spec), options)


def _fit_matgl(
    name: str,
    dataset: LazyGraphDataset,
    cutoffs: Mapping[str, float],
    options: Mapping[str, Any],
    preset: str = "m3gnet",
) -> tuple[View, dict[str, Any]]:
    spec = dataset.spec
    rule = None if spec is None else spec.rule
    if spec is None or not isinstance(rule, WithinCutoff):
        raise _mismatch(name, spec, preset)
    check_cutoff(spec, rule.cutoff)
    seen = view(name, elements=options["elements"]) if "elements" in options else view(name)
    filled = _with_cutoffs(name, {"cutoff": rule.cutoff, **cutoffs}, options)
    return seen, filled | {"elements": list(seen.elements)}  # type: ignore[attr-defined]  # of both views


def _with_cutoffs(name: str, cutoffs: Mapping[str, float], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with the cutoffs of the graphs.

    Raises:
        InputError: an option is another cutoff.
    """
    for cutoff, value in cutoffs.items():
        if options.get(cutoff, value) != value:
            msg = (
                f"the model {name!r} has {cutoff}={options[cutoff]!r}, and the graphs have {value:g} A; leave the "
                "option out, or choose graphs with this cutoff (--graph, --graph-option)"
            )
            raise InputError(msg)
    return {**options, **cutoffs}


def _mismatch(name: str, spec: GraphSpec | None, preset: str) -> RecipeMismatch:
    return RecipeMismatch(
        f"the model {name!r} needs graphs of the preset {preset!r}, but the recipe of the graphs is {spec!r}. Train "
        f"with graph={preset!r} (--graph {preset}), which builds them at every read, or write them once: "
        f"lazygraph-write OLD.lg -o NEW.lg --graph {preset}"
    )
