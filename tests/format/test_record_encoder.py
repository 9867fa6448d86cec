"""Records of the compiled encoder have the bytes of ``pack``; what it does not do is left to ``pack``, errors too."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from drawing import NUMERIC, arrays, full_shape, packed_alike, records, schemas, special
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph import native
from lazygraph.coordinates import to_fractional
from lazygraph.errors import InputError, LabelError
from lazygraph.format import record_encoder
from lazygraph.format.native_types import CField
from lazygraph.format.record import pack
from lazygraph.format.record_encoder import RecordEncoder
from lazygraph.format.schema import Field, Schema

compiled = pytest.mark.skipif(native.kernels() is None, reason="there are no compiled loops here")
SCHEMA = Schema(
    ("node", "edge"),
    (
        Field("cell", "float64", (3, 3)),
        Field("pos", "float64", (3,), "node", basis="cell"),
        Field("ends", "int64", (2,), "edge", 1, counts="node", pair="swap"),
        Field("name", "str"),
    ),
)


def values(rng=None, nodes=5, edges=8):
    rng = rng or np.random.default_rng(0)
    ends = rng.integers(0, nodes, (2, edges))
    ends[:, 1::2] = ends[::-1, ::2]
    return {"cell": rng.normal(size=(3, 3)), "pos": rng.normal(size=(nodes, 3)), "ends": ends, "name": "NaCl \u0394"}


# ---- the same bytes ----


@settings(max_examples=300)
@given(st.data())
def test_any_record_of_any_schema(data):
    schema = data.draw(schemas())
    packed_alike(schema, data.draw(records(schema))[0])


@pytest.mark.parametrize("dtype", NUMERIC)
@pytest.mark.parametrize("pair", [None, "same", "negate", "swap"])
@settings(max_examples=40)
@given(st.data())
def test_values_of_other_types_than_the_field(dtype, pair, data):
    """What makes edges gives narrower types than the schema has; the type of the array decides, as in ``encode``."""
    shape = (2,) if pair == "swap" else data.draw(st.sampled_from([(), (3,), (2, 2)]))
    kind = "int64" if pair == "negate" else dtype
    field = Field("f", kind, shape, "node", data.draw(st.integers(0, len(shape))), pair=pair)
    value = data.draw(arrays(dtype, full_shape(field, data.draw(st.sampled_from([0, 1, 2, 6, 300])))))
    packed_alike(Schema(("node",), (field,)), {"f": value})


@pytest.mark.parametrize("dtype", NUMERIC)
def test_pairs_of_special_values(dtype):
    """Least integers are their own negatives, and the sign and the bits of NaN count."""
    some = np.array(special(np.dtype(dtype)), dtype)
    for other in (some, -some if np.dtype(dtype).kind not in "bu" else some, some[::-1]):
        value = np.stack([some, other], axis=1).reshape(-1)
        for pair in ("same", "negate"):
            if pair == "same" or np.dtype(dtype).kind not in "bu":
                packed_alike(Schema(("node",), (Field("f", dtype, (), "node", pair=pair),)), {"f": value})
        both = np.stack([value, value[::-1]])
        packed_alike(Schema(("node",), (Field("f", dtype, (2,), "node", 1, pair="swap"),)), {"f": both})


@given(
    cell=arrays("float64", (3, 3)), seed=st.integers(0, 1000), how=st.sampled_from(["cartesian", "noise", "special"])
)
@settings(max_examples=200)
def test_coordinates_in_any_basis(cell, seed, how):
    rng = np.random.default_rng(seed)
    place = (rng.integers(-(10**9), 10**9, (6, 3)) / 1e8).astype(np.float64)
    with np.errstate(all="ignore"):
        frac = {
            "cartesian": to_fractional(place, cell),
            "noise": to_fractional(place, cell) * (1 + 2.0**-52),
            "special": rng.choice(special(np.dtype("f8")), (6, 3)),
        }[how]
    for pair in (None, "same"):
        schema = Schema(
            ("n",), (Field("cell", "float64", (3, 3)), Field("f", "float64", (3,), "n", pair=pair, basis="cell"))
        )
        packed_alike(schema, {"cell": cell, "f": np.repeat(frac, 2, axis=0)})


@pytest.mark.parametrize("step", [-1, 0, 1])
def test_decimals_up_to_the_greatest_exact_integer(step):
    field = Field("f", "float64", (), "n")
    for q in (2**53 + step, 2**31 + step, 2**32 + step, 2**15 + step, 2**7 + step, step):
        for number in (q / 1e8, -q / 1e8, q * 1.0, q * 1e-8, np.nextafter(q / 1e8, 9)):
            packed_alike(Schema(("n",), (field,)), {"f": np.array([number, 0.0])})
            packed_alike(Schema(("n",), (field,)), {"f": np.array([number, -0.0])})


@pytest.mark.parametrize("nodes", [0, 1, 127, 128, 255, 256, 65535, 65536, 70000])
def test_counts_and_buffers_of_every_length(nodes):
    """msgpack has four forms of numbers, and three of bytes."""
    schema = Schema(("node",), (Field("f", "uint8", axis="node"), Field("g", "float64", axis="node")))
    rng = np.random.default_rng(nodes)
    packed_alike(schema, {"f": rng.integers(0, 255, nodes).astype("u1"), "g": rng.normal(size=nodes)})


@pytest.mark.parametrize("n", [0, 1, 12, 13, 14, 256])
def test_schemas_of_any_number_of_fields(n):
    schema = Schema(("a", "b"), tuple(Field(f"f{k}", "int32", axis="a") for k in range(n)))
    packed_alike(schema, {field.name: np.arange(3, dtype="i4") * 300 for field in schema.fields})


@pytest.mark.parametrize("layout", ["F", "strided", "reversed", "read-only", "unaligned", "big-endian", "scalar"])
def test_arrays_in_any_memory_layout(layout):
    given_values = values()
    pos = given_values["pos"]
    unaligned = np.frombuffer(b"x" + pos.tobytes(), np.uint8)[1:].view("f8").reshape(pos.shape)
    read_only = pos.copy()
    read_only.setflags(write=False)
    arrays_of = {
        "F": np.asfortranarray(pos),
        "strided": np.repeat(pos, 2, axis=0)[::2],
        "reversed": pos[::-1],
        "read-only": read_only,
        "unaligned": unaligned,
        "big-endian": pos.astype(">f8"),
        "scalar": pos,
    }
    packed_alike(SCHEMA, given_values | {"pos": arrays_of[layout]}, by_loop=layout != "big-endian")
    if layout == "scalar":
        schema = Schema((), (Field("a", "float64"), Field("b", "bool"), Field("c", "int64")))
        packed_alike(schema, {"a": np.float64(0.1), "b": np.bool_(True), "c": np.array(-(2**40))})


def test_texts_with_zeros_at_the_end_beside_arrays_with_gaps():
    packed_alike(SCHEMA, values() | {"name": "a\0\0", "pos": np.asfortranarray(values()["pos"])})
    packed_alike(SCHEMA, values() | {"name": "", "pos": np.asfortranarray(values()["pos"])})


def test_booleans_of_other_bytes_are_kept():
    """``encode`` stores the bytes that are there."""
    schema = Schema(("n",), (Field("f", "bool", axis="n"),))
    packed_alike(schema, {"f": np.array([0, 1, 7, 255], "u1").view(bool)})


def test_rows_of_an_axis_without_fields():
    schema = Schema(("node", "own"), (Field("f", "uint8", axis="node"),))
    some = {"f": np.zeros(3, "u1")}
    assert RecordEncoder(schema).pack(some, {"own": 9}) == pack(schema, some, {"own": 9})


# ---- what is left to the plain code ----


@pytest.mark.parametrize(
    "changed",
    [
        {"pos": np.zeros((5, 2))},
        {"pos": np.zeros((5, 3, 1))},
        {"cell": np.zeros((9,))},
        {"pos": np.zeros((5, 3), complex).real.astype("f4")},
    ],
    ids=["components", "dimensions", "cell", "another type"],
)
def test_arrays_of_other_shapes_are_not_given_to_the_loop(changed):
    """The plain code has its own way with them, whatever it is."""

    def result(function):
        try:
            return function()
        except Exception as error:  # noqa: BLE001
            return type(error), str(error)

    some = values() | changed
    assert result(lambda: RecordEncoder(SCHEMA).pack(some)) == result(lambda: pack(SCHEMA, some))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"name": "x" * 65537}, LabelError),
        ({"name": "\ud800"}, LabelError),
    ],
)
def test_errors_are_those_of_the_plain_code(changed, error):
    with pytest.raises(error) as plain:
        pack(SCHEMA, values() | changed)
    with pytest.raises(error) as found:
        RecordEncoder(SCHEMA).pack(values() | changed)
    assert str(found.value) == str(plain.value)


def test_a_record_that_no_reader_takes_is_refused():
    schema = Schema(("n",), (Field("f", "float64", (0,), "n"), Field("g", "uint8", axis="n")))
    hollow = Schema(("n",), (Field("f", "float64", (0,), "n"),))
    for found, some in (
        (schema, {"f": np.zeros((3, 0)), "g": np.zeros(4, "u1")}),
        (hollow, {"f": np.zeros((65537, 0))}),
    ):
        with pytest.raises(InputError) as plain:
            pack(found, some)
        with pytest.raises(InputError) as mine:
            RecordEncoder(found).pack(some)
        assert str(mine.value) == str(plain.value)


def test_large_arrays_are_not_copied(monkeypatch):
    monkeypatch.setattr(record_encoder, "MOST", 100)
    packed_alike(SCHEMA, values(), by_loop=False)


def test_without_a_compiler_there_is_the_plain_way(monkeypatch):
    monkeypatch.setattr(record_encoder, "kernels", lambda: None)
    assert RecordEncoder(SCHEMA).pack(values()) == pack(SCHEMA, values())


# ---- sizes that are not true, given to the loop itself ----


def call(numbers, data, size=None, room=None, fields=None):
    """What lg_encode returns, and whether a byte behind the room was written."""
    described = fields or (CField * 4)(*(CField.of(SCHEMA, field) for field in SCHEMA.fields))
    raw = np.array(numbers, np.int64)
    room = 4096 if room is None else room
    out = np.full(room + 64, 0xAB, np.uint8)
    found = native.kernels().lg_encode(
        ctypes.addressof(described), 4, 2, native.address(raw), data, len(data) if size is None else size,
        native.address(out), room,
    )  # fmt: skip
    assert (out[room:] == 0xAB).all()
    return found


TRUE = [5, 8, 10, 10, 3, 4]  # counts, types of three arrays, and the bytes of the text
DATA = bytes(72 + 120 + 128 + 4)


@compiled
def test_true_sizes_are_taken():
    assert call(TRUE, DATA) > 0


@compiled
@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("number", [-1, 0, 1, 11, 200, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63)])
def test_any_wrong_number_is_refused(place, number):
    numbers = [*TRUE[:place], number, *TRUE[place + 1 :]]
    if numbers != TRUE:
        assert call(numbers, DATA) == -1


@compiled
@pytest.mark.parametrize("size", [-1, 0, 1, len(DATA) - 1, -(2**63)])
def test_data_that_is_too_short_is_refused(size):
    assert call(TRUE, DATA, size=size) == -1


@compiled
def test_data_that_is_too_long_is_refused():
    assert call(TRUE, DATA + b"x") == -1


@compiled
def test_no_room_is_too_small_to_be_kept_to():
    most = call(TRUE, DATA)
    assert call(TRUE, DATA, room=most) == most
    for room in range(most):
        assert call(TRUE, DATA, room=room) == -1
    assert call(TRUE, DATA, room=-1) == -1


@compiled
@pytest.mark.parametrize("name", ["axis", "pre", "post", "basis"])
@pytest.mark.parametrize("number", [-2, 3, 7, 2**31, 2**62])
def test_fields_that_are_not_true_are_refused(name, number):
    described = (CField * 4)(*(CField.of(SCHEMA, field) for field in SCHEMA.fields))
    setattr(described[1], name, number)
    if (name, number) in {("post", 3), ("basis", -2)}:  # which are as they were, or no basis
        assert call(TRUE, DATA, fields=described) > 0
    else:
        assert call(TRUE, DATA, fields=described) == -1


@compiled
@settings(max_examples=300)
@given(
    st.lists(st.integers(0, 300), min_size=6, max_size=6),
    st.integers(0, 2000),
    st.integers(0, 3000),
    st.integers(0, 99),
)
def test_any_sizes_do_no_harm(numbers, size, room, seed):
    call(
        [*numbers[:2], *(n % 11 for n in numbers[2:5]), numbers[5]], np.random.default_rng(seed).bytes(size), room=room
    )
