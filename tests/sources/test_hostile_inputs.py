"""Files that a stranger made: endless ones, pipes and devices, texts of any length, names and ids that are no text."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import sys
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph.cli.main import main_write
from lazygraph.crystal import Crystal
from lazygraph.errors import UnreadableInput
from lazygraph.format.manifest import Manifest
from lazygraph.sources import base, cif, extxyz, unpack
from lazygraph.sources.base import Cut
from lazygraph.sources.detect import FORMATS, open_sources
from lazygraph.sources.extxyz import _frames
from lazygraph.writing.quarantine import read_quarantine

POSCAR = "NaCl\n1.0\n5.64 0 0\n0 5.64 0\n0 0 5.64\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
ATOMS = {
    "lattice_mat": [[5, 0, 0], [0, 5, 0], [0, 0, 5]],
    "coords": [[0, 0, 0]],
    "elements": ["Na"],
    "cartesian": False,
}
CIF = """data_x
_cell_length_a 5
_cell_length_b 5
_cell_length_c 5
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
{}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na 0.1234 0 0
Cl1 Cl 0.5 0.5 0.5
"""
FRAME = '1\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3{}\nNa 0 0 0\n'


def entries(source, tmp_path):
    (source,) = open_sources(source)
    spool = tmp_path / "spool"
    scan = source.scan(512, spool)
    found = list(source.read(Cut(scan.marks[0], 0, scan.entries), spool))
    assert len(found) == scan.entries
    return found


def quarantine(path):
    return read_quarantine(path, Manifest.load(path))


# ---- pipes and devices ----


@pytest.fixture
def folder(tmp_path):
    """One sound structure, a pipe, a link to a device, a link that leads nowhere."""
    folder = tmp_path / "structures"
    folder.mkdir()
    (folder / "sound.vasp").write_text(POSCAR)
    os.mkfifo(folder / "pipe.cif")
    (folder / "device.cif").symlink_to("/dev/zero")
    (folder / "nowhere.cif").symlink_to(folder / "gone")
    return folder


@pytest.mark.parametrize("pattern", ["", "*"])
def test_what_is_no_regular_file_is_on_the_list_of_bad_inputs(folder, pattern, tmp_path, capsys):
    path = tmp_path / "x.lg"
    source = folder / pattern if pattern else folder
    assert main_write([str(source), "-o", str(path), "--graph", "mace", "--workers", "1"]) == 0
    found = {one.id: one.message for one in quarantine(path)}
    assert found.keys() == {"pipe", "device", "nowhere"}
    assert "is a pipe" in found["pipe"]
    assert "is a device" in found["device"]
    assert "No such file" in found["nowhere"]
    assert "3 files cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pipe.cif", "device.cif"])
@pytest.mark.parametrize("kind", [None, *sorted({*FORMATS} - {"id-prop", "lazygraph", "prototypes"})])
def test_alone_it_is_refused_whatever_it_is_said_to_be(folder, name, kind, tmp_path, capsys):
    options = [] if kind is None else ["--format", kind]
    assert main_write([str(folder / name), "-o", str(tmp_path / "x.lg"), *options]) == 2
    said = capsys.readouterr().err
    assert "give a regular file, or use standard input: lazygraph-write -" in said


def test_what_a_table_names_and_is_no_file_is_on_the_list_of_bad_inputs(folder, tmp_path):
    (folder / "id_prop.csv").write_text(f"sound.vasp,1\npipe.cif,2\nnowhere,3\n{'x' * 5000},4\n")
    assert main_write([str(folder), "-o", str(tmp_path / "x.lg"), "--graph", "mace", "--workers", "1"]) == 0
    messages = [one.message for one in quarantine(tmp_path / "x.lg")]
    assert "is a pipe" in messages[0]
    assert "No such file" in messages[1]
    assert messages[2].startswith("id_prop.csv names xxx")


def test_a_pipe_in_the_place_of_a_table_is_refused(tmp_path, capsys):
    os.mkfifo(tmp_path / "id_prop.csv")
    assert main_write([str(tmp_path), "-o", str(tmp_path / "x.lg"), "--format", "id-prop"]) == 2
    assert "is a pipe" in capsys.readouterr().err


@pytest.mark.parametrize("text", [POSCAR, FRAME.format("") * 3, json.dumps([{"jid": "a", "atoms": ATOMS}])])
def test_standard_input_is_read_where_it_is_asked_for(text, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    (tmp_path / "other.vasp").write_text(POSCAR)
    arguments = ["-", str(tmp_path / "other.vasp"), "-o", str(tmp_path / "x.lg"), "--graph", "mace", "--workers", "1"]
    assert main_write(arguments) == 0
    manifest = Manifest.load(tmp_path / "x.lg")
    assert manifest.graphs >= 2
    assert [file["name"] for source in manifest.provenance.sources for file in source.files] == ["stdin", "other.vasp"]
    assert main_write(["-", "-", "-o", str(tmp_path / "y.lg")]) == 2
    assert main_write(["plan", "-", "-o", str(tmp_path / "z.lg")]) == 2
    monkeypatch.setattr(sys, "stdin", None)
    assert main_write(["-", "-o", str(tmp_path / "y.lg")]) == 2
    twice, planned, closed = capsys.readouterr().err.strip().splitlines()[-3:]
    assert "standard input can be read only once" in twice
    assert planned.startswith("lazygraph: error:")
    assert "standard input is closed" in closed


# ---- databases ----


def endless(path, kind):
    from ase import Atoms
    from ase.db import connect

    with connect(path) as database:
        database.write(Atoms("Na", cell=[5, 5, 5], pbc=True))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE systems RENAME TO s0")
        rows = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT s0.* FROM s0, c"
        connection.execute(
            f"CREATE VIEW systems AS {rows}" if kind == "view" else "CREATE VIEW systems_too AS SELECT 1"
        )
        connection.commit()


@pytest.mark.parametrize("kind", ["view", "nothing"])
def test_a_database_whose_rows_are_made_up_by_a_query_is_refused(kind, tmp_path):
    endless(tmp_path / "a.db", kind)
    with pytest.raises(UnreadableInput, match="no table 'systems'"):
        entries(tmp_path / "a.db", tmp_path)


# ---- texts of any length ----


@pytest.fixture
def small(monkeypatch):
    """Let one input have no more than 4,000 bytes, and files come in pieces of 700."""
    for module in (base, unpack, extxyz):
        monkeypatch.setattr(module, "MAX_TEXT", 4000)
    monkeypatch.setattr(unpack, "_CHUNK", 700)
    monkeypatch.setattr(extxyz, "PIECE", 300)


LONG = "x" * 9000
TEXTS = {
    "a.csv": lambda text: "material_id,cif,note\n" + "".join(
        f'{name},"{CIF.format("_symmetry_equiv_pos_as_xyz x,y,z")}","{text if name == "long" else name}"\n'
        for name in ("first", "long", "last")
    ),
    "a.json": lambda text: json.dumps(
        [{"jid": name, "note": text if name == "long" else name, "atoms": ATOMS} for name in ("first", "long", "last")]
    ),
    "mapping.json": lambda text: json.dumps(
        {name: {"note": text if name == "long" else name, "atoms": ATOMS} for name in ("first", "long", "last")}
    ),
    "a.jsonl": lambda text: "".join(
        json.dumps({"jid": name, "note": text if name == "long" else name, "atoms": ATOMS}) + "\n"
        for name in ("first", "long", "last")
    ),
    "matbench.json": lambda text: json.dumps(
        {
            "index": [0, 1, 2],
            "columns": ["structure", "material_id", "note"],
            "data": [[ATOMS, name, text if name == "long" else name] for name in ("first", "long", "last")],
        }
    ),
    "poscars.json": lambda text: json.dumps(
        {"train": {name: POSCAR + (text if name == "long" else "") for name in ("first", "long", "last")}}
    ),
    "a.extxyz": lambda text: "".join(
        FRAME.format(f" material_id={name} note=\"{text if name == 'long' else name}\"")
        for name in ("first", "long", "last")
    ),
}  # fmt: skip


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("text", [LONG, " " * 9000, "\\n" * 4500], ids=["letters", "blanks", "line feeds"])
def test_an_input_that_is_too_long_is_a_bad_one_and_its_neighbours_are_read(name, text, tmp_path):
    (tmp_path / name).write_text(TEXTS[name](text))
    first, long, last = entries(tmp_path / name, tmp_path)
    assert isinstance(long.crystal, UnreadableInput)
    assert "more than 4,000 bytes" in str(long.crystal)
    assert (first.id, last.id) == ("first", "last")
    assert isinstance(first.crystal, Crystal)
    assert isinstance(last.crystal, Crystal)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("name", "text"), [("a.cif", CIF.format("#" + LONG)), ("POSCAR", POSCAR + LONG)])
def test_a_file_of_one_structure_that_is_too_long_is_a_bad_one(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    (found,) = entries(tmp_path / name, tmp_path)
    assert "more than 4,000 bytes" in str(found.crystal)


@pytest.mark.usefixtures("small")
def test_a_document_of_one_structure_that_is_too_long_is_refused(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(ATOMS | {"note": LONG}, indent=1))
    with pytest.raises(UnreadableInput, match="more than 4,000 bytes"):
        entries(tmp_path / "a.json", tmp_path)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("lines", [1, 3, 40])
def test_of_a_frame_that_is_too_long_the_next_one_is_found(lines, tmp_path):
    atoms = "".join(f"Na 0 0 {k} {'y' * (9000 // lines)}\n" for k in range(lines))
    long = f'{lines}\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3\n{atoms}'
    (tmp_path / "a.xyz").write_text(FRAME.format("") + long + FRAME.format("") + long.rstrip("\n"))
    found = entries(tmp_path / "a.xyz", tmp_path)
    assert [isinstance(entry.crystal, Crystal) for entry in found] == [True, False, True, False]


def frames_by_line(text):
    """Where frames begin, told from all lines of a text at once."""
    at, lines = 0, text.splitlines(keepends=True)
    while lines:
        if not lines[0].strip():
            at += len(lines.pop(0))
            continue
        if not lines[0].strip().isdigit():
            raise UnreadableInput
        yield at
        count = int(lines[0]) + 2
        at, lines = at + len(b"".join(lines[:count])), lines[count:]


line = st.sampled_from([b"", b" ", b"1", b"2 ", b"0", b"13", b"Na 0 0 0", b"x" * 50, b"\r"])


@given(st.lists(line, max_size=14), st.booleans(), st.integers(1, 60))
@settings(max_examples=400)
def test_frames_are_found_however_the_text_is_cut(lines, ended, size):
    text = b"\n".join(lines) + b"\n" * ended
    pieces = [text[k : k + size] for k in range(0, len(text), size)]
    found, expected = [], []
    for out, made in ((found, _frames(pieces)), (expected, frames_by_line(text))):
        try:
            out.extend(made)
        except UnreadableInput:
            out.append("refused")
    assert found == expected


def test_a_line_before_a_frame_is_not_held_whole():
    with pytest.raises(UnreadableInput, match=r"line 1 is .*required: the number of atoms"):
        list(_frames(iter([b" " * (1 << 20)] * 3 + [b"1\n"])))


# ---- CIF ----


def test_more_symmetry_operations_than_any_group_has_are_refused():
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"'x+1/{k},y,z'\n" for k in range(2, 3000))
    with pytest.raises(UnreadableInput, match="found 2,998 symmetry operations; required: at most 2,000"):
        cif.parse_cif(CIF.format(operations))


# ---- texts that are none ----


def nested(depth, key=None):
    """An array in an array, or an object in an object under this key, and so on."""
    value = 1.0
    for _ in range(depth):
        value = [value] if key is None else {key: value}
    return value


@pytest.mark.slow
@pytest.mark.parametrize(
    "record",
    [
        {"jid": "\ud800", "atoms": ATOMS},
        {"jid": "a", "atoms": ATOMS | {"elements": ["\ud800"]}},
        {"jid": "a", "\ud800": 1.0, "atoms": ATOMS},
        {"jid": "a", "gap": "\ud800", "atoms": ATOMS},
        {"jid": "a", "gap": [[[]]], "atoms": ATOMS},
        {"jid": "a", "gap": 10**400, "atoms": ATOMS},
        {"jid": "a\0b", "atoms": ATOMS},
        {"jid": "x" * 300, "atoms": ATOMS},
        {"jid": "a", "gap": [[[]]] * 1000 + nested(900), "atoms": ATOMS},
        {"jid": "a", "gap": {"in": nested(900, key="gap")}, "atoms": ATOMS},
        {"jid": "a", "\ud800": {"\ud800": "\ud800"}, "atoms": ATOMS},
        {"jid": "a", "gap": {"@module": "numpy", "@class": "array", "dtype": "x", "data": [1]}, "atoms": ATOMS},
        {"jid": "a", "gap": {"__ndarray__": [[10**9, 10**9], "float64", [1]]}, "atoms": ATOMS},
    ],
    ids=range(13),
)
@pytest.mark.parametrize("how", ["file", "python"])
def test_half_a_character_anywhere_ends_no_write(record, how, tmp_path, capsys):
    import lazygraph as lg

    records = [{"jid": f"good-{k}", "gap": 1.0, "atoms": ATOMS} for k in range(3)] + [record]
    (tmp_path / "a.json").write_text(json.dumps(records))
    source = records if how == "python" else tmp_path / "a.json"
    report = lg.write(source, tmp_path / "x.lg", graph="mace", workers=1, progress=False)
    assert report.written + report.quarantined == 4
    assert report.written >= 3


@pytest.mark.parametrize("how", ["file", "python"])
@pytest.mark.parametrize("depth", [300, 990])
def test_arrays_in_arrays_are_told_and_hide_nothing(depth, how, tmp_path):
    import lazygraph as lg

    records = [{"jid": f"good-{k}", "deep": nested(depth), "gap": 1.0, "atoms": ATOMS} for k in range(3)]
    text = json.dumps(records[0] | {"deep": "DEEP"}).replace('"DEEP"', "[" * depth + "1" + "]" * depth)
    (tmp_path / "a.json").write_text(f"[{text}]")
    report = lg.write(
        records if how == "python" else tmp_path / "a.json", tmp_path / "x.lg", graph="mace", workers=1, progress=False
    )
    assert report.quarantined == 0
    assert any("'deep' is left out: lists that are no arrays" in note for note in report.notes)
