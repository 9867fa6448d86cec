"""What the batches for other packages' trainers have in common: labels, units, signs, epochs, and what is refused."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

import lazygraph as lg
import lazygraph.interop.chgnet
import lazygraph.interop.mace
import lazygraph.interop.matgl
from lazygraph.errors import MissingExtra
from lazygraph.interop.labels import CONVENTIONS, CrystalLabel, Stress

chgnet, mace, matgl = lazygraph.interop.chgnet, lazygraph.interop.mace, lazygraph.interop.matgl
RY = 13.605693122994  # eV
EV_A3 = 160.2176634  # GPa
FCC = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
SYMMETRIC = np.array([[1.0, 0.4, 0.5], [0.4, 2.0, 0.6], [0.5, 0.6, 3.0]])
VIEWS = {"m3gnet": "m3gnet", "chgnet": "chgnet", "mace": lg.view("mace", elements=["Cu"])}


def copper(n, **labels):
    """n cells of copper, each a little larger, with labels: functions of the number."""
    return [
        (
            f"cu-{k}",
            lg.Crystal(np.eye(3) * (3.6 + 0.01 * k), FCC, [29] * 4),
            {name: of(k) for name, of in labels.items()},
        )
        for k in range(n)
    ]


LABELS = {
    "energy": lambda k: -4.0 * k,
    "forces": lambda k: np.arange(12.0).reshape(4, 3) + k,
    "stress": lambda k: SYMMETRIC * (k + 1),
}
DECLARED = {"units": {"energy": "eV", "forces": "eV/A", "stress": "GPa"}, "per": {"energy": "cell"}}


@pytest.fixture
def loader_of(tmp_path):
    """Write labelled copper and make a loader of it."""

    def make(preset="m3gnet", labels=LABELS, n=6, declared=DECLARED, target=("energy", "stress"), view=None, **options):
        lg.write(copper(n, **labels), tmp_path / "cu.lg", graph=preset, workers=1, progress=False, **declared)
        more = {name: options.pop(name) for name in ("target_dtype", "transform") if name in options}
        ds = lg.LazyGraphDataset(tmp_path / "cu.lg", target=target, view=view or VIEWS[preset], **more)
        return lg.loader(ds, **({"batch_size": 2} | options))

    return make


# ---- units and signs ----


@pytest.mark.parametrize(
    ("unit", "per", "total", "per_atom"),
    [
        ("eV", "cell", 8.0, 2.0),
        ("eV", "atom", 32.0, 8.0),
        ("meV/atom", None, 0.032, 0.008),
        ("eV/atom", "atom", 32.0, 8.0),
        ("Ry", "cell", 8 * RY, 2 * RY),
        ("kJ/mol", "cell", 8 / 96.4853321233, 2 / 96.4853321233),
    ],
)
def test_energies_are_of_the_cell_or_per_atom_as_a_package_wants(loader_of, unit, per, total, per_atom):
    declared = {"units": {"energy": unit, "forces": "eV/A"}, "per": {} if per is None else {"energy": per}}
    labels = {"energy": lambda _: 8.0, "forces": LABELS["forces"]}
    for preset, find, wanted in (
        ("m3gnet", lambda batch: batch[3], total),
        ("mace", lambda batch: batch.energy, total),
        ("chgnet", lambda batch: batch[1]["e"], per_atom),
    ):
        module = {"m3gnet": matgl, "mace": mace, "chgnet": chgnet}[preset]
        loader = loader_of(preset, labels, declared={**declared, "overwrite": True}, target="energy")
        (first, *_) = module.batches(loader, stress=None)
        torch.testing.assert_close(find(first), torch.full((2,), wanted, dtype=torch.float32))


@pytest.mark.parametrize(("unit", "factor"), [("eV/A", 1.0), ("meV/A", 1e-3), ("Ha/bohr", 51.422067476)])
def test_forces_are_in_ev_per_angstrom(loader_of, unit, factor):
    declared = {"units": {"energy": "eV", "forces": unit}, "per": {"energy": "cell"}}
    (first, *_) = matgl.batches(loader_of(declared=declared, target="energy"), stress=None)
    expected = torch.tensor(np.concatenate([LABELS["forces"](0), LABELS["forces"](1)]) * factor, dtype=torch.float32)
    torch.testing.assert_close(first[4], expected)


@pytest.mark.parametrize("convention", ["ase", "vasp"])
@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize(("unit", "in_gpa"), [("GPa", 1.0), ("kbar", 0.1), ("eV/A^3", EV_A3)])
def test_a_stress_is_a_matrix_that_is_positive_where_a_crystal_is_stretched(loader_of, convention, six, unit, in_gpa):
    rows, columns = {"ase": ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]), "vasp": ([0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 2, 0])}[
        convention
    ]
    sign = {"ase": 1, "vasp": -1}[convention]
    labels = LABELS | {"stress": (lambda k: SYMMETRIC[rows, columns] * (k + 1)) if six else LABELS["stress"]}
    declared = {**DECLARED, "units": DECLARED["units"] | {"stress": unit}, "overwrite": True}
    expected = torch.tensor(np.stack([SYMMETRIC, SYMMETRIC * 2]) * sign * in_gpa, dtype=torch.float32)

    def first(preset, module):
        return next(iter(module.batches(loader_of(preset, labels, declared=declared), stress_convention=convention)))

    torch.testing.assert_close(first("m3gnet", matgl)[5].reshape(2, 3, 3), expected)
    torch.testing.assert_close(torch.stack(first("chgnet", chgnet)[1]["s"]), expected)
    torch.testing.assert_close(first("mace", mace).stress, expected / EV_A3)


def test_the_sign_is_that_of_the_derivative_of_the_energy(tmp_path):
    """A real potential: stress times volume is dE/d(strain), by differences of the energy."""
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell * 0.97, scale_atoms=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = EMT()
    labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    declared = {"units": {"energy": "eV", "forces": "eV/A", "stress": "eV/A^3"}, "per": {"energy": "cell"}}
    bare = lg.Crystal(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    lg.write([("cu", bare, labels)], tmp_path / "cu.lg", graph="mace", workers=1, progress=False, **declared)
    view, target = lg.view("mace", elements=["Cu"], dtype="float64"), ["stress", "energy"]
    ds = lg.LazyGraphDataset(tmp_path / "cu.lg", view=view, target=target, target_dtype="float64")
    (batch,) = mace.batches(lg.loader(ds), stress_convention="ase")
    found = batch.stress[0].numpy() * atoms.get_volume()
    for i in range(3):
        for j in range(3):
            energies = []
            for step in (1e-5, -1e-5):
                strained, strain = atoms.copy(), np.eye(3)
                strain[i, j] += step / 2
                strain[j, i] += step / 2
                strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
                strained.calc = EMT()
                energies.append(strained.get_potential_energy())
            assert found[i, j] == pytest.approx((energies[0] - energies[1]) / 2e-5, abs=1e-5)
    assert np.trace(found) < 0  # it is compressed


ORDERS = {"ase": ("xx", "yy", "zz", "yz", "xz", "xy"), "vasp": ("xx", "yy", "zz", "xy", "yz", "zx")}


@given(
    arrays(np.float64, (5, 3, 3), elements=st.floats(-1e3, 1e3)),
    st.sampled_from(sorted(CONVENTIONS)),
    st.integers(0, 3),
)
def test_six_numbers_in_the_order_of_a_convention_give_back_the_matrix(values, convention, before):
    tensors = values + values.transpose(0, 2, 1)
    places = [["xyz".index(axis) for axis in name] for name in ORDERS[convention]]
    six = np.stack([tensors[:, i, j] for i, j in places], axis=1)
    y = torch.from_numpy(np.concatenate([np.full((5, before), np.nan), six], axis=1))
    found = Stress(CrystalLabel(before, (6,)), CONVENTIONS[convention])(Batch(y=y))
    np.testing.assert_array_equal(found, tensors * {"ase": 1, "vasp": -1}[convention])


# ---- what is refused ----


@pytest.mark.parametrize(
    ("declared", "options", "message"),
    [
        ({"units": {"forces": "eV/A"}}, {"stress": None}, "the label 'energy' has no unit.*--unit energy=eV"),
        ({"units": {"energy": "eV"}, "per": {"energy": "cell"}}, {"stress": None}, "'forces' has no unit.*forces=eV/A"),
        ({"units": {"energy": "eV", "forces": "eV/A"}}, {"stress": None}, "energy of the cell or of one atom.*--per"),
        (
            {"units": {"energy": "eV/atom", "forces": "eV/A"}, "per": {"energy": "cell"}},
            {"stress": None},
            "in eV/atom, but it is declared per cell",
        ),
        (
            {"units": {"energy": "eV/unit cell", "forces": "eV/A"}, "per": {"energy": "cell"}},
            {"stress": None},
            "does not know the unit 'eV/unit cell'",
        ),
        (DECLARED, {}, "give stress_convention='ase' if.*or stress=None"),
        (DECLARED, {"stress_convention": "VASP"}, "unknown stress_convention 'VASP'; known: ase, vasp"),
        (
            DECLARED,
            {"stress_convention": "ase", "stress": "strss"},
            "unknown label of crystals 'strss'; did you mean 'stress'",
        ),
        (DECLARED, {"stress": None, "forces": "force"}, "unknown label of atoms 'force'; did you mean 'forces'"),
        (DECLARED, {"stress": None, "energy": "forces"}, "unknown label of crystals 'forces'"),
        (DECLARED, {"stress": None, "energy": "stress"}, r"has the shape \(3, 3\); an energy is one number"),
        (DECLARED, {"stress_convention": "ase", "stress": "energy"}, r"the shape \(\); a stress has"),
    ],
)
def test_a_label_whose_meaning_is_unknown_is_refused(loader_of, declared, options, message):
    with pytest.raises(lg.InputError, match=message):
        matgl.batches(loader_of(declared=declared), **options)


def test_a_label_that_is_not_loaded_is_refused_with_the_target_to_give(loader_of):
    with pytest.raises(lg.InputError, match=r"target='stress'.*open it with target=\['stress', 'energy'\]"):
        matgl.batches(loader_of(target="stress"), stress_convention="ase")
    with pytest.raises(lg.InputError, match=r"target=None.*open it with target=\['energy'\]"):
        matgl.batches(loader_of(target=None, declared={**DECLARED, "overwrite": True}), stress=None)


@pytest.mark.parametrize(("module", "preset"), [(matgl, "m3gnet"), (chgnet, "chgnet"), (mace, "mace")])
def test_numbers_have_the_type_of_the_view(loader_of, module, preset):
    elements = {"elements": ["Cu"]} if preset == "mace" else {}
    for dtype in ("float32", "float64"):
        view, declared = lg.view(preset, dtype=dtype, **elements), {**DECLARED, "overwrite": True}
        options = {"preset": preset, "view": view, "declared": declared, "n": 2}
        if dtype == "float64":
            with pytest.raises(lg.InputError, match="target_dtype='float32', which rounds 'energy'.*'float64'"):
                module.batches(loader_of(**options), stress=None)
        loader = loader_of(**options, target_dtype="float64")
        (batch,) = module.batches(loader, stress_convention="ase")
        numbers = [value for value in numbers_in(batch) if value.is_floating_point()]
        assert {value.dtype for value in numbers} == {getattr(torch, dtype)}


def numbers_in(batch):
    """The tensors that a trainer reads."""
    if isinstance(batch, dict):
        for value in batch.values():
            yield from numbers_in(value)
    elif isinstance(batch, (tuple, list)):
        for value in batch:
            yield from numbers_in(value)
    elif isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, Batch):
        yield from (value for name, value in batch.to_dict().items() if name != "y" and isinstance(value, torch.Tensor))
    else:
        yield from numbers_in({name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor)})


@pytest.mark.parametrize(
    ("module", "view", "preset"), [(matgl, "m3gnet", "m3gnet"), (chgnet, "chgnet", "chgnet"), (mace, "mace", "mace")]
)
def test_another_view_is_refused_with_the_view_to_open(loader_of, module, view, preset):
    with pytest.raises(
        lg.InputError, match=f"opened with the view 'pyg'.*open it with view='{view}'.*graph='{preset}'"
    ):
        module.batches(loader_of(preset, view="pyg"), stress=None)


@pytest.mark.parametrize(("module", "preset"), [(matgl, "m3gnet"), (chgnet, "chgnet"), (mace, "mace")])
def test_another_object_than_a_network_is_refused(loader_of, module, preset):
    with pytest.raises(lg.InputError, match="found model=Linear, which has no '.*'; required: a network of"):
        module.batches(loader_of(preset), stress=None, model=torch.nn.Linear(1, 1))


def test_other_things_than_a_loader_of_recipes_are_refused(loader_of, tmp_path):
    loader = loader_of()
    with pytest.raises(lg.InputError, match="found a DataLoader; required: a loader"):
        matgl.batches(DataLoader(loader.dataset, batch_size=2), stress=None)
    with lg.GraphWriter(tmp_path / "made.lg") as writer:
        writer.add({"pos": np.zeros((2, 3)), "edge_index": np.zeros((2, 1), np.int64)}, id="a", labels={"energy": 1.0})
    with pytest.raises(lg.RecipeMismatch, match="came ready-made"):
        matgl.batches(lg.loader(lg.LazyGraphDataset(tmp_path / "made.lg", target="energy"), 1), stress=None)


def test_padded_batches_are_refused(tmp_path):
    lg.write(copper(4, **LABELS), tmp_path / "cu.lg", graph="mace", workers=1, progress=False, **DECLARED)
    ds = lg.LazyGraphDataset(tmp_path / "cu.lg", view=VIEWS["mace"], target="energy")
    with pytest.raises(lg.InputError, match="would learn the padding; make it without pad"):
        mace.batches(lg.loader(ds, 2, pad="buckets"), stress=None)


@pytest.mark.parametrize(("module", "package"), [(matgl, "matgl"), (chgnet, "chgnet"), (mace, "mace")])
def test_a_missing_package_names_the_command_that_installs_it(loader_of, monkeypatch, module, package):
    loader = loader_of("mace")
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    with pytest.raises(MissingExtra, match=r"which is not installed: pip install 'lazygraph\[interop\]'"):
        module.batches(loader, stress=None)


# ---- epochs ----


def energies(batches):
    return [batch.energy.tolist() for batch in batches]


def test_every_iteration_is_the_next_epoch(loader_of):
    batches = mace.batches(loader_of("mace", n=9, shuffle=True), stress=None)
    epochs = [energies(batches) for _ in range(3)]
    assert [len(epoch) for epoch in epochs] == [len(batches)] * 3 == [5] * 3
    assert {tuple(sorted(sum(epoch, []))) for epoch in epochs} == {tuple(-4.0 * k for k in range(8, -1, -1))}
    assert epochs[0] != epochs[1] != epochs[2]
    batches.set_epoch(1)
    assert energies(batches) == epochs[1]
    batches.sampler.set_epoch(0)
    assert energies(batches) == epochs[0]


def test_a_training_resumes_in_the_middle_of_an_epoch(loader_of):
    batches = mace.batches(loader_of("mace", n=9, shuffle=True), stress=None)
    whole = energies(batches)
    again = pickle.loads(pickle.dumps(batches))
    again.set_epoch(0)
    iterator = iter(again)
    assert [next(iterator).energy.tolist() for _ in range(2)] == whole[:2]
    state = again.state_dict()
    resumed = mace.batches(lg.loader(batches.dataset, 2, shuffle=True), stress=None)
    resumed.load_state_dict(state)
    assert energies(resumed) == whole[2:]


def test_batches_are_read_when_they_are_requested(loader_of):
    seen = []
    loader = loader_of("mace", n=9, transform=lambda data: (seen.append(data.id), data)[1], threads=0, num_workers=0)
    iterator = iter(mace.batches(loader, stress=None))
    assert seen == []
    next(iterator)
    assert len(seen) == 2


def test_a_mix_is_converted_to_one_unit(tmp_path):
    for name, unit, scale in (("a", "eV", 1.0), ("b", "meV", 1e3)):
        labels = {"energy": lambda k, scale=scale: -4.0 * k * scale, "forces": LABELS["forces"]}
        units = {"energy": unit, "forces": f"{unit}/A"}
        path = tmp_path / f"{name}.lg"
        lg.write(copper(4, **labels), path, graph="mace", units=units, per=DECLARED["per"], workers=1, progress=False)
    forces = np.concatenate([LABELS["forces"](k) for k in range(4)])
    for order in ("ab", "ba"):
        members = {n: lg.LazyGraphDataset(tmp_path / f"{n}.lg", view=VIEWS["mace"], target="energy") for n in order}
        (batch,) = mace.batches(lg.loader(lg.mix(members), 8), stress=None)
        np.testing.assert_allclose(batch.energy, [-0.0, -4.0, -8.0, -12.0] * 2, rtol=1e-6)
        of = {"a": forces, "b": forces * 1e-3}
        np.testing.assert_allclose(batch.forces, np.concatenate([of[name] for name in order]), rtol=1e-6)
