from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from lazygraph.crystal import Crystal


@pytest.fixture(scope="session")
def golden():
    """The folder of golden graphs, which lies beside the data."""
    data = os.environ.get("LAZYGRAPH_DATA")
    if data is None:
        pytest.skip("LAZYGRAPH_DATA is not set")
    folder = Path(data).parent / "golden"
    if not (folder / "structures.json").exists():
        pytest.skip("there is no folder golden beside LAZYGRAPH_DATA")
    return folder


@pytest.fixture(scope="session")
def golden_crystals(golden):
    structures = json.loads((golden / "structures.json").read_text())
    return [Crystal(s["lattice"], s["frac_coords"], s["numbers"]) for s in structures]


@pytest.fixture(scope="session")
def silicon():
    return Crystal(
        [[0, 2.715, 2.715], [2.715, 0, 2.715], [2.715, 2.715, 0]], np.array([[0.0] * 3, [0.25] * 3]), [14, 14]
    )
