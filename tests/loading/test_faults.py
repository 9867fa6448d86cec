"""A file system that fails while a dataset is read: EIO, ESTALE, short reads, signals; suspended processes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import lazygraph as lg
from lazygraph.errors import CorruptDataset, DatasetReplaced
from lazygraph.format.native_reader import NativeReader
from lazygraph.format.store import Store

HERE = Path(__file__).parent
FOREVER = 10**6


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    out = tmp_path_factory.mktemp("faults") / "p.lg"
    lg.write("prototypes:100?seed=3", out, workers=1, shard_size=20, progress=False)
    assert len(lg.LazyGraphDataset(out).manifest.dictionaries) == 1
    return out


@pytest.fixture
def failing(monkeypatch):
    """Let os.pread fail with this number, so many times; what was given to it."""
    # The compiled loops read by themselves, and leave what fails to the plain functions.
    monkeypatch.setattr(NativeReader, "create_if_supported", lambda *_: None)
    real, calls = os.pread, []

    def fail(number, times=FOREVER):
        def pread(descriptor, length, offset):
            calls.append(descriptor)
            if len(calls) <= times:
                raise OSError(number, os.strerror(number))
            return real(descriptor, length, offset)

        monkeypatch.setattr(os, "pread", pread)
        return calls

    return fail


@pytest.mark.parametrize("name", ["EIO", "ESTALE"])
def test_an_error_of_the_file_system_names_dataset_shard_row_and_id(path, failing, name):
    ds, number = lg.LazyGraphDataset(path), getattr(errno, name)
    shard = ds.manifest.shards[2].file.name
    calls = failing(number)
    with pytest.raises(OSError) as caught:
        ds[45]
    error = caught.value
    assert not isinstance(error, (CorruptDataset, DatasetReplaced))
    assert error.errno == number
    for part in (str(path), shard, "row 45", repr(str(ds.ids[45])), os.strerror(number)):
        assert part in str(error)
    assert "\n" not in str(error)
    assert len(calls) == (2 if name == "ESTALE" else 1)


def test_what_a_server_lost_sight_of_is_opened_again_once(path, failing):
    store = Store(path)
    expected, before = Store(path).raw(45), store.raw(50)
    held = store._files.now.held[2]
    calls = failing(errno.ESTALE, times=1)
    assert store.raw(45) == expected
    assert len(calls) == 2
    assert store._files.now.held[2] is not held
    assert store.raw(50) == before


def test_other_errors_are_not_tried_again(path, failing):
    store = Store(path)
    calls = failing(errno.EIO, times=1)
    with pytest.raises(OSError, match="Input/output error"):
        store.raw(45)
    assert len(calls) == 1
    assert store.raw(45)


def test_what_was_replaced_on_the_server_is_told_so(path, failing, tmp_path):
    copy = tmp_path / "copy.lg"
    shutil.copytree(path, copy)
    store = Store(copy)
    store.raw(45)
    shutil.rmtree(copy)
    failing(errno.ESTALE, times=1)
    with pytest.raises(DatasetReplaced, match="open it again"):
        store.raw(45)


def test_a_file_that_came_into_the_place_of_a_stale_one_is_not_believed(path, failing, tmp_path):
    copy = tmp_path / "copy.lg"
    shutil.copytree(path, copy)
    store = Store(copy)
    store.raw(45)
    shard = copy / store.manifest.shards[2].file.name
    data = bytes(byte ^ 1 for byte in shard.read_bytes())
    shard.unlink()
    shard.write_bytes(data)
    failing(errno.ESTALE, times=1)
    with pytest.raises(CorruptDataset, match="row 45"):
        store.raw(45)


def test_reads_that_give_a_part_are_gone_on_with(path, monkeypatch):
    """Interrupted, some file systems give a part; it was taken for a file that had been cut off."""
    expected = [Store(path).raw(row) for row in range(100)]
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda file, length, offset: real(file, max(length // 2, 1), offset))
    store = Store(path)
    assert [store.raw(row) for row in range(100)] == expected


@pytest.fixture(scope="module")
def met(path, tmp_path_factory):
    """What every way of reading met, with a C library between it and the system."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("found no C compiler, or no Linux: nothing can be put between the compiled loops and the system")
    shim = tmp_path_factory.mktemp("shim") / "faults.so"
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", shim, HERE / "faults.c", "-ldl"], check=True, capture_output=True
    )
    done = subprocess.run(
        [sys.executable, HERE / "faulty.py", path], env=os.environ | {"LD_PRELOAD": str(shim)}, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


WAYS = ["ds[i]", "batch", "thread", "workers"]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["EIO", "ESTALE"])
def test_every_way_of_reading_ends_in_one_error(met, path, way, name):
    """Compiled loops too; from worker processes it comes with the same text and number."""
    found = met[f"{way}, {name} x {FOREVER}"]
    assert (found["error"], found["errno"]) == ("OSError", getattr(errno, name))
    for part in (f"{path}/shards/0000", ".lmdb, row ", "id 'prototype-00000", os.strerror(getattr(errno, name))):
        assert part in found["text"]
    assert "\n" not in found["text"]
    assert found["met"] > 0 or way == "workers"  # which count in their own process
    assert found["again"] == {"right": True}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_single_fault(met, path, way):
    assert met[f"{way}, ESTALE x 1"]["right"]
    assert met[f"{way}, ESTALE x 1"]["again"] == {"right": True}
    # What the compiled loops cannot read is read by itself, and once more so.
    once = met[f"{way}, EIO x 1"]
    assert once["right"] if met["compiled"] else once.get("errno") == errno.EIO
    assert once["again"] == {"right": True}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_short_reads_and_signals_are_no_faults(met, way):
    assert met[f"{way}, short reads"] == {"right": True}
    assert met[f"{way}, signals"] == [{"right": True}] * 5
    assert met["alarms"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("part", ["manifest.json", "/record-", "/n_node-", "dictionary-"])
def test_faults_where_a_dataset_is_opened(met, path, part):
    assert met[f"{part}, ESTALE x 1"] == {"right": True, "met": 1}
    for name in ("EIO", "ESTALE"):
        found = met[f"{part}, {name} x {FOREVER}"]
        assert (found["error"], found["errno"]) == ("OSError", getattr(errno, name))
        assert f"{path}/" in found["text"]
        assert part in found["text"]
        assert os.strerror(getattr(errno, name)) in found["text"]


# ---- suspended processes ----

READ = """
import sys
import lazygraph as lg
ds = lg.LazyGraphDataset(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    print(len({ds[i].id for i in range(100)} | set(ds.batch(range(100)).id)), flush=True)
"""


@pytest.mark.slow
def test_a_suspended_reader_goes_on(path):
    reader = subprocess.Popen(
        [sys.executable, "-c", READ, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout.readline() == "ready\n"
    for _ in range(10):
        reader.stdin.write("read\n")
        reader.stdin.flush()
        time.sleep(0.005)
        reader.send_signal(signal.SIGSTOP)
        time.sleep(0.02)
        reader.send_signal(signal.SIGCONT)
        assert reader.stdout.readline() == "100\n"
    reader.communicate(timeout=60)
    assert reader.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_suspended_worker_of_the_loader_goes_on(path, method):
    ds = lg.LazyGraphDataset(path)
    expected = [batch.id for batch in lg.loader(ds, 4, threads=0)]
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    loader = lg.loader(ds, 4, num_workers=2, multiprocessing_context=method)
    iterator = iter(loader)
    found = [next(iterator).id]
    workers = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    for worker in workers:
        worker.suspend()
    # Another process wakes them, while this one waits.
    waker = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -CONT {' '.join(str(worker.pid) for worker in workers)}"])
    found += [batch.id for batch in iterator]
    assert waker.wait() == 0
    assert found == expected
    loader.close()


class OddError(OSError):
    """Cannot be made again of its arguments."""

    def __init__(self, path, row):
        super().__init__(errno.EIO, f"{path} and row {row}")


def refuse(data):
    if data.id == "prototype-0000050":
        raise OddError("some path", 50)
    return data


def test_an_error_of_a_transform_that_cannot_be_sent_is_told_as_torch_tells_it(path):
    ds = lg.LazyGraphDataset(path, transform=refuse)
    loader = lg.loader(ds, 20, num_workers=1, multiprocessing_context="fork")
    loader.settings  # noqa: B018  # which reads some graphs here
    with pytest.raises(RuntimeError, match="some path and row 50"):
        list(loader)


def test_rows_in_any_order_after_a_fault_are_right(path, failing):
    """Descriptors that were opened anew belong to their own shards."""
    ds = lg.LazyGraphDataset(path)
    expected = [lg.LazyGraphDataset(path)[int(i)].pos.tolist() for i in range(100)]
    calls = failing(errno.ESTALE, times=1)
    for row in np.random.default_rng(1).permutation(100).tolist():
        if row % 7 == 0:
            calls.clear()
        assert ds[row].pos.tolist() == expected[row]
