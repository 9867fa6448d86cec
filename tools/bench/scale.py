"""How do the memory and the time of each step grow with the number of graphs?

    python tools/bench/scale.py --json scale.json                     (100,000 and 1 million graphs: some minutes)
    python tools/bench/scale.py --graphs 100000 1000000 10000000      (half an hour, and 8 GB of disk)
    python tools/bench/scale.py --graphs 2000 --steps merge append    (to see that it runs)

The graphs are crystals of one atom without edges. Their shards are not built but made of copies of one record with ids,
labels and formulas of their own, so that what is measured is what depends on the number of graphs. Each step runs in a
process of its own. Its memory is the greatest anonymous memory (RssAnon) beyond that after imports, sampled every 5 ms:
pages of files that are mapped belong to the system, which takes them back when memory is short.

If the file of --json exists, it keeps the cells that are not measured again.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path

import common
import numpy as np

TITLE = "Memory and seconds of each step"
PERIOD = 0.005  # s
ADDED = 1000  # graphs of the append
BLOCK, PAIRED = 1000, 50  # crystals that are drawn together; one in so many has the formula of the one before


# ---- the steps; each is run in a new process, with the folder and the number of graphs ----


def make_shards(folder, graphs, *, shard_size=None, record_of=None):
    """A plan, and the finished shards of it, as workers leave them.

    Args:
        folder: where the dataset goes.
        graphs: how many there are.
        shard_size: graphs of a shard; default as ``lazygraph.write`` chooses.
        record_of: position -> (formula, crystal), for records that differ; default one crystal for all.
    """
    import lazygraph as lg
    from lazygraph.format.codec import CODECS
    from lazygraph.format.digests import graph_digest
    from lazygraph.format.record_encoder import RecordEncoder
    from lazygraph.format.shard import write_shard
    from lazygraph.graphs.spec import GraphSpec
    from lazygraph.writing.fields import crystal_values
    from lazygraph.writing.layout import Layout
    from lazygraph.writing.plan import Plan
    from lazygraph.writing.rows import Maker, RowBuffer
    from lazygraph.writing.write import plan as plan_dataset

    path = folder / "made.lg"
    plan_dataset(f"prototypes:{graphs}?seed=0", path, graph="none", shard_size=shard_size)
    layout = Layout.of(path)
    plan = Plan.load(layout)
    dictionary = None if plan.dictionary is None else (layout.dataset / plan.dictionary.name).read_bytes()
    encode, spec = CODECS[plan.codec].encoder(plan.level, dictionary), GraphSpec.from_json(plan.recipe)
    encoder = RecordEncoder(plan.schema)

    def packed(formula, crystal):
        raw, counts = encoder.pack(crystal_values(plan.schema, spec.build(crystal), {}))
        return formula, raw, counts, encode(raw)

    same = packed("Fe", lg.Crystal(np.eye(3) * 4.0, np.zeros((1, 3)), np.array([26])))
    maker, position = Maker.of(plan), 0
    for number, task in enumerate(plan.tasks):
        rows, frames = RowBuffer([label for label in plan.labels if label.level == "graph"], len(same[2])), []
        for _ in range(task.count):
            formula, raw, counts, frame = same if record_of is None else packed(*record_of(position))
            graph_id = f"made-{position * 7919 % 1_000_000_007:010d}"
            labels = [float(position), 0.5, 2.0]
            digest = graph_digest(graph_id.encode(), raw)
            rows.add(position, graph_id, formula, counts, labels=labels, digest=digest)
            frames.append(frame)
            position += 1
        file, record = write_shard(layout.dataset, number, frames)
        rows.finish(file, record, maker).save(layout.done(number))


def merge(folder):
    from lazygraph.writing.write import finish

    yield
    finish(folder / "made.lg")


def append(folder):
    import lazygraph as lg

    yield
    lg.append(folder / "made.lg", f"prototypes:{ADDED}?seed=1", workers=1, progress=False)


def first_graph(folder):
    from lazygraph.loading.dataset import LazyGraphDataset

    yield
    dataset = LazyGraphDataset(folder / "made.lg")
    dataset[len(dataset) // 2]


def verify(folder):
    from lazygraph.reading.verify import verify as verify_dataset

    yield
    if problems := verify_dataset(folder / "made.lg").problems:
        sys.exit(problems[0])


def subset(folder):
    import lazygraph as lg

    yield
    lg.subset(folder / "made.lg", folder / "subset.lg", where="mean_atomic_number > 0", overwrite=True)


def concat(folder):
    import lazygraph as lg

    yield
    paths = [folder / "made.lg", folder / "subset.lg"]
    lg.concat(paths, folder / "both.lg", on_duplicate="prefix", overwrite=True)


def split(folder):
    from lazygraph.writing.edit import set_splits

    yield
    set_splits(folder / "made.lg", (0.8, 0.1, 0.1))


def labels(folder):
    from lazygraph.format.store import Store
    from lazygraph.writing.edit import set_labels

    store = Store(folder / "made.lg")
    values = {store.graph_id(row): {"gap": float(row)} for row in range(0, len(store), max(1, len(store) // 10_000))}
    yield
    set_labels(folder / "made.lg", values)


def lookup(folder):
    from lazygraph.format.store import Store
    from lazygraph.loading.dataset import LazyGraphDataset

    store = Store(folder / "made.lg")
    rows = np.random.default_rng(0).integers(len(store), size=10_000)
    ids = store.graph_ids(rows)
    yield
    dataset = LazyGraphDataset(folder / "made.lg")
    dataset._rows_of(ids)


def epoch(folder):
    """The batches of a shuffled epoch of one of eight ranks, as positions; no graph is read."""
    import lazygraph as lg

    dataset = lg.LazyGraphDataset(folder / "made.lg")
    yield
    for _ in lg.loader(dataset, 64, shuffle=True, rank=0, world_size=8).next_batches():
        pass


def epoch_in_windows(folder):
    """The same, shuffled within windows."""
    import lazygraph as lg

    dataset = lg.LazyGraphDataset(folder / "made.lg")
    yield
    for _ in lg.loader(dataset, 64, shuffle=True, window=32_768, rank=0, world_size=8).next_batches():
        pass


def budgets_in_windows(folder):
    """The same, in batches of at most 64 atoms."""
    import lazygraph as lg

    dataset = lg.LazyGraphDataset(folder / "made.lg")
    yield
    for _ in lg.loader(dataset, max_atoms=64, shuffle=True, window=32_768, rank=0, world_size=8).next_batches():
        pass


@lru_cache(maxsize=2)
def drawn(block):
    """The atomic numbers (six of each crystal), positions and lattices of a block of crystals."""
    rng = np.random.default_rng(block)
    numbers = np.sort(rng.random((BLOCK, 89)).argpartition(6, axis=1)[:, :6] + 1, axis=1)
    frac = (np.arange(6)[:, None] + rng.uniform(0.0, 0.5, (BLOCK, 6, 3))) / 6
    lattices = rng.uniform(4.0, 6.0, (BLOCK, 3, 1)) * np.eye(3) + rng.uniform(-0.4, 0.4, (BLOCK, 3, 3))
    return numbers, frac, lattices


def different(position):
    """A crystal of six elements.

    One in fifty has the formula of the one before, and one in a thousand is the one before in another setting.
    """
    import lazygraph as lg

    numbers, frac, lattices = drawn(position // BLOCK)
    number = position % BLOCK
    same, copy = number % PAIRED == PAIRED - 1, number == BLOCK - 1
    crystal = lg.Crystal(lattices[number - copy], frac[number - copy] + 0.25 * copy, numbers[number - same])
    return crystal.formula, crystal


def duplicates(folder):
    """Candidates among crystals that differ, confirmed by one process."""
    import lazygraph as lg

    yield
    found = lg.duplicates(folder / "different" / "made.lg", workers=1)
    if found.duplicates < found.graphs // 1000:  # or a few more: other crystals may match by chance
        sys.exit(f"found {found.duplicates} duplicates; required: at least {found.graphs // 1000}")


def graph_writer(folder, graphs):
    import lazygraph as lg

    positions, numbers = np.zeros((1, 3)), np.array([26])
    yield
    with lg.GraphWriter(folder / "ready.lg", overwrite=True, codec="none") as writer:
        for number in range(graphs):
            writer.add({"z": numbers, "pos": positions}, id=f"graph-{number * 7919 % 1_000_000_007:010d}")


WITH_DATASET = {
    one.__name__: one
    for one in (
        merge, append, first_graph, epoch, epoch_in_windows, budgets_in_windows, lookup, labels, split, verify, subset,
        concat,
    )
}  # fmt: skip
STEPS = WITH_DATASET | {"duplicates": duplicates, "graph_writer": graph_writer}


def run(name, folder, graphs):
    """Run one step in this process, and print the seconds that it took, and where memory began."""
    step = STEPS[name](Path(folder), graphs) if name == "graph_writer" else STEPS[name](Path(folder))
    next(step)
    before, start = anonymous("self"), time.perf_counter()
    print(json.dumps(before), flush=True)
    next(step, None)
    print(json.dumps(time.perf_counter() - start), flush=True)


def anonymous(process):
    """Bytes of anonymous memory of a process; 0 where it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))
    except (FileNotFoundError, ProcessLookupError, StopIteration):
        return 0


def measured(name, folder, graphs):
    """{seconds, MiB} of one step."""
    code = "import sys, json; a = json.loads(sys.argv[1]); sys.path.insert(0, a[0]); import scale; scale.run(*a[1:])"
    process = common.python(code, [str(Path(__file__).parent), name, str(folder), graphs])
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(PERIOD)
    out = process.stdout.read().splitlines()
    if process.returncode:
        sys.exit(f"the step {name} ended with status {process.returncode}")
    before, seconds = json.loads(out[-2]), json.loads(out[-1])
    return {"MiB": max(0, peak - before) / 2**20, "s": seconds}


def main():
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--graphs", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--folder", type=Path, help="where the datasets are made; they stay there")
    options = parser.parse_args()
    table = {name: {} for name in options.steps}
    for graphs in options.graphs:
        folder = Path(tempfile.mkdtemp(dir=options.folder))
        try:
            if set(options.steps) & set(WITH_DATASET):
                make_shards(folder, graphs)
                if "merge" not in options.steps:
                    run("merge", folder, graphs)
            if "duplicates" in options.steps:
                make_shards(folder / "different", graphs, record_of=different)
                run("merge", folder / "different", graphs)
            for name in options.steps:
                found = measured(name, folder, graphs)
                table[name] |= {f"{column}_at_{graphs:,}": value for column, value in found.items()}
                print(f"{graphs:,} {name}: {found['s']:.3g} s, {found['MiB']:.3g} MiB", flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    common.publish(__doc__, options, {TITLE: with_earlier(table, options.json)}, cache="warm")


def with_earlier(table, file):
    """The table with the other cells of the file that it will replace."""
    earlier = json.loads(file.read_text())["tables"][TITLE] if file and file.exists() else {}
    joined = {name: earlier.get(name, {}) | table.get(name, {}) for name in STEPS}
    return {name: cells for name, cells in joined.items() if cells}


if __name__ == "__main__":
    main()
