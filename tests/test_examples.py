"""The examples run, print units, and learn something; those that say plain PyTorch run without Lightning."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# Example -> the packages, apart from torch and PyG, without which it is skipped.
NEEDS = {
    "loop_lightning.py": ["lightning"], "loop_matgl.py": ["matgl"], "loop_chgnet.py": ["chgnet"],
    "loop_mace.py": ["mace"], "loop_metatrain.py": ["metatrain"],
}  # fmt: skip
WITHOUT_LIGHTNING = """\
import runpy, sys
sys.modules["lightning"] = sys.modules["pytorch_lightning"] = None  # an import of them fails
runpy.run_path(sys.argv[1], run_name="__main__")
"""
ALL = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What an example prints; it runs once."""
    told = {}

    def run(example):
        if missing := [name for name in NEEDS.get(example.name, []) if importlib.util.find_spec(name) is None]:
            pytest.skip(f"{missing[0]} is not installed")
        if example not in told:
            start = [] if example.name in NEEDS else ["-c", WITHOUT_LIGHTNING]
            command = [sys.executable, *start, str(example)]
            folder = tmp_path_factory.mktemp(example.stem)
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            told[example] = done.stdout
        return told[example]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("example", ALL, ids=lambda path: path.name)
def test_an_example_runs(example, printed):
    """Those that do not need Lightning run where it cannot be imported."""
    assert printed(example)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["from_structures.py", "loop_lightning.py", "loop_matgl.py", "loop_pyg.py", "loop_pytorch.py", "molecules.py"],
)
def test_an_example_prints_units(name, printed):
    assert re.search(r"\d ?(eV|g/cm\^3|g/mol)", printed(EXAMPLES / name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loop_pytorch.py", "loop_pyg.py", "loop_lightning.py"])
def test_a_loop_learns_something(name, printed):
    text = printed(EXAMPLES / name)
    errors = [float(error) for error in re.findall(r"validation MAE ([\d.]+)", text)]
    (baseline,) = map(float, re.findall(r"a predictor of the mean: ([\d.]+)", text))
    assert min(errors[-3:]) < 0.7 * baseline


@pytest.mark.slow
def test_the_molecules_teach_the_masses_of_the_elements(printed):
    learned = re.search(r"learned: C ([\d.]+), H ([\d.]+) g/mol", printed(EXAMPLES / "molecules.py"))
    assert float(learned[1]) == pytest.approx(12.011, abs=0.1)
    assert float(learned[2]) == pytest.approx(1.008, abs=0.1)
