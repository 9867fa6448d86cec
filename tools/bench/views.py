"""How fast is each view read, against PyG's DataLoader over a list in memory that holds the same arrays?

    python tools/bench/views.py --json views.json
    python tools/bench/views.py --only mace --codec none

The recipes and views that networks are trained with, on the 1,000 MPtrj frames and the 1,000 Alexandria crystals of
the real data: complete shuffled PyG batches of 64 in the calling process, and with two reading threads. The list holds
the `Data` of every graph, angles included. All readers take turns on the same batches.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch start their threads

import common
import torch
from torch_geometric.loader import DataLoader

import lazygraph as lg

BATCH = 64
SOURCES = {"MPtrj": "extxyz/mptrj-random-1k.xyz", "Alexandria": "extxyz/alexandria-random-1k.xyz"}
CASES = {
    "comformer, pyg": (("comformer", {}), "pyg"),
    "mace 5 A, pyg": (("mace", {"cutoff": 5.0}), "pyg"),
    "mace 5 A, mace": (("mace", {"cutoff": 5.0}), "mace"),
    "chgnet 6 A, pyg": (("chgnet", {}), "pyg"),
    "chgnet 6 A, chgnet": (("chgnet", {}), "chgnet"),
    "m3gnet 5 A, m3gnet": (("m3gnet", {}), "m3gnet"),
    "alignn, alignn": (("alignn", {}), "alignn"),
    "alignn-2026, alignn": (("alignn-2026", {}), "alignn"),
}


def passes(loader):
    """us a graph of one pass."""
    start, graphs = time.perf_counter(), 0
    for batch in loader:
        graphs += batch.num_graphs
    return 1e6 * (time.perf_counter() - start) / graphs


def view_of(name, crystals):
    if name != "mace":
        return name
    return lg.view("mace", elements=sorted({symbol for crystal in crystals for symbol in crystal}))


def measure(folder, title, source, options):
    """The rows of one data set."""
    table = {}
    for number, (name, ((preset, changes), view)) in enumerate(CASES.items()):
        if options.only and not any(text in name for text in options.only):
            continue
        path = Path(folder) / f"{title}-{number}.lg"
        labels = ["energy"]
        lg.write(common.data(source), path, graph=lg.graph(preset, **changes), labels=labels, progress=False,
                 codec=options.codec)  # fmt: skip
        bare = lg.LazyGraphDataset(path)
        if view == "mace":
            elements = {symbol for texts in bare.columns["formula"] for symbol in _symbols(str(texts))}
            view = lg.view("mace", elements=sorted(elements))
        ds = lg.LazyGraphDataset(path, view=view, target="energy")
        graphs = [ds[i] for i in range(len(ds))]
        readers = {
            "list": DataLoader(graphs, BATCH, shuffle=True),
            "one": lg.loader(ds, BATCH, shuffle=True, seed=0, num_workers=0, threads=0),
        }
        for threads in options.threads:
            readers[f"{threads}"] = lg.loader(ds, BATCH, shuffle=True, seed=0, num_workers=0, threads=threads)
        for reader in readers.values():
            passes(reader)
        found = common.in_turn({k: (lambda r=r: passes(r)) for k, r in readers.items()}, options.repeats)
        edges = float(bare.columns["n_edges"].mean())
        row = {"edges": round(edges), "list_us": statistics.median(found["list"])}
        for key in list(readers)[1:]:
            ratios = [a / b for a, b in zip(found["list"], found[key], strict=True)]
            heading = "us" if key == "one" else f"{key}_threads_us"
            row[heading] = statistics.median(found[key])
            row |= common.spread("times the list" if key == "one" else f"times, {key} threads", ratios)
        table[name] = row
        print(name, row, file=sys.stderr, flush=True)
    return table


def _symbols(formula):
    from pymatgen.core import Composition

    return [str(element) for element in Composition(formula)]


def main():
    parser = common.parser(__doc__, repeats=5)
    parser.add_argument("--only", nargs="+", help="rows that contain one of these texts")
    parser.add_argument("--codec", default="zstd")
    parser.add_argument("--threads", nargs="*", type=int, default=[2])
    parser.add_argument("--sources", nargs="+", default=list(SOURCES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tables = {t: measure(folder, t, s, options) for t, s in SOURCES.items() if t in options.sources}
    common.publish(__doc__, options, tables)


if __name__ == "__main__":
    main()
