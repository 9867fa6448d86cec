"""``--config FILE.toml``: the options of a command in a file."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lazygraph.errors import InputError
from lazygraph.registry import unknown_name

__all__ = ["add_config", "with_config"]


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``."""
    parser.add_argument(
        "--config",
        metavar="FILE.toml",
        help="read options from this file, under their long names; options on the command line override it",
    )


def with_config(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """Return the arguments with those of the file that ``--config`` names in front of them.

    The file has a line for each option, such as ``max_neighbors = 12``; ``append = true`` gives a flag, and a list
    repeats an option. ``source`` and ``output`` stand there too. They are parsed like arguments, so all checks apply.

    Args:
        parser: of the command; it must have ``--config``.
        arguments: of the command.

    Raises:
        InputError: the file cannot be read, or names an option that the command does not have.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    path = finder.parse_known_args(list(arguments))[0].config
    if path is None:
        return list(arguments)
    given = {action.dest for action in _given(parser, arguments)}
    positionals = [action.dest for action in parser._actions if not action.option_strings]  # noqa: SLF001  # no public way
    has_positional = any(not word.startswith("-") for word in _free_words(parser, arguments))
    values = _read(path)
    known = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}  # noqa: SLF001
    options: list[str] = []
    words: list[str] = []
    for key, value in values.items():
        name = key.replace("-", "_")
        action = known.get(name) or next(
            (a for a in known.values() if f"--{key.replace('_', '-')}" in a.option_strings), None
        )
        if action is None:
            names = sorted(known)
            msg = f"{path}: {unknown_name('option', key, names)}"
            raise InputError(msg)
        if action.dest in positionals:
            words += [] if has_positional else _texts(path, key, value)
        elif action.dest not in given:
            options += _as_arguments(path, key, value, action)
    return [*options, *arguments, *(["--", *words] if words else [])]


def _given(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Iterator[argparse.Action]:
    """The options that the arguments name."""
    for word in arguments:
        if word == "--":
            return
        name = word.partition("=")[0]
        action = parser._option_string_actions.get(name) or parser._option_string_actions.get(word[:2])  # noqa: SLF001
        if word.startswith("-") and action is not None:
            yield action


def _free_words(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Iterator[str]:
    """The arguments that are no options and no values of options."""
    takes = False
    for position, word in enumerate(arguments):
        if word == "--":
            yield from arguments[position + 1 :]
            return
        action = parser._option_string_actions.get(word.partition("=")[0])  # noqa: SLF001
        if word.startswith("-") and len(word) > 1:
            takes = action is not None and action.nargs != 0 and "=" not in word
        elif takes:
            takes = False
        else:
            yield word


def _read(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise InputError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is no TOML file: {error}"
        raise InputError(msg) from error


def _as_arguments(path: str, key: str, value: Any, action: argparse.Action) -> list[str]:
    option = max(action.option_strings, key=len)
    if action.nargs == 0:
        if not isinstance(value, bool):
            msg = f"{path}: found {key} = {value!r}; required: true or false"
            raise InputError(msg)
        # A flag such as --no-progress stands in the file under the name of what it turns off.
        return [option] if value == bool(action.const) else []
    if isinstance(value, dict):
        return [f"{option}={name}={text}" for name, each in value.items() for text in _texts(path, key, each)]
    return [f"{option}={text}" for text in _texts(path, key, value)]


def _texts(path: str, key: str, value: Any) -> list[str]:
    """A value, or a list of values, as a user would type them."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, (str, int, float)) and not isinstance(one, bool) for one in values):
        msg = f"{path}: found {key} = {value!r}; required: a text, a number, or a list of them"
        raise InputError(msg)
    return [str(one) for one in values]
