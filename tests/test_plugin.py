"""The toy plug-in of examples/plugin, installed as a user would: found by name, used by every part, never by a file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
LINES = "# toy crystals\na 3.0 26 -1.5\nb 3.1 11 -0.5\nflat 0.0 8 0.0\nc 3.2 17 -0.25\n"
SCRIPTS = sysconfig.get_path("scripts")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder in which the plug-in is installed."""
    source, target = tmp_path_factory.mktemp("source") / "plugin", tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "examples" / "plugin", source)  # a build leaves files beside what it builds
    command = ["install", "-q", "--no-build-isolation", "--no-deps", "--no-index", "--target", target, source]
    done = subprocess.run([sys.executable, "-m", "pip", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def run(site, tmp_path):
    """Run a command where the plug-in is installed, or with ``bare`` where it is not."""
    (tmp_path / "c.toy").write_text(LINES)
    installed = {**os.environ, "PYTHONPATH": str(site), "PATH": SCRIPTS + os.pathsep + os.environ["PATH"]}
    missing = {**installed, "PYTHONPATH": ""}

    def run(*command, bare=False):
        environment = missing if bare else installed
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


def python(run, code, **options):
    return run(sys.executable, "-c", code, **options)


def test_it_keeps_the_contracts(run):
    tests = ROOT / "examples" / "plugin" / "tests"
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n0", "--rootdir", tests, tests)
    assert done.returncode == 0, done.stdout


def test_its_format_preset_view_and_model_are_named_on_the_command_line(run, tmp_path):
    for options in ((), ("--format", "toy", "--workers", "2", "--shard-size", "1")):
        done = run(
            "lazygraph-write", "c.toy", "-o", f"{len(options)}.lg", "--graph", "toy", "--cutoff", "3.5", *options
        )
        assert done.returncode == 0, done.stderr
    code = """
import lazygraph as lg, sys
for name in ("0.lg", "6.lg"):
    ds = lg.LazyGraphDataset(name, view="toy", target="energy", expect=lg.graph("toy", cutoff=3.5))
    print(ds.ids.tolist(), ds[0].z.tolist(), ds.batch([0, 1, 2]).length.shape[0], repr(ds.spec), ds[0].y.item())
    from lazygraph.training.models import find_model
    print(find_model("toy").build(1)(ds.batch([0, 1, 2])).shape)
"""
    done = python(run, code)
    assert done.returncode == 0, done.stderr
    line = (
        "['a', 'b', 'c'] [26] 18 lazygraph.GraphSpec('toy', lazygraph.graphs.Radius(cutoff=3.5)) -1.5\n"
        "torch.Size([3, 1])\n"
    )
    assert done.stdout == 2 * line


def test_its_export_format_is_named_on_the_command_line(run, tmp_path):
    done = run("lazygraph-write", "c.toy", "-o", "toy.lg", "--graph", "cgcnn")
    assert done.returncode == 0, done.stderr
    for workers in ("1", "2"):
        done = run("lazygraph", "export", "toy.lg", "-o", f"{workers}.toy", "--format", "toy", "--workers", workers)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / f"{workers}.toy").read_text() == LINES.replace("flat 0.0 8 0.0\n", "")
    refused = run("lazygraph", "export", "toy.lg", "-o", "3.toy", "--format", "toy", bare=True)
    assert (refused.returncode, "unknown export format 'toy'; known: extxyz, " in refused.stderr) == (2, True)


def test_a_plan_makes_nothing_be_imported(run):
    done = run("lazygraph-write", "plan", "c.toy", "-o", "planned.lg", "--graph", "toy-alike")
    assert done.returncode == 0, done.stderr
    refused = run("lazygraph-write", "shard", "planned.lg", "--task", "0")
    assert refused.returncode == 2
    assert "--plugin NAME on the command line" in refused.stderr
    for plugins in (["--plugin", "toy-alike"], ["--plugin", "toy"]):  # one of them alone is not enough
        done = run("lazygraph-write", "shard", "planned.lg", "--task", "0", *plugins)
        assert done.returncode == 2, done.stdout
    named = ["--plugin", "toy", "--plugin", "toy-alike"]
    for command in (["shard", "planned.lg", "--task", "0"], ["merge", "planned.lg"]):
        done = run("lazygraph-write", *command, *named)
        assert done.returncode == 0, done.stderr


def test_a_dataset_with_a_rule_of_a_plugin_is_read_where_the_user_names_it(run):
    done = run("lazygraph-write", "c.toy", "-o", "alike.lg", "--graph", "toy-alike")
    assert done.returncode == 0, done.stderr
    code = "import lazygraph as lg, sys; {}; print('lazygraph_toy' in sys.modules, len(ds))"
    opened = "ds = lg.LazyGraphDataset('alike.lg'{})"
    for arguments in (", expect='toy-alike'", ", graph='toy-alike'"):
        done = python(run, code.format(opened.format(arguments)))
        assert done.stdout == "True 3\n", done.stderr
    refused = python(run, code.format(opened.format("")))
    assert (
        "RecipeError: unknown rule 'alike'; known: shell, nearest, radius, none; if it belongs to a plug-in, "
        "load a preset of the plug-in first (" in (refused.stderr)
    )
    done = run("lazygraph", "info", "alike.lg", "--plugin", "toy-alike")
    assert done.returncode == 0, done.stderr
    assert "Alike" in done.stdout
    bare = run("lazygraph", "info", "alike.lg", bare=True)
    assert bare.returncode == 2
    assert "unknown rule 'alike'; known: shell, nearest, radius, none; install the plug-in" in bare.stderr


def test_a_dataset_of_a_plugins_preset_with_an_own_rule_needs_no_plugin(run):
    done = run("lazygraph-write", "c.toy", "-o", "toy.lg", "--graph", "toy")
    assert done.returncode == 0, done.stderr
    done = python(run, "import lazygraph as lg; print(lg.LazyGraphDataset('toy.lg')[0].edge_attr.shape[0])", bare=True)
    assert done.stdout == "6\n", done.stderr


def test_a_name_that_is_not_installed_says_so(run):
    done = run("lazygraph-write", "c.toy", "-o", "x.lg", "--format", "toy", bare=True)
    assert (done.returncode, "unknown format 'toy'; " in done.stderr) == (2, True)
    done = run("lazygraph-write", "c.toy", "-o", "x.lg", "--graph", "toy-alik")
    assert (done.returncode, "did you mean 'toy-alike'?" in done.stderr) == (2, True)
    done = run("lazygraph", "info", "x.lg", "--plugin", "toi")
    assert (done.returncode, "unknown plug-in 'toi'; did you mean 'toy'? known: toy, toy-alike" in done.stderr) == (
        2,
        True,
    )
