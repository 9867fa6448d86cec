"""Iterations of one loader: each has its own place; what the loader's state and length mean with several."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.loading.epochs import Epochs

PLAIN = {"num_workers": 0, "threads": 0}
OPTIONS = [{"batch_size": 50}, {"max_atoms": 500}]


@pytest.fixture
def ds(prototypes):
    return lg.LazyGraphDataset(prototypes)


def ids(batches):
    return [batch.id for batch in batches]


def epochs_of(ds, n, **options):
    loader = lg.loader(ds, shuffle=True, seed=1, **options, **PLAIN)
    return [ids(loader) for _ in range(n)]


def resumed(ds, state, n, **options):
    """The epochs that a new program reads from a state on."""
    loader = lg.loader(ds, shuffle=True, seed=1, **options, **PLAIN)
    loader.load_state_dict(json.loads(json.dumps(state)))
    return [ids(loader) for _ in range(n)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("way", [PLAIN, {"threads": 1}, {"num_workers": 1}], ids=str)
def test_a_pass_within_an_epoch_leaves_the_place_of_the_epoch(ds, options, way):
    """As torch.optim.swa_utils.update_bn, or a training error over the same loader, in the middle of an epoch."""
    epochs = epochs_of(ds, 4, **options)
    loader = lg.loader(ds, shuffle=True, seed=1, **options, **way)
    training = iter(loader)
    begun = [next(training).id for _ in range(3)]
    assert ids(loader) == epochs[1]
    assert len(loader) == len(epochs[0])
    state = loader.state_dict()
    assert (state["epoch"], state["batches"], state["next_epoch"]) == (0, 3, 2)
    uninterrupted = [ids(training), ids(loader)]
    assert [begun + uninterrupted[0], uninterrupted[1]] == [epochs[0], epochs[2]]
    assert resumed(ds, state, 2, **options) == uninterrupted
    loader.close()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("way", [PLAIN, {"threads": 1}, {"num_workers": 1}], ids=str)
def test_a_pass_that_was_left_is_over(ds, options, way):
    """After a look at one batch, or a break, length and state are those of the next epoch, which is what comes."""
    epochs = epochs_of(ds, 4, **options)
    loader = lg.loader(ds, shuffle=True, seed=1, **options, **way)
    next(iter(loader))
    assert len(loader) == len(epochs[1])
    state = loader.state_dict()
    assert (state["epoch"], state["batches"]) == (1, 0)
    assert resumed(ds, state, 1, **options) == epochs[1:2]
    for number, _ in enumerate(loader):
        assert len(loader) == len(epochs[1])
        assert (loader.state_dict()["epoch"], loader.state_dict()["batches"]) == (1, number + 1)
        if number == 2:
            break
    assert len(loader) == len(epochs[2])
    assert resumed(ds, loader.state_dict(), 1, **options) == epochs[2:3]
    assert ids(loader) == epochs[2]
    loader.close()


def test_lengths_before_loops_that_are_left_are_those_of_the_loops(ds):
    budget = {"max_atoms": 120}
    lengths = [len(epoch) for epoch in epochs_of(ds, 6, **budget)]
    assert len(set(lengths)) > 1
    loader = lg.loader(ds, shuffle=True, seed=1, **budget, **PLAIN)
    found = []
    for _ in lengths:
        found.append(len(loader))
        for number, _ in enumerate(loader):
            if number == 2:
                break
    assert found == lengths


def test_an_error_in_reading_ends_a_pass(prototypes):
    def fail(data):
        raise ZeroDivisionError

    ds = lg.LazyGraphDataset(prototypes, transform=fail)
    loader = lg.loader(ds, 50, **PLAIN)
    with pytest.raises(ZeroDivisionError) as caught:
        ids(loader)
    assert (loader.state_dict()["epoch"], loader.state_dict()["batches"]) == (1, 0)
    assert caught.tb is not None


def test_the_state_is_of_the_pass_that_delivered_a_batch_last(ds):
    loader = lg.loader(ds, 50, shuffle=True, **PLAIN)
    first, second = iter(loader), iter(loader)
    next(second), next(first), next(first)  # epochs are taken in the order of the first batches
    assert (loader.state_dict()["epoch"], loader.state_dict()["batches"]) == (1, 2)
    next(second)
    assert (loader.state_dict()["epoch"], loader.state_dict()["batches"]) == (0, 2)
    del second
    assert (loader.state_dict()["epoch"], loader.state_dict()["batches"]) == (1, 2)
    loader.set_epoch(5)
    assert (loader.state_dict()["epoch"], loader.state_dict()["batches"]) == (5, 0)


def test_an_iterator_that_was_not_asked_takes_no_epoch(ds):
    """Lightning makes some, and only then sets the epoch."""
    first, second = epochs_of(ds, 2, batch_size=50)
    loader = lg.loader(ds, 50, shuffle=True, seed=1, **PLAIN)
    unused = iter(loader)
    iter(loader)
    assert loader.state_dict()["epoch"] == 0
    assert ids(loader) == first
    assert loader.state_dict()["epoch"] == 1
    assert ids(unused) == second


def test_a_state_keeps_the_place_where_a_framework_sets_the_epoch_again(ds):
    """A loader that is cycled within an epoch of Lightning's reads its second, third ... epoch when the run stops."""
    loader = lg.loader(ds, 50, shuffle=True, seed=1, **PLAIN)
    loader.set_epoch(4)
    ids(loader)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    assert (state["epoch"], state["batches"]) == (5, 1)
    other = lg.loader(ds, 50, shuffle=True, seed=1, **PLAIN)
    other.load_state_dict(state)
    other.set_epoch(4)  # as was set when the state was taken
    assert ids(other) == ids(iterator)
    other.load_state_dict(state)
    other.set_epoch(5)  # the next one
    other.set_epoch(5)
    assert len(ids(other)) == 6
    with pytest.raises(lg.InputError, match="epoch=-1"):
        other.set_epoch(-1)


# ---- a model of it all ----


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_a_resumed_program_does_what_the_uninterrupted_one_does(data):
    """Any interleaving of passes of three batches each that begin, deliver, end and are left."""
    epochs, passes = Epochs(), []
    for _ in range(data.draw(st.integers(0, 12))):
        action = data.draw(st.sampled_from(["begin", "deliver", "leave", "set"]))
        if action == "begin":
            passes.append(epochs.begin())
        elif action == "set":
            epochs.set(data.draw(st.integers(0, 5)))
        elif passes:
            place = data.draw(st.sampled_from(passes))
            if action == "deliver" and not place.is_finished:
                place.batches += 1
                epochs.delivered(place, is_last=place.batches == 3)
            else:
                epochs.end(place)
                passes.remove(place)
    other = Epochs()
    other.load(json.loads(json.dumps(epochs.state())))
    assert other.state() == epochs.state()
    going = [place for place in epochs._active if not place.is_finished]
    assert all(place in passes for place in going)
    begun, continued = other.begin(), going[-1] if going else epochs.begin()
    assert (begun.epoch, begun.batches) == (continued.epoch, continued.batches)
    assert (other.begin().epoch, other.begin().epoch) == (epochs.begin().epoch, epochs.begin().epoch)


# ---- a forked child ----

FORKED = """
import os, sys
import lazygraph as lg

loader = lg.loader(lg.LazyGraphDataset(sys.argv[1]), 16, shuffle=True, **eval(sys.argv[2]))
expected = [batch.id for batch in lg.loader(loader.dataset, 16, shuffle=True, num_workers=0, threads=0)]
iterator = iter(loader)
begun = [next(iterator).id]
child = os.fork()
if not child:
    try:
        rest = [batch.id for batch in iterator]
        told = "went on" if begun + rest == expected else "went wrong"
    except lg.InputError as error:
        told = "refused" if "begin an iteration here" in str(error) else str(error)
    del iterator
    loader.set_epoch(0)
    own = [batch.id for batch in loader]
    loader.close()
    print(told, own == expected, flush=True)
    os._exit(0)  # else Python would end the workers of the parent
_, status = os.waitpid(child, 0)
print(status, begun + [batch.id for batch in iterator] == expected)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "told"),
    [
        (PLAIN, "went on"),
        ({"threads": 1}, "refused"),
        ({"num_workers": 1, "multiprocessing_context": "fork"}, "refused"),
        ({"num_workers": 1, "multiprocessing_context": "fork", "persistent_workers": False}, "refused"),
    ],
    ids=str,
)
def test_a_child_that_was_forked_in_an_epoch_is_told_and_its_parent_goes_on(prototypes, way, told):
    command = [sys.executable, "-c", FORKED, prototypes, str(way)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.returncode) == (f"{told} True\n0 True\n", 0), done.stderr
