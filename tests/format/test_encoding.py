"""Every value comes back to the bit, in the shortest form that the format has for it; no buffer does harm."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from drawing import NUMERIC, arrays, fields, full_shape, packed_alike, paired, same, special, values
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lazygraph.coordinates import to_fractional
from lazygraph.errors import CorruptDataset, LabelError
from lazygraph.format.encoding import decode, encode, rows_of
from lazygraph.format.schema import DTYPES, Field, Schema

I1, I2, I4, I8, U1, U2, U4, U8, F2, F4, F8 = range(11)
DECIMAL, CARTESIAN, HALF = 0x10, 0x20, 0x80
SIZES = (1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8)
KINDS = "iiiiuuuufff"
CELL = np.array([[4.0, 0.0, 0.0], [-1.5, 5.25, 0.0], [0.125, 0.75, 6.5]])


@pytest.fixture(autouse=True)
def no_warnings():
    """A warning would be an error for those who make errors of warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def there_and_back(field, value, basis=None):
    code, buffer = encode(field, value, basis)
    rows = 1 if field.axis is None else value.shape[field.axis_dim]
    found = decode(field, code, buffer, rows, basis)
    assert same(found, value), (code, buffer)
    axes = () if field.axis is None else (field.axis,)
    around = () if basis is None or field.basis is None else (Field(field.basis, "float64", (3, 3)),)
    given_basis = {one.name: basis for one in around}
    known = replace(field, counts=None, basis=field.basis if around else None)
    packed_alike(Schema(axes, (*around, known)), {**given_basis, field.name: value})
    return code, buffer


# ---- bits ----


@pytest.mark.slow
@settings(max_examples=400)
@given(st.data())
def test_every_value_comes_back_to_the_bit(data):
    field = data.draw(fields())
    value = data.draw(values(field, data.draw(st.integers(0, 6) | st.integers(0, 200))))
    code, _ = there_and_back(field, value)
    rows = rows_of(field, value)
    if field.pair is not None and rows.shape[-1] and rows.shape[-1] % 2 == 0:
        again = paired(field, value)
        assert bool(code & HALF) == same(again, value)


@pytest.mark.slow
@settings(max_examples=200)
@given(cell=arrays("float64", (3, 3)), frac=arrays("float64", (4, 3)), pair=st.sampled_from([None, "negate"]))
@example(cell=np.zeros((3, 3)), frac=np.full((4, 3), 0.3), pair=None)
@example(cell=np.full((3, 3), 1e300), frac=np.full((4, 3), 1e300), pair=None)
@example(cell=CELL, frac=np.full((4, 3), np.nan), pair=None)
def test_coordinates_in_any_basis_come_back_to_the_bit(cell, frac, pair):
    there_and_back(Field("f", "float64", (3,), "node", pair=pair, basis="cell"), frac, cell)


@pytest.mark.parametrize("dtype", NUMERIC)
def test_edge_cases_of_every_type(dtype):
    every = np.array(special(np.dtype(dtype)), dtype)
    there_and_back(Field("f", dtype, axis="node"), every)
    for value in every:
        there_and_back(Field("f", dtype), np.array(value))
        there_and_back(Field("f", dtype, (2,), "node", 1), np.full((2, 3), value))


@pytest.mark.parametrize("payload", [0x7FF0000000000001, 0xFFF8000000000123, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 1])
def test_payloads_signs_and_subnormals(payload):
    value = np.array([payload, 0], "<u8").view("<f8")
    expected = F4 if payload == 2**63 else F8  # float32 has a -0.0, but neither these NaNs nor these subnormals
    assert there_and_back(Field("f", "float64", axis="node"), value)[0] == expected
    assert there_and_back(Field("f", "float64", (2,), "node"), np.stack([value, -value]))[0] == expected


@pytest.mark.parametrize("dtype", NUMERIC)
@pytest.mark.parametrize("shape", [(), (0,), (2,), (2, 0, 3)])
@pytest.mark.parametrize("pair", [None, "same"])
def test_empty_axes(dtype, shape, pair):
    for dim in range(len(shape) + 1):
        field = Field("f", dtype, shape, "node", dim, pair=pair)
        _, buffer = there_and_back(field, np.zeros(full_shape(field, 0), dtype))
        assert buffer == b""


def test_arrays_in_any_memory_layout():
    value = np.arange(24, dtype=">i4").reshape(4, 6)[::2, ::-1]
    field = Field("f", "int32", (3,), "node")
    expected = np.ascontiguousarray(value[:, ::2]).astype("i4")
    code, buffer = encode(field, value[:, ::2])
    assert same(decode(field, code, buffer, 2).copy(order="C"), expected)


# ---- texts ----


@given(st.text(max_size=50))
def test_texts_come_back(text):
    assert there_and_back(Field("t", "str"), text) == (U1, text.encode())


def test_a_text_may_have_65536_bytes_and_no_more():
    there_and_back(Field("t", "str"), "x" * 65536)
    with pytest.raises(LabelError, match="'t' has 65537 bytes; required: at most 65536"):
        encode(Field("t", "str"), "x" * 65535 + "\u00e9")


def test_a_text_that_is_not_unicode_is_refused():
    with pytest.raises(LabelError, match="the text of 't' is not Unicode"):
        encode(Field("t", "str"), "\ud800")


@given(st.binary(max_size=6), st.integers(0, 255))
@example(b"\xff", U1)
@example(b"", U1)
def test_any_bytes_are_text_or_damage(buffer, code):
    try:
        expected = buffer.decode() if code == U1 else None
    except UnicodeDecodeError:
        expected = None
    if expected is None:
        with pytest.raises(CorruptDataset, match="the text 't'"):
            decode(Field("t", "str"), code, buffer, 1)
    else:
        assert decode(Field("t", "str"), code, buffer, 1) == expected


# ---- the shortest form ----


@pytest.mark.parametrize(
    ("dtype", "numbers", "code"),
    [
        ("int64", [0, 255], U1),
        ("int64", [0, 256], U2),
        ("int64", [0, 65536], U4),
        ("int64", [0, 2**32], I8),
        ("uint64", [0, 2**32], U8),
        ("int64", [-1, 127], I1),
        ("int64", [-1, 128], I2),
        ("int64", [-128], I1),
        ("int64", [-129], I2),
        ("int64", [-1, 2**15], I4),
        ("int64", [-1, 2**31], I8),
        ("int32", [-(2**31)], I4),
        ("bool", [0, 1], U1),
        ("float16", [1, 2], F2),
        ("float32", [1, 2], F4),
        ("float64", [-1.0, 2.0], DECIMAL | I4),
        ("float64", [0.00000255], DECIMAL | U1),
        ("float64", [1 / 3], F8),
        ("float64", [float(np.float32(1 / 3))], F4),
        ("float64", [1e300], F8),
        ("float64", [-0.0, 0.5], F4),
        ("float64", [-0.0, 0.1], F8),
        ("float64", [math.nan], F4),
        ("float64", [2.0**53 / 1e8], F8),
    ],
)
def test_the_narrowest_type_is_taken(dtype, numbers, code):
    value = np.array(numbers, dtype)
    assert there_and_back(Field("f", dtype, axis="node"), value) == (
        code,
        encode(Field("f", dtype, axis="node"), value)[1],
    )


@given(st.lists(st.integers(-(2**50), 2**50), min_size=1, max_size=9))
def test_values_with_eight_decimals_are_stored_as_integers(numbers):
    value = np.array(numbers, dtype=np.float64) / 1e8
    code, buffer = there_and_back(Field("f", "float64", axis="node"), value)
    assert code & 0x30 == DECIMAL
    assert np.frombuffer(buffer, f"{KINDS[code & 15]}{SIZES[code & 15]}").tolist() == numbers


@given(st.integers(-(10**9), 10**9), st.integers(1, 8))
def test_decimals_as_they_stand_in_a_file_are_stored_as_integers(number, digits):
    value = np.array([float(f"{number / 10**digits:.{digits}f}")])
    assume(abs(value[0]) < 2**52 / 1e8)
    assume(np.signbit(value[0]) == (value[0] < 0))  # -0.0 is no integer
    assert there_and_back(Field("f", "float64", axis="node"), value)[0] & 0x30 == DECIMAL


@given(
    st.lists(st.lists(st.integers(-(10**10), 10**10), min_size=3, max_size=3), min_size=1, max_size=5),
    arrays("float64", (3, 3)).filter(lambda noise: np.isfinite(noise).all() and np.abs(noise).max() < 10),
)
def test_the_cartesian_form_is_taken_when_it_reproduces_the_bits(positions, noise):
    cell = np.diag([7.0, 8.5, 9.75]) + 0.1 * noise
    frac = to_fractional(np.array(positions) / 1e8, cell)
    code, buffer = there_and_back(Field("f", "float64", (3,), "node", basis="cell"), frac, cell)
    if code & 0x30 == CARTESIAN:
        stored = np.frombuffer(buffer, f"{KINDS[code & 15]}{SIZES[code & 15]}")
        assert stored.reshape(3, -1).T.tolist() == positions
    else:
        # The fractional coordinates themselves were decimals, or -0.0 among zeros made the Cartesian ones ambiguous.
        assert code & 0x30 == DECIMAL


def test_coordinates_of_neither_kind_are_kept_as_they_are():
    frac = np.random.default_rng(0).random((5, 3))
    assert there_and_back(Field("f", "float64", (3,), "node", basis="cell"), frac, CELL)[0] == F8


@pytest.mark.parametrize("code", [CARTESIAN | U4, F8])
def test_one_vector_a_graph_may_have_a_basis_too(code):
    """The axis is not there to be moved."""
    frac = to_fractional(np.array([[1.0, 2.0, 3.0]]), CELL)[0] if code != F8 else np.array([0.1, 1 / 3, 7e-304])
    assert there_and_back(Field("f", "float64", (3,), basis="cell"), frac, CELL)[0] == code


def test_a_cartesian_zero_has_no_sign():
    """The integer of -0.0 is 0, which gives 0.0: such coordinates are kept as they are."""
    cell = np.diag([4.0, 3.0, 7.0])
    frac = to_fractional(np.array([[-0.0, -1.0, -2.0]]), cell)
    assert np.signbit(frac).all()
    assert there_and_back(Field("f", "float64", (3,), "node", basis="cell"), frac, cell)[0] == F8


def test_without_a_basis_there_is_no_cartesian_form():
    frac = to_fractional(np.array([[1.0, 2.0, 3.0]]), CELL)
    assert there_and_back(Field("f", "float64", (3,), "node", basis="cell"), frac, CELL)[0] == CARTESIAN | U4
    assert there_and_back(Field("f", "float64", (3,), "node"), frac)[0] == F8


# ---- literal bytes, as docs/format.md states them ----


@pytest.mark.parametrize(
    ("field", "value", "code", "buffer"),
    [
        (Field("f", "int64", (2,), "e", 1), [[1, 2, 3], [4, 5, 6]], U1, "01 02 03 04 05 06"),
        (Field("f", "int64", (2,), "e"), [[1, 4], [2, 5], [3, 6]], U1, "01 02 03 04 05 06"),
        (Field("f", "int64", (2,)), [258, -1], I2, "02 01 ff ff"),
        (Field("f", "int64", (2,), "e", 1, pair="swap"), [[7, 8, 1, 2], [8, 7, 2, 1]], HALF | U1, "07 01 08 02"),
        (Field("f", "int16", (2,), "e", pair="negate"), [[1, -2], [-1, 2]], HALF | I1, "01 fe"),
        (Field("f", "bool", axis="e", pair="same"), [True, True, False, False], HALF | U1, "01 00"),
        (Field("f", "float64"), 1e-8, DECIMAL | U1, "01"),
        (Field("f", "float64", (2,), "e", 1), [[0.5, -0.5], [0.0, 1.0]], DECIMAL | I4,
         "80 f0 fa 02 80 0f 05 fd 00 00 00 00 00 e1 f5 05"),
        (Field("f", "float32"), 1.0, F4, "00 00 80 3f"),
        (Field("f", "float16", (1,)), [1.0], F2, "00 3c"),
    ],
)  # fmt: skip
def test_literal_bytes(field, value, code, buffer):
    value = np.array(value, field.dtype)
    assert there_and_back(field, value) == (code, bytes.fromhex(buffer))


def test_pairs_that_differ_in_a_sign_of_zero_are_no_pairs():
    """Equal as numbers, but not to the bit: -0.0 would come back as 0.0."""
    field = Field("f", "float32", (2,), "e", pair="swap")
    assert there_and_back(field, np.array([[0.0, 1.0], [1.0, -0.0]], "f4"))[0] == F4
    assert there_and_back(field, np.array([[-0.0, 1.0], [1.0, -0.0]], "f4"))[0] == HALF | F4
    field = Field("f", "float32", (), "e", pair="negate")
    assert there_and_back(field, np.array([0.0, 0.0], "f4"))[0] == F4


def test_the_least_integer_is_its_own_negative():
    value = np.array([-128, -128], "i1")
    assert there_and_back(Field("f", "int8", axis="e", pair="negate"), value) == (HALF | I1, b"\x80")


# ---- buffers of strangers ----


def allowed(field, code, rows):
    """Whether docs/format.md knows this code for this field, values aside."""
    kind, transform = code & 15, code & 0x30
    if kind > F8 or code & 0x40 or transform == 0x30:
        return False
    if code & HALF and (field.pair is None or rows % 2):
        return False
    if transform:
        return field.dtype == "float64" and KINDS[kind] in "iu" and (transform == DECIMAL or field.basis is not None)
    if field.dtype == "bool":
        return kind == U1
    wanted = np.dtype(field.dtype)
    return SIZES[kind] <= wanted.itemsize and KINDS[kind] + wanted.kind in ("ii", "uu", "ui", "ff")


STRANGE = [
    *(Field("f", dtype, (2,), "node", 1, pair="same") for dtype in NUMERIC),
    *(Field("f", dtype, (), "node") for dtype in NUMERIC),
    *(Field("f", dtype) for dtype in NUMERIC),
    Field("f", "int32", (2,), "edge", 1, pair="swap"),
    Field("f", "float64", (3,), "edge", 0, pair="negate", basis="cell"),
    Field("f", "float64", (3,), "edge", 1, basis="cell"),
    Field("f", "float64", (3,), basis="cell"),
    Field("f", "uint8", (0,), "edge"),
]


@pytest.mark.slow
@pytest.mark.parametrize("field", STRANGE, ids=lambda f: f"{f.dtype} {f.shape} {f.axis} {f.pair}")
def test_every_code_with_random_bytes_decodes_as_specified_or_is_refused(field):
    random = np.random.default_rng(1)
    cells = (CELL, np.zeros((3, 3)), np.full((3, 3), np.nan), np.full((3, 3), 1e200))
    for code in range(256):
        for rows in (1,) if field.axis is None else (0, 1, 2, 4):
            kept = rows // 2 if code & HALF else rows
            length = kept * field.components * (SIZES[code & 15] if code & 15 <= F8 else 8)
            for extra in (0, 1, -1):
                buffer = random.bytes(max(length + extra, 0))
                if field.dtype == "bool" and code & 1 == 0:
                    buffer = bytes(b & 1 for b in buffer)
                good = allowed(field, code, rows) and len(buffer) == length
                good &= field.dtype != "bool" or set(buffer) <= {0, 1}
                basis = cells[code % len(cells)] if field.basis else None
                if good:
                    found = decode(field, code, buffer, rows, basis)
                    assert found.dtype == field.dtype
                    assert found.shape == full_shape(field, rows)
                else:
                    with pytest.raises(CorruptDataset, match="the field 'f'"):
                        decode(field, code, buffer, rows, basis)


def test_no_code_has_a_second_meaning():
    """What is refused today may mean something in a later version: nothing else than these may be accepted."""
    field = Field("f", "float64", (3,), "e", pair="negate", basis="cell")
    accepted = []
    for code in range(256):
        kept = 1 if code & HALF else 2
        for size in (1, 2, 4, 8):
            try:
                decode(field, code, bytes(kept * 3 * size), 2, CELL)
            except CorruptDataset:
                continue
            accepted.append(code)
    plain = [F2, F4, F8]
    whole = [I1, I2, I4, I8, U1, U2, U4, U8]
    one = plain + [DECIMAL | kind for kind in whole] + [CARTESIAN | kind for kind in whole]
    assert accepted == one + [HALF | code for code in one]


@pytest.mark.parametrize("stored", [U1, I1])
def test_other_bytes_than_0_and_1_are_no_booleans(stored):
    with pytest.raises(CorruptDataset, match="'f'"):
        decode(Field("f", "bool", axis="n"), stored, b"\0\1\2", 3)


def test_a_wide_type_is_not_cut_down():
    with pytest.raises(CorruptDataset, match="the field 'f' of int8 is stored as int64"):
        decode(Field("f", "int8"), I8, bytes(8), 1)


def test_integers_are_no_floats_without_saying_so():
    with pytest.raises(CorruptDataset, match="the field 'f' of float32 is stored as int8"):
        decode(Field("f", "float32"), I1, b"\1", 1)


@pytest.mark.parametrize("rows", [2**31 - 1, 2**62])
def test_huge_counts_take_no_memory(rows):
    for code in (U1, HALF | U1, DECIMAL | U1, 3):
        with pytest.raises(CorruptDataset, match="required: |by pairs, with"):
            decode(Field("f", "int64", (3,), "node", pair="same"), code, b"\0\1\2", rows)


def test_every_type_of_a_schema_is_covered():
    assert {*NUMERIC, "str"} == set(DTYPES)
