"""The peer of every reading benchmark: a list of PyG ``Data`` in one pickle, read by PyG's ``DataLoader``."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time

import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

FIELDS = ("x", "pos", "edge_index", "edge_attr", "cell", "y")
# Seconds to load the list beyond imports, and the private memory (USS) it then takes, in a process of its own.
LOAD = """
import json, pickle, sys, time
import psutil, torch
from torch_geometric.data import Data
pickle.loads(pickle.dumps(Data(x=torch.zeros(1))))  # loads what the first unpickled tensor loads
def private():
    return psutil.Process().memory_full_info().uss
before, start = private(), time.perf_counter()
with open(json.loads(sys.argv[1]), "rb") as file:
    graphs = pickle.load(file)
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "memory": private() - before}))
"""


def as_list(ds, fields=FIELDS):
    """The graphs of a dataset in memory, with the arrays that a model trains on."""
    return [Data(**{name: graph[name] for name in fields}) for graph in ds]


def dump(graphs, path):
    """Write the pickle; its size in bytes."""
    with open(path, "wb") as file:
        pickle.dump(graphs, file, protocol=5)
        return file.tell()


def load_in_new_process(path):
    """{"seconds", "memory"}: see LOAD."""
    command = [sys.executable, "-c", LOAD, json.dumps(str(path))]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def shuffled(graphs, batch_size=64):
    """PyG's ``DataLoader``, no workers, another order each time."""
    return DataLoader(graphs, batch_size=batch_size, shuffle=True)


def epoch(batches):
    """Graphs/s of one epoch of batches."""
    start = time.perf_counter()
    read = sum(batch.num_graphs for batch in batches)
    return read / (time.perf_counter() - start)


def shuffled_epoch(graphs):
    """Graphs/s of one shuffled epoch through PyG's ``DataLoader``."""
    return epoch(shuffled(graphs))


def random_access(ds):
    """Graphs/s of ``ds[i]``, one after another, in random order."""
    order = torch.randperm(len(ds)).tolist()
    start = time.perf_counter()
    for i in order:
        ds[i]
    return len(order) / (time.perf_counter() - start)
