"""What inputs are taken for: by content under any name, in any packing, one or many, and sentences for the rest."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from ase import Atoms
from ase.db import connect
from hypothesis import given
from hypothesis import strategies as st

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.sources.ase_db import AseDbSource
from lazygraph.sources.base import Cut, Source
from lazygraph.sources.csv_cif import CsvSource
from lazygraph.sources.dataset import DatasetSource
from lazygraph.sources.detect import FORMATS, KINDS, open_sources, source_from_json, source_to_json
from lazygraph.sources.extxyz import ExtxyzSource
from lazygraph.sources.files import FilesSource
from lazygraph.sources.id_prop import IdPropSource
from lazygraph.sources.jarvis import JarvisSource
from lazygraph.sources.matbench import MatbenchSource
from lazygraph.sources.options import SourceOptions
from lazygraph.sources.poscar_zip import PoscarZipSource
from lazygraph.sources.prototypes import PrototypesSource
from lazygraph.sources.pymatgen_json import PymatgenSource
from lazygraph.sources.python import PythonSource
from lazygraph.sources.xdatcar import XdatcarSource
from tests.real import DATA, existing, needs_whole

NACL = Crystal([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
POSCAR = "c\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa\n1\nDirect\n0 0 0\n"
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
Na 0 0 0
"""
FRAME = '1\nLattice="4 0 0 0 5 0 0 0 6" Properties=species:S:1:pos:R:3\nNa 0 0 0\n'
JARVIS_ATOMS = {"lattice_mat": [[4, 0, 0], [0, 4, 0], [0, 0, 4]], "coords": [[0, 0, 0]], "elements": ["Na"]}
PYMATGEN = NACL.to_pymatgen().as_dict()
TEXTS = {
    "files": [CIF, POSCAR, "data_y\n" + CIF],
    "extxyz": [FRAME * 3],
    "csv": [
        f'id,cif,gap\n1,"{CIF}",0.5\n',
        f'structure,id\n"{POSCAR}",7\n',
        f'id;cif;gap\n1;"{CIF}";0,5\n',
        f'id\tcif\n1\t"{CIF}"\n',
    ],
    "xdatcar": ["c\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa\n1\nDirect configuration=     1\n0 0 0\n"],
    "pandas": [json.dumps({"gap": {"0": 1.0}, "structure": {"0": PYMATGEN}}), json.dumps({"cif": {"a": CIF}})],
    "ase-json": [
        json.dumps({"1": NACL.to_ase().todict() | {"unique_id": "x"}, "ids": [1]}, default=lambda a: a.tolist())
    ],
    "jarvis": [json.dumps([{"jid": "JVASP-1", "atoms": JARVIS_ATOMS, "gap": "na"}])],
    "matbench": [json.dumps({"columns": ["structure", "gap"], "index": [0], "data": [[PYMATGEN, 1.0]]})],
    "pymatgen": [
        json.dumps(PYMATGEN),
        json.dumps([PYMATGEN, PYMATGEN]),
        json.dumps({"a": PYMATGEN}),
        json.dumps({"data": [{"structure": PYMATGEN}], "meta": {}}),
        json.dumps({"mp-1": {"mp-1-0": {"structure": PYMATGEN}}}),
    ],
    "poscar-zip": [json.dumps({"train": {"1": POSCAR.replace("\n", "\\n")}, "val": {}})],
}
CASES = [(kind, text) for kind, texts in TEXTS.items() for text in texts]


def plain(path: Path, text: str) -> None:
    path.write_text(text)


def gzipped(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode()))


def zipped(path: Path, text: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inside", text)


@pytest.mark.parametrize(("kind", "text"), CASES, ids=[kind for kind, _ in CASES])
@pytest.mark.parametrize("pack", [plain, gzipped, zipped])
def test_the_content_tells_the_kind_whatever_the_name(kind, text, pack, tmp_path):
    path = tmp_path / "some.data"
    pack(path, text)
    (source,) = open_sources(path)
    assert source.kind == kind
    assert isinstance(source, Source)
    scan = source.scan(10, tmp_path / "spool")
    entries = list(source.read(Cut(scan.marks[0], 0, scan.entries), tmp_path / "spool"))
    assert entries
    assert all(isinstance(entry.crystal, Crystal) for entry in entries)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("perov_5/val.csv", CsvSource),
        ("carbon_24/test.csv", CsvSource),
        ("perov_5/perov5_poscars.json.zip", PoscarZipSource),
        ("carbon_24/carbon24_poscars.json.zip", PoscarZipSource),
        ("jarvis/jdft_3d_superconductors.json.zip", JarvisSource),
        ("forces/mlearn.json.zip", JarvisSource),
        ("matbench/matbench_phonons.json.gz", MatbenchSource),
        ("extxyz/mptrj-random-1k.xyz", ExtxyzSource),
        ("extxyz/mptrj-highest-stress-1k.xyz", ExtxyzSource),
        ("extxyz/alexandria-random-1k.xyz", ExtxyzSource),
        ("extxyz/10_mp_traj_systems.ase.db", AseDbSource),
        ("folders/cgcnn", IdPropSource),
        ("folders/alignn", IdPropSource),
    ],
)
def test_every_input_of_the_data_folder(name, expected):
    path = str(existing(name))
    assert open_sources(path) == [expected(path)]


@needs_whole
def test_every_structure_file_of_the_data_folder_is_one_source(tmp_path):
    paths = [*sorted(DATA.glob("folders/cgcnn/*.cif")), *sorted(DATA.glob("folders/alignn/*.vasp"))]
    (source,) = open_sources(paths)
    assert source == FilesSource(tuple(map(str, paths)))
    assert source.scan(100, tmp_path / "spool").entries == 80


def test_a_uri_asks_for_prototypes():
    assert open_sources("prototypes:5?seed=1") == [PrototypesSource("prototypes:5?seed=1")]


def test_an_ase_database_under_any_name(tmp_path):
    with connect(tmp_path / "x.db") as db:
        db.write(Atoms("Na", cell=[4, 4, 4], pbc=True))
    (tmp_path / "x.db").rename(tmp_path / "x.bin")
    assert open_sources(tmp_path / "x.bin", id_key="name") == [AseDbSource(str(tmp_path / "x.bin"), "name")]


@pytest.fixture
def mixed(tmp_path):
    """Two CIFs, two frames files, a POSCAR and a text in one folder, a folder of CGCNN beside them."""
    for name, text in {
        "a.cif": CIF,
        "b.cif": CIF,
        "c.xyz": FRAME,
        "d.xyz": FRAME,
        "e.vasp": POSCAR,
        "z.txt": "hi",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "id_prop.csv").write_text("1,2\n")
    shutil.copy(tmp_path / "a.cif", tmp_path / "set" / "1.cif")
    return tmp_path


def test_neighbours_of_one_structure_are_one_source(mixed):
    names = ["a.cif", "b.cif", "c.xyz", "d.xyz", "e.vasp", "set", "a.cif"]
    assert open_sources([mixed / name for name in names]) == [
        FilesSource((str(mixed / "a.cif"), str(mixed / "b.cif"))),
        ExtxyzSource(str(mixed / "c.xyz")),
        ExtxyzSource(str(mixed / "d.xyz")),
        FilesSource((str(mixed / "e.vasp"),)),
        IdPropSource(str(mixed / "set")),
        FilesSource((str(mixed / "a.cif"),)),
    ]


def test_a_pattern_of_structure_files_stays_a_pattern(mixed):
    assert open_sources(f"{mixed}/*.cif") == [FilesSource((f"{mixed}/*.cif",))]


def test_a_pattern_of_other_files_is_expanded_in_order(mixed):
    assert open_sources(f"{mixed}/*.xyz") == [ExtxyzSource(f"{mixed}/c.xyz"), ExtxyzSource(f"{mixed}/d.xyz")]
    assert open_sources(f"{mixed}/[a-c].*") == [
        FilesSource((f"{mixed}/a.cif", f"{mixed}/b.cif")),
        ExtxyzSource(f"{mixed}/c.xyz"),
    ]


def test_a_folder_without_a_table_is_its_structure_files(mixed):
    assert open_sources(mixed) == [FilesSource((str(mixed),))]


def test_a_file_whose_name_is_a_pattern_is_itself(tmp_path):
    (tmp_path / "[1].cif").write_text(CIF)
    (source,) = open_sources(tmp_path / "[1].cif")
    assert source.scan(1, tmp_path / "spool").entries == 1


def test_relative_paths_become_absolute(mixed, monkeypatch):
    """Array jobs run the stored plan from other folders."""
    monkeypatch.chdir(mixed / "set")
    assert open_sources("../a.cif") == [FilesSource((str(mixed / "a.cif"),))]
    assert open_sources(".") == [IdPropSource(str(mixed / "set"))]
    assert open_sources(["*.cif"]) == [FilesSource((str(mixed / "set" / "*.cif"),))]


def test_an_iterator_of_paths_is_a_list_of_paths(mixed):
    assert open_sources(mixed.glob("c.*")) == [ExtxyzSource(str(mixed / "c.xyz"))]


@pytest.mark.parametrize(
    "one",
    [NACL, NACL.to_pymatgen(), NACL.to_ase(), NACL.to_jarvis(), PYMATGEN, {"jid": "J", "atoms": JARVIS_ATOMS}],
    ids=["crystal", "pymatgen", "ase", "jarvis", "dict", "record"],
)
def test_a_single_structure_is_one_entry(one, tmp_path):
    """A pymatgen Structure and ASE Atoms are iterables of their sites, a dict of its keys."""
    (source,) = open_sources(one)
    assert isinstance(source, PythonSource)
    scan = source.scan(1, tmp_path / "spool")
    (entry,) = source.read(Cut(scan.marks[0], 0, 1), tmp_path / "spool")
    assert isinstance(entry.crystal, Crystal)


@pytest.mark.parametrize(
    "many",
    [
        [NACL, NACL.to_ase()],
        (crystal for crystal in (NACL, NACL)),
        [("a", NACL), ("b", NACL, {"gap": 1})],
        {"a": NACL, "b": PYMATGEN},
        {NACL.formula: NACL, "x": "junk"}.items(),
    ],
    ids=["list", "generator", "tuples", "mapping", "items"],
)
def test_many_structures_are_one_source_of_all_of_them(many, tmp_path):
    (source,) = open_sources(many, id_key=None)
    assert source.scan(10, tmp_path / "spool").entries == 2


def test_the_id_key_goes_to_every_source_that_has_one(mixed):
    assert open_sources([mixed / "c.xyz", mixed / "d.xyz"], id_key="name") == [
        ExtxyzSource(str(mixed / "c.xyz"), "name"),
        ExtxyzSource(str(mixed / "d.xyz"), "name"),
    ]
    (source,) = open_sources([NACL], id_key="name")
    assert source.id_key == "name"


@pytest.mark.parametrize("name", ["a.cif", "set", "prototypes:5"])
def test_an_id_key_where_there_are_no_keys_is_refused(mixed, name):
    path = name if ":" in name else mixed / name
    with pytest.raises(InputError, match="the id key 'jid' was given for .*; leave it out"):
        open_sources(path, id_key="jid")


def test_a_structure_key_where_there_are_no_columns_is_refused(mixed, tmp_path):
    options = SourceOptions(structure_key="cif")
    for path in ("a.cif", "c.xyz", "set"):
        with pytest.raises(
            InputError, match="the structure key 'cif' was given for inputs of the kind .*have no columns"
        ):
            open_sources(mixed / path, options=options)
    (source,) = open_sources([NACL], options=options)
    with pytest.raises(InputError, match="the structures have no keys"):
        source.scan(1, tmp_path / "spool")
    (source,) = open_sources([{"cif": NACL, "other": NACL}], options=options)
    assert source.scan(1, tmp_path / "spool").entries == 1


def test_the_format_counts_before_the_content(mixed):
    assert open_sources(mixed / "z.txt", format="extxyz") == [ExtxyzSource(f"{mixed}/z.txt")]
    assert open_sources(mixed / "c.xyz", format="files") == [FilesSource((f"{mixed}/c.xyz",))]
    assert open_sources(mixed / "set", format="files") == [FilesSource((f"{mixed}/set",))]
    assert open_sources(mixed, format="id-prop") == [IdPropSource(str(mixed))]
    assert open_sources(f"{mixed}/*.cif", format="pymatgen") == [
        PymatgenSource(f"{mixed}/a.cif"),
        PymatgenSource(f"{mixed}/b.cif"),
    ]


def test_an_unknown_format_names_the_known_ones(mixed):
    with pytest.raises(InputError, match="unknown format 'cif'; .*known: ase-db, ase-json, ase-traj, aselmdb, csv"):
        open_sources(mixed / "a.cif", format="cif")
    with pytest.raises(InputError, match="unknown format 'python'"):
        open_sources([NACL], format="python")
    with pytest.raises(InputError, match="for Python objects; leave it out"):
        open_sources([NACL], format="extxyz")


def test_what_cannot_be_an_input_says_what_was_found(mixed):
    (mixed / "empty").mkdir()
    (mixed / "other").mkdir()
    for i in range(7):
        (mixed / "other" / f"{i}.json").write_text("{}")
    (mixed / "bad.zip").write_bytes(b"PK\x03\x04 is all")
    (mixed / "none.dat").write_bytes(b"")
    for path, message in {
        "nope": "nothing is at .*nope; give a file, a folder, or a pattern that matches files",
        "*.json": r"nothing is at .*\*.json",
        "empty": "the folder .*empty holds nothing; it must hold id_prop.csv, or files",
        "other": r"holds 0.json, 1.json, 2.json, 3.json, 4.json, ...; it must hold id_prop.csv",
        "z.txt": "z.txt begins with b'hi', which is no known kind of input. Known kinds are CIF, POSCAR",
        "none.dat": "none.dat begins with b'', which is no known kind of input",
        "bad.zip": "bad.zip",
    }.items():
        with pytest.raises(UnreadableInput, match=message):
            open_sources(mixed / path)
    for inputs in ([], iter(())):
        with pytest.raises(UnreadableInput, match="the list of inputs is empty; give at least one"):
            open_sources(inputs)
    with pytest.raises(InputError, match="found Crystal among paths; required: only paths and datasets, or only str"):
        open_sources([mixed / "a.cif", NACL])
    with pytest.raises(InputError, match="found int; required: a path, structures"):
        open_sources(5)


def test_a_broken_file_with_the_name_of_a_structure_is_a_bad_entry_not_a_failure(mixed):
    (mixed / "broken.cif").write_bytes(os.urandom(50))
    (source,) = open_sources([mixed / "a.cif", mixed / "broken.cif"])
    assert isinstance(source, FilesSource)


SOURCES = st.one_of(
    st.builds(FilesSource, st.lists(st.text(), min_size=1).map(tuple)),
    st.sampled_from(
        sorted(KINDS.keys() - {"catalogue", "files", "python", "id-prop", "lazygraph", "prototypes", "xdatcar"})
    ).flatmap(lambda kind: st.builds(KINDS[kind], st.text(), st.none() | st.text())),
    st.sampled_from([DatasetSource, IdPropSource, PrototypesSource, XdatcarSource]).flatmap(
        lambda source: st.builds(source, st.text())
    ),
    st.builds(PythonSource, st.none(), st.text(), st.none() | st.text()),
)


@given(SOURCES)
def test_every_source_travels_as_json(source):
    back = source_from_json(json.loads(json.dumps(source_to_json(source))))
    assert back == source
    assert type(back) is type(source)


def test_json_leaves_out_the_items_of_python():
    assert source_to_json(PythonSource([NACL], name="mine")) == {"kind": "python", "name": "mine"}


def test_json_of_another_version_is_refused():
    with pytest.raises(InputError, match="unknown kind of source 'hdf5'; .*known: "):
        source_from_json({"kind": "hdf5", "path": "x"})
    with pytest.raises(InputError, match="unknown kind of source None"):
        source_from_json({"path": "x"})
    with pytest.raises(InputError, match=r"the kind 'csv' has the unknown fields \['columns'\]; known: path, id_key"):
        source_from_json({"kind": "csv", "path": "x", "columns": 3})


def test_formats_are_the_kinds_that_files_have():
    assert set(FORMATS) == KINDS.keys() - {"catalogue", "python"}
    assert list(FORMATS) == sorted(FORMATS)
    assert all(kind == source.kind for kind, source in KINDS.items())
