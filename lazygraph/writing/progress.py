"""The progress of a write: a bar in a terminal or a notebook, and one line per minute in the logs of jobs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

__all__ = ["EVERY", "Bar", "Lines", "Progress", "duration", "in_notebook", "line", "progress"]

EVERY = 60.0  # s between two lines


class Progress:
    """A display that shows nothing. Subclasses show finished shards."""

    def made(self, crystals: int, quarantined: int) -> None:
        """Count a finished shard.

        Args:
            crystals: the number of inputs of the shard, including quarantined ones.
            quarantined: how many of them could not become graphs.
        """

    def tick(self) -> None:
        """Show that time passes. The writer calls this every few seconds while it waits for shards."""

    def close(self) -> None:
        """End the display."""


class Bar(Progress):
    """A bar in a terminal or in a notebook, by ``tqdm.auto``.

    Args:
        crystals: the inputs of all shards.
    """

    def __init__(self, crystals: int) -> None:
        from tqdm.auto import tqdm

        self._bar: Any = tqdm(total=crystals, unit=" crystals", desc="building graphs", smoothing=0.1)
        self._quarantined = 0

    def made(self, crystals: int, quarantined: int) -> None:
        """Move the bar by one shard."""
        self._quarantined += quarantined
        self._bar.set_postfix(quarantined=self._quarantined, refresh=False)
        self._bar.update(crystals)

    def tick(self) -> None:
        """Update the elapsed time."""
        self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class Lines(Progress):
    """A display with one line per minute. A shorter write shows nothing.

    Args:
        shards: the number of shards to make.
        crystals: the number of their inputs.
        stream: the output. Errors of a closed or full stream are ignored.
        clock: returns seconds since any moment.
    """

    def __init__(self, shards: int, crystals: int, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._all = (shards, crystals)
        self._stream, self._clock = stream, clock
        self._begin = self._last = clock()
        self._shards = self._crystals = self._quarantined = 0

    def made(self, crystals: int, quarantined: int) -> None:
        """Count a finished shard, and write a line if it is time for one."""
        self._shards += 1
        self._crystals += crystals
        self._quarantined += quarantined
        self.tick()

    def tick(self) -> None:
        """Write a line if the last one is a minute old."""
        now = self._clock()
        if now - self._last < EVERY:
            return
        self._last = now
        text = line((self._shards, self._crystals), self._all, self._quarantined, now - self._begin)
        with suppress(OSError, ValueError):
            self._stream.write(f"lazygraph: {text}\n")
            self._stream.flush()


def progress(shards: int, crystals: int, *, show: bool) -> Progress:
    """Return the display for a write of so many shards and inputs: a bar, lines, or one that shows nothing."""
    if not show or sys.stderr is None:  # a program without a console has none
        return Progress()
    return Bar(crystals) if sys.stderr.isatty() or in_notebook() else Lines(shards, crystals, sys.stderr)


def line(done: tuple[int, int], of: tuple[int, int], quarantined: int, seconds: float) -> str:
    """Describe the progress of a write in one line.

    Args:
        done: number of finished shards, and of their inputs.
        of: number of all shards, and of their inputs.
        quarantined: inputs of finished shards that could not become graphs.
        seconds: time since the first shard was begun.

    Example:
        >>> line((16, 65_536), (64, 262_144), 3, 120.0)
        '16 of 64 shards, 65,536 of 262,144 crystals, 546 a second, 3 quarantined, 6 min left'
    """
    rate = done[1] / seconds
    left = f"{duration((of[1] - done[1]) / rate)} left" if done[1] else "time left not known yet"
    return (
        f"{done[0]:,} of {of[0]:,} shards, {done[1]:,} of {of[1]:,} crystals, {rate:,.0f} a second, "
        f"{quarantined:,} quarantined, {left}"
    )


def duration(seconds: float) -> str:
    """Return a time in hours and minutes, at least one minute."""
    minutes = max(1, round(seconds / 60))
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook, in which tqdm has a bar although stderr is not a terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
