"""``Transport``: how bytes come from a server of one kind, with retries that end."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

from lazygraph.errors import CorruptDataset, TransferError
from lazygraph.storage.files import FileRef

__all__ = [
    "ATTEMPTS",
    "NoRanges",
    "TransientError",
    "Transport",
    "UnreachableError",
    "VersionedManifest",
    "complete",
    "repeated",
    "shown",
]

T = TypeVar("T")
ATTEMPTS = 5
FIRST_PAUSE = 0.3  # s, doubled after each attempt
LONGEST_PAUSE = 60.0  # s, which a server may ask for


class VersionedManifest(NamedTuple):
    """The manifest of a dataset, and what tells it from another version of it."""

    content: bytes
    version: str | None
    """The server's name for these bytes, such as an ETag or a commit; None if it has none."""


class TransientError(Exception):
    """A request failed in a way that may be different next time.

    Args:
        message: what failed.
        pause: seconds that the server asked to wait.
    """

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


class UnreachableError(TransferError):
    """A server could not be reached, or was busy, at every attempt."""


class NoRanges(Exception):
    """The server sends whole files alone."""


class Transport(Protocol):
    """The connection to the place of one dataset, for any number of threads. Picklable; connects when it is needed.

    All methods raise ``FileNotFoundError`` for a file that is not there, and ``TransferError`` if the server cannot be
    reached, refuses, or sends something other than what was asked for.
    """

    @property
    def name(self) -> str:
        """The URL of the dataset without user name, password and signature."""

    def manifest(self, known: str | None, attempts: int = ATTEMPTS) -> VersionedManifest | None:
        """Return the manifest; None if it still has the version ``known``."""

    def version(self) -> str:
        """Return a text that differs after the dataset was replaced."""

    def read(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return ranges of a file, each (offset, length), with exactly these lengths.

        Raises:
            NoRanges: the server sends whole files alone.
        """

    def stream(self, file: FileRef, offset: int) -> Iterator[bytes]:
        """Yield the bytes of a file from an offset on, exactly to its end."""


def repeated(request: Callable[[], T], what: str, attempts: int = ATTEMPTS) -> T:
    """Return what a request gives, which is repeated after a transient error, with growing pauses.

    Args:
        request: may be called several times.
        what: the URL that is read, for the error.
        attempts: the greatest number of calls.

    Raises:
        TransferError: the last attempt failed too.
    """
    for attempt in range(1, attempts + 1):
        try:
            return request()
        except TransientError as error:
            _pause_or_raise(error, attempt, attempts, what)
    raise AssertionError


def complete(begin: Callable[[int], Iterator[bytes]], file: FileRef, offset: int, what: str) -> Iterator[bytes]:
    """Yield the rest of a file; a transfer that breaks off continues at the byte that it reached.

    Args:
        begin: opens the stream of the file from an offset on.
        file: the file, with its size.
        offset: the first byte.
        what: the URL that is read, for the error.

    Raises:
        CorruptDataset: the file of the server is longer than the manifest says.
        TransferError: nothing more came at several attempts.
    """
    failures = 0
    while offset < file.size:
        try:
            for piece in begin(offset):
                if offset + len(piece) > file.size:
                    msg = f"{what} has more than {file.size} bytes; required: {file.size}, as the manifest says"
                    raise CorruptDataset(msg)
                if piece:
                    offset, failures = offset + len(piece), 0
                    yield piece
            if offset < file.size:
                msg = f"it ended after {offset} of {file.size} bytes"
                raise TransientError(msg)  # noqa: TRY301  # as one of the connection
        except TransientError as error:
            failures += 1
            _pause_or_raise(error, failures, ATTEMPTS, what)


def _pause_or_raise(error: TransientError, attempt: int, attempts: int, what: str) -> None:
    if attempt >= attempts:
        msg = f"{what}: {error}, at {attempt} attempts; try again later" if attempts > 1 else f"{what}: {error}"
        raise UnreachableError(msg) from error
    pause = FIRST_PAUSE * 2 ** (attempt - 1) * (1 + random.random())  # noqa: S311  # so that not all come at once
    if error.pause is not None:
        pause = max(pause, min(error.pause, LONGEST_PAUSE))
    time.sleep(pause)


def shown(url: str) -> str:
    """Return a URL as messages may show it: without user name, password, query and fragment.

    Example:
        >>> shown("https://me:secret@example.org/mp.lg?signature=abc"), shown("https://me:se#cret@example.org/mp.lg")
        ('https://example.org/mp.lg', 'https://example.org/mp.lg')
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # a password with signs that end the host, or no URL at all: nothing before the last @ is shown
        scheme, separator, rest = url.partition("://")
        parts = urlsplit(f"{scheme}{separator}{re.sub('[^A-Za-z0-9./_-]', '', rest.rpartition('@')[2])}")
    host = parts.netloc.rpartition("@")[2]
    return re.sub("[^ -~]", "?", urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", "")))
