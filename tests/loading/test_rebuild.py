"""A dataset read as graphs of another recipe: the very ones that the recipe builds, from whatever was stored."""

from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

import lazygraph as lg
from lazygraph.errors import InputError, RecipeMismatch, StructureError
from lazygraph.format.store import Store
from lazygraph.graphs.presets import PRESETS, REQUIRED
from lazygraph.reading.rebuild import RebuiltRecords
from lazygraph.testing import crystals as any_crystals
from lazygraph.writing.quarantine import read_quarantine

from same import same_batches, same_values  # isort: skip

NEEDED = {"cutoff": 4.0, "max_neighbors": 6}
STORED = ["none", "comformer", "mace"]


def recipe(preset):
    declared = PRESETS[preset].parameters
    return lg.graph(preset, **{key: NEEDED[key] for key, default in declared.items() if default is REQUIRED})


RECIPES = [*map(recipe, PRESETS), lg.graph("comformer", ties="reference"), lg.graph("radius", cutoff=9.0)]


@pytest.fixture(scope="module")
def inputs(golden):
    """Real crystals, some of them with forces, in an order that mixes their sizes."""
    structures = json.loads((golden / "structures.json").read_text())[:120]
    rng = np.random.default_rng(5)
    crystals = [lg.Crystal(s["lattice"], s["frac_coords"], s["numbers"]) for s in structures]
    crystals.append(lg.Crystal(np.eye(3) * 7.0, [[0, 0, 0]], [2]))  # isolated: CHGNet refuses it
    return [(f"c{n}", c, {"energy": 0.5 * n, "forces": rng.random((len(c), 3))}) for n, c in enumerate(crystals)]


@pytest.fixture(scope="module")
def stored(tmp_path_factory, inputs):
    folder = tmp_path_factory.mktemp("stored")
    for preset in STORED:
        report = lg.write(inputs, folder / f"{preset}.lg", graph=preset, workers=1, progress=False)
        assert report.quarantined == 0
    return {preset: folder / f"{preset}.lg" for preset in STORED}


@pytest.mark.slow
@pytest.mark.parametrize("spec", RECIPES, ids=str)
def test_the_records_are_those_of_a_dataset_that_was_written_with_the_recipe(stored, inputs, spec, tmp_path):
    path = tmp_path / "direct.lg"
    lg.write(inputs, path, graph=spec, workers=1, progress=False)
    direct = Store(path)
    refused = {one.id: one.message for one in read_quarantine(path, direct.manifest)}
    rng = np.random.default_rng(1)
    for preset, other in stored.items():
        store = Store(other)
        rebuilt = RebuiltRecords(store, lg.graph(preset), spec)
        assert rebuilt.schema == direct.manifest.schema
        ids = [name for name, _, _ in inputs if name not in refused]
        rng.shuffle(ids)
        for some in (ids[::2], ids[1::2]):
            mine = rebuilt.read_batch(np.array([store.row_of(one) for one in some]))
            theirs = direct.read_batch(np.array([direct.row_of(one) for one in some]))
            assert list(mine.fields) == list(theirs.fields)
            for axis, counts in theirs.counts.items():
                assert mine.counts[axis].tolist() == counts.tolist()
            for name, array in theirs.fields.items():
                wide = direct.manifest.schema[name].dtype
                assert mine.fields[name].astype(wide).tobytes() == array.astype(wide).tobytes(), name
        for name, message in refused.items():
            with pytest.raises(StructureError, match=rf"id '{name}': this crystal cannot become a graph of ") as caught:
                rebuilt.read_batch(np.array([0, store.row_of(name)]))
            assert message in str(caught.value)


@pytest.mark.parametrize(
    ("preset", "view"),
    [("cgcnn", "cgcnn"), ("comformer", "comformer"), ("alignn", "alignn"), ("m3gnet", "m3gnet"), ("none", "pyg"),
     ("alignn-2026", "alignn"), ("mace", lg.view("mace", elements=["H", "He"]))],
)  # fmt: skip
def test_the_graphs_of_a_view_are_those_of_a_dataset_that_was_written_with_the_recipe(tmp_path, preset, view):
    rng = np.random.default_rng(3)
    inputs = []
    for n in range(6):
        atoms = 1 + n % 3
        frac = (np.arange(atoms)[:, None] + 0.3 * rng.random((atoms, 3))) / 3
        crystal = lg.Crystal(np.diag([3.0, 3.3, 3.4 + 0.1 * n]), frac, [1, 2, 1][:atoms])
        inputs.append((f"c{n}", crystal, {"energy": n / 2, "forces": rng.random((atoms, 3))}))
    lg.write(inputs, tmp_path / "direct.lg", graph=preset, workers=1, progress=False)
    direct = lg.LazyGraphDataset(tmp_path / "direct.lg", "energy", view)
    for other in STORED:
        lg.write(inputs, tmp_path / f"{other}.lg", graph=other, workers=1, progress=False, overwrite=True)
        ds = lg.LazyGraphDataset(tmp_path / f"{other}.lg", "energy", view, graph=preset, expect=preset)
        assert ds.spec == direct.spec
        for one, two in zip(ds, direct, strict=True):
            same_values(one, two)
        same_batches(ds.batch([5, 2, 0]), direct.batch([5, 2, 0]))
        same_batches(pickle.loads(pickle.dumps(ds)).batch([1]), direct.batch([1]))
        for how in ({"num_workers": 0}, {"num_workers": 1}):
            for one, two in zip(lg.loader(ds, 4, **how), lg.loader(direct, 4, num_workers=0), strict=True):
                same_batches(one, two)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    path = tmp_path_factory.mktemp("alone") / "alone.lg"
    lg.write("prototypes:30?seed=11", path, graph="none", workers=1, progress=False)
    return path


def test_sizes_of_graphs_that_are_built_are_not_known_beforehand(alone, tmp_path):
    ds = lg.LazyGraphDataset(alone, graph="m3gnet")
    assert ds.rebuilds
    assert {"n_edges", "n_triplets"}.isdisjoint(ds.columns)
    with pytest.raises(InputError, match="unknown column 'n_edges'"):
        ds.where("n_edges < 100")
    with pytest.raises(InputError, match=r"max_edges cannot be used for .*: its graphs are built when .* \(graph="):
        lg.loader(ds, max_edges=100)
    with pytest.raises(InputError, match=r"max_triplets cannot be used for .*: its graphs are built when they are"):
        lg.loader(ds, max_triplets=100)
    assert sum(batch.num_graphs for batch in lg.loader(ds, max_atoms=60)) == 30
    lg.write(alone, tmp_path / "m3gnet.lg", graph="m3gnet", workers=1, progress=False)
    for same in ("m3gnet", lg.GraphSpec("mine", ds.spec.rule, ds.spec.angles)):
        stored = lg.LazyGraphDataset(tmp_path / "m3gnet.lg", graph=same)
        assert not stored.rebuilds
        assert {"n_edges", "n_triplets"} <= set(stored.columns)
    assert "n_edges" not in lg.LazyGraphDataset(tmp_path / "m3gnet.lg", graph="none").columns


def test_a_structure_that_needs_too_many_images_is_named(tmp_path):
    flat = lg.Crystal(np.diag([3.0, 3.0, 1e-3]), [[0, 0, 0]], [11])
    lg.write([("round", lg.Crystal(np.eye(3) * 3, [[0, 0, 0]], [11])), ("flat", flat)], tmp_path / "f.lg", graph="none",
             workers=1, progress=False)  # fmt: skip
    ds = lg.LazyGraphDataset(tmp_path / "f.lg", graph=lg.graph("radius", cutoff=60.0))
    for read in (lambda: ds[1], lambda: ds.batch([0, 1]), lambda: list(lg.loader(ds, 2, num_workers=0))):
        with pytest.raises(StructureError, match=r"row 1, id 'flat': this crystal cannot become a graph of .*images"):
            read()
    assert lg.LazyGraphDataset(tmp_path / "f.lg", graph=lg.graph("radius", cutoff=4.0))[0].num_edges > 0


def test_edges_for_which_there_is_no_memory_are_refused(alone, monkeypatch):
    from lazygraph.errors import NotEnoughMemory
    from lazygraph.reading import rebuild

    ds = lg.LazyGraphDataset(alone, graph="mace")
    edges = ds.batch(range(4)).num_edges
    monkeypatch.setattr(rebuild, "memory_limit", lambda: 40 * edges)
    assert ds.batch(range(4)).num_edges == edges
    monkeypatch.setattr(rebuild, "memory_limit", lambda: 40 * edges - 1)
    with pytest.raises(NotEnoughMemory, match="row 3, id .*the edges of 4 graphs of .*Read fewer graphs at a time"):
        ds.batch(range(4))


def test_ready_made_graphs_have_no_crystals_to_build_from(tmp_path):
    with lg.GraphWriter(tmp_path / "g.lg") as writer:
        writer.add({"x": np.ones((2, 1)), "edge_index": np.array([[0, 1], [1, 0]])}, id="a")
    with pytest.raises(RecipeMismatch, match="came ready-made, so graph=.* leave graph out"):
        lg.LazyGraphDataset(tmp_path / "g.lg", graph="mace")


def test_subsets_conditions_splits_and_copies_keep_the_recipe(alone, tmp_path):
    ds = lg.LazyGraphDataset(alone, graph="cgcnn")
    few = ds.where("n_atoms < 8")
    assert 0 < len(few) < len(ds)
    assert few.spec == lg.graph("cgcnn")
    report = lg.write(few, tmp_path / "few.lg", workers=1, progress=False)
    assert report.recipe == lg.graph("cgcnn")
    for one, two in zip(few, lg.LazyGraphDataset(tmp_path / "few.lg"), strict=True):
        same_values(one, two)


def test_the_state_of_a_loader_belongs_to_the_recipe_that_is_used(alone):
    cgcnn, mace = (lg.loader(lg.LazyGraphDataset(alone, graph=name), 8) for name in ("cgcnn", "mace"))
    state = cgcnn.state_dict()
    lg.loader(lg.LazyGraphDataset(alone, graph=lg.graph("cgcnn")), 8).load_state_dict(state)
    with pytest.raises(InputError, match=r"saved with other batches: recipe is .*cgcnn.* there and .*mace"):
        mace.load_state_dict(state)


@pytest.mark.slow
@given(st.lists(any_crystals(), min_size=1, max_size=5), st.sampled_from(RECIPES))
@settings(max_examples=40, deadline=None)
def test_any_crystals(tmp_path_factory, drawn, spec):
    path = tmp_path_factory.mktemp("any") / "any.lg"
    lg.write(drawn, path, graph="none", workers=1, progress=False)
    ds = lg.LazyGraphDataset(path, graph=spec)
    for position, crystal in enumerate(drawn):
        outcome = built(spec, crystal)
        if isinstance(outcome, StructureError):
            with pytest.raises(StructureError, match=re.escape(str(outcome))):
                ds[position]
        else:
            outcome.id = ds.ids[position]
            same_values(ds[position], outcome)


def built(spec, crystal):
    """What the recipe builds of a crystal, or why it refuses it."""
    try:
        return spec.build(crystal).to_data()
    except StructureError as error:
        return error


def test_edges_are_stored_or_built_as_asked_for(stored):
    path, recipe = stored["mace"], lg.graph("mace")
    read = lg.LazyGraphDataset(path)
    built = lg.LazyGraphDataset(path, edges="build")
    assert (read.rebuilds, built.rebuilds) == (False, True)
    assert read.edges_reason == "the stored edges are those of the recipe"
    assert "edges='build'" in built.edges_reason
    assert built.spec == read.spec == recipe
    same_batches(read.batch(list(range(20))), built.batch(list(range(20))))
    assert not lg.LazyGraphDataset(path, graph="mace", edges="stored").rebuilds
    with pytest.raises(
        RecipeMismatch, match="edges='stored' cannot be used with graph=.*cutoff: 5.0 here, 4.0 there.*Leave edges= out"
    ):
        lg.LazyGraphDataset(path, graph=lg.graph("mace", cutoff=4.0), edges="stored")
    with pytest.raises(InputError, match="unknown value of edges: .*known: auto, stored, build"):
        lg.LazyGraphDataset(path, edges="made")
    alone = lg.LazyGraphDataset(stored["none"], graph="mace")
    assert "crystals alone" in alone.edges_reason
    loader = lg.loader(alone, 8, num_workers=0, threads=0)
    assert "the dataset stores crystals alone, so the edges of" in str(loader.settings)
    assert not alone.builds_in_python
    assert lg.LazyGraphDataset(path, graph=lg.graph("comformer", ties="reference")).builds_in_python


def test_ready_made_graphs_have_no_edges_to_build(tmp_path):
    with lg.GraphWriter(tmp_path / "ready.lg") as writer:
        writer.add(Data(x=torch.ones(2, 1)), id="a")
    assert not lg.LazyGraphDataset(tmp_path / "ready.lg", edges="stored").rebuilds
    with pytest.raises(InputError, match="edges='build' needs a dataset of crystals"):
        lg.LazyGraphDataset(tmp_path / "ready.lg", edges="build")
