"""XDATCAR as pymatgen, ASE and VASP write it: every frame, fixed cells and changing ones, every way to be wrong."""

from __future__ import annotations

import gzip
import warnings

import ase.io
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.core.trajectory import Trajectory
from pymatgen.io.vasp import Xdatcar

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import Cut
from lazygraph.sources.detect import open_sources
from lazygraph.sources.poscar import parse_poscar
from lazygraph.sources.xdatcar import XdatcarSource, sniff

HEADER = "rock salt\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\n"
FRAME = "Direct configuration=     1\n0 0 0\n0.5 0.5 0.5\n"


def structures(count, *, fixed):
    return [
        Structure(
            Lattice.cubic(4 if fixed else 4 + 0.1 * n), ["Na", "Cl", "O"], [[0, 0, 0.01 * n], [0.5] * 3, [0.3] * 3]
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("fixed", [True, False])
def test_what_pymatgen_writes_is_what_pymatgen_reads(fixed, tmp_path, entries_of):
    path = tmp_path / "XDATCAR"
    Trajectory.from_structures(structures(5, fixed=fixed), constant_lattice=fixed).write_Xdatcar(path)
    scan, entries = entries_of(path)
    assert scan.entries == 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = Xdatcar(path).structures
    assert [entry.id for entry in entries] == [f"{tmp_path.name}-{n:07d}" for n in range(5)]
    for entry, frame in zip(entries, frames, strict=True):
        assert np.array_equal(entry.crystal.lattice, frame.lattice.matrix)
        assert np.array_equal(entry.crystal.frac_coords, frame.frac_coords)
        assert entry.crystal.numbers.tolist() == list(frame.atomic_numbers)


def test_what_ase_writes_is_read(tmp_path, entries_of):
    frames = [
        Atoms("NaClNa", [[0, 0, 0], [2, 2, 2], [1, 1, 1 + n / 8]], cell=[4, 4, 4 + n], pbc=True) for n in range(3)
    ]
    ase.io.write(tmp_path / "run.xdatcar", frames, format="vasp-xdatcar")
    _, entries = entries_of(tmp_path / "run.xdatcar")
    for entry, frame in zip(entries, frames, strict=True):
        assert np.allclose(entry.crystal.cart_coords, frame.positions, atol=1e-6)
        assert np.allclose(entry.crystal.lattice, frame.cell[:], atol=1e-6)
        assert entry.crystal.numbers.tolist() == frame.numbers.tolist()


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), min_size=1, max_size=6), st.integers(1, 40), st.booleans())
def test_each_frame_has_the_cell_before_it_wherever_the_file_is_cut(tmp_path_factory, frames, every, carriage):
    """Cells with other numbers of atoms in one file, as when runs were joined."""
    folder = tmp_path_factory.mktemp("xdatcar")
    text, expected = "", []
    count = length = 0
    for number, (new, atoms) in enumerate(frames):
        if new or not text:
            count, length = atoms, 4 + number
            text += f"c\n1.0\n{length} 0 0\n0 4 0\n0 0 4\nNa\n{count}\n"
        text += f"Direct configuration= {number + 1:5d}\n" + f"0 0 0.{number}\n" * count
        expected.append((length, count, number / 10))
    (folder / "a.x").write_text(text.replace("\n", "\r\n") if carriage else text, newline="")
    source = XdatcarSource(str(folder / "a.x"))
    scan = source.scan(every, folder / "spool")
    entries = [
        entry
        for number, mark in enumerate(scan.marks)
        for entry in source.read(Cut(mark, number * every, min(every, scan.entries - number * every)), folder / "spool")
    ]
    found = [(e.crystal.lattice[0, 0], len(e.crystal), e.crystal.frac_coords[0, 2]) for e in entries]
    assert found == expected


def test_a_gzip_file_gives_the_same_entries(tmp_path, entries_of):
    (tmp_path / "run").write_text(HEADER + FRAME * 3)
    (tmp_path / "run.gz").write_bytes(gzip.compress((HEADER + FRAME * 3).encode()))
    plain, packed = entries_of(tmp_path / "run")[1], entries_of(tmp_path / "run.gz")[1]
    assert [(e.id, e.crystal) for e in plain] == [(e.id, e.crystal) for e in packed]


def test_a_last_frame_that_is_cut_off_is_a_bad_entry(tmp_path, entries_of):
    (tmp_path / "run").write_text(HEADER + FRAME * 2 + FRAME[:-12])
    _, entries = entries_of(tmp_path / "run")
    assert [isinstance(entry.crystal, UnreadableInput) for entry in entries] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FRAME * 2, "before any cell"),
        (HEADER.replace("Na Cl\n", "") + FRAME, "VASP 4"),
        (HEADER + FRAME + "0.1 0.2 0.3\n" + FRAME, "no cell before a frame"),
        (HEADER + FRAME + HEADER, "no frame follows the lines"),
        (HEADER + FRAME + "x\n" * 300, "no frame begins in 200 lines"),
    ],
)
def test_what_is_no_xdatcar_is_refused(text, message, tmp_path):
    (tmp_path / "run").write_text(text)
    with pytest.raises(UnreadableInput, match=message):
        XdatcarSource(str(tmp_path / "run")).scan(10, tmp_path / "spool")


def test_it_is_recognised_and_never_taken_for_one_structure(tmp_path):
    assert sniff((HEADER + FRAME).encode())
    assert not sniff((HEADER + FRAME.replace(" configuration=     1", "")).encode())
    for name in ("XDATCAR", "run.vasp", "POSCAR"):
        (tmp_path / name).write_text(HEADER + FRAME * 2)
        assert open_sources(tmp_path / name)[0].kind == "xdatcar"
    with pytest.raises(UnreadableInput, match="an XDATCAR, which holds the frames of a run; give it by itself"):
        parse_poscar(HEADER + FRAME * 2)
