"""Does reading slow down when a dataset has many shards?

    python tools/bench/shards.py --json shards.json
    python tools/bench/shards.py --graphs 20000 --shards 2 20         (to see that it runs)

The same number of graphs (crystals of one atom without edges, made as scale.py makes them) in few and in many shards.
A new process reads each dataset: batches of 64 in a new random order, and then single graphs. Files are in the page
cache. The datasets take turns.
"""

from __future__ import annotations

import json
import tempfile
import time
from functools import partial
from pathlib import Path

import common
import scale

BATCHED, SINGLE = 200_000, 20_000  # graphs that are read


def read(folder):
    """Graphs a second in batches and one by one, and the number of open shards; printed for the parent."""
    import numpy as np

    import lazygraph as lg

    ds = lg.LazyGraphDataset(Path(folder) / "made.lg")
    order = np.random.default_rng(0).permutation(len(ds))[: 2 * BATCHED]
    half = len(order) // 2
    for part in (ds[order[:half]], ds[order[half:]]):  # the first opens the shards
        begin = time.perf_counter()
        for _ in lg.loader(part, 64, num_workers=0, threads=0, read_ahead=False):
            pass
        batched = len(part) / (time.perf_counter() - begin)
    rows = order[:SINGLE].tolist()
    begin = time.perf_counter()
    for row in rows:
        ds[row]
    print(json.dumps([batched, len(rows) / (time.perf_counter() - begin)]))


def measured(folder):
    code = "import sys, json; a = json.loads(sys.argv[1]); sys.path.insert(0, a[0]); import shards; shards.read(a[1])"
    return common.answer(common.python(code, [str(Path(__file__).parent), str(folder)]))


def main():
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--graphs", type=int, default=2_000_000)
    parser.add_argument("--shards", type=int, nargs="+", default=[31, 200, 2000])
    parser.add_argument("--folder", type=Path, help="where the datasets are made; default the temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folders = {}
        for shards in options.shards:
            folders[shards] = Path(temporary) / str(shards)
            scale.make_shards(folders[shards], options.graphs, shard_size=-(-options.graphs // shards))
            scale.run("merge", folders[shards], options.graphs)
        times = common.in_turn({n: partial(measured, folder) for n, folder in folders.items()}, options.repeats)
    table = {
        f"{shards:,} shards": common.spread("graphs_a_second_in_batches", [batched for batched, _ in found])
        | common.spread("single_graphs_a_second", [single for _, single in found])
        for shards, found in times.items()
    }
    common.publish(__doc__, options, {f"{options.graphs:,} graphs": table}, cache="warm")


if __name__ == "__main__":
    main()
