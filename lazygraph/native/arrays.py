"""Memory for large arrays that is used again when the arrays are gone.

The arrays of a batch take megabytes. The C library returns such memory to the system when it is freed, and the system
clears it page by page when it is next written: for the batches of a training this takes as long as filling them. Memory
from :func:`empty` is kept instead, for the next array of about the same size.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["empty"]

SMALLEST = 1 << 16  # bytes; smaller arrays come from the C library, which keeps their memory itself
MOST_IDLE = 1 << 28  # bytes that are kept while no array uses them


def empty(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array as ``numpy.empty`` does, in memory that an earlier array of this process may have used.

    The memory is free again when the array, all its views and all tensors that share it are gone. Safe in threads and
    under fork. A large array takes up to a quarter more memory than its content.

    Args:
        shape: as for ``numpy.empty``.
        dtype: its type.
    """
    kind = np.dtype(dtype)
    count = shape if isinstance(shape, int) else math.prod(shape)
    size = count * kind.itemsize
    if size < SMALLEST:
        return np.empty(shape, kind)
    handle: Any = _POOL.take(_rounded(size))
    out: NDArray[Any] = np.frombuffer(handle, kind, count).reshape(shape)
    return out


def _rounded(size: int) -> int:
    """The next size that is kept: four between a power of 2 and the next."""
    step = 1 << max(size.bit_length() - 3, 0)
    return -(-size // step) * step


class _Pool:
    """Blocks of memory by size. All steps are single operations of dicts and lists, which threads cannot interrupt.

    A block is handed out as a ctypes array, which every array made of it keeps alive; a callback of the last reference
    brings the block back.

    Args:
        most_idle: bytes that are kept while no array uses them.
    """

    def __init__(self, most_idle: int) -> None:
        # Kept here, as blocks come back until the interpreter ends, when the variables of modules are gone.
        self._most_idle = most_idle
        self._idle: dict[int, list[NDArray[np.uint8]]] = {}
        self._used: dict[int, tuple[Any, NDArray[np.uint8]]] = {}

    def take(self, size: int) -> ctypes.Array[ctypes.c_char]:
        try:
            block = self._idle[size].pop()
        except (KeyError, IndexError):
            block = np.empty(size, np.uint8)
        owner: Any = block
        handle = (ctypes.c_char * size).from_buffer(owner)
        reference = weakref.ref(handle, self._take_back)
        self._used[id(reference)] = reference, block
        return handle

    def _take_back(self, reference: Any) -> None:
        _, block = self._used.pop(id(reference))
        idle = sum(size * len(blocks) for size, blocks in list(self._idle.items()))
        if idle + len(block) > self._most_idle:
            self._idle.clear()  # of sizes that may not be asked for again
        if len(block) <= self._most_idle:
            self._idle.setdefault(len(block), []).append(block)


_POOL = _Pool(MOST_IDLE)
