"""Parquet tables with the columns of LeMaterial and ColabFit, and with structures in one column; row groups; damage."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

import lazygraph as lg
from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, StructureError, UnreadableInput
from lazygraph.sources.base import Cut
from lazygraph.sources.parquet import ParquetSource

REALS = pa.list_(pa.list_(pa.float64()))
LEMATERIAL = pa.schema(
    [
        ("elements", pa.list_(pa.string())), ("nsites", pa.int32()), ("chemical_formula_reduced", pa.string()),
        ("dimension_types", pa.list_(pa.int8())), ("lattice_vectors", REALS), ("immutable_id", pa.string()),
        ("cartesian_site_positions", REALS), ("species", pa.string()), ("species_at_sites", pa.list_(pa.string())),
        ("last_modified", pa.string()), ("stress_tensor", REALS), ("energy", pa.float64()),
        ("magnetic_moments", pa.list_(pa.float64())), ("forces", REALS), ("total_magnetization", pa.float64()),
        ("functional", pa.string()), ("cross_compatibility", pa.bool_()),
    ]
)  # fmt: skip
COLABFIT = pa.schema(
    [
        ("property_id", pa.string()), ("energy", pa.float64()), ("atomic_forces", REALS), ("cauchy_stress", REALS),
        ("configuration_id", pa.string()), ("cell", REALS), ("positions", REALS), ("pbc", pa.list_(pa.bool_())),
        ("atomic_numbers", pa.list_(pa.int32())), ("names", pa.list_(pa.string())),
        ("last_modified", pa.timestamp("us")),
    ]
)  # fmt: skip


def lematerial(n):
    cell = [[0, 2.8, 2.8 + n / 64], [2.8, 0, 2.8], [2.8, 2.8, 0]]
    kind = [{"name": s, "chemical_symbols": [s], "concentration": [1.0], "mass": None} for s in ("Na", "Cl")]
    return {
        "elements": ["Cl", "Na"], "nsites": 2, "chemical_formula_reduced": "ClNa", "dimension_types": [1, 1, 1],
        "lattice_vectors": cell, "immutable_id": f"mp-{n}", "cartesian_site_positions": [[0, 0, 0], [2.8, 2.8, 2.8]],
        "species": json.dumps(kind), "species_at_sites": ["Na", "Cl"], "last_modified": "2024-01-01",
        "stress_tensor": None if n % 2 else [[1.0, 0, 0], [0, n, 0], [0, 0, 3]], "energy": -n / 3,
        "magnetic_moments": None if n % 3 else [0.5, n / 7], "forces": [[0.1, 0, n], [-0.1, 0, -n]],
        "total_magnetization": None, "functional": "pbe", "cross_compatibility": True,
    }  # fmt: skip


def colabfit(n):
    return {
        "property_id": f"PO_{n}", "energy": -n / 3, "atomic_forces": [] if n % 2 else [[0.1, 0, n]] * (1 + n % 3),
        "cauchy_stress": [], "configuration_id": "CO_1", "cell": [[3.0, 0, 0], [0, 4, 0], [0, 0, 5 + n / 8]],
        "positions": [[0.0, 0, 1.5 * k] for k in range(1 + n % 3)], "pbc": [True, True, False],
        "atomic_numbers": [6 + k for k in range(1 + n % 3)], "names": ["a"], "last_modified": None,
    }  # fmt: skip


def write(path, rows, schema=None, **how):
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, **how)
    return path


def plain(values):
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


@pytest.mark.parametrize("how", [{}, {"row_group_size": 7, "compression": "zstd"}, {"row_group_size": 1}])
def test_the_columns_of_lematerial(tmp_path, entries_of, how):
    rows = [lematerial(n) for n in range(40)]
    scan, entries = entries_of(write(tmp_path / "bulk.parquet", rows, LEMATERIAL, **how), every=6)
    assert scan.implied.units["forces"] == "eV/A"
    for row, entry in zip(rows, entries, strict=True):
        assert entry.id == row["immutable_id"]
        expected = Crystal.from_cartesian(row["lattice_vectors"], row["cartesian_site_positions"], [11, 17])
        assert entry.crystal == expected
        names = ["stress_tensor", "energy", "magnetic_moments", "forces", "total_magnetization", "functional"]
        assert plain(entry.labels) == {name: row[name] for name in [*names, "cross_compatibility"]}


@pytest.mark.parametrize("how", [{}, {"row_group_size": 7}])
def test_the_columns_of_colabfit(tmp_path, entries_of, how):
    rows = [colabfit(n) for n in range(30)]
    scan, entries = entries_of(write(tmp_path / "co_0.parquet", rows, COLABFIT, **how), every=4)
    assert scan.implied.units["cauchy_stress"] == "eV/A^3"
    for row, entry in zip(rows, entries, strict=True):
        assert entry.id == row["property_id"]
        numbers = np.array(row["atomic_numbers"])
        assert entry.crystal == Crystal.from_cartesian(row["cell"], row["positions"], numbers, (True, True, False))
        assert plain(entry.labels)["atomic_forces"] == (row["atomic_forces"] or None)
        assert entry.labels["cauchy_stress"] is None
        assert entry.labels["energy"] == row["energy"]


def test_a_dataset_of_them_has_labels_units_and_fields(tmp_path):
    path = write(tmp_path / "co.parquet", [colabfit(n) for n in range(30)], COLABFIT)
    report = lg.write(path, tmp_path / "co.lg", graph="cgcnn", workers=1, progress=False)
    ds = lg.LazyGraphDataset(tmp_path / "co.lg")
    assert (report.written, report.quarantined) == (30, 0)
    assert {name: column.unit for name, column in ds.manifest.labels().items()} == {"energy": "eV"}
    assert ds.manifest.schema["atomic_forces"].unit == "eV/A"
    assert any("'cauchy_stress'" in note and "no value" in note for note in report.notes)


STRUCTURE = Structure(
    Lattice([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]]), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)


@pytest.mark.parametrize("form", ["cif", "json", "poscar", "struct"])
def test_a_column_of_structures(tmp_path, entries_of, form):
    value = {
        "cif": lambda: STRUCTURE.to(fmt="cif"),
        "json": STRUCTURE.to_json,
        "poscar": lambda: STRUCTURE.to(fmt="poscar"),
        "struct": lambda: {
            "lattice_mat": STRUCTURE.lattice.matrix.tolist(), "coords": STRUCTURE.frac_coords.tolist(),
            "elements": ["Na", "Cl"], "cartesian": False,
        },
    }[form]()  # fmt: skip
    rows = [{"material_id": f"m{n}", "structure": value, "gap": n / 2} for n in range(3)]
    _, entries = entries_of(write(tmp_path / "a.parquet", rows))
    assert [entry.id for entry in entries] == ["m0", "m1", "m2"]
    assert [entry.labels for entry in entries] == [{"gap": n / 2} for n in range(3)]
    assert all(entry.crystal.formula == "ClNa" for entry in entries)


def test_a_row_without_a_structure_is_a_bad_entry_and_takes_no_other(tmp_path, entries_of):
    text = STRUCTURE.to(fmt="cif")
    rows = [{"cif": text, "cif_initial": text, "e": 1.0}, {"cif": None, "cif_initial": text, "e": 2.0}]
    scan, entries = entries_of(write(tmp_path / "a.parquet", rows))
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [True, False]
    assert "structures are read from 'cif'; 'cif_initial'" in scan.notes[0]
    with pytest.raises(UnreadableInput, match="no column 'nope'"):
        entries_of(tmp_path / "a.parquet", id_key="nope")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"species": json.dumps([{"name": "Na", "chemical_symbols": ["Na", "K"], "concentration": [0.5, 0.5]}])},
         StructureError, "one whole atom"),
        ({"species": json.dumps([{"name": "Na", "chemical_symbols": ["vacancy"], "concentration": [1.0]}])},
         StructureError, "one whole atom"),
        ({"nsites": 3}, StructureError, "nsites is 3"),
        ({"chemical_formula_reduced": "Cl2Na"}, StructureError, "chemical_formula_reduced is Cl2Na"),
        ({"species_at_sites": None}, UnreadableInput, "no species_at_sites"),
        ({"species_at_sites": ["Na", "Wat"]}, StructureError, "'Wat'"),
    ],
)  # fmt: skip
def test_structures_that_are_none(change, error, message, tmp_path, entries_of):
    rows = [lematerial(0), lematerial(1) | change]
    _, (good, bad) = entries_of(write(tmp_path / "a.parquet", rows, LEMATERIAL))
    assert isinstance(good.crystal, Crystal)
    assert type(bad.crystal) is error
    assert message in str(bad.crystal)


@pytest.mark.slow
@settings(max_examples=60)
@given(rows=st.integers(0, 60), group=st.integers(1, 70), every=st.integers(1, 70), page=st.integers(64, 4096))
def test_cuts_and_row_groups_do_not_matter(tmp_path_factory, rows, group, every, page):
    folder = tmp_path_factory.mktemp("parquet")
    table = [colabfit(n) for n in range(rows)]
    source = ParquetSource(str(write(folder / "a.parquet", table, COLABFIT, row_group_size=group, data_page_size=page)))
    scan = source.scan(every, folder / "spool")
    ids = [
        entry.id
        for number, mark in enumerate(scan.marks)
        for entry in source.read(Cut(mark, number * every, min(every, rows - number * every)), folder / "spool")
    ]
    assert ids == [f"PO_{n}" for n in range(rows)]


@settings(max_examples=100)
@given(data=st.data())
def test_damage_is_an_error_or_a_bad_entry(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    raw = bytearray(write(folder / "a.parquet", [colabfit(n) for n in range(9)], COLABFIT).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(4, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.parquet").write_bytes(raw[: data.draw(st.integers(len(raw) // 2, len(raw)))])
    source = ParquetSource(str(folder / "a.parquet"))
    try:
        scan = source.scan(10, folder / "spool")
        entries = list(source.read(Cut(0, 0, min(scan.entries, 20)), folder / "spool"))
    except UnreadableInput:
        return
    assert all(isinstance(entry.crystal, (Crystal, InputError)) for entry in entries)


def test_lists_with_nulls_and_of_unequal_length_are_kept_as_they_are(tmp_path, entries_of):
    rows = [colabfit(0) | {"a": [1.0, None], "b": [[1.0], [1.0, 2.0]], "c": [1, 2]}, colabfit(1) | {"a": None}]
    _, (first, second) = entries_of(write(tmp_path / "a.parquet", rows))
    assert first.labels["a"] == [1.0, None]
    assert first.labels["b"] == [[1.0], [1.0, 2.0]]
    assert list(first.labels["c"]) == [1, 2]
    assert second.labels["a"] is None
