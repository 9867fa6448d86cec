"""Whether anybody still works: the workers of an executor may all be gone, and its futures then never finish.

A worker writes down every input that it begins (:mod:`lazygraph.writing.crash_isolation`), on the file system that all
share. So a slow shard gives signs of life all the time, wherever it is made and whatever the executor knows of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from lazygraph.errors import WorkerDied
from lazygraph.writing.layout import Layout

__all__ = ["SignsOfLife"]

# The wall-clock time that one input may take is not known, but its processor time is: a suspect is tried three times,
# each time up to twice as long as it may take, on machines that have other work too.
SLOWEST = 20


class SignsOfLife:
    """Looks for what workers write down, and ends a write that waits for nobody.

    Args:
        layout: where the dataset is made.
        patience: seconds without a sign of life after which the write ends.
        max_seconds: processor time that an input may take, s. Workers are silent meanwhile. Where it takes longer than
            ``patience``, they may be silent for 20 times as long, unless the executor says that there are none.
        clock: seconds, from any beginning.
    """

    def __init__(
        self, layout: Layout, patience: float, max_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._layout, self._patience, self._clock = layout, patience, clock
        self._silence = max(patience, SLOWEST * max_seconds)
        self._every = min(30.0, patience / 4)  # s between two looks: one is a listing of a folder
        self._last = self._looked = clock()
        self._found = self._written()

    def seen(self) -> None:
        """Note a sign of life that the executor gave, such as a finished shard."""
        self._last = self._clock()

    def check(self, workers: Callable[[], int | None]) -> None:
        """Look for signs of life, every now and then.

        Args:
            workers: asks how many workers there are; None where that is not known.

        Raises:
            WorkerDied: there were none for too long.
        """
        now = self._clock()
        if now - self._looked < self._every:
            return
        self._looked = now
        found = self._written()
        if found != self._found:
            self._found, self._last = found, now
            return
        silent = now - self._last
        if silent < self._patience:
            return
        none = workers() == 0
        if none or silent >= self._silence:
            who = "the executor has had no worker" if none else "no worker has begun or finished an input"
            limit = self._patience if none else self._silence
            msg = (
                f"{who} for {silent:,.0f} s (limit {limit:,.0f} s); start workers, and see in their logs why they "
                "ended. If workers may wait longer in a queue, raise the limit: patience= of lazygraph.executors. What "
                "is finished is kept: run the same command again to continue"
            )
            raise WorkerDied(msg)

    def _written(self) -> frozenset[tuple[str, int]]:
        """The notes of workers and when they changed."""
        found = set()
        # A worker that finishes a shard takes its note away.
        with suppress(OSError), os.scandir(self._layout.notes) as entries:
            for entry in entries:
                with suppress(OSError):
                    found.add((entry.name, entry.stat().st_mtime_ns))
        return frozenset(found)
