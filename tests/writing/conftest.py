from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.writing.quarantine import read_quarantine


@pytest.fixture(scope="session")
def bytes_of():
    """Path of a folder -> {path within it: bytes} of every file below it."""

    def read(folder):
        return {
            p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()
        }

    return read


@pytest.fixture(scope="session")
def salt():
    """Number -> a crystal that is another one for every number."""

    def make(number=0):
        shift = 0.001 * (number % 97)
        return lg.Crystal(np.eye(3) * (4 + 0.01 * number), [[0, 0, 0], [0.5 + shift, 0.5, 0.5]], [11, 17])

    return make


@pytest.fixture(scope="session")
def write():
    """``lg.write`` in this process, silent."""

    def call(source, path, **options):
        options = {"workers": 1, "progress": False} | options
        return lg.write(source, path, **options)

    return call


@pytest.fixture(scope="session")
def append():
    """``lg.append`` in this process, silent."""

    def call(path, source, **options):
        return lg.append(path, source, **({"workers": 1, "progress": False} | options))

    return call


@pytest.fixture(scope="session")
def retry():
    """``lg.retry_quarantined`` in this process, silent."""

    def call(path, source, **options):
        return lg.retry_quarantined(path, source, **({"workers": 1, "progress": False} | options))

    return call


@pytest.fixture(scope="session")
def quarantine():
    """Path of a dataset -> its quarantined inputs."""

    def read(path):
        return read_quarantine(Path(path), Manifest.load(Path(path)))

    return read


@pytest.fixture(scope="session")
def sound():
    """Check that a directory is a finished dataset of which every byte is what its manifest says; its manifest."""

    def check(path):
        store = Store(path)
        for file in store.manifest.files():
            file.check(store.path)
        ids = [store.graph_id(row) for row in range(len(store))]
        assert len(set(ids)) == len(ids) == store.manifest.graphs
        for row in range(len(store)):
            store.arrays(row)
            assert store.row_of(ids[row]) == row
        return store.manifest

    return check


@pytest.fixture(scope="session")
def environment():
    """The variables with which another Python finds this lazygraph."""
    root = Path(lg.__file__).parents[1]
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture
def python(environment, tmp_path):
    """Run another Python in an empty folder to its end; its stdout. Fails the test if it fails."""

    def run(*arguments, stdin=None):
        done = subprocess.run(
            [sys.executable, *arguments], input=stdin, capture_output=True, text=True, cwd=tmp_path, env=environment,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
