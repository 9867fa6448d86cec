"""However many datasets a process has open, and however few files it may open: they are read, or it is said why not."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.errors import StorageError
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.machine import descriptor_limit
from lazygraph.reading.verify import verify
from lazygraph.storage import descriptors
from lazygraph.storage.descriptors import budget
from lazygraph.storage.mapping import mapped
from tools.soak.apart import apart

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="nobody tells which files are open")
ROWS = np.arange(0, 300, 7)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    out = tmp_path_factory.mktemp("descriptors") / "d.lg"
    lg.write("prototypes:300?seed=1", out, graph="cgcnn", workers=1, shard_size=5, progress=False)
    assert len(Manifest.load(out).shards) == 60
    return out


def allow(files):
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def number():
    return len(os.listdir("/proc/self/fd")) - 1


def use_up():
    """Open all files that the process may open."""
    held = []
    while True:
        try:
            held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return held


@given(st.integers(1, 2**31))
def test_the_budget_leaves_most_of_what_may_be_opened(limit):
    assert 1 <= budget(limit) <= max(limit // 4, 1)
    assert budget(1024) == 256


def read(store):
    return store.read_batch(ROWS).fields["numbers"].tobytes(), [store.raw(row) for row in ROWS.tolist()]


@pytest.mark.parametrize("limit", [1024, 256, 64, 24])
def test_many_datasets_share_one_budget(path, limit):
    """A child reads 12 datasets of 60 shards in turn, and never has more files open than the budget."""
    wanted = read(Store(path))

    def child():
        before = number()
        allow(before + limit)
        stores = [Store(path) for _ in range(12)]
        right, most = True, 0
        for _ in range(2):
            for store in stores:
                right &= read(store) == wanted
                most = max(most, number() - before)
        return [right, most <= budget(), most]

    ended, found = apart(child, seconds=120)
    assert (ended, found[:2]) == ("returned", [True, True]), found


def test_columns_keep_no_file_open(path):
    before = number()
    store = Store(path)
    columns = [store.column(name) for name in store.manifest.columns]
    assert number() == before
    content = columns[0].tobytes()
    del store
    assert columns[0].tobytes() == content  # an array keeps its memory
    assert not columns[0].flags.writeable


def test_memory_of_a_file_is_given_back(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"abc" * 5000)
    with file.open("rb") as opened:
        found = mapped(opened.fileno(), 15000)
        part = found[3:6]
    del found
    assert part.tobytes() == b"abc"
    with open("/proc/self/maps") as maps:
        assert os.fspath(file) in maps.read()
    del part
    with open("/proc/self/maps") as maps:
        assert os.fspath(file) not in maps.read()


def test_shards_are_closed_for_whatever_else_is_opened(path):
    """Others have used up what a process may open: what lazygraph holds is given up for what it needs now."""

    def child():
        store, other = Store(path), Store(path)
        wanted = read(store)
        held = use_up()
        right = read(other) == read(store) == wanted  # each has what the other one gave up
        os.close(held.pop())
        return right and verify(path).problems == ()

    assert apart(child, seconds=60) == ("returned", True)


def test_where_nothing_can_be_opened_no_dataset_is_blamed(path):
    def child():
        for pool in descriptors._pools():  # those of other tests could be given up
            pool.close()
        store = Store(path)
        allow(number() + 3)
        held = use_up()
        said = []
        for call in (lambda: store.raw(0), lambda: store.read_batch(ROWS), lambda: Store(path), lambda: verify(path)):
            try:
                call()
                said.append("nothing")
            except StorageError as error:
                said.append(str(error))
        os.close(held.pop())
        os.close(held.pop())
        return said, verify(path).problems

    ended, (said, problems) = apart(child, seconds=60)
    assert ended == "returned"
    assert problems == []
    for message in said:
        assert "Too many open files; the process has used up its" in message
        assert "Nothing is wrong with the file" in message
        assert str(path) in message


def test_files_of_a_dataset_that_is_forgotten_are_closed(path):
    before = number(), len(descriptors._POOLS)
    store = Store(path)
    read(store)
    assert number() > before[0]
    del store
    assert (number(), len(descriptors._POOLS)) == before


@pytest.mark.parametrize("way", ["raw", "frame", "read_batch"])
@pytest.mark.parametrize("whole", [True, False], ids=["the dataset", "the shard"])
def test_a_shard_that_is_deleted_after_its_size_was_looked_at(path, tmp_path, way, whole):
    """The first moment at which a file is looked at is not the one at which it is opened."""
    copied = Path(shutil.copytree(path, tmp_path / "d.lg"))

    def read():
        store = Store(copied)
        store.column("record")

        def delete(event, arguments):
            if event == "open" and str(arguments[0]).endswith(".lmdb"):
                shutil.rmtree(copied, ignore_errors=True) if whole else Path(arguments[0]).unlink(missing_ok=True)

        sys.addaudithook(delete)  # which cannot be taken away again, but ends with this process
        rows = np.arange(3) if way == "read_batch" else 0
        try:
            getattr(store, way)(rows)
        except lg.LazyGraphError as error:
            return type(error).__name__

    assert apart(read) == ("returned", "DatasetReplaced" if whole else "CorruptDataset")


@pytest.mark.slow
def test_datasets_may_be_collected_while_files_are_opened():
    """Garbage collection runs within the very step that looks at all datasets: found by tools/fuzz/structured."""
    kept, before = [descriptors.ShardFiles(1) for _ in range(50)], gc.get_threshold()
    gc.freeze()  # what else there is takes long to look at
    try:
        for allocations in range(1, 40):
            gc.collect()
            lost = descriptors.ShardFiles(1)
            lost.itself = lost  # only garbage collection finds it
            del lost
            gc.set_threshold(allocations)
            assert set(kept) <= set(descriptors._pools())
            gc.set_threshold(*before)
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def test_threads_that_open_files_at_once_stay_within_the_budget(tmp_path, monkeypatch):
    for number in range(8):
        (tmp_path / str(number)).write_bytes(b"x")
    monkeypatch.setattr(descriptors, "budget", lambda: 2)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            files, barrier = descriptors.ShardFiles(8), threading.Barrier(8)

            def open_one(number, files=files, barrier=barrier):
                barrier.wait()
                files.open({number}, lambda shard: (os.open(tmp_path / str(shard), os.O_RDONLY), 1))

            threads = [threading.Thread(target=open_one, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(files.now.held) <= 2
    finally:
        sys.setswitchinterval(interval)


def test_the_usual_limit_is_raised_where_a_dataset_has_more_shards(path, monkeypatch):
    """Shard files then leave the numbers that ``select`` can use to others."""

    def child():
        monkeypatch.setattr(descriptors, "MOST", 1100)
        allow(1024)
        store = Store(path)
        store.read_batch(ROWS)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        monkeypatch.setattr(descriptors, "budget", lambda limit=None: 20 if descriptor_limit()[0] <= 1024 else 1100)
        other = Store(path)
        other.read_batch(ROWS)
        numbers = [one for one in other._files.now.numbers.tolist() if one >= 0]
        return before, resource.getrlimit(resource.RLIMIT_NOFILE)[0], len(numbers), min(numbers)

    _, (before, after, opened, least) = apart(child)
    assert (before, after) == (1024, 4400)
    assert opened > 20
    assert least >= 1024


def test_a_limit_that_somebody_set_is_left_as_it_is(path):
    def child():
        allow(100)
        store = Store(path)
        store.read_batch(ROWS)
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    assert apart(child) == ("returned", 100)
