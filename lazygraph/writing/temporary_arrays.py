"""Arrays with one element a graph that lie in a file without a name instead of in memory."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TemporaryArrays"]


SMALL = 2**18  # bytes of an array that is not worth a file


class TemporaryArrays:
    """Makes arrays whose values lie in files: their pages are the system's, which writes them out when memory is short.

    A file has no name, so a killed process leaves nothing behind. Its bytes are reserved first: a full disk is an
    ``OSError`` here, and not a signal at the first write.

    Args:
        folder: where the files lie; best the disk that the dataset is written to. It is made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def array(self, dtype: Any, *shape: int) -> NDArray[Any]:
        """An array of zeros, which lives as long as it is used.

        Raises:
            OSError: the disk is full.
        """
        kind = np.dtype(dtype)
        size = kind.itemsize * math.prod(shape)
        if size <= SMALL:
            return np.zeros(shape, kind)
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return np.asarray(np.memmap(file, kind, "r+", shape=shape))
