"""Reads the shards of a dataset into the page cache before their records are needed, in a thread.

A shuffled pass over a dataset that is not in memory waits for one small read after another. If the shards fit into the
page cache, it is many times faster to read them from beginning to end first. They are read, and not only announced by
``posix_fadvise``, because file systems drop such announcements: FUSE passes on about ten requests at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset
from lazygraph.format.store import Store
from lazygraph.loading.orders import PART

__all__ = ["ReadAhead", "bytes_to_read", "shards_to_read"]

LEAST_SHARE = 1 / 8  # of the graphs of a shard that are wanted, below which it is not read as a whole
PIECE = 2**20  # bytes that are read at a time


def shards_to_read(store: Store, rows: Sequence[int] | NDArray[np.int64]) -> list[int]:
    """The shards of which enough graphs are wanted, in their order; none if they do not lie on this machine.

    Args:
        store: the dataset.
        rows: the rows that will be read.
    """
    if not store.storage.is_local:
        return []
    ends = np.cumsum([shard.rows for shard in store.manifest.shards])
    wanted = np.zeros(len(ends), np.int64)
    for start in range(0, len(rows), PART):
        part = np.asarray(rows[start : start + PART], np.int64)
        wanted += np.bincount(np.searchsorted(ends, part, side="right"), minlength=len(ends))
    shares = wanted / np.maximum(np.diff(ends, prepend=0), 1)
    return np.flatnonzero(shares >= LEAST_SHARE).tolist()


def bytes_to_read(store: Store, shards: Sequence[int]) -> int:
    """The size of these shards in bytes."""
    return sum(store.manifest.shards[shard].file.size for shard in shards)


class ReadAhead:
    """A thread that reads shards, one after another, until all are read or it is stopped.

    What cannot be opened is passed over: whoever reads its records gets the error.

    Args:
        store: the dataset.
        shards: numbers of its shards.
    """

    def __init__(self, store: Store, shards: Sequence[int]) -> None:
        self._stopped = self._is_complete = False
        files = [store.manifest.shards[shard].file for shard in shards]
        self._thread = threading.Thread(target=self._read, args=(store.storage, files), daemon=True)
        self._thread.start()

    def stop(self) -> bool:
        """Read no more, and return whether all was read."""
        self._stopped = True
        return self._is_complete

    def join(self) -> None:
        """Wait until all shards were read, or the thread was stopped."""
        self._thread.join()

    def _read(self, storage: Any, files: Sequence[Any]) -> None:
        into = bytearray(PIECE)
        for file in files:
            # Whoever reads a record of a shard that is gone or damaged gets the error.
            with suppress(OSError, CorruptDataset), storage.path(file).open("rb", buffering=0) as opened:
                while opened.readinto(into):
                    if self._stopped:
                        return
        self._is_complete = True
