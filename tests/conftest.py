from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import lazygraph as lg

# Examples are bounded in number, never in time: a slow machine must not fail a test. CI draws the same examples in
# every run.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real crystals."""
    folder = os.environ.get("LAZYGRAPH_DATA")
    if not folder:
        pytest.skip("LAZYGRAPH_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def golden(data) -> Path:
    """The folder of graphs that published codes built, which lies beside the data."""
    folder = data.parent / "golden"
    if not (folder / "structures.json").exists():
        pytest.skip("there is no folder golden beside LAZYGRAPH_DATA")
    return folder


@pytest.fixture(scope="session")
def prototypes(tmp_path_factory) -> Path:
    """A dataset of 300 crystals, recipe comformer, labels density, volume_per_atom and mean_atomic_number.

    Shared: copy it before changing it.
    """
    path = tmp_path_factory.mktemp("prototypes") / "prototypes.lg"
    lg.write("prototypes:300?seed=1", path, graph="comformer", workers=1, progress=False)
    return path
