"""Engines started for real, and a script that writes with one of them in a process and a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import lazygraph as lg

ROOT = Path(lg.__file__).resolve().parents[1]


@pytest.fixture
def need():
    """Skip a test where a package or a program is missing."""

    def check(*names):
        for name in names:
            if importlib.util.find_spec(name) is None:
                pytest.skip(f'{name} is not installed: pip install "lazygraph[engines]"')

    return check


@pytest.fixture
def bytes_of():
    """Every file of a dataset by its name."""

    def read(path):
        return {str(p.relative_to(path)): p.read_bytes() for p in Path(path).rglob("*") if p.is_file()}

    return read


@pytest.fixture
def variables():
    """What processes of engines are started with: this lazygraph, and a folder of their own for temporary files."""
    # A short name: the path of a socket may have 107 bytes.
    scratch = tempfile.mkdtemp(prefix="lg-", dir="/tmp")
    paths = [str(Path(__file__).parent / "site"), str(ROOT)]
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PYTHONPATH": os.pathsep.join(paths), "PATH": programs, "TMPDIR": scratch, "OMP_NUM_THREADS": "1"}
    # Open MPI starts nothing as root, or more processes than CPUs, unless told so.
    mpi = dict.fromkeys(("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1")
    mpi["OMPI_MCA_rmaps_base_oversubscribe"] = "1"
    yield os.environ | own | mpi
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture
def start(variables, tmp_path):
    """Start a process in a folder of its own; all that were started end with the test, and what they started."""
    running = []

    def begin(name, *command, **extra):
        folder = tmp_path / f"cwd-{name}"
        folder.mkdir(exist_ok=True)
        log = (tmp_path / f"{name}.log").open("ab")
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, env=variables | extra, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        process.log = tmp_path / f"{name}.log"
        running.append(process)
        return process

    yield begin
    # Engines start daemons, which outlive a process that was killed. They have the variables or a folder of this test;
    # some write their title over their variables.
    for one in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if one.environ().get("TMPDIR") == variables["TMPDIR"] or tmp_path in Path(one.cwd()).parents:
                one.kill()
    for process in running:
        process.wait(timeout=30)
