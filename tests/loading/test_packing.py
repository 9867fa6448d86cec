"""Packing: limits are kept, no batch could have been longer, and the order does not change."""

import pickle
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lazygraph.errors import InputError
from lazygraph.loading.batch_table import Batches, BatchTable, totals
from lazygraph.loading.orders import Shuffled
from lazygraph.loading.packing import OversizedGraphs, Packer, pack, refuse_oversized

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


# ---- halving ----


@given(cuts(), st.integers(0, 20))
def test_the_largest_batch_is_halved_again_and_again(ptr, more):
    assume(ptr[-1] >= len(ptr) - 1 + more)
    want = ptr.tolist()
    for _ in range(more):
        counts = np.diff(want)
        largest = max(np.flatnonzero(counts == counts.max()))
        want.insert(largest + 1, want[largest] + (counts[largest] + 1) // 2)
    halved = BatchTable.from_counts(np.diff(ptr)).halved(more)
    assert rows_of(halved) == [[a, b - a, a] for a, b in pairwise(want)]


def test_a_batch_of_one_graph_cannot_be_halved():
    with pytest.raises(InputError, match="3 graphs cannot fill 4 batches; every batch needs at least one"):
        BatchTable.from_counts(np.array([1, 1, 1])).halved(1)


# ---- batches ----


@given(cuts(), st.data())
def test_batches_are_taken_and_skipped_whole(ptr, data):
    order, counts = Shuffled(int(ptr[-1])), np.diff(ptr)
    batches = Batches(order.draw(0, 0), BatchTable.from_counts(counts))
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
    assert [extent.place for extent in taken.extents()] == ptr[:-1][count::step].tolist()
    assert taken.graphs == sum(map(len, listed[count::step]))


@given(packings(), st.data())
def test_graphs_in_parts_are_packed_as_all_of_them_together(packing, data):
    sizes, limits = packing
    n = len(next(iter(sizes.values())))
    ends = sorted(data.draw(st.lists(st.integers(0, n), max_size=5)))
    packer, starts = Packer(limits), []
    for a, b in pairwise([0, *ends, n]):
        starts += (a + packer.add({name: size[a:b] for name, size in sizes.items()})).tolist()
    ptr = pack(sizes, limits)
    assert starts == ptr[:-1].tolist()
    last = slice(*ptr[-2:]) if len(ptr) > 1 else slice(0)
    assert packer.is_full == (n > 0 and any(sizes[name][last].sum() >= limits[name] for name in limits))


def table_of(sizes, limits, section, parts):
    """The table of batches, made in sections; sizes are given in parts of so many sections."""
    n = len(next(iter(sizes.values())))

    def part(start, stop):
        return {name: size[start:stop] for name, size in sizes.items()}

    step = section * parts
    return BatchTable.within_limits(limits, (part(k, min(k + step, n)) for k in range(0, n, step)), part, section)


def rows_of(table):
    return table.rows(0, len(table)).tolist()


@given(packings(), st.integers(1, 50), st.integers(1, 4), st.data())
def test_batches_of_a_section_are_those_of_the_whole_order(packing, section, parts, data):
    """Whatever the length of the sections, and in whatever order the rows are asked for."""
    table, is_full = table_of(*packing, section, parts)
    held = BatchTable.from_counts(np.diff(pack(*packing)))
    if len(held) and not is_full and data.draw(st.booleans()):
        table, held = table.without_last(), BatchTable.from_counts(held.rows(0, len(held) - 1)[:, 1])
    more = data.draw(st.integers(0, min(sum(row[1] for row in rows_of(held)) - len(held), 5)))
    table, held = table.halved(more), held.halved(more)
    assert len(table) == len(held)
    for first in data.draw(st.permutations(range(len(held)))):
        last = data.draw(st.integers(first, len(held)))
        assert table.rows(first, last).tolist() == held.rows(first, last).tolist()


@given(packings(), st.integers(1, 9), st.integers(1, 4))
def test_pools_are_shuffled_and_their_places_counted(packing, pool, pools):
    """In sections of some pools, each batch stays in its pool, and the places are the graphs before it."""
    table, _ = table_of(*packing, pool * pools, 2)
    keys = np.random.default_rng(0).permutation(len(table))
    shuffled = table.shuffled(lambda first, last: keys[first:last], pool)
    before = rows_of(table)
    wanted = sorted(range(len(table)), key=lambda k: (before[k][0] // pool, keys[k]))
    places = np.cumsum([0, *(before[k][1] for k in wanted)])[:-1].tolist()
    assert rows_of(shuffled) == [[*before[k][:2], place] for k, place in zip(wanted, places, strict=True)]


@given(st.integers(0, 300), st.one_of(st.integers(1, 40), st.sampled_from([2**63, 10**30])), st.integers(1, 80))
def test_batches_of_a_number_of_graphs_need_no_sizes(n, size, section):
    counts = np.diff(pack({"graphs": np.ones(n, int)}, {"graphs": size}))
    assert rows_of(BatchTable.of_size(n, size, section)) == rows_of(BatchTable.from_counts(counts))


@given(cuts(), st.lists(st.integers(0, 9), min_size=150, max_size=150))
def test_totals_are_sums_over_batches(ptr, size):
    order = Shuffled(int(ptr[-1])).draw(3, 1)
    batches = Batches(order, BatchTable.from_counts(np.diff(ptr)))
    found = totals(batches, {"atoms": np.array(size, np.uint8)})
    assert found["atoms"].tolist() == [sum(size[i] for i in batch.tolist()) for batch in batches]
    assert found["graphs"].tolist() == np.diff(ptr).tolist()
