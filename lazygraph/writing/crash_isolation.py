"""Detect and isolate inputs that crash a worker.

A process notes the number of its present input in 8 bytes of the page cache, which outlive the process. If the process
dies, the next process that makes the same shard suspects this input, and tries it in a process of its own. If that
process dies too, a second one tries. The input is left out only if both die. A process that is killed by chance
therefore costs time and nothing else.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lazygraph.errors import InputTimeout, LazyGraphError, WorkerDied
from lazygraph.machine import die_with
from lazygraph.sources.time_limit import limit_child
from lazygraph.storage.files import write_atomic

__all__ = ["CrashGuard", "crash_guard", "poison_inputs"]

T = TypeVar("T")
STUCK = signal.SIGVTALRM.name  # lazygraph.sources.time_limit
TRIALS = 2  # a kill by chance, such as by a system without memory, may hit one of them
_CRUMB = struct.Struct("<Q")  # twice the number of the input, and 1 once it is read


class CrashGuard:
    """The input of this process, the input at which a process died, and the inputs that are known to kill."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path, self._descriptor = path, descriptor
        self._number = -1
        self._poison = poison_inputs(path)
        left = b"" if descriptor is None else os.pread(descriptor, _CRUMB.size, 0)
        self._suspect = _CRUMB.unpack(left)[0] if len(left) == _CRUMB.size else -1

    def reading(self, read: Callable[[], Iterable[T]]) -> Iterator[T]:
        """Yield what ``read()`` yields. Each input is noted before it is read, and again before it is used.

        Raises:
            WorkerDied: reading an input kills the process, so the inputs after it cannot be reached.
        """
        entries = iter(read())
        while True:
            self._number += 1
            self._mark(2 * self._number)
            if self._suspect == 2 * self._number and (died := self._dies(lambda: self._skim(read))):
                msg = (
                    f"reading input number {self._number} of the range killed three processes ({died}), so the inputs "
                    "after it cannot be read; remove this input from the source"
                )
                raise WorkerDied(msg)
            try:
                entry = next(entries)
            except StopIteration:
                return
            self._mark(2 * self._number + 1)
            yield entry

    def verdict(self, work: Callable[[], object]) -> LazyGraphError | None:
        """Tell why ``work`` must not be done on the input that was read last; None if it may be done.

        Returns:
            ``WorkerDied`` if one process died at the input, and then two that had nothing else to do.
            ``InputTimeout`` if they were ended because the work does not finish.
        """
        suspected = self._suspect == 2 * self._number + 1 and self._number not in self._poison
        if suspected and (died := self._dies(work)):
            self._poison[self._number] = died
            found = {str(number): name for number, name in self._poison.items()}
            write_atomic(_verdicts(self._path), json.dumps(found).encode())
        killer = self._poison.get(self._number)
        if killer is None:
            return None
        if killer == STUCK:
            return InputTimeout(
                "making its graph took more than twice the processor time that it may (max_seconds) in code that "
                "answers no signal, and so three processes were ended, two of them with it alone"
            )
        return WorkerDied(f"making its graph killed three processes ({killer}), two of them with it alone")

    def harmless(self, items: list[T], work: Callable[[T], object]) -> list[T]:
        """Return the items at which no process dies. They are tried only if a process has died at one of them.

        The caller works on them in order, and notes with ``reading`` where it is.
        """
        if self._suspect < 0:
            return items
        found = dict(enumerate(items))

        def try_all() -> None:
            for number, item in found.items():
                self._mark(number)
                work(item)

        for _ in range(len(items)):
            self._mark(next(iter(found), 0))
            if not self._dies(try_all):
                break
            left = b"" if self._descriptor is None else os.pread(self._descriptor, _CRUMB.size, 0)
            number = _CRUMB.unpack(left)[0]
            if self._dies(partial(work, found[number])):
                del found[number]
        return list(found.values())

    def _skim(self, read: Callable[[], Iterable[T]]) -> None:
        """Read from the beginning up to this input, because a child shares the file positions of its parent."""
        for _ in zip(range(self._number + 1), read(), strict=False):
            pass

    def _mark(self, place: int) -> None:
        if self._descriptor is not None:
            os.pwrite(self._descriptor, _CRUMB.pack(place), 0)

    def _dies(self, work: Callable[[], object]) -> str:
        """Return the signal that ends both processes that do only this work; empty if one of them survives."""
        died = ""
        for _ in range(TRIALS):
            died = _alone(work)
            if not died:
                break
        return died


def _alone(work: Callable[[], object]) -> str:
    """Return the signal that ends a process that does this work; empty if it survives."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            die_with(parent)  # the lock lasts as long as the child does
            limit_child()
            work()
        finally:
            os._exit(0)  # an error is not a death, and the parent will get the same error
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "" if code == 0 else signal.Signals(-code).name if code < 0 else f"exit status {code}"


@contextmanager
def crash_guard(path: Path) -> Iterator[CrashGuard]:
    """Watch over the work on one shard. The file ``path`` holds the notes until the work is done or has failed.

    Nothing is noted if another process makes the same shard at the same time, or if the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
    except OSError:
        os.close(descriptor)  # type: ignore[arg-type]
        descriptor = None
    try:
        yield CrashGuard(path, descriptor)
    finally:
        if descriptor is not None:
            with suppress(OSError):
                path.unlink()
            os.close(descriptor)


def poison_inputs(path: Path) -> dict[int, str]:
    """Number of an input within its shard -> the signal that ends its process."""
    try:
        found: dict[str, Any] = json.loads(_verdicts(path).read_bytes())
    except FileNotFoundError:
        return {}
    return {int(number): name for number, name in found.items()}


def _verdicts(path: Path) -> Path:
    return path.with_name(path.name + ".json")
