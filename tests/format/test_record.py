"""Records come back whole, in the size that the schema promises; whatever else is in a frame is damage."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import msgpack
import numpy as np
import pytest
import zstandard
from drawing import records, same, schemas
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lazygraph.errors import CorruptDataset, InputError
from lazygraph.format import codec as codec_module
from lazygraph.format import record as record_module
from lazygraph.format.codec import Compressor, Decompressor, train_dictionary
from lazygraph.format.record import pack, unpack
from lazygraph.format.schema import Field, Schema

GRAPH = Schema(
    ("node", "edge"),
    (
        Field("numbers", "uint8", axis="node"),
        Field("edge_index", "int64", (2,), "edge", 1, counts="node", pair="swap"),
        Field("name", "str"),
    ),
)
VALUES = {"numbers": np.array([6, 8], "u1"), "edge_index": np.array([[0, 1], [1, 0]]), "name": "CO"}
PARTS = [2, 2, b"\x04\x84\x04", b"\x06\x08", b"\x00\x01", b"CO"]
PLAIN = Decompressor(None)


def frame_of(raw, **options):
    return zstandard.ZstdCompressor(level=3, **options).compress(raw)


# ---- there and back ----


@pytest.mark.slow
@settings(max_examples=150)
@given(st.data())
def test_any_record_of_any_schema_comes_back(data):
    schema = data.draw(schemas())
    values, counts = data.draw(records(schema))
    raw, found_counts = pack(schema, values)
    assert found_counts == counts
    assert len(raw) <= schema.bound(counts)
    frame = Compressor(9, None)(raw)
    assert PLAIN(frame, schema.bound(counts)) == raw
    record = unpack(schema, raw)
    assert record.counts == counts
    found = record.arrays()
    assert list(found) == list(schema.names)
    for name, value in values.items():
        assert same(found[name], value), name


def test_literal_record():
    raw, counts = pack(GRAPH, VALUES)
    assert (msgpack.unpackb(raw), counts) == (PARTS, (2, 2))
    record = unpack(GRAPH, raw)
    assert [record.rows(field) for field in GRAPH.fields] == [2, 2, 1]


def test_a_text_of_the_greatest_length_is_within_the_bound():
    schema = Schema((), (Field("a", "str"), Field("b", "str")))
    raw, _ = pack(schema, {"a": "x" * 65536, "b": "y" * 65536})
    assert len(raw) <= schema.bound([])
    assert unpack(schema, raw).arrays() == {"a": "x" * 65536, "b": "y" * 65536}


def test_fields_that_disagree_about_an_axis_are_refused():
    schema = Schema(("node",), (Field("a", "uint8", axis="node"), Field("b", "uint8", axis="node")))
    with pytest.raises(InputError, match="'b' has 3 rows along the axis 'node', a field before it 2"):
        pack(schema, {"a": np.zeros(2, "u1"), "b": np.zeros(3, "u1")})


def test_a_record_that_no_reader_would_take_is_not_written(monkeypatch):
    monkeypatch.setattr(record_module, "MAX_RECORD", 1000)
    schema = Schema(("node",), (Field("a", "uint8", axis="node"),))
    with pytest.raises(InputError, match=r"takes \d+ bytes with the counts \(2000,\); required: at most 1000 bytes"):
        pack(schema, {"a": np.zeros(2000, "u1")})


def test_rows_without_components_count_too():
    """A million million rows of nothing take no byte, and no reader would take them."""
    schema = Schema(("node",), (Field("a", "uint8", (0,), "node"),))
    raw, counts = pack(schema, {"a": np.zeros((65536, 0), "u1")})
    assert unpack(schema, raw).counts == counts == (65536,)
    for rows in (65537, 2**31):
        with pytest.raises(InputError, match=str(rows)):
            pack(schema, {"a": np.zeros((rows, 0), "u1")})


# ---- msgpack of strangers ----


def replaced(place, value):
    return [*PARTS[:place], value, *PARTS[place + 1 :]]


@pytest.mark.parametrize(
    "parts",
    [
        None, 5, b"", "text", {}, {0: PARTS}, [], [PARTS], PARTS[:-1], [*PARTS, b""], [*PARTS, 0],
        *(replaced(0, value) for value in (-1, 2.0, False, None, b"1", "1", 2**31, 2**64 - 1, -(2**63), [], [2])),
        *(replaced(1, value) for value in (-1, 2.0, {}, msgpack.ExtType(1, b"1"))),
        *(replaced(1, value) for value in (-2, "2", 2**31)),
        *(replaced(2, value) for value in ("\x04\x04\x04", b"\x04\x84", b"\x04\x84\x04\x04", 3, [4, 132, 4], b"")),
        *(replaced(3, value) for value in ("\x06\x08", 6, None, [6, 8], {6: 8}, [], {}, msgpack.Timestamp(1, 2))),
        *(replaced(5, value) for value in ("CO", msgpack.ExtType(5, b""), msgpack.ExtType(5, b"CO"), 1.5, [b"CO"])),
    ],
    ids=repr,
)  # fmt: skip
def test_other_msgpack_is_no_record(parts):
    with pytest.raises(CorruptDataset, match="^the record "):
        unpack(GRAPH, msgpack.packb(parts))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        msgpack.packb(PARTS) + b"\0",
        msgpack.packb(PARTS) * 2,
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdc\xff\xff" + b"\0" * 10,
        b"\x96\x02\x02\xc6\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x05",
        b"\xc7\x00\x05",
        b"\xd4\xff\x00",
        b"\x96\x02\x02\xa1\xff",
        *(msgpack.packb(PARTS)[:n] for n in range(len(msgpack.packb(PARTS)))),
    ],
    ids=lambda raw: raw[:16].hex(),
)
def test_broken_msgpack_is_no_record(raw):
    with pytest.raises(CorruptDataset, match="^the record "):
        unpack(GRAPH, raw)


@settings(max_examples=300)
@given(st.data())
def test_a_changed_record_is_read_as_a_record_or_refused(data):
    """Checksums find damage; this is about strangers, who can make them fit."""
    raw = bytearray(msgpack.packb(PARTS))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        record = unpack(GRAPH, bytes(raw))
        found = record.arrays()
    except CorruptDataset:
        return
    assert found["numbers"].shape == (record.counts[0],)
    assert found["edge_index"].shape == (2, record.counts[1])
    assert isinstance(found["name"], str)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_record_or_refused(raw):
    schema = Schema((), ())
    try:
        assert unpack(schema, raw).codes == b""
    except CorruptDataset:
        return


@pytest.mark.parametrize("count", [3, 2**20])
def test_counts_that_do_not_fit_the_buffers_are_found_when_they_are_decoded(count):
    record = unpack(GRAPH, msgpack.packb(replaced(0, count)))
    with pytest.raises(CorruptDataset, match=f"'numbers' has 2 bytes; required: {count} x 1 of uint8"):
        record.arrays()


@pytest.mark.parametrize(("rows", "fits"), [(2**27 // 3, True), (2**27 // 3 + 1, False), (2**31 - 1, False)])
def test_a_record_has_at_most_2_27_values(rows, fits):
    """Paired, and in one byte each, they would take sixteen times the memory of the record."""
    schema = Schema(("node",), (Field("x", "float64", (3,), "node", pair="same"), Field("name", "str")))
    raw = msgpack.packb([rows, b"\x94\x04", b"", b""])
    if fits:
        assert unpack(schema, raw).counts == (rows,)
    else:
        with pytest.raises(CorruptDataset, match=f"{3 * rows} values; required: at most 134217728"):
            unpack(schema, raw)


def test_a_graph_of_more_values_is_refused_when_it_is_written():
    schema = Schema(("node",), (Field("x", "uint8", (2**20,), "node"),))
    values = {"x": np.broadcast_to(np.uint8(1), (129, 2**20))}
    with pytest.raises(InputError, match="135266304 values; required: at most 134217728"):
        pack(schema, values)


# ---- frames ----


def test_a_frame_states_its_size_and_nothing_else():
    raw = msgpack.packb(PARTS) * 20
    dictionary = train_dictionary([struct.pack("<I", n) * 50 for n in range(200)], 200)
    for known in (None, dictionary):
        frame = Compressor(9, known)(raw)
        parameters = zstandard.get_frame_parameters(frame)
        assert (parameters.content_size, parameters.dict_id, parameters.has_checksum) == (len(raw), 0, False)
        assert Decompressor(known)(frame, len(raw)) == raw


def test_the_bound_is_the_greatest_size():
    frame = frame_of(b"x" * 1000)
    assert PLAIN(frame, 1000) == b"x" * 1000
    with pytest.raises(CorruptDataset, match="the frame declares 1000 bytes; required: 1 to 999"):
        PLAIN(frame, 999)


def test_more_than_1_gib_is_refused_whatever_the_schema_allows(monkeypatch):
    monkeypatch.setattr(codec_module, "MAX_RECORD", 100)
    with pytest.raises(CorruptDataset, match="required: 1 to 100$"):
        PLAIN(frame_of(b"x" * 101), 2**60)


def test_a_frame_without_its_size_is_refused():
    with pytest.raises(CorruptDataset, match="the frame declares -1 bytes"):
        PLAIN(frame_of(b"x" * 1000, write_content_size=False), 10**6)


SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
ONE = frame_of(b"one record")


@pytest.mark.parametrize(
    "frame",
    [
        ONE + b"\0",
        ONE + ONE,
        ONE + SKIPPABLE,
        SKIPPABLE,
        SKIPPABLE + ONE,
        frame_of(b""),
        frame_of(b"") + ONE,
        b"",
        b"\0" * 20,
        b"one record",
        *(ONE[:n] for n in range(len(ONE))),
    ],
    ids=lambda frame: f"{len(frame)} {frame[:8].hex()}",
)
def test_what_is_not_one_frame_is_refused(frame):
    """zstandard itself would read the first frame and be content."""
    with pytest.raises(CorruptDataset, match="the frame declares|the record is not a zstd frame"):
        PLAIN(frame, 1000)


@pytest.mark.parametrize("promised", [256, 299, 301, 999, 65791])
def test_a_frame_that_holds_another_size_than_it_promises_is_refused(promised):
    frame = bytearray(frame_of(b"ab" * 150))
    assert struct.unpack_from("<H", frame, 5) == (300 - 256,)
    struct.pack_into("<H", frame, 5, promised - 256)
    with pytest.raises(CorruptDataset, match="the record is not a zstd frame"):
        PLAIN(bytes(frame), 10**6)


@settings(max_examples=200)
@given(st.data())
@example(None)
def test_a_changed_frame_never_gives_more_than_the_bound(data):
    raw = msgpack.packb(PARTS) * 10
    frame = bytearray(frame_of(raw))
    if data is not None:
        for _ in range(data.draw(st.integers(1, 3))):
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert len(PLAIN(bytes(frame), len(raw))) <= len(raw)
    except CorruptDataset:
        assert data is not None


def test_bombs_take_no_memory():
    """A few kB of zstd promise, or hold, 400 MB and more: with 300 MB to spare, none of them is an error of memory."""
    code = """
        import resource, zstandard
        from lazygraph.errors import CorruptDataset
        from lazygraph.format.codec import Decompressor
        from lazygraph.format.record import unpack
        from lazygraph.format.schema import Field, Schema

        def zeros(size, **options):
            context = zstandard.ZstdCompressor(level=1, **options).compressobj(
                size if options.get("write_content_size", True) else -1)
            out = b"".join(context.compress(bytes(2**20)) for _ in range(size >> 20))
            return out + context.flush()

        frames = [zeros(400 << 20), zeros(400 << 20, write_content_size=False)]
        lie = bytearray(zstandard.ZstdCompressor(level=1).compress(bytes(300)))
        for promised in (2**32 - 1, 2**63, 2**64 - 3):
            # a header with 8 bytes of content size
            frames.append(lie[:4] + bytes([0xE0]) + promised.to_bytes(8, "little") + lie[7:])
        # 1000 bytes in the header (with a window of 16 MB), 400 MB in the frame
        blocks = frames[0][zstandard.frame_header_size(frames[0]) :]
        frames.append(lie[:4] + bytes([0x40, 0x70]) + (1000 - 256).to_bytes(2, "little") + blocks)
        schema = Schema(("node",), (Field("a", "float64", (3,), "node"),))
        raws = [
            b"\\x94\\x00\\x02\\xc4\\x01\\x0a\\xc6\\xff\\xff\\xff\\xff",
            b"\\x94\\xdd\\x7f\\xff\\xff\\xff",
            b"\\xdd\\x7f\\xff\\xff\\xff" * 100,
        ]
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20), resource.RLIM_INFINITY))
        refused = 0
        for frame in frames:
            try:
                Decompressor(None)(bytes(frame), 100_000)
            except CorruptDataset:
                refused += 1
        for raw in raws:
            try:
                unpack(schema, raw)
            except CorruptDataset as error:
                assert "MemoryError" not in str(error), error
                refused += 1
        try:
            bytearray(400 << 20)
        except MemoryError:
            refused += 1  # the limit holds
        print(refused, len(frames) + len(raws) + 1)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["10", "10"]


# ---- dictionaries ----


def similar(n):
    return [pack(GRAPH, VALUES | {"name": f"a text that all records share, number {i}"})[0] for i in range(n)]


def test_a_dictionary_makes_small_records_smaller():
    raws = similar(200)
    dictionary = train_dictionary(raws, 200)
    assert dictionary == train_dictionary(raws, 200)
    with_it, without = Compressor(9, dictionary), Compressor(9, None)
    assert sum(len(with_it(raw)) for raw in raws) < 0.7 * sum(len(without(raw)) for raw in raws)
    decompress = Decompressor(dictionary)
    assert [decompress(with_it(raw), 1000) for raw in raws] == raws


def test_too_few_or_too_uniform_records_have_no_dictionary():
    assert train_dictionary(similar(63), 63) is None
    assert train_dictionary([], 0) is None
    assert train_dictionary([b""] * 100, 100) is None


def test_a_large_data_set_has_a_larger_dictionary():
    random = np.random.default_rng(0)
    raws = [random.integers(0, 9, 2000).astype("u1").tobytes() for _ in range(200)]
    small, large = train_dictionary(raws, 65535), train_dictionary(raws, 65536)
    assert len(small) <= 16384 < len(large) <= 65536


def test_another_dictionary_never_gives_the_record():
    raws = similar(200)
    dictionary = train_dictionary(raws, 200)
    frame = Compressor(9, dictionary)(raws[0])
    assert Decompressor(dictionary)(frame, 1000) == raws[0]
    for other in (None, b"some bytes" * 100, train_dictionary([raw[::-1] for raw in raws], 200)):
        try:
            assert Decompressor(other)(frame, 1000) != raws[0]
        except CorruptDataset:
            continue


def test_a_dictionary_of_a_stranger_is_refused_or_harmless():
    frame = frame_of(b"one record")
    assert Decompressor(b"anything")(frame, 1000) == b"one record"
    with pytest.raises(CorruptDataset):
        Decompressor(b"\x37\xa4\x30\xec" + bytes(100))(frame, 1000)


@pytest.mark.parametrize("dictionary", [None, train_dictionary(similar(100), 100)], ids=["plain", "dictionary"])
def test_a_decompressor_works_in_threads_and_after_pickling(dictionary):
    raws = similar(100)
    compress = Compressor(9, dictionary)
    frames = [compress(raw) for raw in raws]
    decompress = Decompressor(dictionary)
    assert decompress(frames[0], 1000) == raws[0]
    again = pickle.loads(pickle.dumps(decompress))
    with ThreadPoolExecutor(8) as pool:
        for each in (decompress, again):
            assert list(pool.map(lambda frame, each=each: each(frame, 1000), frames * 20)) == raws * 20
