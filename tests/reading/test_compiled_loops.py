"""The compiled loops over atoms, edges and angles of a batch give the bits of their plain functions."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph.graphs import edge_order, vectors
from lazygraph.graphs.edge_order import by_first_atom
from lazygraph.graphs.edge_pairs import CompiledPairs, PlainPairs, find_pairs
from lazygraph.graphs.vectors import EDGE_LENGTHS, EDGE_SHIFTS, EDGE_VECTORS, EdgesOfBatch, batch_values
from lazygraph.native import arrays, kernels
from lazygraph.reading.views import matgl

pytestmark = pytest.mark.skipif(kernels() is None, reason="there are no compiled loops here")


def bits(array):
    array = np.ascontiguousarray(array)
    return array.view({8: np.uint64, 4: np.uint32}[array.itemsize]) if array.dtype.kind == "f" else array


@st.composite
def batches(draw):
    """Edges of a few crystals: zeros and right angles, pairs and single edges, more than a block of edges or atoms."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([np.int8, np.int16, np.int32, np.int64]))
    frac, lattice, ends, images, n_node, n_edge, first = [], [], [], [], [], [], 0
    for _ in range(draw(st.integers(1, 4))):
        n = draw(st.sampled_from([1, 2, 5, 31, 256, 257, 300]))
        e = draw(st.sampled_from([0, 1, 2, 7, 128, 129, 400]))
        frac.append(rng.normal(size=(n, 3)) * 3 if draw(st.booleans()) else rng.integers(-2, 3, (n, 3)) / 4)
        lattice.append(rng.normal(size=(3, 3)) * 5 if draw(st.booleans()) else np.diag(rng.choice([3.0, -4.0], 3)))
        own, cells = rng.integers(0, n, (2, e)), rng.integers(-3, 4, (e, 3))
        if draw(st.booleans()):
            own[:, 1::2], cells[1::2] = own[::-1, : e - 1 : 2] if e else own[::-1], -cells[: e - 1 : 2] if e else cells
        ends.append(own + first)
        images.append(cells)
        n_node.append(n)
        n_edge.append(e)
        first += n
    return EdgesOfBatch(
        np.concatenate(frac), np.stack(lattice), np.array(n_node), np.array(n_edge),
        np.concatenate(ends, axis=1).astype(np.int32), np.concatenate(images).astype(dtype),
    )  # fmt: skip


@given(batches())
@settings(max_examples=100, deadline=None)
def test_values_of_edges(edges):
    for what, dtype in (
        (EDGE_VECTORS, "float32"), (EDGE_VECTORS, "float64"), (EDGE_SHIFTS, "float32"), (EDGE_SHIFTS, "float64"),
        (EDGE_LENGTHS, "float64"),
    ):  # fmt: skip
        found = batch_values(what, edges, dtype)
        plain = vectors._plain_values(what, edges, dtype)
        assert found.dtype == plain.dtype == dtype
        assert np.array_equal(bits(found), bits(plain))
        assert not np.signbit(found[found == 0]).any()


@given(batches(), st.data())
@settings(max_examples=30, deadline=None)
def test_an_edge_to_an_atom_of_another_crystal_is_refused(edges, data):
    if not edges.images.size:
        return
    crystal = data.draw(st.sampled_from(np.flatnonzero(edges.n_edge).tolist()))
    edge = edges.n_edge[:crystal].sum() + data.draw(st.integers(0, int(edges.n_edge[crystal]) - 1))
    first = int(edges.n_node[:crystal].sum())
    ends = edges.edge_index.copy()
    outside = st.sampled_from([first - 1, first + int(edges.n_node[crystal]), -(2**31), 2**31 - 1])
    ends[data.draw(st.integers(0, 1)), edge] = data.draw(outside)
    for what in (EDGE_VECTORS, EDGE_LENGTHS):
        with pytest.raises(IndexError, match="within one crystal"):
            batch_values(what, edges._replace(edge_index=ends))


@given(st.integers(0, 2**32 - 1), st.integers(0, 300), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_pairs(seed, n_edges, n_atoms):
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, n_atoms, (2, n_edges)).astype(np.int32)
    vectors_of = rng.normal(size=(n_edges, 3)) if rng.random() < 0.5 else rng.integers(-1, 2, (n_edges, 3)) * 1.0
    vectors_of[~vectors_of.any(axis=1)] = 1.0
    first = rng.random(n_edges) < 0.7
    second = first & (rng.random(n_edges) < 0.7)
    if rng.random() < 0.3:
        ends = ends[:, np.argsort(ends[0], kind="stable")]
    cuts = np.sort(rng.integers(0, n_edges + 1, 3))
    n_edge = np.diff([0, *cuts, n_edges])
    for some, others in ((None, None), (first, first), (first, second), (None, second)):
        for end in (0, 1):
            for itself in (False, True):
                case = {"end": end, "itself": itself, "n_edge": n_edge}
                compiled = CompiledPairs(ends, n_atoms, some, others, **case)
                plain = PlainPairs(ends, n_atoms, some, others, **case)
                masks = (None if mask is None else torch.from_numpy(mask) for mask in (some, others))
                in_torch = PlainPairs(torch.from_numpy(ends), n_atoms, *masks, **case)
                assert compiled.total == plain.total == in_torch.total == plain.ids().shape[1]
                for dtype in ("int32", "int64"):
                    assert compiled.ids(dtype).dtype == dtype
                    assert np.array_equal(compiled.ids(dtype), plain.ids(dtype))
                    assert np.array_equal(compiled.ids(dtype), in_torch.ids(dtype).numpy())
                assert np.array_equal(compiled.bonds(), plain.bonds())
                assert np.array_equal(compiled.bonds(), in_torch.bonds().numpy())
                for dtype in ("float32", "float64"):
                    cosines = compiled.cosines(vectors_of, dtype)
                    assert np.array_equal(bits(cosines), bits(plain.cosines(vectors_of, dtype)))
                    theirs = in_torch.cosines(torch.from_numpy(vectors_of), dtype).numpy()
                    assert np.allclose(cosines, theirs, rtol=0, atol=8 * np.finfo(dtype).eps)  # torch's square root
                assert np.array_equal(compiled.of_edges(), plain.of_edges())
                assert np.array_equal(compiled.of_edges(), in_torch.of_edges().numpy())
                by_graph = compiled.of_graphs.tolist()
                assert by_graph == plain.of_graphs.tolist() == in_torch.of_graphs.tolist()
                assert sum(by_graph) == compiled.total


@pytest.mark.parametrize("ends", [[[0], [3]], [[3], [0]], [[-1], [0]], [[0], [2**31]], [[-(2**33)], [0]]])
def test_pairs_of_an_edge_that_ends_nowhere_are_refused(ends):
    with pytest.raises(IndexError, match="atoms 0 to 2"):
        find_pairs(np.array(ends), 3, None, None, end=0, itself=False)


def test_graphs_with_other_numbers_of_edges_are_refused():
    ends = np.zeros((2, 4), np.int32)
    assert find_pairs(ends, 1, None, None, end=0, itself=False, n_edge=np.array([4])).of_graphs.tolist() == [12]
    for n_edge in ([3], [5], [-1, 5], [4, 1]):
        with pytest.raises(IndexError, match="another number of edges"):
            find_pairs(ends, 1, None, None, end=0, itself=False, n_edge=np.array(n_edge))


@given(batches())
@settings(max_examples=50, deadline=None)
def test_order_by_first_atom(edges):
    ends, images, n_atoms = edges.edge_index, edges.images, int(edges.n_node.sum())
    found = by_first_atom(ends, images, n_atoms)
    order = np.argsort(ends[0], kind="stable")
    assert np.array_equal(found[0], ends[:, order])
    assert np.array_equal(found[1], images[order])
    assert [a.dtype for a in found] == [ends.dtype, images.dtype]
    again = by_first_atom(*found, n_atoms)
    assert again[0] is found[0]
    in_torch = by_first_atom(torch.from_numpy(ends), torch.from_numpy(images), n_atoms)
    assert all(np.array_equal(a.numpy(), b) for a, b in zip(in_torch, found, strict=True))
    if ends.size:
        with pytest.raises(IndexError, match="atoms 0 to"):
            by_first_atom(ends, images, int(ends[0].max()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(batches(), st.sampled_from([0.5, 3.0, 4.0, 6.0]))
@settings(max_examples=50, deadline=None)
def test_bonds_within_a_cutoff_as_matgl_measures_them(dtype, edges, cutoff):
    pos = vectors.batch_positions(edges.frac_coords, edges.lattice, edges.n_node, dtype)
    shifts = batch_values(EDGE_SHIFTS, edges, dtype)
    found = matgl._within(pos, shifts, edges.edge_index, cutoff)
    plain = matgl._within(pos, shifts, edges.edge_index.astype(np.int64), cutoff)
    assert found.dtype == plain.dtype == np.bool_
    assert np.array_equal(found, plain)
    in_torch = matgl._within(*map(torch.from_numpy, (pos, shifts, edges.edge_index)), cutoff)
    assert np.array_equal(found, in_torch.numpy())


# ---- memory that is used again ----


def test_memory_is_used_again_when_the_last_array_of_it_is_gone():
    array = arrays.empty((300, 400), np.float64)
    where = array.ctypes.data
    array[:] = 1.0
    tensor = torch.from_numpy(array)[3:]
    del array
    gc.collect()
    other = arrays.empty((300, 400), np.float64)
    assert other.ctypes.data != where
    other[:] = 2.0
    assert (tensor == 1.0).all()
    del tensor
    gc.collect()
    assert arrays.empty(120_000, np.int64).ctypes.data == where


@pytest.mark.parametrize("shape", [0, 7, (0, 3), (2, 70_000), (70_001,), 1_000_003])
@pytest.mark.parametrize("dtype", ["int8", "int32", "float64", np.bool_])
def test_arrays_are_as_numpys(shape, dtype):
    array, numpys = arrays.empty(shape, dtype), np.empty(shape, dtype)
    assert (array.shape, array.dtype) == (numpys.shape, numpys.dtype)
    assert array.flags.writeable
    assert array.flags.c_contiguous


def test_idle_memory_is_bounded():
    pool = arrays._Pool(1 << 20)
    for size in (1 << 19, 1 << 18, 1 << 20, 1 << 21):
        held = [pool.take(size) for _ in range(5)]
        del held
        gc.collect()
        assert sum(size * len(blocks) for size, blocks in pool._idle.items()) <= 1 << 20
    assert not pool._used


def test_threads_never_share_memory():
    failures = []

    def work(number):
        for turn in range(200):
            array = arrays.empty(50_000 + 1000 * (turn % 5), np.int64)
            array[:] = number
            if (array != number).any():
                failures.append(number)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_without_compiled_loops_the_order_is_numpys(monkeypatch):
    monkeypatch.setattr(edge_order, "kernels", lambda: None)
    ends = np.array([[1, 0, 1], [0, 1, 1]], np.int32)
    assert by_first_atom(ends, np.zeros((3, 3), np.int8), 2)[0].tolist() == [[0, 1, 1], [1, 0, 1]]
