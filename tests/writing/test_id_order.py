"""Ids sorted in runs and ranges are in the order in which numpy sorts them at once, and repeated ids are found."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph.format.digests import CheckedColumn, blocks_of_column
from lazygraph.writing import id_order
from lazygraph.writing.id_order import added_to, order_ids, order_type
from lazygraph.writing.temporary_arrays import TemporaryArrays

IDS = st.lists(st.binary(min_size=1, max_size=3).filter(lambda raw: b"\0" not in raw), min_size=1, max_size=60)


def at_once(ids):
    """The order, the dropped rows, and the first row of the id of each, by sorting all ids in memory."""
    first, dropped = {}, {}
    for row, one in enumerate(ids):
        if one in first:
            dropped[row] = first[one]
        else:
            first[one] = row
    kept = [row for row in range(len(ids)) if row not in dropped]
    array = np.array([ids[row] for row in kept])
    return np.argsort(array, kind="stable").tolist(), list(dropped), list(dropped.values())


def pieces_of(ids, cuts):
    return [np.array(part.tolist() or np.empty(0, "S1")) for part in np.array_split(np.array(ids), cuts)]


def listed(order):
    return np.concatenate([np.empty(0, np.int64), *order]).tolist(), order.dropped.tolist(), order.first.tolist()


def checked(values):
    return CheckedColumn("column", values, blocks_of_column(values))


@pytest.fixture
def small(monkeypatch):
    """Runs of a few ids, so that small examples have many of them."""
    monkeypatch.setattr(id_order, "RUN", 12)
    monkeypatch.setattr(id_order, "SAMPLES", 2)
    monkeypatch.setattr(id_order, "STEP", 5)


@pytest.mark.usefixtures("small")
@given(IDS, st.integers(1, 5))
def test_runs_and_ranges_sort_as_numpy_does_at_once(ids, cuts):
    found = order_ids(pieces_of(ids, cuts), TemporaryArrays(Path()))
    assert listed(found) == at_once(ids)
    assert found.sorted_ids.tolist() == sorted(set(ids))


@pytest.mark.usefixtures("small")
@given(IDS, IDS, st.integers(1, 4))
def test_new_ids_are_put_between_those_of_a_dataset(old, new, cuts):
    old = list(dict.fromkeys(old))
    ids = np.array(old)
    order = np.argsort(ids, kind="stable").astype("<u4")
    added = order_ids(pieces_of(new, cuts), TemporaryArrays(Path()), len(old))
    found = added_to(added, checked(ids), checked(order), TemporaryArrays(Path()))
    assert listed(found) == at_once([*old, *new])


@pytest.mark.usefixtures("small")
def test_all_ids_equal_or_in_order_or_reversed():
    for ids in ([b"x"] * 50, [b"%02d" % n for n in range(60)], [b"%02d" % n for n in range(60)][::-1]):
        assert listed(order_ids(pieces_of(ids, 3), TemporaryArrays(Path()))) == at_once(ids)


@settings(max_examples=20)
@given(st.integers(0, 2**33))
def test_the_type_of_the_order_is_that_of_the_format(rows):
    assert order_type(rows) == ("<u4" if rows < 2**32 else "<u8")


def test_memory_does_not_grow_with_the_number_of_ids(tmp_path):
    def peak(n):
        numbers = np.random.default_rng(0).permutation(n)
        pieces = [np.char.mod("id-%08d", part).astype("S") for part in np.array_split(numbers, 8)]
        tracemalloc.start()
        order = order_ids(pieces, TemporaryArrays(tmp_path))
        count = sum(len(piece) for piece in order)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == n
        return found

    small, large = peak(100_000), peak(700_000)
    assert large - small < 3_000_000  # while ids and rows together, and their copies, grow by 20 MB
    assert list(tmp_path.iterdir()) == []
