"""Does every read give one whole version, while others replace the dataset again and again?

    python -m tools.soak.readers --json readers.json            (16 readers, 300 s)
    python -m tools.soak.readers --readers 4 --seconds 5        (to see that it runs)

One process replaces the dataset at one path: overwritten with other content and with content that was there before,
appended to, with other labels, with other splits, with old files deleted at once (`gc`), and as a whole directory, by
rename. After each change it writes down what the dataset holds now, of its own knowledge: ids, atoms, cells, labels,
splits. Readers of every start method open the dataset, read it in their way, and compare each graph with the version
that the manifest of their object is. `DatasetReplaced` is right at any time, `DatasetNotFound` in the moment between
two renames; anything else is wrong, as is a reader that dies or hangs.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import pickle
import queue
import random
import shutil
import tempfile
import threading
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np

from tools.bench.common import parser, publish

GRAPHS = 24
PATIENCE = 120  # s that a reader may take to come to its end
BATCH = 6


# ---- the versions ----


def crystal(content, number):
    """The crystal that is told by the content it is of, and by its number."""
    import lazygraph as lg

    shift = 0.001 * (content % 97)
    atoms = 2 + number % 2
    places = [[0, 0, 0], [0.5 + shift, 0.5, 0.5], [0.25, 0.75 - shift, 0.25]][:atoms]
    return lg.Crystal(np.eye(3) * edge(content, number), places, numbers(content, number))


def edge(content, number):
    """Of the cell, in A."""
    return 4 + 0.01 * (content % 211) + 0.0001 * number


def numbers(content, number):
    return [1 + content % 90, 1 + number % 90, 1 + (content + number) % 90][: 2 + number % 2]


class Versions:
    """What the dataset held, by the checksum of its manifest; one process appends, the others read what is new."""

    def __init__(self, file):
        self._file, self._read, self._known = Path(file), 0, {}

    def add(self, key, version):
        with self._file.open("a") as out:
            out.write(json.dumps({"key": key, **version}) + "\n")

    def get(self, key):
        """The version of a manifest; its writer writes it down a moment after it was published."""
        deadline = time.monotonic() + 60
        while key not in self._known:
            with self._file.open() as file:
                file.seek(self._read)
                for line in file:
                    if not line.endswith("\n"):
                        break
                    self._read += len(line)
                    version = json.loads(line)
                    self._known[version.pop("key")] = version
            if time.monotonic() > deadline:
                raise AssertionError(f"a manifest that was never published: {key}")
            if key not in self._known:
                time.sleep(0.01)
        return self._known[key]


def key_of(manifest):
    return manifest.to_bytes()[-67:-3].decode()


class Writer:
    """Changes the dataset, and knows what it then holds."""

    def __init__(self, path, versions, seed):
        self.path, self.versions, self.random = Path(path), versions, random.Random(seed)
        self.content = 0
        self.now = None
        self.before = None  # a content that was there before
        self.done = Counter()

    def source(self, content):
        return [(f"{content}-{n}", crystal(content, n), {"state": 1000.0 * content + n}) for n in range(GRAPHS)]

    def version(self, content):
        return {
            "ids": [f"{content}-{n}" for n in range(GRAPHS)],
            "state": [1000.0 * content + n for n in range(GRAPHS)],
            "split": None,
        }

    def tell(self):
        from lazygraph.format.manifest import Manifest

        self.versions.add(key_of(Manifest.load(self.path)), self.now)

    def write(self, content, path=None, **options):
        import lazygraph as lg

        lg.write(self.source(content), path or self.path, workers=1, shard_size=8, progress=False, **options)

    def overwrite(self):
        self.content += 1
        self.write(self.content, overwrite=True)
        self.before, self.now = self.content, self.version(self.content)

    def again(self):
        """Something else, old files deleted, and the content of before once more, under the names of before."""
        if self.before is None:
            return
        back = self.before
        self.overwrite()
        self.tell()
        self.gc()
        self.write(back, overwrite=True)
        self.before, self.now = back, self.version(back)

    def append(self):
        if len(self.now["ids"]) > 4 * GRAPHS:
            self.overwrite()
            return
        self.content += 1
        import lazygraph as lg

        lg.append(self.path, self.source(self.content), workers=1, shard_size=8, progress=False)
        more = self.version(self.content)
        ids, state = self.now["ids"] + more["ids"], self.now["state"] + more["state"]
        split = self.now["split"] and self.now["split"] + [""] * GRAPHS
        self.now = {"ids": ids, "state": state, "split": split}

    def labels(self):
        from lazygraph.writing.edit import set_labels

        self.content += 1
        state = [1000.0 * self.content + n for n in range(len(self.now["ids"]))]
        set_labels(self.path, {i: {"state": value} for i, value in zip(self.now["ids"], state, strict=True)})
        self.now = {**self.now, "state": state}

    def split(self):
        from lazygraph.writing.edit import set_splits

        names = {"a": [], "b": [], "": []}
        split = [self.random.choice(list(names)) for _ in self.now["ids"]]
        for graph_id, name in zip(self.now["ids"], split, strict=True):
            names[name].append(graph_id)
        set_splits(self.path, names={name: names[name] for name in ("a", "b")})
        self.now = {**self.now, "split": split}

    def gc(self):
        from lazygraph.writing.edit import gc as delete_old_files

        delete_old_files(self.path)
        self.done["gc"] += 1

    def rename(self):
        """Another directory in the place of this one."""
        self.content += 1
        new, old = self.path.with_name("new.lg"), self.path.with_name("old.lg")
        self.write(self.content, new)
        self.path.rename(old)
        new.rename(self.path)
        self.before, self.now = None, self.version(self.content)
        self.tell()
        shutil.rmtree(old)

    def step(self):
        name = self.random.choice(["overwrite", "overwrite", "again", "append", "labels", "split", "rename"])
        getattr(self, name)()
        self.done[name] += 1
        self.tell()
        if self.random.random() < 0.4:
            self.gc()
        if self.random.random() < 0.1:
            time.sleep(3 * self.random.random())  # for readers that are slow to start their workers


def write_on(path, file, seed, stop, answers):
    """The process that changes the dataset until it is told to stop."""
    writer = Writer(path, Versions(file), seed)
    try:
        writer.overwrite()
        writer.tell()
        answers.put(("writer", {}))
        while not stop.is_set():
            writer.step()
        answers.put(("writer", dict(writer.done)))
    except BaseException:  # noqa: BLE001 - it is told
        answers.put(("writer", {"failed": traceback.format_exc()}))


# ---- the readers ----


class Reader:
    """Reads in one of the ways until it is told to stop, and counts."""

    def __init__(self, path, versions, way, seed):
        self.path, self.versions, self.way = path, versions, way
        self.random = random.Random(seed)
        self.counts = Counter()
        self.wrong = []

    def check(self, version, row, data):
        """That a graph is that of its row in this version, in everything that is known of it."""
        graph_id = version["ids"][row]
        content, number = map(int, graph_id.split("-"))
        expected = (graph_id, numbers(content, number), version["state"][row], round(edge(content, number), 4))
        cell = float(data.cell.reshape(-1)[0])
        found = (data.id, data.x.reshape(-1).int().tolist(), data.y.item(), round(cell, 4))
        self.counts["checked"] += 1
        if found != expected:
            self.wrong.append(f"row {row}: found {found}; required: {expected}")

    def whole(self, ds, version):
        """That columns, ids and splits are those of the version."""
        ids, state = ds.ids.tolist(), ds.columns["state"].tolist()
        if (ids, state) != (version["ids"], version["state"]):
            self.wrong.append(f"columns of {len(ids)} graphs are not those of the version with {len(version['ids'])}")
        if version["split"] is not None and ds.columns["split"].tolist() != version["split"]:
            self.wrong.append("the splits are not those of the version")
        if (version["split"] is None) != ("split" not in ds.columns):
            self.wrong.append("there are splits of another version")
        self.counts["checked"] += len(ids)

    def once(self):
        import lazygraph as lg

        ds = lg.LazyGraphDataset(self.path, target="state")
        version = self.versions.get(key_of(ds.manifest))
        if len(ds) != len(version["ids"]):
            self.wrong.append(f"{len(ds)} graphs; required: {len(version['ids'])}")
        if self.random.random() < 0.3:
            time.sleep(self.random.random() / 5)  # all is opened later
        for _ in range(self.random.randrange(1, 5)):
            getattr(self, self.way)(ds, version)
            if self.random.random() < 0.5:
                self.whole(ds, version)
            if self.random.random() < 0.2:
                ds = pickle.loads(pickle.dumps(ds))

    def until(self, stop):
        import lazygraph as lg

        while not stop.is_set():
            try:
                self.once()
            except lg.DatasetReplaced:
                self.counts["replaced"] += 1
                gc.collect()  # torch's iterators, before a fork has copies of them: those complain when they go
            except lg.DatasetNotFound:
                self.counts["not there"] += 1
            except BaseException:  # noqa: BLE001 - it is told
                self.wrong.append(traceback.format_exc())

    # ---- ways ----

    def single(self, ds, version):
        for row in self.random.sample(range(len(ds)), min(len(ds), 20)):
            self.check(version, row, ds[row])

    def batch(self, ds, version):
        rows = self.random.sample(range(len(ds)), min(len(ds), 20))
        self.compare(version, rows, ds.batch(rows))

    def threads(self, ds, version):
        """One dataset object, in four threads."""
        caught = []

        def work(way):
            try:
                getattr(self, way)(ds, version)
            except BaseException as error:  # noqa: BLE001
                caught.append(error)

        ways = ["single", "batch", "single", "batch"]
        running = [threading.Thread(target=work, args=(way,)) for way in ways]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        if caught:
            raise caught[0]

    def pyg(self, ds, version):
        from torch_geometric.loader import DataLoader

        self.ordered(version, DataLoader(ds, BATCH, num_workers=1, multiprocessing_context="fork"))

    def torch(self, ds, version):
        from torch.utils.data import DataLoader

        import lazygraph as lg

        workers = {"num_workers": 1, "multiprocessing_context": "forkserver"}
        self.ordered(version, DataLoader(ds, BATCH, collate_fn=lg.collate, **workers))

    def processes(self, ds, version):
        import lazygraph as lg

        self.ordered(version, lg.loader(ds, BATCH, num_workers=1, multiprocessing_context="fork"), epochs=2)

    def thread(self, ds, version):
        import lazygraph as lg

        self.ordered(version, lg.loader(ds, BATCH, threads=1), epochs=2)

    def forked(self, ds, version):
        """In a child of this process, with the files that it has open, and after it has done with them."""
        if self.random.random() < 0.5:
            ds[0]
        receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(target=in_child, args=(self, ds, version, send))
        child.start()
        send.close()
        counts, wrong, error = receive.recv() if receive.poll(60) else ({}, ["a forked child hangs"], None)
        child.join(60)
        self.counts.update(counts)
        self.wrong += wrong
        if error is not None:
            raise error

    def ordered(self, version, loader, epochs=1):
        for _ in range(epochs):
            seen = 0
            for batch in loader:
                self.compare(version, range(seen, seen + batch.num_graphs), batch)
                seen += batch.num_graphs
            if seen != len(version["ids"]):
                self.wrong.append(f"an epoch of {seen} graphs; required: {len(version['ids'])}")

    def compare(self, version, rows, batch):
        for row, data in zip(rows, batch.to_data_list(), strict=True):
            self.check(version, row, data)


def in_child(reader, ds, version, send):
    reader.counts, reader.wrong, error = Counter(), [], None
    try:
        reader.batch(ds, version)
        reader.single(ds, version)
    except FileNotFoundError as caught:
        error = caught
    except BaseException:  # noqa: BLE001 - it is told
        reader.wrong.append(traceback.format_exc())
    send.send((dict(reader.counts), reader.wrong, error))


def read_on(number, path, file, way, seed, stop, answers):
    """A process that reads until it is told to stop."""
    import torch
    import torch_geometric.loader  # noqa: F401 - so that all begin at once

    torch.set_num_threads(1)
    multiprocessing.set_forkserver_preload(["lazygraph", "torch_geometric.loader"])
    answers.put((number, None))
    reader = Reader(path, Versions(file), way, seed)
    reader.until(stop)
    answers.put((number, {"counts": dict(reader.counts), "wrong": reader.wrong[:3], "n_wrong": len(reader.wrong)}))


WAYS = {
    "threads": "4 threads",
    "processes": "lg.loader with a worker",
    "forked": "forked children",
    "pyg": "PyG's DataLoader with a worker",
    "torch": "torch's DataLoader with a worker",
    "thread": "lg.loader with a thread",
    "batch": "ds.batch",
}
"""Way of reading -> its name in the table."""
CHANGES = {"again": "earlier_content_again"}
"""Kind of change -> its name in the table, where that differs."""
# Two rounds of these are the sixteen; the first four, which start quickly, the short form in the test suite.
KINDS = [
    ("fork", "threads"), ("spawn", "processes"), ("fork", "forked"), ("fork", "pyg"),
    ("spawn", "threads"), ("forkserver", "torch"), ("fork", "thread"), ("forkserver", "batch"),
]  # fmt: skip


def soak(readers, seconds, seed=0, folder=None):
    """The table, and the texts of what was wrong."""
    multiprocessing.set_forkserver_preload(["lazygraph", "torch_geometric.loader"])
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path, file = Path(temporary) / "x.lg", Path(temporary) / "versions"
        file.touch()
        spawn = multiprocessing.get_context("spawn")
        stop, answers = spawn.Event(), spawn.Queue()
        writer = spawn.Process(target=write_on, args=(str(path), str(file), seed, stop, answers))
        writer.start()
        _, told = answers.get(timeout=PATIENCE)
        kinds = [KINDS[n % len(KINDS)] for n in range(readers)]
        started = []
        for number, (method, way) in enumerate(kinds):
            arguments = (number, str(path), str(file), way, seed + number, stop, answers)
            # The queue and the event are of one kind; what is forked inherits them.
            process = multiprocessing.get_context(method).Process(target=read_on, args=arguments)
            process.start()
            started.append(process)
        gather(answers, readers)
        if not told:
            time.sleep(seconds)
        stop.set()
        found = gather(answers, readers + 1)
        for process in [*started, writer]:
            process.join(timeout=10)
        silent = [n for n in range(readers) if n not in found]
        dead = [n for n, process in enumerate(started) if process.exitcode not in (0, None)]
        for process in [*started, writer]:
            if process.is_alive():
                process.kill()
                process.join()
        return tables(kinds, found, silent, dead)


def gather(answers, wanted):
    """What so many processes answer, by their number, as far as they do."""
    found, deadline = {}, time.monotonic() + PATIENCE
    while len(found) < wanted and time.monotonic() < deadline:
        with suppress(queue.Empty):
            who, answer = answers.get(timeout=1)
            found[who] = answer
    return found


def tables(kinds, found, silent, dead):
    rows, texts = {}, []
    changes = found.get("writer", {"failed": "the writer hangs"})
    if "failed" in changes:
        texts.append(changes["failed"])
    for (method, way), numbers_of in grouped(kinds).items():
        counts, wrong = Counter(), 0
        for number in numbers_of:
            told = found.get(number, {"counts": {}, "wrong": [], "n_wrong": 0})
            counts.update(told["counts"])
            wrong += told["n_wrong"] + (number in silent) + (number in dead)
            texts += told["wrong"]
            texts += [f"the reader {method}, {way} hangs"] * (number in silent)
            texts += [f"the reader {method}, {way} died"] * (number in dead)
        rows[f"{method}, {WAYS[way]}"] = row(len(numbers_of), counts, wrong)
    total = {"readers": len(kinds), **{k: sum(r[k] for r in rows.values()) for k in list(row(0, Counter(), 0))[1:]}}
    rows["all"] = total
    changed = {CHANGES.get(name, name): n for name, n in sorted(changes.items()) if isinstance(n, int)}
    replaced = {"all": {"changes": sum(changed.values()), **changed}}
    return {"Readers": rows, "Changes at the same path": replaced}, texts


def grouped(kinds):
    out = {}
    for number, kind in enumerate(kinds):
        out.setdefault(kind, []).append(number)
    return out


def row(readers, counts, wrong):
    return {
        "readers": readers,
        "reads_checked": counts["checked"],
        "replaced_and_opened_again": counts["replaced"],
        "missing_between_two_renames": counts["not there"],
        "wrong": wrong,
    }


def main():
    options_of = parser(__doc__, repeats=1)
    options_of.add_argument("--readers", type=int, default=16)
    options_of.add_argument("--seconds", type=float, default=300)
    options_of.add_argument("--seed", type=int, default=0)
    options_of.add_argument("--folder", type=Path, help="where the dataset lies (default: the temporary folder)")
    options = options_of.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found, texts = soak(options.readers, options.seconds, options.seed, options.folder)
    publish(__doc__, options, found, seconds=options.seconds, seed=options.seed)
    for text in texts[:10]:
        print(text)
    if texts:
        raise SystemExit(f"{found['Readers']['all']['wrong']} wrong")


if __name__ == "__main__":
    main()
