"""The lock of a dataset, for one writer at a time. It names its holder, and ends with the process of its holder."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from lazygraph.errors import StorageError, WriterBusy
from lazygraph.storage.locks import NO_LOCKS, OPEN_FILES_MOVE, lock
from lazygraph.storage.positioned import open_file, read_at, write_at
from lazygraph.writing.disk_errors import explained
from lazygraph.writing.hold import Hold
from lazygraph.writing.layout import Layout
from lazygraph.writing.plan import read_head
from lazygraph.writing.publish import resumable, roll_forward, sweep

__all__ = ["exclusive", "idle", "shared"]


@contextmanager
def exclusive(layout: Layout) -> Iterator[Hold]:
    """Lock a dataset for planning, merging or editing, and first finish what a killed process had decided.

    The partial folder is removed at the end if there is nothing to resume, and no file of the user in it.

    Yields:
        The lock, which ``publish`` asks for.

    Raises:
        WriterBusy: another process works here; the message has its number, host and command.
        StorageError: the disk is full, read-only, forbidden or has no file locks, here or within the block.
    """
    with explained(layout), _exclusive(layout) as hold:
        yield hold


@contextmanager
def _exclusive(layout: Layout) -> Iterator[Hold]:
    descriptor = _acquire(layout, lambda: _make_folder(layout.partial), shared=False)
    hold = Hold(layout, descriptor)
    done = False
    try:
        who = {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv[:6])[:300]}
        os.ftruncate(descriptor, 0)
        with suppress(OSError):  # on a full disk, the lock works without the name of its holder
            write_at(descriptor, json.dumps(who).encode(), 0)
        yield replace(hold, finished=roll_forward(layout))
    finally:
        try:
            os.ftruncate(descriptor, 0)
            # If the folder was deleted meanwhile, its present files belong to another writer.
            if hold.lasts() and not resumable(layout):
                sweep(layout)
                done = True
                if OPEN_FILES_MOVE:
                    _remove(layout)
        finally:
            os.close(descriptor)
            if done and not OPEN_FILES_MOVE:
                _remove(layout)


def _remove(layout: Layout) -> None:
    """Remove the lock, as the last file, so that no file is left that could be mixed with those of the next writer."""
    # Windows refuses it if the next writer has opened it.
    with nullcontext() if OPEN_FILES_MOVE else suppress(PermissionError):
        layout.lock.unlink(missing_ok=True)
    with suppress(OSError):  # the next writer has begun, or the folder has files of the user
        layout.partial.rmdir()


def idle(layout: Layout) -> None:
    """Make sure that no process plans, merges or edits this dataset, and change nothing.

    Raises:
        WriterBusy: a process works on the dataset.
    """
    with suppress(FileNotFoundError):  # no process has worked here since the last change was finished
        descriptor = open_file(layout.lock)
        try:
            _lock(layout, descriptor, shared=True)
        finally:
            os.close(descriptor)


@contextmanager
def shared(layout: Layout) -> Iterator[None]:
    """Lock a dataset for making shards of an existing plan. Several processes can hold this lock.

    Raises:
        InputError: there is no plan.
        WriterBusy: a process plans, merges or edits the dataset now.
    """
    with explained(layout):
        descriptor = _acquire(layout, lambda: read_head(layout), shared=True)
        try:
            os.ftruncate(descriptor, 0)  # a killed process may have left its name
            yield
        finally:
            os.close(descriptor)


def _make_folder(folder: Path) -> None:
    # exist_ok=True would raise if another process removes the folder at this moment.
    with suppress(FileExistsError):
        folder.mkdir(parents=True)


def _acquire(layout: Layout, prepare: Callable[[], object], *, shared: bool) -> int:
    """Return the descriptor of the locked file. The system releases the lock of a dead process."""
    while True:
        prepare()
        with suppress(FileNotFoundError):  # the holder finished and removed the folder between two steps of this loop
            made = not layout.lock.exists()
            descriptor = open_file(layout.lock, os.O_RDWR | os.O_CREAT)
            try:
                _lock(layout, descriptor, shared=shared)
                if Hold(layout, descriptor).lasts():
                    return descriptor
            except StorageError:
                os.close(descriptor)
                if made:  # there are no locks, so no other process can have locked it
                    _remove(layout)
                raise
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _lock(layout: Layout, descriptor: int, *, shared: bool) -> None:
    """Lock an open file. The error says who holds it, or that this file system has no locks."""
    try:
        lock(descriptor, shared=shared)
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
    holder = "other processes"  # processes that make shards share the lock, and do not write their names
    with suppress(ValueError, KeyError):
        who = json.loads(read_at(descriptor, 4096, 0))
        holder = f"process {who['pid']} on {who['host']} ({who['command']})"
    return f"{layout.final} is being written by {holder}; wait for it, or stop it first"
