from __future__ import annotations

import json

import numpy as np
import pytest

from lazygraph.crystal import Crystal


@pytest.fixture(scope="session")
def golden_crystals(golden):
    structures = json.loads((golden / "structures.json").read_text())
    return [Crystal(s["lattice"], s["frac_coords"], s["numbers"]) for s in structures]


@pytest.fixture(scope="session")
def silicon():
    return Crystal(
        [[0, 2.715, 2.715], [2.715, 0, 2.715], [2.715, 2.715, 0]], np.array([[0.0] * 3, [0.25] * 3]), [14, 14]
    )
