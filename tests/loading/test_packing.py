"""Packing: limits are kept, no batch could have been longer, and the order does not change."""

import pickle
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lazygraph.errors import InputError
from lazygraph.loading.orders import Shuffled
from lazygraph.loading.packing import Batches, OversizedGraphs, pack, pack_in_parts, refuse_oversized, split

NAMES = ("atoms", "edges", "triplets")


@st.composite
def packings(draw):
    """Sizes of up to 40 graphs, and one to three limits that each of them keeps."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    n = draw(st.integers(0, 40))
    limits = {name: draw(st.integers(1, 30)) for name in names}
    graphs = {name: st.lists(st.integers(0, limits[name]), min_size=n, max_size=n) for name in names}
    return {name: np.array(draw(graphs[name]), dtype=np.int64) for name in names}, limits


@st.composite
def cuts(draw):
    """The ``ptr`` of some batches, none of them empty."""
    counts = draw(st.lists(st.integers(1, 12), max_size=12))
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))


def sums(size, ptr):
    return [int(size[a:b].sum()) for a, b in zip(ptr[:-1], ptr[1:], strict=True)]


# ---- pack ----


@given(packings())
def test_batches_are_neither_empty_nor_over_a_limit_and_leave_out_nothing(packing):
    sizes, limits = packing
    ptr = pack(sizes, limits)
    n = len(next(iter(sizes.values())))
    assert ptr.dtype == np.int64
    assert (ptr[0], ptr[-1]) == (0, n)
    assert (np.diff(ptr) > 0).all()
    for name, limit in limits.items():
        assert all(total <= limit for total in sums(sizes[name], ptr))


@given(packings())
def test_no_batch_could_have_taken_the_next_graph(packing):
    sizes, limits = packing
    ptr = pack(sizes, limits)
    for start, end in zip(ptr[:-2], ptr[1:-1], strict=True):
        assert any(sizes[name][start : end + 1].sum() > limits[name] for name in limits)


@given(packings(), st.sampled_from(["u1", "i2", "u4", "<u8", ">i4"]))
def test_the_width_of_a_column_changes_nothing(packing, dtype):
    sizes, limits = packing
    narrow = {name: size.astype(dtype) for name, size in sizes.items()}
    np.testing.assert_array_equal(pack(narrow, limits), pack(sizes, limits))


def test_sums_do_not_overflow_narrow_columns():
    sizes = {"atoms": np.full(1000, 200, np.uint8)}
    assert sums(sizes["atoms"].astype(int), pack(sizes, {"atoms": 1000})) == [1000] * 200


def test_sums_are_exact():
    sizes = {"atoms": np.array([2**60, 1, 2**60 - 1], np.uint64)}
    assert pack(sizes, {"atoms": 2**60}).tolist() == [0, 1, 3]


@pytest.mark.parametrize("limit", [sys.maxsize, 10**30])
def test_a_limit_may_mean_no_limit(limit):
    assert pack({"atoms": np.arange(5)}, {"atoms": limit}).tolist() == [0, 5]


def test_graphs_without_any_triplet_are_one_batch():
    assert pack({"triplets": np.zeros(7, int)}, {"triplets": 1}).tolist() == [0, 7]


@given(st.integers(0, 200), st.integers(1, 9))
def test_a_number_of_graphs_is_a_limit_as_any_other(n, size):
    assert pack({"graphs": np.ones(n, int)}, {"graphs": size}).tolist() == [*range(0, n, size), n]


def test_oversized_graphs_are_counted_and_the_largest_named():
    sizes = {"atoms": np.array([3, 9, 4, 6, 11, 7, 8]), "edges": np.array([50, 1, 1, 1, 1, 1, 1])}
    with pytest.raises(OversizedGraphs) as caught:
        pack(sizes, {"atoms": 5, "edges": 20})
    assert caught.value.positions.tolist() == [0, 1, 3, 4, 5, 6]
    assert str(caught.value) == (
        "6 graphs are too large for any batch: 5 with more than 5 atoms (11 at position 4, 9 at position 1, 8 at "
        "position 6, ...); 1 with more than 20 edges (50 at position 0); raise the limits, or use a subset without "
        "them"
    )


def test_the_error_of_oversized_graphs_reaches_another_process():
    with pytest.raises(OversizedGraphs) as caught:
        refuse_oversized({"atoms": np.array([6])}, {"atoms": 5})
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.positions.tolist() == [0]


def test_a_graph_of_exactly_the_limit_fits():
    refuse_oversized({"atoms": np.array([5, 5])}, {"atoms": 5})


# ---- split ----


@given(cuts(), st.integers(0, 20))
def test_the_largest_batch_is_halved_again_and_again(ptr, more):
    assume(ptr[-1] >= len(ptr) - 1 + more)
    want = ptr.tolist()
    for _ in range(more):
        counts = np.diff(want)
        largest = max(np.flatnonzero(counts == counts.max()))
        want.insert(largest + 1, want[largest] + (counts[largest] + 1) // 2)
    assert split(ptr, more).tolist() == want


def test_a_batch_of_one_graph_cannot_be_halved():
    with pytest.raises(InputError, match="3 graphs cannot fill 4 batches; every batch needs at least one"):
        split(np.array([0, 1, 2, 3]), 1)


# ---- batches ----


@given(cuts(), st.data())
def test_batches_are_taken_and_skipped_whole(ptr, data):
    order, counts = Shuffled(int(ptr[-1])), np.diff(ptr)
    batches = Batches(order.draw(0, 0), ptr[:-1], counts, ptr[:-1])
    listed = [batch.tolist() for batch in batches]
    assert len(listed) == len(batches)
    assert sum(listed, []) == order.draw(0, 0).part(0, order.n).tolist()
    assert batches.graphs == order.n

    count = data.draw(st.integers(0, len(batches) + 2))
    rest = batches.skip(count)
    assert [batch.tolist() for batch in rest] == listed[count:]
    assert len(rest) == len(listed[count:])
    step = data.draw(st.integers(1, 4))
    taken = rest.take(slice(0, None, step))
    assert [batch.tolist() for batch in taken] == listed[count::step]
    assert taken.places.tolist() == ptr[:-1][count::step].tolist()


@given(packings(), st.data())
def test_graphs_in_parts_are_packed_as_all_of_them_together(packing, data):
    sizes, limits = packing
    n = len(next(iter(sizes.values())))
    ends = sorted(data.draw(st.lists(st.integers(0, n), max_size=5)))
    parts = [{name: size[a:b] for name, size in sizes.items()} for a, b in pairwise([0, *ends, n])]
    counts, is_full = pack_in_parts(parts, limits)
    ptr = pack(sizes, limits)
    assert counts.tolist() == np.diff(ptr).tolist()
    last = slice(*ptr[-2:]) if len(ptr) > 1 else slice(0)
    assert is_full == any(sizes[name][last].sum() >= limits[name] for name in limits)
