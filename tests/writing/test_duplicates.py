"""Graphs of the same structure are found, whatever their cells; pairs that no tolerance allows are not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pymatgen.analysis.structure_matcher import StructureMatcher

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import CorruptDataset, DatasetReplaced, InputError
from lazygraph.graphs.fingerprint import Tolerance
from lazygraph.reading.leakage import leakage
from lazygraph.writing import duplicates as module
from lazygraph.writing import structure_candidates
from lazygraph.writing.edit import set_about, set_labels, set_splits
from lazygraph.writing.structure_candidates import Components, candidate_pairs

BLENDE = lg.Crystal([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], [[0, 0, 0], [0.25, 0.25, 0.25]], [11, 17])


def variant(crystal, seed):
    """The same structure by another cell, in another order, turned, shifted, a little strained and displaced."""
    rng = np.random.default_rng(seed)
    structure = crystal.to_pymatgen()
    structure.make_supercell([[1, 0, 0], [int(rng.integers(2)), 1, 0], [0, 0, int(rng.integers(1, 3))]])
    order = rng.permutation(len(structure))
    lattice = structure.lattice.matrix @ (np.eye(3) + rng.uniform(-0.004, 0.004, (3, 3)))
    lattice = lattice @ np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.97, 1.03)
    moves = rng.uniform(-0.01, 0.01, (len(structure), 3)) @ np.linalg.inv(lattice)
    coordinates = structure.frac_coords[order] + rng.random(3) + moves
    return lg.Crystal(lattice, coordinates, np.array(structure.atomic_numbers)[order])


@pytest.fixture(scope="module")
def crystals(tmp_path_factory, write, some):
    """Real perovskites and carbons."""
    path = tmp_path_factory.mktemp("real") / "r.lg"
    write([some / "perov_5" / "val.csv", some / "carbon_24" / "val.csv"], path, labels=[])
    ds = lg.LazyGraphDataset(path)
    return [ds.crystal(row) for row in range(min(len(ds), 24))]


@pytest.fixture(scope="module")
def some():
    """The crystals that come with the tests."""
    from pathlib import Path

    return Path(__file__).parents[1] / "data"


@pytest.fixture
def variants(crystals, write, tmp_path):
    """Every crystal, and a variant of every second one."""
    entries = [(f"real-{number}", crystal, {"e": 1.0}) for number, crystal in enumerate(crystals)]
    entries += [(f"like-{n}", variant(crystals[n], n), {"e": 1.0}) for n in range(0, len(crystals), 2)]
    write(entries, tmp_path / "v.lg")
    return tmp_path / "v.lg"


def groups_of(path, name="group"):
    ds = lg.LazyGraphDataset(path)
    return dict(zip(ds.ids.tolist(), ds.columns[name].tolist(), strict=True))


def test_variants_are_in_the_group_of_their_structure_and_what_does_not_match_is_not(variants, crystals):
    report = lg.duplicates(variants, workers=1)
    groups = groups_of(variants)
    ds = lg.LazyGraphDataset(variants)
    structures = {graph_id: ds.crystal(graph_id).to_pymatgen() for graph_id in groups}
    for number in range(0, len(crystals), 2):
        if StructureMatcher().fit(structures[f"real-{number}"], structures[f"like-{number}"]):
            assert groups[f"real-{number}"] == groups[f"like-{number}"]
    assert sum(groups[f"real-{n}"] == groups[f"like-{n}"] for n in range(0, len(crystals), 2)) >= len(crystals) / 2 - 1
    for graph_id, first in groups.items():
        members = [other for other, group in groups.items() if group == first]
        assert members[0] == first  # the first graph of the group
        if graph_id != first:
            assert any(
                StructureMatcher().fit(structures[graph_id], structures[other])
                for other in members
                if other != graph_id
            )
    assert report.duplicates == sum(graph_id != first for graph_id, first in groups.items())
    assert dict(report.matches) == {graph_id: first for graph_id, first in groups.items() if graph_id != first}
    assert report.groups == len(set(dict(report.matches).values()))
    assert report.compared <= report.candidates
    assert f"{report.duplicates:,} graphs have the structure of an earlier graph" in str(report)


def test_the_same_groups_come_from_several_processes_in_any_order(variants, tmp_path, write, monkeypatch):
    alone = lg.duplicates(variants, workers=1)
    first = groups_of(variants)
    monkeypatch.setattr(module, "TASK", 2)
    monkeypatch.setattr(module, "ROWS", 3)
    monkeypatch.setattr(module, "WAITING", 4)
    again = lg.duplicates(variants, workers=2)
    assert groups_of(variants) == first
    assert (again.duplicates, again.candidates) == (alone.duplicates, alone.candidates)
    ds = lg.LazyGraphDataset(variants)
    back = [(graph_id, ds.crystal(graph_id), {}) for graph_id in reversed(ds.ids.tolist())]
    write(back, tmp_path / "back.lg")
    lg.duplicates(tmp_path / "back.lg", workers=1)
    reverse = groups_of(tmp_path / "back.lg")
    assert {frozenset(i for i in first if first[i] == one) for one in first.values()} == {
        frozenset(i for i in reverse if reverse[i] == one) for one in reverse.values()
    }


def test_structures_of_another_dataset_are_found_and_nothing_is_stored(variants, crystals, write, tmp_path, bytes_of):
    others = [(f"other-{n}", variant(crystals[n], 100 + n), {}) for n in (1, 3, 4)]
    write([*others, ("new", lg.Crystal(np.eye(3) * 3, [[0, 0, 0]], [84]), {})], tmp_path / "test.lg")
    before = bytes_of(variants)
    report = lg.duplicates(variants, tmp_path / "test.lg", workers=1)
    assert bytes_of(variants) == before
    found = dict(report.matches)
    assert {"real-1": "other-1", "real-3": "other-3", "real-4": "other-4", "like-4": "other-4"}.items() <= found.items()
    assert report.duplicates == len(found)
    assert report.groups == len(set(found.values()))
    assert "have the structure of a graph of the other dataset" in str(report)
    with pytest.raises(InputError, match="ready-made"):
        lg.duplicates(variants, _ready_made(tmp_path), workers=1)


def _ready_made(tmp_path):
    with lg.GraphWriter(tmp_path / "m.lg") as writer:
        writer.add({"x": np.zeros((2, 1), np.float32), "edge_index": np.array([[0], [1]])}, id="a")
    return tmp_path / "m.lg"


def test_molecules_are_not_compared_and_this_is_told(write, tmp_path, salt):
    flat = lg.Crystal(np.eye(3) * 4, [[0, 0, 0]], [6], pbc=(True, True, False))
    write([("a", flat, {}), ("b", flat, {}), ("c", salt(), {}), ("d", salt(), {})], tmp_path / "f.lg", graph="none")
    report = lg.duplicates(tmp_path / "f.lg", workers=1)
    assert groups_of(tmp_path / "f.lg") == {"a": "a", "b": "b", "c": "c", "d": "c"}
    (note,) = report.notes
    assert note.startswith(
        "2 graphs were not compared, and count as structures of their own: 2: the crystal is not per"
    )


def test_the_column_is_made_again_after_an_append_and_groups_survive_a_concat(write, append, tmp_path, salt):
    first, second = tmp_path / "a.lg", tmp_path / "b.lg"
    write([("a", salt(), {}), ("b", BLENDE, {})], first)
    lg.duplicates(first, workers=1)
    append(first, [("c", BLENDE, {})])
    assert groups_of(first) == {"a": "a", "b": "b", "c": ""}
    lg.duplicates(first, workers=1)
    assert groups_of(first)["c"] == groups_of(first)["b"]
    write([("x", salt(), {}), ("y", salt(), {})], second)
    lg.duplicates(second, workers=1)
    lg.concat([first, second], tmp_path / "both.lg")
    groups = groups_of(tmp_path / "both.lg")
    assert groups["x"] == groups["y"] == "x"


def test_other_columns_are_not_replaced(write, tmp_path, salt):
    path = tmp_path / "a.lg"
    write([("a", salt(), {"group": "mine"}), ("b", salt(), {"group": "mine"})], path, labels=["group"])
    with pytest.raises(InputError, match="something else with the name 'group'; choose another name"):
        lg.duplicates(path, workers=1)
    with pytest.raises(InputError, match="a column cannot have the name"):
        lg.duplicates(path, name="numbers", workers=1)
    with pytest.raises(InputError, match="required: at least 1"):
        lg.duplicates(path, workers=0)
    lg.duplicates(path, name="same", workers=1)
    lg.duplicates(path, name="same", workers=1, strain=0.1)
    assert groups_of(path, "same") == {"a": "a", "b": "a"}
    assert "strain 0.1" in lg.LazyGraphDataset(path).manifest.columns["same"].description
    assert lg.duplicates(path, name=None, workers=1).duplicates == 1
    assert "group" in lg.LazyGraphDataset(path).columns


def test_a_dataset_that_changes_meanwhile_is_refused(write, tmp_path, salt, monkeypatch):
    path = tmp_path / "a.lg"
    write([("a", salt(), {}), ("b", salt(), {})], path)

    def change(done, total):
        set_about(path, {"title": "another"})

    with pytest.raises(DatasetReplaced, match="changed while its structures were compared"):
        lg.duplicates(path, workers=1, progress=change)


def test_a_damaged_record_is_told_of(write, tmp_path, salt):
    path = tmp_path / "a.lg"
    write([("a", salt(), {}), ("b", salt(), {})], path)
    shard = next((path / "shards").iterdir())
    content = bytearray(shard.read_bytes())
    place = content.rfind(b"\x28\xb5\x2f\xfd")  # a zstd frame
    content[place + 12] ^= 255
    shard.chmod(0o644)
    shard.write_bytes(content)
    for workers in (1, 2):
        with pytest.raises(CorruptDataset):
            lg.duplicates(path, workers=workers)


def test_splits_with_common_structures_are_reported(write, tmp_path, salt, capsys):
    path = tmp_path / "a.lg"
    entries = [("a", salt(), {}), ("b", salt(), {}), ("c", BLENDE, {}), ("d", salt(), {})]
    potassium = lg.Crystal(np.eye(3) * 4, [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]], [11, 17, 17])
    write([*entries, ("e", potassium, {})], path)
    set_splits(path, names={"train": ["a"], "val": ["b", "e"], "test": ["c", "d"]})
    assert main(["duplicates", str(path), "--workers", "1"]) == 0
    told = capsys.readouterr().out
    assert "split: 1 of 2 graphs in val have the structure of a graph in train" in told
    assert "split: 1 of 2 graphs in val have the formula of a graph in train" in told
    assert "split: 2 of 2 graphs in val have the chemical system of a graph in train" in told
    assert "split: 2 of 2 graphs in test have the formula of a graph in train" in told
    assert main(["split", str(path), "0.5,0.25,0.25", "--group", "group"]) == 0
    report = lg.duplicates(path, workers=1)
    assert not any(report.leakage[0].shared.values())
    assert report.leakage[0].what == "structure"


def test_the_command_writes_ids_that_remove_takes(write, tmp_path, salt, capsys):
    path, ids = tmp_path / "a.lg", tmp_path / "ids.txt"
    write([("a", salt(), {}), ("b", salt(), {}), ("c", BLENDE, {})], path)
    assert main(["duplicates", str(path), "--dry-run", "--ids-to", str(ids), "--json", "--workers", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["matches"] == [["b", "a"]]
    assert (told["graphs"], told["duplicates"], told["groups"], told["leakage"]) == (3, 1, 1, [])
    assert "group" not in lg.LazyGraphDataset(path).columns
    assert main(["remove", str(path), "--ids-from", str(ids), "--reason", "twice"]) == 0
    assert lg.LazyGraphDataset(path).ids.tolist() == ["a", "c"]
    for option in (["--dry-run"], ["--name", "same"]):
        assert main(["duplicates", str(path), "--against", str(path), *option]) == 2
        assert "--against stores no column" in capsys.readouterr().err
    assert main(["duplicates", str(path), "--ids-to", str(ids)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_ids_that_no_line_can_hold_are_not_written(write, tmp_path, salt, capsys):
    path, ids = tmp_path / "a.lg", tmp_path / "ids.txt"
    write([("a", salt(), {}), ("b\nc", salt(), {})], path)
    assert main(["duplicates", str(path), "--ids-to", str(ids), "--workers", "1"]) == 2
    assert "holds a line end" in capsys.readouterr().err
    assert not ids.exists()


@settings(max_examples=50)
@given(
    arrays(
        np.float32, st.tuples(st.integers(1, 40), st.integers(1, 4)), elements=st.integers(0, 12).map(lambda v: v / 8)
    ),
    st.sampled_from([(0, 0), (0.05, 0), (0.1, 0.1), (0.3, 0.02)]),
)
def test_candidates_are_all_pairs_within_reach(marks, tolerance):
    tolerance = Tolerance(*tolerance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure_candidates, "STEP", 3)
        patch.setattr(structure_candidates, "FACTOR", 2)
        found = [
            (*sorted((i, j)), d)
            for one, other, difference in candidate_pairs(marks, tolerance)
            for i, j, d in zip(one.tolist(), other.tolist(), difference.tolist(), strict=True)
        ]
    expected = []
    for i in range(len(marks)):
        for j in range(i + 1, len(marks)):
            low, high = np.minimum(marks[i], marks[j]), np.maximum(marks[i], marks[j])
            if (high <= tolerance.reach(low)).all():
                expected.append((i, j, float((high - low).max())))
    assert sorted(found) == sorted(expected)


@settings(max_examples=50)
@given(st.integers(1, 20), st.data())
def test_components_are_those_of_a_graph(n, data):
    numbers = st.integers(0, n - 1)
    components, naive = Components(np.arange(n)), list(range(n))
    for one, other in data.draw(st.lists(st.tuples(numbers, numbers), max_size=30)):
        assert components.join(one, other) == (naive[one] != naive[other])
        low, high = sorted((naive[one], naive[other]))
        naive = [low if number == high else number for number in naive]
        assert components.connected(one, other)
    assert components.roots(np.arange(n)).tolist() == naive


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 255]), st.integers(0, 5)), max_size=40))
def test_leakage_counts_graphs_that_share_a_number_with_another_split(graphs):
    codes = np.array([code for code, _ in graphs], np.uint8)
    numbers = np.array([number for _, number in graphs], np.int64)
    found = leakage("split", codes, ("train", "val", "test"), what="formula", numbers=numbers, count=6)
    names = dict(enumerate(("train", "val", "test")))
    for a in range(3):
        for b in range(a + 1, 3):
            there = {number for code, number in graphs if code == a}
            expected = sum(code == b and number in there for code, number in graphs)
            assert found.shared[names[a], names[b]] == expected
    assert found.sizes == {names[code]: int((codes == code).sum()) for code in range(3)}


def test_the_description_of_a_column_stays_when_labels_are_set(write, tmp_path, salt):
    path = tmp_path / "a.lg"
    write([("a", salt(), {}), ("b", salt(), {})], path)
    lg.duplicates(path, workers=1)
    set_labels(path, {"a": {"e": 1.0}, "b": {"e": 2.0}})
    lg.duplicates(path, workers=1)
    assert groups_of(path) == {"a": "a", "b": "a"}
