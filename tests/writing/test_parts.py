"""Datasets, and parts of them, as input: the recipe is kept, asked for, or named; nothing else is lost unsaid."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import lazygraph as lg
from lazygraph.cli.main import main_write
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.format.manifest import Manifest
from lazygraph.sources.dataset import DatasetSource
from lazygraph.sources.detect import open_sources, source_from_json, source_to_json
from lazygraph.writing.edit import set_labels
from lazygraph.writing.layout import Layout
from lazygraph.writing.worker import make_shard
from lazygraph.writing.write import finish, plan

MACE = lg.graph("mace", cutoff=4.0)
CGCNN = lg.graph("cgcnn", cutoff=4.0, max_neighbors=6)


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """60 crystals of a radius recipe, with labels of each kind, units and splits; shared, not to be changed."""
    path = tmp_path_factory.mktemp("old") / "old.lg"

    def salts():
        for i in range(60):
            crystal = lg.Crystal(np.eye(3) * (4 + 0.01 * i), [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
            labels = {"gap": float(i), "stress": [float(i)] * 6, "forces": [[i, 0, 0], [0, i, 0]]}
            yield f"salt-{i:02d}", crystal, labels

    lg.write(
        salts(), path, graph=MACE, split=(0.5, 0.2, 0.2), units={"gap": "eV", "forces": "eV/A"}, workers=1,
        progress=False,
    )  # fmt: skip
    return path


def check_same(new, part):
    """Whether a new dataset holds the graphs of a part of an old one, in its order, with all that belongs to them."""
    assert new.ids.tolist() == part.ids.tolist()
    assert new.spec == part.spec
    assert {name: column.unit for name, column in new.manifest.labels().items()} == {"gap": "eV", "stress": None}
    for name in ("gap", "stress"):
        assert np.array_equal(new.columns[name], part.columns[name])
    assert new.columns["split"].tolist() == part.columns["split"].tolist()
    for mine, theirs in zip(new, part, strict=True):
        assert mine.keys() == theirs.keys()
        for key in ("x", "pos", "edge_index", "edge_attr", "images", "forces"):
            assert torch.equal(mine[key], theirs[key])


PARTS = {
    "whole": lambda ds: ds,
    "slice": lambda ds: ds[:20],
    "every third, backwards": lambda ds: ds[50:10:-3],
    "list": lambda ds: ds[[5, 3, 40]],
    "ids": lambda ds: ds[["salt-07", "salt-02"]],
    "mask": lambda ds: ds[np.arange(60) % 7 == 0],
    "where": lambda ds: ds.where("gap > 30 and n_atoms < 5"),
    "split": lambda ds: ds.split("val"),
    "part of a part": lambda ds: ds.split("train")[3:][::2],
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_keeps_recipe_labels_units_and_splits(name, old, write, tmp_path):
    part = PARTS[name](lg.LazyGraphDataset(old))
    report = write(part, tmp_path / "new.lg", shard_size=8)
    assert (report.written, report.quarantined, report.recipe) == (len(part), 0, MACE)
    check_same(lg.LazyGraphDataset(tmp_path / "new.lg"), part)
    chosen = f"{len(part)} of the 60 graphs of old.lg were chosen" in report.notes
    (source,) = Manifest.load(tmp_path / "new.lg").provenance.sources
    assert chosen == any("rows" in file["name"] for file in source.files)
    assert chosen == (name != "whole")


def test_a_whole_dataset_gives_the_graphs_that_its_path_gives(old, write, tmp_path, bytes_of):
    for name, source in (("a", lg.LazyGraphDataset(old)), ("b", lg.LazyGraphDataset(old)[:]), ("c", old)):
        write(source, tmp_path / f"{name}.lg")
    assert bytes_of(tmp_path / "a.lg") == bytes_of(tmp_path / "b.lg") == bytes_of(tmp_path / "c.lg")


@pytest.mark.slow
def test_several_parts_and_workers(old, tmp_path, write, bytes_of):
    ds = lg.LazyGraphDataset(old)
    parts = [ds[:20], ds.where("gap >= 50"), old.with_name("other.lg")]
    write(ds[30:40], parts[2])
    report = lg.write(parts, tmp_path / "new.lg", workers=2, shard_size=4, progress=False)
    assert report.written == 40
    check_same(lg.LazyGraphDataset(tmp_path / "new.lg"), ds[[*range(20), *range(50, 60), *range(30, 40)]])
    write(parts, tmp_path / "one.lg", shard_size=4)
    assert bytes_of(tmp_path / "one.lg") == bytes_of(tmp_path / "new.lg")


def test_a_part_is_added_to_a_dataset(old, tmp_path, write, append):
    ds = lg.LazyGraphDataset(old)
    write(ds[:5], tmp_path / "new.lg")
    append(tmp_path / "new.lg", ds[10:15])
    assert lg.LazyGraphDataset(tmp_path / "new.lg").ids.tolist() == ds[[*range(5), *range(10, 15)]].ids.tolist()


def test_the_recipe_with_which_graphs_are_looked_at_is_that_of_the_new_ones(old, tmp_path, write):
    ds = lg.LazyGraphDataset(old, graph=lg.graph("radius", cutoff=3.6))[:10]
    report = write(ds, tmp_path / "new.lg")
    assert report.recipe == ds.spec != MACE
    check_same(lg.LazyGraphDataset(tmp_path / "new.lg"), ds)
    assert write(ds, tmp_path / "cgcnn.lg", graph=CGCNN).recipe == CGCNN


def test_a_graph_that_stands_twice_in_a_part_is_on_the_list(old, tmp_path, write, quarantine):
    report = write(lg.LazyGraphDataset(old)[[4, 4, 5]], tmp_path / "new.lg")
    assert (report.written, report.quarantined) == (2, 1)
    assert quarantine(tmp_path / "new.lg")[0].error == "DuplicateId"


def test_a_run_that_was_stopped_goes_on_with_the_same_part_only(old, tmp_path, write):
    ds, path = lg.LazyGraphDataset(old), tmp_path / "new.lg"
    assert len(plan(ds[3:20], path, shard_size=4).tasks) == 5
    for task in (4, 1):
        make_shard(path, task)
    with pytest.raises(lg.OutputExists, match="begun with other arguments"):
        write(ds[3:21], path, shard_size=4)
    with pytest.raises(lg.OutputExists, match="begun with other arguments"):
        write(ds[4:21], path, shard_size=4)
    write(ds[3:20], path, shard_size=4)
    check_same(lg.LazyGraphDataset(path), ds[3:20])
    assert not Layout.of(path).partial.exists()
    assert write(ds[3:20], path, shard_size=4).written == 17  # which is there: nothing is made again
    with pytest.raises(lg.OutputExists, match="of the same recipe"):
        write(ds[3:21], path, shard_size=4)


def test_a_part_is_in_no_plan_and_travels_without_its_rows(old):
    (source,) = open_sources(lg.LazyGraphDataset(old)[3:5])
    assert source.rows.tolist() == [3, 4]
    assert source_to_json(source) == {"kind": "lazygraph", "path": str(old)}
    assert source_from_json(json.loads(json.dumps(source_to_json(source)))) == source
    assert pickle.loads(pickle.dumps(source)) == source == DatasetSource(str(old))


# ---- what is refused ----


def test_what_cannot_be_written_as_it_is_seen_is_refused(old, tmp_path, write):
    path = tmp_path / "new.lg"
    with pytest.raises(InputError, match="has a transform, which would not be applied, because graphs are built from"):
        write(lg.LazyGraphDataset(old, transform=lambda data: data), path)
    with pytest.raises(UnreadableInput, match="there are no structures in old"):
        write(lg.LazyGraphDataset(old)[:0], path)
    with lg.GraphWriter(tmp_path / "molecules.lg") as writer:
        writer.add({"x": np.zeros((2, 1)), "edge_index": np.array([[0, 1], [1, 0]])}, id="a")
    for graph in (None, MACE):
        with pytest.raises(InputError, match="ready-made"):
            write(lg.LazyGraphDataset(tmp_path / "molecules.lg"), path, graph=graph)
    with pytest.raises(InputError, match="the format 'csv' was given for"):
        write(lg.LazyGraphDataset(old), path, format="csv")
    with pytest.raises(InputError, match="the id key 'jid' was given"):
        write(lg.LazyGraphDataset(old), path, id_key="jid")
    with pytest.raises(InputError, match="required: only paths and datasets"):
        write([lg.LazyGraphDataset(old), lg.LazyGraphDataset(old)[0]], path)


def test_a_dataset_that_was_changed_since_it_was_opened_is_refused(old, tmp_path, write):
    shutil.copytree(old, tmp_path / "old.lg")
    part = lg.LazyGraphDataset(tmp_path / "old.lg").where("gap > 5")
    set_labels(tmp_path / "old.lg", {f"salt-{i:02d}": {"gap": -float(i)} for i in range(60)})
    with pytest.raises(UnreadableInput, match="was changed since it was opened; open it again"):
        write(part, tmp_path / "new.lg")


def test_metadata_of_the_users_are_not_dropped_unsaid(old, tmp_path, write):
    shutil.copytree(old, tmp_path / "old.lg")
    manifest = replace(Manifest.load(tmp_path / "old.lg"), user={"paper": "doi", "author": "me"})
    manifest.publish(tmp_path / "old.lg")
    report = write(tmp_path / "old.lg", tmp_path / "new.lg")
    assert "the user's metadata of old.lg are not copied: author, paper" in report.notes


# ---- recipes ----


@pytest.fixture
def shelf(old, tmp_path, write):
    """Two datasets of one recipe, one of another with the name of the first, a file of crystals."""
    ds = lg.LazyGraphDataset(old)
    (tmp_path / "elsewhere").mkdir()
    for name, part, spec in (("a", ds[:5], None), ("b", ds[5:9], MACE), ("elsewhere/a", ds[9:12], CGCNN)):
        write(part, tmp_path / f"{name}.lg", graph=spec)
    (tmp_path / "salt.vasp").write_text("s\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa\n1\nDirect\n0 0 0\n")
    return tmp_path


def test_datasets_that_share_a_recipe_keep_it(shelf, write, capsys):
    report = write([shelf / "a.lg", shelf / "b.lg"], shelf / "new.lg")
    assert (report.recipe, report.written) == (MACE, 9)
    arguments = [str(shelf / "a.lg"), str(shelf / "b.lg"), "-o", str(shelf / "cli.lg"), "--workers", "1"]
    assert main_write(arguments) == 0
    assert f"recipe: {MACE}\n" in capsys.readouterr().out
    assert lg.LazyGraphDataset(shelf / "cli.lg").spec == MACE
    assert main_write([*arguments[:2], "-o", str(shelf / "json.lg"), "--workers", "1", "--json"]) == 0
    assert lg.GraphSpec.from_json(json.loads(capsys.readouterr().out)["recipe"]) == MACE
    assert main_write(["plan", *arguments[:2], "-o", str(shelf / "planned.lg")]) == 0
    assert f"recipe: {MACE}\n" in capsys.readouterr().out
    make_shard(shelf / "planned.lg", 0)
    assert finish(shelf / "planned.lg").recipe == MACE


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.lg", "elsewhere/a.lg"], r"several recipes: a holds .*'mace'.*; a holds .*'cgcnn'.*with graph="),
        (["a.lg", "salt.vasp"], r"datasets and other inputs: a holds .*'mace'.*with graph="),
    ],
)
def test_where_no_recipe_is_shared_it_must_be_asked_for(names, message, shelf, write, capsys):
    sources = [str(shelf / name) for name in names]
    with pytest.raises(InputError, match=message):
        write(sources, shelf / "new.lg")
    with pytest.raises(InputError, match=message):
        plan(sources, shelf / "new.lg")
    assert main_write([*sources, "-o", str(shelf / "new.lg")]) == 2
    assert "--graph" in capsys.readouterr().err
    assert write(sources, shelf / "new.lg", graph=CGCNN).recipe == CGCNN


def test_parameters_without_a_preset_do_not_change_the_recipe_of_a_dataset(shelf, capsys):
    for option in (["--cutoff", "6"], ["--max-neighbors", "3"], ["--no-lattice-edges"]):
        assert main_write([str(shelf / "a.lg"), "-o", str(shelf / "new.lg"), *option]) == 2
        assert "needs --graph PRESET" in capsys.readouterr().err
    assert main_write([str(shelf / "salt.vasp"), "-o", str(shelf / "new.lg"), "--cutoff", "6", "--workers", "1"]) == 0
    assert lg.LazyGraphDataset(shelf / "new.lg").spec == lg.graph("comformer", cutoff=6.0)


def test_onto_itself_a_dataset_keeps_its_recipe(shelf, write):
    before = Manifest.load(shelf / "a.lg").content_id
    report = write(shelf / "a.lg", shelf / "a.lg", overwrite=True)
    assert (report.recipe, Manifest.load(shelf / "a.lg").content_id) == (MACE, before)
