"""``Cache``: files that came from servers, kept on this machine under the sha256 of what they hold."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

from lazygraph.errors import CorruptDataset, InputError, StorageError
from lazygraph.storage.descriptors import opening
from lazygraph.storage.files import FileRef, move_file, sha256_of, temporary_beside, write_atomic
from lazygraph.storage.locks import OPEN_FILES_MOVE, try_lock, unlock_and_close
from lazygraph.storage.positioned import open_file, sync

__all__ = ["FOLDER", "SIZE", "Cache", "CacheEntry", "KeptManifest", "cache", "parse_size"]

FOLDER = "LAZYGRAPH_CACHE"
SIZE = "LAZYGRAPH_CACHE_SIZE"
DIGEST = re.compile("[0-9a-f]{64}")
TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# Files that lazygraph can fetch again.\n"
PATIENCE = 60.0  # s without a byte, after which a process no longer waits for another one that fetches a file
SHORT_WAIT, LONG_WAIT = 0.002, 0.05  # s, while another process fetches a file: at first, and after a second
TOUCHED = 60.0  # s, between two notes of when a file was used
FORGOTTEN = 7 * 86400.0  # s, after which the beginning of a file is no longer kept
LOCK = ".lock"  # the end of the name of a file that is locked while another one is fetched
EVICTION = 5.0  # s, to wait for another process that removes files

Begin = Callable[[int], Iterator[bytes]]
"""Gives the bytes of a file from an offset on."""


class CacheEntry(NamedTuple):
    """A file of the cache."""

    path: Path
    size: int
    used: float
    """When it was used last, in seconds since 1970."""
    sha256: str


class _Total(NamedTuple):
    """What a process knows of the size of a cache: when it was listed last, and what the process has added since."""

    listed: int
    added: int


_TOTALS: dict[Path, _Total] = {}


@dataclass(frozen=True, slots=True)
class KeptManifest:
    """The manifest of a dataset as it was when it was read last.

    Attributes:
        url: the dataset, without credentials.
        version: the server's name for these bytes, or None.
        fetched: when it was read, in seconds since 1970.
        content: the bytes.
    """

    url: str
    version: str | None
    fetched: float
    content: bytes


@dataclass(frozen=True, slots=True)
class Cache:
    """Files by the sha256 of their content, shared by any number of processes.

    A file is checked while it is written and appears whole, under its final name, so a reader needs no lock. Processes
    that want the same file wait for the one that fetches it. A fetch that was stopped or killed continues where it
    ended. Files that were not used for longest are removed when there are more than ``limit`` bytes, but none that a
    process has open.

    Args:
        folder: where the files lie; made when the first file comes.
        limit: the greatest size of all files in bytes; None for no limit.
    """

    folder: Path
    limit: int | None = None

    # ---- files ----

    def has(self, file: FileRef) -> bool:
        """Return whether the cache holds a whole file."""
        try:
            return self._path(file.sha256).stat().st_size == file.size
        except OSError:
            return False

    def open(self, file: FileRef) -> int | None:
        """Return a descriptor of a file, which stays in the cache while it is open; None if it is not there."""
        path = self._path(file.sha256)
        try:
            descriptor = opening(path, lambda: open_file(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            held = try_lock(descriptor, shared=True)
            found = os.fstat(descriptor)
            if held is not False and found.st_size == file.size and found.st_nlink:  # else it is being removed, or was
                if time.time() - found.st_mtime > TOUCHED:
                    with suppress(OSError):  # a cache that may only be read
                        os.utime(path)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def fetch(self, file: FileRef, begin: Begin, source: str) -> int:
        """Return a descriptor of a file, which is fetched if it is not there.

        Args:
            file: the file, with size and sha256.
            begin: gives its bytes from an offset on.
            source: where they come from, for errors.

        Raises:
            CorruptDataset: the bytes do not have the sha256.
            StorageError: the cache cannot be written.
            TransferError, FileNotFoundError: what ``begin`` raises.
        """
        while True:
            if (descriptor := self.open(file)) is not None:
                return descriptor
            with self._errors(), self._turn(file.sha256) as (partial, turn):
                if turn is not None and not self.has(file):
                    self._bring(file, begin, source, partial)
                    if OPEN_FILES_MOVE:
                        try_lock(turn, shared=True)  # it may be the file itself now, which is opened below
                descriptor = self.open(file)  # before others are removed: what is open stays
            if descriptor is not None:
                self._count(file.size)
                return descriptor

    def _bring(self, file: FileRef, begin: Begin, source: str, partial: Path) -> None:
        """Write the rest of a file, check it and give it its name."""
        for _ in range(2):
            digest, start = _beginning(partial, file.size)
            try:
                size = _append(partial, digest, start, file.size, begin)
            except CorruptDataset:
                partial.unlink(missing_ok=True)
                raise
            except OSError as error:
                if not partial.stat().st_size:
                    partial.unlink(missing_ok=True)
                if error.errno != errno.ENOSPC or not self._make_room(file.size):
                    raise
                partial.touch()
                continue
            if size == file.size and digest.hexdigest() == file.sha256:
                final = self._path(file.sha256)
                final.parent.mkdir(parents=True, exist_ok=True)
                try:
                    move_file(partial, final)
                except FileNotFoundError:  # where nothing can be locked, another process may have been faster
                    if not self.has(file):
                        raise
                return
            partial.unlink(missing_ok=True)
            if not start:  # else the part that was kept may have been damaged: once more from the beginning
                break
            partial.touch()
        msg = (
            f"{source} does not have the bytes that the manifest names: the sha256 is {digest.hexdigest()}; required: "
        )
        raise CorruptDataset(msg + file.sha256)

    def discard(self, file: FileRef) -> bool:
        """Remove a file whose bytes were found to be wrong; return whether it was there.

        Raises:
            StorageError: it cannot be removed.
        """
        path = self._path(file.sha256)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            msg = f"the copy {path} is damaged and cannot be removed ({error.strerror}); delete it"
            raise StorageError(msg) from error
        return True

    @contextmanager
    def _turn(self, sha256: str) -> Iterator[tuple[Path, int | None]]:
        """Wait until no other process fetches a file.

        The part itself is locked. Where it could not be renamed then, a file beside it is.

        Yields:
            The path of the part of the file that is there, and the locked descriptor; None if another process has
            removed it meanwhile, because it finished or failed: look again.
        """
        folder = self._ready("partial")
        partial = folder / sha256
        locked = partial if OPEN_FILES_MOVE else partial.with_name(sha256 + LOCK)
        descriptor = _opened(locked)
        own = None
        try:
            seen, since = -1, time.monotonic()
            while (is_mine := try_lock(descriptor)) is False:
                if not _is_at(descriptor, locked):  # it is the whole file now, which others have open
                    yield partial, None
                    return
                if (size := _size(partial)) != seen:
                    seen, since = size, time.monotonic()
                waited = time.monotonic() - since
                if waited > PATIENCE:  # a process that was stopped, or whose connection is dead
                    is_mine = None
                    break
                time.sleep(SHORT_WAIT if waited < 1 else LONG_WAIT)
            if is_mine is None:  # or nothing can be locked on this file system: a part of our own
                own = temporary_beside(partial)
                if OPEN_FILES_MOVE:
                    os.close(descriptor)
                    descriptor = _opened(own)
                else:
                    own.touch()
                yield own, descriptor
                return
            if locked != partial:
                partial.touch()
            yield partial, descriptor if _is_at(descriptor, locked) else None
        finally:
            if own is not None:
                own.unlink(missing_ok=True)
            unlock_and_close(descriptor)
            if locked != partial:
                with suppress(OSError):  # another process waits for its turn
                    locked.unlink()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except OSError as error:
            if error.errno == errno.ENOSPC or error.errno == getattr(errno, "EDQUOT", None):
                msg = (
                    f"the disk of the cache {self.folder} is full; free some space ('lazygraph cache' lists what is "
                    f"kept), or set {FOLDER} to a folder of another disk"
                )
                raise StorageError(msg) from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
                msg = f"the cache {self.folder} cannot be written: {error.strerror}; set {FOLDER} to another folder"
                raise StorageError(msg) from error
            raise

    # ---- manifests ----

    def manifest(self, url: str) -> KeptManifest | None:
        """Return the last manifest that was read of a dataset; None if it is missing or damaged."""
        try:
            head, _, content = self._manifest_path(url).read_bytes().partition(b"\n")
            told = json.loads(head)
            if told["url_sha256"] != _digest(url) or told["sha256"] != hashlib.sha256(content).hexdigest():
                return None
            return KeptManifest(told["url"], told["version"], float(told["fetched"]), content)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep_manifest(self, url: str, kept: KeptManifest) -> None:
        """Keep the manifest of a dataset for when its server cannot be reached.

        Args:
            url: the whole URL, of which only the sha256 is written.
            kept: the manifest.
        """
        told = {
            "url": kept.url,
            "url_sha256": _digest(url),
            "version": kept.version,
            "fetched": kept.fetched,
            "sha256": hashlib.sha256(kept.content).hexdigest(),
        }
        with self._errors():
            self._ready("manifests")
            write_atomic(self._manifest_path(url), json.dumps(told).encode() + b"\n" + kept.content)

    @contextmanager
    def manifest_turn(self, url: str) -> Iterator[None]:
        """Let one process at a time ask for a manifest, so that those that come together ask whether it changed."""
        try:
            with self._errors():
                path = self._ready("manifests") / f"{_digest(url)[:32]}.lock"
                descriptor = _opened(path)
        except StorageError:  # a cache that may only be read
            yield
            return
        try:
            until = time.monotonic() + PATIENCE
            while try_lock(descriptor) is False and time.monotonic() < until:
                time.sleep(SHORT_WAIT)
            yield
        finally:
            unlock_and_close(descriptor)

    def _manifest_path(self, url: str) -> Path:
        return self.folder / "manifests" / f"{_digest(url)[:32]}.manifest"

    def manifests(self) -> list[KeptManifest]:
        """Return the manifests that are kept, in no order. Their content is empty."""
        found = []
        for path in (self.folder / "manifests").glob("*.manifest"):
            with suppress(OSError, ValueError, KeyError, TypeError), path.open("rb") as file:
                told = json.loads(file.readline())
                found.append(KeptManifest(str(told["url"]), told["version"], float(told["fetched"]), b""))
        return found

    # ---- the whole cache ----

    def entries(self) -> list[CacheEntry]:
        """Return all whole files, those that were not used for longest first."""
        found = []
        for path in (self.folder / "files").glob("??/*"):
            with suppress(OSError):
                state = path.stat()
                if DIGEST.fullmatch(path.name):
                    found.append(CacheEntry(path, state.st_size, state.st_mtime, path.name))
        return sorted(found, key=lambda entry: (entry.used, entry.sha256))

    def unfinished(self) -> list[CacheEntry]:
        """Return the beginnings of files that are fetched now, or whose fetch was stopped."""
        found = []
        for path in (self.folder / "partial").glob("*"):
            if path.name.endswith(LOCK):
                continue
            with suppress(OSError):
                state = path.stat()
                found.append(CacheEntry(path, state.st_size, state.st_mtime, path.name))
        return found

    def downloads(self) -> list[CacheEntry]:
        """Return the files of public data sets that were downloaded by name. They do not count for the limit."""
        found = []
        for path in (self.folder / "catalogue").rglob("*"):
            with suppress(OSError):
                state = path.stat()
                if stat.S_ISREG(state.st_mode):
                    found.append(CacheEntry(path, state.st_size, state.st_mtime, ""))
        return found

    def verify(self) -> Iterator[tuple[CacheEntry, bool]]:
        """Yield every file and whether it still has its sha256. One that has not is removed."""
        for entry in self.entries():
            with suppress(FileNotFoundError):
                is_good = sha256_of(entry.path) == entry.sha256
                if not is_good:
                    self.discard(FileRef(entry.path.name, entry.size, entry.sha256))
                yield entry, is_good

    def evict(self, limit: int | None = None) -> int:
        """Remove files until the cache has at most ``limit`` bytes; those that were not used for longest go first.

        Files that a process has open stay.

        Args:
            limit: by default the limit of the cache.

        Returns:
            The number of bytes that were removed.
        """
        allowed = self.limit if limit is None else limit
        if allowed is None or not self.folder.is_dir():
            return 0
        with self._errors(), self._evicting() as may_evict:
            if not may_evict:
                return 0
            self._remove_forgotten(0.0 if allowed == 0 else FORGOTTEN)
            entries = self.entries()
            excess = sum(entry.size for entry in entries) - allowed
            removed = 0
            for entry in entries:
                if removed >= excess:
                    break
                if _remove_if_closed(entry.path):
                    removed += entry.size
            _TOTALS[self.folder] = _Total(sum(entry.size for entry in entries) - removed, 0)
            return removed

    def _count(self, size: int) -> None:
        """Note that a file came, and remove others where there may be more than the limit.

        The cache is listed after a hundredth of its limit came, for other processes add files too.
        """
        if self.limit is None:
            return
        total = _TOTALS.get(self.folder)
        if total is not None:
            _TOTALS[self.folder] = total = _Total(total.listed, total.added + size)
        if total is None or total.listed + total.added > self.limit or total.added > self.limit / 100:
            self.evict()

    def clear(self) -> int:
        """Remove all files that no process has open, all manifests and downloads; return the number of bytes."""
        removed = self.evict(0)
        removed += sum(entry.size for entry in self.downloads() if _remove_if_closed(entry.path))
        for path in (self.folder / "manifests").glob("*.manifest"):
            path.unlink(missing_ok=True)
        return removed

    def _make_room(self, size: int) -> bool:
        """Remove what was not used for longest, as the disk is full; whether anything was removed."""
        return self.evict(max(0, sum(entry.size for entry in self.entries()) - size)) > 0

    def _remove_forgotten(self, age: float) -> None:
        for entry in self.unfinished():
            if time.time() - entry.used >= age:
                _remove_if_closed(entry.path)

    @contextmanager
    def _evicting(self) -> Iterator[bool]:
        """Wait until no other process removes files, so that no two of them remove for the same excess.

        Yields:
            Whether this process may. It may not if another one has not ended after some seconds; then that one does.
        """
        descriptor = _opened(self.folder / "evict.lock")
        try:
            until = time.monotonic() + EVICTION
            while (is_mine := try_lock(descriptor)) is False and time.monotonic() < until:
                time.sleep(LONG_WAIT)
            yield is_mine is not False
        finally:
            unlock_and_close(descriptor)

    def _path(self, sha256: str) -> Path:
        return self.folder / "files" / sha256[:2] / sha256

    def _ready(self, name: str) -> Path:
        """Make a folder of the cache; programs that make backups leave it out."""
        folder = self.folder / name
        if not folder.is_dir():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                tag = self.folder / "CACHEDIR.TAG"
                if not tag.exists():
                    write_atomic(tag, TAG)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise
                msg = f"the cache {self.folder} cannot be written: {error.strerror}; set {FOLDER} to another folder"
                raise StorageError(msg) from error
        return folder


def cache() -> Cache:
    """Return the cache that the environment chooses.

    ``LAZYGRAPH_CACHE`` is its folder, by default ``lazygraph`` in the user's cache folder of the platform.
    ``LAZYGRAPH_CACHE_SIZE`` is its limit, such as ``200GB`` or ``50GiB``; there is none by default.

    Raises:
        InputError: the limit is no size.
    """
    folder = os.environ.get(FOLDER) or platformdirs.user_cache_dir("lazygraph", appauthor=False)
    limit = os.environ.get(SIZE)
    return Cache(Path(folder).absolute(), None if not limit else parse_size(limit, SIZE))


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def parse_size(text: str, name: str) -> int:
    """Return a size in bytes.

    Args:
        text: a number with a unit: ``B``, ``kB``, ``MB``, ``GB``, ``TB``, ``KiB``, ``MiB``, ``GiB`` or ``TiB``.
        name: what it is the size of, for the error.

    Raises:
        InputError: it is something else.

    Example:
        >>> parse_size("1.5 GiB", "the limit"), parse_size("200GB", "the limit"), parse_size("1000", "the limit")
        (1610612736, 200000000000, 1000)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE)
    if found is None or (found[3] and not found[2]):
        msg = f"found {name}={text!r:.100}; required: a size such as 200GB or 50GiB"
        raise InputError(msg)
    unit = found[2].lower()
    return int(float(found[1]) * (1024 ** " kmgt".index(unit or " ") if found[3] else _UNITS[unit]))


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()


def _beginning(partial: Path, size: int) -> tuple[Any, int]:
    """The hash of the part of a file that is there, and its length."""
    digest, length = hashlib.sha256(), 0
    with partial.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
            length += len(piece)
    if length > size:
        partial.write_bytes(b"")
        return hashlib.sha256(), 0
    return digest, length


def _append(partial: Path, digest: Any, start: int, size: int, begin: Begin) -> int:
    """Write the bytes of a file from ``start`` on, to the disk; return the length of what is there then."""
    with partial.open("r+b", buffering=0) as file:
        file.seek(start)
        for piece in begin(start):
            if start + len(piece) > size:
                return size + 1
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]
            digest.update(piece)
            start += len(piece)
        sync(file.fileno())
    return start


def _remove_if_closed(path: Path) -> bool:
    """Remove a file that no process has open; whether it was removed."""
    if not OPEN_FILES_MOVE:
        try:
            path.unlink()
        except OSError:
            return False
        return True
    try:
        descriptor = open_file(path)
    except OSError:
        return False
    try:
        if try_lock(descriptor) is False:
            return False
        path.unlink()
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of this name."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (mine.st_dev, mine.st_ino) == (found.st_dev, found.st_ino)


def _opened(path: Path) -> int:
    """A descriptor of a file that may be written; made if it is not there."""
    return open_file(path, os.O_RDWR | os.O_CREAT)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
