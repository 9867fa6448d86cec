"""What a user does with a small dataset, on whatever system this Python looks like; prints what was found as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import InputError, WriterBusy
from lazygraph.format.store import Store
from lazygraph.machine import memory_limit, physical_memory, usable_cpus
from lazygraph.reading.verify import verify
from lazygraph.writing.edit import gc, set_labels, set_splits
from lazygraph.writing.layout import Layout

FEW = ["read", "names"]


def double(data):
    data.twice = data.x * 2
    return data


def write(folder):
    report = lg.write("prototypes:60?seed=1", folder / "a.lg", workers=2, shard_size=8, progress=False)
    lg.write("prototypes:60?seed=1", folder / "b.lg", workers=1, shard_size=8, progress=False)
    same = [(folder / name / "manifest.json").read_bytes() for name in ("a.lg", "b.lg")]
    return report.written, same[0] == same[1], [path.name for path in sorted(folder.iterdir())]


def read(folder):
    store = Store(folder / "a.lg")
    rows = np.arange(0, 60, 7)
    batch = store.read_batch(rows)
    singly = [store.arrays(row)["numbers"].tolist() for row in rows.tolist()]
    columns = [store.column(name).nbytes for name in store.manifest.columns]
    return batch.fields["numbers"].tolist() == sum(singly, []), len(columns), verify(folder / "a.lg").problems


def load(folder):
    ds = lg.LazyGraphDataset(folder / "a.lg", target="density")
    plain = list(lg.loader(ds, 16, num_workers=0, threads=0))
    changed = lg.LazyGraphDataset(folder / "a.lg", target="density", transform=double)
    counts = []
    for options in ({"num_workers": 2}, {"num_workers": 0, "threads": 2}):
        batches = list(lg.loader(ds, 16, **options))
        counts.append(
            all(a.y.equal(b.y) and a.edge_index.equal(b.edge_index) for a, b in zip(plain, batches, strict=True))
        )
    twice = list(lg.loader(changed, 16, num_workers=2))
    counts.append(all(b.twice.equal(2 * a.x) for a, b in zip(plain, twice, strict=True)))
    return counts


def edit(folder):
    """Readers have files open and mapped while writers change the dataset, and remove what no reader has."""
    path = folder / "a.lg"
    reader = Store(path)
    before = {name: reader.column(name).tobytes() for name in reader.manifest.columns}
    raw = [reader.raw(row) for row in range(60)]
    set_labels(path, {reader.graph_id(0): {"gap": 1.5}})
    set_splits(path, (0.5, 0.25, 0.25))
    added = lg.append(path, "prototypes:70?seed=1", workers=2, progress=False).written
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        removed = gc(path)[0]
    same = {name: reader.column(name).tobytes() for name in before} == before
    same = same and [reader.raw(row) for row in range(60)] == raw
    del reader
    lg.write("prototypes:12?seed=3", path, workers=1, overwrite=True, progress=False)
    left = gc(path)[0]
    assert not Layout.of(path).partial.exists()
    return added, same, removed, left, [str(one.message)[:60] for one in told], verify(path).problems


HOLD = """
import sys
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
with exclusive(Layout.of(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def locks(folder):
    """One writer at a time, also where the first one is killed."""
    path, said = folder / "b.lg", []
    for end in ("kill", "close"):
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            holder.stdout.readline()
            try:
                set_splits(path, (0.5, 0.25, 0.25))
            except WriterBusy as error:
                said.append(f"process {holder.pid}" in str(error))
            if end == "kill":
                holder.kill()
            else:
                holder.stdin.close()
            holder.wait()
        set_splits(path, (0.5, 0.25, 0.25))
        said.append(Layout.of(path).partial.exists())
    return said


def names(folder):
    said = []
    for name in ("nul.lg", "a:b.lg", "what?.lg"):
        try:
            lg.write("prototypes:3", folder / name, workers=1, progress=False)
            said.append("written")
        except InputError as error:
            said.append(str(error).rpartition(": ")[2].partition(";")[0])
    with lg.GraphWriter(folder / "labels.lg") as writer:
        for n in range(3):
            graph = {"x": np.ones((2, 1), np.float32), "edge_index": np.array([[0, 1], [1, 0]])}
            writer.add(graph, labels={"aux.energy": n, "Gap": n, "gap": n})
    ds = lg.LazyGraphDataset(folder / "labels.lg")
    same = all(ds.columns[name].tolist() == [0, 1, 2] for name in ("aux.energy", "Gap", "gap"))
    return said, same, sorted(path.name.partition("-")[0] for path in (folder / "labels.lg" / "columns").glob("*[xp]*"))


def commands(folder):
    """The commands that look at machine and dataset end well."""
    lines = (["doctor"], ["info", "b.lg"], ["verify", "b.lg"], ["gc", "b.lg"], ["export", "b.lg", "-o", "b.xyz"])
    return [main([str(folder / word) if word[:2] == "b." else word for word in line]) for line in lines]


def machine(folder):
    return usable_cpus() >= 1, 2**28 < memory_limit() <= (physical_memory() or 2**62)


def run(folder):
    folder.mkdir(parents=True, exist_ok=True)
    steps = (write, read, load, locks, commands, edit, names, machine)
    return {step.__name__: step(folder) for step in steps}


if __name__ == "__main__":
    found = run(Path(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
