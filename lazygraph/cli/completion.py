"""The command ``lazygraph completion``."""

from __future__ import annotations

import argparse

from lazygraph.cli.output import say
from lazygraph.extras import require

SUMMARY = "Print a script that lets a shell complete commands and options."
EXAMPLES = """\
examples:
  lazygraph completion bash > ~/.local/share/bash-completion/completions/lazygraph
  lazygraph completion zsh > ~/.zfunc/_lazygraph
  lazygraph completion tcsh > ~/.lazygraph.completion.tcsh

The command needs pip install 'lazygraph[completion]'. Print the script again after an update.
"""
SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("shell", choices=SHELLS, help="the shell")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    shtab = require("shtab", "completion", "scripts for shells")
    from lazygraph.cli.main import command_line

    say(*shtab.complete(command_line(), arguments.shell).rstrip("\n").split("\n"))
    return 0
