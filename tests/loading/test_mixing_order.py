"""The order of a mix: exact rates in every epoch, all graphs equally often, the same however it is asked for."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from whole import positions_of

from lazygraph.errors import InputError
from lazygraph.loading import mixing_order
from lazygraph.loading.mixing_order import MemberOrder, Mixed, member_seed
from lazygraph.loading.mixing_rates import Rates, at_rates, at_temperature
from lazygraph.loading.orders import Sequential, Shuffled, Windowed

KINDS = {"sequential": Sequential, "shuffled": Shuffled, "windowed": lambda n: Windowed(n, window=5, block=2)}


@st.composite
def mixed_orders(draw):
    """A mix of one to four members, and the positions of each."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    # Positions of a part may lie anywhere.
    every = np.array(draw(st.permutations(range(sum(sizes)))))
    ends = np.cumsum(sizes)
    kind = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    members, positions = [], []
    for size, end in zip(sizes, ends, strict=True):
        independent = draw(st.booleans())
        members.append(
            MemberOrder(kind(size), draw(st.integers(1, size if independent else 30)), independent=independent)
        )
        positions.append(range(end - size, end) if draw(st.booleans()) else every[end - size : end])
    if any(isinstance(own, np.ndarray) for own in positions):
        positions = [every[own.start : own.stop] if isinstance(own, range) else own for own in positions]
    return Mixed(members, positions, shuffle=draw(st.booleans()))


def counts_by_member(order, visited):
    of_member = {int(position): k for k, own in enumerate(order.positions) for position in own}
    counts = Counter(of_member[position] for position in visited)
    return [counts[k] for k in range(len(order.members))]


@given(mixed_orders(), st.integers(0, 3), st.integers(0, 9))
def test_every_epoch_visits_each_member_exactly_as_often_as_it_says(order, seed, epoch):
    visited = positions_of(order, seed, epoch).tolist()
    assert len(visited) == order.n
    assert counts_by_member(order, visited) == [member.visits for member in order.members]


@pytest.mark.parametrize("part", [1, 3, 7])
@given(order=mixed_orders(), seed=st.integers(0, 3), epoch=st.integers(0, 9))
def test_blocks_change_nothing_of_how_often_members_come(part, order, seed, epoch):
    old, mixing_order.PART = mixing_order.PART, part
    try:
        visited = positions_of(order, seed, epoch).tolist()
        pieces = [order.draw(seed, epoch).part(k, k + 1).tolist() for k in reversed(range(order.n))]
    finally:
        mixing_order.PART = old
    assert sum(reversed(pieces), []) == visited
    assert counts_by_member(order, visited) == [member.visits for member in order.members]
    # Any beginning of the epoch has its share, but for a block.
    for end in range(order.n):
        for found, member in zip(counts_by_member(order, visited[:end]), order.members, strict=True):
            assert abs(found - member.visits * end / order.n) <= part + len(order.members)


@given(mixed_orders(), st.integers(0, 3))
def test_graphs_of_a_member_come_equally_often_from_epoch_to_epoch(order, seed):
    epochs = 6
    visited = np.concatenate([positions_of(order, seed, epoch) for epoch in range(epochs)]).tolist()
    counts = Counter(visited)
    for member, own in zip(order.members, order.positions, strict=True):
        if member.independent:
            continue
        found = [counts[int(position)] for position in own]
        # Passes are whole, but for the last one, or for the last one of each epoch.
        spread = 1 if member.visits < len(own) else epochs * (member.visits % len(own) > 0)
        assert max(found) - min(found) <= spread


@given(mixed_orders(), st.integers(0, 3), st.integers(0, 5))
def test_what_is_drawn_in_every_epoch_comes_once_an_epoch_and_no_pass_repeats_a_graph(order, seed, epoch):
    counts = Counter(positions_of(order, seed, epoch).tolist())
    for member, own in zip(order.members, order.positions, strict=True):
        found = [counts[int(position)] for position in own]
        if member.independent:
            assert max(found) == 1
        elif member.visits >= len(own):  # all were seen, as an epoch begins with a new pass
            assert min(found) >= member.visits // len(own)
            assert max(found) <= -(-member.visits // len(own))


@given(mixed_orders(), st.integers(0, 3), st.integers(0, 5))
def test_an_epoch_is_a_function_of_seed_and_epoch(order, seed, epoch):
    once = positions_of(order, seed, epoch)
    np.testing.assert_array_equal(once, positions_of(order, seed, epoch))
    again = Mixed(order.members, order.positions, shuffle=order.shuffle)
    assert repr(again) == repr(order)
    np.testing.assert_array_equal(once, positions_of(again, seed, epoch))


def test_without_shuffling_members_alternate_evenly():
    order = Mixed(
        [MemberOrder(Sequential(300), 150), MemberOrder(Sequential(50), 50)],
        [range(300), range(300, 350)],
        shuffle=False,
    )
    assert positions_of(order, 0, 0)[:12].tolist() == [0, 1, 300, 2, 3, 4, 301, 5, 6, 7, 302, 8]
    assert positions_of(order, 0, 1)[:3].tolist() == [150, 151, 300]  # it continues
    assert positions_of(order, 0, 2)[:3].tolist() == [0, 1, 300]


def test_members_of_equal_size_are_shuffled_differently():
    order = Mixed([MemberOrder(Shuffled(50), 50)] * 2, [range(50), range(50, 100)], shuffle=True)
    visited = positions_of(order, 0, 0)
    assert (visited[visited < 50] + 50).tolist() != visited[visited >= 50].tolist()
    assert len({member_seed(seed, number) for seed in range(9) for number in range(9)}) == 81


def test_the_order_of_an_epoch_stays_as_it_is():
    """A state that was saved with another release continues with the same graphs."""
    order = Mixed(
        [MemberOrder(Shuffled(9), 6), MemberOrder(Shuffled(4), 2, independent=True)],
        [range(9), range(9, 13)],
        shuffle=True,
    )
    assert [positions_of(order, 7, epoch).tolist() for epoch in range(2)] == STAYS


STAYS = [[6, 7, 3, 1, 0, 10, 12, 2], [8, 5, 4, 2, 5, 11, 7, 12]]


# ---- rates ----


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rates", [(3, 1), (1, 1, 1), (10, 5, 1)])
def test_batches_are_mixed_at_the_rates_by_chi_square(seed, rates):
    """Every stretch of an epoch has its share of every member, and no more even shares than chance gives."""
    sizes = [rate * 8000 for rate in rates]
    ends = np.cumsum(sizes)
    order = Mixed(
        [MemberOrder(Shuffled(size), size) for size in sizes],
        [range(end - size, end) for size, end in zip(sizes, ends, strict=True)],
        shuffle=True,
    )
    of = np.searchsorted(ends, positions_of(order, seed, 0), side="right")
    batch = 64
    table = np.array([np.bincount(some, minlength=len(rates)) for some in np.array_split(of, len(of) // batch)])
    # Homogeneity over all batches: do they come from one distribution, the rates?
    expected = table.sum(axis=1, keepdims=True) * np.array(rates) / sum(rates)
    chi2 = ((table - expected) ** 2 / expected).sum()
    free = table.shape[0] * (len(rates) - 1)
    assert 1e-3 < stats.chi2.sf(chi2, free) < 1 - 1e-3
    # The member of a visit says nothing of the next.
    pairs = np.zeros((len(rates), len(rates)))
    np.add.at(pairs, (of[:-1:2], of[1::2][: len(of[:-1:2])]), 1)
    assert stats.chi2_contingency(pairs).pvalue > 1e-3


def test_what_is_drawn_in_every_epoch_is_uniform_by_chi_square():
    order = Mixed(
        [MemberOrder(Shuffled(40), 8, independent=True), MemberOrder(Shuffled(8), 8)],
        [range(40), range(40, 48)],
        shuffle=True,
    )
    visited = np.concatenate([positions_of(order, 5, epoch) for epoch in range(500)])
    counts = np.bincount(visited[visited < 40], minlength=40)
    # Each epoch draws without replacement, so counts vary less than a multinomial by 1 - 8/40.
    chi2 = ((counts - 100) ** 2 / 100).sum() / (1 - 8 / 40)
    assert 1e-3 < stats.chi2.sf(chi2, 39) < 1 - 1e-3


SIZES = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 1000), min_size=1)


@given(SIZES, st.data(), st.sampled_from(["exhaust_first", "exhaust_all"]))
def test_an_epoch_ends_with_the_first_or_the_last_member(sizes, data, policy):
    rates = {name: data.draw(st.integers(1, 50)) for name in sizes}
    visits = at_rates(sizes, rates, policy)
    passes = {name: Fraction(visits[name], sizes[name]) for name in sizes}
    if policy == "exhaust_first":
        assert max(passes.values()) == 1
    else:
        assert min(passes.values()) == 1
    # All members have been visited for as many rounds, but for less than one visit.
    rounds = min if policy == "exhaust_first" else max
    wanted = rounds(Fraction(sizes[name], rates[name]) for name in sizes)
    assert all(abs(visits[name] - rates[name] * wanted) < 1 for name in sizes)


def test_rates_are_the_decimals_that_were_written():
    assert at_rates({"a": 700, "b": 300}, {"a": 0.7, "b": 0.3}, "exhaust_all") == {"a": 700, "b": 300}
    assert at_rates({"a": 700, "b": 300}, {"a": np.float64(0.7), "b": 0.3}, "exhaust_first") == {"a": 700, "b": 300}
    assert at_rates({"a": 10, "b": 10}, {"a": np.int64(2), "b": 1}, "exhaust_first") == {"a": 10, "b": 5}


@given(SIZES, st.floats(0.2, 50))
def test_a_temperature_keeps_the_length_of_an_epoch_and_evens_out_the_members(sizes, temperature):
    visits = at_temperature(sizes, temperature)
    assert sum(visits.values()) == sum(sizes.values())
    weights = {name: size ** (1 / temperature) for name, size in sizes.items()}
    for name in sizes:
        assert abs(visits[name] - sum(sizes.values()) * weights[name] / math.fsum(weights.values())) <= 1 + 1e-6
    assert at_temperature(sizes, 1) == sizes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "exhaust"}, "unknown policy 'exhaust'; did you mean 'exhaust_all'"),
        ({"rates": {"a": 1}}, "rates has no rate of 'b'; give every member a rate"),
        ({"rates": {"a": 1, "b": 1, "c": 1}}, "unknown member in rates 'c'"),
        ({"rates": {"a": 1, "b": 0}}, "the rate of 'b' is 0; required: a finite number above 0"),
        ({"rates": {"a": 1, "b": math.inf}}, "the rate of 'b' is inf"),
        ({"rates": {"a": 1, "b": True}}, "the rate of 'b' is True"),
        ({"rates": {"a": 1, "b": 1}, "policy": "temperature"}, "rates cannot be used with the policy 'temperature'"),
        ({"temperature": 2.0}, "temperature=2.0 needs policy='temperature'"),
        ({"policy": "temperature", "temperature": -1}, "temperature is -1; required"),
        ({"replay": {"c": 1}}, "unknown member in replay 'c'"),
        ({"replay": {"a": 0}}, "replay of 'a' is 0; required"),
        ({"replay": {"a": 1, "b": 1}}, "replay names all members"),
        ({"replay": {"a": 1}, "rates": {"a": 1, "b": 1}}, "unknown member in rates 'a'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Rates(**options).check(["a", "b"])


def test_a_member_that_would_never_come_is_refused():
    with pytest.raises(InputError, match="at these rates an epoch has no graph of 'b'"):
        Rates({"a": 1000, "b": 1}).visits({"a": 10, "b": 10})
    with pytest.raises(InputError, match="the member 'b' has no graphs"):
        Rates({"a": 1, "b": 1}).visits({"a": 10, "b": 0})
    with pytest.raises(InputError, match="found a replay of 5 graphs of 'a'; required: at most 4, which it has"):
        Rates(replay={"a": 5}).visits({"a": 4, "b": 10})


def test_what_an_epoch_visits_of_each_member():
    sizes = {"a": 300, "b": 50, "c": 20}
    assert Rates().visits(sizes) == sizes
    assert Rates(policy="exhaust_first").visits(sizes) == {"a": 20, "b": 20, "c": 20}
    assert Rates(policy="exhaust_all").visits(sizes) == {"a": 300, "b": 300, "c": 300}
    assert Rates(replay={"a": 30}).visits(sizes) == {"a": 30, "b": 50, "c": 20}
    assert Rates({"b": 2, "c": 1}, replay={"a": 30}).visits(sizes) == {"a": 30, "b": 40, "c": 20}
    assert sum(Rates(policy="temperature").visits(sizes).values()) == 370
