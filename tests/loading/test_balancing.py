"""``balance``: the batches of a step cost the same on every rank; every graph still comes once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.io import iread
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.errors import InputError
from lazygraph.loading import balancing
from lazygraph.loading.balancing import Balanced, balance, imbalance
from lazygraph.loading.batch_table import totals
from lazygraph.loading.orders import Sequential, Shuffled, Weighted, Windowed
from lazygraph.loading.sampling import Sampling

PLAIN = {"num_workers": 0, "threads": 0}


@st.composite
def cases(draw):
    """Graphs with sizes, costs and limits that each of them keeps."""
    ranks, n = draw(st.integers(2, 6)), draw(st.integers(0, 80))
    names = draw(st.sets(st.sampled_from(["graphs", "atoms", "edges"]), min_size=1))
    limits = {name: draw(st.integers(1, 12) if name == "graphs" else st.integers(5, 60)) for name in sorted(names)}
    sizes = {
        name: np.array(draw(st.lists(st.integers(0, limit), min_size=n, max_size=n)), np.int64)
        for name, limit in limits.items()
        if name != "graphs"
    }
    costs = np.array(draw(st.lists(st.integers(0, 30), min_size=n, max_size=n)), np.float64)
    return costs, sizes, limits, ranks, draw(st.booleans())


def keys_of(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2**63, n).astype(np.uint64)


@settings(max_examples=300)
@given(cases(), st.sampled_from([4096, 3]))
def test_every_graph_comes_once_and_every_limit_holds(case, groups):
    costs, sizes, limits, ranks, drop_last = case
    n = len(costs)
    made, refused = None, ""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(balancing, "GROUPS", groups)  # few, so that parts are filled beside each other
            made = balance(costs, sizes, limits, ranks, keys_of(n), drop_last=drop_last)
    except InputError as error:
        refused = str(error)
    if made is None:
        assert not drop_last or n < ranks
        assert n % ranks
        assert ("cannot fill" if n < ranks else "are left over and fit into no batch") in refused
        return
    assert len(made.counts) % ranks == 0
    assert made.counts.sum() == len(made.positions)
    assert (made.counts > 0).all()
    assert len(set(made.positions.tolist())) == len(made.positions)
    if not drop_last:
        assert len(made.positions) == n
    batches = np.split(made.positions, made.counts.cumsum()[:-1]) if len(made.counts) else []
    for name, limit in limits.items():
        size = np.ones(n) if name == "graphs" else sizes[name]
        assert all(size[batch].sum() <= limit for batch in batches)
    for step in range(0, len(batches), ranks):
        counts = made.counts[step : step + ranks]
        assert counts.max() - counts.min() <= 1


@given(cases())
def test_only_a_last_step_that_is_full_is_kept_with_drop_last(case):
    costs, sizes, limits, ranks, _ = case
    if len(costs) < ranks:
        return
    made = balance(costs, sizes, limits, ranks, keys_of(len(costs)), drop_last=True)
    if set(limits) == {"graphs"}:
        assert set(made.counts.tolist()) <= {limits["graphs"]}
        assert len(made.counts) == len(costs) // ranks // limits["graphs"] * ranks


def test_a_graph_fits_nowhere_only_if_every_batch_is_full():
    costs = np.arange(9.0)
    with pytest.raises(
        InputError, match="9 graphs cannot be shared evenly by 4 ranks: 1 are left over and fit into no"
    ):
        balance(costs, {}, {"graphs": 1}, 4, keys_of(9))
    assert sorted(balance(costs, {}, {"graphs": 2}, 4, keys_of(9)).counts.tolist()) == [1, 1, 1, 1, 1, 1, 1, 2]


@pytest.fixture(scope="module")
def mptrj(data):
    """Sizes of 20,000 graphs that are distributed like those of MPtrj: atoms, and edges within 6 A by the density."""
    structures = list(iread(data / "extxyz" / "mptrj-random-1k.xyz", ":"))
    atoms = np.array([len(structure) for structure in structures])
    density = atoms / np.array([structure.get_volume() for structure in structures])
    edges = np.round(atoms * density * 4 / 3 * np.pi * 6**3).astype(np.int64)
    chosen = np.random.default_rng(0).choice(len(atoms), 20_000)
    return {"atoms": atoms[chosen], "edges": edges[chosen]}


@pytest.mark.parametrize(
    ("limits", "by", "before"),
    [
        ({"graphs": 16}, "atoms", 1.5),
        ({"graphs": 32}, "atoms", 1.5),
        ({"graphs": 16}, "edges", 1.5),
        ({"graphs": 64}, "edges", 1.3),
        ({"atoms": 1000}, "atoms", 1.1),
        ({"atoms": 2000}, "edges", 1.1),
        ({"atoms": 2000, "edges": 150_000}, "edges", 1.1),
    ],
)
def test_eight_ranks_of_mptrj_wait_for_nobody(mptrj, limits, by, before):
    cost = mptrj[by].astype(np.float64)
    options = {"order": Shuffled(20_000), "limits": limits, "sizes": mptrj, "world_size": 8}
    for epoch in range(3):
        plain = Sampling(**options).plan(epoch)
        assert imbalance(cost, Balanced(np.concatenate(list(plain)), totals(plain, {})["graphs"]), 8).max() > before
        made = Sampling(**options, cost=cost).plan(epoch)
        found = imbalance(cost, Balanced(np.concatenate(list(made)), totals(made, {})["graphs"]), 8)
        assert found[:-1].max() <= 1.05
        assert found[-1] <= 1.2  # of which few graphs may be left
        assert len(found) <= 1.15 * len(plain) / 8 + 1


@pytest.mark.parametrize("order", [Sequential(500), Shuffled(500), Windowed(500, 60, 20), Weighted(np.arange(1, 501))])
def test_ranks_share_an_epoch_and_another_epoch_differs(order):
    atoms = np.random.default_rng(1).integers(1, 100, 500)
    options = {"order": order, "limits": {"graphs": 10}, "sizes": {"atoms": atoms}, "cost": atoms.astype(float)}
    ranks = [Sampling(**options, world_size=4, rank=rank).batches(3) for rank in range(4)]
    assert len({len(rank) for rank in ranks}) == 1
    together = np.concatenate([batch for rank in ranks for batch in rank])
    assert sorted(together.tolist()) == sorted(order.draw(0, 3).part(0, 500).tolist())
    places = [extent.place for rank in ranks for extent in rank.extents()]
    assert len(set(places)) == len(places)
    again = Sampling(**options, world_size=4).batches(4)
    assert [b.tolist() for b in again] != [b.tolist() for b in ranks[0]]


def test_graphs_of_one_step_change_from_epoch_to_epoch():
    """A small dataset must not have the same groups in every epoch."""
    cost = np.arange(40.0)
    sampling = Sampling(order=Shuffled(40), limits={"graphs": 1}, cost=cost, world_size=2)
    partners = [
        {tuple(sorted((int(a[0]), int(b[0])))) for a, b in zip(plan[::2], plan[1::2], strict=True)}
        for plan in (list(sampling.plan(epoch)) for epoch in range(2))
    ]
    assert len(partners[0] & partners[1]) < 10


@pytest.fixture
def ds(prototypes):
    return lg.LazyGraphDataset(prototypes)


@pytest.mark.parametrize(
    "by", ["atoms", "edges", lambda columns: columns["n_atoms"] ** 1.5], ids=["atoms", "edges", "f"]
)
def test_loaders_of_all_ranks_read_balanced_batches(ds, by):
    ranks = [
        lg.loader(ds, 8, shuffle=True, balance=by, rank=rank, world_size=2, **PLAIN) for rank in range(2)
    ]  # fmt: skip
    batches = [list(loader) for loader in ranks]
    assert len(batches[0]) == len(batches[1]) == len(ranks[0])
    assert sorted(name for rank in batches for batch in rank for name in batch.id) == sorted(ds.ids)

    def cost(batch):
        n = torch.bincount(batch.batch).numpy()
        return float(batch.num_edges if by == "edges" else n.sum() if by == "atoms" else (n**1.5).sum())

    ratios = [max(map(cost, pair)) / (sum(map(cost, pair)) / 2) for pair in zip(*batches, strict=True)]
    assert sum(ratios) / len(ratios) < 1.03  # one prototype is larger than all others


def test_a_balanced_epoch_is_resumed(ds):
    options = {"shuffle": True, "balance": "atoms", "rank": 1, "world_size": 3, **PLAIN}
    whole = [batch.id for batch in lg.loader(ds, 8, **options)]
    loader = lg.loader(ds, 8, **options)
    iterator = iter(loader)
    begun = [next(iterator).id for _ in range(4)]
    resumed = lg.loader(ds, 8, **options)
    resumed.load_state_dict(loader.state_dict())
    assert begun + [batch.id for batch in resumed] == whole
    with pytest.raises(InputError, match="balance is 'xxh3 .*' there and None here"):
        lg.loader(ds, 8, **options | {"balance": None}).load_state_dict(loader.state_dict())


def test_one_rank_reads_as_without(ds):
    one, other = (lg.loader(ds, 8, shuffle=True, balance=by, **PLAIN) for by in (None, "atoms"))
    assert [batch.id for batch in one] == [batch.id for batch in other]


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("nodes", "unknown balance 'nodes'; known: atoms, edges, triplets; or a function of columns"),
        ("triplets", "balance cannot be used for .*: the dataset has no column 'n_triplets'"),
        (
            lambda columns: 3,
            r"the function balance returned .* of shape \(\); required: one number for each of the 3",
        ),
        (lambda columns: columns["id"], "the function balance returned"),
        (lambda columns: -columns["n_atoms"].astype(float), "300 of 300 costs cannot be used, the first at position 0"),
    ],
)
def test_impossible_costs_are_refused(ds, by, message):
    with pytest.raises(InputError, match=message):
        lg.loader(ds, 8, balance=by)


def test_a_bucket_and_balance_exclude_each_other(ds):
    with pytest.raises(InputError, match="bucket='atoms' cannot be used with balance, .*; give only one"):
        lg.loader(ds, 8, balance="atoms", bucket="atoms")


def test_too_few_graphs_and_nothing_left_are_refused(ds):
    with pytest.raises(InputError, match="5 graphs cannot fill 8 batches, one on each of 8 ranks; use at most 5 ranks"):
        lg.loader(ds[:5], 8, balance="atoms", rank=0, world_size=8)
    with pytest.raises(InputError, match="drop_last=True leaves no batch"):
        lg.loader(ds[:20], 8, balance="atoms", drop_last=True, rank=0, world_size=4)
