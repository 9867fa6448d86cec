"""A shard of one plan never enters the dataset of another: not by a worker that was suspended, nor by what it left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

import lazygraph as lg
from lazygraph.storage.files import temporary_beside, write_atomic
from lazygraph.writing.layout import Layout
from lazygraph.writing.plan import Plan, versions
from lazygraph.writing.rows import ShardRows
from lazygraph.writing.worker import make_shard
from lazygraph.writing.write import finish, plan

SOURCE = "prototypes:40?seed=3"
FEW, MANY = lg.graph("comformer", max_neighbors=6), lg.graph("comformer", max_neighbors=25)
WORK = """
import sys
from pathlib import Path
from lazygraph.writing.worker import make_shard
make_shard(Path(sys.argv[1]), 0)
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory, write, bytes_of):
    path = tmp_path_factory.mktemp("expected") / "x.lg"
    write(SOURCE, path, graph=MANY, shard_size=10)
    return bytes_of(path)


@pytest.fixture
def mixed(tmp_path):
    """A plan of which the first shard was put there by a worker of another plan, between two steps of ours."""
    path = tmp_path / "x.lg"
    layout = Layout.of(path)
    plan(SOURCE, path, graph=FEW, shard_size=10)
    make_shard(path, 0)
    shutil.move(layout.partial, tmp_path / "before")
    plan(SOURCE, path, graph=MANY, shard_size=10)
    for task in range(4):
        make_shard(path, task)
    before = Layout(tmp_path / "before" / "x")
    shard = next((tmp_path / "before" / "dataset" / "shards").iterdir())
    shutil.copy(shard, layout.dataset / "shards" / shard.name)
    shutil.copy(tmp_path / "before" / "done" / before.done(0).name, layout.done(0))
    return path


@pytest.mark.slow
def test_a_worker_that_was_suspended_leaves_the_next_plan_as_it_is(tmp_path, environment, bytes_of):
    path = tmp_path / "x.lg"
    layout = Layout.of(path)
    plan("prototypes:4000?seed=3", path, graph=FEW, shard_size=4000)
    worker = subprocess.Popen([sys.executable, "-c", WORK, path], stderr=subprocess.PIPE, text=True, env=environment)
    crumbs = layout.partial / "at"
    while not (crumbs.is_dir() and any(crumbs.iterdir())):
        assert worker.poll() is None
        time.sleep(0.001)
    worker.send_signal(signal.SIGSTOP)
    assert not layout.done(0).exists()
    shutil.rmtree(layout.partial)  # as the messages advise who wants to begin again
    plan(SOURCE, path, graph=MANY, shard_size=10)
    make_shard(path, 1)
    before = bytes_of(layout.partial)
    worker.send_signal(signal.SIGCONT)
    _, said = worker.communicate(timeout=120)
    assert worker.returncode == 1
    assert "now holds the plan" in said
    assert "max_neighbors=6" in said
    assert "max_neighbors=25" in said
    assert bytes_of(layout.partial) == before


@pytest.mark.parametrize("moment", ["before it writes", "before it publishes"])
def test_a_worker_looks_at_the_plan_before_it_writes_and_before_it_publishes(moment, tmp_path, monkeypatch):
    from lazygraph.writing import worker

    path = tmp_path / "x.lg"
    layout = Layout.of(path)
    ours = plan(SOURCE, path, graph=FEW, shard_size=10)
    original = worker.write_shard if moment == "before it publishes" else worker.RowBuffer.add

    def another_plan(*arguments, **options):
        replace(ours, recipe=MANY.to_json()).save(layout)
        return original(*arguments, **options)

    if moment == "before it publishes":
        monkeypatch.setattr(worker, "write_shard", another_plan)
    else:
        monkeypatch.setattr(worker.RowBuffer, "add", another_plan)
    with pytest.raises(lg.InputError, match="now holds the plan"):
        make_shard(path, 0)
    assert not layout.done(0).exists()
    assert moment == "before it publishes" or not (layout.dataset / "shards").exists()
    layout.plan.unlink()
    with pytest.raises(lg.InputError, match="there is no plan"):
        make_shard(path, 0)


def test_a_merge_refuses_the_shard_of_another_plan_and_names_both(mixed, bytes_of, expected):
    layout = Layout.of(mixed)
    before = bytes_of(layout.partial)
    with pytest.raises(lg.OutputExists) as caught:
        finish(mixed)
    for part in ("shard 0 in", Plan.load(layout).title, "max_neighbors=6", "max_neighbors=25", "--task 0"):
        assert part in str(caught.value)
    assert not mixed.exists()
    assert bytes_of(layout.partial).keys() - {"lock"} == before.keys() - {"lock"}
    make_shard(mixed, 0)
    finish(mixed)
    assert bytes_of(mixed) == expected
    assert not layout.partial.exists()


def test_the_same_command_makes_the_shard_of_another_plan_again(mixed, write, bytes_of, expected):
    write(SOURCE, mixed, graph=MANY, shard_size=10)
    assert bytes_of(mixed) == expected
    assert not Layout.of(mixed).partial.exists()


def test_an_input_that_killed_the_worker_of_another_plan_is_not_left_out(tmp_path, write):
    """What is condemned is a number of an input within a shard: in another plan that is another input."""
    path = tmp_path / "x.lg"
    old = plan(SOURCE, path, graph=FEW, shard_size=10)
    verdict = Layout.of(path).at(0, old.digest).with_suffix(".json")
    verdict.parent.mkdir()
    condemned = json.dumps({"3": "SIGKILL"}).encode()
    write_atomic(verdict, condemned)
    assert make_shard(path, 0).quarantined == 1
    shutil.rmtree(Layout.of(path).partial)
    plan(SOURCE, path, graph=MANY, shard_size=10)
    verdict.parent.mkdir()
    write_atomic(verdict, condemned)  # by a worker that outlived its plan
    assert make_shard(path, 0).quarantined == 0
    for task in range(1, 4):
        make_shard(path, task)
    assert finish(path).written == 40
    assert not Layout.of(path).partial.exists()


def test_a_process_of_other_versions_makes_no_shard_and_merges_none(tmp_path, bytes_of):
    path = tmp_path / "x.lg"
    layout = Layout.of(path)
    ours = plan(SOURCE, path, graph=MANY, shard_size=10)
    make_shard(path, 0)
    assert ShardRows.load(layout.done(0)).maker.versions == versions()
    older = replace(ours, versions=versions() | {"numpy": "1.0", "gemmi": "0.1"})
    older.save(layout)
    before = bytes_of(layout.partial)
    there = f"gemmi 0.1 there, {versions()['gemmi']} here; numpy 1.0 there, {versions()['numpy']} here"
    with pytest.raises(lg.InputError, match=there):
        make_shard(path, 1)
    assert bytes_of(layout.partial) == before
    with pytest.raises(lg.OutputExists, match=f"numpy {versions()['numpy']}.*numpy 1.0"):
        finish(path)


def test_a_plan_is_the_same_wherever_its_input_lies_and_another_for_whatever_decides_bytes(tmp_path):
    ours = plan(SOURCE, tmp_path / "x.lg", graph=MANY, shard_size=10)
    assert Plan.load(Layout.of(tmp_path / "x.lg")).digest == ours.digest
    assert plan(SOURCE, tmp_path / "y.lg", graph=MANY, shard_size=10).digest == ours.digest
    others = [
        plan(SOURCE, tmp_path / "a.lg", graph=FEW, shard_size=10),
        plan("prototypes:40?seed=4", tmp_path / "b.lg", graph=MANY, shard_size=10),
        plan(SOURCE, tmp_path / "c.lg", graph=MANY, shard_size=20),
        plan(SOURCE, tmp_path / "d.lg", graph=MANY, shard_size=10, level=3),
        plan(SOURCE, tmp_path / "e.lg", graph=MANY, shard_size=10, labels=["density"]),
        replace(ours, dictionary=None) if ours.dictionary else replace(ours, level=2),
        replace(ours, versions={}),
    ]
    assert len({ours.digest, *(other.digest for other in others)}) == len(others) + 1


def test_temporary_names_are_nobody_elses(tmp_path):
    path = tmp_path / "manifest.json"
    names = {temporary_beside(path).name for _ in range(1000)}
    assert len(names) == 1000
    write_atomic(path, b"a")
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]
    child = os.fork()  # which has the random state of its parent
    if child == 0:
        write_atomic(tmp_path / "name", temporary_beside(path).name.encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "name").read_text() not in names | {temporary_beside(path).name}
