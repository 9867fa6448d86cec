"""Every attack: how it is made of a good dataset, and what must be said of it.

``dataset`` is the error of ``LazyGraphDataset`` that reads everything, as class and a part of its message, or None
where what is there can be read as what it is. ``verify`` is a part of what ``lazygraph verify`` prints, or None where
all is as it was written. Where only one is given, it holds for both.
"""

from __future__ import annotations

import hashlib
import io
import marshal
import os
import pickle
import struct
from typing import NamedTuple

import msgpack
import numpy as np
import zstandard

from lazygraph.format.manifest import MANIFEST
from lazygraph.format.strict_json import canonical_json
from tools.fuzz.hostile import INDEX, Part, sealed, with_user

CORRUPT, UNSUPPORTED, RECIPE = "CorruptDataset", "UnsupportedFormat", "RecipeError"
ANY = ""


class Attack(NamedTuple):
    change: object
    """Called with the ``Hostile`` dataset, before it is written."""
    dataset: tuple[str, str] | None
    verify: str | None
    base: str
    """``crystals``; ``angles``: crystals whose view makes angles; or ``ready``: ready-made graphs."""


ATTACKS: dict[str, Attack] = {}


def attack(said, *, error=CORRUPT, verify=ANY, base="crystals", reads=False):
    """Add the decorated function to the table, under its name."""

    def add(change):
        name = change.__name__.strip("_")
        ATTACKS[name] = Attack(change, None if reads else (error, said), said if verify == ANY else verify, base)
        return change

    return add


class Code:
    """What runs code where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch ran",)


PICKLE = pickle.dumps(Code())
ESCAPE = "\x1b]0;title\x07\x1b[31mred\x1b[0m\x9b2J\u202e\r\n"


# ---- records: what is compressed ----


@attack("'numbers' has")
def a_pickle_in_a_buffer(d):
    d.buffer(1, "numbers", PICKLE)


@attack("the record is not")
def a_pickle_as_a_record(d):
    d.raws[1] = PICKLE


@attack("the record does not hold counts, codes")
def code_objects_as_codes(d):
    d.part(1, 2, marshal.dumps(compile("1", "x", "exec")))


@attack("is not UTF-8", base="ready")
def a_pickle_as_text(d):
    d.buffer(1, "name", PICKLE)


@attack("the record is not msgpack")
def an_extension_type(d):
    d.part(1, 3, msgpack.ExtType(42, PICKLE))


@attack("the record is not msgpack")
def a_time_stamp(d):
    d.part(1, 3, msgpack.Timestamp(1, 2))


@attack("the record is not msgpack")
def a_nesting_bomb(d):
    d.raws[1] = b"\x91" * 3000


@attack("the record is not msgpack")
def a_map_in_the_place_of_the_array(d):
    d.raws[1] = msgpack.packb({0: 1})


@attack("the record is not msgpack")
def a_map_in_the_place_of_a_buffer(d):
    d.buffer(1, "numbers", {b"a": 1})


@attack("the record does not hold counts, codes")
def an_integer_in_the_place_of_a_buffer(d):
    d.buffer(1, "numbers", 6)


@attack("the record does not hold counts, codes")
def a_text_in_the_place_of_a_buffer(d):
    d.buffer(1, "numbers", "text")


@attack("the record is not msgpack")
def bytes_after_the_record(d):
    d.raws[1] += b"\0"


@attack("the record is not msgpack")
def an_array_of_four_billion(d):
    d.raws[1] = b"\xdd\xff\xff\xff\xff"


@attack("the record is not msgpack")
def a_buffer_of_four_gigabytes(d):
    d.raws[1] = b"\x99\x02\x02\xc6\xff\xff\xff\xff"


@attack("the record does not hold counts, codes")
def a_negative_count(d):
    d.count(1, "node", -1)


@attack("the record does not hold counts, codes")
def a_count_as_a_float(d):
    d.count(1, "node", 2.0)


@attack("the record does not hold counts, codes")
def a_count_of_2_31(d):
    d.count(1, "edge", 2**31)


@attack("values; required: at most 134217728")
def a_count_that_promises_gigabytes(d):
    d.count(1, "node", 2**31 - 1)


@attack("rows of nothing along the axis", base="ready")
def rows_of_nothing(d):
    d.field("x", shape=[0])
    for row in range(len(d.raws)):
        d.buffer(row, "x", b"")
        d.count(row, "node", 2**31 - 1)
    d.columns["n_node"] = np.full(len(d.raws), 2**31 - 1, "<u4")


@attack("rows of nothing along the axis", base="ready")
def rows_of_no_field(d):
    d.body["schema"]["axes"].insert(0, "atom")
    d.body["columns"]["n_atom"] = dict(d.body["columns"]["n_node"])
    d.columns["n_atom"] = np.full(len(d.raws), 2**31 - 1, "<u4")
    for row, raw in enumerate(d.raws):
        parts = msgpack.unpackb(raw)
        d.raws[row] = msgpack.packb([2**31 - 1, *parts])


@attack("unknown code 239")
def an_unknown_code(d):
    d.part(1, 2, lambda codes: b"\xef" + codes[1:])


@attack("holds other bytes than 0 and 1")
def a_truth_of_two(d):
    d.buffer(1, "pbc", b"\2\0\1")


@attack("an edge ends at an atom that the crystal does not have", verify="edge_index holds")
def an_edge_that_leaves_the_graph(d):
    d.buffer(1, "edge_index", lambda buffer: b"\xfe" + buffer[1:])


@attack(None, reads=True, verify="edge_index holds", base="ready")
def an_edge_that_leaves_a_ready_made_graph(d):
    d.buffer(1, "edge_index", lambda buffer: b"\xfe" + buffer[1:])


@attack("an atom has the atomic number 0; required: 1 to 118")
def atoms_of_no_element(d):
    d.buffer(1, "numbers", lambda buffer: b"\0" + b"\xff" * (len(buffer) - 1))


@attack(None, reads=True, verify="the lattice holds NaN or infinity")
def a_lattice_that_is_not_a_number(d):
    d.buffer(1, "lattice", struct.pack("<9d", *[float("nan")] * 4, *[float("inf")] * 5))
    names = [field["name"] for field in d.body["schema"]["fields"]]
    d.part(1, 2, lambda codes: codes[: (k := names.index("lattice"))] + b"\x0a" + codes[k + 1 :])


# ---- records: their frames ----


def zeros(size, **options):
    """A frame of so many zeros."""
    known = size if options.get("write_content_size", True) else -1
    context = zstandard.ZstdCompressor(level=1, **options).compressobj(known)
    return b"".join(context.compress(bytes(2**20)) for _ in range(size >> 20)) + context.flush()


@attack("the record is not a zstd frame")
def a_pickle_as_a_frame(d):
    d.frames[1] = PICKLE


@attack("the frame declares 4294967296 bytes")
def a_bomb_that_says_its_size(d):
    d.frames[1] = zeros(2**22).replace(struct.pack("<I", 2**22), b"", 1)
    d.frames[1] = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**32) + d.frames[1][10:]


@attack("the frame declares -1 bytes")
def a_bomb_that_does_not(d):
    d.frames[1] = zeros(2**29, write_content_size=False)


@attack("the record is not a zstd frame")
def a_bomb_that_says_1000_bytes(d):
    blocks = zeros(2**28)
    header = zstandard.frame_header_size(blocks)
    d.frames[1] = b"\x28\xb5\x2f\xfd\x40\x70" + struct.pack("<H", 1000 - 256) + blocks[header:]


@attack("the record is not a zstd frame")
def two_frames(d):
    d.frames[1] = zstandard.compress(d.raws[1]) * 2


@attack("the frame declares 0 bytes")
def a_skippable_frame_first(d):
    d.frames[1] = b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + zstandard.compress(d.raws[1])


@attack("the record is not a zstd frame")
def a_skippable_frame_last(d):
    d.frames[1] = zstandard.compress(d.raws[1]) + b"\x50\x2a\x4d\x18\xff\xff\xff\xff"


@attack("the record is not a zstd frame")
def a_dictionary_that_is_not_there(d):
    known = zstandard.train_dictionary(4096, [bytes([n, n + 1, n + 2]) * 50 for n in range(200)])
    d.frames[1] = zstandard.ZstdCompressor(dict_data=known).compress(d.raws[1])


@attack("the dictionary is not a zstd dictionary")
def a_dictionary_that_is_none(d):
    with_dictionary(d, b"\x37\xa4\x30\xec" + bytes(200))


@attack(None, reads=True)
def a_pickle_as_a_dictionary(d):
    """Bytes that no frame refers to."""
    with_dictionary(d, PICKLE * 10)


def with_dictionary(d, content):
    """A dictionary that the manifest says was used, and was not."""
    d.dictionaries = [content]
    d.edits.append(shard(dictionary=0))


def shard(**changes):
    """Other words of the manifest about the first shard."""
    return lambda body: body["shards"][0].update(changes)


# ---- shards: codecs and dictionaries ----


def mixed(d):
    """Four shards: with a dictionary, uncompressed, with another dictionary, and with none."""
    d.dictionaries = [b"".join(d.raws[:4]), b"".join(d.raws[4:])]
    d.parts = [Part(3, "zstd", 1), Part(3, "none"), Part(3, "zstd", 0), Part(3)]


@attack(None, reads=True)
def shards_of_every_kind(d):
    """No attack: what the others are made of can be read."""
    mixed(d)


@attack("the record has 0 bytes; required: 1 to")
def an_uncompressed_record_of_nothing(d):
    mixed(d)
    d.frames[4] = b""


@attack("bytes; required: 1 to")
def an_uncompressed_record_over_its_bound(d):
    mixed(d)
    d.frames[4] = d.raws[4] + bytes(10**6)


@attack("the record is not msgpack")
def bytes_after_an_uncompressed_record(d):
    mixed(d)
    d.frames[4] = d.raws[4] + b"\0"


@attack("the record is not msgpack")
def half_of_an_uncompressed_record(d):
    mixed(d)
    d.frames[4] = d.raws[4][: len(d.raws[4]) // 2]


@attack("the record is not")
def a_compressed_record_that_is_said_to_be_none(d):
    mixed(d)
    d.frames[4] = zstandard.compress(d.raws[4])


@attack("the record is not a zstd frame")
def an_uncompressed_record_that_is_said_to_be_one(d):
    mixed(d)
    d.frames[10] = d.raws[10]


@attack("the record is not")
def shards_of_exchanged_dictionaries(d):
    mixed(d)

    def edit(body):
        body["shards"][0]["dictionary"], body["shards"][2]["dictionary"] = 0, 1

    d.edits.append(edit)


@attack("has dictionary 2 of 2")
def a_dictionary_out_of_range(d):
    mixed(d)
    d.edits.append(shard(dictionary=2))


@attack("has dictionary 0 of 0")
def a_dictionary_of_none(d):
    d.edits.append(shard(dictionary=0))


@attack("-1 where a count is required")
def a_dictionary_before_the_first(d):
    mixed(d)
    d.edits.append(shard(dictionary=-1))


@attack("True where a count is required")
def a_dictionary_that_is_true(d):
    mixed(d)
    d.edits.append(shard(dictionary=True))


@attack("of codec none has dictionary 0 of 2")
def a_dictionary_of_uncompressed_records(d):
    mixed(d)
    d.edits.append(lambda body: body["shards"][1].update(dictionary=0))


@attack("4097 dictionaries; required: at most 4096")
def too_many_dictionaries(d):
    mixed(d)
    d.edits.append(lambda body: body.update(dictionaries=body["dictionaries"][:1] * 4097))


@attack("has 1099511627776 bytes; required: 1 to 1048576")
def a_dictionary_of_a_terabyte(d):
    mixed(d)
    d.edits.append(lambda body: body["dictionaries"][0].update(size=2**40))


@attack("has 0 bytes; required: 1 to 1048576")
def a_dictionary_of_nothing(d):
    with_dictionary(d, b"")


@attack(None, reads=True)
def a_dictionary_as_large_as_may_be(d):
    mixed(d)
    d.dictionaries[0] = d.dictionaries[0].rjust(2**20, b"\0")


@attack(None, reads=True)
def as_many_dictionaries_as_may_be(d):
    mixed(d)
    d.edits.append(lambda body: body.update(dictionaries=body["dictionaries"] + body["dictionaries"][:1] * 4094))


@attack("has the codec 'lzma'; known: zstd, none", error=UNSUPPORTED)
def an_unknown_codec(d):
    d.edits.append(shard(codec="lzma"))


@attack("where a text is required")
def a_codec_of_lists(d):
    d.edits.append(shard(codec=[["zstd"]]))


@attack("unexpected keyword argument 'rows'")
def a_shard_of_unknown_keys(d):
    d.edits.append(shard(rows=12))


# ---- shards: records of no row ----


def with_spare(d):
    """A shard of whose records the first and the sixth belong to no row."""
    d.parts[0].spare = {0: zstandard.compress(d.raws[5]), 5: zstandard.compress(d.raws[2])}


@attack(None, reads=True)
def spare_records(d):
    """No attack."""
    with_spare(d)


@attack("has 14 records, and the spare ones (5, 0) are not some of them")
def spare_keys_out_of_order(d):
    with_spare(d)
    d.edits.append(shard(spare=[5, 0]))


@attack("has 14 records, and the spare ones (5, 5) are not some of them")
def a_spare_key_twice(d):
    with_spare(d)
    d.edits.append(shard(spare=[5, 5]))


@attack("has 14 records, and the spare ones (0, 14) are not some of them")
def a_spare_key_beyond_the_records(d):
    with_spare(d)
    d.edits.append(shard(spare=[0, 14]))


@attack("-1 where a count is required")
def a_spare_key_before_the_records(d):
    with_spare(d)
    d.edits.append(shard(spare=[-1, 5]))


@attack("the shards have 11 rows; required: 12")
def too_many_spare_keys(d):
    with_spare(d)
    d.edits.append(shard(spare=[0, 5, 6]))


@attack("the shards have 0 rows; required: 12")
def nothing_but_spare_keys(d):
    with_spare(d)
    d.edits.append(shard(spare=list(range(14))))


@attack("has 14 records, and the spare ones (0, 1, 2, 3")
def more_spare_keys_than_records(d):
    with_spare(d)
    d.edits.append(shard(spare=list(range(10**5))))


@attack("where a count is required")
def spare_keys_of_texts(d):
    with_spare(d)
    d.edits.append(shard(spare=["0", "5"]))


@attack("the shards have 14 rows; required: 12")
def spare_records_that_are_not_named(d):
    with_spare(d)
    d.edits.append(shard(spare=[]))


@attack("has 4294967296 records; required: fewer than 2^32")
def more_records_than_keys(d):
    d.edits.append(shard(records=2**32))


@attack(None, reads=True, verify="the page tree of the shard has its record, of key 2,")
def other_spare_keys(d):
    """Where records lie is right in the column."""
    with_spare(d)
    d.edits.append(shard(spare=[0, 1]))


@attack(None, reads=True, verify="the page tree has 14 records; required: 12")
def spare_records_that_are_hidden(d):
    """Where records lie is right in the column."""
    with_spare(d)
    d.edits.append(shard(records=12, spare=[]))


@attack(ANY, verify="the page tree of the shard has its record, of key")
def rows_that_shift(d):
    """The first shard takes a row of the second, in which a record is called spare: as many rows together."""
    d.parts = [Part(6, spare={2: zstandard.compress(d.raws[0])}), Part(6)]

    def edit(body):
        first, second = body["shards"]
        first["spare"], second["spare"] = [], [3]

    d.edits.append(edit)


# ---- digests ----


@attack("the file of digests has")
def digests_of_fewer_blocks(d):
    d.digests = lambda graphs, columns: (graphs[:0], columns)


@attack("the file of digests has")
def digests_of_more_blocks(d):
    d.digests = lambda graphs, columns: (graphs.repeat(2), columns)


@attack("the file of digests has")
def digests_without_those_of_a_column(d):
    d.digests = lambda graphs, columns: (graphs, {name: columns[name] for name in columns if name != "id"})


def other_digests(change):
    return lambda d: d.after.append(lambda path: [change(file) for file in path.glob("digests-*")])


for what, change, said in (
    ("cut", lambda file: os.truncate(file, 32), "has 32 bytes; required"),
    ("lengthened", lambda file: os.truncate(file, 2**40), "has 1099511627776 bytes; required"),
    ("of_other_content", lambda file: file.write_bytes(bytes(file.stat().st_size)), "has the sha256"),
    ("deleted", os.unlink, "is missing"),
):
    ATTACKS[f"digests_{what}"] = Attack(
        other_digests(change), (CORRUPT, said), "No such file" if what == "deleted" else said, "crystals"
    )  # fmt: skip


def forged(d, *names, graphs=False):
    """Other digests of the graphs, or of these columns."""

    def change(of_graphs, of_columns):
        wrong = np.zeros(1, "V32")
        return wrong if graphs else of_graphs, of_columns | dict.fromkeys(names, wrong)

    d.digests = change


@attack(None, reads=True, verify="the digest of the graphs of rows 0 to 11 is")
def a_forged_digest_of_graphs(d):
    """Records have checksums of their own."""
    forged(d, graphs=True)


@attack(None, reads=True, verify="the digest of the graphs of rows 0 to 11 is")
def a_forged_digest_of_graphs_with_its_content_id(d):
    forged(d, graphs=True)

    def edit(body):
        described = canonical_json({"recipe": body["recipe"], "schema": body["schema"]})
        body["content_id"] = hashlib.sha256(described + bytes(32)).hexdigest()

    d.edits.append(edit)


@attack(None, reads=True, verify="the content id of the graphs is")
def another_content_id(d):
    d.edits.append(lambda body: body.update(content_id="0" * 64))


@attack("the values of rows 0 to 11 are not as they were written")
def a_forged_digest_of_places(d):
    forged(d, "record")


@attack("the values of rows 0 to 11 are not as they were written")
def a_forged_digest_of_ids(d):
    forged(d, "id")


@attack("the values of rows 0 to 11 are not as they were written", base="angles")
def a_forged_digest_of_numbers_of_angles(d):
    forged(d, "n_triplets")


@attack("the values of rows 0 to 11 are not as they were written")
def forged_digests_of_all(d):
    forged(d, *d.columns, graphs=True)


# ---- where records lie ----


def record(**changes):
    """The column ``record`` with the second row changed, wide enough for any place."""

    def change(column):
        out = column.astype([("offset", "<u8"), ("length", "<u4"), ("xxh3", "<u8")])
        for name, value in changes.items():
            out[name][1] = value
        return out

    return change


@attack("the shard ends at byte", verify="174 bytes at 1099511627776; the page tree")
def a_record_behind_the_end(d):
    d.record = record(offset=2**40)


@attack("the shard ends at byte", verify="174 bytes at 18446744073709551611; the page tree")
def an_offset_that_overflows(d):
    d.record = record(offset=2**64 - 5)


@attack("the shard ends at byte", verify="says 4294967295 bytes at")
def a_record_of_four_gigabytes(d):
    d.record = record(length=2**32 - 1)


@attack("do not have the checksum")
def a_record_with_another_checksum(d):
    d.record = record(xxh3=0)


@attack("the column n_node says 18446744073709551615")
def counts_that_promise_terabytes(d):
    d.columns["n_node"] = np.full(len(d.raws), 2**64 - 1, "<u8")


@attack("the column n_edge says 1")
def counts_of_other_graphs(d):
    d.columns["n_edge"] = np.full(len(d.raws), 2, "<u2")
    d.columns["n_edge"][1] = 1
    for row in range(len(d.raws)):
        d.columns["n_edge"][row] = msgpack.unpackb(d.raws[row])[1] if row != 1 else 1


@attack("the record has 15996000 angles; the column n_triplets says 0", verify="n_triplets is 15996000", base="angles")
def angles_that_take_gigabytes(d):
    """4,000 edges from an atom to itself, in a few bytes."""
    dense(d, 1, 4000)
    d.columns["n_triplets"][1] = 0


@attack("the column n_triplets says 1", verify="the column says 1", base="angles")
def angles_that_a_column_denies(d):
    d.columns["n_triplets"][1] = 1


@attack("the column n_triplets says", verify="the column says", base="angles")
def angles_of_another_graph(d):
    """Their sum is right."""
    d.columns["n_triplets"] = d.columns["n_triplets"][::-1].copy()


@attack("the column n_triplets says 184", verify="the column says 184", base="angles")
def angles_whose_sum_overflows(d):
    true = d.columns["n_triplets"].astype("<u8")
    d.columns["n_triplets"] = true.copy()
    d.columns["n_triplets"][0] = 2**64 - 1
    d.columns["n_triplets"][1] = true[0] + true[1] + 1


def dense(d, row, edges):
    """All edges of a crystal from its first atom to itself, of no length."""
    names = [each["name"] for each in d.body["schema"]["fields"]]
    d.count(row, "edge", edges)
    d.buffer(row, "edge_index", bytes(2 * edges))
    d.buffer(row, "images", bytes(3 * edges))
    d.part(row, 2, lambda codes: bytes(4 if n in ("edge_index", "images") else c for n, c in zip(names, codes)))
    d.columns["n_edge"] = d.columns["n_edge"].astype("<u4")
    d.columns["n_edge"][row] = edges


# ---- ids, splits, labels ----


def with_id(graph_id):
    def change(d):
        width = max(len(graph_id), d.columns["id"].dtype.itemsize)
        d.columns["id"] = d.columns["id"].astype(f"S{width}")
        d.columns["id"][1] = graph_id
        d.columns["id_order"] = np.argsort(d.columns["id"], kind="stable").astype(d.columns["id_order"].dtype)

    return change


@attack(None, reads=True)
def an_id_of_escape_codes(d):
    with_id(ESCAPE.encode())(d)


@attack("is not UTF-8", verify="is not UTF-8")
def an_id_that_is_no_text(d):
    with_id(b"\xff\xfe")(d)


@attack(None, reads=True, verify="ids are not unique")
def an_id_twice(d):
    with_id(d.columns["id"][0])(d)


@attack("id_order names a row that is not there", verify="id_order is not a permutation")
def an_order_of_other_rows(d):
    d.columns["id_order"] = np.full(len(d.raws), 2**32 - 1, "<u4")


@attack("the column 'formula'")
def a_formula_that_is_no_text(d):
    d.columns["formula"] = d.columns["formula"].astype("S40")
    d.columns["formula"][1] = b"\xffSi\x1b[31m"


@attack(None, reads=True, verify="has a code without a name")
def a_split_without_a_name(d):
    d.columns["split"][:] = 9


@attack("categories; required: at most 255")
def too_many_splits(d):
    d.body["columns"]["split"]["categories"] = [f"split {n}" for n in range(256)]


@attack("categories; required: at most 255")
def a_split_with_an_endless_name(d):
    d.body["columns"]["split"]["categories"] = ["x" * 10**6, "b", "c"]


@attack(None, reads=True)
def splits_and_units_of_escape_codes(d):
    d.body["columns"]["split"] |= {"categories": [ESCAPE, "val", "test"], "rule": None}
    d.label("energy", unit=ESCAPE)
    d.body["provenance"]["notes"] = [ESCAPE]
    file = {"name": ESCAPE, "size": 1, "sha256": ESCAPE}
    d.body["provenance"]["sources"] = [{"name": ESCAPE, "inputs": d.body["inputs"], "files": [file]}]
    d.body["provenance"]["versions"] = {ESCAPE: ESCAPE}


@attack(None, reads=True, verify="has a code without a name")
def a_category_without_a_name(d):
    d.texts("kind", np.array([9], "u1"), categories=["bulk"])


@attack("names a category twice")
def two_categories_of_one_name(d):
    d.texts("kind", np.array([0], "u1"), categories=["bulk", "bulk"])


@attack("categories; required: at most 255")
def a_category_with_an_endless_name(d):
    d.texts("kind", np.array([0], "u1"), categories=["x" * 10**6])


@attack("the column 'note'")
def a_text_that_is_no_text(d):
    d.texts("note", np.array([b"\xffSi\x1b[31m"]))


@attack(None, reads=True, verify="a boolean that is neither 0 nor 1")
def a_truth_value_of_two(d):
    d.label("ok")
    d.columns["ok"] = np.full(d.body["graphs"], 2, "u1").view(bool)


@attack(None, reads=True)
def texts_about_and_elements_of_escape_codes(d):
    d.texts("kind", np.array([0], "u1"), categories=[ESCAPE])
    d.texts("note", np.array([ESCAPE.encode()]))
    d.body["about"] = {"title": ESCAPE, "license": ESCAPE}
    d.label("energy", statistics={"count": 1, "missing": 0, "elements": {ESCAPE: 1.0}})


@attack("is not one printable line")
def a_description_of_escape_codes(d):
    d.label("energy", description=ESCAPE)


@attack("is required, but its statistics do not state missing=0")
def a_label_that_is_required_and_missing(d):
    d.label("energy", required=True, statistics={"count": 0, "missing": 9})


@attack("required: one of the forms")
def a_rule_of_other_things(d):
    d.body["columns"]["split"]["rule"] = {"fractions": [1.0, 0.0, 0.0], "seed": "os:system", "group": None}


@attack("the column name")
def a_label_of_escape_codes(d):
    d.label(ESCAPE)


@attack("the column name")
def a_label_with_an_endless_name(d):
    d.label("x" * 300)


@attack(None, reads=True)
def labels_named_like_attributes(d):
    for name in ("__class__", "__dict__", "_store", "x", "edge_index", "ptr", "to", "keys", "y", "id_", "n_", "batch"):
        d.label(name)


@attack("is that of an array", error="LabelError", verify=None)
def a_label_of_atoms_that_shadows_an_array(d):
    atoms(d, "x")


@attack("is that of an array", error="LabelError", verify=None)
def a_label_of_atoms_that_shadows_the_batch(d):
    atoms(d, "ptr")


@attack(None, reads=True)
def a_label_of_atoms_named_like_a_method(d):
    atoms(d, "to")


def atoms(d, name):
    """A label of atoms that is zero everywhere."""
    blank = {"dtype": "float64", "shape": [], "axis": "node", "axis_dim": 0, "unit": None, "counts": None, "pair": None}
    d.body["schema"]["fields"].append({"name": name, "basis": None} | blank)
    for row, raw in enumerate(d.raws):
        parts = msgpack.unpackb(raw)
        parts[2] += b"\x14"  # integers / 1e8
        d.raws[row] = msgpack.packb([*parts, bytes(parts[0])])


def statistics(**values):
    good = {"count": 1, "missing": 0, "mean": 0.0, "std": 0.0, "min": 0.0, "max": 0.0}
    return lambda d: d.label("a", statistics=good | values)


for what, change in {
    "texts": statistics(mean=ESCAPE),
    "lists": statistics(std=[]),
    "truth": statistics(min=True),
    "great_numbers": statistics(max=10**400),
    "unknown_names": statistics(unit="eV"),
}.items():
    ATTACKS[f"statistics_of_{what}"] = Attack(change, (CORRUPT, "the statistics"), "the statistics", "crystals")


@attack("the recipe is one of crystals", verify=None)
def a_schema_of_no_crystals(d):
    d.body["schema"]["fields"][2]["name"] = "pbd"


def from_files(*files):
    """What the manifest says of the files of the only source."""
    return lambda d: d.body["provenance"].update(
        sources=[{"name": "a", "inputs": d.body["inputs"], "files": list(files)}]
    )


ATTACKS["a_source_file_without_a_name"] = Attack(
    from_files({}), (CORRUPT, "a file with the keys"), "a file with the keys", "crystals"
)
ATTACKS["a_source_file_of_no_size"] = Attack(
    from_files({"name": "a", "size": "x", "sha256": "b"}),
    (CORRUPT, "where a count is required"),
    "where a count is required",
    "crystals",
)


@attack("the sources have 13 inputs; required: 12")
def sources_whose_inputs_do_not_add_up(d):
    d.body["provenance"]["sources"][0]["inputs"] += 1


@attack("the sources have 18446744073709551616 inputs; required: 12")
def sources_whose_sum_overflows(d):
    blank = {"name": "a", "files": []}
    d.body["provenance"]["sources"] = [blank | {"inputs": n} for n in (2**64 - 12, 12)]


@attack("-1 where a count is required")
def a_source_of_fewer_inputs_than_none(d):
    blank = {"name": "a", "files": []}
    d.body["provenance"]["sources"] = [blank | {"inputs": n} for n in (13, -1)]


@attack("where a text is required")
def versions_of_other_types(d):
    d.body["provenance"]["versions"] = {"numpy": [1]}


def come_from(numbers):
    """A column ``input``."""

    def change(d):
        d.columns["input"] = numbers
        described = dict(INDEX)
        d.body["columns"]["input"] = described

    return change


# ``salvage`` gives lost graphs back to their sources by this column.
for what, values, said in (
    ("beyond_the_last", np.arange(2, 14, dtype="u1"), "names the input 13"),
    ("far_beyond", np.full(12, 2**64 - 1, "<u8"), "names the input 18446744073709551615"),
    ("twice", np.array([*range(11), 3], "u1"), "names the input 3 twice"),
):
    ATTACKS[f"an_input_{what}"] = Attack(come_from(values), None, said, "crystals")


# ---- recipes ----


def recipe(**changes):
    return lambda d: d.body["recipe"].update(changes)


@attack(None, reads=True)
def a_recipe_that_names_a_module(d):
    d.body["recipe"]["preset"] = "evil:PRESET"


ATTACKS["a_recipe_of_no_rule"] = Attack(
    recipe(rule="os.system"), (RECIPE, "unknown rule 'os.system'"), None, "crystals"
)
ATTACKS["a_recipe_with_unknown_keys"] = Attack(
    recipe(run="x"), (RECIPE, "unknown parameter of a recipe: 'run'"), None, "crystals"
)
ATTACKS["a_recipe_of_a_great_number"] = Attack(recipe(cutoff=10**400), (RECIPE, "cutoff"), None, "crystals")
ATTACKS["a_recipe_of_lists"] = Attack(recipe(preset=[[]]), (RECIPE, "preset"), None, "crystals")


# ---- the manifest ----


def manifest(said, seal, error=CORRUPT):
    """An attack by other bytes of the manifest."""

    def change(d):
        d.seal = seal

    return Attack(change, None if said is None else (error, said), said, "crystals")


def edited(said, edit, error=CORRUPT):
    """An attack by another manifest."""
    return Attack(lambda d: d.edits.append(edit), None if said is None else (error, said), said, "crystals")


def named(name):
    """An attack by the name of a file, which keeps the digits of its hash."""

    def edit(body):
        file = body["columns"]["id"]["file"]
        file["name"] = name.replace("HASH", file["sha256"][:16])

    return edited("the file name", edit)


def promised(body, graphs):
    """As many graphs, and digests of them."""
    body["graphs"] = graphs
    body["digests"]["size"] = 32 * -(-graphs // 4096) * (1 + len(body["columns"]))


def field_1(body):
    return body["schema"]["fields"][1]


ATTACKS |= {
    "a_key_twice": manifest("the key 'a' appears twice", with_user(b'{"a":1,"a":2}')),
    "an_infinite_number": manifest("the number 1e999 is not finite", with_user(b'{"a":1e999}')),
    "no_number": manifest("the number NaN is not finite", with_user(b'{"a":NaN}')),
    "a_number_of_many_digits": manifest("ValueError", with_user(b'{"a":' + b"9" * 200_000 + b"}")),
    "deep_json": manifest("RecursionError", with_user(b'{"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}")),
    "half_of_a_surrogate_pair": manifest("UnicodeEncodeError", with_user(b'{"a":"\\ud800"}')),
    "other_text": manifest("UnicodeDecodeError", with_user(b'{"a":"\xff"}')),
    "a_pickle_as_a_manifest": manifest("checksum at the end is missing", lambda _: PICKLE),
    "a_pickle_that_is_sealed": manifest("UnicodeDecodeError", lambda _: sealed(PICKLE + b"\xff")),
    "a_list_as_a_manifest": manifest("a key is missing", lambda _: sealed(b"[1,2")),
    "an_empty_manifest": manifest("checksum at the end is missing", lambda _: b""),
    "an_unknown_key": edited("the unknown keys ['run']", lambda b: b.update(run="x")),
    "a_newer_version": edited("format version 2.0", lambda b: b.update(version=[2, 0]), UNSUPPORTED),
    "an_unknown_version": edited("format version 10000", lambda b: b.update(version=[10**300, 0]), UNSUPPORTED),
    "a_version_of_other_type": edited("where a count is required", lambda b: b.update(version=["1", 0])),
    "an_endless_message": edited("the codec", lambda b: b["shards"][0].update(codec=ESCAPE * 10**4), UNSUPPORTED),
    "a_message_of_escape_codes": edited("the unknown keys", lambda b: b.update({ESCAPE: 1})),
    "more_graphs_than_rows": edited("the shards have", lambda b: promised(b, 10**12)),
    "a_negative_shape": edited("-1 where a count", lambda b: b["columns"]["density"].update(shape=[b["graphs"], -1])),
    "a_shape_that_overflows": edited(
        "is not a .npy file", lambda b: b["columns"]["density"].update(shape=[b["graphs"], 2**62, 2**62])
    ),
    "a_shape_of_many_sizes": edited(
        "the column 'density' has the type", lambda b: b["columns"]["density"].update(shape=[b["graphs"], *[1] * 10**5])
    ),
    "a_field_that_overflows": edited("at most 134217728", lambda b: field_1(b).update(shape=[2**40, 2**40])),
    "a_field_of_negative_shape": edited("at most three sizes", lambda b: field_1(b).update(shape=[-3, 3])),
    "a_field_of_objects": edited("the dtype 'object'", lambda b: field_1(b).update(dtype="object")),
    "a_field_of_escape_codes": edited("printable", lambda b: field_1(b).update(name=ESCAPE)),
    "a_column_of_objects": edited("has the type '|O'", lambda b: b["columns"]["density"].update(dtype="|O")),
    "a_name_that_climbs": named("columns/../../HASH.npy"),
    "a_name_that_climbs_first": named("../columns/id-HASH.npy"),
    "an_absolute_name": named("/etc/passwd-HASH.npy"),
    "a_name_with_a_backslash": named("columns\\id-HASH.npy"),
    "a_name_with_a_drive": named("C:/columns/id-HASH.npy"),
    "a_name_with_a_zero": named("columns/id\0-HASH.npy"),
    "a_name_with_a_newline": named("columns/id-HASH.npy\n"),
    "a_name_of_escape_codes": named(f"columns/{ESCAPE}-HASH.npy"),
    "a_name_of_code": named("columns/id-HASH.pkl"),
}  # fmt: skip


@attack("is not a .npy file", verify="is not a .npy file")
def four_billion_graphs(d):
    def edit(body):
        n = 2**32 - 1
        promised(body, n)
        body["shards"][0].update(records=n)
        for column in body["columns"].values():
            column["shape"][0] = n

    d.edits.append(edit)


@attack("it has 1073741824 bytes; required: at most 268435456")
def a_manifest_of_a_gigabyte(d):
    d.after.append(lambda path: os.truncate(path / MANIFEST, 2**30))


@attack("it is no regular file")
def a_pipe_as_a_manifest(d):
    d.after.append(lambda path: replaced(path / MANIFEST, os.mkfifo))


@attack("it is no regular file")
def a_folder_as_a_manifest(d):
    d.after.append(lambda path: replaced(path / MANIFEST, os.mkdir))


@attack("it is no regular file")
def a_device_as_a_manifest(d):
    d.after.append(lambda path: replaced(path / MANIFEST, lambda name: os.symlink("/dev/zero", name)))


@attack("symbolic links", error="OSError")
def a_manifest_that_leads_to_itself(d):
    d.after.append(lambda path: replaced(path / MANIFEST, lambda name: os.symlink(name, name)))


# ---- files ----


def replaced(file, make):
    """What is made in the place of a file."""
    file.unlink()
    make(os.fspath(file))


def each(pattern, make):
    """What is made in the place of every file of a pattern."""
    return lambda d: d.after.append(lambda path: [replaced(file, make) for file in path.glob(pattern)])


for what, make in {
    "pipes": os.mkfifo,
    "folders": os.mkdir,
    "devices": lambda name: os.symlink("/dev/zero", name),
}.items():
    for pattern, stem in (("shards/*", "shards"), ("columns/*", "columns"), ("digests-*", "digests")):
        ATTACKS[f"{what}_as_{stem}"] = Attack(
            each(pattern, make), (CORRUPT, "is no regular file"), "is no regular file", "crystals"
        )
ATTACKS["columns_that_lead_to_themselves"] = Attack(
    each("columns/*", lambda name: os.symlink(name, name)), ("OSError", "symbolic links"), "symbolic links", "crystals"
)
ATTACKS["shards_that_are_other_files"] = Attack(
    each("shards/*", lambda name: os.symlink("/etc/passwd", name)),
    (CORRUPT, "bytes; required"),
    "bytes; required",
    "crystals",
)


@attack(None, reads=True)
def a_folder_that_is_a_link(d):
    """Sizes and hashes say what may be read, wherever it lies; caches keep files so."""

    def lead(path):
        (path / "columns").rename(path.parent / "elsewhere")
        (path / "columns").symlink_to("../elsewhere")

    d.after.append(lead)


# ---- columns ----


def npy(header, values=bytes(96), version=b"\1\0"):
    """A ``.npy`` file with this header."""
    size = 2 if version == b"\1\0" else 4
    header = header.ljust(-(-(8 + size + len(header) + 1) // 64) * 64 - 8 - size - 1) + b"\n"
    return b"\x93NUMPY" + version + len(header).to_bytes(size, "little") + header + values


def of_objects():
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Code()] * 12, dtype=object), (1, 0), allow_pickle=True)
    return buffer.getvalue()


FILES = {
    "objects": of_objects(),
    "another_type": npy(b"{'descr': '<i8', 'fortran_order': False, 'shape': (12,), }"),
    "another_byte_order": npy(b"{'descr': '>f8', 'fortran_order': False, 'shape': (12,), }"),
    "another_shape": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (6, 2), }"),
    "a_shape_of_terabytes": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"),
    "a_negative_size": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-12,), }"),
    "another_order": npy(b"{'descr': '<f8', 'fortran_order': True, 'shape': (12,), }"),
    "code": npy(b"{'descr': __import__('os').system('touch ran'), 'fortran_order': False, 'shape': (12,), }"),
    "deep_brackets": npy(b"(" * 60_000),
    "another_version": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (12,), }", version=b"\2\0"),
    "values_missing": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (12,), }", bytes(95)),
    "values_too_many": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (12,), }", bytes(97)),
    "no_header": b"\x93NUMPY\1\0\xff\xff",
    "a_pickle": PICKLE,
    "nothing": b"",
}


def filed(data):
    return lambda d: d.files.update(density=data)


ATTACKS |= {
    f"a_column_of_{name}": Attack(filed(data), (CORRUPT, "is not a .npy file"), "is not a .npy file", "crystals")
    for name, data in FILES.items()
}  # fmt: skip
