"""Tables of text: separators, decimal commas, index columns, long rows: read by name or refused, never shifted."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.crystal import Crystal
from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import Cut, label_value
from lazygraph.sources.csv_cif import CsvSource, sniff
from lazygraph.sources.dialect import decimal_comma, delimiter_of, with_points
from lazygraph.sources.id_prop import IdPropSource
from lazygraph.sources.table import read_table
from lazygraph.writing.labels import choose_labels

POSCAR = "c\n1.0\n4 0 0\n0 4 0\n0 0 4\n{}\n1\nDirect\n0 0 0\n"
ELEMENTS = ["Na", "K", "Rb", "Cs", "Li"]


def text(value, comma):
    written = repr(value)
    return written.replace(".", ",") if comma else written


# Three digits behind a comma may be thousands.
NUMBERS = st.floats(-100, 100).map(lambda x: round(x, 4)).filter(lambda x: len(repr(x).partition(".")[2]) in (1, 2, 4))


@pytest.mark.slow
@given(
    values=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5),
    separator=st.sampled_from([",", ";", "\t"]),
    comma=st.booleans(),
    index=st.sampled_from([None, "", "Unnamed: 0"]),
    order=st.permutations(["material_id", "cif", "gap", "hull"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_a_table_of_structures_is_read_by_name_however_it_is_written(
    tmp_path_factory, values, separator, comma, index, order, quoting
):
    folder = tmp_path_factory.mktemp("tables")
    rows = []
    for n, (gap, hull) in enumerate(values):
        cells = {
            "material_id": f"m{n}",
            "cif": POSCAR.format(ELEMENTS[n]),
            "gap": text(gap, comma),
            "hull": text(hull, comma),
        }
        rows.append([str(n)] * (index is not None) + [cells[name] for name in order])
    with (folder / "set.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=separator, quoting=quoting).writerows([[index] * (index is not None) + order, *rows])
    assert sniff((folder / "set.csv").read_bytes())
    source = CsvSource(str(folder / "set.csv"))
    scan = source.scan(2, folder / "spool")
    entries = [
        e
        for number, mark in enumerate(scan.marks)
        for e in source.read(Cut(mark, number * 2, min(2, len(rows) - number * 2)), folder / "spool")
    ]
    for n, (entry, (gap, hull)) in enumerate(zip(entries, values, strict=True)):
        assert (entry.id, entry.crystal.formula) == (f"m{n}", ELEMENTS[n])
        assert entry.labels.keys() == {"gap", "hull"}
        assert (label_value(entry.labels["gap"]), label_value(entry.labels["hull"])) == (gap, hull)


@pytest.mark.parametrize(("separator", "decimal"), [(",", "."), (";", ","), ("\t", "."), (",", ",")])
@pytest.mark.parametrize("index", [True, False])
def test_what_pandas_writes(separator, decimal, index, tmp_path, entries_of):
    frame = pd.DataFrame(
        {"material_id": ["m0", "m1"], "gap": [0.25, -1.5], "cif": [POSCAR.format(e) for e in ("Na", "K")]}
    )
    frame.to_csv(tmp_path / "set.csv", sep=separator, decimal=decimal, index=index)
    scan, entries = entries_of(tmp_path / "set.csv")
    assert [(e.id, e.crystal.formula, float(e.labels["gap"])) for e in entries] == [
        ("m0", "Na", 0.25),
        ("m1", "K", -1.5),
    ]
    assert (decimal == ",") == any("decimal commas" in note for note in scan.notes)


def test_numbers_with_commas_and_with_points_are_refused(tmp_path):
    (tmp_path / "set.csv").write_text(f'id;cif;a;b\n1;"{POSCAR.format("Na")}";0,5;1.5\n')
    with pytest.raises(
        UnreadableInput, match=r"with a comma \('0,5'\) and with a point \('1.5'\); write all with points"
    ):
        CsvSource(str(tmp_path / "set.csv")).scan(1, tmp_path / "spool")


def test_thousands_are_no_decimals(tmp_path, entries_of):
    (tmp_path / "set.csv").write_text(f'id;cif;a\n1;"{POSCAR.format("Na")}";1,234\n')
    _, (entry,) = entries_of(tmp_path / "set.csv")
    assert entry.labels == {"a": "1,234"}
    (label,) = choose_labels([(1, entry.labels, {})], None, {}).labels
    assert label.dtype == "text"


def test_a_first_row_without_names_is_refused(tmp_path):
    (tmp_path / "set.csv").write_text(f'1,"{POSCAR.format("Na")}"\n2,"{POSCAR.format("K")}"\n')
    with pytest.raises(UnreadableInput, match="the first row holds a structure; it must hold the names of"):
        CsvSource(str(tmp_path / "set.csv")).scan(1, tmp_path / "spool")


def test_columns_without_a_name_are_said_unless_they_are_an_index(tmp_path, entries_of):
    rows = [["", "cif", "Unnamed: 3"], ["0", POSCAR.format("Na"), "x"], ["1", POSCAR.format("K"), "y"]]
    with (tmp_path / "set.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    scan, _ = entries_of(tmp_path / "set.csv")
    assert scan.notes == ("1 columns without a name are left out, in which stands 'x'",)


@pytest.mark.parametrize(
    ("rows", "separator"),
    [
        (["a,b", "1,2"], ","),
        (["a;b", "1,5;2"], ";"),
        (["a\tb", "1\t2,5"], "\t"),
        (["a,b;c", "1,2;3"], ","),
        (["a", "1"], ","),
        ([], ","),
    ],
)
def test_what_separates_the_cells(rows, separator):
    assert delimiter_of(rows) == separator


@given(st.text("0123456789,.+-eE", max_size=9))
def test_only_numbers_lose_their_commas(cell):
    changed = with_points(cell)
    assert changed == cell or float(changed) == float(cell.replace(",", "."))
    try:
        if (found := decimal_comma([cell])) is not None:
            assert not np.isnan(float(with_points(found)))  # what is infinite, as 0,1E400, is refused where it is read
    except UnreadableInput:
        pytest.fail("one cell cannot contradict itself")


# ---- id_prop.csv


@pytest.fixture
def folder(tmp_path):
    """Structures 1 to 5, and a table that a test writes."""

    def make(table, names=("1", "2", "3", "4", "5")):
        place = tmp_path / "set"
        place.mkdir(exist_ok=True)
        for name, element in zip(names, ELEMENTS, strict=True):
            (place / f"{name}.vasp").write_text(POSCAR.format(element))
            (place / f"{name}.cif").write_text(
                Crystal([[4, 0, 0], [0, 4, 0], [0, 0, 4]], [[0, 0, 0]], [11]).to_pymatgen().to(fmt="cif")
            )
        (place / "id_prop.csv").write_text(table, newline="")
        return IdPropSource(str(place))

    return make


def read(source, tmp_path):
    scan = source.scan(10, tmp_path / "spool")
    entries = list(source.read(Cut(scan.marks[0], 0, scan.entries), tmp_path / "spool"))
    return {entry.id: dict(entry.labels) for entry in entries if isinstance(entry.crystal, Crystal)}, scan


FRAME = pd.DataFrame({"id": [1, 2, 3], "prop": [0.5, 1.5, 2.5], "gap": [1.0, 2.0, 3.0]})
EXPECTED = {str(i): {"prop": p, "gap": g} for i, p, g in FRAME.itertuples(index=False)}


@pytest.mark.slow
@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize(("sep", "decimal"), [(",", "."), (";", ","), (";", "."), ("\t", ",")])
@pytest.mark.parametrize("columns", [["id", "prop", "gap"], ["prop", "id", "gap"], ["gap", "prop", "id"]])
@pytest.mark.parametrize("name", ["id", "jid", "material_id", "cif_id"])
def test_id_prop_is_read_by_name(index, sep, decimal, columns, name, folder, tmp_path):
    frame = FRAME[columns].rename(columns={"id": name})
    found, _ = read(folder(frame.to_csv(index=index, sep=sep, decimal=decimal)), tmp_path)
    assert {i: {n: float(v) for n, v in labels.items()} for i, labels in found.items()} == EXPECTED


def test_an_index_without_a_name_is_told_from_the_ids_by_their_files(folder, tmp_path):
    found, _ = read(folder(",structure,prop\n0,2,0.5\n1,3,1.5\n2,4,2.5\n"), tmp_path)
    assert found == {"2": {"prop": "0.5"}, "3": {"prop": "1.5"}, "4": {"prop": "2.5"}}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("id,prop\n0,1,0.5\n1,2,1.5\n", "the header has 2 columns, 'id', 'prop', and the rows have 3"),
        ("id,prop\n1,0,5\n2,1,5\n", "the header has 2 columns"),
        ("0,1,0.5\n1,2,1.5\n2,3,2.5\n", "counts the rows as the index of a pandas table does"),
        ("1,0,52\n2,1,5\n", "whole numbers in pairs, such as '0', '52': two labels, or one with a decimal comma"),
        ("1,-0,5\n2,1,05\n", "decimal comma"),
        (",a,b\n0,1,2\n1,3,4\n", "several columns name structure files; give the column of the ids the name 'id'"),
        (",a,b\n0,9,8\n1,7,8\n", "no other column names structure files"),
        ("id,a,a\n1,2,3\n", "a name twice"),
        ("id;a\n1;0,5\n2;1.5\n", "with a comma"),
    ],
)
def test_id_prop_that_leaves_open_what_it_means_is_refused(table, message, folder, tmp_path):
    with pytest.raises(UnreadableInput, match=message):
        folder(table).scan(10, tmp_path / "spool")


@pytest.mark.parametrize("table", ["1,0.5\n2,1.5\n", "1,0\n2,1\n", "1,0.5,3\n2,1.5,4\n", "1,1,2,3\n2,4,5,6\n"])
def test_tables_without_a_header_are_read_as_ever(table, folder, tmp_path):
    found, _ = read(folder(table), tmp_path)
    values = [row.split(",") for row in table.split()]
    assert {i: list(labels.values()) for i, labels in found.items()} == {row[0]: row[1:] for row in values}


# ---- labels --from


@pytest.mark.parametrize(("sep", "decimal"), [(",", "."), (";", ","), ("\t", ","), (";", ".")])
@pytest.mark.parametrize("index", [True, False])
def test_labels_from_a_table_are_read_by_name(sep, decimal, index, tmp_path):
    FRAME.to_csv(tmp_path / "t.csv", sep=sep, decimal=decimal, index=index)
    table = read_table(tmp_path / "t.csv")
    assert {i: {n: float(v) for n, v in row.items()} for i, row in table.items()} == EXPECTED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,a\n1,2,3\n", "row 2 has 3 cells, and the header 2: 'id', 'a'"),
        ("id,a\n1,2\n2\n", "row 3 has 1 cells"),
        ("id,a\n1,0,5\n", "row 2 has 3 cells"),
        ("1,2\n3,4\n", "no column of ids; the columns are '1', '2'"),
        ("id,a\n", "no rows"),
        ("", "no rows"),
        ("id,a,a\n1,2,3\n", "'a' appears twice"),
        ("id,a\n1,2\n1,3\n", "'1' appears twice"),
        ("id,a\n,2\n", "row 0 has no id"),
        ('[{"id": null, "a": 1}]', "row 0 has no id"),
        ("[1, 2]", "no rows of objects"),
        ('{"id": 1, "a": 2}\n{"id": 1', "not JSON"),
        ("id;a;b\n1;0,5;0.5\n", "with a comma"),
    ],
)
def test_labels_from_a_table_that_cannot_be_told_apart_are_refused(text, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UnreadableInput, match=message):
        read_table(tmp_path / "t.csv")


def test_labels_from_json_have_plain_numbers(tmp_path):
    array = {"@module": "numpy", "@class": "array", "dtype": "float64", "data": [1.0, 2.0]}
    rows = [{"id": 5168.0, "a": {"$numberDouble": "1.5"}, "v": array}, {"id": "x", "a": 2}]
    for value in (json.dumps(rows), "\n".join(map(json.dumps, rows)), json.dumps(rows, indent=1)):
        (tmp_path / "t.json").write_text("\ufeff" + value, encoding="utf-8")
        table = read_table(tmp_path / "t.json")
        assert table.keys() == {"5168", "x"}
        assert (table["5168"]["a"], table["5168"]["v"].tolist(), table["x"]) == (1.5, [1.0, 2.0], {"a": 2})


def test_a_line_separator_of_unicode_ends_no_row(tmp_path):
    (tmp_path / "t.csv").write_text('id,note,a\n1,"x\u2028y",2\n', encoding="utf-8")
    assert read_table(tmp_path / "t.csv") == {"1": {"note": "x\u2028y", "a": "2"}}


def test_a_missing_table_is_one_sentence(tmp_path):
    with pytest.raises(lg.InputError, match="there is no file .*nope.csv; give a table"):
        read_table(tmp_path / "nope.csv")
