"""Graphs that are added to a dataset with splits: where they go, that the old ones stay, and that none is forgotten
in silence."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli.main import main, main_write
from lazygraph.format.columns import NO_SPLIT
from lazygraph.format.manifest import Manifest
from lazygraph.writing.edit import set_splits
from lazygraph.writing.salvage import salvage
from lazygraph.writing.shares import SPLITS
from lazygraph.writing.split_rules import SplitRule
from lazygraph.writing.splits import Splits, recorded_rule
from lazygraph.writing.temporary_arrays import TemporaryArrays
from lazygraph.writing.value_groups import RuleColumns

FRACTIONS = st.sampled_from(
    [(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.7, 0.15, 0.15), (1, 0, 0), (0.5, 0.2, 0.1), (0, 0.5, 0.5)]
)
FORMULAS = st.lists(st.integers(0, 12), min_size=1, max_size=120)


def text(numbers):
    return np.array([f"X{n}".encode() for n in numbers])


def columns(values):
    """The columns of a dataset of which all are these values."""
    return RuleColumns(lambda _: [values], ["formula"], TemporaryArrays(Path()))


NO_COLUMNS = RuleColumns(pytest.fail, [], TemporaryArrays(Path()))


def counts(codes):
    return [int((codes == code).sum()) for code in range(3)]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), FRACTIONS, st.integers(0, 99))
def test_a_dataset_that_grows_keeps_the_shares_of_one_that_was_written_at_once(sizes, fractions, seed):
    rule = SplitRule(fractions, seed)
    codes = rule.codes(sizes[0], NO_COLUMNS)
    for size in sizes[1:]:
        old = len(codes)
        grown = np.concatenate([codes, np.full(size, NO_SPLIT, np.uint8)])
        after = rule.extended(grown, old, NO_COLUMNS, continued=True)
        assert (after[:old] == codes).all()
        codes = after
    wanted = counts(rule.codes(len(codes), NO_COLUMNS))
    assert all(n <= most for n, most in zip(counts(codes), wanted, strict=True))
    assert sum(wanted) - sum(counts(codes)) <= 2  # those that rounding left over before stay in none


@given(st.integers(1, 300), FRACTIONS, st.integers(0, 99))
def test_fractions_of_the_new_graphs_alone_are_the_rule_for_so_many_graphs(size, fractions, seed):
    rule = SplitRule(fractions, seed)
    codes = np.concatenate([np.zeros(7, np.uint8), np.full(size, NO_SPLIT, np.uint8)])
    after = rule.extended(codes, 7, NO_COLUMNS, continued=False)
    assert (after[:7] == 0).all()
    assert after[7:].tolist() == rule.codes(size, NO_COLUMNS).tolist()


def test_where_the_numbers_are_round_a_continued_rule_is_the_rule_for_the_new_graphs():
    rule = SplitRule((0.8, 0.1, 0.1), 5)
    codes = np.concatenate([rule.codes(100, NO_COLUMNS), np.full(300, NO_SPLIT, np.uint8)])
    after = rule.extended(codes, 100, NO_COLUMNS, continued=True)
    assert after[100:].tolist() == rule.codes(300, NO_COLUMNS).tolist()


@given(FORMULAS, FORMULAS, FRACTIONS, st.integers(0, 99), st.booleans())
def test_a_formula_stays_in_the_split_that_it_is_in(first, second, fractions, seed, continued):
    rule = SplitRule(fractions, seed, "formula")
    codes = rule.codes(len(first), columns(text(first)))
    grown = np.concatenate([codes, np.full(len(second), NO_SPLIT, np.uint8)])
    formulas = text([*first, *second])
    after = rule.extended(grown, len(first), columns(formulas), continued=continued)
    assert (after[: len(first)] == codes).all()
    for formula in set(formulas.tolist()):
        found = set(after[formulas == formula].tolist()) - {NO_SPLIT}
        assert len(found) <= 1
    if sum(fractions) == 1:
        assert NO_SPLIT not in after


def test_a_group_that_is_split_already_cannot_be_kept_together():
    codes = np.array([0, 2, NO_SPLIT, NO_SPLIT], np.uint8)
    rule = SplitRule((0.8, 0.1, 0.1), 1, "formula")
    with pytest.raises(
        lg.InputError, match="the graphs with formula 'X1' in the dataset are already in several splits"
    ):
        rule.extended(codes, 2, columns(text([1, 1, 1, 2])), continued=False)
    assert rule.extended(codes, 2, columns(text([1, 1, 3, 2])), continued=False)[2:].max() < 3


# ---- datasets ----


def items(begin, end):
    return [
        (f"id-{n}", lg.Crystal(np.eye(3) * (4 + n / 100), [[0, 0, 0], [0.5, 0.5, 0.5]], [3 + n % 8, 17]), {"e": n})
        for n in range(begin, end)
    ]


def splits(path):
    ds = lg.LazyGraphDataset(path)
    return dict(zip(ds.ids.tolist(), ds.columns["split"].tolist(), strict=True))


@pytest.fixture
def hundred(tmp_path, write):
    path = tmp_path / "x.lg"
    write(items(0, 100), path, split=(0.8, 0.1, 0.1), seed=7)
    return path


@pytest.mark.parametrize("how", ["written", "named later"])
def test_an_append_goes_on_with_the_rule(how, tmp_path, write, append):
    path = tmp_path / "x.lg"
    if how == "written":
        write(items(0, 100), path, split=(0.8, 0.1, 0.1), seed=7)
    else:
        write(items(0, 100), path)
        set_splits(path, (0.8, 0.1, 0.1), seed=7)
    before, identity = splits(path), Manifest.load(path).content_id
    report = append(path, items(100, 150))
    assert (report.written, report.notes, report.in_no_split) == (50, (), 0)
    after = splits(path)
    assert before.items() <= after.items()
    assert Splits.of(lg.format.store.Store(path)).names == SPLITS
    assert [list(after.values()).count(name) for name in SPLITS] == [120, 15, 15]
    assert recorded_rule(Manifest.load(path)) == SplitRule((0.8, 0.1, 0.1), 7)
    assert append(path, items(150, 151)).in_no_split == 1  # as of 151 graphs written at once
    assert append(path, items(151, 152)).in_no_split == 1
    assert [list(splits(path).values()).count(name) for name in (*SPLITS, "")] == [121, 15, 15, 1]
    assert Manifest.load(path).content_id != identity


def test_an_append_goes_on_by_formula(tmp_path, write, append):
    path = tmp_path / "x.lg"
    write(items(0, 60), path, split=(0.5, 0.25, 0.25), group="formula")
    before = splits(path)
    append(path, items(60, 120))
    after = splits(path)
    assert before.items() <= after.items()
    columns = lg.LazyGraphDataset(path).columns
    assert len(set(zip(columns["formula"], columns["split"], strict=True))) == len(set(columns["formula"]))


@pytest.mark.parametrize(
    ("split", "sizes", "kept"),
    [
        ((0.8, 0.1, 0.1), [96, 12, 12], True),
        ((0, 0.5, 0.5), [80, 20, 20], False),
        ("train", [100, 10, 10], False),
        ("test", [80, 10, 30], False),
    ],
)
def test_an_append_says_where_its_graphs_go(split, sizes, kept, hundred, write, append):
    before = splits(hundred)
    options = {"split": split, "seed": 7}
    report = append(hundred, items(100, 120), **options)
    after = splits(hundred)
    assert before.items() <= after.items()
    assert [list(after.values()).count(name) for name in SPLITS] == sizes
    assert report.in_no_split == 0
    assert (recorded_rule(Manifest.load(hundred)) is not None) == kept
    # and the graphs after those are said to be in none, unless the rule is that of all
    report = append(hundred, items(120, 130))
    assert report.in_no_split == (0 if kept else 10)
    assert bool(report.notes) != kept


@pytest.mark.slow
def test_graphs_that_no_split_has_are_told_by_the_summary_info_split_and_train(
    tmp_path, write, append, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write(items(0, 20), "x.lg")
    set_splits("x.lg", names={name: [f"id-{n}" for n in range(k, 20, 3)] for k, name in enumerate(SPLITS)})
    report = append("x.lg", items(20, 50))
    assert report.in_no_split == 30
    told = "30 of 50 graphs are in no split (train 7, val 7, test 6)"
    assert told in report.notes[-1]
    assert Manifest.load(report.path).provenance.notes == ()  # which is no fact of the data
    (tmp_path / "more.json").write_text(json.dumps(entry(50)))
    assert main_write(["more.json", "-o", "x.lg", "--append", "--workers", "1", "--json"]) == 0
    out, error = capsys.readouterr()
    assert json.loads(out)["in_no_split"] == 31
    assert "note: 31 of 51 graphs are in no split" in error
    assert main(["info", "x.lg"]) == 0
    assert "splits      train 7, val 7, test 6, 31 graphs in none\n" in capsys.readouterr().out
    assert main(["info", "x.lg", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["splits"]["split"]["sizes"] == {"train": 7, "val": 7, "test": 6}
    assert facts["splits"]["split"]["in_no_split"] == 31
    assert main(["split", "x.lg", "0.5,0.2,0.1", "--seed", "4"]) == 0
    out, error = capsys.readouterr()
    assert out == "train: 25 graphs\nval: 10 graphs\ntest: 5 graphs\n"
    assert "note: 11 of 51 graphs are in no split" in error
    assert main(["info", "x.lg"]) == 0
    shown = capsys.readouterr().out
    assert "train 25, val 10, test 5, 11 graphs in none; by the fractions 0.5, 0.2, 0.1, seed 4\n" in shown
    pytest.importorskip("lightning")
    options = lg.TrainOptions(target="e", model="cgcnn", n_epochs=1, batch_size=8)
    write(items(0, 50), "y.lg", graph="cgcnn")
    set_splits("y.lg", names={name: [f"id-{n}" for n in range(k, 20, 3)] for k, name in enumerate(SPLITS)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.warns(UserWarning, match="30 of the 50 graphs of y.lg are in none of the splits"):
            results = lg.train("y.lg", options, "run", progress=False)
    assert results.in_no_split == 30
    assert json.loads((tmp_path / "run" / "results.json").read_text())["in_no_split"] == 30


def entry(n):
    atoms = {"coords": [[0, 0, 0]], "elements": ["Na"], "cartesian": False}
    return [{"jid": f"id-{n}", "atoms": atoms | {"lattice_mat": [[4 + n, 0, 0], [0, 4, 0], [0, 0, 4]]}, "e": 1.0}]


def test_a_command_says_where_added_graphs_go(hundred, monkeypatch, capsys):
    monkeypatch.chdir(hundred.parent)
    for n, split, found in ((100, "val", "val"), (101, "0,0,1", "test")):
        (hundred.parent / f"{n}.json").write_text(json.dumps(entry(n)))
        assert main_write([f"{n}.json", "-o", "x.lg", "--append", "--split", split, "--workers", "1"]) == 0
        assert splits(hundred)[f"id-{n}"] == found
    before = splits(hundred)
    (hundred.parent / "102.json").write_text(json.dumps(entry(102)))
    capsys.readouterr()
    assert main_write(["102.json", "-o", "x.lg", "--append", "--split", "trian", "--workers", "1"]) == 2
    assert "unknown split 'trian'; did you mean 'train'? known: train, val, test" in capsys.readouterr().err
    assert main_write(["102.json", "-o", "y.lg", "--split", "train", "--workers", "1"]) == 2
    assert "train,val,test" in capsys.readouterr().err
    assert splits(hundred) == before
    with pytest.raises(lg.InputError, match="required: fractions"):
        lg.write(items(0, 3), hundred.parent / "y.lg", split="train")
    assert sorted(p.name for p in hundred.parent.iterdir()) == ["100.json", "101.json", "102.json", "x.lg"]


def test_splits_that_a_source_names_go_before_the_rule_which_is_no_longer_that_of_all(hundred, tmp_path, write, append):
    poscar = "NaCl\n1\n{a} 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"
    (tmp_path / "more.json").write_text(json.dumps({"extra": {"new": poscar.format(a=7)}}))
    before = splits(hundred)
    append(hundred, [tmp_path / "more.json"])
    assert splits(hundred) == before | {"new": "extra"}
    assert recorded_rule(Manifest.load(hundred)) is None


def test_inputs_that_are_tried_again_go_on_with_the_rule(tmp_path, write, retry):
    path = tmp_path / "x.lg"
    good = entry(1)[0]
    bad = {**good, "jid": "id-2", "atoms": {**good["atoms"], "elements": ["Xx"]}}
    (tmp_path / "set.json").write_text(json.dumps([good, bad]))
    write(tmp_path / "set.json", path, split=(1, 0, 0))
    (tmp_path / "set.json").write_text(json.dumps([good, {**good, "jid": "id-2"}]))
    assert retry(path, tmp_path / "set.json").written == 1
    assert splits(path) == {"id-1": "train", "id-2": "train"}


def test_a_rule_ends_with_named_splits_and_with_a_column_that_was_lost(hundred, tmp_path):
    copied = tmp_path / "copy.lg"
    salvage(hundred, copied)
    assert recorded_rule(Manifest.load(copied)) == SplitRule((0.8, 0.1, 0.1), 7)
    column = hundred / Manifest.load(hundred).columns["split"].file.name
    column.write_bytes(bytes(column.stat().st_size))
    salvage(hundred, tmp_path / "lost.lg")
    assert Manifest.load(tmp_path / "lost.lg").user == {}
    set_splits(copied, names={"train": ["id-0"]})
    assert recorded_rule(Manifest.load(copied)) is None
    assert Manifest.load(copied).user == {}
