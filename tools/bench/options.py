"""What do mixing, augmentation, balance and padding cost, and how even are the batches?

    python tools/bench/options.py --json options.json

The 1,000 MPtrj frames of the real data, eight times, as complete shuffled PyG batches of 64 in the calling process, on
one thread, against the same loader without the option; both take turns. "stored" reads edges of the recipe mace,
"built" builds them at every read. Sizes of batches are counted over an epoch of eight ranks, without reading a graph.
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

import lazygraph as lg

SOURCE = "extxyz/mptrj-random-1k.xyz"
COPIES, BATCH, RANKS = 8, 64, 8
PLAIN = {"shuffle": True, "seed": 0, "num_workers": 0, "threads": 0}
LIMITS = {
    "batch_size=2": {"batch_size": 2},
    "batch_size=4": {"batch_size": 4},
    "batch_size=16": {"batch_size": 16},
    "batch_size=64": {"batch_size": 64},
    "max_atoms=1000": {"max_atoms": 1000},
    "max_edges=40000": {"max_edges": 40_000},
}


def copies(folder, name, recipe, number=COPIES):
    """Several copies of the frames as one dataset."""
    paths = [Path(folder) / f"{name}-{n}.lg" for n in range(number)]
    for path in paths:
        lg.write(common.data(SOURCE), path, graph=recipe, labels=["energy"], progress=False)
    lg.concat(paths, Path(folder) / f"{name}.lg", on_duplicate="prefix")
    return Path(folder) / f"{name}.lg"


def passes(loader):
    """us a graph of one pass."""
    start, graphs = time.perf_counter(), 0
    for batch in loader:
        graphs += batch.num_graphs
    return 1e6 * (time.perf_counter() - start) / graphs


def costs(stored_path, built_path, options):
    """Option -> us a graph without it and with it."""
    stored = lg.LazyGraphDataset(stored_path, target="energy")
    built = partial(lg.LazyGraphDataset, built_path, graph="mace")
    half = len(stored) // 2
    mixed = lg.mix({"a": stored[:half], "b": stored[half:]})
    rated = lg.mix({"a": stored[:half], "b": stored[half:]}, rates={"a": 3, "b": 1})
    noise, strain = lg.Rattle(0.05), lg.Strain(0.02)
    without = {"stored": lg.loader(stored, BATCH, **PLAIN), "built": lg.loader(built(), BATCH, **PLAIN)}
    made = {
        "stored": {
            "mix of two, every graph once": lg.loader(mixed, BATCH, **PLAIN),
            "mix of two, rates 3 to 1": lg.loader(rated, BATCH, **PLAIN),
            "window=1024": lg.loader(stored, BATCH, window=1024, **PLAIN),
            "bucket='atoms'": lg.loader(stored, BATCH, bucket="atoms", **PLAIN),
            "balance='atoms', rank 0 of 8": lg.loader(
                stored, BATCH, balance="atoms", rank=0, world_size=RANKS, **PLAIN
            ),
            "pad='buckets', max_atoms=2000": lg.loader(stored, max_atoms=2000, pad="buckets", **PLAIN),
        },
        "built": {
            "Rattle(0.05)": lg.loader(built(augment=[noise]), BATCH, **PLAIN),
            "Rattle(0.05), Strain(0.02)": lg.loader(built(augment=[noise, strain]), BATCH, **PLAIN),
            "Rotate()": lg.loader(built(augment=[lg.Rotate()]), BATCH, **PLAIN),
        },
    }
    table = {}
    for edges, rows in made.items():
        for name, loader in rows.items():
            passes(loader), passes(without[edges])
            found = common.in_turn(
                {"without": partial(passes, without[edges]), "with": partial(passes, loader)}, options.repeats
            )
            ratios = [mine / plain for mine, plain in zip(found["with"], found["without"], strict=True)]
            table[f"{edges}, {name}"] = {
                "us, without": statistics.median(found["without"]),
                "us, with": statistics.median(found["with"]),
                **common.spread("times", ratios),
            }
    return table


def balances(path):
    """The greatest cost of a batch in a step, divided by the mean, over an epoch of eight ranks."""
    ds = lg.LazyGraphDataset(path)
    table = {}
    for name, limits in LIMITS.items():
        row = {}
        for by in ("atoms", "edges"):
            cost = ds.columns[f"n_{by}"].astype(np.float64)
            for way, options in {"without": {}, "balance": {"balance": by}}.items():
                ranks = [
                    [cost[batch].sum() for batch in lg.loader(
                        ds, shuffle=True, rank=rank, world_size=RANKS, **limits, **options
                    ).next_batches()]
                    for rank in range(RANKS)
                ]  # fmt: skip
                steps = np.array(ranks)
                ratios = steps.max(axis=0) / steps.mean(axis=0)
                row |= {f"{by}, {way}": float(ratios.mean()), f"{by}, {way}, worst": float(ratios.max())}
        table[name] = row
    return table


def paddings(path):
    """The shapes of padded batches, and what is padding in them."""
    ds = lg.LazyGraphDataset(path)
    table = {}
    for name, limits in LIMITS.items():
        if limits.get("batch_size", BATCH) < 16:
            continue
        loader = lg.loader(ds, pad="buckets", **limits, **PLAIN)
        batches = [(batch.node_mask, batch.edge_mask, batch.graph_mask) for batch in loader]
        table[name] = {
            "shapes": len({tuple(map(len, masks)) for masks in batches}),
            **{
                f"padding of {what}, percent": 100
                * (1 - sum(int(masks[n].sum()) for masks in batches) / sum(len(masks[n]) for masks in batches))
                for n, what in enumerate(("atoms", "edges"))
            },
        }
    return table


def main():
    options = common.parser(__doc__, repeats=5).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        stored, built = copies(folder, "stored", "mace"), copies(folder, "built", "none")
        tables = {
            "Cost of an option": costs(stored, built, options),
            f"Greatest cost of a batch in a step over the mean, {RANKS} ranks": balances(stored),
            "Padding": paddings(stored),
        }
    common.publish(__doc__, options, tables)


if __name__ == "__main__":
    main()
