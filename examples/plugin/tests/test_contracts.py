"""The toy plug-in passes lazygraph's contract tests."""

from __future__ import annotations

import shutil
from typing import ClassVar

import pytest

pytest.register_assert_rewrite("lazygraph.testing")

from lazygraph.testing import PresetContract, SourceContract, StorageContract, ViewContract  # noqa: E402

LINES = "# toy crystals\na 3.0 26 -1.5\nb 3.1 11 -0.5\nflat 0.0 8 0.0\nc 3.2 17 -0.25\n"


class TestToySource(SourceContract):
    format = "toy"
    ids = ("a", "b", "flat", "c")
    bad_ids = ("flat",)

    def make(self, folder):
        path = folder / "crystals.toy"
        path.write_text(LINES)
        return path


class TestToyPreset(PresetContract):
    preset = "toy"


class TestToyAlikePreset(PresetContract):
    preset = "toy-alike"
    parameters: ClassVar = {"cutoff": 6.0}


class TestToyView(ViewContract):
    view = "toy"
    preset = "toy"


class TestToyZip(StorageContract):
    def put(self, dataset, folder):
        return "toyzip://" + shutil.make_archive(str(folder / "packed"), "zip", dataset)

    def empty(self, folder):
        return f"toyzip://{folder / 'nothing.zip'}"
