"""aselmdb as ase-db-backends writes it, against ASE; cut, damaged and hostile files; nothing is unpickled."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zlib

import lmdb
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.sources import aselmdb, base
from lazygraph.sources.aselmdb import AseLmdbSource
from lazygraph.sources.base import Cut
from lazygraph.sources.lmdb_pages import values

pytest.importorskip("ase_db_backends")


def structures(count=7):
    for n in range(count):
        atoms = Atoms("NaCl", [[0, 0, 0], [2, 2, 2 + n / 8]], cell=[4, 5, 6 + n / 4], pbc=[1, 1, 0])
        results = {"energy": -n / 3, "forces": np.full((2, 3), n / 7), "stress": np.arange(6.0)}
        atoms.calc = SinglePointCalculator(atoms, **results, magmoms=np.array([1.0, n]))
        yield atoms, {"gap": n / 2, "functional": "pbe", "ok": True}, {"sid": f"s{n}", "dos": np.arange(4)}


@pytest.fixture
def database(tmp_path):
    """Rows 1 to 7 without 3."""
    path = tmp_path / "set.aselmdb"
    with connect(path) as db:
        for atoms, pairs, data in structures():
            db.write(atoms, data=data, **pairs)
        db.metadata = {"title": "made"}
    connect(path).delete([3])
    return path


def test_every_row_is_what_was_written(database, entries_of):
    scan, entries = entries_of(database)
    assert (scan.entries, scan.notes, scan.implied.units["forces"]) == (6, (), "eV/A")
    assert [entry.id for entry in entries] == [f"set-{n}" for n in (1, 2, 4, 5, 6, 7)]
    written = [row for n, row in enumerate(structures(), start=1) if n != 3]
    for entry, (atoms, pairs, data) in zip(entries, written, strict=True):
        assert entry.crystal == Crystal.from_any(atoms)
        assert entry.labels.keys() == {"energy", "stress", *pairs, *data}
        assert entry.labels["energy"] == atoms.get_potential_energy()
        assert {name: entry.labels[name] for name in pairs} == pairs
        assert entry.labels["dos"].tolist() == [0, 1, 2, 3]
        assert entry.atom_labels.keys() == {"forces", "magmoms"}
        assert np.array_equal(entry.atom_labels["forces"], atoms.get_forces())


def test_it_is_what_the_sqlite_database_of_the_same_rows_gives(database, tmp_path, entries_of):
    with connect(tmp_path / "set.db") as db:
        for atoms, pairs, data in structures():
            db.write(atoms, data=data, **pairs)
    with connect(tmp_path / "set.json") as db:
        for atoms, pairs, data in structures():
            db.write(atoms, data=data, **pairs)
    mine, sqlite, text = (entries_of(path)[1] for path in (database, tmp_path / "set.db", tmp_path / "set.json"))
    del sqlite[2], text[2]
    for entry, other, third in zip(mine, sqlite, text, strict=True):
        assert other.id == third.id
        for one in (other, third):
            assert entry.crystal == one.crystal
            for a, b in ((entry.labels, one.labels), (entry.atom_labels, one.atom_labels)):
                assert {name: np.asarray(value).tolist() for name, value in a.items()} == {
                    name: np.asarray(value).tolist() for name, value in b.items()
                }


def test_ids_are_in_the_data_or_the_pairs(database, entries_of):
    assert [e.id for e in entries_of(database, id_key="sid")[1]] == [f"s{n}" for n in (0, 1, 3, 4, 5, 6)]


def test_rows_with_pages_of_their_own_and_many_of_them(tmp_path, entries_of):
    """Values beyond a page lie in overflow pages; 3,000 rows make a tree of several levels."""
    random = np.random.default_rng(0)
    with connect(tmp_path / "big.aselmdb") as db:
        for n in range(40):
            atoms = Atoms(
                "Na" * (1 + 400 * (n % 2)), random.random((1 + 400 * (n % 2), 3)) * 9, cell=[9, 9, 9], pbc=True
            )
            db.write(atoms)
    _, entries = entries_of(tmp_path / "big.aselmdb", every=7)
    assert [len(entry.crystal) for entry in entries] == [1, 401] * 20
    with lmdb.open(str(tmp_path / "tree"), subdir=False, map_size=1 << 26) as env, env.begin(write=True) as txn:
        expected = {str(n).encode(): os.urandom(n % 300) for n in range(3000)}
        for key, value in expected.items():
            txn.put(key, value)
    with open(tmp_path / "tree", "rb") as file:
        found = {
            v.key: os.pread(file.fileno(), v.length, v.offset)
            for v in values(file.fileno(), os.fstat(file.fileno()).st_size)
        }
    assert found == expected


READ = """
import sys
from pathlib import Path
from lazygraph.errors import InputError
from lazygraph.sources.aselmdb import AseLmdbSource
from lazygraph.sources.base import Cut
source, spool = AseLmdbSource(sys.argv[1]), Path(sys.argv[2])
size = Path(sys.argv[1]).stat().st_size
for cut in range(size - 1, 0, -4096):
    with open(sys.argv[1], "r+b") as file:
        file.truncate(cut)
    try:
        scan = source.scan(10, spool)
        list(source.read(Cut(0, 0, scan.entries), spool))
    except InputError as error:
        print(error)
"""


def test_a_file_that_was_cut_off_kills_no_process(database, tmp_path):
    """liblmdb maps the file, and dies of SIGBUS where it ends early."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(database), str(tmp_path / "spool")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "is cut short" in done.stdout


@pytest.mark.slow
@settings(max_examples=200)
@given(data=st.data())
def test_damage_is_an_error_or_a_bad_entry(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    with connect(folder / "a.aselmdb") as db:
        for atoms, pairs, more in structures(3):
            db.write(atoms, data=more, **pairs)
    raw = bytearray((folder / "a.aselmdb").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    (folder / "a.aselmdb").write_bytes(raw)
    source = AseLmdbSource(str(folder / "a.aselmdb"))
    try:
        scan = source.scan(10, folder / "spool")
    except UnreadableInput:
        return
    entries = list(source.read(Cut(0, 0, scan.entries), folder / "spool"))
    assert all(isinstance(entry.crystal, (Crystal, InputError)) for entry in entries)


def write_lmdb(path, rows):
    with lmdb.open(str(path), subdir=False, map_size=1 << 28) as env, env.begin(write=True) as txn:
        for key, value in rows.items():
            txn.put(str(key).encode(), value)


def row(**more):
    content = {"numbers": [11], "positions": [[0, 0, 0]], "cell": [[4, 0, 0], [0, 4, 0], [0, 0, 4]], "pbc": [True] * 3}
    return zlib.compress(json.dumps(content | more).encode())


def test_a_row_that_unpacks_beyond_the_bound_is_a_bad_entry(tmp_path, entries_of, monkeypatch):
    for module in (base, aselmdb):
        monkeypatch.setattr(module, "MAX_TEXT", 1 << 16)
    bomb = zlib.compress(b'"' + b"a" * (64 << 20) + b'"')
    write_lmdb(tmp_path / "a.aselmdb", {1: b"no zlib", 2: bomb, 3: row()[:-9], 4: row(), 5: row()})
    _, entries = entries_of(tmp_path / "a.aselmdb")
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [False, False, False, True, True]
    assert "more than 65,536 bytes" in str(entries[1].crystal)
    assert "breaks off" in str(entries[2].crystal)
    assert "not compressed by zlib" in str(entries[0].crystal)


def test_lmdb_files_of_pickles_are_refused_and_not_loaded(tmp_path, entries_of):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    write_lmdb(tmp_path / "a.lmdb", {n: pickle.dumps(Hostile()) for n in range(3)})
    with pytest.raises(UnreadableInput, match="are not rows of ASE"):
        entries_of(tmp_path / "a.lmdb")
    assert not (tmp_path / "ran").exists()


def test_bad_rows_stand_in_their_places_and_other_keys_are_counted(tmp_path, entries_of):
    rows = {1: row(), 2: row(numbers=[300]), 3: zlib.compress(b"[1]"), "length": b"3", "nextid": b"4"}
    write_lmdb(tmp_path / "a.aselmdb", rows)
    scan, entries = entries_of(tmp_path / "a.aselmdb")
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [True, False, False]
    assert scan.notes == ("1 values under keys that are no row numbers are not read",)


def test_an_empty_database_has_no_entries(tmp_path, entries_of):
    write_lmdb(tmp_path / "a.aselmdb", {})
    assert entries_of(tmp_path / "a.aselmdb")[0].entries == 0
