"""The angles of cells have the same bits on every machine, which correct rounding alone gives."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazygraph.sources.cif.trigonometry import arc_cosine, cosine_and_sine

EXACT = mpmath.mp.clone()
EXACT.prec = 400

angles = st.one_of(
    st.floats(0, math.pi),
    st.floats(-25, 0).map(lambda x: 10**x),
    st.floats(-16, 0).map(lambda x: math.pi - 10**x),
    st.sampled_from([math.radians(x) for x in (30, 45, 60, 90, 109.5, 120, 135, 150, 180)]),
)
cosines = st.one_of(
    st.floats(-1, 1),
    st.floats(-40, 0).map(lambda x: 10**x),
    st.floats(-16, 0).map(lambda x: 1 - 10**x),
    st.floats(-16, 0).map(lambda x: 10**x - 1),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 5e-324, 1 - 2**-53, 2**-53 - 1]),
)


@given(angles)
def test_cosines_and_sines_are_rounded_correctly(x):
    assert cosine_and_sine(x) == (float(EXACT.cos(x)), float(EXACT.sin(x)))


@given(cosines)
def test_arc_cosines_are_rounded_correctly(x):
    assert arc_cosine(x) == float(EXACT.acos(x))


CODE = """
import hashlib, numpy as np
from lazygraph.sources.cif import lattice_from_parameters
draw = np.random.default_rng(0)
cells = [lattice_from_parameters(draw.uniform(3, 9, 3).tolist(), draw.uniform(70, 110, 3).tolist()) for _ in range(500)]
print(hashlib.sha256(np.array(cells).tobytes()).hexdigest())
"""


@pytest.mark.parametrize("without", ["", "X86_V4 AVX512_ICL AVX512_SPR", "AVX512F AVX512CD AVX512_SKX AVX512_ICL"])
def test_lattices_have_the_same_bits_without_instructions_that_numpy_may_use(without):
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": without}
    command = [sys.executable, "-W", "ignore", "-c", CODE]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert told.strip() == "4aa3713c6de12ea91b1383810fb28643b6cdabc8eec115bb940a2dbbf1674e4a"
