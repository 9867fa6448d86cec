"""chgnet's own trainer learns from lazygraph's batches, which are those of chgnet's own datasets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from chgnet.data.dataset import StructureData, collate_graphs
from chgnet.model import CHGNet
from chgnet.trainer import Trainer

import lazygraph as lg
from lazygraph.interop.chgnet import batches
from tests.interop.peers import matrix, sorted_edges
from tests.real import existing

pytestmark = pytest.mark.usefixtures("single_precision")


@pytest.fixture
def network():
    torch.manual_seed(0)
    sizes = {"atom_fea_dim": 8, "bond_fea_dim": 8, "angle_fea_dim": 8, "mlp_hidden_dims": (8, 8)}
    return CHGNet(**sizes, atom_conv_hidden_dim=8, bond_conv_hidden_dim=8)


@pytest.fixture
def dataset(write_labelled):
    path = write_labelled("chgnet")
    return lg.LazyGraphDataset(path, view="chgnet", target=["energy", "stress"], target_dtype="float64")


class Losses:
    """The criterion of a trainer, which keeps the losses of the training."""

    def __init__(self, criterion):
        self.criterion, self.of_training = criterion, []

    def __call__(self, targets, prediction):
        found = self.criterion(targets, prediction)
        self.of_training.append(float(found["loss"].detach()))
        return found


def test_the_trainer_learns_energies_forces_and_stresses(dataset, network, tmp_path):
    loader = lg.loader(dataset, 4, shuffle=True)
    options = {"stress_convention": "vasp", "model": network}
    train, validation = (batches(each, **options) for each in (loader, loader.evaluation(dataset)))
    trainer = Trainer(network, targets="efs", epochs=3, learning_rate=1e-2, use_device="cpu")
    trainer.criterion = losses = Losses(trainer.criterion)
    trainer.train(train, validation, save_dir=str(tmp_path), train_composition_model=True)
    steps = len(train) + len(validation)
    first, second, third = (sum(losses.of_training[k * steps : k * steps + len(train)]) for k in range(3))
    assert first > second > third
    for history in trainer.training_history.values():
        assert len(history["train"]) == len(history["val"]) == 3
    energies = trainer.training_history["e"]
    assert energies["train"][0] > energies["train"][2]
    assert energies["val"][0] > energies["val"][2]


@pytest.fixture
def own(labelled, structures):
    """What chgnet's own dataset collates: it takes the numbers of VASP."""
    labels = [label for *_, label in labelled]
    data = StructureData(
        structures,
        energies=[label["energy"] / len(structure) for label, structure in zip(labels, structures, strict=True)],
        forces=[label["forces"] for label in labels],
        stresses=[matrix(label["stress"]) for label in labels],
        structure_ids=[name for name, *_ in labelled],
        shuffle=False,
    )
    return collate_graphs([data[k] for k in range(len(data))])


def edges_of(graph):
    return sorted_edges(graph.atom_graph.T, graph.neighbor_image.detach(), graph.directed2undirected)


def bonds_of(graph):
    """The pairs of directed edges as (atom, cell) of each neighbour, sorted; and that both ids of an edge agree."""
    rows = graph.bond_graph
    for undirected, directed in ((1, 2), (3, 4)):
        assert torch.equal(graph.directed2undirected[rows[:, directed]], rows[:, undirected])
    ends = torch.column_stack([graph.atom_graph, graph.neighbor_image.detach().to(torch.int32)])
    pairs = torch.column_stack([rows[:, 0], ends[rows[:, 2]], ends[rows[:, 4]]])
    return torch.unique(pairs, dim=0), len(pairs)


def test_a_batch_is_that_of_chgnet(own, dataset):
    (ours,) = batches(lg.loader(dataset, len(dataset)), stress_convention="vasp")
    (graphs, targets), (their_graphs, their_targets) = ours, own
    assert len(graphs) == len(their_graphs)
    for mine, theirs in zip(graphs, their_graphs, strict=True):
        for name in ("atomic_number", "atom_frac_coord", "lattice"):
            torch.testing.assert_close(getattr(mine, name), getattr(theirs, name).detach())
        for name in ("mp_id", "atom_graph_cutoff", "bond_graph_cutoff"):
            assert getattr(mine, name) == getattr(theirs, name)
        (ends, pair), (their_ends, their_pair) = edges_of(mine), edges_of(theirs)
        assert torch.equal(ends, their_ends)
        # each numbers undirected edges in its own order
        assert torch.equal(torch.unique(torch.column_stack([pair, their_pair]), dim=0)[:, 0], torch.unique(pair))
        (bonds, n_bonds), (their_bonds, their_n_bonds) = bonds_of(mine), bonds_of(theirs)
        assert n_bonds == their_n_bonds
        assert torch.equal(bonds, their_bonds)
        for name in vars(theirs).keys() - {"composition", "graph_id", "mp_id"}:
            assert getattr(getattr(mine, name), "dtype", None) == getattr(getattr(theirs, name), "dtype", None)
    assert targets.keys() == their_targets.keys()
    for name, values in their_targets.items():
        assert type(targets[name]) is type(values)
        for mine, theirs in zip(targets[name], values, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=2e-7, atol=1e-8)  # one unit in the last place


def test_the_trainer_learns_forces_without_stress(dataset, network, tmp_path):
    train = batches(lg.loader(dataset, 4), stress=None, model=network)
    trainer = Trainer(network, targets="ef", epochs=1, learning_rate=1e-2, use_device="cpu")
    trainer.train(train, train, save_dir=str(tmp_path), train_composition_model=True)
    assert trainer.training_history["f"]["train"][0] > 0


def test_magnetic_moments_of_real_crystals(network, tmp_path):
    source = str(existing("extxyz/10_mp_traj_systems.ase.db"))
    lg.write(source, tmp_path / "mp.lg", graph="chgnet", per={"energy": "cell"}, workers=1, progress=False)
    ds = lg.LazyGraphDataset(tmp_path / "mp.lg", view="chgnet", target=["energy", "stress"])
    small = ds.where("n_atoms < 40")
    assert len(small) >= 2
    loader = lg.loader(small, 2, shuffle=True)
    train = batches(loader, stress_convention="ase", magmoms="magmoms")
    for _, targets in train:
        assert all((magmoms >= 0).all() for magmoms in targets["m"] if magmoms is not None)
    trainer = Trainer(network, targets="efsm", epochs=1, learning_rate=1e-3, use_device="cpu")
    trainer.train(train, train, save_dir=str(tmp_path / "run"), train_composition_model=True)
    assert trainer.training_history["m"]["train"][0] > 0


def test_missing_values_are_left_out_by_chgnet(labelled, network, tmp_path):
    some = []
    for k, (name, atoms, labels) in enumerate(labelled[:3]):
        magmoms = -np.arange(float(len(atoms["elements"])))
        magmoms[0] = np.nan if k else 0.5
        some.append((name, atoms, labels | {"energy": np.nan if k == 1 else -60.0, "magmoms": magmoms}))
    units = {"energy": "eV", "forces": "eV/A", "stress": "kbar", "magmoms": "mu_B"}
    lg.write(some, tmp_path / "s.lg", graph="chgnet", units=units, per={"energy": "cell"}, workers=1, progress=False)
    ds = lg.LazyGraphDataset(tmp_path / "s.lg", view="chgnet", target="energy")
    ((graphs, targets),) = batches(lg.loader(ds), stress=None, magmoms="magmoms")
    assert targets["e"].isnan().tolist() == [False, True, False]
    assert targets["m"][1:] == [None, None]
    np.testing.assert_array_equal(targets["m"][0], [0.5, *range(1, len(graphs[0].atomic_number))])
    trainer = Trainer(network, targets="efsm", use_device="cpu")
    found = trainer.criterion(targets | {"s": [torch.zeros(3, 3)] * 3}, network(graphs, task="efsm"))
    assert np.isfinite(float(found["loss"]))


def test_a_network_that_does_not_fit_the_graphs_is_refused(dataset):
    loader = lg.loader(dataset)
    for changed, message in (
        ({"atom_graph_cutoff": 5}, r"every neighbour within 5 A, but the recipe.*graph\(..., cutoff=5\)"),
        ({"bond_graph_cutoff": 2}, r"bond_graph_cutoff=2, and the recipe.*bond_cutoff=2\)"),
    ):
        with pytest.raises(lg.RecipeMismatch, match=message):
            batches(loader, stress=None, model=CHGNet(**changed))
