"""Handling of standard streams that are closed, full, or abandoned by their reader."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from lazygraph.errors import StorageError
from lazygraph.storage.positioned import open_file

__all__ = ["ReaderLeft", "standard_streams"]


class ReaderLeft(Exception):
    """The program that reads stdout (head, less) has ended. This is no error, but nothing more can be written."""


class _Nowhere(io.TextIOBase):
    """A replacement for a closed stream. It records whether anything was printed."""

    lost = False

    def write(self, text: str) -> int:
        self.lost = self.lost or bool(text)
        return len(text)


class _Stdout:
    """A stream that marks its own errors, so that they differ from other errors of a command."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except OSError as error:
            self._fail(error)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        with suppress(OSError, ValueError):  # Python writes what is left once more when it ends: let that go nowhere
            os.dup2(open_file(os.devnull, os.O_WRONLY), self._stream.fileno())
        # Windows says that the argument is invalid.
        if isinstance(error, BrokenPipeError) or (sys.platform == "win32" and error.errno == errno.EINVAL):
            raise ReaderLeft from error
        msg = f"the result could not be printed: {error.strerror}; the work itself is done"
        raise StorageError(msg) from error


@contextmanager
def standard_streams() -> Iterator[None]:
    """Run a command with the available standard streams.

    Python has None in the place of a closed stream, and its number would be given to the next file that is opened:
    to a shard that is being written, say, which any library that prints would then write to.

    Raises:
        StorageError: stdout is closed and something was to be printed, or it took no more.
        ReaderLeft: nobody reads stdout any more.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(open_file(os.devnull, os.O_RDWR), True)  # which gets the lowest free number: this one
    before = sys.stdout, sys.stderr
    out: Any = _Nowhere() if sys.stdout is None else _Stdout(sys.stdout)
    sys.stdout, sys.stderr = out, sys.stderr or _Nowhere()
    try:
        yield
        out.flush()
        if isinstance(out, _Nowhere) and out.lost:
            msg = "the result could not be printed: stdout is closed; the work itself is done"
            raise StorageError(msg)
    finally:
        sys.stdout, sys.stderr = before
