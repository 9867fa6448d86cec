"""Processes forked at any moment while threads read: the child reads the same graphs and never waits for a lock."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import lazygraph as lg

FORKS = """
import faulthandler, os, sys, threading, warnings
warnings.simplefilter("ignore")
import lazygraph as lg
datasets = [lg.LazyGraphDataset(sys.argv[1], view=view) for view in ("pyg", "alignn")]
graphs, reading, ended = range(0, 40, 8), True, {}
def read():
    return [(ds[3].edge_index.sum().item(), ds.batch(graphs).edge_index.sum().item()) for ds in datasets]
def read_on():
    while reading:
        read()
threads = [threading.Thread(target=read_on, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
expected = read()
for _ in range(200):
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(30, exit=True)  # against a hang
        os._exit(0 if read() == expected else 3)
    status = os.waitpid(child, 0)[1]
    ended[status] = ended.get(status, 0) + 1
    if status:
        break
reading = False
for thread in threads:
    thread.join()
print(ended, flush=True)
"""

READS = """
import sys, warnings
warnings.simplefilter("ignore")
import lazygraph as lg
ds = lg.LazyGraphDataset(sys.argv[1], view="alignn")
before = set(sys.modules)
ds[3], ds.batch(range(8)).to_data_list(), ds.ids, ds[ds.where("n_atoms < 9").ids[0]]
print(sorted(set(sys.modules) - before))
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    out = tmp_path_factory.mktemp("fork") / "d.lg"
    lg.write("prototypes:40?seed=1", out, graph="alignn", workers=1, progress=False)
    return out


def output(script, path):
    command = [sys.executable, "-c", script, str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.stdout or done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_forked_while_threads_read_does_not_hang(path):
    assert output(FORKS, path) == "{0: 200}\n"


@pytest.mark.slow
def test_reading_imports_nothing(path):
    """A child forked while a thread imports would wait for that import for ever."""
    assert output(READS, path) == "[]\n"
