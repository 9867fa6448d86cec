"""The comment line of extended XYZ: the same values as ASE's parser, faster; pbc and cells in every form."""

from __future__ import annotations

import numpy as np
import pytest
from ase.io.extxyz import key_val_str_to_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph.errors import UnreadableInput
from lazygraph.sources import extxyz_comment
from lazygraph.sources.extxyz_comment import parse_comment, take_cell
from tests.real import DATA

LATTICE = 'Lattice="4 0 0 0 5 0 0 0 6"'


def same(mine, theirs):
    assert list(mine) == list(theirs)
    for key, value in mine.items():
        other = theirs[key]
        assert np.asarray(value).dtype.kind == np.asarray(other).dtype.kind, key
        assert np.array_equal(value, other, equal_nan=np.asarray(value).dtype.kind == "f"), key
        assert np.shape(value) == np.shape(other), key


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-]{0,8}", fullmatch=True).filter(lambda name: name.lower() != "pbc")
WORDS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(repr),
    st.sampled_from(
        ["T", "F", "true", "False", "TRUE", "t", "1.", ".5", "-0", "1e5", "nan", "inf", "1_0", "0x1", "+3", "--"]
    ),
    st.from_regex(r"[A-Za-z][A-Za-z0-9:/^._\-]{0,9}", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6).filter(
        lambda t: not set(t) & set('"\\\n\r')
    ),
)
VALUES = st.one_of(
    WORDS.filter(lambda word: word.split() == [word] and not set(word) & set("\"'{}[]=\\")),
    st.lists(WORDS, min_size=1, max_size=10).map(lambda words: '"' + " ".join(words) + '"'),
    st.lists(st.floats(-1e3, 1e3).map(str), min_size=9, max_size=9).map(lambda words: '"' + " ".join(words) + '"'),
)


@pytest.mark.slow
@settings(max_examples=500)
@given(
    st.dictionaries(NAMES | st.sampled_from(["stress", "virial", "Lattice", "uid"]), VALUES, min_size=1, max_size=6),
    st.sampled_from([" ", "  ", "\t"]),
)
def test_what_is_parsed_here_is_what_ase_parses(pairs, gap):
    line = gap.join(f"{key}={value}" for key, value in pairs.items())
    try:
        expected = key_val_str_to_dict(line)
    except ValueError:
        return  # a matrix without nine numbers
    same(parse_comment(line), expected)


@settings(max_examples=300)
@given(st.text("abT1.-= \"'{}[]\\,=\t", max_size=30))
def test_any_other_line_is_what_ase_parses_or_refused(line):
    try:
        expected = key_val_str_to_dict(line) if line.strip() else {}
    except (ValueError, IndexError):
        return
    try:
        found = parse_comment(line)
    except UnreadableInput:  # a key twice with other values: ASE takes the last
        return
    same(found, expected)


@pytest.mark.parametrize("path", sorted(DATA.glob("extxyz/*.xyz")), ids=lambda path: path.stem)
def test_the_lines_of_the_data_folder_need_no_help(path, monkeypatch):
    lines = path.read_text().split("\n")
    comments, at = [], 0
    while at < len(lines) and lines[at].strip():
        comments.append(lines[at + 1])
        at += int(lines[at]) + 2
    expected = [key_val_str_to_dict(line) for line in comments]
    monkeypatch.setattr("ase.io.extxyz.key_val_str_to_dict", None)
    for line, theirs in zip(comments, expected, strict=True):
        same(parse_comment(line), theirs)


FLAGS = {"T": True, "F": False, "t": True, "f": False, "True": True, "false": False, "1": True, "0": False}


@given(
    st.lists(st.sampled_from(sorted(FLAGS)), min_size=3, max_size=3), st.sampled_from(["pbc", "PBC", "Pbc"]), st.data()
)
def test_three_flags_in_every_form_are_three_flags(words, key, data):
    text = " ".join(words)
    forms = [f'{key}="{text}"', f"{key}='{text}'", f"{key}={{{text}}}", f"{key}={text}", f'{key} = "{text}"']
    form = data.draw(st.sampled_from(forms))
    before, after = data.draw(
        st.sampled_from([("", ""), ("energy=-1.5 ", ""), ("", " energy=2"), ("", " source=T tag=F")])
    )
    _, pbc, _ = take_cell(parse_comment(f"{LATTICE} {before}{form}{after}"))
    assert pbc == tuple(FLAGS[word] for word in words)


@pytest.mark.parametrize("text", ["T", "F"])
def test_one_flag_is_for_all_directions(text):
    assert take_cell(parse_comment(f"{LATTICE} pbc={text}"))[1] == (text == "T",) * 3
    assert take_cell(parse_comment(f"{LATTICE} pbc={text} energy=1"))[1] == (text == "T",) * 3


@pytest.mark.parametrize(
    "text",
    [
        "pbc=T F",
        "pbc=T T T F",
        'pbc="T T"',
        'pbc="T T 2"',
        'pbc="yes no no"',
        "pbc=2",
        "pbc=T T F T",
        'pbc="1 0 0 1"',
        'pbc="T T F" PBC="T T T"',
    ],
)
def test_other_flags_are_refused_with_what_is_wrong(text):
    with pytest.raises(
        UnreadableInput, match=r"required: three flags in quotes, such as pbc=\"T T F\"|keep one of them"
    ):
        take_cell(parse_comment(f"{LATTICE} {text}"))


@pytest.mark.parametrize("key", ["Lattice", "lattice", "LATTICE"])
def test_a_cell_in_any_case_has_its_vectors_as_rows(key):
    lattice, pbc, _ = take_cell(parse_comment(f'{key}="4 1 0 0 5 2 3 0 6"'))
    assert np.array_equal(lattice, [[4, 1, 0], [0, 5, 2], [3, 0, 6]])
    assert pbc == (True, True, True)


@pytest.mark.parametrize(
    "text", ["Lattice=4 0 0 0 4 0 0 0 4", 'lattice="4 4 4"', 'Lattice="4 0 0 0 4 0 0 0"', 'lattice="a"']
)
def test_a_cell_that_is_none_is_refused(text):
    with pytest.raises(UnreadableInput, match="required: nine numbers in quotes"):
        take_cell(parse_comment(text))


@pytest.mark.parametrize("key", ["Properties", "properties"])
def test_properties_in_any_case(key):
    info = parse_comment(f"{key}=species:S:1:pos:R:3:forces:R:3 energy=1")
    assert take_cell(info)[2] == "species:S:1:pos:R:3:forces:R:3"
    assert info == {"energy": 1}


def test_a_key_that_stands_twice_with_other_values_is_refused():
    assert parse_comment("energy=1 energy=1") == {"energy": 1}
    with pytest.raises(UnreadableInput, match="the key 'energy' twice, with 1 and 2"):
        parse_comment("energy=1 energy=2")


def test_six_numbers_of_a_stress_are_six_numbers():
    """ASE refuses them."""
    assert parse_comment('stress="1 2 3 4 5 6"')["stress"].tolist() == [1, 2, 3, 4, 5, 6]


def test_the_fast_way_is_taken():
    with pytest.raises(extxyz_comment._ForAse):
        extxyz_comment._common("a={1 2}")
    assert extxyz_comment._common('a="1 2" b=x') is not None
