"""The slice of real crystals that everybody has: small, and of a known origin."""

from __future__ import annotations

import json

import pytest

from tests.real import GOLDEN, SLICE

FILES = sorted(path for path in SLICE.rglob("*") if path.is_file() and path.suffix not in (".md", ".py", ".pyc"))


def structures(folder):
    return {one["id"]: one for one in json.loads((folder / "structures.json").read_text())}


def test_the_slice_is_small():
    assert sum(path.stat().st_size for path in FILES) < 1_500_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_readme_names_origin_and_licence(path):
    name, group = (f"`{path.parent.name}/{end}`" for end in (path.name, f"*{path.suffix}"))
    rows = [
        line for line in (SLICE / "README.md").read_text().splitlines() if line.startswith((f"| {name}", f"| {group}"))
    ]
    assert len(rows) == 1
    assert all(cell.strip() for cell in rows[0].strip("|").split("|"))


def test_the_slice_is_part_of_the_whole():
    whole, part = structures(GOLDEN), structures(SLICE / "golden")
    assert {name: whole[name] for name in part} == part
