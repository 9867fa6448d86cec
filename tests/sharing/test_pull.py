"""``lazygraph pull``: the same bytes in another place, whole or not there, whatever happens on the way."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import CorruptDataset, DatasetReplaced, UnsupportedFormat, WriterBusy
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.reading.verify import verify
from lazygraph.sharing.progress import Lines
from lazygraph.storage.local import LocalStorage
from lazygraph.writing.edit import gc, set_labels
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
from lazygraph.writing.worker import make_shard
from lazygraph.writing.write import finish, plan

LABELS = {"prototype-0000001": {"gap": 1.0}}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A dataset of three shards, with splits. Copy it before changing it."""
    path = tmp_path_factory.mktemp("source") / "mp.lg"
    lg.write(
        "prototypes:24?seed=1", path, graph="cgcnn", workers=1, shard_size=8, progress=False, split=(0.5, 0.25, 0.25)
    )
    return path


@pytest.fixture
def own(source, tmp_path):
    """The same dataset, of this test alone."""
    return Path(shutil.copytree(source, tmp_path / "own.lg"))


@pytest.fixture
def reads(monkeypatch):
    """The files that were read from a folder, in order."""
    seen = []
    stream = LocalStorage.stream

    def counted(storage, file):
        seen.append(file.name)
        return stream(storage, file)

    monkeypatch.setattr(LocalStorage, "stream", counted)
    return seen


def pull(source, out, **options):
    return lg.pull(source, out, progress=False, **options)


def bytes_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def size_of(path):
    return sum(file.size for file in Manifest.load(path).files())


def test_a_copy_has_the_same_bytes(source, tmp_path):
    report = pull(source, tmp_path / "new folder" / "mp.lg")
    assert report.path == tmp_path / "new folder" / "mp.lg"
    assert (report.graphs, report.copied, report.kept) == (24, size_of(source), 0)
    assert report.content_id == Manifest.load(source).content_id
    assert bytes_of(report.path) == bytes_of(source)
    assert verify(report.path).problems == ()
    assert [p.name for p in report.path.parent.iterdir()] == ["mp.lg"]


def test_what_is_there_already_is_not_copied_again(source, tmp_path, reads):
    pull(source, tmp_path / "mp.lg")
    reads.clear()
    report = pull(source, tmp_path / "mp.lg")
    assert (report.graphs, report.copied, report.kept, reads) == (24, 0, size_of(source), [])
    shard = Manifest.load(source).shards[1].file
    column = Manifest.load(source).columns["id"].file
    (tmp_path / "mp.lg" / shard.name).unlink()
    os.truncate(tmp_path / "mp.lg" / column.name, 10)
    assert pull(source, tmp_path / "mp.lg").copied == shard.size + column.size
    assert bytes_of(tmp_path / "mp.lg") == bytes_of(source)


def test_a_complete_copy_is_found_while_another_process_asks_too(source, tmp_path):
    pull(source, tmp_path / "mp.lg")
    with exclusive(Layout.of(tmp_path / "mp.lg")):
        assert pull(source, tmp_path / "mp.lg").copied == 0


class Elsewhere:
    """A storage that has nothing but what the protocol promises of it, and no file system."""

    def __init__(self, folder):
        self.name = "memory://mp.lg"
        self.files = bytes_of(folder)

    def manifest(self):
        return self.files[MANIFEST]

    def descriptor(self, file):
        raise AssertionError("a pull needs no second copy of a file")

    def renew(self, file):
        return False

    def stream(self, file):
        if file.name not in self.files:
            raise FileNotFoundError(file.name)
        for start in range(0, len(self.files[file.name]), 1000):
            yield self.files[file.name][start : start + 1000]

    def state(self):
        return 0


def test_a_copy_of_any_storage_in_pieces(source, tmp_path):
    storage = Elsewhere(source)
    pull(storage, tmp_path / "mp.lg")
    assert bytes_of(tmp_path / "mp.lg") == bytes_of(source)
    name = Manifest.load(source).digests.name
    whole = storage.files.pop(name)
    with pytest.raises(CorruptDataset, match=rf"memory://mp.lg/{name} is missing, and the manifest names it"):
        pull(storage, tmp_path / "other.lg")
    storage.files[name] = whole[:-1]
    with pytest.raises(CorruptDataset, match=rf"memory://mp.lg/{name} has {len(whole) - 1} bytes; required"):
        pull(storage, tmp_path / "other.lg")


KILLED = """
import os, signal, sys
from lazygraph.sharing import pull as module
from lazygraph.storage import local
from lazygraph.storage.local import LocalStorage

stream, left = LocalStorage.stream, [int(sys.argv[3])]

def until(storage, file):
    print(file.name, flush=True)
    for piece in stream(storage, file):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        yield piece

LocalStorage.stream, local.PIECE = until, 1000
module.pull(sys.argv[1], sys.argv[2], progress=False)
"""


@pytest.mark.slow
def test_a_pull_that_is_killed_again_and_again_copies_each_whole_file_once(source, tmp_path):
    out = tmp_path / "mp.lg"
    environment = os.environ | {"PYTHONPATH": str(Path(lg.__file__).parents[1])}
    folder, kills = Layout.of(out).pull, 0
    for pieces in (9, 5, 30, 10**6):
        whole = {name for name in bytes_of(folder) if not name.endswith(".tmp")} if folder.exists() else set()
        done = subprocess.run(
            [sys.executable, "-c", KILLED, source, out, str(pieces)], env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert not whole.intersection(done.stdout.split())
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
        with pytest.raises(lg.DatasetNotFound, match="run the same lazygraph pull command again"):
            Manifest.load(out)
    assert kills == 3
    assert whole
    assert bytes_of(out) == bytes_of(source)
    assert [p.name for p in tmp_path.iterdir()] == ["mp.lg"]


def interrupted(source, out, reads):
    """Leave some of the files of a pull behind; their names."""

    def stop(storage, file):
        if len(reads) == 6:
            raise KeyboardInterrupt
        reads.append(file.name)
        yield (storage.directory / file.name).read_bytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStorage, "stream", stop)
        with pytest.raises(KeyboardInterrupt):
            pull(source, out)
    return reads[:]


def test_a_pull_that_was_stopped_checks_what_it_finds(source, tmp_path, reads):
    whole = interrupted(source, tmp_path / "mp.lg", reads)
    assert len(whole) == 6
    folder = Layout.of(tmp_path / "mp.lg").pull
    flipped = bytearray((folder / whole[2]).read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (folder / whole[2]).write_bytes(flipped)
    os.truncate(folder / whole[4], 3)
    (folder / "columns" / f".{Path(whole[-1]).name}.{'0' * 16}.tmp").write_bytes(b"half")
    reads.clear()
    report = pull(source, tmp_path / "mp.lg")
    assert sorted(reads) == sorted(
        {file.name for file in Manifest.load(source).files()} - {*whole} | {whole[2], whole[4]}
    )
    assert report.copied + report.kept == size_of(source)
    assert report.kept > 0
    assert bytes_of(tmp_path / "mp.lg") == bytes_of(source)
    assert [p.name for p in tmp_path.iterdir()] == ["mp.lg"]


@settings(max_examples=15)
@given(st.data())
def test_a_damaged_file_is_named_and_nothing_is_published(source, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    own = Path(shutil.copytree(source, folder / "own.lg"))
    file = data.draw(st.sampled_from(Manifest.load(own).files()))
    path, whole = own / file.name, (own / file.name).read_bytes()
    kind = data.draw(st.sampled_from(["flipped", "cut", "longer", "gone", "a folder"]))
    if kind == "flipped":
        place = data.draw(st.integers(0, 8 * file.size - 1))
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
    elif kind == "cut":
        os.truncate(path, data.draw(st.integers(0, file.size - 1)))
    elif kind == "longer":
        path.write_bytes(whole + b"x")
    else:
        path.unlink()
        if kind == "a folder":
            path.mkdir()
    with pytest.raises(CorruptDataset, match=re.escape(str(path))):
        pull(own, folder / "mp.lg")
    assert not (folder / "mp.lg").exists()
    if path.is_dir():
        path.rmdir()
    path.write_bytes(whole)
    pull(own, folder / "mp.lg")
    assert bytes_of(folder / "mp.lg") == bytes_of(source)
    assert sorted(p.name for p in folder.iterdir()) == ["mp.lg", "own.lg"]
    shutil.rmtree(folder)


def test_a_manifest_that_is_damaged_or_not_there(own, tmp_path):
    with pytest.raises(lg.DatasetNotFound):
        pull(tmp_path / "none.lg", tmp_path / "mp.lg")
    os.truncate(own / MANIFEST, 500)
    with pytest.raises(CorruptDataset, match="own.lg/manifest.json"):
        pull(own, tmp_path / "mp.lg")
    assert [p.name for p in tmp_path.iterdir()] == ["own.lg"]


def test_another_dataset_is_replaced_only_if_told_and_files_of_the_user_stay(source, tmp_path):
    out = tmp_path / "mp.lg"
    lg.write("prototypes:5?seed=2", out, graph="cgcnn", workers=1, progress=False)
    (out / "README.md").write_text("mine")
    (Layout.of(out).partial / "pull").mkdir(parents=True)
    (Layout.of(out).partial / "pull" / "notes.txt").write_text("mine")
    before = bytes_of(out)
    ids = f"content id {Manifest.load(out).content_id}; the source has {Manifest.load(source).content_id}"
    with pytest.raises(lg.OutputExists, match=rf"another dataset \({ids}\)"):
        pull(source, out)
    assert bytes_of(out) == before
    pull(source, out, overwrite=True)
    assert Manifest.load(out) == Manifest.load(source)
    assert bytes_of(out).items() >= bytes_of(source).items()
    gc(out)
    assert bytes_of(out) == bytes_of(source) | {"README.md": b"mine"}
    assert bytes_of(Layout.of(out).partial) == {"pull/notes.txt": b"mine"}


def test_other_labels_are_no_reason_to_say_that_the_copy_is_complete(own, tmp_path, reads):
    out = tmp_path / "mp.lg"
    pull(own, out)
    set_labels(own, LABELS)
    assert Manifest.load(own).content_id == Manifest.load(out).content_id
    with pytest.raises(lg.OutputExists, match="the same graphs .* with other labels, splits"):
        pull(own, out)
    reads.clear()
    os.truncate(out / Manifest.load(own).columns["formula"].file.name, 20)  # what it keeps is checked, too
    report = pull(own, out, overwrite=True)
    manifest = Manifest.load(own)
    new = (manifest.columns["gap"].file, manifest.columns["formula"].file, manifest.digests)
    assert sorted(set(reads)) == sorted(file.name for file in new)
    assert report.kept == size_of(own) - report.copied
    assert Manifest.load(out) == Manifest.load(own)
    assert verify(out).problems == ()


def test_a_folder_of_something_else_is_never_replaced(source, tmp_path):
    out = tmp_path / "app"
    out.mkdir()
    (out / MANIFEST).write_text('{"name": "app"}')
    for overwrite in (False, True):
        with pytest.raises(lg.OutputExists, match="is not a lazygraph dataset"):
            pull(source, out, overwrite=overwrite)
    assert bytes_of(out) == {MANIFEST: b'{"name": "app"}'}


def test_a_dataset_that_cannot_be_read_is_replaced_if_told(source, tmp_path):
    pull(source, tmp_path / "mp.lg")
    os.truncate(tmp_path / "mp.lg" / MANIFEST, 100)
    with pytest.raises(lg.OutputExists, match="a dataset that cannot be read"):
        pull(source, tmp_path / "mp.lg")
    pull(source, tmp_path / "mp.lg", overwrite=True)
    assert bytes_of(tmp_path / "mp.lg") == bytes_of(source)


def test_a_dataset_is_not_pulled_onto_itself(own, tmp_path):
    (tmp_path / "link.lg").symlink_to(own)
    before = bytes_of(own)
    for a, b in ((own, own), (own, tmp_path / "link.lg"), (tmp_path / "link.lg", own)):
        with pytest.raises(lg.OutputExists, match="is the dataset that is read"):
            pull(a, b, overwrite=True)
    assert bytes_of(own) == before


def test_the_lock_decides_between_two_pulls(source, tmp_path):
    with exclusive(Layout.of(tmp_path / "mp.lg")), pytest.raises(WriterBusy):
        pull(source, tmp_path / "mp.lg")
    pull(source, tmp_path / "mp.lg")


def test_an_unfinished_write_is_not_disturbed(source, tmp_path):
    out = tmp_path / "mp.lg"
    plan("prototypes:5?seed=2", out, graph="cgcnn")
    with pytest.raises(lg.OutputExists, match="holds an unfinished dataset"):
        pull(source, out)
    make_shard(out, 0)
    finish(out)
    assert Manifest.load(out).graphs == 5


def test_a_write_takes_the_place_of_a_pull_that_was_given_up(source, tmp_path, reads):
    interrupted(source, tmp_path / "mp.lg", reads)
    assert Layout.of(tmp_path / "mp.lg").pull.is_dir()
    lg.write("prototypes:5?seed=2", tmp_path / "mp.lg", graph="cgcnn", workers=1, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["mp.lg"]
    assert Manifest.load(tmp_path / "mp.lg").graphs == 5


def test_a_source_that_changes_meanwhile_is_said_to_have_changed(own, tmp_path, monkeypatch):
    set_labels(own, LABELS)
    stream = LocalStorage.stream

    def changing(storage, file):
        monkeypatch.setattr(LocalStorage, "stream", stream)
        os.utime(own / MANIFEST, (1, 1))  # nobody reads the state before any more
        set_labels(own, {"prototype-0000001": {"gap": 2.0}})
        gc(own)
        return stream(storage, file)

    monkeypatch.setattr(LocalStorage, "stream", changing)
    with pytest.raises(DatasetReplaced, match=r"own.lg was changed while it was copied: columns/gap-.* pull it again"):
        pull(own, tmp_path / "mp.lg")
    pull(own, tmp_path / "mp.lg")
    assert bytes_of(tmp_path / "mp.lg") == bytes_of(own)


def test_a_dataset_of_a_newer_release_is_refused(own, tmp_path, monkeypatch):
    newer = replace(Manifest.load(own), version=(1, 1))
    (own / MANIFEST).write_bytes(newer.to_bytes())
    with pytest.raises(UnsupportedFormat, match=r"own.lg has format version 1.1"):
        pull(own, tmp_path / "mp.lg")
    assert [p.name for p in tmp_path.iterdir()] == ["own.lg"]


def test_a_part_is_a_subset(source, tmp_path):
    report = pull(source, tmp_path / "train.lg", split="train", where="n_atoms < 10")
    lg.subset(source, tmp_path / "subset.lg", split="train", where="n_atoms < 10")
    assert bytes_of(tmp_path / "train.lg") == bytes_of(tmp_path / "subset.lg")
    assert report.content_id == Manifest.load(tmp_path / "train.lg").content_id
    assert report.graphs == Manifest.load(tmp_path / "train.lg").graphs > 0
    assert report.notes


def test_the_command(own, tmp_path, capsys):
    out = tmp_path / "mp.lg"
    assert main(["pull", str(own), "-o", str(out)]) == 0
    content_id = Manifest.load(own).content_id
    size = size_of(own)
    said = capsys.readouterr()
    assert said.out == f"24 graphs in {out}: {size:,} bytes copied\ncontent id: {content_id}\n"
    assert said.err == ""
    assert main(["pull", str(own), "-o", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said == f"24 graphs in {out}: nothing to copy, {size:,} bytes were there"
    assert main(["pull", str(own), "-o", str(tmp_path / "test.lg"), "--split", "test"]) == 0
    assert capsys.readouterr().out.startswith("6 graphs in ")
    name = Manifest.load(own).shards[2].file.name
    os.truncate(own / name, 100)
    assert main(["pull", str(own), "-o", str(tmp_path / "other.lg")]) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{own / name} has 100 bytes; required:" in said


def test_a_log_gets_a_line_a_minute():
    now, said = [0.0], io.StringIO()
    lines = Lines(3_000_000, "pulling", said, lambda: now[0])
    for seconds, size in ((30, 500_000), (61, 500_000), (100, 0), (122, 1_000_000)):
        now[0] = seconds
        lines.add(size)
    assert said.getvalue().splitlines() == [
        "lazygraph: pulling: 1.0 of 3.0 MB, 0.0 MB a second, 2 min left",
        "lazygraph: pulling: 2.0 of 3.0 MB, 0.0 MB a second, 1 min left",
    ]
