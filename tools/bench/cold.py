"""How many graphs a second does a shuffled first pass read from a disk or a far file system?

    python tools/bench/cold.py --json cold.json
    python tools/bench/cold.py --graphs 2000 --repeats 1     (to see that it runs)

The dataset is not in the page cache when a pass begins. "1 ms a read" is the same disk with a library that makes each
read of bytes that are not in the page cache a millisecond longer for each 128 KiB or part of it (`slow_reads.c`, needs
a C compiler). A pass is an epoch of `lg.loader(ds, 64, shuffle=True)` to complete PyG batches, in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import common

PASS = """
import json, sys, time
import torch_geometric.data
import lazygraph as lg
path, ahead = json.loads(sys.argv[1])
loader = lg.loader(lg.LazyGraphDataset(path), 64, shuffle=True, seed=0, read_ahead=ahead)
start, first, graphs = time.perf_counter(), None, 0
for batch in loader:
    first = first or time.perf_counter() - start
    graphs += batch.num_graphs
print(json.dumps({"rate": graphs / (time.perf_counter() - start), "first": first}))
"""


def one_pass(path, ahead, library):
    common.evict(*common.files(path))
    with preloaded(library):
        return common.answer(common.python(PASS, [str(path), ahead]))


@contextmanager
def preloaded(library):
    """Processes that are started within load the library first."""
    if library:
        os.environ["LD_PRELOAD"] = str(library)
    try:
        yield
    finally:
        os.environ.pop("LD_PRELOAD", None)


def compiled(folder):
    library = folder / "slow_reads.so"
    source = Path(__file__).with_name("slow_reads.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", source, "-o", library, "-ldl"], check=True)
    return library


def main():
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--graphs", type=int, default=100_000)
    parser.add_argument(
        "--folder",
        type=Path,
        help="a folder on a disk, in which the dataset is kept for other runs (default: a new one)",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        path, slow = folder / f"cold-{options.graphs}.lg", compiled(Path(name))
        if not path.exists():
            common.answer(common.python(common.WRITE, [f"prototypes:{options.graphs}?seed=0", str(path), None]))
        print(f"{options.graphs:,} graphs in {sum(f.stat().st_size for f in common.files(path)):,} bytes")
        contestants = {
            f"{medium}, {how}": partial(one_pass, path, ahead, library)
            for medium, library in (("disk", None), ("1 ms a read", slow))
            for how, ahead in (("not read ahead", False), ("read ahead", True))
        }
        found = common.in_turn(contestants, options.repeats)
    table = {
        name: common.spread("graphs_a_second", [turn["rate"] for turn in turns])
        | common.spread("first_batch_after_s", [turn["first"] for turn in turns])
        for name, turns in found.items()
    }
    common.publish(__doc__, options, {"A first pass in random order": table}, cache="cold")


if __name__ == "__main__":
    sys.exit(main())
