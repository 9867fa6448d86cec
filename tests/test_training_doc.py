"""docs/training.md: its examples run, one after another, and its tables name every option and model."""

from __future__ import annotations

import importlib
import inspect
import json
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


def parsed(text):
    """The value of a ``--model-option``: JSON, or the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def test_the_options_of_models_are_those_of_their_classes():
    section = PAGE.read_text(encoding="utf-8").partition("### Options of the models")[2].partition("\n## ")[0]
    rows = re.finditer(r"\| `([\w-]+)` \| (.*) \|", section)
    told = {row[1]: dict(re.findall(r"`(\w+)=([^`]+)`", row[2])) for row in rows}
    assert told.keys() == MODELS.keys() - {"m3gnet", "chgnet", "chgnet-matgl"}
    for name, options in told.items():
        build = MODELS[name].build
        module, kind = build.args
        parameters = inspect.signature(getattr(importlib.import_module(module), kind)).parameters
        own = {k: build.keywords.get(k, p.default) for k, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
        given = {k: v for k, v in own.items() if v is not inspect.Parameter.empty}
        expected = {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}
        assert {k: parsed(v) for k, v in options.items()} == expected, name
