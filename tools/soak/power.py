"""Which state does a power failure leave behind, after each step of a change of a dataset?

    python -m tools.soak.power --states 20 --json power.json

The calls that a write, an append, an overwrite, new labels and new splits make are recorded (files written, fsyncs of
files and directories, renames, removals), then played to a model of a file system that loses power after any of them:
what was not fsynced is kept, lost, cut off or zero-filled; names that no fsync of their directory covers are there or
not, each by chance. Each state is laid out in a real folder, and the same command is run there. The dataset must be
whole before (the old or the new one, or none) and, byte for byte, the new one after.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import lazygraph as lg
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.storage.files import sha256_of
from lazygraph.writing.edit import gc, set_labels, set_splits
from tools.bench.common import parser, publish


@dataclass
class Recorder:
    """The calls of a change, as (kind, ...); contents are those at the time of the fsync, or at the end."""

    root: Path
    calls: list = field(default_factory=list)
    on: bool = False
    pins: dict = field(default_factory=dict)  # a file that is held open keeps its inode for itself

    def install(self):
        fsync = os.fsync

        def recorded(descriptor):
            if self.on:
                path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
                self.note("sync_folder" if path.is_dir() else "sync", path)
            return fsync(descriptor)

        os.fsync = recorded
        sys.addaudithook(self.hook)
        return lambda: setattr(os, "fsync", fsync)

    def hook(self, event, arguments):
        if not self.on:
            return
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.note("open", Path(arguments[0]))
        elif event == "os.rename":
            self.note("rename", Path(arguments[0]), Path(arguments[1]))
        elif event in {"os.remove", "os.rmdir", "os.mkdir"}:
            path = Path(arguments[0])
            if not path.is_absolute():
                path = Path(os.readlink(f"/proc/self/fd/{arguments[-1]}")) / path  # of rmtree, relative to a descriptor
            self.note(event[3:], path)

    def note(self, kind, *paths):
        """Before every call: what the files on the way hold now, which is what the calls before it wrote."""
        if any(self.root not in path.parents and path != self.root for path in paths):
            return
        self.on = False
        found = snapshot(self.root)
        for path, inode in found[1].items():
            if inode is not None and inode not in self.pins:
                self.pins[inode] = os.open(self.root / path, os.O_RDONLY)
        self.on = True
        self.calls.append((kind, tuple(p.relative_to(self.root).as_posix() for p in paths), found))


def snapshot(root):
    """Inode -> bytes, and path -> inode (None for a folder)."""
    contents, names = {}, {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder) / name
            state = path.lstat()
            inode = None if path.is_dir() else state.st_ino
            names[path.relative_to(root).as_posix()] = inode
            if inode is not None:
                contents[inode] = path.read_bytes()
    return contents, names


def record(work, root):
    """The calls of ``work()``, which changes files below ``root``."""
    recorder = Recorder(root)
    undo = recorder.install()
    recorder.on = True
    try:
        work()
        recorder.note("end", root)
    finally:
        recorder.on = False
        undo()
        for descriptor in recorder.pins.values():
            os.close(descriptor)
    return recorder.calls


def crashes(calls, chance: random.Random, states: int) -> Iterator[tuple[int, dict]]:
    """(number of calls made, path -> bytes or None) for several states that a failure may leave after each prefix.

    ``safe`` is what must be there: contents as of their fsync, by a copy of the tree as of the fsync of each folder.
    The names of a folder are lost or kept one by one; a name that is kept leads to what it led to at some moment since.
    """
    _, (contents, names) = calls[0][0], calls[0][2]
    safe_names, safe_contents = dict(names), dict(contents)
    memory: dict[int, bytes] = {}
    moved: set[str] = set()
    renames: list[tuple[str, str, int]] = []
    history: dict[str, list] = {}  # path -> values that its name had since the last fsync of its folder
    for number, (kind, paths, (contents, names)) in enumerate(calls):
        # The state found is what is in memory before this call.
        for path in {*names, *safe_names, *history}:
            if any(path.startswith(folder + "/") for folder in moved):
                continue  # these go where their folder goes
            values = history.setdefault(path, [safe_names.get(path, ABSENT)])
            if (now := names.get(path, ABSENT)) != values[-1]:
                values.append(now)
        memory |= contents
        for turn in range(states):
            yield number, disk(history, safe_contents, memory, chance, turn, renames)
        if kind == "sync":
            inode = names[paths[0]]
            safe_contents[inode] = contents[inode]
        elif kind == "rename":
            old, new = paths
            if names[old] is not None:
                renames.append((old, new, names[old]))
            else:
                moved.add(old)
                for path in list(history):
                    if path.startswith(old + "/"):
                        history[new + path.removeprefix(old)] = list(history[path])
                        if path in safe_names:
                            safe_names[new + path.removeprefix(old)] = safe_names[path]
        elif kind == "sync_folder":
            folder = "" if paths[0] == "." else paths[0]
            for path in list(history):
                if os.path.dirname(path) == folder:
                    value = names.get(path, ABSENT)
                    history[path] = [value]
                    safe_names[path] = value
                    if value == ABSENT:
                        del safe_names[path], history[path]


ABSENT = "absent"


def disk(history, safe, memory, chance, turn, renames):
    """One state: turn 0 loses all that may be lost, turn 1 keeps names and loses contents, the others go by chance."""
    tree = {}
    taken = {
        path: values[0] if turn == 0 else values[-1] if turn == 1 else chance.choice(values)
        for path, values in sorted(history.items())
    }
    for old, new, inode in renames:  # a rename is atomic: the file is not lost under both names
        if inode not in taken.values() and {ABSENT, inode} & {*history.get(old, ()), *history.get(new, ())}:
            place = chance.choice((old, new))
            place = place if inode in history.get(place, ()) else new if place == old else old
            if inode in history.get(place, ()):
                taken[place] = inode
    for path, value in taken.items():
        parent = os.path.dirname(path)
        if value == ABSENT or (parent and parent not in tree):
            continue
        if value is None:
            tree[path] = None
            continue
        sure, now = safe.get(value), memory.get(value, b"")
        if sure == now:
            tree[path] = now
            continue
        how = chance.choice(("kept", "empty", "cut", "zeros", "old")) if turn > 1 else "zeros" if turn else "empty"
        tree[path] = {
            "kept": now, "empty": b"", "cut": now[: len(now) // 2], "zeros": bytes(len(now)), "old": sure or b"",
        }[how]  # fmt: skip
    return tree


def lay_out(tree, root):
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for path, content in tree.items():
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)


def whole(path):
    """The manifest's bytes, after every file that it names was compared with it; None where there is no dataset."""
    if not (path / MANIFEST).exists():
        return None
    manifest = Manifest.load(path)
    for file in manifest.files():
        file.check(path)
    return (path / MANIFEST).read_bytes()


SIZE = 5


def crystal(n):
    return lg.Crystal([[4 + 0.01 * n, 0, 0], [0, 4, 0], [0, 0, 4]], [[0, 0, 0], [0.5, 0.4, 0.3]], [11, 17])


def items(begin, end):
    return [(f"id-{n}", crystal(n), {"energy": n}) for n in range(begin, end)]


def write(path, begin, end, **options):
    lg.write(items(begin, end), path, workers=1, progress=False, shard_size=2, **options)


def add(path):
    try:
        lg.append(path, items(SIZE, SIZE + 3), workers=1, progress=False, shard_size=2)
    except lg.InputError as error:  # finished before the failure
        if "is taken by a graph that the dataset holds" not in str(error):
            raise


CHANGES: dict[str, tuple[bool, Callable[[Path], object]]] = {
    "write": (False, lambda path: write(path, 0, SIZE)),
    "append": (True, add),
    "overwrite": (True, lambda path: write(path, 20, 20 + SIZE, overwrite=True)),
    "labels": (True, lambda path: set_labels(path, {"id-0": {"gap": 2.0}})),
    "split": (True, lambda path: set_splits(path, (0.4, 0.4, 0.2))),
}


def read(path):
    return {p.relative_to(path).as_posix(): sha256_of(p) for p in sorted(path.rglob("*")) if p.is_file()}


def check(name, folder, states, seed=0, every=1):
    """(calls, states tried, states in which the old, the new or no dataset was there).

    Raises:
        AssertionError: a state is neither whole nor led to the new dataset by the same command.
    """
    exists, work = CHANGES[name]
    root, path = folder / "disk", folder / "disk" / "x.lg"
    root.mkdir(parents=True)
    if exists:
        write(path, 0, SIZE)
    old = whole(path)
    before = folder / "before"
    shutil.copytree(root, before)
    calls = record(lambda: work(path), root)
    new = whole(path)
    gc(path)
    after = read(path)
    chance, tried, found, seen = random.Random(seed), 0, {"old": 0, "new": 0, "none": 0}, set()
    for number, tree in crashes(calls, chance, states):
        key = hash(frozenset(tree.items()))
        if key in seen or number % every:
            continue
        seen.add(key)
        lay_out(tree, root)
        place = f"{name}, failure before call {number} {calls[number][:2]}"
        try:
            state = whole(path)
            assert state in (old, new), f"{place}: neither the old dataset nor the new one"
            work(path)
            gc(path)
            assert read(path) == after, f"{place}: the same command led to other bytes"
            left = sorted(p.name for p in root.iterdir())
            assert left == ["x.lg"], f"{place}: left behind {left}"
        except (OSError, lg.errors.LazyGraphError) as error:
            raise AssertionError(f"{place}: {type(error).__name__}: {error}; the state was {sorted(tree)}") from error
        tried += 1
        found["none" if state is None else "old" if state == old else "new"] += 1
    return len(calls), tried, found


def main():
    options_parser = parser(__doc__, repeats=1)
    options_parser.add_argument("--states", type=int, default=20, help="states tried after each call")
    options = options_parser.parse_args()
    table = {}
    for name in CHANGES:
        with tempfile.TemporaryDirectory() as temporary:
            tried, count, found = 0, 0, {"old": 0, "new": 0, "none": 0}
            for seed in range(options.repeats):
                calls, count, seen = check(name, Path(temporary).resolve() / str(seed), options.states, seed)
                tried += count
                found = {key: found[key] + seen[key] for key in found}
        table[name] = {"calls": calls, "states": tried} | {f"{key}_dataset": value for key, value in found.items()}
    publish(__doc__, options, {"Power failures": table})


if __name__ == "__main__":
    main()
