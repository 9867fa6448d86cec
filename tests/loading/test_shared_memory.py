"""Values reach another process through shared memory as they were sent, and stay as long as is promised."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import time
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.loading import shared_memory as module
from lazygraph.loading.prefetch import Request, WorkerPool
from lazygraph.loading.settings import Facts, WantedSettings, choose
from lazygraph.loading.shared_memory import Sent, SharedBuffers, pack, unpack
from lazygraph.loading.transforms import Draw

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no memory without a name here")


@pytest.fixture(params=["without a name", "with a name"])
def kind(request, monkeypatch):
    """Both kinds of memory: that of Linux, and that of other systems."""
    if request.param == "with a name":
        named = lambda size: module._WithName(SharedMemory(create=True, size=size), os.getpid())  # noqa: E731
        monkeypatch.setattr(module, "_create", named)
    return request.param


def names():
    return {path.name for path in Path("/dev/shm").glob("psm_*")}


def equal(a, b):
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@given(st.lists(st.integers(0, 30_000), max_size=5), st.integers(1, 3))
def test_what_is_sent_is_received(sizes, each):
    slots = SharedBuffers(2, each, 50_000)
    value = [np.arange(size, dtype=np.int16) for size in sizes]
    for process in (1, 0, 1):
        sent = slots.send(value, process)
        large = [2 * size for size in sizes if 2 * size > 4096]
        fits = sum(-(-size // 64) * 64 for size in large) <= 50_048  # a slot is a whole number of 64 bytes
        assert len(sent.arrays) == (len(large) if fits else 0)
        assert len(sent.pickled) < 25_000 + (0 if fits else sum(large))
        received = slots.receive(pickle.loads(pickle.dumps(sent)))
        assert equal(value, received)
        assert all(not array.flags.writeable for array in received if fits and array.nbytes > 4096)
        assert equal(value, slots.receive(sent, own=True))
        assert all(array.flags.writeable for array in slots.receive(sent, own=True))


TENSORS = {
    "numbers": torch.arange(3000),
    "nothing": torch.zeros(0, 3),
    "one": torch.tensor(2.5),
    "turned": torch.arange(6000.0).reshape(2, 3000).T,
    "half": torch.arange(3000).to(torch.bfloat16),
    "truth": torch.tensor([True, False]),
    "sparse": torch.eye(3).to_sparse(),
    "learnt": torch.nn.Parameter(torch.ones(2)),
    "text": "a",
}


def test_tensors_of_every_kind_are_sent(kind):
    slots, out = SharedBuffers(1, 1, 10**6), None
    for received in (unpack(pack(TENSORS)), slots.receive(slots.send(TENSORS, 0), own=True)):
        for name, value in TENSORS.items():
            out = received[name]
            assert type(out) is type(value)
            if isinstance(value, torch.Tensor):
                assert (out.dtype, out.shape, out.layout) == (value.dtype, value.shape, value.layout)
                assert out.to_dense().equal(value.to_dense())
                assert out.is_sparse or not out.is_shared()
                assert out.requires_grad == value.requires_grad
    received["numbers"] += 1  # it is the receiver's own
    assert slots.receive(slots.send(TENSORS, 0), own=True)["numbers"].equal(TENSORS["numbers"])


FEW = """
import os, resource, sys
import lazygraph as lg
def transform(data):
    data.twice = data.x * 2
    return data
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
ds = lg.LazyGraphDataset(sys.argv[1], target="density", transform=transform)
batches = list(lg.loader(ds, 4, num_workers=2, multiprocessing_context="fork"))
wanted = list(lg.loader(ds, 4, num_workers=0))
assert all(a.twice.equal(b.twice) and a.y.equal(b.y) and a.id == b.id for a, b in zip(batches, wanted, strict=True))
print(len(batches))
"""


@pytest.mark.slow
def test_a_list_of_transformed_batches_needs_no_open_file_for_each_tensor(prototypes):
    done = subprocess.run([sys.executable, "-c", FEW, str(prototypes)], capture_output=True, text=True, check=False)
    assert done.stdout == "75\n", done.stderr[-2000:]


def test_a_value_holds_until_its_process_has_sent_so_many_more(kind):
    slots = SharedBuffers(2, 3, 10_000)
    values = [np.full(10_000, k, np.uint8) for k in range(5)]
    first = slots.receive(slots.send(values[0], 0))
    for k in (1, 2):
        slots.send(values[k], 0)
    for k in (1, 2, 3, 4):
        slots.send(values[k], 1)
    assert np.array_equal(first, values[0])
    slots.send(values[3], 0)
    assert np.array_equal(first, values[3])


def answer(slots, queue):
    queue.put(slots.send(np.arange(5000), 1))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_another_process_shares_the_memory(method, kind):
    before = names()
    slots, context = SharedBuffers(2, 2, 40_000), get_context(method)
    file = slots._block._file if kind == "without a name" else None
    assert (names() == before) == (kind == "without a name")
    queue = context.SimpleQueue()
    process = context.Process(target=answer, args=(slots, queue))
    process.start()
    sent = queue.get()
    process.join()
    assert isinstance(sent, Sent)
    received = slots.receive(sent)
    del slots, process
    gc.collect()
    assert names() == before
    assert np.array_equal(received, np.arange(5000))  # an array keeps the memory
    if file is not None:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(file)


@pytest.mark.slow
@pytest.mark.parametrize("prefetch_factor", [1, 2, 5])
@pytest.mark.parametrize("room", [10**6, 20_000], ids=["enough", "not for all"])
def test_no_batch_is_overwritten_while_it_is_used(prototypes, prefetch_factor, room, kind):
    """However far workers have gone on meanwhile, and where some batches are too large for a slot."""
    ds = lg.LazyGraphDataset(prototypes, target="density")
    facts = Facts(2, 0.001, room, compiled=True, transform=False, cuda=False, shared_memory=None)
    settings = choose(lambda: facts, WantedSettings(num_workers=2, prefetch_factor=prefetch_factor))
    processes = WorkerPool(ds, settings)
    rng = np.random.default_rng(prefetch_factor)
    for _ in range(2):
        batches = [rng.integers(0, len(ds), size) for size in rng.integers(5, 60, 30)]
        for positions, fetched in zip(
            batches, processes.read([Request(each, Draw(0, 0, 0)) for each in batches]), strict=True
        ):
            time.sleep(0.005)  # in which two workers fetch all that they may
            expected = ds.fetch(positions)
            assert fetched.ids == expected.ids
            assert fetched.y.tobytes() == expected.y.tobytes()
            for name, value in expected.records.fields.items():
                assert value.tobytes() == fetched.records.fields[name].tobytes()


def test_targets_do_not_lie_in_the_memory_of_the_workers(prototypes):
    """Of a large batch, or of a vector, they are large enough to travel there."""
    ds = lg.LazyGraphDataset(prototypes, target="density")
    slots = SharedBuffers(1, 2, 10**7)
    rows = np.arange(2000) % 300
    batch = ds.reader.expand(slots.receive(slots.send(ds.fetch(rows), 0)))
    slots.send(ds.fetch(rows[::-1]), 0)
    slots.send(ds.fetch(rows[::-1]), 0)
    assert batch.y[:, 0].tolist() == ds.columns["density"][rows].astype(np.float32).tolist()


def test_batches_that_were_kept_do_not_change(prototypes):
    """Nothing of a batch lies in the memory of the workers."""
    ds = lg.LazyGraphDataset(prototypes, target="density", view=lg.view("pyg", dtype="float64"))
    plain = list(lg.loader(ds, 16, num_workers=0, threads=0))
    kept = list(lg.loader(ds, 16, num_workers=1, prefetch_factor=2))
    assert len(kept) > 10
    for mine, theirs in zip(kept, plain, strict=True):
        for name, value in theirs.to_dict().items():
            assert name == "id" or value.equal(mine[name]), name
