"""``find_budget``: the largest budget that a step survives, whatever says that memory is used up."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.errors import InputError, NotEnoughMemory
from lazygraph.loading.memory_probe import _largest


@pytest.fixture
def ds(prototypes):
    return lg.LazyGraphDataset(prototypes)


class Full:
    """A step that runs out of memory above a number of something."""

    def __init__(self, bound, size="num_nodes", error=None):
        self.bound, self.size = bound, size
        self.error = torch.OutOfMemoryError("CUDA out of memory") if error is None else error
        self.seen = []

    def __call__(self, batch):
        self.seen.append(getattr(batch, self.size))
        if self.seen[-1] > self.bound:
            raise self.error


@given(st.integers(1, 60), st.integers(0, 3000), st.integers(1, 3000), st.floats(0.001, 0.5), st.integers(0, 3000))
def test_the_search_finds_the_bound(least, bound, more, tolerance, start):
    limit = least + more
    tried = []

    def survives(budget):
        assert least <= budget <= limit
        tried.append(budget)
        return budget <= bound

    found = _largest(survives, least, limit, min(least + start, limit), tolerance)
    assert len(tried) <= 40
    if bound < least:
        assert found is None
    else:
        assert found <= min(bound, limit)
        assert min(bound, limit) - found <= max(tolerance * found, 1)


@pytest.mark.parametrize(
    ("of", "size", "bound"), [("atoms", "num_nodes", 500), ("edges", "num_edges", 20_000), ("graphs", "num_graphs", 37)]
)
def test_the_heaviest_batches_of_the_budget_survive(ds, of, size, bound):
    step = Full(bound, size)
    budget = lg.find_budget(ds, step, of=of, tolerance=0.01)
    assert 0.9 * bound <= budget <= 1.05 * bound
    option = {"atoms": "max_atoms", "edges": "max_edges", "graphs": "batch_size"}[of]
    after = Full(bound, size)
    for batch in lg.loader(ds, shuffle=True, num_workers=0, **{option: budget}):
        after(batch)


def test_a_step_that_depends_on_edges_limits_atoms_by_the_densest_batch(ds):
    step = Full(20_000, "num_edges")
    loader = lg.loader(ds, max_atoms=lg.find_budget(ds, step), shuffle=True, num_workers=0)
    for _ in range(5):
        assert max(batch.num_edges for batch in loader) <= 20_000


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes"),
    ],
    ids=lambda error: str(error)[:12],
)
def test_everything_that_says_that_memory_is_used_up_counts(ds, error):
    assert 200 < lg.find_budget(ds, Full(300, error=error)) <= 310


def test_other_errors_are_raised(ds):
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes"):
        lg.find_budget(ds, Full(300, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied")))


def test_a_dataset_that_fits_as_a_whole_is_the_end(ds):
    total = int(ds.columns["n_atoms"].sum())
    assert lg.find_budget(ds, lambda batch: None) == total
    assert lg.find_budget(ds, lambda batch: None, most=1000) == 1000
    assert lg.find_budget(ds, lambda batch: None, of="graphs") == 300


def test_a_step_that_survives_nothing_is_told(ds):
    with pytest.raises(NotEnoughMemory, match="runs out of memory with max_atoms=.*, the least budget that holds the"):
        lg.find_budget(ds, Full(0))


def test_options_of_the_loader_are_used(ds):
    seen = []

    def step(batch):
        seen.append((batch.num_nodes, batch.num_edges, batch.num_graphs))
        if batch.num_nodes > 500:
            raise MemoryError

    budget = lg.find_budget(ds, step, pad="buckets")
    assert set(seen) & set(lg.loader(ds, max_atoms=budget, shuffle=True, pad="buckets").shapes)
    seen.clear()
    lg.find_budget(ds, step, batch_size=5)
    assert max(graphs for _, _, graphs in seen) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": "nodes"}, "unknown size 'nodes'; known: atoms, edges, triplets, graphs"),
        ({"of": "triplets"}, "max_triplets cannot be used for .*: the dataset has no column 'n_triplets'"),
        ({"tolerance": 0}, "found tolerance=0; required: a number between 0 and 1"),
        ({"max_atoms": 100}, "find_budget sets max_atoms itself; leave it out"),
        ({"num_workers": 2}, "find_budget sets num_workers itself; leave it out"),
        ({"start": 1}, "found start=1; required: a whole number, at least"),
    ],
)
def test_impossible_options_are_refused(ds, options, message):
    with pytest.raises(InputError, match=message):
        lg.find_budget(ds, lambda batch: None, **options)


PROGRAM = """
import resource, sys
import torch
import lazygraph as lg
ds = lg.LazyGraphDataset(sys.argv[1])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
print(lg.find_budget(ds, lambda batch: torch.zeros(batch.num_nodes, 2**17) + 1))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
def test_a_step_really_runs_out_of_memory(prototypes):
    """Each atom takes 2^20 bytes in two tensors, and the limit of the process leaves 2^28 bytes."""
    made = subprocess.run(
        [sys.executable, "-c", PROGRAM, prototypes], capture_output=True, text=True, check=True, timeout=300
    )
    assert 100 < int(made.stdout) <= 256


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_really_runs_out_of_memory(ds):
    torch.cuda.set_per_process_memory_fraction(2**30 / torch.cuda.get_device_properties(0).total_memory)
    budget = lg.find_budget(ds, lambda batch: torch.zeros(batch.num_nodes, 2**18, device="cuda") + 1, device="cuda")
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert 300 < budget <= 512
