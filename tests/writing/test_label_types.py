"""Labels come back in the type that they were given in: booleans, integers, numbers, texts and categories."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.format.columns import ColumnWriter, open_column, texts_of
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.sources.base import Label
from lazygraph.storage.local import LocalStorage
from lazygraph.writing.edit import set_labels
from lazygraph.writing.label_columns import gather, label_column


def column_of(values, dtype="float64", parts=1):
    """The column of these values, written in parts, as (role, array), and the notes."""
    label = Label("c", "graph", (), dtype=dtype)
    with tempfile.TemporaryDirectory() as folder:
        cuts = np.array_split(np.arange(len(values)), parts)
        arrays = [gather(label, [values[row] for row in cut]).values for cut in cuts]
        columns = ColumnWriter(Path(folder))
        notes = label_column(columns, label, arrays)
        column = columns.columns["c"]
        array = open_column(LocalStorage(folder), column)
        array = array if column.role == "label" else texts_of(column, array)
        return column, np.array(array), notes


WHOLE = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.booleans(), min_size=1), st.integers(1, 4))
def test_truth_values_are_truth_values(values, parts):
    column, array, notes = column_of(values, "bool", parts)
    assert (column.dtype, array.tolist(), notes) == ("|b1", values, ())


@given(st.lists(st.one_of(st.booleans(), WHOLE), min_size=1), st.integers(1, 4))
def test_integers_are_exact(values, parts):
    column, array, notes = column_of([*values, 2], "int64", parts)
    assert (column.dtype, array.tolist(), notes) == ("<i8", [*values, 2], ())
    assert column.statistics["min"] == min(*values, 2)
    assert column.statistics["max"] == max(*values, 2)


@given(st.lists(st.one_of(st.booleans(), WHOLE, st.floats(allow_infinity=False)), min_size=1), st.integers(1, 4))
def test_other_numbers_are_float64_and_what_is_rounded_is_told(values, parts):
    values = [*values, math.nan]
    rounded = {row for row, value in enumerate(values) if type(value) is int and int(float(value)) != value}
    assert set(gather(Label("c", "graph"), values).rounded.tolist()) == rounded
    column, array, notes = column_of(values, "float64", parts)
    assert column.dtype == "<f8"
    np.testing.assert_array_equal(array, [float(value) for value in values])
    in_whole_parts = 0
    for cut in np.array_split(np.arange(len(values)), parts):
        part = [values[row] for row in cut]
        if not any(type(value) is float for value in part):
            in_whole_parts += len(rounded & set(cut.tolist()))
    assert notes == (
        (f"{in_whole_parts:,} integers beyond 2^53 of the label 'c' are rounded to float64",) if in_whole_parts else ()
    )


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)


@given(st.lists(TEXTS, min_size=1), st.integers(1, 4), st.integers(1, 4))
def test_texts_come_back_and_depend_on_no_cut(values, parts, other):
    raw = [value.encode() for value in values]
    column, array, _ = column_of(raw, "text", parts)
    assert [text.decode() for text in array.tolist()] == [value.rstrip("\0") for value in values]
    present = [text for text in raw if text]
    assert column.statistics == {"count": len(present), "missing": len(raw) - len(present)}
    assert column.role == ("category" if 2 * len(set(present)) <= len(present) else "text")
    if column.role == "category":
        assert [name.encode() for name in column.categories] == sorted(set(present))
    again, _, _ = column_of(raw, "text", other)
    assert again == column


@pytest.mark.parametrize(("different", "dtype"), [(255, "|u1"), (256, "<u2"), (65535, "<u2"), (65537, None)])
def test_how_many_texts_a_category_has(different, dtype):
    column, array, _ = column_of([b"%x" % n for n in range(different)] * 2 + [b""], "text")
    assert (column.role, column.dtype) == (("category", dtype) if dtype else ("text", "|S5"))
    assert array[-1] == b""
    assert array[different - 1] == b"%x" % (different - 1)


def test_categories_that_would_fill_the_manifest_are_texts():
    column, _, _ = column_of([b"%05d" % n + b"x" * 200 for n in range(6000)] * 2, "text")
    assert (column.role, column.dtype) == ("text", "|S205")


def rows(salt, *labels):
    return [(f"g{n}", salt(n), values) for n, values in enumerate(labels)]


def columns_of(path):
    return lg.LazyGraphDataset(path).columns


def test_every_type_survives_writing_appending_editing_and_copying(tmp_path, write, salt):
    values = [
        {"ok": n % 2 == 0, "n": 2**60 + n, "gap": n / 2, "kind": ["bulk", "slab"][n % 2], "note": f"é {n}", "v": [n, 1]}
        for n in range(6)
    ]
    report = write(rows(salt, *values[:4]), tmp_path / "a.lg", shard_size=3)
    assert not [note for note in report.notes if "label" in note]
    more = [(f"h{n}", salt(n + 9), v) for n, v in enumerate(values[4:])]
    lg.append(tmp_path / "a.lg", more, workers=1, progress=False)
    write(lg.LazyGraphDataset(tmp_path / "a.lg")[[5, 0, 1, 2]], tmp_path / "b.lg")
    set_labels(tmp_path / "b.lg", {"h1": values[5], **{f"g{n}": values[n] for n in range(3)}})
    for path, order in ((tmp_path / "a.lg", range(6)), (tmp_path / "b.lg", [5, 0, 1, 2])):
        columns = columns_of(path)
        for name, dtype in {"ok": bool, "n": np.int64, "gap": np.float64, "v": np.int64}.items():
            assert columns[name].dtype == dtype
        for name in values[0]:
            assert columns[name].tolist() == [values[n][name] for n in order]
        roles = {name: column.role for name, column in Manifest.load(path).all_labels().items()}
        assert (roles["kind"], roles["note"]) == ("category", "text")
    assert lg.LazyGraphDataset(tmp_path / "a.lg").where("kind == 'slab'").ids.tolist() == ["g1", "g3", "h1"]


def test_workers_do_not_change_what_a_text_becomes(tmp_path, write, salt, bytes_of):
    items = rows(salt, *({"kind": f"k{(7 * n) % 5}", "n": n, "ok": n > 20} for n in range(24)))
    write(items, tmp_path / "a.lg", shard_size=6)
    write(items, tmp_path / "b.lg", shard_size=6, workers=2)
    assert bytes_of(tmp_path / "a.lg") == bytes_of(tmp_path / "b.lg")


def test_integers_with_missing_values_become_floats_and_are_told(tmp_path, write, salt):
    report = write(rows(salt, {"n": 3}, {"n": None}, {"n": 2**60 + 1}), tmp_path / "a.lg")
    column = Store(tmp_path / "a.lg").column("n")
    np.testing.assert_array_equal(column, [3.0, np.nan, 2.0**60])
    assert "the label 'n' has integers and is stored as float64: 1 values are missing (NaN)" in report.notes
    assert any(note.startswith("1 inputs have an integer under 'n' that float64 rounds") for note in report.notes)


def test_an_append_that_widens_a_label_is_told(tmp_path, write, salt):
    write(rows(salt, {"n": 2**60 + 1, "ok": True}), tmp_path / "a.lg")
    report = lg.append(tmp_path / "a.lg", [("new", salt(5), {"n": 0.5, "ok": None})], workers=1, progress=False)
    assert columns_of(tmp_path / "a.lg")["n"].tolist() == [2.0**60, 0.5]
    np.testing.assert_array_equal(columns_of(tmp_path / "a.lg")["ok"], [1.0, np.nan])
    assert "the label 'n' has integers and is stored as float64: others are no such values" in report.notes
    assert "1 integers beyond 2^53 of the label 'n' are rounded to float64" in report.notes
    assert "the label 'ok' has booleans and is stored as float64: 1 values are missing (NaN)" in report.notes


def test_a_text_that_is_too_long_is_left_out_with_a_note(tmp_path, write, salt, quarantine):
    texts = ["short", "a", "b", "x" * 255, "y" * 256, "é" * 128, "zero\0", None, math.nan, 5]
    report = write(rows(salt, *({"note": text} for text in texts)), tmp_path / "a.lg")
    assert columns_of(tmp_path / "a.lg")["note"].tolist() == ["short", "a", "b", "x" * 255, "", "", "", "", ""]
    (note,) = [note for note in report.notes if "'note'" in note]
    assert note.startswith(
        "3 inputs have a text under 'note' that has more than 255 bytes, holds a zero byte or is not"
    )
    assert "'g4'" in note
    (rejected,) = quarantine(tmp_path / "a.lg")
    assert (rejected.id, rejected.error) == ("g9", "LabelError")
    assert "label 'note': found int '5'; required: a text" in rejected.message


def test_a_text_is_no_target(tmp_path, write, salt):
    write(rows(salt, {"kind": "bulk", "gap": 1.0}), tmp_path / "a.lg")
    with pytest.raises(lg.InputError, match="'kind' is a text: read it as ds.columns"):
        lg.LazyGraphDataset(tmp_path / "a.lg", target="kind")
    assert "kind" not in lg.LazyGraphDataset(tmp_path / "a.lg")[0]


def test_integers_and_truth_values_are_targets(tmp_path, write, salt):
    write(rows(salt, {"n": 3, "ok": True}, {"n": 5, "ok": False}), tmp_path / "a.lg")
    ds = lg.LazyGraphDataset(tmp_path / "a.lg", target=["n", "ok"])
    assert ds.batch([0, 1]).y.tolist() == [[3.0, 1.0], [5.0, 0.0]]


@pytest.mark.parametrize(("given", "stored"), [(np.float32, "float32"), (np.float64, "float64"), (np.int32, "float64")])
def test_labels_of_atoms_keep_single_precision(given, stored, tmp_path, write, salt):
    forces = [np.arange(6).reshape(2, 3).astype(given) * given(n) for n in range(3)]
    write(rows(salt, *({"forces": array} for array in forces), {}), tmp_path / "a.lg")
    ds = lg.LazyGraphDataset(tmp_path / "a.lg")
    assert ds.manifest.schema["forces"].dtype == stored
    found = Store(tmp_path / "a.lg").arrays(2)["forces"]
    assert str(found.dtype) == stored
    np.testing.assert_array_equal(found, forces[2])
    assert ds[2].forces.tolist() == forces[2].tolist()
    assert ds[3].forces.isnan().all()
    write(ds[:2], tmp_path / "b.lg")
    assert Manifest.load(tmp_path / "b.lg").schema["forces"].dtype == stored


def test_labels_of_atoms_that_are_rounded_are_told(tmp_path, write, salt, monkeypatch):
    monkeypatch.setattr("lazygraph.writing.plan.SAMPLES", 1)
    labels = [
        {"forces": np.zeros((2, 3), np.float32)},
        {"forces": np.full((2, 3), 0.5)},
        {"forces": np.full((2, 3), 0.1)},
    ]
    report = write(rows(salt, *labels), tmp_path / "a.lg", shard_size=4)
    (note,) = [note for note in report.notes if "forces" in note]
    assert note.startswith("1 inputs have float64 values under 'forces' that are rounded to float32")
    assert "'g2'" in note


def test_ready_made_graphs_have_labels_of_every_type(tmp_path):
    with lg.GraphWriter(tmp_path / "a.lg") as writer:
        for n in range(4):
            writer.add({"z": np.ones(n + 1)}, labels={"ok": n < 2, "n": 2**60 + n, "kind": "ab"[n % 2]})
        with pytest.raises(lg.InputError, match="the labels have a text under 'kind'"):
            writer.add({"z": np.ones(2)}, labels={"ok": True, "n": 1, "kind": "x" * 256})
    columns = columns_of(tmp_path / "a.lg")
    assert columns["ok"].tolist() == [True, True, False, False]
    assert columns["n"].tolist() == [2**60 + n for n in range(4)]
    assert columns["kind"].tolist() == ["a", "b", "a", "b"]


def test_ready_made_graphs_whose_integers_are_rounded_warn(tmp_path):
    writer = lg.GraphWriter(tmp_path / "a.lg")
    for value in (1, None):
        writer.add({"z": np.ones(2)}, labels={"n": value})
    with pytest.warns(UserWarning, match="has integers and is stored as float64"):
        writer.close()
    assert any("float64" in note for note in Manifest.load(tmp_path / "a.lg").provenance.notes)


@settings(max_examples=20)
@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats()), min_size=1, max_size=5))
def test_one_label_of_any_numbers(values):
    """What is stored compares equal to what was given, or it is told."""
    from lazygraph.writing.labels import LabelSet, choose_labels

    finite = [value for value in values if not (isinstance(value, float) and math.isinf(value))]
    labels = choose_labels([(2, {"c": value}, {}) for value in finite], ["c"], {}).labels if finite else []
    if not labels:
        return
    found = gather(labels[0], [LabelSet(labels).row({"c": value}, 2).of_crystal[0] for value in finite])
    for row, (given_value, kept) in enumerate(zip(finite, found.values.tolist(), strict=True)):
        if given_value is None or given_value != given_value:
            assert math.isnan(kept)
        elif row not in found.rounded and abs(given_value) < 2**63:
            assert kept == given_value
