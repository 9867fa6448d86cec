"""A dataset of radius graphs read as other graphs: the very ones that their recipe builds, or a refusal beforehand."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

import lazygraph as lg
from lazygraph.errors import InputError, RecipeMismatch, StructureError

WIDE = lg.graph("radius", cutoff=8.0)


@pytest.fixture(scope="module")
def crystals():
    from lazygraph.sources.base import Cut
    from lazygraph.sources.detect import open_sources

    (source,) = open_sources("prototypes:60?seed=11")
    return [(entry.id, entry.crystal, {"energy": 1.5}) for entry in source.read(Cut(0, 0, 60), None)]


@pytest.fixture(scope="module")
def path(tmp_path_factory, crystals):
    out = tmp_path_factory.mktemp("recut") / "wide.lg"
    lg.write(crystals, out, graph=WIDE, workers=1, progress=False)
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "view"),
    [
        (lg.graph("radius", cutoff=5.0), "pyg"),
        (lg.graph("mace"), "pyg"),
        (lg.graph("cgcnn"), "cgcnn"),
        (lg.graph("shell", max_neighbors=12), "pyg"),
        (lg.graph("comformer"), "comformer"),
        (lg.graph("alignn"), "alignn"),
        (lg.graph("m3gnet"), "pyg"),
    ],
)
def test_the_graphs_are_those_that_the_recipe_builds(path, crystals, spec, view, tmp_path):
    lg.write(crystals, tmp_path / "direct.lg", graph=spec, workers=1, progress=False)
    direct = lg.LazyGraphDataset(tmp_path / "direct.lg", view=view, target="energy")
    ds = lg.LazyGraphDataset(path, view=view, target="energy", graph=spec, expect=spec)
    assert ds.spec == spec
    for mine, theirs in zip(ds, direct, strict=True):
        assert mine.to_dict().keys() == theirs.to_dict().keys()
        for key, value in theirs.to_dict().items():
            assert torch.equal(mine[key], value) if isinstance(value, torch.Tensor) else mine[key] == value, key
    batch = ds.batch([5, 2, 40])
    assert torch.equal(batch.ptr, Batch.from_data_list([ds[n] for n in (5, 2, 40)]).ptr)
    assert torch.equal(pickle.loads(pickle.dumps(ds)).batch([5, 2, 40]).ptr, batch.ptr)


def test_sizes_of_the_stored_graphs_are_not_passed_off_as_theirs(path):
    ds = lg.LazyGraphDataset(path, graph=lg.graph("mace"))
    assert "n_atoms" in ds.columns
    assert "n_edges" not in ds.columns
    with pytest.raises(InputError, match="unknown column 'n_edges'"):
        ds.where("n_edges < 100")
    assert "n_edges" in lg.LazyGraphDataset(path, graph=WIDE).columns  # the stored graphs themselves


def test_what_is_not_proven_is_refused_when_the_dataset_is_opened(path, tmp_path):
    with pytest.raises(RecipeMismatch, match=r"cannot be read as other graphs: .* d <= 8\.0 A; required .* 9\.0 A"):
        lg.LazyGraphDataset(path, graph=lg.graph("radius", cutoff=9.0))
    with pytest.raises(RecipeMismatch, match=r"lazygraph-write OLD.lg -o NEW.lg"):
        lg.LazyGraphDataset(path, graph=lg.graph("comformer", ties="reference"))
    lonely = lg.Crystal(np.diag([7.5, 7.5, 7.5]), [[0, 0, 0]], [11])  # six neighbours within 8 A
    lg.write([("lonely", lonely, {})], tmp_path / "l.lg", graph=WIDE, workers=1, progress=False)
    assert lg.LazyGraphDataset(tmp_path / "l.lg", graph=lg.graph("shell", max_neighbors=6))[0].num_edges == 6
    with pytest.raises(RecipeMismatch, match=r"an atom of 'lonely' \(row 0\) has 6 neighbours .* at least 12"):
        lg.LazyGraphDataset(tmp_path / "l.lg", graph=lg.graph("shell", max_neighbors=12))


def test_a_crystal_that_cannot_become_such_a_graph_is_named_when_it_is_read(tmp_path):
    apart = lg.Crystal(np.diag([7.5, 7.5, 7.5]), [[0, 0, 0]], [11])
    lg.write([("apart", apart, {})], tmp_path / "a.lg", graph=WIDE, workers=1, progress=False)
    ds = lg.LazyGraphDataset(tmp_path / "a.lg", graph=lg.graph("chgnet"))
    with pytest.raises(StructureError, match=r"row 0, id 'apart': atom 0 has no neighbour within 6 A"):
        ds[0]


def test_ready_made_graphs_have_no_recipe_to_change(tmp_path):
    with lg.GraphWriter(tmp_path / "g.lg") as writer:
        writer.add({"x": np.ones((2, 1)), "edge_index": np.array([[0, 1], [1, 0]])}, id="a")
    with pytest.raises(RecipeMismatch, match="came ready-made; required: None"):
        lg.LazyGraphDataset(tmp_path / "g.lg", graph=WIDE)
