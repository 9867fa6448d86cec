"""Tables of labels: any id that a dataset may have is read as it was written."""

from __future__ import annotations

import csv
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lazygraph.sources.table import read_table

LINES = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"  # at each of which splitlines() breaks
ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


def as_csv(rows, path):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "gap"])
        writer.writeheader()
        writer.writerows(rows)


def as_json(rows, path):
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8", newline="")


def as_jsonl(rows, path):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows), encoding="utf-8", newline="")


@pytest.mark.slow
@pytest.mark.parametrize("write", [as_csv, as_json, as_jsonl])
@given(names=st.lists(ids, min_size=1, max_size=4, unique=True))
@example(names=[LINES, "x"])
@example(names=["two\nlines", "two\r\nlines", "two\rlines", 'a "quoted" one'])
def test_ids_are_read_as_they_were_written(tmp_path_factory, write, names):
    path = tmp_path_factory.mktemp("table") / "labels"
    write([{"id": name, "gap": f"{k}.5"} for k, name in enumerate(names)], path)
    assert read_table(path) == {name: {"gap": f"{k}.5"} for k, name in enumerate(names)}
