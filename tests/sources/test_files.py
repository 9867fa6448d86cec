"""Files, folders and patterns: which files there are, what they are called, and that bad ones stand in their place."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import shutil
from pathlib import Path

import pytest

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError, UnreadableInput
from lazygraph.sources import files
from lazygraph.sources.base import Cut, Entry, Source
from lazygraph.sources.cif import parse_cif
from lazygraph.sources.files import FilesSource, expand, is_structure_name, structure_id
from lazygraph.sources.poscar import parse_poscar
from tests.real import DATA, needs_whole

POSCAR = "c\n1.0\n4 0 0\n0 4 0\n0 0 4\n{}\n1\nDirect\n0 0 0\n"
CIF = """# by hand
data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_equiv_pos_as_xyz x,y,z
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
{} 0 0 0
"""


def read_all(source, tmp_path, every=1000):
    """All entries, read cut by cut as workers do, each from a pickled copy of the source."""
    spool = tmp_path / "spool"
    scan = source.scan(every, spool)
    entries = []
    for i, mark in enumerate(scan.marks):
        start = i * every
        cut = Cut(mark, start, min(every, scan.entries - start))
        got = list(pickle.loads(pickle.dumps(source)).read(cut, spool))
        assert len(got) == cut.count
        entries += got
    assert len(entries) == scan.entries
    return scan, entries


@pytest.fixture
def folder(tmp_path):
    """Five structures in three folders, and what is none."""
    place = tmp_path / "set"
    for name, text in {
        "b.cif": CIF.format("Na"),
        "a.vasp": POSCAR.format("Fe"),
        "deep/mp-1/POSCAR": POSCAR.format("Cu"),
        "deep/mp-2/CONTCAR": POSCAR.format("Ni"),
        "POSCAR-7.vasp": POSCAR.format("Al"),
        "README.md": "# notes",
        "OUTCAR": "energies",
    }.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return place


def test_a_folder_is_walked_in_order(folder, tmp_path):
    source = FilesSource((str(folder),))
    scan, entries = read_all(source, tmp_path)
    assert isinstance(source, Source)
    assert source.name == "set"
    assert [entry.id for entry in entries] == ["POSCAR-7", "a", "b", "mp-1", "mp-2"]
    assert [entry.crystal.formula for entry in entries] == ["Al", "Fe", "Na", "Cu", "Ni"]
    assert [file.name for file in scan.files] == ["POSCAR-7.vasp", "a.vasp", "b.cif", "POSCAR", "CONTCAR"]
    expected = hashlib.sha256((folder / "b.cif").read_bytes()).hexdigest()
    assert scan.files[2] == ("b.cif", (folder / "b.cif").stat().st_size, expected)
    assert all(entry.labels == {} and entry.split is None for entry in entries)


@pytest.mark.parametrize("every", [1, 2, 3, 5, 7])
def test_cuts_of_any_size_give_the_same_entries(folder, tmp_path, every):
    source = FilesSource((str(folder), str(folder / "*.cif")))
    _, whole = read_all(source, tmp_path)
    scan, cut = read_all(source, tmp_path, every)
    assert cut == whole
    assert len(scan.marks) == -(-scan.entries // every)


def test_paths_patterns_and_folders_keep_the_order_in_which_they_are_given(folder, tmp_path):
    paths = (str(folder / "b.cif"), str(folder / "deep"), str(folder / "[aP]*.vasp"), str(folder / "**" / "POSCAR"))
    _, entries = read_all(FilesSource(paths), tmp_path)
    assert [entry.id for entry in entries] == ["b", "mp-1", "mp-2", "POSCAR-7", "a", "mp-1"]


def test_workers_see_the_list_of_the_scan(folder, tmp_path):
    """A file that appears or disappears between scan and read must not shift the others."""
    source = FilesSource((str(folder),))
    spool = tmp_path / "spool"
    scan = source.scan(1, spool)
    (folder / "0-new.cif").write_text(CIF.format("K"))
    (folder / "a.vasp").unlink()
    entries = list(source.read(Cut(scan.marks[0], 0, 5), spool))
    assert [entry.id for entry in entries] == ["POSCAR-7", "a", "b", "mp-1", "mp-2"]
    assert isinstance(entries[1].crystal, UnreadableInput)
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [True, False, True, True, True]


def test_bad_files_stand_in_their_place(folder, tmp_path):
    (folder / "c.cif").write_text(CIF.format("Xx"))
    (folder / "d.cif").write_bytes(os.urandom(200))
    (folder / "e.vasp").write_text("")
    (folder / "f.cif").write_text(
        CIF.format("Na").replace("0 0 0\n", "0 0 0 0.5\n").replace("_z\n", "_z\n_atom_site_occupancy\n")
    )
    (folder / "g.cif.gz").write_bytes(gzip.compress(CIF.format("Na").encode())[:-9])
    (folder / "h.cif").write_text(CIF.format("Zn"))
    _, entries = read_all(FilesSource((str(folder),)), tmp_path, every=2)
    found = {entry.id: entry.crystal for entry in entries}
    assert list(found) == ["POSCAR-7", "a", "b", "c", "d", "mp-1", "mp-2", "e", "f", "g", "h"]
    assert all(isinstance(found[name], UnreadableInput) for name in "deg")
    assert all(isinstance(found[name], StructureError) for name in "cf")
    assert "the label 'Xx' names no element" in str(found["c"])
    assert "required: a CIF or a POSCAR" in str(found["e"])
    assert found["h"].formula == "Zn"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_an_entry_and_a_note(folder, tmp_path):
    (folder / "b.cif").chmod(0)
    scan, entries = read_all(FilesSource((str(folder),)), tmp_path)
    assert scan.notes == ("1 files cannot be read: b.cif",)
    assert len(scan.files) == 4
    assert isinstance(entries[2].crystal, UnreadableInput)


def test_a_file_that_goes_away_during_the_scan_is_left_out_of_the_hashes(folder):
    hashed, notes = files.hash_files([folder / "b.cif", folder / "gone.cif"])
    assert [file.name for file in hashed] == ["b.cif"]
    assert notes == ("1 files cannot be read: gone.cif",)


def test_beyond_a_thousand_files_one_digest_stands_for_all(folder):
    many = [folder / "b.cif"] * 1001
    (one,), notes = files.hash_files(many)
    assert notes == ()
    assert (one.name, one.size) == ("1001 structure files", 1001 * (folder / "b.cif").stat().st_size)
    (folder / "b.cif").write_text(CIF.format("K"))
    ((other,), _) = files.hash_files(many)
    assert other.sha256 != one.sha256


def test_a_packed_file_is_unpacked(folder, tmp_path):
    (folder / "z.cif.gz").write_bytes(gzip.compress(CIF.format("Zn").encode()))
    _, entries = read_all(FilesSource((str(folder / "z.cif.gz"),)), tmp_path)
    assert [(entry.id, entry.crystal.formula) for entry in entries] == [("z", "Zn")]


def test_a_byte_order_mark_is_no_part_of_the_text(folder, tmp_path):
    (folder / "z.cif").write_bytes(b"\xef\xbb\xbf" + CIF.format("Zn").encode())
    _, entries = read_all(FilesSource((str(folder / "z.cif"),)), tmp_path)
    assert entries[0].crystal.formula == "Zn"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("x/mp-1.5.cif", "mp-1.5"),
        ("x/POSCAR-JVASP-10.vasp", "POSCAR-JVASP-10"),
        ("x/POSCAR", "x"),
        ("x/CONTCAR.vasp", "x"),
        ("x/poscar.gz", "x"),
        ("x/POSCAR.mp-3", "POSCAR.mp-3"),
        ("x/POSCAR_relaxed", "POSCAR_relaxed"),
        ("x/1.cif.gz", "1"),
        ("x/any.txt", "any"),
    ],
)
def test_the_id_is_the_stem_or_the_folder(path, expected):
    assert structure_id(Path(path)) == expected


@pytest.mark.parametrize(
    "name", ["a.cif", "A.CIF", "a.vasp", "a.poscar", "POSCAR", "CONTCAR_1", "POSCAR-1.txt", "a.cif.gz"]
)
def test_names_of_structure_files(name):
    assert is_structure_name(Path(name))


@pytest.mark.parametrize("name", ["a.txt", "OUTCAR", "id_prop.csv", "a.json", "cif", "a.cif.zip"])
def test_names_of_other_files(name):
    assert not is_structure_name(Path(name))


def test_nothing_found_says_what_is_required(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    for path, match in [
        (tmp_path, "holds no CIF or POSCAR; it must hold files"),
        (tmp_path / "nope", "nothing is at .*nope; give a file, a folder, or a pattern"),
        (tmp_path / "*.cif", r"nothing is at .*\*.cif"),
    ]:
        with pytest.raises(UnreadableInput, match=match):
            FilesSource((str(path),)).scan(1, tmp_path / "spool")


def test_names_of_sources(folder):
    assert FilesSource((str(folder / "b.cif"),)).name == "b"
    assert FilesSource((str(folder / "deep/mp-1/POSCAR"),)).name == "mp-1"
    assert FilesSource((str(folder / "*.cif"),)).name == "set"
    assert FilesSource((str(folder / "d*" / "mp-?" / "POSCAR"),)).name == "set"
    assert FilesSource((str(folder / "b.cif"), str(folder / "a.vasp"))).name == "set"


@needs_whole
def test_the_files_of_the_data_folder(tmp_path):
    place = tmp_path / "both"
    for kind in ("cgcnn", "alignn"):
        shutil.copytree(DATA / "folders" / kind, place / kind)
    _, entries = read_all(FilesSource((str(place),)), tmp_path, every=7)
    paths = expand(str(place))
    assert len(entries) == len(paths) == 80
    for path, entry in zip(paths, entries, strict=True):
        parse = parse_cif if path.suffix == ".cif" else parse_poscar
        assert entry == Entry(path.stem, parse(path.read_text()), {})
