"""jarvis, matbench, poscar-zip and pymatgen files against json, pandas and pymatgen; every layout, every bad entry."""

from __future__ import annotations

import gzip
import json
import math
import pickle
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, StructureError, UnreadableInput
from lazygraph.sources import csv_cif, jarvis, matbench, poscar_zip, pymatgen_json, unpack
from lazygraph.sources.base import Cut, Source
from lazygraph.sources.detect import source_from_json, source_to_json
from lazygraph.sources.jarvis import JarvisSource
from lazygraph.sources.json_entries import Layout
from lazygraph.sources.matbench import MatbenchSource
from lazygraph.sources.poscar_zip import PoscarZipSource
from lazygraph.sources.pymatgen_json import PymatgenSource, layout_of
from lazygraph.sources.unpack import read_head
from tests.real import DATA, needs_whole

MODULES = {"jarvis": jarvis, "matbench": matbench, "poscar-zip": poscar_zip, "pymatgen": pymatgen_json, "csv": csv_cif}

SUPERCONDUCTORS = "jarvis/jdft_3d_superconductors.json.zip"
MLEARN = "forces/mlearn.json.zip"
PHONONS = "matbench/matbench_phonons.json.gz"
PEROV, CARBON = "perov_5/perov5_poscars.json.zip", "carbon_24/carbon24_poscars.json.zip"

ATOMS = {
    "lattice_mat": [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]],
    "coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
    "elements": ["Cs", "Cl"],
    "cartesian": False,
}
STRUCTURE = {
    "@module": "pymatgen.core.structure",
    "@class": "Structure",
    "lattice": {"matrix": ATOMS["lattice_mat"]},
    "sites": [
        {"species": [{"element": e, "occu": 1}], "abc": c}
        for e, c in zip(ATOMS["elements"], ATOMS["coords"], strict=True)
    ],
}
ASE_DICT = {"numbers": [55, 17], "positions": [[0, 0, 0], [2, 2, 2]], "cell": ATOMS["lattice_mat"], "pbc": [True] * 3}
CSCL = Crystal.from_any(ATOMS)
POSCAR = "CsCl\n1.0\n4 0 0\n0 4 0\n0 0 4\nCs Cl\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n"


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


def summary(entries):
    """Entries without the identity of their errors."""
    return [e if isinstance(e.crystal, Crystal) else e._replace(crystal=str(e.crystal)) for e in entries]


def reference(relative: str):
    """The whole file, read by the standard library."""
    path = DATA / relative
    if path.suffix == ".gz":
        return json.loads(gzip.decompress(path.read_bytes()))
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(archive.namelist()[0]))


def written(folder: Path, value, name: str = "set.json", **style) -> str:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value, **style), encoding="utf-8", newline="")
    return str(path)


# ---- the files of the data folder


@needs_whole
@pytest.mark.parametrize(("relative", "count"), [(SUPERCONDUCTORS, 1056), (MLEARN, 1566)])
def test_jarvis_files(tmp_path, relative, count):
    records = reference(relative)
    entries = read_all(JarvisSource(str(DATA / relative)), tmp_path / "spool", 500)
    assert len(entries) == len(records) == count
    for record, entry in zip(records, entries, strict=True):
        assert entry.id == record.pop("jid")
        atoms = record.pop("atoms")
        assert entry.labels == record
        assert entry.split is None
        assert entry.crystal.frac_coords.tolist() == atoms["coords"]
        assert entry.crystal.lattice.tolist() == atoms["lattice_mat"]
        assert entry.crystal == Crystal.from_any(atoms)


@needs_whole
def test_mlearn_labels_have_the_shape_of_forces(tmp_path):
    for entry in read_all(JarvisSource(str(DATA / MLEARN)), tmp_path / "spool"):
        assert np.shape(entry.labels["forces"]) == (len(entry.crystal), 3)
        assert np.shape(entry.labels["stresses"]) == (6,)


def test_matbench_file(tmp_path):
    import pandas as pd
    from pymatgen.core import Structure

    table = reference(PHONONS)
    frame = pd.DataFrame(table["data"], columns=table["columns"])
    entries = read_all(MatbenchSource(str(DATA / PHONONS)), tmp_path / "spool", 400)
    assert len(entries) == len(frame) > 0
    assert [e.labels for e in entries] == [{"last phdos peak": y} for y in frame["last phdos peak"]]
    assert [entries[0].id, entries[-1].id] == ["matbench_phonons-0000000", f"matbench_phonons-{len(frame) - 1:07d}"]
    assert all(e.crystal == Crystal.from_any(d) for e, d in zip(entries, frame["structure"], strict=True))
    for entry, record in list(zip(entries, frame["structure"], strict=True))[::40] + [
        (entries[-1], table["data"][-1][0])
    ]:
        structure = Structure.from_dict(record)
        np.testing.assert_array_equal(entry.crystal.frac_coords, structure.frac_coords)
        np.testing.assert_array_equal(entry.crystal.lattice, structure.lattice.matrix)
        assert entry.crystal.numbers.tolist() == list(structure.atomic_numbers)


@needs_whole
@pytest.mark.parametrize(("relative", "count"), [(PEROV, 18_928), (CARBON, 10_153)])
def test_poscar_zips(tmp_path, relative, count):
    from pymatgen.core import Structure

    splits = reference(relative)
    entries = read_all(PoscarZipSource(str(DATA / relative)), tmp_path / "spool", 5000)
    assert len(entries) == count
    assert [(e.split, e.id) for e in entries] == [(s, i) for s, texts in splits.items() for i in texts]
    assert Counter(e.split for e in entries) == {split: len(texts) for split, texts in splits.items()}
    assert all(isinstance(e.crystal, Crystal) and e.labels == {} for e in entries)
    for entry in [*entries[::1000], entries[-1]]:
        text = splits[entry.split][entry.id].replace("\\n", "\n")
        structure = Structure.from_str(text, fmt="poscar")
        np.testing.assert_allclose(entry.crystal.lattice, structure.lattice.matrix, atol=1e-12)
        np.testing.assert_allclose(entry.crystal.frac_coords, structure.frac_coords, atol=1e-12)
        assert entry.crystal.numbers.tolist() == list(structure.atomic_numbers)


@needs_whole
def test_every_file_of_the_data_folder_is_recognised_by_its_kind_alone():
    expected = {
        "carbon_24/carbon24_poscars.json.zip": ["poscar-zip"],
        "perov_5/perov5_poscars.json.zip": ["poscar-zip"],
        **{f"{folder}/{name}.csv": ["csv"] for folder in ("carbon_24", "perov_5") for name in ("val", "test")},
        SUPERCONDUCTORS: ["jarvis"],
        MLEARN: ["jarvis"],
        PHONONS: ["matbench"],
    }
    found = {}
    for path in sorted(p for p in DATA.rglob("*") if p.is_file()):
        head = read_head(path)
        if kinds := [kind for kind, module in MODULES.items() if module.sniff(head)]:
            found[path.relative_to(DATA).as_posix()] = kinds
    assert found == expected


# ---- the same entries whatever the cuts, the pieces and the packing

MIXED = [
    {"jid": "a\\", "atoms": ATOMS, "y": math.nan, "note": 'a "quoted" ], } and \\'},
    {"atoms": ATOMS, "y": "na", "forces": [[1.0, 2, 3], [4, 5, -math.inf]]},
    None,
    {"jid": 5168, "atoms": {"lattice_mat": [[1, 2], [3, 4]]}, "y": None},
    {"jid": 5168.0, "y": 1},
    {"jid": "é😀", "atoms": ATOMS, "y": True},
]


@pytest.fixture(scope="module")
def big_record_file(tmp_path_factory):
    """One set of records in every layout: name -> (source class, path)."""
    folder = tmp_path_factory.mktemp("layouts")
    rows = [[r["atoms"] if r and "atoms" in r else None, r and r.get("y")] for r in MIXED]
    texts = {split: {f"{i}": POSCAR.replace("\n", "\\n") for i in range(4)} | {"bad": 7} for split in ("train", "é")}
    lines = [json.dumps(r) for r in MIXED]
    lines[3] = lines[3][:-9]
    return {
        "jarvis": (JarvisSource, written(folder, MIXED, "j.json", indent=1)),
        "array": (PymatgenSource, written(folder, MIXED, "a.json")),
        "mapping": (
            PymatgenSource,
            written(folder, {f"k{i}": r for i, r in enumerate(MIXED) if r}, "m.json", indent=2),
        ),
        "lines": (PymatgenSource, written(folder, "\r\n".join(lines) + "\r\n\r\n", "l.jsonl")),
        "document": (PymatgenSource, written(folder, STRUCTURE, "d.json", indent=2)),
        "matbench": (
            MatbenchSource,
            written(folder, {"columns": ["structure", "y"], "data": rows, "index": []}, "mb.json", indent=1),
        ),
        "poscar": (PoscarZipSource, written(folder, texts, "p.json", indent=1)),
    }


LAYOUTS = ["jarvis", "array", "mapping", "lines", "document", "matbench", "poscar"]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@settings(deadline=None, max_examples=25)
@given(every=st.integers(1, 8), size=st.integers(3, 60))
def test_cuts_and_pieces_of_any_size_give_the_same_entries(big_record_file, tmp_path_factory, layout, every, size):
    source_class, path = big_record_file[layout]
    source = source_class(path)
    folder = tmp_path_factory.mktemp("spool")
    whole = read_all(source, folder / "one", 1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpack, "_CHUNK", size)
        parts = read_all(source, folder / "two", every)
    assert repr(summary(parts)) == repr(summary(whole))  # repr, for NaN is not itself


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("packing", ["gz", "zip", "bom"])
def test_packing_changes_nothing(big_record_file, tmp_path, layout, packing):
    source_class, path = big_record_file[layout]
    raw = Path(path).read_bytes()
    other = tmp_path / (Path(path).name + ("" if packing == "bom" else f".{packing}"))
    if packing == "gz":
        other.write_bytes(gzip.compress(raw))
    elif packing == "zip":
        with zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(Path(path).name, raw)
    else:
        other.write_bytes(b"\xef\xbb\xbf" + raw)
    expected = summary(read_all(source_class(path), tmp_path / "one", 2))
    found = read_all(source_class(str(other)), tmp_path / "two", 2)
    assert repr(summary(found)) == repr(expected)
    assert not other.name.endswith("z") or source_class(str(other)).name == source_class(path).name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_source_travels_as_json_and_as_pickle(big_record_file, layout):
    source_class, path = big_record_file[layout]
    source = source_class(path, id_key="jid")
    assert source_from_json(json.loads(json.dumps(source_to_json(source)))) == source
    assert pickle.loads(pickle.dumps(source)) == source


@pytest.mark.parametrize("layout", ["jarvis", "array", "mapping", "document", "matbench", "poscar"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused_by_scan(big_record_file, tmp_path, layout, kept):
    source_class, path = big_record_file[layout]
    raw = Path(path).read_bytes()
    Path(tmp_path / "cut.json").write_bytes(raw[: int(len(raw) * kept)])
    with pytest.raises(UnreadableInput, match=r"cut\.json: .*JSON"):
        source_class(str(tmp_path / "cut.json")).scan(10, tmp_path / "spool")


@pytest.mark.parametrize(
    ("source_class", "text"),
    [
        (JarvisSource, "[]"),
        (JarvisSource, " [\n] \n"),
        (PymatgenSource, "[]"),
        (PymatgenSource, "{}"),
        (MatbenchSource, '{"index": [], "columns": ["structure", "y"], "data": []}'),
        (PoscarZipSource, "{}"),
        (PoscarZipSource, '{"train": {}, "val": {}}'),
    ],
)
def test_no_entries_are_fine(tmp_path, source_class, text):
    assert read_all(source_class(written(tmp_path, text)), tmp_path / "spool") == []


# ---- records: ids, labels and what is bad


def test_jarvis_entries_good_and_bad_in_their_places(tmp_path):
    entries = read_all(JarvisSource(written(tmp_path, MIXED)), tmp_path / "spool", 4)
    assert [e.id for e in entries] == ["a\\", "set-0000001", "set-0000002", "5168", "5168", "é😀"]
    assert [isinstance(e.crystal, Crystal) for e in entries] == [True, True, False, False, False, True]
    assert math.isnan(entries[0].labels["y"])
    assert entries[1].labels == {"y": "na", "forces": [[1.0, 2, 3], [4, 5, -math.inf]]}
    assert entries[3].labels == {"y": None}
    assert "found NoneType" in str(entries[2].crystal)
    assert isinstance(entries[3].crystal, StructureError)
    assert "there is no structure under 'atoms'; the keys are ['jid', 'y']" in str(entries[4].crystal)


def test_an_entry_that_is_no_json_is_bad_alone(tmp_path):
    good = json.dumps({"jid": "x", "atoms": ATOMS})
    text = f'[{good}, {{"jid": "y", "atoms" 1}}, {{"jid": tru}}, {good}]'
    entries = read_all(JarvisSource(written(tmp_path, text)), tmp_path / "spool", 1)
    assert [e.id for e in entries] == ["x", "set-0000001", "set-0000002", "x"]
    assert [type(e.crystal) for e in entries] == [Crystal, UnreadableInput, UnreadableInput, Crystal]
    assert "not JSON" in str(entries[1].crystal)


def test_bytes_that_are_not_utf8_spoil_their_entry_only(tmp_path):
    good = json.dumps({"jid": "x", "atoms": ATOMS}).encode()
    (tmp_path / "set.json").write_bytes(b"[" + good + b', {"jid": "\xff"}, ' + good + b"]")
    entries = read_all(JarvisSource(str(tmp_path / "set.json")), tmp_path / "spool")
    assert [isinstance(e.crystal, InputError) for e in entries] == [False, True, False]


def test_an_id_that_no_file_can_hold_is_bad(tmp_path):
    text = json.dumps([{"jid": "\ud800", "atoms": ATOMS}, {"jid": [1], "atoms": {}}])
    entries = read_all(JarvisSource(written(tmp_path, text)), tmp_path / "spool")
    assert [e.id for e in entries] == ["set-0000000", "set-0000001"]
    assert all("required: a text that UTF-8 can write, or a number" in str(e.crystal) for e in entries)
    text = json.dumps({"\ud800": ATOMS, "x\ud801": None})
    entries = read_all(PymatgenSource(written(tmp_path, text)), tmp_path / "spool")
    assert all(isinstance(e.crystal, InputError) and e.id.encode() for e in entries)


def test_the_id_key_goes_before_the_usual_ones(tmp_path):
    records = [{"material_id": "mp-1", "jid": "J-1", "n": 7.0, "atoms": ATOMS}, {"jid": "J-2", "atoms": ATOMS}]
    path = written(tmp_path, records)
    usual = read_all(JarvisSource(path), tmp_path / "spool")
    assert [(e.id, e.labels) for e in usual] == [("J-1", {"material_id": "mp-1", "n": 7.0}), ("J-2", {})]
    chosen = read_all(JarvisSource(path, id_key="n"), tmp_path / "spool")
    assert chosen[0].id == "7"
    assert chosen[0].labels == {"material_id": "mp-1", "jid": "J-1"}
    assert chosen[1].id == "set-0000001"
    assert "the id key 'n' is missing" in str(chosen[1].crystal)


@pytest.mark.parametrize("layout", ["jarvis", "array", "mapping", "lines", "matbench", "document"])
def test_an_id_key_that_the_first_record_lacks_is_refused(big_record_file, tmp_path, layout):
    source_class, path = big_record_file[layout]
    with pytest.raises(UnreadableInput, match=r"has no key 'nope'; it has \["):
        source_class(path, id_key="nope").scan(10, tmp_path / "spool")


def test_a_jarvis_source_refuses_another_layout(tmp_path):
    with pytest.raises(UnreadableInput, match="required: an array"):
        JarvisSource(written(tmp_path, {"a": {"atoms": ATOMS}})).scan(10, tmp_path / "spool")


# ---- matbench


@pytest.mark.parametrize("order", [("index", "columns", "data"), ("data", "index", "columns"), ("columns", "data")])
@pytest.mark.parametrize("columns", [["structure", "y"], ["y", "my structure"]])
def test_matbench_parts_and_columns_in_any_order(tmp_path, order, columns):
    cells = {"y": 1.5, "structure": STRUCTURE, "my structure": STRUCTURE}
    parts = {"index": [0, 1], "columns": columns, "data": [[cells[c] for c in columns], [None, None]]}
    path = written(tmp_path, {key: parts[key] for key in order}, indent=3)
    assert matbench.sniff(read_head(Path(path)))
    good, bad = read_all(MatbenchSource(path), tmp_path / "spool", 1)
    assert (good.id, good.crystal, good.labels) == ("set-0000000", CSCL, {"y": 1.5})
    assert isinstance(bad.crystal, InputError)


def test_matbench_rows_of_the_wrong_length_are_bad(tmp_path):
    table = {"columns": ["structure", "y"], "data": [[STRUCTURE], 5, [STRUCTURE, 1, 2], [STRUCTURE, 1]]}
    entries = read_all(MatbenchSource(written(tmp_path, table)), tmp_path / "spool")
    assert [isinstance(e.crystal, Crystal) for e in entries] == [False, False, False, True]
    assert "found a row of 1 values" in str(entries[0].crystal)


def test_matbench_without_columns_is_refused(tmp_path):
    with pytest.raises(UnreadableInput, match="it must hold the names of the columns"):
        MatbenchSource(written(tmp_path, {"data": [[STRUCTURE, 1]]})).scan(10, tmp_path / "spool")


def test_matbench_ids_may_stand_in_a_column(tmp_path):
    table = {"columns": ["structure", "code"], "data": [[STRUCTURE, 12]]}
    (entry,) = read_all(MatbenchSource(written(tmp_path, table), id_key="code"), tmp_path / "spool")
    assert (entry.id, entry.labels) == ("12", {})


# ---- poscar-zip


@pytest.mark.parametrize("newline", ["\n", "\\n", "\r\n"])
def test_poscar_line_breaks_however_they_are_written(tmp_path, newline):
    path = written(tmp_path, {"train": {"a": POSCAR.replace("\n", newline)}})
    assert poscar_zip.sniff(read_head(Path(path)))
    (entry,) = read_all(PoscarZipSource(path), tmp_path / "spool")
    assert (entry.id, entry.crystal, entry.split) == ("a", CSCL, "train")


def test_an_id_in_two_splits_or_twice_in_one_is_two_entries(tmp_path):
    poscar = json.dumps(POSCAR)
    text = f'{{"train": {{"a": {poscar}, "a": {poscar}}}, "val": {{"a": {poscar}, "": null}}}}'
    entries = read_all(PoscarZipSource(written(tmp_path, text)), tmp_path / "spool", 3)
    assert [(e.split, e.id) for e in entries] == [("train", "a"), ("train", "a"), ("val", "a"), ("val", "set-0000003")]
    assert "required: a POSCAR text" in str(entries[-1].crystal)


def test_poscars_without_splits_or_with_an_id_key_are_refused(tmp_path):
    with pytest.raises(UnreadableInput, match="required: splits, which are objects of texts"):
        PoscarZipSource(written(tmp_path, {"a": POSCAR})).scan(10, tmp_path / "spool")
    with pytest.raises(UnreadableInput, match="the ids are the keys"):
        PoscarZipSource(written(tmp_path, {"train": {}}), id_key="a").scan(10, tmp_path / "spool")


# ---- pymatgen dicts in every layout


@pytest.mark.parametrize("structure", [STRUCTURE, ATOMS, ASE_DICT], ids=["pymatgen", "jarvis", "ase"])
@pytest.mark.parametrize("indent", [None, 1])
def test_bare_structure_dicts_in_every_layout(tmp_path, structure, indent):
    def read(value, name="set.json"):
        path = written(tmp_path, value, name, indent=indent) if not isinstance(value, str) else written(tmp_path, value)
        assert pymatgen_json.sniff(read_head(Path(path)))
        entries = read_all(PymatgenSource(path), tmp_path / "spool", 1)
        assert all(e.crystal == CSCL and e.labels == {} for e in entries)
        return [e.id for e in entries]

    assert read(structure) == ["set-0000000"]
    assert read([structure, structure]) == ["set-0000000", "set-0000001"]
    assert read({"mp-1": structure, "mp-2": structure}) == ["mp-1", "mp-2"]
    assert read("\n".join([json.dumps(structure)] * 3)) == ["set-0000000", "set-0000001", "set-0000002"]


@pytest.mark.parametrize("key", ["structure", "atoms", "relaxed"])
def test_records_with_labels_in_every_layout(tmp_path, key):
    record = {"material_id": "mp-7", key: STRUCTURE, "e": -1.5, "f": [[1, 2, 3]], "data": {"x": 1}, "@class": "Entry"}
    expected = ("mp-7", {"e": -1.5, "f": [[1, 2, 3]], "data.x": 1})
    for value in ([record], record, {"other": record}, json.dumps(record) + "\n" + json.dumps(record)):
        path = written(tmp_path, value)
        assert pymatgen_json.sniff(read_head(Path(path)))
        for entry in read_all(PymatgenSource(path), tmp_path / "spool"):
            assert entry.crystal == CSCL
            assert (entry.id, entry.labels) == expected


@pytest.mark.parametrize("value", [POSCAR, POSCAR.replace("\n", "\\n"), json.dumps(ATOMS)])
def test_a_record_may_hold_its_structure_as_text(tmp_path, value):
    (entry,) = read_all(PymatgenSource(written(tmp_path, [{"name": "x", "text": value}])), tmp_path / "spool")
    assert entry.crystal == CSCL
    assert entry.labels == {"name": "x"}


def test_a_broken_value_of_a_mapping_keeps_its_key(tmp_path):
    text = f'{{"mp-1": {json.dumps(STRUCTURE)}, "mp-2": {{"lattice": tru}}, "mp-3" 5, "mp-4": null}}'
    entries = read_all(PymatgenSource(written(tmp_path, text)), tmp_path / "spool")
    assert [e.id for e in entries] == ["mp-1", "mp-2", "set-0000002", "mp-4"]
    assert [isinstance(e.crystal, Crystal) for e in entries] == [True, False, False, False]


def test_a_broken_line_of_jsonl_is_one_bad_entry(tmp_path):
    good = json.dumps({"id": 1, "structure": STRUCTURE})
    path = written(tmp_path, "\n".join([good, good[:50], "", good]), "set.jsonl")
    entries = read_all(PymatgenSource(path, id_key="id"), tmp_path / "spool", 1)
    assert [(e.id, isinstance(e.crystal, Crystal)) for e in entries] == [
        ("1", True),
        ("set-0000001", False),
        ("1", True),
    ]


def test_a_disordered_structure_says_so(tmp_path):
    site = {"species": [{"element": "Cs", "occu": 0.5}, {"element": "Rb", "occu": 0.5}], "abc": [0, 0, 0]}
    (entry,) = read_all(PymatgenSource(written(tmp_path, [STRUCTURE | {"sites": [site]}])), tmp_path / "spool")
    assert isinstance(entry.crystal, StructureError)
    assert "disordered" in str(entry.crystal)


def test_what_pymatgen_writes_is_read(tmp_path):
    structure = CSCL.to_pymatgen()
    (entry,) = read_all(PymatgenSource(written(tmp_path, structure.to_json())), tmp_path / "spool")
    assert entry.crystal == CSCL


def test_a_structure_longer_than_the_head_is_recognised(tmp_path):
    """4,000 sites are 300 kB: the first record does not end within the 64 KiB that are looked at."""
    many = STRUCTURE | {"sites": STRUCTURE["sites"] * 2000}
    for value, layout in [
        ([many], Layout.ARRAY),
        ({"a": many}, Layout.MAPPING),
        (many, Layout.LINES),
        ({"id": 1, "structure": many}, Layout.LINES),
    ]:
        head = read_head(Path(written(tmp_path, value)))
        assert pymatgen_json.sniff(head)
        assert layout_of(head) is layout
    head = read_head(Path(written(tmp_path, many, indent=1)))
    assert layout_of(head) is Layout.DOCUMENT


def test_a_jarvis_record_longer_than_the_head_is_recognised(tmp_path):
    many = ATOMS | {"coords": ATOMS["coords"] * 5000}
    assert jarvis.sniff(read_head(Path(written(tmp_path, [{"jid": "x", "atoms": many}]))))


def test_a_matbench_index_longer_than_the_head_is_recognised(tmp_path):
    table = {"index": list(range(20_000)), "columns": ["structure", "y"], "data": [[STRUCTURE, 1.0]]}
    path = written(tmp_path, table)
    head = read_head(Path(path))
    assert [kind for kind, module in MODULES.items() if module.sniff(head)] == ["matbench"]
    (entry,) = read_all(MatbenchSource(path), tmp_path / "spool")
    assert entry.crystal == CSCL


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "[]",
        "{}",
        "[1, 2]",
        '{"a": {"b": "c"}}',
        '{"columns": ["composition", "y"], "data": [["NaCl", 1.0]]}',
        '{"name": "lazygraph", "atoms": 5}',
        "id,value\n1,2\n",
        POSCAR,
        '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nCs 0 0 0\nCl 2 2 2\n',
    ],
)
def test_other_texts_are_recognised_by_none(tmp_path, text):
    head = read_head(Path(written(tmp_path, text)))
    assert [kind for kind, module in MODULES.items() if module.sniff(head)] == []


def test_text_that_is_not_json_is_refused(tmp_path):
    with pytest.raises(UnreadableInput, match=r"set\.json: found b'hello'; required: JSON"):
        PymatgenSource(written(tmp_path, "hello")).scan(10, tmp_path / "spool")
