"""The short form of tools/soak/readers.py: every read is of one whole version, while others replace the dataset."""

from __future__ import annotations

import json

import pytest

import lazygraph as lg
from lazygraph.errors import DatasetReplaced
from tools.soak import readers


@pytest.mark.slow
def test_every_read_is_of_one_whole_version(tmp_path):
    tables, texts = readers.soak(4, seconds=3, folder=tmp_path)
    assert texts == []
    found = tables["Readers"]
    assert found["all"]["readers"] == 4
    assert found["all"]["wrong"] == 0
    assert found["all"]["reads_checked"] > 200
    assert tables["Changes at the same path"]["all"]["changes"] > 10


@pytest.fixture
def reader(tmp_path):
    """A reader of a dataset, of which the versions are written down."""
    (tmp_path / "versions").touch()
    versions = readers.Versions(tmp_path / "versions")
    writer = readers.Writer(tmp_path / "x.lg", versions, seed=0)
    for step in (writer.overwrite, writer.append, writer.split, writer.labels):
        step()
    writer.tell()
    return readers.Reader(tmp_path / "x.lg", readers.Versions(tmp_path / "versions"), "batch", seed=0)


def tampered(reader, **change):
    """Let what was written down differ from the dataset."""
    file = reader.path.with_name("versions")
    version = json.loads(file.read_text())
    for name, (row, value) in change.items():
        version[name][row] = value
    file.write_text(json.dumps(version) + "\n")


@pytest.mark.parametrize("way", ["single", "batch", "threads", "thread", "forked"])
def test_the_ways_of_the_soak_find_nothing_in_what_was_not_replaced(reader, way):
    reader.way = way
    reader.once()
    assert reader.wrong == []
    assert reader.counts["checked"] >= 20


@pytest.mark.parametrize(
    "change", [{"state": (3, 7.0)}, {"ids": (3, "1-4")}, {"split": (3, "c")}, {"ids": (30, "9-6")}], ids=str
)
def test_the_soak_sees_what_is_of_another_version(reader, change):
    tampered(reader, **change)
    ds = lg.LazyGraphDataset(reader.path, target="state")
    version = reader.versions.get(readers.key_of(ds.manifest))
    reader.ordered(version, lg.loader(ds, 8, threads=0))
    reader.whole(ds, version)
    assert reader.wrong


@pytest.mark.slow
def test_the_soak_counts_what_is_no_replacement_as_wrong(reader, monkeypatch):
    errors = [DatasetReplaced(2, "replaced"), lg.CorruptDataset("damaged")]

    class Stop:
        def is_set(self):
            return not errors

    monkeypatch.setattr(reader, "once", lambda: (_ for _ in ()).throw(errors.pop()))
    reader.until(Stop())
    assert reader.counts["replaced"] == 1
    assert len(reader.wrong) == 1
    assert "damaged" in reader.wrong[0]
