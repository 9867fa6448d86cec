"""Groups of graphs with equal values are numbered as numpy numbers them in memory, whatever the number of graphs."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.reading.operands import chemical_systems
from lazygraph.writing import id_order
from lazygraph.writing.temporary_arrays import TemporaryArrays
from lazygraph.writing.value_groups import RuleColumns, number_groups

TEXTS = st.lists(st.sampled_from([b"", b"a", b"ab", b"b", b"bulk", b"\xc3\xa9"]), min_size=1, max_size=60)
NUMBERS = st.lists(st.sampled_from([np.nan, -1.5, -0.0, 0.0, 2.0, 1e300]), min_size=1, max_size=60)
SCRATCH = TemporaryArrays(Path())


@pytest.fixture
def small(monkeypatch):
    """Runs of a few values, so that small examples have many of them."""
    monkeypatch.setattr(id_order, "RUN", 16)
    monkeypatch.setattr(id_order, "SAMPLES", 2)


@pytest.mark.usefixtures("small")
@given(st.one_of(TEXTS, NUMBERS, st.lists(st.integers(-3, 9), min_size=1), st.lists(st.booleans(), min_size=1)))
def test_groups_are_numbered_in_the_order_of_their_values(values):
    array = np.array(values)
    groups = number_groups(np.array_split(array, 3), SCRATCH)
    different, numbers = np.unique(array, return_inverse=True)
    np.testing.assert_array_equal(groups.values, different)
    assert groups.numbers.tolist() == numbers.tolist()
    missing = sum(value in (b"", "") or value != value for value in array.tolist())
    assert groups.missing() == missing


def test_a_column_without_rows_has_no_groups():
    groups = number_groups([np.empty(0, "S3")], SCRATCH)
    assert (len(groups.numbers), len(groups.values), groups.missing()) == (0, 0, 0)


@pytest.mark.parametrize("different", [50, 400_000])
def test_numbering_takes_memory_that_does_not_grow(different, tmp_path):
    n = 400_000
    texts = np.char.add("a-long-chemical-formula-", (np.arange(n) * 7919 % different).astype("U6")).astype("S")
    tracemalloc.start()
    groups = number_groups([texts], TemporaryArrays(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(groups.values) == different
    assert peak < 8 * 2**20 < texts.nbytes


def test_chemical_systems_follow_from_formulas():
    columns = RuleColumns(lambda _: [np.array([b"Fe2O3", b"C"]), np.array([b"FeO"])], ["formula"], SCRATCH)
    assert columns.groups("chemical_system").numbers.tolist() == [1, 0, 1]
    assert chemical_systems(np.array([b"Co", b"CO", b"NaCl"])).tolist() == [b"Co", b"C-O", b"Cl-Na"]


def test_a_label_comes_before_what_is_derived():
    stored = {"formula": [np.array([b"FeO", b"Fe2O3"])], "chemical_system": [np.array([b"a", b"b"])]}
    columns = RuleColumns(stored.__getitem__, list(stored), SCRATCH)
    assert columns.groups("chemical_system").values.tolist() == [b"a", b"b"]


def test_no_chemical_system_without_formulas():
    columns = RuleColumns({}.__getitem__, ["kind"], SCRATCH)
    with pytest.raises(lg.InputError, match="unknown group 'chemical_system'; known: kind"):
        columns.values("chemical_system")
    with pytest.raises(lg.InputError, match="no prototypes of its crystals; 'lazygraph split --group proto"):
        columns.values("prototype")
