"""Sums of columns are those of ``math.fsum``, to the bit, whatever the numbers and the pieces."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazygraph.format import exact_sum as module
from lazygraph.format.exact_sum import exact_sum

FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


def same(values, pieces):
    assert struct.pack("<d", exact_sum(pieces)) == struct.pack("<d", math.fsum(values.tolist()))


@given(
    st.lists(FINITE | st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 2.0**52, 1.0, -1.0, 0.1]), max_size=60), st.data()
)
def test_any_numbers_in_any_pieces(numbers, data):
    values = np.array(numbers, np.float64)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(numbers)), max_size=4)))
    same(values, np.split(values, cuts))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2000), st.integers(-1060, 900))
def test_numbers_of_a_range_of_exponents(seed, spread, least):
    """Few exponents end after two passes, and many of them only with fsum."""
    rng = np.random.default_rng(seed)
    exponents = np.clip(least + rng.integers(0, spread + 1, 500), -1074, 990)
    values = np.ldexp(rng.uniform(-1, 1, 500), exponents)
    same(values, [values])


@pytest.mark.parametrize("n", [1, module.CHUNK - 1, module.CHUNK, module.CHUNK + 1, 3 * module.CHUNK + 5])
@pytest.mark.parametrize("kind", ["ties", "equal", "normal", "cancelling"])
def test_full_chunks(n, kind):
    rng = np.random.default_rng(n)
    values = {
        "ties": np.where(rng.integers(0, 2, n) == 1, 1 + 2.0**-52, -(2.0**-53)),
        "equal": np.full(n, np.nextafter(1.0, 0)),  # the largest sum that a chunk may have
        "normal": rng.normal(size=n) * 1e-3,
        "cancelling": np.resize([1e16, 1.0, -1e16, 2.0**-60], n),
    }[kind]
    same(values, [values])


def test_greatest_numbers_overflow_as_fsum_does():
    with pytest.raises(OverflowError):
        exact_sum([np.full(3, 1.7e308)])
    same(np.array([1.7e308, -1.7e308, 3.0]), [np.array([1.7e308, -1.7e308, 3.0])])
    assert exact_sum([np.array([np.inf, 1.0])]) == math.inf
    assert math.isnan(exact_sum([np.array([np.nan])]))
