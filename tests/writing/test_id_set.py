"""The table of ids that were added answers as a set does, also where hashes are equal and where it grows."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazygraph.writing import id_set
from lazygraph.writing.id_set import IdSet
from lazygraph.writing.temporary_arrays import TemporaryArrays


def made(ids, folder=Path()):
    """A table of these ids, and what it said of each before it was added."""
    added = []
    table = IdSet(TemporaryArrays(folder), lambda number: added[number])
    said = []
    for one in ids:
        said.append(one in table)
        if not said[-1]:
            table.add(one)
            added.append(one)
    return table, said


@pytest.mark.parametrize("few", [2, 40, 2**16])
@given(ids=st.lists(st.integers(0, 300).map(str), max_size=400))
def test_it_answers_as_a_set_does(few, ids):
    """With few different hashes too, from the beginning and from the end of the table."""
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(id_set, "FIRST", 3)
        context.setattr(id_set, "CHUNK", 8)
        context.setattr(id_set, "SPARE", 400)
        context.setattr(id_set, "_hash", lambda one: (int(one) % few + 1) * (2**64 // (few + 1)))
        table, said = made(ids)
        assert said == [one in ids[:row] for row, one in enumerate(ids)]
        assert len(table) == len(set(ids))
        assert all(one in table for one in ids)
        assert "another" not in [one for one in map(str, range(301, 400)) if one in table]
        assert not any(one in table for one in map(str, range(301, 400)))


def test_a_table_that_grew_many_times_has_every_id():
    numbers = np.random.default_rng(0).permutation(20_000).tolist()
    table, said = made(f"id-{number}" for number in numbers)
    assert not any(said)
    assert all(f"id-{number}" in table for number in range(20_000))
    assert not any(f"id-{number}" in table for number in range(20_000, 40_000))


def test_the_table_is_not_in_memory(tmp_path):
    def peak(n):
        table = IdSet(TemporaryArrays(tmp_path), str)
        tracemalloc.start()
        for number in range(n):
            table.add(str(number))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert "0" in table
        return found

    small, large = peak(20_000), peak(60_000)
    assert large - small < 2_000_000  # while a set of the ids would take 5 MB more
    assert list(tmp_path.iterdir()) == []
