"""Nothing that stands beside a structure is dropped without a word; units that sources imply."""

from __future__ import annotations

import json

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.crystal import Crystal
from lazygraph.format.manifest import Manifest

ATOMS = {
    "lattice_mat": np.diag([4.0] * 3).tolist(),
    "coords": [[0, 0, 0], [0.5] * 3],
    "elements": ["Cs", "Cl"],
    "cartesian": False,
}


def records(path, rows):
    path.write_text(json.dumps([{"jid": f"J-{n}", "atoms": ATOMS} | row for n, row in enumerate(rows)]))
    return path


def units(path):
    return {name: column.unit for name, column in Manifest.load(path).labels().items()}


def test_a_column_that_no_sampled_input_has_is_named(tmp_path, write, monkeypatch):
    monkeypatch.setattr("lazygraph.writing.plan.SAMPLES", 4)
    rows = [{"gap": n / 2} | ({"late": 7.0, "other": None} if n > 20 else {}) for n in range(24)]
    report = write(records(tmp_path / "a.json", rows), tmp_path / "a.lg", shard_size=24)
    (note,) = [note for note in report.notes if "'late'" in note]
    assert note.startswith("3 inputs have a value under 'late', a name that none of the inputs looked at has")
    assert not any("'other'" in note for note in report.notes)
    assert not any("late" in note for note in write(tmp_path / "a.json", tmp_path / "b.lg", labels=["gap"]).notes)
    assert "add it to the dataset with lazygraph labels --from FILE" in note
    assert main(["labels", str(tmp_path / "a.lg"), "--from", str(tmp_path / "a.json"), "--label", "late"]) == 0
    assert lg.LazyGraphDataset(tmp_path / "a.lg", target="late")["J-23"].y.item() == 7.0


def test_columns_that_cannot_be_labels_are_named_once(tmp_path, write):
    rows = [{"spg": "P1", "gap": 1.0, "formula": "CsCl", "doc": {"a": {"b": 1}}, "ok": True} for _ in range(5)]
    report = write(records(tmp_path / "a.json", rows), tmp_path / "a.lg")
    assert [note for note in report.notes if "left out" in note] == [
        "column 'formula' is left out: lazygraph uses this name itself; rename the column",
        "column 'doc.a' is left out: objects, and labels are numbers or texts",
    ]
    assert set(units(tmp_path / "a.lg")) == {"gap", "ok"}


def test_an_append_names_what_the_dataset_has_no_label_for(tmp_path, write, append):
    write(records(tmp_path / "a.json", [{"gap": 1.0}] * 2), tmp_path / "a.lg")
    rows = [{"jid": f"K-{n}", "gap": 2.0, "hull": 0.5, "spg": "P1"} for n in range(2)]
    report = append(tmp_path / "a.lg", records(tmp_path / "b.json", rows))
    assert [note for note in report.notes if "left out" in note] == [
        "columns 'hull', 'spg' are left out: the dataset has no such label; 'lazygraph labels' adds one"
    ]


def test_units_of_jarvis_are_set_and_can_be_overridden(tmp_path, write):
    path = records(tmp_path / "a.json", [{"optb88vdw_bandgap": 1.0, "mine": 2.0}] * 2)
    report = write(path, tmp_path / "a.lg")
    assert units(tmp_path / "a.lg") == {"optb88vdw_bandgap": "eV", "mine": None}
    (note,) = [note for note in report.notes if note.startswith("units by JARVIS-DFT")]
    assert "optb88vdw_bandgap in eV" in note
    assert "mine" not in note
    write(path, tmp_path / "b.lg", units={"optb88vdw_bandgap": "Ry"})
    assert units(tmp_path / "b.lg") == {"optb88vdw_bandgap": "Ry", "mine": None}


FRAME = """2
Lattice="4 0 0 0 5 0 0 0 6" Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=-1.5 REF_stress="1 0 {}"
Na 0 0 0 0.1 0.2 0.3
Cl 2 2.5 3 -0.1 -0.2 -0.3
"""


def test_units_of_extended_xyz_are_those_of_ase_and_mace(tmp_path, write):
    (tmp_path / "a.xyz").write_text("".join(map(FRAME.format, range(3))))
    write(tmp_path / "a.xyz", tmp_path / "a.lg")
    manifest = Manifest.load(tmp_path / "a.lg")
    assert units(tmp_path / "a.lg") == {"REF_energy": "eV", "REF_stress": "eV/A^3"}
    assert manifest.schema["REF_forces"].unit == "eV/A"


def test_an_append_in_another_unit_is_refused(tmp_path, write, append):
    (tmp_path / "a.xyz").write_text(FRAME.format(1))
    write(tmp_path / "a.xyz", tmp_path / "a.lg", units={"REF_energy": "meV"})
    (tmp_path / "b.xyz").write_text(FRAME.format(2))
    with pytest.raises(lg.InputError, match="'REF_energy' of the dataset is in meV, and by extended XYZ.*is in eV"):
        append(tmp_path / "a.lg", tmp_path / "b.xyz")
    append(tmp_path / "a.lg", tmp_path / "b.xyz", units={"REF_energy": "meV"})
    assert Manifest.load(tmp_path / "a.lg").graphs == 2


def test_labels_of_atoms_come_from_the_format(tmp_path, write):
    """Two atoms in each: a pair of numbers of the record is of the crystal, properties of sites are of the atoms."""
    structure = Crystal(np.diag([4.0] * 3), [[0, 0, 0], [0.5] * 3], [55, 17]).to_pymatgen()
    structure.add_site_property("magmom", [0.5, 1.5])
    structure.add_site_property("wyckoff", ["a", "b"])
    report = write([(f"m{n}", structure, {"pair": [1.0, n]}) for n in range(3)], tmp_path / "a.lg")
    ds = lg.LazyGraphDataset(tmp_path / "a.lg")
    assert ds.columns["pair"].shape == (3, 2)
    assert ds[1].magmom.tolist() == [0.5, 1.5]
    assert any("'wyckoff' is left out: lists with text" in note for note in report.notes)


def test_labels_set_later_name_what_they_leave_out(tmp_path, write, capsys):
    from lazygraph.cli.main import main

    write(records(tmp_path / "a.json", [{"gap": 1.0}] * 2), tmp_path / "a.lg")
    (tmp_path / "t.csv").write_text(f"jid;hull;note\nJ-0;0,5;{'x' * 300}\nJ-1;1,5;{'y' * 300}\n")
    assert main(["labels", str(tmp_path / "a.lg"), "--from", str(tmp_path / "t.csv")]) == 0
    assert "note: column 'note' is left out: texts of more than 255 bytes" in capsys.readouterr().err
    assert lg.LazyGraphDataset(tmp_path / "a.lg").columns["hull"].tolist() == [0.5, 1.5]
