"""Reading ahead: which shards, read once, and never a reason for an epoch to fail."""

from pathlib import Path

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.loading.read_ahead import NextShard, ReadAhead
from lazygraph.loading.settings import Facts, WantedSettings, choose


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    out = tmp_path_factory.mktemp("ahead") / "p.lg"
    lg.write("prototypes:100?seed=3", out, workers=1, shard_size=20, progress=False)
    return out


@pytest.fixture
def opened(monkeypatch):
    """The names of the files that were read from beginning to end."""
    names, real = [], ReadAhead._bring

    def spy(ahead, file):
        real(ahead, file)
        names.append(Path(file.name).name)

    monkeypatch.setattr(ReadAhead, "_bring", spy)
    return names


def names_of(ds, shards):
    return [Path(ds.manifest.shards[k].file.name).name for k in shards]


def test_shards_of_which_enough_is_wanted_are_read(path):
    ds = lg.LazyGraphDataset(path)
    sizes = [shard.file.size for shard in ds.manifest.shards]
    assert ds.shards_to_read() == ([0, 1, 2, 3, 4], sum(sizes))
    assert ds[20:60].shards_to_read() == ([1, 2], sum(sizes[1:3]))
    few = ds[np.array([0, 41, 42, 43, 99])]  # of 20 graphs a shard, one is less than an eighth and three are more
    assert few.shards_to_read() == ([2], sizes[2])
    assert ds[:0].shards_to_read() == ([], 0)


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 0}, {"num_workers": 1}])
def test_the_shards_of_a_subset_are_read_once(path, opened, options):
    ds = lg.LazyGraphDataset(path)
    loader = lg.loader(ds[20:60], 8, shuffle=True, **options)
    assert loader.settings.read_ahead
    for _ in range(3):
        graphs = 0
        for batch in loader:
            graphs += batch.num_graphs
            loader._ahead.join()  # an epoch that ends earlier stops the reading
        assert graphs == 40
    assert opened == names_of(ds, [1, 2])
    loader.close()


def test_an_epoch_that_is_left_ends_the_reading_and_the_next_one_begins_again(path, monkeypatch):
    ds = lg.LazyGraphDataset(path)
    begun = []

    class Stopped(ReadAhead):
        def __init__(self, store, shards):
            begun.append([one.shard for one in shards])
            super().__init__(store, [])
            self.join()
            self._complete = [True] * (len(begun) > 1)

    monkeypatch.setattr("lazygraph.loading.dataset.ReadAhead", Stopped)
    loader = lg.loader(ds, 8, threads=0)
    next(iter(loader))
    for _ in range(3):
        assert sum(batch.num_graphs for batch in loader) == 100
    assert begun == [[0, 1, 2, 3, 4]] * 2


def test_a_shard_that_cannot_be_opened_is_left_to_its_reader(path, tmp_path, opened):
    ds = lg.LazyGraphDataset(path)
    loader = lg.loader(ds, 8, threads=0, read_ahead=False)
    (path / ds.manifest.shards[2].file.name).rename(tmp_path / "away")
    try:
        with pytest.raises(lg.CorruptDataset, match="is missing"):
            list(loader)
        opened.clear()
        ahead = ReadAhead(ds._store, [NextShard(shard, 0) for shard in range(4)])
        ahead.join()
        assert ahead.stop()
        assert opened == names_of(ds, [0, 1, 3])
    finally:
        (tmp_path / "away").rename(path / ds.manifest.shards[2].file.name)


@pytest.mark.parametrize(("size", "memory", "expected"), [(0, 100, False), (50, 100, True), (51, 100, False)])
def test_what_fits_into_half_of_the_memory_is_read_ahead(size, memory, expected):
    seen = Facts(
        4, 0.001, 1, compiled=True, transform=False, cuda=False, shared_memory=None, shard_bytes=size, memory=memory
    )
    chosen = choose(lambda: seen, WantedSettings())
    assert chosen.read_ahead == expected
    assert any("of its shards" in reason for reason in chosen.reasons) == bool(size)
    assert not choose(lambda: seen, WantedSettings(read_ahead=False)).read_ahead


def test_it_can_be_left_out(path, opened):
    list(lg.loader(lg.LazyGraphDataset(path), 8, read_ahead=False))
    assert opened == []
