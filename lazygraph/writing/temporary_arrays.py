"""Arrays with one element per graph, in files without a name instead of in memory."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TemporaryArrays"]


SMALL = 2**18  # smaller arrays, in bytes, stay in memory
PIECE = 2**20  # bytes of zeros that are written at once where the system reserves none


class TemporaryArrays:
    """A maker of arrays whose values are in files. The system writes their pages to disk if memory is short.

    A file has no name (on Windows, it is deleted when it is closed), so a killed process leaves nothing behind. Its
    bytes are reserved first, so a full disk raises ``OSError`` here, and sends no signal at the first write.

    Args:
        folder: the folder of the files, best on the disk of the dataset. It is created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def array(self, dtype: Any, *shape: int) -> NDArray[Any]:
        """Return an array of zeros. Its file lives as long as the array.

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
                for start in range(0, size, PIECE):
                    file.write(bytes(min(PIECE, size - start)))
                file.flush()
            return np.asarray(np.memmap(file, kind, "r+", shape=shape))
