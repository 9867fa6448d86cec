"""How long does it take to plan an epoch of a million graphs?

    python tools/bench/packing.py --json packing.json

Sizes as of crystals, drawn at random: log-normal atoms (median 15), 8 to 40 edges an atom, 4 to 20 triplets an edge.
"pack" is the packing alone, beside the same rule as a loop over graphs; a plan is all that is done before the first
batch of an epoch: the order, the packing, and sharing out over four ranks.
"""

from __future__ import annotations

import time

import common
import numpy as np

from lazygraph.loading.orders import Sequential, Shuffled, Weighted, Windowed
from lazygraph.loading.packing import pack
from lazygraph.loading.sampling import Sampling

LIMITS = {"atoms": 4000, "edges": 100_000, "triplets": 1_200_000}
WINDOW = 65_536


def drawn(n):
    """Name -> (n,) sizes of crystals that do not exist."""
    random = np.random.default_rng(0)
    atoms = np.clip(random.lognormal(2.7, 0.8, n), 1, 500).astype(np.int32)
    edges = atoms * random.integers(8, 41, n)
    return {"atoms": atoms, "edges": edges, "triplets": edges * random.integers(4, 21, n)}


def loop(sizes, limits):
    """What ``pack`` does, one graph after the other."""
    columns, most = [sizes[name].tolist() for name in limits], list(limits.values())
    ptr, sums = [0], [0] * len(most)
    for i, graph in enumerate(zip(*columns, strict=True)):
        sums = [a + b for a, b in zip(sums, graph, strict=True)]
        if any(a > b for a, b in zip(sums, most, strict=True)):
            ptr.append(i)
            sums = list(graph)
    return np.array([*ptr, len(columns[0])])


def plans(n, sizes):
    """Name -> the sampling that is planned."""
    budgets = {"limits": LIMITS, "sizes": sizes, "world_size": 4}
    return {
        "64 graphs, shuffled": Sampling(order=Shuffled(n), limits={"graphs": 64}, world_size=4),
        "budgets, sequential": Sampling(order=Sequential(n), **budgets),
        "budgets, shuffled": Sampling(order=Shuffled(n), **budgets),
        f"budgets, windows of {WINDOW}": Sampling(order=Windowed(n, WINDOW), **budgets),
        "budgets, shuffled, bucketed": Sampling(order=Shuffled(n), bucket="edges", **budgets),
        "budgets, weighted": Sampling(order=Weighted(sizes["atoms"]), **budgets),
    }


def timed(call):
    def turn():
        start = time.perf_counter()
        made = call()
        return time.perf_counter() - start, len(made)

    return turn


def main():
    parser = common.parser(__doc__, repeats=5)
    parser.add_argument("--graphs", type=int, default=1_000_000)
    options = parser.parse_args()
    sizes = drawn(options.graphs)
    if not np.array_equal(pack(sizes, LIMITS), loop(sizes, LIMITS)):
        raise SystemExit("pack and the loop over graphs differ")
    contestants = {
        "pack": lambda: pack(sizes, LIMITS)[1:],
        "pack, as a loop over graphs": lambda: loop(sizes, LIMITS)[1:],
    }
    for name, sampling in plans(options.graphs, sizes).items():
        contestants[f"plan: {name}"] = lambda sampling=sampling: sampling.plan(0)
    results = common.in_turn({name: timed(call) for name, call in contestants.items()}, options.repeats)
    table = {
        name: {"batches": turns[0][1], **common.spread("ms", [seconds * 1000 for seconds, _ in turns])}
        for name, turns in results.items()
    }
    common.publish(__doc__, options, {f"{options.graphs:,} graphs": table}, limits=LIMITS)


if __name__ == "__main__":
    main()
