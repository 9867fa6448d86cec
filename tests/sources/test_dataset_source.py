"""A dataset as input: its crystals and labels to the last bit, the same graphs as from the original files, damage."""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli.main import main_write
from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, LabelError, OutputExists, StructureError, UnreadableInput
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.format.store import Store
from lazygraph.sources.base import Cut, Label, Source
from lazygraph.sources.dataset import DatasetSource, energies_left_out
from lazygraph.sources.detect import open_sources, source_from_json, source_to_json
from lazygraph.sources.files import FilesSource
from lazygraph.sources.id_prop import IdPropSource
from lazygraph.storage.files import sha256_of
from lazygraph.writing.edit import fit_elements, set_labels, set_splits
from lazygraph.writing.quarantine import read_quarantine
from lazygraph.writing.stored_graphs import COPIED
from lazygraph.writing.worker import make_shard
from lazygraph.writing.write import finish, plan
from tests.real import DATA, existing

CHEAP = lg.graph("radius", cutoff=3.5)
OTHER = lg.graph("cgcnn", cutoff=4.0)


def write(source, path, graph=CHEAP, **options):
    lg.write(source, path, graph=graph, **{"workers": 1, "progress": False} | options)
    return Manifest.load(Path(path))


def read_all(path, tmp_path, every=1000):
    """What a dataset holds, read in ranges by pickled copies of its source."""
    source, spool = DatasetSource(str(path)), tmp_path / "spool"
    scan = source.scan(every, spool)
    entries = []
    for i, mark in enumerate(scan.marks):
        cut = Cut(mark, i * every, min(every, scan.entries - i * every))
        entries += pickle.loads(pickle.dumps(source)).read(cut, spool)
    assert len(entries) == scan.entries
    return scan, entries


def salts(n, **labels):
    """Entries of crystals of two atoms; each label is called with the number of the entry."""
    for i in range(n):
        crystal = Crystal(np.eye(3) * (4 + 0.01 * i), [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
        yield f"salt-{i}", crystal, {name: value(i) for name, value in labels.items()}


def bits(value):
    array = np.asarray(value)
    return array.dtype.str, array.shape, array.tobytes()


def split_names(path):
    store = Store(path)
    column = store.manifest.columns.get("split")
    if column is None:
        return [None] * len(store)
    return [column.categories[code] if code < 255 else None for code in store.column("split")]


# ---- the same as from the original files ----


def jarvis(folder):
    with zipfile.ZipFile(existing("jarvis/jdft_3d_superconductors.json.zip")) as archive:
        records = json.loads(archive.read(archive.namelist()[0]))[:120]
    (folder / "jarvis.json").write_text(json.dumps(records))
    return folder / "jarvis.json"


def frames(folder):
    with (DATA / "extxyz" / "mptrj-random-1k.xyz").open() as file, (folder / "mptrj.xyz").open("w") as out:
        for count in islice(iter(file.readline, ""), 40):
            out.writelines([count, *islice(file, int(count) + 1)])
    return folder / "mptrj.xyz"


def table(folder):
    with (DATA / "perov_5" / "val.csv").open(newline="") as file, (folder / "perov.csv").open("w", newline="") as out:
        csv.writer(out).writerows(islice(csv.reader(file), 81))
    return folder / "perov.csv"


def poscars(folder):
    with zipfile.ZipFile(existing("perov_5/perov5_poscars.json.zip")) as archive:
        splits = json.loads(archive.read(archive.namelist()[0]))
    part = {name: dict(islice(entries.items(), 30)) for name, entries in splits.items()}
    (folder / "poscars.json").write_text(json.dumps(part))
    return folder / "poscars.json"


ORIGINALS = {
    "jarvis": (jarvis, {"units": {"optb88vdw_bandgap": "eV"}}),
    "extxyz": (frames, {"units": {"forces": "eV/A", "energy": "eV"}}),
    "csv": (table, {"split": (0.8, 0.1, 0.1), "seed": 7}),
    "poscar-zip": (poscars, {}),
    "ase-db": (lambda _: existing("extxyz/10_mp_traj_systems.ase.db"), {}),
    "alignn": (lambda _: existing("folders/alignn"), {"labels": ["target"]}),
    "prototypes": (lambda _: "prototypes:90?seed=2", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ORIGINALS)
def test_graphs_are_those_that_the_original_files_give(kind, tmp_path):
    make, options = ORIGINALS[kind]
    original, old = make(tmp_path), tmp_path / "old.lg"
    first = write(original, old, **options)
    assert first.graphs == first.inputs, "no input may be quarantined: records hold their position among the inputs"

    same = write(old, tmp_path / "same.lg")
    assert same.content_id == first.content_id
    assert split_names(tmp_path / "same.lg") == split_names(old)
    assert replace(same, provenance=first.provenance, columns=first.columns) == first, "every shard is the same"
    splits = {name: replace(column, rule=None) for name, column in first.splits().items()}
    assert same.columns == first.columns | splits, "every column is the same, and no rule splits anew"
    assert {n: replace(c, file=None) for n, c in same.labels().items()} == {
        n: replace(c, file=None) for n, c in first.labels().items()
    }

    anew = write(original, tmp_path / "anew.lg", OTHER, **options)
    derived = write(old, tmp_path / "derived.lg", OTHER)
    assert derived.content_id == anew.content_id != first.content_id
    assert derived.labels() == anew.labels()
    assert split_names(tmp_path / "derived.lg") == split_names(old)


def test_entries_are_those_of_the_original_source(tmp_path):
    path = frames(tmp_path)
    manifest = write(path, tmp_path / "old.lg")
    (original,) = open_sources(path)
    scan = original.scan(1000, tmp_path / "spool")
    expected = list(original.read(Cut(scan.marks[0], 0, scan.entries), tmp_path / "spool"))
    _, entries = read_all(tmp_path / "old.lg", tmp_path)
    for mine, theirs in zip(entries, expected, strict=True):
        assert mine.id == theirs.id
        assert bits(mine.crystal.lattice) == bits(theirs.crystal.lattice)
        assert bits(mine.crystal.frac_coords) == bits(theirs.crystal.frac_coords)
        assert bits(mine.crystal.numbers) == bits(theirs.crystal.numbers)
        assert mine.crystal.pbc == theirs.crystal.pbc
        assert mine.labels.keys() == manifest.all_labels().keys() == theirs.labels.keys()
        assert manifest.labels().keys() == {"energy", "stress"}
        assert mine.atom_labels.keys() == {"forces"}
        texts = manifest.texts()
        assert {name: mine.labels[name] for name in texts} == {name: theirs.labels[name] for name in texts}
        numbers = {name: value for name, value in mine.labels.items() if name not in texts}
        for name, value in (*numbers.items(), *mine.atom_labels.items()):
            assert np.array_equal(value, np.asarray((dict(theirs.labels) | theirs.atom_labels)[name], float))


NUMBER = st.floats(allow_infinity=False, width=64)
LENGTH = st.floats(0.5, 12.0)


@st.composite
def inputs(draw):
    """Up to four crystals of any bits, with a number, a vector, and a row an atom, each of them missing in some."""
    out = {}
    for i in range(draw(st.integers(1, 4))):
        n = draw(st.integers(1, 3))
        lattice = np.diag(draw(st.tuples(LENGTH, LENGTH, LENGTH))) + np.tril(
            np.array(draw(st.lists(st.floats(-3, 3), min_size=9, max_size=9))).reshape(3, 3), -1
        )
        frac = np.arange(n)[:, None] / n + draw(st.floats(-0.1, 0.1)) * np.array([1.0, 0.5, 0.25])
        pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
        labels = {"gap": draw(NUMBER | st.none()), "axis": draw(st.none() | st.tuples(NUMBER, NUMBER, NUMBER, NUMBER))}
        labels["spin"] = draw(st.none() | st.lists(NUMBER, min_size=n, max_size=n))
        out[f"é-{i}"] = Crystal(lattice, frac, draw(st.lists(st.integers(1, 118), min_size=n, max_size=n)), pbc), labels
    return out


@pytest.mark.slow
@given(inputs())
@settings(max_examples=20)
def test_crystals_and_labels_come_back_to_the_bit(tmp_path_factory, given_inputs):
    folder = tmp_path_factory.mktemp("bits")
    items = [(i, crystal, labels) for i, (crystal, labels) in given_inputs.items()]
    write(items, folder / "old.lg", lg.graph("radius", cutoff=0.2), labels=["gap", "axis", "spin"])
    scan, entries = read_all(folder / "old.lg", folder)
    shapes = {label.name: (label.level, label.shape) for label in scan.labels}
    lost = {one.id for one in read_quarantine(folder / "old.lg", Manifest.load(folder / "old.lg"))}
    assert [entry.id for entry in entries] == [i for i in given_inputs if i not in lost]
    for entry in entries:
        crystal, labels = given_inputs[entry.id]
        assert entry.crystal == crystal
        assert bits(entry.crystal.frac_coords) == bits(crystal.frac_coords)
        assert bits(entry.crystal.lattice) == bits(crystal.lattice)
        found = dict(entry.labels) | dict(entry.atom_labels)
        assert found.keys() == shapes.keys()
        assert {name for name, (level, _) in shapes.items() if level == "node"} == entry.atom_labels.keys()
        for name, (level, shape) in shapes.items():
            expected = np.full((len(crystal), *shape) if level == "node" else shape, np.nan)
            if labels[name] is not None:
                expected[...] = labels[name]
            assert np.array_equal(found[name], expected, equal_nan=True)


def test_a_dataset_that_was_added_to_gives_what_all_its_files_give(tmp_path):
    files = [table(tmp_path), "prototypes:20?seed=1"]
    write(files[0], tmp_path / "old.lg")
    lg.append(tmp_path / "old.lg", files[1], workers=1, progress=False)
    anew = write(files, tmp_path / "anew.lg", OTHER)
    assert write(tmp_path / "old.lg", tmp_path / "new.lg", OTHER).content_id == anew.content_id


@pytest.mark.slow
def test_workers_and_shards_change_nothing(prototypes, tmp_path):
    one = write(prototypes, tmp_path / "one.lg", shard_size=64)
    two = write(prototypes, tmp_path / "two.lg", shard_size=64, workers=2)
    assert one == two
    assert [shard.rows for shard in one.shards] == [64, 64, 64, 64, 44]
    assert one.content_id == write("prototypes:300?seed=1", tmp_path / "anew.lg").content_id


# ---- the scan ----


@pytest.mark.slow
def test_the_scan_counts_marks_and_names_the_manifest(prototypes, tmp_path):
    source = DatasetSource(str(prototypes))
    assert isinstance(source, Source)
    assert source.name == "prototypes"
    scan = source.scan(128, tmp_path / "spool")
    assert (scan.entries, scan.marks, scan.notes) == (300, (0, 128, 256), ())
    path = prototypes / MANIFEST
    assert scan.files == (("prototypes.lg/manifest.json", path.stat().st_size, sha256_of(path)),)
    manifest = write(prototypes, tmp_path / "new.lg")
    (source,) = manifest.provenance.sources
    assert (source.name, source.inputs) == ("prototypes", 300)
    assert source.files == tuple(file._asdict() for file in scan.files)


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 7, 299, 300, 301])
def test_cuts_of_any_size_give_the_same_entries(every, prototypes, tmp_path):
    scan, entries = read_all(prototypes, tmp_path, every)
    assert len(scan.marks) == -(-300 // every)
    store = Store(prototypes)
    assert [entry.id for entry in entries] == [store.graph_id(row) for row in range(300)]
    assert [entry.labels["density"] for entry in entries] == store.column("density").tolist()


@pytest.mark.slow
def test_the_source_loads_no_torch_and_writing_from_it_none_either(prototypes, tmp_path):
    code = f"""
import sys, lazygraph.sources.dataset, lazygraph as lg
lg.write({str(prototypes)!r}, "new.lg", workers=1, progress=False)
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_inputs_that_were_quarantined_are_told(tmp_path):
    broken = ("broken", {"lattice_mat": np.eye(3).tolist(), "coords": [], "elements": []})
    write([*salts(2), broken, broken], tmp_path / "old.lg")
    report = lg.write(tmp_path / "old.lg", tmp_path / "new.lg", graph=CHEAP, workers=1, progress=False)
    assert (report.written, report.quarantined) == (2, 0)
    assert report.notes == ("2 inputs were quarantined when old.lg was made, and are not in it", COPIED)


# ---- labels and units ----


@pytest.fixture
def rocks(tmp_path):
    """A dataset with a number, a vector and rows an atom, two of them with units."""
    path = tmp_path / "rocks.lg"
    labels = {"gap": float, "moment": lambda i: [i, 0.0, 1.0], "forces": lambda i: np.full((2, 3), i / 7)}
    write(salts(5, **labels), path, units={"gap": "eV", "forces": "eV/A"})
    return path


def units_of(manifest):
    fields = {field.name: field.unit for field in manifest.schema.fields if field.name == "forces"}
    return fields | {name: column.unit for name, column in manifest.labels().items()}


def test_units_are_kept_unless_others_are_given(rocks, tmp_path):
    new = write(rocks, tmp_path / "new.lg", OTHER)
    assert units_of(new) == {"gap": "eV", "forces": "eV/A", "moment": None}
    other = write(rocks, tmp_path / "other.lg", units={"gap": "Ha", "moment": "muB"})
    assert units_of(other) == {"gap": "Ha", "forces": "eV/A", "moment": "muB"}
    assert units_of(write(rocks, tmp_path / "less.lg", labels=["gap"])) == {"gap": "eV"}


def test_a_unit_or_label_that_the_dataset_has_not_is_refused(rocks, tmp_path):
    with pytest.raises(
        LabelError, match="there is a unit for 'mass', which is not a label; the labels are 'gap', 'moment', 'forces'"
    ):
        write(rocks, tmp_path / "new.lg", units={"mass": "u"})
    with pytest.raises(LabelError, match="unknown label 'mass'; known: gap, moment, forces"):
        write(rocks, tmp_path / "new.lg", labels=["mass"])


def test_datasets_that_mean_different_things_by_one_label_are_refused(rocks, tmp_path):
    more = tmp_path / "more.lg"
    write([(f"more-{i}", crystal, {"gap": 2.0}) for i, crystal, _ in salts(3)], more, units={"gap": "meV"})
    message = (
        "declare the label 'gap' as one number a crystal, unit eV and as one number a crystal, unit meV; a label has "
        "one meaning"
    )
    with pytest.raises(LabelError, match=message):
        write([rocks, more], tmp_path / "new.lg")
    assert not (tmp_path / "new.lg.partial").exists()
    assert units_of(write([rocks, more], tmp_path / "given.lg", units={"gap": "eV"}))["gap"] == "eV"
    assert units_of(write([rocks, more], tmp_path / "without.lg", labels=["moment"])) == {"moment": None}

    write([(f"odd-{i}", crystal, {"gap": [1.0, 2.0, 3.0]}) for i, crystal, _ in salts(3)], tmp_path / "odd.lg")
    with pytest.raises(LabelError, match=r"unit eV and as an array of shape \(3,\) a crystal, unit not given"):
        write([rocks, tmp_path / "odd.lg"], tmp_path / "new.lg")


def test_values_without_a_unit_are_taken_to_have_that_of_the_others(rocks, tmp_path):
    more = tmp_path / "more.lg"
    write([(f"more-{i}", crystal, {"gap": 2.0}) for i, crystal, _ in salts(3)], more)
    for number, sources in enumerate([[rocks, more], [more, rocks]]):
        manifest = write(sources, tmp_path / f"new{number}.lg")
        assert units_of(manifest) == {"gap": "eV", "forces": "eV/A", "moment": None}
        assert manifest.graphs == 8


def test_a_label_without_a_value_is_kept_and_an_array_keeps_its_level(tmp_path):
    """Neither could be told by the values: no graph has one of the first, and all have as many atoms as numbers."""
    old = tmp_path / "old.lg"
    write(salts(4, rare=lambda _: None), old, labels=["rare"])
    set_labels(old, {f"salt-{i}": {"pair": [i, 1.0]} for i in range(3)})
    scan, entries = read_all(old, tmp_path)
    assert scan.labels == (Label("pair", "graph", (2,)), Label("rare", "graph"))
    assert np.isnan(entries[3].labels["pair"]).all()
    new = write(old, tmp_path / "new.lg", OTHER)
    assert new.labels() == Manifest.load(old).labels()


def test_splits_travel_by_name(tmp_path):
    old = tmp_path / "old.lg"
    write(salts(6), old)
    set_splits(old, names={"train": ["salt-4", "salt-1"], "out": ["salt-0"]})
    _, entries = read_all(old, tmp_path)
    assert [entry.split for entry in entries] == ["out", "train", None, None, "train", None]
    write(old, tmp_path / "new.lg", OTHER)
    assert split_names(tmp_path / "new.lg") == split_names(old)
    again = write(old, tmp_path / "again.lg", split=(0.5, 0.5, 0.0))
    assert again.columns["split"].categories == ("train", "val", "test")


def columns_of_splits(path):
    """Column of splits -> its names, and the split of each graph."""
    store = Store(path)
    out = {}
    for name, column in store.manifest.splits().items():
        names = dict(enumerate(column.categories))
        out[name] = (column.categories, [names.get(code) for code in store.column(name).tolist()])
    return out


@pytest.fixture
def folds(tmp_path):
    """A dataset with the default splits, a fold by a rule, and one by names of which the first has no graph."""
    path = tmp_path / "folds.lg"
    write(salts(8), path, split=(0.5, 0.25, 0.25))
    set_splits(path, (0.5, 0.0, 0.5), name="fold_0")
    set_splits(path, names={"none": [], "held out": ["salt-6", "salt-1"]}, name="fold_1")
    return path


def test_every_column_of_splits_travels_and_its_rule_does_not(folds, tmp_path):
    before = columns_of_splits(folds)
    assert before["fold_1"][0] == ("none", "held out")
    report = lg.write(folds, tmp_path / "new.lg", graph=OTHER, workers=1, progress=False, shard_size=3)
    assert columns_of_splits(tmp_path / "new.lg") == before
    assert all(column.rule is None for column in Manifest.load(tmp_path / "new.lg").splits().values())
    told = [
        f"the rule of the splits in {name!r} is left out, because it describes the splits of another dataset"
        for name in before
    ]
    assert [note for note in report.notes if "the rule" in note] == [
        told[list(before).index(n)] for n in ("fold_0", "split")
    ]

    ds = lg.LazyGraphDataset(folds)
    write(ds[[6, 2]], tmp_path / "part.lg", OTHER)
    chosen = {name: (names, [splits[6], splits[2]]) for name, (names, splits) in before.items()}
    assert columns_of_splits(tmp_path / "part.lg") == chosen


def test_columns_of_splits_of_several_datasets_become_one(folds, tmp_path):
    other = tmp_path / "other.lg"
    write([(f"more-{i}", crystal, {}) for i, crystal, _ in salts(2)], other)
    set_splits(other, names={"train": ["more-salt-1"], "own": ["more-salt-0"]}, name="fold_1")
    write([folds, other, "prototypes:1?seed=0"], tmp_path / "new.lg", OTHER)
    found, before = columns_of_splits(tmp_path / "new.lg"), columns_of_splits(folds)
    assert found["split"] == (before["split"][0], [*before["split"][1], None, None, None])
    assert found["fold_1"] == (("none", "held out", "train", "own"), [*before["fold_1"][1], "own", "train", None])


def test_columns_of_splits_are_appended(folds, tmp_path):
    write(salts(1), tmp_path / "new.lg", OTHER)
    (only,) = lg.LazyGraphDataset(tmp_path / "new.lg").ids
    lg.remove(folds, [only], reason="is there")
    lg.append(tmp_path / "new.lg", folds, workers=1, progress=False)
    before = columns_of_splits(folds)
    assert columns_of_splits(tmp_path / "new.lg") == {k: (names, [None, *of]) for k, (names, of) in before.items()}


def test_a_name_that_is_a_label_here_and_splits_there_is_refused(folds, tmp_path):
    other = tmp_path / "other.lg"
    write([("more", crystal, {"fold_0": 1.0}) for _, crystal, _ in salts(1)], other)
    message = "'fold_0' is the name of a label and of a column of splits; a name has one meaning"
    for sources in ([folds, other], [other, folds]):
        with pytest.raises(LabelError, match=message):
            write(sources, tmp_path / "new.lg", OTHER)
    with pytest.raises(LabelError, match=message):
        lg.append(other, folds, workers=1, progress=False)
    assert "fold_0" in write([folds, other], tmp_path / "new.lg", OTHER, labels=[]).splits()


def test_more_splits_than_codes_are_refused_before_any_work(tmp_path):
    for name in "ab":
        path = tmp_path / f"{name}.lg"
        write([(f"{name}{i}", crystal, {}) for i, (_, crystal, _) in enumerate(salts(2))], path)
        set_splits(path, names={f"{name}{k}": [f"{name}0"] if k == 0 else [] for k in range(130)}, name="many")
    with pytest.raises(InputError, match="found 260 splits; required: at most 254"):
        write([tmp_path / "a.lg", tmp_path / "b.lg"], tmp_path / "new.lg", OTHER)


def test_what_datasets_say_about_themselves_travels_where_all_say_it(tmp_path):
    abouts = {"a": {"title": "A", "license": "CC0-1.0"}, "b": {"title": "B", "license": "CC0-1.0"}, "c": {}}
    for name, about in abouts.items():
        write([(f"{name}-{i}", crystal, {}) for i, crystal, _ in salts(2)], tmp_path / f"{name}.lg", about=about)
    cases = [
        ("a", {}, abouts["a"], ()),
        ("ab", {}, {"license": "CC0-1.0"}, ("title",)),
        ("ab", {"title": "Both"}, {"title": "Both", "license": "CC0-1.0"}, ()),
        ("abc", {}, {}, ("license, title",)),
        ("ac", {"doi": "10.1/2"}, {"doi": "10.1/2"}, ("license, title",)),
    ]
    for number, (names, given_about, expected, left) in enumerate(cases):
        path = tmp_path / f"new{number}.lg"
        sources = [tmp_path / f"{name}.lg" for name in names]
        report = lg.write(sources, path, graph=OTHER, about=given_about, workers=1, progress=False)
        assert Manifest.load(path).about == expected
        told = tuple(f"the sources say different things about themselves, which are left out: {keys}" for keys in left)
        assert report.notes == told
        assert lg.write(sources, path, graph=OTHER, about=given_about, workers=1, progress=False).written == 2 * len(
            names
        )
    report = lg.append(tmp_path / "a.lg", tmp_path / "b.lg", workers=1, progress=False)
    assert report.notes == ("what the new sources say about themselves is not copied: title",)
    assert Manifest.load(tmp_path / "a.lg").about == abouts["a"]


def test_fitted_energies_and_removed_graphs_are_told(tmp_path):
    old = tmp_path / "old.lg"
    write(salts(6, energy=float), old, per={"energy": "cell"})
    fit_elements(old, "energy")
    lg.remove(old, ["salt-1", "salt-2"], reason="wrong")
    lg.remove(old, ["salt-3"], reason="wrong too")
    fit_elements(old, "energy")
    report = lg.write(old, tmp_path / "new.lg", graph=OTHER, workers=1, progress=False)
    assert report.notes == (
        energies_left_out("energy"),
        "the history of old.lg is not copied, in which 3 graphs were removed",
    )


# ---- several inputs ----


@pytest.mark.slow
def test_datasets_and_files_are_inputs_side_by_side(rocks, prototypes, tmp_path):
    frame = '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 gap=0.25\nNa 0 0 0\n'
    (tmp_path / "one.xyz").write_text(frame)
    manifest = write([rocks, tmp_path / "one.xyz", prototypes, rocks], tmp_path / "new.lg", OTHER)
    assert (manifest.graphs, manifest.inputs) == (306, 311)
    store = Store(tmp_path / "new.lg")
    assert [store.graph_id(row) for row in (0, 4, 5, 6, 305)] == [
        "salt-0", "salt-4", "one-0000000", "prototype-0000000", "prototype-0000299",
    ]  # fmt: skip
    assert store.column("gap")[:6].tolist() == [0, 1, 2, 3, 4, 0.25]
    assert np.isnan(store.column("gap")[6:]).all()
    assert np.isnan(store.arrays(5)["forces"]).all()
    rejected = read_quarantine(tmp_path / "new.lg", manifest)
    assert [(one.id, one.error) for one in rejected] == [(f"salt-{i}", "DuplicateId") for i in range(5)]


# ---- what is damaged, or is no dataset of crystals ----


def scribble(path, row):
    """Change one byte of the record of a row; the file and the offset, to change it back."""
    store = Store(path)
    starts = np.cumsum([0, *(shard.rows for shard in store.manifest.shards)])
    shard = int(np.searchsorted(starts, row, side="right")) - 1
    offset, length, _ = store.column("record")[row].item()
    file = path / store.manifest.shards[shard].file.name
    data = bytearray(file.read_bytes())
    data[offset + length // 2] ^= 0x55
    file.write_bytes(data)
    return file, offset + length // 2


def test_a_damaged_record_is_quarantined_and_can_be_tried_again(tmp_path):
    old, new = tmp_path / "old.lg", tmp_path / "new.lg"
    write(salts(10, gap=float), old, shard_size=4)
    file, place = scribble(old, 6)
    _, entries = read_all(old, tmp_path)
    assert [entry.id for entry in entries if not isinstance(entry.crystal, Crystal)] == ["salt-6"]
    assert isinstance(entries[6].crystal, UnreadableInput)
    assert entries[6].labels == {"gap": 6.0}

    manifest = write(old, new, OTHER)
    (rejected,) = read_quarantine(new, manifest)
    assert (rejected.source, rejected.entry, rejected.id, rejected.error) == ("old", 6, "salt-6", "UnreadableInput")
    assert rejected.message.startswith(f"old.lg, {file.relative_to(old)}, row 6, id 'salt-6': ")
    assert str(tmp_path) not in rejected.message

    data = bytearray(file.read_bytes())
    data[place] ^= 0x55
    file.write_bytes(data)
    lg.retry_quarantined(new, old, workers=1, progress=False)
    assert Manifest.load(new).graphs == 10


def test_what_is_left_of_a_dataset_without_one_of_its_shards_is_saved(tmp_path):
    old = tmp_path / "old.lg"
    first = write(salts(10), old, shard_size=4)
    (old / first.shards[1].file.name).unlink()
    manifest = write(old, tmp_path / "new.lg")
    assert manifest.graphs == 6
    rejected = read_quarantine(tmp_path / "new.lg", manifest)
    assert [one.id for one in rejected] == ["salt-4", "salt-5", "salt-6", "salt-7"]
    assert "is missing, and the manifest names it" in rejected[0].message


@pytest.mark.parametrize("name", ["density", "id", "record", "n_edge", "dictionary"])
def test_a_damaged_column_or_dictionary_is_refused_before_any_work(name, tmp_path):
    old = tmp_path / "old.lg"
    manifest = write("prototypes:70?seed=0", old)
    file = old / (manifest.dictionaries[0].name if name == "dictionary" else manifest.columns[name].file.name)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    said = "has the sha256" if name == "dictionary" else ": the values of rows 0 to 69 are not as they were written"
    with pytest.raises(UnreadableInput, match=f"{file.name}{' ' * (name == 'dictionary')}{said}"):
        DatasetSource(str(old)).scan(100, tmp_path / "spool")


def test_a_stranger_s_record_that_is_no_crystal_is_a_bad_entry(tmp_path):
    """Nothing but the manifest says that a dataset holds crystals."""
    old = tmp_path / "old.lg"
    with lg.GraphWriter(old) as writer:
        for i, length in enumerate([4.0, 0.0, 5.0]):
            crystal = {"lattice": np.eye(3) * length, "pbc": np.ones(3, bool), "frac_coords": np.zeros((1, 3))}
            writer.add({"numbers": np.array([11], np.uint8), **crystal}, id=f"x{i}")
    with pytest.raises(UnreadableInput, match=r"old.lg holds ready-made graphs, without crystals; give"):
        DatasetSource(str(old)).scan(100, tmp_path / "spool")
    replace(Manifest.load(old), recipe=CHEAP.to_json()).publish(old)
    _, entries = read_all(old, tmp_path)
    assert [entry.id for entry in entries] == ["x0", "x1", "x2"]
    assert isinstance(entries[1].crystal, StructureError)
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [True, False, True]


def test_a_dataset_of_ready_made_graphs_is_refused(tmp_path):
    with lg.GraphWriter(tmp_path / "old.lg") as writer:
        writer.add({"x": np.ones((3, 1), np.float32), "edge_index": np.array([[0, 1], [1, 2]])}, id="a")
    with pytest.raises(UnreadableInput, match="old.lg holds ready-made graphs, without crystals"):
        write(tmp_path / "old.lg", tmp_path / "new.lg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.lg"]


def test_what_is_no_finished_dataset_gives_the_reader_s_own_error(tmp_path):
    for name, prepare, message in [
        ("none.lg", lambda _: None, "there is no dataset at .*none.lg$"),
        ("empty.lg", Path.mkdir, "empty.lg holds no manifest.json; give a dataset directory"),
        (
            "half.lg",
            lambda path: path.with_name("half.lg.partial").mkdir(),
            "half.lg is not finished; run the same lazygraph-write command again",
        ),
        ("cut.lg", lambda path: write(salts(2), path) and os.truncate(path / MANIFEST, 500), "cut.lg.*the checksum"),
    ]:
        prepare(tmp_path / name)
        with pytest.raises(lg.DatasetNotFound if "cut" not in name else lg.CorruptDataset, match=message):
            lg.LazyGraphDataset(tmp_path / name)
        with pytest.raises(UnreadableInput, match=message):
            write(tmp_path / name, tmp_path / "new.lg")


# ---- a dataset that changes while it is read ----


def test_another_state_than_the_scanned_one_is_refused(tmp_path):
    old, source, spool = tmp_path / "old.lg", DatasetSource(str(tmp_path / "old.lg")), tmp_path / "spool"
    write(salts(4, gap=float), old)
    source.scan(4, spool)
    set_labels(old, {"salt-0": {"gap": 9.0}})
    with pytest.raises(UnreadableInput, match=r"old.lg was changed after the plan was made"):
        list(source.read(Cut(0, 0, 4), spool))


def test_work_that_was_planned_goes_on_with_the_same_state_and_no_other(tmp_path):
    old, new = tmp_path / "old.lg", tmp_path / "new.lg"
    write(salts(8, gap=float), old)
    plan(old, new, graph=OTHER, shard_size=4)
    make_shard(new, 0)
    before = (old / MANIFEST).read_bytes()
    set_labels(old, {"salt-0": {"gap": 9.0}})
    with pytest.raises(UnreadableInput, match=r"^old: .*old.lg was changed after"):
        make_shard(new, 1)
    with pytest.raises(OutputExists, match="was begun with other arguments or input: inputs: "):
        write(old, new, OTHER, shard_size=4)
    (old / MANIFEST).write_bytes(before)
    make_shard(new, 1)
    assert finish(new).written == 8
    assert Store(new).column("gap").tolist() == list(range(8))


@pytest.mark.slow
def test_a_dataset_can_be_written_over_itself(tmp_path):
    path = tmp_path / "a.lg"
    write("prototypes:90?seed=3", path, units={"density": "g/cm^3"})
    expected = write("prototypes:90?seed=3", tmp_path / "expected.lg", OTHER, units={"density": "g/cm^3"})
    with pytest.raises(OutputExists, match="of another recipe"):
        write(path, path, OTHER)
    open_before = Store(path)
    # A run that was killed after its first shard leaves the dataset as it is, and goes on from there.
    plan(path, path, graph=OTHER, overwrite=True, shard_size=40)
    make_shard(path, 0)
    assert Manifest.load(path) == open_before.manifest
    manifest = write(path, path, OTHER, overwrite=True, shard_size=40)
    assert manifest.content_id == expected.content_id
    assert manifest.labels() == expected.labels()
    assert not (tmp_path / "a.lg.partial").exists()
    assert open_before.arrays(89).keys() == Store(path).arrays(89).keys()  # who has it open reads on
    assert write(path, path, CHEAP, overwrite=True).content_id == open_before.manifest.content_id


@pytest.mark.slow
def test_a_dataset_added_to_itself_adds_nothing(prototypes, tmp_path):
    write(prototypes, tmp_path / "a.lg")
    with pytest.raises(InputError, match="none of the 300 inputs could become a graph.*the id is taken by a graph"):
        lg.append(tmp_path / "a.lg", tmp_path / "a.lg", workers=1, progress=False)
    assert Manifest.load(tmp_path / "a.lg").graphs == 300


# ---- how it is recognised ----


def test_a_dataset_is_recognised_by_its_layout(prototypes, tmp_path):
    for name in ("plain", "other.lg"):
        (tmp_path / name).symlink_to(prototypes)
        assert open_sources(tmp_path / name) == [DatasetSource(str(tmp_path / name))]
        assert open_sources(tmp_path / name, format="lazygraph") == [DatasetSource(str(tmp_path / name))]
    assert DatasetSource(str(tmp_path / "plain")).name == "plain"
    source = DatasetSource(str(prototypes))
    assert source_from_json(json.loads(json.dumps(source_to_json(source)))) == source
    with pytest.raises(
        InputError, match="the id key 'jid' was given for .*; leave it out, because lazygraph inputs have no keys"
    ):
        open_sources(prototypes, id_key="jid")


def test_other_folders_with_a_manifest_are_what_they_were(tmp_path):
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(UnreadableInput, match=f"holds {MANIFEST}; it must hold id_prop.csv, or files .* or a dataset"):
        open_sources(tmp_path)
    (tmp_path / "POSCAR").write_text("c\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa\n1\nDirect\n0 0 0\n")
    assert open_sources(tmp_path) == [FilesSource((str(tmp_path),))]
    (tmp_path / "id_prop.csv").write_text("POSCAR,1\n")
    assert open_sources(tmp_path) == [IdPropSource(str(tmp_path))]


def test_a_pattern_or_a_file_that_is_called_lg_is_no_dataset(tmp_path):
    (tmp_path / "frames.lg").write_text('1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nNa 0 0 0\n')
    assert [source.kind for source in open_sources(tmp_path / "frames.lg")] == ["extxyz"]
    assert [source.kind for source in open_sources(tmp_path / "*.lg")] == ["extxyz"]


def test_the_command_line(prototypes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = [os.path.relpath(prototypes), "-o", "new.lg", "--graph", "alignn", "--unit", "density=g/cm^3"]
    assert main_write([*line, "--workers", "1"]) == 0
    assert "wrote 300 graphs" in capsys.readouterr().out
    ds = lg.LazyGraphDataset("new.lg", target="density", expect=lg.graph("alignn"))
    assert ds["prototype-0000017"].y.item() == pytest.approx(lg.LazyGraphDataset(prototypes).columns["density"][17])
    assert ds.manifest.labels()["density"].unit == "g/cm^3"
    assert main_write(["gone.lg", "-o", "x.lg"]) == 2
    assert "there is no dataset at" in capsys.readouterr().err
