"""docs/report.md: its examples run, one after another, and say what they print."""

from __future__ import annotations

import re
from pathlib import Path

from tests.doc_examples import run_examples

PAGE = Path(__file__).parents[1] / "docs" / "report.md"


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_examples(PAGE)
    shown = re.search(r"```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert capsys.readouterr().out.replace(f"{tmp_path}/", "/data/") == "400 100 True\n" + shown[1]
    assert {file.name for file in tmp_path.glob("*.html")} == {"mp.html", "oxides.html", "train.html"}
