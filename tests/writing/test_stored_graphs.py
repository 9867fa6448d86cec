"""A write of datasets that asks for nothing else copies their graphs, and gives what building them would give."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli.main import main_write
from lazygraph.format.columns import texts_of
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.graphs.spec import GraphSpec
from lazygraph.reading.verify import verify
from lazygraph.writing import publish as publishing
from lazygraph.writing.edit import fit_elements, set_labels, set_splits
from lazygraph.writing.layout import Layout
from lazygraph.writing.stored_graphs import COPIED
from lazygraph.writing.worker import make_shard
from lazygraph.writing.write import plan

CGCNN = lg.graph("cgcnn", cutoff=4.0, max_neighbors=6)
BUILT = "the graphs were built, and not copied as they are stored, because "


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, salt, write):
    """Two datasets of one recipe with all kinds of labels and splits, one with removed graphs; not to be changed."""
    folder = tmp_path_factory.mktemp("shelf")

    def rows(name, n):
        for k in range(n):
            labels = {"gap": k / 8, "count": k, "kind": f"kind {k % 3}", "forces": [[k, 0, 0], [0, k, 0]]}
            labels |= {"energy": -float(k), "own " + name: k / 4, "metal": k % 2 == 0}
            yield f"{name}{k}", salt(k), {key: value for key, value in labels.items() if k % 5 or key != "count"}
        yield "bad " + name, 17, {}

    options = {"units": {"gap": "eV", "forces": "eV/A"}, "per": {"energy": "cell"}, "describe": {"gap": "PBE"}}
    for name, n in (("a", 40), ("b", 13)):
        about = {"title": name, "license": "CC0-1.0"}
        write(rows(name, n), folder / f"{name}.lg", graph=CGCNN, shard_size=16, about=about, **options)
        set_splits(folder / f"{name}.lg", (0.5, 0.25, 0.2), seed=n)
        set_splits(folder / f"{name}.lg", names={"empty": [], name: [f"{name}1", f"{name}5"]}, name="fold")
    fit_elements(folder / "a.lg", "energy")
    lg.remove(folder / "b.lg", ["b3", "b4"], reason="wrong")
    manifest = Manifest.load(folder / "b.lg")
    replace(manifest, user={"paper": "x"}).publish(folder / "b.lg")
    return folder


def contents(path):
    """All that a dataset says but how its records lie in shards, and which versions of what built them."""
    assert verify(path).problems == ()
    store = Store(path)
    manifest = store.manifest
    values, described = {}, {}
    for name, column in manifest.columns.items():
        if name != "record":
            values[name] = np.asarray(texts_of(column, store.column(name))).tolist()
            described[name] = replace(column, file=None, dtype=None)
    provenance = manifest.provenance
    notes = [note for note in provenance.notes if note != COPIED]
    said = [manifest.recipe, manifest.schema, manifest.content_id, manifest.inputs, manifest.quarantine]
    said += [manifest.history, manifest.about, manifest.user, provenance.sources]
    records = [store.raw(row) for row in range(len(store))]
    return {"records": records, "values": repr(values), "columns": described, "said": said}, notes


def both_ways(source, folder, write, **options):
    """Write by copying and by building; the report of the copies."""
    copied = write(source, folder / "copied.lg", **options)
    built = write(source, folder / "built.lg", shard_size=7, **options)
    assert (copied.copied, built.copied) == (True, False)
    assert COPIED in copied.notes
    assert built.notes[-1] == BUILT + "the option shard_size was given"
    for name in ("written", "quarantined", "recipe", "quarantine_file", "in_no_split"):
        assert getattr(copied, name) == getattr(built, name)
    (one, notes), (other, other_notes) = contents(folder / "copied.lg"), contents(folder / "built.lg")
    assert one == other
    assert set(other_notes) <= set(notes)
    return copied, [note for note in notes if note not in other_notes]


SOURCES = {
    "whole": lambda folder: folder / "a.lg",
    "open": lambda folder: lg.LazyGraphDataset(folder / "a.lg"),
    "where": lambda folder: lg.LazyGraphDataset(folder / "a.lg").where("gap > 2"),
    "backwards": lambda folder: lg.LazyGraphDataset(folder / "a.lg")[::-3],
    "no split": lambda folder: lg.LazyGraphDataset(folder / "a.lg")[[1]],
    "removed": lambda folder: folder / "b.lg",
    "two": lambda folder: [folder / "a.lg", folder / "b.lg"],
    "parts": lambda folder: [lg.LazyGraphDataset(folder / f"{name}.lg")[2:9] for name in "ba"],
    "parts of one": lambda folder: [lg.LazyGraphDataset(folder / "a.lg")[k : k + 9] for k in (20, 0)],
}


@pytest.mark.parametrize("name", SOURCES)
def test_copies_are_what_would_be_built(name, shelf, tmp_path, write):
    _, more = both_ways(SOURCES[name](shelf), tmp_path, write)
    assert all("is missing in" in note for note in more), "which labels some datasets lack is told"
    assert not (tmp_path / "copied.lg.partial").exists()


def test_what_is_given_about_the_dataset_does_not_make_it_build(shelf, tmp_path, write):
    both_ways([shelf / "a.lg", shelf / "b.lg"], tmp_path, write, about={"title": "Both"}, graph=CGCNN)
    assert Manifest.load(tmp_path / "copied.lg").about == {"title": "Both", "license": "CC0-1.0"}


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 10)), min_size=1, max_size=12, unique=True))
def test_any_parts_in_any_order(shelf, tmp_path_factory, write, chosen):
    folder = tmp_path_factory.mktemp("any")
    both_ways([lg.LazyGraphDataset(shelf / f"{name}.lg")[[row]] for name, row in chosen], folder, write)


def test_nothing_is_built_and_whole_shards_are_shared(shelf, tmp_path, write, monkeypatch):
    monkeypatch.setattr(GraphSpec, "build", None)
    report = write(shelf / "a.lg", tmp_path / "x.lg")
    assert (report.copied, report.written, report.quarantined, report.recipe) == (True, 40, 0, CGCNN)
    for mine, theirs in zip(Manifest.load(tmp_path / "x.lg").shards, Manifest.load(shelf / "a.lg").shards, strict=True):
        assert (tmp_path / "x.lg" / mine.file.name).samefile(shelf / "a.lg" / theirs.file.name)


def test_removed_records_are_not_copied(shelf, tmp_path, write):
    old = Store(shelf / "b.lg")
    shard = (old.path / old.manifest.shards[0].file.name).read_bytes()
    secret = shutil.copytree(shelf / "b.lg", tmp_path / "b.lg")
    frame = Store(secret).frame(Store(secret).row_of("b7"))
    lg.remove(secret, ["b7"], reason="private")
    assert write(secret, tmp_path / "x.lg").copied
    assert frame in shard
    assert all(frame not in file.read_bytes() for file in (tmp_path / "x.lg" / "shards").iterdir())


OPTIONS = {
    "labels": (["gap"], "the option labels"),
    "units": ({"energy": "eV"}, "the option units"),
    "per": ({"gap": "cell"}, "the option per, describe or required"),
    "describe": ({"gap": "a gap"}, "the option per, describe or required"),
    "required": (["gap"], "the option per, describe or required"),
    "level": (3, "the option level"),
    "max_images": (10**6, "the option max_images"),
    "max_seconds": (50.0, "the option max_seconds"),
    "split": ((0.5, 0.25, 0.25), "the option split"),
    "codec": ("none", "not all records of a.lg have the codec 'none'"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_copying_cannot_serve_make_it_build(name, shelf, tmp_path, write):
    value, reason = OPTIONS[name]
    report = write(lg.LazyGraphDataset(shelf / "a.lg")[:3], tmp_path / "x.lg", **{name: value})
    assert (report.copied, report.written) == (False, 3)
    assert report.notes[-1].startswith(BUILT + reason)
    assert COPIED not in Manifest.load(tmp_path / "x.lg").provenance.notes


def test_an_executor_is_used(shelf, tmp_path, write):
    with ThreadPoolExecutor(1) as executor:
        report = write(lg.LazyGraphDataset(shelf / "a.lg")[:3], tmp_path / "x.lg", executor=executor)
    assert report.notes[-1] == BUILT + "an executor was given"


def test_another_recipe_is_built_without_a_word(shelf, tmp_path, write):
    opened = lg.LazyGraphDataset(shelf / "a.lg", graph="mace")[:3]
    for number, (source, graph) in enumerate([(shelf / "a.lg", "mace"), (opened, None)]):
        report = write(source, tmp_path / f"{number}.lg", graph=graph)
        assert not report.copied
        assert not any(note.startswith(BUILT) for note in report.notes)
    # What is asked for is stored, whatever the graphs are looked at with.
    assert write(opened, tmp_path / "x.lg", graph=CGCNN).copied


def test_codecs_that_the_datasets_share_are_copied(shelf, tmp_path, write):
    write(shelf / "a.lg", tmp_path / "plain.lg", codec="none")
    assert write(tmp_path / "plain.lg", tmp_path / "x.lg", codec="none").copied
    assert {shard.codec for shard in Manifest.load(tmp_path / "x.lg").shards} == {"none"}
    assert not write([shelf / "b.lg", tmp_path / "plain.lg"], tmp_path / "y.lg").copied


def test_ids_that_come_twice_are_quarantined_as_ever(shelf, tmp_path, write, quarantine):
    ds = lg.LazyGraphDataset(shelf / "a.lg")
    for number, source in enumerate([ds[[4, 4, 5]], [ds[[4, 5]], ds[[4]]]]):
        report = write(source, tmp_path / f"{number}.lg")
        assert (report.written, report.quarantined, report.copied) == (2, 1, False)
        assert report.notes[-1] == BUILT + "two graphs have the id 'a4'"
        assert quarantine(tmp_path / f"{number}.lg")[0].error == "DuplicateId"


def test_labels_that_differ_are_agreed_on_as_ever(shelf, tmp_path, write, salt):
    write([("c", salt(3), {"gap": 1.0})], tmp_path / "c.lg", graph=CGCNN)
    report = write([shelf / "a.lg", tmp_path / "c.lg"], tmp_path / "x.lg")
    assert report.notes[-1] == BUILT + "the datasets say different things about the label 'gap'"
    assert Manifest.load(tmp_path / "x.lg").columns["gap"].unit == "eV"
    write([("d", salt(3), {"must": 1.0})], tmp_path / "d.lg", graph=CGCNN, required=["must"])
    write([("e", salt(4), {"other": 1.0})], tmp_path / "e.lg", graph=CGCNN)
    report = write([tmp_path / "d.lg", tmp_path / "e.lg"], tmp_path / "y.lg")
    assert (report.written, report.quarantined) == (1, 1)
    assert report.notes[-1] == BUILT + "e.lg has no label 'must', which another dataset requires"


def test_damaged_records_are_quarantined_as_ever(shelf, tmp_path, write, quarantine):
    bad = shutil.copytree(shelf / "a.lg", tmp_path / "a.lg")
    store = Store(bad)
    file = bad / store.manifest.shards[1].file.name
    offset, length, _ = store.column("record")[20].item()
    content = bytearray(file.read_bytes())
    content[offset + length // 2] ^= 1
    file.unlink()  # the copies share their bytes
    file.write_bytes(content)
    for number, source in enumerate([bad, lg.LazyGraphDataset(bad)[18:22]]):
        report = write(source, tmp_path / f"{number}.lg")
        assert (report.quarantined, report.copied) == (1, False)
        assert [one.id for one in quarantine(tmp_path / f"{number}.lg")] == ["a20"]
        assert report.notes[-1].startswith(BUILT)
        assert file.name in report.notes[-1]
        assert verify(tmp_path / f"{number}.lg").problems == ()
    file.unlink()
    report = write(bad, tmp_path / "gone.lg")
    assert (report.written, report.copied) == (24, False)
    assert "is missing, and the manifest names it" in report.notes[-1]
    # Nothing of it lies in the part that is copied.
    assert write(lg.LazyGraphDataset(bad)[:16], tmp_path / "x.lg").copied


# ---- runs that were stopped, and runs that were finished ----


def state(path):
    return {file.relative_to(path): (file.stat().st_ino, file.stat().st_mtime_ns) for file in sorted(path.rglob("*"))}


def test_a_finished_one_is_not_written_again(shelf, tmp_path, write):
    path, part = tmp_path / "x.lg", lg.LazyGraphDataset(shelf / "a.lg")[:9]
    first = write(part, path)
    before = state(path)
    again = write(part, path)
    assert replace(again, seconds=0) == replace(first, seconds=0)
    assert state(path) == before
    assert write(part, path, shard_size=4).written == 9  # the same graphs, however they are made
    assert state(path) == before
    with pytest.raises(lg.OutputExists, match="of the same recipe, made from other input"):
        write(lg.LazyGraphDataset(shelf / "a.lg")[:8], path)
    with pytest.raises(lg.OutputExists, match="of the same recipe, made from other input"):
        write(part, path, about={"title": "new"})
    assert state(path) == before
    assert write(lg.LazyGraphDataset(shelf / "a.lg")[:8], path, overwrite=True).copied
    assert Manifest.load(path).graphs == 8


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_that_was_killed_is_finished_by_the_same_call(overwrite, shelf, tmp_path, write, monkeypatch, bytes_of):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    path, source = tmp_path / "x.lg", [shelf / "a.lg", shelf / "b.lg"]
    write(source, tmp_path / "expected.lg")
    if overwrite:
        write("prototypes:5?seed=0", path)
    # Before its manifest decides, and after.
    for name in ("fsync_directory", "roll_forward"):
        with monkeypatch.context() as patch:
            patch.setattr(publishing, name, die)
            with pytest.raises(Killed):
                write(source, path, overwrite=overwrite)
    assert (Layout.of(path).dataset / "manifest.json").exists()
    report = write(source, path, overwrite=overwrite)
    assert (report.copied, report.written) == (True, 51)
    assert not Layout.of(path).partial.exists()
    new = Manifest.load(path)
    assert new == Manifest.load(tmp_path / "expected.lg")
    assert verify(path).problems == ()
    if not overwrite:
        assert bytes_of(path) == bytes_of(tmp_path / "expected.lg")


def test_work_that_was_begun_by_building_is_finished_by_building(shelf, tmp_path, write):
    path = tmp_path / "x.lg"
    plan(shelf / "a.lg", path)
    make_shard(path, 0)
    with pytest.raises(lg.OutputExists, match="was begun with other arguments"):
        write(shelf / "b.lg", path)
    report = write(shelf / "a.lg", path)
    assert (report.written, report.copied) == (40, False)
    assert report.notes[-1] == BUILT + "x.lg.partial holds an unfinished run that builds graphs"


def test_over_itself_a_dataset_is_built(shelf, tmp_path, write):
    path = shutil.copytree(shelf / "a.lg", tmp_path / "a.lg")
    known = Manifest.load(path).content_id
    report = write(path, path, overwrite=True)
    assert report.notes[-1] == BUILT + "a.lg is also an input"
    assert Manifest.load(path).content_id == known
    assert verify(path).problems == ()


def test_copies_can_be_added_to_and_changed(shelf, tmp_path, write, append, retry, salt):
    write(lg.LazyGraphDataset(shelf / "a.lg")[:5], tmp_path / "x.lg")
    append(tmp_path / "x.lg", [("new", salt(60), {"gap": 1.0})])
    append(tmp_path / "x.lg", lg.LazyGraphDataset(shelf / "a.lg")[5:7])
    set_labels(tmp_path / "x.lg", {"a1": {"gap": 9.0}})
    assert retry(tmp_path / "x.lg", shelf / "a.lg").notes == ("nothing is quarantined",)
    found = lg.LazyGraphDataset(tmp_path / "x.lg")
    assert found.ids.tolist() == ["a0", "a1", "a2", "a3", "a4", "new", "a5", "a6"]
    assert verify(tmp_path / "x.lg").problems == ()


def test_the_command_says_what_was_done(shelf, tmp_path, capsys):
    line = [str(shelf / "a.lg"), "-o", str(tmp_path / "x.lg"), "--no-progress"]
    assert main_write(line) == 0
    shown = capsys.readouterr()
    assert "copied 40 graphs to" in shown.out
    assert f"note: {COPIED}" in shown.err
    assert main_write([str(shelf / "a.lg"), "-o", str(tmp_path / "y.lg"), "--workers", "1", "--level", "3"]) == 0
    shown = capsys.readouterr()
    assert "wrote 40 graphs to" in shown.out
    assert f"note: {BUILT}the option level was given" in shown.err
