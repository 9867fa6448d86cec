"""Print functions of the commands, which keep a stranger's text from controlling the terminal.

``say`` and ``warn`` print whole lines and escape control characters and line ends. ``say_json`` prints JSON. ``Parser``
prints errors of arguments. No other code in ``lazygraph.cli`` may print; ruff checks this.
"""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO

from lazygraph.registry import unknown_name
from lazygraph.text import printable

__all__ = [
    "Parser",
    "log_to_stderr",
    "say",
    "say_json",
    "tell_error",
    "tell_traceback",
    "warn",
    "warnings_in_one_line",
]


def say(*lines: str) -> None:
    """Print lines on stdout."""
    _print(lines, sys.stdout)


def warn(*lines: str) -> None:
    """Print lines on stderr; a closed or full stderr is ignored."""
    with suppress(OSError, ValueError):
        _print(lines, sys.stderr)


def say_json(value: Any, indent: int | None = None) -> None:
    """Print a value as JSON on stdout: ASCII, with every control character escaped."""
    # json leaves this one control character as it is.
    text = json.dumps(value, indent=indent).replace("\x7f", "\\u007f")
    say(*text.split("\n"))


def tell_error(error: BaseException) -> None:
    """Print the message of an error on stderr in one line."""
    warn("lazygraph: error: " + _in_one_line(str(error)))


def tell_traceback() -> None:
    """Print the traceback of the current error on stderr."""
    # The bar marks each line as part of the traceback, because the text of an error may imitate other output.
    warn(*(f"| {line}" for line in traceback.format_exc().rstrip("\n").split("\n")))


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Print each warning of any package as one escaped line, without its position in the source."""
    before = warnings.showwarning
    warnings.showwarning = _show  # not formatwarning, which Lightning replaces when it is imported
    try:
        yield
    finally:
        warnings.showwarning = before


class Parser(argparse.ArgumentParser):
    """An argument parser that escapes its errors, because a shell pattern may expand to a hostile file name."""

    def error(self, message: str) -> NoReturn:
        """Print usage and error, with a similar name if one is unknown; then exit with 2."""
        super().error(printable(self._with_hint(message)))

    def _with_hint(self, message: str) -> str:
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message, re.DOTALL)
        if choice:
            known = re.findall(r"'?([^', ]+)'?", choice[2])
            kind = "command" if "COMMAND" in message[: choice.start()] else "value"
            where = "" if kind == "command" else message[: choice.start()].removesuffix(": ") + ": "
            return where + unknown_name(kind, choice[1], known)
        unknown = re.fullmatch(r"unrecognized arguments: (--[^ =]+).*", message, re.DOTALL)
        close = difflib.get_close_matches(unknown[1], self._options(), n=1) if unknown else []
        return f"{message}; did you mean {close[0]}?" if close else message

    def _options(self) -> set[str]:
        """The options of this parser and of its commands."""
        found = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # there is no public name
                for parser in action.choices.values():
                    found |= set(parser._option_string_actions)  # noqa: SLF001
        return found


class _Lines(logging.Handler):
    """Prints each log record as one escaped line on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(f"lazygraph: {record.levelname.lower()}: {record.name}: {_in_one_line(record.getMessage())}")


def log_to_stderr(level: str) -> None:
    """Print what the package logs, from this level on.

    Args:
        level: ``"debug"``, ``"info"``, ``"warning"`` or ``"error"``.
    """
    logger = logging.getLogger("lazygraph")
    logger.setLevel(level.upper())
    logger.propagate = False
    logger.handlers = [_Lines()]


def _show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    kind = "warning" if category is UserWarning else category.__name__
    warn(f"lazygraph: {kind}: {_in_one_line(str(message))}")


def _in_one_line(text: str) -> str:
    """Join a message of several lines, as other packages write them, into one line."""
    return re.sub(r"\s*\n\s*", " ", text)


def _print(lines: tuple[str, ...], stream: TextIO | None) -> None:
    if stream is None:  # closed before the program began
        return
    text = "".join(printable(line) + "\n" for line in lines)
    # A terminal may know less than UTF-8.
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), end="", file=stream)
