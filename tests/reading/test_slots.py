"""Values reach another process through shared memory as they were sent, and stay as long as is promised."""

from __future__ import annotations

import os
import pickle
import time
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.reading.ahead import Processes
from lazygraph.reading.settings import Facts, choose
from lazygraph.reading.slots import Sent, Slots

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there is no such memory here")


def equal(a, b):
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@given(st.lists(st.integers(0, 30_000), max_size=5), st.integers(1, 3))
def test_what_is_sent_is_received(sizes, each):
    slots = Slots(2, each, 50_000)
    value = [np.arange(size, dtype=np.int16) for size in sizes]
    for process in (1, 0, 1):
        sent = slots.send(value, process)
        assert isinstance(sent, Sent) == (sum(-(-2 * size // 64) * 64 for size in sizes if 2 * size > 4096) <= 50_000)
        received = slots.receive(pickle.loads(pickle.dumps(sent)))
        assert equal(value, received)
        if isinstance(sent, Sent):
            assert all(not array.flags.writeable for array in received if array.nbytes > 4096)
            assert len(sent.pickled) < 25_000


def test_a_value_holds_until_its_process_has_sent_so_many_more():
    slots = Slots(2, 3, 10_000)
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


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_another_process_shares_the_memory(method):
    slots, context = Slots(2, 2, 40_000), get_context(method)
    file = slots._file
    queue = context.SimpleQueue()
    process = context.Process(target=answer, args=(slots, queue))
    process.start()
    sent = queue.get()
    process.join()
    assert isinstance(sent, Sent)
    assert np.array_equal(slots.receive(sent), np.arange(5000))
    del slots, process
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


@pytest.mark.parametrize("prefetch_factor", [1, 2, 5])
@pytest.mark.parametrize("room", [10**6, 20_000], ids=["enough", "not for all"])
def test_no_batch_is_overwritten_while_it_is_used(prototypes, prefetch_factor, room):
    """However far workers have gone on meanwhile, and where some batches are too large for a slot."""
    ds = lg.LazyGraphDataset(prototypes, target="density")
    facts = Facts(2, 0.001, room, compiled=True, transform=False, cuda=False, shared_memory=None)
    settings = choose(lambda: facts, num_workers=2, prefetch_factor=prefetch_factor)
    processes = Processes(ds, settings)
    rng = np.random.default_rng(prefetch_factor)
    for _ in range(2):
        batches = [rng.integers(0, len(ds), size) for size in rng.integers(5, 60, 30)]
        for positions, fetched in zip(batches, processes.read(batches), strict=True):
            time.sleep(0.005)  # in which two workers fetch all that they may
            expected = ds.fetch(positions)
            assert fetched.ids == expected.ids
            assert fetched.y.tobytes() == expected.y.tobytes()
            for name, value in expected.joined.fields.items():
                assert value.tobytes() == fetched.joined.fields[name].tobytes()


def test_targets_do_not_lie_in_the_memory_of_the_workers(prototypes):
    """Of a large batch, or of a vector, they are large enough to travel there."""
    ds = lg.LazyGraphDataset(prototypes, target="density")
    slots = Slots(1, 2, 10**7)
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
