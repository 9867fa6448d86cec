"""The cache holds whole, right files or none, whatever fails and however many processes want them."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph.errors import CorruptDataset, InputError, StorageError
from lazygraph.storage import cache as module
from lazygraph.storage.cache import Cache, KeptManifest, cache, parse_size
from lazygraph.storage.files import FileRef


def file_of(content):
    digest = hashlib.sha256(content).hexdigest()
    return FileRef(f"columns/x-{digest[:16]}.npy", len(content), digest)


class Server:
    """Gives a content from an offset on, in pieces, and counts."""

    def __init__(self, content, piece=1000):
        self.content, self.piece, self.begun, self.sent = content, piece, [], 0

    def __call__(self, offset):
        self.begun.append(offset)
        for start in range(offset, len(self.content), self.piece):
            piece = self.content[start : start + self.piece]
            self.sent += len(piece)
            yield piece


def read(descriptor):
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


@pytest.fixture
def kept(tmp_path):
    return Cache(tmp_path / "cache")


def test_a_file_is_fetched_once(kept):
    content = os.urandom(5000)
    server, file = Server(content), file_of(content)
    assert not kept.has(file)
    assert kept.open(file) is None
    assert read(kept.fetch(file, server, "s")) == content
    assert read(kept.fetch(file, server, "s")) == content
    assert kept.has(file)
    assert server.begun == [0]
    assert (kept.folder / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55")
    assert kept.unfinished() == []


def test_a_transfer_that_broke_continues(kept):
    content = os.urandom(5000)
    file = file_of(content)

    def broken(offset):
        yield content[offset : offset + 2000]
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    with pytest.raises(ConnectionResetError):
        kept.fetch(file, broken, "s")
    assert [entry.size for entry in kept.unfinished()] == [2000]
    server = Server(content)
    assert read(kept.fetch(file, server, "s")) == content
    assert server.begun == [2000]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 4999), st.integers(0, 4999))
def test_a_damaged_beginning_is_fetched_again(tmp_path_factory, length, place):
    kept = Cache(tmp_path_factory.mktemp("c"))
    content = hashlib.shake_256(b"x").digest(5000)
    file = file_of(content)
    wrong = bytearray(content[:length])
    if length:
        wrong[place % length] ^= 1
    (kept.folder / "partial").mkdir(parents=True)
    (kept.folder / "partial" / file.sha256).write_bytes(wrong)
    assert read(kept.fetch(file, Server(content), "s")) == content


@pytest.mark.parametrize("wrong", [b"", b"x" * 4999, b"x" * 5000, b"x" * 5001, b"x" * 100000])
def test_wrong_bytes_are_never_kept(kept, wrong):
    file = file_of(os.urandom(5000))
    with pytest.raises(CorruptDataset, match="does not have the bytes that the manifest names"):
        kept.fetch(file, Server(wrong), "https://example.org/x")
    assert not kept.has(file)
    assert kept.unfinished() == []


def test_the_least_recently_used_goes_and_what_is_open_stays(tmp_path):
    kept = Cache(tmp_path, limit=3000)
    contents = [os.urandom(1000) for _ in range(5)]
    files = [file_of(content) for content in contents]
    opened = kept.fetch(files[0], Server(contents[0]), "s")
    for number, (file, content) in enumerate(zip(files[1:], contents[1:], strict=True)):
        os.close(kept.fetch(file, Server(content), "s"))
        os.utime(kept._path(file.sha256), (number, number))
    os.utime(kept._path(files[0].sha256), (-5, -5))
    assert [kept.has(file) for file in files] == [True, False, False, True, True]
    assert kept.evict(0) == 2000
    assert read(opened) == contents[0]
    assert kept.clear() == 1000
    assert kept.entries() == []


def test_a_mapped_file_stays_though_its_descriptor_is_closed(tmp_path):
    from lazygraph.storage.mapping import mapped

    kept = Cache(tmp_path)
    content = os.urandom(5000)
    descriptor = kept.fetch(file_of(content), Server(content), "s")
    array = mapped(descriptor, 5000)
    os.close(descriptor)
    assert kept.evict(0) == 0
    assert array.tobytes() == content
    del array
    assert kept.evict(0) == 5000


def test_a_file_larger_than_the_limit_is_served_and_then_goes(tmp_path):
    kept = Cache(tmp_path, limit=100)
    content = os.urandom(5000)
    assert read(kept.fetch(file_of(content), Server(content), "s")) == content
    kept.evict()
    assert kept.entries() == []


CHILD = """
import hashlib, os, sys, time
from pathlib import Path
from lazygraph.storage.cache import Cache
from lazygraph.storage.files import FileRef
kept, turn = Cache(Path(sys.argv[1]), 2 << 20), int(sys.argv[2])
log = open(sys.argv[3], "a")
for k in range(60):
    n = (k * 7 + turn) % 30
    content = bytes([n]) * (100_000 + n)
    digest = hashlib.sha256(content).hexdigest()
    def begin(offset):
        print(n, file=log, flush=True)
        for start in range(offset, len(content), 50_000):
            time.sleep(0.001)
            yield content[start : start + 50_000]
    descriptor = kept.fetch(FileRef("columns/x.npy", len(content), digest), begin, "s")
    with os.fdopen(descriptor, "rb") as file:
        if file.read() != content:
            print("WRONG", file=log, flush=True)
"""


def test_processes_that_evict_one_another_and_are_killed_read_right_bytes(tmp_path):
    logs = [tmp_path / f"log{n}" for n in range(4)]
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "c"), str(n), str(log)])
        for n, log in enumerate(logs)
    ]
    until = time.monotonic() + 120
    while time.monotonic() < until and not (logs[0].is_file() and logs[0].read_text().count("\n") > 5):
        time.sleep(0.01)
    children[0].send_signal(signal.SIGKILL)
    assert [child.wait(300) for child in children] == [-signal.SIGKILL, 0, 0, 0]
    assert "WRONG" not in "".join(log.read_text() for log in logs)
    kept = Cache(tmp_path / "c", 2 << 20)
    assert sum(entry.size for entry in kept.entries()) <= 2 << 20
    assert all(good for _, good in kept.verify())


ONCE = """
import hashlib, os, sys, time
from pathlib import Path
from lazygraph.storage.cache import Cache
from lazygraph.storage.files import FileRef
content = bytes(3_000_000)
def begin(offset):
    with open(sys.argv[2], "a") as log:
        log.write("begun\\n")
    for start in range(offset, len(content), 100_000):
        time.sleep(0.01)
        yield content[start : start + 100_000]
file = FileRef("columns/x.npy", len(content), hashlib.sha256(content).hexdigest())
os.close(Cache(Path(sys.argv[1])).fetch(file, begin, "s"))
"""


def test_processes_that_come_together_fetch_a_file_once(tmp_path):
    command = [sys.executable, "-c", ONCE, str(tmp_path / "c"), str(tmp_path / "log")]
    children = [subprocess.Popen(command) for _ in range(6)]
    assert [child.wait(300) for child in children] == [0] * 6
    assert (tmp_path / "log").read_text() == "begun\n"


def test_who_waits_for_a_file_does_not_wait_until_others_close_it(kept):
    content = os.urandom(5000)
    file, begun = file_of(content), threading.Event()

    def slow(offset):
        begun.set()
        time.sleep(0.3)
        yield content[offset:]

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(kept.fetch, file, slow, "s")
        begun.wait()
        begin = time.monotonic()
        second = pool.submit(kept.fetch, file, Server(content), "s")
        descriptors = [first.result(), second.result()]
    assert time.monotonic() - begin < 30
    assert [read(descriptor) for descriptor in descriptors] == [content] * 2


def test_a_child_that_is_forked_meanwhile_keeps_no_lock(kept):
    content = os.urandom(5000)
    children = []

    def forking(offset):
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        children.append(child)
        yield content[offset : offset + 1000]
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    with pytest.raises(ConnectionResetError):
        kept.fetch(file_of(content), forking, "s")
    begin = time.monotonic()
    os.close(kept.fetch(file_of(content), Server(content), "s"))
    assert time.monotonic() - begin < 30
    os.kill(children[0], signal.SIGKILL)
    os.waitpid(children[0], 0)


def test_a_process_that_does_not_go_on_is_not_waited_for(kept, monkeypatch):
    import fcntl

    monkeypatch.setattr(module, "PATIENCE", 0.2)
    content = os.urandom(5000)
    (kept.folder / "partial").mkdir(parents=True)
    with (kept.folder / "partial" / file_of(content).sha256).open("wb") as stuck:
        fcntl.flock(stuck, fcntl.LOCK_EX)
        assert read(kept.fetch(file_of(content), Server(content), "s")) == content


def test_damage_is_found_and_removed(kept):
    content = os.urandom(5000)
    file = file_of(content)
    os.close(kept.fetch(file, Server(content), "s"))
    path = kept._path(file.sha256)
    path.write_bytes(bytes(5000))
    assert [good for _, good in kept.verify()] == [False]
    assert not kept.has(file)
    path.write_bytes(b"cut")
    assert kept.open(file) is None
    assert read(kept.fetch(file, Server(content), "s")) == content


def test_a_full_disk_is_one_error(kept, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_append", full)
    with pytest.raises(StorageError, match=r"the disk of the cache .* is full; .* LAZYGRAPH_CACHE"):
        kept.fetch(file_of(b"abc"), Server(b"abc"), "s")


def test_a_full_disk_makes_room(kept, monkeypatch):
    old = os.urandom(4000)
    os.close(kept.fetch(file_of(old), Server(old), "s"))
    append, fails = module._append, [True]

    def full(*arguments):
        if fails.pop() if fails else False:
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(*arguments)

    monkeypatch.setattr(module, "_append", full)
    assert read(kept.fetch(file_of(b"abc" * 999), Server(b"abc" * 999), "s")) == b"abc" * 999
    assert not kept.has(file_of(old))


def test_a_folder_that_may_not_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot be written: .*; set LAZYGRAPH_CACHE to another folder"):
        Cache(tmp_path / "file" / "cache").fetch(file_of(b"abc"), Server(b"abc"), "s")


def test_manifests_are_kept_by_url_without_credentials(kept):
    url = "https://me:secret@example.org/mp.lg?signature=1"
    assert kept.manifest(url) is None
    kept.keep_manifest(url, KeptManifest("https://example.org/mp.lg", "v", 5.0, b"content\nof two lines"))
    assert kept.manifest(url) == KeptManifest("https://example.org/mp.lg", "v", 5.0, b"content\nof two lines")
    assert kept.manifest(url + "2") is None
    (path,) = (kept.folder / "manifests").glob("*.manifest")
    assert b"secret" not in path.read_bytes()
    assert b"signature" not in path.read_bytes()
    path.write_bytes(path.read_bytes()[:-1])
    assert kept.manifest(url) is None


def test_the_environment_chooses_folder_and_limit(monkeypatch, tmp_path):
    monkeypatch.setenv("LAZYGRAPH_CACHE", str(tmp_path))
    monkeypatch.setenv("LAZYGRAPH_CACHE_SIZE", "1.5GB")
    assert cache() == Cache(tmp_path, 1_500_000_000)
    monkeypatch.delenv("LAZYGRAPH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache().folder == tmp_path / "x" / "lazygraph"
    for wrong in ("much", "-1", "5 apples", "1iB"):
        with pytest.raises(InputError, match="required: a size such as 200GB"):
            parse_size(wrong, "it")


def test_an_eviction_that_does_not_end_is_left_to_its_process(tmp_path, monkeypatch):
    import fcntl

    monkeypatch.setattr(module, "EVICTION", 0.1)
    kept = Cache(tmp_path, limit=100)
    with (tmp_path / "evict.lock").open("wb") as stuck:
        fcntl.flock(stuck, fcntl.LOCK_EX)
        assert read(kept.fetch(file_of(b"abc" * 100), Server(b"abc" * 100), "s")) == b"abc" * 100
        assert kept.evict() == 0
    assert kept.evict() == 300


def test_without_locks_processes_do_not_write_one_part(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "try_lock", lambda *_, **__: None)
    content = os.urandom(50_000)
    file, kept = file_of(content), Cache(tmp_path)

    def slow(offset):
        for start in range(offset, len(content), 5000):
            time.sleep(0.005)
            yield content[start : start + 5000]

    with ThreadPoolExecutor(4) as pool:
        assert [read(one) for one in pool.map(lambda _: kept.fetch(file, slow, "s"), range(4))] == [content] * 4
    assert all(good for _, good in kept.verify())


def test_the_cache_is_not_listed_for_every_file(tmp_path, monkeypatch):
    kept, listed = Cache(tmp_path, limit=1_000_000), []
    entries = Cache.entries
    monkeypatch.setattr(Cache, "entries", lambda cache: listed.append(1) or entries(cache))
    for number in range(50):
        content = bytes([number]) * 100
        os.close(kept.fetch(file_of(content), Server(content), "s"))
    assert len(listed) == 1


def test_a_damaged_file_that_cannot_be_removed_is_one_error(kept, monkeypatch):
    content = os.urandom(50)
    os.close(kept.fetch(file_of(content), Server(content), "s"))

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError, match=r"is damaged and cannot be removed \(Permission denied\); delete it"):
        kept.discard(file_of(content))
