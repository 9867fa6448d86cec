"""``LazyGraphDataset`` as users meet it: one graph, subsets, ids, columns, targets, PyG's and torch's loaders."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader as TorchLoader
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader as PygLoader

import lazygraph as lg
from lazygraph.errors import InputError, LabelError, UnknownId


@pytest.fixture(scope="module")
def spec():
    return lg.graph("comformer", max_neighbors=12)


@pytest.fixture(scope="module")
def path(tmp_path_factory, spec):
    out = tmp_path_factory.mktemp("reading") / "p.lg"
    lg.write("prototypes:300?seed=3", out, graph=spec, workers=1, split=(0.8, 0.1, 0.1), seed=5, shard_size=64)
    return out


@pytest.fixture(scope="module")
def crystals(path):
    """The crystals afresh from their source, not from the dataset."""
    from lazygraph.sources.base import Cut
    from lazygraph.sources.detect import open_sources

    (source,) = open_sources("prototypes:300?seed=3")
    return {entry.id: entry for entry in source.read(Cut(0, 0, 300), path.with_name("unused"))}


@pytest.fixture
def ds(path):
    return lg.LazyGraphDataset(path)


def same(a, b):
    assert sorted(a.keys()) == sorted(b.keys())
    for key in a.keys():  # noqa: SIM118  # a Data is no mapping
        if isinstance(a[key], torch.Tensor):
            assert a[key].dtype == b[key].dtype, key
            assert torch.equal(a[key], b[key]), key
        else:
            assert a[key] == b[key], key


def test_every_graph_equals_the_graph_built_afresh(ds, spec, crystals):
    assert len(ds) == 300
    for data in ds:
        entry = crystals[data.id]
        fresh = spec.build(entry.crystal).to_data()
        fresh.id = data.id
        same(data, fresh)


def test_crystals_come_back_with_every_bit(ds, crystals):
    for position, graph_id in enumerate(ds.ids):
        assert ds.crystal(position) == crystals[graph_id].crystal == ds.crystal(str(graph_id))
    subset = ds[[7, 3]]
    assert subset.crystal(-1) == ds.crystal(3)
    with pytest.raises(UnknownId):
        subset.crystal(ds.ids[0])
    with pytest.raises(IndexError):
        subset.crystal(2)


def test_crystals_of_a_rebuilt_dataset_are_the_stored_ones(tmp_path):
    lg.write("prototypes:4?seed=2", tmp_path / "r.lg", graph=lg.graph("radius", cutoff=5.0), workers=1)
    stored, rebuilt = (lg.LazyGraphDataset(tmp_path / "r.lg", graph=g) for g in (None, lg.graph("radius", cutoff=4.0)))
    assert [rebuilt.crystal(i) for i in range(4)] == [stored.crystal(i) for i in range(4)]


def test_a_crystal_becomes_the_classes_of_the_libraries(ds):
    crystal = ds.crystal(5)
    structure, atoms, jarvis = crystal.to_pymatgen(), crystal.to_ase(), crystal.to_jarvis()
    assert np.array_equal(structure.lattice.matrix, crystal.lattice)
    assert np.array_equal(atoms.numbers, crystal.numbers)
    assert list(jarvis.elements) == atoms.get_chemical_symbols() == [site.specie.symbol for site in structure]


def test_ready_made_graphs_have_no_crystals(tmp_path):
    with lg.GraphWriter(tmp_path / "any.lg") as writer:
        writer.add({"x": np.ones((2, 1)), "edge_index": np.array([[0, 1], [1, 0]])}, id="a")
    with pytest.raises(InputError, match="ready-made"):
        lg.LazyGraphDataset(tmp_path / "any.lg").crystal(0)


def test_the_default_view_has_the_documented_arrays(ds):
    data = ds[0]
    n, e = data.num_nodes, data.num_edges
    assert (data.x.shape, data.x.dtype) == ((n, 1), torch.int64)
    assert (data.pos.shape, data.pos.dtype) == ((n, 3), torch.float32)
    assert (data.edge_index.shape, data.edge_index.dtype) == ((2, e), torch.int64)
    assert (data.edge_attr.shape, data.edge_attr.dtype) == ((e, 3), torch.float32)
    assert (data.images.shape, data.images.dtype) == ((e, 3), torch.int64)
    assert (data.cell.shape, data.cell.dtype) == ((1, 3, 3), torch.float32)
    assert isinstance(data.id, str)


def test_tensors_may_be_written_to(ds):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = ds[4]
        for value in data.to_dict().values():
            if isinstance(value, torch.Tensor):
                value.add_(1)
    same(ds[4], ds[4])
    assert not torch.equal(ds[4].x, data.x)


def test_positions_count_from_both_ends_and_stop_there(ds):
    same(ds[-1], ds[299])
    same(ds[np.int64(7)], ds[torch.tensor(7)])
    for beyond in (300, -301):
        with pytest.raises(IndexError, match="300 graphs"):
            ds[beyond]


def test_ids_find_their_graphs(ds):
    ids = ds.ids
    assert len(set(ids.tolist())) == 300
    for row in (0, 1, 150, 299):
        same(ds[str(ids[row])], ds[row])
    with pytest.raises(UnknownId, match=r"'nonsense'.*holds 300 ids such as"):
        ds["nonsense"]


@pytest.mark.parametrize(
    "index",
    [
        slice(10, 20),
        slice(None, None, -1),
        slice(5, 200, 7),
        slice(None, 0.1),
        [3, 1, 4, 1, -1],
        np.array([9, 2]),
        np.array([], dtype=int),
        [],
        range(8, 2, -2),
        torch.tensor([1, 2, 3]),
    ],
    ids=repr,
)
def test_subsets_are_lazy_and_in_the_order_asked_for(ds, index):
    subset = ds[index]
    rows = np.arange(300)
    if isinstance(index, slice) and index.stop == 0.1:
        expected = rows[:30]
    else:
        expected = rows[np.asarray(index, dtype=int) if not isinstance(index, slice) else index]
    assert isinstance(subset, lg.LazyGraphDataset)
    assert [d.id for d in subset] == ds.ids[expected].tolist()
    assert subset.ids.tolist() == ds.ids[expected].tolist()
    assert subset.columns["density"].tolist() == ds.columns["density"][expected].tolist()


@pytest.mark.parametrize("of", [lambda ids: ids, list, tuple, lambda ids: ids.astype(object), lambda ids: ids.tolist()])
def test_arrays_and_lists_of_ids_select(ds, of):
    for part in (ds, ds[250:], ds[::-7]):
        wanted = np.random.default_rng(0).permutation(part.ids)[:5]
        assert part[of(wanted)].ids.tolist() == part.batch(of(wanted)).id == wanted.tolist()
        assert part[of(wanted[:0])].ids.tolist() == []
    with pytest.raises(UnknownId, match="not in this subset of 3 graphs"):
        ds[:3][of(ds.ids[2:4])]
    with pytest.raises(UnknownId, match="nonsense"):
        ds[of(np.array([ds.ids[0], "nonsense"]))]


def test_tables_of_pandas_select(ds):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"id": ds.ids, "n": ds.columns["n_atoms"]})
    small = table[table.n < 8]
    assert ds[small.id].ids.tolist() == ds[small.index].ids.tolist() == small.id.tolist()


@pytest.mark.parametrize("index", [[1, "a"], np.array([b"a"]), np.array([None]), [1.5, 2]], ids=repr)
def test_neither_positions_nor_ids(ds, index):
    with pytest.raises(IndexError, match="required: integers, ids, a slice or a mask"):
        ds[index]


def test_masks_select(ds):
    mask = ds.columns["n_atoms"] < 8
    assert 0 < mask.sum() < 300
    assert ds[mask].ids.tolist() == ds.ids[mask].tolist()
    assert ds[torch.from_numpy(mask)].ids.tolist() == ds.ids[mask].tolist()
    with pytest.raises(IndexError, match="mask of 3 values"):
        ds[np.array([True, False, True])]
    with pytest.raises(IndexError, match="positions"):
        ds[[0, 300]]
    with pytest.raises(IndexError, match="float"):
        ds[np.array([0.5])]


def test_subsets_of_subsets(ds):
    inner = ds[100:200][::3][[2, 0]]
    assert inner.ids.tolist() == ds.ids[[106, 100]].tolist()
    assert inner[str(ds.ids[100])].id == ds.ids[100]
    outside = str(ds.ids[0])
    with pytest.raises(UnknownId, match="not in this subset of 2 graphs"):
        inner[outside]
    mask = np.array([False, True])
    assert inner[mask].ids.tolist() == [inner.ids[1]]


def test_where_asks_columns(ds):
    chosen = ds.where("n_atoms < 20 and density > 5")
    expected = (ds.columns["n_atoms"] < 20) & (ds.columns["density"] > 5)
    assert 0 < expected.sum() < 300
    assert chosen.ids.tolist() == ds.ids[expected].tolist()
    again = chosen.where("n_atoms < 10")
    assert again.ids.tolist() == ds.ids[expected & (ds.columns["n_atoms"] < 10)].tolist()
    formula = str(ds.columns["formula"][17])
    assert 17 in np.flatnonzero(np.isin(ds.ids, ds.where(f"formula == '{formula}'").ids))
    with pytest.raises(InputError, match="unknown column 'gap'; known: density"):
        ds.where("gap > 0")


@pytest.mark.parametrize(
    "condition",
    ["", "density", "density >", "__import__('os').system('true') == 0", "density.real > 0", "(lambda: 1)() == 1",
     "[x for x in density]", "density > 'a'", "density is None", "1 + 1", "f'{density}' == 'a'", "(" * 500],
)  # fmt: skip
def test_conditions_that_are_none_are_refused(ds, condition):
    with pytest.raises(InputError, match="condition"):
        ds.where(condition)


def test_splits_cover_the_dataset_once(ds):
    parts = [ds.split(name) for name in ("train", "val", "test")]
    assert [len(part) for part in parts] == [240, 30, 30]
    assert sorted(i for part in parts for i in part.ids.tolist()) == sorted(ds.ids.tolist())
    assert set(ds.columns["split"].tolist()) == {"train", "val", "test"}
    assert len(ds[:50].split("train")) == int((ds.columns["split"][:50] == "train").sum())
    with pytest.raises(InputError, match="known: train, val, test"):
        ds.split("valid")


def test_targets_become_y(path, crystals):
    one = lg.LazyGraphDataset(path, target="density")
    two = lg.LazyGraphDataset(path, target=["density", "volume_per_atom"])
    assert one[5].y.shape == (1, 1)
    assert two[5].y.dtype == torch.float32
    labels = crystals[two[5].id].labels
    assert two[5].y.tolist() == [[pytest.approx(labels["density"]), pytest.approx(labels["volume_per_atom"])]]
    with pytest.raises(LabelError, match="unknown label 'gap'; known: density"):
        lg.LazyGraphDataset(path, target="gap")


def test_another_recipe_is_refused_field_by_field(path, spec):
    assert lg.LazyGraphDataset(path, expect=spec).spec == spec
    with pytest.raises(lg.RecipeMismatch, match=r"max_neighbors: 12 here, 25 there"):
        lg.LazyGraphDataset(path, expect=lg.graph("comformer"))
    with pytest.raises(lg.RecipeMismatch, match=r"max_neighbors: 12 here, 25 there"):
        lg.LazyGraphDataset(path, expect="comformer")
    with pytest.raises(lg.RecipeError, match="comfromer"):
        lg.LazyGraphDataset(path, expect="comfromer")
    with pytest.raises(InputError, match="found expect=4.0; required: the name of a preset, or a recipe"):
        lg.LazyGraphDataset(path, expect=4.0)
    with pytest.raises(InputError, match="unknown view 'nonsense'; known: pyg"):
        lg.LazyGraphDataset(path, view="nonsense")


def test_a_recipe_is_expected_by_name(tmp_path):
    lg.write("prototypes:5?seed=3", tmp_path / "p.lg", graph=lg.graph("radius", cutoff=6.0), workers=1, progress=False)
    lg.write("prototypes:5?seed=3", tmp_path / "c.lg", graph="cgcnn", workers=1, progress=False)
    assert lg.LazyGraphDataset(tmp_path / "c.lg", expect="cgcnn").spec == lg.graph("cgcnn")
    other = lg.LazyGraphDataset(tmp_path / "p.lg", graph="mace", expect="mace")
    assert other.spec == lg.graph("mace")
    assert len(other) == 5


def test_what_is_no_target_is_named(path):
    with pytest.raises(InputError, match="found target=<function.*transform="):
        lg.LazyGraphDataset(path, lambda data: data)
    with pytest.raises(InputError, match="found target=3"):
        lg.LazyGraphDataset(path, 3)


def test_transforms_see_every_graph(path):
    ds = lg.LazyGraphDataset(path, transform=lambda data: data.id)
    assert ds[3] == ds.ids[3]
    assert ds.__getitems__([2, 0]) == [ds.ids[2], ds.ids[0]]


def test_batches_equal_pygs(ds):
    chosen = [31, 4, 159, 26]
    expected = Batch.from_data_list([ds[i] for i in chosen])
    batch = ds.batch(chosen)
    same(batch, expected)
    same(batch[2], ds[159])
    same(ds.batch([str(ds.ids[4])]), Batch.from_data_list([ds[4]]))
    assert torch.equal(batch.ptr, expected.ptr)
    with pytest.raises(InputError, match="a batch needs at least one graph"):
        ds.batch([])


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_of_pyg_and_torch_give_the_same_batches(ds, workers):
    subset = ds[50:120]
    pyg = PygLoader(subset, batch_size=16, num_workers=workers)
    plain = TorchLoader(subset, batch_size=16, num_workers=workers, collate_fn=lg.collate)
    seen = []
    for a, b in zip(pyg, plain, strict=True):
        same(a, b)
        seen += a.id
    assert seen == ds.ids[50:120].tolist()


def test_pickled_and_copied_datasets_read_the_same(ds):
    ds[0]
    for other in (pickle.loads(pickle.dumps(ds)), pickle.loads(pickle.dumps(ds[10:20]))):
        same(other[0], ds[0] if len(other) == 300 else ds[10])
    assert len(pickle.dumps(ds)) < 20_000


def test_a_dataset_that_is_not_there_is_named(tmp_path):
    with pytest.raises(lg.DatasetNotFound, match="no dataset at"):
        lg.LazyGraphDataset(tmp_path / "none.lg")
    (tmp_path / "part.lg.partial").mkdir()
    with pytest.raises(FileNotFoundError, match="not finished"):
        lg.LazyGraphDataset(tmp_path / "part.lg")
    (tmp_path / "empty.lg").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no manifest\.json"):
        lg.LazyGraphDataset(tmp_path / "empty.lg")


def test_length_repr_and_pyg_properties(ds):
    assert ds.len() == len(ds) == 300
    assert len(ds[5:8]) == 3
    assert repr(ds).splitlines()[0].endswith("300 graphs)")
    assert ds.num_node_features == 1
    shuffled, order = ds.shuffle(return_perm=True)
    assert shuffled.ids.tolist() == ds.ids[order.numpy()].tolist()


def test_forces_are_read_with_their_atoms(data, tmp_path):
    import ase.io

    path = data / "extxyz/alexandria-random-1k.xyz"
    lg.write(path, tmp_path / "a.lg", graph="comformer", workers=1, units={"energy": "eV", "forces": "eV/A"})
    ds = lg.LazyGraphDataset(tmp_path / "a.lg", target="energy")
    for row, atoms in enumerate(ase.io.read(path, ":100")):
        assert np.array_equal(ds[row].forces.numpy(), atoms.get_forces().astype(np.float32))
        assert ds[row].y.item() == np.float32(atoms.get_potential_energy())
    assert ds.manifest.schema["forces"].unit == "eV/A"
    with pytest.raises(LabelError, match=r"read it as data\.forces"):
        lg.LazyGraphDataset(tmp_path / "a.lg", target="forces")
