"""The fused multiply-add against exact fractions, and right angles against an exact arc cosine."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lazygraph.graphs.lattice import OBTUSE, _fused, _obtuse
from lazygraph.graphs.rounding import fused, fused_product

EXACT = mpmath.mp.clone()
EXACT.prec = 400
moderate = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-30)


def exact(a, b, c):
    return float(Fraction(a) * Fraction(b) + Fraction(c))


@given(moderate, moderate, moderate, st.integers(-4, 4))
def test_one_rounding_also_where_the_sum_nearly_cancels_or_nearly_ties(a, b, c, steps):
    near = -a * b
    for _ in range(abs(steps)):
        near = float(np.nextafter(near, np.sign(steps) * np.inf))
    for addend in (c, near, a * 2.0**-52, a * b * 2.0**53):
        found = fused(np.array([a]), np.array([b]), np.array([addend]))[0]
        assert found == exact(a, b, addend) == _fused(a, b, addend)


@given(st.integers(0, 2**32 - 1))
def test_a_product_adds_in_order(seed):
    rng = np.random.default_rng(seed)
    rows, matrix = rng.normal(size=(4, 3)) * 3, rng.normal(size=(3, 3)) * 5
    found = fused_product(rows, matrix)
    for row, column in np.ndindex(4, 3):
        f, m = rows[row].tolist(), matrix[:, column].tolist()
        assert found[row, column] == exact(f[2], m[2], exact(f[1], m[1], f[0] * m[0]))


def test_it_differs_from_two_roundings():
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 1000))
    assert 100 < (fused(a, b, c) != a * b + c).sum() < 900


def test_an_angle_is_obtuse_by_the_published_test_with_a_correct_arc_cosine():
    def published(cosine):
        return float(EXACT.acos(cosine)) / math.pi * 180.0 > 90.0

    assert published(OBTUSE)
    assert not published(math.nextafter(OBTUSE, 0.0))
    for cosine in (-1.0, -0.5, -1e-15, OBTUSE, math.nextafter(OBTUSE, 0.0), -1e-17, 0.0, 1e-17, 1.0):
        assert _obtuse((1.0, 0.0, 0.0), (cosine, math.sqrt(1 - cosine**2), 0.0)) == published(cosine)
