"""CIF from file to dataset: several structures in a file, the formula as the judge, and what the report tells."""

from __future__ import annotations

import csv
import gzip
import json

import pytest

import lazygraph as lg
from lazygraph.cli.main import main_write
from lazygraph.errors import InputError
from lazygraph.sources.detect import open_sources, source_from_json, source_to_json
from lazygraph.sources.options import SourceOptions

CIF = """data_{name}
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {a}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
_chemical_formula_sum '{formula}'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
A1 {one} 0 0 0
A2 {two} 0.5 0.5 0.5
"""
GLOBAL = "data_global\n_publ_section_title\n;\n On salts\n data_none\n _atom_site_label\n;\n"


def cif(one="Na", two="Cl", name="x", a=4.0, formula=None):
    return CIF.format(one=one, two=two, name=name, a=a, formula=formula or f"{one} {two}")


def write(source, tmp_path, **options):
    return lg.write(source, tmp_path / "out.lg", graph="cgcnn", workers=1, progress=False, **options)


def read(tmp_path):
    ds = lg.LazyGraphDataset(tmp_path / "out.lg")
    return dict(zip(map(str, ds.ids), ds.columns["formula"].tolist(), strict=True))


# ---- several structures in a file ----


def test_every_data_block_with_atoms_is_a_structure_with_an_id_of_its_own(tmp_path):
    path = tmp_path / "salts.cif"
    path.write_text(GLOBAL + cif(name="one") + cif("K", "Br", "two") + "data_end\n_a 1\n" + cif("Cs", "I", "three"))
    report = write(path, tmp_path)
    assert (report.written, report.quarantined) == (3, 0)
    assert read(tmp_path) == {"salts-one": "ClNa", "salts-two": "BrK", "salts-three": "CsI"}
    assert report.notes == (
        "2 data blocks of CIFs list no atoms and were left out: global of salts.cif, end of salts.cif",
    )


def test_a_broken_block_is_quarantined_and_the_others_are_read(tmp_path):
    broken = cif(name="two").replace("0.5 0.5 0.5", "? ? ?")
    (tmp_path / "salts.cif").write_text(cif(name="one") + broken + cif("K", "Br", "three") + cif("K", "I", "one"))
    report = write(tmp_path / "salts.cif", tmp_path)
    assert (report.written, report.quarantined) == (2, 2)
    rows = [json.loads(line) for line in report.quarantine_file.read_text().splitlines()]
    assert [(row["id"], row["error"]) for row in rows] == [
        ("salts-two", "UnreadableInput"),
        ("salts-one", "DuplicateId"),
    ]


def test_one_block_with_atoms_keeps_the_name_of_the_file(tmp_path):
    (tmp_path / "salt.cif").write_text(GLOBAL + cif())
    assert write(tmp_path / "salt.cif", tmp_path).written == 1
    assert list(read(tmp_path)) == ["salt"]


def test_a_file_that_does_not_begin_like_a_cif_is_read_by_its_name_with_a_note(tmp_path):
    """jarvis-tools writes a comment without "#"."""
    (tmp_path / "salt.cif").write_text("CIF file written by a program.\n" + cif())
    report = write(tmp_path / "salt.cif", tmp_path)
    assert report.written == 1
    assert "what stands before data_x" in report.notes[0]


@pytest.mark.slow
def test_many_blocks_are_read_in_parts_and_from_packed_files(tmp_path):
    text = "".join(cif(name=f"b{i}", a=4 + i / 100) for i in range(30))
    (tmp_path / "all.cif.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "z.cif").write_text(text)
    report = lg.write([tmp_path / "all.cif.gz", tmp_path / "z.cif"], tmp_path / "out.lg", shard_size=7, progress=False)
    assert (report.written, report.quarantined) == (60, 0)
    ds = lg.LazyGraphDataset(tmp_path / "out.lg")
    assert [str(i) for i in ds.ids] == [f"{stem}-b{i}" for stem in ("all", "z") for i in range(30)]
    assert [round(float(ds[i].cell[0, 0, 0]), 2) for i in (0, 31, 59)] == [4.0, 4.01, 4.29]


def test_a_record_with_several_structures_is_quarantined(tmp_path):
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "cif", "e"], ["a", cif(), 1], ["b", cif(name="p") + cif(name="q"), 2]])
    report = write(tmp_path / "t.csv", tmp_path)
    assert (report.written, report.quarantined) == (1, 1)
    assert "holds 2 structures (p, q)" in report.quarantine_file.read_text()


def test_a_file_with_several_structures_beside_id_prop_is_quarantined(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "id_prop.csv").write_text("a,1\nb,2\n")
    (folder / "a.cif").write_text(cif())
    (folder / "b.cif").write_text(cif(name="p") + cif(name="q"))
    report = write(folder, tmp_path)
    assert (report.written, report.quarantined) == (1, 1)


# ---- the formula decides ----


@pytest.fixture(params=["files", "csv", "id-prop", "json", "python"])
def contradicting(request, tmp_path):
    """Every kind of source that holds CIF: one good crystal, and two that contradict their formula."""
    texts = {"a": cif(), "b": cif(formula="Na Cl O"), "c": cif("K", "Br", formula="K2 Br")}
    folder = tmp_path / "set"
    folder.mkdir()
    if request.param == "python":
        return list(texts.items())
    if request.param == "csv":
        with (folder / "t.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["material_id", "cif", "e"], *([key, text, 1] for key, text in texts.items())])
        return folder / "t.csv"
    if request.param == "json":
        rows = [{"material_id": key, "cif": text, "e": 1.0} for key, text in texts.items()]
        (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder / "t.jsonl"
    for key, text in texts.items():
        (folder / f"{key}.cif").write_text(text)
    if request.param == "id-prop":
        (folder / "id_prop.csv").write_text("".join(f"{key},1\n" for key in texts))
    return folder


def test_a_contradiction_is_quarantined_kept_with_a_note_or_kept(contradicting, tmp_path):
    report = write(contradicting, tmp_path)
    assert (report.written, report.quarantined) == (1, 2)
    text = report.quarantine_file.read_text()
    assert "the cell holds Cl Na, which is not in the ratio of the formula 'Na Cl O'" in text
    report = write(contradicting, tmp_path, overwrite=True, cif_formula="warn")
    assert (report.written, report.quarantined) == (3, 0)
    (note,) = [note for note in report.notes if "contradict" in note]
    assert note.startswith(
        "2 inputs contradict the formula or Z of their CIF and were kept all the same: 'b' (the cell"
    )
    assert note in lg.LazyGraphDataset(tmp_path / "out.lg").manifest.provenance.notes
    report = write(contradicting, tmp_path, overwrite=True, cif_formula="ignore")
    assert (report.written, report.quarantined) == (3, 0)
    assert not [note for note in report.notes if "contradict" in note]


@pytest.mark.slow
def test_a_note_counts_all_inputs_and_names_the_first(tmp_path):
    rows = [["id", "cif", "e"], *([f"m{i}", cif(formula="Na2 Cl"), i] for i in range(40))]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    report = lg.write(
        tmp_path / "t.csv",
        tmp_path / "out.lg",
        shard_size=10,
        workers=2,
        progress=False,
        cif_formula="warn",
        id_key="id",
    )
    (note,) = [note for note in report.notes if "contradict" in note]
    assert note.startswith("40 inputs")
    assert note.endswith(", ...")
    assert [f"'m{i}'" in note for i in (0, 4, 5)] == [True, True, False]


def test_the_command_line_takes_the_option(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.cif").write_text(cif(formula="Na2 Cl"))
    assert main_write(["a.cif", "-o", "a.lg", "--workers", "1"]) == 2
    assert "not in the ratio of the formula 'Na2 Cl'" in capsys.readouterr().err
    assert main_write(["a.cif", "-o", "a.lg", "--workers", "1", "--cif-formula", "warn"]) == 0
    assert "note: 1 inputs contradict" in capsys.readouterr().err


def test_an_unknown_value_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown value 'no' of cif_formula; allowed: error, warn, ignore"):
        write([cif()], tmp_path, cif_formula="no")


@pytest.mark.parametrize("name", ["a.cif", "t.csv", "set", "t.json"])
def test_options_travel_with_the_source_as_json(tmp_path, name):
    (tmp_path / "a.cif").write_text(cif())
    (tmp_path / "t.csv").write_text('id,cif\n1,"' + cif() + '"\n')
    (tmp_path / "t.json").write_text(json.dumps([{"cif": cif(), "e": 1}]))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "id_prop.csv").write_text("a,1\n")
    options = SourceOptions(cif_formula="warn")
    (source,) = open_sources(tmp_path / name, options=options)
    assert source.options == options
    data = json.loads(json.dumps(source_to_json(source)))
    assert data["options"] == {"cif_formula": "warn"}
    assert source_from_json(data) == source
    assert "options" not in source_to_json(open_sources(tmp_path / name)[0])
    with pytest.raises(InputError, match=r"unknown source options \['strict'\]; allowed: cif_formula"):
        source_from_json(data | {"options": {"strict": True}})
