"""GraphWriter: what goes in comes out, bit for bit, or is refused when it is added."""

from __future__ import annotations

import random
import string

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch_geometric.data import Data

import lazygraph as lg
from lazygraph.format.schema import DTYPES
from lazygraph.format.store import Store
from lazygraph.writing.layout import Layout

NUMBERS = [name for name in DTYPES if name != "str"]
NAMES = st.text(string.ascii_letters + string.digits + "_ /.é", min_size=1, max_size=12)


# Names by which the number of nodes is told, or that are of the graph or of a batch.
NAMED = {"z", "edge_index", "face", "num_nodes", "x", "feat", "pos", "n_id", "numbers", "id", "batch", "ptr"}


def same(stored, given):
    if isinstance(given, str):
        return stored == given
    given = np.asarray(given)
    return stored.dtype == given.dtype.newbyteorder("=") and stored.shape == given.shape and (
        np.ascontiguousarray(stored).tobytes() == np.ascontiguousarray(given.astype(stored.dtype)).tobytes()
    )  # fmt: skip


def ring(n, **more):
    return {"z": np.full(n, 6), "edge_index": np.stack([np.arange(n), (np.arange(n) + 1) % n]), **more}


def written(path, graphs, **options):
    with lg.GraphWriter(path, **options) as writer:
        for number, graph in enumerate(graphs):
            writer.add(graph, id=f"g{number}")
    return Store(path)


@st.composite
def families(draw):
    """Graphs with the same fields, whose arrays grow with nodes, edges, nothing, or in their own way."""
    kinds = ("node", "edge", "graph", "own", "scalar", "text", "index")
    fields = {
        name: (draw(st.sampled_from(kinds)), draw(st.sampled_from(NUMBERS)), draw(st.sampled_from([(), (3,), (2, 2)])))
        for name in draw(st.lists(NAMES, unique=True, max_size=8))
        if name not in NAMED and "index" not in name and "node" not in name
    }
    own = [name for name, (kind, _, _) in fields.items() if kind in {"own", "index"}]
    for name in own[12:]:
        fields[name] = ("scalar", "int64", ())

    def graph():
        n = draw(st.integers(1, 5))
        e = draw(st.integers(0, 6))
        ends = st.integers(0, n - 1)
        out = {"z": draw(hnp.arrays(np.int64, n)), "edge_index": draw(hnp.arrays(np.int64, (2, e), elements=ends))}
        for name, (kind, dtype, tail) in fields.items():
            rows = {"node": n, "edge": e, "graph": 1}.get(kind)
            if kind in {"own", "index"}:
                rows = draw(st.integers(0, 7))
            if kind == "text":
                out[name] = draw(st.text(st.characters(codec="utf-8"), max_size=20))
            elif kind == "scalar":
                out[name] = draw(hnp.arrays(dtype, ()))
            elif kind == "index":
                out[f"{name}_index"] = draw(hnp.arrays(np.int32, (2, rows), elements=ends))
            else:
                out[name] = draw(hnp.arrays(dtype, (rows, *tail)))
        return out

    return [graph() for _ in range(draw(st.integers(1, 4)))]


@pytest.mark.slow
@settings(max_examples=120)
@given(families())
def test_any_arrays_come_back_bit_for_bit(tmp_path_factory, graphs):
    store = written(tmp_path_factory.mktemp("any") / "x.lg", graphs)
    for row, graph in enumerate(graphs):
        stored = store.arrays(row)
        assert stored.keys() == graph.keys()
        for name, value in graph.items():
            assert same(stored[name], value), name


@pytest.mark.slow
@settings(max_examples=40)
@given(families())
def test_any_data_come_back_as_tensors(tmp_path_factory, graphs):
    path = tmp_path_factory.mktemp("any") / "x.lg"
    unsigned = ("uint16", "uint32", "uint64")  # torch can hold them, and hardly anything else
    graphs = [
        {n: v for n, v in graph.items() if isinstance(v, str) or v.dtype.name not in unsigned} for graph in graphs
    ]
    data = [Data(**{n: v if isinstance(v, str) else torch.from_numpy(v) for n, v in g.items()}) for g in graphs]
    written(path, data)
    ds = lg.LazyGraphDataset(path)
    for row, graph in enumerate(data):
        found = ds[row]
        assert found.id == f"g{row}"
        assert found.num_nodes == graph.z.shape[0]
        assert set(found.keys()) - {"id", "num_nodes"} == set(graph.keys())
        for name, value in graph.to_dict().items():
            if isinstance(value, str):
                assert found[name] == value
            else:
                assert found[name].dtype == value.dtype
                assert same(found[name].numpy(), value.numpy()), name


@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_type_at_its_limits(dtype, tmp_path):
    if dtype.startswith(("int", "uint")):
        info = np.iinfo(dtype)
        values = np.array([info.min, info.max, 0, 1], dtype)
    elif dtype == "bool":
        values = np.array([True, False])
    else:
        info = np.finfo(dtype)
        values = np.array([info.min, info.max, info.tiny, -0.0, np.nan, np.inf, -np.inf, 0.1], dtype)
    graph = {"z": np.ones(3, np.int64), "many": values, "one": values[0], "none": values[:0], "table": values[:, None]}
    assert all(same(stored, graph[name]) for name, stored in written(tmp_path / "x.lg", [graph]).arrays(0).items())


def test_python_numbers_lists_and_foreign_byte_orders(tmp_path):
    graph = {"z": [6, 6], "mass": 1.5, "count": 3, "flag": True, "swapped": np.arange(3, dtype=">f8") / 3}
    stored = written(tmp_path / "x.lg", [graph]).arrays(0)
    assert stored["mass"].dtype == np.float64
    assert [stored[name].tolist() for name in ("mass", "count", "flag")] == [[1.5], [3], [True]]
    assert stored["flag"].dtype == np.bool_
    assert stored["swapped"].tolist() == [0, 1 / 3, 2 / 3]


def test_a_view_that_is_not_contiguous_and_a_buffer_that_is_used_again(tmp_path):
    buffer = np.arange(24.0).reshape(4, 6)
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        for _ in range(3):
            writer.add({"x": buffer.T[::2]})
            buffer += 100
    store = Store(tmp_path / "x.lg")
    for row in range(3):
        assert (store.arrays(row)["x"] == (np.arange(24.0).reshape(4, 6) + 100 * row).T[::2]).all()


@pytest.mark.parametrize("others", [(5,), (5, 9), (1, 5)])
def test_a_ring_first_does_not_mix_up_nodes_and_edges(others, tmp_path):
    """In a ring there are as many edges as nodes; the first graph alone cannot tell what an array grows with."""
    graphs = [ring(3, edge_attr=np.zeros((3, 2)), charge=np.zeros(3), bond=np.ones((3, 2)))]
    for n in others:
        index = np.zeros((2, 2 * n), np.int64)
        bonds = {"edge_attr": np.ones((2 * n, 2)), "bond": np.ones((2 * n, 2))}
        graphs.append({"z": np.full(n, 6), "edge_index": index, "charge": np.ones(n), **bonds})
    store = written(tmp_path / "x.lg", graphs)
    axes = {field.name: field.axis for field in store.manifest.schema.fields}
    assert axes == {"z": "node", "edge_index": "edge", "edge_attr": "edge", "bond": "edge", "charge": "node"}


def test_only_rings(tmp_path):
    """Where there are as many edges as nodes in all graphs, the name decides, as in PyG."""
    graphs = [ring(n, edge_attr=np.zeros((n, 2)), charge=np.zeros(n)) for n in (3, 4, 5)]
    axes = {f.name: f.axis for f in written(tmp_path / "x.lg", graphs).manifest.schema.fields}
    assert axes == {"z": "node", "edge_index": "edge", "edge_attr": "edge", "charge": "node"}


def test_an_atom_first_does_not_fix_the_number_of_rows(tmp_path):
    graphs = [ring(n, forces=np.ones((n, 3)), u=np.zeros((1, 4)), y=np.array([0.5])) for n in (1, 1, 7)]
    store = written(tmp_path / "x.lg", graphs)
    fields = {field.name: (field.axis, field.shape) for field in store.manifest.schema.fields}
    assert fields["forces"] == ("node", (3,))
    assert fields["u"] == (None, (1, 4))
    assert fields["y"] == (None, (1,))


def test_a_vector_that_happens_to_be_as_long_as_the_first_graph(tmp_path):
    graphs = [ring(n, stress=np.arange(6.0), spectrum=np.zeros(n % 4)) for n in (6, 2, 9)]
    store = written(tmp_path / "x.lg", graphs)
    axes = {field.name: field.axis for field in store.manifest.schema.fields}
    assert axes["stress"] not in {"node", "edge", None}
    assert store.manifest.schema.axes == ("node", "edge", "stress", "spectrum")
    assert [store.arrays(row)["stress"].tolist() for row in range(3)] == [list(range(6))] * 3


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 63, 64, 1024, 1025, 4096, 4097, 9000])
def test_any_number_of_graphs(count, tmp_path):
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        for n in range(count):
            writer.add({"z": np.full(1 + n % 3, n % 90), "weight": n / 7}, labels={"n": n})
    store = Store(tmp_path / "x.lg")
    assert [shard.records for shard in store.manifest.shards] == [
        min(4096, count - begin) for begin in range(0, count, 4096)
    ]
    assert bool(store.manifest.dictionaries) == (count >= 64)
    assert store.column("n").tolist() == list(range(count))
    for row in {0, count // 2, count - 1, min(1024, count - 1), min(4096, count - 1)}:
        assert store.graph_id(row) == f"graph-{row:07d}"
        assert store.arrays(row)["z"].tolist() == [row % 90] * (1 + row % 3)
        assert store.arrays(row)["weight"] == row / 7


def test_large_graphs_do_not_wait_for_a_thousand_others(tmp_path, monkeypatch):
    from lazygraph.writing import graph_writer

    monkeypatch.setattr(graph_writer, "MOST_WAITING", 10_000)
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        for n in range(100):
            writer.add({"x": np.full((50, 4), n / 3)})
            assert writer._waiting_bytes <= 10_000 + 1600
            assert len(writer._waiting) < 8
    store = Store(tmp_path / "x.lg")
    assert all((store.arrays(n)["x"] == n / 3).all() for n in range(100))


# ---- batching ----


def test_what_counts_edges_is_raised_by_the_number_of_edges(tmp_path):
    graphs = [
        ring(n, triplets=np.array([[0, n - 1], [1, 0]]), faces=np.array([0, n - 1]), pairs=np.array([[0], [n - 1]]))
        for n in (3, 5, 4)
    ]
    for n, graph in zip((3, 5, 4), graphs, strict=True):
        graph["edge_index"] = np.concatenate([graph["edge_index"], graph["edge_index"][::-1]], axis=1)
        graph["triplets"] = np.concatenate([graph["triplets"]] * n, axis=1)
    written(tmp_path / "x.lg", graphs, counts={"triplets": "edge", "faces": "edge", "pairs": "node"})
    ds = lg.LazyGraphDataset(tmp_path / "x.lg")
    batch = lg.collate(ds[i] for i in range(3))
    edges, nodes = [0, 6, 16], [0, 3, 8]
    expected = [graph["triplets"] + begin for graph, begin in zip(graphs, edges, strict=True)]
    assert batch.triplets.tolist() == np.concatenate(expected, axis=1).tolist()
    assert batch.faces.tolist() == [0, 2, 6, 10, 16, 19]
    assert batch.pairs.tolist() == [[0, 3, 8], [2, 7, 11]]
    assert batch.edge_index.tolist() == np.concatenate(
        [graph["edge_index"] + begin for graph, begin in zip(graphs, nodes, strict=True)], axis=1
    ).tolist()  # fmt: skip


def test_a_number_whose_name_holds_index_is_no_index(tmp_path):
    graphs = [ring(n, refractive_index=np.array(1.5)) for n in (3, 5)]
    written(tmp_path / "x.lg", graphs)
    ds = lg.LazyGraphDataset(tmp_path / "x.lg")
    assert ds.batch([0, 1]).refractive_index.tolist() == [1.5, 1.5]


def test_batches_are_those_of_pyg(tmp_path):
    from torch_geometric.data import Batch

    dice = random.Random(0)
    data = []
    for _ in range(20):
        n, e = dice.randint(1, 6), dice.randint(0, 9)
        data.append(
            Data(
                x=torch.randn(n, 3),
                edge_index=torch.randint(n, (2, e)),
                edge_attr=torch.randn(e, 2),
                y=torch.randn(1, 2),
                pos=torch.randn(n, 3),
                tag_index=torch.randint(n, (3,)),
                name=f"n{n}",
            )  # fmt: skip
        )
    written(tmp_path / "x.lg", data)
    ours, theirs = lg.LazyGraphDataset(tmp_path / "x.lg").batch(range(20)), Batch.from_data_list(data)
    for name, value in theirs.to_dict().items():
        found = ours[name]
        assert torch.equal(found, value) if isinstance(value, torch.Tensor) else list(found) == list(value), name
    assert torch.equal(ours.batch, theirs.batch)
    assert torch.equal(ours.ptr, theirs.ptr)


# ---- labels and ids ----


def test_labels_units_and_missing_ones(tmp_path):
    with lg.GraphWriter(tmp_path / "x.lg", units={"gap": "eV", "charge": "e"}) as writer:
        writer.add(ring(3, charge=np.zeros(3)), id="a", labels={"gap": 1, "dipole": [1, 2, 3], "n_own": 4})
        writer.add(ring(4, charge=np.zeros(4)), id="b", labels={"gap": None, "dipole": None})
        writer.add(ring(5, charge=np.zeros(5)), id="c")
    store = Store(tmp_path / "x.lg")
    np.testing.assert_array_equal(store.column("gap"), [1, np.nan, np.nan])
    np.testing.assert_array_equal(store.column("dipole"), [[1, 2, 3], [np.nan] * 3, [np.nan] * 3])
    assert store.manifest.columns["gap"].unit == "eV"
    assert store.manifest.schema["charge"].unit == "e"


def test_a_label_does_not_take_the_place_of_a_count(tmp_path):
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        for n in (2, 3):
            writer.add({"z": np.ones(3), "own": np.zeros(n)}, labels={"n_own": 7.5, "n_own_": 8.5})
    store = Store(tmp_path / "x.lg")
    assert store.column("n_own").tolist() == [7.5, 7.5]
    assert [len(store.arrays(row)["own"]) for row in range(2)] == [2, 3]


def test_a_first_graph_with_a_bad_label_is_not_half_taken(tmp_path):
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        with pytest.raises(lg.InputError, match="'gap' cannot be a label: found "):
            writer.add(ring(3), id="a", labels={"gap": {}})
        writer.add({"z": np.ones(2)}, id="a", labels={"energy": 1.0})
    store = Store(tmp_path / "x.lg")
    assert (len(store), list(store.manifest.labels()), store.manifest.schema.names) == (1, ["energy"], ("z",))


# ---- refused ----


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (
            {"z": np.ones(2)},
            r"differ from the fields of the first graph: \[\] too many, \['edge_index', 'text'\] missing",
        ),
        (ring(3, text="t", more=1), r"\['more'\] too many, \[\] missing"),
        (ring(3, text=1), r"'text' is int64 \(1,\); required: str"),
        ({**ring(3, text="t"), "z": np.ones(3)}, r"'z' is float64 \(3,\); required: int64 \(nodes"),
        ({**ring(3, text="t"), "z": np.ones((3, 1), int)}, r"'z' is int64 \(3, 1\); required: int64 \(nodes"),
        ({**ring(3, text="t"), "z": None, "num_nodes": 3}, r"\['num_nodes'\] too many, \['z'\] missing"),
        ({**ring(3, text="t"), "z": object()}, "the field 'z' is object"),
        ({**ring(3, text="t"), "z": [[1], [2, 3]]}, "the field 'z' is list"),
        ({**ring(3, text="t"), "z": np.ones(3, complex)}, "the field 'z' is ndarray of complex128"),
        ({**ring(3, text="t"), "z": torch.ones(3, dtype=torch.bfloat16)}, "the field 'z' is Tensor"),
        ({**ring(3, text="t"), "z": torch.ones(3).to_sparse()}, "the field 'z' is Tensor"),
        (ring(3, text="\ud800"), "cannot be written in UTF-8"),
        (ring(3, text="t" * 65537), "has 65537 bytes"),
    ],
)
@pytest.mark.parametrize("settled", [False, True])
def test_a_graph_that_does_not_fit_is_refused_and_the_others_stay(graph, message, settled, tmp_path, monkeypatch):
    from lazygraph.writing import graph_writer

    monkeypatch.setattr(graph_writer, "SAMPLES", 1 if settled else 1024)
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        writer.add(ring(3, text="first"), id="a")
        with pytest.raises(lg.InputError, match=message):
            writer.add(graph, id="b")
        writer.add(ring(4, text="second"), id="b")
    store = Store(tmp_path / "x.lg")
    assert [store.arrays(row)["text"] for row in range(2)] == ["first", "second"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id": "a"}, "'a' was added before"),
        ({"id": 5}, "id of type int"),
        ({"id": "i" * 256}, "256 bytes"),
        ({"id": "a\0b"}, "none of them zero"),
        ({"labels": {"gap": 1, "other": 2}}, "has the label 'other', which the first graph does not have"),
        ({"labels": {"gap": "x"}}, "label 'gap': found the text 'x'"),
        ({"labels": {"gap": [1, 2]}}, "label 'gap': found list"),
    ],
)
def test_an_id_or_a_label_that_does_not_fit_is_refused(options, message, tmp_path):
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        writer.add(ring(3), id="a", labels={"gap": 1})
        with pytest.raises(lg.InputError, match=message):
            writer.add(ring(3), **options)
    assert len(Store(tmp_path / "x.lg")) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "graph", "message"),
    [
        ({"counts": {"triplet": "edge"}}, ring(3), "unknown field of counts 'triplet'"),
        ({"counts": {"edge_index": "bond"}}, ring(3), "counting 'bond'"),
        ({"counts": {"w": "edge"}}, ring(3, w=np.ones((2, 3))), "indices of dtype float64"),
        ({"units": {"gab": "eV"}}, ring(3), "there is a unit for 'gab'"),
        ({}, ring(3, deep=np.ones((3, 1, 1, 1, 1))), "at most three"),
        ({}, {"num_nodes": 1} | {f"own{n}": np.ones(n + 2) for n in range(17)}, "at most 16"),
        ({}, {"num_nodes": 1} | {f"f{n}": n for n in range(256)}, "at most 16 and 256"),
        ({}, {"num_nodes": 1, "a\nb": 1}, "printable"),
        ({"counts": {"triplets": "edge"}}, ring(3, triplets=np.array([[0, 3]])), "holds 0 to 3; required: 0 to 2"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_the_first_graph(options, graph, message, tmp_path):
    with pytest.raises(lg.InputError, match=message), lg.GraphWriter(tmp_path / "x.lg", **options) as writer:
        writer.add(graph)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_error_in_the_block_leaves_nothing(tmp_path):
    def graphs():
        for n in range(5000):
            yield {"z": np.ones(1), "n": n}
        assert Layout.of(tmp_path / "x.lg").dataset.exists()
        yield {"z": np.ones(1), "n": 1 / 0}

    with pytest.raises(ZeroDivisionError):
        written(tmp_path / "x.lg", graphs())
    assert list(tmp_path.iterdir()) == []
    writer = lg.GraphWriter(tmp_path / "x.lg")
    writer.add({"z": np.ones(1)})
    writer.close()
    writer.close()
    with pytest.raises(lg.InputError, match="closed"):
        writer.add({"z": np.ones(1), "n": 1})


def test_no_graph_is_no_dataset(tmp_path):
    with pytest.raises(lg.InputError, match="no graph was added"), lg.GraphWriter(tmp_path / "x.lg"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_is_replaced_only_when_said(tmp_path, bytes_of):
    path = tmp_path / "x.lg"
    written(path, [ring(3)])
    before = bytes_of(path)
    with pytest.raises(lg.OutputExists, match="overwrite=True"):
        lg.GraphWriter(path)
    assert bytes_of(path) == before
    with pytest.raises(ZeroDivisionError):
        written(path, (ring(4 // n) for n in (2, 1, 0)), overwrite=True)
    assert bytes_of(path) == before
    written(path, [ring(4)], overwrite=True)
    assert Store(path).arrays(0)["z"].tolist() == [6] * 4
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(lg.OutputExists):
        lg.GraphWriter(tmp_path / "other", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "x.lg"]


def test_the_same_graphs_give_the_same_bytes_and_another_one_another_content_id(tmp_path, bytes_of):
    graphs = [ring(n, w=np.full(n, n / 7)) for n in (3, 4, 5)]
    one = written(tmp_path / "one.lg", graphs)
    two = written(tmp_path / "two.lg", graphs, level=3)
    written(tmp_path / "three.lg", graphs)
    assert bytes_of(tmp_path / "one.lg") == bytes_of(tmp_path / "three.lg")
    assert one.manifest.content_id == two.manifest.content_id
    graphs[1]["w"] = np.nextafter(graphs[1]["w"], 1)
    assert written(tmp_path / "four.lg", graphs).manifest.content_id != one.manifest.content_id


def test_a_finished_dataset_holds_exactly_what_its_manifest_names(tmp_path, bytes_of):
    store = written(tmp_path / "x.lg", [ring(3 + n % 5) for n in range(200)])
    assert {*bytes_of(tmp_path / "x.lg")} == {"manifest.json", *(file.name for file in store.manifest.files())}
    assert [p.name for p in tmp_path.iterdir()] == ["x.lg"]
