"""What reading an epoch takes in memory, in a worker process and in a thread, over what the imports take."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import lazygraph as lg

GRAPHS = 10_000  # 45 MB as joined records, 200 MB as tensors
BOUND = 40e6

SCRIPT = """
import gc, json, sys
from multiprocessing import active_children
import psutil
import lazygraph as lg

def private(pid=None):
    # What was written to. Of the libraries' pages, those that no other process happens to map would count as private.
    return sum(part.private_dirty for part in psutil.Process(pid).memory_maps())

def most(pid, **way):
    ds = lg.LazyGraphDataset(sys.argv[1], target="density")
    loader = lg.loader(ds, 64, shuffle=True, **way)
    seen, found = 0, []
    for number, batch in enumerate(loader):
        seen += batch.num_graphs
        if number % 16 == 0:
            found.append(private(pid()))
    assert seen == len(ds)
    return max(found)

def worker():
    (process,) = active_children()
    return process.pid

if __name__ == "__main__":
    lg.loader, lg.LazyGraphDataset  # which imports them
    gc.collect()
    imports = private()
    told = {"thread": most(lambda: None, threads=1) - imports}
    told["worker"] = most(worker, num_workers=1, multiprocessing_context="spawn") - imports
    told["owner of the worker"] = private() - imports
    print(json.dumps(told))
"""


LAST = """
import builtins, sys, torch
import lazygraph as lg
ds = lg.LazyGraphDataset(sys.argv[1], graph="mace")
builtins.kept, sys.kept, torch.kept = (ds.batch(range(200)) for _ in range(3))
assert torch.kept.edge_attr.nbytes > 1 << 16
"""


@pytest.mark.slow
def test_batches_that_outlive_the_package_are_no_error(prototypes):
    """Their memory comes back when the interpreter ends, after the variables of all modules are gone."""
    command = [sys.executable, "-W", "ignore", "-c", LAST, str(prototypes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_an_epoch_takes_memory_for_a_few_batches(tmp_path):
    lg.write(f"prototypes:{GRAPHS}?seed=3", tmp_path / "m.lg", graph="comformer", progress=False)
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "script.py", tmp_path / "m.lg"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told) == {"thread", "worker", "owner of the worker"}
    assert max(told.values()) < BOUND, told
