"""Random transforms: noise by seed, epoch and place alone, however it is read; the training draws undisturbed."""

# ruff: noqa: NPY002  # what transforms draw from

from __future__ import annotations

import random
import threading

import numpy as np
import psutil
import pytest
import torch
from same import same_values
from torch.utils.data import DataLoader

import lazygraph as lg

PLAIN, THREAD = {"num_workers": 0, "threads": 0}, {"threads": 1}
FORK = {"num_workers": 1, "multiprocessing_context": "fork"}
WAYS = [PLAIN, THREAD, FORK, {**FORK, "num_workers": 2}]


class Noise:
    """Draws from every generator, and twice from each, so that one left half used would be seen."""

    def __call__(self, data):
        uniform = [torch.rand(()).item(), np.random.rand(), random.random()]
        normal = [torch.randn(()).item(), np.random.randn(), random.gauss(0, 1)]
        data.noise = torch.tensor([uniform + normal], dtype=torch.float64)
        return data


@pytest.fixture
def ds(prototypes):
    return lg.LazyGraphDataset(prototypes, transform=Noise())[:60]


def noise_of(batches):
    """(id, noise) of each graph, in order."""
    return [(name, *noise) for batch in batches for name, noise in zip(batch.id, batch.noise.tolist(), strict=True)]


def states():
    _, keys, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), keys.tolist(), rest, random.getstate()


@pytest.fixture(scope="module")
def expected(prototypes):
    """The noise of two epochs, read plainly."""
    loader = lg.loader(lg.LazyGraphDataset(prototypes, transform=Noise())[:60], 16, shuffle=True, seed=3, **PLAIN)
    return noise_of(loader), noise_of(loader)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_noise_is_the_same_however_it_is_read_and_nothing_else_is_touched(ds, expected, way):
    np.random.randn(), random.gauss(0, 1)  # generators that keep every second number
    for caller in (1, 2):
        torch.manual_seed(caller), np.random.seed(caller), random.seed(caller)
        before = states()
        loader = lg.loader(ds, 16, shuffle=True, seed=3, **way)
        assert noise_of(loader) == expected[0]
        assert noise_of(loader) == expected[1]
        assert states() == before
        loader.close()


def test_every_graph_epoch_seed_and_generator_has_noise_of_its_own(ds, expected):
    other = noise_of(lg.loader(ds, 16, shuffle=True, seed=4, **PLAIN))
    drawn = [value for row in (*expected[0], *expected[1], *other) for value in row[1:]]
    assert len(drawn) == 3 * 60 * 6
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("way", [THREAD, FORK], ids=str)
def test_ranks_draw_as_one_process_does(ds, expected, way):
    shares = [
        noise_of(lg.loader(ds, 16, shuffle=True, seed=3, rank=rank, world_size=3, **way)) for rank in range(3)
    ]  # fmt: skip
    assert sorted(sum(shares, [])) == sorted(expected[0])


@pytest.mark.parametrize("options", [{"batch_size": 7}, {"max_atoms": 200}, {"batch_size": 60, "drop_last": True}])
def test_the_size_of_batches_changes_no_noise(ds, expected, options):
    assert noise_of(lg.loader(ds, shuffle=True, seed=3, **options, **PLAIN)) == expected[0]


@pytest.mark.parametrize("options", [{"bucket": "atoms"}, {"weights": "density"}, {"window": 20}], ids=str)
def test_other_orders_draw_the_same_in_processes_and_on_ranks(ds, options):
    options = {"shuffle": "weights" not in options, **options}
    one = noise_of(lg.loader(ds, 8, **options, **PLAIN))
    assert len({noise[1] for noise in one}) == 60  # also where a graph comes twice
    assert noise_of(lg.loader(ds, 8, **options, **FORK)) == one
    shares = [noise_of(lg.loader(ds, 8, rank=rank, world_size=2, **options, **PLAIN)) for rank in range(2)]
    assert sorted(sum(shares, [])) == sorted(one)


@pytest.mark.parametrize("way", [PLAIN, FORK], ids=str)
def test_a_resumed_epoch_draws_what_it_would_have_drawn(ds, expected, way):
    loader = lg.loader(ds, 16, shuffle=True, seed=3, **way)
    iterator = iter(loader)
    begun = [next(iterator), next(iterator)]
    resumed = lg.loader(ds, 16, shuffle=True, seed=3, **THREAD)
    resumed.load_state_dict(loader.state_dict())
    assert noise_of(begun) + noise_of(resumed) == expected[0]
    assert noise_of(resumed) == expected[1]
    del iterator
    loader.close()


def test_the_training_draws_what_it_would_without_a_loader(ds):
    """Also beside a thread that reads ahead."""
    torch.manual_seed(0)
    alone = [torch.rand(3).tolist() for _ in range(8)]
    for way in (PLAIN, THREAD):
        torch.manual_seed(0)
        assert [torch.rand(3).tolist() for _, _ in zip(lg.loader(ds, 8, **way), range(8), strict=False)] == alone


def test_a_transform_runs_in_the_thread_that_trains(ds):
    """Another one would draw from the generators of the process at the same time."""
    seen = set()

    def note(data):
        seen.add(threading.get_ident())
        return data

    ds.transform = note
    list(lg.loader(ds, 8, **THREAD))
    assert seen == {threading.get_ident()}


@pytest.mark.parametrize("way", [PLAIN, THREAD], ids=str)
def test_states_are_given_back_after_an_error(ds, way):
    def fail(data):
        torch.rand(1), np.random.rand(), random.random()
        raise ZeroDivisionError(data.id)

    ds.transform = fail
    before = states()
    with pytest.raises(ZeroDivisionError, match="prototype-0000000"):
        list(lg.loader(ds, 8, **way))
    assert states() == before


def test_choosing_the_settings_draws_nothing(ds):
    before = states()
    assert lg.loader(ds, 16).settings.reasons
    assert states() == before


@pytest.mark.parametrize("workers", [0, 1])
def test_torchs_loader_over_the_batches_of_a_loader_draws_the_same(ds, expected, workers):
    loader = lg.loader(ds, 16, shuffle=True, seed=3)
    plain = DataLoader(ds, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn, num_workers=workers)
    assert [noise_of(plain), noise_of(plain)] == list(expected)


# ---- transforms that change ----


class Add:
    def __init__(self, k):
        self.k = k

    def __call__(self, data):
        data.k = self.k
        return data


def seen_by(loader):
    return {k for batch in loader for k in (batch.k.tolist() if "k" in batch else [None])}


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [None, True, False])
@pytest.mark.parametrize("way", [PLAIN, THREAD, FORK], ids=str)
def test_a_transform_that_changes_between_epochs_is_used_by_all(ds, way, persistent):
    ds.transform = Add(1)
    loader = lg.loader(ds, 20, persistent_workers=persistent, **way)
    assert seen_by(loader) == {1}
    ds.transform.k = 9
    assert seen_by(loader) == {9}
    ds.transform = Add(2)
    assert seen_by(loader) == {2}
    ds.transform = None
    assert seen_by(loader) == {None}
    strength = 3

    def add(data):
        return Add(strength)(data)

    ds.transform = add
    assert seen_by(loader) == {3}
    strength = 4
    assert seen_by(loader) == {4}
    loader.close()


def test_processes_stay_as_long_as_the_transform_does(ds):
    before = {child.pid for child in psutil.Process().children()}

    def workers():
        return {child.pid for child in psutil.Process().children()} - before

    ds.transform = Add(1)
    loader = lg.loader(ds, 20, **FORK)
    assert seen_by(loader) == {1}
    (first,) = workers()
    assert seen_by(loader) == {1}
    assert workers() == {first}
    ds.transform.k = 2
    assert seen_by(loader) == {2}
    (second,) = workers()
    assert second != first
    loader.close()
    assert workers() == set()


def test_a_transform_that_cannot_be_pickled_changes_too(ds):
    transform = Add(1)
    transform.lock = threading.Lock()
    ds.transform = transform
    loader = lg.loader(ds, 20, **FORK)
    assert seen_by(loader) == {1}
    transform.k = 2
    assert seen_by(loader) == {2}
    loader.close()


@pytest.mark.parametrize("way", [PLAIN, FORK], ids=str)
def test_a_transform_that_returns_no_graph_is_named(ds, way):
    ds.transform = lambda data: None
    with pytest.raises(lg.InputError, match=r"the transform returned NoneType for .*row 0, id 'prototype-0000000'"):
        list(lg.loader(ds, 20, **way))


@pytest.mark.parametrize("view", ["pyg", "comformer", "matformer"])
def test_a_transform_sees_the_graph_that_an_index_gives(prototypes, view):
    """With arrays in one piece, of which it may change every number."""
    plain, seen = lg.LazyGraphDataset(prototypes, view=view), []

    def change(data):
        seen.append(data.clone())
        for value in data.to_dict().values():
            if isinstance(value, torch.Tensor):
                value.view(-1).zero_()
        return data

    ds = lg.LazyGraphDataset(prototypes, view=view, transform=change)
    list(lg.loader(ds[:40], 16, **PLAIN))
    list(DataLoader(ds[:40], 16, collate_fn=lg.collate))
    for number, data in enumerate(seen):
        same_values(data, plain[number % 40])
