"""Datasets made of datasets hold the same graphs, labels and splits, whatever is linked, copied or compressed again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.format.digests import BLOCK
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.format.store import Store
from lazygraph.reading.diff import diff
from lazygraph.reading.verify import verify
from lazygraph.writing import remove as remove_module
from lazygraph.writing.copy import concat, subset
from lazygraph.writing.edit import editing, set_labels, set_splits
from lazygraph.writing.publish import publish
from lazygraph.writing.quarantine import read_quarantine
from tools.fuzz.hostile import seal

SIZES = {"a": 700, "b": 40, "c": 130}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Three datasets of one recipe: several shards with a dictionary, one shard, and one uncompressed."""
    folder = tmp_path_factory.mktemp("shelf")
    for seed, (name, n) in enumerate(SIZES.items()):
        structures = [(f"{name}{k}", crystal(k, seed), {"gap": k / 8, "own " + name: -k / 2}) for k in range(n)]
        if name == "b":
            structures.insert(3, ("bad", 17, {}))
            structures.insert(9, ("b0", crystal(1, 9), {"gap": 1.0}))
        options = {"codec": "none"} if name == "c" else {"shard_size": 64}
        lg.write(structures, folder / f"{name}.lg", graph="cgcnn", workers=1, progress=False, **options)
    set_splits(folder / "a.lg", (0.5, 0.25, 0.25))
    set_splits(folder / "b.lg", names={"val": ["b1", "b2"], "own": ["b3"]})
    return folder


def crystal(k, seed):
    rng = np.random.default_rng([k, seed])
    n = int(rng.integers(1, 4))
    return lg.Crystal(np.diag(rng.uniform(3, 6, 3).round(4)), rng.random((n, 3)).round(4), rng.integers(1, 90, n))


def contents(path):
    """Id -> the record, and the values of all columns."""
    store, ds = Store(path), lg.LazyGraphDataset(path)
    columns = {name: np.asarray(ds.columns[name]).tolist() for name in ds.columns}
    return {
        store.graph_id(row): (store.raw(row), {name: repr(values[row]) for name, values in columns.items()})
        for row in range(len(store))
    }


def sound(path):
    """Nothing is wrong with it, and its content id is that of the same graphs written one by one."""
    assert verify(path).problems == ()
    return contents(path)


def test_several_become_one(shelf, tmp_path):
    paths = [shelf / f"{name}.lg" for name in "abc"]
    report = concat(paths, tmp_path / "all.lg")
    assert report.graphs == sum(SIZES.values())
    found, parts = sound(tmp_path / "all.lg"), [contents(path) for path in paths]
    assert list(found) == [graph_id for part in parts for graph_id in part]
    for part in parts:
        for graph_id, (record, values) in part.items():
            assert found[graph_id][0] == record
            assert values.items() <= found[graph_id][1].items()
    assert any("the label 'own a' is missing in b.lg, c.lg" in note for note in report.notes)
    assert any("the rule of the splits in 'split' is left out" in note for note in report.notes)
    manifest = Manifest.load(tmp_path / "all.lg")
    assert manifest.columns["split"].categories == ("train", "val", "test", "own")
    assert manifest.user == {}
    # Every shard is the file that it was, under its new number.
    before = [shard for path in paths for shard in Manifest.load(path).shards]
    assert [shard.file.sha256 for shard in manifest.shards] == [shard.file.sha256 for shard in before]
    assert (tmp_path / "all.lg" / manifest.shards[0].file.name).samefile(paths[0] / before[0].file.name)


def test_quarantined_inputs_and_where_graphs_came_from(shelf, tmp_path):
    concat([shelf / "a.lg", shelf / "b.lg"], tmp_path / "ab.lg")
    manifest = Manifest.load(tmp_path / "ab.lg")
    assert [source.inputs for source in manifest.provenance.sources] == [700, 42]
    assert (manifest.inputs, manifest.quarantine.count) == (742, 2)
    rejected = read_quarantine(tmp_path / "ab.lg", manifest)
    assert [(one.id, one.position, one.entry) for one in rejected] == [("bad", 703, 3), ("b0", 709, 9)]
    assert "input" not in manifest.columns
    subset(tmp_path / "ab.lg", tmp_path / "some.lg", ids=["b39", "a3", "b4"])
    assert Store(tmp_path / "some.lg").column("input").tolist() == [741, 3, 705]
    concat([tmp_path / "some.lg", shelf / "c.lg"], tmp_path / "again.lg")
    assert Store(tmp_path / "again.lg").column("input")[:5].tolist() == [741, 3, 705, 742, 743]


def test_what_is_made_can_be_changed_and_added_to(shelf, tmp_path):
    concat([shelf / "a.lg", shelf / "b.lg"], tmp_path / "ab.lg")
    set_labels(tmp_path / "ab.lg", {"b3": {"gap": 7.0}})
    lg.append(tmp_path / "ab.lg", [("new", crystal(0, 0), {"gap": 1.0})], workers=1, progress=False)
    found = sound(tmp_path / "ab.lg")
    assert list(found)[-1] == "new"
    assert found["b3"][1]["gap"] == "7.0"
    assert sound(shelf / "b.lg")["b3"][1]["gap"] == "0.375"


def test_the_same_graphs_have_the_same_content_id(shelf, tmp_path):
    path = shelf / "a.lg"
    known = Manifest.load(path).content_id
    subset(path, tmp_path / "whole.lg")
    assert Manifest.load(tmp_path / "whole.lg").content_id == known
    halves = [tmp_path / "first.lg", tmp_path / "second.lg"]
    ds = lg.LazyGraphDataset(path)
    subset(ds[:333], halves[0])
    subset(ds[333:], halves[1])
    concat(halves, tmp_path / "both.lg")
    assert Manifest.load(tmp_path / "both.lg").content_id == known
    assert str(diff(path, tmp_path / "both.lg")).startswith("0 only in a\n0 only in b\n0 different\n700 the same")
    assert [shard.records for shard in Manifest.load(halves[0]).shards] == [64] * 5 + [13]


@pytest.mark.slow
def test_whole_blocks_are_not_read_again(tmp_path, monkeypatch):
    for seed, n in enumerate((2 * BLOCK, 100)):
        lg.write(f"prototypes:{n}?seed={seed}", tmp_path / f"{n}.lg", graph="cgcnn", progress=False)
    read = []
    raw = Store.raw
    monkeypatch.setattr(Store, "raw", lambda self, row: read.append(row) or raw(self, row))
    concat([tmp_path / f"{2 * BLOCK}.lg", tmp_path / "100.lg"], tmp_path / "x.lg", on_duplicate="skip")
    assert len(read) <= 100
    read.clear()
    concat([tmp_path / "100.lg", tmp_path / f"{2 * BLOCK}.lg"], tmp_path / "y.lg", on_duplicate="prefix")
    assert len(read) == 2 * BLOCK + 100
    monkeypatch.undo()
    for name in "xy":
        assert verify(tmp_path / f"{name}.lg").problems == ()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_rows_in_any_order(shelf, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("rows")
    rows = data.draw(st.lists(st.integers(0, SIZES["a"] - 1), min_size=1, max_size=30, unique=True))
    start = data.draw(st.integers(0, 600))
    rows = [*rows, *(row for row in range(start, start + data.draw(st.integers(0, 100))) if row not in rows)]
    subset(lg.LazyGraphDataset(shelf / "a.lg")[rows], folder / "x.lg")
    known, found = contents(shelf / "a.lg"), sound(folder / "x.lg")
    assert list(found) == [f"a{row}" for row in rows]
    assert all(found[graph_id] == known[graph_id] for graph_id in found)


def test_conditions_ids_and_splits(shelf, tmp_path):
    path = shelf / "a.lg"
    ds = lg.LazyGraphDataset(path)
    subset(path, tmp_path / "where.lg", where="n_atoms < 3 and gap > 20")
    assert list(sound(tmp_path / "where.lg")) == ds.where("n_atoms < 3 and gap > 20").ids.tolist()
    subset(path, tmp_path / "split.lg", split="val", where="gap < 50")
    assert list(sound(tmp_path / "split.lg")) == ds.split("val").where("gap < 50").ids.tolist()
    subset(ds[10:20], tmp_path / "ids.lg", ids=["a12", "a500", "a11"])
    assert list(sound(tmp_path / "ids.lg")) == ["a12", "a11"]
    assert not any(tmp_path.glob("*.partial"))


def test_shards_that_mix_codecs_are_compressed_as_most_are(shelf, tmp_path):
    concat([shelf / f"{name}.lg" for name in "abc"], tmp_path / "all.lg")
    ds = lg.LazyGraphDataset(tmp_path / "all.lg")
    rows = np.random.default_rng(0).permutation(len(ds))
    subset(ds[rows], tmp_path / "mixed.lg")
    found, known = sound(tmp_path / "mixed.lg"), contents(tmp_path / "all.lg")
    assert list(found) == ds[rows].ids.tolist()
    assert {i: record for i, (record, _) in found.items()} == {i: record for i, (record, _) in known.items()}
    assert {shard.codec for shard in Manifest.load(tmp_path / "mixed.lg").shards} == {"zstd"}
    assert len(Manifest.load(tmp_path / "mixed.lg").dictionaries) == 1


def test_only_dictionaries_that_are_needed_are_copied(shelf, tmp_path):
    concat([shelf / "a.lg", shelf / "b.lg"], tmp_path / "all.lg", on_duplicate="skip")
    known = len(Manifest.load(tmp_path / "all.lg").dictionaries)
    subset(tmp_path / "all.lg", tmp_path / "few.lg", ids=["b3", "b1"])
    found = Manifest.load(tmp_path / "few.lg")
    assert len(found.dictionaries) <= known
    assert len(found.dictionaries) == len({shard.dictionary for shard in found.shards} - {None})
    assert len(list((tmp_path / "few.lg").glob("dictionary-*"))) == len(found.dictionaries)
    sound(tmp_path / "few.lg")


def test_ids_that_come_twice(shelf, tmp_path):
    copied = tmp_path / "elsewhere" / "b.lg"
    subset(shelf / "b.lg", copied, where="gap < 2")
    pair = [shelf / "b.lg", copied]
    with pytest.raises(lg.InputError, match=r"16 ids appear twice, such as 'b0' in b\.lg and in b\.lg.*skip.*prefix"):
        concat(pair, tmp_path / "x.lg")
    report = concat(pair, tmp_path / "skip.lg", on_duplicate="skip")
    assert report.graphs == SIZES["b"]
    assert (
        "16 graphs of b.lg were skipped, because a dataset before it has their ids: 'b0', 'b1', 'b2', ..."
        in report.notes
    )
    assert sound(tmp_path / "skip.lg") == contents(shelf / "b.lg")
    concat(pair, tmp_path / "prefix.lg", on_duplicate="prefix")
    found = list(sound(tmp_path / "prefix.lg"))
    assert (found[0], found[SIZES["b"]]) == ("b1-b0", "b2-b0")
    concat([shelf / "b.lg", shelf / "c.lg"], tmp_path / "names.lg", on_duplicate="prefix")
    assert {graph_id.split("-")[0] for graph_id in sound(tmp_path / "names.lg")} == {"b", "c"}
    assert not (tmp_path / "x.lg").exists()


@pytest.fixture
def other(tmp_path):
    """A dataset that differs in one thing."""

    def make(name, graph="cgcnn", labels=None, **options):
        rows = [(f"x{k}", crystal(k, 5), (labels or {"gap": lambda _: 1.0})) for k in range(9)]
        rows = [(i, one, {key: value(len(one)) for key, value in of.items()}) for i, one, of in rows]
        lg.write(rows, tmp_path / name, graph=graph, workers=1, progress=False, **options)
        return tmp_path / name

    return make


def test_what_does_not_fit_together_is_refused(shelf, other, tmp_path):
    cases = {
        "recipe": (other("recipe.lg", graph="mace"), lg.RecipeMismatch, "have other recipes: .*cgcnn"),
        "unit": (other("unit.lg", units={"gap": "eV"}), lg.InputError, "the label 'gap' has the unit None in .* eV in"),
        "shape": (
            other("shape.lg", labels={"gap": lambda _: [1.0, 2.0]}),
            lg.InputError,
            r"has the shape \(\) in .*\(2,\) in",
        ),
        "field": (
            other("field.lg", labels={"gap": lambda _: 1.0, "f": lambda n: np.ones((n, 7))}),
            lg.InputError,
            "'f'",
        ),
    }
    for path, error, message in cases.values():
        with pytest.raises(error, match=message):
            concat([shelf / "a.lg", path], tmp_path / "x.lg")
    with pytest.raises(lg.InputError, match="required: a list of two datasets or more"):
        concat([shelf / "a.lg"], tmp_path / "x.lg")
    with pytest.raises(lg.InputError, match="unknown on_duplicate 'skipp'; did you mean 'skip'"):
        concat([shelf / "a.lg"] * 2, tmp_path / "x.lg", on_duplicate="skipp")
    with pytest.raises(lg.InputError, match="leave no graph of"):
        subset(shelf / "a.lg", tmp_path / "x.lg", where="gap > 1e9")
    with pytest.raises(lg.InputError, match="the id 'a1' is listed twice"):
        subset(shelf / "a.lg", tmp_path / "x.lg", ids=["a1", "a2", "a1"])
    with pytest.raises(lg.InputError, match="unknown split 'tran'; did you mean 'train'"):
        subset(shelf / "a.lg", tmp_path / "x.lg", split="tran")
    with pytest.raises(lg.InputError, match="has a transform"):
        subset(lg.LazyGraphDataset(shelf / "a.lg", transform=lambda graph: graph), tmp_path / "x.lg")
    assert not (tmp_path / "x.lg").exists()
    assert not (tmp_path / "x.lg.partial").exists()


def test_nothing_is_overwritten_unless_asked(shelf, tmp_path):
    out = tmp_path / "x.lg"
    subset(shelf / "b.lg", out)
    with pytest.raises(lg.OutputExists, match="exists; choose another name"):
        subset(shelf / "a.lg", out)
    subset(shelf / "a.lg", out, overwrite=True)
    assert len(sound(out)) == SIZES["a"]
    with pytest.raises(lg.OutputExists, match="is one of the datasets that are read"):
        subset(out, out, overwrite=True)


def test_damage_is_found_and_not_copied(shelf, tmp_path):
    bad = shutil.copytree(shelf / "a.lg", tmp_path / "bad.lg")
    store = Store(bad)
    shard = bad / store.manifest.shards[3].file.name
    content = bytearray(shard.read_bytes())
    offset, length, _ = store.column("record")[200].item()
    content[offset + length // 2] ^= 1
    shard.write_bytes(content)
    for copied in (lambda: concat([bad, shelf / "c.lg"], tmp_path / "x.lg"), lambda: subset(bad, tmp_path / "x.lg")):
        with pytest.raises(lg.CorruptDataset, match=shard.name):
            copied()
    shard.unlink()
    with pytest.raises(lg.CorruptDataset, match="is missing, and the manifest names it"):
        concat([bad, shelf / "c.lg"], tmp_path / "x.lg")
    shard.write_bytes(content)
    with pytest.raises(lg.CorruptDataset, match="row 200"):
        subset(bad, tmp_path / "x.lg", ids=["a200"])
    assert not (tmp_path / "x.lg").exists()
    subset(bad, tmp_path / "x.lg", ids=["a199"])


def test_graphs_that_came_ready_made(tmp_path):
    for name in "ab":
        with lg.GraphWriter(tmp_path / f"{name}.lg") as writer:
            for n in range(1, 5):
                writer.add({"x": np.arange(n), "name": f"{name}{n}"}, id=f"{name}{n}", labels={"size": n})
    concat([tmp_path / "a.lg", tmp_path / "b.lg"], tmp_path / "ab.lg")
    subset(tmp_path / "ab.lg", tmp_path / "x.lg", where="size > 2")
    assert list(sound(tmp_path / "x.lg")) == ["a3", "a4", "b3", "b4"]
    assert "input" not in Manifest.load(tmp_path / "x.lg").columns


def test_users_metadata_that_all_share_are_kept(shelf, tmp_path):
    paths = []
    for name, value in (("a", 1), ("b", 2)):
        paths.append(shutil.copytree(shelf / f"{name}.lg", tmp_path / f"{name}.lg"))
        body = json.loads((paths[-1] / MANIFEST).read_text())
        del body["sha256"]
        body["user"] |= {"shared": [1], "own": value}
        (paths[-1] / MANIFEST).write_bytes(seal(body))
    report = concat(paths, tmp_path / "x.lg")
    assert Manifest.load(tmp_path / "x.lg").user == {"shared": [1]}
    assert any("user's metadata of the datasets differ and are left out: own" in note for note in report.notes)


def dataset(path, rows, **options):
    lg.write(rows, path, graph="cgcnn", workers=1, progress=False, **options)
    return path


def test_labels_are_compared_with_those_of_every_dataset(tmp_path):
    """The first one may lack a label of which two others differ."""
    a = dataset(tmp_path / "a.lg", [("a", crystal(0, 0), {})])
    b = dataset(tmp_path / "b.lg", [("b", crystal(1, 0), {"e": 1.0})], units={"e": "eV"})
    c = dataset(tmp_path / "c.lg", [("c", crystal(2, 0), {"e": 1.0})], units={"e": "meV"})
    d = dataset(tmp_path / "d.lg", [("d", crystal(3, 0), {"e": "text"})])
    for pair in ((b, c), (b, d)):
        with pytest.raises(lg.InputError, match="the label 'e' has the"):
            concat([a, *pair], tmp_path / "x.lg")


def test_a_label_is_required_where_all_require_it(tmp_path):
    b = dataset(tmp_path / "b.lg", [("b", crystal(1, 0), {"e": 1.0})], required=["e"])
    c = dataset(tmp_path / "c.lg", [("c", crystal(2, 0), {"e": 2.0}), ("d", crystal(3, 0), {})])
    concat([b, c], tmp_path / "x.lg")
    assert not Manifest.load(tmp_path / "x.lg").columns["e"].required
    assert list(sound(tmp_path / "x.lg")) == ["b", "c", "d"]
    concat([b, dataset(tmp_path / "f.lg", [("f", crystal(4, 0), {"e": 3.0})], required=["e"])], tmp_path / "y.lg")
    assert Manifest.load(tmp_path / "y.lg").columns["e"].required


def test_a_manifest_that_no_reader_takes_is_never_decided(shelf, tmp_path):
    path = shutil.copytree(shelf / "b.lg", tmp_path / "b.lg")
    before = contents(path)
    with editing(path) as (hold, store):
        bad = replace(store.manifest, graphs=len(store) + 1)
        with pytest.raises(lg.CorruptDataset, match="required: 41"):
            publish(hold, hold.layout.edit, bad)
    assert contents(path) == before
    lg.remove(path, ["b1"], reason="works")


def test_prefixes_are_distinct_and_are_put_before_quarantined_ids_too(shelf, tmp_path):
    for name in ("x/mp.lg", "y/mp.lg", "mp1.lg"):
        shutil.copytree(shelf / "b.lg", tmp_path / name)
    paths = [tmp_path / name for name in ("x/mp.lg", "y/mp.lg", "mp1.lg")]
    report = concat(paths, tmp_path / "all.lg", on_duplicate="prefix")
    assert {one.partition("-")[0] for one in sound(tmp_path / "all.lg")} == {"mp2", "mp3", "mp1"}
    rejected = read_quarantine(tmp_path / "all.lg", Manifest.load(tmp_path / "all.lg"))
    assert [one.id for one in rejected][:2] == ["mp2-bad", "mp2-b0"]
    assert any("tried again later get ids without a prefix" in note for note in report.notes)


def test_a_dataset_of_which_every_graph_is_skipped_keeps_its_list_of_quarantined_inputs(shelf, tmp_path):
    copied = shutil.copytree(shelf / "b.lg", tmp_path / "copied.lg")
    concat([shelf / "b.lg", copied], tmp_path / "x.lg", on_duplicate="skip")
    manifest = Manifest.load(tmp_path / "x.lg")
    assert (manifest.graphs, manifest.quarantine.count, len(manifest.provenance.sources)) == (40, 4, 2)
    assert sound(tmp_path / "x.lg") == contents(shelf / "b.lg")


def test_a_part_in_which_a_graph_stands_twice_is_refused(shelf, tmp_path):
    with pytest.raises(lg.InputError, match="were chosen more than once"):
        subset(lg.LazyGraphDataset(shelf / "b.lg")[[1, 2, 1]], tmp_path / "x.lg")


# ---- removed graphs ----


def test_removed_graphs_are_gone_and_the_reason_stays(shelf, tmp_path, capsys):
    path = shutil.copytree(shelf / "b.lg", tmp_path / "b.lg")
    before = contents(path)
    report = lg.remove(path, ["b7", "b30", "b7"], reason="wrong cell")
    assert (report.removed, report.graphs) == (2, SIZES["b"] - 2)
    found = sound(path)
    assert found == {i: graph for i, graph in before.items() if i not in ("b7", "b30")}
    manifest = Manifest.load(path)
    assert [shard.spare for shard in manifest.shards] == [(7, 8, 31)]
    assert (manifest.history[0].removed, manifest.history[0].reason) == (("b7", "b30"), "wrong cell")
    assert str(lg.diff(shelf / "b.lg", path)).endswith("removed: 2 from b, because: wrong cell: b7, b30")
    lg.remove(path, ["b0"], reason="again")
    assert len(sound(path)) == SIZES["b"] - 3
    assert Store(path).column("input").tolist()[:4] == [1, 2, 4, 5]
    # The same graphs, written without the removed ones, have the same identity.
    subset(
        lg.LazyGraphDataset(shelf / "b.lg"), tmp_path / "c.lg", ids=[i for i in before if i not in ("b0", "b7", "b30")]
    )
    assert Manifest.load(tmp_path / "c.lg").content_id == Manifest.load(path).content_id
    lg.append(path, [("b7", crystal(1, 1), {"gap": 1.0})], workers=1, progress=False)
    assert list(sound(path))[-1] == "b7"


@settings(max_examples=15)
@given(st.sets(st.integers(0, SIZES["b"] - 1), min_size=1, max_size=SIZES["b"] - 1))
def test_any_graphs_can_be_removed_a_few_rows_at_a_time(shelf, tmp_path_factory, numbers):
    folder = tmp_path_factory.mktemp("removed")
    path = shutil.copytree(shelf / "b.lg", folder / "b.lg")
    before = contents(path)
    gone = [f"b{number}" for number in numbers]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remove_module, "ROWS", 3)
        lg.remove(path, gone, reason="chance")
    assert sound(path) == {graph_id: graph for graph_id, graph in before.items() if graph_id not in gone}
    subset(lg.LazyGraphDataset(path), folder / "c.lg")
    columns, others = Manifest.load(path).columns, Manifest.load(folder / "c.lg").columns
    for name in ("id", "id_order", "formula", "gap", "n_node", "split"):
        assert (columns[name].file.sha256, columns[name].dtype) == (others[name].file.sha256, others[name].dtype)
    shutil.rmtree(folder)


def test_a_subset_holds_no_removed_record(shelf, tmp_path):
    path = shutil.copytree(shelf / "b.lg", tmp_path / "b.lg")
    secret = Store(path).frame(Store(path).row_of("b7"))
    lg.remove(path, ["b7"], reason="private")
    subset(path, tmp_path / "x.lg", where="n_atoms > 0")
    assert all(not shard.spare for shard in Manifest.load(tmp_path / "x.lg").shards)
    assert all(secret not in file.read_bytes() for file in (tmp_path / "x.lg" / "shards").iterdir())
    assert sound(tmp_path / "x.lg") == contents(path)


@pytest.mark.parametrize("graph_id", ["a\u2028b", "\u00a0x", "y\u00a0", "e\x85f"])
def test_ids_of_a_file_are_lines(graph_id, tmp_path):
    path = dataset(tmp_path / "d.lg", [(i, crystal(k, 0), {}) for k, i in enumerate(["a", "b", "x", "y", graph_id])])
    (tmp_path / "ids.txt").write_bytes(f"{graph_id}\r\n\nx\n".encode())
    assert main(["remove", str(path), "--ids-from", str(tmp_path / "ids.txt"), "--reason", "r"]) == 0
    assert list(sound(path)) == ["a", "b", "y"]


def test_ids_of_a_saved_subset(shelf, tmp_path):
    ds = lg.LazyGraphDataset(shelf / "b.lg")
    sample = ds.sample(2, seed=1)
    sample.save_subset(tmp_path / "sample.json")
    command = [
        "subset",
        str(shelf / "b.lg"),
        "-o",
        str(tmp_path / "small.lg"),
        "--ids-from",
        str(tmp_path / "sample.json"),
    ]
    assert main(command) == 0
    assert list(sound(tmp_path / "small.lg")) == sample.ids.tolist()
    changed = (tmp_path / "sample.json").read_text().replace(sample.ids[0], "other")
    (tmp_path / "sample.json").write_text(changed)
    assert main([*command[:3], str(tmp_path / "other.lg"), *command[4:]]) == 2  # its line is no id


def test_what_cannot_be_removed(shelf, tmp_path):
    path = shutil.copytree(shelf / "b.lg", tmp_path / "b.lg")
    before = contents(path)
    for ids, reason, error, message in (
        (["b1", "zzz"], "x", lg.LazyGraphError, "has the id 'zzz'"),
        ([], "x", lg.InputError, "no id is given"),
        (["b1"], " ", lg.InputError, "give a printable sentence"),
        (list(before), "x", lg.InputError, "delete the directory instead"),
    ):
        with pytest.raises(error, match=message):
            lg.remove(path, ids, reason=reason)
    assert contents(path) == before


def test_the_commands(shelf, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("b3\nb1\n")
    small, both = str(tmp_path / "small.lg"), str(tmp_path / "both.lg")
    assert (
        main(["subset", str(shelf / "b.lg"), "-o", small, "--ids-from", str(tmp_path / "ids.txt"), "--ids", "b9"]) == 0
    )
    assert list(sound(small)) == ["b9", "b3", "b1"]
    assert main(["concat", small, str(shelf / "c.lg"), "-o", both]) == 0
    assert len(sound(both)) == 3 + SIZES["c"]
    assert main(["diff", small, small]) == 0
    assert main(["diff", small, both, "--json"]) == 1
    assert main(["remove", small, "--ids", "b3", "--reason", "no use"]) == 0
    capsys.readouterr()
    assert main(["info", small]) == 0
    assert "removed     1 graphs: no use" in capsys.readouterr().out
    assert main(["concat", small, small, "-o", str(tmp_path / "x.lg")]) == 2


# ---- differences ----


def test_differences(shelf, tmp_path):
    path = shelf / "a.lg"
    assert diff(path, path).equal
    rows = [
        ("a0", crystal(0, 0), {"gap": 0.0}),
        ("a1", crystal(7, 7), {"gap": 5.0}),
        ("new", crystal(1, 1), {"gap": 0.0}),
    ]
    lg.write(rows, tmp_path / "x.lg", graph="cgcnn", workers=1, units={"gap": "eV"}, progress=False)
    found = diff(path, tmp_path / "x.lg")
    assert (len(found.only_a), found.only_b, found.different, found.same) == (698, ("new",), ("a1",), 1)
    assert not found.equal
    assert str(found).splitlines()[:4] == [
        "698 only in a: a2, a3, a4, a5, a6, ...", "1 only in b: new", "1 different: a1", "1 the same",
    ]  # fmt: skip
    assert "'own a' is only in a" in found.labels
    assert "'gap' has the unit None in a, and eV in b" in found.labels
    assert "'gap' differs in 1 of the 2 graphs that both have" in found.labels


def test_datasets_of_two_recipes_are_compared_by_their_crystals(shelf, tmp_path):
    rows = [("a0", crystal(0, 0), {}), ("a1", crystal(7, 7), {})]
    lg.write(rows, tmp_path / "x.lg", graph="mace", workers=1, progress=False)
    found = diff(shelf / "a.lg", tmp_path / "x.lg")
    assert (found.different, found.same) == (("a1",), 1)
    assert any("preset" in sentence for sentence in found.recipe)


def test_texts_splits_and_labels_of_atoms_are_compared(tmp_path):
    rows = [(f"x{k}", crystal(k, 0), {"phase": "cubic", "e": 1.0}) for k in range(4)]
    a = dataset(tmp_path / "a.lg", rows, per={"e": "cell"})
    assert diff(a, dataset(tmp_path / "same.lg", rows, per={"e": "cell"})).equal
    other = [(i, one, {"phase": "hexagonal" if i == "x1" else "cubic", "e": 1.0}) for i, one, _ in rows]
    b = dataset(tmp_path / "b.lg", other, per={"e": "atom"})
    set_splits(b, names={"train": ["x0"]})
    assert diff(a, b).labels == (
        "'e' has the per cell in a, and atom in b",
        "'phase' differs in 1 of the 4 graphs that both have",
        "'split' is only in b",
    )
    forces = [(i, one, {"forces": np.zeros((len(one), 3)), **labels}) for i, one, labels in rows]
    (sentence,) = diff(a, dataset(tmp_path / "f.lg", forces, per={"e": "cell"})).labels
    assert sentence == "'forces', a field of the records, is only in b"


def test_another_order_is_a_difference(shelf, tmp_path):
    subset(lg.LazyGraphDataset(shelf / "b.lg")[::-1], tmp_path / "x.lg")
    found = diff(shelf / "b.lg", tmp_path / "x.lg")
    assert (found.only_a, found.only_b, found.different, found.order) == ((), (), (), False)
    assert str(found).endswith("the graphs are in another order")
    assert not found.equal
