"""ASE trajectories against ASE: structures, results, info; damaged files; nothing is unpickled."""

from __future__ import annotations

import os
import pickle

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from hypothesis import given
from hypothesis import strategies as st

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.sources.base import Cut
from lazygraph.sources.trajectory import TrajectorySource


def frames(count=5):
    made = []
    for n in range(count):
        atoms = Atoms("NaCl", [[0, 0, 0], [2, 2, 2 + n / 8]], cell=[4, 5, 6 + n / 4], pbc=[1, 1, 0])
        atoms.info = {"step": n, "tag": "x", "name": f"f{n}"}
        atoms.set_array("charges_dft", np.array([0.5, -0.5]) * n)
        atoms.set_constraint(FixAtoms([0]))
        atoms.calc = SinglePointCalculator(
            atoms, energy=-n / 3, forces=np.full((2, 3), n / 7), stress=np.arange(6.0), magmoms=np.array([1.0, n])
        )
        made.append(atoms)
    return made


def test_every_frame_is_what_was_written(tmp_path, entries_of):
    ase.io.write(tmp_path / "run.traj", frames())
    scan, entries = entries_of(tmp_path / "run.traj")
    assert (scan.entries, scan.implied.units["energy"]) == (5, "eV")
    for n, (entry, atoms) in enumerate(zip(entries, frames(), strict=True)):
        assert entry.id == f"run-{n:07d}"
        assert entry.crystal == Crystal.from_any(atoms)
        assert entry.labels["energy"] == -n / 3
        assert entry.labels["step"] == n
        assert np.array_equal(entry.labels["stress"], np.arange(6.0))
        assert entry.atom_labels.keys() >= {"forces", "magmoms"}
        assert np.array_equal(entry.atom_labels["forces"], atoms.get_forces(apply_constraint=False))


def test_ids_come_from_the_info(tmp_path, entries_of):
    ase.io.write(tmp_path / "run.traj", frames())
    assert [entry.id for entry in entries_of(tmp_path / "run.traj", id_key="name")[1]] == [f"f{n}" for n in range(5)]
    _, entries = entries_of(tmp_path / "run.traj", id_key="nope")
    assert all("there is no key nope" in str(entry.crystal) for entry in entries)


@pytest.mark.slow
@given(st.data())
def test_damage_is_an_error_or_a_bad_entry(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("traj")
    ase.io.write(folder / "a.traj", frames(2))
    raw = bytearray((folder / "a.traj").read_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    for _ in range(data.draw(st.integers(1, 3))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.traj").write_bytes(raw)
    source = TrajectorySource(str(folder / "a.traj"))
    try:
        scan = source.scan(10, folder / "spool")
        entries = list(source.read(Cut(0, 0, min(scan.entries, 20)), folder / "spool"))
    except UnreadableInput:
        return
    assert all(isinstance(entry.crystal, (Crystal, InputError)) for entry in entries)


def test_an_array_that_says_to_be_larger_than_the_file_is_not_read(tmp_path, entries_of):
    ase.io.write(tmp_path / "a.traj", frames(1))
    raw = (tmp_path / "a.traj").read_bytes()
    assert raw.count(b'"ndarray": [[2, 3]') > 0
    (tmp_path / "a.traj").write_bytes(raw.replace(b'"ndarray": [[2, 3]', b'"ndarray":[[2,9e9]').replace(b"9e9", b"999"))
    _, (entry,) = entries_of(tmp_path / "a.traj")
    assert isinstance(entry.crystal, InputError)


def test_an_old_trajectory_which_is_a_pickle_is_not_loaded(tmp_path, entries_of):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "a.traj").write_bytes(b"PickleTrajectory" + pickle.dumps(Hostile()))
    with pytest.raises(UnreadableInput, match="is a pickle"):
        entries_of(tmp_path / "a.traj")
    assert not (tmp_path / "ran").exists()
