"""Detection of dead executors: all workers may be gone, and the futures then never finish.

A worker notes every input that it begins (:mod:`lazygraph.writing.crash_isolation`) on the shared file system. A slow
shard therefore gives signs of life all the time, on any machine and with any executor.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from lazygraph.errors import WorkerDied
from lazygraph.writing.layout import Layout

__all__ = ["SignsOfLife"]

# The limit of an input is processor time, and its wall-clock time is not known. A suspect is tried three times, each
# time up to twice the limit, on machines that may have other work too.
SLOWEST = 20


class SignsOfLife:
    """A watch over the notes of workers, which ends a write whose workers are gone.

    Args:
        layout: the paths of the dataset.
        patience: seconds without a sign of life after which the write ends.
        max_seconds: processor time that an input may take, s. Workers are silent meanwhile. If it is longer than
            ``patience``, they may be silent for 20 times as long, unless the executor says that there are no workers.
        clock: returns seconds since any moment.
    """

    def __init__(
        self, layout: Layout, patience: float, max_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._layout, self._patience, self._clock = layout, patience, clock
        self._silence = max(patience, SLOWEST * max_seconds)
        self._every = min(30.0, patience / 4)  # s between two listings of the folder of notes
        self._last = self._looked = clock()
        self._found = self._written()

    def seen(self) -> None:
        """Note a sign of life that the executor gave, such as a finished shard."""
        self._last = self._clock()

    def check(self, workers: Callable[[], int | None]) -> None:
        """Look for signs of life, if the last look is long enough ago.

        Args:
            workers: returns the number of workers; None if it is not known.

        Raises:
            WorkerDied: there were no signs of life for too long.
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
        """Return the notes of workers, with the times of their last changes."""
        found = set()
        # A worker removes its note when it finishes a shard.
        with suppress(OSError), os.scandir(self._layout.notes) as entries:
            for entry in entries:
                with suppress(OSError):
                    found.add((entry.name, entry.stat().st_mtime_ns))
        return frozenset(found)
