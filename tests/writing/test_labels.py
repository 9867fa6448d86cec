"""Which columns become labels, what one input's values become, and labels that are set later."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.format.store import Store
from lazygraph.sources.base import ImpliedUnits
from lazygraph.writing.edit import gc, set_labels
from lazygraph.writing.labels import Label, LabelSet, choose_labels

NAN = math.nan


def chosen(*values, n=4, wanted=None, name="c", units=None):
    labels, notes, _ = choose_labels([(n, {name: value}, {}) for value in values], wanted, units or {})
    return labels, notes


# ---- which columns ----


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ([1, 2.5, None], Label("c", "graph")),
        (["1.5", "na", "", " -3e-2 "], Label("c", "graph")),
        ([True, False], Label("c", "graph", dtype="bool")),
        ([np.True_, False, None], Label("c", "graph", dtype="bool")),
        ([True, 2], Label("c", "graph", dtype="int64")),
        ([True, 2.5], Label("c", "graph")),
        ([None, None, 3], Label("c", "graph", dtype="int64")),
        (["3", " -4 ", ""], Label("c", "graph", dtype="int64")),
        ([1, 2, "broken"], Label("c", "graph", dtype="int64")),
        ([1, "broken"], Label("c", "graph", dtype="int64")),
        ([[1, 2, 3], None], Label("c", "graph", (3,), dtype="int64")),
        ([[1, 2, 3], [1, 2, 3], "broken", [1, 2]], Label("c", "graph", (3,), dtype="int64")),
        ([[1, 2, 3], [1, 2, 3.5]], Label("c", "graph", (3,))),
        ([[True, False], [False, False]], Label("c", "graph", (2,), dtype="bool")),
        (["Fm-3m", "P1", None], Label("c", "graph", dtype="text")),
        (["Fm-3m", "P1", "225"], Label("c", "graph", dtype="text")),
        (["bulk", "x" * 256], Label("c", "graph", dtype="text")),
        ([np.zeros((2, 2)), [["1", "2"], ["3", "4"]]], Label("c", "graph", (2, 2))),
        ([np.zeros((4, 3)), np.ones((4, 3))], Label("c", "graph", (4, 3))),
        ([[0, 1, 2, 3], [0, 0, 0, 0]], Label("c", "graph", (4,), dtype="int64")),
        (["True", "False", "na"], Label("c", "graph", dtype="bool")),
        ([10**400, 1, 2], Label("c", "graph", dtype="int64")),
        ([10**20, 1, 2], Label("c", "graph")),
    ],
)
def test_a_column_is_what_most_of_its_values_are(values, label):
    assert chosen(*values) == ([label], [])


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (["x" * 256, "y\0"], "texts of more than 255 bytes"),
        (["Fm-3m", "\ud800", {}], "only 1 of 3 values are texts of at most 255 bytes"),
        ([None, "na", NAN], "no value among the inputs looked at"),
        ([[1], [1, 2], [1, 2, 3]], r"only 1 of 3 values are arrays of shape \(1,\)"),
        ([[1, [2]], {}, [[]]], "lists that are no arrays of one to three dimensions"),
        ([np.zeros((1, 1, 1, 1))], "lists that are no arrays of one to three dimensions"),
        ([["a", "b"]], "lists with text, and a label is one text or numbers"),
        ([{"a": 1}], "objects, and labels are numbers or texts"),
        ([[{"a": 1}]], "lists of objects, and labels are numbers or texts"),
        ([math.inf, "inf"], "infinite numbers"),
        ([[1.0, math.inf]], "infinite numbers"),
    ],
)
def test_a_column_that_is_left_out(values, note):
    labels, notes = chosen(*values, n=9)
    assert labels == []
    assert len(notes) == 1
    assert re.search(f"column 'c' is left out: {note}", notes[0])


def levels(*samples):
    labels, notes, _ = choose_labels(samples, None, {})
    return {label.name: (label.level, label.shape) for label in labels}, notes


@pytest.mark.parametrize("prefix", ["", "REF_", "dft_"])
def test_the_level_follows_from_the_name_where_the_numbers_are_as_many_as_the_atoms(prefix):
    """Crystals of 3 atoms: a stress has as many rows as there are atoms, a dipole as many numbers."""
    values = {"stress": np.zeros((3, 3)), "forces": np.zeros((3, 3)), "dipole": [1, 2, 3], "charges": [1, 2, 3]}
    found, _ = levels(*[(3, {prefix + name: value for name, value in values.items()}, {})] * 2)
    expected = {
        "stress": ("graph", (3, 3)),
        "forces": ("node", (3,)),
        "dipole": ("graph", (3,)),
        "charges": ("node", ()),
    }
    assert found == {prefix + name: level for name, level in expected.items()}


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(1, 7), st.sampled_from(["a", "stress", "x_y"]))
def test_a_value_of_the_crystal_stays_one_whatever_the_numbers_of_atoms(sizes, width, name):
    found, _ = levels(*[(n, {name: list(range(width))}, {}) for n in sizes])
    assert found == {name: ("graph", (width,))}


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.sampled_from([(), (3,), (6,), (3, 3)]))
def test_what_the_format_gives_to_atoms_is_of_the_atoms_whatever_its_name(sizes, shape):
    found, _ = levels(*[(n, {}, {"stress": np.zeros((n, *shape))}) for n in sizes])
    assert found == {"stress": ("node", shape)}


def test_rows_that_follow_the_number_of_atoms_are_of_the_atoms():
    """No label of the crystal has another shape in every crystal."""
    assert levels((2, {"bader": [1, 2]}, {}), (3, {"bader": [1, 2, 3]}, {}))[0] == {"bader": ("node", ())}


def test_a_name_at_both_levels_is_the_crystals_and_said():
    found, notes = levels((2, {"energy": 1.0}, {"energy": [0.5, 0.5]}))
    assert found == {"energy": ("graph", ())}
    assert notes == ["column 'energy (of the atoms)' is left out: a label of the crystal has the same name"]
    assert levels((2, {"site": {"a": 1}}, {"site": [0.5, 0.5]})) == ({"site": ("node", ())}, [])


def test_columns_that_are_left_out_are_named_once_and_by_reason():
    values = {"spg": ["P1"], "formula": "NaCl", "sites": ["a"], "gap": 1.0, "doc": {"a": 1}, "none": None}
    _, notes = levels(*[(2, values, {"site": ["a", "b"]})] * 3)
    assert notes == [
        "columns 'spg', 'sites', 'site' are left out: lists with text, and a label is one text or numbers",
        "column 'formula' is left out: lazygraph uses this name itself; rename the column",
        "column 'doc' is left out: objects, and labels are numbers or texts",
        "column 'none' is left out: no value among the inputs looked at; name it with --label to keep it",
    ]


EV, MEV = ImpliedUnits("one", {"gap": "eV", "other": "K"}), ImpliedUnits("another", {"gap": "meV"})


def test_units_that_a_source_implies_are_set_and_said_and_can_be_overridden():
    samples = [(2, {"gap": 1.0}, {})]
    labels, notes, _ = choose_labels(samples, None, {}, (), [EV])
    assert labels == [Label("gap", "graph", (), "eV")]
    assert notes == ["units by one: gap in eV; override them with --unit"]
    labels, notes, _ = choose_labels(samples, None, {"gap": "Ry"}, (), [EV, MEV])
    assert (labels, notes) == ([Label("gap", "graph", (), "Ry")], [])
    with pytest.raises(lg.InputError, match="'gap' is in eV by one and in meV by another; give its unit with --unit"):
        choose_labels(samples, None, {}, (), [EV, MEV])


@pytest.mark.parametrize("name", ["id", "split", "n_atoms", "edge_index", "frac_coords", "y", "", "a\nb", "n" * 256])
def test_names_that_no_label_may_have(name):
    labels, notes = chosen(1.0, 2.0, name=name)
    assert labels == []
    assert "is left out" in notes[0]
    with pytest.raises(lg.InputError, match="cannot be a label"):
        chosen(1.0, 2.0, name=name, wanted=[name])


@pytest.mark.parametrize(
    ("values", "wanted", "message"),
    [
        ([1], ["gap"], "unknown label 'gap'; known: c"),
        ([{}, "Fm-3m", {}], ["c"], "only 1 of 3 values are texts of at most 255 bytes; required: numbers, or texts"),
        ([{}, {}, 3], ["c"], "only 1 of 3 values are numbers; required"),
        (["x" * 256], ["c"], "the column 'c' cannot be a label: found 'x+'; required: numbers, or texts"),
    ],
)
def test_a_label_that_was_asked_for_and_cannot_be(values, wanted, message):
    with pytest.raises(lg.InputError, match=message):
        chosen(*values, wanted=wanted)


def test_a_label_that_was_asked_for_may_be_missing_everywhere():
    assert chosen(None, "na", wanted=["c"]) == ([Label("c", "graph")], [])
    assert chosen(None, "na", wanted=["c", "c"])[0] == [Label("c", "graph")]


def test_units_are_for_labels_only():
    assert chosen(1.5, units={"c": "eV"})[0] == [Label("c", "graph", (), "eV")]
    with pytest.raises(lg.InputError, match="there is a unit for 'c', whose values are texts"):
        chosen("bulk", units={"c": "eV"})
    with pytest.raises(lg.InputError, match="there is a unit for 'd', which is not a label; the labels are 'c'"):
        chosen(1, units={"d": "eV"})


# ---- one input ----

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=4),
    st.lists(st.lists(st.floats(), min_size=3, max_size=3), max_size=4), st.binary(max_size=3), st.just({}),
    st.complex_numbers(), st.just([1, [2]]), st.just(np.zeros((2, 0))), st.just(object()),
)  # fmt: skip


@given(VALUES)
def test_any_value_is_a_number_or_missing_or_refused(value):
    """Nothing else comes out of a label, and nothing else than LabelError is raised."""
    labels = LabelSet([Label("a", "graph"), Label("b", "graph", (3,)), Label("c", "node"), Label("d", "node", (3,))])
    for name, shape in {"a": (), "b": (3,), "c": (4,), "d": (4, 3)}.items():
        try:
            graph, node, _ = labels.row({name: value}, 4)
        except lg.InputError as error:
            refused = str(error)
            assert f"label {name!r}: found" in refused
            continue
        row = dict(zip("ab", graph, strict=True)) | node
        assert np.asarray(row[name], dtype=np.float64).shape == shape
        assert all(np.isnan(np.asarray(row[other], dtype=np.float64)).all() for other in set("abcd") - {name})


def test_a_label_of_the_wrong_type_or_shape_quarantines_its_input(tmp_path, write, quarantine, salt):
    good = {"gap": 1.5, "stress": [1] * 6, "forces": np.zeros((2, 3))}
    bad = {
        "text": {"gap": "wide"},
        "list": {"gap": [1, 2]},
        "short": {"stress": [1] * 5},
        "scalar": {"stress": 3.0},
        "words": {"stress": ["a"] * 6},
        "atoms": {"forces": np.zeros((3, 3))},
        "flat": {"forces": np.zeros(6)},
        "huge": {"gap": 10**400},
    }
    items = [(f"good-{n}", salt(n), good) for n in range(6)]
    items += [(name, salt(n + 6), good | values) for n, (name, values) in enumerate(bad.items())]
    items += [("missing", salt(20), {}), ("none", salt(21), dict.fromkeys(good)), ("na", salt(22), {"gap": "na"})]
    report = write(items, tmp_path / "x.lg", shard_size=3)
    assert (report.written, report.quarantined) == (9, 8)
    found = {one.id: one for one in quarantine(tmp_path / "x.lg")}
    assert found.keys() == bad.keys()
    for number, (name, values) in enumerate(bad.items()):
        assert (found[name].position, found[name].error) == (6 + number, "LabelError")
        assert f"'{next(iter(values))}'" in found[name].message or "cannot store the labels" in found[name].message
    store = Store(tmp_path / "x.lg")
    assert store.manifest.schema["forces"].shape == (3,)
    np.testing.assert_array_equal(store.column("gap"), [1.5] * 6 + [NAN] * 3)
    np.testing.assert_array_equal(store.column("stress"), [[1] * 6] * 6 + [[NAN] * 6] * 3)
    assert np.isnan(store.arrays(8)["forces"]).all()
    assert (store.arrays(0)["forces"] == 0).all()


def test_missing_labels_are_nan_and_never_drop_a_row(data, tmp_path, write):
    report = write(data / "jarvis" / "jdft_3d_superconductors.json.zip", tmp_path / "x.lg")
    assert (report.written, report.quarantined) == (1056, 0)
    import zipfile

    with zipfile.ZipFile(data / "jarvis" / "jdft_3d_superconductors.json.zip") as archive:
        rows = json.loads(archive.read(archive.namelist()[0]))
    store = Store(tmp_path / "x.lg")
    assert [raw.decode() for raw in store.column("id")] == [row["jid"] for row in rows]
    for name in ("formation_energy_peratom", "optb88vdw_bandgap", "ehull", "bulk_modulus_kv", "Tc_supercon"):
        expected = [NAN if row[name] == "na" else float(row[name]) for row in rows]
        np.testing.assert_array_equal(store.column(name), expected)
        statistics = store.manifest.columns[name].statistics
        assert statistics["missing"] == int(np.isnan(expected).sum()) > 0
        assert statistics["mean"] == pytest.approx(np.nanmean(expected))


@pytest.mark.parametrize(
    ("file", "labels"),
    [
        ("matbench/matbench_phonons.json.gz", {"last phdos peak": ()}),
        ("extxyz/mptrj-random-1k.xyz", {"forces": (3,), "energy": ()}),
        ("forces/mlearn.json.zip", {"forces": (3,)}),
    ],
)
def test_labels_of_real_sets(file, labels, data, tmp_path, write):
    report = write(data / file, tmp_path / "x.lg")
    assert report.quarantined == 0
    store = Store(tmp_path / "x.lg")
    for name, shape in labels.items():
        if name in store.manifest.schema.names:
            assert store.manifest.schema[name].axis == "node"
            assert all(store.arrays(row)[name].shape[1:] == shape for row in range(0, len(store), 100))
        else:
            assert store.column(name).shape[1:] == shape
            assert np.isfinite(store.column(name)).all()


def test_only_the_labels_that_were_asked_for(tmp_path, write):
    write("prototypes:5", tmp_path / "x.lg", labels=["density"], units={"density": "g/cm^3"})
    labels = Manifest.load(tmp_path / "x.lg").labels()
    assert {name: column.unit for name, column in labels.items()} == {"density": "g/cm^3"}
    write("prototypes:5", tmp_path / "y.lg", labels="density")
    assert list(Manifest.load(tmp_path / "y.lg").labels()) == ["density"]
    write("prototypes:5", tmp_path / "z.lg", labels=())
    assert Manifest.load(tmp_path / "z.lg").labels() == {}


@pytest.mark.parametrize(
    "name", ["last phdos peak", "e/atom", "../../up", "é (eV/Å³)", "x" * 255, ".", "shards/0", "COM1"]
)
def test_a_label_may_have_any_printable_name(name, tmp_path, write, salt, bytes_of):
    write([("a", salt(), {name: 1.5})], tmp_path / "x.lg", units={name: "eV"})
    assert lg.LazyGraphDataset(tmp_path / "x.lg", target=name)[0].y.tolist() == [[1.5]]
    set_labels(tmp_path / "x.lg", {"a": {name: 2.5, name[:200] + "?": 3.5}})
    gc(tmp_path / "x.lg")
    ds = lg.LazyGraphDataset(tmp_path / "x.lg")
    assert (ds.columns[name][0], ds.columns[name[:200] + "?"][0]) == (2.5, 3.5)
    assert {*bytes_of(tmp_path / "x.lg")} == {MANIFEST, *(file.name for file in ds.manifest.files())}
    assert [p.name for p in tmp_path.iterdir()] == ["x.lg"]


def test_values_whose_squares_are_too_large(tmp_path, write, salt):
    write(
        [("a", salt(), {"big": 1e300}), ("b", salt(1), {"big": -1e300}), ("c", salt(2), {"big": None})],
        tmp_path / "x.lg",
    )
    column = Manifest.load(tmp_path / "x.lg").columns["big"]
    assert column.statistics["max"] == 1e300
    assert Store(tmp_path / "x.lg").column("big").tolist() == [1e300, -1e300, pytest.approx(math.nan, nan_ok=True)]


def test_an_infinite_label_quarantines_its_input(tmp_path, write, salt, quarantine):
    good = {"gap": 1.0, "forces": np.zeros((2, 3))}
    bad = [{"gap": math.inf}, {"gap": "-inf"}, {"forces": np.full((2, 3), np.inf)}]
    items = [(f"good-{n}", salt(n), good) for n in range(4)]
    items += [(f"bad-{n}", salt(n + 4), good | values) for n, values in enumerate(bad)]
    assert write(items, tmp_path / "x.lg").quarantined == 3
    assert all("found an infinite number; required" in one.message for one in quarantine(tmp_path / "x.lg"))


# ---- set later ----


@pytest.fixture
def ten(tmp_path, write, salt):
    """A dataset of ten crystals with a label energy in eV."""
    path = tmp_path / "ten.lg"
    write([(f"id-{n}", salt(n), {"energy": n}) for n in range(10)], path, units={"energy": "eV"}, shard_size=4)
    return path


def test_labels_are_added_and_replaced_without_touching_a_graph(ten, bytes_of):
    before = bytes_of(ten)
    values = {f"id-{n}": {"gap": n / 2, "elastic": [n, n], "note": {"a": 1}} for n in range(0, 10, 2)}
    report = set_labels(ten, values | {"mp-1": {"gap": 1}, "mp-2": {}}, units={"gap": "eV"})
    assert (report.names, report.missing, report.unknown_ids) == (("gap", "elastic"), 5, ("mp-1", "mp-2"))
    assert report.notes == (
        "column 'note' is left out: objects, and labels are numbers or texts",
        "the label 'elastic' has integers and is stored as float64: 10 values are missing (NaN)",
    )
    store = Store(ten)
    np.testing.assert_array_equal(store.column("gap"), [n / 2 if n % 2 == 0 else NAN for n in range(10)])
    np.testing.assert_array_equal(store.column("elastic")[:2], [[0, 0], [NAN, NAN]])
    assert {n: c.unit for n, c in store.manifest.labels().items()} == {"energy": "eV", "gap": "eV", "elastic": None}
    after = bytes_of(ten)
    assert {name: data for name, data in after.items() if name in before and name != MANIFEST} == {
        name: data for name, data in before.items() if name != MANIFEST
    }
    assert len(after) == len(before) + 3  # two columns, and the digests of all
    set_labels(ten, {"id-3": {"energy": -1.0}}, units={"energy": "meV"})
    store = Store(ten)
    assert np.isnan(store.column("energy")).sum() == 9
    assert (store.column("energy")[3], store.manifest.columns["energy"].unit) == (-1.0, "meV")
    assert store.manifest.content_id == json.loads(before[MANIFEST])["content_id"]


def test_files_of_the_state_before_stay_for_its_readers_until_they_are_collected(ten, bytes_of):
    reader = lg.LazyGraphDataset(ten, target="energy")
    set_labels(ten, {f"id-{n}": {"energy": -n} for n in range(10)})
    assert reader[5].y.item() == 5
    late = Store(ten)
    set_labels(ten, {f"id-{n}": {"energy": 10 * n} for n in range(10)})
    assert late.column("energy")[5] == -5
    size = sum(map(len, bytes_of(ten).values()))
    files, freed = gc(ten)
    assert files == 4  # a column, and the digests of all, of two states
    assert sum(map(len, bytes_of(ten).values())) == size - freed
    assert {*bytes_of(ten)} == {MANIFEST, *(file.name for file in Manifest.load(ten).files())}
    assert gc(ten) == (0, 0)


def test_the_next_publication_after_an_hour_removes_what_is_older_than_the_state_before(ten, bytes_of, monkeypatch):
    import os
    import time

    columns = [set(bytes_of(ten))]
    for value in (1.0, 2.0, 3.0):
        set_labels(ten, {"id-0": {"energy": value}})
        columns.append({file.name for file in Manifest.load(ten).files()})
        long_ago = time.time() - 4000
        os.utime(ten / MANIFEST, (long_ago, long_ago))
    assert {*bytes_of(ten)} - {MANIFEST} == columns[-1] | columns[-2]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({"id-1": {"gap": {}}}, {}, "no column of numbers or texts to take as a label: column 'gap' is left out: obj"),
        ({"id-1": {"gap": 1}, "id-2": {"gap": "wide"}}, {}, "id 'id-2': label 'gap': found the text 'wide'"),
        ({"id-1": {"gap": 1}}, {"labels": ["gab"]}, "unknown label 'gab'; did you mean 'gap'. known: gap"),
        ({"id-1": {"gap": 1}}, {"labels": "gab"}, "unknown label 'gab'"),
        ({"id-1": {"gap": 1}}, {"units": {"gab": "eV"}}, "there is a unit for 'gab'"),
        ({"id-1": {"formula": 1}}, {"labels": ["formula"]}, "lazygraph uses this name itself"),
        ({"mp-1": {"gap": 1}}, {}, r"none of the 1 ids \(such as 'mp-1'\) is in .*, whose ids are like 'id-0', 'id-1'"),
        ({}, {}, "none of the 0 ids"),
    ],
)
def test_labels_that_cannot_be_set(values, options, message, ten, bytes_of):
    before = bytes_of(ten)
    with pytest.raises(lg.InputError, match=message):
        set_labels(ten, values, **options)
    assert bytes_of(ten) == before
    assert [p.name for p in ten.parent.iterdir()] == [ten.name]


def test_a_label_never_takes_the_name_of_a_field_or_a_count(tmp_path, write, salt):
    write([("a", salt(), {"forces": np.zeros((2, 3))})], tmp_path / "x.lg")
    with pytest.raises(lg.InputError, match="'forces' has the name of something else"):
        set_labels(tmp_path / "x.lg", {"a": {"forces": [1, 2, 3]}})
    with lg.GraphWriter(tmp_path / "y.lg") as writer:
        writer.add({"z": np.ones(3), "own": np.ones(5)}, id="a")
    with pytest.raises(lg.InputError, match="'n_own' has the name of something else"):
        set_labels(tmp_path / "y.lg", {"a": {"n_own": 1}})


def test_per_atom_values_are_no_labels_of_a_finished_dataset(ten):
    set_labels(ten, {"id-0": {"pair": [1, 2]}, "id-1": {"pair": [3, 4]}})
    assert Store(ten).column("pair").shape == (10, 2)


def test_labels_set_later_are_kept_by_an_append(ten, write, append, salt):
    set_labels(ten, {"id-0": {"gap": 1.0}}, units={"gap": "eV"})
    append(ten, [("new", salt(30), {"gap": 2.0, "energy": "na", "other": 3})])
    store = Store(ten)
    np.testing.assert_array_equal(store.column("gap"), [1.0] + [NAN] * 9 + [2.0])
    np.testing.assert_array_equal(store.column("energy"), [*range(10), NAN])
    assert {n: c.unit for n, c in store.manifest.labels().items()} == {"energy": "eV", "gap": "eV"}
