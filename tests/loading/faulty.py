"""What test_faults.py runs with faults.c preloaded: every way to read, under every fault; prints what was met."""

import ctypes
import errno
import json
import signal
import sys

import numpy as np

import lazygraph as lg
from lazygraph.native import kernels

path = sys.argv[1]
shim = ctypes.CDLL(None)
N = 60
ROWS = np.random.default_rng(0).permutation(N)
FOREVER = 10**6
WAYS = {
    "ds[i]": lambda ds: lambda: [(data.id, data.pos.tolist()) for data in (ds[int(row)] for row in ROWS)],
    "batch": lambda ds: lambda: of_batches(ds.batch(ROWS[start : start + 20]) for start in range(0, N, 20)),
    "thread": lambda ds: ready_loader(ds, threads=1),
    "workers": lambda ds: ready_loader(ds, num_workers=1, multiprocessing_context="fork", persistent_workers=False),
}


def ready_loader(ds, **options):
    loader = lg.loader(ds[ROWS], 20, **options)
    loader.settings  # noqa: B018 - which reads some graphs in this process
    return lambda: of_batches(loader)


def of_batches(batches):
    return [(data.id, data.pos.tolist()) for batch in batches for data in batch.to_data_list()]


def attempt(read):
    """What reading gives, as text where it is an error."""
    try:
        found = read()
    except OSError as error:
        return {"error": type(error).__name__, "errno": error.errno, "text": str(error)}
    return {"right": found == expected}


def ready():
    ds = lg.LazyGraphDataset(path)
    [ds[row] for row in range(0, N, 20)]  # all files are open
    return ds


expected = WAYS["ds[i]"](ready())()
out = {"compiled": kernels() is not None}
for way, prepare in WAYS.items():
    for name, times in (("EIO", FOREVER), ("EIO", 1), ("ESTALE", FOREVER), ("ESTALE", 1)):
        read = prepare(ready())
        shim.lg_fail(b".lmdb", getattr(errno, name), times)
        found = attempt(read)
        met = shim.lg_met()
        shim.lg_fail(b"", 0, 0)
        out[f"{way}, {name} x {times}"] = {**found, "met": met, "again": attempt(read)}
    read = prepare(ready())
    shim.lg_shorten(b".lmdb", 1)
    out[f"{way}, short reads"] = attempt(read)
    shim.lg_shorten(b"", 0)
for part in (b"manifest.json", b"/record-", b"/n_node-", b"dictionary-"):
    for name, times in (("EIO", FOREVER), ("ESTALE", FOREVER), ("ESTALE", 1)):
        shim.lg_fail(part, getattr(errno, name), times)
        try:
            found = attempt(WAYS["ds[i]"](lg.LazyGraphDataset(path)))
        except OSError as error:
            found = {"error": type(error).__name__, "errno": error.errno, "text": str(error)}
        met = shim.lg_met()
        shim.lg_fail(b"", 0, 0)
        out[f"{part.decode()}, {name} x {times}"] = {**found, "met": met}
# A signal every millisecond, whose handler is Python code, while everything is read.
alarms = []
signal.signal(signal.SIGALRM, lambda *_: alarms.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for way, prepare in WAYS.items():
    read = prepare(lg.LazyGraphDataset(path))
    out[f"{way}, signals"] = [attempt(read) for _ in range(5)]
signal.setitimer(signal.ITIMER_REAL, 0)
out["alarms"] = len(alarms)
print(json.dumps(out))
