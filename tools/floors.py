"""Prints requirements of pyproject.toml as pip takes them, one a line.

python tools/floors.py torch numpy        the lowest versions that are allowed of these packages
python tools/floors.py --all              of all packages that lazygraph needs
python tools/floors.py --extra wheels     the requirements of an extra, as they stand
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)")


def project():
    return tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]


def floors(names=None):
    """Each package with its lowest version, of all if no names are given; KeyError where pyproject.toml has none."""
    lowest = dict(match.groups() for match in map(REQUIREMENT.match, project()["dependencies"]) if match)
    return [f"{name}=={lowest[name]}" for name in (lowest if names is None else names)]


def extra(name):
    """The requirements of an extra."""
    return project()["optional-dependencies"][name]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--extra"]:
        found = extra(sys.argv[2])
    else:
        found = floors(None if sys.argv[1:] == ["--all"] else sys.argv[1:])
    print(*found, sep="\n")
