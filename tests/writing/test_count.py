"""Sizes of graphs that are built when a dataset is read: counted once, and found by the recipe."""

from __future__ import annotations

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import CorruptDataset, InputError, LabelError
from lazygraph.reading.verify import verify
from lazygraph.writing.descriptions import Descriptions
from lazygraph.writing.edit import set_labels


@pytest.fixture
def path(tmp_path):
    lg.write("prototypes:60?seed=3", tmp_path / "p.lg", graph="none", workers=1, progress=False)
    return tmp_path / "p.lg"


@pytest.mark.parametrize("preset", ["mace", "m3gnet", "chgnet", "alignn-2026", "comformer"])
def test_counts_are_those_of_a_dataset_that_was_written_with_the_recipe(path, preset, tmp_path):
    lg.write(path, tmp_path / "written.lg", graph=preset, workers=1, progress=False)
    written = lg.LazyGraphDataset(tmp_path / "written.lg")
    before = lg.LazyGraphDataset(path, graph=preset)
    assert not {"n_edges", "n_triplets"} & set(before.columns)
    report = lg.count(path, preset)
    assert report.computed
    ds = lg.LazyGraphDataset(path, graph=preset)
    rows = [ds.ids.tolist().index(graph_id) for graph_id in written.ids]
    for size in ("n_edges", "n_triplets"):
        assert (size in ds.columns) == (size in written.columns)
        if size in written.columns:
            assert ds.columns[size][rows].tolist() == written.columns[size].tolist()
    assert report.edges == ds.columns["n_edges"].sum()
    assert (report.angles is None) == ("n_triplets" not in ds.columns)
    assert lg.LazyGraphDataset(path).content_id == before.content_id
    assert verify(path).problems == ()
    again = lg.count(path, preset)
    assert (again.computed, again.labels, again.edges, again.angles) == (
        False,
        report.labels,
        report.edges,
        report.angles,
    )


def test_a_loader_of_built_edges_keeps_budgets_after_counting(path):
    ds = lg.LazyGraphDataset(path, graph=lg.graph("m3gnet", cutoff=4.5))
    with pytest.raises(InputError, match=r"were not counted; count them once with lazygraph\.count\("):
        lg.loader(ds, max_edges=2000)
    lg.count(path, ds.spec)
    ds = lg.LazyGraphDataset(path, graph=ds.spec)
    loader = lg.loader(ds, max_edges=2000, max_triplets=40_000, shuffle=True, seed=1)
    expected = len(loader)
    batches = list(loader)
    assert len(batches) == expected > 1
    assert all(batch.num_edges <= 2000 for batch in batches)
    assert sorted(i for batch in batches for i in batch.id) == sorted(ds.ids.tolist())
    few = ds.where("n_edges < 300")
    assert [ds[int(i)].num_edges < 300 for i in range(5)] == (ds.columns["n_edges"][:5] < 300).tolist()
    assert (few.columns["n_edges"] < 300).all()


def test_another_recipe_is_not_counted(path):
    lg.count(path, lg.graph("mace", cutoff=4.0))
    assert "n_edges" in lg.LazyGraphDataset(path, graph=lg.graph("sevennet", cutoff=4.0)).columns
    assert "n_edges" not in lg.LazyGraphDataset(path, graph=lg.graph("mace", cutoff=4.5)).columns
    with pytest.raises(LabelError, match="has another column 'n_edges_mace'"):
        lg.count(path, lg.graph("mace", cutoff=4.5))
    lg.count(path, lg.graph("mace", cutoff=4.5), name="mace_4.5")
    assert "n_edges" in lg.LazyGraphDataset(path, graph=lg.graph("mace", cutoff=4.5)).columns


def test_counts_of_a_dataset_that_grew_do_not_count(path):
    lg.count(path, "mace")
    lg.append(path, [("new", lg.Crystal(np.eye(3) * 4.0, [[0, 0, 0]], [84]))], workers=1, progress=False)
    ds = lg.LazyGraphDataset(path, graph="mace")
    assert len(ds) == 61
    assert "n_edges" not in ds.columns
    assert lg.count(path, "mace").computed
    assert int(lg.LazyGraphDataset(path, graph="mace").columns["n_edges"][60]) == ds[60].num_edges


def test_what_cannot_be_counted_is_refused(path, tmp_path):
    with pytest.raises(InputError, match="stores the graphs of"):
        lg.count(path, "none")
    lg.write(path, tmp_path / "edges.lg", graph="mace", workers=1, progress=False)
    with pytest.raises(InputError, match="have no edges to count"):
        lg.count(tmp_path / "edges.lg", "none")
    with pytest.raises(InputError, match="knows their sizes"):
        lg.count(tmp_path / "edges.lg", "mace")


def test_the_command_says_what_it_counted(path, capsys):
    assert main(["count", str(path), "--graph", "m3gnet", "--cutoff", "4.5", "--name", "small"]) == 0
    out = capsys.readouterr().out
    assert "angles of lazygraph.graph('m3gnet', cutoff=4.5)" in out
    assert "n_edges_small, n_triplets_small" in out
    assert main(["count", str(path), "--graph", "m3gnet", "--cutoff", "4.5"]) == 0
    assert "counted before" in capsys.readouterr().out


def test_sizes_of_augmented_crystals_are_not_known(path):
    lg.count(path, "mace")
    ds = lg.LazyGraphDataset(path, graph="mace", augment=[lg.Rattle(0.1)])
    assert "n_edges" not in ds.columns
    with pytest.raises(InputError, match=r"built when they are read \(augment\)"):
        lg.loader(ds, max_edges=2000)
    assert "n_edges" in ds.unaugmented().columns


def test_counts_that_are_not_those_of_the_graphs_are_refused(path):
    """A budget relies on them."""
    lg.count(path, "m3gnet")
    ids = lg.LazyGraphDataset(path).ids.tolist()
    described = lg.LazyGraphDataset(path).manifest.columns
    for label, message in (("n_edges_m3gnet", "edges; the column"), ("n_triplets_m3gnet", "angles; the column")):
        true = lg.LazyGraphDataset(path).columns[label].copy()
        wrong = true.copy()
        wrong[7] += 2
        for values in (wrong, true):
            lines = Descriptions(lines={label: described[label].description})
            rows = {name: {label: int(value)} for name, value in zip(ids, values, strict=True)}
            set_labels(path, rows, descriptions=lines)
            ds = lg.LazyGraphDataset(path, graph="m3gnet", view="m3gnet")
            assert "n_edges" in ds.columns
            ds.batch([0, 1, 2])
            if values is wrong:
                with pytest.raises(CorruptDataset, match=message):
                    ds.batch([6, 7, 8])
            else:
                ds.batch([6, 7, 8])


def test_edges_that_are_built_though_they_are_stored_have_known_sizes(tmp_path):
    lg.write("prototypes:30?seed=1", tmp_path / "p.lg", graph="m3gnet", workers=1, progress=False)
    stored = lg.LazyGraphDataset(tmp_path / "p.lg")
    built = lg.LazyGraphDataset(tmp_path / "p.lg", edges="build")
    for size in ("n_edges", "n_triplets"):
        assert built.columns[size].tolist() == stored.columns[size].tolist()
    batches = [batch.id for batch in lg.loader(built, max_edges=1500, max_triplets=30_000)]
    assert batches == [batch.id for batch in lg.loader(stored, max_edges=1500, max_triplets=30_000)]
