"""docs/combining.md: its examples run, one after another, and say what they print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lazygraph as lg
from lazygraph.reading.verify import verify

PAGE = Path(__file__).parents[1] / "docs" / "combining.md"


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    namespace = {}
    for block in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
        line = text[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], str(PAGE), "exec"), namespace)
    said = capsys.readouterr().out
    assert said.startswith("100\n")
    assert "0 only in b" in said
    for name in ("all.lg", "small.lg", "some.lg"):
        assert verify(name).problems == ()
    assert lg.LazyGraphDataset("some.lg").ids.tolist() == ["part-0-prototype-0000003", "part-1-prototype-0000007"]
    assert "input" in lg.LazyGraphDataset("small.lg").manifest.columns
