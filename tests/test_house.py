"""What holds for the project as a whole: light imports, the public face, pinned versions, the README, the examples."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import lazygraph as lg
from tests.servers.started import hub_server, use_hub

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
HEAVY = ("torch", "torch_geometric", "jarvis", "pymatgen.core", "ase", "matplotlib", "pandas")


def name_of(path):
    return str(path.relative_to(ROOT))


def loaded_after(code, tmp_path):
    """The heavy packages that a new Python has loaded once it ran this code."""
    code += f"\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def test_importing_lazygraph_is_light(tmp_path):
    assert loaded_after("import lazygraph", tmp_path) == []


def test_listing_the_public_names_is_light(tmp_path):
    assert loaded_after("import lazygraph\ndir(lazygraph)", tmp_path) == []


@pytest.mark.slow
def test_a_writer_loads_neither_torch_nor_jarvis(tmp_path):
    code = """
import lazygraph as lg
from lazygraph.writing.worker import make_shard
report = lg.write("prototypes:6?seed=3", "out.lg", workers=1, progress=False)
if report.written != 6:
    raise SystemExit(f"{report}")
"""
    assert not {"torch", "torch_geometric", "jarvis"} & set(loaded_after(code, tmp_path))


def test_public_names_are_listed_once_and_found_by_dir():
    assert len(set(lg.__all__)) == len(lg.__all__)
    assert set(lg.__all__) <= set(dir(lg))


@pytest.mark.parametrize("name", lg.__all__)
def test_every_public_name_resolves_and_is_documented(name):
    value = getattr(lg, name)
    doc = inspect.getdoc(value)
    assert doc, f"{name} has no docstring"
    # dataclasses without a docstring are given their signature for one
    assert not doc.startswith(f"{name}(")


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        lg.no_such_name  # noqa: B018


def test_the_types_are_shipped():
    assert (Path(lg.__file__).parent / "py.typed").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["lazygraph"]


def test_the_version_is_told_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == lg.__version__


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_constants_of_the_compiled_loops_are_those_of_python():
    """``python tools/native_constants.py --write`` writes them again."""
    tool = load_tool("native_constants")
    assert tool.header() == tool.HEADER.read_text()


def test_imports_go_in_no_circle_and_are_drawn():
    """``python tools/import_graph.py --write`` draws them again."""
    tool = load_tool("import_graph")
    page = tool.PAGE.read_text()
    assert tool.drawn(page) == page
    assert tool.circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) is not None


PRIVATE = re.compile(
    r"(?:from|import) +torch(?:_geometric)?\S*\._|from +torch(?:_geometric)?\S* +import[^#\n]*\b_[a-z]"
    r"|\btorch(?:\.\w+)*\._[a-z]|\._(?:store|mapping|slice_dict|inc_dict|num_graphs|num_nodes|indices|shutdown_workers)\b"
    r"|_base_cls|GlobalStorage"
)


def test_one_module_alone_uses_private_names_of_pyg_and_torch():
    package = ROOT / "lazygraph"
    found = {
        f"{path.relative_to(package)}:{number}"
        for path in package.rglob("*.py")
        if path.name != "pyg_internals.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PRIVATE.search(line) and "self._store" not in line
    }
    assert found == set()
    assert PRIVATE.search((package / "loading" / "pyg_internals.py").read_text())


# ---- versions ----


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_pins_are_exact_and_name_no_place():
    for pin in pins():
        (specifier,) = pin.specifier
        assert specifier.operator == "==", f"{pin} is no pin"
        assert "+" not in specifier.version, f"{pin} is one machine's build"
        assert pin.url is None
    names = [canonical(pin.name) for pin in pins()]
    assert len(set(names)) == len(names)
    assert "lazygraph" not in names


def test_every_requirement_is_pinned_within_its_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = project["dependencies"] + [r for extra in project["optional-dependencies"].values() for r in extra]
    pinned = {canonical(pin.name): next(iter(pin.specifier)).version for pin in pins()}
    for requirement in map(Requirement, required):
        version = pinned.get(canonical(requirement.name))
        assert version is not None, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} excludes the pinned {version}"


# ---- the README ----

BLOCK = re.compile(r"^```(python|bash|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tools/**/*.md")])


def script(kind, block):
    """What a reader would type of a block, or nothing where it starts no program of lazygraph's (pip, ./tools)."""
    lines = block.splitlines(keepends=True)
    if kind == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return "".join(lines) if any(re.match(r"lazygraph(-write)?\s", line) for line in lines) else ""


def test_what_is_typed_of_a_block():
    assert script("bash", "pip install .\n./tools/test\n") == ""
    assert script("bash", "cp -r a b\nlazygraph verify \\\n  b\n") == "cp -r a b\nlazygraph verify \\\n  b\n"
    assert script("console", "$ lazygraph info x.lg\nlazygraph: output\n") == "lazygraph info x.lg\n"


@pytest.mark.slow
def test_the_readme_runs(tmp_path, tmp_path_factory, monkeypatch):
    """Its Python blocks in one namespace, and its blocks of commands, in the order in which they stand."""
    if not README.exists():
        pytest.skip("there is no README.md yet")
    scripts = sysconfig.get_path("scripts")
    if shutil.which("lazygraph", path=scripts) is None:
        pytest.skip("lazygraph is not installed in this environment: pip install -e .")
    folder = tmp_path_factory.mktemp("hub")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAZYGRAPH_CACHE", str(folder / "cache"))
    with hub_server(folder) as (_, hub):  # which the README pushes to
        use_hub(hub, monkeypatch)
        run_readme(os.environ | {"PATH": scripts + os.pathsep + os.environ["PATH"]})


def run_readme(environment):
    namespace = {"__name__": "readme"}
    text = README.read_text()
    blocks = list(BLOCK.finditer(text))
    assert {block[1] for block in blocks} >= {"python", "bash"}
    for block in blocks:
        line = text.count("\n", 0, block.start()) + 1
        if block[1] == "python":
            exec(compile("\n" * line + block[2], str(README), "exec"), namespace)
        elif typed := script(*block.groups()):
            command = ["bash", "-e", "-c", typed]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"README.md, line {line}:\n{typed}{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page):
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "made"),
    [
        ("array_job.sh", ["prototypes:40?seed=0", "made.lg"], "made.lg/manifest.json"),
        ("train_slurm.sh", ["p.lg", "density", "run", "--model", "cgcnn", "--n-epochs", "1"], "run/results.json"),
    ],
)
def test_a_script_of_jobs_runs(script, arguments, made, tmp_path):
    """With a stand-in for Slurm, which runs the command once, on this machine."""
    lg.write("prototypes:40?seed=0", tmp_path / "p.lg", graph="cgcnn", workers=1, progress=False)
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin" / "srun"
    stand_in.write_text('#!/bin/sh\nexec "$@"\n')
    stand_in.chmod(0o755)
    path = os.pathsep.join([str(stand_in.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "SLURM_NTASKS_PER_NODE": "1"}
    command = ["bash", str(ROOT / "examples" / script), *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / made).exists()
