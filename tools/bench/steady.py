"""Do file descriptors and memory stay as they are, epoch after epoch?

    python tools/bench/steady.py --json steady.json      (500 epochs of 300 graphs in each way: minutes)
    python tools/bench/steady.py --epochs 60             (to see that it runs)

Every way reads in a new process, which counts its open descriptors and its memory (resident; and its own, USS) fifty
times, worker processes included. The slope is that of a straight line through the last four fifths of the samples, in
KiB of USS for a thousand epochs; beside it what it makes of the whole run, as a part of the USS.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import common
import numpy as np

import lazygraph as lg

GRAPHS = 300
WAYS = {
    "ds[i]": None,
    "loader, in process": {"threads": 0},
    "loader, with a thread": {"threads": 1},
    "loader, 2 workers": {"num_workers": 2},
    "loader, 2 new workers each epoch": {"num_workers": 2, "persistent_workers": False},
}
FEWER = {"loader, 2 new workers each epoch": 20}  # of the epochs, one in so many: each starts processes
READ = """
import gc, json, os, sys
import psutil
import lazygraph as lg
path, options, epochs, samples = json.loads(sys.argv[1])
ds = lg.LazyGraphDataset(path, target="density")
loader = None if options is None else lg.loader(ds, 32, shuffle=True, **options)
root = psutil.Process()
def epoch():
    if loader is None:
        return sum(len(ds[i].x) > 0 for i in range(len(ds)))
    return sum(batch.num_graphs for batch in loader)
def sample():
    gc.collect()
    family = [root, *root.children(recursive=True)]
    memory = [process.memory_full_info() for process in family]
    descriptors = sum(process.num_fds() for process in family)
    return descriptors, sum(one.rss for one in memory), sum(one.uss for one in memory), len(family)
at, seen, read = sorted({round(n * epochs / samples) for n in range(1, samples + 1)}), [], 0
for number in range(1, epochs + 1):
    read += epoch()
    if number in at:
        seen.append((number, *sample()))
print(json.dumps({"seen": seen, "read": read}))
"""


def steady(path, options, epochs, samples):
    """One way to read, as a row of the table."""
    found = common.answer(common.python(READ, (str(path), options, epochs, samples)))
    number, descriptors, resident, own, processes = np.array(found["seen"]).T
    later = slice(len(number) // 5, None)
    slope = np.polyfit(number[later], own[later], 1)[0] if len(number) > 2 else 0.0
    return {
        "epochs": int(number[-1]),
        "graphs": found["read"],
        "processes": int(processes.max()),
        "descriptors": [int(descriptors.min()), int(descriptors.max())],
        "RSS_MiB": [resident[later].min() / 2**20, resident[later].max() / 2**20],
        "USS_MiB": [own[later].min() / 2**20, own[later].max() / 2**20],
        "KiB_growth_per_1000_epochs": 1000 * slope / 1024,
        "percent_growth_in_the_run": 100 * slope * number[-1] / own[later].mean(),
    }


def main():
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--only", help="the ways whose name holds this")
    options = parser.parse_args()
    table = {}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "p.lg"
        lg.write(f"prototypes:{GRAPHS}?seed=0", path, workers=1, shard_size=64, progress=False)
        for name, how in WAYS.items():
            if (options.only or "") in name:
                table[name] = steady(path, how, max(options.epochs // FEWER.get(name, 1), 3), options.samples)
    common.publish(__doc__, options, {f"Epochs of {GRAPHS} prototypes, batches of 32": table}, cache="warm")


if __name__ == "__main__":
    main()
