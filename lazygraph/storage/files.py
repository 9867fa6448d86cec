"""Files that appear whole or not at all, named after what they hold."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lazygraph.errors import CorruptDataset, LazyGraphError, StorageError
from lazygraph.storage.descriptors import opening
from lazygraph.storage.locks import OPEN_FILES_MOVE
from lazygraph.storage.positioned import sync

__all__ = [
    "FILE_NAME",
    "FileRange",
    "FileRef",
    "fsync_directory",
    "is_whole_manifest",
    "make_folder",
    "move_file",
    "named_after_content",
    "reading",
    "resolved_path",
    "sha256_of",
    "streamed",
    "temporary_beside",
    "write_atomic",
    "write_checked",
]

T = TypeVar("T")
PATIENCE, PAUSE = 5.0, 0.05  # s, to wait for a program that has a file open, and between two tries
# The forms of docs/format.md: a manifest names no other file, and no other file is ever deleted.
FILE_NAME = re.compile(
    r"shards/[0-9]{5,}-[0-9a-f]{16}\.lmdb|columns/[A-Za-z0-9_.-]{0,100}-[0-9a-f]{16}\.npy"
    r"|digests-[0-9a-f]{16}\.bin|dictionary-[0-9a-f]{16}\.zstd|quarantine-[0-9a-f]{16}\.jsonl"
)


class FileRef(NamedTuple):
    """A file of a dataset as the manifest names it: path within the directory, size, sha256."""

    name: str
    size: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """The manifest's FILE object."""
        return self._asdict()

    def check_size(self, directory: Path) -> Path:
        """The path of the file, after its size was compared.

        Raises:
            FileNotFoundError: it is not there.
            CorruptDataset: it has another size, or is no regular file (opening a pipe would wait for ever).
        """
        path = directory / self.name
        found = path.stat()
        if found.st_size != self.size or not stat.S_ISREG(found.st_mode):
            kind = "" if stat.S_ISREG(found.st_mode) else "is no regular file and "
            msg = f"{path} {kind}has {found.st_size} bytes; required: {self.size}, as the manifest says"
            raise CorruptDataset(msg)
        return path

    def check(self, directory: Path) -> Path:
        """The path of the file, after size and sha256 were compared."""
        path = self.check_size(directory)
        if (found := sha256_of(path)) != self.sha256:
            msg = f"{path} has the sha256 {found}; required: {self.sha256}, as the manifest says"
            raise CorruptDataset(msg)
        return path


class FileRange(NamedTuple):
    """Bytes of an open file that another file is to have too.

    Attributes:
        descriptor: the open file.
        start: where they begin in it.
        place: where they begin in the other file.
        size: how many they are.
    """

    descriptor: int
    start: int
    place: int
    size: int


def is_whole_manifest(content: bytes) -> bool:
    """Whether a manifest ends with the sha256 of what stands before it, so that no byte is missing or changed."""
    prefix, separator, rest = content.rpartition(b',"sha256":"')
    return bool(separator) and rest == hashlib.sha256(prefix).hexdigest().encode() + b'"}\n'


def sha256_of(path: Path) -> str:
    """The sha256 of a file in hex, read in pieces."""
    with opening(path, lambda: path.open("rb")) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reading(path: str | Path, read: Callable[[], T]) -> T:
    """What ``read``, which opens a file, makes of it; called once more where a file server had lost sight of the file.

    Args:
        path: the file, for the message.
        read: gives the same whenever it is called.

    Raises:
        OSError: the file system failed; with the path, and the number that it gave.
    """
    try:
        try:
            return read()
        except OSError as error:
            if error.errno != errno.ESTALE:  # which NFS says of a file that was replaced after it was opened
                raise
            return read()
    except OSError as error:
        if isinstance(error, LazyGraphError) or error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, f"{path}: {error.strerror}") from error


def write_atomic(path: Path, data: bytes) -> None:
    """Put data at path so that readers and power failures see the old file or the new one, never a part."""
    temporary = temporary_beside(path)
    opened = temporary.open("xb")
    try:
        with opened as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        move_file(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def temporary_beside(path: Path) -> Path:
    """A name beside path that no other process uses: process ids repeat, on other hosts and in containers.

    Example:
        >>> temporary_beside(Path("mp.lg/manifest.json")).name.startswith(".manifest.json.")
        True
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def named_after_content(directory: Path, stem: str, suffix: str, data: bytes) -> FileRef:
    """Write data as ``STEM-<16 hex digits of its sha256>SUFFIX`` below directory, atomically; stem may hold folders."""
    digest = hashlib.sha256(data).hexdigest()
    name = f"{stem}-{digest[:16]}{suffix}"
    path = directory / name
    make_folder(path.parent)
    write_atomic(path, data)
    return FileRef(name, len(data), digest)


def streamed(
    directory: Path, stem: str, suffix: str, pieces: Iterable[Any], copied: FileRange | None = None
) -> FileRef:
    """Write a file as ``named_after_content`` does, without holding more than one piece of it in memory.

    Args:
        directory: the dataset directory.
        stem: the first part of its name, which may hold folders.
        suffix: the last part.
        pieces: what it holds, one buffer of bytes after the other.
        copied: which of these bytes another file has. The system copies them, or lets both files share them on the
            disk; the sha256 is of the pieces.
    """
    place = directory / f"{stem}-{'0' * 16}{suffix}"
    with _temporary(place, pieces, copied) as (temporary, size, found):
        name = f"{stem}-{found[:16]}{suffix}"
        move_file(temporary, directory / name)
    fsync_directory(place.parent)
    return FileRef(name, size, found)


def write_checked(directory: Path, file: FileRef, pieces: Iterable[Any], source: str) -> None:
    """Write a file that a manifest names, if the pieces are its bytes; not more than one piece is held in memory.

    Args:
        directory: the dataset directory.
        file: what is written: path within the directory, size, sha256.
        pieces: what it holds, one buffer of bytes after the other.
        source: where the pieces come from, for the error.

    Raises:
        CorruptDataset: the pieces have another size or sha256; then nothing is written.
    """
    place = directory / file.name
    with _temporary(place, pieces) as (temporary, size, found):
        if size != file.size:
            msg = f"{source} has {size} bytes; required: {file.size}, as the manifest says"
            raise CorruptDataset(msg)
        if found != file.sha256:
            msg = f"{source} has the sha256 {found}; required: {file.sha256}, as the manifest says"
            raise CorruptDataset(msg)
        move_file(temporary, place)
    fsync_directory(place.parent)


@contextmanager
def _temporary(place: Path, pieces: Iterable[Any], copied: FileRange | None = None) -> Iterator[tuple[Path, int, str]]:
    """A file beside ``place`` with these pieces, on the disk; its size and sha256. Gone at the end unless renamed."""
    make_folder(place.parent)
    temporary = temporary_beside(place)
    digest, size = hashlib.sha256(), 0
    opened = temporary.open("xb")
    try:
        with opened as file:
            there = range(0) if copied is None else _copy(copied, file.fileno())
            for piece in pieces:
                end = size + len(piece)
                if size in there and end <= there.stop:
                    file.seek(end)
                else:
                    file.write(piece)
                digest.update(piece)
                size = end
            file.flush()
            sync(file.fileno())
        yield temporary, size, digest.hexdigest()
    finally:
        temporary.unlink(missing_ok=True)


def _copy(copied: FileRange, target: int) -> range:
    """Let the system copy bytes of a file into an empty one; the bytes that are there now."""
    source, start, place, size = copied
    if not hasattr(os, "copy_file_range"):
        return range(0)
    if start == place:  # from the beginning of the file on, so that file systems that share blocks can share these
        start, place, size = 0, 0, start + size
    done = 0
    try:
        while done < size and (count := os.copy_file_range(source, target, size - done, start + done, place + done)):
            done += count
    except OSError as error:
        if error.errno not in _CANNOT_COPY:
            raise
    return range(copied.place, place + done)


_CANNOT_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM}


def resolved_path(path: Path) -> Path:
    """Return ``path.resolve()``. Nothing has to exist there.

    Raises:
        OSError: a link leads to itself, for which ``resolve`` raises RuntimeError up to Python 3.12 and nothing
            later; or a link cannot be read.
    """
    try:
        place = path.resolve()
    except RuntimeError as error:  # up to Python 3.12
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path)) from error
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
    return place


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, so that their names survive a power failure; nothing where it is there."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_directory(folder.parent)


def move_file(source: Path, target: Path) -> None:
    """Give a file another name in the same file system, also one that another file has, which is then replaced.

    Windows does not replace a file that is open. The call waits for some seconds, because most programs open a file for
    a moment only. A file with the same content need not be replaced: then ``source`` is removed.

    Raises:
        StorageError: on Windows, another program has one of the files open.
        OSError: as from ``os.replace``.
    """
    until = time.monotonic() + (0.0 if OPEN_FILES_MOVE else PATIENCE)
    while True:
        try:
            source.replace(target)
            return
        except PermissionError as error:
            if OPEN_FILES_MOVE:
                raise
            if target.is_file() and sha256_of(target) == sha256_of(source):
                source.unlink(missing_ok=True)
                return
            if time.monotonic() < until:
                time.sleep(PAUSE)
                continue
            msg = (
                f"{target} cannot be replaced ({error.strerror}), because another program has it open, or because it "
                "may not be written; close the programs that use it, and run the same command again"
            )
            told = StorageError(msg)
            told.errno, told.filename = error.errno, os.fspath(target)
            raise told from error


def fsync_directory(directory: Path) -> None:
    """Make names created, replaced or removed in a directory survive a power failure. Windows does so by itself."""
    if sys.platform != "win32":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
