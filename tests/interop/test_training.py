"""matgl's M3GNet and mace-torch's MACE train on a dataset and predict, as models by name."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import lazygraph as lg
from lazygraph.training.models import find_model

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = {
    "m3gnet": {"dim_node_embedding": 8, "dim_edge_embedding": 8, "units": 8, "nblocks": 1},
    "mace": {"channels": 4, "max_ell": 2, "correlation": 2, "num_bessel": 4, "radial_MLP": [8]},
}


@pytest.fixture(autouse=True)
def in_single_precision():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def crystals():
    rng = np.random.default_rng(0)
    return [
        (
            f"c{n}",
            lg.Crystal(np.eye(3) * (3 + n / 40), [[0, 0, 0], [0.5, 0.5, 0.5]], rng.choice([11, 17, 29], 2)),
            {"density": n / 40},
        )
        for n in range(40)
    ]


@pytest.mark.parametrize("name", list(SMALL))
def test_it_trains_and_predicts(name, crystals, tmp_path):
    lg.write(crystals, tmp_path / "p.lg", graph=name, workers=1, progress=False)
    options = lg.TrainOptions(target="density", model=name, model_options=SMALL[name], n_epochs=2, batch_size=8)
    results = lg.train(tmp_path / "p.lg", options, tmp_path / "run", progress=False)
    assert math.isfinite(results.scores["density"]["mae"])
    found = {row.id: row.predicted for row in lg.predict(tmp_path / "run", tmp_path / "p.lg", progress=False).rows}
    for row in results.predictions:
        assert found[row.id] == pytest.approx(row.predicted, rel=1e-4)


def test_mace_is_told_elements_cutoff_and_neighbors_by_the_dataset(crystals, tmp_path):
    path = tmp_path / "p.lg"
    lg.write(crystals, path, graph=lg.graph("mace", cutoff=4.0), workers=1, progress=False)
    ds = lg.LazyGraphDataset(path)
    view, options = find_model("mace").fitted(ds, {"channels": 4})
    assert view == lg.view("mace", elements=["Na", "Cl", "Cu"])
    assert options["elements"] == ["Cl", "Cu", "Na"]
    assert (options["cutoff"], options["channels"]) == (4.0, 4)
    edges, atoms = (int(ds.columns[name].sum()) for name in ("n_edges", "n_atoms"))
    assert options["avg_num_neighbors"] == pytest.approx(edges / atoms)
    assert find_model("mace").fitted(ds, {"avg_num_neighbors": 3.0})[1]["avg_num_neighbors"] == 3.0
    lg.write(crystals, tmp_path / "alone.lg", graph="none", workers=1, progress=False)
    built = lg.LazyGraphDataset(tmp_path / "alone.lg", graph=lg.graph("mace", cutoff=4.0))
    assert find_model("mace").fitted(built, {"channels": 4}) == (view, options)
    # structures to predict for may have fewer elements, or none of those
    run = tmp_path / "run"
    lg.train(
        path,
        lg.TrainOptions(target="density", model="mace", model_options=SMALL["mace"], n_epochs=1),
        run,
        progress=False,
    )
    more = [(f"z{z}", lg.Crystal(np.eye(3) * 4, [[0, 0, 0]], [z]), {}) for z in (47, 17, 79)]
    lg.write(more, tmp_path / "more.lg", graph=lg.graph("mace", cutoff=4.0), workers=1, progress=False)
    for source in (more, tmp_path / "more.lg"):
        found = lg.predict(run, source, progress=False)
        assert [row.id for row in found.rows] == ["z17"]
        assert math.isfinite(found.rows[0].predicted[0])
        assert [(entry["id"], entry["message"].split(",")[0]) for entry in found.quarantined] == [
            ("z47", "found atoms of Ag"),
            ("z79", "found atoms of Au"),
        ]
    assert lg.predict(run, more[:1], progress=False).rows == []


def test_mace_refuses_graphs_that_it_cannot_use(crystals, tmp_path):
    lg.write(crystals, tmp_path / "shell.lg", graph="comformer", workers=1, progress=False)
    lg.write(crystals, tmp_path / "radius.lg", graph="mace", workers=1, progress=False)
    with pytest.raises(lg.RecipeMismatch, match="--graph mace"):
        find_model("mace").fitted(lg.LazyGraphDataset(tmp_path / "shell.lg"), {})
    with pytest.raises(lg.InputError, match="graphs hold Cu"):
        find_model("mace").fitted(lg.LazyGraphDataset(tmp_path / "radius.lg"), {"elements": ["Na", "Cl"]})
    known = ["Na", "Cl", "Cu"]
    for options, message in (
        ({"elements": "NaClCu"}, r"found elements='NaClCu' of the model 'mace'; required: a list of symbols"),
        ({"elements": "Na,Cl,Cu"}, r"--model-option 'elements=\[\"Cu\", \"O\"\]'"),
        ({"elements": [11, 17, 29]}, "required: a list of symbols"),
        ({"elements": []}, "the list of elements is empty"),
        ({"elements": [*known, "Na"]}, "each one once"),
        ({"elements": [*known, "Xx"]}, "unknown element 'Xx'"),
        ({"cutoff": 7}, "the model 'mace' has cutoff=7, but the graphs have only neighbours up to 5 A.*--cutoff 7"),
        ({"cutoff": "5"}, "found cutoff='5'; required: a finite number greater than 0"),
        ({"cutoff": -1}, "found cutoff=-1"),
        ({"avg_num_neighbors": 0}, "found avg_num_neighbors=0"),
    ):
        with pytest.raises(lg.InputError, match=message):
            find_model("mace").fitted(lg.LazyGraphDataset(tmp_path / "radius.lg"), options)
    _, fitted = find_model("mace").fitted(lg.LazyGraphDataset(tmp_path / "radius.lg"), {"elements": known, "cutoff": 4})
    assert (fitted["elements"], fitted["cutoff"]) == (known, 4.0)


def test_mace_leaves_a_rotation_as_it_is_and_reaches_all_its_weights(crystals, tmp_path):
    rng = np.random.default_rng(1)
    crystal = lg.Crystal(np.eye(3) * 4 + rng.uniform(-0.4, 0.4, (3, 3)), rng.uniform(size=(3, 3)), [11, 17, 17])
    turned = lg.Crystal(
        crystal.lattice @ Rotation.random(random_state=1).as_matrix().T, crystal.frac_coords, crystal.numbers
    )
    lg.write([("a", crystal), ("b", turned)], tmp_path / "p.lg", graph="mace", workers=1, progress=False)
    ds = lg.LazyGraphDataset(tmp_path / "p.lg")
    view, options = find_model("mace").fitted(ds, SMALL["mace"])
    model = find_model("mace").build(2, **options)
    found = model(lg.LazyGraphDataset(tmp_path / "p.lg", view=view).batch([0, 1]))
    assert found.shape == (2, 2)
    assert torch.allclose(found[0], found[1], atol=1e-4)
    found.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_checkpoint_with_code_is_refused_though_mace_is_there(tmp_path):
    """Importing mace has torch.load trust every file; ours say what they want, and MACE by name takes it back."""
    environment = {name: value for name, value in os.environ.items() if name != "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"}
    command = [sys.executable, "-c", BOMB, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["refused", "refused", "None"], done.stderr
    assert not (tmp_path / "ran").exists()


BOMB = """
import os, pathlib, sys, torch
import lazygraph as lg
from lazygraph.training.models import find_model
folder = pathlib.Path(sys.argv[1])
class Bomb:
    def __reduce__(self):
        return (pathlib.Path.touch, (folder / "ran",))
torch.save({"lazygraph": Bomb()}, folder / "bad.ckpt")
find_model("mace").build(1, elements=["Na"], cutoff=4.0, avg_num_neighbors=10.0, channels=2, max_ell=1, correlation=1)
for load in (lambda: lg.predict(folder / "bad.ckpt", "prototypes:2?seed=0"), lambda: torch.load(folder / "bad.ckpt")):
    try:
        load()
    except Exception:
        print("refused")
print(os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"))
"""


def test_it_gives_what_matgl_gives_with_triplets_of_its_own(tmp_path):
    lg.write("prototypes:6?seed=2", tmp_path / "p.lg", graph="m3gnet", workers=1, progress=False)
    batch = lg.LazyGraphDataset(tmp_path / "p.lg", view="m3gnet").batch(range(6))
    model = find_model("m3gnet").build(outputs=2, **SMALL["m3gnet"]).eval()
    assert model(batch).shape == (6, 2)
    assert torch.allclose(model(batch), model.network(batch), atol=1e-5)
