"""How many bytes does a graph take on disk, against a pickled list of PyG Data?

    python tools/bench/size.py --json size.json

The graphs have the ComFormer recipe with 12 neighbours and one label. The script compares the size of the whole dataset
directory with the size of one pickle (protocol 5) of a list of ``Data`` with pos, edge_index, edge_attr, cell and y of
the same graphs. The pickle holds less than the dataset, which also has the atomic numbers, the ids, the cells of the
neighbours and exact float64 coordinates. Sizes do not vary, so nothing is repeated.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import common
import peers

import lazygraph as lg

FIELDS = ("pos", "edge_index", "edge_attr", "cell", "y")


def cases():
    """Name -> source and label."""
    return {
        "perov-5 (val, test)": (common.data("perov_5/val.csv", "perov_5/test.csv"), "heat_all"),
        "carbon-24 (val, test)": (common.data("carbon_24/val.csv", "carbon_24/test.csv"), "energy_per_atom"),
        "prototypes:10000": ("prototypes:10000?seed=0", "density"),
        "MPtrj, random 1k": (common.data("extxyz/mptrj-random-1k.xyz"), "energy"),
        "Alexandria, random 1k": (common.data("extxyz/alexandria-random-1k.xyz"), "energy"),
    }


def measure(source, label, folder):
    spec = lg.graph("comformer", max_neighbors=12)
    path = folder / "out.lg"
    lg.write(source, path, graph=spec, labels=[label], progress=False)
    ds = lg.LazyGraphDataset(path, target=label, expect=spec)
    n = len(ds)
    ours = sum(file.stat().st_size for file in common.files(path)) / n
    theirs = peers.dump(peers.as_list(ds, FIELDS), folder / "list.pickle") / n
    return {
        "graphs": n,
        "atoms_a_graph": float(ds.columns["n_atoms"].mean()),
        "edges_a_graph": float(ds.columns["n_edges"].mean()),
        "lazygraph_bytes_a_graph": ours,
        "pickle_bytes_a_graph": theirs,
        "times_smaller": theirs / ours,
    }


def main():
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--only", help="cases whose name contains this text")
    options = parser.parse_args()
    table = {}
    for name, case in cases().items():
        if options.only is None or options.only in name:
            # a folder for each: files of a dataset that was overwritten stay a while
            with tempfile.TemporaryDirectory() as folder:
                table[name] = measure(*case, Path(folder))
    common.publish(__doc__, options, {"Bytes a graph, comformer, 12 neighbours": table}, data=list(table))


if __name__ == "__main__":
    main()
