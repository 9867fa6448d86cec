"""Datasets that lie about the inputs they came from: nothing is added to them, and salvage says what it leaves."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.format.manifest import Manifest
from lazygraph.reading.verify import verify
from lazygraph.writing.salvage import salvage
from tools.fuzz.hostile import INDEX, Hostile

NEW = [("new", lg.Crystal(np.eye(3) * 4, [[0, 0, 0]], [14]), {})]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("inputs") / "d.lg"
    lg.write("prototypes:6?seed=1", path, graph="cgcnn", workers=1, progress=False)
    return Hostile(path)


def line(**changes):
    good = {"source": "prototypes:6?seed=1", "position": 6, "entry": 6, "id": "x", "error": "E", "message": "m"}
    return json.dumps(good | changes)


def forged(base, path, *, quarantined=None, inputs=None, sources=True):
    """A dataset with this list of quarantined inputs and this column ``input``."""
    d = base.copy()
    d.quarantined = quarantined
    if quarantined is not None:
        d.body["inputs"] += len(quarantined)
        d.body["provenance"]["sources"][0]["inputs"] += len(quarantined)
    if inputs is not None:
        d.columns["input"] = np.array(inputs, "<u8")
        d.body["columns"]["input"] = dict(INDEX)
    if not sources:
        d.body["provenance"]["sources"] = []
    return d.write(path)


LISTS = {
    "beyond the inputs": [line(position=7)],
    "before the first": [line(position=-1)],
    "twice": [line(position=3), line(position=3)],
    "out of order": [line(position=7), line(position=6)],
    "a text": [line(position="6")],
    "true": [line(position=True)],
    "an entry of other type": [line(entry=[1])],
    "a source of other type": [line(source=None)],
    "far beyond": [line(position=10**400)],
    "no objects": ["[1]"],
}


@pytest.mark.parametrize("lines", LISTS.values(), ids=LISTS)
def test_a_list_of_quarantined_inputs_that_lies_is_refused(lines, base, tmp_path):
    path = forged(base, tmp_path / "d.lg", quarantined=lines)
    with pytest.raises(lg.CorruptDataset, match="is no list of quarantined inputs"):
        lg.retry_quarantined(path, "prototypes:6?seed=1", workers=1, progress=False)
    with pytest.raises(lg.CorruptDataset, match="is no list of quarantined inputs"):
        lg.append(path, NEW, workers=1, progress=False)
    kept = salvage(path, tmp_path / "kept.lg")
    assert kept.kept == 6
    assert any("the list of quarantined inputs was damaged" in note for note in kept.notes)
    assert verify(tmp_path / "kept.lg").problems == ()


def test_a_list_of_another_number_of_inputs_is_refused(base, tmp_path):
    path = forged(base, tmp_path / "d.lg", quarantined=[line()])
    manifest = Manifest.load(path)
    replace(manifest, quarantine=replace(manifest.quarantine, count=2)).publish(path)
    with pytest.raises(lg.CorruptDataset, match="is no list of quarantined inputs: it has 1 lines; required: 2"):
        lg.retry_quarantined(path, "prototypes:6?seed=1", workers=1, progress=False)


INPUTS = {"beyond": [0, 1, 2, 3, 4, 7], "far beyond": [2**64 - 1, 1, 2, 3, 4, 5], "twice": [0, 1, 1, 3, 4, 5]}


@pytest.mark.parametrize("inputs", INPUTS.values(), ids=INPUTS)
def test_a_column_of_inputs_that_lies_is_named_and_not_added_to(inputs, base, tmp_path):
    path = forged(base, tmp_path / "d.lg", inputs=inputs)
    assert any("the column 'input' names the input" in problem for problem in verify(path).problems)
    with pytest.raises(lg.CorruptDataset, match="the column 'input' names the input"):
        lg.append(path, NEW, workers=1, progress=False)
    kept = salvage(path, tmp_path / "kept.lg")
    assert kept.kept == 6
    assert "the column 'input' was damaged and is left out" in kept.notes


def test_a_column_of_inputs_without_sources_is_of_no_use_for_lost_graphs(base, tmp_path):
    d = base.copy()
    d.frames[2] = b"lost"
    path = forged(d, tmp_path / "d.lg", inputs=range(6), sources=False)
    kept = salvage(path, tmp_path / "kept.lg")
    assert kept.kept == 5
    assert any("it is not known which inputs the 1 lost graphs came from" in note for note in kept.notes)


def test_a_dataset_of_no_graphs_is_added_to(base, tmp_path):
    d = base.copy()
    d.raws, d.parts = [], []
    d.columns = {name: column[:0] for name, column in d.columns.items()}
    d.body["graphs"] = d.body["inputs"] = d.body["provenance"]["sources"][0]["inputs"] = 0
    path = d.write(tmp_path / "d.lg")
    assert verify(path).problems == ()
    lg.append(path, NEW, workers=1, progress=False)
    assert verify(path).problems == ()
    assert lg.LazyGraphDataset(path).ids.tolist() == ["new"]
