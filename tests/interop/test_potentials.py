"""Interatomic potentials: derivatives, losses by hand, runs that resume, and predictions in the unit of the labels."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import InputError, LabelError, RecipeMismatch
from lazygraph.interop.labels import CONVENTIONS, AtomLabel, CrystalLabel, Energy, Stress
from lazygraph.training.models import MODELS, find_model, find_potential
from lazygraph.training.models.potentials import PRESSURE
from lazygraph.training.potential import PotentialLabels
from lazygraph.training.predict import Trained, joined
from lazygraph.training.report import Prediction
from lazygraph.training.run import prepare
from lazygraph.training.targets import Targets
from lazygraph.writing.edit import set_splits
from tests.interop.peers import matrix

pytestmark = pytest.mark.filterwarnings("ignore")

WIDTHS = {"dim_atom_embedding": 8, "dim_bond_embedding": 8, "dim_angle_embedding": 8, "num_blocks": 2}
HIDDEN = {"atom_conv_hidden_dims": [8], "bond_conv_hidden_dims": [8], "final_hidden_dims": [8]}
SMALL = {
    "m3gnet": {"dim_node_embedding": 8, "dim_edge_embedding": 8, "units": 8, "nblocks": 1},
    "chgnet-matgl": WIDTHS | HIDDEN,
    "chgnet": {"atom_fea_dim": 8, "bond_fea_dim": 8, "angle_fea_dim": 8, "n_conv": 2, "mlp_hidden_dims": [8]},
    "mace": {"channels": 4, "max_L": 1, "max_ell": 2, "correlation": 2, "num_bessel": 4, "radial_MLP": [8]},
}
TERMS = {"target": "energy", "forces": "forces", "stress": "stress", "stress_convention": "vasp"}
QUICK = {**TERMS, "batch_size": 2, "n_epochs": 2, "train_count": 6, "val_count": 2, "test_count": 2}
GPA_OF_KBAR = 0.1


def options_of(name, **changes):
    return lg.TrainOptions.of({**QUICK, "model": name, "model_options": SMALL[name], **changes})


def preset_of(name):
    return find_potential(name).preset


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ---- derivatives ----


@pytest.mark.parametrize("name", list(SMALL))
def test_forces_and_stress_are_derivatives_of_the_energy(name, tmp_path, monkeypatch):
    """In float64, by central differences of crystals that were moved and strained before their graphs were built."""
    if name == "chgnet":
        monkeypatch.setattr("chgnet.model.model.TORCH_DTYPE", torch.float64)
    rng, step = np.random.default_rng(5), 1e-4
    lattice = np.eye(3) * 3.9 + rng.uniform(-0.3, 0.3, (3, 3))
    positions = rng.uniform(size=(3, 3)) @ lattice
    cells, places = [lattice], [positions]
    for axis in range(3):
        for sign in (1, -1):
            moved = positions.copy()
            moved[1, axis] += sign * step
            cells.append(lattice)
            places.append(moved)
    strains = [(0, 0), (1, 2)]
    for a, b in strains:
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * step / 2
            strain[b, a] += sign * step / 2
            cells.append(lattice @ strain)
            places.append(positions @ strain)
    # A left-handed lattice of the same crystal has the same stress.
    cells.append(lattice[[1, 0, 2]])
    places.append(positions)
    crystals = [
        (f"c{n}", lg.Crystal(cell, at @ np.linalg.inv(cell), [14, 32, 14]))
        for n, (cell, at) in enumerate(zip(cells, places, strict=True))
    ]
    lg.write(crystals, tmp_path / "c.lg", graph=preset_of(name), workers=1, progress=False)
    entry = find_potential(name)
    seen, hyperparameters = entry.fitted(lg.LazyGraphDataset(tmp_path / "c.lg"), SMALL[name])
    torch.manual_seed(1)
    network = entry.build(1, **hyperparameters).double()
    network.set_references({"Si": -5.0, "Ge": -4.0}, 1000.0)  # a new network has small forces
    view = lg.view(seen.name, **{**seen.parameters, "dtype": "float64"})
    batch = lg.LazyGraphDataset(tmp_path / "c.lg", view=view).batch(range(len(crystals)))
    found = network.eval()(batch, stress=True)
    energy, forces = found.energy.numpy(), found.forces.numpy().reshape(-1, 3, 3)[0]
    assert network.offsets(batch).tolist() == [-14.0] * len(crystals)
    slopes = (energy[1:7:2] - energy[2:8:2]) / (2 * step)
    np.testing.assert_allclose(forces[1], -slopes, rtol=1e-4, atol=1e-5)
    assert abs(forces[1]).max() > 0.01  # far more than the tolerance above
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-6)
    stress, volume = found.stress.numpy(), abs(np.linalg.det(lattice))
    for k, (a, b) in enumerate(strains):
        slope = (energy[7 + 2 * k] - energy[8 + 2 * k]) / (2 * step) / volume * PRESSURE
        assert (stress[0, a, b] + stress[0, b, a]) / 2 == pytest.approx(slope, rel=1e-3, abs=1e-4)
    np.testing.assert_allclose(stress[-1], stress[0], rtol=1e-6, atol=1e-7)
    assert pytest.approx(160.21766) == PRESSURE
    # Training and evaluation give the same, and training reaches every weight that is trained.
    again = network.train()(batch, stress=True)
    torch.testing.assert_close(again.forces.detach(), found.forces)
    (again.energy.sum() + again.forces.square().sum() + again.stress.square().sum()).backward()
    assert [key for key, p in network.named_parameters() if p.requires_grad and p.grad is None] == []


# ---- labels ----


@pytest.mark.parametrize("convention", list(CONVENTIONS))
@pytest.mark.parametrize("shape", [(6,), (3, 3)])
@pytest.mark.parametrize("is_per_atom", [True, False])
def test_predictions_are_in_the_form_of_the_labels(convention, shape, is_per_atom):
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(4, 1 + int(np.prod(shape)), generator=generator, dtype=torch.float64)
    if shape == (3, 3):
        symmetric = y[:, 1:].reshape(-1, 3, 3)
        y[:, 1:] = (symmetric + symmetric.mT).flatten(1)
    energy = Energy(CrystalLabel(0, (), 27.2), is_per_atom)
    stress = Stress(CrystalLabel(1, shape, 0.1), CONVENTIONS[convention])
    names = {"energy": "e", "forces": "f", "stress": "s"}
    labels = PotentialLabels(names, energy, AtomLabel("f", 51.4), "Ha/bohr", stress)
    assert PotentialLabels.from_json(json.loads(json.dumps(labels.to_json()))) == labels

    class Labelled:
        ptr = torch.tensor([0, 2, 3, 7, 9])

    Labelled.y = y
    back = labels.restored(energy.total(Labelled), stress(Labelled), Labelled.ptr.diff())
    torch.testing.assert_close(back, y)


def test_a_label_whose_meaning_is_unknown_is_refused(labelled, tmp_path, single_precision):
    units = {"energy": "eV", "forces": "eV/A", "stress": "kbar"}
    few = labelled[:10]
    for number, (changes, per, message) in enumerate(
        [
            ({}, {}, "not known whether the label 'energy' is the energy of the cell or of one atom"),
            ({"forces": None}, {"energy": "cell"}, "the label 'forces' has no unit"),
            ({"stress": "eV"}, {"energy": "cell"}, "the label 'stress' is in eV, which cannot be converted to GPa"),
        ]
    ):
        path = tmp_path / f"{number}.lg"
        known = {name: unit for name, unit in (units | changes).items() if unit is not None}
        lg.write(few, path, graph="mace", units=known, per=per, workers=1, progress=False)
        with pytest.raises(LabelError, match=message):
            prepare(path, options_of("mace"))
    with pytest.raises(LabelError, match="unknown label of atoms 'force'"):
        prepare(path, options_of("mace", forces="force"))


def test_options_of_potentials():
    options = lg.TrainOptions(**TERMS)
    assert (options.energy_weight, options.forces_weight, options.stress_weight) == (1.0, 1.0, 0.1)
    assert (options.labels, options.element_references) == (("energy", "stress"), "fit")
    assert lg.TrainOptions(target="energy", forces="forces").stress_weight is None
    assert lg.TrainOptions(target="gap").labels == ("gap",)
    for changes, message in (
        ({"forces": None}, "stress='stress' needs forces="),
        ({"stress": None}, "stress_convention='vasp' needs stress="),
        ({"stress_convention": None}, "does not say which sign its stress 'stress' has"),
        ({"stress_convention": "qe"}, "unknown stress_convention 'qe'"),
        ({"element_references": "guess"}, "unknown element_references 'guess'"),
        ({"forces_weight": -1}, "found forces_weight=-1"),
        ({"forces": 3}, "found forces=3"),
        ({"target": ("energy", "gap")}, "a potential learns the energy as its only target"),
        ({"stress": "energy"}, "a potential learns the energy as its only target"),
        ({"task": "classification"}, "by regression"),
    ):
        with pytest.raises(InputError, match=message):
            lg.TrainOptions(**{**TERMS, **changes})
    with pytest.raises(InputError, match="energy_weight=2 needs forces="):
        lg.TrainOptions(target="energy", energy_weight=2)


def test_models_without_forces_are_refused_with_those_that_have_them():
    able = ", ".join(sorted(SMALL))
    assert {name for name, entry in MODELS.items() if entry.potential is not None} == set(SMALL)
    with pytest.raises(InputError, match=f"the model 'cgcnn' cannot learn forces; models that can: {able}"):
        find_potential("cgcnn")
    for name in ("chgnet", "chgnet-matgl"):
        with pytest.raises(InputError, match=r"is an interatomic potential.*--forces forces"):
            MODELS[name].build(1)


def test_graphs_that_a_potential_cannot_use_are_refused(write_labelled):
    found = lg.LazyGraphDataset(write_labelled("mace"))
    for name in ("m3gnet", "chgnet"):
        with pytest.raises(RecipeMismatch, match=f"preset '{name}'"):
            find_potential(name).fitted(found, {})
    with pytest.raises(InputError, match=r"has cutoff=4, and the graphs have 5 A"):
        find_potential("m3gnet").fitted(lg.LazyGraphDataset(write_labelled("m3gnet")), {"cutoff": 4})


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("m3gnet", "unitz"), ("m3gnet", "is_intensive"), ("chgnet-matgl", "blocks"), ("chgnet", "width")],
)
def test_hyperparameters_that_a_network_would_ignore_are_refused(name, wrong, write_labelled):
    entry = find_potential(name)
    _, options = entry.fitted(lg.LazyGraphDataset(write_labelled(entry.preset)), {wrong: 3})
    with pytest.raises(InputError, match=f"unknown hyperparameter of .*'{wrong}'"):
        entry.build(1, **options)


def test_an_ensemble_has_the_mean_of_the_forces():
    targets = Targets(("energy",), ("eV",), (0.0,), (1.0,))
    forces = np.arange(6.0).reshape(2, 3)
    members = [[Prediction("a", [1.0 + k], [2.0], forces=forces * k, label_forces=forces)] for k in (1, 4)]
    (row,) = joined(members, targets)
    assert (row.predicted, row.deviation) == ([3.5], [1.5])
    np.testing.assert_array_equal(row.forces, forces * 2.5)
    np.testing.assert_array_equal(row.label_forces, forces)


# ---- losses ----


@pytest.fixture(scope="module")
def with_gaps(labelled, tmp_path_factory):
    """Preset -> a dataset in which one crystal has no forces, one no stress, and one no energy."""
    folder, written = tmp_path_factory.mktemp("gaps"), {}

    def write(preset):
        if preset not in written:
            changed = []
            for n, (name, atoms, labels) in enumerate(labelled[:10]):
                gaps = {0: {"forces": np.full_like(labels["forces"], np.nan)}, 1: {"stress": [np.nan] * 6}}
                changed.append((name, atoms, labels | gaps.get(n, {}) | ({"energy": np.nan} if n == 2 else {})))
            written[preset] = folder / f"{preset}.lg"
            units, per = {"energy": "eV", "forces": "eV/A", "stress": "kbar"}, {"energy": "cell"}
            lg.write(changed, written[preset], graph=preset, units=units, per=per, workers=1, progress=False)
        return written[preset]

    return write


LOSSES = {
    "l1": np.abs,
    "mse": lambda off: off**2,
    "huber": lambda off: np.where(np.abs(off) < 1, off**2 / 2, np.abs(off) - 0.5),
}


@pytest.mark.parametrize(("name", "loss"), [("m3gnet", "l1"), ("mace", "mse"), ("mace", "huber")])
def test_the_loss_of_a_step_is_that_of_a_computation_by_hand(name, loss, with_gaps, tmp_path, single_precision):
    weights = {"energy_weight": 3.0, "forces_weight": 7.0, "stress_weight": 0.5}
    options = options_of(
        name, loss=loss, n_epochs=1, batch_size=10, unlabelled="keep", schedule="none", train_count=8, val_count=1,
        test_count=1, split_seed=3, **weights,
    )  # fmt: skip
    path = with_gaps(preset_of(name))
    module, data = prepare(path, options)[1:3]
    train = data.splits["train"]
    energies, stresses = train.columns["energy"], train.columns["stress"]
    batch = train.batch(range(len(train)))
    found = module.eval()(batch)
    n_atoms = batch.ptr.diff().numpy()
    assert np.isnan(energies).sum() + np.isnan(stresses).any(axis=1).sum() >= 1  # of the gaps
    symbols = ["Ge", "Si"]
    counts = np.zeros((len(train), 2))
    numbers = module.network.numbers(batch).numpy()
    for graph, number in zip(batch.batch.tolist(), numbers.tolist(), strict=True):
        counts[graph, symbols.index({32: "Ge", 14: "Si"}[number])] += 1
    known = np.isfinite(energies)
    references = np.linalg.lstsq(counts[known], energies[known], rcond=None)[0]
    fitted = [float(module.network.references[number]) for number in (32, 14)]
    np.testing.assert_allclose(fitted, references, rtol=1e-9)

    per_atom = found.energy.numpy() / n_atoms - (energies - counts @ references) / n_atoms
    forces = np.concatenate([train[k].forces.numpy() for k in range(len(train))])
    of_forces = found.forces.numpy() - forces
    assert float(module.network.scale) == pytest.approx(np.sqrt(np.nanmean(forces.astype(float) ** 2)), rel=1e-6)
    labels = np.stack([-GPA_OF_KBAR * matrix(six) for six in stresses])
    of_stress = found.stress.numpy() - labels
    of_function = LOSSES[loss]
    wanted = 3 * np.nanmean(of_function(per_atom))
    wanted += 7 * np.nanmean(of_function(of_forces)) + 0.5 * np.nanmean(of_function(of_stress))
    data.train.close()
    lg.train(path, options, tmp_path / "run", progress=False)
    (line,) = rows(tmp_path / "run" / "metrics.csv")
    assert float(line["train_loss"]) == pytest.approx(wanted, rel=1e-5)


def test_stored_references_are_used_and_missing_ones_refused(labelled, tmp_path, single_precision):
    path = tmp_path / "p.lg"
    units, per = {"energy": "meV", "forces": "eV/A", "stress": "kbar"}, {"energy": "cell"}
    lg.write(labelled[:10], path, graph="mace", units=units, per=per, workers=1, progress=False)
    with pytest.raises(InputError, match="stores no energies of elements for 'energy'; fit them with"):
        prepare(path, options_of("mace", element_references="stored"))
    assert main(["labels", str(path), "--fit-elements", "energy"]) == 0
    module = prepare(path, options_of("mace", element_references="stored")).module
    stored = lg.LazyGraphDataset(path).manifest.columns["energy"].statistics["elements"]
    for symbol, number in (("Ge", 32), ("Si", 14)):
        if symbol in stored:
            assert float(module.network.references[number]) == pytest.approx(stored[symbol] / 1000)
    without = prepare(path, options_of("mace", element_references="none")).module
    assert without.network.references.tolist() == [0.0] * len(without.network.references)
    strange = [("x", lg.Crystal(np.eye(3) * 3, [[0, 0, 0]], [6]), {**labelled[0][2], "forces": np.zeros((1, 3))})]
    more = [*labelled[:9], *strange]
    lg.write(more, tmp_path / "q.lg", graph="mace", units=units, per=per, workers=1, progress=False)
    names = [name for name, *_ in more]
    set_splits(tmp_path / "q.lg", names={"train": names[:7], "val": names[7:8], "test": names[8:]})
    ours = options_of("mace", train_count=None, val_count=None, test_count=None)
    with pytest.raises(InputError, match=r"gives no energy for C, which 1 of the 2 graphs of test hold .*'x'"):
        prepare(tmp_path / "q.lg", ours)


# ---- runs ----


@pytest.fixture(scope="module")
def mace(write_labelled, tmp_path_factory):
    """A run of MACE with a moving average."""
    torch.set_default_dtype(torch.float32)
    options = options_of("mace", ema_decay=0.5, learning_rate=0.01, checkpoint_every=1)
    folder = tmp_path_factory.mktemp("mace") / "run"
    try:
        return lg.train(write_labelled("mace"), options, folder, progress=False)
    finally:
        torch.set_default_dtype(torch.float64)


def test_two_epochs_lower_the_loss_and_everything_is_written(mace):
    folder = mace.folder.path
    first, last = rows(folder / "metrics.csv")
    assert float(last["train_loss"]) < float(first["train_loss"])
    errors = {"val_mae/energy (eV/atom)", "val_mae/forces (eV/A)", "val_mae/stress (GPa)"}
    assert {name for name in last if name.startswith("val_mae")} == errors
    assert (folder / "forces.png").read_bytes().startswith(b"\x89PNG")
    stored = json.loads((folder / "results.json").read_text())
    assert stored["terms"] == mace.terms
    assert set(stored["test"]) == {"energy", *(f"stress[{k}]" for k in range(6))}
    forces = np.concatenate([row.forces - row.label_forces for row in mace.predictions])
    known = np.concatenate([row.label_forces for row in mace.predictions])
    told = mace.terms["forces"]
    assert told == {
        "count": forces.size,
        "unit": "eV/A",
        "mae": pytest.approx(np.abs(forces).mean()),
        "rmse": pytest.approx(np.sqrt((forces**2).mean())),
        "deviation": pytest.approx(known.std()),
    }
    per_atom = [(row.predicted[0] - row.label[0]) / len(row.forces) for row in mace.predictions]
    assert mace.terms["energy"]["mae"] == pytest.approx(np.abs(per_atom).mean())
    stress = [GPA_OF_KBAR * (matrix(row.predicted[1:]) - matrix(row.label[1:])) for row in mace.predictions]
    assert mace.terms["stress"]["mae"] == pytest.approx(np.abs(stress).mean())
    assert mace.terms["stress"]["count"] == 9 * len(mace.predictions)


def test_the_baseline_of_energies_is_a_fit_by_elements(mace, write_labelled, single_precision):
    path = write_labelled("mace")
    ds = lg.LazyGraphDataset(path, target="energy", target_dtype="float64")
    splits = prepare(path, mace.options).data.splits
    counts = {
        k: np.array([np.bincount(ds[i].x[:, 0], minlength=100) for i in splits[k].ids]) for k in ("train", "test")
    }
    energies = {k: np.array([ds[i].y.item() for i in splits[k].ids]) for k in ("train", "test")}
    fit = np.linalg.lstsq(counts["train"], energies["train"], rcond=None)[0]
    off = counts["test"] @ fit - energies["test"]
    assert mace.baseline["energy"]["mae"] == pytest.approx(np.abs(off).mean(), rel=1e-6)


def test_the_forces_of_a_run_are_those_of_the_file(mace, labelled):
    of_id = {name: labels for name, _, labels in labelled}
    for row in mace.predictions:
        np.testing.assert_allclose(row.label_forces, of_id[row.id]["forces"], rtol=1e-6)
        assert row.label[0] == of_id[row.id]["energy"]
        assert list(row.label[1:]) == of_id[row.id]["stress"]


def test_a_checkpoint_predicts_the_same(mace, write_labelled, labelled, tmp_path, single_precision):
    folder, path = mace.folder.path, write_labelled("mace")
    found = {row.id: row for row in lg.predict(folder, path, progress=False).rows}
    for row in mace.predictions:
        assert found[row.id].predicted == pytest.approx(row.predicted, rel=1e-6, abs=1e-6)
        np.testing.assert_allclose(found[row.id].forces, row.forces, atol=1e-6)
        assert found[row.id].label == row.label
    # From structures, and with an element that no training graph had.
    sources = [(name, atoms, {}) for name, atoms, _ in labelled[:1]]
    sources.append(("strange", lg.Crystal(np.eye(3) * 3, [[0, 0, 0]], [6]), {}))
    built = lg.predict(folder, sources, progress=False)
    assert built.forces == ("forces", "eV/A")
    assert [row.id for row in built.rows] == [labelled[0][0]]
    assert built.rows[0].predicted == pytest.approx(found[labelled[0][0]].predicted, rel=1e-5)
    assert [entry["id"] for entry in built.quarantined] == ["strange"]
    tables = ["-o", str(tmp_path / "p.csv"), "--forces", str(tmp_path / "f.csv")]
    assert main(["predict", str(folder), str(path), *tables, "--no-progress"]) == 0
    table = rows(tmp_path / "f.csv")
    assert len(table) == sum(len(row.forces) for row in found.values())
    for line in table[:20]:
        expected = found[line["id"]].forces[int(line["atom"])]
        written = [float(line[f"predicted forces {axis} (eV/A)"]) for axis in "xyz"]
        np.testing.assert_allclose(written, expected, atol=1e-6)


def test_forces_of_a_network_without_them_are_refused(tmp_path, single_precision):
    lg.write("prototypes:30?seed=0", tmp_path / "p.lg", graph="cgcnn", workers=1, progress=False)
    options = lg.TrainOptions(target="density", model="cgcnn", model_options={"h_fea_len": 8}, n_epochs=1)
    lg.train(tmp_path / "p.lg", options, tmp_path / "run", progress=False)
    tables = ["-o", str(tmp_path / "p.csv"), "--forces", str(tmp_path / "f.csv")]
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "p.lg"), *tables, "--no-progress"]) != 0
    assert not (tmp_path / "p.csv").exists()


def test_the_network_of_a_checkpoint_has_its_references(mace, write_labelled, single_precision):
    trained = Trained.load(mace.folder.path)
    fitted = prepare(write_labelled("mace"), mace.options).module
    torch.testing.assert_close(
        trained.module.network.references, fitted.network.references, rtol=0, atol=0, equal_nan=True
    )
    assert trained.module.network.scale == fitted.network.scale
    assert set(trained.elements) <= {"Ge", "Si"}


KILLED = """
import os, signal, sys
from lightning.pytorch.callbacks import Callback
import lazygraph as lg

class Kill(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == 4:
            os.kill(os.getpid(), signal.SIGKILL)

lg.train(sys.argv[1], lg.TrainOptions.of(eval(sys.argv[3])), sys.argv[2], progress=False, callbacks=(Kill(),))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(mace, write_labelled, tmp_path, single_precision):
    """Killed in the second epoch."""
    path, folder = write_labelled("mace"), tmp_path / "killed"
    command = [sys.executable, "-W", "ignore", "-c", KILLED, path, folder, repr(mace.options.to_json())]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (folder / "results.json").exists()
    resumed = lg.train(path, mace.options, folder, progress=False)
    columns = ("epoch", "step", "train_loss", "val_loss", "val_mae/forces (eV/A)")
    told = [[[row[name] for name in columns] for row in rows(of / "metrics.csv")] for of in (folder, mace.folder.path)]
    assert told[0] == told[1]
    assert resumed.terms == mace.terms
    for mine, theirs in zip(resumed.predictions, mace.predictions, strict=True):
        assert mine.predicted == theirs.predicted
        np.testing.assert_array_equal(mine.forces, theirs.forces)


@pytest.mark.parametrize("name", ["m3gnet", "chgnet-matgl", "chgnet"])
def test_the_others_train_and_predict(name, write_labelled, tmp_path, single_precision):
    changes = {"learning_rate": 0.01, "ema_decay": 0.5}
    path = write_labelled(preset_of(name))
    results = lg.train(path, options_of(name, **changes), tmp_path / "run", progress=False)
    first, last = rows(tmp_path / "run" / "metrics.csv")
    assert float(last["train_loss"]) < float(first["train_loss"])
    found = {row.id: row for row in lg.predict(tmp_path / "run", path, progress=False).rows}
    for row in results.predictions:
        assert found[row.id].predicted == pytest.approx(row.predicted, rel=1e-5, abs=1e-5)
        np.testing.assert_allclose(found[row.id].forces, row.forces, atol=1e-5)


@pytest.mark.parametrize("name", ["mace", "m3gnet", "chgnet-matgl", "chgnet"])
def test_forces_are_learned_without_stress(name, write_labelled, tmp_path, single_precision):
    path = write_labelled(preset_of(name))
    options = options_of(name, stress=None, stress_convention=None, n_epochs=1)
    results = lg.train(path, options, tmp_path / "run", progress=False)
    assert set(results.terms) == {"energy", "forces"}
    assert all(np.isfinite(row.forces).all() for row in results.predictions)


@pytest.mark.parametrize("name", ["mace", "m3gnet", "chgnet-matgl", "chgnet"])
def test_learning_rates_of_potentials_are_tried(name, write_labelled, tmp_path, monkeypatch, single_precision):
    """Forces are derivatives, so every batch needs gradients, also where a tuner drives the steps."""
    monkeypatch.chdir(tmp_path)
    found = lg.find_learning_rate(
        write_labelled(preset_of(name)), options_of(name, ema_decay=0.5), highest=1e-2, batches=24, progress=False
    )
    assert len(found.rates) == len(found.losses) >= 20
    assert np.isfinite(found.losses).all()
    assert np.ptp(found.losses) > 0
    assert not list(tmp_path.iterdir())


def test_m3gnet_of_a_property_has_the_cutoffs_of_its_graphs(tmp_path):
    cells = [lg.Crystal(np.eye(3) * (3.4 + 0.1 * n), [[0, 0, 0]], [29]) for n in range(3)]
    recipe = lg.graph("m3gnet", cutoff=4.5, threebody_cutoff=3.6)
    lg.write(cells, tmp_path / "p.lg", graph=recipe, workers=1, progress=False)
    ds = lg.LazyGraphDataset(tmp_path / "p.lg")
    entry = find_model("m3gnet")
    seen, options = entry.fitted(ds, {"element_types": ["Cu", "O"], "nblocks": 1, "units": 8})
    assert (options["cutoff"], options["threebody_cutoff"], options["element_types"]) == (4.5, 3.6, ["Cu", "O"])
    assert "elements" not in options  # matgl would ignore it
    with pytest.raises(InputError, match="unknown hyperparameter of M3GNet: 'nblok'; did you mean 'nblocks'"):
        entry.build(outputs=1, **options, nblok=2)
    with pytest.raises(InputError, match="unknown hyperparameter of M3GNet: 'ntargets'"):
        entry.build(outputs=1, **options, ntargets=2)
    network = entry.build(outputs=1, **options).float().eval()
    assert (network.network.cutoff, network.network.threebody_cutoff) == (4.5, 3.6)
    batch = lg.LazyGraphDataset(tmp_path / "p.lg", view=seen).batch([0, 1, 2])
    assert network(batch).shape == (3, 1)
    with pytest.raises(InputError, match=r"has cutoff=5\.0, and the graphs have 4\.5 A"):
        entry.fitted(ds, {"cutoff": 5.0})
    with pytest.raises(RecipeMismatch, match="needs graphs of the preset 'm3gnet'"):
        entry.fitted(lg.LazyGraphDataset(tmp_path / "p.lg", graph="cgcnn"), {})
