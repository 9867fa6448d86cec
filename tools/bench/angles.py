"""What do the angles of a graph cost when they are made at load, against matgl's and chgnet's ways to make them?

    python tools/bench/angles.py --json angles.json

The 1,000 MPtrj frames of `extxyz/mptrj-random-1k.xyz`, as graphs whose edges and lengths all contestants are given:
M3GNet's (5 A, triplets within 4 A) and CHGNet's (6 A, bond graph within 3 A). lazygraph makes the angles of a batch of
64 graphs at once, or of one graph; matgl calls `create_line_graph` for every graph, or for a whole batch; chgnet's
converter, algorithm "fast", pairs the edges of a graph and then lists its bond graph. One thread; results are compared
before anything is timed. Needs `pip install -e .[interop]`.
"""

from __future__ import annotations

import os
import statistics
import time
from importlib.metadata import version
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch start their threads

import common
import numpy as np
import torch
from chgnet.graph import CrystalGraphConverter
from matgl.graph._compute import create_line_graph

import lazygraph as lg
from lazygraph.graphs.angles import bond_graph, triplets
from lazygraph.sources.base import Cut
from lazygraph.sources.detect import open_sources

FRAMES = "extxyz/mptrj-random-1k.xyz"
BATCH = 64
THREEBODY, BOND = 4.0, 3.0  # A
CONVERTER = CrystalGraphConverter()


class Graph(NamedTuple):
    """One graph, or several counted through."""

    n_atoms: int
    edge_index: np.ndarray
    images: np.ndarray
    distances: np.ndarray

    def by_centre(self):
        """The same with the edges of each atom together, as neighbour searches give them."""
        order = np.argsort(self.edge_index[0], kind="stable")
        return Graph(self.n_atoms, self.edge_index[:, order], self.images[order], self.distances[order])


def graphs_of(crystals, cutoff):
    built = map(lg.graph("radius", cutoff=cutoff).build, crystals)
    return [Graph(len(g.numbers), g.edge_index.astype(np.int64), g.images, g.distances) for g in built]


def joined(graphs):
    """Batches of graphs, each as one graph."""
    out = []
    for first in range(0, len(graphs), BATCH):
        n_atoms, edges, images, distances = zip(*graphs[first : first + BATCH], strict=True)
        starts = np.cumsum([0, *n_atoms])
        edge_index = np.concatenate([e + start for e, start in zip(edges, starts, strict=False)], axis=1)
        out.append(Graph(int(starts[-1]), edge_index, np.concatenate(images), np.concatenate(distances)))
    return out


# ---- the contestants: one graph or batch -> its angles ----


def our_triplets(graph):
    """What M3GNet's `l_g` holds."""
    kept = graph.distances <= THREEBODY
    pairs = triplets(graph.edge_index, graph.n_atoms, kept)
    ids, centre = np.flatnonzero(kept), graph.edge_index[0]
    others = np.bincount(centre[ids], minlength=graph.n_atoms) - 1
    return pairs, np.where(kept, others[centre], 0), ids


def matgl_triplets(tensors):
    edge_index, distances, n_atoms = tensors
    found = create_line_graph(edge_index, distances, None, None, n_atoms, THREEBODY)
    return found["line_edge_index"], found["n_triple_ij"], found["kept_edge_ids"]


def as_tensors(graph):
    return torch.from_numpy(graph.edge_index).int(), torch.from_numpy(graph.distances), graph.n_atoms


def our_bond_graph(graph):
    directed = np.arange(len(graph.distances))
    return bond_graph(graph.edge_index, graph.n_atoms, graph.distances, BOND), directed >> 1, directed[::2]


def chgnet_bond_graph(graph):
    """(seconds of pairing edges, seconds of the bond graph, rows of the bond graph)."""
    start = time.perf_counter()
    made = CONVERTER.create_graph(graph.n_atoms, *graph.edge_index, graph.images, graph.distances)
    torch.tensor(made.adjacency_list()[1], dtype=torch.int32)
    paired = time.perf_counter()
    rows, undirected2directed = made.line_graph_adjacency_list(BOND)
    torch.tensor(rows, dtype=torch.int32), torch.tensor(undirected2directed, dtype=torch.int32)
    return paired - start, time.perf_counter() - paired, len(rows)


def timed(function, inputs):
    """A call that gives the seconds for all inputs."""

    def turn():
        start = time.perf_counter()
        for each in inputs:
            function(each)
        return time.perf_counter() - start

    return turn


def compare(singles, batches):
    """Stop where the contestants do not find the same."""
    for graph in [*singles, *batches]:
        for ours, theirs in zip(our_triplets(graph), matgl_triplets(as_tensors(graph)), strict=True):
            if not np.array_equal(ours, theirs.numpy()):
                raise SystemExit("lazygraph and matgl find different triplets")


def main():
    parser = common.parser(__doc__, repeats=5)
    parser.add_argument("--crystals", type=int, default=1000)
    options = parser.parse_args()
    (source,) = open_sources(*common.data(FRAMES))
    crystals = [entry.crystal for entry in source.read(Cut(0, 0, options.crystals), None)]
    n = len(crystals)

    singles = [graph.by_centre() for graph in graphs_of(crystals, 5.0)]
    batches = joined(singles)
    compare(singles, batches)
    runs = common.in_turn(
        {
            f"lazygraph, {BATCH} graphs at once": timed(our_triplets, batches),
            "lazygraph, one graph": timed(our_triplets, singles),
            f"matgl {version('matgl')}, one graph": timed(matgl_triplets, list(map(as_tensors, singles))),
            f"matgl {version('matgl')}, {BATCH} graphs at once": timed(matgl_triplets, list(map(as_tensors, batches))),
        },
        options.repeats,
    )
    tables = {f"M3GNet's triplets within {THREEBODY:g} A": table(runs, n)}

    paired = graphs_of(crystals, 6.0)
    batches = joined(paired)
    centred = [graph.by_centre() for graph in paired]
    rows = [chgnet_bond_graph(graph)[2] for graph in centred]
    if [len(our_bond_graph(graph)[0]) for graph in paired] != rows:
        raise SystemExit("lazygraph and chgnet find different numbers of angles")
    runs = common.in_turn(
        {
            f"lazygraph, {BATCH} graphs at once": timed(our_bond_graph, batches),
            "lazygraph, one graph": timed(our_bond_graph, paired),
            "chgnet": lambda: np.sum([chgnet_bond_graph(graph)[:2] for graph in centred], axis=0).tolist(),
        },
        options.repeats,
    )
    seconds = runs.pop("chgnet")
    runs[f"chgnet {version('chgnet')}, bond graph alone"] = [listed for _, listed in seconds]
    runs[f"chgnet {version('chgnet')}, edges paired and bond graph"] = [sum(both) for both in seconds]
    tables[f"CHGNet's bond graph within {BOND:g} A"] = table(runs, n)
    common.publish(__doc__, options, tables, cache="warm", data={"file": FRAMES, "crystals": n})


def table(runs, n):
    """Name -> microseconds a crystal, and how many times the first row that is."""
    first = statistics.median(next(iter(runs.values())))
    return {
        name: common.spread("us_per_crystal", [s / n * 1e6 for s in seconds])
        | {"relative_to_first_row": statistics.median(seconds) / first}
        for name, seconds in runs.items()
    }


if __name__ == "__main__":
    main()
