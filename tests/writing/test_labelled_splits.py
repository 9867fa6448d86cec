"""Splits of the graphs with a value of a label, and splits of exact sizes: rules, datasets, reports, added graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli.main import main, main_write
from lazygraph.format import columns as format_columns
from lazygraph.format.columns import NO_SPLIT
from lazygraph.format.manifest import Manifest
from lazygraph.writing.edit import set_labels, set_splits
from lazygraph.writing.layout import Layout
from lazygraph.writing.merge import published
from lazygraph.writing.salvage import salvage
from lazygraph.writing.shares import SPLITS, split_codes
from lazygraph.writing.split_rules import CountsRule, FoldRule, LabelledRule, LeaveOutRule, SplitRule, Strata
from lazygraph.writing.temporary_arrays import TemporaryArrays
from lazygraph.writing.value_groups import RuleColumns

SEEDS = st.integers(0, 2**32 - 1)
FORMULAS = np.array([b"Fe2O3", b"NaCl", b"C", b"CoO", b"CsCl", b"Fe", b"KCl"])
LEAST = len(FORMULAS)  # graphs that every example begins with, one of each formula and kind, all with a value

# ---- the rules ----


def fractions(columns, seed):
    return SplitRule((0.6, 0.2, 0.1), seed)


def by_kind(columns, seed):
    return SplitRule((0.6, 0.2, 0.2), seed, "kind")


def by_system(columns, seed):
    return SplitRule((0.6, 0.2, 0.2), seed, "chemical_system")


def stratified(columns, seed):
    return SplitRule((0.6, 0.2, 0.2), seed, None, Strata.of("gap", 3, columns))


def exact(columns, seed):
    return CountsRule((3, 1, 2), seed)


def fold(columns, seed):
    return FoldRule(1, 3, 0.3, seed)


def fold_by_kind(columns, seed):
    return FoldRule(1, 3, 0.3, seed, "kind")


def stratified_fold(columns, seed):
    return FoldRule(1, 3, 0.3, seed, None, Strata.of("gap", 3, columns))


def left_out(columns, seed):
    return LeaveOutRule(["Fe", "Co"], 0.3, seed)


RULES = [fractions, by_kind, by_system, stratified, exact, fold, fold_by_kind, stratified_fold, left_out]


def targets(form, there):
    """A label with a value where ``there`` says so: texts, numbers, or several numbers a graph."""
    if form == "texts":
        return np.where(there, b"x", b"")
    numbers = np.where(there, 0.0, np.nan)
    if form == "numbers":
        return numbers
    partly = np.full(len(there), np.nan)
    return np.stack([partly, numbers, numbers], axis=1)  # one number is enough for a value


def columns_of_arrays(arrays):
    """The columns of a dataset with these arrays, each in two pieces."""

    def stored(name):
        half = len(arrays[name]) // 2
        return [arrays[name][:half], arrays[name][half:]]

    one = [name for name, values in arrays.items() if values.ndim == 1]
    return RuleColumns(stored, one, TemporaryArrays(Path()), [name for name in arrays if name not in one])


def grown(rule, columns, sizes):
    """The splits of a dataset with ``sizes[0]`` graphs, to which graphs were added up to each further size.

    Args:
        rule: the rule.
        columns: a function of a number of graphs that returns their columns.
        sizes: the numbers of graphs.
    """
    codes = rule.codes(sizes[0], columns(sizes[0]))
    for size in sizes[1:]:
        more = np.concatenate([codes, np.full(size - len(codes), NO_SPLIT, np.uint8)])
        after = rule.extended(more, len(codes), columns(size), continued=True)
        assert (after[: len(codes)] == codes).all()
        codes = after
    return codes


GRAPHS = st.lists(
    st.tuples(
        st.booleans(), st.integers(0, LEAST - 1), st.integers(0, 3), st.sampled_from([0.0, 0.5, 1.5, 2.5, np.nan])
    ),
    max_size=120,
)


@pytest.mark.parametrize("make", RULES, ids=lambda make: make.__name__)
@given(GRAPHS, st.sampled_from(["texts", "numbers", "arrays"]), SEEDS, st.lists(st.integers(0, 200), max_size=3))
@settings(max_examples=40)
def test_graphs_with_a_value_are_split_as_a_dataset_of_them_alone(make, graphs, form, seed, cuts):
    graphs = [*((True, n, n % 4, n / 2) for n in range(LEAST)), *graphs]
    there, formula, kind, gap = map(np.array, zip(*graphs, strict=True))
    kinds = np.array([b"", b"bulk", b"slab", b"wire"])[kind]
    arrays = {"target": targets(form, there), "formula": FORMULAS[formula], "kind": kinds, "gap": gap}
    alone = {name: values[there] for name, values in arrays.items()}
    sizes = sorted({LEAST + cut % (len(graphs) - LEAST + 1) for cut in cuts} | {len(graphs)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(format_columns, "PIECE", 64)  # many pieces, of which some have no graph with a value

        def whole(size):
            return columns_of_arrays({name: values[:size] for name, values in arrays.items()})

        def part(size):
            return columns_of_arrays({name: values[:size] for name, values in alone.items()})

        own = [int(there[:size].sum()) for size in sizes]
        inner = make(part(own[0]), seed)
        assert make(whole(sizes[0]).labelled("target").columns, seed) == inner
        codes = grown(LabelledRule("target", inner), whole, sizes)
        assert codes[there].tolist() == grown(inner, part, own).tolist()
    assert (codes[~there] == NO_SPLIT).all()
    assert (codes[there] != NO_SPLIT).any()


@given(st.integers(3, 400), st.data(), SEEDS)
def test_exact_numbers_take_the_shuffled_order_of_fractions(n, data, seed):
    train = data.draw(st.integers(1, n - 2))
    val = data.draw(st.integers(0, n - train - 1))
    test = data.draw(st.integers(0, n - train - val))
    codes = CountsRule((train, val, test), seed).codes(n, columns_of_arrays({}))
    assert [int((codes == code).sum()) for code in range(3)] == [train, val, test]
    shares = tuple((count + 0.5) / n for count in (train, val, test))
    if sum(shares) <= 1:
        assert codes.tolist() == split_codes(n, shares, seed).tolist()


def test_exact_numbers_of_new_graphs_alone():
    codes = np.array([0, 2, *[NO_SPLIT] * 6], np.uint8)
    after = CountsRule((3, 1, 1)).extended(codes, 2, columns_of_arrays({}), continued=False)
    assert after[:2].tolist() == [0, 2]
    assert [int((after[2:] == code).sum()) for code in (0, 1, 2, NO_SPLIT)] == [3, 1, 1, 1]


def test_rules_that_cannot_be_applied_say_which_graphs_they_count():
    columns = columns_of_arrays({"gap": np.array([1.0, np.nan, 2.0, np.nan]), "none": np.full(4, np.nan)})
    with pytest.raises(lg.InputError, match="among the graphs with a value of 'gap': found 2 graphs for 3 folds"):
        LabelledRule("gap", FoldRule(0, 3)).codes(4, columns)
    with pytest.raises(
        lg.InputError, match=r"of 'gap': the counts 2 for train, 1 for val .* add up to 3, and there are 2"
    ):
        LabelledRule("gap", CountsRule((2, 1, 0))).codes(4, columns)
    with pytest.raises(lg.InputError, match="none of the 4 graphs has a value of 'none'; name another label"):
        LabelledRule("none", SplitRule((1, 0, 0))).codes(4, columns)
    with pytest.raises(lg.InputError, match="unknown label 'gpa'; did you mean 'gap'"):
        LabelledRule("gpa", SplitRule((1, 0, 0))).codes(4, columns)


# ---- datasets ----


def items(begin, end):
    """Halides and oxides. Every fourth has no gap, every fifth no kind, every sixth no tensor."""
    out = []
    for n in range(begin, end):
        cation = (3, 11, 26, 27, 57)[n % 5]
        numbers = [cation, 17] if n % 2 else [cation, cation, 8]
        places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]][: len(numbers)]
        labels = {
            "gap": np.nan if n % 4 == 3 else n * 7 % 60 / 10,
            "kind": None if n % 5 == 4 else ["bulk", "slab", "wire"][n % 3],
            "tensor": np.full(3, np.nan) if n % 6 == 5 else np.array([np.nan, n, 1.0]),
            "number": n,
        }
        out.append((f"id-{n}", lg.Crystal(np.eye(3) * (4 + n / 100), places, numbers), labels))
    return out


def has_value(label, item):
    value = item[2][label]
    return value is not None and not np.isnan(value if label != "kind" else 0).all()


def splits_of(path, name="split"):
    ds = lg.LazyGraphDataset(path)
    return dict(zip(ds.ids.tolist(), ds.columns[name].tolist(), strict=True))


def rules_of(path):
    return {name: column.rule for name, column in Manifest.load(path).splits().items()}


OPTIONS = [
    {"fractions": (0.7, 0.15, 0.1), "seed": 5},
    {"fractions": (0.5, 0.25, 0.25), "group": "kind"},
    {"fractions": (0.5, 0.25, 0.25), "group": "chemical_system"},
    {"fractions": (0.5, 0.25, 0.25), "group": "prototype"},
    {"fractions": (0.5, 0.25, 0.25), "stratify": "gap", "bins": 4},
    {"fractions": (0.5, 0.25, 0.25), "stratify": "kind"},
    {"counts": (20, 7, 5), "seed": 3},
    {"folds": 4, "val": 0.2, "seed": 18012019},
    {"folds": 3, "group": "formula"},
    {"folds": 3, "stratify": "kind"},
    {"leave_out": ["Fe", "Co"], "val": 0.25},
]


@pytest.mark.parametrize("label", ["gap", "kind", "tensor"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options)))
def test_a_dataset_is_split_as_a_dataset_of_its_labelled_graphs(options, label, tmp_path, write, append):
    paths = {True: tmp_path / "alone.lg", False: tmp_path / "all.lg"}

    def chosen(begin, end, alone):
        return [item for item in items(begin, end) if not alone or has_value(label, item)]

    for alone, path in paths.items():
        write(chosen(0, 60, alone), path, graph="none")
        report = set_splits(path, workers=1, **options, **({} if alone else {"labelled": label}))
    without = 60 - len(chosen(0, 60, alone=True))
    assert 10 <= without <= 15
    assert report.notes.count(f"{without} of 60 graphs have no value of {label!r} and are in no split") == 1
    _check_splits(paths, label)
    reports = {alone: append(path, chosen(60, 83, alone)) for alone, path in paths.items()}
    _check_splits(paths, label)
    assert main(["verify", str(paths[False])]) == 0
    if "folds" not in options:
        missing = len(lg.LazyGraphDataset(paths[False])) - len(lg.LazyGraphDataset(paths[True]))
        assert reports[False].in_no_split == reports[True].in_no_split + missing


def _check_splits(paths, label):
    """The same rules and splits in both datasets, and no split for graphs that only one of them has."""
    rules = rules_of(paths[True])
    assert rules_of(paths[False]) == {name: rule | {"labelled": label} for name, rule in rules.items()}
    for name in rules:
        alone, whole = splits_of(paths[True], name), splits_of(paths[False], name)
        assert {graph: whole[graph] for graph in alone} == alone
        assert {whole[graph] for graph in whole if graph not in alone} == {""}
        assert len(set(alone.values())) >= 2


@pytest.fixture
def sixty(tmp_path, write):
    write(items(0, 60), tmp_path / "x.lg", graph="none")
    return tmp_path / "x.lg"


def test_notes_tell_graphs_without_a_value_from_graphs_that_no_split_has(sixty, append):
    report = set_splits(sixty, (0.5, 0.25, 0.2), labelled="gap", stratify="kind")
    assert report.sizes == {"split": {"train": 23, "val": 11, "test": 9}}
    left = "training does not use them; 'lazygraph split' splits the whole dataset, and --split (split=) says"
    assert report.notes[0] == "15 of 60 graphs have no value of 'gap' and are in no split"
    assert report.notes[1].startswith(
        "2 of 45 graphs with a value of 'gap' are in no split (train 23, val 11, test 9), so"
    )
    assert left in report.notes[1]
    assert report.notes[2:] == ("9 graphs with a value of 'gap' have no value of 'kind'; they are one stratum",)
    report = set_splits(sixty, (0.6, 0.2, 0.2), labelled="gap")
    assert report.notes == ("15 of 60 graphs have no value of 'gap' and are in no split",)
    report = append(sixty, items(60, 80))
    assert (report.in_no_split, report.notes) == (20, ("20 of 80 graphs have no value of 'gap' and are in no split",))
    assert set_splits(sixty, folds=5, labelled="number", name="all").notes == ()


def test_graphs_that_get_or_lose_their_value_are_told(sixty, append):
    set_splits(sixty, (0.6, 0.2, 0.2), labelled="gap")
    before = splits_of(sixty)
    report = set_labels(sixty, {f"id-{n}": {"gap": 1.0} for n in (3, 7)} | {"id-0": {"number": 1}})
    note = "the splits split follow the earlier values of 'gap', and stay as they are; 'lazygraph split' splits the"
    assert [note in each for each in report.notes] == [True, False]
    report = append(sixty, items(60, 64))
    assert before.items() <= splits_of(sixty).items()
    assert report.notes[0] == "14 of 64 graphs have no value of 'gap' and are in no split"
    assert report.notes[1].startswith("45 graphs in splits have no value of 'gap' any more; 'lazygraph split' splits")
    assert report.notes[2].startswith("2 of 5 graphs with a value of 'gap' are in no split")
    report = set_splits(sixty, (0.6, 0.2, 0.2), labelled="gap")
    assert report.sizes == {"split": {"train": 3, "val": 1, "test": 1}}


def test_graphs_that_are_added_to_splits_of_exact_sizes_are_in_none(sixty, append):
    report = set_splits(sixty, counts=(40, 10, 10))
    assert (report.sizes, report.notes) == ({"split": {"train": 40, "val": 10, "test": 10}}, ())
    before = splits_of(sixty)
    report = append(sixty, items(60, 65))
    assert report.in_no_split == 5
    told = "5 of 65 graphs are in no split (train 40, val 10, test 10), because the splits have exact numbers of graphs"
    assert report.notes[0].startswith(told)
    assert splits_of(sixty) == before | {f"id-{n}": "" for n in range(60, 65)}
    assert rules_of(sixty) == {"split": {"counts": [40, 10, 10], "seed": 123}}
    assert append(sixty, items(65, 68), split="test").in_no_split == 5
    assert rules_of(sixty) == {"split": None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"counts": (40, 10, 11)},
            "the counts 40 for train, 10 for val and 11 for test add up to 61, and there are 60",
        ),
        (
            {"counts": (40, 10, 10), "labelled": "gap"},
            "a value of 'gap': the counts .* and there are 45 graphs; give sm",
        ),
        ({"counts": (40, 10)}, r"found the counts \(40, 10\); required: three integers"),
        ({"counts": (1, 1, 1), "fractions": (1, 0, 0)}, "found fractions and counts"),
        ({"counts": (1, 1, 1), "group": "kind"}, r"group cannot be used with counts; allowed: labelled \(--for\)"),
        ({"counts": (1, 1, 1), "val": 0.1}, "val cannot be used with counts; allowed: labelled"),
        (
            {"names": {"a": []}, "labelled": "gap"},
            r"labelled \(--for\) cannot be used with names \(--from\); allowed: no other",
        ),
        ({"fractions": (1, 0, 0), "labelled": "gpa"}, "unknown label 'gpa'; did you mean 'gap'.*known: .*tensor"),
        ({"fractions": (1, 0, 0), "labelled": "formula"}, "unknown label 'formula'; .*Name a label with values for gr"),
        ({"fractions": (1, 0, 0), "labelled": "tensor", "group": "tensor"}, "unknown group 'tensor'; known: "),
        ({"folds": 46, "labelled": "gap"}, "a value of 'gap': found 45 graphs for 46 folds"),
        ({"leave_out": ["Au"], "labelled": "gap"}, "a value of 'gap': none of the 45 crystals has Au"),
    ],
)
def test_splits_that_cannot_be_change_nothing(options, message, sixty, bytes_of):
    before = bytes_of(sixty)
    with pytest.raises(lg.InputError, match=message):
        set_splits(sixty, **options)
    assert bytes_of(sixty) == before


def test_an_unknown_label_is_refused_before_prototypes_are_computed(sixty):
    computed = []
    options = {"group": "prototype", "workers": 1, "progress": computed.append}
    with pytest.raises(lg.InputError, match="unknown label 'gpa'"):
        set_splits(sixty, (1, 0, 0), labelled="gpa", **options)
    assert computed == []
    set_splits(sixty, (1, 0, 0), labelled="gap", **options)
    assert sum(computed) == 60


def test_a_label_that_one_graph_has(sixty):
    set_labels(sixty, {"id-1": {"only": 1.0}})
    set_splits(sixty, (1, 0, 0), labelled="only")
    assert [graph for graph, split in splits_of(sixty).items() if split] == ["id-1"]


def test_per_atom_labels_cannot_be_named(tmp_path, write, salt):
    rows = [(f"{n}", salt(n), {"energy": 1.0, "forces": np.zeros((2, 3))}) for n in range(5)]
    write(rows, tmp_path / "x.lg")
    with pytest.raises(
        lg.InputError, match="unknown label 'forces'; known: energy. Name a label with values for graphs"
    ):
        set_splits(tmp_path / "x.lg", (1, 0, 0), labelled="forces")


def test_a_write_that_is_finished_already_tells_the_same(sixty, write):
    set_splits(sixty, (0.6, 0.2, 0.2), labelled="gap")
    told = ("15 of 60 graphs have no value of 'gap' and are in no split",)
    assert write(items(0, 60), sixty, graph="none").notes == told
    assert published(Layout.of(sixty)).notes == told


def test_ready_made_graphs_are_split_by_their_labels(tmp_path):
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        for n in range(12):
            writer.add({"z": np.ones(n + 1)}, labels={"e": float(n) if n % 3 else np.nan})
    report = set_splits(tmp_path / "x.lg", (0.5, 0.25, 0.25), labelled="e")
    assert report.sizes == {"split": {"train": 4, "val": 2, "test": 2}}


@pytest.mark.parametrize("lost", ["the label", "the splits", "another label", "nothing"])
def test_a_rule_ends_with_the_label_that_it_follows(lost, sixty, tmp_path, append):
    set_splits(sixty, (0.6, 0.2, 0.2), labelled="gap")
    name = {"the label": "gap", "the splits": "split", "another label": "kind"}.get(lost)
    if name is not None:
        column = sixty / Manifest.load(sixty).columns[name].file.name
        column.write_bytes(bytes(column.stat().st_size))
    saved = salvage(sixty, tmp_path / "saved.lg")
    said = (
        "the rule of the splits in 'split' is left out, because the column 'gap' was damaged, whose values it follows"
    )
    assert (said in saved.notes) == (lost == "the label")
    assert main(["verify", str(saved.path)]) == 0
    rules = rules_of(saved.path)
    if lost == "the splits":
        assert rules == {}
    else:
        assert splits_of(saved.path) == splits_of(sixty)
        assert (rules["split"] is None) == (lost == "the label")


def test_a_rule_of_exact_numbers_ends_where_graphs_are_lost(tmp_path, write):
    write(items(0, 60), tmp_path / "x.lg", graph="none", shard_size=20)
    set_splits(tmp_path / "x.lg", counts=(40, 10, 10))
    shard = tmp_path / "x.lg" / Manifest.load(tmp_path / "x.lg").shards[1].file.name
    shard.write_bytes(bytes(shard.stat().st_size))
    saved = salvage(tmp_path / "x.lg", tmp_path / "saved.lg")
    assert len(saved.lost) == 20
    assert (
        "the rule of the splits in 'split' is left out, because graphs were lost, and it states their exact numbers"
        in (saved.notes)
    )
    assert rules_of(saved.path) == {"split": None}


# ---- the command ----


def test_the_command_splits_the_graphs_with_a_value(sixty, capsys):
    assert main(["split", str(sixty), "0.6,0.2,0.2", "--for", "gap"]) == 0
    out, error = capsys.readouterr()
    assert out == "train: 27 graphs\nval: 9 graphs\ntest: 9 graphs\n"
    assert error == "note: 15 of 60 graphs have no value of 'gap' and are in no split\n"
    assert main(["split", str(sixty), "--folds", "3", "--for", "kind"]) == 0
    out, error = capsys.readouterr()
    assert out.splitlines()[0] == "fold_0: train 32, val 0, test 16"
    assert error.count("12 of 60 graphs have no value of 'kind' and are in no split") == 1
    assert main(["split", str(sixty), "--counts", "30,10,5", "--for", "gap", "--name", "exact"]) == 0
    assert capsys.readouterr().out == "train: 30 graphs\nval: 10 graphs\ntest: 5 graphs\n"
    assert main(["info", str(sixty)]) == 0
    shown = capsys.readouterr().out
    assert "15 graphs in none; by the fractions 0.6, 0.2, 0.2, seed 123, of the graphs with a value of gap\n" in shown
    assert "; fold 1 of 3, val 0, seed 123, of the graphs with a value of kind\n" in shown
    exactly = "exactly 30 graphs in train, 10 in val and 5 in test, seed 123, of the graphs with a value of gap"
    assert f"exact: train 30, val 10, test 5, 15 graphs in none; {exactly}\n" in shown
    assert main(["verify", str(sixty)]) == 0


@pytest.mark.parametrize("counts", ["0.8,0.1,0.1", "a,b,c", "1,2", "30;10;5", "-1,2,3", ""])
def test_counts_that_are_none_are_refused(counts, sixty, capsys):
    assert main(["split", str(sixty), f"--counts={counts}"]) == 2
    error = capsys.readouterr().err
    assert "found the counts" in error
    assert "such as 60000,5000,4239" in error


def test_an_append_on_the_command_line_follows(sixty, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.xyz").write_text(
        "".join(
            f'1\nLattice="{4 + n} 0 0 0 4 0 0 0 4" pbc="T T T" id=new-{n} {"gap=1.5" if n % 2 else ""}\nNa 0 0 0\n'
            for n in range(10)
        )
    )
    set_splits(sixty, (0.6, 0.2, 0.2), labelled="gap")
    assert main_write(["more.xyz", "-o", "x.lg", "--append", "--workers", "1"]) == 0
    assert "note: 20 of 70 graphs have no value of 'gap' and are in no split" in capsys.readouterr().err
    added = {graph: split for graph, split in splits_of(sixty).items() if "id-" not in graph}
    assert len(added) == 10
    assert [bool(split) for split in added.values()] == [False, True] * 5
    assert set(added.values()) == {"", *SPLITS}
