"""What readers of one moment see of a dataset that others replace at that moment."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.errors import CorruptDataset, DatasetNotFound, DatasetReplaced
from lazygraph.format import store as store_module
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.format.store import Store

# Puts one of two manifests in the place of the other, as fast as it can, until its input ends.
SWAP = """
import os, select, sys
folder = sys.argv[1]
os.chdir(folder)
print("ready", flush=True)
turn = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    for turn in range(100):
        os.link(f"{turn % 2}.json", "new")
        os.replace("new", "manifest.json")
"""


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "x.lg"
    lg.write("prototypes:12?seed=1", path, workers=1, shard_size=4, progress=False)
    return path


@pytest.mark.slow
def test_a_manifest_that_is_replaced_by_a_longer_one_while_it_is_opened(dataset):
    """It was measured under its name, then opened: of a longer one that had come meanwhile only a part was read."""
    short = (dataset / MANIFEST).read_bytes()
    lg.write([("a", lg.Crystal(np.eye(3) * 4, [[0, 0, 0]], [11]), {})], dataset, workers=1, overwrite=True)
    long = (dataset / MANIFEST).read_bytes()
    assert len(long) != len(short)
    (dataset / "0.json").write_bytes(short)
    (dataset / "1.json").write_bytes(long)
    process = subprocess.Popen(
        [sys.executable, "-c", SWAP, dataset], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    try:
        seen = {Manifest.load(dataset).graphs for _ in range(3000)}
    finally:
        process.communicate("stop")
    assert process.returncode == 0
    assert seen == {1, 12}


def test_a_dataset_that_is_back_when_the_reader_looks_why_a_file_is_gone(dataset, monkeypatch):
    """Renamed away and back, or overwritten twice: it was said that a part of it had been deleted."""
    away, real = dataset.with_name("away"), Manifest.load

    def load(directory):
        if away.exists():
            away.rename(dataset)
        return real(directory)

    store = Store(dataset)
    dataset.rename(away)
    monkeypatch.setattr(store_module.Manifest, "load", load)
    with pytest.raises(DatasetReplaced, match="open it again"):
        store.raw(0)
    assert Store(dataset).raw(0)


@pytest.mark.parametrize("change", ["replaced", "moved"])
def test_a_dataset_that_goes_when_the_reader_looks_why_a_file_is_gone(dataset, monkeypatch, change, tmp_path):
    """The manifest is that of before when it is read; the file is not there a moment later, for all has changed."""
    other = tmp_path / "other.lg"
    lg.write("prototypes:6?seed=2", other, workers=1, progress=False)
    store, real = Store(dataset), Manifest.load
    dataset.rename(tmp_path / "away")

    def load(directory):
        if directory != dataset:
            return real(directory)
        (tmp_path / "away").rename(dataset)
        manifest = real(directory)
        dataset.rename(tmp_path / "away")
        if change == "replaced":
            other.rename(dataset)
        return manifest

    monkeypatch.setattr(store_module.Manifest, "load", load)
    with pytest.raises(DatasetReplaced, match="open it again"):
        store.raw(0)


def test_a_file_that_somebody_deleted_is_still_told_from_a_replaced_dataset(dataset):
    store = Store(dataset)
    (dataset / store.manifest.shards[1].file.name).unlink()
    assert store.raw(0)
    with pytest.raises(CorruptDataset, match="part of the dataset was deleted"):
        store.raw(5)


def test_a_dataset_that_is_moved_while_it_is_open_is_read_on_where_files_are_open(dataset):
    store, expected = Store(dataset), [Store(dataset).raw(row) for row in range(12)]
    assert [store.raw(row) for row in range(8)] == expected[:8]  # of three files two are open now
    dataset.rename(dataset.with_name("moved.lg"))
    assert [store.raw(row) for row in range(8)] == expected[:8]
    with pytest.raises(DatasetReplaced, match="was replaced, moved or deleted while it was open"):
        store.raw(9)
    with pytest.raises(DatasetReplaced, match="was replaced, moved or deleted while it was open"):
        store.read_batch(np.array([1, 9]))
    with pytest.raises(DatasetNotFound):
        Store(dataset)
    assert [Store(dataset.with_name("moved.lg")).raw(row) for row in range(12)] == expected


def test_a_dataset_that_is_deleted_while_it_is_open(dataset):
    store = Store(dataset)
    expected = [store.raw(row) for row in range(12)]
    shutil.rmtree(dataset)
    assert [store.raw(row) for row in range(12)] == expected
    store.close()
    with pytest.raises(DatasetReplaced):
        store.raw(0)


def test_no_descriptor_is_lost_where_files_are_gone(dataset):
    store = Store(dataset)
    store.raw(0)
    dataset.rename(dataset.with_name("moved.lg"))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        with contextlib.suppress(DatasetReplaced):
            store.raw(9)
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before
