"""Each engine for real, in processes with working and scratch folders of their own: the same bytes whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

import lazygraph as lg
from lazygraph.format.manifest import Manifest
from lazygraph.writing.layout import Layout
from lazygraph.writing.quarantine import read_quarantine
from tests.engines.processes import ended, finished, kill_a_maker, until
from tests.engines.write_with import arguments

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parent / "write_with.py"
PACKAGES = {
    "dask_local": "distributed",
    "dask": "distributed",
    "ray": "ray",
    "parsl": "parsl",
    "executorlib": "executorlib",
    "mpi": "mpi4py",
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What is written -> the bytes that one process writes."""
    folder, found = tmp_path_factory.mktemp("expected"), {}

    def of(what, bytes_of):
        if what not in found:
            source, options = arguments(what)
            lg.write(source, folder / f"{what}.lg", workers=1, progress=False, **options)
            found[what] = bytes_of(folder / f"{what}.lg")
        return found[what]

    return of


@pytest.fixture(params=PACKAGES)
def engine(request, need):
    """The name of an engine that is installed."""
    need(PACKAGES[request.param])
    if request.param == "dask_local" and "LAZYGRAPH_ENGINES" not in os.environ:
        pytest.skip("tools/engines runs it; here, Dask is tested with a scheduler and workers of their own")
    if request.param == "mpi" and shutil.which("mpiexec") is None:
        pytest.skip("mpiexec is not installed: Debian's openmpi-bin, or pip install mpich")
    return request.param


@pytest.fixture
def write_with(engine, start):
    """Write with the engine in a new process."""
    extra, count = {}, [0]

    def run(path, what="crystals", **more):
        if engine == "dask" and not extra:
            extra["SCHEDULER"] = cluster(start, **more)
        count[0] += 1
        command = [sys.executable, SCRIPT, engine, path, what]
        if engine == "mpi":
            command = ["mpiexec", "-n", 3, sys.executable, "-m", "mpi4py.futures", *command[1:]]
        return start(f"main-{count[0]}", *command, **extra, **more)

    return run


def cluster(start, **extra):
    """A scheduler of Dask and two workers, each in a process of its own; the address of the scheduler."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    start(
        "scheduler", sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", address.rpartition(":")[2],
        "--host", "127.0.0.1", "--no-dashboard",
    )  # fmt: skip
    for n in range(2):
        worker(start, n, address, **extra)
    return address


def worker(start, n, address, **extra):
    return start(
        f"worker-{n}", sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", 1, "--no-dashboard",
        "--local-directory", ".", **extra,
    )  # fmt: skip


def test_a_worker_that_is_killed_costs_nothing_but_time(engine, write_with, expected, bytes_of, tmp_path):
    """MPI ends all processes of the job with one of them: then the same command goes on."""
    path = tmp_path / "x.lg"
    process = write_with(path)
    until(lambda: finished(path) >= 3, process)
    kill_a_maker(path, process)
    code, text = ended(process)
    if engine == "mpi":
        assert code != 0
        code, text = ended(write_with(path))
    assert (code, text.splitlines()[-1]) == (0, "REPORT 400 0"), text
    assert bytes_of(path) == expected("crystals", bytes_of)
    assert not Layout.of(path).partial.exists()


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(write_with, expected, bytes_of, tmp_path):
    path = tmp_path / "x.lg"
    process = write_with(path)
    until(lambda: finished(path) >= 3, process)
    process.send_signal(signal.SIGINT)
    code, _ = ended(process)
    assert code != 0
    assert not path.exists()
    assert finished(path) >= 3
    code, text = ended(write_with(path))
    assert (code, text.splitlines()[-1]) == (0, "REPORT 400 0"), text
    assert bytes_of(path) == expected("crystals", bytes_of)
    assert not Layout.of(path).partial.exists()


def test_an_input_that_kills_every_worker_is_quarantined(engine, write_with, tmp_path):
    path = tmp_path / "x.lg"
    code, text = ended(write_with(path, "poison", POISON="1"))
    if engine == "mpi":
        assert code != 0
        code, text = ended(write_with(path, "poison", POISON="1"))
    assert (code, text.splitlines()[-1]) == (0, "REPORT 143 1"), text
    (one,) = read_quarantine(path, Manifest.load(path))
    assert (one.id, one.error) == ("id-10", "WorkerDied")


def test_workers_of_a_write_that_was_given_up_leave_another_one_alone(write_with, expected, bytes_of, tmp_path):
    """The process is killed and its workers go on, where the engine lets them; another plan is put in the place."""
    path = tmp_path / "x.lg"
    process = write_with(path)
    until(lambda: finished(path) >= 2, process)
    process.kill()
    process.wait()
    # Renamed first: workers may put files into the folder while it is being deleted.
    shutil.rmtree(Layout.of(path).partial.rename(tmp_path / "given up"), ignore_errors=True)
    source, options = arguments("other")
    lg.write(source, path, workers=1, progress=False, **options)
    assert bytes_of(path) == expected("other", bytes_of)


def test_workers_of_dask_that_are_all_gone_and_a_scheduler_that_is_gone_end_a_write(
    start, need, expected, bytes_of, tmp_path
):
    need("distributed")
    path = tmp_path / "x.lg"
    processes = []

    def begin(name, *command, **extra):
        processes.append(start(name, *command, **extra))
        return processes[-1]

    extra = {"SCHEDULER": cluster(begin), "PATIENCE": "3"}
    command = [sys.executable, SCRIPT, "dask", path, "crystals"]
    process = start("main", *command, **extra)
    until(lambda: finished(path) >= 2, process)
    for one in processes[1:]:
        os.killpg(one.pid, signal.SIGKILL)
    code, text = ended(process)
    assert code == 1
    assert "ERROR WorkerDied the executor has had no worker for" in text
    worker(start, 2, extra["SCHEDULER"])
    process = start("again", *command, **extra)
    before = finished(path)
    until(lambda: finished(path) >= before + 2, process)
    os.killpg(processes[0].pid, signal.SIGKILL)
    code, text = ended(process)
    assert code == 1
    assert "ERROR WorkerDied" in text
    source, options = arguments("crystals")
    lg.write(source, path, workers=1, progress=False, **options)
    assert bytes_of(path) == expected("crystals", bytes_of)
