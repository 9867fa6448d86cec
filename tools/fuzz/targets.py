"""What is fuzzed: functions of any bytes that must return, or raise an error that says what is found here.

Each takes what a stranger could put on disk, checksums made to fit, and asks two things: nothing comes but the errors
that docs/format.md promises, and what is accepted means one thing (it is written again as it was, and the compiled
loops read it as the plain functions do). ``tools/fuzz/run`` searches for inputs; tests/attacks/test_corpus.py replays
those in ``corpus/``.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import msgpack
import numpy as np
import xxhash

from lazygraph.errors import CorruptDataset, RecipeError, UnsupportedFormat
from lazygraph.format import columns as columns_module
from lazygraph.format import manifest as manifest_module
from lazygraph.format import strict_json
from lazygraph.format.codec import CODECS, Compressor, Decompressor, train_dictionary
from lazygraph.format.columns import Column, open_column
from lazygraph.format.native_reader import RecordIndex, _Batch, _Decoders
from lazygraph.format.native_types import UNCOMPRESSED, ZSTD
from lazygraph.format.record import pack, unpack
from lazygraph.format.record_batch import concatenate
from lazygraph.format.schema import Field, Schema
from lazygraph.format.shard import read_value, write_shard
from lazygraph.format.strict_json import canonical_json
from lazygraph.graphs.spec import GraphSpec
from lazygraph.native import address
from lazygraph.storage.files import FileRef
from lazygraph.storage.local import LocalStorage
from tools.fuzz.hostile import sealed

try:
    from lazygraph.format.pages import locate  # the walk of ``verify``
except ModuleNotFoundError:
    locate = None

CRYSTAL = Schema(
    ("node", "edge"),
    (
        Field("numbers", "uint8", axis="node"),
        Field("lattice", "float64", (3, 3), unit="A"),
        Field("pbc", "bool", (3,)),
        Field("frac_coords", "float64", (3,), "node", basis="lattice"),
        Field("edge_index", "int64", (2,), "edge", 1, counts="node", pair="swap"),
        Field("images", "int64", (3,), "edge", pair="negate"),
    ),
)
SCHEMAS = (
    CRYSTAL,
    Schema((), (Field("text", "str"), Field("flag", "bool"))),
    Schema(
        ("node", "edge"), (Field("x", "float32", (2, 2), "node", 1), Field("y", "float64"), Field("h", "float16", (3,)))
    ),
    Schema(
        ("edge",),
        (Field("a", "int16", (2,), "edge", 0, pair="swap"), Field("w", "float32", (), "edge", pair="negate")),
    ),
    Schema(
        ("node", "edge", "ring"),
        (
            Field("e", "int64", (2,), "edge", 1, counts="ring"),
            Field("s", "int8", (2, 1, 2), "node", 3, counts="edge", pair="same"),
            Field("u", "uint64", (), "ring"),
            Field("i", "int32", (3,), "ring", pair="negate"),
        ),
    ),
    Schema(("node",), (Field("nothing", "uint8", (0,), "node"), Field("many", "int64", (0, 3), "node", 2))),
    Schema(("node",), ()),
)
LIMIT = 1 << 20  # bytes of a record that a test decompresses


def manifest(data):
    """A manifest of these bytes, its checksum made to fit; what is accepted is written again as it was."""
    found = _manifest(data)
    if found is None:
        return
    written = found.to_bytes()
    again = manifest_module._parse(written)
    require(again == found, "what is written means something else")
    require(again.to_bytes() == written, "it is not written twice as the same bytes")
    if found.version <= manifest_module.VERSION and canonical_json(json.loads(data + b"}"))[:-1] == data:
        require(written == sealed(data), "a canonical manifest is not written as it was")
    for name, column in found.columns.items():
        columns_module.dtype_of(column)
        require(len(name.encode()) <= 255, "a long name")
    with suppress(RecipeError):
        require(found.recipe is None or bool(GraphSpec.from_json(found.recipe)), "a recipe that is none")
    require(manifest_module.row_starts(found.shards)[-1] == found.graphs, "rows that are not those of the shards")
    for shard in found.shards:
        dictionaries = len(found.dictionaries) if CODECS[shard.codec].takes_dictionary else 0
        require(shard.dictionary is None or shard.dictionary < dictionaries, "a dictionary that is not there")
        if shard.records < 1 << 16:
            require(len(shard.keys()) == shard.rows, "other keys than records with rows")
    sources = found.provenance.sources
    require(not sources or sum(source.inputs for source in sources) == found.inputs, "inputs that are not the sources'")


def record(data):
    """A decompressed record of one of several schemas; the compiled loops read it as the plain functions do."""
    schema, raw = SCHEMAS[data[0] % len(SCHEMAS)] if data else SCHEMAS[0], data[1:]
    try:
        found = unpack(schema, raw)
        with np.errstate(all="ignore"):
            values = found.arrays()
    except CorruptDataset:
        found = values = None
    else:
        _comes_back(schema, found, values)
    decoded = None if found is None else [(found.counts, values)] * 2
    said = _said(schema, raw) if found is None else found.counts
    _batch(schema, [Compressor(1, None)(raw)] * 2, decoded, said=said)
    _batch(schema, [raw] * 2, decoded, said=said, codec=UNCOMPRESSED)


def frame(data):
    """What a shard holds in the place of a record: a frame with or without a dictionary, or the record; bounded."""
    how, data = data[0] % 3 if data else 0, data[1:]
    known = dictionary() if how == 1 else None
    decode = CODECS["none" if how == 2 else "zstd"].decoder(known)
    schema = SCHEMAS[1]
    bound = schema.bound([])
    decoded = None
    try:
        raw = decode(data, bound)
        require(0 < len(raw) <= bound, "more than the bound")
        found = unpack(schema, raw)
        decoded = [(found.counts, found.arrays())]
    except CorruptDataset:
        pass
    _batch(schema, [data], decoded, codec=(ZSTD, 0, UNCOMPRESSED)[how])


COLUMNS = (
    ("<f8", (3,)),
    ("<f8", (2, 3)),
    ("|u1", (5,)),
    ("|S7", (3,)),
    ([["offset", "<u4"], ["length", "<u2"], ["xxh3", "<u8"]], (2,)),
    ("<u4", (0,)),
    ("<f8", (2, 0, 3)),
)


def columns(data):
    """A file in the place of a column: refused, or the array that numpy reads."""
    first, data = data[:1], data[1:]
    if first == b"[":  # a line of JSON says what the manifest says
        described, _, data = data.partition(b"\n")
        try:
            dtype, shape = strict_json.loads(b"[" + described)
            shape = tuple(strict_json.count(size) for size in strict_json.sequence(shape))
        except (ValueError, TypeError, RecursionError, CorruptDataset):
            return
    else:
        dtype, shape = COLUMNS[first[0] % len(COLUMNS)] if first else COLUMNS[0]
    digest = hashlib.sha256(data).hexdigest()
    column = Column(FileRef("c.npy", len(data), digest), dtype, shape, "index")
    path = folder() / "c.npy"
    path.write_bytes(data)
    try:
        found = open_column(LocalStorage(folder()), column)
    except CorruptDataset:
        return
    finally:
        path.unlink()
    path.write_bytes(data)
    wanted = np.load(path, allow_pickle=False)
    path.unlink()
    require((found.dtype, found.shape) == (wanted.dtype, wanted.shape), "another type or shape than numpy's")
    require(found.tobytes() == wanted.tobytes(), "other values than numpy's")


def shard(data):
    """A shard file and three entries of the column ``record``, which may point anywhere."""
    schema = SCHEMAS[1]
    entries, file = data[:36], data[36:]
    dtype = np.dtype([("offset", "<u8"), ("length", "<u4"), ("xxh3", "<u8")])
    located = np.zeros(3, dtype)
    for row in range(3):
        offset, length = struct.unpack("<QI", entries[12 * row :][:12].ljust(12, b"\0"))
        honest = xxhash.xxh3_64_intdigest(file[offset : offset + length])
        located[row] = offset, length, honest if row < 2 else 0x2D06800538D394C2
    number = descriptor(file)
    read = []
    for offset, length, digest in located.tolist():
        try:
            value = read_value(number, len(file), offset, length, digest)
            require(value == file[offset : offset + length], "other bytes")
            found = unpack(schema, Decompressor(None)(value, schema.bound([])))
            read.append((found.counts, found.arrays()))
        except CorruptDataset:
            read.append(None)
    for rows in ([0, 1], [2, 0], [0]):
        decoded = [read[row] for row in rows]
        _same(schema, _index(located, len(file), ZSTD, []), number, rows, None if None in decoded else decoded)


def pages(data):
    """A shard as LMDB wrote it, changed in places: which one, how many records are asked for, then place and value."""
    whole, records = bases()[data[0] % len(bases())] if data else bases()[0]
    changed = bytearray(whole)
    for place, value in struct.iter_unpack("<IH", data[2 : 2 + (len(data) - 2) // 6 * 6]):
        struct.pack_into("<H", changed, place % (len(changed) - 1), value)
    asked = records if len(data) < 2 or data[1] == 0 else data[1]
    try:
        found = locate(descriptor(bytes(changed)), len(changed), asked)
    except CorruptDataset:
        return
    require(len(found) == asked, "other records than it was asked for")


@lru_cache(maxsize=1)
def bases():
    """Shards: of short values, of some with pages of their own, of a tree with branches."""
    out = []
    for sizes in ([5, 0, 40], [3000, 9, 5000, 1], [200] * 120):
        values = [bytes([n % 251]) * size for n, size in enumerate(sizes)]
        file, _ = write_shard(folder(), 0, values)
        out.append(((folder() / file.name).read_bytes(), len(values)))
    return out


TARGETS = {
    "manifest": manifest,
    "record": record,
    "frame": frame,
    "columns": columns,
    "shard": shard,
}
if locate is not None:
    TARGETS["pages"] = pages


# ---- inside ----


def require(condition, what):
    """A finding."""
    if not condition:
        raise AssertionError(what)


def _manifest(data):
    try:
        return manifest_module._parse(sealed(data))
    except (CorruptDataset, UnsupportedFormat) as error:
        require("MemoryError" not in str(error), str(error))
        return None


def _comes_back(schema, found, values):
    """An accepted record is written again, and read as the same values."""
    if any(rows and field_of(schema, axis) is None for axis, rows in zip(schema.axes, found.counts, strict=True)):
        return  # rows of no field, which an encoder does not count
    with np.errstate(all="ignore"):
        raw, counts = pack(schema, values)
        again = unpack(schema, raw).arrays()
    require(counts == found.counts, "other counts")
    for field in schema.fields:
        one, two = values[field.name], again[field.name]
        same = one == two if field.dtype == "str" else (one.dtype, one.shape, one.tobytes()) == (
            two.dtype, two.shape, two.tobytes())  # fmt: skip
        require(same, f"{field.name} is another value after it was written again")


def field_of(schema, axis):
    return next((field for field in schema.fields if field.axis == axis), None)


def _said(schema, raw):
    """The counts in a record that is refused, so that the loops go on behind them; or some."""
    try:
        said = msgpack.unpackb(raw)[: len(schema.axes)]
        np.array(said, np.uint32)
        return tuple(map(int, said))
    except Exception:  # noqa: BLE001 - it is not a record
        return (1 << 16,) * len(schema.axes)


def _batch(schema, frames, decoded, *, said=(), codec=ZSTD):
    """The compiled loops on these frames, as the plain functions decoded them, or refused them.

    ``said`` is what the columns say of the counts of each.
    """
    starts = np.cumsum([0, *map(len, frames)])
    located = np.zeros(len(frames), [("offset", "<u4"), ("length", "<u4"), ("xxh3", "<u8")])
    located["offset"], located["length"] = starts[:-1], [len(each) for each in frames]
    located["xxh3"] = [xxhash.xxh3_64_intdigest(each) for each in frames]
    file = b"".join(frames)
    counts = [np.full(len(frames), count, np.uint32) for count in said]
    index = _index(located, len(file), codec, counts)
    _same(schema, index, descriptor(file), list(range(len(frames))), decoded)


def _index(record, size, codec, counts):
    """Records of one shard."""
    return RecordIndex(record, counts, np.array([len(record)]), np.array([size]), np.array([codec], np.int32))


def _same(schema, index, number, rows, decoded):
    batch = _batch_of(schema) if index.known and schema.fields else None
    source = index.pointers()
    wanted, files = np.array(rows, np.int64), np.array([number], np.int32)
    mine = None if batch is None else batch.read_batch(address(source), wanted, files, None, decoders())
    if mine is None:  # they may leave to the plain functions whatever they like
        return
    require(decoded is not None, "the loops accept what the plain functions refuse")
    with np.errstate(all="ignore"):
        plain = concatenate(schema, decoded)
    for axis, found in mine.counts.items():
        require(found.tolist() == plain.counts[axis].tolist(), f"the counts of {axis} differ")
    for field in schema.fields:
        one, two = mine.fields[field.name], plain.fields[field.name]
        if field.dtype == "str":
            require(one == two, f"{field.name} differs")
        else:
            require(one.shape == two.shape, f"{field.name} has other shapes")
            one = np.ascontiguousarray(one.astype(two.dtype))
            require(one.tobytes() == np.ascontiguousarray(two).tobytes(), f"{field.name} differs")


@lru_cache(maxsize=1)
def folder():
    """Where files are put; in memory where there is such a place."""
    memory = Path("/dev/shm")
    made = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
    _KEPT.append(made)
    return Path(made.name)


_KEPT = []


@lru_cache(maxsize=1)
def _file():
    made = tempfile.TemporaryFile(dir=folder())  # noqa: SIM115 - used as long as the process lives
    _KEPT.append(made)
    return made


def descriptor(content):
    """A file with this content, until this is called again."""
    file = _file()
    file.seek(0)
    file.truncate()
    file.write(content)
    file.flush()
    return file.fileno()


@lru_cache(maxsize=32)
def _batch_of(schema):
    return _Batch.create_if_supported(schema)


@lru_cache(maxsize=1)
def decoders():
    """The dictionary, as the loops take it."""
    made = _Decoders(1)
    require(made.add(0, dictionary()), "zstd does not take its own dictionary")
    return made


@lru_cache(maxsize=1)
def dictionary():
    """A dictionary of short records."""
    texts = [pack(SCHEMAS[1], {"text": f"a text that all share, {n}", "flag": np.array(True)})[0] for n in range(100)]
    return train_dictionary(texts, 100)


__all__ = ["TARGETS"]
