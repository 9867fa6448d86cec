"""Messages for errors of the disk that a dataset is written to: what is full or forbidden, and what to do."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lazygraph.errors import LazyGraphError, StorageError
from lazygraph.writing.layout import Layout

__all__ = ["explained"]

AGAIN = "What is finished is kept, and a dataset that was there is as it was: run the same command again to continue"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def explained(layout: Layout) -> Iterator[None]:
    """Turn errors of the output's file system into a ``StorageError`` that says what to do.

    Raises:
        StorageError: with the number of the system's error as ``errno`` and the path as ``filename``.
    """
    try:
        yield
    except LazyGraphError:
        raise
    except OSError as error:
        found = _words(error, layout)
        if found is None:
            raise
        told = StorageError(found if error.errno == errno.ENAMETOOLONG else f"{found}. {AGAIN}")
        told.errno, told.filename = error.errno, error.filename or os.fspath(layout.partial)
        raise told from error


def _words(error: OSError, layout: Layout) -> str | None:
    """Return the message for an error; None if it is not an error of the output."""
    place = layout.final.parent
    if error.errno in FULL:
        return f"no space left for {layout.partial}{_room(place)}; make room there, or write to another disk"
    if error.errno == errno.EROFS:
        return f"{place} is on a file system that is read-only; make it writable, or write elsewhere"
    if error.errno == errno.EFBIG:
        return f"a file in {layout.partial} reached the largest allowed size (ulimit -f); raise this limit"
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return f"no file descriptors were left while writing {layout.final}; raise the limit (ulimit -n)"
    ours = error.filename is not None and os.fspath(error.filename).startswith(os.fspath(layout.final))
    if error.errno in {errno.EACCES, errno.EPERM} and (ours or error.filename == os.fspath(place)):
        return f"no permission to write {error.filename}; change the permissions, or write elsewhere"
    if error.errno == errno.ENAMETOOLONG:
        return f"the path {layout.final} is too long, because lazygraph appends '.partial' to it; choose a shorter path"
    if error.errno == errno.ENOMEM and ours:
        return f"there was no memory left to write {error.filename}; raise the limit (ulimit -v)"
    if error.errno == errno.EIO and ours:
        return f"the disk failed at {error.filename} (input/output error); check the disk, or write to another one"
    return None


def _room(place: Path) -> str:
    try:
        return f" ({shutil.disk_usage(place).free:,} bytes are free)"
    except OSError:
        return ""
