"""A stranger's checkpoint, and a stranger's folder: what would run code is refused, and none of it runs."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import sysconfig
import tomllib
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from lazygraph.errors import InputError, LazyGraphError

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")


class Code:
    """What runs code where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def saved(path, inner):
    torch.save({"lazygraph": {"version": 1, "model": inner}, "state_dict": {}}, path)


def bare(path, inner):
    path.write_bytes(pickle.dumps(inner))


def in_a_zip(path, inner):
    """As torch writes it, with a pickle of the attacker's in the place of torch's."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(inner, protocol=2))
        file.writestr("archive/version", "3")


@pytest.mark.parametrize("make", [saved, bare, in_a_zip])
def test_a_checkpoint_that_would_run_code_is_refused(make, tmp_path, monkeypatch):
    from lazygraph.training.predict import Trained

    monkeypatch.chdir(tmp_path)
    make(tmp_path / "best.ckpt", Code())
    with pytest.raises(InputError, match="cannot be read as a checkpoint of nothing but numbers and texts"):
        Trained.load(tmp_path / "best.ckpt")
    assert not Path("ran").exists()


def model(path, named, options):
    """A checkpoint in which all is as lazygraph writes it but the model."""
    stored = {
        "version": 1, "model": named, "model_options": options, "recipe": None, "options": {"target": ["y"]},
        "targets": {"names": ["y"], "units": [None], "mean": [0.0], "std": [1.0], "classes": []},
        "view": {"name": "pyg", "parameters": {}},
    }  # fmt: skip
    torch.save({"lazygraph": stored, "state_dict": {}}, path)


@pytest.mark.parametrize(
    ("named", "options"),
    [
        ("torch.nn:Linear", {"in_features": 1, "out_features": 1}),  # imported, as 900 others are
        ("torch_geometric.nn:MLP", {"channel_list": [1, 1]}),
        ("lazygraph.training.models.cgcnn:Cgcnn", {}),
        ("os:system", {"command": "touch ran"}),
        ("never_heard_of:Net", {}),
        ("", {}),
        ("transformer", {}),
    ],
)
def test_a_checkpoint_names_no_class(tmp_path, named, options):
    from lazygraph.training.predict import Trained

    model(tmp_path / "best.ckpt", named, options)
    with pytest.raises(InputError, match="which would be imported and called; if you trust it, name it"):
        Trained.load(tmp_path / "best.ckpt")


@pytest.mark.parametrize("inner", [torch.float32, torch.zeros(3), torch.Size([1]), {3: "number"}], ids=str)
def test_a_checkpoint_holds_numbers_and_texts(tmp_path, inner):
    """torch lets some classes of its own pass."""
    from lazygraph.training.predict import Trained

    model(tmp_path / "best.ckpt", "cgcnn", {"n_h": inner})
    with pytest.raises(InputError, match="holds objects where lazygraph writes numbers and texts"):
        Trained.load(tmp_path / "best.ckpt")


def test_torch_is_new_enough():
    """Before 2.10, weights_only=True let a checkpoint run code (CVE-2025-32434) or corrupt memory (CVE-2026-24747)."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (floor,) = [Requirement(each).specifier for each in project["dependencies"] if Requirement(each).name == "torch"]
    assert "2.9.1" not in floor
    assert "2.10.0" in floor


@pytest.mark.parametrize(
    "said",
    ['{"checkpoint": "/dev/zero"}', '{"checkpoint": "../x.ckpt"}', '{"checkpoint": 3}', "{}", "[", "[" * 10**5, '"'],
)
def test_results_name_a_checkpoint_of_their_own_folder(tmp_path, said):
    from lazygraph.training.predict import Trained

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").write_text(said)
    model(tmp_path / "x.ckpt", "cgcnn", {})
    with pytest.raises(InputError, match="is not as lazygraph writes it|no such file in"):
        Trained.load(tmp_path / "run")


# ---- the current folder ----

# Modules that lazygraph, Python's worker processes or packages in use import, some of them only if they are there.
TRAPS = (
    "argparse",
    "gemmi",
    "lazygraph",
    "loky",
    "multiprocessing",
    "numpy",
    "pickle",
    "random",
    "tensorboard",
    "torch_xla",
)
SCRIPTS = Path(sysconfig.get_path("scripts"))


@pytest.fixture
def strangers_folder(tmp_path):
    """A folder in which every module leaves a mark when it is imported."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    for name in TRAPS:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\n")
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not (SCRIPTS / "lazygraph").exists(), reason="lazygraph is not installed in this environment")
def test_no_command_runs_code_of_the_current_folder(strangers_folder, tmp_path):
    import lazygraph as lg

    lg.write("prototypes:24?seed=1", tmp_path / "d.lg", graph="cgcnn", workers=1, progress=False)
    options = lg.TrainOptions(target="density", model="cgcnn", n_epochs=1)
    lg.train(tmp_path / "d.lg", options, strangers_folder / "run", progress=False)
    for command in (
        ["lazygraph", "predict", "run", "prototypes:64?seed=2", "-o", "../p.csv", "--no-progress"],
        ["lazygraph-write", "prototypes:64?seed=1", "-o", "../w.lg", "--shard-size", "8", "--workers", "2"],
    ):
        line = [str(SCRIPTS / command[0]), *command[1:]]
        done = subprocess.run(line, cwd=strangers_folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()


def test_what_the_user_names_is_found_behind_all_that_is_installed(tmp_path, monkeypatch):
    from lazygraph.cli.options import import_from_here

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    import_from_here()
    import_from_here()
    assert sys.path == [*before, str(tmp_path)]


# ---- any bytes, any values ----

small = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5)
values = st.recursive(
    small, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


class Whole(bytes):
    """So that hypothesis does not print it."""

    def __repr__(self):
        return "the checkpoint"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint of lazygraph's: its contents."""
    import lazygraph as lg

    folder = tmp_path_factory.mktemp("whole")
    lg.write("prototypes:24?seed=1", folder / "d.lg", graph="cgcnn", workers=1, progress=False)
    settings = {"atom_fea_len": 4, "h_fea_len": 4, "n_conv": 1}
    options = lg.TrainOptions(target="density", model="cgcnn", model_options=settings, n_epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Whole(lg.train(folder / "d.lg", options, folder / "run", progress=False).checkpoint.read_bytes())


def loaded(path):
    """Whether a checkpoint was taken; any error but lazygraph's own fails."""
    from lazygraph.training.predict import Trained

    try:
        Trained.load(path)
    except LazyGraphError:
        return False
    return True


@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_checkpoint_is_refused_or_whole(whole, tmp_path_factory, data):
    raw = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    del raw[data.draw(st.just(len(raw)) | st.integers(0, len(raw))) :]
    path = tmp_path_factory.mktemp("damaged") / "best.ckpt"
    path.write_bytes(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded(path)


@pytest.mark.slow
@settings(max_examples=40)
@given(data=st.data())
def test_a_checkpoint_may_say_anything(whole, tmp_path_factory, data):
    """Each part of what it holds beside the weights, and parts of parts, replaced."""
    checkpoint = torch.load(io.BytesIO(whole), weights_only=True)
    place, key = checkpoint, "lazygraph"
    while type(place[key]) is dict and place[key] and data.draw(st.booleans()):
        place, key = place[key], data.draw(st.sampled_from(sorted(place[key])))
    place[key] = data.draw(values)
    path = tmp_path_factory.mktemp("said") / "best.ckpt"
    torch.save(checkpoint, path)
    loaded(path)


def test_a_list_that_holds_itself(whole, tmp_path):
    checkpoint = torch.load(io.BytesIO(whole), weights_only=True)
    endless = []
    endless.append(endless)
    checkpoint["lazygraph"]["model_options"]["n_h"] = endless
    torch.save(checkpoint, tmp_path / "best.ckpt")
    assert not loaded(tmp_path / "best.ckpt")
