"""MACE's own training loop learns from lazygraph's batches, which are those of MACE's own data."""

from __future__ import annotations

import mace.data
import mace.modules
import mace.tools
import numpy as np
import pytest
import torch
from e3nn import o3  # after mace: e3nn 0.4.4 cannot be imported before mace makes torch.load trust every file
from mace.tools.torch_geometric.dataloader import DataLoader

import lazygraph as lg
from lazygraph.interop.mace import batches
from tests.interop.peers import matrix, sorted_edges

pytestmark = pytest.mark.usefixtures("single_precision")
CUTOFF = 5.0
VIEW = lg.view("mace", elements=["Si", "Ge"])
KEYS = mace.data.KeySpecification.from_defaults()  # REF_energy, REF_forces, REF_stress, REF_virials, ...
# What MACE's own batches have besides, for networks of dipoles, charges, spins and external fields.
OTHERS = {
    "charges",
    "charges_weight",
    "density_coefficients",
    "dipole",
    "dipole_weight",
    "elec_temp",
    "external_field",
    "fermi_level",
    "polarizability",
    "polarizability_weight",
    "rcell",
    "total_charge",
    "total_spin",
    "volume",
}


@pytest.fixture
def network():
    return made()


def made(**changed):
    torch.manual_seed(0)
    block = mace.modules.RealAgnosticResidualInteractionBlock
    options = {
        "r_max": CUTOFF,
        "num_bessel": 4,
        "num_polynomial_cutoff": 5,
        "max_ell": 2,
        "interaction_cls": block,
        "interaction_cls_first": block,
        "num_interactions": 2,
        "num_elements": 2,
        "hidden_irreps": o3.Irreps("4x0e + 4x1o"),
        "MLP_irreps": o3.Irreps("4x0e"),
        "gate": torch.nn.functional.silu,
        "atomic_energies": np.array([-5.0, -4.5]),
        "avg_num_neighbors": 50.0,
        "atomic_numbers": [14, 32],
        "correlation": 2,
        "atomic_inter_scale": 1.0,
        "atomic_inter_shift": 0.0,
        "radial_MLP": [8],
    }
    return mace.modules.ScaleShiftMACE(**options | changed)


@pytest.fixture
def dataset(write_labelled):
    path = write_labelled("mace")
    return lg.LazyGraphDataset(path, view=VIEW, target=["energy", "stress"], target_dtype="float64")


class Log:
    """The logger of a training, which keeps what it is told."""

    def __init__(self):
        self.told = []

    def log(self, told):
        self.told.append(dict(told))

    def of(self, mode):
        return [entry for entry in self.told if entry["mode"] == mode]


def test_the_training_loop_learns_energies_forces_and_stresses(dataset, network, tmp_path):
    loader = lg.loader(dataset, 4, shuffle=True)
    options = {"stress_convention": "vasp", "model": network}
    train, validation = (batches(each, **options) for each in (loader, loader.evaluation(dataset)))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    log, outputs = Log(), {"energy": True, "forces": True, "virials": True, "stress": True, "dipoles": False}
    mace.tools.train(
        model=network,
        loss_fn=mace.modules.WeightedEnergyForcesStressLoss(energy_weight=1.0, forces_weight=1.0, stress_weight=1.0),
        train_loader=train,
        valid_loaders={"Default": validation},
        optimizer=optimizer,
        lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
        start_epoch=0,
        max_num_epochs=3,
        patience=10,
        checkpoint_handler=mace.tools.CheckpointHandler(directory=str(tmp_path), tag="run", keep=False),
        logger=log,
        eval_interval=1,
        output_args=outputs,
        device=torch.device("cpu"),
        log_errors="PerAtomRMSEstressvirials",
    )
    losses = [entry["loss"] for entry in log.of("eval")]  # before the training, and after each epoch
    assert len(losses) == 4
    assert losses == sorted(losses, reverse=True)
    assert log.of("eval")[-1]["rmse_e_per_atom"] < log.of("eval")[0]["rmse_e_per_atom"]
    assert log.of("eval")[-1]["rmse_stress"] > 0
    assert "rmse_virials" not in log.of("eval")[-1]  # which have the weight 0
    assert len(log.of("opt")) == 3 * len(train)


@pytest.fixture
def own(labelled, structures):
    """MACE's own batch; its stress is positive where a crystal is stretched, in eV/A^3."""
    made = []
    for structure, (*_, label) in zip(structures, labelled, strict=True):
        atoms = structure.to_ase_atoms()
        atoms.info |= {"REF_energy": label["energy"], "REF_stress": matrix(label["stress"]) * -0.1 / 160.2176634}
        atoms.arrays["REF_forces"] = label["forces"]
        made.append(mace.data.config_from_atoms(atoms, key_specification=KEYS))
    return batched(made)


def batched(configurations):
    table = mace.tools.AtomicNumberTable([14, 32])
    made = [mace.data.AtomicData.from_config(each, z_table=table, cutoff=CUTOFF) for each in configurations]
    (batch,) = DataLoader(made, batch_size=len(made))
    return batch


def assert_same(ours, theirs):
    """The same atoms and labels in the same order, and the same edges in any order."""
    assert set(theirs.keys) - set(ours.keys()) == OTHERS
    assert set(ours.keys()) <= set(theirs.keys)
    edges = ("edge_index", "unit_shifts", "shifts")
    (mine, shifts), (their, their_shifts) = (sorted_edges(*(each[name] for name in edges)) for each in (ours, theirs))
    assert torch.equal(mine, their)
    torch.testing.assert_close(shifts, their_shifts)
    for name in sorted(set(ours.keys()) - set(edges)):
        # one unit in the last place; of positions, which are sums of three products, of the largest product
        atol = 2e-6 if name == "positions" else 0.0
        torch.testing.assert_close(
            ours[name], theirs[name], rtol=2e-7, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert ours.num_graphs == theirs.num_graphs


def test_a_batch_is_that_of_mace(own, dataset):
    (ours,) = batches(lg.loader(dataset, len(dataset)), stress_convention="vasp")
    assert_same(ours, own)


def test_missing_labels_have_the_weight_zero_as_in_mace(labelled, structures, tmp_path):
    """Of three crystals, the first lacks the energy, the second a force, the third the stress."""
    some, configurations = [], []
    for k, ((name, atoms, labels), structure) in enumerate(zip(labelled[:3], structures[:3], strict=True)):
        forces = labels["forces"].copy()
        forces[1] = np.nan if k == 1 else forces[1]
        energy, stress = (labels["energy"] if k else np.nan), (labels["stress"] if k < 2 else [np.nan] * 6)
        weight = 0.5 + k
        some.append((name, atoms, {"energy": energy, "forces": forces, "stress": stress, "weight": weight}))
        as_ase = structure.to_ase_atoms()
        as_ase.info["config_weight"] = weight
        if k != 0:
            as_ase.info["REF_energy"] = labels["energy"]
        if k != 1:
            as_ase.arrays["REF_forces"] = labels["forces"]
        if k != 2:
            as_ase.info["REF_stress"] = matrix(labels["stress"]) * -0.1 / 160.2176634
        configurations.append(mace.data.config_from_atoms(as_ase, key_specification=KEYS))
    units = {"energy": "eV", "forces": "eV/A", "stress": "kbar"}
    lg.write(some, tmp_path / "s.lg", graph="mace", units=units, per={"energy": "cell"}, workers=1, progress=False)
    ds = lg.LazyGraphDataset(tmp_path / "s.lg", view=VIEW, target=["weight", "energy", "stress"])
    (ours,) = batches(lg.loader(ds), stress_convention="vasp", weight="weight")
    theirs = batched(configurations)
    assert_same(ours, theirs)
    assert ours.weight.tolist() == [0.5, 1.5, 2.5]


def test_labels_that_are_not_given_have_the_weight_zero(dataset, network):
    (batch,) = batches(lg.loader(dataset, len(dataset)), forces=None, stress=None)
    for name in ("forces", "stress", "virials"):
        assert not batch[name].any()
        assert not batch[f"{name}_weight"].any()
    assert batch.energy_weight.all()


def test_a_network_that_does_not_fit_the_graphs_is_refused(dataset, write_labelled):
    loader = lg.loader(dataset)
    batches(loader, stress=None, model=made(r_max=4.0))  # it ignores longer edges
    for changed, message in (
        ({"r_max": 6.0}, r"every neighbour within 6 A, but the recipe.*graph\(..., cutoff=6\)"),
        (
            {"atomic_numbers": [14, 50]},
            r"the network has the elements Si, Sn, and the view of .* has Si, Ge; open",
        ),
    ):
        with pytest.raises(lg.InputError, match=message):
            batches(loader, stress=None, model=made(**changed))
    shell = lg.LazyGraphDataset(dataset.path, view=VIEW, graph="comformer", target="energy")
    with pytest.raises(lg.RecipeMismatch, match="every neighbour within 5 A, but the recipe"):
        batches(lg.loader(shell), stress=None, model=made())
