from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import lazygraph as lg
from tests.real import GOLDEN, WHOLE

# Examples are bounded in number, never in time: a slow machine must not fail a test. CI draws the same examples in
# every run.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the whole sets of real crystals."""
    if WHOLE is None:
        pytest.skip("LAZYGRAPH_DATA does not name the whole sets")
    return WHOLE


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of graphs that published codes built, of all crystals or of those in tests/data."""
    return GOLDEN


@pytest.fixture(scope="session")
def prototypes(tmp_path_factory) -> Path:
    """A dataset of 300 crystals, recipe comformer, labels density, volume_per_atom and mean_atomic_number.

    Shared: copy it before changing it.
    """
    path = tmp_path_factory.mktemp("prototypes") / "prototypes.lg"
    lg.write("prototypes:300?seed=1", path, graph="comformer", workers=1, progress=False)
    return path
