"""A dataset of crystals alone (``graph="none"``): no axis and no columns of edges, and everything else as usual."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import InputError, RecipeError, RecipeMismatch
from lazygraph.format.store import Store
from lazygraph.graphs import GraphSpec, LineGraph, NoEdges
from lazygraph.reading.verify import verify
from lazygraph.testing import crystals
from lazygraph.writing.edit import set_splits
from lazygraph.writing.salvage import salvage


def rows(n, first=0):
    """Crystals of 1 to 3 atoms with an energy and forces."""
    rng = np.random.default_rng(first)
    out = []
    for number in range(first, first + n):
        atoms = 1 + number % 3
        crystal = lg.Crystal(np.diag([4.0, 4.5, 5.0 + 0.01 * number]), rng.random((atoms, 3)), [11, 17, 8][:atoms])
        out.append((f"c{number}", crystal, {"energy": 0.5 * number, "forces": rng.random((atoms, 3))}))
    return out


@pytest.fixture
def path(tmp_path):
    lg.write(rows(8), tmp_path / "alone.lg", graph="none", workers=1, progress=False, units={"energy": "eV"})
    return tmp_path / "alone.lg"


def assert_gives_back(path, expected):
    ds = lg.LazyGraphDataset(path, target="energy")
    assert len(ds) == len(expected)
    for position, (graph_id, crystal, labels) in enumerate(expected):
        data = ds[position]
        assert data.id == graph_id
        assert data.x.flatten().tolist() == crystal.numbers.tolist()
        assert data.forces.numpy().tobytes() == labels["forces"].astype(np.float32).tobytes()
        assert data.y.item() == labels["energy"]
        again = ds.crystal(position)
        assert (again.frac_coords == crystal.frac_coords).all()
        assert (again.lattice == crystal.lattice).all()
        assert again.pbc == crystal.pbc


def test_the_recipe_builds_graphs_without_edges():
    spec = lg.graph("none")
    assert spec.rule == NoEdges()
    graph = spec.build(rows(3)[2][1])
    assert (graph.n_atoms, graph.n_edges) == (3, 0)
    data = graph.to_data()
    assert (data.edge_index.shape, data.edge_attr.shape, data.images.shape) == ((2, 0), (0, 3), (0, 3))
    assert graph.triplets(3.0).shape == (2, 0)


def test_the_recipe_takes_no_parameters_lattice_vectors_or_angles():
    with pytest.raises(RecipeError, match="unknown parameter of the preset 'none': 'cutoff'"):
        lg.graph("none", cutoff=4.0)
    with pytest.raises(RecipeError, match="crystals alone have no edges; leave lattice_vectors='comformer' out"):
        NoEdges(lattice_vectors="comformer")
    with pytest.raises(RecipeError, match="has no edges and therefore no angles; leave angles='alignn' out"):
        GraphSpec("mine", NoEdges(), LineGraph())


def test_the_records_hold_no_edges(path):
    store = Store(path)
    assert store.manifest.schema.axes == ("node",)
    assert store.manifest.schema.names == ("numbers", "lattice", "pbc", "frac_coords", "forces")
    assert set(store.manifest.columns) == {"record", "id", "id_order", "n_node", "formula", "energy"}
    assert_gives_back(path, rows(8))
    assert verify(path).problems == ()


def test_graphs_read_one_by_one_in_batches_and_by_loaders_are_the_same(path):
    ds = lg.LazyGraphDataset(path)
    assert (ds[0].edge_index.shape, ds[0].edge_attr.shape, ds[0].images.shape) == ((2, 0), (0, 3), (0, 3))
    alone = [ds[n] for n in range(len(ds))]
    batched = ds.batch(range(len(ds))).to_data_list()
    threads, processes = (
        [data for batch in lg.loader(ds, 3, **how) for data in batch.to_data_list()]
        for how in ({"num_workers": 0}, {"num_workers": 1})
    )
    for others in (batched, threads, processes):
        for one, other in zip(alone, others, strict=True):
            assert one.keys() == other.keys()
            assert all(
                torch.equal(value, other[key]) if torch.is_tensor(value) else value == other[key]
                for key, value in one.to_dict().items()
            )


def test_the_compiled_reader_reads_them(path):
    store = Store(path)
    records = store.read_batch(np.arange(8))
    assert records.buffer is not None or store._native is None, "the compiled loops refused the dataset"
    assert set(records.counts) == {"node"}


def test_sizes_of_edges_are_refused_by_the_loader_and_in_conditions(path):
    ds = lg.LazyGraphDataset(path)
    with pytest.raises(InputError, match="max_edges cannot be used for .*: the dataset stores no edges; use .*'atoms'"):
        lg.loader(ds, max_edges=100)
    with pytest.raises(InputError, match="bucket cannot be used for .*: the dataset stores no edges"):
        lg.loader(ds, bucket="edges")
    with pytest.raises(InputError, match="unknown column 'n_edges'"):
        ds.where("n_edges < 3")
    assert sum(batch.num_graphs for batch in lg.loader(ds, max_atoms=4)) == 8


@pytest.mark.parametrize("view", ["comformer", "matformer", "alignn", "cgcnn", "m3gnet", "chgnet", "matgl-chgnet"])
def test_views_that_need_edges_refuse_them(path, view):
    with pytest.raises(RecipeMismatch, match=f"the view '{view}' found graphs with .* needs the graphs of the preset"):
        lg.LazyGraphDataset(path, view=view)


def test_they_can_be_added_to_split_labelled_and_copied(path, tmp_path):
    lg.append(path, rows(4, first=8), workers=1, progress=False)
    assert_gives_back(path, [*rows(8), *rows(4, first=8)])
    set_splits(path, (0.5, 0.25, 0.25))
    assert len(lg.LazyGraphDataset(path).split("train")) == 6
    report = lg.write(path, tmp_path / "copy.lg", workers=1, progress=False)
    assert report.recipe == lg.graph("none")
    assert Store(tmp_path / "copy.lg").manifest.content_id == Store(path).manifest.content_id
    lg.write(path, tmp_path / "edges.lg", graph="mace", workers=1, progress=False)
    lg.write(tmp_path / "edges.lg", tmp_path / "back.lg", graph="none", workers=1, progress=False)
    assert Store(tmp_path / "back.lg").manifest.content_id == Store(path).manifest.content_id


def test_salvage_keeps_what_is_whole(path, tmp_path):
    (column,) = path.glob("columns/formula-*.npy")
    column.write_bytes(column.read_bytes()[:-4] + b"oops")
    saved = salvage(path, tmp_path / "saved.lg")
    assert (saved.kept, saved.lost) == (8, ())
    assert verify(tmp_path / "saved.lg").problems == ()
    assert_gives_back(tmp_path / "saved.lg", rows(8))


def test_commands(path, tmp_path, capsys):
    assert main(["write", str(path), "-o", str(tmp_path / "c.lg"), "--graph", "none", "--no-progress"]) == 0
    assert main(["info", str(path)]) == 0
    assert "recipe      lazygraph.graph('none'): crystals alone" in capsys.readouterr().out
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["edges"] is None
    assert main(["stats", str(path)]) == 0
    assert "n_edges" not in capsys.readouterr().out
    assert main(["show", str(path), "c2"]) == 0
    shown = capsys.readouterr().out
    assert "atoms: symbol, fractional coordinates\n" in shown
    assert "edge" not in shown
    assert main(["verify", str(path)]) == 0


def test_a_schema_of_another_recipe_is_refused(path, tmp_path):
    """A stranger's manifest that says ``none`` of graphs with edges, and the other way round."""
    import hashlib

    from lazygraph.errors import CorruptDataset
    from lazygraph.format.manifest import MANIFEST, canonical_json

    lg.write(rows(3), tmp_path / "edges.lg", graph="mace", workers=1, progress=False)
    for source, recipe in ((path, lg.graph("mace")), (tmp_path / "edges.lg", lg.graph("none"))):
        shutil.copytree(source, tmp_path / f"{source.name}.forged.lg")
        manifest = tmp_path / f"{source.name}.forged.lg" / MANIFEST
        body = json.loads(manifest.read_text())
        del body["sha256"]
        prefix = canonical_json(body | {"recipe": recipe.to_json()})[:-1]
        manifest.write_bytes(prefix + b',"sha256":"' + hashlib.sha256(prefix).hexdigest().encode() + b'"}\n')
        with pytest.raises(CorruptDataset, match="the recipe is"):
            lg.LazyGraphDataset(manifest.parent)


@pytest.mark.slow
@given(st.lists(crystals(), min_size=1, max_size=6))
@settings(max_examples=15, deadline=None)
def test_any_crystals_come_back_to_the_bit(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("any") / "any.lg"
    lg.write(drawn, path, graph="none", workers=1, progress=False)
    ds = lg.LazyGraphDataset(path)
    for position, crystal in enumerate(drawn):
        again = ds.crystal(position)
        assert again.frac_coords.tobytes() == crystal.frac_coords.tobytes()
        assert again.lattice.tobytes() == crystal.lattice.tobytes()
        assert (again.numbers.tolist(), again.pbc) == (crystal.numbers.tolist(), crystal.pbc)
