"""Fields, values, schemas and records drawn at random: what the tests of this folder share."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from lazygraph.format.record import pack
from lazygraph.format.record_encoder import RecordEncoder
from lazygraph.format.schema import DTYPES, Field, Schema
from lazygraph.native import kernels

NUMERIC = tuple(name for name in DTYPES if name != "str")


def special(dtype):
    """Values that encoders get wrong."""
    if dtype.kind == "b":
        return [False, True]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        edges = [e + d for n in (7, 8, 15, 16, 31, 32, 63, 64) for e in (2**n, -(2**n)) for d in (-1, 0, 1)]
        return [0, 1, *(e for e in edges if info.min <= e <= info.max)]
    info = np.finfo(dtype)
    return [0.0, -0.0, 1.0, np.nan, -np.nan, np.inf, -np.inf, info.max, info.tiny, info.smallest_subnormal, 0.5, 1 / 3]


@st.composite
def arrays(draw, dtype, shape):
    """Arrays of any bits, of edge cases, of small integers or of decimals; large ones repeat what a few values hold."""
    dtype, n = np.dtype(dtype), math.prod(shape)
    few = draw(numbers(dtype, min(n, FEW)))
    if n <= FEW:
        return few.reshape(shape)
    # Which one stands where follows from a seed: hypothesis draws no thousands of numbers. Rare ones come too.
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    places = np.minimum(rng.geometric(draw(st.sampled_from([0.1, 0.5, 0.99])), n) - 1, FEW - 1)
    return few[places].reshape(shape)


FEW = 60


@st.composite
def numbers(draw, dtype, n):
    """(n,) numbers of one kind."""
    how = draw(st.sampled_from(["bits", "special", "small", "decimals"]))
    if dtype.kind == "b" or how == "special":
        return np.array(draw(st.lists(st.sampled_from(special(dtype)), min_size=n, max_size=n)), dtype)
    if how == "bits":
        size = n * dtype.itemsize
        return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype)
    low = 0 if dtype.kind == "u" else -100
    limit = 10**9 if how == "decimals" and dtype.kind == "f" else 100
    found = np.array(draw(st.lists(st.integers(low, limit), min_size=n, max_size=n)), dtype=np.float64)
    return (found / 1e8 if limit > 100 else found).astype(dtype)


def full_shape(field, rows):
    """The shape of a field's value with this many rows."""
    if field.axis is None:
        return field.shape
    return (*field.shape[: field.axis_dim], rows, *field.shape[field.axis_dim :])


def paired(field, value):
    """The value with every second row replaced by what follows from the row before it."""
    value = value.copy()
    along = np.moveaxis(value, field.axis_dim, 0)
    first = along[::2]
    along[1::2] = first[:, ::-1] if field.pair == "swap" else -first if field.pair == "negate" else first
    return value


@st.composite
def fields(draw, name="field", axes=("node", "edge"), basis=None):
    """Any field of numbers that a schema allows."""
    dtype = draw(st.sampled_from(NUMERIC))
    axis = draw(st.sampled_from([None, *axes]))
    shape = draw(st.sampled_from([(), (0,), (1,), (2,), (3,), (3, 3), (2, 3), (2, 1, 2)]))
    pairs = [None]
    if axis is not None:
        pairs += ["same", *(["swap"] if shape == (2,) else []), *([] if dtype[0] in "bu" else ["negate"])]
    return Field(
        name,
        dtype,
        shape,
        axis,
        0 if axis is None else draw(st.integers(0, len(shape))),
        draw(st.sampled_from([None, "A", "eV/A"])),
        draw(st.sampled_from([None, *axes])) if "int" in dtype else None,
        draw(st.sampled_from(pairs)),
        basis if (dtype, shape) == ("float64", (3,)) else None,
    )


@st.composite
def values(draw, field, rows):
    """Any value of a field of numbers, with rows that are paired or not."""
    value = draw(arrays(field.dtype, full_shape(field, rows)))
    if field.pair is not None and rows % 2 == 0 and draw(st.booleans()):
        value = paired(field, value)
    return value


@st.composite
def schemas(draw):
    """Schemas with and without axes, own axes, texts and a basis."""
    axes = draw(st.sampled_from([(), ("node",), ("node", "edge"), ("node", "edge", "ring", "own")]))
    found = []
    if draw(st.booleans()):
        found.append(Field("cell", "float64", (3, 3), unit="A"))
    for number in range(draw(st.integers(0, 6))):
        if draw(st.integers(0, 4)) == 0:
            found.append(Field(f"text {number}", "str"))
        else:
            found.append(draw(fields(f"f{number}", axes, "cell" if found and found[0].name == "cell" else None)))
    return Schema(axes, tuple(found))


@st.composite
def records(draw, schema):
    """Values for every field of a schema, and the counts."""
    counts = {axis: draw(st.integers(0, 5)) for axis in schema.axes}
    out = {
        field.name: draw(st.text(max_size=20))
        if field.dtype == "str"
        else draw(values(field, counts.get(field.axis, 1)))
        for field in schema.fields
    }
    used = {field.axis for field in schema.fields}
    return out, tuple(count if axis in used else 0 for axis, count in counts.items())


def same(found, expected):
    """Whether two values are of one type and shape, and equal to the bit."""
    if isinstance(expected, str) or isinstance(found, str):
        return type(found) is type(expected) and found == expected
    return (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


def packed_alike(schema, values, *, by_loop=True):
    """Whether a record has the same bytes by the compiled loop, and whether that was there and used."""
    encoder = RecordEncoder(schema)
    expected = pack(schema, values)
    assert encoder.pack(values) == expected
    if kernels() is not None:
        found = encoder._compiled(encoder._encode, values, expected[1])
        assert found == (expected[0] if by_loop else None)


def same_record_batch(schema, mine, plain):
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
