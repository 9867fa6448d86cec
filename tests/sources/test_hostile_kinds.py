"""Every kind of input as a stranger may make it: cut off, changed, named in bytes, one input as long as can be.

Of each kind there is a sound file of three inputs, ``first``, ``long`` and ``last`` where the kind has ids. All are
read as workers read them; none of them may raise anything but a refusal of the file.
"""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
import zlib

import ase.io
import lmdb
import numpy as np
import pyarrow as pa
import pytest
import torch
from ase import Atoms
from ase.db import connect
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from torch_geometric.data import Data, InMemoryDataset

import lazygraph as lg
from lazygraph.cli.main import main_write
from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.sources import aselmdb, base, extxyz, json_entries, structure_keys, trajectory, unpack, xdatcar
from lazygraph.sources import parquet as parquet_source
from lazygraph.sources.base import Cut, Remark
from lazygraph.sources.detect import open_sources, source_from_json, source_to_json
from lazygraph.sources.options import SourceOptions
from lazygraph.writing.remarks import KINDS, Remarks
from lazygraph.writing.worker import make_shard
from lazygraph.writing.write import finish, plan

NAMES = ("first", "long", "last")
TRUSTED = SourceOptions(trust_pickle=True)
POSCAR = "NaCl\n1.0\n5.64 0 0\n0 5.64 0\n0 0 5.64\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
ATOMS = {"lattice_mat": np.diag([5.0] * 3).tolist(), "coords": [[0, 0, 0]], "elements": ["Na"], "cartesian": False}
ROW = {"numbers": [11], "positions": [[0, 0, 0]], "cell": np.diag([5.0] * 3).tolist(), "pbc": [True] * 3}
ATTRIBUTES = {
    "lattice_vectors": np.diag([5.0] * 3).tolist(),
    "cartesian_site_positions": [[0.0, 0.0, 0.0]],
    "species_at_sites": ["Na"],
}


def notes(text):
    """The note beside each structure; one may be any text."""
    return [(name, text if name == "long" else name) for name in NAMES]


def dumped(value):
    return lambda path, text: path.write_text(json.dumps(value(text)))


def table(path, text):
    cells = [(name, POSCAR, note) for name, note in notes(text)]
    path.write_text("id\tposcar\tnote\n" + "".join('{}\t"{}"\t"{}"\n'.format(*row) for row in cells))


def run(path, text):
    frames = [f"Direct configuration= 1\n0 0 0\n0.5 0.5 0.5 {note}\n" for _, note in notes(text.replace("\\n", "\\ "))]
    path.write_text(POSCAR.partition("Direct")[0] + "".join(frames))


def trajectory_of_ase(path, text):
    frames = [Atoms("Na", cell=[5, 5, 5], pbc=True, info={"id": name, "note": note}) for name, note in notes(text)]
    ase.io.write(path, frames, format="traj")


def frames_of_ase(path, text):
    frames = [f'1\nLattice="5 0 0 0 5 0 0 0 5" id={name} note="{note}"\nNa 0 0 0\n' for name, note in notes(text)]
    path.write_text("".join(frames))


def sqlite_of_ase(path, text):
    with connect(path, type="db") as database:
        for name, note in notes(text):
            database.write(Atoms("Na", cell=[5, 5, 5], pbc=True), data={"id": name, "note": note})


def lmdb_of_ase(path, text):
    with lmdb.open(str(path), subdir=False, map_size=1 << 26) as env, env.begin(write=True) as txn:
        for number, (name, note) in enumerate(notes(text), start=1):
            row = zlib.compress(json.dumps(ROW | {"data": {"id": name, "note": note}}).encode())
            txn.put(str(number).encode(), row)
        txn.put(b"nextid", zlib.compress(b"4"))
    path.with_name(path.name + "-lock").unlink()


def columns(path, text):
    rows = [ATTRIBUTES | {"id": name, "note": note} for name, note in notes(text)]
    parquet.write_table(pa.Table.from_pylist(rows), path)


def pickled(path, text):
    path.write_bytes(pickle.dumps([{"id": name, "atoms": ATOMS, "note": note} for name, note in notes(text)]))


MAKERS = {
    "ase-db": sqlite_of_ase,
    "ase-json": dumped(
        lambda text: (
            {
                str(n): ROW | {"unique_id": name, "data": {"id": name, "note": note}}
                for n, (name, note) in enumerate(notes(text), start=1)
            }
            | {"ids": [1, 2, 3], "nextid": 4}
        )
    ),
    "ase-traj": trajectory_of_ase,
    "aselmdb": lmdb_of_ase,
    "csv": table,
    "extxyz": frames_of_ase,
    "jarvis": dumped(lambda text: [{"id": name, "atoms": ATOMS, "note": note} for name, note in notes(text)]),
    "optimade": dumped(
        lambda text: {
            "data": [
                {"type": "structures", "id": name, "attributes": ATTRIBUTES | {"_x_note": note}}
                for name, note in notes(text)
            ],
            "meta": {},
        }
    ),
    "pandas": dumped(
        lambda text: {
            "id": {str(n): name for n, name in enumerate(NAMES)},
            "structure": {str(n): ATOMS for n in range(3)},
            "note": {str(n): note for n, (_, note) in enumerate(notes(text))},
        }
    ),
    "parquet": columns,
    "pymatgen": dumped(lambda text: {"run": {name: {"structure": ATOMS, "note": note} for name, note in notes(text)}}),
    "pickle": pickled,
    "xdatcar": run,
}
NAMED_BY_PLACE = {"xdatcar"}
WHERE = {"ase-db": "id", "ase-json": "id", "ase-traj": "id", "aselmdb": "id", "extxyz": "id"}


def read(kind, path, spool, every=2):
    """All entries, as workers read them."""
    (source,) = open_sources(path, format=kind, options=TRUSTED, id_key=WHERE.get(kind))
    scan = source.scan(every, spool)
    copy = source_from_json(json.loads(json.dumps(source_to_json(source))))
    cuts = [Cut(mark, n * every, min(every, scan.entries - n * every)) for n, mark in enumerate(scan.marks)]
    return [entry for cut in cuts for entry in copy.read(cut, spool)]


def is_one(entry):
    return isinstance(entry.crystal, (Crystal, InputError)) and isinstance(entry.id, str)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_sound_file_is_read_and_told_by_its_content(kind, tmp_path):
    MAKERS[kind](tmp_path / "some", "long")
    (source,) = open_sources(tmp_path / "some", options=TRUSTED)
    assert source.kind == kind
    entries = read(kind, tmp_path / "some", tmp_path / "spool")
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [True] * 3
    if kind not in NAMED_BY_PLACE:
        assert [entry.id.removeprefix("run-") for entry in entries] == list(NAMES)


# ---- texts of any length ----


@pytest.fixture
def small(monkeypatch):
    """Let one input have no more than 4,000 bytes, and files come in pieces of 700."""
    modules = (aselmdb, base, extxyz, json_entries, parquet_source, structure_keys, trajectory, unpack, xdatcar)
    for module in modules:
        monkeypatch.setattr(module, "MAX_TEXT", 4000)
    monkeypatch.setattr(unpack, "_CHUNK", 700)
    monkeypatch.setattr(extxyz, "PIECE", 300)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", sorted(MAKERS.keys() - {"ase-db", "pickle"}))  # held by sqlite, and by who trusts it
@pytest.mark.parametrize("text", ["x" * 9000, " " * 9000 + "x", "\\n" * 4500], ids=["letters", "blanks", "line feeds"])
def test_an_input_that_is_too_long_is_a_bad_one_and_its_neighbours_are_read(kind, text, tmp_path):
    MAKERS[kind](tmp_path / "some", text)
    first, long, last = read(kind, tmp_path / "some", tmp_path / "spool")
    assert "more than 4,000 bytes" in str(long.crystal)
    assert isinstance(first.crystal, Crystal)
    assert isinstance(last.crystal, Crystal)


# ---- names that are no text ----


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_whose_name_is_not_utf8_is_read(kind, tmp_path):
    MAKERS[kind](tmp_path / "some", "long")
    place = os.fsdecode(os.fsencode(tmp_path) + b"/\xc5ngstrom")
    os.rename(tmp_path / "some", place)
    options = ["--trust-pickle"] if kind == "pickle" else []
    path = tmp_path / "x.lg"
    assert main_write([place, "-o", str(path), "--graph", "cgcnn", "--workers", "1", *options]) == 0
    ds = lg.LazyGraphDataset(path)
    assert len(ds) == 3
    assert all(name.isascii() for name in ds.ids.tolist())
    assert ds.manifest.provenance.sources[0].files[0]["name"] == "\\udcc5ngstrom"


# ---- files that were cut off or changed ----


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Kind -> the bytes of a sound file."""
    folder = tmp_path_factory.mktemp("sound")
    for kind, make in MAKERS.items():
        make(folder / kind, "a note")
    return {kind: (folder / kind).read_bytes() for kind in MAKERS}


@pytest.mark.slow
@settings(max_examples=400)
@given(data=st.data(), kind=st.sampled_from(sorted(MAKERS.keys() - {"pickle", "ase-db"})))
def test_damage_is_a_refusal_or_a_bad_entry(sound, tmp_path_factory, data, kind):
    folder = tmp_path_factory.mktemp("damage")
    raw = bytearray(sound[kind])
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (folder / "some").write_bytes(raw[: data.draw(st.integers(0, len(raw)) | st.just(len(raw)))])
    try:
        entries = read(kind, folder / "some", folder / "spool")
    except UnreadableInput:
        return
    assert all(map(is_one, entries))


@pytest.mark.parametrize("kind", MAKERS)
def test_half_a_file_is_refused_in_one_line_or_its_bad_inputs_are_listed(sound, kind, tmp_path, capsys):
    (tmp_path / "some").write_bytes(sound[kind][: len(sound[kind]) // 2])
    options = ["--trust-pickle"] if kind == "pickle" else []
    code = main_write([str(tmp_path / "some"), "-o", str(tmp_path / "x.lg"), "--graph", "cgcnn", *options])
    out, err = capsys.readouterr()
    assert code == 2 or "inputs could not become graphs" in out
    assert "Traceback" not in err


# ---- one bad value ----


def test_a_value_that_python_cannot_hold_is_the_concern_of_its_row(tmp_path):
    """A date beyond the year 9999: pyarrow gives none of the column then."""
    times = pa.array([0, 2**62, 0], pa.int64()).cast(pa.timestamp("us"))
    rows = pa.Table.from_pylist([ATTRIBUTES | {"id": name} for name in NAMES])
    parquet.write_table(rows.append_column("when", times), tmp_path / "a.parquet")
    first, long, last = read("parquet", tmp_path / "a.parquet", tmp_path / "spool")
    assert isinstance(long.crystal, InputError)
    assert all(isinstance(entry.crystal, Crystal) for entry in (first, last))


def test_of_a_damaged_row_group_every_row_says_so_and_the_others_are_read(tmp_path):
    rows = [ATTRIBUTES | {"id": f"m{n:03d}", "note": os.urandom(50).hex()} for n in range(90)]
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=30, compression="gzip", use_dictionary=False)
    column = parquet.ParquetFile(path).metadata.row_group(1).column(4)
    raw = bytearray(path.read_bytes())
    begin = column.data_page_offset + 200
    raw[begin : begin + 400] = bytes(400)
    path.write_bytes(raw)
    entries = read("parquet", path, tmp_path / "spool", every=7)
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [True] * 30 + [False] * 30 + [True] * 30
    assert all("row group 1 is damaged" in str(entry.crystal) for entry in entries[30:60])


@pytest.mark.parametrize("cell", ["\\ud800", "\xff", '"', "[" * 3000, "1" * 6000])
def test_a_broken_cell_of_a_pandas_table_is_the_concern_of_its_row(cell, tmp_path):
    text = {
        "structure": {str(n): ATOMS for n in range(3)},
        "gap": {"0": 1.0, "1": "CELL", "2": 3.0},
    }
    raw = json.dumps(text).encode()
    broken = cell.encode("latin-1") if cell == '"' or cell[0] in "[1" else b'"' + cell.encode("latin-1") + b'"'
    if cell == '"':
        broken = b'"\\x"'
    elif cell[0] == "[":
        broken = cell.encode() + b"]" * len(cell)
    (tmp_path / "a.json").write_bytes(raw.replace(b'"CELL"', broken))
    first, middle, last = read("pandas", tmp_path / "a.json", tmp_path / "spool")
    assert is_one(middle)
    assert all(isinstance(entry.crystal, Crystal) for entry in (first, last))
    assert (first.labels["gap"], last.labels["gap"]) == (1.0, 3.0)


class Strange:
    """An object of a stranger's, whose attributes cannot be asked for."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(name)


def test_objects_that_answer_nothing_are_bad_entries(tmp_path):
    sound = {"structure": ATOMS, "id": "m0"}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([sound, Strange(), {"structure": Strange()}, sound | {"id": "m1"}]))
    entries = read("pickle", tmp_path / "a.pkl", tmp_path / "spool")
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [True, False, False, True]


def graph(**more):
    values = {"pos": torch.zeros(1, 3), "cell": torch.eye(3)[None] * 5, "atomic_numbers": torch.tensor([11])}
    return Data(**(values | {"edge_index": torch.zeros(2, 0, dtype=torch.int64), "num_nodes": 1} | more))


def test_a_graph_that_cannot_be_read_is_a_bad_entry(tmp_path):
    bad = graph(cell=torch.tensor([[torch.nan] * 3] * 3)[None])
    worse = graph()
    worse.pos = "nothing"
    torch.save([graph(), bad, worse, graph()], tmp_path / "a.pt")
    entries = read("pickle", tmp_path / "a.pt", tmp_path / "spool")
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [True, False, False, True]
    data, slices = InMemoryDataset.collate([graph(), graph()])
    slices["pos"] = torch.tensor([0, 1])  # one part less than the others have
    torch.save((data, slices), tmp_path / "b.pt")
    assert all(map(is_one, read("pickle", tmp_path / "b.pt", tmp_path / "spool2")))


# ---- what the report keeps, and what a plan leaves ----


def test_remarks_are_bounded_and_can_be_written():
    remarks = Remarks()
    for number in range(KINDS + 50):
        remarks.add(f"m{number}", [Remark(f"have a value under '\udcc5{number}'" + "x" * 10_000, "\udcc5" * 10_000)])
    assert len(remarks.found) == KINDS + 1
    assert sum(count for count, _ in remarks.found.values()) == KINDS + 50
    text = " ".join(remarks.notes())
    assert len(text.encode()) < 2**20


@pytest.mark.parametrize("kind", ["csv", "pandas", "xdatcar", "jarvis"])
def test_what_a_scan_found_out_goes_with_the_plan_and_is_gone_with_it(kind, tmp_path):
    MAKERS[kind](tmp_path / "some", "a note")
    path = tmp_path / "x.lg"
    made = plan(tmp_path / "some", path, graph="cgcnn", shard_size=2)
    for task in range(len(made.tasks)):
        make_shard(path, task)
    assert finish(path).written == 3
    assert sorted(one.name for one in tmp_path.iterdir()) == ["some", "x.lg"]


def test_a_row_of_sqlite_that_is_no_json_is_a_bad_entry(tmp_path):
    sqlite_of_ase(tmp_path / "a.db", "x")
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.execute("UPDATE systems SET data = x'ff00' WHERE id = 2")
    database.close()
    entries = read("ase-db", tmp_path / "a.db", tmp_path / "spool")
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [True, False, True]
