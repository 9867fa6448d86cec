"""The one expression: its bits, in numpy and torch, for one crystal and for batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph.graphs.vectors import edge_distances, edge_vectors


def bits(array):
    array = np.asarray(array)
    return array.view(np.uint32 if array.dtype == np.float32 else np.uint64)


@st.composite
def edges(draw):
    """Coordinates, lattice, edge_index and images, some with zeros and right angles, where signs of zero would show."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, e = draw(st.integers(1, 6)), draw(st.integers(0, 40))
    lattice = rng.normal(size=(3, 3)) * 5 if draw(st.booleans()) else np.diag(rng.choice([3.0, -4.0], 3))
    frac = rng.normal(size=(n, 3)) * 3 if draw(st.booleans()) else rng.integers(-2, 3, (n, 3)) / 4
    return frac, lattice, rng.integers(0, n, (2, e)), rng.integers(-3, 4, (e, 3))


@given(edges())
@settings(max_examples=60, deadline=None)
def test_the_reverse_edge_is_exactly_minus_the_edge(case):
    frac, lattice, edge_index, images = case
    there = edge_vectors(frac, lattice, edge_index, images)
    back = edge_vectors(frac, lattice, edge_index[::-1], -images)
    assert there.dtype == np.float32
    assert there.flags.c_contiguous
    assert (bits(back) == bits(np.float32(0.0) - there)).all()
    assert not (np.signbit(there) & (there == 0)).any()
    assert (
        bits(edge_distances(frac, lattice, edge_index, images))
        == bits(edge_distances(frac, lattice, edge_index[::-1], -images))
    ).all()


@given(edges())
@settings(max_examples=60, deadline=None)
def test_the_stated_order_of_operations_in_plain_python(case):
    frac, lattice, edge_index, images = case
    vectors = edge_vectors(frac, lattice, edge_index, images)
    for m, (i, j) in enumerate(edge_index.T.tolist()):
        d = [(float(frac[j, a]) - float(frac[i, a])) + float(images[m, a]) for a in range(3)]
        for x in range(3):
            v = ((d[0] * float(lattice[0, x])) + (d[1] * float(lattice[1, x]))) + d[2] * float(lattice[2, x])
            assert bits(vectors[m, x]) == bits(np.float32(v) + np.float32(0.0))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
@given(edges())
@settings(max_examples=20, deadline=None)
def test_torch_gives_the_same_bits_as_numpy(dtype, case):
    torch = pytest.importorskip("torch")
    frac, lattice, edge_index, images = case
    as_torch = [torch.from_numpy(a) for a in (frac, lattice, edge_index, images.astype(dtype))]
    theirs = edge_vectors(*as_torch)
    assert theirs.is_contiguous()
    assert (bits(edge_vectors(frac, lattice, edge_index, images.astype(dtype))) == bits(theirs.numpy())).all()


@pytest.mark.parametrize("torch_too", [False, True])
@given(st.lists(edges(), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_a_batch_in_one_call_has_the_bits_of_its_graphs(torch_too, cases):
    starts = np.cumsum([0, *(len(frac) for frac, *_ in cases)])
    arrays = [
        np.concatenate([frac for frac, *_ in cases]),
        np.stack([case[1] for case in cases])[np.repeat(np.arange(len(cases)), [len(case[3]) for case in cases])],
        np.concatenate([case[2] + start for case, start in zip(cases, starts, strict=False)], axis=1),
        np.concatenate([case[3] for case in cases]),
    ]
    single = np.concatenate([edge_vectors(*case) for case in cases])
    if torch_too:
        torch = pytest.importorskip("torch")
        arrays = [torch.from_numpy(array) for array in arrays]
    assert (bits(edge_vectors(*arrays)) == bits(single)).all()


def test_a_component_too_small_for_float32_is_plain_zero():
    vectors = edge_vectors(np.zeros((1, 3)), np.diag([4.0, 4.0, 1e-60]), np.zeros((2, 1), int), np.array([[1, -1, -1]]))
    assert vectors.tolist() == [[4.0, -4.0, 0.0]]
    assert not np.signbit(vectors[0, 2])
