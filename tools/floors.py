"""Prints the lowest versions that pyproject.toml allows of the packages named, as pip takes them.

python tools/floors.py torch torch-geometric numpy
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)")


def floors(names):
    """Each package with its lowest version; KeyError where pyproject.toml has none."""
    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
    lowest = dict(match.groups() for match in map(REQUIREMENT.match, project["dependencies"]) if match)
    return [f"{name}=={lowest[name]}" for name in names]


if __name__ == "__main__":
    print(*floors(sys.argv[1:]))
