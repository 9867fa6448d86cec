"""How far a transfer is: a bar in a terminal or a notebook, and elsewhere a line a minute, as logs of jobs need it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

from lazygraph.writing.progress import EVERY, duration, in_notebook

__all__ = ["Bar", "Lines", "Transfer", "transfer"]


class Transfer:
    """Shows nothing. Subclasses show the bytes that are transferred."""

    def add(self, size: int) -> None:
        """Count bytes that were copied, or that were there and have been checked."""

    def close(self) -> None:
        """End the display."""


class Bar(Transfer):
    """A bar in a terminal or in a notebook, by ``tqdm.auto``.

    Args:
        total: bytes of all files.
        what: what is done, such as ``"pulling"``.
    """

    def __init__(self, total: int, what: str) -> None:
        from tqdm.auto import tqdm

        self._bar: Any = tqdm(total=total, unit="B", unit_scale=True, desc=what)

    def add(self, size: int) -> None:
        """Move the bar."""
        self._bar.update(size)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class Lines(Transfer):
    """One line a minute; nothing for a transfer that ends earlier.

    Args:
        total: bytes of all files.
        what: what is done, such as ``"pulling"``.
        stream: where the lines go. A closed or full one is ignored.
        clock: seconds, from any beginning.
    """

    def __init__(self, total: int, what: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._what, self._stream, self._clock = total, what, stream, clock
        self._begin = self._last = clock()
        self._done = 0

    def add(self, size: int) -> None:
        """Count bytes, and write a line if the last one is a minute old."""
        self._done += size
        now = self._clock()
        if now - self._last < EVERY:
            return
        self._last = now
        rate = max(self._done, 1) / (now - self._begin)
        done, total = self._done / 1e6, self._total / 1e6
        left = duration((self._total - self._done) / rate)
        with suppress(OSError, ValueError):
            self._stream.write(
                f"lazygraph: {self._what}: {done:,.1f} of {total:,.1f} MB, {rate / 1e6:,.1f} MB a second, {left} left\n"
            )
            self._stream.flush()


def transfer(total: int, what: str, *, show: bool) -> Transfer:
    """The display for a transfer of so many bytes: a bar, lines, or nothing where it is not to be shown."""
    if not show or sys.stderr is None:  # a program without a console has none
        return Transfer()
    return Bar(total, what) if sys.stderr.isatty() or in_notebook() else Lines(total, what, sys.stderr)
