"""docs/training.md: its examples run, one after another, and its tables name every option and model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import fields
from pathlib import Path

import pytest

import lazygraph as lg
from lazygraph.training.models import MODELS

PAGE = Path(__file__).parents[1] / "docs" / "training.md"


@pytest.mark.slow
def test_the_examples_run(tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    for block in re.finditer(r"```(python|bash)\n(.*?)```", text, re.DOTALL):
        line = text[: block.start()].count("\n") + 1
        command = [sys.executable, "-c"] if block[1] == "python" else ["bash", "-e", "-c"]
        done = subprocess.run(
            [*command, block[2]],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"line {line}: {done.stdout}{done.stderr}"
    run = {file.name for file in (tmp_path / "density").iterdir()}
    assert run >= {"options.toml", "metrics.csv", "checkpoints", "predictions.csv", "results.json", "parity.png"}
    head = (tmp_path / "predictions-both.csv").read_text().splitlines()[0]
    assert "deviation density" in head
    assert len(list((tmp_path / "graph_cache").iterdir())) == 1


def test_every_option_and_model_is_told():
    text = PAGE.read_text(encoding="utf-8")
    for name in (*(f.name for f in fields(lg.TrainOptions)), *MODELS):
        assert f"`{name}`" in text, name
