"""docs/combining.md: its examples run, one after another, and say what they print."""

from __future__ import annotations

from pathlib import Path

import pytest

import lazygraph as lg
from lazygraph.reading.verify import verify
from tests.doc_examples import run_examples

PAGE = Path(__file__).parents[1] / "docs" / "combining.md"


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_examples(PAGE)
    said = capsys.readouterr().out
    assert said.startswith("100\n")
    assert "0 only in b" in said
    assert "True\nFalse the graphs were built, and not copied as they are stored, because the option labels" in said
    notes = lg.concat(["a.lg", "b.lg"], "again.lg", fields="common").notes
    assert f"{notes}\n" in said
    assert [note.partition(",")[0] for note in notes] == [
        "the field 'forces' is float32 in b.lg and is stored as float64",
        "the field 'charges' is left out",
    ]
    for name in ("all.lg", "small.lg", "some.lg", "copied.lg", "built.lg", "ab.lg"):
        assert verify(name).problems == ()
    assert lg.LazyGraphDataset("some.lg").ids.tolist() == ["part-0-prototype-0000003", "part-1-prototype-0000007"]
    assert "input" in lg.LazyGraphDataset("small.lg").manifest.columns
