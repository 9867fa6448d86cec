"""What a type checker sees of the public face: a user's script under ``mypy --strict``."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from inspect import signature
from pathlib import Path

import pytest

import lazygraph as lg
from lazygraph.training.options import FurtherOptions

# Expression -> the type that mypy has to see. PyG has no types, so tests/stubs tells mypy that its classes exist.
EXPRESSIONS = {
    'lg.TrainOptions(target="gap")': "TrainOptions",
    'lg.TrainOptions(target=["gap", "energy"], graph="mace", graph_options={"cutoff": 4.0})': "TrainOptions",
    'lg.TrainOptions(target="gap").targets': "tuple[str, ...]",
    "ds": "LazyGraphDataset",
    "ds[0]": "Data",
    "ds[np.int64(0)]": "Data",
    'ds["mp-149"]': "Data",
    "ds[10:20]": "LazyGraphDataset",
    "ds[[3, 1]]": "LazyGraphDataset",
    'ds[["mp-149"]]': "LazyGraphDataset",
    'ds[ds.columns["gap"] > 0.5]': "LazyGraphDataset",
    "ds.ids[:5]": "ndarray",
    "ds[ds.ids[:5]]": "LazyGraphDataset",
    "ds.batch([1, 2])": "Batch",
    "ds.batch(range(3))": "Batch",
    'ds.where("n_atoms < 20")': "LazyGraphDataset",
    'ds.split("train")': "LazyGraphDataset",
    "ds.crystal(0)": "Crystal",
    "ds.spec": "GraphSpec | None",
    "ds.content_id": "str",
    "len(ds)": "int",
    "lg.loader(ds, 32)": "Loader",
    "lg.loader(ds[:9], max_atoms=4000, shuffle=True)": "Loader",
    "next(iter(lg.loader(ds, 32)))": "Batch",
    "lg.loader(ds, 32).state_dict()": "dict[str, Any]",
    'ds.sample(100, seed=0, stratify="chemical_system")': "LazyGraphDataset",
    'lg.mix({"a": ds, "b": ds[:9]}, rates={"a": 3, "b": 1})': "Mix",
    'lg.mix({"a": ds})[0]': "Data",
    'lg.mix({"a": ds})[:5]': "Mix",
    'lg.loader(lg.mix({"a": ds}, policy="temperature", temperature=2.0), max_atoms=4000)': "Loader",
    'lg.write("a.cif", "mp.lg", graph="comformer", split=(0.8, 0.1, 0.1))': "Report",
    'lg.write(ds[:9], Path("mp.lg"), graph=lg.graph("none")).written': "int",
    'lg.append("mp.lg", ["b.cif", "c.cif"], split="train")': "Report",
    'lg.retry_quarantined("mp.lg", "a.cif", max_seconds=60.0)': "Report",
    'lg.graph("comformer", cutoff=4.0)': "GraphSpec",
    'lg.graph("none").build(ds.crystal(0))': "CrystalGraph",
    'lg.view("pyg")': "View",
    'lg.train("mp.lg", lg.TrainOptions(target="gap"), "run")': "Results",
    "lg.train_from_list([ds.crystal(0)], [1.0], patience=3, seed=1)": "Results",
    'lg.predict("run", "a.cif").rows[0].predicted': "Sequence[float]",
}
MISTAKES = {
    "lg.TrainOptions(target=3)": "arg-type",
    "ds[0.5]": "call-overload",
    "ds.batch(3)": "arg-type",
    'lg.write("a.cif", "mp.lg", append=True)': "call-arg",
    'lg.append("mp.lg", "a.cif", overwrite=True)': "call-arg",
    'lg.append("mp.lg", "a.cif", graph="mace")': "call-arg",
    'lg.retry_quarantined("mp.lg", "a.cif", labels=["gap"])': "call-arg",
    "lg.train_from_list([], [], n_epoch=3)": "call-arg",
    'lg.write("a.cif", "mp.lg", split="train")': "arg-type",
}
SCRIPT = """\
from pathlib import Path

import numpy as np

import lazygraph as lg

ds = lg.LazyGraphDataset("mp.lg", target="gap", graph=lg.graph("mace", cutoff=4.0))
for batch in lg.loader(ds, 32):
    reveal_type(batch)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Number of a line of the script -> what mypy says of it."""
    folder = tmp_path_factory.mktemp("typing")
    lines = [*(f"reveal_type({code})" for code in EXPRESSIONS), *MISTAKES]
    (folder / "script.py").write_text(SCRIPT + "\n".join(lines) + "\n")
    stubs = Path(__file__).parent / "stubs"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-pretty", "--no-color-output", "script.py"],
        cwd=folder, env=os.environ | {"MYPYPATH": str(stubs)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    out = {}
    for line in done.stdout.splitlines():
        found = re.fullmatch(r"script\.py:(\d+): (.*)", line)
        if found:
            out.setdefault(int(found[1]), []).append(found[2])
    assert out, done.stdout + done.stderr
    return out


FIRST = SCRIPT.count("\n") + 1


@pytest.mark.slow
def test_types_are_told(told):
    expected = {FIRST - 1: "Batch", **dict(enumerate(EXPRESSIONS.values(), FIRST))}
    names = dict(enumerate(["batch of a loader", *EXPRESSIONS], FIRST - 1))
    wrong = {}
    for number, wanted in expected.items():
        said = told.get(number, [])
        seen = [
            re.sub(r"[a-z_]+\.", "", one.removeprefix('note: Revealed type is "').removesuffix('"')) for one in said
        ]
        if seen != [wanted] and not (wanted == "ndarray" and seen[0].startswith("ndarray[")):
            wrong[names[number]] = said
    assert wrong == {}


@pytest.mark.slow
def test_mistakes_are_told(told):
    wrong = {}
    for number, (code, kind) in enumerate(MISTAKES.items(), FIRST + len(EXPRESSIONS)):
        if not any(line.startswith("error: ") and line.endswith(f"[{kind}]") for line in told.get(number, [])):
            wrong[code] = told.get(number)
    assert wrong == {}


@pytest.mark.slow
def test_nothing_else_is_said(told):
    lines = range(FIRST - 1, FIRST + len(EXPRESSIONS) + len(MISTAKES))
    assert {number: said for number, said in told.items() if number not in lines} == {}


def test_train_from_list_declares_every_option():
    named = set(signature(lg.train_from_list).parameters)
    declared = set(FurtherOptions.__annotations__)
    not_of_lists = {"target", "graph", "graph_options", "splits"}
    # A list of labels has numbers of structures, but none of atoms.
    not_of_lists |= {"forces", "stress", "stress_convention", "element_references"}
    not_of_lists |= {"energy_weight", "forces_weight", "stress_weight"}
    assert declared == {field.name for field in fields(lg.TrainOptions)} - named - not_of_lists


# ---- the examples, as a user's type checker sees them: outside the package, with its installed types ----

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# These call trainers of other packages, which declare torch's DataLoader where any iterable of batches works.
OF_PEERS = {"loop_chgnet.py", "loop_mace.py", "loop_metatrain.py"}
# What is checked is how lazygraph is called, not the types that other packages lack or do not export.
MYPY = [
    "--strict", "--config-file=", "--no-pretty", "--ignore-missing-imports", "--implicit-reexport",
    "--allow-untyped-calls", "--allow-subclassing-any", "--no-warn-return-any", "--no-warn-unused-ignores",
]  # fmt: skip


@pytest.fixture
def examples(tmp_path):
    """A copy of the examples in a folder of a user's."""
    for example in EXAMPLES.glob("*.py"):
        if example.name not in OF_PEERS and (example.name != "loop_matgl.py" or importlib.util.find_spec("matgl")):
            shutil.copy(example, tmp_path)
    return tmp_path


WRONG = """\
import lazygraph as lg

ds = lg.LazyGraphDataset("mp.lg", target=3)
rate: str = lg.write("a.cif", "mp.lg").written
"""


@pytest.mark.slow
def test_mypy_accepts_the_examples(examples):
    names = [path.name for path in examples.glob("*.py")]
    (examples / "wrong.py").write_text(WRONG)
    command = [sys.executable, "-m", "mypy", *MYPY, "--cache-dir", str(examples / "cache"), "wrong.py", *names]
    done = subprocess.run(command, cwd=examples, capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if "error" in line and not line.startswith(("wrong.py", "Found"))]
    assert said == [], done.stderr
    # It sees types: two mistakes in two lines.
    assert re.findall(r"^wrong\.py:(\d+): error", done.stdout, re.MULTILINE) == ["3", "4"]


@pytest.mark.slow
def test_pyright_accepts_the_examples(examples):
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed: pip install pyright")
    if shutil.which("node") is None:
        pytest.skip("pyright needs node, which is not installed")  # it would download it
    (examples / "wrong.py").write_text(WRONG)
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "."]
    done = subprocess.run(command, cwd=examples, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1, one["message"])
        for one in found
        if one["severity"] == "error"
    ]
    assert [error for error in errors if error[0] != "wrong.py"] == []
    assert [line for name, line, _ in errors if name == "wrong.py"] == [3, 4]
