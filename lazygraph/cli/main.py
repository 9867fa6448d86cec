"""The entry points: find the command, run it, and turn errors into one line and an exit code.

Exit codes: 0 success; 1 success with quarantined inputs or problems, or a bug of lazygraph (with a traceback); 2 wrong
usage or input; 3 corrupt data; 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lazygraph
from lazygraph.cli.config import with_config
from lazygraph.cli.output import Parser, log_to_stderr, tell_error, tell_traceback, warn, warnings_in_one_line
from lazygraph.cli.streams import ReaderLeft, standard_streams
from lazygraph.errors import CorruptDataset, InputError, LazyGraphError
from lazygraph.registry import Registry, unknown_name

__all__ = ["COMMANDS", "main", "main_write"]

# Each command is a module beside this one. It is imported only after Ctrl-C is handled.
COMMANDS = (
    "write",
    "plan",
    "shard",
    "merge",
    "slurm",
    "info",
    "show",
    "stats",
    "report",
    "verify",
    "salvage",
    "labels",
    "count",
    "about",
    "split",
    "concat",
    "subset",
    "pull",
    "catalogue",
    "export",
    "push",
    "cache",
    "diff",
    "duplicates",
    "remove",
    "gc",
    "doctor",
    "train",
    "predict",
    "completion",
)
WRITE_COMMANDS = ("plan", "shard", "merge")
WITH_CONFIG = ("write",)  # whose options may stand in a file; train reads its own
LEVELS = ("debug", "info", "warning", "error")
VERSION = f"lazygraph {lazygraph.__version__}"
SAFE_PATH = "PYTHONSAFEPATH"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``lazygraph COMMAND ...`` and return the exit code."""
    return _run(_parse, arguments)


def main_write(arguments: Sequence[str] | None = None) -> int:
    """Run ``lazygraph-write SOURCE... -o NAME.lg`` or ``lazygraph-write plan|shard|merge`` and return the exit code."""
    return _run(_parse_write, arguments)


def command_line() -> argparse.ArgumentParser:
    """Return the parser of ``lazygraph`` with all commands."""
    return _command_line()[0]


def _command_line() -> tuple[Parser, dict[str, Parser]]:
    parser = Parser(
        prog="lazygraph",
        description="Write, inspect, share and train on datasets of crystal graphs.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    parsers: dict[str, Parser] = {}
    for name in COMMANDS:
        parsers[name] = commands.add_parser(name, help=_module(name).SUMMARY)
        _configure(parsers[name], name)
    return parser, parsers


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser, parsers = _command_line()
    if arguments and arguments[0] in WITH_CONFIG:
        arguments[1:] = with_config(parsers[arguments[0]], arguments[1:])
    return parser.parse_args(arguments)


def _parse_write(arguments: list[str]) -> argparse.Namespace:
    name = "write"
    if arguments and arguments[0] in WRITE_COMMANDS:
        name = arguments.pop(0)
    program = "lazygraph-write" if name == "write" else f"lazygraph-write {name}"
    parser = Parser(prog=program)
    parser.add_argument("--version", action="version", version=VERSION)
    _configure(parser, name)
    return parser.parse_args(with_config(parser, arguments) if name in WITH_CONFIG else arguments)


def _configure(parser: argparse.ArgumentParser, name: str) -> None:
    command = _module(name)
    parser.description, parser.epilog = command.SUMMARY, command.EXAMPLES
    parser.formatter_class, parser.allow_abbrev = argparse.RawDescriptionHelpFormatter, False
    command.add_arguments(parser)
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="import this installed plug-in, such as a preset that a dataset or a plan names; repeat for more",
    )
    parser.add_argument(
        "--log-level", choices=LEVELS, help="also print log messages of this level and above, on stderr"
    )
    parser.add_argument("-T", "--traceback", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=command.run)


@contextmanager
def _children_ignore_this_folder() -> Iterator[None]:
    """Keep worker processes from importing modules of the current folder.

    Python puts the current folder first on the path of the processes that it starts. Modules that the user names, as in
    ``--model module:Class``, are still found, because workers get the path of this process.
    """
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(SAFE_PATH, None)
        else:
            os.environ[SAFE_PATH] = before


def _use_plugins(names: Sequence[str]) -> None:
    """Import what the user trusts; a file that names a plug-in makes nothing be imported."""
    if not names:
        return
    from lazygraph.graphs.presets import PRESET_REGISTRY
    from lazygraph.sources.detect import SOURCE_REGISTRY

    registries: tuple[Registry[Any], ...] = (PRESET_REGISTRY, SOURCE_REGISTRY)
    for name in names:
        declaring = [registry for registry in registries if name in registry.plugins()]
        if not declaring:
            known = sorted({plugin for registry in registries for plugin in registry.plugins()})
            raise InputError(unknown_name("plug-in", name, known))
        for registry in declaring:
            registry.get(name)


def _module(command: str) -> Any:
    return importlib.import_module(f"lazygraph.cli.{command}")


def _run(parse: Callable[[list[str]], argparse.Namespace], given: Sequence[str] | None) -> int:
    """Parse and run a command; ``given`` is None if the process was started for it."""
    trace = False
    try:
        with standard_streams(), warnings_in_one_line(), _children_ignore_this_folder():
            arguments = parse(list(sys.argv[1:] if given is None else given))
            trace = arguments.traceback
            if arguments.log_level is not None:
                log_to_stderr(arguments.log_level)
            _use_plugins(arguments.plugin)
            code: int = arguments.run(arguments)
    except ReaderLeft:
        code = 0
    except KeyboardInterrupt:
        warn("lazygraph: interrupted; what is finished is kept: run the same command again to continue")
        code = 130
    except (LazyGraphError, OSError) as error:
        if trace:
            tell_traceback()
        tell_error(error)
        code = 3 if isinstance(error, CorruptDataset) else 2
    except Exception:  # noqa: BLE001  # a bug; its text may contain text of a file
        tell_traceback()
        code = 1
    if given is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # everything is done: Ctrl-C may cut Python's cleanup short
    return code
