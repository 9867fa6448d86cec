"""Which ids were added already, and as which number: a hash table in a file, of 32 to 64 bytes a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from lazygraph.writing.temporary_arrays import TemporaryArrays

__all__ = ["IdSet"]

FIRST = 12  # bits of the number of places of the first table
SPARE = 1024  # places behind the last one, so that no search begins again at the first
CHUNK = 2**16  # places that are moved at once


class IdSet:
    """The ids that were added, in order of their hashes, in a file: memory does not grow with their number.

    Equal hashes of different ids are told apart by the ids, so the answer is exact.

    Args:
        scratch: makes the file.
        id_of: gives the id that was added as a number.
    """

    def __init__(self, scratch: TemporaryArrays, id_of: Callable[[int], str]) -> None:
        self._scratch, self._id_of = scratch, id_of
        self._count = 0
        self._bits = FIRST
        self._hashes, self._numbers = self._tables()

    def __len__(self) -> int:
        return self._count

    def __contains__(self, graph_id: str) -> bool:
        wanted = _hash(graph_id)
        hashes, numbers = self._hashes, self._numbers
        place = wanted >> (64 - self._bits)
        while found := hashes[place]:
            if found == wanted and self._id_of(numbers[place]) == graph_id:
                return True
            place += 1
        return False

    def add(self, graph_id: str) -> None:
        """Add an id that is not there; its number is how many were there before."""
        if 2 * self._count >= 1 << self._bits:
            self._grow()
        wanted = _hash(graph_id)
        place = wanted >> (64 - self._bits)
        while self._hashes[place]:
            place += 1
        self._hashes[place], self._numbers[place] = wanted, self._count
        self._count += 1
        if place >= len(self._hashes) - 2:  # the place behind the last one stays empty
            self._grow()

    def _tables(self) -> tuple[Any, Any]:
        places = (1 << self._bits) + SPARE
        hashes, numbers = self._scratch.array(np.uint64, places), self._scratch.array(np.uint64, places)
        return memoryview(hashes), memoryview(numbers)  # type: ignore[arg-type]

    def _grow(self) -> None:
        """Move everything to a table of twice as many places, in the order of the hashes."""
        hashes, numbers = np.asarray(self._hashes), np.asarray(self._numbers)
        self._bits += 1
        self._hashes, self._numbers = self._tables()
        new_hashes, new_numbers = np.asarray(self._hashes), np.asarray(self._numbers)
        start, last = 0, -1
        while start < len(hashes):
            end = start + CHUNK
            while end < len(hashes) and hashes[end]:  # all that follow an empty place have greater hashes
                end += 1
            there = np.flatnonzero(hashes[start:end]) + start
            own = hashes[there]
            order = np.argsort(own, kind="stable")
            own, there = own[order], there[order]
            places = _places(own, 64 - self._bits, last)
            new_hashes[places], new_numbers[places] = own, numbers[there]
            last = int(places[-1]) if len(places) else last
            start = end


def _places(hashes: NDArray[np.uint64], shift: int, last: int) -> NDArray[np.int64]:
    """Where sorted hashes go: each to its own place, or behind the one before it."""
    number = np.arange(len(hashes))
    wanted = (hashes >> np.uint64(shift)).astype(np.int64) - number
    return np.maximum.accumulate(np.maximum(wanted, last + 1)) + number


def _hash(graph_id: str) -> int:
    return xxhash.xxh3_64_intdigest(graph_id.encode()) or 1  # 0 is an empty place
