"""The command ``lazygraph about``."""

from __future__ import annotations

import argparse

from lazygraph.cli.options import add_dataset, add_json
from lazygraph.cli.output import say, say_json
from lazygraph.errors import InputError
from lazygraph.format.manifest import ABOUT
from lazygraph.format.store import Store
from lazygraph.writing.edit import set_about

SUMMARY = "Show or change the description of a dataset: title, licence, citation, level of theory."
EXAMPLES = f"""\
examples:
  lazygraph about mp.lg
  lazygraph about mp.lg title='Relaxed oxides' license=CC-BY-4.0 level_of_theory=PBE
  lazygraph about mp.lg doi=
      remove the DOI

The keys are {", ".join(ABOUT)}. The content id of the dataset stays the same.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    add_dataset(parser, "the dataset: a directory, or a URL to show its description")
    parser.add_argument("about", nargs="*", metavar="KEY=TEXT", help="set this entry; an empty TEXT removes it")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Change the entries that are given, and print all entries."""
    given: dict[str, str | None] = {}
    for pair in arguments.about:
        key, separator, value = pair.partition("=")
        if not (key and separator):
            msg = f"found {pair!r}; required: KEY=TEXT, such as title='Relaxed oxides'"
            raise InputError(msg)
        given[key] = value or None
    about = set_about(arguments.dataset, given) if given else Store(arguments.dataset).manifest.about
    if arguments.json:
        say_json(about)
    else:
        say(*(f"{key}: {about[key]}" for key in ABOUT if key in about))
    return 0
