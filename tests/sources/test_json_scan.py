"""Where elements and rows begin and end, against the json and csv modules, with pieces of every size."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lazygraph.errors import UnreadableInput
from lazygraph.sources.jsonscan import elements, first_value
from lazygraph.sources.rowscan import rows

# Everything that a scanner could take for structure, escapes of every parity, and bytes above 127.
TEXTS = st.text(alphabet='\\"[]{},:\n\té€😀a', max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-999, 999) | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)
STYLES = st.sampled_from(
    [
        {},
        {"indent": 2},
        {"indent": "\t", "ensure_ascii": False},
        {"separators": (",", ":"), "ensure_ascii": False},
        {"separators": (" ,\r\n ", " :\n")},
    ]
)
SIZES = st.integers(1, 40)
QUICK = settings(deadline=None, max_examples=60)  # a machine may be busy


def cut_up(text: bytes, size: int) -> list[bytes]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def same(a, b) -> bool:
    return json.dumps(a) == json.dumps(b)  # NaN is NaN here


@pytest.mark.slow
@QUICK
@given(st.lists(VALUES, max_size=6), STYLES, SIZES)
@example(['\\"', "\\\\", '\\\\\\"]'], {}, 1)
def test_elements_of_an_array(values, style, size):
    text = json.dumps(values, **style).encode()
    found = list(elements(cut_up(text, size), 1, b"["))
    assert same([json.loads(e.text) for e in found], values)
    for element in found:
        assert text[element.start :].startswith(element.text)
        assert element.key is None


@QUICK
@given(st.dictionaries(TEXTS, VALUES, max_size=6), STYLES, SIZES)
def test_members_of_an_object(values, style, size):
    text = json.dumps(values, **style).encode()
    found = [json.loads(b"{" + e.text + b"}") for e in elements(cut_up(text, size), 1, b"{")]
    assert same(found, [{key: value} for key, value in values.items()])


@QUICK
@given(st.dictionaries(TEXTS, st.lists(VALUES, max_size=4) | SCALARS, max_size=4), STYLES, SIZES)
def test_elements_two_deep_carry_their_key(values, style, size):
    text = json.dumps(values, **style).encode()
    found = list(elements(cut_up(text, size), 2, b"{"))
    deep = [(key, value) for key, part in values.items() if isinstance(part, list) for value in part]
    assert same([(e.key, json.loads(e.text)) for e in found if e.key is not None], deep)
    flat = [{key: part} for key, part in values.items() if not isinstance(part, list)]
    assert same([json.loads(b"{" + e.text + b"}") for e in found if e.key is None], flat)


@pytest.mark.slow
@QUICK
@given(st.lists(VALUES, min_size=1, max_size=6), STYLES, SIZES)
def test_scanning_can_begin_at_any_element(values, style, size):
    text = json.dumps(values, **style).encode()
    found = list(elements([text], 1, b"["))
    for index, element in enumerate(found):
        rest = list(elements(cut_up(text[element.start :], size), 1, b"[", inside=True))
        assert [e.text for e in rest] == [e.text for e in found[index:]]


@QUICK
@given(st.lists(VALUES, max_size=6), STYLES, SIZES, st.data())
def test_every_truncation_is_refused(values, style, size, data):
    text = json.dumps(values, **style).encode()
    length = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(UnreadableInput, match=r"breaks off at byte|the text is empty"):
        list(elements(cut_up(text[:length], size), 1, b"["))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the text is empty; required: an array"),
        (b"  \n", "the text is empty; required: an array"),
        (b'{"a": 1}', r"found b'\{' at byte 0; required: an array"),
        (b"x[1]", r"found b'x\[' at byte 0; required: an array"),
        (b"[1] x", "found b'x' at byte 4, after the end of the document"),
        (b"[1] [2]", r"found b'\[' at byte 4, after the end of the document"),
        (b"[1], 2", "the ',' at byte 3 matches no bracket"),
        (b"[1]]", r"the '\]' at byte 3 matches no bracket"),
        (b"[1}", r"the '\}' at byte 2 matches no bracket"),
        (b'[{"a": [1]]}, 2]', r"the '\}' at byte 11 matches no bracket"),
        (b"[1,,2]", "without a value before byte 3"),
        (b"[,1]", "without a value before byte 1"),
        (b"[1, ]", "without a value before byte 4"),
        (b'[1, "x]', "breaks off at byte 7"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_broken_arrays_are_refused_with_their_place(text, message, size):
    with pytest.raises(UnreadableInput, match=message):
        list(elements(cut_up(text, size), 1, b"["))


@pytest.mark.parametrize("text", [b'{"a" [1]}', b"{[1]}", b"{a: [1]}", b'{"a": x [1]}', b"{1: [1]}"])
def test_a_container_without_a_key_is_refused(text):
    with pytest.raises(UnreadableInput, match="required: a key in quotes and a colon"):
        list(elements([text], 2, b"{"))


def test_what_is_broken_inside_an_element_stays_inside_it():
    found = [e.text for e in elements([b'[{"a": tru}, {"b" 1}, [1 2], nul, 5]'], 1, b"[")]
    assert [t.strip() for t in found] == [b'{"a": tru}', b'{"b" 1}', b"[1 2]", b"nul", b"5"]


@pytest.mark.slow
@QUICK
@given(st.lists(VALUES, max_size=5) | st.dictionaries(TEXTS, VALUES, max_size=5), STYLES)
def test_the_first_value_of_any_prefix_is_json(value, style):
    text = json.dumps(value, **style).encode()
    for length in range(1, len(text)):
        seen = first_value(text[:length])
        assert type(seen.value) is type(value)
        assert not seen.whole
        assert seen.end <= length
        if isinstance(value, list) and len(seen.value) > 1:  # only the last can be cut short
            assert same(seen.value[:-1], value[: len(seen.value) - 1])
    seen = first_value(text + b"\n[more")
    assert same(seen.value, value)
    assert seen.whole
    assert seen.end == len(text)


@pytest.mark.parametrize("text", [b"", b"  ", b"3", b'"[1]"', b"data_\n[1]", b"[1}", b'{"a": [}'])
def test_the_first_value_of_no_json_is_none(text):
    assert first_value(text).value is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'[{"a": 1}, {"b": tru}, {"c": 3}]', [{"a": 1}, {}]),
        (b'{"a": [1, 2], "b" 5, "c": 6}', {"a": [1, 2]}),
        (b'[{"a": "\xff"}, {"b": \xff}]', [{"a": "\udcff"}, {}]),
        (b'[{"a": 1, "b"}]', [{"a": 1}]),
        (b'["a" "b"]', []),
        (b'{"a", 5', {}),
        (b"{1: 2}", {}),
    ],
)
def test_the_first_value_ends_before_what_is_broken(text, value):
    seen = first_value(text)
    assert seen.value == value
    assert not seen.whole


def test_absurd_nesting_is_cut_rather_than_a_crash_and_hides_nothing():
    seen = first_value(b"[1, " + b"[" * 60_000)
    assert seen.value[0] == 1
    assert not seen.whole
    seen = first_value(b'{"a": ' + b"[" * 3000 + b'{"c": 1}, 2' + b"]" * 3000 + b', "b": 2}')
    assert seen.value["b"] == 2
    assert seen.whole


@QUICK
@given(
    st.lists(st.lists(st.text(alphabet='",\n\r aé', max_size=8), min_size=2, max_size=4), max_size=6),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    SIZES,
)
def test_rows_of_csv(table, ending, final, size):
    buffer = io.StringIO(newline="")
    # Python's writer leaves a lone carriage return unquoted, which its reader then refuses.
    quoting = csv.QUOTE_ALL if any("\r" in cell for row in table for cell in row) else csv.QUOTE_MINIMAL
    csv.writer(buffer, lineterminator=ending, quoting=quoting).writerows(table)
    text = buffer.getvalue().encode()
    if not final:
        text = text.removesuffix(ending.encode())
    found = list(rows(cut_up(text, size), quoted=True))
    parsed = [next(csv.reader([row.decode().removesuffix("\r")], strict=True)) for _, row in found]
    assert parsed == [row for row in csv.reader(io.StringIO(text.decode(), newline="")) if "".join(row) or len(row) > 1]
    for start, row in found:
        assert text[start:].startswith(row)
        again = list(rows(cut_up(text[start:], size), quoted=True))
        assert again[0][1] == row


@QUICK
@given(st.lists(st.sampled_from([b"", b" ", b'{"a": "x"}', b'{"broken": "', b"\r"]), max_size=9), SIZES)
def test_rows_of_jsonl_are_the_lines_that_are_not_blank(lines, size):
    text = b"\n".join(lines)
    assert [row for _, row in rows(cut_up(text, size), quoted=False)] == [line for line in lines if line.strip()]


@pytest.mark.parametrize("size", [1, 4, 100])
def test_csv_that_ends_inside_quotes_is_refused(size):
    with pytest.raises(UnreadableInput, match="ends inside a quoted cell of the row at byte 5"):
        list(rows(cut_up(b'a,b\n\n1,"x\ny\n', size), quoted=True))
