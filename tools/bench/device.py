"""How fast is a training step on a GPU with `lg.loader` and with a list in memory, and how long does it wait?

    python tools/bench/device.py --json device.json      (planned for less than ten minutes on a GPU)
    python tools/bench/device.py --device cpu --small --graphs 48 --batch-size 8 --seconds 0.2 --repeats 1

The second command only shows that the script runs; on a processor, its figures say nothing about a GPU.

A step is forward, loss, backward and optimizer. iComFormer computes in float32 (without TF32) and with autocast to
bfloat16, MACE in float32; both have their published sizes. The crystals are the 1,000 MPtrj frames of the real data, or
prototypes if LAZYGRAPH_DATA is not set. An epoch repeats them, so that starts of epochs are rare. The batches come from

- `lg.loader(ds, 64, shuffle=True, device=...)` with its defaults, which copies records and expands them on the device;
- PyG's `DataLoader` over a list of `Data` in memory with the same arrays, pinned, without and with worker processes;
- batches that are already on the device, which is as fast as any loader can be.

All of them train the same network in turns. In the first half of a turn, the program runs ahead of the device, as
trainings do: graphs a second, and ms a step. In the second half it waits for the device after every step. The time from
the request of a batch until it is complete on the device is then time in which nothing is trained: the percentage of
waiting. Trainings wait less, because the program prepares the next batch while the device computes. Before the turns,
the first batch of each loader is compared with the list, and its loss is computed. The greatest difference of a number
is relative to the greatest number of its array; indices must be equal.

The last table loads without training: edges that are stored, that compiled code builds on the processor, and that
nvalchemi-toolkit-ops builds on the device.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import tempfile
import time
import traceback
from contextlib import closing
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import common
import numpy as np
import torch
from torch.nn.functional import l1_loss
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

import lazygraph as lg

CUTOFF = 5.0
RECIPES = {"icomformer": lg.graph("comformer"), "mace": lg.graph("mace", cutoff=CUTOFF)}
SMALL = {  # networks that only show that the script runs
    "icomformer": {"hidden_channels": 16, "num_layers": 2, "num_rbf": 16},
    "mace": {"channels": 8, "max_L": 0, "max_ell": 1, "correlation": 1, "num_bessel": 4, "radial_MLP": [8]},
}
EPOCH = 8192  # graphs at least
WARM = 3  # steps before every turn


class Place(NamedTuple):
    """The device."""

    device: torch.device
    name: str

    @classmethod
    def of(cls, name):
        return cls(torch.device(name), torch.cuda.get_device_name() if name == "cuda" else common.processor())

    def synchronize(self):
        torch.get_device_module(self.device).synchronize()

    def placed(self, batch):
        """The batch on the device. Batches of lazygraph's loader are there already."""
        there = batch.batch.device.type == self.device.type
        return batch if there else batch.to(self.device, non_blocking=True)

    def facts(self):
        found = {"name": self.name}
        if self.device.type == "cuda":
            memory = torch.cuda.get_device_properties(self.device).total_memory
            found |= {"memory_gib": round(memory / 2**30, 1), "cuda": torch.version.cuda}
        return found


class Learner:
    """A network with its optimizer.

    Args:
        network: the network.
        place: its device.
        autocast: the type of autocast; None for float32.
    """

    def __init__(self, network, place, autocast):
        self.network, self.place, self.autocast = network.to(place.device).train(), place, autocast
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def loss(self, batch):
        with torch.autocast(self.place.device.type, self.autocast, enabled=self.autocast is not None):
            out = self.network(batch)
        return l1_loss(out.float().view_as(batch.y), batch.y)

    def step(self, batch):
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


def source(graphs):
    """What the crystals are, their source, and a label of them."""
    if os.environ.get("LAZYGRAPH_DATA"):
        return "MPtrj frames", common.data("extxyz/mptrj-random-1k.xyz"), "energy"
    return "prototypes", f"prototypes:{graphs or 2000}?seed=0", "density"


def endless(loader):
    """The batches of one epoch after the other."""
    while True:
        yield from loader


def attempted(call, *arguments):
    """What a call returns, or its error as a row: one failure must not cost the figures of all others."""
    try:
        return call(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever a device refuses
        traceback.print_exc()
        return {"note": f"failed with {type(error).__name__}: {(str(error) or '-').splitlines()[0]:.100}"}


def run(batches, use, seconds, place):
    """Use batches for this time, without waiting for the device in between: seconds, graphs, steps."""
    place.synchronize()
    begin, graphs, steps = time.perf_counter(), 0, 0
    while not steps or time.perf_counter() - begin < seconds:
        batch = place.placed(next(batches))
        use(batch)
        graphs, steps = graphs + batch.num_graphs, steps + 1
    place.synchronize()
    return time.perf_counter() - begin, graphs, steps


def waiting(batches, use, seconds, place):
    """The share of this time until a batch is complete on the device, which has nothing else to do, in percent."""
    place.synchronize()
    begin, waited, steps = time.perf_counter(), 0.0, 0
    while not steps or time.perf_counter() - begin < seconds:
        asked = time.perf_counter()
        batch = place.placed(next(batches))
        place.synchronize()
        waited += time.perf_counter() - asked
        use(batch)
        place.synchronize()
        steps += 1
    return 100 * waited / (time.perf_counter() - begin)


def turn(way, learner, seconds):
    """One turn of training: the numbers of a row."""
    place = learner.place
    cuda = place.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with closing(endless(way(shuffle=True))) as batches:
        for _ in range(WARM):
            learner.step(place.placed(next(batches)))
        elapsed, graphs, steps = run(batches, learner.step, seconds / 2, place)
        waited = waiting(batches, learner.step, seconds / 2, place)
        loss = learner.step(place.placed(next(batches))).item()
    if not math.isfinite(loss):
        msg = f"the loss is {loss}"
        raise RuntimeError(msg)
    return {
        "graphs_a_second": graphs / elapsed,
        "ms_a_step": 1e3 * elapsed / steps,
        "waiting_percent": waited,
        "peak_GiB": torch.cuda.max_memory_allocated() / 2**30 if cuda else None,
    }


def loading_turn(way, place, seconds):
    """One turn without training."""
    with closing(endless(way(shuffle=True))) as batches:
        for _ in range(WARM):
            next(batches)
        elapsed, graphs, _ = run(batches, lambda batch: batch, seconds / 2, place)
    return {"graphs_a_second": graphs / elapsed}


def checked(way, first, place, learner=None):
    """What the first batch says, and how lazygraph's loader reads.

    Args:
        way: opens a loader.
        first: the same batch, of the list.
        place: the device.
        learner: the network whose loss is computed, if any.
    """
    with closing(endless(way(shuffle=False))) as batches:
        batch = place.placed(next(batches))
    found = {"difference_from_the_list": difference(batch, first)}
    if learner is not None:
        found["loss_before_training"] = learner.loss(batch).item()
    settings = getattr(way(shuffle=True), "settings", None)
    return found | ({} if settings is None else {"threads": settings.threads, "processes": settings.num_workers})


def difference(batch, theirs):
    """The greatest difference of a number from another batch, relative to the greatest number of its array."""
    worst = 0.0
    for name, wanted in theirs.to_dict().items():
        if not isinstance(wanted, torch.Tensor):
            continue
        found = batch[name].cpu()
        same = (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        if same and wanted.is_floating_point():
            worst = max(worst, float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30)))
        elif not same or not found.equal(wanted):
            msg = f"the array {name} differs from the list"
            raise RuntimeError(msg)
    return worst


def row_of(turns):
    """The row of several turns."""
    failed = next((each for each in turns if "note" in each), None)
    if failed is not None:
        return failed
    row = common.spread("graphs_a_second", [each["graphs_a_second"] for each in turns])
    for name in ("ms_a_step", "waiting_percent", "peak_GiB"):
        values = [each[name] for each in turns if each.get(name) is not None]
        row |= {name: statistics.median(values)} if values else {}
    return row


def compared(ways, check, call, repeats, base):
    """The table of these ways, which take turns; one whose check fails has no turn.

    Args:
        ways: row -> a function that opens a loader, shuffled or not.
        check: called with a way, before all turns.
        call: called with a way, in its turns.
        repeats: turns of every way.
        base: the row that the others are compared with, and the name of the column.
    """
    table = {name: attempted(check, way) for name, way in ways.items()}
    sound = {name: partial(attempted, call, way) for name, way in ways.items() if "note" not in table[name]}
    for name, turns in common.in_turn(sound, repeats).items():
        table[name] = row_of(turns) | table[name]
    first, column = base
    speed = table[first].get("graphs_a_second")
    for row in table.values():
        if speed and "graphs_a_second" in row:
            row[column] = row["graphs_a_second"] / speed
    return table


class Datasets:
    """The datasets of a run.

    Args:
        folder: where they are written.
        options: those of the command.
        place: the device.
    """

    def __init__(self, folder, options, place):
        self.folder, self.options, self.place = Path(folder), options, place
        self.what, self.origin, self.target = source(options.graphs)

    def opened(self, name, **options):
        """A dataset, written when it is first used: ``icomformer``, ``mace``, or ``crystals`` without edges."""
        path = self.folder / f"{name}.lg"
        if not path.exists():
            recipe = RECIPES.get(name, "none")
            lg.write(self.origin, path, graph=recipe, labels=[self.target], progress=False)
        return lg.LazyGraphDataset(path, target=self.target, **options)[: self.options.graphs]

    def first(self, graphs):
        """The first batch of a list."""
        return Batch.from_data_list(graphs[: self.options.batch_size])

    def ours(self, name, **options):
        """A function that opens lazygraph's loader, the same one in every turn."""

        @cache
        def opened(*, shuffle):
            ds = self.opened(name, **options)
            several = ds[np.arange(-(-EPOCH // len(ds)) * len(ds)) % len(ds)]
            return lg.loader(several, self.options.batch_size, shuffle=shuffle, seed=0, device=self.place.device)

        return opened

    def built(self, view, **options):
        """The same for edges within the cutoff that are built at every read."""
        return self.ours("crystals", graph=RECIPES["mace"], view=view, **options)

    def listed(self, graphs, workers):
        """A function that opens PyG's loader."""
        pins = self.place.device.type == "cuda"
        how = {"num_workers": workers, "persistent_workers": workers > 0, "pin_memory": pins}
        return partial(DataLoader, graphs * -(-EPOCH // len(graphs)), self.options.batch_size, **how)

    def resident(self, graphs, *, shuffle):
        """The batches of an epoch, on the device."""
        loader = DataLoader(graphs, self.options.batch_size, shuffle=shuffle)
        return [batch.to(self.place.device) for batch in loader]


def trained(data, model, autocast):
    """The table of one network."""
    entry, options = lg.models.find_model(model), data.options
    view, parameters = entry.fitted(data.opened(model), SMALL[model] if options.small else {})
    torch.manual_seed(0)
    learner = Learner(entry.build(1, **parameters), data.place, autocast)
    ds = data.opened(model, view=view)
    graphs = [ds[k] for k in range(len(ds))]
    ways = {"lg.loader": data.ours(model, view=view)}
    if model == "mace" and find_spec("nvalchemiops"):
        ways["lg.loader, edges on the device"] = data.built(view, backend="nvalchemi")
    for workers in options.workers:
        name = f"PyG list, {workers} worker{'s' * (workers > 1)}" if workers else "PyG list"
        ways[name] = data.listed(graphs, workers)
    ways["batches on the device"] = partial(data.resident, graphs)
    check = partial(checked, first=data.first(graphs), place=data.place, learner=learner)
    call = partial(turn, learner=learner, seconds=options.seconds)
    return compared(ways, check, call, options.repeats, ("PyG list", "times_as_fast_as_the_list"))


def loaded(data):
    """The table of edges that are stored, and that are built at every read."""
    view, _ = lg.models.find_model("mace").fitted(data.opened("mace"), {})
    ds, options = data.opened("mace", view=view), data.options
    ways = {
        "stored edges": data.ours("mace", view=view),
        "edges by compiled code, on the processor": data.built(view),
    }
    name, missing = "edges by nvalchemi-toolkit-ops", {}
    if find_spec("nvalchemiops"):
        name = f"{name} {version('nvalchemi-toolkit-ops')}, on the device"
        ways[name] = data.built(view, backend="nvalchemi")
    else:
        missing[name] = {"note": "nvalchemi-toolkit-ops is not installed"}
    first = data.first([ds[k] for k in range(min(len(ds), options.batch_size))])
    check = partial(checked, first=first, place=data.place)
    call = partial(loading_turn, place=data.place, seconds=options.seconds)
    base = "stored edges", "times_as_fast_as_stored_edges"
    return compared(ways, check, call, options.repeats, base) | missing


def main():
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="where to train (default cuda)")
    parser.add_argument("--seconds", type=float, default=6.0, help="the time of every turn (default 6)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="graphs in a batch (default 64)")
    parser.add_argument("--graphs", type=int, metavar="N", help="take the first N crystals (default all)")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0, 4], metavar="N", help="worker processes of the list (default 0 4)"
    )
    parser.add_argument("--small", action="store_true", help="small networks, to see that it runs")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device; --device cpu shows that the script runs")
    if 0 not in options.workers:
        parser.error("--workers needs 0, with which all others are compared")
    begin, place, tables = time.perf_counter(), Place.of(options.device), {}
    small = ", small network" * options.small
    mace = f"MACE (mace-torch {version('mace-torch')})" if find_spec("mace") else "MACE"
    cases = {
        f"iComFormer{small}, float32": partial(trained, model="icomformer", autocast=None),
        f"iComFormer{small}, autocast to bfloat16": partial(trained, model="icomformer", autocast=torch.bfloat16),
        f"{mace}{small}, float32": partial(trained, model="mace", autocast=None),
        f"Loading without training, all neighbours within {CUTOFF:g} A": loaded,
    }
    with tempfile.TemporaryDirectory() as folder:
        data = Datasets(folder, options, place)
        for name, case in cases.items():
            if name.startswith("MACE") and not find_spec("mace"):
                table = {"MACE": {"note": "mace-torch is not installed"}}
            else:
                table = attempted(case, data)
                table = {name: table} if "note" in table else table
            tables[f"{name}; batches of {options.batch_size} {data.what}; {place.name}"] = table
            print(f"{name}, until {time.perf_counter() - begin:.0f} s: {table}", flush=True)
    common.publish(__doc__, options, tables, cache="warm", device=place.facts())
    if any(row.get("note", "").startswith("failed") for table in tables.values() for row in table.values()):
        sys.exit("some measurements failed; their errors are above")


if __name__ == "__main__":
    main()
