"""docs/clusters.md: its examples for one machine run, and its commands."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lazygraph as lg
from lazygraph.format.manifest import Manifest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "clusters.md"
SCRIPTS = Path(sys.executable).parent


def run(*command, cwd):
    variables = os.environ | {
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_examples_run(tmp_path):
    """Each block in a process of its own, as a script, with the import of lazygraph that the first one has."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = [block[1] for block in re.finditer(r"```python\n(.*?)```", text, re.DOTALL)]
    assert len(blocks) == 2
    lg.write("prototypes:2000?seed=0", tmp_path / "one.lg", graph="cgcnn", workers=1, progress=False)
    for number, block in enumerate(blocks):
        if "distributed" in block and importlib.util.find_spec("distributed") is None:
            continue
        script = tmp_path / f"example_{number}.py"
        script.write_text(block if "import lazygraph" in block else f"import lazygraph as lg\n{block}")
        done = run(sys.executable, script, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        path = tmp_path / ("dask.lg" if "dask.lg" in block else "pool.lg")
        assert Manifest.load(path).content_id == Manifest.load(tmp_path / "one.lg").content_id


@pytest.mark.slow
def test_the_commands_run(tmp_path):
    if shutil.which("lazygraph", path=SCRIPTS) is None:
        pytest.skip("lazygraph is not installed in this environment: pip install -e .")
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        done = run("bash", "-ec", block, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "--array=1-64%32" in (tmp_path / "submit.sh").read_text()
    ds = lg.LazyGraphDataset(tmp_path / "parts.lg")
    assert (len(ds), len(ds.split("test"))) == (2000, 200)


def test_the_helpers_that_the_page_names_are_there():
    named = set(re.findall(r"lg\.executors\.(\w+)", PAGE.read_text(encoding="utf-8")))
    assert named == set(lg.executors.__all__)
