"""Real models, each fed twice: with a view of a lazygraph dataset, and with the graphs of its own package."""

from __future__ import annotations

import json
import sys
import zipfile

import numpy as np
import pytest
import torch
from ase.data import atomic_numbers
from torch_geometric.loader import DataLoader

import lazygraph as lg
from lazygraph.crystal import Crystal
from tests.real import GOLDEN, existing

# Where nvalchemi-toolkit-ops is installed, matgl finds neighbours with it. Its edges have another order, so that sums
# over edges round differently. Models are compared on the graphs of matgl alone.
sys.modules["nvalchemiops"] = None

CRYSTALS = 16
UNKNOWN = {84, 85, 86, 87, 88}  # Po to Ra: matgl's models have no place for them unless told


@pytest.fixture(scope="session", autouse=True)
def double_precision():
    """Models, and the graphs of their packages, take torch's default floating-point type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def crystals():
    """Sixteen real crystals of increasing size."""
    structures = json.loads((GOLDEN / "structures.json").read_text())
    found = [Crystal(s["lattice"], s["frac_coords"], s["numbers"]) for s in structures]
    found = sorted((c for c in found if not UNKNOWN & set(c.numbers.tolist())), key=len)
    return [found[i] for i in np.linspace(0, len(found) - 1, CRYSTALS).astype(int)]


@pytest.fixture(scope="session")
def write(crystals, tmp_path_factory):
    """Preset -> the path of a dataset of the crystals."""
    folder, written = tmp_path_factory.mktemp("interop"), {}

    def write(preset):
        if preset not in written:
            written[preset] = folder / f"{preset}.lg"
            lg.write(crystals, written[preset], graph=preset, workers=1, progress=False)
        return written[preset]

    return write


@pytest.fixture(params=["batch", "loader"])
def read(request, write):
    """(preset, view) -> all crystals as one batch: made at once by the dataset, or joined by PyG's loader."""

    def read(preset, view):
        ds = lg.LazyGraphDataset(write(preset), view=view)
        if request.param == "batch":
            return ds.batch(range(CRYSTALS))
        (batch,) = DataLoader(ds, batch_size=CRYSTALS)
        return batch

    return read


@pytest.fixture(scope="session")
def learn():
    """(model, results) -> the results, and the gradient of every parameter by a loss of all of them."""

    def learn(model, results):
        model.zero_grad()
        sum(result.square().sum() for result in results.values()).backward()
        results = {name: result.detach() for name, result in results.items()}
        return results | {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    return learn


@pytest.fixture(scope="session")
def assert_agree():
    """Two dicts of tensors hold the same names and, to one part in a million, the same values."""

    def assert_agree(ours, theirs):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-10)

    return assert_agree


# ---- energies, forces and stresses, for the trainers of other packages ----

LABELLED = 12


@pytest.fixture(scope="session")
def labelled():
    """The smallest crystals of Ge and Si of mlearn: (id, atoms, energy eV, forces eV/A, stress (6,) of VASP, kbar).

    The six numbers of these two elements have VASP's order; those of Cu, Mo and Ni have another one.
    """
    with zipfile.ZipFile(existing("forces/mlearn.json.zip")) as archive:
        entries = json.loads(archive.read("mlearn.json"))
    chosen = [entry for entry in entries if set(entry["atoms"]["elements"]) <= {"Ge", "Si"}]
    chosen.sort(key=lambda entry: len(entry["atoms"]["elements"]))
    return [
        (e["jid"], e["atoms"], {"energy": e["energy"], "forces": np.array(e["forces"]), "stress": e["stresses"]})
        for e in chosen[:LABELLED]
    ]


@pytest.fixture(scope="session")
def write_labelled(labelled, tmp_path_factory):
    """Preset -> the path of a dataset of the labelled crystals."""
    folder, written = tmp_path_factory.mktemp("labelled"), {}

    def write(preset):
        if preset not in written:
            written[preset] = folder / f"{preset}.lg"
            units, per = {"energy": "eV", "forces": "eV/A", "stress": "kbar"}, {"energy": "cell"}
            lg.write(labelled, written[preset], graph=preset, units=units, per=per, workers=1, progress=False)
        return written[preset]

    return write


@pytest.fixture(scope="session")
def structures(labelled):
    """The labelled crystals as pymatgen has them, with the coordinates of the file."""
    out = []
    for _, atoms, _ in labelled:
        numbers = [atomic_numbers[symbol] for symbol in atoms["elements"]]
        out.append(Crystal(atoms["lattice_mat"], atoms["coords"], numbers).to_pymatgen())
    return out


@pytest.fixture
def single_precision():
    """Networks, and the batches of their packages, take torch's default floating-point type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(before)
