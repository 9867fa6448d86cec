"""``lazygraph export``: each format is read back by the program that it belongs to, with the same ids and bits."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.coordinates import to_fractional
from lazygraph.errors import InputError, NotEnoughMemory, OutputExists, StorageError, UnknownId
from lazygraph.format.store import Store
from lazygraph.sharing import export as export_module
from lazygraph.sharing.exports import pyg_list
from lazygraph.sharing.exports.csv_table import _cell
from lazygraph.sharing.exports.extxyz import _key, _text
from lazygraph.sharing.exports.formats import EXPORT_FORMATS
from lazygraph.sharing.exports.positions import exact_positions
from lazygraph.sharing.progress import Lines
from lazygraph.sources.extxyz_comment import parse_comment

IDS = [
    "mp-149", "007", "T", "with space", 'quo"te\'s', "back\\slash", "comma,semi;tab\there", "=1+1", "Å-β 日本", "1e5",
    "nan", "_JSON [1]", " edges ", "line\nfeed", "carriage\rreturn", "[1, 2]", "{a}", "NA", "1 2 3", "T F",
]  # fmt: skip
SUFFIXES = (".xyz", ".db", ".aselmdb", ".csv", ".parquet", ".json", ".jsonl")
TEXTS = ["PBE", "r2SCAN", "", "12", "true", "a,b", 'say "no"', "\\n", "two\nlines", "=SUM(A1)"]


def inputs():
    """Crystals of every kind, with every kind of label. Some labels are missing."""
    rng = np.random.default_rng(7)
    for k, graph_id in enumerate(IDS):
        n = 1 + k % 4
        lattice = np.eye(3) * 4 + rng.normal(size=(3, 3)) / 7
        numbers = rng.integers(1, 90, n)
        if k % 3 == 0:  # as files have them, with eight decimals
            crystal = lg.Crystal.from_cartesian(lattice.round(8), (rng.normal(size=(n, 3)) * 3).round(8), numbers)
        else:
            crystal = lg.Crystal(lattice, rng.random((n, 3)), numbers, (True, True, k % 5 != 0))
        labels = {
            "energy": float(rng.normal() * 10.0 ** rng.integers(-20, 20)),
            "gap": None if k % 4 == 0 else 0.1 + 0.2 * k,
            "count": int(rng.integers(-(2**62), 2**62)),
            "metal": bool(k % 2),
            "level": TEXTS[k % len(TEXTS)],
            "note": f"{k}: {graph_id}",
            "dipole": rng.normal(size=3),
            "pair": [k, k + 1],
            "one": [k / 3],
            "elastic": None if k % 4 == 1 else rng.normal(size=(3, 3)),
            "stress": rng.normal(size=(3, 3)),
            "partial": [1.5, np.nan if k % 3 == 2 else 2.5],
            'log10(K "VRH") = x\\y': k / 7,
            "gap pbe": -0.0 if k == 3 else k / 11,
            "forces": rng.normal(size=(n, 3)),
            "magmoms": rng.normal(size=n),
            "born": rng.normal(size=(n, 3, 3)),
            "spin 32": rng.normal(size=n).astype(np.float32),
        }
        if k % 5 == 2:
            del labels["magmoms"]
        yield graph_id, crystal, labels


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "mp.lg"
    units = {"energy": "eV", "forces": "eV/A", "stress": "eV/A^3", "gap": "eV", "magmoms": "mu_B"}
    report = lg.write(
        list(inputs()), path, graph="cgcnn", workers=1, progress=False, units=units, about={"title": "Zoo"},
        per={"energy": "cell"},
    )  # fmt: skip
    assert report.written == len(IDS), report
    lg.set_splits(path, names={"train": IDS[:8], "test": IDS[8:15]})
    lg.set_splits(path, names={"a b": IDS[:3], "c,d": IDS[3:9]}, name="fold_0")
    return path


@pytest.fixture(scope="module")
def stored(source):
    """What the dataset holds: (crystal, labels, labels of atoms, splits) by id; what is missing is left out."""
    ds = lg.LazyGraphDataset(source)
    store, columns = Store(source), ds.columns
    out = {}
    for row, graph_id in enumerate(ds.ids.tolist()):
        labels = {name: columns[name][row] for name in ds.manifest.all_labels()}
        of_atoms = {f.name: store.arrays(row)[f.name] for f in ds.manifest.schema.fields if f.name in ATOMS}
        splits = {name: str(columns[name][row]) for name in ("split", "fold_0")}
        out[graph_id] = (ds.crystal(row), *(
            {name: value for name, value in part.items() if not missing(value)} for part in (labels, of_atoms, splits)
        ))  # fmt: skip
    assert len(out["mp-149"][1]) == 12 - 1 + 2
    return out


ATOMS = ("forces", "magmoms", "born", "spin 32")


def missing(value):
    if isinstance(value, (str, np.str_)):
        return not value
    return np.asarray(value).dtype.kind == "f" and bool(np.isnan(value).all())


def bits(value):
    array = np.asarray(value)
    if array.dtype.kind in "US":
        return str(value)
    if array.dtype.kind == "O":  # lists of JSON, in which what is missing is null
        array = np.array(value, dtype=np.float64)
    if array.dtype.kind == "f":
        array = array.astype(np.float64)
        return array.shape, np.where(np.isnan(array), 0x7FF8 << 48, array.view(np.uint64)).tolist()
    return array.dtype.kind.replace("u", "i"), array.shape, array.tolist()


def export(source, out, **options):
    return lg.export(source, out, progress=False, **({"workers": 1} | options))


# ---- readers: path -> (id, crystal, labels, labels of atoms) of every graph, by the program of the format ----


def crystal_of_atoms(atoms):
    return lg.Crystal.from_cartesian(atoms.cell[:], atoms.positions, atoms.numbers, tuple(atoms.pbc.tolist()))


def by_ase(path):
    from ase.io import iread

    for atoms in iread(path, index=":", format="extxyz"):
        info = dict(atoms.info)
        results = {} if atoms.calc is None else dict(atoms.calc.results)
        of_atoms = {name: array for name, array in atoms.arrays.items() if name not in ("numbers", "positions")}
        of_atoms |= {name: results.pop(name) for name in ("forces", "magmoms") if name in results}
        yield info.pop("material_id"), crystal_of_atoms(atoms), info | results, of_atoms


def by_ase_db(path, kind="db"):
    from ase.db import connect

    for row in connect(path, type=kind, use_lock_file=False).select():
        values = dict(row.data) | row.key_value_pairs
        atoms = row.toatoms()
        results = dict(atoms.calc.results)
        of_atoms = {name: values.pop(name) for name in ATOMS if name in values}
        of_atoms |= {name: results.pop(name) for name in ATOMS if name in results}
        yield values.pop("material_id"), crystal_of_atoms(atoms), values | results, of_atoms


def by_ase_db_backends(path):
    return by_ase_db(path, "aselmdb")


def by_pymatgen(path):
    from pymatgen.core import Structure

    text = Path(path).read_text()
    for entry in map(json.loads, text.splitlines()) if path.suffix == ".jsonl" else json.loads(text):
        structure = Structure.from_dict(entry.pop("structure"))
        yield entry.pop("material_id"), lg.Crystal.from_any(structure), entry, structure.site_properties


def by_pandas(path):
    import pandas as pd
    from pymatgen.core import Structure

    table = pd.read_csv(path, dtype=dict.fromkeys(("material_id", "level", "note", "split", "fold_0"), str),
                        keep_default_na=False, na_values={"gap": [""]}, float_precision="round_trip")  # fmt: skip
    for _, row in table.iterrows():
        values = row.to_dict()
        structure = Structure.from_str(values.pop("structure"), fmt="json")
        for name in ("dipole", "pair", "one", "elastic", "stress", "partial"):
            values[name] = json.loads(values[name] or "null")
        there = {name: value for name, value in values.items() if value is not None and not missing(value)}
        yield there.pop("material_id"), lg.Crystal.from_any(structure), there, structure.site_properties


def by_pyarrow(path):
    import pyarrow.parquet as pq

    for row in pq.read_table(path).to_pylist():
        there = {name: value for name, value in row.items() if value is not None}
        place = [there.pop(name) for name in ("cell", "scaled_positions", "numbers", "pbc")]
        there.pop("positions")
        of_atoms = {name: np.array(there.pop(name)) for name in ATOMS if name in there}
        yield there.pop("material_id"), lg.Crystal(*place[:3], tuple(place[3])), there, of_atoms


READERS = {
    ".xyz": by_ase, ".db": by_ase_db, ".aselmdb": by_ase_db_backends, ".csv": by_pandas, ".parquet": by_pyarrow,
    ".json": by_pymatgen, ".jsonl": by_pymatgen,
}  # fmt: skip
CARTESIAN = (".xyz", ".db", ".aselmdb")


def voigt(stress):
    return stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    return {suffix: export(source, folder / f"mp{suffix}") for suffix in SUFFIXES}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_program_of_the_format_reads_the_same_bits(suffix, exported, stored):
    report = exported[suffix]
    assert (report.graphs, report.size) == (len(IDS), report.path.stat().st_size)
    assert not [note for note in report.notes if "left out" in note]
    found = list(READERS[suffix](report.path))
    assert [graph_id for graph_id, *_ in found] == IDS == list(stored)
    inexact = 0
    for graph_id, crystal, labels, of_atoms in found:
        there, own, own_of_atoms, splits = stored[graph_id]
        assert crystal.pbc == there.pbc
        assert crystal.numbers.tolist() == there.numbers.tolist()
        assert bits(crystal.lattice) == bits(there.lattice)
        if bits(crystal.frac_coords) != bits(there.frac_coords):
            inexact += 1
            assert suffix in CARTESIAN
            np.testing.assert_allclose(crystal.frac_coords, there.frac_coords, rtol=0, atol=1e-15)
        expected = {**own, **splits}
        if suffix == ".xyz":
            expected["stress"] = voigt(expected["stress"])  # as ASE turns every stress that it reads
        assert set(labels) == set(expected)
        for name, value in expected.items():
            assert bits(labels[name]) == bits(value), (graph_id, name)
        assert {name for name, array in of_atoms.items() if any(one is not None for one in array)} == set(own_of_atoms)
        for name, value in own_of_atoms.items():
            flat = np.reshape(value, (len(value), -1)) if suffix == ".xyz" and name == "born" else value
            assert bits(of_atoms[name]) == bits(flat), (graph_id, name)
    told = [note for note in report.notes if "do not give back all bits" in note]
    assert bool(told) == bool(inexact)
    assert not inexact or told[0].startswith(f"{inexact} graphs")
    assert inexact < len(IDS) * 0.7  # those with eight decimals are exact


@pytest.mark.parametrize("suffix", [".xyz", ".csv", ".parquet", ".json", ".jsonl", ".db", ".aselmdb"])
def test_lazygraph_reads_its_own_files(suffix, exported, stored, tmp_path):
    options = {"id_key": "material_id"} if suffix in (".db", ".aselmdb") else {}
    report = lg.write(exported[suffix].path, tmp_path / "back.lg", graph="cgcnn", workers=1, progress=False, **options)
    assert report.written == len(IDS), report
    ds = lg.LazyGraphDataset(tmp_path / "back.lg")
    assert ds.ids.tolist() == IDS
    fields = Store(tmp_path / "back.lg")
    for row, (crystal, own, own_of_atoms, _) in enumerate(stored.values()):
        back = ds.crystal(row)
        if suffix not in CARTESIAN or exact_positions(crystal)[1] == 0:
            assert back == crystal
        for name in ("energy", "gap", "count", "metal", "note", "gap pbe"):
            value = ds.columns[name][row]
            assert missing(value) if name not in own else bits(value) == bits(own[name]), (name, row)
        if suffix != ".parquet" or "forces" in fields.manifest.schema.names:
            assert bits(fields.arrays(row)["forces"]) == bits(own_of_atoms["forces"])


def test_units_and_descriptions_are_kept_where_there_is_a_place(exported):
    import pyarrow.parquet as pq
    from ase.db import connect

    schema = pq.read_schema(exported[".parquet"].path)
    assert schema.field("energy").metadata == {b"unit": b"eV", b"per": b"cell"}
    kept = [json.loads(schema.metadata[b"lazygraph"])]
    kept += [
        connect(exported[s].path, type=t).metadata["lazygraph"] for s, t in ((".db", "db"), (".aselmdb", "aselmdb"))
    ]
    for said in kept:
        assert said["about"] == {"title": "Zoo"}
        assert said["labels"]["forces"] == {"unit": "eV/A"}
    for suffix in (".xyz", ".csv", ".json"):
        assert any(note.startswith("units (energy eV, ") for note in exported[suffix].notes)
    assert not [note for note in exported[".parquet"].notes if note.startswith("units")]


def test_a_list_of_data(source, stored, tmp_path):
    import torch_geometric.data
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    report = export(source, tmp_path / "mp.pt", workers=None)
    assert (report.format, report.graphs) == ("pyg", len(IDS))
    assert [note.split(" (")[0] for note in report.notes] == ["units"]
    safe = [torch_geometric.data.Data, DataEdgeAttr, DataTensorAttr, GlobalStorage]
    with torch.serialization.safe_globals(safe):
        graphs = torch.load(report.path, weights_only=True)
    ds = lg.LazyGraphDataset(source)
    for data, own in zip(graphs, ds, strict=True):
        _, labels, of_atoms, splits = stored[data.id]
        for name, value in own.to_dict().items():
            assert bits(data[name]) == bits(value) if torch.is_tensor(value) else data[name] == value
        for name, value in labels.items():
            found = data[name] if isinstance(value, str) else data[name][0].numpy()
            assert bits(found) == bits(value)
        assert {name: data[name] for name in splits} == splits
        assert data["split"] == splits.get("split", "")
        assert set(of_atoms) <= set(data.keys())
    assert torch.isnan(graphs[0]["gap"]).all()
    assert graphs[2]["level"] == ""


def test_the_view_and_a_part_of_an_open_dataset(source, tmp_path):
    ds = lg.LazyGraphDataset(source, view="cgcnn", target="energy", target_dtype="float64")
    export(ds[3:9:2], tmp_path / "part.pt")
    graphs = torch.load(tmp_path / "part.pt", weights_only=False)
    assert [g.id for g in graphs] == IDS[3:9:2]
    assert [float(g.y) for g in graphs] == ds.columns["energy"][3:9:2].tolist()
    assert set(ds[0].keys()) <= set(graphs[0].keys())
    report = export(ds.where("count > 0"), tmp_path / "part.jsonl", split="train")
    assert [json.loads(line)["material_id"] for line in report.path.read_text().splitlines()] == [
        one for one in IDS[:8] if ds.columns["count"][IDS.index(one)] > 0
    ]
    with pytest.raises(InputError, match="has a transform"):
        export(lg.LazyGraphDataset(source, transform=lambda data: data), tmp_path / "no.xyz")
    with pytest.raises(InputError, match="chosen more than once"):
        export(ds[[1, 1]], tmp_path / "no.xyz")


def test_conditions_ids_and_splits(source, tmp_path):
    report = export(source, tmp_path / "a.csv", ids=["T", "007"], where="metal")
    assert [row["material_id"] for row in csv.DictReader(report.path.open(newline=""))] == ["007"]
    assert export(source, tmp_path / "b.csv", split="test").graphs == 7
    assert export(source, tmp_path / "c.csv", where="fold_0 == 'c,d'").graphs == 6
    with pytest.raises(UnknownId):
        export(source, tmp_path / "d.csv", ids=["none"])
    with pytest.raises(InputError, match="unknown split 'val'; known: train, test"):
        export(source, tmp_path / "d.csv", split="val")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "b.csv", "c.csv"]


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".pt"])
def test_nothing_and_one_graph(suffix, source, tmp_path):
    none = export(source, tmp_path / f"none{suffix}", where="count > 0 and count < 0")
    assert none.graphs == 0
    one = export(source, tmp_path / f"one{suffix}", ids=["=1+1"])
    assert one.graphs == 1
    if suffix == ".pt":
        assert torch.load(none.path, weights_only=False) == []
        assert torch.load(one.path, weights_only=False)[0].id == "=1+1"
        return
    if suffix == ".csv":
        assert none.path.read_text().count("\n") == 1
    elif suffix != ".xyz":  # an empty file, which ASE refuses
        assert list(READERS[suffix](none.path)) == []
    assert [graph_id for graph_id, *_ in READERS[suffix](one.path)] == ["=1+1"]


@pytest.mark.slow
def test_worker_processes_give_the_same_bytes(tmp_path, monkeypatch):
    path = tmp_path / "p.lg"
    lg.write("prototypes:60?seed=2", path, graph="none", workers=1, progress=False)
    monkeypatch.setattr(export_module, "GRAPHS", 7)
    for suffix in (".xyz", ".parquet"):
        alone, two = (export(path, tmp_path / f"{n}{suffix}", workers=n) for n in (1, 2))
        assert alone.path.read_bytes() == two.path.read_bytes()
        assert (alone.graphs, alone.notes) == (two.graphs, two.notes)
    export(path, tmp_path / "2.aselmdb", workers=2)
    found = list(by_ase_db_backends_of_prototypes(tmp_path / "2.aselmdb"))
    assert found == lg.LazyGraphDataset(path).ids.tolist()


def by_ase_db_backends_of_prototypes(path):
    from ase.db import connect

    database = connect(path, type="aselmdb", readonly=True)
    assert database.count() == 60
    return (database._get_row_by_index(k).data["material_id"] for k in range(60))


def test_names_that_a_format_uses_itself_are_told(tmp_path):
    iron = lg.Crystal(np.eye(3) * 2.87, [[0, 0, 0], [0.5, 0.5, 0.5]], [26, 26])
    labels = {
        "material_id": "x", "Properties": 1.0, "uid": 2.0, "structure": 3.0, "virial": [1.0] * 6, "positions": 4.0,
        "stress": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "a:b": np.zeros((2, 3)), "tags": np.ones(2),
    }  # fmt: skip
    lg.write(
        [("a", iron, labels)], tmp_path / "a.lg", graph="none", workers=1, progress=False, units={"stress": "kbar"}
    )
    names = {}
    for suffix in SUFFIXES:
        report = export(tmp_path / "a.lg", tmp_path / f"a{suffix}")
        names[suffix] = [note.split("'")[1] for note in report.notes if "left out" in note]
        if suffix == ".xyz":
            assert (
                "the label 'stress' has the unit kbar; ASE takes it for a result of a calculator in eV/A^3"
                in report.notes
            )
            from ase.io import read

            assert read(report.path).calc.results["stress"].tolist() == labels["stress"]
    own = lg.LazyGraphDataset(tmp_path / "a.lg").manifest
    of_atoms = [name for name in ("a:b",) if name in own.schema.names]
    assert names[".xyz"] == ["material_id", "Properties", "uid", "virial", *of_atoms]
    assert names[".json"] == names[".csv"] == ["material_id", "structure"]
    assert names[".parquet"] == ["material_id", "positions"]
    assert names[".db"] == names[".aselmdb"] == ["material_id"]
    report = export(tmp_path / "a.lg", tmp_path / "b.csv", id_key="my_id")
    (row,) = csv.DictReader(report.path.open(newline=""))
    assert (row["my_id"], row["material_id"]) == ("a", "x")
    assert any("--id-key my_id" in note for note in report.notes)


def test_ready_made_graphs(tmp_path):
    from torch_geometric.data import Data

    with lg.GraphWriter(tmp_path / "g.lg") as writer:
        for k in range(3):
            graph = Data(x=torch.rand(2 + k, 4), edge_index=torch.tensor([[0, 1], [1, 0]]))
            writer.add(graph, id=f"g{k}", labels={"y1": k / 3})
    report = export(tmp_path / "g.lg", tmp_path / "g.pt")
    graphs = torch.load(report.path, weights_only=False)
    assert [(g.id, float(g["y1"]), g.x.shape) for g in graphs] == [(f"g{k}", k / 3, (2 + k, 4)) for k in range(3)]
    with pytest.raises(
        InputError, match=r"are ready-made, and the format extxyz needs crystals; export them to a \.pt"
    ):
        export(tmp_path / "g.lg", tmp_path / "g.xyz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.lg", "g.pt"]


def test_a_list_that_takes_too_much_memory_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setattr(pyg_list, "memory_limit", lambda: 300_000)
    with pytest.raises(NotEnoughMemory, match="20 graphs as a list take up to .* Export fewer graphs"):
        export(source, tmp_path / "mp.pt")
    assert list(tmp_path.iterdir()) == []


def test_wrong_requests(source, tmp_path):
    out = tmp_path / "x.xyz"
    for options, message in (
        ({"out": tmp_path / "x.lgg"}, r"no format is known for 'x\.lgg'; give a name that ends in \.xyz, "),
        ({"format": "extxy"}, "unknown export format 'extxy'; did you mean 'extxyz'?"),
        ({"workers": 0}, "found 0 workers"),
        ({"id_key": "my id"}, "the id key 'my id' cannot be used"),
        ({"out": ""}, "the output '' has no file name"),
    ):
        with pytest.raises(InputError, match=message):
            export(source, **({"out": out} | options))
    out.write_text("mine")
    with pytest.raises(OutputExists, match=r"x\.xyz exists; choose another name, or replace it with --overwrite"):
        export(source, out)
    with pytest.raises(OutputExists, match="is a folder"):
        export(source, source, format="csv", overwrite=True)
    assert out.read_text() == "mine"
    assert export(source, out, overwrite=True).size == out.stat().st_size
    link = tmp_path / "link.xyz"
    link.symlink_to(out)
    assert export(source, link, overwrite=True, ids=["T"]).path == out
    assert link.is_symlink()
    assert {p.name for p in tmp_path.iterdir()} == {"x.xyz", "link.xyz"}


def test_a_full_disk_leaves_nothing(source, tmp_path, monkeypatch):
    def full(self, path, contents, pieces):
        path.write_bytes(b"half")
        next(pieces)
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(EXPORT_FORMATS.get("csv"), "save", full)
    with pytest.raises(StorageError, match="no space left for .*x.csv"):
        export(source, tmp_path / "x.csv")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys, time
from lazygraph.sharing.exports.{module} import {name}
import lazygraph as lg
from lazygraph.sharing import export as module
module.GRAPHS = 4
before = {name}.encode
def encode(self, contents, graphs):
    if graphs[0].id != "mp-149":
        print("one piece is written", flush=True)
        time.sleep(60)
    return before(self, contents, graphs)
{name}.encode = encode
lg.export({source!r}, {out!r}, workers=1, progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "suffix"), [("extxyz", "ExtxyzFormat", ".xyz"), ("ase_db", "AseDbFormat", ".db")]
)
def test_a_killed_export_leaves_no_output(module, name, suffix, source, tmp_path):
    out = tmp_path / f"x{suffix}"
    code = KILLED.format(module=module, name=name, source=str(source), out=str(out))
    environment = os.environ | {"PYTHONPATH": str(Path(lg.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline().startswith(b"one piece")
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    process.stdout.close()
    assert not out.exists()
    assert export(source, out).graphs == len(IDS)


@pytest.mark.slow
def test_interrupted_from_the_keyboard(source, tmp_path):
    out = tmp_path / "x.xyz"
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + KILLED.format(
        module="extxyz", name="ExtxyzFormat", source=str(source), out=str(out)
    )
    environment = os.environ | {"PYTHONPATH": str(Path(lg.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout.readline().startswith(b"one piece")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_the_command(source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(source), "-o", "x.xyz", "--split", "train", "--no-progress"]) == 0
    out, error = capsys.readouterr()
    size = Path("x.xyz").stat().st_size
    assert out == f"8 graphs in x.xyz: extxyz, {size:,} bytes\n"
    assert "note: edges are not in the file, because the format holds crystals" in error
    assert main(["export", str(source), "-o", "x.xyz"]) == 2
    assert "x.xyz exists; choose another name" in capsys.readouterr().err
    assert main(["export", str(source), "-o", "x.data", "--format", "csv", "--ids", "T", "--id-key", "name"]) == 0
    assert Path("x.data").read_text().startswith("name,")


def test_progress_in_lines():
    said, now = io.StringIO(), [0.0]
    lines = Lines(10_000, "exporting", said, lambda: now[0], graphs=True)
    lines.add(100)
    now[0] = 61.0
    lines.add(900)
    assert said.getvalue() == "lazygraph: exporting: 1,000 of 10,000 graphs, 16 a second, 9 min left\n"


# ---- rules ----


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_text_survives_the_comment_of_extended_xyz(text):
    from ase.io.extxyz import key_val_str_to_dict

    line = f"a=1 t={_text(text)} z=2"
    assert "\n" not in line
    assert "\r" not in line
    for parse in (key_val_str_to_dict, parse_comment):
        assert parse(line) == {"a": 1, "t": text, "z": 2}


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Cn", "Co"]), min_size=1).filter(str.isprintable)
)
def test_any_name_survives_the_comment_of_extended_xyz(name):
    from ase.io.extxyz import key_val_str_to_dict

    for parse in (key_val_str_to_dict, parse_comment):
        if name.lower() not in ("uid", "lattice", "pbc", "properties") and name not in ("virial", "stress", "a", "z"):
            assert parse(f"a=1 {_key(name)}=1.5 z=2") == {"a": 1, name: 1.5, "z": 2}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=2))
def test_any_text_survives_a_cell(texts):
    line = ",".join(map(_cell, texts)) + "\n"
    assert list(csv.reader(io.StringIO(line, newline=""))) == [texts]


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 6, 8, 10]))
def test_coordinates_of_a_file_come_back(seed, decimals):
    rng = np.random.default_rng(seed)
    lattice = (np.eye(3) * rng.uniform(2, 30) + rng.normal(size=(3, 3)) / 3).round(decimals)
    positions = (rng.random((5, 3)) @ lattice).round(decimals)
    crystal = lg.Crystal.from_cartesian(lattice, positions, [3] * 5)
    found, error = exact_positions(crystal)
    assert error == 0
    assert (to_fractional(found, crystal.lattice) == crystal.frac_coords).all()
