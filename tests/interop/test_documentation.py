"""docs/interop.md: its examples run and say what they print; examples/: what a user writes is short."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.doc_examples import run_examples

ROOT = Path(__file__).parents[2]
PEERS = ("chgnet", "mace", "matgl", "metatrain")


@pytest.mark.usefixtures("single_precision")
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_examples(ROOT / "docs" / "interop.md")
    *said, error = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("torch.Size")] == [
        "torch.Size([4]) torch.Size([16, 3]) torch.Size([4, 3, 3])",
        "torch.Size([2]) torch.Size([8, 3]) torch.Size([2, 3, 3])",
    ]
    assert error.startswith("the network has the elements Cu, and the view of ")


@pytest.mark.parametrize("peer", PEERS)
def test_what_a_user_writes_has_at_most_ten_lines(peer):
    before, training = (ROOT / "examples" / f"loop_{peer}.py").read_text().split("# ---- the training ----\n")
    assert f"lazygraph.interop.{peer}" in before
    assert "lg.loader(" in training or peer == "metatrain"
    assert len(ast.parse(training).body) <= 10
