"""A mix: the batches of its members however they are read, resumed and shared; labels in one unit or refused."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from same import same_batches, same_values
from scipy import stats
from torch.utils.data import ConcatDataset, DataLoader, Subset, random_split
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader as PygLoader

import lazygraph as lg
from lazygraph.errors import CorruptDataset, InputError, LabelError, RecipeMismatch, UnknownId
from lazygraph.loading.packing import OversizedGraphs
from tests.servers.started import web_server

PLAIN = {"num_workers": 0, "threads": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Datasets of one recipe, and the same crystals in another one."""
    path = tmp_path_factory.mktemp("mixing")
    for name, n, recipe in (
        ("a", 120, "comformer"),
        ("b", 40, "comformer"),
        ("c", 25, "comformer"),
        ("d", 40, "cgcnn"),
    ):
        lg.write(f"prototypes:{n}?seed={n}", path / f"{name}.lg", graph=recipe, workers=1, progress=False)
    return path


def opened(folder, names="abc", **options):
    return {name: lg.LazyGraphDataset(folder / f"{name}.lg", target="density", **options) for name in names}


@pytest.fixture
def stored(folder):
    return opened(folder)


@pytest.fixture
def built(folder):
    """The same, and one member whose graphs are built when they are read."""
    return opened(folder, "ac") | opened(folder, "d", graph="comformer")


def stream(loader):
    return [(batch.id, batch.dataset.tolist(), batch.y.ravel().tolist()) for batch in loader]


def one_by_one(mix, batch):
    """The batch that PyG makes of the graphs of a batch, found by member and id."""
    members = list(mix.members.values())
    graphs = []
    for number, graph_id in zip(batch.dataset.tolist(), batch.id, strict=True):
        graph = members[number][graph_id]
        graph.dataset = torch.tensor([number])
        graphs.append(graph)
    return Batch.from_data_list(graphs)


MIXES = {
    "rates": {"rates": {0: 3, 1: 1, 2: 1}},
    "all": {"rates": {0: 1, 1: 2, 2: 1}, "policy": "exhaust_all"},
    "temperature": {"policy": "temperature", "temperature": 2.0},
    "replay": {"replay": {0: 20}},
    "once": {},
}


def mixed(members, kind="rates"):
    names = list(members)
    options = {
        option: {names[k]: v for k, v in value.items()} if isinstance(value, dict) else value
        for option, value in MIXES[kind].items()
    }
    return lg.mix(members, **options)


# ---- the same stream in every way ----


@pytest.mark.slow
@pytest.mark.parametrize("source", ["stored", "built"])
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("options", [{"batch_size": 16}, {"max_atoms": 150}], ids=str)
def test_sources_workers_ranks_and_resuming_give_one_stream(request, source, workers, ranks, options):
    mix = mixed(request.getfixturevalue(source))
    visited = []
    for rank in range(ranks):
        shared = {**options, "shuffle": True, "seed": 4, "rank": rank, "world_size": ranks}
        plain = lg.loader(mix, **shared, **PLAIN)
        epochs = [stream(plain) for _ in range(3)]
        visited.append(epochs)

        loader = lg.loader(mix, **shared, num_workers=workers)
        assert stream(loader) == epochs[0]
        iterator, begun = iter(loader), []
        for step in range(len(epochs[1])):
            state = json.loads(json.dumps(loader.state_dict()))
            resumed = lg.loader(mix, **shared, **PLAIN)
            resumed.load_state_dict(state)
            assert begun + stream(resumed) == epochs[1]
            if step == len(epochs[1]) // 2:
                others = lg.loader(mix, **shared, num_workers=workers)
                others.load_state_dict(state)
                assert begun + stream(others) == epochs[1]
                assert stream(others) == epochs[2]
                others.close()
            begun += stream([next(iterator)])
        loader.close()
    alone = lg.loader(mix, **options, shuffle=True, seed=4, **PLAIN)
    for epoch in range(3):
        assert len({len(of_rank[epoch]) for of_rank in visited}) == 1
        together = [pair for of_rank in visited for ids, numbers, _ in of_rank[epoch] for pair in zip(numbers, ids)]
        want = [pair for ids, numbers, _ in stream(alone) for pair in zip(numbers, ids)]
        assert sorted(together) == sorted(want)
        assert np.bincount([number for number, _ in together]).tolist() == list(mix.visits().values())


@pytest.mark.parametrize("source", ["stored", "built"])
@pytest.mark.parametrize("kind", MIXES)
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_batch_is_the_one_that_is_collated_graph_by_graph(request, source, kind, shuffle):
    mix = mixed(request.getfixturevalue(source), kind)
    batches = list(lg.loader(mix, 30, shuffle=shuffle, **PLAIN))
    counts = np.bincount(np.concatenate([batch.dataset for batch in batches]))
    assert counts.tolist() == list(mix.visits().values())
    for batch in batches:
        assert batch.dataset.dtype == torch.int64
        assert batch.dataset.shape == (batch.num_graphs,)
        same_batches(batch, one_by_one(mix, batch))
        assert batch.get_example(3).dataset.tolist() == batch.dataset[3:4].tolist()


@pytest.mark.parametrize("preset", ["comformer", "cgcnn", "alignn", "matformer"])
def test_every_view_of_a_mix_is_collated_graph_by_graph(tmp_path, preset):
    view = preset
    members = {}
    for n in (20, 15):
        lg.write(f"prototypes:{n}?seed={n}", tmp_path / f"{n}.lg", graph=preset, workers=1, progress=False)
        members[f"m{n}"] = lg.LazyGraphDataset(tmp_path / f"{n}.lg", view=view, target="density")
    members["built"] = lg.LazyGraphDataset(tmp_path / "15.lg", view=view, target="density", graph=preset)
    mix = lg.mix(members)
    for batch in lg.loader(mix, 12, shuffle=True, **PLAIN):
        same_batches(batch, one_by_one(mix, batch))


@pytest.mark.parametrize("source", ["stored", "built"])
def test_one_graph_is_that_of_its_member(request, source):
    mix = mixed(request.getfixturevalue(source))
    position = 0
    for number, member in enumerate(mix.members.values()):
        for k in (0, len(member) - 1):
            graph = member[k]
            graph.dataset = torch.tensor([number])
            same_values(mix[position + k], graph)
            same_values(mix.__getitems__([position + k])[0], graph)
        position += len(member)
    assert position == len(mix)
    same_values(mix[-1], mix[len(mix) - 1])
    with pytest.raises(IndexError, match=f"found positions from {len(mix)} to"):
        mix[len(mix)]
    assert [graph.dataset.item() for graph in mix.where("n_atoms < 4")] == mix.where("n_atoms < 4").batch(
        slice(None)
    ).dataset.tolist()


@pytest.mark.slow
def test_the_loaders_of_torch_and_pyg_read_a_mix(stored):
    mix = mixed(stored, "once")
    own = list(lg.loader(mix, 40, **PLAIN))
    for loader in (DataLoader(mix, 40, collate_fn=lg.collate), PygLoader(mix, 40), PygLoader(mix, 40, num_workers=1)):
        for mine, theirs in zip(own, loader, strict=True):
            same_values(mine, theirs)
    loader = lg.loader(mixed(stored), 20, shuffle=True)
    again = DataLoader(loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn)
    assert stream(again) == stream(lg.loader(mixed(stored), 20, shuffle=True))


def test_a_mix_is_expanded_on_a_device(stored):
    mix = mixed(stored)
    for mine, theirs in zip(lg.loader(mix, 20, device="cpu"), lg.loader(mix, 20, **PLAIN), strict=True):
        same_values(mine, theirs)


def test_what_only_one_dataset_has_is_told(stored):
    mix = mixed(stored)
    for name in ("manifest", "content_id", "crystal", "sample", "storage"):
        with pytest.raises(AttributeError, match=f"a mix has no attribute '{name}'; a mix is no single dataset: take"):
            getattr(mix, name)
    with pytest.raises(AttributeError, match="a mix has no attribute 'colums'$"):
        mix.colums  # noqa: B018


@pytest.mark.parametrize("part", [slice(None), np.random.default_rng(1).permutation(185)[:90]], ids=["whole", "part"])
def test_shards_are_read_ahead_in_the_order_of_each_member(stored, part):
    mix = mixed(stored)
    if not isinstance(part, slice):
        mix = mix[part]
    batches = lg.loader(mix, 16, shuffle=True).next_batches()
    for number, member in enumerate(mix.members.values()):
        found = [member.ids[some].tolist() for some in mix._of_member(number, batches)]
        wanted = []
        for positions in batches:
            batch = mix.batch(positions)
            wanted.append([id_ for id_, k in zip(batch.id, batch.dataset.tolist(), strict=True) if k == number])
        assert found == wanted
    shards, size = mix.shards_to_read()
    assert {name for name, _ in shards} == set(stored)
    assert size == sum(member.shards_to_read()[1] for member in mix.members.values())
    ahead = mix.read_ahead(batches)
    ahead.visited = 50
    ahead.join()
    assert ahead.visited == 50
    assert ahead.stop()


def test_a_mix_of_a_server_and_a_folder(folder, stored, tmp_path, monkeypatch):
    monkeypatch.setenv("LAZYGRAPH_CACHE", str(tmp_path / "cache"))
    with web_server(folder, tmp_path) as server:
        members = {**stored, "b": lg.LazyGraphDataset(f"{server.url}/b.lg", target="density")}
        mix = mixed(members)
        assert mix.is_remote
        loader = lg.loader(mix, 16, shuffle=True, threads=0)
        assert "because the dataset is on a server" in " ".join(loader.settings.reasons)
        local = lg.loader(mixed(stored), 16, shuffle=True, window=2**15, **PLAIN)
        assert sorted(id_ for batch in loader for id_ in batch.id) == sorted(id_ for batch in local for id_ in batch.id)


def test_a_pickled_mix_is_the_same(stored):
    mix = mixed(stored).where("n_atoms < 20")
    again = pickle.loads(pickle.dumps(mix))
    assert repr(again) == repr(mix)
    same_batches(mix.batch([0, -1, 5]), again.batch([0, -1, 5]))


# ---- parts, ids and columns ----


def test_columns_are_those_of_the_members_one_after_another(stored):
    mix = mixed(stored)
    for name in ("density", "n_atoms", "n_edges", "id", "formula", "n_elements"):
        joined = np.concatenate([member.columns[name] for member in stored.values()])
        np.testing.assert_array_equal(mix.columns[name], joined)
    assert mix.columns["dataset"].tolist() == sum(([name] * len(member) for name, member in stored.items()), [])
    assert len(mix.columns) == len(list(mix.columns))
    with pytest.raises(KeyError, match="unknown column 'n_triplets'"):
        mix.columns["n_triplets"]


@pytest.mark.parametrize(
    "condition",
    ["dataset == 'b'", "dataset != 'b' and n_atoms < 9", "'O' in elements", "density > 5 or dataset in ('a', 'c')"],
)
def test_conditions_select_as_in_the_members(stored, condition):
    mix = mixed(stored)
    part = mix.where(condition)
    assert 0 < len(part) < len(mix)
    mask = [np.full(len(member), eval_member(name, member, condition)) for name, member in stored.items()]
    np.testing.assert_array_equal(part.indices(), np.flatnonzero(np.concatenate(mask)))
    assert {name: len(member) for name, member in part.members.items()} == {
        name: int(own.sum()) for name, own in zip(stored, mask, strict=True)
    }
    assert part.ids.tolist() == mix.ids[np.concatenate(mask)].tolist()


def eval_member(name, member, condition):
    density, n_atoms = member.columns["density"], member.columns["n_atoms"]
    has_oxygen = np.isin(member.ids, member.where("'O' in elements").ids)
    return {
        "dataset == 'b'": name == "b",
        "dataset != 'b' and n_atoms < 9": (name != "b") & (n_atoms < 9),
        "'O' in elements": has_oxygen,
        "density > 5 or dataset in ('a', 'c')": (density > 5) | (name in ("a", "c")),
    }[condition]


def test_a_part_in_any_order_keeps_its_order_and_its_rates(stored):
    mix = lg.mix(stored, rates={"a": 2, "b": 1, "c": 1})
    picked = np.random.default_rng(0).permutation(len(mix))[:100]
    part = mix[picked]
    assert part.ids.tolist() == mix.ids[picked].tolist()
    assert part.batch(slice(None)).id == mix.ids[picked].tolist()
    counts = np.bincount(np.searchsorted(np.cumsum([120, 40, 25]), picked, side="right"), minlength=3)
    rounds = min(counts[0] / 2, counts[1], counts[2])
    batches = list(lg.loader(part, 10, shuffle=True, **PLAIN))
    visited = np.bincount(np.concatenate([batch.dataset for batch in batches]))
    assert visited.tolist() == [int(2 * rounds), int(rounds), int(rounds)]
    for batch in batches:
        same_batches(batch, one_by_one(part, batch))
    assert part[3:7].ids.tolist() == mix.ids[picked[3:7]].tolist()


def test_ids_are_found_in_the_one_member_that_has_them(tmp_path, stored):
    mix = lg.mix({"a": stored["a"][:50], "rest": stored["a"][[119, 60, 70]]})
    assert mix[stored["a"].ids[70]].id == stored["a"].ids[70]
    assert mix[[stored["a"].ids[60], stored["a"].ids[3]]].indices().tolist() == [51, 3]
    assert mix[mix.ids[50]].dataset.item() == 1
    with pytest.raises(UnknownId, match="no graph in the mix of a, rest has the id"):
        mix[stored["a"].ids[80]]
    with pytest.raises(UnknownId, match="no graph in this part of the mix of a, rest has the id"):
        mix[:10][stored["a"].ids[20]]
    twice = lg.mix(stored)
    with pytest.raises(InputError, match=r"is in 'a' and in 'b'; give its position, or choose the member, as in mix."):
        twice[stored["b"].ids[0]]


def test_budgets_buckets_and_weights_are_those_of_one_dataset(stored):
    mix = mixed(stored)
    batches = list(lg.loader(mix, max_atoms=200, max_edges=6000, shuffle=True, bucket="atoms", **PLAIN))
    assert all(batch.num_nodes <= 200 and batch.num_edges <= 6000 for batch in batches)
    assert sum(batch.num_graphs for batch in batches) == sum(mix.visits().values())
    largest = int(mix.columns["n_atoms"].max())
    with pytest.raises(OversizedGraphs) as caught:
        lg.loader(mix, max_atoms=largest - 1)
    assert str(mix.ids[int(mix.columns["n_atoms"].argmax())]) in str(caught.value)
    once = mixed(stored, "once")
    drawn = sum((batch.dataset.tolist() for batch in lg.loader(once, 16, weights="dataset", **PLAIN)), [])
    assert min(np.bincount(drawn)) > 40  # each member equally often
    with pytest.raises(InputError, match="weights cannot be used with shuffle=True"):
        lg.loader(mix, 16, weights="density", shuffle=True)


@pytest.mark.parametrize("kind", ["rates", "all", "replay"])
@pytest.mark.parametrize("by", ["atoms", lambda columns: columns["n_atoms"] ** 1.5], ids=["atoms", "f"])
def test_ranks_share_a_mix_in_balanced_batches(stored, kind, by):
    mix = mixed(stored, kind)
    assert sum(mix.visits().values()) != len(mix)
    options = {"shuffle": True, "balance": by, "world_size": 2, "num_workers": 0}
    ranks = [list(lg.loader(mix, 8, rank=rank, **options)) for rank in range(2)]
    members = torch.cat([batch.dataset for rank in ranks for batch in rank])
    assert members.bincount().tolist() == list(mix.visits().values())
    cost = torch.tensor([[float((batch.ptr.diff() ** (1 if by == "atoms" else 1.5)).sum()) for batch in rank]
                         for rank in ranks])  # fmt: skip
    assert float((cost.max(0).values / cost.mean(0)).mean()) < 1.1


def test_weights_choose_the_graphs_of_a_member_and_rates_the_member(stored):
    mix = lg.mix(stored, rates={"a": 2, "b": 1, "c": 1}, policy="exhaust_all")
    loader = lg.loader(mix, 32, weights="formula", **PLAIN)
    counts = [{}, {}, {}]
    formulas = [dict(zip(member.ids, member.columns["formula"], strict=True)) for member in stored.values()]
    for _ in range(40):
        for batch in loader:
            for graph_id, number in zip(batch.id, batch.dataset.tolist(), strict=True):
                formula = formulas[number][graph_id]
                counts[number][formula] = counts[number].get(formula, 0) + 1
    assert [sum(found.values()) for found in counts] == [40 * visits for visits in mix.visits().values()]
    for found, known in zip(counts, formulas, strict=True):
        assert found.keys() == set(known.values())
        assert stats.chisquare(list(found.values())).pvalue > 1e-3  # every formula equally often


def test_the_memory_for_a_batch_follows_from_the_visits(stored):
    """An epoch may visit more graphs than there are; a batch has as many all the same."""
    sizes = [lg.loader(mixed(stored, kind), 20, **PLAIN).settings.batch_bytes for kind in ("once", "all", "replay")]
    assert sizes == pytest.approx([sizes[0]] * 3, rel=0.2)


def test_budgets_of_what_is_built_are_refused(built):
    with pytest.raises(InputError, match=r"max_edges cannot be used for the mix of a, c, d: its graphs are built"):
        lg.loader(mixed(built), max_edges=100)


def test_windows_shuffle_within_members(stored):
    mix = mixed(stored)
    loader = lg.loader(mix, 16, shuffle=True, window=8, **PLAIN)
    counts = np.bincount(sum((batch.dataset.tolist() for batch in loader), []))
    assert counts.tolist() == list(mix.visits().values())


def test_evaluation_visits_every_graph_once_in_order(stored):
    mix = mixed(stored)
    loader = lg.loader(mix, 16, shuffle=True).evaluation(mix)
    assert [graph_id for batch in loader for graph_id in batch.id] == mix.ids.tolist()


def test_epochs_of_replay_draw_other_graphs_by_the_seed(stored):
    mix = lg.mix(stored, replay={"a": 15})
    loader = lg.loader(mix, 20, shuffle=True, **PLAIN)
    replayed = []
    for _ in range(3):
        pairs = [pair for ids, numbers, _ in stream(loader) for pair in zip(numbers, ids, strict=True)]
        replayed.append([graph_id for number, graph_id in pairs if number == 0])
        assert len(set(replayed[-1])) == 15
        assert sum(number == 1 for number, _ in pairs) == 40
    assert len({frozenset(ids) for ids in replayed}) == 3
    other = lg.loader(mix, 20, shuffle=True, seed=1, **PLAIN)
    assert {graph_id for ids, numbers, _ in stream(other) for n, graph_id in zip(numbers, ids) if n == 0} != set(
        replayed[0]
    )


# ---- what is refused ----


def test_a_changed_member_is_refused_on_resume(folder, stored, tmp_path):
    mix = mixed(stored)
    loader = lg.loader(mix, 16, shuffle=True, **PLAIN)
    state = json.loads(json.dumps(loader.state_dict()))
    loader.load_state_dict(state)
    lg.write("prototypes:40?seed=77", tmp_path / "b.lg", graph="comformer", workers=1, progress=False)
    changed = mixed({**stored, "b": lg.LazyGraphDataset(tmp_path / "b.lg", target="density")})
    with pytest.raises(InputError, match="content_id of 'b' is") as caught:
        lg.loader(changed, 16, shuffle=True).load_state_dict(state)
    assert "'a'" not in str(caught.value)
    assert "'c'" not in str(caught.value)
    with pytest.raises(InputError, match="rows of 'c' is"):
        lg.loader(mixed({**stored, "c": stored["c"][::-1]}), 16, shuffle=True).load_state_dict(state)
    other = {**state, "sampling": {**state["sampling"], "recipe of 'b'": "another"}}
    with pytest.raises(InputError, match="recipe of 'b' is 'another' there"):
        loader.load_state_dict(other)
    with pytest.raises(InputError, match="order is"):
        lg.loader(mixed(stored, "all"), 16, shuffle=True).load_state_dict(state)
    renamed = dict(zip("xbc", stored.values(), strict=True))
    with pytest.raises(InputError, match="members is"):
        lg.loader(mixed(renamed), 16, shuffle=True).load_state_dict(state)
    with pytest.raises(InputError, match="rows is None there"):
        lg.loader(mix[:170], 16, shuffle=True).load_state_dict(state)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: [m["a"]], InputError, "found a list; give a mapping from names to datasets"),
        (lambda m: {}, InputError, "a mix needs members; give a mapping"),
        (lambda m: {0: m["a"]}, InputError, "the name of a member is 0; give every member a text"),
        (lambda m: {"m": lg.mix(m)}, InputError, "the member 'm' is a mix, and members must be datasets"),
        (lambda m: {"m": m["a"].path}, InputError, "found a str; required: a LazyGraphDataset"),
        (lambda m: m | {"d": lg.LazyGraphDataset(m["a"].path, graph="cgcnn")}, RecipeMismatch, "need one recipe: 'd'"),
        (lambda m: m | {"d": lg.LazyGraphDataset(m["a"].path, view="comformer")}, InputError, "'d' has the view lazyg"),
        (lambda m: m | {"d": lg.LazyGraphDataset(m["a"].path, target_dtype="float64")}, InputError, "target_dtype="),
    ],
)
def test_members_that_cannot_be_in_one_batch_are_refused(stored, make, error, message):
    with pytest.raises(error, match=message):
        lg.mix(make(stored))


def test_another_recipe_is_refused_with_what_to_do(folder, stored):
    with pytest.raises(RecipeMismatch) as caught:
        lg.mix({**stored, "d": lg.LazyGraphDataset(folder / "d.lg")})
    assert "'d' differs from 'a': preset: 'cgcnn' here, 'comformer' there" in str(caught.value)
    assert "LazyGraphDataset(..., graph=lazygraph.graph('comformer', cutoff=4.0" in str(caught.value)
    assert "builds its graphs when they are read" in str(caught.value)


def test_damage_is_told_with_member_shard_row_and_id(folder, tmp_path):
    shutil.copytree(folder / "b.lg", tmp_path / "b.lg")
    broken = lg.LazyGraphDataset(tmp_path / "b.lg", target="density")
    (shard,) = (tmp_path / "b.lg").rglob("*.lmdb")
    shard.chmod(0o600)
    data = bytearray(shard.read_bytes())
    offset, length, _ = broken.store.column("record")[7].item()
    data[offset + length // 2] ^= 1
    shard.write_bytes(data)
    mix = lg.mix({"a": opened(folder, "a")["a"], "b": broken})
    for read in (lambda: mix.batch([3, 127]), lambda: mix[127]):
        with pytest.raises(CorruptDataset, match=f"b.lg.*row 7, id '{broken.ids[7]}'"):
            read()


# ---- labels ----


def crystals(n, **labels):
    """Crystals with labels, of which some are functions of the number."""
    return [
        (
            f"{n}-{k}",
            lg.Crystal(np.eye(3) * (3 + k / 10), [[0, 0, 0], [0.5, 0.5, 0.5]], [26, 8 + k % 3]),
            {name: value(k) for name, value in labels.items()},
        )
        for k in range(n)
    ]


def written(path, n, units=None, per=None, **labels):
    lg.write(
        crystals(n, **labels),
        path,
        graph=lg.graph("radius", cutoff=3.3),
        units=units or {},
        per=per or {},
        workers=1,
        progress=False,
    )
    return path


def test_labels_are_converted_to_the_unit_of_the_first_and_missing_ones_are_nan(tmp_path):
    a = written(tmp_path / "a.lg", 5, {"energy": "eV"}, energy=lambda k: -1.5 * k, gap=lambda k: k / 2)
    b = written(
        tmp_path / "b.lg", 4, {"energy": "meV"}, energy=lambda k: 1000.0 * k, kind=lambda k: "bulk" if k else "x"
    )
    c = written(tmp_path / "c.lg", 3, other=lambda k: k)
    mix = lg.mix(
        {
            "a": lg.LazyGraphDataset(a, target=["energy", "gap"]),
            "b": lg.LazyGraphDataset(b, target="energy"),
            "c": lg.LazyGraphDataset(c),
        }
    )
    assert mix.target == ("energy", "gap")
    assert (mix.unit("energy"), mix.unit("gap")) == ("eV", None)
    energy = [0, -1.5, -3, -4.5, -6, 0, 1, 2, 3, np.nan, np.nan, np.nan]
    gap = [0, 0.5, 1, 1.5, 2] + [np.nan] * 7
    np.testing.assert_array_equal(mix.columns["energy"], energy)
    np.testing.assert_array_equal(mix.columns["gap"], gap)
    np.testing.assert_array_equal(mix.columns["other"], [np.nan] * 9 + [0, 1, 2])
    assert mix.columns["kind"].tolist() == [""] * 5 + ["x", "bulk", "bulk", "bulk"] + [""] * 3
    wanted = np.array([energy, gap], np.float32).T
    order = np.random.default_rng(0).permutation(12)
    np.testing.assert_array_equal(mix.batch(order).y.numpy(), wanted[order])
    np.testing.assert_array_equal(mix[7].y.numpy(), wanted[7:8])
    assert mix.where("isnan(energy)").ids.tolist() == ["3-0", "3-1", "3-2"]
    assert mix.where("energy > 1.5").ids.tolist() == ["4-2", "4-3"]
    assert mix.where("kind == 'bulk'").ids.tolist() == ["4-1", "4-2", "4-3"]
    assert lg.mix(mix.members, target="gap").batch([0, 11]).y.tolist()[0] == [0.0]
    state = lg.loader(mix, 4).state_dict()["sampling"]
    assert state["target"] == "energy (eV), gap (no unit)"


@pytest.mark.parametrize(
    ("units", "per", "message"),
    [
        (({"energy": "eV"}, {"energy": "eV/atom"}), None, "in eV in 'a' and in eV/atom in 'b', and one is per atom"),
        (
            ({"energy": "eV"}, {"energy": "GPa"}),
            None,
            "and they measure different quantities; use units that can",
        ),
        (({"energy": "eV"}, {"energy": "eV/fu"}), None, "and lazygraph does not know the unit 'eV/fu'"),
        (
            ({"energy": "eV"}, {}),
            None,
            "without a unit in 'b'; give it its unit, such as: lazygraph labels PATH --unit",
        ),
        (
            ({"energy": "eV"},) * 2,
            ({"energy": "cell"}, {"energy": "atom"}),
            "values per cell in 'a' and values per atom",
        ),
    ],
)
def test_labels_that_mean_something_else_are_refused(tmp_path, units, per, message):
    members = {}
    for k, name in enumerate("ab"):
        path = written(tmp_path / f"{name}.lg", 3, units[k], per and per[k], energy=lambda k: k / 3, gap=lambda k: k)
        members[name] = lg.LazyGraphDataset(path)
    with pytest.raises(LabelError, match=message):
        lg.mix(members, target="energy")
    mix = lg.mix(members, target="gap")  # what is not asked for disturbs nobody
    assert len(list(lg.loader(mix, 2, **PLAIN))) == 3
    with pytest.raises(LabelError, match=message):
        mix.columns["energy"]
    with pytest.raises(LabelError, match=message):
        mix.where("energy > 0")


def test_a_label_that_does_not_say_per_what_it_is_given_is_taken_as_the_others(tmp_path):
    members = {
        name: lg.LazyGraphDataset(written(tmp_path / f"{name}.lg", 3, {"energy": "eV"}, per, energy=lambda k: k / 3))
        for name, per in (("a", {"energy": "cell"}), ("b", {}))
    }
    assert lg.mix(members, target="energy").batch([1, 4]).y.ravel().tolist() == pytest.approx([1 / 3, 1 / 3])


def test_shapes_kinds_and_unknown_labels_are_refused(tmp_path):
    a = lg.LazyGraphDataset(written(tmp_path / "a.lg", 3, vec=lambda k: np.array([k, 1.0, 0.0]), t=lambda k: "one"))
    b = lg.LazyGraphDataset(written(tmp_path / "b.lg", 3, vec=lambda k: k / 2, t=lambda k: k))
    with pytest.raises(LabelError, match=r"the label 'vec' has the shape \(3,\) in 'a' and the shape \(\) in 'b'"):
        lg.mix({"a": a, "b": b}, target="vec")
    with pytest.raises(LabelError, match="the label 't' has texts in 'a' and numbers in 'b'"):
        lg.mix({"a": a, "b": b}, target="t")
    with pytest.raises(LabelError, match="the mix of a, b: unknown label 'y'; did you mean|the mix of a, b: unknown l"):
        lg.mix({"a": a, "b": b}, target="y")


def test_labels_of_atoms_are_converted_and_missing_ones_are_nan(tmp_path):
    force = np.arange(6.0).reshape(2, 3)
    a = written(tmp_path / "a.lg", 3, {"forces": "eV/A"}, forces=lambda k: force + k, energy=lambda k: k)
    b = written(
        tmp_path / "b.lg", 2, {"forces": "meV/A"}, forces=lambda k: 1e3 * (force - k), magmoms=lambda k: force[:, 0]
    )
    c = written(tmp_path / "c.lg", 2, energy=lambda k: k)
    mix = lg.mix({name: lg.LazyGraphDataset(path) for name, path in zip("abc", (a, b, c), strict=True)})
    batch = mix.batch([3, 0, 5, 4, 2])
    np.testing.assert_allclose(batch.forces[:2].numpy(), force, rtol=1e-6)
    np.testing.assert_allclose(batch.forces[2:4].numpy(), force)
    assert batch.forces[4:6].isnan().all()
    np.testing.assert_allclose(batch.forces[6:8].numpy(), force - 1, rtol=1e-6)
    assert batch.magmoms.isnan().tolist() == [False] * 2 + [True] * 4 + [False] * 2 + [True] * 2
    same_batches(batch, Batch.from_data_list([mix[k] for k in (3, 0, 5, 4, 2)]))
    loader = lg.loader(mix, 3, shuffle=True, num_workers=1)
    assert sorted(sum((batch.id for batch in loader), [])) == sorted(mix.ids)
    loader.close()
    d = written(tmp_path / "d.lg", 2, {"forces": "GPa"}, forces=lambda k: force)
    with pytest.raises(LabelError, match="the label 'forces' is in eV/A in 'a' and in GPa in 'd'"):
        lg.mix({"a": lg.LazyGraphDataset(a), "d": lg.LazyGraphDataset(d)})


def test_names_that_are_taken_are_refused(tmp_path):
    cell = np.eye(3) * 4
    inputs = [
        (f"{n}", lg.Crystal(cell, np.arange(3 * n).reshape(n, 3) / 9, [26] * n), {"dataset": np.ones(n)})
        for n in (1, 2)
    ]
    a = tmp_path / "a.lg"
    lg.write(inputs, a, graph="cgcnn", workers=1, progress=False)
    with pytest.raises(LabelError, match="a label of atoms is called 'dataset'"):
        lg.mix({"a": lg.LazyGraphDataset(a)})
    b = written(tmp_path / "b.lg", 2, dataset=lambda k: "x")
    mix = lg.mix({"b": lg.LazyGraphDataset(b)})
    with pytest.raises(InputError, match="'b' has a column of this name"):
        mix.where("dataset == 'b'")
    assert mix.batch([0, 1]).dataset.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_warning_says_that_float32_is_too_coarse(tmp_path, dtype):
    a = written(tmp_path / "a.lg", 9, energy=lambda k: -563245.0 + k / 1000)
    dataset = lg.LazyGraphDataset(a, target_dtype=dtype)
    if dtype == "float32":
        with pytest.warns(UserWarning, match="y is float32, which may change the label 'energy'"):
            lg.mix({"a": dataset}, target="energy")
    else:
        assert lg.mix({"a": dataset}, target="energy").batch([1]).y.item() == -563245.0 + 1 / 1000


# ---- transforms ----


class Noise:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, data):
        data.pos = data.pos + self.scale * torch.randn_like(data.pos)
        return data


def other_object(data):
    return Data(pos=data.pos + 1, id=data.id, y=data.y)


@pytest.mark.slow
def test_every_member_keeps_its_transform_with_the_same_noise_in_every_way(folder):
    members = opened(folder, "b", transform=Noise(0.1)) | opened(folder, "c")
    mix = lg.mix(members, rates={"b": 1, "c": 1})
    plain = [batch.pos for batch in lg.loader(mix, 8, shuffle=True, **PLAIN)]
    for workers in (1, 2):
        loader = lg.loader(mix, 8, shuffle=True, num_workers=workers)
        assert all(torch.equal(a, b.pos) for a, b in zip(plain, loader, strict=True))
        loader.close()
    loader = lg.loader(mix, 8, shuffle=True, **PLAIN)
    own = DataLoader(mix, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn)
    assert all(torch.equal(a, b.pos) for a, b in zip(plain, own, strict=True))
    for batch in lg.loader(mix, 8, shuffle=True, **PLAIN):
        for graph in batch.to_data_list():
            moved = not torch.equal(
                graph.pos, lg.LazyGraphDataset(members["bc"[graph.dataset.item()]].path)[graph.id].pos
            )
            assert moved == (graph.dataset.item() == 0)


def test_a_transform_that_makes_another_object_does_not_lose_the_member(folder):
    mix = lg.mix(opened(folder, "b", transform=other_object) | opened(folder, "c", transform=other_object))
    batch = next(iter(lg.loader(mix, 60, shuffle=True, **PLAIN)))
    assert set(batch.dataset.tolist()) == {0, 1}
    assert mix[45].dataset.tolist() == [1]


# ---- ready-made graphs ----


def ready_made(path, n, **more):
    with lg.GraphWriter(path) as writer:
        for k in range(2, n + 2):
            ring = torch.stack([torch.arange(k), torch.arange(k).roll(-1)])
            writer.add(
                Data(edge_index=ring, x=torch.full((k, 2), float(k)), note=f"ring {k}", **more), id=f"{path.stem}-{k}"
            )
    return lg.LazyGraphDataset(path)


def test_ready_made_graphs_are_mixed_where_they_have_the_same_fields(tmp_path):
    a, b = ready_made(tmp_path / "a.lg", 4), ready_made(tmp_path / "b.lg", 3)
    mix = lg.mix({"a": a, "b": b}, rates={"a": 1, "b": 1})
    for batch in lg.loader(mix, 4, shuffle=True, **PLAIN):
        same_batches(batch, one_by_one(mix, batch))
    other = ready_made(tmp_path / "c.lg", 3, w=torch.ones(1))
    with pytest.raises(RecipeMismatch, match="'c' has the field 'w', and 'a' does not"):
        lg.mix({"a": a, "c": other})
    taken = ready_made(tmp_path / "d.lg", 3, dataset=torch.ones(1))
    with pytest.raises(LabelError, match="the graphs have an array 'dataset'"):
        lg.mix({"d": taken})


def test_ready_made_graphs_and_crystals_are_not_mixed(tmp_path, stored):
    with pytest.raises(RecipeMismatch, match="'a' holds graphs of a recipe, and 'r' holds ready-made graphs"):
        lg.mix({"a": stored["a"], "r": ready_made(tmp_path / "r.lg", 2)})


# ---- torch's own ----


def test_a_concatenation_of_torch_is_a_mix_that_visits_every_graph_once(stored):
    a, b, c = stored.values()
    concatenated = ConcatDataset([a, Subset(b, [5, 3]), ConcatDataset([c])])
    loader = lg.loader(concatenated, 16, **PLAIN)
    assert isinstance(loader.dataset, lg.Mix)
    ids = [graph_id for batch in loader for graph_id in batch.id]
    assert ids == [concatenated[k].id for k in range(len(concatenated))]
    numbers = torch.cat([batch.dataset for batch in loader])
    assert numbers.bincount().tolist() == [120, 2, 25]
    shuffled = lg.loader(concatenated, 16, shuffle=True, **PLAIN)
    assert sorted(graph_id for batch in shuffled for graph_id in batch.id) == sorted(ids)


def test_a_subset_of_a_mix_and_of_a_concatenation(stored):
    mix = lg.mix(stored)
    for whole in (mix, ConcatDataset(list(stored.values()))):
        part, _ = random_split(whole, [50, len(whole) - 50], torch.Generator().manual_seed(0))
        ids = [graph_id for batch in lg.loader(part, 16, **PLAIN) for graph_id in batch.id]
        assert ids == mix.ids[np.array(part.indices)].tolist()


def test_a_subset_of_torch_is_a_member(stored):
    part, rest = random_split(stored["a"], [20, 100])
    mix = lg.mix({"part": part, "rest": rest}, rates={"part": 1, "rest": 2})
    assert mix.visits() == {"part": 20, "rest": 40}


# ---- augmentation ----


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    for name, source in (("a", "prototypes:40?seed=1"), ("b", "prototypes:25?seed=2")):
        lg.write(source, folder / f"{name}.lg", graph="none", workers=1, progress=False)
    return folder


def rattled(folder, name, sigma):
    augment = [lg.Rattle(sigma)] if sigma else []
    return lg.LazyGraphDataset(folder / f"{name}.lg", graph="mace", augment=augment, target="density")


@pytest.mark.parametrize("way", [{"threads": 0}, {"threads": 2}, {"num_workers": 1}], ids=str)
def test_augmented_members_draw_the_same_however_they_are_read(alone, way):
    """The seeds of the crystals are those of their places in the epoch, as for one dataset."""
    mixed = lg.mix({"a": rattled(alone, "a", 0.05), "b": rattled(alone, "b", 0)})
    plain = lg.loader(mixed, 8, shuffle=True, seed=5, num_workers=0, threads=0)
    loader = lg.loader(mixed, 8, shuffle=True, seed=5, **{"num_workers": 0, **way})
    for _ in range(2):
        for mine, theirs in zip(loader, plain, strict=True):
            same_batches(mine, theirs)
    assert loader.augmentation == plain.augmentation
    assert loader.augmentation.crystals == 2 * 40
    loader.close()


def test_of_augmented_members_only_their_own_crystals_move(alone):
    stored = {name: rattled(alone, name, 0) for name in "ab"}
    mixed = lg.mix({"a": rattled(alone, "a", 0.05), "b": stored["b"]})
    batch = next(iter(lg.loader(mixed, 65, seed=1, threads=0)))
    for data in batch.to_data_list():
        name = mixed.names[int(data.dataset)]
        still = stored[name][data.id]
        assert torch.equal(data.pos, still.pos) == (name == "b")
        assert torch.equal(data.y, still.y)
        if name == "a":
            assert "displacement" in data
        else:
            assert "displacement" not in data or data.displacement.isnan().all()
    assert mixed[3].num_nodes == stored["a"][3].num_nodes
    assert torch.equal(mixed.unaugmented()[3].pos, stored["a"][3].pos)
    assert len(mixed.__getitems__([0, 50])) == 2


def test_an_augmented_member_changes_its_own_targets_and_its_size(alone):
    with pytest.raises(LabelError, match="is not a target of the augmented member 'a'"):
        lg.mix({"a": rattled(alone, "a", 0.05), "b": rattled(alone, "b", 0)}, target=["volume_per_atom"])
    large = lg.LazyGraphDataset(alone / "a.lg", graph="mace", augment=[lg.Supercell((2, 1, 1))])
    with pytest.raises(InputError, match="augmented by a supercell"):
        lg.mix({"a": large, "b": lg.LazyGraphDataset(alone / "b.lg", graph="mace")})


def test_a_mix_is_not_padded(alone):
    mixed = lg.mix({"a": rattled(alone, "a", 0), "b": rattled(alone, "b", 0)})
    with pytest.raises(InputError, match="cannot be padded: it is a mix; use one dataset"):
        lg.loader(mixed, 8, pad="buckets")
