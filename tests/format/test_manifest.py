"""A manifest is read back as it was written, or refused with a sentence that says why."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import tracemalloc

import numpy as np
import pytest

from lazygraph.errors import CorruptDataset, DatasetNotFound, UnsupportedFormat
from lazygraph.format.columns import Column
from lazygraph.format.digests import BLOCK, blocks_of_column, blocks_of_graphs, content_id, graph_digest
from lazygraph.format.manifest import (
    MANIFEST,
    VERSION,
    Manifest,
    Provenance,
    Quarantine,
    Removal,
    Shard,
    SourceFiles,
    row_starts,
)
from lazygraph.format.schema import Field, Schema
from lazygraph.format.strict_json import canonical_json
from lazygraph.storage.files import FileRef

STATISTICS = {"count": 3, "missing": 0, "mean": 0.1, "std": 0.1, "min": 0.0, "max": 0.2}
DIGEST = "0123456789abcdef" * 4
RECORD = [["offset", "<u4"], ["length", "<u2"], ["xxh3", "<u8"]]


def ref(stem, suffix, size=1000):
    return FileRef(f"{stem}-{DIGEST[:16]}{suffix}", size, DIGEST)


def index(name, dtype, **more):
    return Column(ref(f"columns/{name}", ".npy"), dtype, (3,), "index", **more)


RULE = {"fractions": [0.5, 0.25, 0.25], "seed": 1, "group": "kind"}
FOLD = {"fold": 0, "folds": 5, "val": 0.1, "seed": 1, "group": None}
LEFT_OUT = {"leave_out": ["Co", "Fe"], "val": 0.0, "seed": 1}
EXACT = {"counts": [60000, 5000, 0], "seed": 1}
STRATA = {"label": "n", "edges": [0.5, 1.5]}
COUNTS = {"count": 3, "missing": 0}
ENERGIES = COUNTS | {"mean": 1.0, "std": 0.5, "min": 0, "max": 2, "elements": {"Fe": -3.5, "O": -1.25}}
EXAMPLE = Manifest(
    graphs=3,
    inputs=5,
    recipe={"rule": "shell", "parameters": {"max_neighbors": 12, "tolerance": 1e-4}},
    schema=Schema(
        ("node", "edge"),
        (
            Field("numbers", "uint8", axis="node"),
            Field("lattice", "float64", (3, 3), unit="A"),
            Field("frac_coords", "float64", (3,), "node", basis="lattice"),
            Field("edge_index", "int64", (2,), "edge", 1, counts="node", pair="swap"),
        ),
    ),
    dictionaries=(ref("dictionary", ".zstd"),),
    shards=(
        Shard(ref("shards/00000", ".lmdb"), 3, (1,), "zstd", 0),
        Shard(ref("shards/00001", ".lmdb"), 1, (), "none"),
    ),
    columns={
        "record": index("record", RECORD),
        "id": index("id", "|S12"),
        "id_order": index("id_order", "<u4"),
        "n_node": index("n_node", "|u1"),
        "n_edge": index("n_edge", "<u2"),
        "formula": index("formula", "|S7"),
        "split": Column(
            ref("columns/split", ".npy"), "|u1", (3,), "split", categories=("train", "val", "test"), rule=RULE
        ),
        "fold 0": Column(ref("columns/fold_0", ".npy"), "|u1", (3,), "split", categories=("a",)),
        "kind": Column(ref("columns/kind", ".npy"), "<u2", (3,), "category", None, COUNTS, ("bulk", "\u00e9")),
        "note": Column(
            ref("columns/note", ".npy"), "|S9", (3,), "text", None, COUNTS, description="free", required=True
        ),
        "ok": Column(ref("columns/ok", ".npy"), "|b1", (3,), "label", None, COUNTS),
        "n": Column(ref("columns/n", ".npy"), "<i8", (3,), "label", "eV", ENERGIES, per="atom", required=True),
        "\u0394H (eV)": Column(ref("columns/_H_eV_", ".npy"), "<f8", (3,), "label", "eV", STATISTICS),
        "stress": Column(ref("columns/stress", ".npy"), "<f8", (3, 3, 3), "label", None, {"count": 0, "missing": 0}),
    },
    digests=ref("digests", ".bin", 480),
    quarantine=Quarantine(ref("quarantine", ".jsonl"), 2),
    provenance=Provenance(
        (SourceFiles("a", 5, ({"name": "a.csv", "size": 10, "sha256": DIGEST},)), SourceFiles("b", 0, ())),
        {"lazygraph": "0.1.0"},
        ("a note, \u00e9",),
    ),
    content_id=DIGEST,
    history=(Removal(("a", "\u00e9"), "of no use"),),
    about={"title": "Oxides", "level_of_theory": "PBE"},
    user={"anything": [1, {"goes": None}]},
)


def sealed(prefix):
    """A file with this beginning and the checksum that fits it."""
    return prefix + b',"sha256":"' + hashlib.sha256(prefix).hexdigest().encode() + b'"}\n'


def body_of(manifest):
    return json.loads(manifest.to_bytes()[: -len(',"sha256":""}\n') - 64] + b"}")


def file_of(body):
    return sealed(canonical_json(body)[:-1])


@pytest.fixture
def folder(tmp_path):
    """A folder whose ``manifest.json`` is written by ``put``."""
    out = tmp_path / "d.lg"
    out.mkdir()
    return out


def load(folder, data):
    (folder / MANIFEST).write_bytes(data)
    return Manifest.load(folder)


# ---- there and back ----


def test_a_manifest_comes_back(folder):
    EXAMPLE.publish(folder)
    assert os.listdir(folder) == [MANIFEST]
    found = Manifest.load(folder)
    assert found == EXAMPLE
    assert found.to_bytes() == EXAMPLE.to_bytes() == (folder / MANIFEST).read_bytes()


def test_one_without_anything_optional_comes_back(folder):
    empty = {"record": RECORD, "id": "|S1", "id_order": "<u4"}
    columns = {n: Column(ref(f"columns/{n}", ".npy"), d, (0,), "index") for n, d in empty.items()}
    digests = ref("digests", ".bin", 0)
    bare = Manifest(0, 0, None, Schema((), ()), (), (), columns, digests, None, Provenance(), DIGEST)
    assert load(folder, bare.to_bytes()) == bare


def test_a_real_manifest_is_written_again_to_the_byte(prototypes):
    assert Manifest.load(prototypes).to_bytes() == (prototypes / MANIFEST).read_bytes()


def test_the_form_of_the_file():
    data = EXAMPLE.to_bytes()
    assert data.endswith(b'"}\n')
    whole = json.loads(data)
    prefix, _, seal = data.rpartition(b',"sha256":"')
    assert seal == whole["sha256"].encode() + b'"}\n'
    assert hashlib.sha256(prefix).hexdigest() == whole.pop("sha256")
    assert list(whole) == sorted(whole)
    assert prefix + b"}" == canonical_json(whole)
    assert whole["columns"]["\u0394H (eV)"]["unit"] == "eV"
    assert whole["version"] == [1, 0]


def test_what_a_manifest_knows():
    assert [file.name.split("-")[0] for file in EXAMPLE.files()] == [
        "shards/00000", "shards/00001", "columns/record", "columns/id", "columns/id_order", "columns/n_node",
        "columns/n_edge", "columns/formula", "columns/split", "columns/fold_0", "columns/kind", "columns/note",
        "columns/ok", "columns/n", "columns/_H_eV_", "columns/stress", "digests", "dictionary", "quarantine",
    ]  # fmt: skip
    assert list(EXAMPLE.labels()) == ["ok", "n", "\u0394H (eV)", "stress"]
    assert list(EXAMPLE.texts()) == ["kind", "note"]
    assert list(EXAMPLE.splits()) == ["split", "fold 0"]
    assert [shard.rows for shard in EXAMPLE.shards] == [2, 1]
    assert [shard.keys().tolist() for shard in EXAMPLE.shards] == [[0, 2], [0]]
    changed = EXAMPLE.with_columns({"stress": EXAMPLE.columns["\u0394H (eV)"], "new": EXAMPLE.columns["stress"]})
    assert list(changed.labels()) == ["ok", "n", "\u0394H (eV)", "stress", "new"]
    assert list(EXAMPLE.labels()) == ["ok", "n", "\u0394H (eV)", "stress"]
    assert row_starts(EXAMPLE.shards).tolist() == [0, 2, 3]
    assert row_starts(()).tolist() == [0]


def test_canonical_json():
    assert canonical_json({"b": [1, 2.5, None, True], "a": "\u00e9\n"}) == b'{"a":"\xc3\xa9\\n","b":[1,2.5,null,true]}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


def test_the_content_id_is_what_the_specification_says():
    schema = EXAMPLE.schema
    total = hashlib.sha256(canonical_json({"recipe": {"a": 1}, "schema": body_of(EXAMPLE)["schema"]}))
    graphs = [(f"{n} \u00e9".encode(), b"record" * (n % 3)) for n in range(BLOCK + 2)]
    rows = [hashlib.sha256(np.uint32(len(name)).tobytes() + name + record).digest() for name, record in graphs]
    for block in (rows[:BLOCK], rows[BLOCK:]):
        total.update(hashlib.sha256(b"".join(block)).digest())

    def identity(graphs):
        digests = b"".join(graph_digest(*graph) for graph in graphs)
        return content_id({"a": 1}, schema, blocks_of_graphs(np.frombuffer(digests, "V32")))

    assert identity(graphs) == total.hexdigest()
    assert identity(graphs[::-1]) != total.hexdigest()
    # The length keeps ids and records apart.
    assert graph_digest(b"ab", b"c") != graph_digest(b"a", b"bc")


# ---- damage ----


def test_every_changed_byte_is_found(folder):
    data = EXAMPLE.to_bytes()
    for at in range(0, len(data), 5):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        with pytest.raises(CorruptDataset, match=f"^{folder / MANIFEST}: the checksum at the end is missing or wrong"):
            load(folder, bytes(changed))


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -2, -3, -66, -80])
def test_a_manifest_cut_off_is_found(keep, folder):
    with pytest.raises(CorruptDataset, match="the checksum at the end is missing or wrong"):
        load(folder, EXAMPLE.to_bytes()[:keep])


@pytest.mark.parametrize("more", [b"\n", b" ", b"\0", b'{"sha256":"'])
def test_nothing_may_follow(more, folder):
    with pytest.raises(CorruptDataset, match="the checksum at the end is missing or wrong"):
        load(folder, EXAMPLE.to_bytes() + more)


# ---- what strangers seal ----


def paths_of(value, path=()):
    """Every place in a JSON value, itself included."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths_of(inner, (*path, key))


def at(body, path):
    for key in path:
        body = body[key]
    return body


BODY = body_of(EXAMPLE)
PLACES = [path for path in paths_of(BODY) if path]
# Objects whose keys are the user's, the recipe's, or those of a later release's statistics.
FREE = ("user", "recipe", "statistics", "versions", "files")


def test_every_key_is_required(folder):
    for path in PLACES:
        if (
            isinstance(at(BODY, path[:-1]), dict)
            and not set(path[:-1]) & {*FREE, "about"}
            and path != ("columns", path[-1])
        ):
            body = copy.deepcopy(BODY)
            del at(body, path[:-1])[path[-1]]
            with pytest.raises(CorruptDataset, match=MANIFEST):
                load(folder, file_of(body))


def test_every_unknown_key_is_refused(folder):
    for path in [(), *PLACES]:
        if isinstance(at(BODY, path), dict) and not set(path) & set(FREE):
            body = copy.deepcopy(BODY)
            at(body, path)["unknown"] = 1
            with pytest.raises(CorruptDataset, match=MANIFEST):
                load(folder, file_of(body))


@pytest.mark.slow
@pytest.mark.parametrize(
    "other", [None, True, -1, 0, 2, 2**70, 1.0, 1.5, "", "x", [], [1], [None], [[]], {}, {"a": 1}],
    ids=repr,
)  # fmt: skip
def test_any_other_value_in_any_place_is_refused_or_means_what_it_says(other, folder):
    """Nothing is read as something else: what is accepted is written again to the byte."""
    for path in PLACES:
        body = copy.deepcopy(BODY)
        at(body, path[:-1])[path[-1]] = other
        data = file_of(body)
        try:
            found = load(folder, data)
        except (CorruptDataset, UnsupportedFormat):
            continue
        assert found.to_bytes() == data, path


@pytest.mark.parametrize(
    "name",
    [
        f"../columns/x-{DIGEST[:16]}.npy",
        f"columns/../x-{DIGEST[:16]}.npy",
        f"columns/a/b-{DIGEST[:16]}.npy",
        f"columns/a\\b-{DIGEST[:16]}.npy",
        f"/columns/x-{DIGEST[:16]}.npy",
        f"/etc/passwd-{DIGEST[:16]}.npy",
        f"columns/x-{DIGEST[:16]}.npy\n",
        f"columns/x-{DIGEST[:16]}.npy\0",
        f"columns/x-{DIGEST[:16]}.pt",
        f"columns/\u00e9-{DIGEST[:16]}.npy",
        f"columns/{'x' * 101}-{DIGEST[:16]}.npy",
        f"columns/x-{DIGEST[1:17]}.npy",
        f"columns/x-{DIGEST[:16].upper()}.npy",
        f"columns/x-{DIGEST[:15]}.npy",
        f"shards/x-{DIGEST[:16]}.lmdb",
        f"shards/0000-{DIGEST[:16]}.lmdb",
        f"shards/../../{DIGEST[:16]}.lmdb",
        f"x-{DIGEST[:16]}.npy",
        "manifest.json",
        "columns",
        ".",
        "..",
        "",
        "C:\\windows",
        "file:///etc/passwd",
    ],
)
def test_names_cannot_leave_the_directory(name, folder):
    for path in (p for p in PLACES if p[-1] == "name" and set(p) & {"file", "dictionaries", "digests"}):
        body = copy.deepcopy(BODY)
        at(body, path[:-1])["name"] = name
        with pytest.raises(CorruptDataset, match="the file"):
            load(folder, file_of(body))


@pytest.mark.parametrize(
    "field", [("size", 2**63), ("size", -1), ("size", 10.0), ("sha256", DIGEST.upper()), ("sha256", "")]
)
def test_sizes_and_hashes_are_what_they_are(field, folder):
    body = copy.deepcopy(BODY)
    body["shards"][0]["file"][field[0]] = field[1]
    with pytest.raises(CorruptDataset, match=MANIFEST):
        load(folder, file_of(body))


@pytest.mark.parametrize(
    ("column", "rule"),
    [
        ("split", RULE | {"group": None, "stratify": STRATA}),
        ("split", RULE | {"group": None, "stratify": STRATA | {"edges": None}}),
        ("split", RULE | {"group": None, "stratify": STRATA | {"edges": []}}),
        ("split", FOLD),
        ("split", FOLD | {"group": "kind"}),
        ("split", FOLD | {"stratify": STRATA}),
        ("split", LEFT_OUT),
        ("split", EXACT),
        ("split", EXACT | {"labelled": "n"}),
        ("split", RULE | {"labelled": "kind"}),
        ("split", RULE | {"group": None, "stratify": STRATA, "labelled": "note"}),
        ("split", FOLD | {"labelled": "stress"}),
        ("split", LEFT_OUT | {"labelled": "ok"}),
        ("kind", {"symprec": 0.01}),
        ("note", {"symprec": 0.1}),
    ],
)
def test_rules_that_columns_may_have(column, rule, folder):
    body = body_of(EXAMPLE)
    body["columns"][column]["rule"] = rule
    assert load(folder, file_of(body)).columns[column].rule == rule


@pytest.mark.parametrize(
    ("column", "key", "value"),
    [
        ("record", "dtype", "<f8"),
        ("record", "dtype", [["offset", "<u4"], ["length", "<u2"]]),
        ("record", "dtype", [["offset", "<f4"], ["length", "<u2"], ["xxh3", "<u8"]]),
        ("id", "dtype", "|O"),
        ("id", "dtype", "|S256"),
        ("id", "dtype", "<U12"),
        ("id", "dtype", "<f8"),
        ("id", "role", "label"),
        ("id_order", "dtype", "<i4"),
        ("n_node", "dtype", "<f8"),
        ("n_edge", "dtype", "<i8"),
        ("n_edge", "shape", [3, 1]),
        ("formula", "dtype", "|u1"),
        ("split", "dtype", "<u2"),
        ("split", "categories", None),
        ("split", "categories", ["train", "val"]),  # not those of its rule
        ("split", "categories", ["train", "train", "test"]),
        ("split", "role", "index"),
        ("split", "role", "category"),
        ("split", "rule", {}),
        ("split", "rule", RULE | {"fractions": [0.5, 0.5]}),
        ("split", "rule", RULE | {"fractions": [0.5, 0.5, 0.5]}),
        ("split", "rule", RULE | {"fractions": [1, 0, 0]}),
        ("split", "rule", RULE | {"seed": "1"}),
        ("split", "rule", RULE | {"more": 1}),
        ("split", "rule", RULE | {"group": 1}),
        ("split", "rule", RULE | {"stratify": STRATA}),  # beside a group
        ("split", "rule", RULE | {"group": None, "stratify": STRATA | {"label": 1}}),
        ("split", "rule", RULE | {"group": None, "stratify": STRATA | {"edges": [1.0, 1.0]}}),
        ("split", "rule", RULE | {"group": None, "stratify": STRATA | {"edges": [1]}}),
        ("split", "rule", RULE | {"group": None, "stratify": STRATA | {"edges": 1.0}}),
        ("split", "rule", RULE | {"group": None, "stratify": STRATA | {"more": 1}}),
        ("split", "rule", RULE | {"group": None, "stratify": "n"}),
        ("split", "rule", FOLD | {"fold": 5}),
        ("split", "rule", FOLD | {"fold": -1}),
        ("split", "rule", FOLD | {"fold": True}),
        ("split", "rule", FOLD | {"folds": 1}),
        ("split", "rule", FOLD | {"folds": 101}),
        ("split", "rule", FOLD | {"val": 1.0}),
        ("split", "rule", FOLD | {"val": 0}),
        ("split", "rule", FOLD | {"seed": 2**32}),
        ("split", "rule", FOLD | {"fractions": [0.5, 0.25, 0.25]}),
        ("split", "rule", LEFT_OUT | {"leave_out": []}),
        ("split", "rule", LEFT_OUT | {"leave_out": "Fe"}),
        ("split", "rule", LEFT_OUT | {"leave_out": [1]}),
        ("split", "rule", LEFT_OUT | {"group": None}),
        ("split", "rule", LEFT_OUT | {"stratify": STRATA}),
        ("split", "rule", EXACT | {"counts": [1, 2]}),
        ("split", "rule", EXACT | {"counts": [1, 2, -1]}),
        ("split", "rule", EXACT | {"counts": [1.0, 2.0, 3.0]}),
        ("split", "rule", EXACT | {"counts": [True, True, True]}),
        ("split", "rule", EXACT | {"counts": [0, 0, 0]}),
        ("split", "rule", EXACT | {"counts": [2**63, 0, 0]}),
        ("split", "rule", EXACT | {"counts": 3}),
        ("split", "rule", EXACT | {"seed": 1.0}),
        ("split", "rule", EXACT | {"group": None}),
        ("split", "rule", EXACT | {"stratify": STRATA}),
        ("split", "rule", RULE | {"labelled": "no such label"}),
        ("split", "rule", RULE | {"labelled": "formula"}),
        ("split", "rule", RULE | {"labelled": "fold 0"}),
        ("split", "rule", RULE | {"labelled": None}),
        ("split", "rule", RULE | {"labelled": ["n"]}),
        ("split", "rule", {"labelled": "n"}),
        ("kind", "rule", {"symprec": 0.01, "labelled": "n"}),
        ("split", "rule", {"symprec": 0.01, "labelled": "n"}),
        ("split", "rule", {"symprec": 0.01}),
        ("kind", "rule", FOLD),
        ("kind", "rule", {"symprec": 0.0}),
        ("kind", "rule", {"symprec": 1}),
        ("kind", "rule", {"symprec": 0.01, "more": 1}),
        ("n", "rule", {"symprec": 0.01}),
        ("id", "rule", {"symprec": 0.01}),
        ("formula", "rule", RULE),
        ("fold 0", "dtype", "<u2"),
        ("fold 0", "role", "label"),
        ("fold 0", "unit", "eV"),
        ("kind", "rule", RULE),
        ("kind", "categories", None),
        ("kind", "categories", ["a", "a"]),
        ("kind", "categories", ["x" * 256]),
        ("kind", "dtype", "<u4"),
        ("kind", "dtype", "<f8"),
        ("kind", "shape", [3, 2]),
        ("kind", "unit", "eV"),
        ("kind", "role", "text"),
        ("note", "dtype", "|S256"),
        ("note", "role", "label"),
        ("note", "categories", ["a"]),
        ("ok", "dtype", "|u1"),
        ("ok", "per", "mole"),
        ("ok", "description", "two\nlines"),
        ("ok", "description", ""),
        ("ok", "required", 1),
        ("ok", "required", None),
        ("stress", "statistics", {"count": 1, "missing": 0, "elements": {"Fe": 1}}),
        ("stress", "statistics", {"count": 1, "missing": 0, "elements": [1.0]}),
        ("n", "statistics", {"count": 2, "missing": 1}),  # of a label that is required
        ("n", "statistics", None),
        ("note", "per", "cell"),
        ("split", "description", "mine"),
        ("split", "required", True),
        ("id", "required", True),
        ("id", "description", "a"),
        ("n", "dtype", "<i4"),
        ("n", "dtype", "<u8"),
        ("id", "categories", ["a"]),
        ("stress", "dtype", "<f4"),
        ("stress", "dtype", "|O"),
        ("stress", "role", "index"),
        ("stress", "role", "pickle"),
        ("stress", "shape", []),
        ("stress", "shape", [4, 3, 3]),
        ("stress", "shape", [3, -3, 3]),
    ],
)
def test_a_column_is_what_its_name_says(column, key, value, folder):
    body = copy.deepcopy(BODY)
    body["columns"][column][key] = value
    with pytest.raises(CorruptDataset, match="column|where a count is required|statistics|where an object is"):
        load(folder, file_of(body))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.update(graphs=4), "the shards have 3 rows; required: 4"),
        (lambda b: b["shards"].pop(), "the shards have 2 rows; required: 3"),
        (lambda b: b["shards"][0].update(records=1), r"1 records, and the spare ones \(1,\) are not"),
        (lambda b: b["shards"][0].update(records=2**32), "has 4294967296 records; required: fewer than 2.32"),
        (lambda b: b["shards"][0].update(spare=[1, 1], records=4), r"the spare ones \(1, 1\) are not"),
        (lambda b: b["shards"][0].update(spare=[2, 0], records=4), r"the spare ones \(2, 0\) are not"),
        (lambda b: b["shards"][0].update(spare=[3]), r"the spare ones \(3,\) are not"),
        (lambda b: b["shards"][0].update(spare=[-1]), "where a count is required"),
        (lambda b: b["shards"][0].update(dictionary=1), "of codec zstd has dictionary 1 of 1"),
        (lambda b: b["shards"][1].update(dictionary=0), "of codec none has dictionary 0 of 1"),
        (lambda b: b.update(dictionaries=b["dictionaries"] * 4097), "4097 dictionaries; required: at most 4096"),
        (lambda b: b["digests"].update(size=352), "the file of digests has 352 bytes; required: 480"),
        (lambda b: b.update(inputs=6), "the sources have 5 inputs; required: 6"),
        (lambda b: b["columns"].pop("id"), r"the columns \['id'\] are missing"),
        (lambda b: b["columns"].pop("n_edge"), r"the columns \['n_edge'\] are missing"),
        (lambda b: b["schema"]["axes"].append("ring"), r"the columns \['n_ring'\] are missing"),
        (lambda b: b["columns"]["id"].update(shape=[2]), r"the column 'id' has the shape \(2,\); required: 3 rows"),
        (lambda b: b.update(about={"name": "x"}), r"about has the keys \['name'\]"),
        (lambda b: b.update(about={"title": ""}), "with texts of 1 to 10000 bytes"),
        (lambda b: b.update(about={"title": 1}), "where a text is required"),
        (lambda b: b.update(about=[]), "where an object is required"),
        (lambda b: b.update(format="other"), "the key 'format' is not 'lazygraph'"),
        (lambda b: b.update(sha257="x"), r"the unknown keys \['sha257'\]"),
        (lambda b: b["schema"]["fields"][0].update(dtype="object"), "the dtype 'object'; required: one of bool, int8"),
        (lambda b: b["schema"]["fields"][0].update(axis="atom"), "the axis 'atom'"),
        (lambda b: b["schema"]["fields"][0].update(shape=[2**27 + 1]), "at most 134217728 values a row"),
        (lambda b: b["schema"]["fields"][0].update(shape=[0, 2**14, 2**14]), "at most 134217728 values a row"),
        (lambda b: b["schema"]["fields"][0].update(shape=[1, 1, 1, 1]), "at most three sizes"),
        (lambda b: b["schema"]["fields"][0].update(axis_dim=1), "axis_dim 1 with the shape"),
        (lambda b: b["schema"]["fields"][0].update(name="\n"), "printable"),
        (lambda b: b["schema"]["fields"][0].update(name="lattice"), "the field 'lattice' twice"),
        (lambda b: b["schema"]["fields"][0].update(pair="swap"), "pair 'swap' with the shape"),
        (lambda b: b["schema"]["fields"][0].update(pair="negate"), "pair 'negate' with dtype uint8"),
        (lambda b: b["schema"]["fields"][0].update(basis="lattice"), "a basis for shape"),
        (lambda b: b["schema"]["fields"][1].update(counts="node"), "indices of dtype float64"),
        (lambda b: b["schema"]["fields"][2].update(basis="numbers"), "required: an earlier"),
        (lambda b: b["schema"]["fields"].reverse(), "required: an earlier"),
        (lambda b: b["schema"].update(axes="node"), "where a list is required"),
        (lambda b: b["schema"].update(axes=["node", "node", "edge"]), "an axis twice"),
        (lambda b: b["schema"].update(axes=["node", "../edge"]), "required: an identifier"),
        (lambda b: b["schema"].update(axes=[f"a{n}" for n in range(17)]), "17 axes"),
        (lambda b: b["schema"].update(fields=b["schema"]["fields"] * 65), "260 fields; required: at most 16 and 256"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_one_another(change, message, folder):
    body = copy.deepcopy(BODY)
    change(body)
    with pytest.raises(CorruptDataset, match=message):
        load(folder, file_of(body))


# ---- JSON ----


@pytest.mark.parametrize(
    "prefix",
    [
        b"",
        b"{",
        b"[1",
        b"null",
        b'{"format":"lazygraph"',
        b'{"format":"lazygraph","version":[1]',
        b'{"format":"lazygraph","version":"10"',
        b'{"format":"lazygraph","version":[true,0]',
        b'{"format":"lazygraph","version":[1.0,0]',
        b'{"format":"lazygraph","version":{"1":2,"0":3}',
        b'{"user":' + b"[" * 100_000 + b"]" * 100_000,
        b'{"user":' + b'{"a":' * 100_000,
        b'{"graphs":' + b"9" * 5000,
        b"\xef\xbb\xbf" + canonical_json(BODY)[:-1],
        b"\xff" + canonical_json(BODY)[:-1],
        canonical_json(BODY)[:-1].decode().encode("utf-16"),
        canonical_json(BODY)[:-1].replace(b"a note", b"a \xff note"),
        canonical_json(BODY)[:-1].replace(b"a note", b"a \n note"),
    ],
    ids=lambda prefix: f"{len(prefix)} {prefix[:40]!r}",
)
def test_what_is_no_manifest_at_all(prefix, folder):
    with pytest.raises(CorruptDataset, match=MANIFEST):
        load(folder, sealed(prefix))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
@pytest.mark.parametrize("place", ['"mean":0.1', '"tolerance":0.0001', '"anything":[1'])
def test_only_finite_numbers(number, place, folder):
    key, _, old = place.partition(":")
    prefix = canonical_json(BODY)[:-1].decode()
    assert place in prefix
    changed = prefix.replace(place, f"{key}:{'[' * old.startswith('[')}{number}")
    with pytest.raises(CorruptDataset, match=f"the number {number}"):
        load(folder, sealed(changed.encode()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"graphs":3', '"graphs":3,"graphs":3'),
        ('"records":1', '"records":1,"records":1'),
        ('"goes":null', '"goes":null,"goes":null'),
        ('"tolerance":0.0001', '"tolerance":0.0001,"toler\\u0061nce":5'),
    ],
)
def test_a_key_that_stands_twice_is_refused(old, new, folder):
    prefix = canonical_json(BODY)[:-1].decode()
    assert old in prefix
    name = old.split('"')[1]
    with pytest.raises(CorruptDataset, match=f"the key '{name}' appears twice"):
        load(folder, sealed(prefix.replace(old, new).encode()))


@pytest.mark.parametrize("text", ["\\ud800", "\\uDFFF", "\\udc00\\ud800"])
def test_half_a_surrogate_pair_is_no_text(text, folder):
    """It could be read, but never be written again."""
    prefix = canonical_json(BODY)[:-1].decode()
    with pytest.raises(CorruptDataset, match="surrogates not allowed"):
        load(folder, sealed(prefix.replace("a note", text).encode()))


@pytest.mark.parametrize("text", ["\\ud83d\\ude00", "\\\\ud800"])
def test_a_whole_pair_or_a_backslash_is(text, folder):
    prefix = canonical_json(BODY)[:-1].decode().replace("a note", text)
    found = load(folder, sealed(prefix.encode()))
    assert found.provenance.notes == (json.loads(f'"{text}, \u00e9"'),)
    assert load(folder, found.to_bytes()) == found


def test_many_keys_of_which_one_stands_twice(folder):
    """Looking for it must not take a time that grows with the square of their number."""
    keys = ",".join(f'"{n}":0' for n in range(300_000))
    prefix = canonical_json(BODY)[:-1].decode().replace('"anything":', keys + ',"299999":0,"anything":')
    with pytest.raises(CorruptDataset, match="the key '299999' appears twice"):
        load(folder, sealed(prefix.encode()))


def test_a_huge_file_is_not_read(folder):
    (folder / MANIFEST).touch()
    os.truncate(folder / MANIFEST, 2**40)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptDataset, match=f"it has {2**40} bytes; required: at most {2**28}"):
            Manifest.load(folder)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


# ---- versions ----


@pytest.mark.parametrize("minor", [1, 7, 2**40])
def test_a_newer_minor_version_may_have_more_keys(minor, folder):
    body = BODY | {"version": [1, minor], "zebra": [1, 2], "aardvark": {}}
    found = load(folder, file_of(body))
    assert found.version == (1, minor)
    assert found.graphs == 3
    with pytest.raises(CorruptDataset, match="the unknown keys"):
        load(folder, file_of(body | {"version": [1, 0]}))


def test_a_newer_minor_version_is_not_written_again_without_what_it_adds(folder):
    found = load(folder, file_of(BODY | {"version": [1, 1], "zebra": 1}))
    before = sorted(path.read_bytes() for path in folder.iterdir())
    with pytest.raises(UnsupportedFormat, match=r"version 1\.1; this release writes 1\.0"):
        found.publish(folder)
    assert sorted(path.read_bytes() for path in folder.iterdir()) == before


def test_a_newer_minor_version_has_no_more_keys_inside(folder):
    body = copy.deepcopy(BODY | {"version": [1, 1]})
    body["shards"][0]["checksum"] = True
    with pytest.raises(CorruptDataset, match="checksum"):
        load(folder, file_of(body))


@pytest.mark.parametrize("version", [[2, 0], [0, 9], [2**40, 1]])
def test_another_major_version_is_refused_whatever_else_it_holds(version, folder):
    for body in (BODY | {"version": version}, {"format": "lazygraph", "version": version, "everything": "else"}):
        with pytest.raises(
            UnsupportedFormat, match=f"format version {version[0]}.{version[1]}; this release reads 1.x"
        ):
            load(folder, file_of(body))


def test_this_release_writes_what_it_reads():
    assert EXAMPLE.version == VERSION


# ---- places without a manifest ----


def test_nothing_there(tmp_path):
    with pytest.raises(DatasetNotFound, match="there is no dataset at"):
        Manifest.load(tmp_path / "no.lg")


def test_an_unfinished_dataset(tmp_path):
    (tmp_path / "d.lg.partial").mkdir()
    with pytest.raises(DatasetNotFound, match=r"is not finished; .* to continue in d.lg.partial"):
        Manifest.load(tmp_path / "d.lg")


def test_some_folder_or_file(tmp_path):
    with pytest.raises(DatasetNotFound, match="holds no manifest.json; give a dataset directory"):
        Manifest.load(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DatasetNotFound, match="there is no dataset at"):
        Manifest.load(tmp_path / "file")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_manifest_that_is_no_file_is_not_opened(make, folder):
    make(folder / MANIFEST)
    with pytest.raises(CorruptDataset, match="it is no regular file"):
        Manifest.load(folder)


def test_a_link_to_a_manifest_is_followed(folder, tmp_path):
    (tmp_path / "elsewhere").write_bytes(EXAMPLE.to_bytes())
    (folder / MANIFEST).symlink_to(tmp_path / "elsewhere")
    assert Manifest.load(folder) == EXAMPLE


def test_a_codec_that_this_release_does_not_know_is_refused(folder):
    body = copy.deepcopy(BODY)
    body["shards"][1]["codec"] = "gzip"
    with pytest.raises(UnsupportedFormat, match=r"has the codec 'gzip'; known: zstd, none: install a newer one"):
        load(folder, file_of(body))


def test_blocks_of_a_column_are_those_of_its_bytes():
    values = np.arange(BLOCK + 3, dtype="<u4").reshape(-1, 1)
    expected = [hashlib.sha256(part.tobytes()).digest() for part in (values[:BLOCK], values[BLOCK:])]
    assert blocks_of_column(values).tobytes() == b"".join(expected)
    assert len(blocks_of_column(values[:0])) == 0
