"""Workers that die: by chance, at an input that kills every process that builds it, or again and again.

The killing input is real: a ``sitecustomize`` in the path of all child processes ends each that builds, or reads, a
crystal with a certain number of atoms.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import lazygraph as lg
from lazygraph.writing.edit import gc
from lazygraph.writing.layout import Layout

SHARD = 8
ALWAYS = 1000
CODE = f"""
import os, sys, lazygraph as lg
from pathlib import Path

def crystal(n, atoms):
    cell = [[4 + 0.01 * n, 0, 0], [0, 4, 0], [0, 0, 4.0]]
    return lg.Crystal(cell, [[k / atoms, 0.1, 0.2] for k in range(atoms)], [11] * atoms)

killers = set(map(int, sys.argv[3].split(","))) if sys.argv[3] else set()
if __name__ == "__main__":
    items = [(f"id-{{n}}", crystal(n, 3 if n in killers else 2)) for n in range(18 * {SHARD})]
    report = lg.write(items, sys.argv[1], workers=int(sys.argv[2]), shard_size={SHARD}, progress=False)
    print(report.written, report.quarantined)
"""
# Inputs 8 to 15 are the second shard: the plan's samples come from every other one.
SITE = """
import os, signal
from pathlib import Path
if os.environ.get("KILLING"):
    from lazygraph.graphs.spec import GraphSpec
    build = GraphSpec.build

    def deadly(self, structure, **options):
        deaths = Path(os.environ["KILLING"])
        if len(structure) == 3 and (not deaths.exists() or deaths.stat().st_size < int(os.environ["TIMES"])):
            with deaths.open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return build(self, structure, **options)

    GraphSpec.build = deadly
"""


@pytest.fixture
def run(tmp_path, environment):
    """Write 144 crystals in a new process, of which some kill who builds them; how it ended."""
    (tmp_path / "site").mkdir()
    pretended = Path(__file__).parents[1] / "elsewhere" / "site" / "sitecustomize.py"  # which does nothing by itself
    (tmp_path / "site" / "sitecustomize.py").write_text(pretended.read_text() + SITE)

    def call(path, killers=(), *, times=0, workers=2):
        paths = [str(tmp_path / "site"), environment["PYTHONPATH"]]
        variables = environment | {"PYTHONPATH": os.pathsep.join(paths)}
        if times:
            variables |= {"KILLING": str(tmp_path / "deaths"), "TIMES": str(times)}
        arguments = [str(path), str(workers), ",".join(map(str, killers))]
        return subprocess.run(
            [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, cwd=tmp_path, env=variables,
            timeout=240, check=False,
        )  # fmt: skip

    return call


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_a_crystal_at_which_processes_die_by_chance_costs_nothing_but_time(run, tmp_path, bytes_of, times):
    path, undisturbed = tmp_path / "x.lg", tmp_path / "y.lg"
    assert run(undisturbed, (10,)).stdout == "144 0\n"
    done = run(path, (10,), times=times)
    assert (tmp_path / "deaths").stat().st_size == times
    assert (done.stdout, done.returncode) == ("144 0\n", 0), done.stderr
    assert bytes_of(path) == bytes_of(undisturbed)
    assert not Layout.of(path).partial.exists()


@pytest.mark.slow
def test_crystals_that_always_kill_are_quarantined_and_no_others(run, tmp_path, bytes_of, quarantine):
    paths = [tmp_path / name for name in ("x.lg", "y.lg")]
    for path in paths:
        done = run(path, (10, 11, 29), times=ALWAYS)
        assert (done.stdout, done.returncode) == ("141 3\n", 0), done.stderr
    found = quarantine(paths[0])
    assert [(one.id, one.error) for one in found] == [(f"id-{n}", "WorkerDied") for n in (10, 11, 29)]
    assert all("SIGKILL" in one.message for one in found)
    assert bytes_of(paths[0]) == bytes_of(paths[1])


@pytest.mark.slow
def test_where_the_work_is_done_in_the_process_itself_the_same_command_goes_on(run, tmp_path, bytes_of, quarantine):
    path = tmp_path / "x.lg"
    assert run(path, (10,), times=ALWAYS, workers=1).returncode == -9
    done = run(path, (10,), times=ALWAYS, workers=1)
    assert (done.stdout, done.returncode) == ("143 1\n", 0), done.stderr
    assert [one.id for one in quarantine(path)] == ["id-10"]


@pytest.mark.slow
def test_a_sample_that_kills_the_process_that_plans_is_met_by_the_same_command(run, tmp_path, quarantine):
    path = tmp_path / "x.lg"
    assert run(path, (0, 3), times=ALWAYS).returncode == -9
    done = run(path, (0, 3), times=ALWAYS)
    assert (done.stdout, done.returncode) == ("142 2\n", 0), done.stderr
    assert [one.id for one in quarantine(path)] == ["id-0", "id-3"]


@pytest.mark.slow
def test_workers_that_die_again_and_again_elsewhere_end_the_run_and_keep_what_is_finished(
    run, tmp_path, monkeypatch, bytes_of
):
    path, undisturbed = tmp_path / "x.lg", tmp_path / "y.lg"
    run(undisturbed)
    site = tmp_path / "site" / "sitecustomize.py"
    fine = site.read_text()
    site.write_text(
        "import os, signal\nfrom lazygraph.writing.rows import ShardRows\nsave = ShardRows.save\n"
        "def deadly(self, path):\n"
        "    if path.name == '00005.msgpack':\n        os.kill(os.getpid(), signal.SIGKILL)\n    save(self, path)\n"
        "ShardRows.save = deadly\n"
    )
    done = run(path)
    assert done.returncode == 1
    # The resource tracker of processes that were killed may warn after it.
    (told,) = [line for line in done.stderr.splitlines() if "WorkerDied:" in line]
    assert "worker processes died" in told
    assert "run the same command again" in told
    assert len(list(Layout.of(path).rows.glob("*.msgpack"))) >= 5
    site.write_text(fine)
    assert run(path).stdout == "144 0\n"
    assert bytes_of(path) == bytes_of(undisturbed)


@pytest.mark.slow
def test_a_worker_that_is_killed_by_chance_is_replaced(environment, tmp_path, write, bytes_of):
    source, path = "prototypes:3000?seed=0", tmp_path / "x.lg"
    code = f"import sys, lazygraph as lg; lg.write({source!r}, sys.argv[1], workers=2, shard_size=64, progress=False)"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], env=environment)
    while len(list(Layout.of(path).rows.glob("*.msgpack"))) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    workers = [
        child for child in psutil.Process(process.pid).children(recursive=True)
        if "loky" in " ".join(line := child.cmdline()) and "tracker" not in " ".join(line)
    ]  # fmt: skip
    workers[0].kill()
    assert process.wait(timeout=120) == 0
    write(source, tmp_path / "undisturbed.lg", shard_size=64)
    assert bytes_of(path) == bytes_of(tmp_path / "undisturbed.lg")
    assert gc(path) == (0, 0)


def test_a_broken_executor_is_told_of(tmp_path, monkeypatch):
    from concurrent.futures import Future
    from concurrent.futures.process import BrokenProcessPool

    class Broken:
        def submit(self, *arguments):
            future = Future()
            future.set_exception(BrokenProcessPool("gone"))
            return future

    with pytest.raises(lg.errors.WorkerDied, match="run the same command again"):
        lg.write("prototypes:20?seed=0", tmp_path / "x.lg", executor=Broken(), progress=False)


STOPPED = """
import os, signal, sys
import psutil, lazygraph as lg
from loky import ProcessPoolExecutor
shutdown = ProcessPoolExecutor.shutdown

def stopped(self, *arguments, **options):
    for child in psutil.Process().children(recursive=True):
        if "popen_loky" in " ".join(child.cmdline()):
            os.kill(child.pid, signal.SIGSTOP)
    shutdown(self, *arguments, **options)

ProcessPoolExecutor.shutdown = stopped
lg.write("prototypes:40?seed=0", sys.argv[1], workers=2, shard_size=8, progress=False)
"""


@pytest.mark.slow
def test_workers_that_cannot_end_are_not_waited_for(environment, tmp_path):
    """One that is killed with the lock of a queue leaves the others waiting for it; here they are stopped."""
    process = subprocess.Popen([sys.executable, "-c", STOPPED, str(tmp_path / "x.lg")], env=environment)
    try:
        assert process.wait(timeout=60) == 0
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for one in (process, *family):
            one.kill()
    assert len(lg.LazyGraphDataset(tmp_path / "x.lg")) == 40
