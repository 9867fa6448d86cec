"""Orders: every graph once, the same everywhere and for ever, near neighbours together, draws by weight."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from whole import positions_of

from lazygraph.errors import InputError
from lazygraph.loading.orders import PART, Sequential, Shuffled, Weighted, Windowed, digest, order_of

SEEDS = st.integers(0, 2**70)
EPOCHS = st.integers(0, 2**40)


@st.composite
def windowed(draw):
    window = draw(st.integers(1, 40))
    return Windowed(draw(st.integers(0, 150)), window, draw(st.integers(1, window)))


orders_once = st.one_of(st.builds(Sequential, st.integers(0, 80)), st.builds(Shuffled, st.integers(0, 80)), windowed())


@given(orders_once, SEEDS, EPOCHS)
def test_every_graph_comes_once(order, seed, epoch):
    positions = positions_of(order, seed, epoch)
    assert positions.dtype == np.int64
    assert sorted(positions.tolist()) == list(range(order.n))


@given(
    st.one_of(orders_once, st.builds(lambda n: Weighted(np.arange(1, n + 1)), st.integers(1, 80))), EPOCHS, st.data()
)
def test_any_part_is_that_of_the_whole(order, epoch, data):
    whole, drawn = positions_of(order, 1, epoch).tolist(), order.draw(1, epoch)
    for _ in range(4):
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, order.n)] * 2)))
        assert drawn.part(start, stop).tolist() == whole[start:stop]


def test_weighted_draws_are_the_same_in_parts():
    order = Weighted(np.random.default_rng(0).random(2 * PART + 100))
    drawn = order.draw(3, 4)
    parts = [drawn.part(start, min(start + 50_000, order.n)) for start in range(0, order.n, 50_000)]
    assert np.concatenate(parts).tolist() == positions_of(order, 3, 4).tolist()


def test_a_sequence_stays_one():
    assert positions_of(Sequential(4), 3, 5).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("order", "want"),
    [
        (Shuffled(12), [8, 2, 10, 1, 4, 6, 7, 5, 9, 11, 0, 3]),
        (Windowed(12, 6, 2), [0, 5, 10, 11, 4, 1, 2, 6, 8, 9, 3, 7]),
        (Weighted([0, 1, 0, 2, 3, 0, 0.5, 1e-9]), [4, 3, 1, 6, 3, 4, 3, 4]),
    ],
    ids=repr,
)
def test_an_order_is_the_same_for_ever(order, want):
    """An interrupted epoch must go on in the same order after an update of lazygraph or numpy."""
    assert positions_of(order, seed=7, epoch=3).tolist() == want


@pytest.mark.parametrize("order", [Shuffled(200), Windowed(200, 50, 10), Weighted(np.ones(200))], ids=repr)
def test_every_epoch_and_seed_has_its_own_order(order):
    places = [(0, 0), (0, 1), (1, 0), (1, 1), (2**32, 0), (0, 2**32), (2**32 + 1, 0)]
    found = {tuple(positions_of(order, *place).tolist()) for place in places}
    assert len(found) == len(places)
    assert positions_of(order, 5, 9).tolist() == positions_of(order, 5, 9).tolist()


def test_all_orders_are_equally_likely():
    """Of three graphs there are six orders; in 6,000 epochs each comes about 1,000 times (31 is one deviation)."""
    counts = {}
    for epoch in range(6000):
        order = tuple(positions_of(Shuffled(3), 0, epoch).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert all(abs(count - 1000) < 150 for count in counts.values())


# ---- windows ----


@given(windowed(), SEEDS)
def test_a_block_is_visited_within_one_window(order, seed):
    visits = np.argsort(positions_of(order, seed, 0))  # when each graph is visited
    for start in range(0, order.n, order.block):
        block = visits[start : start + order.block]
        assert block.max() - block.min() < order.window


@given(windowed(), SEEDS)
def test_a_page_cache_of_one_window_reads_every_block_once(order, seed):
    blocks = positions_of(order, seed, 0) // order.block
    first = {int(block): i for i, block in reversed(list(enumerate(blocks)))}
    last = {int(block): i for i, block in enumerate(blocks)}
    for i in range(order.n):
        assert sum(first[block] <= i <= last[block] for block in first) * order.block <= order.window


def test_graphs_are_shuffled_beyond_their_block():
    order = Windowed(4000, window=1000, block=100)
    blocks = positions_of(order, 0, 0) // 100
    assert len(set(blocks[:1000].tolist())) == 10
    # neighbours in the order come from one block by chance only: one of ten
    assert np.mean(blocks[1:] == blocks[:-1]) < 0.2
    assert sorted(set(blocks[:1000].tolist())) != list(range(10))


def test_no_window_is_a_small_rest():
    """Eleven blocks in windows of up to ten: windows of six and five, not of ten and one."""
    blocks = positions_of(Windowed(1100, window=1000, block=100), 0, 0) // 100
    assert len(set(blocks[:600].tolist())) == 6
    assert len(set(blocks[600:].tolist())) == 5


# ---- weights ----


@given(st.lists(st.sampled_from([0.0, 5e-324, 1e-300, 0.5, 1.0, 3.0, 1e308, 1.7e308]), max_size=30), SEEDS)
def test_as_many_draws_as_graphs_and_none_of_weight_zero(weights, seed):
    assume(not weights or any(weights))
    drawn = positions_of(Weighted(weights), seed, 0)
    assert drawn.dtype == np.int64
    assert len(drawn) == len(weights)
    assert all(weights[i] > 0 for i in drawn)


def test_draws_follow_the_weights():
    weights = np.tile([1.0, 2.0, 0.0, 5.0], 5000)
    drawn = np.bincount(positions_of(Weighted(weights), 0, 0) % 4, minlength=4)
    np.testing.assert_allclose(drawn / 20000, [1 / 8, 2 / 8, 0, 5 / 8], atol=0.015)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, np.nan, np.inf], r"2 of 3 weights cannot be used, the first at position 1: nan; required: finite"),
        ([1.0, -0.5], r"1 of 2 weights cannot be used, the first at position 1: -0\.5"),
        ([0.0, 0.0], "all 2 weights are 0; at least one"),
        ([[1.0, 2.0]], r"found weights of shape \(1, 2\); required: one number for each graph"),
    ],
)
def test_weights_that_cannot_be_drawn_by_are_refused(weights, message):
    with pytest.raises(InputError, match=message):
        Weighted(weights)


# ---- options ----


def test_options_name_an_order():
    assert order_of(9, shuffle=False) == Sequential(9)
    assert order_of(9, shuffle=True) == Shuffled(9)
    assert order_of(9, shuffle=True, window=4096) == Windowed(9, 4096, 1024)
    assert order_of(9, shuffle=True, window=100) == Windowed(9, 100, 100)
    assert isinstance(order_of(2, shuffle=False, weights=[1, 2]), Weighted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"shuffle": True, "weights": [1, 1]},
            "cannot be used with shuffle=True, window=None, .*; give weights alone",
        ),
        ({"shuffle": False, "window": 10}, "window=10 needs shuffle=True; set it, or leave window out"),
        ({"shuffle": False, "weights": [1]}, "found 1 weights; required: one for each of the 2 graphs"),
        ({"shuffle": True, "window": 0}, "found window=0; required: a whole number, at least 1"),
        ({"shuffle": True, "window": 1e4}, r"found window=10000\.0; required: a whole number"),
    ],
)
def test_options_that_exclude_one_another_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        order_of(2, **options)


def test_a_block_does_not_outgrow_its_window():
    with pytest.raises(InputError, match="blocks of 20 graphs do not fit into windows of 10; give block <= window"):
        Windowed(100, window=10, block=20)


# ---- digests ----


def test_a_digest_is_of_values_not_of_their_width():
    assert digest(np.array([1, 2], ">i2")) == digest(np.array([1, 2], np.uint64)) == digest(range(1, 3))
    assert digest(np.array([1.0, 2.0], np.float32)) == digest(np.array([1.0, 2.0]))
    assert len({digest([1, 2]), digest([2, 1]), digest([1, 2, 0]), digest([1.0, 2.0]), digest(range(0))}) == 5
