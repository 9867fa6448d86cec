"""Open shard files: one budget for the process, whatever the number of datasets and of their shards."""

from __future__ import annotations

import errno
import os
import sys
import weakref
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

import numpy as np

from lazygraph import windows
from lazygraph.errors import StorageError
from lazygraph.machine import descriptor_limit

__all__ = ["Opened", "ShardFiles", "budget", "opening"]

T = TypeVar("T")

MOST = 4096  # shard files open at once, however many the process may have
SELECTABLE = 1024  # descriptors below this number can be used with select
SPARE = 16  # files that are closed beyond those that must be, so that not every opening closes one

_POOLS: dict[int, weakref.ref[ShardFiles]] = {}
"""The open files of every dataset of this process. Changed by single operations: a lock could be held during a fork."""
_TURNS = count()


def budget(limit: int | None = None) -> int:
    """How many shard files a process keeps open: a quarter of what it may open, as pipes and sockets need some too.

    Args:
        limit: how many files it may have open; what it may now unless given.

    Example:
        >>> budget(1024), budget(20), budget(10**6)
        (256, 5, 4096)
    """
    known = descriptor_limit()[0] if limit is None else limit
    return MOST if known is None else min(max(known // 4, 1), MOST)


def _raise_limit() -> bool:
    """Let the process open as many files as ``MOST`` shards need, where its soft limit is the usual one and may rise.

    A soft limit of less than 1,024 was set by somebody, who is obeyed. Programs that call ``select`` cannot use
    descriptors from 1,024 on, so shard files take those, and all others stay below as before.

    Returns:
        Whether it was raised.
    """
    soft, hard = descriptor_limit()
    wanted = min(4 * MOST, hard or 0)
    if sys.platform == "win32" or soft is None or hard is None or not SELECTABLE <= soft < wanted:
        return False
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    except (ValueError, OSError):  # macOS allows fewer than it says
        return False
    return True


def opening(path: Path, call: Callable[[], T]) -> T:
    """What ``call``, which opens a file, gives; called again without shard files where there was no descriptor left.

    Args:
        path: the file, for the message.
        call: may be called twice.

    Raises:
        StorageError: the process, or the system, cannot open another file.
    """
    try:
        return call()
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
    for pool in _pools():
        pool.close()
    try:
        return call()
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        msg = (
            f"cannot open {path}: {error.strerror}; the process has used up its {descriptor_limit()[0]} descriptors. "
            "Nothing is wrong with the file: allow more (ulimit -n 4096), or close files and worker processes"
        )
        raise StorageError(msg) from error


class Descriptor:
    """An open shard file, closed when the last thread that reads from it lets go.

    Args:
        number: the descriptor, which belongs to this object from now on.
        size: the size of the file, as the manifest says.
    """

    __slots__ = ("number", "size")

    def __init__(self, number: int, size: int) -> None:
        self.number, self.size = number, size
        soft = descriptor_limit()[0]
        if self.number < SELECTABLE and soft is not None and soft >= 4 * SELECTABLE:
            self._move_up()

    @property
    def file(self) -> int:
        """What compiled code reads from: the descriptor, on Windows the handle."""
        if sys.platform == "win32":
            number = windows.file_handle(self.number)
        else:
            number = self.number
        return number

    def _move_up(self) -> None:
        """Leave the numbers that ``select`` can use to others. Windows has none such."""
        if sys.platform == "win32":
            return
        import fcntl

        with suppress(OSError):  # they are all taken
            high = fcntl.fcntl(self.number, fcntl.F_DUPFD_CLOEXEC, SELECTABLE)
            low, self.number = self.number, high
            os.close(low)

    def __del__(self) -> None:
        os.close(self.number)


class Opened:
    """The shard files of a dataset that are open; not changed, but replaced, so that whoever reads keeps his."""

    __slots__ = ("held", "numbers")

    def __init__(self, shards: int, held: dict[int, Descriptor]) -> None:
        self.held = held
        self.numbers = np.full(shards, -1, dtype=np.int32)
        """(shards,) what compiled code reads each from, -1 for one that is not open."""
        for shard, descriptor in held.items():
            self.numbers[shard] = descriptor.file


class ShardFiles:
    """The open shard files of one dataset, within the budget of the process. For any number of threads.

    There is no lock, which a fork could copy while it is held: where two threads open files at the same time, those of
    one of them may be closed again, and are opened when they are needed next.

    Args:
        shards: how many the dataset has.
    """

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self.now = Opened(shards, {})
        self.turn = key = next(_TURNS)
        _POOLS[key] = weakref.ref(self, lambda _: _POOLS.pop(key, None))

    def open(self, needed: Collection[int], find: Callable[[int], tuple[int, int]]) -> Opened:
        """Open these shards, no more than the budget; files of this dataset or of others are closed for them.

        Args:
            needed: their numbers.
            find: opens the file of a shard; gives its descriptor and its size.

        Raises:
            StorageError: the process cannot open another file.
        """
        self.turn = next(_TURNS)
        self._make_room(needed)
        # Of those that are open only the needed ones are kept here: the others are closed where one cannot be opened.
        held = {shard: kept for shard in needed if (kept := self.now.held.get(shard)) is not None}
        for shard in needed:
            if shard not in held:
                held[shard] = Descriptor(*find(shard))
        opened = self.now = Opened(self._shards, {**self.now.held, **held})
        while self._make_room(needed):  # other threads may have opened files since there was room
            pass
        return opened  # another thread may have put its own in the place already

    def close(self, but: Collection[int] = (), most: int | None = None) -> int:
        """Close files, those that were opened first before others.

        Args:
            but: shards that stay open.
            most: how many are closed; all unless given.

        Returns:
            How many there were.
        """
        held = self.now.held
        closed = set([shard for shard in held if shard not in but][:most])
        if closed:
            self.now = Opened(self._shards, {shard: held[shard] for shard in held if shard not in closed})
        return len(closed)

    def forget(self, shard: int) -> None:
        """Close the file of one shard."""
        self.close([other for other in self.now.held if other != shard])

    def _make_room(self, needed: Collection[int]) -> int:
        """Close files beyond the budget: of this dataset, then of those that have opened none for longest.

        Returns:
            How many were closed.
        """
        pools = _pools()
        missing = sum(shard not in self.now.held for shard in needed)
        wanted = sum(len(pool.now.held) for pool in pools) + missing
        if wanted > budget():
            _raise_limit()
        allowed = budget()
        excess = wanted - allowed
        if excess <= 0:
            return 0
        excess += SPARE if allowed > 4 * SPARE else 0
        others = sorted((pool for pool in pools if pool is not self), key=lambda pool: pool.turn)
        closed = self.close(needed, excess)
        for pool in others:
            if closed >= excess:
                break
            closed += pool.close(most=excess - closed)
        return closed


def _pools() -> list[ShardFiles]:
    while True:
        try:
            refs = tuple(_POOLS.values())
        except RuntimeError:  # another thread, or garbage collection within this very step, changed their number
            continue
        return [pool for ref in refs if (pool := ref()) is not None]
