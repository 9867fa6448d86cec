"""Joining batches of records: the same as putting the single records together in the order of the batch."""

from __future__ import annotations

import numpy as np
import pytest
from drawing import records, schemas
from hypothesis import given
from hypothesis import strategies as st

from lazygraph.format.record_batch import concatenate, join
from lazygraph.format.schema import Field, Schema


@given(st.data())
def test_batches_are_joined_as_their_records(data):
    schema = data.draw(schemas())
    singles = [data.draw(records(schema)) for _ in range(data.draw(st.integers(1, 6)))]
    singles = [(counts, fields) for fields, counts in singles]
    _within_range(schema, singles)
    part_of = data.draw(st.lists(st.integers(0, 2), min_size=len(singles), max_size=len(singles)))
    parts, places = [], []
    for number in sorted(set(part_of)):
        own = np.flatnonzero(np.array(part_of) == number)
        if data.draw(st.booleans()):
            own = own[::-1]
        parts.append(concatenate(schema, [singles[k] for k in own.tolist()]))
        places.append(own)
    found, expected = join(schema, parts, places), concatenate(schema, singles)
    for axis in schema.axes:
        np.testing.assert_array_equal(found.counts[axis], expected.counts[axis])
    for field in schema.fields:
        mine, theirs = found.fields[field.name], expected.fields[field.name]
        if field.dtype == "str":
            assert mine == theirs
        else:
            assert mine.shape == theirs.shape
            if field.counts is None:
                assert (mine.dtype, mine.tobytes()) == (theirs.dtype, theirs.tobytes())
            else:
                np.testing.assert_array_equal(mine.astype(theirs.dtype), theirs)


def _within_range(schema, singles):
    """Make ids small, as those of records are: others would overflow in the one way and not in the other."""
    for _, fields in singles:
        for field in schema.fields:
            if field.counts is not None:
                fields[field.name] = fields[field.name] & np.array(7, field.dtype)


@pytest.mark.parametrize("narrow", ["<u1", "<i2", "<u8"])
def test_integers_of_other_widths_are_joined(narrow):
    schema = Schema(("node",), (Field("z", "int64", axis="node"),))
    a = concatenate(schema, [([2], {"z": np.array([1, 2], narrow)})])
    b = concatenate(schema, [([1], {"z": np.array([-3], "<i8")})])
    found = join(schema, [a, b], [np.array([1]), np.array([0])]).fields["z"]
    assert found.tolist() == [-3, 1, 2]
    assert found.dtype.kind == "i"


def test_one_part_is_passed_on_as_it_is():
    schema = Schema(("node",), (Field("z", "int64", axis="node"),))
    batch = concatenate(schema, [([1], {"z": np.array([1])}), ([1], {"z": np.array([2])})])
    assert join(schema, [batch], [np.array([0, 1])]) is batch
    assert join(schema, [batch], [np.array([1, 0])]).fields["z"].tolist() == [2, 1]
