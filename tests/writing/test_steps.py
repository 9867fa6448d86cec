"""A process that ends between any two steps on the file system, killed or by an error, leaves the old state or the new
one, and whoever comes next finishes it.

A forked child counts the operations that change the file system (Python's audit events) and ends at the n-th.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import traceback

import pytest

import lazygraph as lg
from lazygraph.format.manifest import Manifest
from lazygraph.writing.edit import gc, set_labels, set_splits
from lazygraph.writing.layout import Layout
from lazygraph.writing.worker import make_shard
from lazygraph.writing.write import finish, plan

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "fcntl.flock"}
SIZE = 3
ADDED = 2


def changes(event, arguments):
    """Whether an audit event is about a change of the file system."""
    if event == "open":
        return isinstance(arguments[2], int) and bool(arguments[2] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))
    return event in CHANGES


def interrupted(work, step, how="killed"):
    """Run ``work`` in a child that ends before its step number ``step``; the number of steps that it began."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        seen = 0

        def end(code):
            os.write(writing, str(seen).encode())
            os._exit(code)

        def hook(event, arguments):
            nonlocal seen
            if changes(event, arguments):
                seen += 1
                if seen == step:
                    if how == "killed":
                        end(0)
                    raise OSError(errno.EIO, "made up by the test")

        sys.addaudithook(hook)
        try:
            work()
        except OSError as error:
            end(0 if error.errno == errno.EIO else 1)
        except BaseException:
            traceback.print_exc()
            end(1)
        end(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        seen = int(pipe.read())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, f"the child failed by itself at step {step}"
    return seen


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """The end of a process loses nothing that was written; only power failures do."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(params=["killed", "failed"])
def every_step(request, tmp_path):
    """Interrupt ``work(path)`` before each of its last 40 steps, merge and publication, and before some of the others;
    then call ``check(path)``."""

    def run(prepare, work, check):
        prepare(before := tmp_path / "before.lg")
        if before.exists():
            shutil.copytree(before, tmp_path / "after.lg")
        total = interrupted(lambda: work(tmp_path / "after.lg"), 0)
        early = range(5 if request.param == "killed" else 1, total, 10)
        assert total > 10
        for step in sorted({*early, *range(max(1, total - 40), total + 1)}):
            folder = tmp_path / str(step)
            folder.mkdir()
            path = folder / "x.lg"
            if before.exists():
                shutil.copytree(before, path)
            interrupted(lambda path=path: work(path), step, request.param)
            check(path)
            assert [p.name for p in folder.iterdir()] == ["x.lg"], f"left behind after step {step}"
            shutil.rmtree(folder)

    return run


@pytest.fixture
def states(tmp_path, bytes_of, write, append, salt):
    """The bytes of a dataset of SIZE crystals, and of one to which ADDED were appended."""

    def items(begin, end):
        return [(f"id-{n}", salt(n), {"energy": n}) for n in range(begin, end)]

    def first(path, **options):
        return write(items(0, SIZE), path, shard_size=2, **options)

    def added(path):
        return append(path, items(SIZE, SIZE + ADDED), shard_size=1)

    class States:
        make, append = staticmethod(first), staticmethod(added)

    first(tmp_path / "one.lg")
    States.one = bytes_of(tmp_path / "one.lg")
    added(tmp_path / "one.lg")
    gc(tmp_path / "one.lg")
    States.two = bytes_of(tmp_path / "one.lg")
    shutil.rmtree(tmp_path / "one.lg")
    return States


@pytest.mark.slow
def test_a_first_write(every_step, states, bytes_of):
    def check(path):
        finished = path.exists()
        assert not finished or bytes_of(path) == states.one
        assert states.make(path).written == SIZE
        assert bytes_of(path) == states.one
        assert not Layout.of(path).partial.exists()

    every_step(lambda path: None, states.make, check)


@pytest.mark.slow
def test_an_append(every_step, states, bytes_of, sound):
    def check(path):
        if sound(path).graphs == SIZE:
            assert states.append(path).written == ADDED
        else:
            with pytest.raises(lg.InputError, match="is taken by a graph that the dataset holds"):
                states.append(path)  # finished before, so these are the same inputs once more
        gc(path)
        assert bytes_of(path) == states.two

    every_step(states.make, states.append, check)


@pytest.mark.slow
def test_an_overwrite(every_step, states, bytes_of, sound):
    def check(path):
        assert sound(path).graphs in {SIZE, SIZE + ADDED}
        states.make(path, overwrite=True)
        gc(path)
        assert bytes_of(path) == states.one

    def prepare(path):
        states.make(path)
        states.append(path)

    every_step(prepare, lambda path: states.make(path, overwrite=True), check)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "failed"])
def test_a_merge(states, tmp_path, bytes_of, salt, how):
    def items():
        return [(f"id-{n}", salt(n), {"energy": n}) for n in range(SIZE)]

    planned = tmp_path / "planned"
    made = plan(items(), tmp_path / "x.lg", shard_size=2)
    for task in range(len(made.tasks)):
        make_shard(tmp_path / "x.lg", task)
    shutil.move(Layout.of(tmp_path / "x.lg").partial, planned)
    path = tmp_path / "m" / "x.lg"
    step, total, taken_up = 0, 1, 0
    while step < total:
        step += 1
        shutil.rmtree(path.parent, ignore_errors=True)
        shutil.copytree(planned, Layout.of(path).partial)
        if step == 1:
            total = interrupted(lambda: finish(path), 0)
            shutil.rmtree(path.parent)
            shutil.copytree(planned, Layout.of(path).partial)
        interrupted(lambda: finish(path), step, how)
        decided, planless = path.exists(), not Layout.of(path).plan.exists()
        try:
            report = finish(path)
        except lg.InputError as error:  # killed when there was nothing left to do
            assert decided
            assert re.search("there is no plan .*; x.lg holds 3 graphs", str(error))  # noqa: PT017
        else:
            assert (report.written, report.quarantined) == (SIZE, 0), step
            taken_up += planless
        assert bytes_of(path) == states.one
        assert [p.name for p in path.parent.iterdir()] == ["x.lg"]
    assert total > 20
    assert taken_up


@pytest.mark.slow
@pytest.mark.parametrize("edit", ["labels", "splits"])
def test_an_edit(edit, every_step, states, bytes_of, sound, tmp_path):
    def change(path):
        if edit == "labels":
            set_labels(path, {"id-0": {"energy": -1.0, "gap": 2.0}})
        else:
            set_splits(path, (0.4, 0.3, 0.3))

    other = tmp_path / "other.lg"
    states.make(other)
    before = set(bytes_of(other))
    change(other)
    gc(other)
    new = bytes_of(other)
    shutil.rmtree(other)

    def check(path):
        found = sound(path)
        named = {file.name for file in found.files()} | {"manifest.json"}
        assert named in (before, set(new))
        change(path)
        gc(path)
        assert bytes_of(path) == new

    every_step(states.make, change, check)


@pytest.mark.slow
@pytest.mark.parametrize("there", ["nothing", "another dataset"])
def test_a_pull(there, every_step, states, bytes_of, tmp_path, append):
    source = tmp_path / "source" / "mp.lg"
    states.make(source)

    def prepare(path):
        if there == "another dataset":
            states.make(path)
            append(path, [("other", lg.Crystal([[4, 0, 0], [0, 4, 0], [0, 0, 4]], [[0, 0, 0]], [11]))])

    def work(path):
        return lg.pull(source, path, overwrite=True, progress=False)

    def check(path):
        assert not path.exists() or Manifest.load(path).graphs in {SIZE, SIZE + 1}
        work(path)
        gc(path)
        assert bytes_of(path) == states.one

    every_step(prepare, work, check)


@pytest.fixture
def half_appended(states, tmp_path):
    """A dataset to which one of two shards was appended when the process was killed."""
    path = tmp_path / "x.lg"
    states.make(path)
    step = 1
    while not (Layout.of(path).done(0).exists() and not Layout.of(path).done(1).exists()):
        interrupted(lambda: states.append(path), step)
        step += 5
    return path


def test_splits_may_be_named_while_an_append_is_unfinished(half_appended, states, sound):
    assert set_splits(half_appended, names={"train": ["id-0"], "test": ["id-1"]}).sizes["split"] == {
        "train": 1,
        "test": 1,
    }
    states.append(half_appended)
    assert sound(half_appended).graphs == SIZE + ADDED
    ds = lg.LazyGraphDataset(half_appended)
    assert ds.columns["split"].tolist() == ["train", "test", "", "", ""]


def test_labels_must_wait_for_an_append(half_appended, states, bytes_of):
    with pytest.raises(lg.OutputExists, match="finish this run, or delete"):
        set_labels(half_appended, {"id-0": {"gap": 2.0}})
    states.append(half_appended)
    gc(half_appended)
    assert bytes_of(half_appended) == states.two


@pytest.mark.slow
def test_garbage_is_collected_or_not(every_step, states, bytes_of, sound):
    def prepare(path):
        states.make(path)
        states.append(path)

    def check(path):
        gc(path)
        assert bytes_of(path) == states.two

    every_step(prepare, gc, check)


@pytest.mark.slow
def test_a_change_that_was_decided_of_a_dataset_that_was_deleted_since_is_dropped(states, tmp_path, bytes_of):
    path = tmp_path / "x.lg"
    states.make(path)
    step = 1
    while not (Layout.of(path).edit / "manifest.json").exists():
        interrupted(lambda: set_splits(path, (0.4, 0.3, 0.3)), step)
        step += 1
    shutil.rmtree(path)
    states.make(path)
    assert bytes_of(path) == states.one
