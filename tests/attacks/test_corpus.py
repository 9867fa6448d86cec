"""The inputs of the fuzzer, kept ones and seeds, through its targets: plain Python, little memory, a deadline."""

from __future__ import annotations

from pathlib import Path

import pytest

from lazygraph.format.manifest import _parse as parse
from tools.fuzz import seeds
from tools.fuzz.targets import TARGETS, sealed
from tools.soak.apart import apart

MEMORY = 512 << 20  # bytes that a target may take, for all inputs in turn
SECONDS = 600  # against a hang, for all of them, with sanitizers on a busy machine too
MADE = {"manifest": seeds.manifests, "record": seeds.records, "frame": seeds.frames, "columns": seeds.columns,
        "shard": seeds.shards, "pages": seeds.pages}  # fmt: skip


def replay(target, inputs, log):
    for name, data in inputs:
        Path(log).write_text(name)  # so that a death is that of an input
        TARGETS[target](data)
    return len(inputs)


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_is_replayed(target, tmp_path):
    """Each input is refused as the format says, or means one thing; see tools/fuzz/targets.py."""
    kept = [(path.name, path.read_bytes()) for path in sorted((seeds.CORPUS / target).iterdir())]
    inputs = kept + [(f"seed {number}", seed) for number, seed in enumerate(MADE[target]())]
    assert kept
    TARGETS[target](inputs[0][1])  # so that what is loaded for it is there before the child is forked
    ended = apart(replay, target, inputs, tmp_path / "at", seconds=SECONDS, memory=MEMORY)
    assert ended == ("returned", len(inputs)), f"{(tmp_path / 'at').read_text()}: {ended}"


def test_fuzzing_starts_from_good_manifests():
    """Else nothing behind the first refusal would be reached."""
    for seed in seeds.manifests()[:3]:
        assert parse(sealed(seed)).graphs == 2


def test_the_corpus_is_small():
    assert sum(path.stat().st_size for path in seeds.CORPUS.rglob("*") if path.is_file()) < 300_000
