"""``RemoteStorage``: a dataset on a server, whose files are fetched into the cache or read in ranges."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from lazygraph.errors import InputError, StorageError, TransferError
from lazygraph.storage.bucket import BUCKETS, BucketTransport
from lazygraph.storage.cache import Cache, KeptManifest, cache
from lazygraph.storage.files import FileRef, is_whole_manifest
from lazygraph.storage.http import HttpTransport
from lazygraph.storage.hub import HubTransport
from lazygraph.storage.local import PIECE
from lazygraph.storage.positioned import read_at
from lazygraph.storage.sftp import SftpTransport
from lazygraph.storage.transport import ATTEMPTS, NoRanges, Transport, UnreachableError, shown

__all__ = ["SCHEMES", "RemoteStorage", "connect"]

WHOLE_SHARE = 1 / 8  # of the bytes of a file that are asked for, from which on the file is fetched as a whole
SMALL = 2**16  # bytes of a file that is always fetched as a whole
ATTEMPTS_IF_KEPT = 2  # to ask for a manifest of which there is a copy
BAR_AFTER = 2.0  # s
ENDPOINTS = ("AWS_ENDPOINT_URL", "HF_ENDPOINT")  # variables that send a URL to another server

SCHEMES: dict[str, Callable[[str], Transport]] = {
    "http": HttpTransport,
    "https": HttpTransport,
    "hf": HubTransport,
    "sftp": SftpTransport,
    **dict.fromkeys(BUCKETS, BucketTransport),
}
"""Scheme of a URL -> what connects to it."""


def connect(url: str) -> Transport:
    """Return the connection to a URL; nothing is sent yet.

    Raises:
        InputError: the scheme is unknown, or the URL has another form than its scheme needs.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        msg = (
            f"{shown(url)!r} is not a URL that lazygraph opens; give one that begins with "
            f"{', '.join(f'{name}://' for name in SCHEMES)}"
        )
        raise InputError(msg)
    return SCHEMES[scheme](url)


@dataclass(frozen=True, slots=True)
class _Asked:
    """How many bytes this process asked for, by file, and the files of which its server sends no ranges."""

    bytes: dict[str, int] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    fetched: set[str] = field(default_factory=set)
    """The files that were fetched as a whole because of what was asked for."""


class RemoteStorage:
    """The files of a dataset on a server, for any number of threads. Picklable; opens nothing before it is needed.

    A file is fetched into the cache when it is opened. Of a file that is only read in parts, the ranges are fetched;
    when an eighth of its bytes was asked for, the whole file is. What is in the cache is read as a local file.

    Args:
        url: of the dataset.
        cache: where files are kept; by default the cache that the environment chooses.
    """

    def __init__(self, url: str, cache: Cache | None = None) -> None:
        self._url, self._transport, self._cache = url.rstrip("/"), connect(url), cache
        self._asked = _Asked()

    @property
    def name(self) -> str:
        """The URL without credentials."""
        return self._transport.name

    @property
    def cache(self) -> Cache:
        """The cache that keeps the files."""
        return self._cache or cache()

    def manifest(self) -> bytes:
        """Return the manifest of the server; the one that was read last, with a warning, if there is no connection."""
        with self.cache.manifest_turn(self._key):
            kept = self.cache.manifest(self._key)
            try:
                found = self._transport.manifest(
                    None if kept is None else kept.version, ATTEMPTS if kept is None else ATTEMPTS_IF_KEPT
                )
            except UnreachableError as error:
                if kept is None:
                    raise
                self._work_without_network(kept, error)
                return kept.content
            if found is None and kept is not None:
                return kept.content
            if found is None:
                msg = f"{self.name}: the server says that the manifest has not changed, but it was never read"
                raise TransferError(msg)
            if is_whole_manifest(found.content):  # not what a proxy sent in its place, or a part of it
                new = KeptManifest(self.name, found.version, time.time(), found.content)
                with suppress(StorageError):  # a cache that may only be read
                    self.cache.keep_manifest(self._key, new)
            return found.content

    @property
    def _key(self) -> str:
        """What the kept manifest is found by: the URL, and the server that the environment names for it."""
        return "\n".join([self._url, *(os.environ.get(name, "") for name in ENDPOINTS)])

    def _work_without_network(self, kept: KeptManifest, error: UnreachableError) -> None:
        if isinstance(self._transport, HubTransport):
            self._transport.pin(kept.version)
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.fetched))
        warnings.warn(
            f"{error}. Using the manifest of {when} and the files in {self.cache.folder}; "
            "whether the dataset changed since then is not known",
            stacklevel=2,
        )

    def state(self) -> Any:
        """Return what differs after the dataset was replaced."""
        return self._transport.version()

    def is_at_hand(self, file: FileRef) -> bool:
        """Return whether the file is in the cache."""
        return self.cache.has(file)

    def descriptor(self, file: FileRef) -> int:
        """Return a descriptor of a whole file in the cache; fetched if it is not there."""
        what = f"{self.name}/{file.name}"
        return self.cache.fetch(file, lambda offset: self._shown(file, offset), what)

    def _shown(self, file: FileRef, offset: int) -> Iterator[bytes]:
        """The rest of a file, with a progress bar for transfers that take long."""
        # A bar that is only disabled takes a lock, which a thread may have held when this process was forked.
        if multiprocessing.parent_process() is not None or sys.stderr is None or not sys.stderr.isatty():
            yield from self._transport.stream(file, offset)
            return
        with tqdm(
            total=file.size, initial=offset, unit="B", unit_scale=True, desc=file.name.rpartition("/")[2][:24],
            delay=BAR_AFTER, leave=False,
        ) as bar:  # fmt: skip
            for piece in self._transport.stream(file, offset):
                yield piece
                bar.update(len(piece))

    def read(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return ranges of a file: from the cache, or from the server."""
        if (descriptor := self.cache.open(file)) is not None:
            return _ranges(descriptor, ranges)
        if self._is_wanted_whole(file, sum(length for _, length in ranges)):
            return self._of_whole(file, ranges)
        spans = _together(ranges)
        try:
            contents = self._transport.read(file, spans)
        except NoRanges:
            self._asked.whole.add(file.sha256)
            return self._of_whole(file, ranges)
        return _apart(ranges, spans, contents)

    def _of_whole(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        self._asked.fetched.add(file.sha256)
        return _ranges(self.descriptor(file), ranges)

    def _is_wanted_whole(self, file: FileRef, size: int) -> bool:
        asked = self._asked.bytes[file.sha256] = self._asked.bytes.get(file.sha256, 0) + size
        if file.sha256 in self._asked.fetched:  # and gone: the cache is too small for what is read
            return file.sha256 in self._asked.whole
        return asked >= WHOLE_SHARE * file.size or file.size <= SMALL or file.sha256 in self._asked.whole

    def stream(self, file: FileRef) -> Iterator[bytes]:
        """Yield a file: from the cache, or from the server without keeping it."""
        if (descriptor := self.cache.open(file)) is None:
            yield from self._transport.stream(file, 0)
            return
        with os.fdopen(descriptor, "rb", buffering=0) as opened:
            while piece := opened.read(PIECE):
                yield piece

    def renew(self, file: FileRef) -> bool:
        """Remove a damaged file from the cache, so that it is fetched again; False if it was not there."""
        return self.cache.discard(file)

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self._url, "cache": self._cache, "transport": self._transport}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._url, self._cache, self._transport = state["url"], state["cache"], state["transport"]
        self._asked = _Asked()

    def __repr__(self) -> str:
        return f"RemoteStorage({self.name!r})"


def _ranges(descriptor: int, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Ranges of an open file, which is closed afterwards."""
    try:
        return [read_at(descriptor, length, offset) for offset, length in ranges]
    finally:
        os.close(descriptor)


def _together(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans that are asked for: ranges with small gaps between them together, so that there are fewer requests.

    A gap is read too if it is not larger than the ranges on both of its sides, so at most twice the bytes are read.

    Example:
        >>> _together([(100, 50), (0, 50), (160, 40), (5000, 10)])
        [(0, 200), (5000, 10)]
    """
    spans: list[tuple[int, int]] = []
    wanted = 0  # bytes of the last span that were asked for
    for offset, length in sorted(one for one in ranges if one[1]):
        if spans:
            start, size = spans[-1]
            gap = max(0, offset - (start + size))
            end = max(start + size, offset + length)
            if end - start <= 2 * (wanted + length) and gap <= max(wanted, length):
                spans[-1] = start, end - start
                wanted += length
                continue
        spans.append((offset, length))
        wanted = length
    return spans


def _apart(
    ranges: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]], contents: Sequence[bytes]
) -> list[bytes]:
    """The ranges out of the spans that were read."""
    import bisect

    starts = [start for start, _ in spans]
    found = []
    for offset, length in ranges:
        if not length:
            found.append(b"")
            continue
        span = bisect.bisect_right(starts, offset) - 1
        at = offset - starts[span]
        found.append(contents[span][at : at + length])
    return found
