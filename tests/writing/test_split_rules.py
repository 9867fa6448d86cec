"""Folds, left-out elements and strata as rules: what each promises of the graphs of a dataset, and of those added."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.format.columns import NO_SPLIT
from lazygraph.writing import shares
from lazygraph.writing.folds import folds_of_graphs, folds_of_groups, folds_of_strata
from lazygraph.writing.shares import SPLITS, grouped_codes
from lazygraph.writing.split_rules import (
    CountsRule,
    FoldRule,
    LabelledRule,
    LeaveOutRule,
    SplitRule,
    Strata,
    labels_of,
    rule_from_json,
)
from lazygraph.writing.temporary_arrays import TemporaryArrays
from lazygraph.writing.value_groups import RuleColumns

TRAIN, VAL, TEST = range(3)
FEWER = settings(max_examples=40)  # of what makes many folds or columns for each example
SEEDS = st.integers(0, 2**32 - 1)
FRACTIONS = st.sampled_from([(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.5, 0.2, 0.1), (0, 0.5, 0.5), (1, 0, 0)])
VALUES = st.lists(st.integers(0, 6), min_size=1, max_size=150)
FORMULAS = np.array([b"Fe2O3", b"FeO", b"C", b"CoO", b"NaCl", b"CsCl", b"Fe"])


def columns(values, name="kind"):
    """The columns of a dataset of which this is one."""
    return RuleColumns(lambda _: [np.asarray(values)], [name], TemporaryArrays(Path()))


def texts(numbers):
    return np.array([f"X{n}".encode() for n in numbers])


def grown(rule, values, cuts, name="kind", least=1):
    """The splits of a dataset that was written with the first graphs, and to which the others were added."""
    sizes = sorted({least + cut % (len(values) - least + 1) for cut in cuts} | {len(values)})
    codes = rule.codes(sizes[0], columns(values[: sizes[0]], name))
    for size in sizes[1:]:
        old = len(codes)
        more = np.concatenate([codes, np.full(size - old, NO_SPLIT, np.uint8)])
        after = rule.extended(more, old, columns(values[:size], name), continued=True)
        assert (after[:old] == codes).all()
        codes = after
    return codes


# ---- folds ----


@given(st.integers(7, 200), st.integers(2, 7), SEEDS)
@FEWER
def test_folds_are_those_of_scikit_learn(n, folds, seed):
    model_selection = pytest.importorskip("sklearn.model_selection")
    wanted = np.empty(n, int)
    for fold, (_, test) in enumerate(
        model_selection.KFold(folds, shuffle=True, random_state=seed).split(np.zeros((n, 1)))
    ):
        wanted[test] = fold
    assert folds_of_graphs(n, folds, seed).tolist() == wanted.tolist()


@pytest.mark.filterwarnings("ignore:The least populated class")
@given(st.lists(st.integers(0, 3), min_size=30, max_size=200), st.integers(2, 7), SEEDS)
@FEWER
def test_stratified_folds_are_those_of_scikit_learn(strata, folds, seed):
    model_selection = pytest.importorskip("sklearn.model_selection")
    wanted = np.empty(len(strata), int)
    splitter = model_selection.StratifiedKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, test) in enumerate(splitter.split(np.zeros((len(strata), 1)), strata)):
        wanted[test] = fold
    assert folds_of_strata(np.array(strata), folds, seed).tolist() == wanted.tolist()


def test_folds_by_the_words_of_the_documentation():
    """Without scikit-learn: a legacy generator shuffles the rows, of which each fold is a piece."""
    rows = np.arange(23)
    np.random.RandomState(18012019).shuffle(rows)
    wanted = np.empty(23, int)
    for fold, part in enumerate(np.array_split(rows, 5)):
        wanted[part] = fold
    assert folds_of_graphs(23, 5, 18012019).tolist() == wanted.tolist()


@given(VALUES, st.integers(2, 6), SEEDS, st.sampled_from([0, 0.1, 0.5]), st.lists(st.integers(0, 200), max_size=4))
@FEWER
def test_every_graph_tests_in_one_fold_however_the_dataset_grew(values, folds, seed, val, cuts):
    values = [*range(folds), *values]
    codes = np.array([grown(FoldRule(fold, folds, val, seed), values, cuts, least=folds) for fold in range(folds)])
    assert ((codes == TEST).sum(axis=0) == 1).all()
    assert NO_SPLIT not in codes
    sizes = (codes == TEST).sum(axis=1)
    assert sizes.max() - sizes.min() <= 1
    for own in codes:
        rest = int((own != TEST).sum())
        assert (own == VAL).sum() <= val * rest
        if not cuts:
            assert (own == VAL).sum() == int(val * rest)


@given(VALUES, st.integers(2, 6), SEEDS, st.lists(st.integers(0, 200), max_size=3))
@FEWER
def test_groups_stay_in_one_fold_and_in_one_split(values, folds, seed, cuts):
    values = [*range(folds), *values]
    rules = [FoldRule(fold, folds, 0.2, seed, "kind") for fold in range(folds)]
    codes = np.array([grown(rule, texts(values), cuts, least=folds) for rule in rules])
    assert ((codes == TEST).sum(axis=0) == 1).all()
    assert NO_SPLIT not in codes
    for own in codes:
        assert all(len(set(own[np.array(values) == value].tolist())) == 1 for value in set(values))


@given(VALUES, st.integers(2, 6), SEEDS)
def test_no_fold_is_empty_if_there_are_as_many_groups(values, folds, seed):
    _, members = np.unique([*range(folds), *values], return_inverse=True)
    sizes = np.bincount(folds_of_groups(members, folds, seed), minlength=folds)
    assert sizes.min() > 0
    assert sizes.max() - sizes.min() <= np.bincount(members).max()


@given(VALUES, st.integers(2, 6), SEEDS, st.lists(st.integers(0, 200), max_size=3))
@FEWER
def test_every_fold_has_its_share_of_each_stratum(values, folds, seed, cuts):
    values = [*range(folds), *values]
    rules = [FoldRule(fold, folds, 0.0, seed, None, Strata("kind")) for fold in range(folds)]
    whole = np.array([grown(rule, values, []) == TEST for rule in rules])
    for value in set(values):
        counts = whole[:, np.array(values) == value].sum(axis=1)
        assert counts.max() - counts.min() <= 1
    parts = np.array([grown(rule, values, cuts, least=folds) == TEST for rule in rules])
    assert (parts.sum(axis=0) == 1).all()


def test_new_graphs_and_groups_begin_at_another_fold_each_time():
    found = [folds_of_graphs(1, 5, 0, old).item() for old in range(10)]
    assert found == [0, 1, 2, 3, 4] * 2
    assert [folds_of_groups(np.zeros(1, int), 5, 0, old).item() for old in range(5)] == [0, 1, 2, 3, 4]


def test_too_few_graphs_or_groups_for_the_folds_are_refused():
    with pytest.raises(lg.InputError, match="found 4 graphs for 5 folds; required: at least one for each fold"):
        FoldRule(0, 5).codes(4, columns([1] * 4))
    with pytest.raises(lg.InputError, match="found 2 groups with different 'kind' for 5 folds"):
        FoldRule(0, 5, group="kind").codes(9, columns(texts([1, 2, 1, 2, 1, 2, 1, 2, 1])))


# ---- elements ----


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=150).filter(lambda rows: rows[0] == 0),
    st.sampled_from([0, 0.25]),
    SEEDS,
    st.lists(st.integers(0, 200), max_size=3),
)
@FEWER
def test_crystals_with_left_out_elements_test_and_no_others(rows, val, seed, cuts):
    formulas = FORMULAS[rows]
    codes = grown(LeaveOutRule(["Fe", "Co"], val, seed), formulas, cuts, "formula")
    has = np.array([b"Fe" in formula or b"Co" in formula for formula in formulas])
    assert ((codes == TEST) == has).all()
    assert NO_SPLIT not in codes
    assert (codes == VAL).sum() <= val * (~has).sum()
    if not cuts:
        assert (codes == VAL).sum() == int(val * (~has).sum())


def test_elements_that_no_crystal_has_or_that_are_none_are_refused():
    with pytest.raises(lg.InputError, match="none of the 7 crystals has Au or Zn; leave out an element"):
        LeaveOutRule(["Zn", "Au"]).codes(7, columns(FORMULAS, "formula"))
    with pytest.raises(lg.InputError, match="unknown element 'fe'; known: H, He"):
        LeaveOutRule(["fe"])
    for wrong in ([], "Fe"):
        with pytest.raises(lg.InputError, match="required: a list of elements"):
            LeaveOutRule(wrong)
    with pytest.raises(lg.InputError, match="are ready-made, without formulas"):
        LeaveOutRule(["Fe"]).codes(3, columns([1, 2, 3]))


# ---- strata ----


@given(VALUES, FRACTIONS, SEEDS)
def test_every_split_has_its_share_of_each_stratum_within_one_graph(values, fractions, seed):
    codes = SplitRule(fractions, seed, None, Strata("kind")).codes(len(values), columns(values))
    for value in set(values):
        own = codes[np.array(values) == value]
        for code, share in enumerate(fractions):
            assert abs((own == code).sum() - share * len(own)) < 1
    for code, share in enumerate(fractions):
        assert abs((codes == code).sum() - share * len(codes)) < 3
    if sum(fractions) == 1:
        assert NO_SPLIT not in codes


@given(VALUES, FRACTIONS, SEEDS, st.lists(st.integers(0, 200), max_size=3))
@FEWER
def test_shares_of_strata_are_kept_where_a_dataset_grows(values, fractions, seed, cuts):
    codes = grown(SplitRule(fractions, seed, None, Strata("kind")), values, cuts)
    for value in set(values):
        own = codes[np.array(values) == value]
        for code, share in enumerate(fractions):
            # Each part may be rounded in the same direction, and no graph moves.
            assert abs((own == code).sum() - share * len(own)) < 2 * (len(cuts) + 1)


@given(st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), min_size=1, max_size=150), st.integers(2, 12))
def test_numbers_are_divided_into_bins_of_equal_size_but_for_equal_numbers(values, bins):
    array = np.array(values, float)
    strata = Strata.of("kind", bins, columns(array))
    numbers = strata.numbers(columns(array))
    there = ~np.isnan(array)
    assert not set(numbers[there].tolist()) & set(numbers[~there].tolist())
    assert len(set(numbers[~there].tolist())) <= 1
    order = np.argsort(array[there], kind="stable")
    assert (np.diff(numbers[there][order].astype(int)) >= 0).all()
    if strata.edges is None:
        assert len(set(numbers[there].tolist())) == len(np.unique(array[there])) <= bins
    else:
        assert len(strata.edges) < bins
        most = np.unique(array[there], return_counts=True)[1].max()
        assert np.bincount(numbers[there]).max() <= there.sum() / bins + most + 1
        assert np.bincount(numbers[there]).min() > 0


def test_texts_booleans_and_few_integers_are_strata_by_value():
    assert Strata.of("kind", 10, columns(texts(range(50)))).edges is None
    assert Strata.of("kind", 10, columns([True, False])).edges is None
    assert Strata.of("kind", 10, columns(list(range(10)))).edges is None
    assert Strata.of("kind", 10, columns(list(range(100)))).edges == (9, 19, 29, 39, 49, 59, 69, 79, 89)


def test_too_many_texts_and_too_few_bins_are_refused():
    with pytest.raises(lg.InputError, match="has 1,001 different texts; required: at most 1,000 to stratify by"):
        Strata.of("kind", 10, columns(texts(range(1001))))
    for bins in (1, 1001):
        with pytest.raises(lg.InputError, match=f"found {bins} bins; required: 2 to 1,000"):
            Strata.of("kind", bins, columns([1.0]))


def test_bins_of_numbers_that_became_texts_are_refused():
    with pytest.raises(lg.InputError, match="the label 'kind' has texts, and the splits follow its numbers"):
        Strata("kind", (1.0,)).numbers(columns(texts([1, 2])))


def test_new_graphs_are_in_the_strata_of_the_old_ones():
    rule = SplitRule((0.5, 0, 0.5), 1, None, Strata("kind", (10.0,)))
    values = np.array([1.0, 20.0] * 10 + [2.0] * 10 + [np.nan] * 4)
    codes = grown(rule, values, [19])
    assert [(codes[20:30] == code).sum() for code in (TRAIN, TEST)] == [5, 5]
    assert [(codes[30:] == code).sum() for code in (TRAIN, TEST)] == [2, 2]


# ---- all rules ----

RULES = [
    SplitRule((0.8, 0.1, 0.1), 5, "chemical_system"),
    SplitRule((0.8, 0.1, 0.1), 5, None, Strata("gap", (0.5, 1.5))),
    FoldRule(2, 5, 0.1, 18012019, "formula"),
    FoldRule(2, 5, 0, 1, None, Strata("kind")),
    LeaveOutRule(["Fe", "Co", "Fe"], 0.1, 3),
    CountsRule(np.array([60000, 5000, 4239])),
]
RULES += [LabelledRule("band gap", rule) for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_json_form_of_a_rule_is_the_rule(rule):
    assert rule_from_json(rule.to_json()) == rule
    assert rule.in_words().isprintable()


def test_the_labels_that_a_rule_reads():
    named = [labels_of(rule.to_json()) for rule in RULES]
    assert named[:6] == [{"chemical_system"}, {"gap"}, {"formula"}, {"kind"}, set(), set()]
    assert named[6:] == [names | {"band gap"} for names in named[:6]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FoldRule(5, 5), "found fold 5 of 5; required: 2 to 100 folds, counted from 0"),
        (lambda: FoldRule(0, 1), "found fold 0 of 1"),
        (lambda: FoldRule(0, 101), "found fold 0 of 101"),
        (lambda: FoldRule(0, 5, 1.0), "found the fraction 1.0 for val; required: from 0 to less than 1"),
        (lambda: FoldRule(0, 5, seed=-1), "found the seed -1; required: 0 to 2"),
        (lambda: FoldRule(0, 5, group="a", stratify=Strata("b")), "the group 'a' and strata by 'b' are given"),
        (lambda: SplitRule((1, 0, 0), group="a", stratify=Strata("b")), "the group 'a' and strata by 'b' are given"),
        (lambda: LeaveOutRule(["Fe"], -0.1), "found the fraction -0.1 for val"),
        (lambda: CountsRule((5, 3)), r"found the counts \(5, 3\); required: three integers of at least 0"),
        (lambda: CountsRule((0.8, 0.1, 0.1)), r"found the counts \(0.8, 0.1, 0.1\); required: three integers"),
        (lambda: CountsRule((5, -1, 1)), "found the counts"),
        (lambda: CountsRule((0, 0, 0)), "found the counts"),
        (lambda: CountsRule(5), "found the counts 5"),
    ],
)
def test_rules_that_cannot_be_are_refused(make, message):
    with pytest.raises(lg.InputError, match=message):
        make()


@given(st.lists(st.integers(0, 30), min_size=1, max_size=300), FRACTIONS, st.integers(0, 1000))
def test_groups_are_divided_as_by_sorting_all_values_in_memory(groups, fractions, seed):
    """The plain form of the rule: numpy's groups in a list, and their middles."""
    _, members = np.unique(groups, return_inverse=True)
    sizes = np.bincount(members)
    order = list(range(len(sizes)))
    random.Random(seed).shuffle(order)
    middles = (np.cumsum(sizes[order]) - sizes[order] / 2) / len(members)
    code = np.searchsorted(np.cumsum(fractions), middles, side="right")
    of_group = np.empty(len(sizes), np.uint8)
    of_group[order] = np.where(code > 2, NO_SPLIT, code)
    assert grouped_codes(members, fractions, seed).tolist() == of_group[members].tolist()
    rule = SplitRule(fractions, seed, "kind")
    assert rule.codes(len(groups), columns(groups)).tolist() == of_group[members].tolist()


def test_splits_have_three_names():
    assert SPLITS == ("train", "val", "test")


@given(st.lists(st.integers(0, 40), max_size=300))
def test_rows_are_sorted_by_their_numbers_as_numpy_sorts_them(numbers):
    array = np.array(numbers, np.uint32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shares, "STEP", 7)
        assert shares.rows_by_number(array).tolist() == np.argsort(array, kind="stable").tolist()
