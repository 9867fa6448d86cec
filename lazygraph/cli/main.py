"""The entry points: find the command, run it, turn errors into one line and an exit code.

Exit codes: 0 done, 1 done with quarantined inputs or problems found (or a traceback: a fault of lazygraph's own),
2 wrong usage or input, 3 corrupt data, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lazygraph.cli import (
    doctor,
    gc,
    info,
    labels,
    merge,
    plan,
    predict,
    salvage,
    shard,
    show,
    split,
    stats,
    train,
    verify,
    write,
)
from lazygraph.cli.output import Parser, tell_error, tell_traceback, warn, warnings_in_one_line
from lazygraph.errors import CorruptDataset, LazyGraphError

__all__ = ["main", "main_write"]

COMMANDS = {
    "write": write,
    "plan": plan,
    "shard": shard,
    "merge": merge,
    "info": info,
    "show": show,
    "stats": stats,
    "verify": verify,
    "salvage": salvage,
    "labels": labels,
    "split": split,
    "gc": gc,
    "doctor": doctor,
    "train": train,
    "predict": predict,
}
WRITE_COMMANDS = ("plan", "shard", "merge")
SAFE_PATH = "PYTHONSAFEPATH"


def main(arguments: Sequence[str] | None = None) -> int:
    """``lazygraph COMMAND ...``."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = Parser(prog="lazygraph", description="Crystal graphs on disk.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        _configure(commands.add_parser(name, help=module.SUMMARY), name)
    return _run(parser.parse_args(arguments))


def main_write(arguments: Sequence[str] | None = None) -> int:
    """``lazygraph-write SOURCE... -o NAME.lg``, and ``lazygraph-write plan|shard|merge``."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = "write"
    if arguments and arguments[0] in WRITE_COMMANDS:
        name = arguments.pop(0)
    program = "lazygraph-write" if name == "write" else f"lazygraph-write {name}"
    parser = Parser(prog=program)
    _configure(parser, name)
    return _run(parser.parse_args(arguments))


def _configure(parser: argparse.ArgumentParser, name: str) -> None:
    command = COMMANDS[name]
    parser.description, parser.epilog = command.SUMMARY, command.EXAMPLES
    parser.formatter_class, parser.allow_abbrev = argparse.RawDescriptionHelpFormatter, False
    command.add_arguments(parser)
    parser.add_argument("-T", "--traceback", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=command.run)


@contextmanager
def _children_ignore_this_folder() -> Iterator[None]:
    """Python puts the current folder first where it starts worker processes; here nothing of it is imported.

    What the user names, as in ``--model module:Class``, they find: they are told where this process looks.
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


def _run(arguments: argparse.Namespace) -> int:
    try:
        with warnings_in_one_line(), _children_ignore_this_folder():
            code: int = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        warn("lazygraph: interrupted; what is finished is kept: run the same command again to go on")
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) left: no error, and nothing more may be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (LazyGraphError, OSError) as error:
        if arguments.traceback:
            tell_traceback()
        tell_error(error)
        return 3 if isinstance(error, CorruptDataset) else 2
    except Exception:  # noqa: BLE001  # a fault of lazygraph's own, whose text may hold that of a file
        tell_traceback()
        return 1
    return code
