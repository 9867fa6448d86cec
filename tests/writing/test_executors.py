"""What a write does with an executor: a bounded number of shards in hand, deaths, cancelling, workers that are gone.

The executors here are small ones that do what engines do. ``tests/engines`` has the engines themselves.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.errors import InputError, MissingExtra, WorkerDied
from lazygraph.executors.failures import Lost, what_was_lost
from lazygraph.writing import window as window_module
from lazygraph.writing.layout import Layout
from lazygraph.writing.signs_of_life import SignsOfLife
from lazygraph.writing.window import Window

SOURCE = "prototypes:60?seed=2"


class Uncancelled(Future):
    def cancel(self):
        raise NotImplementedError("as parsl's")


@given(
    tasks=st.lists(st.integers(0, 50), unique=True, max_size=15),
    rooms=st.lists(st.integers(0, 7), min_size=1),
    seed=st.randoms(),
)
def test_a_window_gives_every_task_once_and_holds_no_more_than_its_room(tasks, rooms, seed):
    running, found, room = [], [], 0

    def submit(task):
        running.append((task, Future()))
        assert len(running) <= max(1, room)
        return running[-1][1]

    def finish_some():
        for _ in range(seed.randint(1, 3)):
            if running:
                task, future = running.pop(seed.randrange(len(running)))
                future.set_result(task)

    def ask():
        nonlocal room
        finish_some()
        room = seed.choice(rooms)
        return room

    window = Window(submit, tasks, ask)
    with patch.object(window_module, "TICK", 0.0):
        for task, future in window.finished(finish_some):
            assert future.result() == task
            found.append(task)
    assert sorted(found) == sorted(tasks)
    assert window.unfinished == 0


@pytest.mark.slow
def test_shards_are_submitted_in_windows(tmp_path):
    """Without a window, all 60 would be in hand."""
    with ThreadPoolExecutor(2) as pool:
        inner = Counted(pool)
        executor = lg.executors.ClusterExecutor(inner, workers=2)
        lg.write(SOURCE, tmp_path / "x.lg", shard_size=1, executor=executor, progress=False)
    assert inner.most <= 32
    assert inner.submitted == 60


class Counted(Executor):
    """Counts how many tasks of another executor are in hand at most."""

    def __init__(self, executor):
        self.executor, self.futures, self.most, self.submitted = executor, [], 0, 0

    def submit(self, function, /, *arguments):
        self.futures = [one for one in self.futures if not one.done()]
        self.futures.append(self.executor.submit(function, *arguments))
        self.most, self.submitted = max(self.most, len(self.futures)), self.submitted + 1
        return self.futures[-1]


class Foreign(Executor):
    """Makes tasks at once, of which some fail with errors of engines."""

    def __init__(self, errors):
        self.errors, self.submitted = deque(errors), 0

    def submit(self, function, /, *arguments):
        self.submitted += 1
        future = Uncancelled()
        error = self.errors.popleft() if self.errors else None
        if error is None:
            future.set_result(function(*arguments))
        else:
            future.set_exception(error)
        return future


def of_engine(module, name, base=Exception):
    return type(name, (base,), {"__module__": module})


KILLED = of_engine("distributed.scheduler", "KilledWorker")
WORKER_LOST = of_engine("parsl.executors.high_throughput.errors", "WorkerLost")
RAY_OOM = of_engine("ray.exceptions", "OutOfMemoryError")
BAD_STATE = of_engine("parsl.executors.errors", "BadStateException")


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (KILLED("x"), Lost.WORKER),
        (WORKER_LOST("x"), Lost.WORKER),
        (of_engine("ray.exceptions", "WorkerCrashedError")("x"), Lost.WORKER),
        (of_engine("ray.exceptions", "ActorDiedError", RAY_OOM)("x"), Lost.WORKER),
        (of_engine("executorlib.standalone.x", "ExecutorlibSocketError", RuntimeError)("x"), Lost.WORKER),
        (BrokenExecutor("x"), Lost.ENGINE),
        (of_engine("loky.process_executor", "TerminatedWorkerError", BrokenExecutor)("x"), Lost.ENGINE),
        (BAD_STATE("x"), Lost.ENGINE),
        (of_engine("mine", "KilledWorker")("x"), None),
        (ValueError("x"), None),
        (InputError("the input has changed"), None),
        (WorkerDied("at an input"), None),
    ],
)
def test_what_errors_of_engines_mean(error, lost):
    assert what_was_lost(error) is lost
    wrapped = RuntimeError("the task failed")
    wrapped.__cause__ = error
    assert what_was_lost(wrapped) is lost
    by_ray = of_engine("ray.exceptions", "RayTaskError")("the task failed")
    by_ray.cause = error
    assert what_was_lost(by_ray) is lost


def test_causes_in_a_circle_end():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert what_was_lost(one) is None


@pytest.mark.slow
@pytest.mark.parametrize("error", [KILLED("by chance"), WORKER_LOST("by chance"), RAY_OOM("by chance")])
def test_a_shard_whose_worker_died_is_submitted_again(error, tmp_path, write, bytes_of):
    write(SOURCE, tmp_path / "one.lg", shard_size=16)
    executor = Foreign([None, error, None, error])
    lg.write(SOURCE, tmp_path / "x.lg", shard_size=16, executor=executor, progress=False)
    assert executor.submitted == 4 + 2
    assert bytes_of(tmp_path / "x.lg") == bytes_of(tmp_path / "one.lg")


@pytest.mark.slow
def test_workers_that_die_at_one_shard_again_and_again_end_the_write(tmp_path, write):
    executor = Foreign([KILLED("no memory")] * 100)
    with pytest.raises(WorkerDied, match=r"no memory.*4 of 4 shards are not written.*run the same command again"):
        lg.write(SOURCE, tmp_path / "x.lg", shard_size=16, executor=executor, progress=False)
    assert executor.submitted <= 16
    write(SOURCE, tmp_path / "x.lg", shard_size=16)


@pytest.mark.parametrize("error", [BrokenExecutor("gone"), BAD_STATE("gone")])
def test_an_engine_that_is_gone_is_told_of(error, tmp_path):
    executor = Foreign([None, error])
    with pytest.raises(WorkerDied, match=r"the executor broke.*gone.*run the same command again"):
        lg.write(SOURCE, tmp_path / "x.lg", shard_size=16, executor=executor, progress=False)
    assert len(list(Layout.of(tmp_path / "x.lg").rows.iterdir())) >= 1


def test_an_executor_that_takes_no_more_work_is_told_of(tmp_path):
    class Shut(Executor):
        def submit(self, *arguments):
            raise BrokenExecutor("a child process terminated abruptly")

    with pytest.raises(WorkerDied, match="the executor broke"):
        lg.write(SOURCE, tmp_path / "x.lg", executor=Shut(), progress=False)


def test_an_error_of_the_work_itself_comes_as_it_is_and_cancel_may_raise(tmp_path):
    executor = Foreign([None, ValueError("of the work")])
    with pytest.raises(ValueError, match="of the work"):
        lg.write(SOURCE, tmp_path / "x.lg", shard_size=16, executor=executor, progress=False)


# ---- workers that are gone ----


class Gone(Executor):
    """Takes work and does none."""

    def submit(self, *arguments):
        return Uncancelled()


@pytest.mark.slow
def test_workers_that_are_gone_end_a_write(tmp_path, write, bytes_of):
    executor = lg.executors.ClusterExecutor(Gone(), workers=0, patience=0.5)
    with pytest.raises(WorkerDied, match=r"has had no worker for .*patience=.*run the same command again"):
        lg.write(SOURCE, tmp_path / "x.lg", shard_size=16, executor=executor, progress=False)
    executor = lg.executors.ClusterExecutor(Gone(), patience=0.5)
    with pytest.raises(WorkerDied, match="no worker has begun or finished an input for"):
        lg.write(SOURCE, tmp_path / "x.lg", shard_size=16, executor=executor, progress=False, max_seconds=0.01)
    write(SOURCE, tmp_path / "x.lg", shard_size=16)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def at(tmp_path):
    layout = Layout.of(tmp_path / "x.lg")
    layout.notes.mkdir(parents=True)
    return layout


def test_a_worker_that_is_slow_is_not_gone(at):
    clock = Clock()
    signs = SignsOfLife(at, 3600, 60, clock)
    note = at.at(3, "0" * 64)
    for minute in range(600):  # ten hours in one shard
        clock.now = 60.0 * minute
        if minute % 50 == 0:
            note.write_bytes(minute.to_bytes(8, "little"))
            os.utime(note, ns=(minute, minute))
        signs.check(lambda: 1)
    note.unlink()  # finished: a sign of life too
    clock.now += 3590
    signs.check(lambda: 1)
    clock.now += 3590
    signs.check(lambda: 1)
    clock.now += 3700
    with pytest.raises(WorkerDied, match="begun or finished an input"):
        signs.check(lambda: None)


@given(patience=st.floats(1, 1e5), max_seconds=st.one_of(st.floats(0.01, 1e4), st.just(float("inf"))))
def test_one_input_may_be_silent_for_twenty_times_its_processor_time(tmp_path_factory, patience, max_seconds):
    layout = Layout.of(tmp_path_factory.getbasetemp() / "none.lg")
    clock = Clock()
    signs = SignsOfLife(layout, patience, max_seconds, clock)
    limit = max(patience, 20 * max_seconds)
    clock.now = min(limit, 1e9) * 0.999
    signs.check(lambda: 1)
    if clock.now >= patience:
        with pytest.raises(WorkerDied, match="had no worker"):
            waiting_since(layout, patience, max_seconds, clock.now).check(lambda: 0)
    clock.now = min(limit, 1e9) + 40
    if limit < 1e9:
        with pytest.raises(WorkerDied):
            signs.check(lambda: 1)
    else:
        signs.check(lambda: 1)


def waiting_since(layout, patience, max_seconds, seconds):
    """One that has waited so long."""
    clock = Clock()
    signs = SignsOfLife(layout, patience, max_seconds, clock)
    clock.now = seconds
    return signs


def test_a_finished_shard_is_a_sign_of_life(at):
    clock = Clock()
    signs = SignsOfLife(at, 100, 1, clock)
    for _ in range(10):
        clock.now += 90
        signs.seen()
        signs.check(lambda: 0)


# ---- the helpers ----


@pytest.mark.parametrize(("helper", "module"), [("dask", "distributed"), ("ray", "ray"), ("mpi", "mpi4py")])
def test_a_missing_engine_names_the_command_that_installs_it(helper, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    arguments = ["tcp://127.0.0.1:1"] if helper == "dask" else []
    with pytest.raises(MissingExtra, match=rf'pip install "lazygraph\[{helper}\]"'):
        getattr(lg.executors, helper)(*arguments)


@pytest.mark.parametrize("patience", [0, -1, float("nan")])
def test_patience_is_positive(patience):
    with pytest.raises(InputError, match="a number of seconds above 0"):
        lg.executors.ClusterExecutor(Gone(), patience=patience)


def test_a_cluster_executor_passes_on_and_closes():
    closed = []
    with lg.executors.ClusterExecutor(ThreadPoolExecutor(1), lambda: 3, close=lambda: closed.append(1)) as executor:
        assert executor.submit(pow, 2, 3).result() == 8
        assert executor.workers() == 3
        assert not closed
    assert closed == [1]
    with pytest.raises(RuntimeError):
        executor.submit(pow, 2, 3)
