"""``LocalStorage``: a dataset directory in a file system of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazygraph.errors import CorruptDataset
from lazygraph.storage.descriptors import opening
from lazygraph.storage.files import FileRef, reading
from lazygraph.storage.positioned import open_file, read_at

__all__ = ["MANIFEST", "LocalStorage"]

MANIFEST = "manifest.json"
MAX_MANIFEST = 2**28
PIECE = 2**23  # bytes of a file that are read at once


@dataclass(frozen=True, slots=True, init=False)
class LocalStorage:
    """The files of a dataset directory.

    Args:
        directory: the path of the dataset; made absolute, so that a change of the current folder changes nothing.
    """

    directory: Path

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "directory", Path(directory).absolute())

    @property
    def name(self) -> str:
        """The path."""
        return os.fspath(self.directory)

    def manifest(self) -> bytes:
        """Return the content of the manifest; CorruptDataset where it is no regular file, or larger than any may be."""
        path = self.directory / MANIFEST
        return reading(path, lambda: _whole(path, MAX_MANIFEST))

    def is_at_hand(self, file: FileRef) -> bool:  # noqa: ARG002  # whatever the file
        """Return True."""
        return True

    def descriptor(self, file: FileRef) -> int:
        """Return a descriptor of a file, after its size was compared."""
        path = file.check_size(self.directory)
        return opening(path, lambda: open_file(path))

    def read(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return ranges of a file."""
        descriptor = self.descriptor(file)
        try:
            return [read_at(descriptor, length, offset) for offset, length in ranges]
        finally:
            os.close(descriptor)

    def stream(self, file: FileRef) -> Iterator[bytes]:
        """Yield a file in pieces."""
        with os.fdopen(self.descriptor(file), "rb", buffering=0) as opened:
            while piece := opened.read(PIECE):
                yield piece

    def renew(self, file: FileRef) -> bool:  # noqa: ARG002  # whatever the file
        """Return False: there is no other copy."""
        return False

    def state(self) -> Any:
        """Return what changes when the directory is renamed or its manifest replaced."""
        found = (self.directory.stat(), (self.directory / MANIFEST).stat())
        return [(one.st_ino, one.st_ctime_ns) for one in found]


def _whole(path: Path, most: int) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
        msg = "it is no regular file"
        raise CorruptDataset(msg)
    with opening(path, lambda: path.open("rb")) as file:
        size = os.fstat(file.fileno()).st_size  # of this one: another may have come into its place
        if size > most:
            msg = f"it has {size} bytes; required: at most {most}"
            raise CorruptDataset(msg)
        return file.read(size + 1)
