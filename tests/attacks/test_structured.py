"""Some cases of each structured fuzzer, the same in every run; see tools/fuzz/structured."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tools.fuzz.structured import KINDS, run
from tools.soak.apart import apart

ROOT = Path(__file__).parents[2]
SEED = 2026
CASES = {"records": 1_500, "views": 60, "search": 3_000}
SECONDS = 600  # against a hang, for all of them, with sanitizers on a busy machine too


def replay(kind, numbers, log):
    for number in numbers:
        log.write_text(f"python -m tools.fuzz.structured {kind} --seed {SEED} --first {number} --cases 1")
        run(kind, SEED, number)
    return len(numbers)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_cases_are_read_or_refused_alike_in_every_way(kind, tmp_path):
    log = tmp_path / "at"
    run(kind, SEED, 0)  # so that what is loaded for it is there before the child is forked
    ended = apart(replay, kind, range(CASES[kind]), log, seconds=SECONDS)
    assert ended == ("returned", CASES[kind]), f"{log.read_text()}\n{ended}"


@pytest.mark.slow
def test_the_command_runs_the_cases_that_it_is_given_and_adds_to_one_table(tmp_path):
    at, table = tmp_path / "at", tmp_path / "structured.json"
    for kind in ("records", "search"):
        command = [sys.executable, "-m", "tools.fuzz.structured", kind, "--seed", "7", "--first", "3", "--cases", "2"]
        command += ["--at", at, "--json", table]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert at.read_text() == f"{kind} --seed 7 --first 4 --cases 1\n"
    (rows,) = json.loads(table.read_text())["tables"].values()
    assert list(rows) == ["records, seed 7", "search, seed 7"]
    for kind in ("records", "search"):
        said = Counter(run(kind, 7, number) for number in (3, 4))
        row = rows[f"{kind}, seed 7"]
        assert row["cases"] == 2
        assert said.items() <= row.items()
