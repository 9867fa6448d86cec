"""Loaders that are left, interrupted, nested, copied, killed, and read while their dataset is replaced."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import get_context

import psutil
import pytest
import torch

import lazygraph as lg
from lazygraph.errors import DatasetReplaced
from lazygraph.loading.loader import Loader
from lazygraph.native import kernels
from lazygraph.writing.edit import gc as delete_old_files

PLAIN, THREAD = {"num_workers": 0, "threads": 0}, {"threads": 1}
FORK = {"num_workers": 1, "multiprocessing_context": "fork"}
FORK_ANEW = {**FORK, "persistent_workers": False}
WAYS = [PLAIN, THREAD, FORK, FORK_ANEW]


@pytest.fixture
def ds(prototypes):
    return lg.LazyGraphDataset(prototypes, target="density")


@pytest.fixture
def readers():
    """Gives the threads and processes that loaders of this test have, and in the end sees that there are none left."""
    before = {child.pid for child in psutil.Process().children()}

    def alive():
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("lazygraph-loader")]
        return threads + [child for child in psutil.Process().children() if child.pid not in before]

    yield alive
    gc.collect()
    deadline = time.monotonic() + 30
    while alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive() == []


def ids(loader):
    return [batch.id for batch in loader]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_iteration_that_is_left_goes_and_the_loader_goes_on(ds, way, readers):
    loader = lg.loader(ds, 20, shuffle=True, **way)
    expected = ids(lg.loader(ds, 20, shuffle=True, **PLAIN)), ids(loader)
    assert len(readers()) == (way == FORK)  # what is persistent
    iterator = iter(loader)
    next(iterator)
    assert len(readers()) == (way != PLAIN)
    del iterator
    assert len(readers()) == (way == FORK)
    loader.set_epoch(0)
    assert (ids(loader),) * 2 == expected


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_error_where_batches_are_used(ds, way, readers):
    loader = lg.loader(ds, 20, shuffle=True, **way)
    with pytest.raises(ZeroDivisionError):
        [1 / 0 for _ in loader]
    assert len(ids(loader)) == 15


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_closing_ends_processes_with_the_iteration_that_goes_on(ds, way, readers):
    loader = lg.loader(ds, 20, **way)
    iterator = iter(loader)
    begun = [next(iterator).id]
    loader.close()
    assert begun + ids(iterator) == ids(lg.loader(ds, 20, **PLAIN))
    del iterator
    assert readers() == []
    assert len(ids(loader)) == 15


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_iterations_of_one_loader_at_the_same_time_are_epochs_of_their_own(ds, way, readers):
    loader, plain = lg.loader(ds, 100, shuffle=True, **way), lg.loader(ds, 100, shuffle=True, **PLAIN)
    epochs = [ids(plain) for _ in range(6)]
    assert [(a.id, b.id) for a, b in zip(loader, loader, strict=True)] == list(zip(*epochs[:2], strict=True))
    inner = []
    assert [outer.id for outer in loader if inner.append(ids(loader)) is None] == epochs[2]
    assert inner == epochs[3:]
    assert len(readers()) == (way == FORK)  # processes of the second one have not stayed


@pytest.mark.slow
def test_the_garbage_collector_finds_no_processes(ds, readers):
    """A loader of Lightning's Trainer is part of a reference cycle, in which torch's processes take 5 s to end."""
    loader = lg.loader(ds, 20, **FORK)
    next(iter(loader))
    cycle = [loader]
    cycle.append(cycle)
    del cycle, loader
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = [type(garbage) for garbage in gc.garbage]
    gc.garbage.clear()
    assert Loader in found
    assert torch.utils.data.DataLoader not in found


def test_two_loaders_read_one_dataset_at_the_same_time(ds, readers):
    """Also: processes are forked while a thread reads, descriptors are open and the compiled library is loaded."""
    assert kernels() is not None
    ds.batch(range(len(ds)))
    threads, forked = (lg.loader(ds, 30, shuffle=True, **way) for way in (THREAD, FORK))
    plain = lg.loader(ds, 30, shuffle=True, **PLAIN)
    for a, b, c in zip(threads, forked, plain, strict=True):
        assert a.id == b.id == c.id
        assert torch.equal(a.edge_attr, c.edge_attr)
        assert torch.equal(b.edge_attr, c.edge_attr)


@pytest.mark.slow
def test_a_process_that_was_killed_is_told_and_replaced(ds, readers):
    loader = lg.loader(ds, 5, **FORK)
    iterator = iter(loader)
    next(iterator)
    (worker,) = readers()
    worker.kill()
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        ids(iterator)
    assert len(ids(loader)) == 60


def refuse_number_25(data):
    if data.id == "prototype-0000025":  # none of those that the loader tries beforehand
        raise ValueError("not this one")
    return data


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_after_an_error_nobody_reads_on(prototypes, way, readers):
    """Not even while a traceback, as a notebook keeps the last one, holds all that took part."""
    iterator = iter(lg.loader(lg.LazyGraphDataset(prototypes, transform=refuse_number_25), 20, **way))
    assert next(iterator).num_graphs == 20
    with pytest.raises(ValueError, match="not this one") as caught:
        next(iterator)
    assert readers() == []
    assert caught.tb is not None


@pytest.fixture
def abandoned(prototypes, readers):
    """Begins an iteration that only the garbage collector ends, with a function that its thread calls in each batch."""

    def begin(in_thread):
        main, calls = threading.current_thread(), []

        def step(crystals, draws):
            if threading.current_thread() is not main:
                calls.append(len(crystals))
                if len(calls) > 1:  # the first batch is needed
                    in_thread()
            return crystals

        ds = lg.LazyGraphDataset(prototypes, augment=[step])
        iterator = iter(lg.loader(ds, 2, threads=1, num_workers=0))
        cycle = [iterator]
        cycle.append(cycle)
        next(iterator)

    gc.disable()
    yield begin
    gc.enable()


def test_an_iteration_is_collected_in_its_own_thread(abandoned, monkeypatch):
    found, is_garbage, collected = [], threading.Event(), threading.Event()
    monkeypatch.setattr(sys, "unraisablehook", found.append)

    def collect():
        if is_garbage.wait(60):
            gc.collect()
            collected.set()

    abandoned(collect)
    is_garbage.set()
    assert collected.wait(60)
    assert found == []


def test_collecting_an_iteration_does_not_wait_for_ever(abandoned, monkeypatch):
    """Garbage is collected at any moment, also while a lock is held that a thread of the iteration waits for."""
    monkeypatch.setattr("lazygraph.loading.prefetch.LONGEST_WAIT", 0.2, raising=False)
    lock, waits = threading.Lock(), threading.Event()

    def take_lock():
        waits.set()
        if lock.acquire(timeout=30):
            lock.release()

    with lock:
        abandoned(take_lock)
        assert waits.wait(60)
        begin = time.monotonic()
        gc.collect()
        assert time.monotonic() - begin < 15


def test_a_loader_is_copied_without_its_processes(ds, readers):
    loader = lg.loader(ds, 50, shuffle=True, **FORK)
    first = ids(loader)
    iterator = iter(loader)
    next(iterator)
    other = pickle.loads(pickle.dumps(loader))
    # The iteration goes on here, and not in the copy, which begins the next epoch as this one does.
    assert [loader.state_dict()[key] for key in ("epoch", "batches")] == [1, 1]
    assert [other.state_dict()[key] for key in ("epoch", "batches")] == [2, 0]
    assert ids(other) == ids(loader) != first
    other.set_epoch(0)
    assert ids(other) == first


def put_ids(loader, queue):
    queue.put(ids(loader))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_loader_goes_on_in_a_process_as_lightning_starts_them(ds, method):
    """Forked, it does not take the processes of its parent, which are on their way to the next batches themselves."""
    loader = lg.loader(ds, 50, shuffle=True, **FORK)
    ids(loader)
    context = get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=put_ids, args=(loader, queue))
    process.start()
    assert queue.get() == ids(loader)
    process.join()
    assert process.exitcode == 0
    assert len(ids(loader)) == 6
    loader.close()


def close_and_forget(loader):
    loader.close()
    del loader
    gc.collect()


@pytest.mark.slow
def test_a_forked_copy_that_is_closed_leaves_the_processes_of_its_parent(ds):
    loader = lg.loader(ds, 50, shuffle=True, **FORK)
    first = ids(loader)
    process = get_context("fork").Process(target=close_and_forget, args=(loader,))
    process.start()
    process.join()
    assert process.exitcode == 0
    loader.set_epoch(0)
    assert ids(loader) == first
    loader.close()


# Where the tests run in the background, SIGINT is ignored, and children inherit that: Ctrl-C is set as in a terminal.
INTERRUPTED = """
import signal, sys
import lazygraph as lg

signal.signal(signal.SIGINT, signal.default_int_handler)
loader = lg.loader(lg.LazyGraphDataset(sys.argv[1]), 20, shuffle=True, **eval(sys.argv[2]))
first = next(iter(loader))
try:
    print("reading", flush=True)
    while True:
        for batch in loader:
            {use}
except KeyboardInterrupt:
    print("interrupted", len(list(loader)), flush=True)
left = iter(loader)
next(left)
"""


@pytest.mark.slow
def test_interrupting(prototypes):
    """Ctrl-C reaches every process of a terminal; the loader can be used again, and everything ends with the script."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    runs = [
        subprocess.Popen([sys.executable, "-c", INTERRUPTED.format(use=use), prototypes, str(way)], **pipes)
        for way, use in ((THREAD, "pass"), (FORK, "sum(range(10**5))"))
    ]
    try:
        for run in runs:
            assert run.stdout.readline() == "reading\n", run.stderr.read()
            os.killpg(run.pid, signal.SIGINT)
        for run in runs:
            out, err = run.communicate(timeout=60)
            assert (out, err, run.returncode) == ("interrupted 15\n", "", 0)
            with pytest.raises(ProcessLookupError):
                os.killpg(run.pid, 0)
    finally:
        for run in runs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)


@pytest.fixture
def shards(tmp_path):
    """A dataset of several files."""
    write(tmp_path / "s.lg", seed=1)
    return lg.LazyGraphDataset(tmp_path / "s.lg", target="density")


def write(path, seed):
    lg.write(f"prototypes:150?seed={seed}", path, workers=1, shard_size=32, progress=False, overwrite=True)
    delete_old_files(path)


@pytest.mark.parametrize("way", WAYS[:3], ids=str)
def test_a_dataset_that_is_replaced_before_it_is_read(shards, way, readers):
    loader = lg.loader(shards, 5, **way)
    write(shards.path, seed=2)
    with pytest.raises(
        DatasetReplaced, match=r"s\.lg was replaced, moved or deleted while it was open .*; open it again"
    ):
        list(loader)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_dataset_that_is_replaced_while_it_is_read(shards, way, readers):
    """Open files are read to their end, by processes that were forked later too: never a graph of the new dataset."""
    expected = [(batch.id, batch.y.tolist()) for batch in lg.loader(shards, 5, **PLAIN)]
    loader = lg.loader(shards, 5, **way)
    iterator = iter(loader)
    batches = [next(iterator)]
    write(shards.path, seed=2)
    assert [(batch.id, batch.y.tolist()) for batch in [*batches, *iterator]] == expected
    assert [(batch.id, batch.y.tolist()) for batch in loader] == expected


@pytest.mark.slow
def test_a_dataset_that_is_replaced_before_a_process_opens_it(shards):
    loader = lg.loader(shards, 5, num_workers=1, multiprocessing_context="forkserver")
    loader.settings  # noqa: B018  # this process has opened it
    write(shards.path, seed=2)
    with pytest.raises(DatasetReplaced, match="open it again"):
        list(loader)
    loader.close()
