"""Where does the time of a batch go?

    python tools/bench/stages.py

Batches of 64 random graphs of a dataset, one after another in one thread, as they are made without workers; each stage
is timed where it stands in the sequence. The sum is more than a batch takes without the calls of the clock.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import common
import numpy as np
import torch

import lazygraph as lg
from lazygraph.loading.graph_data import make_batch
from lazygraph.loading.reader import _tensors
from lazygraph.reading.crystals import Crystals, cast

BATCH, BATCHES = 64, 400
SOURCES = {
    "perov-5": ("heat_all", ["perov_5/val.csv", "perov_5/test.csv"]),
    "MPtrj and Alexandria": ("energy", ["extxyz/mptrj-random-1k.xyz", "extxyz/alexandria-random-1k.xyz"]),
}


class Clock:
    """Adds up what passes between its calls, by stage."""

    def __init__(self):
        self.stages, self.last = {}, time.perf_counter()

    def restart(self):
        self.last = time.perf_counter()

    def __call__(self, stage):
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self.last
        self.last = time.perf_counter()


class Timed:
    """The compiled library, its calls timed."""

    def __init__(self, loops):
        self.loops, self.seconds = loops, {}

    def __getattr__(self, name):
        function = getattr(self.loops, name)

        def call(*arguments):
            start = time.perf_counter()
            result = function(*arguments)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            return result

        return call


def round_of(ds, seed):
    """Stage -> us a batch."""
    reader, store = ds.reader, ds._store
    rng = np.random.default_rng(seed)
    batches = [rng.choice(len(ds), BATCH, replace=False) for _ in range(BATCHES)]
    ds.batch(batches[0])
    native = store._index.loops._local.batch
    timed = native._library = Timed(native._library)
    clock = Clock()
    for rows in batches:
        clock.restart()
        records = store.read_batch(rows)
        clock("records to arrays")
        labels = {name: store.column(name)[rows] for name in reader._targets}
        y, ids = reader._y(labels, len(rows)), store.graph_ids(rows)
        clock("targets and ids")
        crystals = Crystals.of(records)
        values = {"x": cast(crystals.numbers, "int64")[:, None], "cell": cast(crystals.lattice, "float32")}
        clock("numbers and lattices")
        values["edge_attr"] = crystals.vectors()
        clock("edge vectors")
        values["pos"] = crystals.positions("float32")
        clock("positions")
        values["edge_index"] = cast(crystals.edge_index, "int64")
        values["images"] = cast(crystals.images, "int64")
        clock("edges and images as int64")
        tensors = _tensors(values)
        tensors |= {"y": torch.from_numpy(y), "id": ids}
        clock("tensors")
        batch = make_batch(tensors, reader._presenter.layout, records.counts)
        clock("PyG Batch")
        del batch, tensors, values, crystals, records
        clock("freeing memory")
    native._library = timed.loops
    read, decode = timed.seconds["lg_batch_read"], timed.seconds["lg_batch_decode"]
    whole = clock.stages.pop("records to arrays")
    parts = {"read, hash, decompress": read, "decode": decode, "Python around these calls": whole - read - decode}
    return {stage: 1e6 * seconds / BATCHES for stage, seconds in (parts | clock.stages).items()}


def main():
    options = common.parser(__doc__, repeats=5).parse_args()
    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (title, (target, names)) in enumerate(SOURCES.items()):
            path = Path(folder) / f"{number}.lg"
            lg.write(common.data(*names), path, graph="cgcnn", labels=[target], progress=False)
            ds = lg.LazyGraphDataset(path, target=target)
            rounds = [round_of(ds, seed) for seed in range(options.repeats + 1)][1:]
            sums = [sum(found.values()) for found in rounds]
            atoms, edges = (float(ds.columns[name].mean()) for name in ("n_atoms", "n_edges"))
            rows = {
                stage: {
                    "us": (median := statistics.median(found[stage] for found in rounds)),
                    "percent": 100 * median / statistics.median(sums),
                }
                for stage in rounds[0]
            }
            rows["total"] = {"us": statistics.median(sums), "percent": 100.0}
            tables[f"A batch of {BATCH}, {title}: {atoms:.0f} atoms and {edges:.0f} edges a graph"] = rows
    common.publish(__doc__, options, tables, cache="warm")


if __name__ == "__main__":
    main()
