"""Reading of inputs in bounded pieces, with hashing and unpacking of zip and gzip, never whole in memory."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, cast

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import MAX_TEXT, InputFile, hash_file, open_regular, readable, require_length

__all__ = [
    "HEAD",
    "Held",
    "Intake",
    "bare_name",
    "body",
    "is_packed",
    "marked",
    "naming",
    "pieces",
    "read_head",
    "whole",
]

HEAD = 1 << 16  # bytes from which a format is recognised
_CHUNK = 1 << 20  # bytes of a piece: the arrays that scan it fit into the cache of a core
_BOM = b"\xef\xbb\xbf"
_GZIP, _ZIP = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")
_SUFFIXES = frozenset(
    {".csv", ".extxyz", ".gz", ".json", ".jsonl", ".ndjson", ".parquet", ".traj", ".tsv", ".xyz", ".zip"}
)


class Intake:
    """One pass over an input. Iteration yields its unpacked bytes in pieces, and sets ``file`` at the end.

    A zip must hold exactly one file. Memory: one piece (1 MiB). A UTF-8 byte-order mark becomes three blanks, so that
    every offset counted in the pieces is an offset in the file.

    Args:
        path: the file that the user gave.
        spool: the file for the unpacked bytes of a zip or gzip, which is read later; ``None`` to keep none. A plain
            file is never copied.
    """

    file: InputFile
    """Name, size in bytes and sha256 of ``path`` itself (of the zip, not of what is in it)."""

    def __init__(self, path: Path, spool: Path | None = None) -> None:
        self._path = path
        self._spool = spool

    def __iter__(self) -> Iterator[bytes]:
        if _packing(self._path):
            self.file = hash_file(self._path)
            yield from self._unpack()
            return
        digest, size = hashlib.sha256(), 0
        with open_regular(self._path) as file:
            for raw in pieces(file, keep_mark=True):
                digest.update(raw)
                yield _blank_mark(raw) if size == 0 else raw
                size += len(raw)
        self.file = InputFile(readable(self._path.name), size, digest.hexdigest())

    def _unpack(self) -> Iterator[bytes]:
        with ExitStack() as stack:
            spool = stack.enter_context(self._spool.open("wb")) if self._spool else None
            for chunk in _unpacked(self._path):
                if spool:
                    spool.write(chunk)
                yield chunk


def body(path: Path, spool: Path) -> Path:
    """The file that holds the unpacked bytes after a scan: ``path`` itself, or ``spool`` if it is a zip or gzip."""
    return spool if _packing(path) else path


def pieces(file: IO[bytes], *, keep_mark: bool = False) -> Iterator[bytes]:
    """Yield the bytes of an open file from its position on, in pieces; see :class:`Intake` on byte-order marks."""
    at_start = not keep_mark and file.tell() == 0
    while chunk := file.read(_CHUNK):
        yield _blank_mark(chunk) if at_start else chunk
        at_start = False


def whole(chunks: Iterable[bytes]) -> bytes:
    """Join all pieces of the text of one input.

    Raises:
        UnreadableInput: they have more than ``MAX_TEXT`` bytes; the rest is not read.
    """
    held, size = [], 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size > MAX_TEXT:
            break
    text = b"".join(held)
    require_length(text)
    return text


class Held:
    """The pieces of one unfinished text, of which at most ``MAX_TEXT`` bytes are kept.

    A longer text is cut and gets a zero byte, so it is too long for :func:`require_length`, and not blank.
    """

    __slots__ = ("_kept", "_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._kept = self._size = 0

    def add(self, piece: bytes) -> None:
        """Add a piece."""
        self._size += len(piece)
        if self._kept < MAX_TEXT:
            kept = piece[: MAX_TEXT - self._kept]
            self._pieces.append(kept)
            self._kept += len(kept)

    def end(self, piece: bytes) -> tuple[bytes, int]:
        """Return the text that this piece completes, and its length before it was cut. Then begin the next text."""
        if not self._pieces:
            return piece, len(piece)
        self.add(piece)
        text, size = b"".join(self._pieces), self._size
        if size > self._kept:
            text += b"\0"
        self._pieces.clear()
        self._kept = self._size = 0
        return text, size


def is_packed(path: Path) -> bool:
    """Tell whether a file is a zip or gzip, by its content.

    Raises:
        UnreadableInput: it cannot be read.
    """
    return _packing(path) != ""


def read_head(path: Path) -> bytes:
    """Return the first 64 KiB of the unpacked bytes, from which a format is recognised.

    Raises:
        UnreadableInput: there is no such file, or its zip or gzip is broken.
    """
    if not _packing(path):
        with open_regular(path) as file:
            return _blank_mark(file.read(HEAD))
    head = bytearray()
    for chunk in _unpacked(path):
        head += chunk
        if len(head) >= HEAD:
            break
    return bytes(head[:HEAD])


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the path before the message of an UnreadableInput that does not name it yet."""
    try:
        yield
    except UnreadableInput as error:
        if str(path) in str(error):
            raise
        msg = f"{path}: {error}"
        raise UnreadableInput(msg) from error


def bare_name(path: str | Path) -> str:
    """Return the name of a file without folders and the suffixes of these formats.

    Example:
        >>> bare_name("/data/dft_3d.v2.json.zip")
        'dft_3d.v2'
    """
    name = Path(path)
    while name.suffix.lower() in _SUFFIXES and name.stem:
        name = name.with_suffix("")
    return name.name


def marked(offsets: Iterator[int], every: int) -> tuple[int, tuple[int, ...]]:
    """Return the number of offsets, and every ``every``-th of them, beginning with the first.

    Example:
        >>> marked(iter([0, 10, 20, 30, 40]), 2)
        (5, (0, 20, 40))
    """
    marks: list[int] = []
    count = 0
    for offset in offsets:
        marks.append(offset)
        rest = sum(1 for _ in islice(offsets, every - 1))
        count += 1 + rest
    return count, tuple(marks)


def _blank_mark(chunk: bytes) -> bytes:
    return b"   " + chunk[3:] if chunk.startswith(_BOM) else chunk


def _packing(path: Path) -> str:
    """Return ``zip``, ``gzip`` or, for a plain file, an empty text, by the first bytes of the file."""
    try:
        with open_regular(path) as file:
            magic = file.read(4)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise UnreadableInput(msg) from error
    return "zip" if magic in _ZIP else "gzip" if magic.startswith(_GZIP) else ""


def _unpacked(path: Path) -> Iterator[bytes]:
    done = 0
    try:
        with _opened(path) as file:
            for chunk in pieces(file):
                yield chunk
                done += len(chunk)
    except (zlib.error, EOFError, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        msg = (
            f"{path}: the {_packing(path)} file is broken after {done} unpacked bytes ({error}); copy or download it "
            "again"
        )
        raise UnreadableInput(msg) from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open the content of a zip or gzip as a file."""
    with ExitStack() as stack:
        if _packing(path) == "gzip":
            yield cast("IO[bytes]", stack.enter_context(gzip.open(path)))
        else:
            yield stack.enter_context(_member(stack.enter_context(zipfile.ZipFile(path))))


def _member(archive: zipfile.ZipFile) -> IO[bytes]:
    # Finder adds a folder __MACOSX of resource forks to every zip that it makes.
    members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        names = [m.filename for m in members[:8]]
        msg = f"{archive.filename}: the zip holds {len(members)} files {names}; required: exactly one"
        raise UnreadableInput(msg)
    try:
        return archive.open(members[0])
    except (RuntimeError, NotImplementedError) as error:
        msg = f"{archive.filename}: cannot be unpacked ({error}); it must be stored or deflated, without a password"
        raise UnreadableInput(msg) from error
