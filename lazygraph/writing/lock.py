"""One writer at a time: a lock that names its holder, and that a dead process cannot keep."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lazygraph.errors import WriterBusy
from lazygraph.writing.layout import Layout
from lazygraph.writing.plan import Plan
from lazygraph.writing.publish import resumable, roll_forward, sweep
from lazygraph.writing.storage import explained

__all__ = ["exclusive", "shared"]


@contextmanager
def exclusive(layout: Layout) -> Iterator[bool]:
    """Be the only one who plans, merges or edits this dataset; first finish what a killed process had decided.

    The partial folder goes when the work is over and leaves nothing to resume.

    Yields:
        Whether a write was finished so.

    Raises:
        WriterBusy: another process is at work, with its number, host and command.
        StorageError: the place is full, read-only or forbidden, here or within the block.
    """
    with explained(layout), _exclusive(layout) as finished:
        yield finished


@contextmanager
def _exclusive(layout: Layout) -> Iterator[bool]:
    descriptor = _acquire(layout, fcntl.LOCK_EX, lambda: _make_folder(layout.partial))
    try:
        who = {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv[:6])[:300]}
        os.ftruncate(descriptor, 0)
        with suppress(OSError):  # a full disk: the lock holds without its name
            os.pwrite(descriptor, json.dumps(who).encode(), 0)
        yield roll_forward(layout)
    finally:
        try:
            os.ftruncate(descriptor, 0)
            if not resumable(layout):
                sweep(layout)
                # The lock goes last, when there is nothing left that the next writer's files could be mixed with.
                layout.lock.unlink(missing_ok=True)
                with suppress(OSError):  # the next writer is here already
                    layout.partial.rmdir()
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
        descriptor = _acquire(layout, fcntl.LOCK_SH, lambda: Plan.load(layout))
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
            descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_ino == layout.lock.stat().st_ino:
                    return descriptor
            except BlockingIOError:
                message = _who(layout, descriptor)
                os.close(descriptor)
                raise WriterBusy(message) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _who(layout: Layout, descriptor: int) -> str:
    holder = "other processes"  # those that make shards share the lock and do not sign it
    with suppress(ValueError, KeyError):
        who = json.loads(os.pread(descriptor, 4096, 0))
        holder = f"process {who['pid']} on {who['host']} ({who['command']})"
    return f"{layout.final} is being written by {holder}; wait for it, or stop it first"
