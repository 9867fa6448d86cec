"""docs/splits.md: its examples run, one after another."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import lazygraph as lg
from lazygraph.cli.main import main
from tests.doc_examples import run_examples

PAGE = Path(__file__).parents[1] / "docs" / "splits.md"


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_examples(PAGE)
    out = capsys.readouterr().out
    assert "fold_4 160 40" in out
    for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines():
            command, *arguments = shlex.split(line)
            assert command == "lazygraph"
            assert main(arguments) == 0, line
    splits = lg.LazyGraphDataset("mp.lg").manifest.splits()
    assert {
        "split",
        "fold_0",
        "by_formula_4",
        "by_system",
        "by_type",
        "by_band_gap",
        "exact",
        "even",
        "without_iron",
    } <= set(splits)
    assert all(column.rule is not None for column in splits.values())
