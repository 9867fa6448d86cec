"""Sampling: all ranks together visit every graph once, in equally many batches, and an epoch can be gone on with."""

import json
import re
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler as TorchBatchSampler
from torch.utils.data import DataLoader, SequentialSampler
from whole import positions_of

import lazygraph as lg
from lazygraph.errors import InputError
from lazygraph.loading.mixing_order import MemberOrder, Mixed
from lazygraph.loading.orders import BATCHES, Sequential, Shuffled, Weighted, Windowed, digest, random_keys
from lazygraph.loading.packing import OversizedGraphs, pack
from lazygraph.loading.sampling import Sampling

ORDERS = {
    "sequential": Sequential,
    "shuffled": Shuffled,
    "windowed": lambda n: Windowed(n, window=12, block=4),
    "weighted": lambda n: Weighted(np.arange(1, n + 1)),
    "mixed": lambda n: Mixed(
        [MemberOrder(Shuffled(n // 3), n // 4), MemberOrder(Shuffled(n - n // 3), n + n // 2)],
        [range(n // 3), np.arange(n // 3, n)[::-1]],
        shuffle=True,
    ),
}


@st.composite
def samplings(draw, orders=("sequential", "shuffled", "windowed"), **fixed):
    """Any sampling of up to 60 graphs, as rank 0."""
    n = draw(st.integers(0, 60))
    limits = {name: draw(st.integers(3, 25)) for name in draw(st.sets(st.sampled_from(["graphs", "atoms", "edges"])))}
    if not limits:
        limits = {"graphs": draw(st.integers(2, 9))}
    sizes = {
        name: np.array(draw(st.lists(st.integers(0, limits.get(name, 9)), min_size=n, max_size=n)), dtype=np.int32)
        for name in ("atoms", "edges")
    }
    options = {
        "order": ORDERS[draw(st.sampled_from(orders))](n),
        "bucket": draw(st.sampled_from([None, "atoms", "edges"])),
        "seed": draw(st.integers(0, 3)),
        "drop_last": draw(st.booleans()),
        "world_size": draw(st.integers(1, 5)),
    }
    return Sampling(limits=limits, sizes=sizes, **options | fixed)


def with_(sampling, **changes):
    fields = {name: getattr(sampling, name) for name in Sampling.__dataclass_fields__}
    return Sampling(**fields | changes)


def listed(batches):
    return [batch.tolist() for batch in batches]


def plan_of(sampling, epoch):
    """The batches of one epoch, where there are graphs enough for all ranks."""
    try:
        return listed(sampling.plan(epoch))
    except InputError as error:
        assume("on each of" not in str(error) and "leaves no batch" not in str(error))
        raise


def of_ranks(sampling, epoch):
    plan_of(sampling, epoch)
    return [listed(with_(sampling, rank=rank).batches(epoch)) for rank in range(sampling.world_size)]


# ---- the same plan, for the whole order at once ----


def plain_plan(sampling, epoch):
    """(positions, extents): what ``Sampling`` states, without sections."""
    n = sampling.order.n
    positions, pool = sampling.order.draw(sampling.seed, epoch).part(0, n), None
    if sampling.bucket is not None:
        pool, size = sampling._pool(), sampling.sizes[sampling.bucket]
        parts = np.split(positions, range(pool, n, pool))
        positions = np.concatenate([part[np.argsort(size[part], kind="stable")] for part in parts])
    sizes = {**sampling.sizes, "graphs": np.ones(sampling.order.graphs, int)}
    used = {name: sizes[name][positions] for name in sampling.limits}
    ptr = pack(used, sampling.limits)
    batches = np.stack((ptr[:-1], np.diff(ptr)), axis=1)
    if sampling.drop_last and n and all(used[k][slice(*ptr[-2:])].sum() < sampling.limits[k] for k in used):
        batches = batches[:-1]
    if pool is not None:
        keys = random_keys(len(batches), sampling.seed, epoch, BATCHES)
        batches = batches[np.lexsort((keys, batches[:, 0] // pool))]
    batches = batches.tolist()
    if sampling.drop_last:
        del batches[len(batches) - len(batches) % sampling.world_size :]
    while len(batches) % sampling.world_size:
        k = max(range(len(batches)), key=lambda k: (batches[k][1], k))
        start, count = batches[k]
        half = (count + 1) // 2
        batches[k : k + 1] = [[start, half], [start + half, count - half]]
    places = np.cumsum([0, *(count for _, count in batches)])[:-1].tolist()
    return positions, [(*batch, place) for batch, place in zip(batches, places, strict=True)]


def same_plans(sampling, epoch):
    positions, extents = plain_plan(sampling, epoch)
    plan = sampling.plan(epoch)
    assert list(plan.extents()) == extents
    assert listed(plan) == [positions[start : start + count].tolist() for start, count, _ in extents]
    assert plan.graphs == sum(count for _, count, _ in extents)
    last = with_(sampling, rank=sampling.world_size - 1).batches(epoch)
    assert list(last.extents()) == extents[sampling.world_size - 1 :: sampling.world_size]
    rest = len(last) // 2
    assert last.skip(rest).graphs == sum(extent.graphs for extent in list(last.extents())[rest:])


@given(samplings(orders=tuple(ORDERS)), st.integers(0, 9), st.integers(1, 70), st.integers(1, 200))
def test_a_plan_in_sections_is_the_plan_of_the_whole_order(sampling, epoch, section, part):
    plan_of(sampling, epoch)
    with patch.multiple("lazygraph.loading.sampling", SECTION=section, PART=part):
        same_plans(sampling, epoch)


@pytest.mark.parametrize("world_size", [1, 7, 300, 1500])
@pytest.mark.parametrize("bucket", [None, "atoms"])
@pytest.mark.parametrize("limits", [{"graphs": 2}, {"graphs": 3, "atoms": 30}], ids=["graphs", "atoms"])
@pytest.mark.parametrize("section", [64, 4096])
def test_many_ranks_share_many_sections(world_size, bucket, limits, section, monkeypatch):
    monkeypatch.setattr("lazygraph.loading.sampling.SECTION", section)
    sizes = {"atoms": np.arange(20_000) * 7919 % 25 + 1}
    options = {"limits": limits, "sizes": sizes, "bucket": bucket, "world_size": world_size}
    same_plans(Sampling(order=Windowed(20_000, 3000, 100), **options), 2)


def test_several_threads_iterate_over_the_same_batches(monkeypatch):
    monkeypatch.setattr("lazygraph.loading.sampling.SECTION", 128)
    sizes = {"atoms": np.arange(5000) % 23 + 1}
    batches = Sampling(order=Windowed(5000, 500, 50), limits={"atoms": 60}, sizes=sizes, bucket="atoms").batches(1)
    whole = listed(batches)
    with ThreadPoolExecutor(4) as pool:
        assert all(found == whole for found in pool.map(listed, [batches] * 12))


# ---- what all ranks together visit ----


@pytest.mark.slow
@given(samplings(drop_last=False), st.integers(0, 9))
def test_every_graph_comes_once_over_all_ranks(sampling, epoch):
    visited = [i for rank in of_ranks(sampling, epoch) for batch in rank for i in batch]
    assert sorted(visited) == list(range(sampling.order.n))


@given(samplings(orders=tuple(ORDERS)), st.integers(0, 9))
def test_every_rank_has_as_many_batches_and_every_world_size_th(sampling, epoch):
    ranks = of_ranks(sampling, epoch)
    plan = plan_of(sampling, epoch)
    assert len({len(rank) for rank in ranks}) == 1
    assert ranks == [plan[rank :: sampling.world_size] for rank in range(sampling.world_size)]


@pytest.mark.slow
@given(samplings(orders=tuple(ORDERS)), st.integers(0, 9))
def test_no_batch_is_empty_or_over_a_limit(sampling, epoch):
    sizes = {**sampling.sizes, "graphs": np.ones(sampling.order.graphs, int)}
    for batch in plan_of(sampling, epoch):
        assert batch
        assert all(sizes[name][batch].sum() <= limit for name, limit in sampling.limits.items())


@pytest.mark.slow
@given(samplings(drop_last=True), st.integers(0, 9))
def test_drop_last_leaves_out_no_more_than_one_batch_a_rank(sampling, epoch):
    all_ = plan_of(with_(sampling, drop_last=False, world_size=1), epoch)
    kept = plan_of(sampling, epoch)
    assert len(all_) - len(kept) <= sampling.world_size
    assert all(batch in all_ for batch in kept) or sampling.bucket is not None
    visited = sum(kept, [])
    assert len(set(visited)) == len(visited)


@pytest.mark.slow
@given(samplings(orders=("weighted", "mixed"), drop_last=False), st.integers(0, 9))
def test_all_ranks_visit_what_the_order_draws(sampling, epoch):
    drawn = sum(plan_of(sampling, epoch), [])
    assert sorted(drawn) == sorted(positions_of(sampling.order, sampling.seed, epoch).tolist())


@pytest.mark.slow
@given(samplings(bucket=None, drop_last=False), st.integers(0, 9))
def test_ranks_share_the_order_of_one_process(sampling, epoch):
    """More ranks change where batches are cut, never the order in which the graphs come."""
    alone = plan_of(with_(sampling, world_size=1), epoch)
    shared = plan_of(sampling, epoch)
    assert sum(shared, []) == sum(alone, []) == positions_of(sampling.order, sampling.seed, epoch).tolist()
    assert 0 <= len(shared) - len(alone) < sampling.world_size


def test_the_largest_batches_are_halved_until_they_can_be_shared():
    sampling = Sampling(order=Sequential(20), limits={"graphs": 8}, world_size=4)
    assert listed(sampling.plan(0)) == [[*range(8)], [*range(8, 12)], [*range(12, 16)], [*range(16, 20)]]


@pytest.mark.parametrize(
    ("n", "limits", "world_size", "drop_last", "message"),
    [
        (5, {"graphs": 1}, 2, False, "5 graphs cannot fill 6 batches, 3 on each of 2 ranks; use drop_last=True, la"),
        (4, {"graphs": 1}, 3, False, "4 graphs cannot fill 6 batches, 2 on each of 3 ranks; use drop_last=True, la"),
        (2, {"graphs": 8}, 3, False, "2 graphs cannot fill 3 batches, 1 on each of 3 ranks; use at most 2 ranks"),
        (2, {"graphs": 1}, 3, False, "2 graphs cannot fill 3 batches, 1 on each of 3 ranks; use at most 2 ranks"),
        (20, {"graphs": 8}, 3, True, "drop_last=True leaves no batch: 20 graphs make 2 full batches for 3 ranks; use"),
        (2, {"graphs": 8}, 3, True, "drop_last=True leaves no batch: 2 graphs make no full batch for 3 ranks; use at"),
    ],
)
def test_too_few_graphs_for_all_ranks_are_refused(n, limits, world_size, drop_last, message):
    sampling = Sampling(order=Shuffled(n), limits=limits, world_size=world_size, drop_last=drop_last)
    with pytest.raises(InputError, match=re.escape(message)):
        sampling.plan(0)


@pytest.mark.slow
@given(samplings(orders=tuple(ORDERS)), st.integers(0, 9))
def test_what_a_refusal_recommends_helps(sampling, epoch):
    """No error recommends drop_last, or its absence, where it would be refused too."""
    try:
        sampling.plan(epoch)
    except InputError as error:
        for drop_last in (True, False):
            if f"drop_last={drop_last}" in str(error).split(";")[1]:
                assert len(with_(sampling, drop_last=drop_last).plan(epoch)) >= sampling.world_size
        assert len(with_(sampling, world_size=1).plan(epoch)) > 0 or sampling.drop_last
        if "at most" in str(error):
            most = int(re.search(r"at most (\d+) rank", str(error))[1])
            assert most == sampling.order.n < sampling.world_size
    else:
        batches = len(sampling.batches(epoch))
        assert batches or sampling.order.n == 0 or sampling.world_size == 1


def test_an_epoch_without_graphs_is_empty_on_every_rank():
    for drop_last in (False, True):
        sampling = Sampling(order=Shuffled(0), limits={"graphs": 1}, world_size=2, drop_last=drop_last)
        assert listed(sampling.plan(0)) == []


# ---- fixed numbers of graphs ----


@given(st.integers(0, 50), st.integers(1, 9), st.booleans())
def test_a_fixed_number_of_graphs_is_as_in_torch(n, size, drop_last):
    want = list(TorchBatchSampler(SequentialSampler(range(n)), size, drop_last))
    sampling = Sampling(order=Sequential(n), limits={"graphs": size}, drop_last=drop_last)
    assert listed(sampling.batches(0)) == want


# ---- epochs ----


@pytest.mark.slow
@given(samplings(orders=tuple(ORDERS)), st.integers(0, 2**40))
def test_a_plan_is_a_function_of_seed_and_epoch(sampling, epoch):
    assert plan_of(sampling, epoch) == plan_of(with_(sampling), epoch)


@pytest.mark.parametrize("name", ["shuffled", "windowed", "weighted"])
@pytest.mark.parametrize("bucket", [None, "atoms"])
def test_every_epoch_is_another(name, bucket):
    sizes = {"atoms": np.arange(100) % 9 + 1}
    sampling = Sampling(order=ORDERS[name](100), limits={"atoms": 30}, sizes=sizes, bucket=bucket)
    plans = [listed(sampling.plan(epoch)) for epoch in range(5)]
    assert all(a != b for i, a in enumerate(plans) for b in plans[:i])


def test_batches_are_packed_anew_in_every_epoch():
    sampling = Sampling(order=Shuffled(100), limits={"atoms": 30}, sizes={"atoms": np.arange(100) % 9 + 1})
    assert len({len(sampling.plan(epoch)) for epoch in range(9)}) > 1


def test_a_plan_is_the_same_for_ever():
    """Ranks on machines with other versions, and an epoch gone on with after an update, need the same batches."""
    sizes = {"atoms": np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8])}
    sampling = Sampling(order=Shuffled(12), limits={"atoms": 12, "graphs": 4}, sizes=sizes, bucket="atoms", seed=7)
    assert listed(sampling.plan(3)) == [[2, 8], [10, 1, 6], [4, 9], [5, 3], [7], [0, 11]]


@pytest.mark.parametrize(
    ("order", "bucket", "digest_of_extents"),
    [
        (Windowed(200_000, 4096), None, "091b5424719223437454d19971360069"),
        (Windowed(200_000, 4096), "atoms", "450987022a66a7e4e589aaac962290f2"),
        (Weighted(np.arange(200_000) % 3 + 1), None, "6a6fded78426973c5463f656ee580413"),
    ],
)
def test_a_large_plan_is_the_same_for_ever(order, bucket, digest_of_extents):
    atoms = np.arange(200_000) * 7919 % 41 + 1
    options = {"limits": {"graphs": 50, "atoms": 900}, "sizes": {"atoms": atoms}, "bucket": bucket}
    plan = Sampling(order=order, **options, world_size=7, seed=5).plan(3)
    assert len(plan) % 7 == 0
    assert digest(np.concatenate([*map(np.array, plan.extents()), *plan])) == digest_of_extents


def test_a_plan_is_the_same_in_another_process():
    code = """
import json, sys
from lazygraph.loading.orders import Windowed
from lazygraph.loading.sampling import Sampling
sampling = Sampling(order=Windowed(50, 20, 5), limits={"graphs": 7}, world_size=3, rank=1)
print(json.dumps([batch.tolist() for batch in sampling.batches(4)]))
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    plan, torch_loaded = done.stdout.splitlines()
    here = Sampling(order=Windowed(50, 20, 5), limits={"graphs": 7}, world_size=3, rank=1)
    assert json.loads(plan) == listed(here.batches(4))
    assert torch_loaded == "False"


def memory_of(sampling):
    """The most bytes that a plan and a pass over all its batches allocate at a time."""
    tracemalloc.start()
    for _ in sampling.batches(0):
        pass
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


@pytest.mark.parametrize(
    ("order", "bucket", "bytes_a_graph"),
    [
        (Shuffled, None, 8.1),
        (lambda n: Windowed(n, 8192), None, 0.1),
        (lambda n: Windowed(n, 8192), "atoms", 0.1),
        (Sequential, None, 0.1),
    ],
)
@pytest.mark.parametrize("limits", [{"graphs": 8}, {"graphs": 8, "atoms": 80}], ids=["graphs", "atoms"])
def test_the_memory_of_a_plan(order, bucket, bytes_a_graph, limits):
    """A full shuffle holds 8 bytes per graph; 24 bytes per batch would be 3 more. Batches are halved here."""
    used = []
    for n in (200_000, 800_000):
        atoms = np.full(n, 10, np.uint8)
        atoms[::7] = 3
        sampling = Sampling(order=order(n), limits=limits, sizes={"atoms": atoms}, bucket=bucket, world_size=7)
        assert len(with_(sampling, world_size=1).plan(0)) % 7
        used.append(memory_of(sampling))
    assert used[1] - used[0] < bytes_a_graph * 600_000


# ---- alike in size ----


@pytest.mark.parametrize("limits", [{"graphs": 20}, {"atoms": 600}], ids=str)
def test_buckets_make_batches_of_like_sizes_in_any_order(limits):
    atoms = np.random.default_rng(0).integers(1, 60, 10_000)
    plain = Sampling(order=Shuffled(10_000), limits=limits, sizes={"atoms": atoms})
    alike = with_(plain, bucket="atoms")
    spread = [np.mean([np.ptp(atoms[batch]) for batch in sampling.plan(0)]) for sampling in (plain, alike)]
    assert spread[1] < spread[0] / 10
    means = np.array([atoms[batch].mean() for batch in alike.plan(0)])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.15


def test_a_small_dataset_has_other_buckets_in_every_epoch():
    sampling = Sampling(order=Shuffled(200), limits={"graphs": 10}, sizes={"atoms": np.arange(200)}, bucket="atoms")
    first, second = ({frozenset(batch) for batch in listed(sampling.plan(epoch))} for epoch in (0, 1))
    assert not first & second


def test_buckets_keep_to_the_neighbourhood_of_their_windows():
    n, window = 40_000, 4000
    atoms = np.random.default_rng(0).integers(1, 60, n)
    order = Windowed(n, window=window, block=500)
    sampling = Sampling(order=order, limits={"graphs": 10}, sizes={"atoms": atoms}, bucket="atoms")
    visits = np.argsort(np.concatenate(list(sampling.plan(0))))
    spans = [np.ptp(visits[start : start + 500]) for start in range(0, n, 500)]
    assert max(spans) < window + 2 * 1000  # a pool is 100 batches of 10 graphs


# ---- resuming ----


@pytest.mark.slow
@given(samplings(orders=tuple(ORDERS), world_size=2, drop_last=True), st.integers(0, 5), st.integers(0, 12))
def test_an_epoch_is_resumed_from_any_batch(sampling, epoch, start):
    assume(len(with_(sampling, world_size=1).batches(epoch)) >= 2)  # else no rank would have a batch, which is refused
    batches = with_(sampling, rank=1).batches(epoch)
    whole, rest = listed(batches), batches.skip(start)
    assert len(whole) == len(batches)
    assert listed(rest) == whole[start:]
    assert len(rest) == len(whole[start:])


FINGERPRINTED = {
    "order": Windowed(6, 4, 2),
    "limits": {"graphs": 3, "atoms": 10},
    "sizes": {"atoms": np.array([1, 2, 3, 4, 5, 6])},
    "bucket": "atoms",
    "cost": None,
    "seed": 1,
    "drop_last": False,
    "world_size": 2,
    "identity": {"content_id": "abc", "rows": digest(range(6))},
}


@pytest.mark.parametrize(
    ("change", "named", "said"),
    [
        ({"order": Windowed(6, 4, 1)}, ["order"], "there and 'Windowed(n=6, window=4, block=1)' here"),
        ({"order": Weighted([1, 2, 3, 4, 5, 7])}, ["order"], "there and 'Weighted(6 weights, xxh3 "),
        ({"limits": {"graphs": 3, "atoms": 11}}, ["max_atoms"], "max_atoms is 10 there and 11 here"),
        ({"limits": {"atoms": 10}}, ["max_graphs"], "max_graphs is 3 there and None here"),
        ({"sizes": {"atoms": np.array([1, 2, 3, 4, 6, 5])}}, ["atoms"], "atoms is 'xxh3 "),
        ({"bucket": None}, ["bucket"], "bucket is 'atoms' there and None here"),
        ({"bucket": None, "cost": np.arange(6.0)}, ["balance", "bucket"], "balance is None there and 'xxh3 "),
        ({"seed": 2}, ["seed"], "seed is 1 there and 2 here"),
        ({"drop_last": True}, ["drop_last"], "drop_last is False there and True here"),
        ({"world_size": 3}, ["world_size"], "world_size is 2 there and 3 here"),
        ({"identity": {"content_id": "abd"}}, ["content_id", "rows"], "content_id is 'abc' there and 'abd' here"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_a_position_in_other_batches_is_refused(change, named, said):
    saved = json.loads(json.dumps(Sampling(**FINGERPRINTED).fingerprint()))
    with pytest.raises(InputError, match="the state was saved with other batches: .*; use the same") as caught:
        Sampling(**FINGERPRINTED | change).check(saved)
    assert sorted(re.findall(r"(\w+) is (?:(?! is ).)* there and ", str(caught.value))) == named
    assert said in str(caught.value)


def test_a_position_of_other_rules_is_refused():
    sampling = Sampling(**FINGERPRINTED)
    with pytest.raises(InputError, match="rules is 0 there and 1 here"):
        sampling.check(sampling.fingerprint() | {"rules": 0})


def test_every_field_is_in_the_fingerprint_or_says_which_rank_this_is():
    assert set(FINGERPRINTED) | {"rank"} == set(Sampling.__dataclass_fields__)


def test_a_position_in_these_batches_is_taken_by_every_rank():
    saved = json.loads(json.dumps(Sampling(**FINGERPRINTED).fingerprint()))
    Sampling(**FINGERPRINTED, rank=1).check(saved)
    wide = {"atoms": FINGERPRINTED["sizes"]["atoms"].astype(np.uint8), "edges": np.zeros(6, int)}
    Sampling(**FINGERPRINTED | {"sizes": wide}).check(saved)  # narrower, and one more that no batch depends on


# ---- what is refused ----


def test_oversized_graphs_are_named_by_their_position_before_an_epoch_begins():
    atoms = np.array([3, 9, 4, 7])
    with pytest.raises(
        OversizedGraphs, match=r"2 with more than 5 atoms \(9 at position 1, 7 at position 3\)"
    ) as caught:
        Sampling(order=Shuffled(4), limits={"atoms": 5}, sizes={"atoms": atoms})
    assert caught.value.positions.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limits": {}}, "batches need a limit; give at least one"),
        ({"limits": {"graphs": 0}}, "the limit of graphs is 0; required: a whole number, at least 1"),
        ({"limits": {"atoms": 2.5}}, r"the limit of atoms is 2\.5"),
        ({"limits": {"graphs": True}}, "the limit of graphs is True"),
        ({"limits": {"triplets": 9}}, "unknown size 'triplets'; known: atoms"),
        ({"bucket": "edges"}, "unknown size 'edges'; known: atoms"),
        ({"bucket": "graphs"}, "unknown size 'graphs'; known: atoms"),
        ({"sizes": {"atoms": np.ones(3, int)}}, r"found the size 'atoms', int64 of shape \(3,\); required: an integer"),
        ({"sizes": {"atoms": np.ones(4)}}, "found the size 'atoms', float64 of shape"),
        ({"sizes": {"atoms": np.array([1, -1, 1, 1])}}, "found the size 'atoms', int64 of .* at least 0, for each of"),
        ({"seed": -1}, "found seed=-1; required: a whole number, at least 0"),
        ({"world_size": 0}, "found world_size=0; required: a whole number, at least 1"),
        ({"rank": 2, "world_size": 2}, "found rank=2 of world_size=2; required: a rank below the world size"),
        ({"rank": -1}, "found rank=-1"),
    ],
)
def test_fields_that_do_not_fit_are_refused(change, message):
    fields = {"order": Sequential(4), "limits": {"atoms": 5}, "sizes": {"atoms": np.array([1, 2, 3, 4])}}
    with pytest.raises(InputError, match=message):
        Sampling(**fields | change)


@pytest.mark.parametrize("epoch", [-1, 0.5])
def test_there_is_no_epoch_before_the_first(epoch):
    with pytest.raises(InputError, match="required: a whole number, at least 0"):
        Sampling(order=Sequential(4), limits={"graphs": 2}).batches(epoch)


# ---- a dataset ----


def test_batches_of_a_dataset_keep_their_budgets(prototypes):
    ds = lg.LazyGraphDataset(prototypes).where("n_atoms < 30")
    sizes = {"atoms": ds.columns["n_atoms"], "edges": ds.columns["n_edges"]}
    limits = {"atoms": 100, "edges": 3 * int(sizes["edges"].max())}
    batches = listed(Sampling(order=Shuffled(len(ds)), limits=limits, sizes=sizes).batches(0))
    visited = []
    for batch in DataLoader(ds, batch_sampler=batches, collate_fn=lg.collate):
        assert batch.num_nodes <= limits["atoms"]
        assert batch.num_edges <= limits["edges"]
        visited += batch.id
    assert sorted(visited) == sorted(ds.ids.tolist())
