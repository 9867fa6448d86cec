"""docs/loading.md: its examples run, one after another, and its table names every option."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import lazygraph as lg
from tests.doc_examples import run_examples

PAGE = Path(__file__).parents[1] / "docs" / "loading.md"


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = run_examples(PAGE)
    assert sum(batch.num_graphs for batch in namespace["validation"]) == 30
    for name in ("by_size", "alike", "local", "drawn", "plain", "pyg", "noisy"):
        assert sum(batch.num_graphs for batch in namespace[name]) == 300
    assert sum(batch.num_graphs for batch in namespace["same"]) == 240
    assert [(batch.num_nodes, batch.y.tolist()) for batch in namespace["stars"]] == [(5, [0, 1]), (4, [0])]
    assert len(namespace["pilot"]) == len(namespace["spread"]) == 50
    assert namespace["mix"].visits() == {"mp": 180, "alex": 60, "other": 60}
    assert str(namespace["loader"].settings) in capsys.readouterr().out


@pytest.mark.parametrize("function", [lg.loader, lg.mix, lg.LazyGraphDataset.sample])
def test_every_option_is_told(function):
    text = PAGE.read_text(encoding="utf-8")
    for name in inspect.signature(function).parameters:
        if name not in ("dataset", "self"):
            assert name in text, name
