"""The loader: the same batches however they are read, resumed anywhere, shared over ranks; errors say where."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import shutil
import threading

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

import lazygraph as lg
from lazygraph.errors import CorruptDataset, InputError
from lazygraph.loading.packing import OversizedGraphs
from lazygraph.loading.reader import Reader
from lazygraph.loading.settings import Facts, WantedSettings, choose

WAYS = [
    {"num_workers": 0, "threads": 0},
    {"threads": 1},
    {"num_workers": 2, "multiprocessing_context": "fork"},
    {"num_workers": 2, "multiprocessing_context": "spawn", "persistent_workers": False},
    {"num_workers": 1, "multiprocessing_context": "forkserver"},
]


@pytest.fixture
def ds(prototypes):
    return lg.LazyGraphDataset(prototypes, target="density")


def ids(loader):
    return [batch.id for batch in loader]


def same(a, b):
    assert sorted(a.keys()) == sorted(b.keys())
    for key in a.keys():  # noqa: SIM118  # a Batch is no mapping
        assert torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key], key


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_batches_are_the_same_however_they_are_read(ds, way):
    loader = lg.loader(ds, 64, shuffle=True, seed=3, **way)
    plain = lg.loader(ds, 64, shuffle=True, seed=3, num_workers=0, threads=0)
    for _ in range(2):  # workers live on
        batches = list(loader)
        assert [batch.num_graphs for batch in batches] == [64, 64, 64, 64, 44]
        for mine, theirs in zip(batches, plain, strict=True):
            same(mine, theirs)
    one = batches[1]
    same(one, Batch.from_data_list([ds[graph_id] for graph_id in one.id]))
    same(one.get_example(5), ds[one.id[5]])
    loader.close()


def test_every_graph_comes_once_an_epoch_and_every_epoch_in_another_order(ds):
    loader = lg.loader(ds, 50, shuffle=True, threads=0)
    first, second = sum(ids(loader), []), sum(ids(loader), [])
    assert sorted(first) == sorted(second) == sorted(ds.ids)
    assert first != second
    loader.set_epoch(0)
    assert sum(ids(loader), []) == first
    assert sum(ids(loader), []) == second  # and it goes on from there
    assert sum(ids(lg.loader(ds, 50)), []) == ds.ids.tolist()


def test_an_epoch_that_was_left_early_is_not_begun_again(ds):
    loader = lg.loader(ds, 50, shuffle=True, num_workers=1)
    first = next(iter(loader)).id
    whole = ids(loader)
    assert len(whole) == 6
    assert whole[0] != first
    loader.close()


@pytest.mark.slow
@pytest.mark.parametrize("way", [WAYS[0], WAYS[2]], ids=str)
@pytest.mark.parametrize(
    "options", [{"batch_size": 50}, {"max_atoms": 900}, {"max_edges": 9000, "bucket": "edges"}], ids=str
)
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_state_of_every_step_goes_on_with_the_next_batch_also_in_another_way(ds, way, options, world_size):
    for rank in range(world_size):
        options = {**options, "shuffle": True, "seed": 4, "rank": rank, "world_size": world_size}
        whole = lg.loader(ds, **options, threads=0, num_workers=0)
        whole.set_epoch(3)
        expected, after = ids(whole), ids(whole)

        loader, resumed = lg.loader(ds, **options, **way), lg.loader(ds, **options, threads=0)
        others = lg.loader(ds, **options, num_workers=1)
        loader.set_epoch(3)
        iterator, begun = iter(loader), []
        for step in range(len(expected)):
            state = json.loads(json.dumps(loader.state_dict()))
            for goes_on in (resumed, others) if step % 3 == rank else (resumed,):
                goes_on.load_state_dict(state)
                goes_on.set_epoch(3)  # as Lightning does
                assert len(goes_on) == len(expected)
                assert begun + ids(goes_on) == expected
            begun.append(next(iterator).id)
        assert ids(resumed) == after
        resumed.load_state_dict(loader.state_dict())  # of the end of the epoch
        assert ids(resumed) == after
        for each in (loader, others):
            each.close()


def test_what_is_given_is_read_without_a_batch(ds, monkeypatch):
    """Choosing costs nothing where there is nothing to choose; the memory of workers follows from the columns."""

    def read(*_args):
        raise AssertionError("a batch was read")

    monkeypatch.setattr(type(ds), "fetch", read)
    for given in ({"num_workers": 0}, {"threads": 1}, {"num_workers": 3}, {"num_workers": 2, "prefetch_factor": 4}):
        settings = lg.loader(ds, 64, **given).settings
        assert settings.num_workers == given.get("num_workers", 0)
        assert settings.batch_bytes > 64 * 500
    with pytest.raises(AssertionError, match="a batch was read"):
        lg.loader(ds, 64).settings  # noqa: B018


def test_the_memory_of_a_worker_holds_a_batch(ds):
    for view in ("pyg", "comformer"):
        presenter = lg.LazyGraphDataset(ds.path, target="density", view=view)
        loader = lg.loader(presenter, 32)
        largest = max(len(pickle.dumps(presenter.fetch(batch))) for batch in loader.next_batches())
        assert loader.settings.batch_bytes > largest


def test_a_copy_goes_its_own_way(ds):
    loader = lg.loader(ds, 50, shuffle=True, threads=0)
    other = copy.copy(loader)
    iterator = iter(loader)
    begun = [next(iterator).id, next(iterator).id]
    whole = ids(other)
    assert len(whole) == 6
    assert whole[:2] == begun


def test_a_batch_is_measured_as_one_of_a_rank(ds):
    """However many ranks share the epoch, a batch has as many graphs."""
    sizes = [lg.loader(ds, 30, rank=0, world_size=n, threads=0).settings.batch_bytes for n in (1, 5)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)


def test_the_state_after_the_last_batch_is_the_next_epoch(ds):
    loader = lg.loader(ds, 50, shuffle=True, threads=0)
    iterator = iter(loader)
    for _ in range(6):
        next(iterator)
    assert (loader.state_dict()["epoch"], loader.state_dict()["batches"]) == (1, 0)


def test_a_state_of_something_else_is_refused(ds, tmp_path):
    state = lg.loader(ds, 50, shuffle=True).state_dict()
    with pytest.raises(InputError, match="max_graphs is 50 there and 40 here"):
        lg.loader(ds, 40, shuffle=True).load_state_dict(state)
    with pytest.raises(InputError, match="seed is 0 there and 1 here"):
        lg.loader(ds, 50, shuffle=True, seed=1).load_state_dict(state)
    with pytest.raises(InputError, match="rows is"):
        lg.loader(ds[:250], 50, shuffle=True).load_state_dict(state)
    lg.write("prototypes:300?seed=2", tmp_path / "o.lg", graph="comformer", workers=1, progress=False)
    with pytest.raises(InputError, match="content_id is"):
        lg.loader(lg.LazyGraphDataset(tmp_path / "o.lg"), 50, shuffle=True).load_state_dict(state)
    with pytest.raises(InputError, match="state of version 7; required: 1"):
        lg.loader(ds, 50, shuffle=True).load_state_dict({**state, "version": 7})
    with pytest.raises(InputError, match="batches"):
        lg.loader(ds, 50, shuffle=True).load_state_dict({**state, "batches": -1})


@pytest.mark.parametrize("options", [{"batch_size": 32}, {"max_atoms": 300}, {"max_edges": 5000, "batch_size": 40}])
def test_ranks_share_an_epoch_evenly(ds, options):
    shares = [lg.loader(ds, shuffle=True, seed=1, rank=rank, world_size=3, threads=0, **options) for rank in range(3)]
    assert len({len(loader) for loader in shares}) == 1
    seen = [graph_id for loader in shares for batch in loader for graph_id in batch.id]
    assert sorted(seen) == sorted(ds.ids)


def test_budgets_hold_and_oversized_graphs_are_named(ds):
    loader = lg.loader(ds, max_atoms=200, max_edges=6000, shuffle=True)
    assert loader.batch_size is None
    batches = list(loader)
    assert len(batches) == len(loader)
    assert all(batch.num_nodes <= 200 and batch.num_edges <= 6000 for batch in batches)
    largest = int(ds.columns["n_atoms"].max())
    with pytest.raises(OversizedGraphs) as caught:
        lg.loader(ds, max_atoms=largest - 1)
    assert str(ds.ids[int(ds.columns["n_atoms"].argmax())]) in str(caught.value)


def test_by_a_column_of_texts_every_text_is_drawn_equally_often(tmp_path):
    crystals = [lg.Crystal(np.eye(3) * (4 + n / 99), [[0, 0, 0]], [26]) for n in range(200)]
    items = [(f"{n}", crystal, {"kind": "rare" if n < 10 else "bulk"}) for n, crystal in enumerate(crystals)]
    lg.write(items, tmp_path / "x.lg", workers=1, progress=False)
    drawn = sum(ids(lg.loader(lg.LazyGraphDataset(tmp_path / "x.lg"), 50, weights="kind", num_workers=0)), [])
    assert len(drawn) == 200
    assert 70 <= sum(int(name) < 10 for name in drawn) <= 130  # of 200, 100 with a deviation of 7


def test_windows_buckets_and_weights(ds):
    assert sorted(sum(ids(lg.loader(ds, 30, shuffle=True, window=100)), [])) == sorted(ds.ids)
    loader = lg.loader(ds, 30, shuffle=True, bucket="atoms")
    spread = np.mean([np.ptp(batch.ptr.diff().numpy()) for batch in loader])
    assert spread < np.mean([np.ptp(batch.ptr.diff().numpy()) for batch in lg.loader(ds, 30, shuffle=True)])
    drawn = sum(ids(lg.loader(ds, 30, weights="density")), [])
    assert len(drawn) == len(ds)
    assert len(set(drawn)) < len(ds)


@pytest.mark.parametrize("way", WAYS[:3], ids=str)
@pytest.mark.parametrize("view", ["pyg", "comformer"])
def test_batches_expanded_on_a_device_are_the_same(prototypes, view, way):
    ds = lg.LazyGraphDataset(prototypes, target="density", view=view)
    there = lg.loader(ds, 64, shuffle=True, device="cpu", **way)  # torch's arithmetic, from one tensor of bytes
    for mine, theirs in zip(there, lg.loader(ds, 64, shuffle=True), strict=True):
        same(mine, theirs)
    there.close()


def test_ready_made_graphs_are_loaded_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    with lg.GraphWriter(tmp_path / "g.lg", counts={"angles": "edge"}) as writer:
        for n in range(20):
            graph = {
                "x": rng.normal(size=(n + 1, 2)).astype(np.float32),
                "edge_index": rng.integers(0, n + 1, (2, 2 * n + 2)),
                "flags": rng.integers(0, 2, 2 * n + 2).astype(bool),
                "angles": rng.integers(0, 2 * n + 2, (2, n + 3)),
                "wide": np.array([2**40 + n]),
                "name": f"graph {n}",
            }
            writer.add(graph, id=f"g{n}")
    ds = lg.LazyGraphDataset(tmp_path / "g.lg")
    for device in (None, "cpu"):
        (batch,) = lg.loader(ds, 20, device=device)
        same(batch, Batch.from_data_list(list(ds)))


def test_a_subset_is_read_as_such(ds):
    chosen = ds.where("n_atoms < 10")
    assert sorted(sum(ids(lg.loader(chosen, 16, shuffle=True)), [])) == sorted(chosen.ids)
    picked = ds[[7, 3, 3, 250]]
    assert sum(ids(lg.loader(picked, 2)), []) == picked.ids.tolist()


class Shout:
    """A transform that a worker process can be sent."""

    def __call__(self, data):
        if data.id == self.stop:
            msg = "no more"
            raise ValueError(msg)
        data.loud = data.id.upper()
        return data

    stop = None


@pytest.mark.parametrize("way", WAYS[:3], ids=str)
def test_transforms_see_every_graph(prototypes, way):
    ds = lg.LazyGraphDataset(prototypes, transform=Shout())
    loader = lg.loader(ds, 100, **way)
    assert [loud for batch in loader for loud in batch.loud] == [graph_id.upper() for graph_id in ds.ids]
    loader.close()


@pytest.mark.parametrize("way", WAYS[:3], ids=str)
def test_an_error_says_of_which_graph(prototypes, tmp_path, way):
    transform = Shout()
    transform.stop = str(lg.LazyGraphDataset(prototypes).ids[77])
    ds = lg.LazyGraphDataset(prototypes, transform=transform)
    with pytest.raises(ValueError, match="no more") as caught:
        list(lg.loader(ds, 50, **way))
    told = "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "row 77" in told
    assert transform.stop in told

    damaged = tmp_path / "damaged.lg"
    shutil.copytree(prototypes, damaged)
    ds = lg.LazyGraphDataset(damaged)
    (shard,) = (damaged / "shards").iterdir()
    raw = bytearray(shard.read_bytes())
    raw[int(np.load(next((damaged / "columns").glob("record-*.npy")))["offset"][123])] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(CorruptDataset) as caught:
        list(lg.loader(ds, 50, **way))
    assert f"row 123, id {str(lg.LazyGraphDataset(prototypes).ids[123])!r}" in str(caught.value)
    assert "damaged.lg" in str(caught.value)


def test_evaluation_is_in_order_and_in_larger_batches(ds):
    train = lg.loader(ds[:200], 16, shuffle=True, threads=0)
    evaluation = train.evaluation(ds[200:])
    assert [batch.num_graphs for batch in evaluation] == [64, 36]
    assert sum(ids(evaluation), []) == ds.ids[200:].tolist()
    assert lg.loader(ds, 64).evaluation(ds).batch_size == 128
    assert lg.loader(ds, 500).evaluation(ds).batch_size == 500
    assert lg.loader(ds, max_atoms=300).evaluation(ds).batch_size is None


def test_settings_are_shown_and_written_to_the_log_once(ds, caplog):
    loader = lg.loader(ds, 64, num_workers=0)
    with caplog.at_level(logging.INFO, logger="lazygraph"):
        list(loader)
        list(loader)
    (line,) = caplog.messages
    assert str(loader.settings) in line
    assert "Loader(" in repr(loader)


def facts(**changes):
    usual = {"cpus": 4, "batch_seconds": 0.001, "batch_bytes": 2**20, "compiled": True, "transform": False}
    return Facts(**{**usual, "cuda": False, "shared_memory": 2**30, **changes})


@pytest.mark.parametrize(
    ("changes", "workers", "threads"),
    [
        ({}, 0, 1),
        ({"cpus": 1}, 0, 0),
        ({"batch_seconds": 0.005}, 0, 2),
        ({"batch_seconds": 0.011}, 0, 3),
        ({"batch_seconds": 0.02}, 3, 0),
        ({"batch_seconds": 0.005, "cpus": 2}, 1, 0),
        ({"compiled": False}, 3, 0),
        ({"transform": True}, 3, 0),
        ({"transform": True, "cpus": 64}, 8, 0),
        ({"transform": True, "shared_memory": 2**20}, 0, 1),
        ({"batch_seconds": 0.02, "cpus": 1}, 0, 0),
    ],
)
def test_choices(changes, workers, threads):
    chosen = choose(lambda: facts(**changes), WantedSettings())
    assert (chosen.num_workers, chosen.threads) == (workers, threads)
    assert chosen.reasons
    assert chosen.persistent_workers == bool(workers)


@pytest.mark.parametrize(
    "given",
    [{"threads": -1}, {"num_workers": -2}, {"threads": 1.5}, {"threads": "2"}, {"num_workers": True}],
    ids=str,
)
def test_impossible_numbers_of_threads_and_workers_are_refused(ds, given):
    with pytest.raises(InputError, match="required: a whole number, 0 or more"):
        next(iter(lg.loader(ds, 64, **given)))


@pytest.mark.parametrize("way", [{"threads": 1}, {"num_workers": 1}], ids=str)
def test_an_unknown_start_method_is_refused(ds, way):
    with pytest.raises(InputError, match="unknown multiprocessing_context 'frok'; did you mean 'fork'"):
        next(iter(lg.loader(ds, 64, **way, multiprocessing_context="frok")))


@pytest.mark.parametrize("way", [{"threads": 1}, {"num_workers": 1}], ids=str)
@pytest.mark.parametrize("given", [0, -1, 1.5, "2"])
def test_an_impossible_number_of_batches_ahead_is_refused(ds, way, given):
    with pytest.raises(InputError, match=f"found prefetch_factor={given!r}; required: a whole number, 1 or more"):
        next(iter(lg.loader(ds, 64, **way, prefetch_factor=given)))


class OneOfFour(threading.local):
    """The module of a kind of device, of which every thread has a current one."""

    number = 0

    def current_device(self):
        return self.number

    def set_device(self, number):
        self.number = number


@pytest.mark.parametrize("threads", [0, 2])
def test_threads_expand_on_the_device_of_the_thread_that_uses_the_batches(ds, threads, monkeypatch):
    module, found, expand = OneOfFour(), [], Reader.expand
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    monkeypatch.setattr(
        Reader, "expand", lambda reader, fetched, *_, **__: found.append(module.number) or expand(reader, fetched)
    )
    module.set_device(3)
    assert len(list(lg.loader(ds, 20, device="cuda", num_workers=0, threads=threads))) == 15
    assert found == [3] * 15


@pytest.mark.parametrize("graph", [None, "mace"])
def test_settings_are_chosen_by_one_measurement(prototypes, graph, monkeypatch):
    read, passes = [], []
    fetch, shards = lg.LazyGraphDataset.fetch, lg.LazyGraphDataset.shards_to_read
    monkeypatch.setattr(lg.LazyGraphDataset, "fetch", lambda *given: read.append(given) or fetch(*given))
    monkeypatch.setattr(lg.LazyGraphDataset, "shards_to_read", lambda ds: passes.append(ds) or shards(ds))
    assert lg.loader(lg.LazyGraphDataset(prototypes, graph=graph), 64).settings.reasons
    assert len(read) == 2  # the first of which opens files
    assert len(passes) == 1


def test_what_is_given_is_taken():
    given = WantedSettings(num_workers=5, prefetch_factor=7, persistent_workers=False)
    chosen = choose(lambda: facts(cuda=True), given)
    assert (chosen.num_workers, chosen.prefetch_factor, chosen.persistent_workers) == (5, 7, False)
    assert chosen.pin_memory
    assert not choose(lambda: facts(cuda=True), WantedSettings(pin_memory=False)).pin_memory


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bucket": "size"}, "unknown bucket 'size'; known: atoms, edges, triplets"),
        ({"rank": 1}, "found rank=1 and world_size=None"),
        ({"max_triplets": 100}, "max_triplets cannot be used for .*: the dataset has no column 'n_triplets'"),
        ({"weights": "mass"}, "unknown column 'mass'"),
        ({"batch_size": 0}, "the limit of graphs"),
        (
            {"batch_size": 200, "drop_last": True, "rank": 0, "world_size": 3},
            "drop_last=True leaves no batch: 300 graphs make 1 full batch for 3 ranks; use smaller batches",
        ),
    ],
)
def test_impossible_options(ds, options, message):
    with pytest.raises(InputError, match=message):
        lg.loader(ds, **options)


def test_an_empty_dataset_has_no_batches(ds):
    assert list(lg.loader(ds[:0], 10)) == []
