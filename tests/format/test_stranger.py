"""A reader written from the specification alone finds in every row what the package finds, to the bit."""

from __future__ import annotations

import csv
import importlib.util
import itertools
from pathlib import Path

import lmdb
import numpy as np
import pytest

import lazygraph as lg
from lazygraph.format.columns import texts_of
from lazygraph.format.store import Store

DECODER = Path(__file__).parents[1] / "strangers_decoder.py"
spec = importlib.util.spec_from_file_location("strangers_decoder", DECODER)
stranger = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stranger)


def bits(value):
    """A value as something that compares by type, shape and bits."""
    if isinstance(value, str):
        return value
    return value.dtype.str, value.shape, value.tobytes()


def assert_agree(path):
    store = Store(path)
    assert len(store) > 0
    for row in range(len(store)):
        found_id, labels, fields = stranger.read(path, row)
        expected = store.arrays(row)
        assert found_id == store.graph_id(row)
        assert list(fields) == list(expected)
        for name, value in expected.items():
            assert bits(fields[name]) == bits(value), (row, name)
        assert {name: bits(value) for name, value in labels.items()} == {
            name: bits(values[row] if column.role == "label" else texts_of(column, values[row : row + 1])[0].decode())
            for name, column in store.manifest.all_labels().items()
            for values in [store.column(name)]
        }


def codes_of(path):
    """Every code byte that a dataset uses, by field."""
    store = Store(path)
    records = [store.record(row) for row in range(len(store))]
    return {name: {r.codes[i] for r in records} for i, name in enumerate(store.manifest.schema.names)}


def test_the_decoder_is_short_and_knows_nothing_of_the_package():
    text = DECODER.read_text()
    assert len(text.splitlines()) <= 80
    assert "import lazygraph" not in text
    assert "from lazygraph" not in text


def test_prototypes(prototypes):
    assert_agree(prototypes)


@pytest.mark.parametrize("recipe", [lg.graph("radius", cutoff=3.5), lg.graph("shell", max_neighbors=12)], ids=str)
def test_other_recipes_in_several_shards_with_splits(recipe, tmp_path):
    path = tmp_path / "p.lg"
    lg.write(
        "prototypes:25?seed=2", path, graph=recipe, workers=1, shard_size=10, split=(0.6, 0.2, 0.2), progress=False
    )
    assert len(Store(path).manifest.shards) == 3
    assert_agree(path)


def test_ready_made_graphs_with_text_and_own_axes(tmp_path):
    """Without dictionary, with every kind of field that crystals do not have."""
    path = tmp_path / "any.lg"
    random = np.random.default_rng(0)
    with lg.GraphWriter(path) as writer:
        for n in range(2, 8):
            pairs = np.array([[0, 1], [1, 0]]) if n % 2 else random.integers(0, n, (2, 7))
            graph = {
                "x": random.random((n, 4)).astype(np.float32),
                "edge_index": pairs,
                "name": f"graph {n} \u00e9",
                "mask": random.random(n) < 0.5,
                "face": random.integers(0, n, (3, 5)),
                "half": random.random((n, 2)).astype(np.float16),
                "big": np.array([2**64 - 1, n], dtype=np.uint64),
                "wave": np.array([[np.nan, -0.0, 5e-324]] * n),
            }
            writer.add(graph, labels={"size": n, "pair": [n, np.nan]})
    assert Store(path).manifest.dictionaries == ()
    assert_agree(path)


def test_relaxation_frames(data, tmp_path):
    """The first 200 of MPtrj: positions as decimals of Cartesian coordinates."""
    lines = (data / "extxyz" / "mptrj-random-1k.xyz").read_text().splitlines(keepends=True)
    end = 0
    for _ in range(200):
        end += int(lines[end]) + 2
    (tmp_path / "frames.xyz").write_text("".join(lines[:end]))
    lg.write(tmp_path / "frames.xyz", tmp_path / "frames.lg", workers=1, progress=False)
    assert len(Store(tmp_path / "frames.lg")) == 200
    assert {code >> 4 & 3 for code in codes_of(tmp_path / "frames.lg")["frac_coords"]} >= {1, 2}
    assert_agree(tmp_path / "frames.lg")


def test_perovskites(data, tmp_path):
    """The first 200 of Perov-5: the decimals of a CIF, -0.00000000 among them."""
    with (data / "perov_5" / "val.csv").open(newline="") as file, (tmp_path / "p.csv").open("w", newline="") as out:
        csv.writer(out).writerows(itertools.islice(csv.reader(file), 201))
    lg.write(tmp_path / "p.csv", tmp_path / "p.lg", workers=1, progress=False)
    assert len(Store(tmp_path / "p.lg")) == 200
    assert {code >> 4 & 3 for code in codes_of(tmp_path / "p.lg")["frac_coords"]} == {1}
    assert_agree(tmp_path / "p.lg")


def test_plain_lmdb_finds_every_record_by_its_number(prototypes):
    store = Store(prototypes)
    rows = iter(range(len(store)))
    for shard in store.manifest.shards:
        path = prototypes / shard.file.name
        content = path.read_bytes()
        with (
            lmdb.open(str(path), subdir=False, readonly=True, lock=False) as environment,
            environment.begin(buffers=False) as transaction,
        ):
            assert transaction.stat()["entries"] == shard.records
            assert [key for key, _ in transaction.cursor()] == [n.to_bytes(4, "big") for n in range(shard.records)]
            # No duplicate ids here: every record has its row.
            assert shard.records == shard.rows
            for number in range(shard.records):
                offset, length, _ = store.column("record")[next(rows)].tolist()
                assert transaction.get(number.to_bytes(4, "big")) == content[offset : offset + length]
    assert next(rows, None) is None


def test_numpy_reads_every_column(prototypes):
    store = Store(prototypes)
    for name, column in store.manifest.columns.items():
        array = np.load(prototypes / column.file.name, allow_pickle=False)
        assert bits(array) == bits(store.column(name)), name
