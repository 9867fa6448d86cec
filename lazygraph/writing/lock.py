"""One writer at a time: a lock that names its holder, and that a dead process cannot keep."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lazygraph.errors import WriterBusy
from lazygraph.writing.layout import Layout
from lazygraph.writing.publish import roll_forward

__all__ = ["exclusive", "shared"]


@contextmanager
def exclusive(layout: Layout) -> Iterator[None]:
    """Be the only one who plans, merges or edits this dataset; first finish what a killed process had decided.

    The partial folder goes when the work is over and leaves nothing to resume.

    Raises:
        WriterBusy: another process is at work, with its number, host and command.
    """
    descriptor = _acquire(layout, fcntl.LOCK_EX)
    try:
        who = {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv[:6])[:300]}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(who).encode(), 0)
        roll_forward(layout)
        yield
    finally:
        if not layout.plan.exists():
            shutil.rmtree(layout.partial, ignore_errors=True)
        os.close(descriptor)


@contextmanager
def shared(layout: Layout) -> Iterator[None]:
    """Make single shards of an existing plan, beside others who do.

    Raises:
        WriterBusy: a process plans, merges or edits right now.
    """
    descriptor = _acquire(layout, fcntl.LOCK_SH)
    try:
        yield
    finally:
        os.close(descriptor)


def _acquire(layout: Layout, mode: int) -> int:
    """The descriptor of the locked lock file. The kernel drops the lock with the process: a killed one blocks nobody."""
    while True:
        layout.partial.mkdir(parents=True, exist_ok=True)
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
    holder = "another process"
    with suppress(ValueError, KeyError):
        who = json.loads(os.pread(descriptor, 4096, 0))
        holder = f"process {who['pid']} on {who['host']} ({who['command']})"
    return f"{layout.final} is being written by {holder}; wait for it, or stop it first"
