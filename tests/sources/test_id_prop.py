"""The folders of CGCNN and ALIGNN: rows are the data set, in order, whatever their files are like."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import pytest

from lazygraph.crystal import Crystal
from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import Cut, Source, label_value
from lazygraph.sources.cif import parse_cif
from lazygraph.sources.id_prop import IdPropSource
from lazygraph.sources.poscar import parse_poscar
from tests.real import DATA, needs_whole

POSCAR = "c\n1.0\n4 0 0\n0 4 0\n0 0 4\n{}\n1\nDirect\n0 0 0\n"
CIF = """data_x
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
    spool = tmp_path / "spool"
    scan = source.scan(every, spool)
    entries = []
    for i, mark in enumerate(scan.marks):
        count = min(every, scan.entries - i * every)
        entries += pickle.loads(pickle.dumps(source)).read(Cut(mark, i * every, count), spool)
    assert len(entries) == scan.entries
    return scan, entries


@pytest.fixture
def make(tmp_path):
    """A folder with three CIFs, two POSCARs and the table that a test asks for."""

    def build(table: str) -> IdPropSource:
        place = tmp_path / "data"
        place.mkdir()
        for name, element in {"9": "Na", "10": "K", "x-1": "Cs"}.items():
            (place / f"{name}.cif").write_text(CIF.format(element))
        for name, element in {"POSCAR-1.vasp": "Fe", "POSCAR-2": "Cu"}.items():
            (place / name).write_text(POSCAR.format(element))
        (place / "atom_init.json").write_text('{"1": [0, 1]}')
        (place / "id_prop.csv").write_text(table, newline="")
        return IdPropSource(str(place))

    return build


@needs_whole
@pytest.mark.parametrize(("name", "count", "beside"), [("cgcnn", 10, 0), ("alignn", 50, 20)])
@pytest.mark.parametrize("every", [1, 3, 1000])
def test_the_folders_of_the_data(name, count, beside, every, tmp_path):
    folder = DATA / "folders" / name
    source = IdPropSource(str(folder))
    scan, entries = read_all(source, tmp_path, every)
    with (folder / "id_prop.csv").open() as file:
        rows = list(csv.reader(file))
    assert isinstance(source, Source)
    assert source.name == name
    assert scan.entries == len(rows) == count
    assert len(scan.files) == count + 1
    noted = [f"{beside} structure files that no row of id_prop.csv names"] if beside else []
    assert [note.split(":")[0] for note in scan.notes] == noted
    for row, entry in zip(rows, entries, strict=True):
        path = folder / (row[0] if name == "alignn" else row[0] + ".cif")
        parse = parse_poscar if name == "alignn" else parse_cif
        assert entry.id == row[0].removesuffix(".vasp")
        assert entry.crystal == parse(path.read_text())
        assert {key: label_value(value) for key, value in entry.labels.items()} == {"target": float(row[1])}


def test_rows_keep_their_order_and_cgcnn_ids_mean_cifs(make, tmp_path):
    scan, entries = read_all(make("x-1,1.5\n10,\n9,na\n"), tmp_path)
    assert [(entry.id, entry.crystal.formula) for entry in entries] == [("x-1", "Cs"), ("10", "K"), ("9", "Na")]
    assert [entry.labels for entry in entries] == [{"target": "1.5"}, {"target": ""}, {"target": "na"}]
    assert [file.name for file in scan.files] == ["id_prop.csv", "10.cif", "9.cif", "x-1.cif"]
    assert scan.notes == ("2 structure files that no row of id_prop.csv names: POSCAR-1.vasp, POSCAR-2",)


def test_file_names_mean_themselves(make, tmp_path):
    scan, entries = read_all(make("POSCAR-2,2\n9.cif,0\nPOSCAR-1.vasp,1\n10,3\n"), tmp_path)
    assert [(entry.id, entry.crystal.formula) for entry in entries] == [
        ("POSCAR-2", "Cu"),
        ("9", "Na"),
        ("POSCAR-1", "Fe"),
        ("10", "K"),
    ]
    assert scan.notes == ("1 structure files that no row of id_prop.csv names: x-1.cif",)


def test_several_values_are_numbered(make, tmp_path):
    _, entries = read_all(make("9,1,2,3\n10, 4 ,5,6\n"), tmp_path)
    assert entries[1].labels == {"target_0": "4", "target_1": "5", "target_2": "6"}


@pytest.mark.parametrize(
    "header", ["id,gap,bulk modulus\n", "\ufeffid,gap,bulk modulus\r\n", "\n\nid,gap,bulk modulus\n\n"]
)
def test_a_header_names_the_labels(make, tmp_path, header):
    scan, entries = read_all(make(header + "9,0.5,77\n10,1.5,na\n"), tmp_path)
    assert scan.entries == 2
    assert entries[1].labels == {"gap": "1.5", "bulk modulus": "na"}
    assert entries[0].id == "9"


def test_a_first_row_whose_value_is_missing_is_no_header(make, tmp_path):
    _, entries = read_all(make("9,na\n10,1\n"), tmp_path)
    assert [entry.id for entry in entries] == ["9", "10"]


def test_a_first_row_with_a_bad_value_is_a_row_if_its_file_is_there(make, tmp_path):
    """The label is wrong then, and must be seen, not taken for a header."""
    _, entries = read_all(make("9,seven\n10,1\n"), tmp_path)
    assert [entry.labels["target"] for entry in entries] == ["seven", "1"]


def test_bad_rows_stand_in_their_place(make, tmp_path):
    source = make("9,1.5,2\nmissing,1,2\n10,1\nbroken,3,4\nPOSCAR-9.vasp,1,1\nx-1,5,6,7\nPOSCAR-2,1,2\n")
    (Path(source.path) / "broken.cif").write_text("data_broken\n")
    _, entries = read_all(source, tmp_path, every=2)
    assert [entry.id for entry in entries] == ["9", "missing", "10", "broken", "POSCAR-9", "x-1", "POSCAR-2"]
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [True, False, False, False, False, False, True]
    assert all(isinstance(entry.crystal, UnreadableInput) for entry in entries[1:6])
    assert "id_prop.csv names missing.cif, which is not beside it" in str(entries[1].crystal)
    assert "id_prop.csv names POSCAR-9.vasp" in str(entries[4].crystal)
    assert "has 1 values; required: 2, for target_0, target_1" in str(entries[2].crystal)


def test_an_id_that_looks_like_a_poscar_but_has_a_cif(make, tmp_path):
    source = make("POSCAR-5,1\n")
    (Path(source.path) / "POSCAR-5.cif").write_text(CIF.format("Rb"))
    _, entries = read_all(source, tmp_path)
    assert (entries[0].id, entries[0].crystal.formula) == ("POSCAR-5", "Rb")


def test_many_files_beside_the_table_are_counted_and_few_are_named(make, tmp_path):
    scan, _ = read_all(make("9,1\n"), tmp_path)
    assert scan.notes == ("4 structure files that no row of id_prop.csv names: 10.cif, POSCAR-1.vasp, POSCAR-2, ...",)


def test_the_list_of_the_scan_is_what_is_read(make, tmp_path):
    source = make("9,1\n10,2\n")
    scan = source.scan(1, tmp_path / "spool")
    (Path(source.path) / "id_prop.csv").write_text("x-1,3\n")
    entries = list(source.read(Cut(scan.marks[1], 1, 1), tmp_path / "spool"))
    assert (entries[0].id, entries[0].labels) == ("10", {"target": "2"})


@pytest.mark.parametrize(
    ("table", "match"),
    [("", "has no rows"), ("\n\n", "has no rows"), ("id,gap\n", "has no rows")],
)
def test_a_table_without_rows_is_refused(make, tmp_path, table, match):
    with pytest.raises(UnreadableInput, match=match):
        make(table).scan(1, tmp_path / "spool")


def test_a_table_that_is_no_text_is_refused(make, tmp_path):
    source = make("9,1\n")
    (Path(source.path) / "id_prop.csv").write_bytes(b"9,\xff\xfe\x00\n")
    with pytest.raises(UnreadableInput, match="cannot read .*id_prop.csv.*required: a text table"):
        source.scan(1, tmp_path / "spool")


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(UnreadableInput, match="cannot read .*id_prop.csv"):
        IdPropSource(str(tmp_path)).scan(1, tmp_path / "spool")
