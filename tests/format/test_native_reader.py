"""Records put together at once are those decoded one by one, and nothing in their bytes can do harm."""

from __future__ import annotations

import pickle
import tempfile
import threading
from itertools import accumulate

import msgpack
import numpy as np
import pytest
import xxhash
import zstandard
from drawing import records, same, same_record_batch, schemas
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lazygraph import native
from lazygraph.coordinates import to_fractional
from lazygraph.errors import CorruptDataset
from lazygraph.format import native_reader
from lazygraph.format.codec import Compressor, Decompressor, train_dictionary
from lazygraph.format.encoding import LAYOUTS
from lazygraph.format.native_reader import NativeReader, RecordIndex, ShardNotOpen
from lazygraph.format.native_types import UNCOMPRESSED, ZSTD
from lazygraph.format.record import check_counts, pack, unpack
from lazygraph.format.record_batch import concatenate
from lazygraph.format.schema import Field, Schema
from lazygraph.format.shard import read_value, record_dtype
from lazygraph.format.store import Store
from lazygraph.native import zstd_symbols
from lazygraph.native.zstd_symbols import functions

THERE = native.kernels() is not None and functions() is not None
compiled = pytest.mark.skipif(not THERE, reason="there are no compiled loops here")


class Shards:
    """Frames in files, as a dataset has them, with the axis counts of each as its columns say."""

    def __init__(self, schema, shards, counts, *, codec=ZSTD, dictionary=None, hashes=None):
        entries, sizes, self.files = [], [], []
        for frames in shards:
            starts = list(accumulate(map(len, frames), initial=0))
            entries += zip(starts, map(len, frames), map(xxhash.xxh3_64_intdigest, frames), strict=False)
            self.files.append(tempfile.TemporaryFile())  # noqa: SIM115 - closed in __exit__
            self.files[-1].write(b"".join(frames))
            self.files[-1].flush()
            sizes.append(starts[-1])
        record = np.array(entries, record_dtype(max(sizes), max(entry[1] for entry in entries)))
        if hashes is not None:
            record["xxh3"] = hashes
        ends = np.cumsum([len(frames) for frames in shards])
        columns = list(np.array(counts, np.uint64).reshape(len(record), len(schema.axes)).T.copy())
        codec = codec if dictionary is None else 0
        codecs = np.full(len(shards), codec, np.int32)
        self.located = RecordIndex(record, columns, ends, np.array(sizes), codecs)
        known = int(dictionary is not None)
        self.dictionary = dictionary
        self.loops = NativeReader.create_if_supported(schema, self.located, known)
        self.numbers = np.array([file.fileno() for file in self.files], np.int32)

    def read_batch(self, rows):
        return self.loops.read_batch(np.array(rows), self.numbers, lambda _: self.dictionary)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for file in self.files:
            file.close()


def counts_of(schema, raws):
    """The axis counts of records; any, where bytes are none."""
    out = []
    for raw in raws:
        try:
            out.append(unpack(schema, raw).counts)
        except CorruptDataset:
            out.append([1000] * len(schema.axes))
    return out


def decoded(schema, raws, counts=None):
    found = [unpack(schema, raw) for raw in raws]
    for record, said in zip(found, counts or (), strict=counts is not None):
        check_counts(record, said)
    return [(record.counts, record.arrays()) for record in found]


def together(schema, raws, counts=None):
    """The records read from a file in which they lie in another order."""
    compress = Compressor(3, None)
    order = np.random.default_rng(len(raws)).permutation(len(raws))
    said = counts or counts_of(schema, raws)
    said = [said[k] for k in order]
    with Shards(schema, [[compress(raws[k]) for k in order]], said) as shards:
        found = shards.read_batch(np.argsort(order)) if shards.loops else None
    with Shards(schema, [[raws[k] for k in order]], said, codec=UNCOMPRESSED) as shards:
        again = shards.read_batch(np.argsort(order)) if shards.loops else None
    assert (found is None) == (again is None)
    for name, value in {} if found is None else found.fields.items():
        assert same(again.fields[name], value) if isinstance(value, np.ndarray) else again.fields[name] == value
    return found


def left_to_the_plain_way(field, values):
    """Whether the loops do not read this field, though nothing is wrong with it."""
    if field.counts is not None and field.dtype in ("int8", "int16", "int32"):
        return True
    if field.pair != "negate":
        return False
    least = [-(2**7), -(2**15), -(2**31)]
    return field.dtype in ("float16", "float32") or any(np.isin(value[field.name], least).any() for value in values)


@pytest.mark.slow
@compiled
@settings(max_examples=300)
@given(st.data())
def test_any_records_come_together_as_those_decoded_one_by_one(data):
    schema = data.draw(schemas())
    values = [data.draw(records(schema))[0] for _ in range(data.draw(st.integers(1, 4)))]
    raws = [pack(schema, value)[0] for k, value in enumerate(values)]
    with np.errstate(all="ignore"):
        plain = concatenate(schema, decoded(schema, raws))
        mine = together(schema, raws)
    if mine is None:
        assert not schema.fields or any(left_to_the_plain_way(field, values) for field in schema.fields)
    else:
        same_record_batch(schema, mine, plain)
        same_record_batch(schema, pickle.loads(pickle.dumps(mine)), plain)
    same_record_batch(schema, pickle.loads(pickle.dumps(plain)), plain)


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
    return [pack(GRAPH, graph(k + 1, k, **far))[0] for k in range(5)]


@compiled
def test_ids_are_raised_and_integers_stay_narrow():
    records = together(GRAPH, raw_graphs())
    assert records.fields["edge_index"].dtype == np.int32
    assert records.fields["images"].dtype == np.int8
    assert together(GRAPH, raw_graphs(far=300)).fields["images"].dtype == np.int16
    first = np.cumsum([0, 1, 2, 3, 4])
    single = [unpack(GRAPH, raw).arrays()["edge_index"] for raw in raw_graphs()]
    assert np.array_equal(records.fields["edge_index"], np.concatenate([e + first[k] for k, e in enumerate(single)], 1))
    same_record_batch(GRAPH, records, concatenate(GRAPH, decoded(GRAPH, raw_graphs())))


@compiled
@pytest.mark.parametrize("least", [-(2**7), -(2**15), -(2**31), -(2**63)])
def test_the_least_value_of_a_type_has_a_reverse(least):
    """In the type that holds -128, 128 is -128 too."""
    values = graph(3, 1)
    for first in (least, least + 1):
        values["images"][::2] = first
        with np.errstate(all="ignore"):
            values["images"][1::2] = -values["images"][::2]
        raws = [pack(GRAPH, values)[0] for k in range(2)]
        mine = together(GRAPH, raws)
        assert (mine is None) == (first == least > -(2**63))
        if mine is not None:
            same_record_batch(GRAPH, mine, concatenate(GRAPH, decoded(GRAPH, raws)))


@pytest.mark.slow
@compiled
@settings(max_examples=400)
@given(st.data())
def test_any_codes_of_the_right_lengths_are_read_as_the_plain_way_reads_them(data):
    """Whatever an encoder would not write: unsigned bits in signed fields, halves, decimals, in any field."""
    schema = data.draw(schemas())
    raws = []
    for k in range(data.draw(st.integers(2, 3))):
        raw, counts = pack(schema, data.draw(records(schema))[0])
        record = unpack(schema, raw)
        codes, buffers = bytearray(record.codes), list(record.buffers)
        for f, field in enumerate(schema.fields):
            if field.dtype == "str" or not data.draw(st.booleans()):
                continue
            code = data.draw(st.sampled_from(sorted(LAYOUTS)))
            rows = record.rows(field)
            size = (rows // 2 if code & 128 else rows) * field.components * LAYOUTS[code].itemsize
            if size < 4000:
                codes[f], buffers[f] = code, data.draw(st.binary(min_size=size, max_size=size))
        raws.append(msgpack.packb([*counts, bytes(codes), *buffers]))
    with np.errstate(all="ignore"):
        try:
            plain = concatenate(schema, decoded(schema, raws))
        except CorruptDataset:
            assert together(schema, raws) is None
            return
        mine = together(schema, raws)
    if mine is not None:
        same_record_batch(schema, mine, plain)
        for field in schema.fields:
            if "int" in field.dtype and field.counts is None:  # the numbers themselves, before any cast
                assert mine.fields[field.name].tolist() == plain.fields[field.name].tolist()


@pytest.mark.slow
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
    raws, counts = [bytes(raw) for raw in raws], counts_of(GRAPH, raw_graphs())
    with np.errstate(all="ignore"):
        try:
            plain = concatenate(GRAPH, decoded(GRAPH, raws, counts))
        except CorruptDataset:
            assert together(GRAPH, raws, counts) is None
            return
        mine = together(GRAPH, raws, counts)
    if mine is not None:
        same_record_batch(GRAPH, mine, plain)


@compiled
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4))
def test_bytes_that_are_no_records_are_refused(raws):
    assert together(GRAPH, raws) is None


@compiled
@pytest.mark.parametrize("width", ["<u2", "<u4"])
def test_rows_of_several_shards_in_any_order_and_more_than_once(width, monkeypatch):
    monkeypatch.setattr(
        "test_native_reader.record_dtype", lambda *_: np.dtype([("offset", "<u8"), ("length", width), ("xxh3", "<u8")])
    )
    raws = [pack(GRAPH, graph(k % 7 + 1, k))[0] for k in range(90)]
    dictionary = train_dictionary(raws, len(raws))
    compress = Compressor(3, dictionary)
    frames = [compress(raw) for raw in raws]
    rows = [89, 0, 31, 30, 29, 0, 60, 59, 89]
    counts = counts_of(GRAPH, raws)
    with Shards(GRAPH, [frames[:30], frames[30:60], frames[60:]], counts, dictionary=dictionary) as shards:
        expected = concatenate(GRAPH, decoded(GRAPH, [raws[row] for row in rows]))
        same_record_batch(GRAPH, shards.read_batch(rows), expected)
        same_record_batch(GRAPH, shards.read_batch(rows[:1]), concatenate(GRAPH, decoded(GRAPH, [raws[89]])))
        found = []
        threads = [threading.Thread(target=lambda: found.append(shards.read_batch(rows))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        for records in found:
            same_record_batch(GRAPH, records, expected)
        shards.numbers[1] = -1
        same_record_batch(GRAPH, shards.read_batch([0, 89]), concatenate(GRAPH, decoded(GRAPH, [raws[0], raws[89]])))
        with pytest.raises(ShardNotOpen):
            shards.read_batch(rows)
        for outside in (-1, 90):
            assert shards.read_batch([0, outside]) is None


@pytest.mark.slow
@compiled
@settings(max_examples=300)
@given(st.data())
def test_damaged_frames_are_left_to_the_plain_way_or_read_alike(data):
    """Their checksums are right: whoever damaged them on purpose would see to that."""
    compress = Compressor(3, None)
    frames = [bytearray(compress(raw)) for raw in raw_graphs()]
    victim = frames[data.draw(st.integers(0, 4))]
    match data.draw(st.sampled_from(["flip", "cut", "grow", "more"])):
        case "flip":
            victim[data.draw(st.integers(0, len(victim) - 1))] ^= data.draw(st.integers(1, 255))
        case "cut":
            del victim[data.draw(st.integers(1, len(victim) - 1)) :]
        case "grow":
            victim += data.draw(st.binary(min_size=1, max_size=9))
        case "more":
            victim += compress(b"more")
    frames = [bytes(frame) for frame in frames]
    counts = counts_of(GRAPH, raw_graphs())
    if data.draw(st.booleans()):
        counts[data.draw(st.integers(0, 4))] = (data.draw(st.sampled_from([0, 2, 30, 2**40])), 6)
    decompress = Decompressor(None)
    with np.errstate(all="ignore"), Shards(GRAPH, [frames], counts) as shards:
        try:
            raws = [decompress(frame, GRAPH.bound(said)) for frame, said in zip(frames, counts, strict=True)]
            plain = concatenate(GRAPH, decoded(GRAPH, raws, counts))
        except CorruptDataset:
            assert shards.read_batch(range(5)) is None
            return
        mine = shards.read_batch(range(5))
    if mine is not None:
        same_record_batch(GRAPH, mine, plain)


@compiled
def test_no_rows_of_many_components_take_no_time():
    """A loop over them would take an hour, and could not be interrupted."""
    schema = Schema(("node",), tuple(Field(f"f{k}", "float32", (2**27,), axis="node") for k in range(50)))
    raws = [pack(schema, {f"f{k}": np.zeros((0, 2**27), np.float32) for k in range(50)})[0] for k in range(60)]
    records = together(schema, raws)
    assert records.fields["f49"].shape == (0, 2**27)


@compiled
def test_places_that_are_wrong_are_refused():
    compress = Compressor(3, None)
    frames = [compress(raw) for raw in raw_graphs()]
    with Shards(GRAPH, [frames], counts_of(GRAPH, raw_graphs())) as shards:
        assert shards.read_batch([0, 1]) is not None
        record = shards.located.record
        good = record.copy()
        for name, value in (("offset", 10**6), ("offset", good["offset"][1] + 1), ("length", 1), ("xxh3", 0)):
            record[name][1] = value
            with pytest.raises(CorruptDataset):
                read_value(int(shards.numbers[0]), int(shards.located.sizes[0]), *record[1].item())
            assert shards.read_batch([0, 1]) is None
            assert shards.read_batch([0, 2]) is not None
            record[:] = good
        shards.files[0].truncate(int(good["offset"][3]) + 1)
        assert shards.read_batch([0, 3]) is None
        assert shards.read_batch([0, 1]) is not None


@compiled
def test_frames_without_a_size_or_of_more_than_they_promise_are_refused():
    raws = raw_graphs()
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(raws[0])
    bomb = zstandard.ZstdCompressor().compress(bytes(2**28))
    assert len(bomb) < 2**15
    good = Compressor(3, None)(raws[1])
    for bad in (unsized, bomb, b"", good[:4]):
        with Shards(GRAPH, [[good, bad]], counts_of(GRAPH, [raws[1], raws[0]])) as shards:
            assert shards.read_batch([0, 1]) is None
            assert shards.read_batch([0, 0]) is not None


@compiled
def test_counts_that_are_not_those_of_the_columns_are_refused():
    """Else a record could take as much memory as it likes, whatever its dataset says."""
    raws = raw_graphs()
    counts, frames = counts_of(GRAPH, raws), [Compressor(3, None)(raw) for raw in raws]
    for axis in (0, 1):
        wrong = [list(said) for said in counts]
        wrong[1][axis] += 2
        with Shards(GRAPH, [frames], wrong) as shards:
            assert shards.read_batch([0, 1]) is None
            assert shards.read_batch([0, 2]) is not None


@compiled
def test_long_arrays_are_decoded_in_pieces():
    """Of every kind of value: none of them takes memory beside the result."""
    n = 9001  # more than two pieces, and no whole number of them
    values = {**graph(2, 1), "numbers": np.arange(n).astype(np.uint8)}
    rng = np.random.default_rng(0)
    ends, shifts = rng.integers(0, n, (2, n)), rng.integers(-300, 300, (n, 3))
    values["frac_coords"] = rng.uniform(-1, 2, (n, 3))
    values["edge_index"] = np.stack([ends, ends[::-1]], axis=2).reshape(2, 2 * n)
    values["images"] = np.stack([shifts, -shifts], axis=1).reshape(2 * n, 3)
    for lattice, decimals in ((np.eye(3), None), (np.diag([2.0, 3.0, 5.5]), 5), (values["lattice"], 4)):
        values["lattice"] = lattice
        if decimals is not None:
            cart = np.round(rng.uniform(-3, 30, (n, 3)), decimals)
            values["frac_coords"] = to_fractional(cart, lattice)
        raws = [pack(GRAPH, values)[0] for k in range(2)]
        mine = together(GRAPH, [raws[0], raw_graphs()[2], raws[1]])
        same_record_batch(GRAPH, mine, concatenate(GRAPH, decoded(GRAPH, [raws[0], raw_graphs()[2], raws[1]])))


@compiled
def test_a_dictionary_that_is_none_is_left_to_the_plain_way():
    magic = (0xEC30A437).to_bytes(4, "little")
    frames = [Compressor(3, None)(raw) for raw in raw_graphs()]
    with Shards(GRAPH, [frames], counts_of(GRAPH, raw_graphs()), dictionary=magic + bytes(40)) as shards:
        assert shards.read_batch([0, 1]) is None
        with pytest.raises(CorruptDataset, match="the dictionary is not a zstd dictionary"):
            Decompressor(magic + bytes(40))(frames[0], 10**6)


@compiled
def test_columns_of_other_types_are_left_to_the_plain_way():
    with Shards(GRAPH, [[b"frame"]], [(1, 1)]) as shards:
        located = shards.located
    swapped = np.zeros(1, np.dtype([("length", "<u4"), ("offset", "<u4"), ("xxh3", "<u8")]))
    assert located.known
    assert not located._replace(record=swapped).known
    assert not located._replace(counts=[column.astype(np.int64) for column in located.counts]).known
    assert not located._replace(counts=[column[:0] for column in located.counts]).known


@pytest.mark.parametrize("missing", ["loops", "zstd"])
def test_without_compiled_loops_or_zstd_there_is_the_plain_way(missing, monkeypatch, prototypes):
    rows = np.array([5, 2, 250, 2])
    with_loops = Store(prototypes).read_batch(rows)
    monkeypatch.setattr(native_reader, {"loops": "kernels", "zstd": "functions"}[missing], lambda: None)
    plain = Store(prototypes).read_batch(rows)
    assert plain.fields["images"].dtype == np.int64
    same_record_batch(Store(prototypes).manifest.schema, with_loops, plain)


def test_the_loops_are_switched_off(monkeypatch):
    native.kernels.cache_clear()
    monkeypatch.setenv("LAZYGRAPH_NATIVE", "0")
    try:
        assert native.kernels() is None
    finally:
        monkeypatch.undo()
        native.kernels.cache_clear()


@compiled
def test_functions_that_are_not_there_are_not_used(monkeypatch):

    functions.cache_clear()
    monkeypatch.setattr(zstd_symbols, "_ZSTD", ("zstandard.nothing", "json"))
    try:
        assert functions() is None
    finally:
        monkeypatch.undo()
        functions.cache_clear()


@compiled
def test_a_library_of_other_sources_is_not_used(monkeypatch):
    native.kernels.cache_clear()
    monkeypatch.setattr(native, "source_hash", lambda _: "0" * 64)
    try:
        assert native.kernels() is None
    finally:
        monkeypatch.undo()
        native.kernels.cache_clear()
