"""Inputs that kill the process which makes their graph: seen by what a dead process left, proven alone, left out.

A process writes down which input it is at (8 bytes in the page cache, which outlive it). Whoever makes the same shard
next suspects that input, and first gives it to a process of its own, and to another if that dies: only if both do is
the input condemned. So processes that are killed by chance cost time and nothing else.
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
TRIALS = 2  # whoever kills processes by chance, such as a system without memory, may hit one of them
_CRUMB = struct.Struct("<Q")  # twice the number of the input, and 1 once it is read


class CrashGuard:
    """Which input this process is at; which one a process died at; which ones are known to kill."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path, self._descriptor = path, descriptor
        self._number = -1
        self._poison = poison_inputs(path)
        left = b"" if descriptor is None else os.pread(descriptor, _CRUMB.size, 0)
        self._suspect = _CRUMB.unpack(left)[0] if len(left) == _CRUMB.size else -1

    def reading(self, read: Callable[[], Iterable[T]]) -> Iterator[T]:
        """What ``read()`` yields, with the number of each written down before it is read and before it is used.

        Raises:
            WorkerDied: reading an input kills, so those behind it cannot be reached.
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
        """Why ``work``, on the input read last, must not be done; None where it may.

        Returns:
            ``WorkerDied`` where one process died at it, and two that had nothing else to do; ``InputTimeout`` where
            they were ended because it runs on and on.
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
        """The items at which no process died; all of them, untried, unless one was seen to die at any.

        The caller works on them in order, and tells by ``reading`` where it is.
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
        """Read up to this input, from the beginning: a child shares the file positions of its parent."""
        for _ in zip(range(self._number + 1), read(), strict=False):
            pass

    def _mark(self, place: int) -> None:
        if self._descriptor is not None:
            os.pwrite(self._descriptor, _CRUMB.pack(place), 0)

    def _dies(self, work: Callable[[], object]) -> str:
        """The signal that ends every process which does this work and nothing else; empty if one outlives it."""
        died = ""
        for _ in range(TRIALS):
            died = _alone(work)
            if not died:
                break
        return died


def _alone(work: Callable[[], object]) -> str:
    """The signal that ends a process which does this work; empty if none does."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            die_with(parent)  # which has the lock of this file as long as a child has it
            limit_child()
            work()
        finally:
            os._exit(0)  # an error is no death: the parent will meet it too
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "" if code == 0 else signal.Signals(-code).name if code < 0 else f"exit status {code}"


@contextmanager
def crash_guard(path: Path) -> Iterator[CrashGuard]:
    """Watch over the work on one shard; ``path`` is where it is written down, until the work is done or failed.

    Where another process makes the same shard at the same time, or the file system has no locks, nothing is written.
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
    """Number of an input within its shard -> the signal with which it kills."""
    try:
        found: dict[str, Any] = json.loads(_verdicts(path).read_bytes())
    except FileNotFoundError:
        return {}
    return {int(number): name for number, name in found.items()}


def _verdicts(path: Path) -> Path:
    return path.with_name(path.name + ".json")
