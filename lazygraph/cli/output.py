"""Everything that the commands print goes through here: texts of a stranger's files must not steer a terminal.

``say`` and ``warn`` print whole lines, in which nothing that came from a file can end the line or give the terminal an
order; ``say_json`` prints JSON, ``Parser`` the errors of arguments. Nothing else in ``lazygraph.cli`` may print, which
ruff checks.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO

from lazygraph.text import printable

__all__ = ["Parser", "say", "say_json", "tell_error", "tell_traceback", "warn", "warnings_in_one_line"]


def say(*lines: str) -> None:
    """Print lines on stdout."""
    _print(lines, sys.stdout)


def warn(*lines: str) -> None:
    """Print lines on stderr, if that can be."""
    with suppress(OSError, ValueError):
        _print(lines, sys.stderr)


def say_json(value: Any, indent: int | None = None) -> None:
    """Print a value as JSON on stdout: ASCII, with every control character as JSON writes it."""
    # json leaves this one control character as it is.
    text = json.dumps(value, indent=indent).replace("\x7f", "\\u007f")
    say(*text.split("\n"))


def tell_error(error: BaseException) -> None:
    """Print the message of an error on stderr, in one line."""
    warn("lazygraph: error: " + _in_one_line(str(error)))


def tell_traceback() -> None:
    """Print the traceback of the error that is being handled on stderr."""
    # The bar marks its lines, which the text of an error may have made.
    warn(*(f"| {line}" for line in traceback.format_exc().rstrip("\n").split("\n")))


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Within the block, ``warnings.warn`` of any package prints one escaped line, without the place in the source."""
    before = warnings.showwarning
    warnings.showwarning = _show  # not formatwarning, which Lightning replaces when it is imported
    try:
        yield
    finally:
        warnings.showwarning = before


class Parser(argparse.ArgumentParser):
    """A parser of arguments whose errors are escaped: a pattern of the shell may have become a hostile file name."""

    def error(self, message: str) -> NoReturn:
        """Print usage and error, and exit with 2."""
        super().error(printable(message))


def _show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    kind = "warning" if category is UserWarning else category.__name__
    warn(f"lazygraph: {kind}: {_in_one_line(str(message))}")


def _in_one_line(text: str) -> str:
    """A message of another package may have several lines."""
    return re.sub(r"\s*\n\s*", " ", text)


def _print(lines: tuple[str, ...], stream: TextIO | None) -> None:
    if stream is None:  # closed before the program began
        return
    text = "".join(printable(line) + "\n" for line in lines)
    # A terminal may know less than UTF-8.
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), end="", file=stream)
