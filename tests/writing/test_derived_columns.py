"""Sizes that are counted when a graph is made: columns of the dataset, whatever way its graphs came into it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.crystal import Crystal
from lazygraph.errors import CorruptDataset, InputError, LabelError
from lazygraph.format.columns import ColumnWriter, write_column
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.graphs import angles
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.sizes import derived_names, derived_sizes
from lazygraph.reading.verify import verify

DERIVED = {
    "m3gnet": ["n_triplets"],
    "chgnet": ["n_triplets"],
    "alignn": ["n_triplets"],
    "alignn-2026": ["n_triplets"],
    "mace": [],
    "comformer": [],
    "cgcnn": [],
}


def graph_of(store, row):
    """The graph of a record, none of whose numbers was computed yet."""
    a = store.arrays(row)
    crystal = Crystal(a["lattice"], a["frac_coords"], a["numbers"], tuple(a["pbc"].tolist()))
    return CrystalGraph(crystal, a["edge_index"], a["images"])


def angles_of(spec, graph):
    """The pairs of edges that make an angle, every one of them made."""
    edges, n, d = graph.edge_index, graph.n_atoms, graph.distances
    match spec.angles and spec.angles.name:
        case "m3gnet":
            return angles.triplets(edges, n, d <= spec.angles.threebody_cutoff).T
        case "alignn":
            return angles.line_graph(edges, n).T
        case "alignn-2026":
            return angles.whole_line_graph(edges, n, d <= spec.angles.threebody_cutoff).T
        case "chgnet":
            return angles.bond_graph(edges, n, d, spec.angles.bond_cutoff)


@pytest.mark.parametrize("name", DERIVED)
def test_the_columns_are_what_can_be_counted_in_the_records(tmp_path, write, sound, name):
    spec = lg.graph(name)
    write("prototypes:60?seed=4", tmp_path / "x.lg", graph=spec, shard_size=13)
    manifest = sound(tmp_path / "x.lg")
    assert [c for c in manifest.columns if c == "n_triplets"] == DERIVED[name]
    assert list(derived_names(spec)) == DERIVED[name]
    store = Store(tmp_path / "x.lg")
    graphs = [graph_of(store, row) for row in range(len(store))]
    if "n_triplets" in DERIVED[name]:
        expected = [len(angles_of(spec, graph)) for graph in graphs]
        assert store.column("n_triplets").tolist() == expected
        assert max(expected) > 255
    for column in DERIVED[name]:
        array, found = store.column(column), manifest.columns[column]
        assert array.dtype == np.min_scalar_type(int(array.max()))
        assert (found.role, found.unit, found.statistics) == ("index", None, None)


@pytest.mark.parametrize("name", DERIVED)
def test_a_graph_that_was_just_built_and_one_that_was_read_have_the_same_sizes(name):
    spec = lg.graph(name)
    for number in range(5):
        rng = np.random.default_rng(number)
        crystal = Crystal(np.diag(rng.uniform(3, 6, 3)), [[0, 0, 0], [0.5, 0.5, 0.45 + 0.1 * rng.random()]], [11, 17])
        built = spec.build(crystal)
        read = CrystalGraph(crystal, built.edge_index.astype(np.int64), built.images.astype(np.int64))
        assert derived_sizes(spec, built) == derived_sizes(spec, read)
        assert built.distances.tobytes() == read.distances.tobytes()


@pytest.mark.slow
def test_the_columns_are_the_same_whichever_way_the_graphs_came(tmp_path, write, append, retry):
    """At once, in small shards, appended, by several processes, and where an input had to be tried again."""
    items = [(f"id-{n}", Crystal(np.eye(3) * (2.4 + 0.2 * n), [[0, 0, 0]], [84])) for n in range(12)]
    at_once, small, added, retried = (tmp_path / f"{name}.lg" for name in ("at-once", "small", "added", "retried"))
    spec = lg.graph("m3gnet")
    write(items, at_once, graph=spec)
    write(items, small, graph=spec, shard_size=5, workers=2)
    write(items[:7], added, graph=spec, shard_size=3)
    append(added, items[7:])
    broken = [*items[:4], ("id-4", object()), *items[5:]]
    assert write(broken, retried, graph=spec, shard_size=4).quarantined == 1
    assert retry(retried, items).written == 1
    expected = {name: Store(at_once).column(name) for name in ("n_triplets",)}
    assert len(set(expected["n_triplets"].tolist())) == 3
    for path in (small, added, retried):
        store = Store(path)
        order = np.argsort([int(store.graph_id(row)[3:]) for row in range(len(store))])
        for name, column in expected.items():
            assert store.column(name)[order].tolist() == column.tolist()
    assert verify(retried).problems == ()


def test_an_append_may_need_a_wider_type(tmp_path, write, append):
    """The column is unsigned and as narrow as it can be, so more graphs may widen it."""
    far, near = np.eye(3) * 4.2, np.eye(3) * 2.2
    write([("far", Crystal(far, [[0, 0, 0]], [84]))], tmp_path / "x.lg", graph=lg.graph("m3gnet"))
    assert Store(tmp_path / "x.lg").column("n_triplets").dtype == np.uint8
    append(tmp_path / "x.lg", [("near", Crystal(near, [[0, 0, 0]], [84]))])
    column = Store(tmp_path / "x.lg").column("n_triplets")
    assert (column.dtype, column.tolist()) == (np.uint16, [0, 26 * 25])


@pytest.mark.parametrize("add", [lg.append, lg.retry_quarantined])
def test_a_dataset_without_the_column_is_not_added_to(tmp_path, write, salt, bytes_of, add):
    path = tmp_path / "x.lg"
    write([("a", salt(1)), ("b", object())], path, graph=lg.graph("m3gnet"))
    store = Store(path)
    graphs, blocks = store.digests()
    kept = {n: (c, blocks[n]) for n, c in store.manifest.columns.items() if n != "n_triplets"}
    columns = ColumnWriter(path, kept)
    replace(store.manifest, columns=columns.columns, digests=columns.digests(graphs)).publish(path)
    before = bytes_of(path)
    with pytest.raises(InputError, match="no column 'n_triplets', which new graphs of its recipe have; write its"):
        add(path, [("a", salt(1)), ("b", salt(2))], workers=1, progress=False)
    assert bytes_of(path) == before
    assert len(lg.LazyGraphDataset(path)) == 1


@pytest.mark.parametrize("name", ["n_triplets"])
def test_a_label_cannot_have_their_names(tmp_path, write, salt, name):
    with pytest.raises(LabelError, match=f"'{name}' cannot be a label"):
        write([("a", salt(), {name: 1.0})], tmp_path / "x.lg", labels=[name])


def test_a_damaged_column_is_found(tmp_path, write, salt):
    path = tmp_path / "x.lg"
    write([("a", salt(1)), ("b", salt(2))], path, graph=lg.graph("chgnet"))
    assert verify(path).problems == ()
    for name in ("n_triplets",):
        file = path / Manifest.load(path).columns[name].file.name
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert any(file.name in problem for problem in verify(path).problems)
        file.write_bytes(data)


@pytest.mark.parametrize("values", [np.array([1.0, 2.0]), np.array([1, 2], "<i8"), np.array([[1], [2]], "u1")])
@pytest.mark.parametrize("name", ["n_triplets"])
def test_a_column_of_another_type_is_refused(tmp_path, write, salt, name, values):
    path = tmp_path / "x.lg"
    write([("a", salt(1)), ("b", salt(2))], path, graph=lg.graph("chgnet"))
    manifest = Manifest.load(path)
    for role in ("index", "label") if values.dtype.kind == "f" else ("index",):
        column = write_column(path, name, values, role=role)
        replace(manifest, columns={**manifest.columns, name: column}).publish(path)
        with pytest.raises(CorruptDataset, match=f"the column '{name}' has the type"):
            Manifest.load(path)
