"""Any schema, and records that nearly fit it: the compiled loops read what the plain functions read, or nothing."""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache

import msgpack
import numpy as np
import xxhash
import zstandard

from lazygraph.errors import CorruptDataset, InputError
from lazygraph.format.codec import CODECS
from lazygraph.format.encoding import LAYOUTS, LOGICAL, is_widened
from lazygraph.format.native_reader import NativeReader, RecordIndex
from lazygraph.format.native_types import UNCOMPRESSED, ZSTD
from lazygraph.format.record import check_counts, unpack
from lazygraph.format.record_batch import concatenate
from lazygraph.format.schema import DTYPES, Field, Schema
from lazygraph.format.shard import read_value

COUNTS = (0, 0, 1, 2, 2, 3, 4, 6, 7, 8, 100)
HUGE = (255, 256, 1000, 2**16, 2**16 + 1, 2**20, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
SHAPES = ((), (), (2,), (3,), (0,), (2, 0), (1,), (2, 2), (3, 3), (2, 1, 2), (0, 3, 2), (5,))
MOST = 1 << 20  # bytes of one buffer
DICTIONARIES = (bytes(range(256)) * 2, b"\0\1\2\xff" * 100, b"good" * 50)
"""What records of any kind may have in common."""
NO_DICTIONARY = b"\x37\xa4\x30\xec" + bytes(200)
"""Begins like a trained zstd dictionary, but is not one."""


def case(draw, rng):
    """Draw a schema and some records of it in some shards, and read them both ways."""
    schema = _schema(draw)
    records = [_record(draw, rng, schema) for _ in range(draw.choice((1, 1, 2, 3, 5)))]
    dictionaries = [NO_DICTIONARY if draw.random() < 0.02 else each for each in DICTIONARIES]
    with tempfile.TemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as file:
        located = _written(draw, rng, file, schema, records, dictionaries)
        rows = np.array([draw.randrange(len(records)) for _ in range(draw.randint(1, 2 * len(records)))])
        plain = _plain(schema, located, rows, file.fileno(), dictionaries)
        loops = NativeReader.create_if_supported(schema, located, len(dictionaries))
        files = np.full(len(located.ends), file.fileno(), np.int32)
        mine = loops and loops.read_batch(rows, files, dictionaries.__getitem__)
        if loops and draw.random() < 0.05:  # no row of the dataset
            rows[0] = draw.choice((-1, len(records), 2**62, -(2**63)))
            assert loops.read_batch(rows, files, dictionaries.__getitem__) is None
    if mine is None:
        return "refused" if plain is None else "read_by_python_only"
    assert plain is not None, "the loops read what the plain functions refuse"
    _same(schema, mine, plain)
    return "read_the_same"


def _plain(schema, located, rows, number, dictionaries):
    """The records by the plain functions; None where they refuse one."""
    found = []
    with np.errstate(all="ignore"):
        try:
            for row in rows.tolist():
                said = [int(column[row]) for column in located.counts]
                shard = _shard(located.ends, row)
                frame = read_value(number, int(located.sizes[shard]), *located.record[row].item())
                decode = _decoder(int(located.codecs[shard]), tuple(dictionaries))
                record = unpack(schema, decode(frame, schema.bound(said)))
                check_counts(record, said)
                found.append((record.counts, record.arrays()))
        except CorruptDataset:
            return None
        return concatenate(schema, found)


@lru_cache(maxsize=64)
def _decoder(codec, dictionaries):
    if codec == UNCOMPRESSED:
        return CODECS["none"].decoder(None)
    return CODECS["zstd"].decoder(None if codec == ZSTD else dictionaries[codec])


@lru_cache(maxsize=64)
def _encoder(codec, dictionaries):
    """Return the encoder of a shard's records. An invalid dictionary is left out."""
    if codec == UNCOMPRESSED:
        return bytes
    known = codec != ZSTD and dictionaries[codec] != NO_DICTIONARY
    data = zstandard.ZstdCompressionDict(dictionaries[codec]) if known else None
    return zstandard.ZstdCompressor(level=1, dict_data=data, write_content_size=True, write_dict_id=False).compress


def _same(schema, mine, plain):
    for axis, counts in plain.counts.items():
        assert mine.counts[axis].tolist() == counts.tolist(), f"the counts of {axis}"
    for field in schema.fields:
        one, two = mine.fields[field.name], plain.fields[field.name]
        if field.dtype == "str":
            assert one == two, field
        else:
            assert one.shape == two.shape, field
            assert one.astype(two.dtype).tobytes() == np.ascontiguousarray(two).tobytes(), field


def _schema(draw):
    while True:
        axes = tuple(draw.sample(["node", "edge", "a", "b", "c"], draw.randint(1, 4)))
        fields = [Field("cell", "float64", (3, 3))] if draw.random() < 0.5 else []
        many = draw.choice((14, 20, 250)) if draw.random() < 0.05 else draw.randint(1, 6)
        fields += [_field(draw, f"f{k}", axes, based=bool(fields)) for k in range(many)]
        try:
            return Schema(axes, tuple(fields))
        except InputError:
            continue


def _field(draw, name, axes, *, based):
    dtype = draw.choice(list(DTYPES))
    if dtype == "str":
        return Field(name, "str")
    shape, axis = draw.choice(SHAPES), draw.choice([*axes, None])
    return Field(
        name,
        dtype,
        shape,
        axis,
        draw.randint(0, len(shape)) if axis else 0,
        counts=draw.choice([None, None, draw.choice(axes)]) if "int" in dtype else None,
        pair=draw.choice([None, None, "swap", "negate", "same"]) if axis else None,
        basis="cell" if based and (dtype, shape) == ("float64", (3,)) and draw.random() < 0.7 else None,
    )


def _record(draw, rng, schema):
    """A decompressed record, and the counts in it."""
    counts = [draw.choice(COUNTS if draw.random() < 0.97 else HUGE) for _ in schema.axes]
    codes, buffers = bytearray(), []
    for field in schema.fields:
        if field.dtype == "str":
            codes.append(4 if draw.random() < 0.99 else draw.randrange(256))
            buffers.append(_text(draw))
        else:
            rows = 1 if field.axis is None else counts[schema.axes.index(field.axis)]
            fitting = [code for code, layout in LAYOUTS.items() if _fits(field, layout, rows)]
            code = draw.choice(fitting) if fitting and draw.random() < 0.98 else draw.randrange(256)
            codes.append(code)
            buffers.append(_buffer(draw, rng, field, code, rows))
    return _damaged(draw, rng, msgpack.packb([*counts, bytes(codes), *buffers])), counts


def _fits(field, layout, rows):
    """Whether a field may be stored so."""
    if layout.half and (field.pair is None or rows % 2):
        return False
    if layout.transform:
        return field.dtype == "float64" and (not layout.cartesian or field.basis is not None)
    return layout.stored == LOGICAL[field.dtype] or is_widened(layout.stored, field.dtype)


def _text(draw):
    strange = (b"", b"abc", "\u00e9".encode() * 5, b"\xff\xfe", b"x" * 70_000, b"\0" * 10)
    return draw.choice(strange) if draw.random() < 0.3 else b"good"


def _buffer(draw, rng, field, code, rows):
    layout = LAYOUTS.get(code)
    item = layout.itemsize if layout else 1
    size = (rows // 2 if code & 128 else rows) * field.components * item
    if size > MOST:
        size = draw.choice((0, size & 0xFFFF))
    if draw.random() < 0.01:
        size = max(0, size + draw.choice((-1, 1, 8, -8)))
    kind = draw.random()
    if field.dtype == "bool" and kind < 0.98:
        return rng.integers(0, 2, size, np.uint8).tobytes()
    if kind < 0.4:
        return rng.bytes(size)
    if kind < 0.7:
        return draw.choice((b"\0", b"\x80", b"\xff")) * size
    if kind < 0.8:  # the least value of every type
        return ((b"\0" * (item - 1) + b"\x80") * (size // item + 1))[:size]
    if kind < 0.9 and layout and layout.stored.kind == "f":
        largest = 1e308 if item == 8 else 1e4
        value = draw.choice((np.nan, np.inf, -np.inf, largest, -0.0))
        return np.full(size // item + 1, value, layout.stored).tobytes()[:size]
    return rng.integers(0, 3, size, np.uint8).tobytes()


def _damaged(draw, rng, raw):
    if draw.random() < 0.02:
        raw = raw[: draw.randrange(len(raw))]
    if draw.random() < 0.02:
        raw += rng.bytes(draw.randint(1, 9))
    if draw.random() < 0.03 and raw:
        changed = bytearray(raw)
        for _ in range(draw.randint(1, 3)):
            changed[draw.randrange(min(len(raw), 60))] = draw.randrange(256)
        raw = bytes(changed)
    return raw


def _written(draw, rng, file, schema, records, dictionaries):
    """Shards with gaps between records, and columns that point to them, most of them rightly.

    The shards are one file, of which each is told the same size: where its records lie the columns say.
    """
    ends = sorted({len(records), *(draw.randint(0, len(records)) for _ in range(draw.choice((0, 0, 1, 2))))})
    codecs = [draw.choice((ZSTD, ZSTD, UNCOMPRESSED, 0, 1, 2)) for _ in ends]
    encoders = [_encoder(codec, tuple(dictionaries)) for codec in codecs]
    offsets, frames, size = [], [encoders[_shard(ends, row)](raw) for row, (raw, _) in enumerate(records)], 0
    if draw.random() < 0.03:  # another codec than it was written with
        codecs[draw.randrange(len(codecs))] = draw.choice((ZSTD, UNCOMPRESSED, 0, 1, 2))
    for frame in frames:
        gap = rng.bytes(draw.randint(0, 3))
        offsets.append(size + len(gap))
        file.write(gap + frame)
        size = offsets[-1] + len(frame)
    file.flush()
    types = draw.choice(("<u4", "<u8")), draw.choice(("<u2", "<u4"))
    record = np.zeros(len(records), [("offset", types[0]), ("length", types[1]), ("xxh3", "<u8")])
    for row, (offset, frame) in enumerate(zip(offsets, frames, strict=True)):
        length = len(frame) & np.iinfo(types[1]).max
        record[row] = offset, length, xxhash.xxh3_64_intdigest(frame[:length])
    for name, lies in (("offset", (size, size - 1, size + 1, 2**32 - 1)), ("length", (0, 1, 65535))):
        if draw.random() < 0.03:
            record[name][draw.randrange(len(record))] = draw.choice([*lies, np.iinfo(record.dtype[name]).max])
    columns = []
    for axis in range(len(schema.axes)):
        said = [counts[axis] for _, counts in records]
        dtype = np.dtype(draw.choice(("u1", "u2", "u4", "u8")))
        dtype = dtype if max(said) <= np.iinfo(dtype).max else np.dtype("u8")
        columns.append(np.array(said, dtype))
        if draw.random() < 0.03:
            columns[-1][:] = draw.choice((0, np.iinfo(dtype).max))
    return RecordIndex(record, columns, np.array(ends), np.full(len(ends), size), np.array(codecs, np.int32))


def _shard(ends, row):
    """The number of the shard of a row."""
    return int(np.searchsorted(ends, row, side="right"))
