"""docs/export.md: its examples run, one after another, and say what they print."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doc_examples import run_examples

PAGE = Path(__file__).parents[1] / "docs" / "export.md"


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = run_examples(PAGE)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "100"
    assert said[-3:] == ["prototype-0000099", "100", "80 True"]
    assert len(names["structure"]) < 10
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lg") == [
        "demo.parquet", "demo.xyz", "small.csv", "train.aselmdb"
    ]  # fmt: skip
