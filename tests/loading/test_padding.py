"""``pad="buckets"``: batches of at most four shapes, with masks; real graphs are what they are without."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torch_geometric.nn import CGConv, global_add_pool, global_mean_pool

import lazygraph as lg
from lazygraph.errors import InputError
from lazygraph.graphs.presets import PRESETS
from lazygraph.loading.orders import Shuffled
from lazygraph.loading.padding import Padding, Shape, choose_shapes, with_static_limits
from lazygraph.loading.sampling import Sampling

PLAIN, THREAD = {"num_workers": 0, "threads": 0}, {"threads": 1}
FORK = {"num_workers": 2, "multiprocessing_context": "fork"}
OPTIONS = {"max_atoms": 200, "shuffle": True, "seed": 2}


@pytest.fixture
def ds(prototypes):
    return lg.LazyGraphDataset(prototypes, "density")


@pytest.fixture(scope="module")
def mptrj(data, tmp_path_factory):
    """A thousand crystals of MPtrj as graphs of the preset mace."""
    path = tmp_path_factory.mktemp("mptrj") / "m.lg"
    source = data / "extxyz" / "mptrj-random-1k.xyz"
    lg.write(source, path, graph="mace", labels=["energy"], workers=2, progress=False)
    return path


def shape_of(batch):
    assert batch.num_nodes == len(batch.node_mask) == len(batch.x)
    assert batch.num_edges == len(batch.edge_mask)
    assert batch.num_graphs == len(batch.graph_mask) == int(batch.batch.max()) + 1 == len(batch.ptr) - 1
    return Shape(batch.num_nodes, batch.num_edges, batch.num_graphs)


# ---- shapes ----


@given(st.lists(st.tuples(*[st.integers(1, 100)] * 3), min_size=1, max_size=40), st.integers(1, 5))
def test_every_batch_fits_into_the_greatest_shape_and_shapes_are_few(totals, count):
    totals = np.array(totals)
    most = totals.max(axis=0)
    shapes = choose_shapes(totals, most, count)
    assert 1 <= len(shapes) <= count
    assert shapes[-1].tolist() == most.tolist()
    fits = (totals[:, None] <= shapes).all(axis=2)
    assert fits.any(axis=1).all()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 4))
def test_no_other_cuts_pad_less(sizes, count):
    """One size, compared with all ways to cut."""
    from itertools import combinations

    ordered = sorted(sizes)
    least = min(
        sum(ordered[b - 1] * (b - a) for a, b in zip((0, *cut), (*cut, len(ordered)), strict=True))
        for k in range(min(count, len(ordered)))
        for cut in combinations(range(1, len(ordered)), k)
    )
    shapes = choose_shapes(np.array([[s, 1] for s in sizes]), np.array([ordered[-1], 1]), count)[:, 0]
    assert sum(min(s for s in shapes.tolist() if s >= size) for size in sizes) == least


@pytest.mark.parametrize(
    "limits",
    [{"atoms": 500}, {"atoms": 1000}, {"atoms": 4000}, {"edges": 50_000}, {"graphs": 32}, {"graphs": 64}]
    + [{"atoms": 1000, "edges": 40_000}, {"atoms": 1000, "graphs": 40}],
    ids=str,
)
def test_mptrj_is_padded_by_at_most_15_percent(mptrj, limits):
    ds = lg.LazyGraphDataset(mptrj)
    chosen = np.random.default_rng(0).choice(1000, 20_000)
    sizes = {name: np.asarray(ds.columns[f"n_{name}"])[chosen] for name in ("atoms", "edges")}
    sampling = Sampling(order=Shuffled(20_000), limits=limits, sizes=sizes)
    limited, shapes = with_static_limits(sampling, has_edges=True)
    assert len(shapes) <= 4
    padding = Padding(shapes, ds.spec)
    real, padded = np.zeros(2), np.zeros(2)
    for epoch in (0, 9):  # planned, and not planned, when the shapes were chosen
        for batch in limited.plan(epoch):
            found = Shape(*(int(sizes[name][batch].sum()) for name in ("atoms", "edges")), len(batch))
            shape = padding.shape_of(found)
            real += found[:2]
            padded += shape[:2]
    assert (real / padded >= 0.85).all()
    assert len(limited.plan(0)) <= 1.1 * len(sampling.plan(0))


# ---- batches ----


@pytest.mark.parametrize("way", [PLAIN, THREAD, FORK, {**PLAIN, "device": "cpu"}], ids=str)
def test_real_graphs_are_what_they_are_without_padding(ds, way):
    loader = lg.loader(ds, **OPTIONS, pad="buckets", **way)
    assert 1 <= len(loader.shapes) <= 4
    for _ in range(2):
        seen = []
        for batch in loader:
            assert shape_of(batch) in loader.shapes
            n = int(batch.graph_mask.sum())
            names = batch.id[:n]
            assert batch.id[n:] == [""] * (batch.num_graphs - n)
            plain = ds.batch(names)
            for mask, real in (("node", plain.num_nodes), ("edge", plain.num_edges), ("graph", n)):
                assert batch[f"{mask}_mask"].tolist() == [k < real for k in range(len(batch[f"{mask}_mask"]))]
            for key in ("x", "pos", "batch"):
                assert torch.equal(batch[key][batch.node_mask], plain[key]), key
            for key in ("edge_attr", "images"):
                assert torch.equal(batch[key][batch.edge_mask], plain[key]), key
            assert torch.equal(batch.edge_index[:, batch.edge_mask], plain.edge_index)
            for key in ("y", "cell", "lattice_vectors"):
                assert torch.equal(batch[key][batch.graph_mask], plain[key]), key
            assert [g.id for g in batch.to_data_list()[:n]] == names
            seen += names
        assert sorted(seen) == sorted(ds.ids)
    loader.close()


@pytest.mark.parametrize("size", [20, 64])
def test_settings_are_chosen_by_graphs_that_fit_into_no_shape_together(ds, size):
    loader = lg.loader(ds, size, shuffle=True, pad="buckets")
    assert loader.settings.reasons
    loader.close()


def test_graphs_that_are_built_are_padded_if_they_were_counted(tmp_path):
    lg.write("prototypes:60?seed=4", tmp_path / "p.lg", graph="none", workers=1, progress=False)
    spec = lg.graph("mace", cutoff=4.0)
    lg.count(tmp_path / "p.lg", spec)
    loader = lg.loader(lg.LazyGraphDataset(tmp_path / "p.lg", graph=spec), 12, shuffle=True, pad="buckets")
    assert {shape_of(batch) for batch in loader} <= set(loader.shapes)
    loader.close()


def test_padding_is_a_graph_of_its_own_without_zeros_or_infinities(ds):
    padded = 0
    for batch in lg.loader(ds, **OPTIONS, pad="buckets", **PLAIN):
        real_atoms = int(batch.node_mask.sum())
        assert set(batch.batch[~batch.node_mask].tolist()) == {batch.num_graphs - 1}
        if batch.edge_mask.all():
            continue
        padded += 1
        assert int(batch.edge_index[:, ~batch.edge_mask].min()) >= real_atoms
        lengths = batch.edge_attr[~batch.edge_mask].norm(dim=1)
        assert float(lengths.min()) > 0.4
        assert float(lengths.max()) <= 3.01
        padding = batch.edge_attr[~batch.edge_mask]
        assert torch.equal(padding[::2], -padding[1::2])
        assert len(batch.pos[~batch.node_mask].unique(dim=0)) == int((~batch.node_mask).sum())
        assert all(value.isfinite().all() for value in batch.to_dict().values() if isinstance(value, torch.Tensor))
    assert padded


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(119, 16)
        self.layers = torch.nn.ModuleList([CGConv(16, 4, aggr="mean"), CGConv(16, 4)])
        self.out = torch.nn.Linear(32, 1)

    def forward(self, x, edge_index, edge_attr, batch, n):
        h = self.embedding(x[:, 0])
        length = edge_attr.norm(dim=1, keepdim=True)
        attr = torch.cat([edge_attr / length, 1 / length], dim=1)
        for layer in self.layers:
            h = layer(h, edge_index, attr)
        return self.out(torch.cat([global_add_pool(h, batch, n), global_mean_pool(h, batch, n)], dim=1))


def run(model, batch):
    return model(batch.x, batch.edge_index, batch.edge_attr, batch.batch, batch.num_graphs)


def test_a_model_and_its_gradients_are_the_same_with_padding(prototypes):
    ds = lg.LazyGraphDataset(prototypes, "density", lg.view("pyg", dtype="float64"), target_dtype="float64")
    model = Model().double()
    for batch in lg.loader(ds, **OPTIONS, pad="buckets", **PLAIN):
        plain = ds.batch([name for name in batch.id if name])
        found = []
        for one, mask in ((plain, slice(None)), (batch, batch.graph_mask)):
            model.zero_grad()
            out = run(model, one)[mask]
            torch.nn.functional.mse_loss(out, one.y[mask]).backward()
            found.append([out.detach(), *(p.grad.clone() for p in model.parameters())])
        for mine, theirs in zip(*found, strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-9 * float(theirs.abs().max()))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
@pytest.mark.slow
def test_a_compiled_model_is_compiled_at_most_once_for_each_shape(ds):
    torch._dynamo.reset()
    compiled = []

    def backend(module, example_inputs):
        compiled.append(tuple(t.shape for t in example_inputs if isinstance(t, torch.Tensor)))
        return module.forward

    model = torch.compile(Model(), dynamic=False, backend=backend)
    loader = lg.loader(ds, **OPTIONS, pad="buckets", **PLAIN)
    shapes = {shape_of(batch) for _ in range(3) for batch in loader if run(model, batch).isfinite().all()}
    assert 1 <= len(compiled) == len(shapes) <= 4
    torch._dynamo.reset()


@pytest.mark.parametrize("preset", ["mace", "comformer", "matformer", "nequip", "none"])
def test_every_view_of_a_recipe_without_angles_can_be_padded(tmp_path, preset):
    lg.write("prototypes:40?seed=3", tmp_path / "p.lg", graph=preset, workers=1, progress=False)
    plain = lg.LazyGraphDataset(tmp_path / "p.lg")
    elements = sorted({symbol for i in range(40) for symbol in plain.crystal(i).to_ase().get_chemical_symbols()})
    views = ["pyg", lg.view("mace", elements=elements)]
    if preset in ("comformer", "matformer"):
        views.append(preset)
    for view in views:
        if preset == "none" and view != "pyg":
            continue
        ds = lg.LazyGraphDataset(tmp_path / "p.lg", view=view)
        loader = lg.loader(ds, max_atoms=150, pad="buckets", **PLAIN)
        shapes = set()
        for batch in loader:
            values = {k: v for k, v in batch.to_dict().items() if isinstance(v, torch.Tensor)}
            assert all(value.isfinite().all() for value in values.values())
            shapes.add(tuple((key, value.shape) for key, value in sorted(values.items())))
            n = int(batch.graph_mask.sum())
            for mine, theirs in zip(batch.to_data_list()[:n], ds.batch(batch.id[:n]).to_data_list(), strict=True):
                for key in theirs.keys():  # noqa: SIM118  # a Data is no mapping
                    same = torch.equal(mine[key], theirs[key]) if torch.is_tensor(theirs[key]) else True
                    assert same, key
        assert len(shapes) <= 4


def test_ranks_are_balanced_and_padded_and_resumed(ds):
    options = {**OPTIONS, "pad": "buckets", "balance": "atoms", "world_size": 2, **PLAIN}
    ranks = [lg.loader(ds, rank=rank, **options) for rank in range(2)]
    assert ranks[0].shapes == ranks[1].shapes
    names = [name for loader in ranks for batch in loader for name in batch.id if name]
    assert sorted(names) == sorted(ds.ids)
    loader = lg.loader(ds, rank=0, **options)
    whole = [batch.id for batch in loader]
    loader.set_epoch(0)
    iterator = iter(loader)
    begun = [next(iterator).id, next(iterator).id]
    resumed = lg.loader(ds, rank=0, **options)
    resumed.load_state_dict(loader.state_dict())
    assert begun + [batch.id for batch in resumed] == whole
    assert resumed.shapes == loader.shapes


def test_torchs_loader_over_the_batches_pads_them_too(ds):
    loader = lg.loader(ds, **OPTIONS, pad="buckets", **PLAIN)
    whole = [(batch.id, batch.pos.tolist()) for batch in loader]
    loader.set_epoch(0)
    same = DataLoader(ds, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn)
    assert [(batch.id, batch.pos.tolist()) for batch in same] == whole


def test_evaluation_has_shapes_of_its_own(ds):
    loader = lg.loader(ds, 16, shuffle=True, pad="buckets", **PLAIN)
    validation = loader.evaluation(ds[:100])
    assert {shape_of(batch) for batch in validation} <= set(validation.shapes)
    assert sum(int(batch.graph_mask.sum()) for batch in validation) == 100


def test_a_batch_transform_sees_the_padded_batch(ds):
    def seen(batch):
        batch.seen = shape_of(batch)
        return batch

    loader = lg.loader(ds, **OPTIONS, pad="buckets", batch_transform=seen, **PLAIN)
    assert all(batch.seen in loader.shapes for batch in loader)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("graph", "options", "message"),
    [
        ("comformer", {"pad": "shapes"}, "found pad='shapes'; required: 'buckets' or None"),
        ("alignn", {"pad": "buckets"}, "has angles, whose number is not padded; use a recipe without angles"),
        ("cgcnn", {"pad": "buckets"}, "gives at most 12 edges to an atom; use a recipe without such a limit"),
    ],
)
def test_impossible_paddings_are_refused(tmp_path, graph, options, message):
    assert graph in PRESETS
    lg.write("prototypes:5", tmp_path / "p.lg", graph=graph, workers=1, progress=False)
    with pytest.raises(InputError, match=message):
        lg.loader(lg.LazyGraphDataset(tmp_path / "p.lg"), 2, **options)


def test_sizes_must_be_known(ds, prototypes):
    with pytest.raises(InputError, match="has a transform, which may change sizes"):
        lg.loader(lg.LazyGraphDataset(prototypes, transform=lambda data: data), 8, pad="buckets")
    with pytest.raises(InputError, match="pad cannot be used for .*: its graphs are built when they are read"):
        lg.loader(lg.LazyGraphDataset(prototypes, graph="mace"), 8, pad="buckets")
    with pytest.raises(
        InputError, match=r"a batch with 9 atoms, 0 edges and 1 graphs fits into no shape: Shape\(atoms=8"
    ):
        Padding([Shape(8, 8, 2)], ds.spec).shape_of(Shape(9, 0, 1))
