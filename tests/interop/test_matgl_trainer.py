"""matgl's own Lightning modules learn from lazygraph's batches, which are those of matgl's own datasets."""

from __future__ import annotations

import lightning
import matgl
import numpy as np
import pytest
import torch
from matgl.ext.pymatgen import Structure2Graph
from matgl.graph.data import MGLDataset, collate_fn_graph, collate_fn_pes
from matgl.models import M3GNet, MEGNet
from matgl.utils.training import ModelLightningModule, PotentialLightningModule

import lazygraph as lg
from lazygraph.interop.matgl import batches, property_batches
from tests.interop.peers import matrix, sorted_edges

pytestmark = pytest.mark.usefixtures("single_precision")
SMALL = {"dim_node_embedding": 8, "dim_edge_embedding": 8, "units": 8, "nblocks": 2, "is_intensive": False}
LINE_GRAPH = ("line_edge_index", "n_triple_ij", "kept_edge_ids")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return M3GNet(**SMALL)


@pytest.fixture
def loader(write_labelled):
    ds = lg.LazyGraphDataset(write_labelled("m3gnet"), view="m3gnet", target=["energy", "stress"])
    return lg.loader(ds, 4, shuffle=True, seed=3)


class Recorder(lightning.Callback):
    """Keeps the losses of the epochs, and the energies of the batches in their order."""

    def __init__(self):
        self.losses, self.energies = [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.energies.append((trainer.current_epoch, batch[-3].tolist()))

    def on_train_epoch_end(self, trainer, module):
        self.losses.append(float(trainer.callback_metrics["train_Total_Loss"]))


def fit(module, train, validation, epochs=3, **options):
    recorder = Recorder()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_epochs=epochs, enable_checkpointing=False, callbacks=[recorder], **quiet)
    trainer.fit(module, train, validation, **options)
    return trainer, recorder


@pytest.mark.parametrize("line_graph", [False, True])
def test_a_potential_learns_energies_forces_and_stresses(loader, network, line_graph):
    module = PotentialLightningModule(network, include_line_graph=line_graph, stress_weight=0.1, lr=1e-2)
    options = {"stress_convention": "vasp", "include_line_graph": line_graph, "model": module}
    train, validation = (batches(each, **options) for each in (loader, loader.evaluation(loader.dataset)))
    trainer, recorder = fit(module, train, validation)
    first, second, third = recorder.losses
    assert first > second > third
    assert len({str([e for at, e in recorder.energies if at == epoch]) for epoch in range(3)}) == 3  # shuffled
    assert trainer.callback_metrics["val_Stress_MAE"] > 0


def test_a_property_is_learnt(write_labelled):
    ds = lg.LazyGraphDataset(write_labelled("megnet"), view="megnet", target="energy")
    loader = lg.loader(ds, 4, shuffle=True)
    torch.manual_seed(0)
    module = ModelLightningModule(MEGNet(), data_mean=-80.0, data_std=20.0, lr=1e-2)
    train = property_batches(loader, "energy", model=module)
    _, recorder = fit(module, train, property_batches(loader.evaluation(ds), "energy"))
    assert recorder.losses[2] < recorder.losses[0]


def test_a_training_that_lightning_continues_visits_the_same_graphs(loader, network, tmp_path):
    def module():
        return PotentialLightningModule(network, lr=1e-3)

    def train():
        return batches(lg.loader(loader.dataset, 4, shuffle=True, seed=3), stress=None)

    validation = batches(loader.evaluation(loader.dataset), stress=None)
    _, whole = fit(module(), train(), validation)
    trainer, first = fit(module(), train(), validation, epochs=1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    _, rest = fit(module(), train(), validation, ckpt_path=tmp_path / "one.ckpt")
    assert first.energies + rest.energies == whole.energies


@pytest.fixture
def own(labelled, structures, tmp_path):
    """The items of matgl's own dataset."""
    labels = {
        "energies": [label["energy"] for *_, label in labelled],
        "forces": [label["forces"].tolist() for *_, label in labelled],
        # matgl takes GPa, and -0.1 times the numbers of VASP
        "stresses": [(-0.1 * matrix(label["stress"])).tolist() for *_, label in labelled],
    }
    network = M3GNet(**SMALL)
    converter = Structure2Graph(network.element_types, network.cutoff)
    return MGLDataset(
        structures=structures, labels=labels, converter=converter, root=str(tmp_path / "mgl"), save_cache=False
    )


def assert_same_graph(ours, theirs):
    """The same atoms in the same order, and the same edges in any order."""
    for name in ("node_type", "frac_coords", "batch", "ptr"):
        torch.testing.assert_close(ours[name], theirs[name])
    mine, their = (sorted_edges(graph.edge_index, graph.pbc_offset) for graph in (ours, theirs))
    assert torch.equal(mine[0], their[0])
    for name in ("edge_index", "pbc_offset"):
        assert ours[name].dtype == theirs[name].dtype


def test_a_batch_for_potentials_is_that_of_matgl(own, loader):
    theirs = collate_fn_pes([own[k] for k in range(len(own))])
    (ours,) = batches(lg.loader(loader.dataset, len(own)), stress_convention="vasp")
    assert len(ours) == len(theirs) == 6
    assert_same_graph(ours[0], theirs[0])
    for mine, their in zip(ours[1:], theirs[1:], strict=True):
        # to single precision: GPa per eV/A^3 and the order of products differ in the last places
        torch.testing.assert_close(mine, their, rtol=3e-7, atol=1e-7)


def test_a_batch_for_properties_is_that_of_matgl(own, write_labelled):
    items = [
        (graph, lattice, state, {"energy": label["energies"]})
        for graph, lattice, state, label in map(own.__getitem__, range(len(own)))
    ]
    theirs = collate_fn_graph(items)
    ds = lg.LazyGraphDataset(write_labelled("m3gnet"), view="m3gnet", target="energy")
    (ours,) = property_batches(lg.loader(ds, len(own)), "energy")
    assert_same_graph(ours[0], theirs[0])
    for mine, their in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(mine, their)


def test_the_line_graph_is_that_of_the_view(loader):
    batch = next(iter(batches(loader, stress_convention="vasp", include_line_graph=True)))
    assert len(batch) == 7
    assert {name: torch.equal(batch[2][name], batch[0][name]) for name in LINE_GRAPH} == dict.fromkeys(LINE_GRAPH, True)


def test_without_stress_a_loss_of_it_is_an_error(loader, network):
    batch = next(iter(batches(loader, stress=None)))
    assert np.isfinite(PotentialLightningModule(network).step(batch)[0]["Total_Loss"].item())
    missing = PotentialLightningModule(network, allow_missing_labels=True)
    assert np.isfinite(missing.step(batch)[0]["Total_Loss"].item())
    with pytest.raises(RuntimeError, match="expected to have the same shape"):
        PotentialLightningModule(network, stress_weight=0.1).step(batch)


def test_missing_values_are_left_out_by_matgl(labelled, network, tmp_path):
    some = [
        (name, atoms, labels | {"energy": np.nan if k else -60.0})
        for k, (name, atoms, labels) in enumerate(labelled[:3])
    ]
    units = {"energy": "eV", "forces": "eV/A", "stress": "kbar"}
    lg.write(some, tmp_path / "s.lg", graph="m3gnet", units=units, per={"energy": "cell"}, workers=1, progress=False)
    ds = lg.LazyGraphDataset(tmp_path / "s.lg", view="m3gnet", target=["energy", "stress"])
    (batch,) = batches(lg.loader(ds), stress_convention="vasp")
    assert batch[3].isnan().tolist() == [False, True, True]
    module = PotentialLightningModule(network, stress_weight=0.1, allow_missing_labels=True)
    assert np.isfinite(module.step(batch)[0]["Total_Loss"].item())
    with pytest.raises(lg.InputError, match=r"2 of 3 graphs have no 'energy'.*dataset\.where\('not isnan\(energy\)'\)"):
        property_batches(lg.loader(ds), "energy")
    (batch,) = property_batches(lg.loader(ds.where("not isnan(energy)")), "energy")
    assert batch[-1].tolist() == [-60.0]


def test_magnetic_moments_or_charges_come_last(labelled, tmp_path):
    some = [
        (name, atoms, labels | {"magmoms": -np.arange(float(n)), "charges": np.arange(float(n)) * 1e-3})
        for name, atoms, labels in labelled[:2]
        for n in [len(atoms["elements"])]
    ]
    units = {"energy": "eV", "forces": "eV/A", "stress": "kbar", "magmoms": "mu_B", "charges": "e"}
    lg.write(some, tmp_path / "s.lg", graph="m3gnet", units=units, per={"energy": "cell"}, workers=1, progress=False)
    loader = lg.loader(lg.LazyGraphDataset(tmp_path / "s.lg", view="m3gnet", target="energy"))
    expected = np.concatenate([np.arange(float(len(atoms["elements"]))) for _, atoms, _ in some])
    (batch,) = batches(loader, stress=None, magmoms="magmoms")
    np.testing.assert_array_equal(batch[-1][:, 0], -expected)  # matgl takes their absolute values itself
    (batch,) = batches(loader, stress=None, charges="charges")
    np.testing.assert_allclose(batch[-1], expected * 1e-3)
    with pytest.raises(lg.InputError, match="magnetic moments or charges, not both"):
        batches(loader, stress=None, magmoms="magmoms", charges="charges")


def test_a_network_that_does_not_fit_the_graphs_is_refused(loader, write_labelled):
    for changed, message in (
        ({"element_types": ("Si", "Ge")}, r"the network has the elements Si, Ge, and the view of .* \(89 elements\)"),
        ({"cutoff": 6.0}, r"every neighbour within 6 A, but the recipe.*graph\(..., cutoff=6\)"),
        ({"threebody_cutoff": 3.0}, "the network has threebody_cutoff=3, and the recipe"),
    ):
        network = M3GNet(**SMALL, **changed)
        for model in (network, PotentialLightningModule(network)):
            with pytest.raises(lg.InputError, match=message):
                batches(loader, stress=None, model=model)
    megnet = lg.LazyGraphDataset(write_labelled("megnet"), view="megnet", target="energy")
    with pytest.raises(lg.InputError, match="include_line_graph=True needs the view 'm3gnet'"):
        batches(lg.loader(megnet), stress=None, include_line_graph=True)


def test_the_type_of_matgl_is_single_precision():
    assert matgl.float_th == torch.float32
