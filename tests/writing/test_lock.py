"""One writer at a time, and none that is dead."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import pytest

import lazygraph as lg
from lazygraph.cli.main import main, main_write
from lazygraph.errors import DatasetNotFound, WriterBusy
from lazygraph.writing.edit import gc, set_labels, set_splits
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive, shared
from lazygraph.writing.worker import make_shard
from lazygraph.writing.write import finish, plan

HERE = Path(__file__).parent
HOLD = """
import sys
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive, shared
with (exclusive if sys.argv[2] == "exclusive" else shared)(Layout.of(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(environment, tmp_path):
    """Another process that holds the lock until it is killed or told to go on."""
    running = []

    def hold(path, mode="exclusive"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, path, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
        running.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def finished(tmp_path, write, salt):
    path = tmp_path / "x.lg"
    write([(f"id-{n}", salt(n), {"energy": n}) for n in range(6)], path)
    return path


def test_a_second_writer_is_refused_and_told_who_the_first_one_is(holder, finished, write, append, bytes_of):
    process = holder(finished)
    before = bytes_of(finished)
    who = re.escape(f"is being written by process {process.pid} on {socket.gethostname()} (-c {finished}")
    for work in (
        lambda: write("prototypes:5", finished, overwrite=True),
        lambda: append(finished, "prototypes:5"),
        lambda: plan("prototypes:5", finished, overwrite=True),
        lambda: lg.GraphWriter(finished, overwrite=True),
        lambda: set_labels(finished, {"id-0": {"gap": 1}}),
        lambda: set_splits(finished, (0.5, 0.25, 0.25)),
        lambda: gc(finished),
    ):
        with pytest.raises(WriterBusy, match=who):
            work()
    assert bytes_of(finished) == before
    process.communicate("go on\n")
    assert process.returncode == 0
    assert write("prototypes:5", finished, overwrite=True).written == 5
    assert not Layout.of(finished).partial.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["write", "prototypes:5", "-o", "x.lg", "--overwrite"],
        ["write", "prototypes:5", "-o", "x.lg", "--append"],
        ["plan", "prototypes:5", "-o", "x.lg", "--overwrite"],
        ["merge", "x.lg"],
        ["labels", "x.lg", "--from", "gaps.csv"],
        ["split", "x.lg", "0.5,0.25,0.25"],
        ["gc", "x.lg"],
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[-1]}",
)
def test_a_second_command_is_refused_in_one_line(holder, finished, bytes_of, arguments, monkeypatch, capsys):
    monkeypatch.chdir(finished.parent)
    (finished.parent / "gaps.csv").write_text("id,gap\nid-0,1.5\n")
    process = holder(finished)
    before = bytes_of(finished)
    commands = [main]
    if arguments[0] in ("write", "plan", "merge"):  # which lazygraph-write does too
        commands.append(lambda given: main_write(given[given[0] == "write" :]))
    for command in commands:
        assert command(arguments) == 2
        out, error = capsys.readouterr()
        assert out == ""
        assert error.startswith(f"lazygraph: error: {finished} is being written by process {process.pid} on ")
        assert error.endswith("; wait for it, or stop it first\n")
        assert error.count("\n") == 1
    assert bytes_of(finished) == before


def test_nobody_merges_beside_another_writer_and_a_dead_one_does_not_hinder_it(holder, tmp_path):
    path = tmp_path / "x.lg"
    for task in range(len(plan("prototypes:20", path, shard_size=10).tasks)):
        make_shard(path, task)
    process = holder(path)
    for work in (lambda: finish(path), lambda: make_shard_alone(path)):
        with pytest.raises(WriterBusy, match=f"process {process.pid}"):
            work()
    process.kill()
    process.wait()
    assert finish(path).written == 20


def make_shard_alone(path):
    with shared(Layout.of(path)):
        make_shard(path, 0)


def test_a_lock_that_a_dead_process_left_blocks_nobody(holder, finished):
    process = holder(finished)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert Layout.of(finished).lock.read_bytes() != b""
    assert set_splits(finished, (0.5, 0.25, 0.25)).sizes["split"] == {"train": 3, "val": 1, "test": 1}
    assert not Layout.of(finished).partial.exists()


@pytest.mark.slow
def test_many_may_make_shards_and_no_one_else_may_plan_or_merge_meanwhile(holder, tmp_path):
    path = tmp_path / "x.lg"
    plan("prototypes:20", path, shard_size=10)
    first, second = holder(path, "shared"), holder(path, "shared")
    with shared(Layout.of(path)), pytest.raises(WriterBusy, match="by other processes"), exclusive(Layout.of(path)):
        pass
    first.communicate("go on\n")
    with pytest.raises(WriterBusy), exclusive(Layout.of(path)):
        pass
    second.communicate("go on\n")
    with exclusive(Layout.of(path)), pytest.raises(WriterBusy, match=f"process {os.getpid()}"), shared(Layout.of(path)):
        pass
    assert Layout.of(path).plan.exists()


@pytest.mark.slow
def test_who_makes_shards_is_not_taken_for_the_dead_process_that_held_the_lock_before(holder, tmp_path):
    path = tmp_path / "x.lg"
    plan("prototypes:20", path, shard_size=10)
    dead = holder(path)
    dead.kill()
    dead.wait()
    holder(path, "shared")
    with pytest.raises(WriterBusy, match="by other processes"), exclusive(Layout.of(path)):
        pass


def test_there_is_nothing_to_share_without_a_plan(tmp_path):
    with pytest.raises(lg.InputError, match="there is no plan"), shared(Layout.of(tmp_path / "x.lg")):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_threads_are_two_writers(tmp_path):
    layout = Layout.of(tmp_path / "x.lg")
    caught = []

    def second():
        try:
            with exclusive(layout):
                pass
        except WriterBusy as error:
            caught.append(error)

    with exclusive(layout):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(caught) == 1


@pytest.mark.slow
def test_threads_that_take_turns_never_work_at_once(tmp_path):
    """The folder and the lock come and go with every turn."""
    layout = Layout.of(tmp_path / "x.lg")
    inside, turns, wrong = [], [], []

    def work():
        done = 0
        while done < 40:
            try:
                with exclusive(layout):
                    inside.append(1)
                    layout.spools.mkdir(exist_ok=False)
                    layout.spool(0).write_text("mine")
                    if len(inside) != 1:
                        wrong.append(len(inside))
                    inside.pop()
                done += 1
                turns.append(1)
            except WriterBusy:
                continue
            except BaseException:
                wrong.append(traceback.format_exc())
                return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(turns) == 160
    assert not layout.partial.exists()


def test_the_folder_that_is_removed_between_two_steps_is_made_again(tmp_path, monkeypatch):
    layout = Layout.of(tmp_path / "x.lg")
    real = fcntl.flock
    calls = []

    def flock(descriptor, mode):
        calls.append(mode)
        real(descriptor, mode)
        if len(calls) == 1:
            shutil.rmtree(layout.partial)  # its holder was done just before

    monkeypatch.setattr(fcntl, "flock", flock)
    with exclusive(layout):
        assert len(calls) == 2
        assert layout.lock.exists()


def test_nothing_is_left_where_no_dataset_is(tmp_path):
    path = tmp_path / "none" / "x.lg"
    for work in (
        lambda: gc(path),
        lambda: set_labels(path, {"a": {"b": 1}}),
        lambda: set_splits(path, (0.5, 0.25, 0.25)),
    ):
        with pytest.raises(DatasetNotFound, match=f"there is no dataset at {path}"):
            work()
        assert list(tmp_path.iterdir()) == []
    for add in (lg.append, lg.retry_quarantined):
        with pytest.raises(DatasetNotFound, match="write one first"):
            add(tmp_path / "x.lg", "prototypes:5", workers=1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder(tmp_path):
    layout = Layout.of(tmp_path / "x.lg")
    layout.partial.touch()
    with pytest.raises(NotADirectoryError), exclusive(layout):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_mount_without_locks_is_named_with_what_to_do(name, tmp_path, environment, finished, bytes_of):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler")
    library = tmp_path / "no_locks.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, HERE / "no_locks.c"], check=True)
    environment = environment | {"LD_PRELOAD": str(library), "NO_LOCKS": str(getattr(errno, name))}
    program = "import sys\nfrom lazygraph.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    before = bytes_of(finished)
    for arguments in (["write", "prototypes:3", "-o", "y.lg", "--workers", "1"], ["split", "x.lg", "0.5,0.25,0.25"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=environment, cwd=tmp_path,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert "lg.partial has no file locks" in done.stderr
        assert "write to a local disk and copy the dataset from there" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["no_locks.so", "x.lg"]
    assert bytes_of(finished) == before
    done = subprocess.run(
        [sys.executable, "-c", program, "gc", "x.lg", "--dry-run"], capture_output=True, env=environment, cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0  # reading needs none
