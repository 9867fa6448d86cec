"""Brings the shards of a dataset near before their records are needed, in threads.

A shuffled pass over a dataset that is not in memory waits for one small read after another. Shards in a folder that fit
into the page cache are read from beginning to end first, which is many times faster. They are read, and not only
announced by ``posix_fadvise``, because file systems drop such announcements: FUSE passes on about ten requests at a
time. Shards on a server are fetched into the cache in the order in which the epoch needs them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import LazyGraphError
from lazygraph.format.store import Store
from lazygraph.loading.orders import PART
from lazygraph.storage.files import FileRef

__all__ = [
    "NextShard",
    "ReadAhead",
    "ReadAheadOfMembers",
    "bytes_to_read",
    "fetch_together",
    "shards_in_order",
    "shards_to_read",
]

LEAST_SHARE = 1 / 8  # of the graphs of a shard that are wanted, below which it is not read as a whole
PIECE = 2**20  # bytes that are read at a time
FETCHES = 6  # shards that are fetched at the same time
LIMITED_SHARE = 1 / 4  # of a limited cache that may be filled ahead
WAIT = 0.05  # s


class NextShard(NamedTuple):
    """A shard that an epoch needs."""

    shard: int
    place: int
    """How many graphs the epoch visits before the first graph of the shard."""


def shards_to_read(store: Store, rows: Sequence[int] | NDArray[np.int64]) -> list[int]:
    """The shards of which enough graphs are wanted, in their order.

    Args:
        store: the dataset.
        rows: the rows that will be read.
    """
    ends = _ends(store)
    wanted = np.zeros(len(ends), np.int64)
    for start in range(0, len(rows), PART):
        part = np.asarray(rows[start : start + PART], np.int64)
        wanted += np.bincount(np.searchsorted(ends, part, side="right"), minlength=len(ends))
    shares = wanted / np.maximum(np.diff(ends, prepend=0), 1)
    return np.flatnonzero(shares >= LEAST_SHARE).tolist()


def shards_in_order(
    store: Store, rows: Sequence[int] | NDArray[np.int64], batches: Iterable[NDArray[np.int64]], chosen: Sequence[int]
) -> Iterator[NextShard]:
    """Yield shards in the order in which batches need them.

    Args:
        store: the dataset.
        rows: the rows of the (sub)set that is read.
        batches: positions in it, batch by batch.
        chosen: the shards that are fetched as a whole; the others are left out.
    """
    ends = _ends(store)
    left, place = set(chosen), 0
    every = np.asarray(rows, np.int64) if not isinstance(rows, range) else None
    for positions in batches:
        if not left:
            return
        visited = positions if every is None else every[positions]
        for shard in np.unique(np.searchsorted(ends, visited, side="right")).tolist():
            if shard in left:
                left.remove(shard)
                yield NextShard(shard, place)
        place += len(positions)


def fetch_together(store: Store, targets: Iterable[str], shards: Sequence[int]) -> None:
    """Fetch the files that every batch needs from a server, several at a time, before the first batch is read.

    The reader of the batch would ask for one after the other.

    Args:
        store: a dataset on a server.
        targets: the columns of labels that are read.
        shards: the shards that are read as a whole.

    Raises:
        TransferError, StorageError, CorruptDataset: a file cannot be fetched. Files that are gone are left to the
            reader, which says why.
    """
    manifest = store.manifest
    names = dict.fromkeys(("record", "id", *(f"n_{axis}" for axis in manifest.schema.axes), *targets))
    numbers = {manifest.shards[shard].dictionary for shard in shards}
    dictionaries = [file for number, file in enumerate(manifest.dictionaries) if number in numbers]
    files = [manifest.digests, *dictionaries, *(manifest.columns[name].file for name in names)]

    def fetch(file: FileRef) -> None:
        with suppress(OSError):
            os.close(store.storage.descriptor(file))

    with ThreadPoolExecutor(FETCHES) as pool:
        for _ in pool.map(fetch, sorted(files, key=lambda file: file.size, reverse=True)):
            pass


def bytes_to_read(store: Store, shards: Sequence[int]) -> int:
    """The size of these shards in bytes."""
    return sum(store.manifest.shards[shard].file.size for shard in shards)


def _ends(store: Store) -> NDArray[np.int64]:
    return np.cumsum([shard.rows for shard in store.manifest.shards], dtype=np.int64)


class ReadAhead:
    """Threads that bring shards near, one after another, until all are near or they are stopped.

    What cannot be opened is passed over: whoever reads its records gets the error.

    Args:
        store: the dataset.
        shards: the shards, in the order in which they are needed.

    Attributes:
        visited: how many graphs of the epoch were delivered. In a cache with a limit, only a quarter of the limit is
            filled with shards that come later.
    """

    visited = 0

    def __init__(self, store: Store, shards: Iterable[NextShard]) -> None:
        self._store, self._shards = store, iter(shards)
        self._stopped = False
        self._lock = threading.Lock()
        self._later: list[tuple[int, int]] = []  # place and bytes of shards that were begun
        self._complete: list[bool] = []
        threads = FETCHES if store.is_remote else 1
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> bool:
        """Read no more, and return whether all was read."""
        self._stopped = True
        return len(self._complete) == len(self._threads)

    def join(self) -> None:
        """Wait until all shards were read, or the threads were stopped."""
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopped:
            with self._lock:
                following = next(self._shards, None)
            if following is None:
                self._complete.append(True)
                return
            file = self._store.manifest.shards[following.shard].file
            if self._wait_for_room(following.place, file.size):
                # Whoever reads a record of a shard that is gone or damaged gets the error.
                with suppress(OSError, LazyGraphError):
                    self._bring(file)

    def _bring(self, file: FileRef) -> None:
        descriptor = self._store.storage.descriptor(file)
        try:
            while not self._store.is_remote and not self._stopped and os.read(descriptor, PIECE):
                pass
        finally:
            os.close(descriptor)

    def _wait_for_room(self, place: int, size: int) -> bool:
        """Wait until a shard may be fetched; False if reading was stopped."""
        limit = self._limit()
        while not self._stopped:
            with self._lock:
                self._later = [one for one in self._later if one[0] > self.visited]
                if limit is None or not self._later or sum(of for _, of in self._later) + size <= limit:
                    self._later.append((place, size))
                    return True
            time.sleep(WAIT)
        return False

    def _limit(self) -> float | None:
        cache: Any = getattr(self._store.storage, "cache", None)
        return None if cache is None or cache.limit is None else cache.limit * LIMITED_SHARE


class ReadAheadOfMembers:
    """The threads that bring the shards of several datasets near.

    Args:
        parts: the threads of each member, and its share of the visits of an epoch.
    """

    def __init__(self, parts: Sequence[tuple[ReadAhead, float]]) -> None:
        self._parts, self._visited = list(parts), 0

    @property
    def visited(self) -> int:
        """How many graphs of the epoch were delivered."""
        return self._visited

    @visited.setter
    def visited(self, visited: int) -> None:
        self._visited = visited
        for part, share in self._parts:
            part.visited = int(visited * share)

    def stop(self) -> bool:
        """Read no more, and return whether all was read."""
        complete = [part.stop() for part, _ in self._parts]  # a list, so that all of them stop
        return all(complete)

    def join(self) -> None:
        """Wait until all shards were read, or the threads were stopped."""
        for part, _ in self._parts:
            part.join()
