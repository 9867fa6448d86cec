"""MACE on lazygraph's view gives what it gives on mace-torch's own graphs."""

from __future__ import annotations

import mace.data
import mace.modules
import mace.tools
import numpy as np
import pytest
import torch
from ase.data import chemical_symbols
from e3nn import o3  # after mace: e3nn 0.4.4 cannot be imported before mace makes torch.load trust every file
from mace.tools.torch_geometric.dataloader import DataLoader

import lazygraph as lg

CUTOFF = 5.0


@pytest.fixture(scope="module")
def elements(crystals):
    """The atomic numbers of all crystals, ascending."""
    return sorted({int(number) for crystal in crystals for number in crystal.numbers})


@pytest.fixture(scope="module")
def model(elements):
    torch.manual_seed(0)
    return mace.modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=4,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=mace.modules.RealAgnosticResidualInteractionBlock,
        interaction_cls_first=mace.modules.RealAgnosticResidualInteractionBlock,
        num_interactions=2,
        num_elements=len(elements),
        hidden_irreps=o3.Irreps("4x0e + 4x1o"),
        MLP_irreps=o3.Irreps("4x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.linspace(-1.0, 1.0, len(elements)),
        avg_num_neighbors=50.0,
        atomic_numbers=elements,
        correlation=2,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
        radial_MLP=[8],
    )


@pytest.fixture(scope="module")
def theirs(model, crystals, elements, learn):
    """What the model gives on mace-torch's own graphs."""
    table = mace.tools.AtomicNumberTable(elements)
    configurations = [mace.data.config_from_atoms(crystal.to_ase()) for crystal in crystals]
    made = [mace.data.AtomicData.from_config(each, z_table=table, cutoff=CUTOFF) for each in configurations]
    (batch,) = DataLoader(made, batch_size=len(made))
    return learn(model, computed(model, batch))


def computed(model, batch):
    found = model(batch.to_dict(), training=True, compute_stress=True)
    return {name: found[name] for name in ("energy", "forces", "stress")}


@pytest.fixture
def batch(read, elements):
    return read("mace", lg.view("mace", elements=[chemical_symbols[z] for z in elements], dtype="float64"))


def test_in_training(model, theirs, batch, learn, assert_agree):
    assert_agree(learn(model, computed(model, batch)), theirs)


def test_without_stress_it_takes_the_shifts(model, theirs, batch, assert_agree):
    found = model(batch.to_dict())
    assert_agree(*({name: results[name].detach() for name in ("energy", "forces")} for results in (found, theirs)))
