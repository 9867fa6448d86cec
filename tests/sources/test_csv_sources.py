"""CSV tables against pandas, csv and pymatgen; quotes, line endings, every kind of structure cell, every bad row."""

from __future__ import annotations

import csv
import gzip
import json
import math
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.sources import csv_cif, unpack
from lazygraph.sources.base import Cut, Source
from lazygraph.sources.cif import parse_cif
from lazygraph.sources.csv_cif import CsvSource
from lazygraph.sources.detect import source_from_json, source_to_json
from lazygraph.sources.unpack import read_head
from tests.real import DATA

TABLES = ("perov_5/val.csv", "perov_5/test.csv", "carbon_24/val.csv", "carbon_24/test.csv")

CIF = """data_CsCl
_cell_length_a 4.0
_cell_length_b 4.0
_cell_length_c 4.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_type_symbol
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Cs Cs1 0 0 0
Cl "Cl1" 0.5 0.5 0.5
"""
POSCAR = "CsCl\n1.0\n4 0 0\n0 4 0\n0 0 4\nCs Cl\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n"
ATOMS = json.dumps(
    {"lattice_mat": np.diag([4.0] * 3).tolist(), "coords": [[0, 0, 0], [0.5] * 3], "elements": ["Cs", "Cl"]}
)
PYMATGEN = Crystal.from_any(json.loads(ATOMS)).to_pymatgen().to_json()


def read_all(source: Source, spool: Path, every: int = 1000):
    """Scan, read every cut, and hold the source to its protocol."""
    assert isinstance(source, Source)
    scan = source.scan(every, spool)
    assert len(scan.marks) == math.ceil(scan.entries / every)
    entries = []
    for k, mark in enumerate(scan.marks):
        count = min(every, scan.entries - k * every)
        part = list(source.read(Cut(mark, k * every, count), spool))
        assert len(part) == count
        entries += part
    return entries


def written(folder: Path, table, ending: str = "\n", **how) -> str:
    path = folder / "set.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator=ending, **how).writerows(table)
    return str(path)


@pytest.mark.parametrize("relative", TABLES)
def test_cdvae_tables(tmp_path, relative):
    import pandas as pd

    frame = pd.read_csv(DATA / relative, dtype=str, keep_default_na=False)
    entries = read_all(CsvSource(str(DATA / relative)), tmp_path / "spool", 700)
    assert len(entries) == len(frame) > 0
    assert [e.id for e in entries] == frame["material_id"].tolist()
    labels = frame.drop(columns=["Unnamed: 0", "material_id", "cif"]).to_dict("records")
    assert [e.labels for e in entries] == labels
    assert all(e.crystal == parse_cif(cif) for e, cif in zip(entries[::50], frame["cif"][::50], strict=True))
    assert all(isinstance(e.crystal, Crystal) for e in entries)


@pytest.mark.parametrize("relative", TABLES)
def test_cdvae_structures_are_those_of_pymatgen(tmp_path, relative):
    from pymatgen.core import Structure

    entries = read_all(CsvSource(str(DATA / relative)), tmp_path / "spool")
    with (DATA / relative).open(newline="", encoding="utf-8") as file:
        texts = [row["cif"] for row in csv.DictReader(file)]
    count = len(texts)
    for index in [0, 1, count // 3, count // 2, count - 2, count - 1]:
        crystal, structure = entries[index].crystal, Structure.from_str(texts[index], fmt="cif")
        np.testing.assert_allclose(np.linalg.norm(crystal.lattice, axis=1), structure.lattice.abc, atol=1e-8)
        # pymatgen's reader puts the sites in another order.
        shift = crystal.frac_coords[:, None] - structure.frac_coords
        same = np.abs(shift - np.round(shift)).max(axis=2) < 1e-6
        assert same.sum(axis=0).tolist() == same.sum(axis=1).tolist() == [1] * len(structure)
        assert crystal.numbers.tolist() == np.array(structure.atomic_numbers)[same.argmax(axis=1)].tolist()


@pytest.mark.parametrize("packing", ["gz", "zip"])
def test_a_packed_table_gives_the_same_entries(tmp_path, packing):
    plain = DATA / "carbon_24/val.csv"
    path = tmp_path / f"val.csv.{packing}"
    if packing == "gz":
        path.write_bytes(gzip.compress(plain.read_bytes(), 1))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(plain, "val.csv")
    assert csv_cif.sniff(read_head(path))
    source = CsvSource(str(path))
    assert source.name == "val"
    assert read_all(source, tmp_path / "spool", 300) == read_all(CsvSource(str(plain)), tmp_path / "none", 2032)
    assert not (tmp_path / "none").exists()


HEADER = ["", "material_id", "cif", "formula", "y"]
ROWS = [
    ["0", "a", CIF, 'Cs"Cl', "1.5"],
    ["1", "5168", "", "x, y\nz", ""],
    ["2", "", CIF, "", "na"],
    ["3", "é😀", "data_broken\n_cell_length_a oops\n", "é", "2"],
    ["4", "last", CIF.replace("\n", "\r\n"), "", "3"],
]


def test_rows_good_and_bad_in_their_places(tmp_path):
    path = written(tmp_path, [HEADER, *ROWS])
    assert csv_cif.sniff(read_head(Path(path)))
    entries = read_all(CsvSource(path), tmp_path / "spool", 2)
    assert [e.id for e in entries] == ["a", "5168", "set-0000002", "é😀", "last"]
    assert [isinstance(e.crystal, InputError) for e in entries] == [False, True, False, True, False]
    assert entries[0].crystal == entries[2].crystal == entries[4].crystal == parse_cif(CIF)
    assert [e.labels for e in entries] == [{"formula": row[3], "y": row[4]} for row in ROWS]
    assert "there is no structure under 'cif'; the keys are ['material_id', 'cif', 'formula', 'y']" in str(
        entries[1].crystal
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    every=st.integers(1, 7),
    size=st.integers(3, 50),
    ending=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    end=st.sampled_from(["cut", "kept", "blank rows"]),
)
def test_cuts_pieces_and_line_endings_do_not_matter(tmp_path_factory, every, size, ending, quoting, mark, end):
    folder = tmp_path_factory.mktemp("csv")
    plain = read_all(CsvSource(written(folder, [HEADER, *ROWS])), folder / "spool")
    path = Path(written(folder, [HEADER, *ROWS], ending, quoting=quoting))
    raw = mark + path.read_bytes()
    path.write_bytes(raw.removesuffix(ending.encode()) if end == "cut" else raw + b"\r\n \n" * (end == "blank rows"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpack, "_CHUNK", size)
        found = read_all(CsvSource(str(path)), folder / "spool", every)
    assert [e._replace(crystal=str(e.crystal)) for e in found] == [e._replace(crystal=str(e.crystal)) for e in plain]


@pytest.mark.parametrize("text", [CIF, CIF.replace("\n", "\r\n"), POSCAR, POSCAR.replace("\n", "\\n"), ATOMS, PYMATGEN])
@pytest.mark.parametrize("column", ["cif", "structure", "my crystals", "cif.conv"])
def test_the_structure_column_is_told_by_its_content(tmp_path, text, column):
    path = written(tmp_path, [["jid", "note", column], ["J-1", "text", text]])
    assert csv_cif.sniff(read_head(Path(path)))
    (entry,) = read_all(CsvSource(path), tmp_path / "spool")
    assert (entry.id, entry.labels) == ("J-1", {"note": "text"})
    assert entry.crystal == Crystal.from_any(json.loads(ATOMS)) or np.allclose(entry.crystal.lattice, np.eye(3) * 4)
    assert entry.crystal.numbers.tolist() == [55, 17]
    np.testing.assert_allclose(entry.crystal.frac_coords, [[0] * 3, [0.5] * 3])


def test_python_written_dicts_are_bad_entries_that_say_why(tmp_path):
    """``DataFrame.to_csv`` writes a dict with single quotes, which is not JSON."""
    path = written(tmp_path, [["jid", "atoms"], ["J-1", str(json.loads(ATOMS))]])
    (entry,) = read_all(CsvSource(path), tmp_path / "spool")
    assert isinstance(entry.crystal, InputError)


def test_rows_with_other_numbers_of_cells_are_bad(tmp_path):
    path = written(tmp_path, [["id", "cif", "y"], ["1", CIF], ["2", CIF, "0.5"], ["3", CIF, "0.5", "0.7"]])
    entries = read_all(CsvSource(path, id_key="id"), tmp_path / "spool", 1)
    assert [e.id for e in entries] == ["set-0000000", "2", "set-0000002"]
    assert "found a row of 2 cells; required: 3" in str(entries[0].crystal)
    assert "found a row of 4 cells; required: 3" in str(entries[2].crystal)


def test_rows_that_are_no_csv_or_no_utf8_are_bad_alone(tmp_path):
    good = f'1,"{CIF.replace(chr(34), chr(34) * 2)}"\n'.encode()
    (tmp_path / "set.csv").write_bytes(b"y,cif\n" + good + b'"a"b,c\n' + b"\xff,c\n" + good)
    entries = read_all(CsvSource(str(tmp_path / "set.csv")), tmp_path / "spool")
    assert [isinstance(e.crystal, InputError) for e in entries] == [False, True, True, False]
    assert all("not a CSV row" in str(e.crystal) for e in entries[1:3])


def test_cells_longer_than_the_limit_of_the_csv_module(tmp_path):
    """The module refuses cells above 131,072 characters: a structure of some 2,500 sites."""
    limit = csv.field_size_limit()
    path = written(tmp_path, [["y", "cif"], ["1", CIF + "# " + "x" * 2 * limit], ["2", CIF]])
    assert csv_cif.sniff(read_head(Path(path)))
    entries = read_all(CsvSource(path), tmp_path / "spool")
    assert entries[0].crystal == entries[1].crystal == parse_cif(CIF)
    assert csv.field_size_limit() == limit


def test_the_index_columns_of_pandas_are_no_labels(tmp_path):
    path = written(tmp_path, [["", "Unnamed: 0", "Unnamed: 0.1", "cif", "y"], ["0", "0", "0", CIF, "1"]])
    (entry,) = read_all(CsvSource(path), tmp_path / "spool")
    assert entry.labels == {"y": "1"}


def test_the_id_key(tmp_path):
    path = written(tmp_path, [["material_id", "code", "cif"], ["m", "c", CIF], ["m", "", CIF]])
    entries = read_all(CsvSource(path, id_key="code"), tmp_path / "spool")
    assert (entries[0].id, entries[0].labels) == ("c", {"material_id": "m"})
    assert (entries[1].id, isinstance(entries[1].crystal, InputError)) == ("set-0000001", True)
    with pytest.raises(UnreadableInput, match=r"no key 'nope'; it has \['material_id', 'code', 'cif'\]"):
        CsvSource(path, id_key="nope").scan(10, tmp_path / "spool")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no header"),
        (",,\n1,2,3\n", "there is no header"),
        ("a,cif,a\n", r"the header has the columns \['a'\] more than once"),
        ('"a"b,c\n', "not a CSV header"),
        ('a,cif\n1,"data_\n', "ends inside a quoted cell of the row at byte 6"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(tmp_path, text, message):
    path = tmp_path / "set.csv"
    path.write_text(text)
    with pytest.raises(UnreadableInput, match=rf"set\.csv: .*{message}"):
        CsvSource(str(path)).scan(10, tmp_path / "spool")


def test_a_header_without_rows_has_no_entries(tmp_path):
    assert read_all(CsvSource(written(tmp_path, [["id", "cif"]])), tmp_path / "spool") == []


@pytest.mark.parametrize(
    "text", ["", "a,b\n", "a,b\n1,2\n", CIF, POSCAR, f"[{ATOMS}]", f"{ATOMS}\n{ATOMS}\n", PYMATGEN]
)
def test_texts_that_are_no_table_of_structures(text):
    assert not csv_cif.sniff(text.encode())


def test_a_source_travels_as_json_and_as_pickle():
    source = CsvSource("/somewhere/val.csv.gz", id_key="code")
    assert source_from_json(json.loads(json.dumps(source_to_json(source)))) == source
    assert pickle.loads(pickle.dumps(source)) == source
    assert (source.kind, source.name) == ("csv", "val")
