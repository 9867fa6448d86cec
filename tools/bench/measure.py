"""One measurement of one store, in this process; ``loaders.py`` starts one for each. Prints its answer as JSON."""

from __future__ import annotations

import importlib
import itertools
import json
import multiprocessing
import sys
import time
from pathlib import Path

import psutil
import torch
from stores import BATCH_SIZE, FIELDS, STORES, TARGET, pyg_loader
from torch_geometric.data import Data

from lazygraph import LazyGraphDataset

WARM_UP = 16  # batches, more than workers have made before they are asked
WORKERS = 2


def build(store, dataset):
    """Fill the store from a dataset."""
    store.build(LazyGraphDataset(dataset, target=TARGET)[: store.most])


def check(store, dataset, batches):
    """How many graphs of the first batches are, bit by bit, those of the dataset; raises where one is not."""
    graphs = LazyGraphDataset(dataset, target=TARGET)
    seen = []
    for batch in itertools.islice(store.loader(0, seed=0), batches):
        for graph in batch.to_data_list():
            wanted = graphs[graph.id]
            if set(graph.keys()) != set(FIELDS):
                raise SystemExit(f"{store.name}: found the fields {sorted(graph.keys())}; required: {sorted(FIELDS)}")
            for name, (dtype, _) in FIELDS.items():
                same = wanted.id == graph.id if dtype is str else torch.equal(wanted[name], graph[name])
                if not same or (dtype is not str and graph[name].dtype is not dtype):
                    raise SystemExit(f"{store.name}: {name} of {graph.id!r} is not what the dataset holds")
            seen.append(graph.id)
    if len(set(seen)) != len(seen) or seen == graphs.ids[: len(seen)].tolist():
        raise SystemExit(f"{store.name}: graphs came twice, or in the order of the dataset")
    return len(seen)


def warm(store, workers, seconds, seed):
    """Graphs/s, epoch after epoch, once the loader runs steadily."""
    epochs = itertools.repeat(store.loader(workers, seed))
    return rate(itertools.chain.from_iterable(epochs), WARM_UP, seconds)


def cold(store, seconds, seed):
    """Graphs/s without workers from opening on, for one epoch at most."""
    start = time.perf_counter()
    loader = store.loader(0, seed)
    return rate(loader, 0, seconds, start)


def rate(batches, skip, seconds, start=None):
    """Graphs/s from ``start``, or from after ``skip`` batches, for so many seconds or to the end."""
    batches = iter(batches)
    for _ in itertools.islice(batches, skip):
        pass
    start = start or time.perf_counter()
    graphs = 0
    for batch in batches:
        graphs += batch.num_graphs
        passed = time.perf_counter() - start
        if passed > seconds:
            break
    return graphs / passed


class Imports(torch.utils.data.Dataset):
    """Graphs of nothing, from workers that have imported what the store's workers import."""

    def __init__(self, packages):
        self.packages = packages

    def __len__(self):
        return 4 * WORKERS * BATCH_SIZE

    def __getitem__(self, row):
        load(self.packages)
        return Data(x=torch.zeros(1, 1))


def load(packages):
    for name in packages:
        importlib.import_module(name)


def first_batch(open_loader):
    """Seconds until the first batch is there."""
    start = time.perf_counter()
    batches = iter(open_loader())
    next(batches)
    seconds = time.perf_counter() - start
    del batches  # only now: to end its workers can take seconds
    return seconds


def start(store, workers, seed):
    """Seconds from opening to the first batch; with spawned workers, beyond what they take to import."""
    multiprocessing.set_start_method("spawn", force=True)  # litdata chooses one when it is imported

    def imports():
        return first_batch(lambda: pyg_loader(Imports(store.packages), workers, seed))

    before, seconds, after = imports(), first_batch(lambda: store.loader(workers, seed)), imports()
    return seconds - (before + after) / 2 if workers else seconds


def memory(store, seconds, seed):
    """MiB of private memory (USS) that an epoch, or so many seconds of it, adds to the imports; and how many graphs."""
    multiprocessing.set_start_method("spawn" if store.spawns else "fork", force=True)
    bare = pyg_loader(Imports(store.packages), WORKERS, seed)
    batches = iter(bare)
    for _ in range(len(bare)):
        next(batches)
    before = held()
    del batches, bare  # ends its workers
    loader = store.loader(WORKERS, seed)
    batches = iter(loader)
    graphs, end = next(batches).num_graphs, time.perf_counter() + seconds
    for _ in range(1, len(loader)):
        graphs += next(batches).num_graphs
        if time.perf_counter() > end:
            break
    main, worker = (after - bare for after, bare in zip(held(), before, strict=True))
    return {"main": main, "worker": worker, "graphs": graphs}


def held():
    """MiB of private memory of this process, and of the one of its workers that has most."""
    children = psutil.Process().children(recursive=True)
    workers = [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
    return private(psutil.Process()), max(map(private, workers))


def private(process):
    return process.memory_full_info().uss / 2**20


TASKS = {task.__name__: task for task in (build, check, warm, cold, start, memory)}


def main():
    task, name, folder, arguments = sys.argv[1:]
    load(STORES[name].packages)
    print(json.dumps(TASKS[task](STORES[name](Path(folder)), **json.loads(arguments))))


if __name__ == "__main__":
    main()
