"""Scratch on a disk of the machine: used where it helps, with the same bytes, and left empty."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from lazygraph.format import shard
from lazygraph.storage.scratch import local_scratch

RECORDS = [bytes([n % 256]) * (n * 37 % 5000 + 1) for n in range(200)]


@pytest.fixture
def elsewhere(tmp_path):
    """A folder on another file system."""
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    folder = Path(tempfile.mkdtemp(dir=other))
    yield folder
    shutil.rmtree(folder)


def test_it_is_used_where_it_is_another_file_system_with_room(elsewhere, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    with local_scratch(tmp_path, 1000) as scratch:
        assert scratch.parent == elsewhere
        (scratch / "file").write_bytes(b"x")
    assert list(elsewhere.iterdir()) == []
    with local_scratch(tmp_path, 2**60) as scratch:
        assert scratch is None
    with local_scratch(elsewhere, 1000) as scratch:
        assert scratch is None
    for value in ("", str(tmp_path), str(elsewhere / "none")):
        monkeypatch.setenv("TMPDIR", value)
        with local_scratch(tmp_path, 1000) as scratch:
            assert scratch is None
    monkeypatch.delenv("TMPDIR")
    with local_scratch(tmp_path, 1000) as scratch:
        assert scratch is None


def test_a_shard_has_the_same_bytes_wherever_it_is_made(elsewhere, tmp_path, monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    file, index = shard.write_shard(tmp_path / "direct", 3, RECORDS)
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    made = []
    fill = shard._fill_environment
    monkeypatch.setattr(shard, "_fill_environment", lambda path, *rest: (made.append(path), fill(path, *rest)))
    again, index_again = shard.write_shard(tmp_path / "moved", 3, RECORDS)
    assert [path.parent.parent for path in made] == [elsewhere]
    assert again == file
    assert index_again.tobytes() == index.tobytes()
    assert again.check(tmp_path / "moved").read_bytes() == file.check(tmp_path / "direct").read_bytes()
    assert [p.name for p in (tmp_path / "moved" / "shards").iterdir()] == [os.path.basename(file.name)]
    assert list(elsewhere.iterdir()) == []


def test_a_scratch_that_fills_up_is_not_needed(elsewhere, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    fill = shard._fill_environment

    def full(path, *rest):
        if elsewhere in path.parents:
            path.write_bytes(b"a part")
            raise OSError(28, "No space left on device", str(path))
        fill(path, *rest)

    monkeypatch.setattr(shard, "_fill_environment", full)
    file, _ = shard.write_shard(tmp_path / "x", 0, RECORDS)
    assert file.check(tmp_path / "x").stat().st_size > sum(map(len, RECORDS))
    assert list(elsewhere.iterdir()) == []
