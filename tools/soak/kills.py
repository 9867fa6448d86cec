"""Does a writer that is killed at any moment leave work that a restart finishes with the same bytes?

    python -m tools.soak.kills --kills 200 --json kills.json

SIGKILL of the writer alone, of its process group, or of one worker, at random moments of a write with two workers; and
of ``append``, ``overwrite``, ``merge``, ``labels``, ``split`` and ``gc``, a tenth as often each. After every kill the
same work is started again; when it ends, the dataset must have the bytes of an undisturbed run.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from lazygraph.format.manifest import Manifest
from lazygraph.storage.files import sha256_of
from lazygraph.writing.edit import gc
from lazygraph.writing.layout import Layout
from tools.bench.common import parser, publish

WORK = """
import sys
import lazygraph as lg
import lazygraph.writing.write
from lazygraph.writing import edit
from lazygraph.writing.worker import make_shard
change, path = sys.argv[1:]
write = dict(workers=2, shard_size=32, progress=False)
print("ready", flush=True)
if change == "write":
    lg.write("prototypes:700?seed=0", path, **write)
elif change in ("append", "overwrite"):
    cells = [[[4 + n / 100, 0, 0], [0, 4, 0], [0, 0, 4]] for n in range(200)]
    crystals = [(f"id-{n}", lg.Crystal(cell, [[0, 0, 0]], [11])) for n, cell in enumerate(cells)]
    if change == "append":
        lg.append(path, crystals, workers=2, progress=False)
    else:
        lg.write(crystals, path, overwrite=True, **write)
elif change == "merge":
    lazygraph.writing.write.finish(path)
elif change == "labels":
    edit.set_labels(path, {f"prototype-{n:07d}": {"gap": n} for n in range(100)})
elif change == "split":
    edit.set_splits(path, (0.5, 0.25, 0.25))
else:
    edit.gc(path)
"""
CHANGES = ("write", "append", "overwrite", "merge", "labels", "split", "gc")


def start(change, path):
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, change, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    process.stdout.readline()
    return process


def workers_of(process):
    with contextlib.suppress(psutil.Error):
        found = [(child, " ".join(child.cmdline())) for child in psutil.Process(process.pid).children(recursive=True)]
        return [child for child, line in found if "loky" in line and "tracker" not in line]
    return []


def hit(process, victim, chance):
    """Kill; whether there was anything to kill."""
    if process.poll() is not None:
        return False
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        if victim == "writer":
            process.kill()
        elif victim == "process group":
            os.killpg(process.pid, signal.SIGKILL)
        elif workers := workers_of(process):
            chance.choice(workers).kill()
            return True
        else:
            return False
    process.communicate()
    return True


def read(path):
    return {p.relative_to(path).as_posix(): sha256_of(p) for p in sorted(path.rglob("*")) if p.is_file()}


def prepare(change, path, base, planned):
    shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(Layout.of(path).partial, ignore_errors=True)
    if change == "merge":
        shutil.copytree(planned, Layout.of(path).partial)
    elif change != "write":
        shutil.copytree(base, path)


def moment(path):
    if not Layout.of(path).plan.exists():
        return "in_other_steps"
    return "while_writing_shards" if not (Layout.of(path).dataset / "columns").exists() else "while_merging"


def run(change, victims, kills, folder, base, planned, chance):
    """Victim -> moment -> kills; every piece of work that was killed is finished and compared."""
    path = folder / "x.lg"
    prepare(change, path, base, planned)
    begin = time.monotonic()
    process = start(change, path)
    _, said = process.communicate()
    assert process.returncode == 0, said
    takes = time.monotonic() - begin
    gc(path)
    expected, table, done = read(path), {v: {} for v in victims}, 0
    while done < kills:
        prepare(change, path, base, planned)
        old = None if change in ("write", "merge") else Manifest.load(path)
        for _ in range(1000):
            process, victim = start(change, path), chance.choice(victims)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0, takes if change == "write" else takes / 2))
            when = moment(path)
            if done < kills and hit(process, victim, chance):
                done += 1
                table[victim][when] = table[victim].get(when, 0) + 1
                if victim == "worker":
                    _, said = process.communicate()
                    assert process.returncode == 0, said
                    break
            else:
                _, said = process.communicate()
                # An append or a merge that was decided when it was killed.
                finished = "is taken by a graph" in said or ("there is no plan" in said and path.exists())
                assert process.returncode == 0 or finished, said
                break
            if path.exists():
                Manifest.load(path)
            else:
                assert old is None, f"{change}: the old dataset is gone"
        gc(path)
        assert read(path) == expected, f"{change}: other bytes after {done} kills"
    return table


def main():
    options_parser = parser(__doc__, repeats=1)
    options_parser.add_argument("--kills", type=int, default=200, help="of a write; a tenth of each other change")
    options = options_parser.parse_args()
    chance, tables = random.Random(0), {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base, planned = folder / "base.lg", folder / "planned"
        start("write", base).communicate()
        import lazygraph.writing.write
        from lazygraph.writing.worker import make_shard

        made = lazygraph.writing.write.plan("prototypes:64?seed=0", folder / "x.lg", shard_size=32)
        for task in range(len(made.tasks)):
            make_shard(folder / "x.lg", task)
        shutil.move(Layout.of(folder / "x.lg").partial, planned)
        for change in CHANGES:
            workers = change in ("write", "append", "overwrite")
            victims = ("writer", "process group", "worker") if workers else ("writer",)
            kills = options.kills if change == "write" else -(-options.kills // 10)
            found = run(change, victims, kills, folder, base, planned, chance)
            for victim, moments in found.items():
                tables[f"{change}, {victim}"] = {"kills": sum(moments.values())} | dict(sorted(moments.items()))
    publish(__doc__, options, {"Kills survived": tables})


if __name__ == "__main__":
    main()
