"""Power failures after each recorded call of a change, with a few of the states that each may leave."""

from __future__ import annotations

import os

import pytest

import lazygraph as lg
from lazygraph.format.manifest import MANIFEST
from lazygraph.storage.files import temporary_beside
from lazygraph.writing import publish
from lazygraph.writing.layout import Layout
from tools.soak import power


@pytest.mark.slow
@pytest.mark.parametrize("change", power.CHANGES)
def test_a_power_failure_leaves_what_the_same_command_finishes(change, tmp_path):
    calls, states, found = power.check(change, tmp_path.resolve(), states=3, every=1 if change == "labels" else 3)
    assert calls > 20
    assert states > 10
    assert found["new"] > 0
    assert found["none" if change == "write" else "old"] > 0


@pytest.mark.slow
def test_the_model_finds_a_missing_fsync(tmp_path, monkeypatch):
    """Without our fsyncs of files, a manifest may lead to empty columns."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    recorder = power.Recorder.install

    def deaf(self):
        undo = recorder(self)
        os.fsync = lambda descriptor: None
        return undo

    monkeypatch.setattr(power.Recorder, "install", deaf)
    with pytest.raises(AssertionError, match="failure before call"):
        power.check("write", tmp_path.resolve(), states=3)


def test_what_a_process_of_the_same_number_left_is_not_added_to(tmp_path, monkeypatch, write, bytes_of):
    """A shard's file was once named after the process: in a container, or after a reboot, numbers come again."""
    write("prototypes:20?seed=0", tmp_path / "undisturbed.lg")
    folder = tmp_path / "x.lg.partial" / "dataset" / "shards"
    lg.writing.write.plan("prototypes:20?seed=0", tmp_path / "x.lg")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f".00000.{os.getpid()}.tmp").write_bytes(bytes(8192))
    write("prototypes:20?seed=0", tmp_path / "x.lg")
    assert bytes_of(tmp_path / "x.lg") == bytes_of(tmp_path / "undisturbed.lg")


def test_a_file_that_is_there_under_both_names_is_not_published(tmp_path, monkeypatch, write, bytes_of):
    """Where the power failed between the two halves of the rename of a manifest."""
    write("prototypes:20?seed=0", tmp_path / "undisturbed.lg")
    path = tmp_path / "x.lg"
    with monkeypatch.context() as patch:
        patch.setattr(publish, "roll_forward", lambda layout: None)
        with pytest.raises(FileNotFoundError):  # of the dataset, which is decided and not there
            write("prototypes:20?seed=0", path)
    manifest = Layout.of(path).dataset / MANIFEST
    temporary_beside(manifest).write_bytes(manifest.read_bytes())
    write("prototypes:20?seed=0", path)
    assert bytes_of(path) == bytes_of(tmp_path / "undisturbed.lg")
