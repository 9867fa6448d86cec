"""Edges that are built on the device of a batch: those of ``spec.build``, to the bit. The CPU stands in for a GPU."""

from __future__ import annotations

import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.crystal import ATOMIC_NUMBERS
from lazygraph.errors import CorruptDataset, InputError, LazyGraphError, MissingExtra, RecipeMismatch, StructureError
from lazygraph.format.record_batch import RecordBatch
from lazygraph.loading import device_edges
from lazygraph.loading.device_edges import RadiusSearch
from lazygraph.reading.crystal_batch import CrystalBatch
from lazygraph.testing import crystals as any_crystals

from same import same_batches, same_values  # isort: skip

pytest.importorskip("nvalchemiops", reason="needs nvalchemi-toolkit-ops")

SPEC = lg.graph("mace", cutoff=4.0)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def on_device(crystals):
    """The records of crystals alone, as tensors."""
    batch = CrystalBatch.of_crystals(crystals)
    fields = {name: torch.from_numpy(getattr(batch, name)).to(DEVICE) for name in ("frac_coords", "lattice", "pbc")}
    return RecordBatch({"node": batch.n_node}, fields)


def check_edges(crystals, spec):
    """Compare the edges of a batch with ``spec.build``; return False if it was left to the compiled loops."""
    found = RadiusSearch.of(spec).edges(on_device(crystals))
    if found is None:
        return False
    atom = edge = 0
    for crystal, n_edge in zip(crystals, found.n_edge.tolist(), strict=True):
        graph, here = spec.build(crystal), slice(edge, edge + n_edge)
        assert (found.edge_index[:, here].cpu().numpy() - atom).tolist() == graph.edge_index.tolist()
        assert found.images[here].cpu().tolist() == graph.images.tolist()
        atom, edge = atom + len(crystal), here.stop
    assert found.edge_index.shape[1] == len(found.images) == edge
    assert (found.edge_index.dtype, found.images.dtype) == (torch.int32, torch.int16)
    return True


def recipe(cutoff):
    """CHGNet's, which refuses isolated atoms."""
    return lg.graph("chgnet", cutoff=cutoff, bond_cutoff=min(cutoff, 3.0))


def is_buildable(crystal, spec):
    try:
        spec.build(crystal)
    except LazyGraphError:
        return False
    return True


def is_plain(crystal):
    """Whether a crystal is so ordinary that it may not be left to the compiled loops."""
    planes = 1 / np.linalg.norm(np.linalg.inv(crystal.lattice), axis=0)
    skew = (np.linalg.norm(crystal.lattice, axis=1) / planes).max()
    return (
        skew < 20 and planes.min() > 1 and np.abs(crystal.frac_coords).max() < 3 and np.abs(crystal.lattice).max() < 50
    )


@settings(max_examples=150, deadline=None)
@given(
    st.lists(any_crystals(), min_size=1, max_size=5),
    st.sampled_from([2.5, 3.0, 4.0, 5.5]),
    st.sampled_from(["<", "<=", "chgnet"]),
)
def test_any_batch_has_the_edges_of_each_crystal(crystals, cutoff, kind):
    spec = recipe(cutoff) if kind == "chgnet" else lg.graph("radius", cutoff=cutoff, boundary=kind)
    done = check_edges(crystals, spec)
    buildable = all(is_buildable(crystal, spec) for crystal in crystals)
    assert buildable or not done
    assert done or not (buildable and all(map(is_plain, crystals)))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(any_crystals(), min_size=1, max_size=4),
    st.integers(-5, 5).map(lambda steps: 1 + steps * 2.0**-52),
)
def test_cutoffs_at_a_distance_decide_as_the_stated_expression_does(crystals, factor):
    graphs = [lg.graph("radius", cutoff=6.0).build(crystal) for crystal in crystals if is_plain(crystal)]
    lengths = sorted({length for graph in graphs for length in graph.distances.tolist()})
    if not lengths:
        return
    for boundary in ("<", "<="):
        cutoff = max(lengths[len(lengths) // 2] * factor, 0.5)
        spec = lg.graph("radius", cutoff=cutoff, boundary=boundary)
        check_edges([graph.crystal for graph in graphs], spec)


@given(st.floats(0.15, 100.0))
def test_squares_decide_as_roots_do(distance):
    greatest, least = device_edges._greatest_square(distance), device_edges._least_square(distance)
    assert np.sqrt(greatest) <= distance < np.sqrt(np.nextafter(greatest, np.inf))
    assert np.sqrt(np.nextafter(least, 0.0)) < distance <= np.sqrt(least)


def test_more_neighbours_than_the_search_expects():
    """Its estimate for 5 A is 112 neighbours; here each atom has 1,000 and more."""
    crystal = lg.Crystal(np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], [1, 1])
    assert check_edges([crystal, lg.Crystal(np.eye(3) * 4, [[0, 0, 0]], [26])], lg.graph("radius", cutoff=5.0))


@pytest.mark.parametrize(
    "crystal",
    [
        lg.Crystal(np.eye(3) * 4, [[0, 0, 0], [1e-4, 0, 0]], [1, 1]),
        lg.Crystal(np.eye(3) * 4, [[0, 0, 0], [1, 0, 0]], [1, 1]),
        lg.Crystal(np.eye(3) * 20, [[0, 0, 0]], [1]),
        lg.Crystal([[3, 0, 0], [600, 3, 0], [0, 0, 3]], [[0, 0, 0]], [26]),
        lg.Crystal(np.eye(3) * 4, [[3e4, 0, 0]], [26]),
    ],
    ids=["close", "on top", "isolated", "skewed", "far"],
)
def test_extraordinary_crystals_are_left_to_the_compiled_loops(crystal):
    plain = lg.Crystal(np.eye(3) * 3, [[0, 0, 0]], [26])
    spec = recipe(4.0)
    assert RadiusSearch.of(spec).edges(on_device([plain])) is not None
    assert RadiusSearch.of(spec).edges(on_device([plain, crystal])) is None


# ---- datasets and loaders ----


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    lg.write("prototypes:150?seed=3", folder / "p.lg", graph="none", workers=1, progress=False)
    lg.count(folder / "p.lg", SPEC)
    return folder / "p.lg"


@pytest.mark.parametrize("view", ["pyg", "mace"])
@pytest.mark.parametrize(
    "way",
    [{"threads": 0}, {"threads": 1}, {"num_workers": 1}, {"device": DEVICE}, {"device": DEVICE, "max_edges": 5000}],
    ids=str,
)
def test_loaders_give_the_same_batches(stored, way, view):
    options = {"graph": SPEC, "target": "density"}
    if view == "mace":
        options["view"] = lg.view("mace", elements=list(ATOMIC_NUMBERS)[:100])
    theirs, mine = (
        lg.loader(lg.LazyGraphDataset(stored, **options, **backend), 32, shuffle=True, seed=4, **way)
        for backend in ({}, {"backend": "nvalchemi"})
    )
    for one, other in zip(mine, theirs, strict=True):
        same_batches(one, other)
    assert "on the device of the batch (backend='nvalchemi')" in str(mine.settings)


def test_workers_are_not_chosen_for_edges_that_they_do_not_build(stored, monkeypatch):
    """However long the device takes for edges, worker processes would only read crystals."""
    found, now = RadiusSearch.edges, [0.0]

    def slow(self, crystals):
        now[0] += 1  # by a clock on which nothing else takes time
        return found(self, crystals)

    monkeypatch.setattr(RadiusSearch, "edges", slow)
    monkeypatch.setattr("lazygraph.loading.loader.time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr("lazygraph.loading.facts.usable_cpus", lambda: 8)
    settings = lg.loader(lg.LazyGraphDataset(stored, graph=SPEC, backend="nvalchemi"), 50).settings
    assert now[0] > 0
    assert (settings.num_workers, settings.threads) == (0, 1), settings


def test_single_graphs_subsets_and_pickles(stored):
    theirs, mine = (
        lg.LazyGraphDataset(stored, graph=SPEC, backend=backend)[10:20] for backend in ("native", "nvalchemi")
    )
    for ds in (mine, pickle.loads(pickle.dumps(mine))):
        assert ds.builds_on_device
        for k in (0, 9):
            same_values(ds[k], theirs[k])
        same_values(ds.batch([3, 1, 4]), theirs.batch([3, 1, 4]))


def test_a_batch_that_is_left_to_the_compiled_loops_is_the_same(stored, monkeypatch):
    theirs, mine = (lg.LazyGraphDataset(stored, graph=SPEC, backend=backend) for backend in ("native", "nvalchemi"))
    monkeypatch.setattr(RadiusSearch, "edges", lambda *_: None)
    same_values(mine.batch(range(20)), theirs.batch(range(20)))
    on = {"device": DEVICE, "threads": 0}
    for one, other in zip(lg.loader(mine, 50, **on), lg.loader(theirs, 50, **on), strict=True):
        same_batches(one, other)


def test_a_crystal_that_the_recipe_refuses_is_named(tmp_path):
    lonely = lg.Crystal(np.eye(3) * 20, [[0, 0, 0]], [2])
    lg.write([("he", lonely)], tmp_path / "he.lg", graph="none", workers=1, progress=False)
    spec = recipe(4.0)
    ds = lg.LazyGraphDataset(tmp_path / "he.lg", graph=spec, backend="nvalchemi")
    with pytest.raises(StructureError, match=r"he.*atom 0 has no neighbour within 4 A"):
        ds.batch([0])


def test_other_numbers_of_edges_than_the_column_says_are_refused(stored, monkeypatch):
    ds = lg.LazyGraphDataset(stored, graph=SPEC, backend="nvalchemi")
    found = RadiusSearch.edges

    def one_less(self, crystals):
        edges = found(self, crystals)
        return edges._replace(n_edge=edges.n_edge - 2)

    monkeypatch.setattr(RadiusSearch, "edges", one_less)
    with pytest.raises(CorruptDataset, match=r"its graph has \d+ edges; the column 'n_edge.*' says \d+"):
        ds.batch([0, 1])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backend": "nvalchem"}, InputError, "unknown backend 'nvalchem'; did you mean 'nvalchemi'"),
        ({"graph": "comformer", "backend": "nvalchemi"}, RecipeMismatch, "builds all edges within a radius"),
        ({"backend": "nvalchemi", "augment": [lg.Rattle(0.01)]}, InputError, "cannot be used with augment"),
    ],
)
def test_what_the_backend_cannot_do_is_refused(stored, options, error, message):
    with pytest.raises(error, match=message):
        lg.LazyGraphDataset(stored, **{"graph": SPEC, **options})


def test_a_mix_and_padding_refuse_the_backend(stored):
    ds = lg.LazyGraphDataset(stored, graph=SPEC, backend="nvalchemi")
    with pytest.raises(InputError, match="'b' builds its edges on the device of a batch"):
        lg.mix({"a": lg.LazyGraphDataset(stored, graph=SPEC), "b": ds})
    with pytest.raises(InputError, match="cannot be padded: its edges are built on the device"):
        lg.loader(ds, 8, pad="buckets")


def test_ready_made_graphs_have_no_backend(tmp_path):
    with lg.GraphWriter(tmp_path / "g.lg") as writer:
        writer.add({"z": np.array([1]), "pos": np.zeros((1, 3))}, id="a")
    with pytest.raises(InputError, match="so there are no crystals for backend"):
        lg.LazyGraphDataset(tmp_path / "g.lg", backend="nvalchemi")


def test_a_backend_that_is_not_installed_is_named(stored, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvalchemiops.torch.neighbors", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lazygraph\[cuda\]'"):
        lg.LazyGraphDataset(stored, graph=SPEC, backend="nvalchemi")
