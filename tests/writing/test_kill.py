"""Real processes that are killed with SIGKILL at random moments, and started again until the work is done."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

import lazygraph as lg
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.writing.edit import gc, set_labels, set_splits
from lazygraph.writing.layout import Layout
from lazygraph.writing.plan import Plan

KILLS = 6
SOURCE = "prototypes:700?seed=0"
SHARD = 32
LONG = "prototypes:6000?seed=0"  # seconds of work, so that what is done to it comes in the middle of it

# Where the tests run in the background, SIGINT is ignored, and children inherit that: Ctrl-C is set as in a terminal.
WRITE = f"""
import signal, sys, lazygraph as lg
signal.signal(signal.SIGINT, signal.default_int_handler)
path, workers, source = sys.argv[1], int(sys.argv[2]), sys.argv[3]
import lazygraph.writing.write
print("ready", flush=True)
if sys.argv[4] == "append":
    lg.append(path, source, workers=workers, shard_size={SHARD}, progress=False)
else:
    lg.write(source, path, workers=workers, shard_size={SHARD}, progress=False)
"""
EDIT = """
import sys
from lazygraph.writing.edit import set_labels, set_splits
print("ready", flush=True)
while True:
    for value in (1.0, 2.0):
        set_labels(sys.argv[1], {"prototype-0000000": {"energy": value}, "prototype-0000001": {"energy": -value}})
        set_splits(sys.argv[1], (0.5, 0.25, 0.25), seed=int(value))
"""


@pytest.fixture
def started(environment, tmp_path):
    """Start Python code in a session of its own, and wait until it says that it is ready."""
    running = []

    def start(code, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd=tmp_path, env=environment, start_new_session=True,
        )  # fmt: skip
        running.append(process)
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        return process

    yield start
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def killed(process, delay, *, group):
    """Kill a process, with its whole group or alone, unless it ends before; whether it had to be killed."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
        assert process.returncode == 0, process.communicate()[1]
        return False
    family = psutil.Process(process.pid).children(recursive=True)
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
    wait_for_the_end_of(family)
    return True


def wait_for_the_end_of(family):
    deadline = time.monotonic() + 60
    while any(map(alive, family)):
        assert time.monotonic() < deadline, "workers outlive the process that started them"
        time.sleep(0.01)


def alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def finished(done):
    """How many shards are made; none where the writer has just swept up."""
    with contextlib.suppress(FileNotFoundError):
        return len(list(done.glob("*.msgpack")))
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_a_write_that_is_killed_again_and_again_gives_the_same_bytes(workers, started, tmp_path, bytes_of):
    undisturbed = started(WRITE, tmp_path / "undisturbed.lg", workers, SOURCE, "")
    begin = time.monotonic()
    assert undisturbed.wait() == 0
    takes = time.monotonic() - begin
    expected = bytes_of(tmp_path / "undisturbed.lg")
    path = tmp_path / "x.lg"
    done = Layout.of(path).rows
    dice = random.Random(workers)
    kills = resumed = 0
    while kills < KILLS or resumed < 3 or not path.exists():
        if path.exists():  # done before it was killed often enough: once more
            assert bytes_of(path) == expected
            gc(path)  # it may have been killed before it swept up
            assert not Layout.of(path).partial.exists()
            shutil.rmtree(path)
        made = {p.name: p.stat().st_mtime_ns for p in done.glob("*.msgpack")}
        process = started(WRITE, path, workers, SOURCE, "")
        if kills % 3:  # while shards are made: workers take most of the time to start
            while process.poll() is None and finished(done) <= len(made):
                time.sleep(0.001)
        kills += killed(process, dice.uniform(0, takes / 8 if kills % 3 else takes), group=bool(kills % 2))
        if not path.exists():
            again = {p.name: p.stat().st_mtime_ns for p in done.glob("*.msgpack")}
            assert made.items() <= again.items(), "a finished shard was made again"
        resumed += bool(made)
    assert gc(path) == (0, 0)
    assert bytes_of(path) == expected
    assert not Layout.of(path).partial.exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_an_append_that_is_killed_leaves_the_old_dataset_or_the_new_one(
    workers, started, tmp_path, write, append, sound
):
    path, more = tmp_path / "x.lg", "prototypes:500?seed=3"
    items = [(f"mine-{n}", lg.Crystal(c.lattice, c.frac_coords, c.numbers)) for n, c in enumerate(crystals(40))]
    write(items, path, shard_size=SHARD)
    old = Manifest.load(path)
    write(items, tmp_path / "undisturbed.lg", shard_size=SHARD)
    append(tmp_path / "undisturbed.lg", more, shard_size=SHARD)
    new = Manifest.load(tmp_path / "undisturbed.lg")
    dice = random.Random(7 + workers)
    kills = 0
    while Manifest.load(path) != new:
        assert sound(path) == old
        process = started(WRITE, path, workers, more, "append")
        kills += killed(process, dice.uniform(0.0, 0.8 if kills < 5 else 30), group=bool(kills % 2))
    assert kills > 0
    assert sound(path) == new


def crystals(count):
    from pathlib import Path

    from lazygraph.sources.base import Cut
    from lazygraph.sources.prototypes import PrototypesSource

    source = PrototypesSource("prototypes:1000?seed=9")
    return [entry.crystal for entry in source.read(Cut(0, 0, count), Path())]


@pytest.mark.slow
def test_labels_and_splits_that_are_killed_leave_the_old_ones_or_the_new_ones(
    started, tmp_path, write, sound, bytes_of
):
    path = tmp_path / "x.lg"
    write("prototypes:20?seed=0", path)
    states = set()
    for value in (1.0, 2.0):
        set_labels(path, {"prototype-0000000": {"energy": value}, "prototype-0000001": {"energy": -value}})
        for seed in (1, 2):
            set_splits(path, (0.5, 0.25, 0.25), seed=seed)
            states.add((path / MANIFEST).read_bytes())
    content = Manifest.load(path).content_id
    dice = random.Random(5)
    for kill in range(KILLS):
        assert killed(started(EDIT, path), dice.uniform(0, 0.3), group=bool(kill % 2))
        assert (path / MANIFEST).read_bytes() in states
        assert sound(path).content_id == content
    gc(path)
    assert {*bytes_of(path)} == {MANIFEST, *(file.name for file in Manifest.load(path).files())}
    assert not Layout.of(path).partial.exists()


@pytest.mark.slow
def test_ctrl_c_leaves_a_state_that_the_same_command_finishes(started, tmp_path, write, bytes_of):
    source = LONG
    path = tmp_path / "x.lg"
    process = started(WRITE, path, 2, source, "")
    done = Layout.of(path).rows
    workers = []
    while len(list(done.glob("*.msgpack"))) < 2:
        assert process.poll() is None
        workers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, stderr = process.communicate()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in stderr.splitlines()[-1]
    wait_for_the_end_of(workers)
    assert not path.exists()
    before = {p.name: p.stat().st_mtime_ns for p in done.glob("*.msgpack")}
    assert 2 <= len(before) < len(Plan.load(Layout.of(path)).tasks)
    assert Layout.of(path).plan.exists()
    write(source, path, shard_size=SHARD)
    write(source, tmp_path / "undisturbed.lg", shard_size=SHARD)
    assert bytes_of(path) == bytes_of(tmp_path / "undisturbed.lg")
