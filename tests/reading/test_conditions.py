"""Conditions give what plain Python gives row by row, for numbers, texts, categories and elements."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.crystal import SYMBOLS, Crystal
from lazygraph.reading.conditions import evaluate
from lazygraph.reading.operands import Categories, Elements, n_elements

KINDS = ("bulk", "slab", "molecule")
NOTES = ("a", "é", "longer text", "")
PAIRS = [(26, 8), (11, 8), (26, 26), (55, 17), (27, 8), (6, 6)]
LEVELS = ("PBE", "r2SCAN")
ELEMENTS = ("C", "Cs", "Cl", "Fe", "F", "O", "H", "Co")

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from((*KINDS, "")),
            "note": st.sampled_from(NOTES),
            "n": st.integers(-3, 3),
            "ok": st.booleans(),
            "elements": st.sets(st.sampled_from(ELEMENTS), min_size=1, max_size=4),
        }
    ),
    min_size=1,
    max_size=12,
)
SET = st.sets(st.sampled_from(ELEMENTS), min_size=1, max_size=3).map(repr)
ATOM = st.one_of(
    st.builds("kind {} {!r}".format, st.sampled_from(["==", "!=", "<", ">="]), st.sampled_from((*KINDS, ""))),
    st.builds("{!r} == kind".format, st.sampled_from(KINDS)),
    st.builds(
        "kind {} {!r}".format, st.sampled_from(["in", "not in"]), st.sets(st.sampled_from((*KINDS, "")), min_size=1)
    ),
    st.builds("note {} {!r}".format, st.sampled_from(["==", "!=", "<"]), st.sampled_from((*NOTES, "unknown"))),
    st.builds("note in {!r}".format, st.lists(st.sampled_from((*NOTES, "unknown")), min_size=1).map(tuple)),
    st.sampled_from(
        ["kind == note", "kind != note", "note == kind", "ok", "ok == True", "ok != (n > 1)", "n in (1, 2)"]
    ),
    st.builds("n {} {}".format, st.sampled_from(["==", "<", ">="]), st.integers(-3, 3)),
    st.builds("{} < n <= {}".format, st.integers(-3, 3), st.integers(-3, 3)),
    st.builds("{!r} {} elements".format, st.sampled_from(ELEMENTS), st.sampled_from(["in", "not in"])),
    st.builds("elements {} {}".format, st.sampled_from(["==", "!=", "<=", ">=", "<", ">"]), SET),
    st.builds("{} {} elements".format, SET, st.sampled_from(["==", "!=", "<=", ">=", "<", ">"])),
    st.builds("n_elements {} {}".format, st.sampled_from(["==", ">", "<="]), st.integers(0, 4)),
)
CONDITION = st.recursive(
    ATOM,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=5,
)


def formula_of(elements):
    numbers = [SYMBOLS.index(symbol) for symbol in sorted(elements) for _ in range(1 + len(symbol))]
    return Crystal(np.eye(3) * 9, [[0.01 * n, 0, 0] for n in range(len(numbers))], numbers).formula.encode()


def operand_of(rows):
    formulas = np.array([formula_of(row["elements"]) for row in rows])
    codes = np.array([KINDS.index(row["kind"]) if row["kind"] else 255 for row in rows], np.uint8)
    return {
        "kind": Categories("kind", codes, tuple(kind.encode() for kind in KINDS)),
        "note": np.array([row["note"].encode() for row in rows]),
        "n": np.array([row["n"] for row in rows]),
        "ok": np.array([row["ok"] for row in rows]),
        "elements": Elements(formulas),
        "n_elements": n_elements(formulas),
    }.__getitem__


@given(ROWS, CONDITION)
def test_a_condition_is_what_python_says_row_by_row(rows, condition):
    expected = [bool(eval(condition, {}, row | {"n_elements": len(row["elements"])})) for row in rows]  # noqa: S307
    assert evaluate(condition, operand_of(rows)).tolist() == expected


@given(st.lists(st.sets(st.sampled_from(SYMBOLS[1:]), min_size=1, max_size=7), min_size=1, max_size=5))
def test_every_element_is_found_and_no_other(crystals):
    formulas = np.array([formula_of(elements) for elements in crystals])
    found = Elements(formulas)
    for symbol in SYMBOLS[1:]:
        assert found.having(symbol).tolist() == [symbol in elements for elements in crystals]
    assert n_elements(formulas).tolist() == [len(elements) for elements in crystals]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("kind == 'bulkk'", "unknown kind 'bulkk'; did you mean 'bulk'? known: bulk, slab, molecule"),
        ("kind != 'Slab'", "unknown kind 'Slab'; did you mean 'slab'?"),
        ("'bulkk' == kind", "unknown kind 'bulkk'"),
        ("kind in ('x', 'y')", "unknown kind 'x'; known: bulk"),
        ("'Fee' in elements", "unknown element 'Fee'; did you mean 'Fe'"),
        ("elements == {'Fe', 'fe'}", "unknown element 'fe'"),
        ("'X' in elements", "unknown element 'X'"),
        ("kind == 1", "it compares a text with a number"),
        ("note == 1", "it compares a text with a number"),
        ("n == 'a'", "it compares a text with a number"),
        ("n in (1, 'a')", "it compares a text with a number"),
        ("note in (1, 2)", "it compares a text with a number"),
        ("kind in 'bulk'", "only elements and lists"),
        ("'a' in note", "only elements and lists"),
        ("elements == 'Fe'", "write a test for an element as 'Fe' in elements"),
        ("elements in ('Fe', 'O')", "write a test for an element as 'Fe' in elements"),
        ("1 in elements", "write a test for an element as 'Fe' in elements"),
        ("elements == 2", "write a test for an element as 'Fe' in elements"),
        ("elements", "'elements' is not true or false for every graph"),
        ("kind", "'kind' is not true or false for every graph"),
        ("kind is 'bulk'", "it compares with 'is'"),
        ("isnan(kind)", "cannot be used"),
        ("kind + 1 > 2", "cannot be used"),
        ("-kind == 'bulk'", "cannot be used"),
    ],
)
def test_what_cannot_be_compared_is_refused(condition, message):
    rows = [{"kind": "bulk", "note": "a", "n": 1, "ok": True, "elements": {"Fe", "O"}}] * 2
    with pytest.raises(lg.InputError, match=re.escape(message)):
        evaluate(condition, operand_of(rows))


def test_an_unknown_text_among_known_ones_is_warned_of():
    rows = [{"kind": kind, "note": "", "n": 1, "ok": True, "elements": {"O"}} for kind in KINDS]
    with pytest.warns(UserWarning, match="unknown kind 'slap'; did you mean 'slab'"):
        assert evaluate("kind in ('slap', 'bulk')", operand_of(rows)).tolist() == [True, False, False]


def test_a_dataset_is_chosen_from_by_texts_and_elements(tmp_path):
    crystals = [Crystal(np.eye(3) * (4 + n / 9), [[0, 0, 0], [0.5] * 3], pair) for n, pair in enumerate(PAIRS)]
    items = [(f"g{n}", crystal, {"level": LEVELS[n % 2], "tag": f"t{n}"}) for n, crystal in enumerate(crystals)]
    lg.write(items, tmp_path / "a.lg", workers=1, progress=False, split=(0.5, 0.25, 0.25))
    ds = lg.LazyGraphDataset(tmp_path / "a.lg")
    for condition, expected in {
        "level == 'PBE'": [0, 2, 4],
        "level in ('PBE', 'r2SCAN')": [0, 1, 2, 3, 4, 5],
        "'Fe' in elements and level == 'PBE'": [0, 2],
        "not 'O' in elements": [2, 3, 5],
        "elements == {'Fe', 'O'}": [0],
        "n_elements == 1": [2, 5],
        "tag == 't3'": [3],
        "formula == 'FeO'": [0],
    }.items():
        assert ds.where(condition).ids.tolist() == [f"g{n}" for n in expected], condition
        assert ds[[5, 4, 2, 0]].where(condition).ids.tolist() == [f"g{n}" for n in (5, 4, 2, 0) if n in expected]
        assert ds[::2].where(condition).ids.tolist() == [f"g{n}" for n in (0, 2, 4) if n in expected]
    assert ds.columns["n_elements"].tolist() == [2, 2, 1, 2, 2, 1]
    assert ds[3:].columns["level"].tolist() == ["r2SCAN", "PBE", "r2SCAN"]
    train = ds.where("split == 'train'")
    assert sorted(train.ids) == sorted(ds.split("train").ids)
    with pytest.raises(lg.InputError, match="unknown split 'trian'; did you mean 'train'"):
        ds.where("split == 'trian'")
    with pytest.raises(lg.InputError, match="unknown column 'element'; did you mean 'elements'"):
        ds.where("'Fe' in element")
