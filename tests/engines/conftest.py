"""Engines started for real, and a script that writes with one of them in a process and a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import lazygraph as lg
from lazygraph.writing.layout import Layout

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
def variables(tmp_path):
    """What processes of engines are started with: this lazygraph, and a folder of their own for temporary files."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    paths = [str(Path(__file__).parent / "site"), str(ROOT)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(variables, tmp_path):
    """Start a process in a folder of its own; all that were started end with the test, with their children."""
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
    for process in running:
        family = []
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
        for one in (process, *family):
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                one.kill()
        process.wait(timeout=30)


def until(condition, process=None, seconds=120.0):
    """Wait for a condition; fail where a process ends before, or after a long time."""
    end = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}:\n{process.log.read_text()[-4000:]}")
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def ended(process, seconds=240.0):
    """The exit code of a process, and what it printed."""
    code = process.wait(timeout=seconds)
    return code, process.log.read_text()


def finished(path):
    """How many shards of a dataset that is being made are finished."""
    rows = Layout.of(path).rows
    return len(list(rows.glob("*.msgpack"))) if rows.is_dir() else 0


def makers(variables):
    """The processes that make shards right now: whoever holds the note of a shard open."""
    found = []
    for process in psutil.process_iter(["pid"]):
        with suppress(psutil.Error, OSError):
            links = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{process.pid}/fd")]
            if any("/at/" in link and link.startswith(str(variables)) for link in links):
                found.append(process)
    return found


def kill_a_maker(path, process):
    """Kill one process that makes a shard of this dataset."""
    partial = Layout.of(path).partial
    victims = []

    def found():
        victims.extend(makers(partial))
        return bool(victims)

    until(found, process)
    victims[0].send_signal(signal.SIGKILL)
    return victims[0].pid


__all__ = ["ended", "finished", "kill_a_maker", "until"]
PYTHON = sys.executable
