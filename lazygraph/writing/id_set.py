"""A set of ids with the number of each, as a hash table in a file with 32 to 64 bytes per id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from lazygraph.writing.temporary_arrays import TemporaryArrays

__all__ = ["IdSet"]

FIRST = 12  # the first table has 2**12 places
SPARE = 1024  # places after the last one, so that no search wraps around to the first
CHUNK = 2**16  # places that are moved at a time


class IdSet:
    """The ids that were added, in the order of their hashes, in a file. Memory does not grow with their number.

    Ids with equal hashes are compared as texts, so the answer is exact.

    Args:
        scratch: makes the file.
        id_of: returns the id with a number.
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
        """Add a new id. Its number is the number of ids before it."""
        if 2 * self._count >= 1 << self._bits:
            self._grow()
        wanted = _hash(graph_id)
        place = wanted >> (64 - self._bits)
        while self._hashes[place]:
            place += 1
        self._hashes[place], self._numbers[place] = wanted, self._count
        self._count += 1
        if place >= len(self._hashes) - 2:  # the place after the last one stays empty
            self._grow()

    def _tables(self) -> tuple[Any, Any]:
        places = (1 << self._bits) + SPARE
        hashes, numbers = self._scratch.array(np.uint64, places), self._scratch.array(np.uint64, places)
        return memoryview(hashes), memoryview(numbers)  # type: ignore[arg-type]

    def _grow(self) -> None:
        """Move everything to a table with twice as many places, in the order of the hashes."""
        hashes, numbers = np.asarray(self._hashes), np.asarray(self._numbers)
        self._bits += 1
        self._hashes, self._numbers = self._tables()
        new_hashes, new_numbers = np.asarray(self._hashes), np.asarray(self._numbers)
        start, last = 0, -1
        while start < len(hashes):
            end = start + CHUNK
            while end < len(hashes) and hashes[end]:  # all hashes after an empty place are greater
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
    """Return the places of sorted hashes: for each its own place, or the place after the hash before it."""
    number = np.arange(len(hashes))
    wanted = (hashes >> np.uint64(shift)).astype(np.int64) - number
    return np.maximum.accumulate(np.maximum(wanted, last + 1)) + number


def _hash(graph_id: str) -> int:
    return xxhash.xxh3_64_intdigest(graph_id.encode()) or 1  # 0 marks an empty place
