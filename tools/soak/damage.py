"""Is every damage of a dataset's files found and named, and is what is read the exact data or a CorruptDataset error?

    python -m tools.soak.damage --json damage.json

Bytes are flipped at random over all files, files are cut, lengthened, deleted, exchanged, taken from another dataset,
and replaced by what is no file. Of each damage, `verify` must name the file; every graph is read alone, in batches and
through the loader, and every column is looked at, with the compiled loops and without, in a process of its own with a
deadline: whatever comes must be what was written, or a CorruptDataset error that names dataset, shard, row and id.

Then shards whose page tree was crafted, with every hash right (`tools/soak/trees.py`): `verify` must name the page, and
reading must be exact. What liblmdb does with them is in the table for comparison.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

import lazygraph as lg
from lazygraph.format.manifest import MANIFEST
from lazygraph.reading.verify import verify
from lazygraph.writing import graph_writer
from lazygraph.writing.edit import gc, set_splits
from tools.bench.common import parser, publish
from tools.soak import trees
from tools.soak.apart import apart

SECONDS = 120  # against a hang
GRAPHS, SHARD = 150, 40


# ---- datasets ----


def crystals(path, seed=0, codec="zstd"):
    """A dataset with labels, splits, quarantine and four shards, and its manifest of an earlier state.

    With a dictionary, if its codec takes one.
    """
    lattice = np.eye(3) * 4
    bad = lg.Crystal(lattice, [[0, 0, 0]], [1]), "no structure"
    random = np.random.default_rng(seed)

    def items():
        for number in range(GRAPHS):
            coords = [[0, 0, 0], *(random.integers(1, 4, size=(1, 3)) / 4 + random.normal(size=3) * 0.01).tolist()]
            crystal = lg.Crystal(lattice * (1 + 0.1 * random.random()), coords, random.integers(1, 80, size=2))
            yield f"c-{seed}-{number:03d}", crystal, {"energy": random.normal(), "gap": abs(random.normal())}
            if number % 50 == 9:
                yield f"bad-{number}", bad[1], {"energy": 0.0, "gap": 0.0}

    options = {"workers": 1, "shard_size": SHARD, "split": (0.6, 0.2, 0.2), "codec": codec, "progress": False}
    lg.write(items(), path, graph="comformer", **options)
    return _edited(path)


def ready_made(path, seed=0):
    """Graphs of GraphWriter: dictionary, label, splits, texts, and four shards."""
    random = np.random.default_rng(seed)
    graph_writer.SHARD, before = SHARD, graph_writer.SHARD
    try:
        with lg.GraphWriter(path, units={"energy": "eV"}) as writer:
            for number in range(GRAPHS):
                n = int(random.integers(2, 9))
                ring = np.stack([np.arange(n), (np.arange(n) + 1) % n])
                values = {"z": random.integers(1, 99, n), "edge_index": ring, "pos": random.normal(size=(n, 3))}
                writer.add(
                    values | {"name": f"ring of {n}"}, id=f"r-{seed}-{number:03d}", labels={"energy": random.normal()}
                )
    finally:
        graph_writer.SHARD = before
    return _edited(path)


def _edited(path):
    """The manifest of the state before, of which a file is gone."""
    set_splits(path, (0.5, 0.25, 0.25), seed=6)
    before = (path / MANIFEST).read_bytes()
    set_splits(path, (0.5, 0.25, 0.25), seed=7)
    gc(path)
    return before


DATASETS = {"crystals": crystals, "ready-made": ready_made, "uncompressed": partial(crystals, codec="none")}


# ---- what is read ----


def digest(graph):
    total = hashlib.sha256()
    for key, value in sorted(graph.to_dict().items()):
        content = value.encode() if isinstance(value, str) else value.numpy().tobytes()
        total.update(
            f"{key} {getattr(value, 'dtype', 'text')} {tuple(getattr(value, 'shape', ()))} ".encode() + content
        )
    return total.hexdigest()


def pristine(path):
    """What the whole dataset gives: digests of graphs, and of columns."""
    ds = lg.LazyGraphDataset(path, target="energy")
    return [digest(graph) for graph in ds], {name: column(ds, name) for name in ds.columns}, ds.ids.tolist()


def column(ds, name):
    return hashlib.sha256(np.ascontiguousarray(ds.columns[name]).tobytes()).hexdigest()


def found(path):
    """The problems that verify reports."""
    try:
        return list(verify(path).problems)
    except (lg.CorruptDataset, lg.DatasetNotFound) as error:
        return [str(error)]


def readings(path, whole, of_record):
    """How many graphs and columns were exact, and refused; and a sentence for all that must not be."""
    counts, wrong = Counter(), []
    graphs, columns, ids = whole

    def take(what, read, expected, *names):
        try:
            got = read()
        except (lg.CorruptDataset, lg.DatasetNotFound) as error:
            counts["refused"] += 1
            if missing := [name for name in (str(path), *names) if name not in str(error)]:
                wrong.append(f"{what}: the error does not name {missing}: {error}")
            return False
        except Exception as error:  # noqa: BLE001 - any other is what is looked for
            wrong.append(f"{what}: {type(error).__name__}: {error}")
            return False
        counts["exact" if got == expected else "other data"] += 1
        if got != expected:
            wrong.append(f"{what}: other data")
        return True

    opened = []
    if not take("opening", lambda: opened.append(lg.LazyGraphDataset(path, target="energy")), None):
        return dict(counts), wrong
    ds = opened[0]
    for row, (graph_id, expected) in enumerate(zip(ids, graphs, strict=True)):
        names = (f"row {row}", repr(graph_id), "shards/") if of_record else ()
        take(f"ds[{row}]", lambda row=row: digest(ds[row]), expected, *names)
    for first in range(0, len(graphs), 16):
        rows = range(first, min(first + 16, len(graphs)))
        take(f"ds.batch({rows})", lambda rows=rows: [digest(g) for g in ds.batch(rows).to_data_list()],
             [graphs[row] for row in rows])  # fmt: skip
    batches = iter(lg.loader(ds, batch_size=25, num_workers=0, threads=0))
    for first in range(0, len(graphs), 25):
        if not take(f"batch from row {first} on", lambda: [digest(g) for g in next(batches).to_data_list()],
                    graphs[first : first + 25]):  # fmt: skip
            break
    for name, expected in columns.items():
        take(f"column {name}", lambda name=name: column(ds, name), expected)
    return dict(counts), wrong


# ---- damages ----


def flip(files, random):
    """One byte over all files, each as likely as any other."""
    sizes = [len(content) for content in files.values()]
    at = int(random.integers(sum(sizes)))
    for name, size in zip(files, sizes, strict=True):
        if at < size:
            content = bytearray(files[name])
            content[at] ^= int(random.integers(1, 256))
            return {name: bytes(content)}
        at -= size
    raise AssertionError


def truncate(files, random):
    name = list(files)[random.integers(len(files))]
    return {name: files[name][: random.integers(len(files[name]))]}


def lengthen(files, random):
    name = list(files)[random.integers(len(files))]
    return {name: files[name] + random.bytes(int(random.integers(1, 5000)))}


def exchanges(files, folder):
    """Each two files of a folder."""
    for one, two in itertools.combinations([name for name in files if name.startswith(folder)], 2):
        if files[one] != files[two]:
            yield {one: files[two], two: files[one]}


def mixtures(files, others):
    """Files of another dataset, under the names of this one's: one by one, all columns, all shards, all."""
    pairs = {}
    for name in files:
        stem = name.rsplit("-", 1)[0]
        same = [other for other in others if other.rsplit("-", 1)[0] == stem and other != MANIFEST]
        if same and others[same[0]] != files[name]:
            pairs[name] = others[same[0]]
    yield from ({name: content} for name, content in pairs.items())
    for folder in ("columns/", "shards/", ""):
        yield {name: content for name, content in pairs.items() if name.startswith(folder)}


def no_files(files):
    """Every file deleted, and in the place of every kind of file a folder, a pipe, and links."""
    yield from ({name: None} for name in files)
    for name in files:
        if name.startswith(
            ("shards/00001", "columns/record", "columns/energy", "dictionary", "digests", "quarantine", MANIFEST)
        ):
            yield from ({name: kind} for kind in ("folder", "pipe", "link to nothing", "link to /dev/zero"))


def put(path, change):
    for name, content in change.items():
        file = path / name
        if isinstance(content, bytes):
            file.write_bytes(content)
            continue
        file.unlink()
        match content:
            case "folder":
                file.mkdir()
            case "pipe":
                os.mkfifo(file)
            case "link to nothing":
                file.symlink_to(path / "nothing")
            case "link to /dev/zero":
                file.symlink_to("/dev/zero")


def restore(path, files, change):
    for name in change:
        file = path / name
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
        else:
            file.unlink(missing_ok=True)
        file.write_bytes(files[name])


def cases(path, other, before, flips, cuts, seed):
    """Kind -> changes: name of a file -> its new bytes, or what stands in its place."""
    files, others = contents(path), contents(other)
    random = np.random.default_rng(seed)
    return files, {
        "byte flipped": (flip(files, random) for _ in range(flips)),
        "file cut": (truncate(files, random) for _ in range(cuts)),
        "file lengthened": (lengthen(files, random) for _ in range(max(cuts // 4, 1))),
        "two shards exchanged": exchanges(files, "shards/"),
        "two columns exchanged": exchanges(files, "columns/"),
        "files of another dataset": mixtures(files, others),
        "file missing, or not a regular file": no_files(files),
        "manifest of an earlier state": [{MANIFEST: before}],
        "manifest of another dataset": [{MANIFEST: others[MANIFEST]}],
    }


def contents(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def survey(path, files, change, whole):
    """One damage: the counts of what was read both ways, and a sentence for all that must not be."""
    put(path, change)
    try:
        counts, wrong = Counter(), []
        ended, said = apart(found, path, seconds=SECONDS)
        if ended != "returned":
            wrong.append(f"verify {ended}: {said}")
        elif not said:
            wrong.append("verify found nothing")
        elif change.keys() != {MANIFEST} and not any(name in problem for problem in said for name in change):
            wrong.append(f"verify does not name {list(change)}: {said}")
        of_record = all(name.startswith("shards/") for name in change) and all(
            isinstance(content, bytes) and len(content) == len(files[name]) for name, content in change.items()
        )
        for compiled in (True, False):
            ended, answer = apart(readings, path, whole, of_record, seconds=SECONDS, compiled=compiled)
            if ended != "returned":
                counts[ended] += 1
                wrong.append(f"reading {ended}: {answer}")
            else:
                counts.update(answer[0])
                wrong += answer[1]
        return counts, [f"{list(change)}, compiled={compiled}: {sentence}" for sentence in wrong]
    finally:
        restore(path, files, change)


def soak(flips, cuts, seed=0, only=None, every=1):
    """Kind of damage -> counts over all datasets; and all that must not be, in sentences."""
    table, wrong = {}, []
    with tempfile.TemporaryDirectory() as temporary:
        for name, build in DATASETS.items():
            if only not in (None, name):
                continue
            path, other = Path(temporary, f"{name}.lg"), Path(temporary, f"other-{name}.lg")
            before = build(path)
            build(other, seed=1)
            whole = pristine(path)
            files, kinds = cases(path, other, before, flips, cuts, seed)
            for kind, changes in kinds.items():
                row = table.setdefault(kind, Counter())
                step = 1 if kind.startswith(("byte", "file cut", "file len", "manifest")) else every
                for change in itertools.islice(changes, 0, None, step):
                    counts, sentences = survey(path, files, change, whole)
                    row.update({"damages": 1, "found_and_named": int(not any("verify" in s for s in sentences))})
                    row.update(counts)
                    wrong += [f"{name}, {kind}: {sentence}" for sentence in sentences]
            if contents(path) != files:
                wrong.append(f"{name}: the files were changed by what read them")
    return {kind: told(row) for kind, row in table.items()}, wrong


COLUMNS = {
    "damages": "damages",
    "found_and_named": "named_by_verify",
    "exact": "read_exactly",
    "refused": "refused",
    "other data": "read_wrongly",
    "signal": "process_died",
    "hung": "process_hung",
    "raised": "other_error",
}


def told(row):
    return {column: row[name] for name, column in COLUMNS.items()}


# ---- crafted page trees ----


def by_liblmdb(shard):
    import lmdb

    with lmdb.open(str(shard), subdir=False, readonly=True, lock=False) as environment, environment.begin() as reading:
        for number in range(trees.GRAPHS):
            reading.get(number.to_bytes(4, "big"))
        return len(list(reading.cursor()))


def crafted():
    """What becomes of each crafted tree: in liblmdb, in verify, and in the reader."""
    table, wrong = {}, []
    with tempfile.TemporaryDirectory() as temporary:
        original = Path(temporary, "original.lg")
        trees.make(original)
        graphs = [digest(graph) for graph in lg.LazyGraphDataset(original)]
        for name, (change, _) in trees.ATTACKS.items():
            copy = Path(shutil.copytree(original, Path(temporary, "copy.lg")))
            shard = trees.forge(copy, change)
            ended, answer = apart(by_liblmdb, shard, seconds=10)
            if ended == "returned":
                lmdb = "reads all" if answer == trees.GRAPHS else f"reads {answer:,} of {trees.GRAPHS:,} records"
            elif ended == "signal":
                lmdb = f"dies by {answer}"
            else:
                lmdb = "hangs" if ended == "hung" else "raises an error"
            ended, problems = apart(found, copy, seconds=SECONDS)
            named = ended == "returned" and bool(problems) and problems[0].startswith(f"{shard}: ")
            ended, answer = apart(_sums, copy, graphs, seconds=SECONDS)
            read = answer if ended == "returned" else f"{ended}: {answer}"
            table[name] = {"liblmdb": lmdb, "verify": "named" if named else "NOT NAMED", "lazygraph": read}
            if not named or read not in ("exact", "refused"):
                wrong.append(f"{name}: verify {problems}, reading {read}")
            shutil.rmtree(copy)
    return table, wrong


def _sums(path, expected):
    ds = lg.LazyGraphDataset(path)
    exact = 0
    for row, digested in enumerate(expected):
        try:
            same = digest(ds[row]) == digested
        except lg.CorruptDataset:
            continue
        if not same:
            return "other data"
        exact += 1
    return "exact" if exact == len(expected) else "refused"


def main():
    options = parser(__doc__, repeats=1)
    options.add_argument("--flips", type=int, default=2000, help="bytes flipped in each dataset")
    options.add_argument("--cuts", type=int, default=200, help="files cut in each dataset")
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()
    lg.loader  # noqa: B018 - what the children need is loaded once
    table, wrong = soak(options.flips, options.cuts, options.seed)
    trees_table, stray = crafted()
    publish(__doc__, options, {"Damaged files": table, "Crafted page trees": trees_table}, wrong=len(wrong + stray))
    for sentence in wrong + stray:
        print(sentence)
    return int(bool(wrong + stray))


if __name__ == "__main__":
    sys.exit(main())
