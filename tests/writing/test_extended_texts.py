"""Texts that are added to a finished column of texts give the column of all texts."""

from __future__ import annotations

from functools import partial

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph.format.columns import ColumnWriter, Extended, open_column, text_array
from lazygraph.format.digests import BLOCK, CheckedColumn, read_digests
from lazygraph.sources.base import Label
from lazygraph.storage.local import LocalStorage
from lazygraph.writing.label_columns import ExtendedTexts, label_column

LABEL = Label("kind", "graph", dtype="text")


def digests(writer, folder, rows):
    file = writer.digests(np.zeros(-(-rows // BLOCK), "V32"))
    return (folder / file.name).read_bytes()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_added_texts_give_the_column_of_all_texts(tmp_path_factory, data):
    """With the same texts, new ones, ones that make other codes, more than 255, and too many for categories."""
    folder = tmp_path_factory.mktemp("texts")
    few = [b"", b"alpha", b"beta", b"gamma", "\u0394".encode(), b"zz"]
    many = [f"t{number:03d}".encode() for number in range(300)]
    seed = data.draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)

    def drawn(vocabulary, n):
        return np.array([vocabulary[k] for k in rng.integers(0, len(vocabulary), n)], object).astype("S5")

    old = drawn(
        data.draw(st.sampled_from([few[:2], few, few[2:], many[:200], many])), data.draw(st.sampled_from([3, 9000]))
    )
    new = drawn(
        data.draw(st.sampled_from([few, few[:3], many, [b"one", b"two"]])), data.draw(st.sampled_from([0, 2, 700]))
    )
    lone = [f"u{number:04d}".encode() for number in range(data.draw(st.sampled_from([0, 0, 6000])))]
    new = np.concatenate([new, np.array(lone, "S5")])
    before, after, whole = (ColumnWriter(folder / name) for name in ("before", "after", "whole"))
    label_column(before, LABEL, [old])
    column, storage = before.columns["kind"], LocalStorage(folder / "before")
    blocks = read_digests(digests(before, folder / "before", len(old)), len(old), ["kind"])[1]["kind"]
    rows = CheckedColumn("kind", open_column(storage, column, check=False), blocks)
    extended = Extended(column, rows, partial(storage.descriptor, column.file), ())
    if column.categories is None:
        pieces = Extended(column, rows, extended.descriptor, [new])
    else:
        pieces = ExtendedTexts(extended, [new])
        assert np.concatenate(list(pieces)).tolist() == [*old.tolist(), *new.tolist()]
    label_column(after, LABEL, pieces)
    label_column(whole, LABEL, [old, new])
    assert after.columns == whole.columns
    every = len(old) + len(new)
    assert digests(after, folder / "after", every) == digests(whole, folder / "whole", every)


def test_a_category_that_no_row_has_is_left_out(tmp_path):
    """Other programs may have written it, or rows with it were removed."""
    before, after = ColumnWriter(tmp_path / "before"), ColumnWriter(tmp_path / "after")
    names, codes = ["a", "never", "z"], np.array([0, 2, 2, 0, 255], np.uint8)
    before.write("kind", codes, role="category", categories=names)
    column, storage = before.columns["kind"], LocalStorage(tmp_path / "before")
    blocks = read_digests(digests(before, tmp_path / "before", 5), 5, ["kind"])[1]["kind"]
    rows = CheckedColumn("kind", open_column(storage, column, check=False), blocks)
    extended = Extended(column, rows, partial(storage.descriptor, column.file), ())
    label_column(after, LABEL, ExtendedTexts(extended, [text_array(["z", ""])]))
    found = after.columns["kind"]
    assert found.categories == ("a", "z")
    assert open_column(LocalStorage(tmp_path / "after"), found).tolist() == [0, 1, 1, 0, 255, 1, 255]
    assert found.statistics == {"count": 5, "missing": 2}
