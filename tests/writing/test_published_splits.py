"""Splits of real data sets are those of the published networks, whose rules are written out here once more."""

from __future__ import annotations

import gzip
import json
import random
import zipfile

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.writing.edit import set_splits
from lazygraph.writing.split_rules import CountsRule
from lazygraph.writing.temporary_arrays import TemporaryArrays
from lazygraph.writing.value_groups import RuleColumns
from tests.real import existing

SUPERCONDUCTORS = "jarvis/jdft_3d_superconductors.json.zip"
TARGETS = ("formation_energy_peratom", "optb88vdw_bandgap", "ehull", "bulk_modulus_kv", "Tc_supercon")
PHONONS = "matbench/matbench_phonons.json.gz"


def labelled_ids(rows, target):
    """The ids of the rows that have a target; JARVIS writes "na" where it has none."""
    return [row["jid"] for row in rows if row[target] != "na" and row[target] is not None]


def published(ids, train, val, test):
    """The ids of train, val and test: a list is shuffled, and cut at both ends."""
    order = list(ids)
    random.seed(123)
    random.shuffle(order)
    return {"train": order[:train], "val": order[-(val + test) : -test], "test": order[-test:]}


@pytest.fixture(scope="module")
def superconductors(tmp_path_factory):
    """The rows of a table of JARVIS, in which every target is missing for some, and a dataset of them."""
    file, path = existing(SUPERCONDUCTORS), tmp_path_factory.mktemp("jarvis") / "s.lg"
    with zipfile.ZipFile(file) as archive:
        rows = json.loads(archive.read(archive.namelist()[0]))
    assert lg.write(file, path, graph="none", workers=1, progress=False).quarantined == 0
    return rows, path


@pytest.mark.parametrize("target", TARGETS)
def test_jarvis_targets_are_split_without_the_structures_that_lack_them(target, superconductors):
    rows, path = superconductors
    ids = labelled_ids(rows, target)
    sizes = [int(share * len(ids)) for share in (0.8, 0.1, 0.1)]
    wanted = published(ids, *sizes)
    assert 0 < len(ids) < len(rows)
    report = set_splits(path, (0.8, 0.1, 0.1), seed=123, labelled=target)
    missing = len(rows) - len(ids)
    assert report.notes[0] == f"{missing:,} of {len(rows):,} graphs have no value of {target!r} and are in no split"
    assert len(report.notes) == (1 if sum(sizes) == len(ids) else 2)  # sizes are rounded down
    ds = lg.LazyGraphDataset(path)
    for name, own in wanted.items():
        assert set(ds.split(name).ids.tolist()) == set(own)
        assert len(ds.split(name)) == len(own)
    set_splits(path, (0.8, 0.1, 0.1), seed=123)
    all_graphs = lg.LazyGraphDataset(path).split("test")
    assert set(all_graphs.ids.tolist()) != set(wanted["test"])  # which is why the option exists


def test_exact_numbers_of_graphs_with_a_target(superconductors):
    rows, path = superconductors
    ids = labelled_ids(rows, TARGETS[0])
    counts = (len(ids) - 150, 100, 47)  # three are in no split
    report = set_splits(path, counts=counts, labelled=TARGETS[0], name="exact")
    assert f"3 of {len(ids):,} graphs with a value of {TARGETS[0]!r} are in no split" in report.notes[1]
    ds = lg.LazyGraphDataset(path)
    for name, own in published(ids, *counts).items():
        assert set(ds.split(name, of="exact").ids.tolist()) == set(own)


def test_folds_of_the_graphs_with_a_target_are_those_of_scikit_learn(superconductors):
    model_selection = pytest.importorskip("sklearn.model_selection")
    rows, path = superconductors
    ids = np.array(labelled_ids(rows, "Tc_supercon"))
    set_splits(path, folds=5, seed=18012019, labelled="Tc_supercon")
    ds = lg.LazyGraphDataset(path)
    for fold, (train, test) in enumerate(model_selection.KFold(5, shuffle=True, random_state=18012019).split(ids)):
        assert set(ds.split("test", of=f"fold_{fold}").ids.tolist()) == set(ids[test].tolist())
        assert set(ds.split("train", of=f"fold_{fold}").ids.tolist()) == set(ids[train].tolist())


def test_the_five_folds_of_matbench(tmp_path):
    model_selection = pytest.importorskip("sklearn.model_selection")
    file, path = existing(PHONONS), tmp_path / "phonons.lg"
    rows = json.loads(gzip.decompress(file.read_bytes()))["index"]
    assert lg.write(file, path, graph="none", workers=1, progress=False).quarantined == 0
    (label,) = lg.LazyGraphDataset(path).manifest.labels()
    for options in ({}, {"labelled": label}):  # every crystal has the target
        report = set_splits(path, folds=5, seed=18012019, **options)
        assert report.notes == ()
        columns = lg.LazyGraphDataset(path).columns
        folds = model_selection.KFold(5, shuffle=True, random_state=18012019).split(np.zeros((len(rows), 1)))
        for fold, (train, test) in enumerate(folds):
            found = columns[f"fold_{fold}"]
            assert np.flatnonzero(found == "test").tolist() == test.tolist()
            assert np.flatnonzero(found == "train").tolist() == train.tolist()


def test_the_numbers_of_the_materials_project(tmp_path):
    """All 69,239 crystals of the benchmark: 60,000 train, 5,000 validate, 4,239 test."""
    n, counts = 69_239, (60_000, 5_000, 4_239)
    columns = RuleColumns(pytest.fail, [], TemporaryArrays(tmp_path))
    codes = CountsRule(counts).codes(n, columns)
    for code, rows in enumerate(published(range(n), *counts).values()):
        assert np.flatnonzero(codes == code).tolist() == sorted(rows)
