"""Commands without the packages that only they need: one line that says what to install, and exit code 2."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lazygraph as lg
from lazygraph.cli.main import main

WITHOUT = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None  # as if it was not installed
from lazygraph.cli.main import main
sys.exit(main(sys.argv[2:]))
"""
TRAIN = ("lightning", "matplotlib", "tomli_w")


def without(packages, command, folder):
    line = [sys.executable, "-c", WITHOUT, ",".join(packages), *command]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)


def one_line(error):
    *warnings, last = error.splitlines(keepends=True)
    assert all(line.startswith("lazygraph: warning: ") for line in warnings)
    assert last.startswith("lazygraph: error: ")
    assert last.endswith("\n")
    return last


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extras")
    lg.write("prototypes:24?seed=1", folder / "d.lg", graph="cgcnn", workers=1, progress=False)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [["train", "d.lg", "--target", "density", "-o", "run"], ["predict", "run", "d.lg", "-o", "p.csv"]],
    ids=lambda c: c[0],
)
@pytest.mark.parametrize("package", TRAIN)
def test_training_names_its_extra(folder, package, command):
    done = without([package], command, folder)
    assert done.returncode == 2
    assert f"needs the package '{package}', which is not installed: pip install 'lazygraph[train]'" in one_line(
        done.stderr
    )
    assert done.stdout == ""
    assert not (folder / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["info", "d.lg"], ["verify", "d.lg"], ["doctor"], ["train", "--help"]], ids=" ".join
)
def test_other_commands_need_none(folder, command):
    done = without([*TRAIN, "pyarrow", "vesin", "matgl", "mace"], command, folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_parquet_is_asked_for_before_anything_is_predicted(folder, capsys, monkeypatch):
    pytest.importorskip("lightning")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.chdir(folder)
    assert main(["predict", "run", "d.lg", "-o", "p.parquet"]) == 2  # there is no run either
    assert "p.parquet needs the package pyarrow, which is not installed: pip install 'lazygraph[parquet]'" in one_line(
        capsys.readouterr().err
    )


@pytest.mark.parametrize(("model", "package", "graph"), [("m3gnet", "matgl", "m3gnet"), ("mace", "mace", "mace")])
def test_models_of_other_packages_name_theirs(tmp_path, capsys, monkeypatch, model, package, graph):
    pytest.importorskip("lightning")
    lg.write("prototypes:24?seed=1", tmp_path / "d.lg", graph=graph, workers=1, progress=False)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "d.lg", "--target", "density", "--model", model, "-o", "run", "--no-progress"]) == 2
    assert "pip install 'lazygraph[interop]'" in one_line(capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_a_label_whose_file_is_gone(tmp_path, capsys, monkeypatch):
    pytest.importorskip("lightning")
    lg.write("prototypes:24?seed=1", tmp_path / "d.lg", graph="cgcnn", workers=1, progress=False)
    (column,) = (tmp_path / "d.lg" / "columns").glob("density-*.npy")
    column.unlink()
    monkeypatch.chdir(tmp_path)
    assert main(["train", "d.lg", "--target", "density", "--model", "cgcnn", "-o", "run", "--no-progress"]) in (2, 3)
    assert column.name in one_line(capsys.readouterr().err)
    assert not (tmp_path / "run").exists()
