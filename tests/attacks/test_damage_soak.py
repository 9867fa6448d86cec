"""The short form of tools/soak/damage.py."""

from __future__ import annotations

import pytest

from tools.soak.damage import soak


@pytest.mark.slow
def test_every_damage_is_found_and_nothing_else_is_read():
    table, wrong = soak(flips=8, cuts=3, every=16)
    assert wrong == []
    assert all(row["named_by_verify"] == row["damages"] > 0 for row in table.values())
    assert all(sum(row[outcome] for row in table.values()) for outcome in ("read_exactly", "refused"))
