"""Datasets split by chemical systems, folds, left-out elements and strata: columns, rules, reports, added graphs."""

from __future__ import annotations

import json

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.cli.main import main, main_write
from lazygraph.format.manifest import Manifest
from lazygraph.writing.edit import set_splits

ELEMENTS = (3, 11, 26, 27, 57)


def items(begin, end):
    """Halides and one oxide formula of several elements; every fifth has no gap, and every seventh no kind."""
    out = []
    for n in range(begin, end):
        cation = ELEMENTS[n % len(ELEMENTS)]
        numbers = [cation, 17] if n % 2 else [cation, cation, 8]
        places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]][: len(numbers)]
        labels = {"gap": n * 7 % 60 / 10, "kind": ["bulk", "slab"][n % 3 == 0]}
        if n % 5 == 4:
            del labels["gap"]
        if n % 7 == 6:
            del labels["kind"]
        out.append((f"id-{n}", lg.Crystal(np.eye(3) * (4 + n / 100), places, numbers), labels))
    return out


@pytest.fixture
def sixty(tmp_path, write):
    write(items(0, 60), tmp_path / "x.lg", graph="none")
    return tmp_path / "x.lg"


def columns_of(path):
    return lg.LazyGraphDataset(path).columns


def rule_of(path, name="split"):
    return Manifest.load(path).columns[name].rule


@pytest.mark.parametrize("how", ["written", "split later", "on the command line"])
def test_chemical_systems_stay_together_and_added_graphs_follow(how, tmp_path, write, append):
    path, options = tmp_path / "x.lg", {"seed": 4, "group": "chemical_system"}
    if how == "written":
        write(items(0, 60), path, graph="none", split=(0.5, 0.25, 0.25), **options)
    else:
        write(items(0, 60), path, graph="none")
    if how == "split later":
        set_splits(path, (0.5, 0.25, 0.25), **options)
    elif how == "on the command line":
        assert main(["split", str(path), "0.5,0.25,0.25", "--seed", "4", "--group", "chemical_system"]) == 0
    assert rule_of(path) == {"fractions": [0.5, 0.25, 0.25], **options}
    append(path, items(60, 90))
    columns = columns_of(path)
    splits = {}
    for formula, split in zip(columns["formula"].tolist(), columns["split"].tolist(), strict=True):
        splits.setdefault("".join(letter for letter in formula if not letter.isdigit()), set()).add(split)
    assert len(splits) == 10
    assert all(len(found) == 1 for found in splits.values())
    assert rule_of(path) is not None


def test_folds_are_columns_of_which_each_graph_tests_in_one(sixty, append):
    report = set_splits(sixty, folds=5, val=0.25, seed=18012019)
    assert list(report.sizes) == [f"fold_{fold}" for fold in range(5)]
    assert all(sizes == {"train": 36, "val": 12, "test": 12} for sizes in report.sizes.values())
    assert report.notes == ()
    before = {name: columns_of(sixty)[name].tolist() for name in report.sizes}
    append(sixty, items(60, 83))
    columns = columns_of(sixty)
    assert (np.array([columns[name] == "test" for name in before]).sum(axis=0) == 1).all()
    for fold, (name, old) in enumerate(before.items()):
        assert columns[name].tolist()[:60] == old
        assert "" not in columns[name].tolist()
        assert rule_of(sixty, name) == {"fold": fold, "folds": 5, "val": 0.25, "seed": 18012019, "group": None}
    assert lg.LazyGraphDataset(sixty).split("test", of="fold_3").ids.tolist() == [
        f"id-{n}" for n in np.flatnonzero(columns["fold_3"] == "test")
    ]


def test_fewer_folds_leave_no_fold_of_before(sixty):
    set_splits(sixty, folds=4)
    set_splits(sixty, (0.5, 0.25, 0.25), name="fold_9")
    set_splits(sixty, folds=3, name="other")
    report = set_splits(sixty, folds=2)
    assert report.notes == ("the splits fold_2, fold_3 were removed, because the new number of folds is smaller",)
    assert sorted(Manifest.load(sixty).splits()) == ["fold_0", "fold_1", "fold_9", "other_0", "other_1", "other_2"]
    assert main(["verify", str(sixty)]) == 0


def test_folds_with_groups_and_with_strata(sixty):
    set_splits(sixty, folds=3, val=0.2, group="formula", name="whole")
    columns = columns_of(sixty)
    for name in ("whole_0", "whole_1", "whole_2"):
        assert len(set(zip(columns["formula"], columns[name], strict=True))) == len(set(columns["formula"]))
    report = set_splits(sixty, folds=3, stratify="kind", name="even")
    assert report.notes == ("8 graphs have no value of 'kind'; they are one stratum",)
    for kind in ("bulk", "slab", ""):
        sizes = [int(((columns["kind"] == kind) & (columns_of(sixty)[f"even_{n}"] == "test")).sum()) for n in range(3)]
        assert max(sizes) - min(sizes) <= 1


def test_crystals_with_an_element_are_left_out_and_added_ones_follow(sixty, append):
    report = set_splits(sixty, leave_out=["Fe", "Co"], val=0.25)
    assert report.sizes == {"split": {"train": 27, "val": 9, "test": 24}}
    assert rule_of(sixty) == {"leave_out": ["Co", "Fe"], "val": 0.25, "seed": 123}
    append(sixty, items(60, 80))
    columns = columns_of(sixty)
    has = np.array(["Fe" in formula or "Co" in formula for formula in columns["formula"]])
    assert ((columns["split"] == "test") == has).all()
    assert (columns["split"] == "val").sum() == 12
    assert "" not in columns["split"].tolist()
    with pytest.raises(lg.InputError, match="none of the 80 crystals has Au; leave out an element"):
        set_splits(sixty, leave_out=["Au"])


def test_strata_of_numbers_are_bins_that_the_rule_keeps(sixty, append):
    report = set_splits(sixty, (0.5, 0.25, 0.25), stratify="gap", bins=4)
    assert report.notes == ("12 graphs have no value of 'gap'; they are one stratum",)
    rule = rule_of(sixty)
    assert rule["stratify"]["label"] == "gap"
    assert len(rule["stratify"]["edges"]) == 3
    append(sixty, items(60, 100))
    assert rule_of(sixty) == rule
    columns = columns_of(sixty)
    gap, split = columns["gap"], columns["split"]
    strata = np.where(np.isnan(gap), 9, np.searchsorted(rule["stratify"]["edges"], gap))
    for stratum in set(strata.tolist()):
        own = split[strata == stratum]
        for name, share in {"train": 0.5, "val": 0.25, "test": 0.25}.items():
            assert abs((own == name).sum() - share * len(own)) < 2


def test_graphs_without_a_value_to_group_by_are_told(sixty):
    report = set_splits(sixty, (0.5, 0.25, 0.25), group="kind")
    assert report.notes == ("8 graphs have no value of 'kind'; they are one group, which stays whole",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 5, "fractions": (0.8, 0.1, 0.1)}, "found fractions and folds"),
        (
            {"fractions": (0.8, 0.1, 0.1), "val": 0.1},
            "val cannot be used with fractions; allowed: group, stratify, bins, symp",
        ),
        (
            {"names": {"a": []}, "group": "kind"},
            r"group cannot be used with names \(--from\); allowed: no other option",
        ),
        ({"leave_out": ["Fe"], "group": "kind"}, "group cannot be used with leave_out; allowed: val"),
        ({"leave_out": ["Fe"], "stratify": "kind"}, "stratify cannot be used with leave_out; allowed: val"),
        ({"folds": 5, "bins": 3}, "bins needs stratify; name the label"),
        ({"folds": 5, "symprec": 0.1}, "symprec works only for prototypes; give the group 'prototype'"),
        (
            {"folds": 5, "group": "kind", "stratify": "gap"},
            "the group 'kind' and strata by 'gap' are given; give one",
        ),
        ({"folds": 1}, "found fold 0 of 1; required: 2 to 100 folds"),
        ({"folds": 0}, "found fold 0 of 0; required: 2 to 100 folds"),
        ({"folds": 61}, "found 60 graphs for 61 folds"),
        ({"folds": 5, "stratify": "knd"}, "unknown group 'knd'; did you mean 'kind'"),
        ({"folds": 5, "name": "a\nb"}, "splits cannot have the name"),
        ({"folds": 200, "group": "prototype"}, "found fold 0 of 200"),
        ({"leave_out": ["Fe"], "val": 1.5}, "found the fraction 1.5 for val"),
        (
            {"fractions": (1, 0, 0), "group": "prototype", "name": "prototype"},
            "splits by prototypes cannot have the name",
        ),
        ({"fractions": (1, 0, 0), "group": "prototype", "name": "n_node"}, "splits cannot have the name"),
    ],
)
def test_options_that_cannot_be_change_nothing(options, message, sixty, bytes_of):
    before = bytes_of(sixty)
    with pytest.raises(lg.InputError, match=message):
        set_splits(sixty, **options)
    assert bytes_of(sixty) == before


def test_the_command_prints_every_fold_and_info_the_rules(sixty, capsys):
    assert main(["split", str(sixty), "--folds", "3", "--val", "0.1", "--group", "formula"]) == 0
    out, error = capsys.readouterr()
    assert out.splitlines()[0].startswith("fold_0: train ")
    assert len(out.splitlines()) == 3
    assert error == ""
    assert main(["split", str(sixty), "--leave-out", "Fe,Co", "--val", "0.25"]) == 0
    assert capsys.readouterr().out == "train: 27 graphs\nval: 9 graphs\ntest: 24 graphs\n"
    arguments = ["0.5,0.25,0.25", "--stratify", "gap", "--bins", "3", "--name", "even"]
    assert main(["split", str(sixty), *arguments]) == 0
    assert "note: 12 graphs have no value of 'gap'; they are one stratum" in capsys.readouterr().err
    assert main(["info", str(sixty)]) == 0
    shown = capsys.readouterr().out
    assert "; fold 2 of 3, val 0.1, seed 123, by formula\n" in shown
    assert "; tests on crystals with Co or Fe, val 0.25, seed 123\n" in shown
    assert "; by the fractions 0.5, 0.25, 0.25, seed 123, stratified by gap in 3 bins\n" in shown
    assert main(["info", str(sixty), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["splits"]["fold_1"]["rule"]["folds"] == 3
    assert main(["split", str(sixty), "--folds", "3", "--leave-out", "Fe"]) == 2
    assert "found folds and leave_out" in capsys.readouterr().err


def test_the_command_computes_prototypes(sixty, capsys):
    assert (
        main(["split", str(sixty), "--folds", "2", "--group", "prototype", "--symprec", "0.02", "--workers", "1"]) == 0
    )
    assert rule_of(sixty, "prototype") == {"symprec": 0.02}
    assert main(["verify", str(sixty)]) == 0


def test_a_write_by_chemical_systems_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--split", "0.5,0.25,0.25", "--group", "chemical_system", "--workers", "1"]
    assert main_write(["prototypes:30?seed=0", "-o", "x.lg", *options]) == 0
    assert rule_of(tmp_path / "x.lg")["group"] == "chemical_system"
