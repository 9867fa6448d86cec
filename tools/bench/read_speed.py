"""How fast does a dataset open, and how many graphs a second does it give in random order?

    python tools/bench/read_speed.py --json read_speed.json

Read one by one (``ds[i]``, a new random order each time, from a warm and from a cold page cache), and as a shuffled
epoch of batches of 64 in PyG's ``DataLoader`` without workers, beside the same graphs as a pickled list in memory, in
turns in one process. Opening is measured in new processes, beyond imports. Cold means that the system was asked to
forget the files' pages just before.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import common
import peers

import lazygraph as lg

# Seconds beyond imports until the dataset is open, and until its first graph is read.
OPEN = """
import json, sys, time
import lazygraph as lg
dataset_class = lg.LazyGraphDataset
start = time.perf_counter()
ds = dataset_class(json.loads(sys.argv[1]))
opened = time.perf_counter() - start
ds[len(ds) // 2]
print(json.dumps([opened, time.perf_counter() - start]))
"""


def cases(crystals):
    """Name -> source and label."""
    return {
        "prototypes": (f"prototypes:{crystals}?seed=0", "density"),
        "perov-5": (common.data("perov_5/val.csv", "perov_5/test.csv"), "heat_all"),
    }


def reading(path, pickled, label, repeats):
    """Way of reading -> graphs/s."""
    ds = lg.LazyGraphDataset(path, target=label)
    graphs = peers.as_list(ds)
    peers.dump(graphs, pickled)

    def cold():
        common.evict(*common.files(path))
        return peers.random_access(lg.LazyGraphDataset(path, target=label))

    ways = {
        "ds[i], warm": lambda: peers.random_access(ds),
        "ds[i], cold": cold,
        "DataLoader(ds), warm": lambda: peers.shuffled_epoch(ds),
        "DataLoader(list in memory)": lambda: peers.shuffled_epoch(graphs),
    }
    return {way: common.spread("graphs_per_s", runs) for way, runs in common.in_turn(ways, repeats).items()}


def opening(path, pickled, repeats):
    """What is opened -> ms until it is open, and until the first graph is there."""

    def dataset(*, cold):
        if cold:
            common.evict(*common.files(path))
        return common.answer(common.python(OPEN, str(path)))

    def pickle(*, cold):
        if cold:
            common.evict(pickled)
        return [peers.load_in_new_process(pickled)["seconds"]] * 2

    ways = {
        "LazyGraphDataset, warm": lambda: dataset(cold=False),
        "LazyGraphDataset, cold": lambda: dataset(cold=True),
        "pickle.load, warm": lambda: pickle(cold=False),
        "pickle.load, cold": lambda: pickle(cold=True),
    }
    return {
        way: common.spread("ms_to_open", [1e3 * opened for opened, _ in runs])
        | common.spread("ms_to_first_graph", [1e3 * first for _, first in runs])
        for way, runs in common.in_turn(ways, repeats).items()
    }


def main():
    parser = common.parser(__doc__, repeats=5)
    parser.add_argument("--crystals", type=int, default=10000, help="of the prototypes")
    parser.add_argument("--only", help="cases whose name contains this text")
    options = parser.parse_args()
    tables = {}
    with tempfile.TemporaryDirectory() as temporary:
        path, pickled = Path(temporary) / "out.lg", Path(temporary) / "list.pickle"
        for name, (source, label) in cases(options.crystals).items():
            if options.only is None or options.only in name:
                count = lg.write(source, path, graph="comformer", overwrite=True, progress=False).written
                tables[f"Reading {name}, {count:,} graphs"] = reading(path, pickled, label, options.repeats)
                tables[f"Opening {name}, {count:,} graphs"] = opening(path, pickled, options.repeats)
    common.publish(__doc__, options, tables, cache="warm and cold, as the rows say")


if __name__ == "__main__":
    main()
