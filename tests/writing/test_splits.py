"""Splits by fractions and by formula, as pure functions and in datasets."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.format.columns import NO_SPLIT
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.writing.edit import gc, set_labels, set_splits
from lazygraph.writing.shares import SPLITS, grouped_codes, split_codes
from lazygraph.writing.split_rules import SplitRule
from lazygraph.writing.temporary_arrays import TemporaryArrays
from lazygraph.writing.value_groups import columns_of

SHARES = st.sampled_from([(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.9, 0.05, 0.05)])


def published(total, shares, seed):
    """The rule of the published trainers, with their slices."""
    n_train, n_val, n_test = (int(share * total) for share in shares)
    ids = list(np.arange(total))
    random.seed(seed)
    random.shuffle(ids)
    return ids[:n_train], ids[-(n_val + n_test) : -n_test], ids[-n_test:]


@given(st.integers(20, 3000), SHARES, st.integers(0, 1000))
def test_random_splits_are_those_of_the_published_rule(total, shares, seed):
    codes = split_codes(total, shares, seed)
    for code, ids in enumerate(published(total, shares, seed)):
        assert np.flatnonzero(codes == code).tolist() == sorted(ids)


def test_shares_that_floats_cannot_hold_are_rounded_as_the_published_rule_does():
    assert int(0.29 * 100) == 28
    assert (split_codes(100, (0.29, 0.57, 0.14), 123) == 0).sum() == 28


@given(st.integers(0, 50), st.tuples(*[st.sampled_from([0.0, 0.1, 0.25, 0.3])] * 3).filter(sum), st.integers(0, 9))
def test_splits_of_few_graphs_and_of_empty_shares(total, shares, seed):
    codes = split_codes(total, shares, seed)
    assert [(codes == code).sum() for code in range(3)] == [int(share * total) for share in shares]
    assert set(codes.tolist()) <= {0, 1, 2, NO_SPLIT}


@given(st.lists(st.integers(0, 30), min_size=1, max_size=300), SHARES, st.integers(0, 1000))
def test_groups_stay_together_and_shares_are_met_within_half_a_group(groups, shares, seed):
    _, members = np.unique(groups, return_inverse=True)
    codes = grouped_codes(members, shares, seed)
    assert all(len(set(codes[members == group].tolist())) == 1 for group in set(members.tolist()))
    assert NO_SPLIT not in codes
    largest = np.bincount(members).max()
    for code, share in enumerate(shares):
        assert abs((codes == code).sum() - share * len(members)) <= largest + 1e-6


def test_groups_that_no_share_takes_are_in_no_split():
    codes = grouped_codes(np.arange(1000), (0.5, 0.1, 0.1), 1)
    assert np.bincount(codes, minlength=256)[[0, 1, 2, NO_SPLIT]].tolist() == [500, 100, 100, 300]


def test_another_seed_makes_another_split():
    assert (split_codes(100, (0.8, 0.1, 0.1), 1) != split_codes(100, (0.8, 0.1, 0.1), 2)).any()
    members = np.arange(100) // 3
    assert (grouped_codes(members, (0.8, 0.1, 0.1), 1) != grouped_codes(members, (0.8, 0.1, 0.1), 2)).any()


@pytest.mark.parametrize("shares", [(0.8, 0.2), (0.8, 0.1, 0.2), (1.1, 0, 0), (-0.1, 0.5, 0.5), (0, 0, 0), (), "abc"])
def test_fractions_that_are_none_are_refused_before_work_begins(shares, tmp_path, write):
    with pytest.raises((lg.InputError, TypeError)):
        write("prototypes:5", tmp_path / "x.lg", split=shares)
    assert list(tmp_path.iterdir()) == []


def test_a_group_that_is_unknown_is_refused(tmp_path, write):
    with pytest.raises(
        lg.InputError,
        match="unknown group 'densty'; did you mean 'density'.* A group is formula, chemical_system, or a l",
    ):
        write("prototypes:5", tmp_path / "x.lg", split=(0.8, 0.1, 0.1), group="densty")
    assert not (tmp_path / "x.lg").exists()
    write("prototypes:5", tmp_path / "x.lg")
    with pytest.raises(lg.InputError, match="unknown group 'n_node'; known: density, formula, "):
        set_splits(tmp_path / "x.lg", (0.8, 0.1, 0.1), group="n_node")


@pytest.fixture
def twelve(tmp_path, write, salt):
    """Twelve crystals of four configurations, of which one has no name."""
    kinds = ["bulk", "slab", "molecule", None]
    items = [(f"id-{n}", salt(n), {"kind": kinds[n % 4], "pair_no": n // 2, "energy": n / 2}) for n in range(12)]
    write(items, tmp_path / "x.lg", split=(0.5, 0.25, 0.25))
    return tmp_path / "x.lg"


@pytest.mark.parametrize("group", ["kind", "pair_no", "energy", "formula"])
def test_graphs_are_kept_together_by_any_label(group, twelve):
    set_splits(twelve, (0.5, 0.25, 0.25), group=group)
    columns = lg.LazyGraphDataset(twelve).columns
    splits = {}
    for value, split in zip(columns[group].tolist(), columns["split"].tolist(), strict=True):
        splits.setdefault(value, set()).add(split)
    assert all(len(found) == 1 for found in splits.values())
    assert Manifest.load(twelve).columns["split"].rule == {"fractions": [0.5, 0.25, 0.25], "seed": 123, "group": group}


def test_a_dataset_has_several_splits(twelve, write, salt):
    before = lg.LazyGraphDataset(twelve)
    for fold in range(3):
        set_splits(twelve, (0.5, 0.25, 0.25), seed=fold, group="kind", name=f"fold_{fold}")
    ds = lg.LazyGraphDataset(twelve)
    assert ds.content_id == before.content_id
    assert (
        ds.split("train").ids.tolist()
        == before.split("train").ids.tolist()
        == ds.split("train", of="split").ids.tolist()
    )
    for fold in range(3):
        rule = SplitRule((0.5, 0.25, 0.25), fold, "kind")
        assert ds.columns[f"fold_{fold}"].tolist() == [
            SPLITS[code] for code in rule.codes(12, columns_of(Store(twelve), TemporaryArrays(twelve.parent)))
        ]
        part = ds.split("test", of=f"fold_{fold}")
        assert part.ids.tolist() == ds.where(f"fold_{fold} == 'test'").ids.tolist()
    assert (
        ds[::3].split("train", of="fold_1").ids.tolist()
        == ds.split("train", of="fold_1").ids[np.isin(ds.split("train", of="fold_1").ids, ds[::3].ids)].tolist()
    )
    with pytest.raises(lg.InputError, match="unknown column of splits 'fold_9'; did you mean 'fold_"):
        ds.split("train", of="fold_9")
    with pytest.raises(lg.InputError, match="unknown split 'dev'; known: train, val, test"):
        ds.split("dev", of="fold_0")


def test_an_append_follows_the_rule_of_every_split(twelve, write, salt):
    set_splits(twelve, (0.5, 0.5, 0), group="kind", name="fold_0")
    set_splits(twelve, names={"a": ["id-3"], "b": ["id-4"]}, name="mine")
    before = {name: lg.LazyGraphDataset(twelve).columns[name].tolist() for name in ("split", "fold_0", "mine")}
    new = [(f"new-{n}", salt(40 + n), {"kind": "bulk", "pair_no": n, "energy": 1.0}) for n in range(12)]
    lg.append(twelve, new, workers=1, progress=False)
    ds = lg.LazyGraphDataset(twelve)
    for name, old in before.items():
        assert ds.columns[name].tolist()[:12] == old
    assert np.unique(ds.columns["split"][12:], return_counts=True)[1].tolist() == [3, 6, 3]
    assert set(ds.columns["fold_0"][12:]) == {before["fold_0"][0]}  # where the bulk crystals are
    assert set(ds.columns["mine"][12:]) == {""}
    rules = {name: column.rule for name, column in ds.manifest.splits().items()}
    assert rules["split"]["group"] is None
    assert rules["fold_0"]["group"] == "kind"
    assert rules["mine"] is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("kind", "something else in the dataset has this name"),
        ("n_node", "lazygraph uses this name itself"),
        ("numbers", "lazygraph uses this name itself"),
        ("", "its name is empty"),
        ("a\nb", "its name is empty, not printable"),
    ],
)
def test_names_that_no_splits_may_have(name, reason, twelve, bytes_of):
    before = bytes_of(twelve)
    with pytest.raises(lg.InputError, match=f"splits cannot have the name .*: {reason}.*choose another name"):
        set_splits(twelve, (0.5, 0.25, 0.25), name=name)
    assert bytes_of(twelve) == before


def test_no_label_takes_the_name_of_splits(twelve):
    set_splits(twelve, (0.5, 0.25, 0.25), name="fold_0")
    with pytest.raises(lg.InputError, match="'fold_0' has the name of something else"):
        set_labels(twelve, {"id-0": {"fold_0": 1}})


def test_splits_on_the_command_line(twelve, capsys):
    from lazygraph.cli.main import main

    assert main(["split", str(twelve), "0.5,0.25,0.25", "--name", "fold_0", "--group", "kind", "--seed", "3"]) == 0
    assert main(["info", str(twelve)]) == 0
    out = capsys.readouterr().out
    assert "splits      train 6, val 3, test 3; by the fractions 0.5, 0.25, 0.25, seed 123" in out
    assert "splits      fold_0: " in out
    assert "seed 3, by kind" in out
    assert main(["verify", str(twelve)]) == 0


def test_a_rule_of_other_splits_is_not_left_out_without_a_word(twelve, tmp_path, write):
    set_splits(twelve, (0.5, 0.25, 0.25), name="fold_0")
    report = write(lg.LazyGraphDataset(twelve), tmp_path / "y.lg")
    assert any("the rule of the splits in 'fold_0' is left out" in note for note in report.notes)
    found, before = (lg.LazyGraphDataset(path).columns["fold_0"] for path in (tmp_path / "y.lg", twelve))
    assert found.tolist() == before.tolist()


def test_splits_written_at_once_and_named_later_are_the_same(tmp_path, write, bytes_of):
    write("prototypes:80", tmp_path / "one.lg", split=(0.6, 0.2, 0.2), seed=5)
    write("prototypes:80", tmp_path / "two.lg")
    before = Manifest.load(tmp_path / "two.lg").content_id
    assert set_splits(tmp_path / "two.lg", (0.6, 0.2, 0.2), seed=5).sizes == {
        "split": {"train": 48, "val": 16, "test": 16}
    }
    gc(tmp_path / "two.lg")  # the digests of the columns without the splits
    assert bytes_of(tmp_path / "one.lg") == bytes_of(tmp_path / "two.lg")
    assert Manifest.load(tmp_path / "one.lg").content_id == before
    ds = lg.LazyGraphDataset(tmp_path / "one.lg")
    _, _, test = published(80, (0.6, 0.2, 0.2), 5)
    assert ds.split("test").ids.tolist() == [f"prototype-{n:07d}" for n in sorted(test)]


def test_no_formula_is_in_two_splits(tmp_path, write):
    crystals = []
    for n in range(60):
        numbers = [11, 17] if n % 4 == 0 else [3 + n % 7, 17]
        crystals.append((f"{n}", lg.Crystal(np.eye(3) * (4 + n / 50), [[0, 0, 0], [0.5, 0.5, 0.5]], numbers)))
    write(crystals, tmp_path / "x.lg", split=(0.5, 0.25, 0.25), group="formula")
    columns = lg.LazyGraphDataset(tmp_path / "x.lg").columns
    splits = {}
    for formula, split in zip(columns["formula"], columns["split"], strict=True):
        splits.setdefault(formula, set()).add(split)
    assert len(splits) >= 8
    assert all(len(found) == 1 for found in splits.values())
    assert {name for found in splits.values() for name in found} == {"train", "val", "test"}


def test_named_splits(tmp_path, write):
    path = tmp_path / "x.lg"
    write("prototypes:6", path, split=(0.5, 0.25, 0.25))
    ids = [f"prototype-{n:07d}" for n in range(6)]
    report = set_splits(path, names={"fold-1": ids[3:1:-1], "fold-0": iter(ids[:1])})
    assert report.sizes == {"split": {"fold-1": 2, "fold-0": 1}}
    assert "3 of 6 graphs are in no split" in report.notes[0]
    ds = lg.LazyGraphDataset(path)
    assert ds.split("fold-1").ids.tolist() == ids[2:4]
    assert ds.columns["split"].tolist() == ["fold-0", "", "fold-1", "fold-1", "", ""]
    with pytest.raises(lg.InputError, match="unknown split 'train'; known: fold-1, fold-0"):
        ds.split("train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give exactly one of fractions, counts, names, folds, leave_out; found none"),
        ({"fractions": (0.8, 0.1, 0.1), "names": {"a": []}}, "found fractions and names"),
        ({"names": {}}, "found 0 splits"),
        ({"names": {str(n): [] for n in range(255)}}, "found 255 splits"),
        ({"names": {"a": ["prototype-0000001"], "b": ["prototype-0000001"]}}, "in the splits 'a' and 'b'"),
        ({"names": {"a": ["prototype-0000001"] * 2}}, "in the splits 'a' and 'a'"),
    ],
)
def test_named_splits_that_cannot_be(options, message, tmp_path, write, bytes_of):
    write("prototypes:6", tmp_path / "x.lg")
    before = bytes_of(tmp_path / "x.lg")
    with pytest.raises(lg.InputError, match=message):
        set_splits(tmp_path / "x.lg", **options)
    with pytest.raises(KeyError, match="'mp-1'"):
        set_splits(tmp_path / "x.lg", names={"a": ["mp-1"]})
    assert bytes_of(tmp_path / "x.lg") == before


def test_splits_of_ready_made_graphs(tmp_path):
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        for n in range(10):
            writer.add({"z": np.ones(n + 1)})
    with pytest.raises(lg.InputError, match="unknown group 'formula'; known: "):
        set_splits(tmp_path / "x.lg", (0.8, 0.1, 0.1), group="formula")
    assert set_splits(tmp_path / "x.lg", (0.8, 0.1, 0.1)).sizes["split"] == {"train": 8, "val": 1, "test": 1}


def test_the_largest_number_of_splits(tmp_path, write):
    write("prototypes:300", tmp_path / "x.lg")
    names = {f"s{n}": [f"prototype-{n:07d}"] for n in range(254)}
    set_splits(tmp_path / "x.lg", names=names)
    ds = lg.LazyGraphDataset(tmp_path / "x.lg")
    assert ds.split("s253").ids.tolist() == ["prototype-0000253"]
    assert SplitRule((1, 0, 0)).codes(3, columns_of(Store(tmp_path / "x.lg"), TemporaryArrays(tmp_path))).tolist() == [
        0,
        0,
        0,
    ]
