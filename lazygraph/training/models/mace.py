"""The model MACE from mace-torch, which reads the view ``mace``, and its dataset-dependent hyperparameters."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Linear, SiLU

from lazygraph.crystal import symbols_to_numbers
from lazygraph.errors import InputError, MissingExtra, RecipeMismatch
from lazygraph.graphs.rule import WithinCutoff
from lazygraph.reading.views import View, view
from lazygraph.reading.views.features import elements_of
from lazygraph.training.checks import first_ids
from lazygraph.training.models.radial import mean_over_atoms
from lazygraph.training.option_types import real_number

if TYPE_CHECKING:
    from lazygraph.loading.dataset import LazyGraphDataset

__all__ = ["READS", "Mace", "fit_to", "mace_network"]

COUNTED = 10_000  # graphs that estimate the mean number of neighbours if no column has it
READS = ("node_attrs", "positions", "edge_index", "shifts", "unit_shifts", "cell", "batch", "ptr")
UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


class Mace(torch.nn.Module):
    """The model MACE for intensive properties of a crystal.

    It averages the invariant atom features of all interactions, instead of MACE's own energies, and applies a
    perceptron. It reads the view ``mace`` of graphs of the preset ``mace``, with the same elements.

    Args:
        outputs: number of values to predict per graph.
        elements: symbols of the elements that the model knows; default from the dataset.
        cutoff: cutoff of the edges, A; default from the recipe.
        avg_num_neighbors: divisor of sums over neighbours; default the mean number of neighbours in the dataset.
        channels: number of channels of each irreducible representation of atoms.
        max_L: greatest degree of atom features.
        max_ell: greatest degree of the harmonics of edges.
        correlation: order of the products of neighbour features, one less than the body order.
        num_interactions: number of layers.
        num_bessel: number of radial functions.
        num_polynomial_cutoff: order of the polynomial cutoff of the radial functions.
        radial_MLP: sizes of the hidden layers of the radial perceptron.

    Raises:
        MissingExtra: mace-torch is not installed.

    Source: Batatia et al., NeurIPS 2022, arXiv:2206.07697; the defaults are the published ones of the MACE-MP models'
    medium size (Batatia et al., arXiv:2401.00096), mace-torch 0.3.
    """

    def __init__(
        self,
        outputs: int = 1,
        *,
        elements: Sequence[str],
        cutoff: float,
        avg_num_neighbors: float,
        channels: int = 128,
        max_L: int = 1,  # noqa: N803  # mace-torch's names
        max_ell: int = 3,
        correlation: int = 3,
        num_interactions: int = 2,
        num_bessel: int = 10,
        num_polynomial_cutoff: int = 5,
        radial_MLP: Sequence[int] = (64, 64, 64),  # noqa: N803
    ) -> None:
        super().__init__()
        self.network = mace_network(
            elements=elements,
            cutoff=cutoff,
            avg_num_neighbors=avg_num_neighbors,
            channels=channels,
            max_L=max_L,
            max_ell=max_ell,
            correlation=correlation,
            num_interactions=num_interactions,
            num_bessel=num_bessel,
            num_polynomial_cutoff=num_polynomial_cutoff,
            radial_MLP=radial_MLP,
        )
        # The weights of its energies get no gradient, which is an error in several processes.
        self.network.readouts = torch.nn.ModuleList()
        self._invariants = [channels * (max_L + 1) ** 2 * layer for layer in range(num_interactions)]
        self.channels = channels
        width = channels * num_interactions
        self.readout = torch.nn.Sequential(Linear(width, channels), SiLU(), Linear(channels, outputs))

    def forward(self, batch: Any) -> Tensor:
        """Predict (B, outputs) for a PyG batch of B graphs."""
        found = self.network({name: batch[name] for name in READS}, training=self.training, compute_force=False)
        features: Tensor = found["node_feats"]  # each interaction has scalars first, then features that rotate
        invariants = torch.cat([features[:, first : first + self.channels] for first in self._invariants], dim=1)
        predicted: Tensor = self.readout(mean_over_atoms(invariants, batch))
        return predicted


def mace_network(
    *,
    elements: Sequence[str],
    cutoff: float,
    avg_num_neighbors: float,
    channels: int = 128,
    max_L: int = 1,  # noqa: N803  # mace-torch's names
    max_ell: int = 3,
    correlation: int = 3,
    num_interactions: int = 2,
    num_bessel: int = 10,
    num_polynomial_cutoff: int = 5,
    radial_MLP: Sequence[int] = (64, 64, 64),  # noqa: N803
) -> torch.nn.Module:
    """Return a network ``mace.modules.MACE`` with energies of the elements of 0. :class:`Mace` describes the arguments.

    Raises:
        MissingExtra: mace-torch is not installed.
    """
    modules, o3 = _packages()
    numbers = sorted(symbols_to_numbers(list(elements)).tolist())
    residual = modules.blocks.RealAgnosticResidualInteractionBlock
    hidden = o3.Irreps([(channels, (degree, (-1) ** degree)) for degree in range(max_L + 1)])
    network: torch.nn.Module = modules.MACE(
        r_max=cutoff,
        num_bessel=num_bessel,
        num_polynomial_cutoff=num_polynomial_cutoff,
        max_ell=max_ell,
        interaction_cls=residual,
        interaction_cls_first=residual,
        num_interactions=num_interactions,
        num_elements=len(numbers),
        hidden_irreps=hidden,
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=torch.zeros(len(numbers)).numpy(),
        avg_num_neighbors=avg_num_neighbors,
        atomic_numbers=numbers,
        correlation=correlation,
        gate=torch.nn.functional.silu,
        radial_MLP=list(radial_MLP),
    )
    return network


def _mean_neighbors(dataset: LazyGraphDataset) -> float:
    """Return the mean number of neighbours of an atom; 1 if there are none.

    The columns of the dataset have it. If graphs are built at every read, up to 10,000 spread graphs estimate it.
    """
    if dataset.rebuilds:
        places = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), COUNTED)).astype(np.int64))
        counts = [dataset.fetch(some).records.counts for some in np.split(places, range(64, len(places), 64))]
        edges, atoms = (float(sum(each[axis].sum() for each in counts)) for axis in ("edge", "node"))
    else:
        edges, atoms = (float(dataset.columns[name].sum()) for name in ("n_edges", "n_atoms"))
    return edges / max(atoms, 1.0) or 1.0


def fit_to(dataset: LazyGraphDataset, options: Mapping[str, Any]) -> tuple[View, dict[str, Any]]:
    """Return MACE's view for a dataset, and its hyperparameters, including those that the graphs determine.

    Raises:
        RecipeMismatch: the graphs do not hold every neighbour within a cutoff.
        InputError: the dataset has elements that ``elements`` does not list, or a smaller cutoff than the model.
    """
    spec = dataset.spec
    rule = None if spec is None else spec.rule
    if not isinstance(rule, WithinCutoff) or not rule.is_complete:
        msg = (
            f"the model 'mace' needs every neighbour within a cutoff, but the recipe of the graphs is {spec!r}. Train "
            "with graph='mace', which builds graphs of the preset 'mace' at every read, or write them once: "
            "lazygraph-write OLD.lg -o NEW.lg --graph mace"
        )
        raise RecipeMismatch(msg)
    found = sorted(set(re.findall("[A-Z][a-z]?", "".join(set(dataset.columns["formula"].tolist())))))
    elements = _elements(options["elements"]) if "elements" in options else tuple(found)
    if missing := sorted(set(found) - set(elements)):
        ids = dataset.ids[dataset.columns.operand("elements").any_of(missing)]
        condition = " and ".join(f"'{symbol}' not in elements" for symbol in missing)
        msg = (
            f"{len(ids):,} of the {len(dataset):,} graphs hold {', '.join(missing)} (the first: {first_ids(ids)}), but "
            f"the model has only the elements {', '.join(elements)}; add the others to its option 'elements' "
            "(--model-option), or leave these graphs out: lazygraph subset OLD.lg -o NEW.lg --where "
            f'"{condition}"'
        )
        raise InputError(msg)
    neighbors = options["avg_num_neighbors"] if "avg_num_neighbors" in options else _mean_neighbors(dataset)
    filled: dict[str, Any] = {"cutoff": rule.cutoff, **options, "avg_num_neighbors": neighbors}
    for name in ("cutoff", "avg_num_neighbors"):
        filled[name] = real_number(name, filled[name], above=0)
    if filled["cutoff"] > rule.cutoff:
        msg = (
            f"the model 'mace' has cutoff={filled['cutoff']:g}, but the graphs have only neighbours up to "
            f"{rule.cutoff:g} A. Leave the cutoff out, or write graphs with a larger one: lazygraph-write OLD.lg -o "
            f"NEW.lg --graph mace --cutoff {filled['cutoff']:g}"
        )
        raise InputError(msg)
    return view("mace", elements=elements), filled | {"elements": list(elements)}


def _elements(given: Any) -> tuple[str, ...]:
    """Check the option ``elements`` and return its symbols."""
    if not isinstance(given, (list, tuple)) or not all(isinstance(symbol, str) for symbol in given):
        msg = (
            f"found elements={given!r} of the model 'mace'; required: a list of symbols, as in ['Cu', 'O'] "
            """(--model-option 'elements=["Cu", "O"]'). Without it, the model has the elements of the dataset"""
        )
        raise InputError(msg)
    return elements_of(given)


def _packages() -> tuple[Any, Any]:
    """Return ``mace.modules`` and ``e3nn.o3``."""
    before = os.environ.get(UNSAFE)
    try:
        # In this order: e3nn 0.4.4 cannot be imported before mace, which prints what it does not find.
        with redirect_stdout(sys.stderr):
            return importlib.import_module("mace.modules"), importlib.import_module("e3nn.o3")
    except ModuleNotFoundError as error:
        msg = f"the model 'mace' needs mace-torch, which is not installed ({error}): pip install 'lazygraph[interop]'"
        raise MissingExtra(msg) from error
    finally:
        # Importing mace lets torch.load run the code in any file from then on, which must not happen.
        if before is None:
            os.environ.pop(UNSAFE, None)
        else:
            os.environ[UNSAFE] = before
