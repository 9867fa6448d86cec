"""Records put together at once are those decoded one by one, and nothing in their bytes can do harm."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from drawing import records, schemas
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lazygraph import native
from lazygraph.errors import CorruptDataset
from lazygraph.format.joint import join, join_raw
from lazygraph.format.record import pack, unpack
from lazygraph.format.schema import Field, Schema
from lazygraph.format.store import Store

compiled = pytest.mark.skipif(native.kernels() is None, reason="there are no compiled loops here")


def decoded(schema, raws):
    found = [unpack(schema, raw) for raw in raws]
    return [(record.counts, record.arrays()) for record in found]


def together(schema, raws):
    """The records in any order in one piece of memory, as a store hands them over."""
    sizes = np.array([len(raw) for raw in raws], dtype=np.int64)
    order = np.random.default_rng(len(raws)).permutation(len(raws))
    starts = np.zeros(len(raws), dtype=np.int64)
    starts[order] = np.cumsum(sizes[order]) - sizes[order]
    return join_raw(schema, b"".join(raws[k] for k in order), starts, sizes)


def same_joined(schema, mine, plain):
    assert list(mine.counts) == list(plain.counts)
    for axis, counts in plain.counts.items():
        assert mine.counts[axis].tolist() == counts.tolist()
    for field in schema.fields:
        value, expected = mine.fields[field.name], plain.fields[field.name]
        if field.dtype == "str":
            assert value == expected
            continue
        assert value.shape == expected.shape
        # Bits, so that NaN and -0.0 count; integers may come narrower.
        assert value.astype(field.dtype).tobytes() == np.ascontiguousarray(expected).tobytes(), field


@compiled
@settings(max_examples=300)
@given(st.data())
def test_any_records_come_together_as_those_decoded_one_by_one(data):
    schema = data.draw(schemas())
    raws = [pack(schema, k, data.draw(records(schema))[0])[0] for k in range(data.draw(st.integers(1, 4)))]
    with np.errstate(all="ignore"):
        plain = join(schema, decoded(schema, raws))
        mine = together(schema, raws)
    if mine is None:  # what the loops leave to the plain way
        left = [field for field in schema.fields if field.dtype in ("float16", "float32") and field.pair == "negate"]
        assert left or not schema.fields
    else:
        same_joined(schema, mine, plain)
        same_joined(schema, pickle.loads(pickle.dumps(mine)), plain)
    same_joined(schema, pickle.loads(pickle.dumps(plain)), plain)


GRAPH = Schema(
    ("node", "edge"),
    (
        Field("numbers", "uint8", axis="node"),
        Field("lattice", "float64", (3, 3)),
        Field("frac_coords", "float64", (3,), axis="node", basis="lattice"),
        Field("edge_index", "int64", (2,), axis="edge", axis_dim=1, counts="node", pair="swap"),
        Field("images", "int64", (3,), axis="edge", pair="negate"),
        Field("periodic", "bool", (3,)),
        Field("name", "str"),
    ),
)


def graph(n, seed, *, far=1):
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, n, (2, 3))
    images = rng.integers(-far, far + 1, (3, 3))
    edge_index, both = np.empty((2, 6), np.int64), np.empty((6, 3), np.int64)
    edge_index[:, ::2], edge_index[:, 1::2], both[::2], both[1::2] = ends, ends[::-1], images, -images
    return {
        "numbers": rng.integers(1, 90, n).astype(np.uint8),
        "lattice": np.round(rng.uniform(2, 6, (3, 3)), 5),
        "frac_coords": rng.uniform(-1, 2, (n, 3)) if seed % 2 else np.round(rng.uniform(0, 1, (n, 3)), 6),
        "edge_index": edge_index,
        "images": both,
        "periodic": rng.integers(0, 2, 3).astype(bool),
        "name": f"graph {seed}",
    }


def raw_graphs(**far):
    return [pack(GRAPH, k, graph(k + 1, k, **far))[0] for k in range(5)]


@compiled
def test_ids_are_raised_and_integers_stay_narrow():
    joined = together(GRAPH, raw_graphs())
    assert joined.fields["edge_index"].dtype == np.int32
    assert joined.fields["images"].dtype == np.int8
    assert together(GRAPH, raw_graphs(far=300)).fields["images"].dtype == np.int16
    first = np.cumsum([0, 1, 2, 3, 4])
    single = [unpack(GRAPH, raw).arrays()["edge_index"] for raw in raw_graphs()]
    assert np.array_equal(joined.fields["edge_index"], np.concatenate([e + first[k] for k, e in enumerate(single)], 1))
    same_joined(GRAPH, joined, join(GRAPH, decoded(GRAPH, raw_graphs())))


@compiled
@settings(max_examples=300)
@given(st.data())
def test_damaged_records_are_left_to_the_plain_way_or_read_alike(data):
    raws = [bytearray(raw) for raw in raw_graphs()]
    victim = raws[data.draw(st.integers(0, 4))]
    for _ in range(data.draw(st.integers(1, 3))):
        match data.draw(st.sampled_from(["flip", "cut", "grow"])):
            case "flip":
                victim[data.draw(st.integers(0, len(victim) - 1))] ^= data.draw(st.integers(1, 255))
            case "cut":
                assume(len(victim) > 1)
                del victim[data.draw(st.integers(1, len(victim) - 1)) :]
            case "grow":
                victim += data.draw(st.binary(min_size=1, max_size=9))
    raws = [bytes(raw) for raw in raws]
    with np.errstate(all="ignore"):
        try:
            plain = join(GRAPH, decoded(GRAPH, raws))
        except CorruptDataset:
            assert together(GRAPH, raws) is None
            return
        mine = together(GRAPH, raws)
    if mine is not None:
        same_joined(GRAPH, mine, plain)


@compiled
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4))
def test_bytes_that_are_no_records_are_refused(raws):
    assert together(GRAPH, raws) is None


def test_without_compiled_loops_there_is_the_plain_way(monkeypatch, prototypes):
    rows = np.array([5, 2, 250, 2])
    with_loops = Store(prototypes).joined(rows)
    native.kernels.cache_clear()
    monkeypatch.setenv("LAZYGRAPH_NATIVE", "0")
    try:
        assert native.kernels() is None
        plain = Store(prototypes).joined(rows)
        assert plain.fields["images"].dtype == np.int64
    finally:
        monkeypatch.undo()
        native.kernels.cache_clear()
    same_joined(Store(prototypes).manifest.schema, with_loops, plain)


def test_a_library_of_another_version_is_not_used(monkeypatch):
    native.kernels.cache_clear()
    monkeypatch.setattr(native, "VERSION", -1)
    try:
        assert native.kernels() is None
    finally:
        monkeypatch.undo()
        native.kernels.cache_clear()
