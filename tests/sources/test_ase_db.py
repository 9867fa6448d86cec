"""ASE databases against ase.db itself, with gaps between ids, foreign files and rows that cannot be decoded."""

from __future__ import annotations

import hashlib
import os
import pickle
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError, UnreadableInput
from lazygraph.sources.ase_db import AseDbSource, sniff
from lazygraph.sources.base import Cut, Source
from tests.real import DATA, needs_whole

REAL = DATA / "extxyz" / "10_mp_traj_systems.ase.db"


def read_all(source, tmp_path, every=1000):
    scan = source.scan(every, tmp_path / "spool")
    entries = []
    for i, mark in enumerate(scan.marks):
        count = min(every, scan.entries - i * every)
        entries += pickle.loads(pickle.dumps(source)).read(Cut(mark, i * every, count), tmp_path / "spool")
    assert len(entries) == scan.entries
    return scan, entries


def same(a, b) -> bool:
    return (
        a.id == b.id
        and a.crystal == b.crystal
        and a.labels.keys() == b.labels.keys()
        and all(np.array_equal(a.labels[key], b.labels[key]) for key in a.labels)
    )


@pytest.fixture
def database(tmp_path):
    """Six rows with results, key-value pairs and data; the second and third were deleted."""
    path = tmp_path / "made.db"
    with connect(path) as db:
        for i, element in enumerate(["Na", "K", "Rb", "Cs", "Li", "Fe"]):
            atoms = Atoms(element, [[0.5, 0, 0]], cell=[4 + i, 4, 4], pbc=(True, True, i != 4))
            if i != 3:
                atoms.calc = SinglePointCalculator(atoms, energy=-float(i), forces=np.full((1, 3), i / 10))
            data = {
                "dos": np.arange(4) + i,
                "gap": 100.0 + i,
                "note": "text",
                "nested": {"a": 1},
                "flags": [True, False],
            }
            db.write(atoms, mp_id=f"mp-{i}", gap=i / 2, converged=True, data=data)
    connect(path).delete([2, 3])
    return path


@needs_whole
def test_every_row_is_what_ase_reads(tmp_path):
    source = AseDbSource(str(REAL))
    scan, entries = read_all(source, tmp_path)
    assert isinstance(source, Source)
    assert source.name == "10_mp_traj_systems"
    assert scan.files == ((REAL.name, REAL.stat().st_size, hashlib.sha256(REAL.read_bytes()).hexdigest()),)
    rows = list(connect(REAL).select())
    assert len(rows) == len(entries) == 11
    for row, entry in zip(rows, entries, strict=True):
        atoms = row.toatoms()
        assert entry.id == str(row.id)
        assert np.array_equal(entry.crystal.lattice, atoms.cell[:])
        assert np.abs(entry.crystal.cart_coords - atoms.positions).max() < 1e-9
        assert entry.crystal.numbers.tolist() == atoms.numbers.tolist()
        assert entry.labels["energy"] == atoms.get_potential_energy()
        assert np.array_equal(entry.atom_labels["forces"], atoms.get_forces())
        assert np.array_equal(entry.labels["stress"], atoms.get_stress())
        assert entry.labels["energy_per_atom"] == row.data["energy_per_atom"]
        beside = entry.labels.keys() - {"energy", "magmom", "stress"}
        assert beside == {*row.data, *row.key_value_pairs} - {"energy", "stress"}
        assert ("magmoms" in entry.atom_labels) == ("magmoms" in row)


@needs_whole
@pytest.mark.parametrize("every", [1, 2, 3, 10, 11, 50])
def test_cuts_of_any_size_give_the_same_entries(every, tmp_path):
    source = AseDbSource(str(REAL), "uid")
    _, whole = read_all(source, tmp_path)
    scan, cut = read_all(source, tmp_path, every)
    assert len(scan.marks) == -(-11 // every)
    assert all(map(same, whole, cut))
    assert whole[0].id == "mp-1393488-0-0"


@needs_whole
def test_a_database_that_may_only_be_read_is_read(tmp_path):
    path = tmp_path / "read-only.db"
    path.write_bytes(REAL.read_bytes())
    path.chmod(0o444)
    before = hashlib.sha256(path.read_bytes()).digest()
    _, entries = read_all(AseDbSource(str(path)), tmp_path)
    assert len(entries) == 11
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["read-only.db"]


@pytest.mark.parametrize("every", [1, 2, 3, 4])
def test_deleted_rows_leave_gaps_that_cuts_step_over(database, tmp_path, every):
    scan, entries = read_all(AseDbSource(str(database)), tmp_path, every)
    assert scan.marks == (1, 4, 5, 6)[::every]
    assert [entry.id for entry in entries] == ["1", "4", "5", "6"]
    assert [entry.crystal.formula for entry in entries] == ["Na", "Cs", "Li", "Fe"]


def test_labels_are_all_there_is_and_a_result_counts_before_a_pair_before_data(database, tmp_path):
    _, entries = read_all(AseDbSource(str(database)), tmp_path)
    assert entries[0].labels.keys() == {"energy", "gap", "dos", "note", "nested", "flags", "mp_id", "converged"}
    assert entries[0].atom_labels.keys() == {"forces"}
    assert entries[0].labels["gap"] == 0.0
    assert entries[3].labels["gap"] == 2.5
    assert entries[3].labels["dos"].tolist() == [5, 6, 7, 8]
    assert "energy" not in entries[1].labels
    assert entries[2].crystal.pbc == (True, True, False)


def test_the_id_key_is_a_pair_or_an_entry_of_the_data(database, tmp_path):
    _, by_pair = read_all(AseDbSource(str(database), "mp_id"), tmp_path)
    assert [entry.id for entry in by_pair] == ["mp-0", "mp-3", "mp-4", "mp-5"]
    _, by_data = read_all(AseDbSource(str(database), "note"), tmp_path)
    assert [entry.id for entry in by_data] == ["text"] * 4


def test_a_row_without_the_id_key_is_a_bad_entry(database, tmp_path):
    with connect(database) as db:
        db.write(Atoms("Au", cell=[4, 4, 4], pbc=True))
    _, entries = read_all(AseDbSource(str(database), "mp_id"), tmp_path)
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [True] * 4 + [False]
    assert entries[4].id == "7"
    assert "there is no key mp_id" in str(entries[4].crystal)


def test_bad_rows_stand_in_their_place(database, tmp_path):
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE systems SET numbers = ? WHERE id = 4", (b"\0",))
        connection.execute("UPDATE systems SET cell = ? WHERE id = 5", (np.zeros(9).tobytes(),))
    _, entries = read_all(AseDbSource(str(database)), tmp_path)
    assert [entry.id for entry in entries] == ["1", "4", "5", "6"]
    assert isinstance(entries[1].crystal, UnreadableInput)
    assert isinstance(entries[2].crystal, StructureError)
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [True, False, False, True]


def test_what_is_no_ase_database_is_refused(tmp_path):
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as connection, connection:
        connection.execute("CREATE TABLE people (name TEXT)")
    junk = tmp_path / "junk.db"
    junk.write_bytes(b"SQLite format 3\0" + os.urandom(4000))
    (tmp_path / "text.db").write_text("hello")
    for path in (foreign, junk, tmp_path / "text.db", tmp_path / "missing.db"):
        with pytest.raises(UnreadableInput, match="cannot read .*required: an sqlite database written by ASE"):
            AseDbSource(str(path)).scan(1, tmp_path / "spool")
    assert not (tmp_path / "missing.db").exists()


def test_names_with_characters_that_mean_something_in_a_uri(database, tmp_path):
    odd = tmp_path / "50% new?#1.db"
    odd.write_bytes(database.read_bytes())
    _, entries = read_all(AseDbSource(str(odd)), tmp_path)
    assert len(entries) == 4


def test_sniff_asks_for_the_magic_of_sqlite(database):
    assert sniff(database.read_bytes()[:64])
    assert not sniff(b"SQLite format 4\0")
    assert not sniff(b"")
