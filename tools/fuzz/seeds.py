"""Which inputs does fuzzing start from? Makes them: ``python -m tools.fuzz.seeds`` writes ``corpus/TARGET/``."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from pathlib import Path

import msgpack
import numpy as np
import zstandard

from lazygraph.format.codec import Compressor
from lazygraph.format.columns import Column
from lazygraph.format.digests import digests_size
from lazygraph.format.manifest import Manifest, Provenance, Quarantine, Shard, SourceFiles
from lazygraph.format.record import pack
from lazygraph.format.schema import Schema
from lazygraph.graphs.spec import graph
from lazygraph.storage.files import FileRef
from tools.fuzz import targets
from tools.fuzz.targets import COLUMNS, CRYSTAL, SCHEMAS

CORPUS = Path(__file__).with_name("corpus")
DIGEST = "0123456789abcdef" * 4
STATISTICS = {"count": 2, "missing": 0, "mean": 0.5, "std": 0.5, "min": 0.0, "max": 1.0}
RECORD = [["offset", "<u4"], ["length", "<u2"], ["xxh3", "<u8"]]


def main():
    """Write them all; inputs that were found before stay."""
    for target, seeds in {"manifest": manifests(), "record": records(), "frame": frames(), "columns": columns(),
                          "shard": shards(), "pages": pages()}.items():  # fmt: skip
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


def manifests():
    """Beginnings of manifests, without their checksums."""
    good = [described(CRYSTAL, graph("shell", max_neighbors=8).to_json()), described(CRYSTAL, None),
            described(Schema((), ()), None)]  # fmt: skip
    out = [manifest.to_bytes()[: -len(',"sha256":""}\n') - 64] for manifest in good]
    body = json.loads(out[0] + b"}")
    for change in (
        {"version": [1, 1], "more": 1}, {"version": [2, 0]}, {"graphs": -1}, {"graphs": 1e3}, {"user": {"a": [[[]]]}},
        {"user": {"a": "\ud7ff\U0010ffff\u0000\x1b[31m"}}, {"recipe": {"preset": "os:system"}}, {"inputs": 10**40},
        {"recipe": body["recipe"] | {"cutoff": 1e308}}, {"provenance": []}, {"columns": {}}, {"shards": []},
        {"shards": [body["shards"][0] | {"records": 3, "spare": [1]}]}, {"dictionaries": []},
        {"shards": [body["shards"][0] | {"records": 4, "spare": [3, 0]}]},
        {"shards": [body["shards"][0] | {"codec": "none"}]}, {"shards": [body["shards"][0] | {"codec": "lzma"}]},
        {"shards": [body["shards"][0] | {"codec": "none", "dictionary": None}]}, {"digests": body["dictionaries"][0]},
        {"provenance": body["provenance"] | {"sources": []}},
    ):  # fmt: skip
        text = json.dumps(body | change, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        out.append(text.encode()[:-1])
    out.append(out[0].replace(b'"user":{}', b'"user":{"a":1,"a":2}'))
    out.append(out[0].replace(b'"user":{}', b'"user":{"a":1e999}'))
    out.append(out[0].replace(b'"user":{}', b'"user":{"a":"\\ud800"}'))
    out.append(out[0].replace(b'"user":{}', b'"user":{"a":NaN}'))
    out.append(out[0].replace(b'"user":{}', b'"user":{"a":' + b"[" * 500 + b"]" * 500 + b"}"))
    return out


def described(schema, recipe):
    """A manifest of this schema."""
    index = {"record": RECORD, "id": "|S5", "id_order": "<u4", **{f"n_{axis}": "|u1" for axis in schema.axes}}
    columns = {name: Column(ref(f"columns/{name}", ".npy"), dtype, (2,), "index") for name, dtype in index.items()}
    rule = {"fractions": [0.5, 0.25, 0.25], "seed": 1, "group": None}
    splits = ("train", "val", "test")
    columns["split"] = Column(ref("columns/split", ".npy"), "|u1", (2,), "split", categories=splits, rule=rule)
    columns["y"] = Column(ref("columns/y", ".npy"), "<f8", (2,), "label", "eV", STATISTICS, per="atom", required=True)
    counts = {"count": 1, "missing": 1}
    columns["kind"] = Column(ref("columns/kind", ".npy"), "|u1", (2,), "category", None, counts, ("bulk",))
    shards = (
        Shard(ref("shards/00000", ".lmdb"), 2, (1,), "zstd", 0),
        Shard(ref("shards/00001", ".lmdb"), 1, (), "none"),
        Shard(ref("shards/00002", ".lmdb"), 0),
    )
    file = {"name": "a.cif", "size": 9, "sha256": DIGEST}
    sources = SourceFiles("a.cif", 1, (file,)), SourceFiles("python", 2, ())
    return Manifest(
        2, 3, recipe, schema, (ref("dictionary", ".zstd"),), shards, columns,
        ref("digests", ".bin", digests_size(2, len(columns))), Quarantine(ref("quarantine", ".jsonl"), 1),
        Provenance(sources, {"numpy": "2"}, ("note",)), DIGEST,
    )  # fmt: skip


def ref(stem, suffix, size=100):
    """A file of this name."""
    return FileRef(f"{stem}-{DIGEST[:16]}{suffix}", size, DIGEST)


def values_of(schema, rows, seed):
    """Values of every field of a schema, by chance."""
    rng = np.random.default_rng(seed)
    out = {}
    for field in schema.fields:
        shape = list(field.shape)
        if field.axis is not None:
            shape.insert(field.axis_dim, rows)
        if field.dtype == "str":
            out[field.name] = "é text" * seed
        else:
            out[field.name] = rng.integers(0, 2 if seed % 2 else 100, shape).astype(field.dtype)
    for field in schema.fields:
        if field.pair is not None and seed % 2:
            along = np.moveaxis(out[field.name], field.axis_dim, 0)
            first = along[::2]
            along[1::2] = first[..., ::-1] if field.pair == "swap" else -first if field.pair == "negate" else first
    return out


def records():
    """Records of every schema, and msgpack that is none."""
    out = []
    for number, schema in enumerate(SCHEMAS):
        for seed, rows in enumerate((0, 2, 4)):
            raw, _ = pack(schema, values_of(schema, rows, seed))
            out.append(bytes([number]) + raw)
    parts = msgpack.unpackb(out[1][1:])
    for place, value in (
        (0, -1), (0, 2**64 - 1), (0, 2**31 - 1), (1, 2**31), (2, b"\xff" * 6), (3, msgpack.ExtType(5, b"x")), (4, {}),
        (4, {b"a": b"b"}), (5, 1.5), (6, "text"), (7, [[]]),
    ):  # fmt: skip
        out.append(b"\0" + msgpack.packb([*parts[:place], value, *parts[place + 1 :]]))
    return [
        *out,
        b"\0" + b"\x91" * 300,
        out[1] + b"\0",
        b"\0\xdd\xff\xff\xff\xff",
        b"\6\x92\xce\x7f\xff\xff\xff\xc4\0",
    ]


def frames():
    """Zstd frames, with and without what a reader asks for."""
    raw, _ = pack(SCHEMAS[1], {"text": "a text that all share, 3", "flag": np.array(True)})
    good = Compressor(9, None)(raw)
    known = Compressor(9, targets.dictionary())(raw)
    plain = zstandard.ZstdCompressor(write_content_size=False).compress(raw)
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    lie = bytearray(zstandard.ZstdCompressor().compress(bytes(300)))
    struct.pack_into("<H", lie, 5, 65000)
    named = zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(targets.dictionary())).compress(raw)
    checked = zstandard.ZstdCompressor(write_checksum=True).compress(raw)
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 22))
    each = (good, known, plain, skippable + good, good + skippable, good + good, bytes(lie), named, checked, bomb, b"")
    each += raw, raw + b"\0", raw[:-1]
    return [bytes([how]) + data for data in each for how in range(3)]


def columns():
    """Files of numpy, as they are written, and with headers that lie."""
    out = []
    for number, (dtype, shape) in enumerate(COLUMNS):
        made = np.dtype([tuple(part) for part in dtype] if isinstance(dtype, list) else dtype)
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.zeros(shape, made), (1, 0))
        out += [bytes([number]) + buffer.getvalue(), f"{json.dumps([dtype, shape])}\n".encode() + buffer.getvalue()]
    good = out[0][1:]
    out += [b"\0" + good.replace(a, b) for a, b in (
        (b"(3,)", b"(4,)"), (b"False", b"True "), (b"'<f8'", b"'|O' "), (b"'<f8'", b"'>f8'"), (b"(3,)", b"-3, "),
        (b"\x01\x00", b"\x02\x00"), (b"(3,)", b"exit"), (b"v\x00", b"\xff\xff"),
    )]  # fmt: skip
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([[], {}, None], dtype=object), (1, 0), allow_pickle=True)
    wrong = [b"\0" + buffer.getvalue(), b"\0" + good + b"\0", b"\0" + good[:-1], b"\0"]
    return [*out, *wrong, b'["<f8",[0,9223372036854775808]]\n', b'["<f8",[0' + b",1" * 64 + b"]]\n"]


def shards():
    """Entries, and a file with two records."""
    raws = [pack(SCHEMAS[1], {"text": "a" * n, "flag": np.array(n > 0)})[0] for n in range(2)]
    one, two = map(Compressor(9, None), raws)
    file = bytes(64) + one + bytes(16) + two
    entries = [(64, len(one)), (80 + len(one), len(two)), (0, 0)]
    last = 2**64 - 1
    changes = (
        entries, entries[::-1], [(last, 5)] * 3, [(64, 2**32 - 1)] * 3, [(2**63, 1)] * 3, [(last - 4, 5)] * 3,
        [(64, len(one) - 1)] * 3, [(len(file), 0)] * 3, [(0, len(file))] * 3,
    )  # fmt: skip
    return [b"".join(struct.pack("<QI", *entry) for entry in change) + file for change in changes]


def pages():
    """Shards as they are, and with one number of a page changed."""
    out = [bytes([base, records]) for base in range(3) for records in (0, 2, 255)]
    places = (0, 8, 10, 12, 14, 16, 24, 40, 48, 50, 56, 64, 80, 88, 96, 104, 112, 120, 128, 136, 144)
    for number, place in enumerate(places):
        for page in (0, 4096, 8192):
            value = (0, 1, 2, 16, 4095, 65535)[(number + page // 4096) % 6]
            out.append(bytes([number % 3, 0]) + struct.pack("<IH", page + place, value))
    return out


if __name__ == "__main__":
    main()
