"""metatrain's own trainer learns from lazygraph's samples, which are those of metatrain's own reader.

In a process of its own: metatrain cannot be imported after torch_geometric.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest

import lazygraph as lg
import lazygraph.interop.metatrain
from lazygraph.errors import MissingExtra

HAS_METATRAIN = importlib.util.find_spec("metatrain") is not None
needs_metatrain = pytest.mark.skipif(not HAS_METATRAIN, reason="metatrain is not installed")

BEGIN = """
import logging
import sys
import lazygraph.interop.metatrain
import torch
from omegaconf import OmegaConf
import lazygraph as lg

def samples(path, **options):
    ds = lg.LazyGraphDataset(path, target=["energy", "stress"], target_dtype="float64")
    return lazygraph.interop.metatrain.samples(ds, stress_convention="vasp", **options)
"""

SAME = """
import numpy as np
import ase.io
from metatrain.utils.data.readers.readers import read_systems, read_targets

ours, options = samples(sys.argv[1]), {"reader": "ase", "read_from": sys.argv[2]}
theirs = read_systems(sys.argv[2])
conf = {**options, "quantity": "energy", "unit": "eV", "type": "scalar", "sample_kind": "system", "num_subtargets": 1}
conf |= {name: {**options, "key": f"{name}_"} for name in ("forces", "stress")}
conf |= {"key": "energy_", "virial": False}
targets, infos = read_targets(OmegaConf.create({"energy": conf}))
assert len(ours) == len(theirs) == 12
read = ours.__getitems__(range(12))
for k, (system, target) in enumerate(zip(theirs, targets["energy"], strict=True)):
    for mine in (ours[k], read[k], ours[k - 12]):
        for name in ("types", "pbc"):
            assert torch.equal(getattr(mine.system, name), getattr(system, name)), name
        for name in ("positions", "cell"):
            torch.testing.assert_close(getattr(mine.system, name), getattr(system, name), rtol=0, atol=1e-7)
        block, own = mine["energy"].block(), target.block()
        torch.testing.assert_close(block.values, own.values, rtol=0, atol=0)
        for name in ("positions", "strain"):
            gradient, own_gradient = block.gradient(name), own.gradient(name)
            torch.testing.assert_close(gradient.values, own_gradient.values, rtol=1e-6, atol=1e-9)
            assert gradient.components == own_gradient.components
            assert gradient.properties == own_gradient.properties
    assert ours.get_num_atoms(k) == len(system)
info = ours.dataset_info()
assert info.atomic_types == [14, 32]
assert info.targets["energy"].is_compatible_with(infos["energy"])
assert ours.get_all_atom_counts().sum() == sum(map(len, theirs))
try:
    ours[12]
except IndexError as error:
    print(error)
"""

TRAIN = """
from metatrain.pet import PET, Trainer
from metatrain.utils.architectures import get_default_hypers
from metatrain.utils.hypers import init_with_defaults
from metatrain.utils.loss import LossSpecification

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    data = samples(sys.argv[1])
    hypers = get_default_hypers("pet", 32)
    small = {"d_pet": 8, "d_node": 8, "d_head": 8, "d_feedforward": 8, "num_heads": 1}
    hypers["model"] |= small | {"num_attention_layers": 1, "num_gnn_layers": 1}
    loss = {**init_with_defaults(LossSpecification)}
    loss["gradients"] = {name: init_with_defaults(LossSpecification) for name in ("positions", "strain")}
    loss = OmegaConf.create({"energy": loss})
    OmegaConf.resolve(loss)
    hypers["training"] |= {"num_epochs": 3, "num_workers": int(sys.argv[2]), "learning_rate": 1e-2, "loss": loss}
    hypers["training"] |= {"warmup_fraction": 0.0, **eval(sys.argv[3])}
    torch.manual_seed(0)
    model = PET(hypers["model"], data.dataset_info())
    Trainer(hypers["training"]).train(model, torch.float32, [torch.device("cpu")], [data], [data], ".")
"""


def run(code, folder, *arguments):
    (folder / "script.py").write_text(BEGIN + code)
    command = [sys.executable, "-W", "ignore", "script.py", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@needs_metatrain
def test_a_sample_is_that_of_metatrain(write_labelled, labelled, structures, tmp_path):
    import ase.io  # noqa: PLC0415

    from tests.interop.peers import matrix

    frames = []
    for structure, (*_, label) in zip(structures, labelled, strict=True):
        atoms = structure.to_ase_atoms()
        atoms.info |= {"energy_": label["energy"], "stress_": matrix(label["stress"]) * -0.1 / 160.2176634}
        atoms.arrays["forces_"] = label["forces"]
        frames.append(atoms)
    ase.io.write(tmp_path / "own.xyz", frames)
    done = run(SAME, tmp_path, write_labelled("none"), tmp_path / "own.xyz")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "position 12 is out of range; the dataset has 12 crystals"


@needs_metatrain
@pytest.mark.parametrize(
    ("preset", "workers", "batches"),
    [("none", 0, {"batch_size": 4}), ("mace", 1, {"max_atoms_per_batch": 64})],
    ids=["one process", "workers and budgets"],
)
def test_the_trainer_learns_energies_forces_and_stresses(write_labelled, tmp_path, preset, workers, batches):
    done = run(TRAIN, tmp_path, write_labelled(preset), workers, batches)
    assert done.returncode == 0, done.stderr
    losses = [float(found) for found in re.findall(r"training loss: (\S+)", done.stdout)]
    assert len(losses) == 3
    assert losses[2] < losses[0]
    assert "training virial RMSE" in done.stdout


@needs_metatrain
def test_torch_geometric_before_metatrain_is_refused_with_the_line_to_add(write_labelled):
    ds = lg.LazyGraphDataset(write_labelled("none"), target="energy", target_dtype="float64")
    with pytest.raises(lg.InputError, match="begin the script with import lazygraph.interop.metatrain"):
        lazygraph.interop.metatrain.samples(ds, stress=None)


@pytest.mark.skipif(HAS_METATRAIN, reason="metatrain is installed")
def test_a_missing_package_names_the_command_that_installs_it(write_labelled):
    ds = lg.LazyGraphDataset(write_labelled("none"), target="energy", target_dtype="float64")
    with pytest.raises(MissingExtra, match=r"which is not installed: pip install 'lazygraph\[interop\]'"):
        lazygraph.interop.metatrain.samples(ds, stress=None)


REFUSED = """
made = sys.argv[1]
for options, more in (
    ({"target": "energy"}, {}),
    ({"target": "energy", "target_dtype": "float64", "transform": dict}, {}),
    ({"target": "energy", "target_dtype": "float64"}, {"energy": "energi"}),
):
    try:
        lazygraph.interop.metatrain.samples(lg.LazyGraphDataset(made, **options), stress=None, **more)
    except lg.InputError as error:
        print(error)
"""


@needs_metatrain
def test_what_it_cannot_use_is_refused(write_labelled, tmp_path):
    done = run(REFUSED, tmp_path, write_labelled("none"))
    assert done.returncode == 0, done.stderr
    rounded, transformed, unknown = done.stdout.splitlines()
    assert rounded.endswith("open it with target_dtype='float64'")
    assert transformed.endswith("open it without transform")
    assert "unknown label of crystals 'energi'; did you mean 'energy'" in unknown
