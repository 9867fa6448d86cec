"""Where the tests find real crystals: in the folder that LAZYGRAPH_DATA names, or else in tests/data, a slice of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SLICE = Path(__file__).parent / "data"
WHOLE = Path(os.environ["LAZYGRAPH_DATA"]) if os.environ.get("LAZYGRAPH_DATA") else None
DATA = WHOLE or SLICE
GOLDEN = next(folder for folder in (DATA.parent / "golden", SLICE / "golden") if (folder / "structures.json").exists())
"""The graphs that published codes built of real crystals."""

needs_whole = pytest.mark.skipif(WHOLE is None, reason="LAZYGRAPH_DATA does not name the whole sets")


def existing(name: str) -> Path:
    """A file or folder of the data; the test is skipped where the slice has no such one."""
    if WHOLE is None and not (SLICE / name).exists():
        pytest.skip(f"tests/data holds no {name}, and LAZYGRAPH_DATA does not name the whole sets")
    return DATA / name
