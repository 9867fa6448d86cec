"""Nothing that the user keeps in a dataset's folder, or in the folder of an unfinished one, is ever deleted."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import StorageError, WriterBusy
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.reading.verify import verify
from lazygraph.writing import merge as merge_module
from lazygraph.writing.edit import gc, set_labels, set_splits
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
from lazygraph.writing.publish import publish
from lazygraph.writing.salvage import salvage

HASH = "0123456789abcdef"
STALE = (
    f"shards/00007-{HASH}.lmdb",
    f"shards/1234567-{HASH}.lmdb",
    f"columns/gap-{HASH}.npy",
    f"columns/-{HASH}.npy",
    f"dictionary-{HASH}.zstd",
    f"quarantine-{HASH}.jsonl",
)
MINE = (
    "README.md",
    ".git/config",
    ".git/objects/ab/cdef",
    "notebooks/thesis.ipynb",
    "lock",
    "plan",
    "columns/notes.txt",
    f"columns/gap-{HASH}.npy.bak",
    f"columns/old/gap-{HASH}.npy",
    f"columns/gap-{HASH[1:]}.npy",
    f"columns/gap-{HASH.upper()}.npy",
    f"columns/gap-{HASH}.npy/inside",
    f"gap-{HASH}.npy",
    f"shards/0007-{HASH}.lmdb",
    f"shards/00007-{HASH}.lmdb-lock",
    f"shards/.00007.lmdb.{HASH}.tmp",
    f"backup/shards/00007-{HASH}.lmdb",
    f"dictionary-{HASH}.zstd.old",
    f"old/quarantine-{HASH}.jsonl",
    f".manifest.json.{HASH}.tmp",
    "done/00000.msgpack",
    "spool/00000",
)


def put(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"mine: {name}")


def kept(folder, names):
    """Those that are there and are as they were put."""
    return [n for n in names if (folder / n).is_file() and (folder / n).read_text() == f"mine: {n}"]


@pytest.fixture(scope="module")
def small(tmp_path_factory, write):
    path = tmp_path_factory.mktemp("small") / "x.lg"
    write("prototypes:6?seed=1", path, graph="cgcnn")
    return path


@pytest.fixture
def dataset(small, tmp_path):
    """A dataset an hour old, with files of earlier states, others of the user's, and a dataset inside."""
    path = tmp_path / "x.lg"
    shutil.copytree(small, path)
    put(path, STALE)
    put(path, [n for n in MINE if not (path / n).exists() and not (path / n).parent.is_file()])
    shutil.copytree(small, path / "val.lg")
    os.utime(path / MANIFEST, (1, 1))
    return path


def mine_in(path):
    return [n for n in MINE if (path / n).is_file()]


CHANGES = {
    "gc": lambda path, write: gc(path),
    "split": lambda path, write: set_splits(path, (0.5, 0.25, 0.25)),
    "labels": lambda path, write: set_labels(path, {"prototype-0000001": {"gap": 1.0}}),
    "append": lambda path, write: added(path),
    "overwrite": lambda path, write: write("prototypes:7?seed=3", path, overwrite=True),
    "ready-made": lambda path, write: ready_made(path),
}  # fmt: skip


def added(path):
    lg.append(path, [("new", lg.Crystal([[4, 0, 0], [0, 4, 0], [0, 0, 4]], [[0, 0, 0]], [11]))], workers=1)


def ready_made(path):
    with lg.GraphWriter(path, overwrite=True) as writer:
        writer.add({"z": [1, 2]})


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_deletes_files_of_earlier_states_and_nothing_else(change, dataset, write, bytes_of):
    mine, inner = mine_in(dataset), bytes_of(dataset / "val.lg")
    before = bytes_of(dataset)
    assert len(mine) == len(MINE) - 1  # one of them has the name of a folder of another
    CHANGES[change](dataset, write)
    assert kept(dataset, mine) == mine
    assert bytes_of(dataset / "val.lg") == inner
    named = {file.name for file in Manifest.load(dataset).files()} | {MANIFEST}
    gone = before.keys() - bytes_of(dataset).keys()
    assert gone == set(STALE)
    assert verify(dataset).problems == ()
    assert verify(dataset).files == len(named)  # the user's are not counted
    assert not Layout.of(dataset).partial.exists()


NAMES = st.one_of(
    st.sampled_from(STALE + MINE),
    st.from_regex(r"(shards/|columns/|dictionary-|)[a-z0-9.-]{1,12}", fullmatch=True),
    st.sampled_from(STALE).flatmap(
        lambda name: st.tuples(st.integers(0, len(name)), st.sampled_from(["", "0", "x", "/", ".", "\u2028"])).map(
            lambda change: name[: change[0]] + change[1] + name[change[0] + 1 :]
        )
    ),
)
FORMS = re.compile(
    r"shards/[0-9]{5,}-[0-9a-f]{16}\.lmdb|columns/[A-Za-z0-9_.-]{0,100}-[0-9a-f]{16}\.npy"
    r"|dictionary-[0-9a-f]{16}\.zstd|quarantine-[0-9a-f]{16}\.jsonl"
)


@settings(max_examples=40)
@given(st.lists(NAMES, max_size=8, unique=True))
def test_what_is_deleted_has_a_name_of_the_format(small, names):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.lg"
        shutil.copytree(small, path)
        own = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
        placed = []
        for name in names:
            if name in own or os.path.normpath(name) != name or name.startswith(("/", "..")):
                continue
            try:
                put(path, [name])
            except OSError:  # the name of a folder that is there, or below a file
                continue
            placed.append(name)
        stale = sorted(name for name in placed if FORMS.fullmatch(name))
        told, deleted = [], []
        expected = len(stale), sum(len(f"mine: {name}".encode()) for name in stale)
        assert gc(path, dry_run=True, tell=told.append) == expected
        assert kept(path, placed) == placed
        assert gc(path, tell=deleted.append) == expected
        assert sorted(told) == sorted(deleted) == stale
        assert kept(path, placed) == [name for name in placed if name not in stale]
        assert own <= {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}


def test_links_lead_nowhere_and_are_left(dataset, tmp_path):
    outside = tmp_path / "outside"
    put(outside, ["thesis.txt", f"gap-{HASH}.npy", f"00009-{HASH}.lmdb"])
    shutil.move(dataset / "columns", outside / "columns")  # on another disk, say
    put(outside / "columns", [f"gap-{HASH}.npy"])
    (dataset / "columns").symlink_to(outside / "columns")
    (dataset / "outside").symlink_to(outside)
    (dataset / "dangling").symlink_to(tmp_path / "nowhere")
    links = [f"shards/00009-{HASH}.lmdb", f"dictionary-{HASH[::-1]}.zstd"]
    (dataset / links[0]).symlink_to(outside / f"00009-{HASH}.lmdb")
    (dataset / links[1]).symlink_to(tmp_path / "nowhere")
    before = {p.relative_to(outside) for p in outside.rglob("*")}
    deleted = set()
    gc(dataset, tell=deleted.add)
    assert deleted == {name for name in STALE if not name.startswith("columns/")}
    assert {p.relative_to(outside) for p in outside.rglob("*")} == before
    assert all((dataset / link).is_symlink() for link in (*links, "dangling", "outside", "columns"))
    assert set_splits(dataset, (0.5, 0.25, 0.25)).sizes["split"] == {"train": 3, "val": 1, "test": 1}
    assert {p.relative_to(outside) for p in outside.rglob("*")} > before


def test_gc_says_what_it_deletes_and_a_dry_run_deletes_nothing(dataset, bytes_of, capsys):
    before = bytes_of(dataset)
    size = sum(len(before[name]) for name in STALE)
    assert main(["gc", str(dataset), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines[:-1]) == sorted(f"would delete {name}" for name in STALE)
    assert lines[-1] == f"would delete 6 files, {size} bytes"
    assert bytes_of(dataset) == before
    assert not Layout.of(dataset).partial.exists()
    assert main(["gc", str(dataset)]) == 0
    again = capsys.readouterr().out.splitlines()
    assert again == [line.replace("would delete", "deleted") for line in lines]
    assert main(["gc", str(dataset)]) == 0
    assert capsys.readouterr().out == "deleted 0 files, 0 bytes\n"


def test_a_dry_run_does_not_list_what_another_process_is_moving_in(dataset):
    with exclusive(Layout.of(dataset)), pytest.raises(WriterBusy):
        gc(dataset, dry_run=True)


IN_PARTIAL = (
    "notes.txt",
    "at/notes.txt",
    "done/00000.msgpack.bak",
    "spool/mine.csv",
    "spool.new/mine.csv",
    "dataset/README.md",
    f"dataset/shards/old/00000-{HASH}.lmdb",
    "dataset/columns/notes",
    "edit/README.md",
    ".git/config",
    f".thesis.tex.{HASH}.tmp",
)


def given_up(path, write):
    with pytest.raises(lg.InputError):
        write([("a", object())], path)
    assert not path.exists()
    write("prototypes:4", path)


FINISHED = {
    "write": lambda path, write: write([("a", lg.Crystal([[4, 0, 0], [0, 4, 0], [0, 0, 4]], [[0, 0, 0]], [11]))], path),
    "ready-made": lambda path, write: ready_made(path),
    "given up": given_up,
}


@pytest.mark.parametrize("work", FINISHED)
def test_files_of_the_users_in_the_folder_of_an_unfinished_dataset_stay_there(work, tmp_path, write, sound, bytes_of):
    path = tmp_path / "x.lg"
    partial = Layout.of(path).partial
    put(partial, IN_PARTIAL)
    FINISHED[work](path, write)
    assert kept(partial, IN_PARTIAL) == list(IN_PARTIAL)
    assert {*bytes_of(partial)} == {*IN_PARTIAL}, "something of ours is left"
    assert {*bytes_of(path)} == {MANIFEST, *(file.name for file in sound(path).files())}
    set_splits(path, (0.5, 0.25, 0.25))
    gc(path)
    assert {*bytes_of(partial)} == {*IN_PARTIAL}
    salvage(path, tmp_path / "y.lg")
    assert kept(partial, IN_PARTIAL) == list(IN_PARTIAL)


def test_a_manifest_of_another_program_is_not_replaced(tmp_path, write):
    """Web applications and browser extensions have a manifest.json too."""
    path = tmp_path / "app"
    put(path, ["index.html"])
    (path / MANIFEST).write_text('{"name": "app"}')
    for options in ({}, {"overwrite": True}):
        with pytest.raises(lg.OutputExists, match="is not a lazygraph dataset"):
            write("prototypes:3", path, **options)
    with pytest.raises(lg.OutputExists):
        lg.GraphWriter(path, overwrite=True)
    assert (path / MANIFEST).read_text() == '{"name": "app"}'
    assert kept(path, ["index.html"]) == ["index.html"]


def test_a_link_and_the_folder_that_it_leads_to_have_one_lock(dataset, tmp_path, write):
    (tmp_path / "link.lg").symlink_to(dataset)
    assert Layout.of(tmp_path / "link.lg") == Layout.of(dataset)
    with exclusive(Layout.of(dataset)), pytest.raises(WriterBusy):
        set_splits(tmp_path / "link.lg", (0.5, 0.25, 0.25))
    assert Layout.of(dataset / "..") == Layout.of(tmp_path)
    (tmp_path / "later.lg").symlink_to(tmp_path / "elsewhere" / "y.lg")
    write("prototypes:3", tmp_path / "later.lg")
    assert (tmp_path / "elsewhere" / "y.lg" / MANIFEST).is_file()
    assert len(lg.LazyGraphDataset(tmp_path / "later.lg")) == 3
    (tmp_path / "loop.lg").symlink_to(tmp_path / "loop.lg")
    for output in ("/", "", tmp_path / "loop.lg"):
        with pytest.raises(lg.InputError, match="output"):
            write("prototypes:3", output)


def test_who_lost_its_folder_publishes_nothing_and_leaves_the_next_writer_alone(tmp_path, bytes_of):
    """Somebody deleted the folder of a suspended writer and began again."""
    path = tmp_path / "x.lg"
    first = lg.GraphWriter(path)
    first.add({"z": [1, 2]}, id="first")
    shutil.rmtree(Layout.of(path).partial)
    with pytest.raises(StorageError, match="was deleted or replaced while this process worked in it"):
        first.close()
    assert not path.exists()
    late = lg.GraphWriter(path)
    late.add({"z": [1, 2]}, id="late")
    shutil.rmtree(Layout.of(path).partial)
    second = lg.GraphWriter(path)
    second.add({"z": [1, 2, 3]}, id="second")
    second._settle()  # some of its files are written
    before = bytes_of(Layout.of(path).partial)
    with pytest.raises(StorageError):
        late.close()
    assert bytes_of(Layout.of(path).partial).items() >= before.items()
    second.close()
    assert lg.LazyGraphDataset(path).ids.tolist() == ["second"]
    assert verify(path).problems == ()


def test_nothing_is_published_of_which_a_file_is_gone(tmp_path, write, monkeypatch):
    path = tmp_path / "x.lg"

    def late(hold, folder, manifest):
        (folder / manifest.shards[0].file.name).unlink()
        publish(hold, folder, manifest)

    with monkeypatch.context() as patch:
        patch.setattr(merge_module, "publish", late)
        with pytest.raises(StorageError, match="is gone, so nothing was published"):
            write("prototypes:6", path, shard_size=3)
    assert not path.exists()
    assert write("prototypes:6", path, shard_size=3).written == 6
