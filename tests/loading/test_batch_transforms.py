"""``batch_transform``: a function of whole batches, seeded by seed, epoch and position, where batches are used."""

# ruff: noqa: NPY002  # what transforms draw from

from __future__ import annotations

import os
import random
import threading

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import lazygraph as lg
from lazygraph.errors import InputError

PLAIN, THREAD = {"num_workers": 0, "threads": 0}, {"threads": 1}
FORK = {"num_workers": 2, "multiprocessing_context": "fork"}
WAYS = [PLAIN, THREAD, FORK]


class Noise:
    """Draws from every generator, and notes where."""

    def __init__(self):
        self.seen = set()

    def __call__(self, batch):
        self.seen.add((os.getpid(), threading.get_ident()))
        batch.noise = [torch.rand(()).item(), np.random.rand(), random.random()]
        batch.pos = batch.pos + torch.randn(batch.pos.shape)
        return batch


@pytest.fixture
def ds(prototypes):
    return lg.LazyGraphDataset(prototypes)[:60]


def noise_of(batches):
    return [(batch.id[0], *batch.noise, batch.pos.numpy().tobytes()) for batch in batches]


def states():
    _, keys, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), keys.tolist(), rest, random.getstate()


@pytest.fixture(scope="module")
def expected(prototypes):
    loader = lg.loader(lg.LazyGraphDataset(prototypes)[:60], 16, shuffle=True, seed=3, batch_transform=Noise(), **PLAIN)
    return noise_of(loader), noise_of(loader)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("device", [None, "cpu"])
def test_noise_is_the_same_however_batches_are_read_and_runs_here(ds, expected, way, device):
    noise = Noise()
    loader = lg.loader(ds, 16, shuffle=True, seed=3, batch_transform=noise, device=device, **way)
    before = states()
    assert noise_of(loader) == expected[0]
    assert noise_of(loader) == expected[1]
    assert states() == before
    assert noise.seen == {(os.getpid(), threading.get_ident())}
    loader.close()


def test_every_batch_epoch_seed_and_generator_has_noise_of_its_own(ds, expected):
    other = noise_of(lg.loader(ds, 16, shuffle=True, seed=4, batch_transform=Noise(), **PLAIN))
    drawn = [value for row in (*expected[0], *expected[1], *other) for value in row[1:4]]
    assert len(set(drawn)) == len(drawn) == 3 * 4 * 3


def test_ranks_and_resumed_epochs_draw_the_same(ds, expected):
    options = {"shuffle": True, "seed": 3, **THREAD}
    shares = [
        noise_of(lg.loader(ds, 16, rank=rank, world_size=2, batch_transform=Noise(), **options)) for rank in range(2)
    ]
    assert sorted(sum(shares, [])) == sorted(expected[0])
    loader = lg.loader(ds, 16, batch_transform=Noise(), **options)
    iterator = iter(loader)
    begun = [next(iterator), next(iterator)]
    resumed = lg.loader(ds, 16, batch_transform=Noise(), **options)
    resumed.load_state_dict(loader.state_dict())
    assert noise_of(begun) + noise_of(resumed) == expected[0]


@pytest.mark.parametrize("transform", [None, lambda data: data], ids=["plain", "transformed"])
@pytest.mark.parametrize("workers", [0, 2])
def test_torchs_loader_over_the_batches_gives_the_same(ds, expected, transform, workers):
    ds.transform = transform
    loader = lg.loader(ds, 16, shuffle=True, seed=3, batch_transform=Noise())
    same = DataLoader(
        loader.dataset,
        batch_sampler=loader.batch_sampler,
        collate_fn=loader.collate_fn,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    assert noise_of(same) == expected[0]


def test_it_sees_what_the_transform_of_graphs_left_and_keeps_the_counts(prototypes):
    def mark(data):
        data.mark = torch.ones(1)
        return data

    def other(batch):
        assert batch.mark.shape == (batch.num_graphs,)
        return batch.clone()

    ds = lg.LazyGraphDataset(prototypes, transform=mark, augment=[lg.Strain(0.01)])[:30]
    loader = lg.loader(ds, 8, batch_transform=other, **PLAIN)
    assert sum(batch.num_graphs for batch in loader) == 30
    assert loader.augmentation.crystals == 30


def test_evaluation_has_a_transform_of_its_own(ds):
    loader = lg.loader(ds, 16, batch_transform=Noise(), **PLAIN)
    assert all("noise" not in batch for batch in loader.evaluation(ds))
    assert all("noise" in batch for batch in loader.evaluation(ds, batch_transform=Noise()))


def test_what_it_returns_must_be_a_batch(ds):
    with pytest.raises(InputError, match="batch_transform returned NoneType; it must return a Batch"):
        list(lg.loader(ds, 16, batch_transform=lambda batch: None, **PLAIN))


def test_states_are_given_back_after_an_error(ds):
    def fail(batch):
        torch.rand(1), np.random.rand(), random.random()
        raise ZeroDivisionError

    before = states()
    with pytest.raises(ZeroDivisionError) as caught:
        list(lg.loader(ds, 8, batch_transform=fail, **THREAD))
    assert any("in the batch_transform <function" in note for note in caught.value.__notes__)
    assert states() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_generator_of_the_device_is_seeded_and_restored(ds):
    def noisy(batch):
        batch.pos = batch.pos + torch.randn_like(batch.pos)
        return batch

    def drawn(way, seed):
        torch.cuda.manual_seed(seed)
        before = torch.cuda.get_rng_state()
        loader = lg.loader(ds, 16, shuffle=True, seed=3, device="cuda", batch_transform=noisy, **way)
        found = [batch.pos.cpu() for batch in loader]
        assert torch.equal(torch.cuda.get_rng_state(), before)
        loader.close()
        return torch.cat(found)

    first = drawn(PLAIN, 1)
    assert torch.equal(drawn(THREAD, 2), first)
    assert torch.equal(drawn(FORK, 3), first)


def test_validation_of_a_data_module_is_neither_augmented_nor_transformed(prototypes):
    pytest.importorskip("lightning")
    stored = lg.LazyGraphDataset(prototypes)
    ds = lg.LazyGraphDataset(prototypes, augment=[lg.Rattle(0.1)])
    data = lg.LazyGraphDataModule(ds, (0.8, 0.1, 0.1), batch_size=8, batch_transform=Noise(), **PLAIN)
    assert "displacement" in next(iter(data.train_dataloader()))
    for loader in (data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert "noise" not in batch
            assert "displacement" not in batch
            assert torch.equal(batch.pos, stored.batch(batch.id).pos)
