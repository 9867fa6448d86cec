"""The options of ``lazygraph train``, read from the source of ``TrainOptions`` without importing torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["TrainOption", "train_options"]

SOURCE = Path(__file__).resolve().parents[1] / "training" / "options.py"


def whole_numbers(text: str) -> list[int]:
    """Parse whole numbers with commas between them, such as ``100,200``."""
    return [int(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    """Parse names with commas between them, such as ``layers.0.*,atoms.*``."""
    return text.split(",")


KINDS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "Sequence[int]": whole_numbers,
    "Sequence[str]": names,
}
METAVARS = {
    "str": "STR",
    "int": "INT",
    "float": "FLOAT",
    "Sequence[int]": "INT,INT,...",
    "Sequence[str]": "NAME,NAME,...",
}


class TrainOption(NamedTuple):
    """One field of ``TrainOptions`` that is a number, a text, or several whole numbers."""

    name: str
    kind: Callable[[str], Any]
    """What parses the text of the command line."""
    metavar: str
    default: Any
    choices: tuple[str, ...] | None
    """The values that a text may have; None for any."""
    text: str
    """What the docstring says, in one line, with the default."""


@lru_cache(maxsize=1)
def train_options() -> tuple[TrainOption, ...]:
    """Return the options in the order of the class, as its source states them.

    Importing ``lazygraph.training`` needs torch and Lightning, and takes seconds. ``--help`` must not.
    """
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    (options,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "TrainOptions")
    described = _described(ast.get_docstring(options) or "")
    choices = _choices(tree)
    found = []
    for node in options.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        name, annotation = node.target.id, ast.unparse(node.annotation).removesuffix(" | None")
        if annotation not in KINDS or node.value is None:
            continue
        default = ast.literal_eval(node.value)
        allowed = choices.get(name)
        text = _text(described[name], default, allowed)
        found.append(TrainOption(name, KINDS[annotation], METAVARS[annotation], default, allowed, text))
    return tuple(found)


def _text(described: str, default: Any, choices: tuple[str, ...] | None) -> str:
    """The help of an option: what the docstring says, and the choices and the default where it does not say them."""
    text = described.rstrip(".")
    if choices is not None and not all(choice in described for choice in choices):
        text += f": {', '.join(choices)}"
    # The docstring explains None in its own words.
    return text if default in (None, ()) or "default" in described else f"{text} (default {default})"


def _described(docstring: str) -> dict[str, str]:
    """The entries of the section Args: name -> text in one line, without the marks of reStructuredText."""
    section = docstring.partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.split(r"^    (?=\w)", section, flags=re.MULTILINE)
    found = {}
    for entry in filter(None, entries):
        name, _, text = entry.partition(":")
        plain = re.sub(r":\w+:`([^`]+)`", r"\1", " ".join(text.split()))
        found[name] = plain.replace("``", "")
    return found


def _choices(tree: ast.Module) -> dict[str, tuple[str, ...]]:
    """The choices of texts: the constants ``CHOICES``, ``OPTIONAL_CHOICES`` and ``LOSSES`` of the module."""
    values: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id in ("CHOICES", "OPTIONAL_CHOICES", "LOSSES"):
                values[target.id] = ast.literal_eval(node.value)
    losses = tuple(loss for several in values["LOSSES"].values() for loss in several)
    return {**values["CHOICES"], **values["OPTIONAL_CHOICES"], "loss": losses}
