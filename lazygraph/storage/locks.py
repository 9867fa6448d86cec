"""Locks of open files, which end with the process that has them: flock, and LockFileEx on Windows.

A lock belongs to an open file. It ends when the file is closed; in processes that were forked meanwhile too.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

from lazygraph import windows

if sys.platform != "win32":
    import fcntl

__all__ = ["NO_LOCKS", "OPEN_FILES_MOVE", "lock", "try_lock", "unlock_and_close"]

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""The errors of mounts without locks: NFS without lockd, Lustre without -o flock, some kinds of FUSE."""
OPEN_FILES_MOVE = sys.platform != "win32"
"""Whether an open file can be renamed, replaced or deleted. On Windows it cannot."""


def lock(descriptor: int, *, shared: bool, wait: bool = False) -> None:
    """Lock an open file.

    Args:
        descriptor: the open file.
        shared: allow other shared locks.
        wait: until no other lock excludes this one.

    Raises:
        BlockingIOError: another lock excludes this one.
        OSError: with an error of ``NO_LOCKS`` if the file system has no locks.
    """
    if sys.platform == "win32":
        windows.lock(descriptor, shared=shared, wait=wait)
    else:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def try_lock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Return whether an open file could be locked; None if the file system has no locks."""
    try:
        lock(descriptor, shared=shared)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def unlock_and_close(descriptor: int) -> None:
    """End a lock and close the file. A child that was forked meanwhile has a copy, which must not keep the lock."""
    with suppress(OSError):  # a file system without locks
        if sys.platform == "win32":
            windows.unlock(descriptor)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
