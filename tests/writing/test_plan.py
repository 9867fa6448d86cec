"""The three parts of a write, for those who bring their own machines: plan, make shards anywhere, finish."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.storage.files import temporary_beside
from lazygraph.writing.edit import gc
from lazygraph.writing.layout import Layout
from lazygraph.writing.plan import Plan, Task, read_head, read_job, shard_size
from lazygraph.writing.worker import make_shard
from lazygraph.writing.write import finish, plan

SOURCE = "prototypes:90?seed=6"
SHARD = 10
WORK = """
import sys
from pathlib import Path
from lazygraph.writing.worker import make_shard
for task in sys.argv[2:]:
    made = make_shard(Path(sys.argv[1]), int(task))
    print(made.task, made.written, made.quarantined)
"""


class Stopped(Exception):
    pass


class Few(Executor):
    """Makes some shards, and stops."""

    def __init__(self, count):
        self.count = count

    def submit(self, function, /, *arguments):
        future = Future()
        self.count -= 1
        if self.count < 0:
            future.set_exception(Stopped())
        else:
            future.set_result(function(*arguments))
        return future


@pytest.fixture
def begun(tmp_path, write):
    """The path of a write that ended after 3 of 9 shards."""
    path = tmp_path / "x.lg"
    with pytest.raises(Stopped):
        write(SOURCE, path, shard_size=SHARD, executor=Few(3))
    assert sorted(p.name for p in Layout.of(path).rows.iterdir()) == [f"{n:05d}.msgpack" for n in range(3)]
    return path


@pytest.fixture(scope="module")
def expected(tmp_path_factory, write, bytes_of):
    path = tmp_path_factory.mktemp("expected") / "x.lg"
    write(SOURCE, path, shard_size=SHARD)
    return bytes_of(path)


@pytest.mark.parametrize(("entries", "size"), [(1, 512), (32768, 512), (32769, 1024), (10**6, 16384), (10**9, 65536)])
def test_the_size_of_a_shard(entries, size):
    assert shard_size(entries) == size


@pytest.mark.slow
def test_shards_made_by_several_processes_at_once_in_any_order(tmp_path, bytes_of, environment, expected):
    path = tmp_path / "x.lg"
    made = plan(SOURCE, path, shard_size=SHARD)
    assert [task.pieces[0].position for task in made.tasks] == list(range(0, 90, 10))
    tasks = [str(n) for n in range(len(made.tasks))]
    random.Random(2).shuffle(tasks)
    groups = [tasks[:4], tasks[4:7], [*tasks[7:], *tasks[:2]]]  # two shards are made twice
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, path, *group], stdout=subprocess.PIPE, text=True, env=environment, cwd="/"
        )
        for group in groups
    ]
    for process, group in zip(running, groups, strict=True):
        output, _ = process.communicate()
        assert process.returncode == 0
        assert output.splitlines() == [f"{task} 10 0" for task in group]
    report = finish(path)
    assert (report.written, report.quarantined) == (90, 0)
    assert bytes_of(path) == expected
    assert [p.name for p in tmp_path.iterdir()] == ["x.lg"]


def test_missing_shards_are_named(tmp_path, bytes_of, expected):
    path = tmp_path / "x.lg"
    plan(SOURCE, path, shard_size=SHARD)
    for task in (0, 3, 4, 8):
        make_shard(path, task)
    with pytest.raises(
        lg.InputError, match=r"5 of 9 shards are not made: 1, 2, 5, 6, 7; make each with 'lazygraph-write"
    ):
        finish(path)
    assert not path.exists()
    for task in (1, 2, 5, 6, 7):
        make_shard(path, task)
    finish(path)
    assert bytes_of(path) == expected


def test_a_plan_that_is_made_again_keeps_the_shards(begun, bytes_of, expected, write):
    before = {p.name: p.stat().st_mtime_ns for p in Layout.of(begun).rows.iterdir()}
    plan(SOURCE, begun, shard_size=SHARD)
    write(SOURCE, begun, shard_size=SHARD, executor=(few := Few(6)))
    assert few.count == 0
    assert bytes_of(begun) == expected
    assert len(before) == 3


@pytest.mark.parametrize(
    ("source", "options", "difference"),
    [
        ("prototypes:90?seed=7", {}, "inputs: .*seed=6.* -> .*seed=7"),
        ("prototypes:91?seed=6", {}, "entries: 90 -> 91"),
        (SOURCE, {"shard_size": 20}, r"shards: \"9 of up to 10 inputs \(\w+\)\" -> \"5 of up to 20 inputs"),
        (SOURCE, {"level": 3}, "level: 9 -> 3"),
        (SOURCE, {"graph": lg.graph("comformer", cutoff=5.0)}, "recipe cutoff: 4.0 -> 5.0"),
        (SOURCE, {"graph": lg.graph("radius", cutoff=4.0)}, 'recipe rule: "shell" -> "radius"'),
        (SOURCE, {"labels": ["density"]}, "labels: "),
        (SOURCE, {"units": {"density": "g/cm^3"}}, 'labels: .*"unit": null.* -> .*"unit": "g/cm\\^3"'),
        ([], {}, None),
        (SOURCE, {"labels": ["gap"]}, None),
    ],
)
def test_a_plan_that_is_refused_does_not_disturb_the_one_that_is_there(
    source, options, difference, begun, write, bytes_of, expected
):
    before = bytes_of(Layout.of(begun).rows), Layout.of(begun).plan.read_bytes()
    options = {"shard_size": SHARD} | options
    with pytest.raises(
        lg.OutputExists if difference else lg.InputError,
        match=difference or "the list of inputs is empty|unknown label",
    ):
        write(source, begun, **options)
    with pytest.raises(lg.OutputExists if difference else lg.InputError):
        plan(source, begun, **options)
    assert (bytes_of(Layout.of(begun).rows), Layout.of(begun).plan.read_bytes()) == before
    write(SOURCE, begun, shard_size=SHARD, executor=(few := Few(6)))
    assert few.count == 0
    assert bytes_of(begun) == expected


def test_a_refused_plan_of_python_structures_leaves_the_inputs_of_the_first(tmp_path, write, salt, bytes_of):
    """Both unpack their inputs: the second must not do so over the first."""
    path = tmp_path / "x.lg"
    items = [(f"id-{n}", salt(n)) for n in range(9)]
    with pytest.raises(Stopped):
        write(items, path, shard_size=3, executor=Few(1))
    with pytest.raises(lg.OutputExists, match="entries: 9 -> 4"):
        write(items[5:], path, shard_size=3)
    for task in (1, 2):
        make_shard(path, task)
    finish(path)
    write(items, tmp_path / "y.lg", shard_size=3)
    assert bytes_of(path) == bytes_of(tmp_path / "y.lg")


def test_other_kinds_of_work_do_not_begin_beside_an_unfinished_one(begun, write, append, salt):
    with pytest.raises(lg.OutputExists, match="holds an unfinished dataset; finish it, or delete that folder"):
        lg.GraphWriter(begun)
    with pytest.raises(lg.DatasetNotFound, match="write one first"):
        append(begun, SOURCE)
    with pytest.raises(lg.DatasetNotFound, match="is not finished; run the same lazygraph-write command again"):
        lg.LazyGraphDataset(begun)
    with pytest.raises(lg.DatasetNotFound, match="is not finished"):
        gc(begun)
    assert Layout.of(begun).plan.exists()


def test_an_input_that_moved_is_the_same_and_one_that_changed_is_not(tmp_path, write, bytes_of):
    def table(folder, count):
        atoms = {"coords": [[0, 0, 0], [0.5, 0.5, 0.5]], "elements": ["Na", "Cl"], "cartesian": False}
        rows = [{"atoms": atoms | {"lattice_mat": [[4 + n, 0, 0], [0, 4, 0], [0, 0, 4]]}} for n in range(count)]
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "set.json").write_text(json.dumps(rows))
        return tmp_path / folder / "set.json"

    path, old, new = tmp_path / "x.lg", table("old", 20), table("new", 20)
    with pytest.raises(Stopped):
        write(old, path, shard_size=5, executor=Few(1))
    shutil.rmtree(tmp_path / "old")
    with pytest.raises((lg.InputError, OSError)):
        make_shard(path, 1)
    write(new, path, shard_size=5, executor=(few := Few(3)))
    assert few.count == 0
    write(new, tmp_path / "y.lg", shard_size=5)
    assert bytes_of(path) == bytes_of(tmp_path / "y.lg")
    with pytest.raises(Stopped):
        write(new, tmp_path / "z.lg", shard_size=5, executor=Few(1))
    with pytest.raises(lg.OutputExists, match="inputs: .* -> "):
        write(table("new", 21), tmp_path / "z.lg", shard_size=5)
    # ids are made of the name of a file
    renamed = table("new", 20).rename(tmp_path / "new" / "other.json")
    with pytest.raises(lg.OutputExists, match='sources: .*"set".* -> .*"other"'):
        write(renamed, tmp_path / "z.lg", shard_size=5)


def test_an_input_that_got_shorter_since_it_was_planned_is_noticed(tmp_path, data):
    (tmp_path / "set.xyz").write_bytes((data / "extxyz" / "mptrj-random-1k.xyz").read_bytes()[:200_000])
    path = tmp_path / "x.lg"
    made = plan(tmp_path / "set.xyz", path, shard_size=5)
    os.truncate(tmp_path / "set.xyz", 100_000)
    assert make_shard(path, 0).written == 5
    with pytest.raises(lg.InputError, match="^set: .*changed since"):
        make_shard(path, len(made.tasks) - 1)


def test_a_damaged_file_of_a_finished_shard_is_noticed(begun, write, bytes_of, expected):
    layout = Layout.of(begun)
    shard = next((layout.dataset / "shards").glob("00001-*"))
    whole = shard.read_bytes()
    data = bytearray(whole)
    data[5000] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(lg.CorruptDataset, match=r"shards/00001-\w+.lmdb has the sha256"):
        write(SOURCE, begun, shard_size=SHARD)
    assert not begun.exists()
    shard.write_bytes(whole)
    done = layout.done(2)
    done.write_bytes(done.read_bytes()[:-1])  # a power failure may leave it so: it is made again
    write(SOURCE, begun, shard_size=SHARD)
    assert bytes_of(begun) == expected


def test_what_killed_workers_left_is_not_published(begun, write, bytes_of, expected):
    layout = Layout.of(begun)
    for place in (layout.dataset / "shards" / "00007.lmdb", layout.done(7), layout.dataset / "manifest.json"):
        temporary_beside(place).write_bytes(b"part of a file")
    (layout.dataset / "shards" / f"00009-{16 * '0'}.lmdb").write_bytes(b"a shard of another plan")
    write(SOURCE, begun, shard_size=SHARD)
    assert bytes_of(begun) == expected
    assert not layout.partial.exists()


def test_a_plan_reads_back_as_it_was_written(tmp_path, salt, write):
    path = tmp_path / "x.lg"
    made = plan([("a", salt(), {"e": 1, "f": [[1, 2, 3]] * 2})], path, units={"e": "eV"})
    loaded = Plan.load(Layout.of(path))
    assert loaded.to_json() == made.to_json()
    assert loaded.differences(made) == made.differences(loaded) == []
    (piece,) = loaded.tasks[0].pieces
    task = Task((replace(piece, only=(0, 2)), piece))
    again = Plan.from_json(json.loads(json.dumps(replace(loaded, tasks=(task,)).to_json())))
    assert again.tasks == (task,)
    assert len(loaded.differences(again)) == 1


def test_a_shard_is_made_from_its_own_line_of_the_plan(begun):
    layout = Layout.of(begun)
    whole = Plan.load(layout)
    lines = layout.plan.read_text().splitlines(keepends=True)
    assert read_head(layout) == (whole.digest, whole.title, len(whole.tasks))
    for number, task in enumerate(whole.tasks):
        # Other lines are not looked at.
        layout.plan.write_text("".join(line if k in (0, number + 1) else "damaged\n" for k, line in enumerate(lines)))
        job = read_job(layout, number)
        assert (job.task, job.head) == (task, read_head(layout))
        assert [source | {"files": []} for source in whole.sources] == list(job.plan.sources)
        assert replace(job.plan, sources=whole.sources, tasks=whole.tasks) == whole


def test_a_damaged_plan_is_one_error_whatever_is_damaged(begun):
    layout = Layout.of(begun)
    good, job = layout.plan.read_bytes(), read_job(layout, 3)
    rng = np.random.default_rng(0)
    cut = [good[:n] for n in (0, 1, 10, good.index(b"\n"), good.index(b"\n") + 1, len(good) - 2)]
    flipped = [bytearray(good) for _ in range(30)]
    for content in flipped:
        content[rng.integers(len(content))] ^= 1 << rng.integers(7)
    for content in [*cut, *flipped, b"[]\n", b"7\n"]:
        layout.plan.write_bytes(content)
        with pytest.raises(lg.InputError, match="is damaged; delete .* and run the command again"):
            Plan.load(layout)
        with suppress(lg.InputError):  # or it is another line
            assert read_job(layout, 3) == job


def test_differences_between_versions_are_named(begun, monkeypatch, write):
    from lazygraph.writing import plan as module

    monkeypatch.setattr(module, "versions", lambda: {"lazygraph": "0.0.1", "extra": "1"})
    with pytest.raises(lg.OutputExists, match='versions lazygraph: "[^"]+" -> "0.0.1".*versions extra: null -> "1"'):
        write(SOURCE, begun, shard_size=SHARD)


def test_a_plan_of_another_version_is_not_read(begun, monkeypatch):
    layout = Layout.of(begun)
    made = Plan.load(layout)
    monkeypatch.setattr("lazygraph.writing.plan.PLAN_VERSION", 99)
    made.save(layout)
    monkeypatch.undo()
    with pytest.raises(lg.InputError, match="of plan version 99; required: 7"):
        make_shard(begun, 5)
    with pytest.raises(lg.InputError, match="there is no plan in .*lazygraph-write plan SOURCE"):
        make_shard(begun.with_name("other.lg"), 0)
    with pytest.raises(lg.InputError, match="there is no plan in"):
        finish(begun.with_name("other.lg"))
    assert not begun.with_name("other.lg.partial").exists()


def test_a_task_that_is_none(begun):
    for task in (9, -1, 100):
        with pytest.raises(lg.InputError, match=f"the task {task}; required: 0 to 8"):
            make_shard(begun, task)


def test_a_dataset_that_changed_since_an_append_was_planned(tmp_path, write, append, salt):
    """Someone replaced it by hand: its shards are not the ones that the plan counts on."""
    path = tmp_path / "x.lg"
    write([("a", salt())], path)
    with pytest.raises(Stopped):
        append(path, [("b", salt(1)), ("c", salt(2))], shard_size=1, executor=Few(2 - 1))
    shutil.rmtree(path)
    write([("z", salt(9))], tmp_path / "y.lg")
    (tmp_path / "y.lg").rename(path)
    make_shard(path, 1)
    with pytest.raises(lg.OutputExists, match="changed since the plan to add to it was made; delete"):
        finish(path)
