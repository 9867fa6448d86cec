"""One writer at a time: a lock that names its holder, and that a dead process cannot keep."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from lazygraph.errors import StorageError, WriterBusy
from lazygraph.writing.disk_errors import explained
from lazygraph.writing.hold import Hold
from lazygraph.writing.layout import Layout
from lazygraph.writing.plan import read_head
from lazygraph.writing.publish import resumable, roll_forward, sweep

__all__ = ["exclusive", "idle", "shared"]

# What mounts say that have no flock: NFS without lockd, Lustre without -o flock, some of FUSE.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


@contextmanager
def exclusive(layout: Layout) -> Iterator[Hold]:
    """Be the only one who plans, merges or edits this dataset; first finish what a killed process had decided.

    The partial folder goes when the work is over and leaves nothing to resume, and no file of the user's in it.

    Yields:
        The lock, which ``publish`` asks for.

    Raises:
        WriterBusy: another process is at work, with its number, host and command.
        StorageError: the place is full, read-only, forbidden or has no file locks, here or within the block.
    """
    with explained(layout), _exclusive(layout) as hold:
        yield hold


@contextmanager
def _exclusive(layout: Layout) -> Iterator[Hold]:
    descriptor = _acquire(layout, fcntl.LOCK_EX, lambda: _make_folder(layout.partial))
    hold = Hold(layout, descriptor)
    try:
        who = {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv[:6])[:300]}
        os.ftruncate(descriptor, 0)
        with suppress(OSError):  # a full disk: the lock holds without its name
            os.pwrite(descriptor, json.dumps(who).encode(), 0)
        yield replace(hold, finished=roll_forward(layout))
    finally:
        try:
            os.ftruncate(descriptor, 0)
            # Where the folder was deleted meanwhile, what is there now is another writer's.
            if hold.lasts() and not resumable(layout):
                sweep(layout)
                # The lock goes last, when there is nothing left that the next writer's files could be mixed with.
                layout.lock.unlink(missing_ok=True)
                with suppress(OSError):  # the next writer is here already, or the user has files here
                    layout.partial.rmdir()
        finally:
            os.close(descriptor)


def idle(layout: Layout) -> None:
    """Make sure that nobody plans, merges or edits this dataset, and change nothing.

    Raises:
        WriterBusy: a process does.
    """
    with suppress(FileNotFoundError):  # nobody has worked here since the last change was finished
        descriptor = os.open(layout.lock, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _lock(layout, descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)


@contextmanager
def shared(layout: Layout) -> Iterator[None]:
    """Make single shards of an existing plan, beside others who do.

    Raises:
        InputError: there is no plan.
        WriterBusy: a process plans, merges or edits right now.
    """
    with explained(layout):
        descriptor = _acquire(layout, fcntl.LOCK_SH, lambda: read_head(layout))
        try:
            os.ftruncate(descriptor, 0)  # a killed process may have left its name
            yield
        finally:
            os.close(descriptor)


def _make_folder(folder: Path) -> None:
    # Not exist_ok: that raises where another process removes the folder a moment later.
    with suppress(FileExistsError):
        folder.mkdir(parents=True)


def _acquire(layout: Layout, mode: int, prepare: Callable[[], object]) -> int:
    """The descriptor of the locked lock file. The kernel drops the lock with its process: a dead one blocks nobody."""
    while True:
        prepare()
        with suppress(FileNotFoundError):  # its holder finished and removed the folder between two of our steps
            made = not layout.lock.exists()
            descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                _lock(layout, descriptor, mode)
                if Hold(layout, descriptor).lasts():
                    return descriptor
            except StorageError:
                if made:  # nobody else can have locked it, for there are no locks
                    layout.lock.unlink(missing_ok=True)
                    with suppress(OSError):
                        layout.partial.rmdir()
                os.close(descriptor)
                raise
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _lock(layout: Layout, descriptor: int, mode: int) -> None:
    """Lock an open file, or say who has it, or that this file system has no locks."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WriterBusy(_who(layout, descriptor)) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        told = StorageError(
            f"the file system of {layout.partial} has no file locks ({error.strerror}), which keep two writers apart; "
            "write to a local disk and copy the dataset from there, or have it mounted with locks (Lustre: the mount "
            "option flock; NFS: a running lock daemon)"
        )
        told.errno, told.filename = error.errno, os.fspath(layout.lock)
        raise told from error


def _who(layout: Layout, descriptor: int) -> str:
    holder = "other processes"  # those that make shards share the lock and do not sign it
    with suppress(ValueError, KeyError):
        who = json.loads(os.pread(descriptor, 4096, 0))
        holder = f"process {who['pid']} on {who['host']} ({who['command']})"
    return f"{layout.final} is being written by {holder}; wait for it, or stop it first"
