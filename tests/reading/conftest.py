"""What the tests of reading share."""

import shutil

import pytest


@pytest.fixture
def copy(original, tmp_path):
    """A dataset that a test may damage: a copy of the module's ``original``."""
    out = tmp_path / "p.lg"
    shutil.copytree(original, out)
    return out
