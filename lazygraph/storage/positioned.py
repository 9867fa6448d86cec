"""Open files by their descriptors: read and written at a position, and forced to the disk, on every system."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

__all__ = ["open_file", "read_at", "sync", "sync_file", "write_at"]

# Without it, Windows changes the ends of lines, and ends a file at the byte 26.
_BINARY: int = getattr(os, "O_BINARY", 0)
_NOT_WAITING: int = getattr(os, "O_NONBLOCK", 0)


def open_file(path: str | os.PathLike[str], flags: int = os.O_RDONLY, *, wait: bool = True) -> int:
    """Return a descriptor of a file of bytes, which processes that are started do not inherit.

    Args:
        path: the file. If it is created, its mode is 0o666 less the umask.
        flags: as for ``os.open``.
        wait: False does not wait if the path is a pipe.

    Raises:
        OSError: as from ``os.open``.
    """
    return os.open(path, flags | _BINARY | (0 if wait else _NOT_WAITING), 0o666)


if sys.platform == "win32":
    _TURN = threading.Lock()  # there are no forks, which could copy it while it is held

    def read_at(descriptor: int, length: int, offset: int) -> bytes:
        """Return up to ``length`` bytes of an open file from a position on; fewer at its end. Safe in threads."""
        with _TURN:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.read(descriptor, length)

    def write_at(descriptor: int, content: bytes, offset: int) -> int:
        """Write bytes to a position of an open file; return how many were written. Safe in threads."""
        with _TURN:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.write(descriptor, content)

else:

    def read_at(descriptor: int, length: int, offset: int) -> bytes:
        """Return up to ``length`` bytes of an open file from a position on; fewer at its end. Safe in threads."""
        return os.pread(descriptor, length, offset)

    def write_at(descriptor: int, content: bytes, offset: int) -> int:
        """Write bytes to a position of an open file; return how many were written. Safe in threads."""
        return os.pwrite(descriptor, content, offset)


def sync(descriptor: int) -> None:
    """Make the content of an open file survive a power failure.

    On macOS, ``fsync`` leaves it in the memory of the disk, and ``F_FULLFSYNC`` does not.

    Raises:
        OSError: the disk failed, or on Windows the file is not open for writing.
    """
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:  # a network disk does not know it
            pass
        else:
            return
    os.fsync(descriptor)


def sync_file(path: Path) -> int:
    """Make the content of a file survive a power failure, and return its size in bytes.

    Raises:
        OSError: the disk failed, or on Windows the file may not be written.
    """
    # Windows forces only what is open for writing.
    with path.open("r+b" if sys.platform == "win32" else "rb", buffering=0) as file:
        sync(file.fileno())
        return os.fstat(file.fileno()).st_size
