"""How fast are graphs read whose edges are built at every read, against stored edges and a list in memory?

    python tools/bench/built.py --json built.json

The 1,000 MPtrj frames and the 1,000 Alexandria crystals of the real data, as complete shuffled PyG batches of 64 in the
calling process, on one thread. "Built" reads a dataset of crystals alone, and builds the edges of each batch;
"stored" reads a dataset with edges; "list" is PyG's `DataLoader` over a list of `Data` with edges in memory. The bare
searches find the neighbours of one crystal after the other, without vectors, records or batches. All take turns.

"Large cells" are supercells of rock salt, built one after the other: microseconds an atom.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch start their threads

import common
import numpy as np
import torch
from torch_geometric.loader import DataLoader
from views import BATCH, SOURCES, passes

import lazygraph as lg
from lazygraph.graphs.backends import pymatgen_pairs, vesin_pairs

CASES = {
    "radius 5 A": lg.graph("mace", cutoff=5.0),
    "radius 6 A": lg.graph("mace", cutoff=6.0),
    "k-th shell (comformer)": lg.graph("comformer"),
    "12 nearest (cgcnn)": lg.graph("cgcnn"),
}
REPEATED = (3, 4, 6, 8, 10)  # cells of 8 atoms along each axis
SEARCHES = {"pymatgen, search": pymatgen_pairs, "vesin, search": vesin_pairs}


def searched(crystals, search, cutoff):
    """us a crystal of a bare search."""
    start = time.perf_counter()
    for crystal in crystals:
        search(crystal, cutoff)
    return 1e6 * (time.perf_counter() - start) / len(crystals)


def measure(folder, title, source, options):
    """The rows of one data set."""
    alone = Path(folder) / f"{title}.lg"
    lg.write(common.data(source), alone, graph="none", labels=["energy"], progress=False)
    bare = lg.LazyGraphDataset(alone)
    crystals = [bare.crystal(i) for i in range(len(bare))]
    table = {}
    for number, (name, recipe) in enumerate(CASES.items()):
        path = Path(folder) / f"{title}-{number}.lg"
        lg.write(common.data(source), path, graph=recipe, labels=["energy"], progress=False)
        stored = lg.LazyGraphDataset(path, target="energy")
        built = lg.LazyGraphDataset(alone, graph=recipe, target="energy")
        plain = {"shuffle": True, "seed": 0, "num_workers": 0, "threads": 0}
        readers = {
            "built": lg.loader(built, BATCH, **plain),
            "stored": lg.loader(stored, BATCH, **plain),
            "list": DataLoader([stored[i] for i in range(len(stored))], BATCH, shuffle=True),
        }
        for reader in readers.values():
            passes(reader)
        calls = {way: partial(passes, reader) for way, reader in readers.items()}
        cutoff = recipe.rule.reach if recipe.rule.name == "radius" else None
        if cutoff is not None:
            calls |= {way: partial(searched, crystals, search, cutoff) for way, search in SEARCHES.items()}
        found = common.in_turn(calls, options.repeats)
        row = {"edges": round(float(stored.columns["n_edges"].mean()))}
        row |= common.spread("us, built", found["built"])
        row |= {f"us, {way}": statistics.median(times) for way, times in found.items() if way != "built"}
        table[name] = row
    return table


def large(options):
    """us an atom of one crystal with 216 to 8,000 atoms."""
    fcc = np.array([[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    sites = np.concatenate([fcc, fcc + 0.5])
    table = {}
    for times in REPEATED:
        cells = np.indices((times,) * 3).reshape(3, -1).T
        frac = ((cells[:, None] + sites) / times).reshape(-1, 3)
        crystal = lg.Crystal(np.eye(3) * 5.64 * times, frac, np.tile([11] * 4 + [17] * 4, times**3))
        calls = {name: partial(recipe.build, crystal) for name, recipe in CASES.items()}
        calls |= {f"{way} 5 A": partial(search, crystal, 5.0) for way, search in SEARCHES.items()}
        found = common.in_turn({name: partial(timed, call) for name, call in calls.items()}, options.repeats)
        table[f"{len(crystal):,} atoms"] = {
            f"us, {name}": statistics.median(values) / len(crystal) for name, values in found.items()
        }
    return table


def timed(call):
    start = time.perf_counter()
    call()
    return 1e6 * (time.perf_counter() - start)


def main():
    options = common.parser(__doc__, repeats=5).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tables = {title: measure(folder, title, source, options) for title, source in SOURCES.items()}
    tables["Large cells, an atom"] = large(options)
    common.publish(__doc__, options, tables)


if __name__ == "__main__":
    main()
