"""Ready-made graphs come back, alone and in batches, as PyG would have given them: a table of PyG's own situations.

Each situation goes through ``GraphWriter`` and every way of loading, and every batch equals ``Batch.from_data_list`` of
the graphs that went in; or the writer refuses it, with an error that names the field and what to do.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from same import same_batches
from torch.utils.data import DataLoader as TorchLoader
from torch_geometric.data import Batch, Data, HeteroData, TemporalData
from torch_geometric.data.hypergraph_data import HyperGraphData
from torch_geometric.loader import DataLoader as PygLoader
from torch_geometric.loader import DynamicBatchSampler, ImbalancedSampler

import lazygraph as lg

try:
    from torch_geometric import EdgeIndex, Index
except ImportError:  # before PyG 2.6
    EdgeIndex = Index = None

TRIANGLE = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
PAIR = torch.tensor([[0, 1], [1, 0]])
CHAIN = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
FACE = torch.tensor([[0], [1], [2]])
EDGES = {2: PAIR, 3: TRIANGLE, 4: CHAIN}


class Pairs(Data):
    """Two graphs in one, as PyG's tutorial on batching has them."""

    def __inc__(self, key, value, *args, **kwargs):
        if key == "edge_index_s":
            return self.x_s.size(0)
        if key == "edge_index_t":
            return self.x_t.size(0)
        return super().__inc__(key, value, *args, **kwargs)


class WithAngles(Data):
    """Angles are pairs of edges, and masks stand beside one another."""

    def __inc__(self, key, value, *args, **kwargs):
        return torch.tensor(self.num_edges) if key == "angles" else super().__inc__(key, value, *args, **kwargs)

    def __cat_dim__(self, key, value, *args, **kwargs):
        return 1 if key in ("angles", "table") else super().__cat_dim__(key, value, *args, **kwargs)


class Named(Data):
    """A class that joins as Data does."""

    def __init__(self, x=None, edge_index=None, arg=None):
        super().__init__(x=x, edge_index=edge_index, arg=arg)


class Unraised(Data):
    """What PyG would raise stays as it is."""

    def __inc__(self, key, value, *args, **kwargs):
        return 0 if key == "cluster_index" else super().__inc__(key, value, *args, **kwargs)


def pairs(s, t, **more):
    stars = [torch.stack([torch.zeros(n - 1, dtype=int), torch.arange(1, n)]) for n in (s, t)]
    return Pairs(x_s=torch.randn(s, 2), edge_index_s=stars[0], x_t=torch.randn(t, 2), edge_index_t=stars[1], **more)


def with_angles(n):
    edges = EDGES[n]
    angles = torch.randint(edges.size(1), (2, n + 2))
    return WithAngles(x=torch.randn(n), edge_index=edges, angles=angles, table=torch.randn(2, n + 5))


SITUATIONS = {
    "num_nodes beside x": lambda: [
        Data(x=torch.randn(n), y=n, edge_index=EDGES[n], string=str(n), num_nodes=n) for n in (3, 2, 4)
    ],
    "num_nodes and edges alone": lambda: [Data(edge_index=EDGES[n], num_nodes=n) for n in (3, 2, 4)],
    "num_nodes alone": lambda: [Data(num_nodes=n) for n in (5, 1, 0, 7)],
    "num_nodes of isolated nodes": lambda: [Data(edge_index=PAIR, num_nodes=n) for n in (10, 2, 5)],
    "num_nodes above the rows of x": lambda: [
        Data(torch.full((3, 1), float(n)), TRIANGLE, face=FACE, test_int=n, test_str=str(n), num_nodes=5 * n)
        for n in (2, 1)
    ],
    "num_nodes as a tensor": lambda: [Data(edge_index=EDGES[n], num_nodes=torch.tensor(n)) for n in (3, 2)],
    "numbers, a face and a name": lambda: [
        Data(x=torch.ones(3, 1), edge_index=TRIANGLE, y=2.0, z=torch.tensor(0.0), name="data", face=FACE)
        for _ in range(4)
    ],
    "nodes alone": lambda: [Data(x=torch.randn(n, 8)) for n in (3, 4)],
    "nodes, edges and num_nodes": lambda: [
        Data(x=torch.randn(5, 8), edge_index=torch.randint(0, 5, (2, 16)), num_nodes=5) for _ in range(4)
    ],
    "classes": lambda: [Data(num_nodes=10, y=int(n > 1)) for n in range(20)],
    "classes as tensors": lambda: [Data(num_nodes=10, y=torch.tensor([int(n > 1)])) for n in range(20)],
    "classes as numbers without dimension": lambda: [Data(num_nodes=10, y=torch.tensor(n % 2)) for n in range(6)],
    "regression": lambda: [Data(num_nodes=3, y=n / 3) for n in range(5)],
    "true and false": lambda: [Data(num_nodes=3, y=n % 2 == 0) for n in range(5)],
    "several classes at once": lambda: [Data(x=torch.ones(2, 1), y=torch.tensor([[0, 1, 0, n % 2]])) for n in range(4)],
    "edges alone": lambda: [Data(edge_index=EDGES[n]) for n in (4, 2, 3)],
    "no edges": lambda: [Data(x=torch.randn(n, 2), edge_index=torch.empty(2, 0, dtype=int)) for n in (1, 3)],
    "some without nodes": lambda: [Data(x=torch.randn(n, 2), edge_index=EDGES.get(n, PAIR[:, :0])) for n in (0, 3, 0)],
    "other names of nodes": lambda: [
        Data(feat=torch.randn(n, 2), n_id=torch.arange(n), node_type=torch.zeros(n), edge_index=EDGES[n])
        for n in (3, 2)
    ],
    "a name that holds node": lambda: [Data(node_stress=torch.randn(n, 6), edge_index=PAIR) for n in (3, 2)],
    "molecules": lambda: [Data(z=torch.full((n,), 6), pos=torch.randn(n, 3), edge_index=EDGES[n]) for n in (3, 2, 4)],
    "molecules without positions": lambda: [Data(z=torch.full((n + 1,), 6), edge_index=EDGES[n]) for n in (3, 2, 4)],
    "indices of one dimension, and of none": lambda: [
        Data(x=torch.randn(n), tag_index=torch.arange(n), one_index=torch.tensor(n - 1), last_index=n - 1)
        for n in (2, 4)
    ],
    "types": lambda: [
        Data(
            x=torch.tensor([[-0.0, float("nan")]] * n, dtype=torch.float16),
            edge_index=EDGES[n].int(),
            edge_attr=torch.randn(EDGES[n].size(1), 2, dtype=torch.float64),
            mask=torch.arange(n) > 1,
            small=torch.arange(n, dtype=torch.uint8),
            large=torch.tensor([2**62 + n]),
        )
        for n in (3, 2)
    ],
    "views, and tensors of a network": lambda: [
        Data(x=torch.randn(8, n).t(), edge_index=EDGES[n].flip(0), w=torch.randn(n, requires_grad=True)) for n in (3, 4)
    ],
    "two graphs in one": lambda: [pairs(s, t, num_nodes=s + t) for s, t in ((5, 4), (2, 3), (4, 2))],
    "angles by a class of one's own": lambda: [with_angles(n) for n in (3, 2, 4)],
    "a class of one's own": lambda: [Named(torch.randn(4, 5), CHAIN, torch.randn(4, 3)) for _ in range(3)],
    "an index that its class does not raise": lambda: [
        Unraised(x=torch.randn(n), cluster_index=torch.arange(n) + 100) for n in (3, 2)
    ],
    "names that hold batch": lambda: [Data(x=torch.randn(n), batch_name=f"b{n}", batch_number=n) for n in (3, 2)],
}
GUESSED = ("edges alone", "molecules without positions")  # PyG takes the last node that has an edge for the last one


def told(name, data):
    """The graphs with their number of nodes, where PyG could only guess it."""
    out = [graph.clone() for graph in data]
    for graph in out:
        if name in GUESSED:
            graph.num_nodes = graph.z.size(0) if "z" in graph else int(graph.edge_index.max()) + 1
        elif "num_nodes" in graph:
            graph.num_nodes = int(graph.num_nodes)
    return out


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Every situation, written once: name -> graphs and path."""
    folder = tmp_path_factory.mktemp("situations")
    out = {}
    torch.manual_seed(0)
    for number, (name, make) in enumerate(SITUATIONS.items()):
        data, path = make(), folder / f"{number}.lg"
        with warnings.catch_warnings(), lg.GraphWriter(path) as writer:
            warnings.simplefilter("ignore")
            for graph in data:
                writer.add(graph)
        out[name] = told(name, data), path
    return out


def same_value(found, wanted, key):
    if isinstance(wanted, torch.Tensor):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), key
        wanted = wanted.detach()
        assert np.ascontiguousarray(found.numpy()).tobytes() == np.ascontiguousarray(wanted.numpy()).tobytes(), key
    else:
        assert found == wanted, key


def check(batch, data, *, more=("id",)):
    """A batch is the one of these graphs, alone and taken apart."""
    wanted = Batch.from_data_list(data)
    assert {*batch.keys()} - {*more} == {*wanted.keys()} - {*more}
    for key in wanted.keys():  # noqa: SIM118  # a Batch is no mapping
        same_value(batch[key], wanted[key], key)
    assert type(batch.num_nodes) is int
    assert (batch.num_graphs, batch.num_nodes, batch.num_edges) == (len(data), wanted.num_nodes, wanted.num_edges)
    assert batch.ptr.tolist() == wanted.ptr.tolist()
    for number, graph in enumerate(data):
        alone = batch.get_example(number)
        assert alone.num_nodes == graph.num_nodes
        for key in graph.keys():  # noqa: SIM118
            # Of a number without dimension PyG makes one with a dimension; here it may come back as it was.
            as_it_was = torch.is_tensor(graph[key]) and graph[key].dim() == 0 == alone[key].dim()
            same_value(alone[key], graph[key] if as_it_was else wanted.get_example(number)[key], key)


WAYS = {
    "ds.batch": lambda ds: [ds.batch(range(2)), *([ds.batch(range(2, len(ds)))] if len(ds) > 2 else [])],
    "loader, plain": lambda ds: lg.loader(ds, 2, num_workers=0, threads=0),
    "loader, on a device": lambda ds: lg.loader(ds, 2, num_workers=0, threads=0, device="cpu"),
    "loader, thread": lambda ds: lg.loader(ds, 2, threads=1),
    "PyG": lambda ds: PygLoader(ds, 2),
    "torch": lambda ds: TorchLoader(ds, 2, collate_fn=lg.collate),
    "collate": lambda ds: [lg.collate([ds[i] for i in range(n, min(n + 2, len(ds)))]) for n in range(0, len(ds), 2)],
}
PROCESSES = {
    "loader, 1 process": lambda ds: lg.loader(ds, 2, num_workers=1, multiprocessing_context="fork"),
    "loader, 2 processes": lambda ds: lg.loader(ds, 2, num_workers=2, multiprocessing_context="fork"),
    "PyG, 2 processes": lambda ds: PygLoader(ds, 2, num_workers=2, multiprocessing_context="fork"),
}


def in_batches(batches, data):
    seen = 0
    for batch in batches:
        check(batch, data[seen : seen + batch.num_graphs])
        seen += batch.num_graphs
    assert seen == len(data)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "numpy"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SITUATIONS)
def test_batches_are_those_of_pyg(name, way, compiled, written, monkeypatch):
    if not compiled:
        monkeypatch.setattr("lazygraph.format.native_reader.kernels", lambda: None)
    data, path = written[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyG's, where it guesses the number of nodes
        in_batches(WAYS[way](lg.LazyGraphDataset(path)), data)


SOME = ("num_nodes beside x", "num_nodes alone", "two graphs in one", "some without nodes")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "names"),
    [("loader, 2 processes", SITUATIONS), ("loader, 1 process", SOME), ("PyG, 2 processes", SOME)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_batches_of_processes_are_those_of_pyg(way, names, written):
    for name in names:
        data, path = written[name]
        in_batches(PROCESSES[way](lg.LazyGraphDataset(path)), data)


@pytest.mark.parametrize("name", SITUATIONS)
def test_single_graphs_are_those_that_went_in(name, written):
    data, path = written[name]
    ds = lg.LazyGraphDataset(path)
    apart = Batch.from_data_list(data)
    for many in (ds, ds.__getitems__(range(len(ds)))):
        for number, graph in enumerate(data):
            found = many[number]
            assert {*found.keys()} - {"id"} == {*graph.keys()}
            assert found.num_nodes == graph.num_nodes
            for key, value in graph.to_dict().items():
                # Of a number PyG's InMemoryDataset makes a tensor of one value.
                wanted = value if isinstance(value, (torch.Tensor, str)) else apart.get_example(number)[key]
                same_value(found[key], wanted, key)


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_batch_is_the_one_that_pyg_makes_of_the_graphs_that_were_read(name, written):
    ds = lg.LazyGraphDataset(written[name][1])
    same_batches(ds.batch(range(len(ds))), Batch.from_data_list(list(ds)))


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_was_read_can_be_written_again(name, written, tmp_path):
    """Also where a field counts edges or another field: the class that a graph is read as says so."""
    data, path = written[name]
    with lg.GraphWriter(tmp_path / "again.lg") as writer:
        for graph in lg.LazyGraphDataset(path):
            writer.add(graph)
    again = lg.LazyGraphDataset(tmp_path / "again.lg")
    check(again.batch(range(len(data))), data)
    assert again.ids.tolist() == lg.LazyGraphDataset(path).ids.tolist()


def test_columns_count_nodes_and_budgets_keep_them(written):
    data, path = written["num_nodes of isolated nodes"]
    ds = lg.LazyGraphDataset(path)
    assert ds.columns["n_atoms"].tolist() == [graph.num_nodes for graph in data] == [10, 2, 5]
    assert [batch.num_nodes for batch in lg.loader(ds, max_atoms=10)] == [10, 7]


def test_pygs_samplers_and_counts_of_classes(written):
    for name in ("classes", "classes as tensors"):
        ds = lg.LazyGraphDataset(written[name][1])
        assert ds.num_classes == 2
        torch.manual_seed(1)
        y = torch.cat([batch.y for batch in PygLoader(ds, 5, sampler=ImbalancedSampler(ds, num_samples=400))])
        assert 0.4 < y.float().mean() < 0.6
    with pytest.warns(UserWarning, match="unique elements"):
        assert lg.LazyGraphDataset(written["regression"][1]).num_classes == 5
    assert lg.LazyGraphDataset(written["several classes at once"][1]).num_classes == 4
    ds = lg.LazyGraphDataset(written["num_nodes of isolated nodes"][1])
    sampler = DynamicBatchSampler(ds, 12, shuffle=False)
    assert [batch.num_nodes for batch in PygLoader(ds, batch_sampler=sampler)] == [12, 5]


def test_pygs_loader_follows_and_leaves_out(written):
    data, path = written["num_nodes beside x"]
    options = {"follow_batch": ["x", "edge_index"], "exclude_keys": ["y"]}
    (found,) = PygLoader(lg.LazyGraphDataset(path), 3, **options)
    (wanted,) = PygLoader(data, 3, **options)
    assert {*found.keys()} - {"id"} == {*wanted.keys()}
    for key in wanted.keys():  # noqa: SIM118
        same_value(found[key], wanted[key], key)


@st.composite
def families(draw):
    """Graphs of PyG with the same fields of any kind, under names by which PyG counts nodes, raises or joins."""
    names = ("x", "pos", "feat", "node_a", "edge_attr", "w", "tag_index", "face", "y", "batch_name")
    arrays, others = ["node", "edge", "graph", "own"], ["number", "flag", "text", "scalar"]
    kinds = {}
    for name in draw(st.lists(st.sampled_from(names), unique=True)):
        # PyG fails, or contradicts itself, where what it counts or raises is no array.
        any_kind = arrays if name in ("x", "pos", "feat", "node_a", "edge_attr") else arrays + others
        kinds[name] = draw(st.sampled_from([kind for kind in any_kind if kind != "flag" or name in ("w", "y")]))
    counted = draw(st.booleans())
    if not counted:
        kinds["x"] = "node"
    has_edges = draw(st.booleans())

    def graph():
        n, e = draw(st.integers(0, 4)), draw(st.integers(0, 5))
        e = e if n else 0
        number = st.integers(0, max(n - 1, 0))

        def value(name, kind):
            rows = {"node": n, "edge": e, "graph": 1, "own": draw(st.integers(0, 6))}.get(kind, 1)
            index = "index" in name or name == "face"
            rows = rows if n or not index else 0
            if kind in ("number", "flag", "scalar") and not (index and n == 0):
                one = draw(number) if index else draw(st.integers(-9, 9)) / (1 if kind == "scalar" else 3)
                return {"number": one, "flag": one > 0, "scalar": torch.tensor(one)}[kind]
            if kind == "text":
                return draw(st.text(st.characters(codec="utf-8"), max_size=4))
            if index:
                return torch.tensor(draw(st.lists(number, min_size=rows, max_size=rows)), dtype=int)
            return torch.arange(2.0 * rows).reshape(rows, 2) + draw(st.integers(0, 9)) / 3

        out = Data(**({"num_nodes": n} if counted else {}))
        if has_edges:
            out.edge_index = torch.tensor(draw(st.lists(st.tuples(number, number), min_size=e, max_size=e)), dtype=int)
            out.edge_index = out.edge_index.reshape(e, 2).t().contiguous()
        for name, kind in kinds.items():
            if not ("batch" in name and kind not in ("number", "flag", "text")):
                out[name] = value(name, kind)
        return out

    return [graph() for _ in range(draw(st.integers(1, 4)))]


@pytest.mark.slow
@settings(max_examples=60)
@given(families(), st.data())
def test_whatever_the_writer_takes_comes_back_as_pyg_has_it(tmp_path_factory, graphs, data):
    path = tmp_path_factory.mktemp("any") / "x.lg"
    try:
        with lg.GraphWriter(path) as writer:
            for graph in graphs:
                writer.add(graph)
    except lg.InputError:
        reject()
    ds = lg.LazyGraphDataset(path)
    extra = {"more": ("id", "num_nodes")}  # said where a tensor that was a number has the name of an array of nodes
    check(ds.batch(range(len(ds))), graphs, **extra)
    order = data.draw(st.permutations(range(len(ds))))
    check(lg.collate(list(ds[order])), [graphs[n] for n in order], **extra)


# ---- refused ----


def hetero():
    data = HeteroData()
    data["p"].x = torch.randn(3, 2)
    return data


def stacked():
    class Stacked(Data):
        def __cat_dim__(self, key, value, *args, **kwargs):
            return None if key == "foo" else super().__cat_dim__(key, value, *args, **kwargs)

    return Stacked(x=torch.ones(2), foo=torch.randn(4))


def bipartite():
    class Bipartite(Data):
        def __inc__(self, key, value, *args, **kwargs):
            if key == "edge_index":
                return torch.tensor([[self.x_s.size(0)], [self.x_t.size(0)]])
            return super().__inc__(key, value, *args, **kwargs)

    return Bipartite(x_s=torch.ones(2), x_t=torch.ones(3), edge_index=PAIR, num_nodes=5)


def raised_by(step):
    class Odd(Data):
        def __inc__(self, key, value, *args, **kwargs):
            return step if key == "ids" else super().__inc__(key, value, *args, **kwargs)

    return Odd(x=torch.ones(3), ids=torch.arange(4))


X = torch.ones(3, 1)
REFUSED = {
    "a list of texts": (lambda: Data(x=X, array=["1", "2"]), "the field 'array' is a list"),
    "an empty list": (lambda: Data(x=X, nontensor=[]), "the field 'nontensor' is a list"),
    "a list of tensors": (lambda: Data(x=[X, X], num_nodes=3), "the field 'x' is a list"),
    "a dict": (lambda: Data(x={"1": X}, num_nodes=3), "the field 'x' is a dict"),
    "a sparse tensor": (lambda: Data(x=X, adj=torch.eye(3).to_sparse()), "the field 'adj' is Tensor"),
    "a sparse matrix": (lambda: Data(x=X, adj=torch.eye(3).to_sparse_csr()), "the field 'adj' is Tensor"),
    "a nested tensor": (
        lambda: Data(x=torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), num_nodes=2),
        "the field 'x' is Tensor",
    ),
    "complex numbers": (lambda: Data(x=X.to(torch.complex64)), "'x' is Tensor of complex64"),
    "HeteroData": (hetero, "is a HeteroData.*one kind of nodes"),
    "TemporalData": (lambda: TemporalData(src=PAIR[0], dst=PAIR[1], t=PAIR[0]), "is a TemporalData"),
    "a batch": (lambda: Batch.from_data_list([Data(x=X), Data(x=X)]), r"is a DataBatch.*to_data_list\(\)"),
    "something else": (lambda: [1, 2], "is a list; required: a PyG Data, or a mapping"),
    "a new dimension": (stacked, r"class Stacked.*'foo'.*new dimension.*\(1, 4\)"),
    "two steps at once": (bipartite, "class Bipartite.*'edge_index'.*one number"),
    "a hypergraph": (
        lambda: HyperGraphData(x=X, edge_index=torch.tensor([[0, 1, 2], [0, 0, 1]])),
        "class HyperGraphData.*'edge_index'.*one number",
    ),
    "a step that no rows explain": (lambda: raised_by(7), "class Odd raises 'ids' by 7.*3 nodes"),
    "a step that is no number": (lambda: raised_by(0.5), "class Odd.*'ids'.*one number"),
    "an edge beyond the nodes": (lambda: Data(x=X, edge_index=CHAIN), "'edge_index' holds 0 to 3; required: 0 to 2"),
    "an edge beyond num_nodes": (lambda: Data(edge_index=CHAIN, num_nodes=2), "'edge_index' holds 0 to 3.*0 to 1"),
    "an edge without nodes": (lambda: Data(edge_index=PAIR, num_nodes=0), "'edge_index' holds 0 to 1.*no node"),
    "an edge before the nodes": (lambda: Data(x=X, edge_index=PAIR - 1), "'edge_index' holds -1 to 0"),
    "a face beyond the nodes": (lambda: Data(x=X, face=torch.tensor([[0], [1], [3]])), "'face' holds 0 to 3"),
    "an index beyond the nodes": (lambda: Data(x=X, tag_index=torch.tensor([-1, 2])), "'tag_index' holds -1 to 2"),
    "edges of real numbers": (lambda: Data(x=X, edge_index=PAIR.float()), r"'edge_index' is float32 \(2, 2\)"),
    "edges one below another": (lambda: Data(x=X, edge_index=TRIANGLE.t()), r"'edge_index' is int64 \(4, 2\)"),
    "edges in one row": (lambda: Data(x=X, edge_index=torch.arange(3)), r"'edge_index' is int64 \(3,\).*\(2, E\)"),
    "the vector of a batch": (lambda: Data(x=X, batch=torch.zeros(3, dtype=int)), "'batch' .*of a batch"),
    "a vector that PyG lets follow": (lambda: Data(x=X, x_batch=torch.zeros(3, dtype=int)), "'x_batch' .*of a batch"),
    "the offsets of a batch": (lambda: Data(x=X, ptr=torch.tensor([0, 3])), "'ptr' .*of a batch"),
    "no nodes": (lambda: Data(y=0), "how many nodes.*num_nodes"),
    "two graphs in one, and no num_nodes": (lambda: pairs(3, 4), "how many nodes.*num_nodes"),
    "nothing": (Data, "how many nodes.*num_nodes"),
    "half a node": (lambda: Data(num_nodes=1.5), "num_nodes is 1.5; required: a whole number"),
    "fewer than no nodes": (lambda: Data(num_nodes=-1), "num_nodes is -1"),
    "several numbers of nodes": (lambda: Data(num_nodes=torch.tensor([1, 2])), "num_nodes is"),
    "too many nodes of which nothing is said": (
        lambda: Data(edge_index=PAIR, num_nodes=70_000), "70000 nodes, but no array of them.*at most 65536"
    ),
}  # fmt: skip
if Index is not None:
    REFUSED["PyG's EdgeIndex"] = (
        lambda: Data(edge_index=EdgeIndex(PAIR, sparse_size=(3, 3))),
        "'edge_index' is an? EdgeIndex",
    )
    REFUSED["PyG's Index"] = (
        lambda: Data(index=Index([0, 1], dim_size=3), num_nodes=3),
        "'index' is an? Index.*as_tensor",
    )


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_come_back_as_pyg_has_it_is_refused(name, tmp_path):
    make, message = REFUSED[name]
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        with pytest.raises(lg.InputError, match=message) as caught:
            writer.add(make(), id="first")
        assert "'first'" in str(caught.value)
        writer.add(Data(x=X), id="first")  # nothing is left of what was refused
    assert len(lg.LazyGraphDataset(tmp_path / "x.lg")) == 1


def test_a_step_must_be_the_same_in_every_graph(tmp_path):
    """In the first graph nodes and rows of x_s are as many; later ones tell which of them an index counts."""
    first, second, third = (pairs(s, t, num_nodes=3) for s, t in ((3, 3), (3, 4), (4, 3)))
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        for graph in (first, second, third):
            writer.add(graph)
        other = type("Other", (Pairs,), {"__inc__": lambda *_args, **_kwargs: 0})
        odd = other(**pairs(3, 5, num_nodes=3).to_dict())
        with pytest.raises(lg.InputError, match="class Other raises 'edge_index_s' by 0"):
            writer.add(odd)
    check(lg.LazyGraphDataset(tmp_path / "x.lg").batch([0, 1, 2]), [first, second, third])


def test_the_number_of_nodes_is_guessed_as_pyg_does_with_a_word(tmp_path):
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        for graph in (Data(edge_index=TRIANGLE), {"edge_index": PAIR.numpy()}):
            with pytest.warns(UserWarning, match="num_nodes"):
                writer.add(graph)
    assert [graph.num_nodes for graph in lg.LazyGraphDataset(tmp_path / "x.lg")] == [3, 2]


def test_an_id_within_a_graph_is_its_id_unless_another_is_given(tmp_path):
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        writer.add(Data(x=X, id="a"))
        writer.add(Data(x=X, id="a"), id="b")
        with pytest.raises(lg.InputError, match="'a' was added before"):
            writer.add(Data(x=X, id="a"))
        with pytest.raises(lg.InputError, match="the field 'id' is Tensor.*rename it"):
            writer.add(Data(x=X, id=torch.tensor([7])))
    assert lg.LazyGraphDataset(tmp_path / "x.lg").ids.tolist() == ["a", "b"]


def test_a_number_of_nodes_in_the_first_graphs_and_no_array_of_them_later(tmp_path):
    """What one graph alone could be, others forbid: an array that grows with the nodes of some graphs only."""
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        writer.add(Data(num_nodes=70_000, w=torch.zeros(70_000)))
        with pytest.raises(lg.InputError, match="70000 nodes, but no array of them"):
            writer.add(Data(num_nodes=3, w=torch.zeros(4)))
    assert lg.LazyGraphDataset(tmp_path / "x.lg")[0].num_nodes == 70_000
