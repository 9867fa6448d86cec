"""Datasets of every format version, written once: what is read of them today is what was read of them then."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import UnsupportedFormat
from lazygraph.format.encoding import LAYOUTS
from lazygraph.format.manifest import MANIFEST, VERSION, Manifest, canonical_json
from lazygraph.format.store import Store
from lazygraph.reading.verify import verify
from lazygraph.writing.edit import set_splits

HERE = Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("golden_make", HERE / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)
described = make.described

# Version -> sha256 of its values, written here when the version became final. Neither may change.
FINAL = {"1.0": "dbe1771661ba4361a125652ea0a13671a727ffbed1eba86c88bd943385d2ff7d"}
VERSIONS = sorted(path.stem for path in HERE.glob("*.json"))
STORED = {
    (version, name): values
    for version in VERSIONS
    for name, values in json.loads((HERE / f"{version}.json").read_text()).items()
}
NATIVE = Path(lg.__file__).with_name("native") / "kernels.so"


def path_of(dataset):
    return HERE / "{}-{}.lg".format(*dataset)


def rows_of(store, arrays):
    """What the package finds, in the form of the stored values."""
    columns = lg.LazyGraphDataset(store.path).columns
    labels = {name: columns[name] for name in store.manifest.all_labels()}
    return [
        {
            "id": store.graph_id(row),
            "labels": {name: described(str(v[row]) if v.dtype.kind == "U" else v[row]) for name, v in labels.items()},
            "fields": {name: described(value) for name, value in fields.items()},
        }
        for row, fields in enumerate(arrays)
    ]


@pytest.fixture(params=STORED, ids="-".join)
def golden(request):
    """A golden dataset, and what was stored of it."""
    return path_of(request.param), STORED[request.param]


def test_every_version_has_its_datasets():
    """A release that writes a new version adds them: see the history in docs/format.md."""
    now = ".".join(map(str, VERSION))
    assert VERSIONS[-1] == now
    history = (HERE.parents[1] / "docs" / "format.md").read_text().partition("## History")[2]
    for version in VERSIONS:
        assert {name for v, name in STORED if v == version} >= {"crystals", "angles", "alone", "ready_made"}
        assert f"- {version}:" in history


def test_the_values_of_final_versions_have_not_changed():
    """With the next test, this freezes the files of the datasets too, whose hashes are among the values."""
    found = {version: hashlib.sha256((HERE / f"{version}.json").read_bytes()).hexdigest() for version in VERSIONS}
    assert found == FINAL


def test_no_file_has_changed(golden):
    path, stored = golden
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    found = {file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert found == stored["files"]


def test_the_strangers_decoder_reads_what_it_read_then(golden):
    path, stored = golden
    assert json.loads(json.dumps(make.values_of(path))) == stored


def test_the_package_reads_it_graph_by_graph(golden):
    path, stored = golden
    store = Store(path)
    assert rows_of(store, (store.arrays(row) for row in range(len(store)))) == stored["rows"]
    assert {name: described(store.column(name)) for name in stored["columns"]} == stored["columns"]
    assert store.manifest.about == stored["about"]
    assert store.manifest.content_id == stored["content_id"]
    assert [store.row_of(row["id"]) for row in stored["rows"]] == list(range(len(store)))


def test_verify_finds_it_sound(golden):
    path, stored = golden
    result = verify(path)
    assert result.problems == ()
    assert result.files == len(stored["files"])


def data_of(graphs):
    """Graphs as type, shape and bits of everything in them."""
    return [
        {key: (str(v.dtype), tuple(v.shape), v.numpy().tobytes()) if torch.is_tensor(v) else v for key, v in g.items()}
        for g in (data.to_dict() for data in graphs)
    ]


def every_way(path):
    """The graphs of a dataset, one by one, in batches of two kinds, and by a loader."""
    target = list(lg.LazyGraphDataset(path).manifest.labels())
    ds = lg.LazyGraphDataset(path, target=target)
    order = np.arange(len(ds))[::-1]
    batched = ds.batch(order).to_data_list()[::-1]
    loaded = [data for batch in lg.loader(ds, 2, num_workers=0, threads=0) for data in batch.to_data_list()]
    return [data_of(graphs) for graphs in ((ds[i] for i in range(len(ds))), batched, loaded)]


def test_every_way_of_reading_gives_the_same_graphs(golden):
    path, stored = golden
    one, batched, loaded = every_way(path)
    assert one == batched == loaded
    ds = lg.LazyGraphDataset(path)
    for row, expected in enumerate(stored["rows"]):
        data = ds[row]
        assert data.id == expected["id"]
        fields = expected["fields"]
        if ds.spec is None:
            for name, value in fields.items():
                shown = getattr(data, name)
                if torch.is_tensor(shown):  # values of a graph have a row here
                    shown = shown.numpy().reshape(value["shape"])
                assert described(shown) == value, name
        else:
            edges = fields.get("edge_index", {"dtype": "<i8", "shape": [2, 0], "values": []})
            assert described(data.edge_index.numpy()) == edges
            assert data.x.reshape(-1).tolist() == fields["numbers"]["values"]
            lattice = [np.float32(float.fromhex(one)) for one in fields["lattice"]["hex"]]
            assert data.cell.reshape(-1).tolist() == lattice


WITHOUT = """
import json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import test_golden_datasets as here
from lazygraph.native import kernels
assert kernels() is None
out = {}
for dataset in here.STORED:
    path = here.path_of(dataset)
    store = here.Store(path)
    assert here.rows_of(store, map(store.arrays, range(len(store)))) == here.STORED[dataset]["rows"]
    assert here.verify(path).problems == ()
    out["-".join(dataset)] = repr(here.every_way(path))
print(json.dumps(out))
"""


@pytest.mark.slow
@pytest.mark.skipif(not NATIVE.exists(), reason="there are no compiled loops: the other tests read without them")
def test_the_compiled_loops_and_plain_python_read_the_same():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, HERE], env=os.environ | {"LAZYGRAPH_NATIVE": "0"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"-".join(dataset): repr(every_way(path_of(dataset))) for dataset in STORED}


def test_they_hold_every_type_and_every_way_to_store_it():
    found, dtypes, pairs, roles = set(), set(), set(), set()
    for dataset in STORED:
        store = Store(path_of(dataset))
        schema = store.manifest.schema
        dtypes |= {field.dtype for field in schema.fields}
        pairs |= {field.pair for field in schema.fields}
        roles |= set(store.manifest.columns)
        for row in range(len(store)):
            record = store.record(row)
            found |= {(code & 15, code >> 4 & 3, code >> 7) for code in record.codes}
    assert dtypes >= {"bool", "str", *(f"{sign}int{8 * n}" for sign in ("", "u") for n in (1, 2, 4, 8))}
    assert dtypes >= {"float16", "float32", "float64"}
    assert pairs >= {"swap", "negate"}
    assert {stored for stored, _, _ in found} == {code & 15 for code in LAYOUTS}
    assert {(transform, half) for _, transform, half in found} == {(0, 0), (0, 1), (1, 0), (2, 0)}
    assert roles >= {"split", "formula", "n_triplets"}
    assert len(Store(HERE / "1.0-crystals.lg").manifest.shards) > 1
    assert Store(HERE / "1.0-crystals.lg").manifest.quarantine is not None


def test_they_are_small():
    assert sum(file.stat().st_size for path in map(path_of, STORED) for file in path.rglob("*.*")) < 120_000


def test_what_is_there_is_not_written_again():
    before = {file: file.read_bytes() for file in HERE.rglob("*") if file.is_file()}
    done = subprocess.run([sys.executable, HERE / "make.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "never written again" in done.stderr
    assert {file: file.read_bytes() for file in before} == before


# ---- versions to come ----


@pytest.fixture
def other_version(golden, tmp_path):
    """A copy of a golden dataset whose manifest is changed, and what was stored of it."""
    path, stored = golden
    copy = tmp_path / "other.lg"
    shutil.copytree(path, copy)

    def change(version, **keys):
        body = json.loads((path / MANIFEST).read_text())
        del body["sha256"]
        prefix = canonical_json(body | {"version": version} | keys)[:-1]
        seal = hashlib.sha256(prefix).hexdigest().encode()
        (copy / MANIFEST).write_bytes(prefix + b',"sha256":"' + seal + b'"}\n')
        return copy, stored

    return change


def test_of_a_newer_minor_version_is_read_what_is_known(other_version, capsys):
    path, stored = other_version([1, 7], certificate={"by": "a later release"}, annex=[1, 2])
    store = Store(path)
    assert store.manifest.version == (1, 7)
    assert rows_of(store, map(store.arrays, range(len(store)))) == stored["rows"]
    assert verify(path).problems == ()
    one, batched, loaded = every_way(path)
    assert one == batched == loaded
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "1.7"


def test_a_newer_minor_version_is_not_changed(other_version):
    path, _ = other_version([1, 7], certificate={"by": "a later release"})
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(UnsupportedFormat, match=r"has format version 1\.7; this release writes 1\.0"):
        set_splits(path, (0.5, 0.25, 0.25))
    assert {file: file.read_bytes() for file in before} == before
    assert Manifest.load(path).version == (1, 7)


@pytest.mark.slow
@pytest.mark.parametrize("version", [[2, 0], [0, 9], [3, 14]], ids=str)
@pytest.mark.parametrize(
    "keys", [{}, {"shards": {"somewhere": "else"}, "layout": 3, "codec": None}], ids=["same", "new"]
)
def test_another_major_version_is_refused_whatever_else_it_holds(other_version, version, keys, capsys):
    path, _ = other_version(version, **keys)
    number = ".".join(map(str, version))
    says = f"{path / MANIFEST}: format version {number}; this release reads 1.x: install a newer lazygraph"
    for read in (lg.LazyGraphDataset, Store, verify):
        with pytest.raises(UnsupportedFormat) as caught:
            read(path)
        assert str(caught.value) == says
    for command in ("info", "verify", "stats", "gc"):
        assert main([command, str(path)]) == 2
        captured = capsys.readouterr()
        assert captured.err == f"lazygraph: error: {says}\n"
        assert captured.out == ""
