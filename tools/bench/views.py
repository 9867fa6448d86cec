"""How fast is each view read, against PyG's DataLoader over a list in memory that holds the same arrays?

    python tools/bench/views.py --json views.json
    python tools/bench/views.py --only mace --codecs none

The recipes and views that networks are trained with, on the 1,000 MPtrj frames and the 1,000 Alexandria crystals of
the real data: complete shuffled PyG batches of 64 in the calling process, and with two reading threads. The list holds
the `Data` of every graph, angles included. All readers take turns on the same batches.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch start their threads

import common
import torch
from torch_geometric.loader import DataLoader

import lazygraph as lg

BATCH = 64
SOURCES = {"MPtrj": "extxyz/mptrj-random-1k.xyz", "Alexandria": "extxyz/alexandria-random-1k.xyz"}
CASES = {  # row: recipe, its options, view and its options
    "comformer, pyg": ("comformer", {}, "pyg", {}),
    "comformer, pyg without images": ("comformer", {}, "pyg", {"images": False}),
    "mace 5 A, pyg": ("mace", {"cutoff": 5.0}, "pyg", {}),
    "mace 5 A, mace": ("mace", {"cutoff": 5.0}, "mace", {}),
    "chgnet 6 A, pyg": ("chgnet", {}, "pyg", {}),
    "chgnet 6 A, chgnet": ("chgnet", {}, "chgnet", {}),
    "m3gnet 5 A, m3gnet": ("m3gnet", {}, "m3gnet", {}),
    "alignn, alignn": ("alignn", {}, "alignn", {}),
    "alignn-2026, alignn": ("alignn-2026", {}, "alignn", {}),
}


def passes(loader):
    """us a graph of one pass."""
    start, graphs = time.perf_counter(), 0
    for batch in loader:
        graphs += batch.num_graphs
    return 1e6 * (time.perf_counter() - start) / graphs


def elements_of(ds):
    """The elements of a dataset: those of its formulas."""
    return sorted({match for formula in ds.columns["formula"] for match in re.findall("[A-Z][a-z]?", str(formula))})


def measure(folder, title, source, codec, options):
    """The rows of one data set."""
    table = {}
    for number, (name, (preset, changes, view, parameters)) in enumerate(CASES.items()):
        if name not in options.rows:
            continue
        path = Path(folder) / f"{title}-{number}.lg"
        recipe = lg.graph(preset, **changes)
        lg.write(common.data(source), path, graph=recipe, labels=["energy"], progress=False, codec=codec)
        bare = lg.LazyGraphDataset(path)
        elements = {"elements": elements_of(bare)} if view == "mace" else {}
        ds = lg.LazyGraphDataset(path, view=lg.view(view, **parameters, **elements), target="energy")
        graphs = [ds[i] for i in range(len(ds))]
        ours = {"alone": 0} | {f"{n} thread{'s' * (n > 1)}": n for n in options.threads}
        readers = {"list": DataLoader(graphs, BATCH, shuffle=True)} | {
            way: lg.loader(ds, BATCH, shuffle=True, seed=0, num_workers=0, threads=threads)
            for way, threads in ours.items()
        }
        for reader in readers.values():
            passes(reader)
        found = common.in_turn({way: partial(passes, reader) for way, reader in readers.items()}, options.repeats)
        row = {"edges": round(float(bare.columns["n_edges"].mean())), "us, list": statistics.median(found["list"])}
        for way in ours:
            ratios = [theirs / mine for theirs, mine in zip(found["list"], found[way], strict=True)]
            row |= {f"us, {way}": statistics.median(found[way]), **common.spread(f"times faster, {way}", ratios)}
        table[name] = row
    return table


def main():
    parser = common.parser(__doc__, repeats=5)
    parser.add_argument("--only", nargs="+", default=[""], help="rows that contain one of these texts")
    parser.add_argument("--codecs", nargs="+", default=["zstd", "none"], choices=["zstd", "none"])
    parser.add_argument("--threads", nargs="*", type=int, default=[2])
    parser.add_argument("--sources", nargs="+", default=list(SOURCES), choices=list(SOURCES))
    options = parser.parse_args()
    options.rows = [name for name in CASES if any(text in name for text in options.only)]
    if not options.rows:
        sys.exit(f"no row contains {' or '.join(map(repr, options.only))}; the rows are {'; '.join(CASES)}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tables = {
            f"{title}, codec {codec}": measure(folder, f"{title}-{codec}", SOURCES[title], codec, options)
            for title in options.sources
            for codec in options.codecs
        }
    common.publish(__doc__, options, tables)


if __name__ == "__main__":
    main()
