"""All of many: in every way in which JSON holds several structures, each is read, with an id of its own, or refused."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.sources.base import Cut
from lazygraph.sources.detect import open_sources
from lazygraph.sources.pandas_json import PandasSource
from lazygraph.sources.pymatgen_json import PymatgenSource


def structure(n, **properties):
    return Structure(
        Lattice.cubic(4 + n / 8),
        ["Cs", "Cl"],
        [[0, 0, 0], [0.5] * 3],
        site_properties={"magmom": [0.5, n]},
        properties=properties,
    )


def as_dict(n, **properties):
    return json.loads(structure(n, **properties).to_json())


CRYSTALS = [Crystal.from_any(structure(n)) for n in range(4)]


def put(path, value, **how):
    path.write_text(value if isinstance(value, str) else json.dumps(value, **how))
    return path


def check(entries, ids):
    assert [entry.id for entry in entries] == ids
    assert [entry.crystal for entry in entries] == CRYSTALS[: len(ids)]


# ---- maps, lists and groups


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("first", ["version", "z"])
def test_structures_beside_scalars_are_all_read(first, indent, tmp_path, entries_of):
    """A scalar before the structures does not make the file one record, of which one structure is read."""
    parts = {"version": "2024", **{f"m{n}": as_dict(n) for n in range(3)}}
    path = put(tmp_path / "set.json", parts if first == "version" else dict(reversed(parts.items())), indent=indent)
    _, entries = entries_of(path)
    good = [entry for entry in entries if isinstance(entry.crystal, Crystal)]
    assert {entry.id: entry.crystal for entry in good} == {f"m{n}": CRYSTALS[n] for n in range(3)}
    (bad,) = [entry for entry in entries if not isinstance(entry.crystal, Crystal)]
    assert bad.id == "version"


def test_a_map_that_the_beginning_of_the_file_does_not_show(tmp_path, entries_of):
    """The first structure alone is longer than what is looked at."""
    many = Structure(Lattice.cubic(40), ["Na"] * 900, np.random.default_rng(0).random((900, 3)))
    parts = {"version": "1", "m0": json.loads(many.to_json()), "m1": as_dict(1), "m2": as_dict(2)}
    assert len(json.dumps(parts["m0"])) > 1 << 17
    _, entries = entries_of(put(tmp_path / "set.json", parts))
    assert [entry.id for entry in entries] == ["version", "m0", "m1", "m2"]
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [False, True, True, True]


def test_a_record_with_two_structures_is_one_record(tmp_path, entries_of):
    record = {"material_id": "m0", "initial_structure": as_dict(1), "final_structure": as_dict(0), "e": 1.0}
    for value in (
        record,
        [record],
        {"a": record | {"material_id": None}},
        json.dumps(record) + "\n" + json.dumps(record),
    ):
        scan, entries = entries_of(put(tmp_path / "set.json", value))
        assert all(entry.crystal == CRYSTALS[0] for entry in entries)
        assert all(entry.labels == {"e": 1.0} for entry in entries)
        assert len(scan.notes) == 1
        assert "read from 'final_structure'; 'initial_structure' holds structures too: choose with" in scan.notes[0]


@pytest.mark.parametrize("key", ["entries", "data", "structures", "materials"])
def test_a_list_under_a_key(key, tmp_path, entries_of):
    parts = {
        "meta": {"n": 3},
        key: [{"material_id": f"m{n}", "structure": as_dict(n)} for n in range(3)],
        "tags": ["a", "b"],
    }
    scan, entries = entries_of(put(tmp_path / "set.json", parts))
    check(entries, ["m0", "m1", "m2"])
    assert scan.notes == ("3 values beside the records are not read: 'meta', 'tags'",)


def test_lists_of_splits(tmp_path, entries_of):
    rows = [{"material_id": f"m{n}", "structure": as_dict(n)} for n in range(4)]
    scan, entries = entries_of(
        put(tmp_path / "set.json", {"train": rows[:2], "val": rows[2:3], "test": rows[3:]}), every=1
    )
    check(entries, ["m0", "m1", "m2", "m3"])
    assert [entry.split for entry in entries] == ["train", "train", "val", "test"]
    assert scan.notes == ()


def frame(n, **more):
    record = {
        "structure": as_dict(n), "uncorrected_total_energy": -n / 3, "corrected_total_energy": -n / 3,
        "energy_per_atom": -n / 6, "ef_per_atom": 0.1, "e_per_atom_relaxed": -1.0, "ef_per_atom_relaxed": 0.0,
        "force": [[0.1, 0, n], [0, 0, -n]], "stress": [[1, 0, 0], [0, 1, 0], [0, 0, n]], "magmom": [0.5, n],
        "bandgap": 0.0, "mp_id": "mp-1",
    }  # fmt: skip
    return record | more


@pytest.mark.slow
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(1, 5), st.sampled_from([None, 1]))
def test_mptrj_has_its_frames_one_level_deeper(tmp_path_factory, sizes, every, indent):
    folder = tmp_path_factory.mktemp("mptrj")
    groups, ids = {}, []
    for number, size in enumerate(sizes):
        groups[f"mp-{number}"] = {f"mp-{number}-0-{k}": frame(k) for k in range(size)}
        ids += groups[f"mp-{number}"]
    path = put(folder / "MPtrj.json", groups, indent=indent)
    (source,) = open_sources(path)
    assert isinstance(source, PymatgenSource)
    scan = source.scan(every, folder / "spool")
    entries = [
        e
        for number, mark in enumerate(scan.marks)
        for e in source.read(Cut(mark, number * every, min(every, scan.entries - number * every)), folder / "spool")
    ]
    assert [e.id for e in entries] == ids
    for e in entries:
        assert e.crystal == CRYSTALS[int(e.id[-1])]
        assert e.labels["force"] == [[0.1, 0, int(e.id[-1])], [0, 0, -int(e.id[-1])]]
        assert e.atom_labels == {"magmom": [0.5, int(e.id[-1])]}
    assert scan.implied.units["stress"] == "kbar"


def test_ids_of_groups_that_repeat_get_the_group_before_them(tmp_path, entries_of):
    groups = {f"mp-{n}": {"0": as_dict(n), "1": as_dict(n)} for n in range(2)}
    _, entries = entries_of(put(tmp_path / "set.json", groups), every=1)
    assert [entry.id for entry in entries] == ["mp-0-0", "mp-0-1", "mp-1-0", "mp-1-1"]


def test_groups_that_look_like_a_table_are_refused_rather_than_lost(tmp_path):
    """The first group alone fills the beginning of the file."""
    many = {
        str(n): json.loads(Structure(Lattice.cubic(9), ["Na"] * 90, np.full((90, 3), 0.5)).to_json()) for n in range(20)
    }
    path = put(tmp_path / "set.json", {"mp-0": many, "mp-1": many})
    (source,) = open_sources(path)
    with pytest.raises(UnreadableInput, match="the columns 'mp-0', 'mp-1' hold structures, and none has a usual name"):
        source.scan(10, tmp_path / "spool")


def test_maps_of_splits(tmp_path, entries_of):
    groups = {"train": {"0": as_dict(0), "1": as_dict(1)}, "test": {"2": as_dict(2)}}
    _, entries = entries_of(put(tmp_path / "set.json", groups))
    check(entries, ["0", "1", "2"])
    assert [entry.split for entry in entries] == ["train", "train", "test"]


def test_computed_entries_of_pymatgen_and_alexandria(tmp_path, entries_of):
    entries = [
        ComputedStructureEntry(structure(n), -n / 3, data={"mat_id": f"agm{n}", "e_above_hull": n / 4}, entry_id=None)
        for n in range(3)
    ]
    value = {"entries": [json.loads(json.dumps(e.as_dict())) for e in entries]}
    _, found = entries_of(put(tmp_path / "alexandria_000.json", value), id_key="data.mat_id")
    check(found, ["agm0", "agm1", "agm2"])
    assert [entry.labels["energy"] for entry in found] == [-n / 3 for n in range(3)]
    assert [entry.labels["data.e_above_hull"] for entry in found] == [n / 4 for n in range(3)]


def test_structures_one_key_deeper_are_found(tmp_path, entries_of):
    """Matbench Discovery's table of entries."""
    rows = [{"material_id": f"m{n}", "entry": {"energy": -1.0, "structure": as_dict(n)}} for n in range(3)]
    scan, entries = entries_of(put(tmp_path / "set.json", rows))
    check(entries, ["m0", "m1", "m2"])
    assert entries[0].labels == {"entry.energy": -1.0}
    assert scan.notes == ("structures are read from 'entry.structure'",)


def test_documents_of_the_materials_project(tmp_path, entries_of):
    docs = [
        {
            "@module": "emmet.core.summary", "@class": "SummaryDoc", "material_id": f"mp-{n}", "formula_pretty": "CsCl",
            "structure": as_dict(n), "energy_above_hull": n / 4, "band_gap": 1.0, "is_stable": n == 0,
            "symmetry": {"symbol": "Pm-3m", "number": 221}, "bulk_modulus": {"vrh": 17.0, "voigt": None},
            "ordering": {"@module": "pymatgen", "@class": "Ordering", "value": "NM"}, "warnings": [],
        }
        for n in range(3)
    ]  # fmt: skip
    for value in (docs, {"data": docs * 40, "meta": {"total_doc": 3}}, "\n".join(map(json.dumps, docs))):
        scan, entries = entries_of(put(tmp_path / "mp.json", value))
        check(entries[:3], ["mp-0", "mp-1", "mp-2"])
        assert scan.implied.units["bulk_modulus.vrh"] == "GPa"
        labels = entries[1].labels
        assert (labels["energy_above_hull"], labels["is_stable"], labels["symmetry.number"]) == (0.25, False, 221)
        assert (labels["ordering"], labels["bulk_modulus.vrh"], labels["warnings"]) == ("NM", 17.0, [])


# ---- pandas


FRAME = pd.DataFrame(
    {"material_id": ["m0", "m1", "m2"], "structure": [as_dict(n) for n in range(3)], "e": [0.5, None, 1.5]}
)


@pytest.mark.parametrize("orient", ["columns", "records", "index", "split", "table"])
@pytest.mark.parametrize("pack", [None, gzip.compress])
def test_every_orientation_of_pandas(orient, pack, tmp_path, entries_of):
    text = FRAME.to_json(orient=orient)
    path = tmp_path / "set.json"
    path.write_bytes(text.encode() if pack is None else pack(text.encode()))
    _, entries = entries_of(path)
    check(entries, ["m0", "m1", "m2"])
    assert [entry.labels["e"] for entry in entries] == [0.5, None, 1.5]


@pytest.mark.parametrize("columns", [["structure"], ["e", "structure"], ["structure", "e"]])
def test_an_index_of_ids(columns, tmp_path, entries_of):
    frame = FRAME.set_index("material_id")[columns]
    _, entries = entries_of(put(tmp_path / "set.json", frame.to_json()))
    check(entries, ["m0", "m1", "m2"])


def test_columns_of_texts_are_no_splits_of_poscars(tmp_path, entries_of):
    frame = pd.DataFrame({"cif": [structure(n).to(fmt="cif") for n in range(3)], "e": [0.0, 1.0, 2.0]})
    (source,) = open_sources(put(tmp_path / "set.json", frame.to_json()))
    assert source.kind == "pandas"
    _, entries = entries_of(tmp_path / "set.json")
    assert [entry.labels for entry in entries] == [{"e": 0.0}, {"e": 1.0}, {"e": 2.0}]
    assert [len(entry.crystal) for entry in entries] == [2, 2, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["e"].pop("2"), "ends before the row '2'"),
        (lambda t: t["e"].update({"3": 1}), "has more rows"),
        (lambda t: t["e"].update({"9": t["e"].pop("0")}), "has the row '1' where"),
        (lambda t: t.update({"note": "x"}), "required: columns"),
    ],
)
def test_columns_with_other_rows_are_refused(change, message, tmp_path):
    table = json.loads(FRAME.to_json())
    change(table)
    with pytest.raises(UnreadableInput, match=message):
        PandasSource(str(put(tmp_path / "set.json", table))).scan(10, tmp_path / "spool")


@pytest.mark.slow
@given(
    rows=st.integers(0, 30),
    every=st.integers(1, 31),
    names=st.permutations(["structure", "e", "material_id", 'a "b":\n']),
)
def test_rows_are_put_together_whatever_the_order_of_columns(tmp_path_factory, rows, every, names):
    folder = tmp_path_factory.mktemp("pandas")
    cells = {"structure": as_dict(0), "e": 0.5, 'a "b":\n': 'x "y",\n{'}
    table = {name: {str(k): f"m{k}" if name == "material_id" else cells[name] for k in range(rows)} for name in names}
    source = PandasSource(str(put(folder / "set.json", table, indent=2)))
    scan = source.scan(every, folder / "spool")
    entries = [
        e
        for number, mark in enumerate(scan.marks)
        for e in source.read(Cut(mark, number * every, min(every, rows - number * every)), folder / "spool")
    ]
    assert [e.id for e in entries] == [f"m{k}" for k in range(rows)]
    assert all(e.labels == {"e": 0.5, 'a "b":\n': 'x "y",\n{'} for e in entries)


# ---- what stands beside a structure


def test_labels_beside_the_keys_of_a_structure_are_kept(tmp_path, entries_of):
    forces = {"@module": "numpy", "@class": "array", "dtype": "float64", "data": [[0.1, 0, 0], [0, 0, 0]]}
    rows = [
        as_dict(n, gap=n / 2) | {"formation_energy": -n / 4, "material_id": f"m{n}", "forces": forces} for n in range(3)
    ]
    for value in (
        rows,
        {f"m{n}": row for n, row in enumerate(rows)},
        [{"structure": row, "material_id": row["material_id"]} for row in rows],
    ):
        _, entries = entries_of(put(tmp_path / "set.json", value))
        check(entries, ["m0", "m1", "m2"])
        for n, entry in enumerate(entries):
            assert (entry.labels["formation_energy"], entry.labels["gap"]) == (-n / 4, n / 2)
            assert entry.labels["forces"].tolist() == [[0.1, 0, 0], [0, 0, 0]]
            assert entry.atom_labels == {"magmom": [0.5, n]}


NUMBERS = {
    "extended JSON": ({"$numberDouble": "1.5"}, 1.5), "long": ({"$numberLong": "7"}, 7),
    "decimal": ({"$numberDecimal": "1.5"}, 1.5),
    "monty": ({"@module": "numpy", "@class": "array", "dtype": "int64", "data": [1, 2, 3]}, [1, 2, 3]),
    "ase": ({"__ndarray__": [[1, 3], "float64", [1.0, 2.0, 3.0]]}, [[1.0, 2.0, 3.0]]),
    "object of an id": ({"$oid": "abc"}, "abc"), "list": ([{"$numberInt": "1"}, {"$numberInt": "2"}], [1, 2]),
    "object": ({"a": {"b": 1}}, None), "not a number": ({"$numberDouble": "x"}, None),
    "bad dtype": ({"__ndarray__": [[1], "O", [1]]}, None),
}  # fmt: skip


@pytest.mark.parametrize(("written", "value"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_that_json_writes_as_objects(written, value, tmp_path, entries_of):
    row = {"_id": {"$oid": "x"}, "material_id": {"$numberLong": "12"}, "structure": as_dict(0), "label": written}
    _, (entry,) = entries_of(put(tmp_path / "set.json", [row]))
    assert entry.id == "12"
    if value is None:
        assert any(name.startswith("label") for name in entry.labels)
    else:
        found = entry.labels["label"]
        assert (found.tolist() if isinstance(found, np.ndarray) else found) == value


# ---- one structure column a source


ORDER = [
    "final_structure",
    "structure",
    "atoms",
    "cif",
    "relaxed_crystal",
    "my_column",
    "unrelaxed_structure",
    "initial_structure",
]


@pytest.mark.slow
@given(
    st.lists(st.sampled_from(ORDER), min_size=1, max_size=4, unique=True),
    st.lists(st.booleans(), min_size=2, max_size=5),
)
def test_the_column_is_chosen_once_and_never_filled_from_another(tmp_path_factory, keys, filled):
    folder = tmp_path_factory.mktemp("keys")
    best = min(keys, key=lambda key: min(ORDER.index(key), 6))  # of two names for the beginning, the first
    filled = [True, *filled]
    rows = [
        {"material_id": f"m{n}", **{key: as_dict(ORDER.index(key)) if key != best or full else None for key in keys}}
        for n, full in enumerate(filled)
    ]
    source = PymatgenSource(str(put(folder / "set.json", rows)))
    scan = source.scan(2, folder / "spool")
    entries = [
        e
        for k, m in enumerate(scan.marks)
        for e in source.read(Cut(m, 2 * k, min(2, len(rows) - 2 * k)), folder / "spool")
    ]
    for full, entry in zip(filled, entries, strict=True):
        assert isinstance(entry.crystal, Crystal) == full
        if full:
            assert entry.crystal == Crystal.from_any(structure(ORDER.index(best)))
        assert not set(entry.labels) & set(ORDER)
    assert all(any(repr(key) in note for note in scan.notes) for key in keys if len(keys) > 1)


def test_the_column_can_be_given(tmp_path, entries_of):
    from lazygraph.sources.options import SourceOptions

    rows = [
        {"material_id": "m0", "initial_structure": as_dict(0), "final_structure": as_dict(1), "doc": {"s": as_dict(0)}}
    ]
    path = put(tmp_path / "set.json", rows)
    for key in ("initial_structure", "doc.s"):
        _, entries = entries_of(path, options=SourceOptions(structure_key=key))
        check(entries, ["m0"])
    with pytest.raises(UnreadableInput, match="no record has the key 'nope'.*structures are under 'initial_structure'"):
        entries_of(path, options=SourceOptions(structure_key="nope"))


def test_records_without_any_structure_are_bad_entries(tmp_path):
    path = put(tmp_path / "set.json", [{"a": 1}, {"a": 2}])
    source = PymatgenSource(str(path))
    scan = source.scan(10, tmp_path / "spool")
    entries = list(source.read(Cut(scan.marks[0], 0, scan.entries), tmp_path / "spool"))
    assert all(isinstance(entry.crystal, InputError) for entry in entries)
