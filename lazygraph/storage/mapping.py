"""A file in memory, read-only, without a descriptor that stays open.

``mmap.mmap`` of Python 3.12 and before keeps one for each file, so that some dozens of datasets, with a file a column,
would use up what a process may have. On Windows it keeps a handle, of which a process may have millions.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mapped"]

FAILED = ctypes.c_void_p(-1).value
READ, SHARED = 1, 1  # PROT_READ, MAP_SHARED: on Linux, macOS and BSD


def mapped(descriptor: int, size: int) -> NDArray[np.uint8]:
    """The bytes of an open file, shared with other processes; the file may be closed.

    Args:
        descriptor: the open file.
        size: its bytes, at least one.

    Raises:
        OSError: the operating system maps no more.
    """
    if sys.platform == "win32":
        content: NDArray[np.uint8] = np.frombuffer(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ), np.uint8)
    else:
        content = np.asarray(_Mapping(descriptor, size))
    return content


class _Mapping:
    """What an array is made of; unmapped when the last array of it is gone."""

    def __init__(self, descriptor: int, size: int) -> None:
        library = _library()
        address = library.mmap(None, size, READ, SHARED, descriptor, 0)
        if address in (None, FAILED):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._mapped, self._unmap = (address, size), library.munmap
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (size,), "data": (address, True)}

    def __del__(self) -> None:
        if hasattr(self, "_mapped"):
            self._unmap(*self._mapped)


@lru_cache(maxsize=1)
def _library() -> Any:
    """The C library."""
    library = ctypes.CDLL(None, use_errno=True)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    library.mmap.restype, library.mmap.argtypes = pointer, (pointer, size, number, number, number, ctypes.c_long)
    library.munmap.restype, library.munmap.argtypes = number, (pointer, size)
    return library
