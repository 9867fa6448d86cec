"""How far a transfer or an export is: a bar in a terminal or a notebook, and elsewhere a line a minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

from lazygraph.writing.progress import EVERY, duration, in_notebook

__all__ = ["Bar", "Lines", "Transfer", "counted", "transfer"]


class Transfer:
    """Shows nothing. Subclasses show the bytes or the graphs that are transferred."""

    def add(self, size: int) -> None:
        """Count bytes that were copied, or that were there and have been checked, or graphs that were written."""

    def close(self) -> None:
        """End the display."""


class Bar(Transfer):
    """A bar in a terminal or in a notebook, by ``tqdm.auto``.

    Args:
        total: bytes of all files, or graphs.
        what: what is done, such as ``"pulling"``.
        graphs: whether graphs are counted, and not bytes.
    """

    def __init__(self, total: int, what: str, *, graphs: bool = False) -> None:
        from tqdm.auto import tqdm

        unit = " graphs" if graphs else "B"
        self._bar: Any = tqdm(total=total, unit=unit, unit_scale=not graphs, desc=what)

    def add(self, size: int) -> None:
        """Move the bar."""
        self._bar.update(size)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class Lines(Transfer):
    """One line a minute; nothing for a transfer that ends earlier.

    Args:
        total: bytes of all files, or graphs.
        what: what is done, such as ``"pulling"``.
        stream: where the lines go. A closed or full one is ignored.
        clock: seconds, from any beginning.
        graphs: whether graphs are counted, and not bytes.
    """

    def __init__(
        self,
        total: int,
        what: str,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        *,
        graphs: bool = False,
    ) -> None:
        self._total, self._what, self._stream, self._clock = total, what, stream, clock
        self._graphs = graphs
        self._begin = self._last = clock()
        self._done = 0

    def add(self, size: int) -> None:
        """Count bytes or graphs, and write a line if the last one is a minute old."""
        self._done += size
        now = self._clock()
        if now - self._last < EVERY:
            return
        self._last = now
        rate = max(self._done, 1) / (now - self._begin)
        left = duration((self._total - self._done) / rate)
        if self._graphs:
            far = f"{self._done:,} of {self._total:,} graphs, {rate:,.0f} a second"
        else:
            far = f"{self._done / 1e6:,.1f} of {self._total / 1e6:,.1f} MB, {rate / 1e6:,.1f} MB a second"
        with suppress(OSError, ValueError):
            self._stream.write(f"lazygraph: {self._what}: {far}, {left} left\n")
            self._stream.flush()


def transfer(total: int, what: str, *, show: bool) -> Transfer:
    """The display for a transfer of so many bytes: a bar, lines, or nothing where it is not to be shown."""
    if not show or sys.stderr is None:  # a program without a console has none
        return Transfer()
    return Bar(total, what) if sys.stderr.isatty() or in_notebook() else Lines(total, what, sys.stderr)


def counted(total: int, what: str, *, show: bool) -> Transfer:
    """The display for work on so many graphs: a bar, lines, or nothing where it is not to be shown."""
    if not show or sys.stderr is None:
        return Transfer()
    if sys.stderr.isatty() or in_notebook():
        return Bar(total, what, graphs=True)
    return Lines(total, what, sys.stderr, graphs=True)
