"""How much memory do writing and reading take, and how does it grow with the number of graphs?

    python tools/bench/memory.py --json memory.json             (10,000 to 500,000 crystals: minutes)
    python tools/bench/memory.py --sizes 1000 4000 --workers 2  (to see that it runs)

Writing: the greatest resident memory of the process that called ``lazygraph.write`` and of its largest worker, sampled
every 20 ms. Reading, in a new process: the private memory (USS) that opening the dataset and one shuffled pass over all
of its graphs add, and the time that opening takes, beyond imports; and beside it what loading the pickled list of the
same graphs takes, where there are at most 20,000.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import common
import peers
import psutil

import lazygraph as lg

PERIOD = 0.02  # s
LARGEST_LIST = 20_000
READ = """
import gc, json, sys, time
import psutil, torch
import lazygraph as lg
def private():
    gc.collect()
    return psutil.Process().memory_full_info().uss
dataset_class = lg.LazyGraphDataset
before, start = private(), time.perf_counter()
ds = dataset_class(json.loads(sys.argv[1]))
opened = time.perf_counter() - start
ds[0]
seconds, first = time.perf_counter() - start, private()
for i in torch.randperm(len(ds)).tolist():
    ds[i]
print(json.dumps({"opened": opened, "to_first": seconds, "first": first - before, "added": private() - before}))
"""


def peaks(process):
    """Sample a process and its children until it ends: the greatest resident bytes of it and of each worker."""
    parent, workers = 0, {}
    root = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            parent = max(parent, root.memory_info().rss)
            for child in root.children(recursive=True):
                # loky also keeps a resource tracker, which holds nothing
                if "resource_tracker" not in " ".join(child.cmdline()):
                    workers[child.pid] = max(workers.get(child.pid, 0), child.memory_info().rss)
        except psutil.NoSuchProcess:
            pass  # it ended between two lines
        time.sleep(PERIOD)
    return parent, list(workers.values())


def writing(source, path, workers):
    process = common.python(common.WRITE, (source, str(path), workers))
    start = time.perf_counter()
    parent, children = peaks(process)
    seconds = time.perf_counter() - start
    common.answer(process)
    return {
        "parent_peak_MiB": parent / 2**20,
        "largest_worker_MiB": max(children, default=0) / 2**20 if workers > 1 else None,
        "s": seconds,
    }


def reading(path):
    found = common.answer(common.python(READ, str(path)))
    return {
        "ms_to_open": 1e3 * found["opened"],
        "ms_to_first_graph": 1e3 * found["to_first"],
        "MiB_after_first_graph": found["first"] / 2**20,
        "MiB_after_shuffled_pass": found["added"] / 2**20,
    }


def listed(path, pickled):
    peers.dump(peers.as_list(lg.LazyGraphDataset(path, target="density")), pickled)
    found = peers.load_in_new_process(pickled)
    return {
        "ms_to_open": 1e3 * found["seconds"],
        "ms_to_first_graph": 1e3 * found["seconds"],
        "MiB_after_first_graph": found["memory"] / 2**20,
    }


def main():
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 200_000, 500_000], help="crystals")
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    options = parser.parse_args()
    write, read = {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        path, pickled = Path(temporary) / "out.lg", Path(temporary) / "list.pickle"
        for size in options.sizes:
            for workers in options.workers:
                name = f"{size:,} crystals, {workers} worker{'s' * (workers > 1)}"
                write[name] = writing(f"prototypes:{size}?seed=0", path, workers)
            read[f"lazygraph, {size:,} graphs"] = reading(path)
            if size <= LARGEST_LIST:
                read[f"pickled list, {size:,} graphs"] = listed(path, pickled)
    tables = {"Writing, prototypes": write, "Reading, prototypes, beyond imports": read}
    common.publish(__doc__, options, tables, cache="warm", period_s=PERIOD)


if __name__ == "__main__":
    main()
