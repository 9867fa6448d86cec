"""Detect and isolate inputs that crash a worker.

A process notes the number of its present input in 8 bytes of the page cache, which outlive the process. If the process
dies, the next process that makes the same shard suspects this input, and tries it in a process of its own: a fork, or
a new Python where a fork is not possible. If that process dies too, a second one tries. The input is left out only if
both die. A process that is killed by chance therefore costs time and nothing else.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from lazygraph.errors import InputTimeout, LazyGraphError, WorkerDied
from lazygraph.graphs.presets import PRESET_REGISTRY
from lazygraph.machine import FORKS, die_with
from lazygraph.sources.detect import SOURCE_REGISTRY
from lazygraph.sources.time_limit import EXIT_STATUS, HAS_TIMERS, limit_child, present_limit
from lazygraph.storage.files import write_atomic
from lazygraph.storage.locks import OPEN_FILES_MOVE, try_lock
from lazygraph.storage.positioned import open_file, read_at, write_at

__all__ = ["CrashGuard", "crash_guard", "poison_inputs"]

T = TypeVar("T")
STUCK = "SIGVTALRM"  # what ends a process in code that does not return: lazygraph.sources.time_limit
TRIALS = 2  # a kill by chance, such as by a system without memory, may hit one of them
_CRUMB = struct.Struct("<Q")  # twice the number of the input, and 1 once it is read


class CrashGuard:
    """The input of this process, the input at which a process died, and the inputs that are known to kill."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path, self._descriptor = path, descriptor
        self._number = -1
        self._poison = poison_inputs(path)
        left = b"" if descriptor is None else read_at(descriptor, _CRUMB.size, 0)
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
            if self._suspect == 2 * self._number and (died := _kills(partial(_skim, read, self._number))):
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

        Args:
            work: the work, which can be pickled by cloudpickle.

        Returns:
            ``WorkerDied`` if one process died at the input, and then two that had nothing else to do.
            ``InputTimeout`` if they were ended because the work does not finish.
        """
        suspected = self._suspect == 2 * self._number + 1 and self._number not in self._poison
        if suspected and (died := _kills(work)):
            self._poison[self._number] = died
            found = {str(number): name for number, name in self._poison.items()}
            write_atomic(_verdicts(self._path), json.dumps(found).encode())
        killer = self._poison.get(self._number)
        if killer is None:
            return None
        if killer == STUCK:
            return InputTimeout(
                "making its graph took more than twice the time that it may (max_seconds) in code that answers no "
                "signal, and so three processes were ended, two of them with it alone"
            )
        return WorkerDied(f"making its graph killed three processes ({killer}), two of them with it alone")

    def harmless(self, items: list[T], work: Callable[[T], object]) -> list[T]:
        """Return the items at which no process dies. They are tried only if a process has died at one of them.

        The caller works on them in order, and notes with ``reading`` where it is.
        """
        if self._suspect < 0:
            return items
        found = dict(enumerate(items))
        for _ in range(len(items)):
            self._mark(next(iter(found), 0))
            if not _kills(partial(_try_all, self._path, found, work)):
                break
            left = b"" if self._descriptor is None else read_at(self._descriptor, _CRUMB.size, 0)
            number = _CRUMB.unpack(left)[0]
            if _kills(partial(work, found[number])):
                del found[number]
        return list(found.values())

    def _mark(self, place: int) -> None:
        if self._descriptor is not None:
            write_at(self._descriptor, _CRUMB.pack(place), 0)


def _skim(read: Callable[[], Iterable[T]], number: int) -> None:
    """Read from the beginning up to an input, because a fork shares the file positions of its parent."""
    for _ in zip(range(number + 1), read(), strict=False):
        pass


def _try_all(path: Path, items: dict[int, T], work: Callable[[T], object]) -> None:
    """Work on all items, and note in a file at which one this process is."""
    descriptor = open_file(path, os.O_RDWR)
    for number, item in items.items():
        write_at(descriptor, _CRUMB.pack(number), 0)
        work(item)
    os.close(descriptor)


# ---- the work in another process ----


def _kills(work: Callable[[], object]) -> str:
    """Return the signal that ends both processes that do only this work; empty if one of them survives."""
    died = ""
    for _ in range(TRIALS):
        died = _named(_forked(work) if FORKS else _spawned(work))
        if not died:
            break
    return died


def _named(code: int) -> str:
    """Return what ended a process with this exit status; empty if it survived."""
    if code < 0:
        return signal.Signals(-code).name
    if code == EXIT_STATUS and not HAS_TIMERS:
        return STUCK
    return "" if code == 0 else f"exit status {code}" if code < 256 else f"exit status 0x{code:08X}"  # of Windows


def _forked(work: Callable[[], object]) -> int:
    """Return the exit status of a fork of this process that does this work."""
    parent, seconds = os.getpid(), present_limit()
    code = 0
    if sys.platform != "win32":
        child = os.fork()
        if child == 0:
            _work_and_exit(parent, seconds, work)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code


_PROGRAM = "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); pickle.load(sys.stdin.buffer)()"


def _spawned(work: Callable[[], object]) -> int:
    """Return the exit status of a new Python that does this work, where a process cannot continue in a fork.

    Raises:
        WorkerDied: it ended before it began the work, which says nothing about the work.
    """
    import cloudpickle

    plugins = PRESET_REGISTRY.used(), SOURCE_REGISTRY.used()
    call = partial(_begin, os.getpid(), present_limit(), plugins, cloudpickle.dumps(work))
    with subprocess.Popen(  # noqa: S603  # this Python
        [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        begun, _ = child.communicate(pickle.dumps(sys.path) + pickle.dumps(call))
    if not begun:
        msg = (
            f"an input that may have killed a process cannot be tried again, because a new Python ({sys.executable}) "
            f"ended with exit status {child.returncode} before it began; see its message above"
        )
        raise WorkerDied(msg)
    return child.returncode


def _begin(parent: int, seconds: float, plugins: tuple[tuple[str, ...], tuple[str, ...]], work: bytes) -> None:
    """Do pickled work in a new process, with the plug-ins of the process that started it."""
    PRESET_REGISTRY.use(plugins[0])
    SOURCE_REGISTRY.use(plugins[1])
    loaded = pickle.loads(work)  # noqa: S301  # of the process that started this one
    os.write(1, b"begun")
    os.dup2(open_file(os.devnull, os.O_WRONLY), 1)
    _work_and_exit(parent, seconds, loaded)


def _work_and_exit(parent: int, seconds: float, work: Callable[[], object]) -> NoReturn:
    try:
        die_with(parent)  # the lock lasts as long as a fork does
        limit_child(seconds)
        work()
    finally:
        os._exit(0)  # an error is not a death, and the parent will get the same error


@contextmanager
def crash_guard(path: Path) -> Iterator[CrashGuard]:
    """Watch over the work on one shard. The file ``path`` holds the notes until the work is done or has failed.

    Nothing is noted if another process makes the same shard at the same time, or if the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = open_file(path, os.O_RDWR | os.O_CREAT)
    descriptor = opened if try_lock(opened) else None
    if descriptor is None:
        os.close(opened)
    try:
        yield CrashGuard(path, descriptor)
    finally:
        if descriptor is not None:
            if not OPEN_FILES_MOVE:
                os.close(descriptor)
            with suppress(OSError):  # another process has begun the same shard
                path.unlink()
            if OPEN_FILES_MOVE:
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
