"""``lazygraph.write``: the same bytes whoever makes them, one identity however it was written, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import socket
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import CorruptDataset
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.format.store import Store
from lazygraph.native import kernels
from lazygraph.writing.edit import gc, set_labels, set_splits
from lazygraph.writing.layout import Layout

SOURCE = "prototypes:150?seed=4"


@pytest.fixture(scope="module")
def reference(tmp_path_factory, write):
    """A dataset of SOURCE in shards of 16, by one process."""
    path = tmp_path_factory.mktemp("reference") / "x.lg"
    write(SOURCE, path, shard_size=16)
    return path


class LastFirst(Executor):
    """Runs everything at shutdown's end in reverse: an executor of the user's own."""

    def __init__(self):
        self.asked = []

    def submit(self, function, /, *arguments, **options):
        future = Future()
        self.asked.append((future, function, arguments, options))
        if len(self.asked) == 10:  # the number of shards
            for future, function, arguments, options in reversed(self.asked):
                future.set_result(function(*arguments, **options))
        return future


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_gives_the_same_bytes(workers, reference, tmp_path, write, bytes_of):
    report = write(SOURCE, tmp_path / "x.lg", shard_size=16, workers=workers)
    assert (report.written, report.quarantined, report.path) == (150, 0, tmp_path / "x.lg")
    assert bytes_of(tmp_path / "x.lg") == bytes_of(reference)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["threads", "spawned processes", "forked processes", "last first"])
def test_any_executor_gives_the_same_bytes(kind, reference, tmp_path, write, bytes_of):
    make = {
        "threads": lambda: ThreadPoolExecutor(3),
        "spawned processes": lambda: ProcessPoolExecutor(2, get_context("spawn")),
        "forked processes": lambda: ProcessPoolExecutor(2, get_context("fork")),
        "last first": LastFirst,
    }[kind]
    with make() as executor:
        write(SOURCE, tmp_path / "x.lg", shard_size=16, executor=executor)
    assert bytes_of(tmp_path / "x.lg") == bytes_of(reference)
    assert [p.name for p in tmp_path.iterdir()] == ["x.lg"]


def test_a_finished_directory_holds_exactly_what_its_manifest_names(reference, bytes_of, sound):
    manifest = sound(reference)
    assert {*bytes_of(reference)} == {MANIFEST, *(file.name for file in manifest.files())}
    assert [p.name for p in reference.parent.iterdir()] == ["x.lg"]
    assert (manifest.graphs, manifest.inputs, len(manifest.shards)) == (150, 150, 10)
    assert [shard.records for shard in manifest.shards] == [16] * 9 + [6]


@pytest.mark.slow
def test_nothing_tells_when_where_by_whom_and_by_how_many_it_was_made(tmp_path, write, append, bytes_of, salt):
    folder = tmp_path / "a-telling-place"
    folder.mkdir()
    (folder / "good.vasp").write_text("NaCl\n1\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n")
    (folder / "bad.vasp").write_text("nothing that anyone can read\n")
    (folder / "cut.cif").write_text("data_x\n_cell_length_a 3\n")
    os.utime(folder / "good.vasp", (1, 1))
    write([folder, "prototypes:20"], tmp_path / "x.lg", workers=2, shard_size=7)
    append(tmp_path / "x.lg", [("a", salt()), ("b", object())])
    assert Manifest.load(tmp_path / "x.lg").quarantine.count == 3
    for name, data in bytes_of(tmp_path / "x.lg").items():
        for secret in (str(tmp_path), tmp_path.name, socket.gethostname(), os.uname().release):
            assert secret.encode() not in data, f"{secret} in {name}"


# ---- identity ----


@pytest.mark.slow
def test_the_content_id_does_not_depend_on_how_it_was_written(reference, tmp_path, write):
    wanted = Manifest.load(reference).content_id
    for number, options in enumerate([{"shard_size": 64}, {"level": 1}, {"level": 19, "shard_size": 1}, {}]):
        write(SOURCE, tmp_path / f"{number}.lg", **options)
        assert Manifest.load(tmp_path / f"{number}.lg").content_id == wanted
    set_labels(tmp_path / "0.lg", {"prototype-0000000": {"gap": 1}})
    set_splits(tmp_path / "0.lg", (0.8, 0.1, 0.1))
    assert Manifest.load(tmp_path / "0.lg").content_id == wanted


def test_the_content_id_tells_one_atom_one_id_and_one_recipe_apart(tmp_path, write, salt):
    def content(items, **options):
        write(items, tmp_path / "x.lg", overwrite=True, **options)
        return Manifest.load(tmp_path / "x.lg").content_id

    write("prototypes:1", tmp_path / "x.lg")
    items = [(f"id-{n}", salt(n)) for n in range(4)]
    moved = lg.Crystal(salt(2).lattice, np.nextafter(salt(2).frac_coords, 1), [11, 17])
    other = lg.Crystal(salt(2).lattice, salt(2).frac_coords, [11, 9])
    found = [
        content(items),
        content([*items[:2], ("id-2", moved), items[3]]),
        content([*items[:2], ("id-2", other), items[3]]),
        content([*items[:2], ("id-9", salt(2)), items[3]]),
        content([items[1], items[0], *items[2:]]),
        content(items[:3]),
        content(items, graph=lg.graph("comformer", cutoff=5.0)),
        content(items, graph=lg.graph("radius", cutoff=4.0)),
    ]
    assert len(set(found)) == len(found)
    assert content(items, labels=()) == content([(i, s, {"energy": 1}) for i, s in items]) == found[0]


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(3, 3), (2, 5), (64, 2)])
def test_an_append_is_as_if_all_had_been_written_at_once(sizes, tmp_path, write, append, sound):
    first, second = "prototypes:30?seed=1", [(f"own-{n}", c) for n, c in enumerate(_crystals(9))]
    second[4] = ("own-4", object())
    second[5] = ("own-3", second[5][1])
    parts, whole = tmp_path / "parts.lg", tmp_path / "whole.lg"
    write(first, parts, shard_size=sizes[0])
    before = Manifest.load(parts)
    report = append(parts, second, shard_size=sizes[1])
    assert (report.written, report.quarantined) == (7, 2)
    write(first, whole, shard_size=sizes[0])
    append(whole, second, shard_size=sizes[1])
    manifest = sound(parts)
    assert manifest == sound(whole)
    assert (manifest.graphs, manifest.inputs) == (37, 39)
    assert manifest.shards[: len(before.shards)] == before.shards
    assert "input" not in manifest.columns  # which follows from the quarantined inputs
    assert np.isnan(Store(parts).column("density")[30:]).all()
    # and in one call, where both are of a kind that can be
    write(["prototypes:30?seed=1", "prototypes:30?seed=1"], tmp_path / "twice.lg", shard_size=7)
    assert sound(tmp_path / "twice.lg").quarantine.count == 30


def test_files_written_at_once_or_appended_have_one_content_id(data, tmp_path, write, append):
    folder = data / "folders" / "alignn"
    files = sorted(folder.glob("POSCAR*"))
    write(files, tmp_path / "once.lg", shard_size=8)
    write(files[:40], tmp_path / "parts.lg", shard_size=5)
    append(tmp_path / "parts.lg", files[40:], shard_size=9)
    assert Manifest.load(tmp_path / "once.lg").content_id == Manifest.load(tmp_path / "parts.lg").content_id
    assert Store(tmp_path / "once.lg").column("id").tolist() == Store(tmp_path / "parts.lg").column("id").tolist()


def test_a_dataset_has_the_same_bytes_without_compiled_loops(data, tmp_path, write, monkeypatch):
    for source in ("prototypes:40?seed=3", data / "folders" / "alignn"):
        write(source, tmp_path / "with.lg", overwrite=True)
        monkeypatch.setenv("LAZYGRAPH_NATIVE", "0")
        kernels.cache_clear()
        try:
            write(source, tmp_path / "without.lg", overwrite=True)
        finally:
            monkeypatch.undo()
            kernels.cache_clear()
        files = Manifest.load(tmp_path / "with.lg").files()
        assert files == Manifest.load(tmp_path / "without.lg").files()


@pytest.mark.parametrize("name", ["density", "record", "id", "formula"])
def test_an_append_refuses_damaged_columns(name, tmp_path, write, append, bytes_of):
    """Their bytes are copied: what is damaged must not get digests of its own."""
    path = tmp_path / "x.lg"
    write("prototypes:30?seed=1", path)
    file = path / Manifest.load(path).columns[name].file.name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    before = bytes_of(path)
    with pytest.raises(CorruptDataset, match="are not as they were written"):
        append(path, [("own", _crystals(1)[0])])
    assert bytes_of(path) == before


def test_an_append_of_larger_records_and_longer_ids(tmp_path, write, append, salt, sound):
    """Columns get wider: a record of more than 64 KiB has a length of four bytes."""
    write([("a", salt())], tmp_path / "x.lg")
    assert Store(tmp_path / "x.lg").column("record").dtype["length"].str == "<u2"
    grid = np.stack(np.meshgrid(*[np.arange(18)] * 3), axis=-1).reshape(-1, 3) / 18
    rattled = grid + np.random.default_rng(0).normal(0, 0.001, grid.shape)
    big = lg.Crystal(np.eye(3) * 54, rattled, [3] * len(grid))
    write([("a", salt())], tmp_path / "y.lg", graph=lg.graph("radius", cutoff=3.5))
    assert append(tmp_path / "y.lg", [("a" * 255, big), ("c", salt(1))]).written == 2
    manifest = sound(tmp_path / "y.lg")
    store = Store(tmp_path / "y.lg")
    assert store.column("record").dtype["length"].str == "<u4"
    assert manifest.graphs == 3
    assert store.row_of("a" * 255) == 1


# ---- refused before work begins ----


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (SOURCE, {"graph": "nonsense"}, "nonsense"),
        (SOURCE, {"labels": ["gap"]}, "unknown label 'gap'; known: density, volume_per_atom"),
        (SOURCE, {"labels": "gap"}, "unknown label 'gap'"),
        (SOURCE, {"units": {"gap": "eV"}}, "there is a unit for 'gap'"),
        (SOURCE, {"level": 0}, "level 0; required: 1 to 22"),
        (SOURCE, {"level": 23}, "level 23"),
        (SOURCE, {"shard_size": 0}, "shard size 0"),
        (SOURCE, {"workers": 0}, "workers=0; required: at least 1"),
        (SOURCE, {"format": "nonsense"}, "nonsense"),
        ("prototypes:0", {}, "there are no structures"),
        ([], {}, "the list of inputs is empty"),
        ("no/such/file.json", {}, "no/such/file.json"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_left(source, options, message, tmp_path, write):
    with pytest.raises(lg.InputError, match=message):
        write(source, tmp_path / "x.lg", **options)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_replaced_only_when_said(reference, tmp_path, write, append, bytes_of):
    path = tmp_path / "x.lg"
    shutil.copytree(reference, path)
    before = bytes_of(path)
    with pytest.raises(FileExistsError, match="150 graphs of the same recipe.*overwrite=True.*lazygraph.append"):
        write("prototypes:5", path)
    with pytest.raises(lg.OutputExists, match=r"of another recipe \(cutoff: 4.0 here, 5.0 there"):
        write("prototypes:5", path, graph=lg.graph("comformer", cutoff=5.0))
    with pytest.raises(lg.InputError, match="unknown label 'gap'; known: .*lazygraph labels"):
        append(path, "prototypes:5", labels=["gap"])
    with pytest.raises(lg.InputError, match="there are no structures"):
        write("prototypes:0", path, overwrite=True)
    with pytest.raises(lg.InputError, match="there are no structures"):
        append(path, "prototypes:0")
    assert bytes_of(path) == before
    assert write("prototypes:5?seed=2", path, graph=lg.graph("radius", cutoff=4.0), overwrite=True).written == 5
    assert Manifest.load(path).graphs == 5
    assert set(before) - {MANIFEST} <= {*bytes_of(path)}  # readers of the state before find their files
    gc(path)
    write("prototypes:5?seed=2", tmp_path / "y.lg", graph=lg.graph("radius", cutoff=4.0))
    assert bytes_of(path) == bytes_of(tmp_path / "y.lg")


@pytest.mark.parametrize("there", ["file", "folder"])
def test_something_else_at_the_place_of_the_output_is_never_touched(there, tmp_path, write):
    path = tmp_path / "x.lg"
    if there == "file":
        path.write_text("precious")
    else:
        path.mkdir()
        (path / "thesis.tex").write_text("precious")
    for options in ({}, {"overwrite": True}):
        with pytest.raises(lg.OutputExists, match="is not a lazygraph dataset"):
            write(SOURCE, path, **options)
    assert (path if there == "file" else path / "thesis.tex").read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["x.lg"]


def test_an_empty_folder_may_become_a_dataset(tmp_path, write, sound):
    (tmp_path / "x.lg").mkdir()
    write("prototypes:5", tmp_path / "x.lg")
    assert sound(tmp_path / "x.lg").graphs == 5


def test_a_broken_dataset_may_be_overwritten(tmp_path, write, sound):
    path = tmp_path / "x.lg"
    write("prototypes:5", path)
    (path / MANIFEST).write_text("{}")
    os.utime(path / MANIFEST, (1, 1))  # long ago: files of the state before it may go
    with pytest.raises(lg.CorruptDataset):
        write("prototypes:5", path)
    write("prototypes:6", path, overwrite=True)
    assert sound(path).graphs == 6


def test_no_input_that_can_become_a_graph_is_no_dataset(tmp_path, write, append, bytes_of):
    bad = [(f"bad-{n}", object()) for n in range(5)]
    with pytest.raises(lg.InputError, match="none of the 5 inputs could become a graph.*'bad-0': found"):
        write(bad, tmp_path / "x.lg")
    assert list(tmp_path.iterdir()) == []
    write("prototypes:5", tmp_path / "x.lg")
    before = bytes_of(tmp_path / "x.lg")
    with pytest.raises(lg.InputError, match="none of the 5 inputs could become a graph"):
        append(tmp_path / "x.lg", bad)
    with pytest.raises(lg.InputError, match="'prototype-0000000': the id is taken by a graph that the dataset holds"):
        append(tmp_path / "x.lg", "prototypes:5")
    assert bytes_of(tmp_path / "x.lg") == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.lg"]


def test_ready_made_graphs_cannot_be_appended_to(tmp_path, write, append):
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        writer.add({"z": np.ones(3)})
    with pytest.raises(lg.InputError, match="GraphWriter and has no recipe"):
        append(tmp_path / "x.lg", "prototypes:5")


# ---- what a dataset says of itself ----


def test_provenance_names_inputs_and_versions(tmp_path, write, append):
    write("prototypes:5?seed=3", tmp_path / "x.lg")
    provenance = Manifest.load(tmp_path / "x.lg").provenance
    assert [(source.name, source.inputs) for source in provenance.sources] == [("prototype", 5)]
    assert [file["name"] for file in provenance.sources[0].files] == ["prototypes:5?seed=3"]
    assert {"lazygraph", "numpy", "lmdb", "zstandard"} <= provenance.versions.keys()
    append(tmp_path / "x.lg", [("a", _crystals(1)[0])])
    again = Manifest.load(tmp_path / "x.lg").provenance
    assert [(source.name, source.inputs) for source in again.sources] == [("prototype", 5), ("python", 1)]


def test_notes_outlive_an_append(data, tmp_path, write, append):
    report = write(data / "folders" / "alignn", tmp_path / "x.lg")
    assert any("that no row of id_prop.csv names" in note for note in report.notes)
    manifest = Manifest.load(tmp_path / "x.lg")
    assert set(report.notes) == set(manifest.provenance.notes)
    append(tmp_path / "x.lg", "prototypes:3")
    assert set(manifest.provenance.notes) <= set(Manifest.load(tmp_path / "x.lg").provenance.notes)


def test_splits_of_the_source_are_kept(tmp_path, write, append, sound):
    poscar = "NaCl\n1\n{a} 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"
    sets = {"train": 5, "val": 2, "test": 3}
    content, number = {}, 0
    for split, size in sets.items():
        content[split] = {f"id-{number + n}": poscar.format(a=4 + (number + n) / 10) for n in range(size)}
        number += size
    (tmp_path / "set.json").write_text(json.dumps(content))
    for shard in (2, 3, 512):
        path = tmp_path / f"{shard}.lg"
        write(tmp_path / "set.json", path, shard_size=shard)
        sound(path)
        ds = lg.LazyGraphDataset(path)
        for split, ids in content.items():
            assert ds.split(split).ids.tolist() == list(ids)
        assert Manifest.load(path).columns["split"].categories == ("train", "val", "test")
    append(path, "prototypes:2")
    assert lg.LazyGraphDataset(path).columns["split"].tolist() == ["train"] * 5 + ["val"] * 2 + ["test"] * 3 + [""] * 2
    more = {"extra": {"new": poscar.format(a=5.55)}, "val": {"newer": poscar.format(a=5.65)}}
    (tmp_path / "more.json").write_text(json.dumps(more))
    append(path, tmp_path / "more.json")
    ds = lg.LazyGraphDataset(path)
    assert ds.split("val").ids.tolist() == ["id-5", "id-6", "newer"]
    assert ds.split("extra").ids.tolist() == ["new"]
    # asked-for splits take their place
    write(tmp_path / "set.json", tmp_path / "own.lg", split=(0.5, 0.3, 0.2))
    assert len(lg.LazyGraphDataset(tmp_path / "own.lg").split("test")) == 2


def test_the_layout_beside_a_relative_path(tmp_path, write, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = write("prototypes:3", "deep/er/x.lg")
    assert report.path == tmp_path / "deep" / "er" / "x.lg"
    assert Layout.of("x.lg").partial == tmp_path / "x.lg.partial"
    assert [p.name for p in (tmp_path / "deep" / "er").iterdir()] == ["x.lg"]


def _crystals(count):
    return [lg.Crystal(np.eye(3) * (4 + n / 10), [[0, 0, 0], [0.5, 0.5, 0.5]], [3 + n, 17]) for n in range(count)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--append", "--graph", "comformer"], "--graph cannot be combined with --append"),
        (["--append", "--cutoff", "0.5"], "--cutoff cannot be combined with --append"),
        (["--append", "--no-lattice-edges"], "--no-lattice-edges cannot be combined with --append"),
        (["--append", "--level", "9"], "--level cannot be combined with --append"),
        (["--append", "--overwrite"], "--overwrite cannot be combined with --append"),
        (["--retry-quarantined", "--label", "density"], "--label cannot be combined with --retry-quarantined"),
        (["--retry-quarantined", "--unit", "density=A"], "--unit cannot be combined with --retry-quarantined"),
        (["--append", "--retry-quarantined"], "--append and --retry-quarantined cannot be combined"),
    ],
)
def test_options_of_new_datasets_are_refused_where_graphs_are_added(
    options, message, reference, tmp_path, bytes_of, capsys
):
    path = tmp_path / "x.lg"
    shutil.copytree(reference, path)
    before = bytes_of(path)
    assert main(["write", "prototypes:5", "-o", str(path), "--workers", "1", *options]) == 2
    assert message in capsys.readouterr().err
    assert bytes_of(path) == before


def test_the_command_line_adds_as_the_functions_do(tmp_path, write, append, retry, salt, bytes_of):
    for name in ("a", "b"):
        write("prototypes:5", tmp_path / f"{name}.lg", split=(0.5, 0.25, 0.25))
    ids = tmp_path / "more.xyz"
    line = '1\nLattice="{0} 0 0 0 {0} 0 0 0 {0}" material_id={1} Properties=species:S:1:pos:R:3\nFe 0 0 0\n'
    ids.write_text("".join(line.format(edge, name) for edge, name in ((3.0, "n0"), (0.0, "n1"), (3.5, "n2"))))
    append(tmp_path / "a.lg", ids, split="val")
    shared = ["-o", str(tmp_path / "b.lg"), "--workers", "1", "--no-progress"]
    assert main(["write", str(ids), *shared, "--append", "--split", "val"]) == 0
    assert bytes_of(tmp_path / "a.lg") == bytes_of(tmp_path / "b.lg")
    ids.write_text(ids.read_text().replace('"0.0 0 0 0 0.0 0 0 0 0.0"', '"4.0 0 0 0 4.0 0 0 0 4.0"'))
    sources = ["prototypes:5", ids]
    assert retry(tmp_path / "a.lg", sources, split=(1, 0, 0)).written == 1
    assert main(["write", *map(str, sources), *shared, "--retry-quarantined", "--split", "1,0,0"]) == 0
    assert bytes_of(tmp_path / "a.lg") == bytes_of(tmp_path / "b.lg")
