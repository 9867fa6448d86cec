"""The comment line of an extended XYZ frame: ``key=value`` pairs, the cell and the periodic directions.

ASE defines the grammar. Its parser reads each character, and takes 250 us a line. This module reads the forms that
occur in data sets (bare values, and values in double quotes without backslashes) in 20 us, to the same values. It
leaves other forms to ASE. Beyond ASE, ``Lattice``, ``Properties`` and ``pbc`` may be written in any case, and ``pbc=T T
F`` needs no quotes.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import UnreadableInput

__all__ = ["parse_comment", "take_cell"]

_PAIR = re.compile(r"""([A-Za-z_][\w.\-]*)=(?:"([^"\\]*)"|([^\s"'\\={}\[\],]+))(?:\s+|$)""")
_TRUTH = {"T": True, "F": False, "true": True, "false": False, "True": True, "False": False} | {
    "TRUE": True,
    "FALSE": False,
}
_FLAG = {"t": True, "f": False, "true": True, "false": False, "1": True, "0": False}
_PBC = re.compile(r"[pP][bB][cC]\s*=\s*")
_BARE_PBC = re.compile(r"(?<!\S)(pbc)\s*=\s*(\w+(?:\s+(?:t|f|true|false|1|0)(?!\S))+)", re.IGNORECASE)
_NOT_PARSED = frozenset({"uid"})  # ASE keeps them as text, digits or not
_MATRICES = frozenset({"Lattice", "virial", "stress"})  # ASE reads nine numbers of these as columns of a matrix
_SPECIAL = _MATRICES | _NOT_PARSED | {key.upper() for key in _NOT_PARSED}
_OF_NUMBERS = "nNiI"  # nan and inf are numbers
_DIGITS = 18  # more may not fit into 64 bits


class _ForAse(Exception):  # a signal inside this module, never seen by a caller
    """The line says something that only ASE's parser understands."""


def parse_comment(line: str) -> dict[str, Any]:
    """Key -> number, boolean, array or text.

    Raises:
        UnreadableInput: a key appears twice with different values, or ``pbc`` has not three flags.
        ValueError: ASE cannot read a value.

    Example:
        >>> parse_comment('energy=-1.5 pbc="T T F" source=MPtrj')
        {'energy': -1.5, 'pbc': [True, True, False], 'source': 'MPtrj'}
    """
    text = line.strip()
    if (flags := _PBC.search(text)) and text[flags.end() : flags.end() + 1] not in ('"', "'", "[", "{"):
        text = _BARE_PBC.sub(_quoted, text)
    try:
        return _common(text)
    except _ForAse:
        from ase.io.extxyz import key_val_str_to_dict

        values: dict[str, Any] = key_val_str_to_dict(text) if text else {}
        return values


def take_cell(info: dict[str, Any]) -> tuple[NDArray[Any] | None, tuple[bool, bool, bool], str]:
    """Take the cell, the directions that repeat, and the text of ``Properties`` out of the values of a comment.

    Returns:
        (3, 3) lattice vectors as rows, A, or None; three flags, all true where a cell is given without them; the
        properties, by default ``species:S:1:pos:R:3``.

    Raises:
        UnreadableInput: one of them is written twice in different cases, or not as it must be.
    """
    found: dict[str, str] = {}
    for key in info:
        lower = key.lower()
        if lower in ("lattice", "pbc", "properties"):
            if lower in found:
                msg = f"the comment has {found[lower]!r} and {key!r}; keep one of them"
                raise UnreadableInput(msg)
            found[lower] = key
    lattice = _lattice(info.pop(found["lattice"]), found["lattice"]) if "lattice" in found else None
    pbc = _flags(info.pop(found["pbc"])) if "pbc" in found else (lattice is not None,) * 3
    properties = str(info.pop(found["properties"])) if "properties" in found else "species:S:1:pos:R:3"
    return lattice, pbc, properties


def _quoted(match: re.Match[str]) -> str:
    flags = match[2].split()
    if len(flags) != 3 or not all(flag.lower() in _FLAG for flag in flags):
        msg = f'found pbc={match[2]}; required: three flags in quotes, such as pbc="T T F"'
        raise UnreadableInput(msg)
    return f'{match[1]}="{match[2]}"'


def _common(text: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    at, end, match = 0, len(text), _PAIR.match
    while at < end:
        pair = match(text, at)
        if pair is None:
            raise _ForAse
        key, quoted, bare = pair.groups()
        value: Any
        if bare is not None and bare[0].isalpha() and bare[0] not in _OF_NUMBERS and key not in _SPECIAL:
            value = _TRUTH.get(bare, bare)
        else:
            value = _value(key, bare if quoted is None else quoted)
        if key in values and not np.array_equal(values[key], value):
            msg = f"the comment has the key {key!r} twice, with {values[key]!r} and {value!r}; keep one of them"
            raise UnreadableInput(msg)
        values[key] = value
        at = pair.end()
    return values


def _value(key: str, text: str) -> Any:
    """Return the value that ASE makes of a text without backslashes."""
    if key.lower() in _NOT_PARSED:
        return text
    if "," in text or text.startswith("_JSON "):
        raise _ForAse
    tokens = text.split()
    numbers = _numbers(tokens)
    if key in _MATRICES and (numbers is None or len(numbers) != 9):
        if key == "Lattice":
            msg = f"found Lattice={text!r}; required: nine numbers in quotes, three for each lattice vector, A"
            raise UnreadableInput(msg)
        if numbers is None:
            raise _ForAse
    if numbers is not None:
        if len(numbers) == 1:
            return numbers[0]
        return (
            np.array(numbers).reshape((3, 3), order="F")
            if key in _MATRICES and len(numbers) == 9
            else np.array(numbers)
        )
    if not tokens:
        raise _ForAse
    if tokens[0] in _TRUTH and all(token in _TRUTH for token in tokens):
        return _TRUTH[tokens[0]] if len(tokens) == 1 else [_TRUTH[token] for token in tokens]
    return text


def _numbers(tokens: list[str]) -> list[Any] | None:
    """Return the tokens as integers, else as floats. Return None if a token is not a number."""
    if not tokens or (tokens[0][0].isalpha() and tokens[0][0] not in _OF_NUMBERS):
        return None
    try:
        if "." in tokens[0]:
            return list(map(float, tokens))
        whole = list(map(int, tokens))
    except ValueError:
        try:
            return list(map(float, tokens))
        except ValueError:
            return None
    if max(map(len, tokens)) > _DIGITS:
        raise _ForAse
    return whole


def _lattice(value: Any, key: str) -> NDArray[Any]:
    array = np.asarray(value)
    if array.size != 9 or array.dtype.kind not in "iuf":
        msg = f"found {key}={value!r}; required: nine numbers in quotes, three for each lattice vector, A"
        raise UnreadableInput(msg)
    # ASE hands over the nine numbers of Lattice as columns; rows are the lattice vectors here.
    return array.T if array.shape == (3, 3) else array.reshape(3, 3)


def _flags(value: Any) -> tuple[bool, bool, bool]:
    if type(value) is list and len(value) == 3:  # booleans, as parsed
        return value[0], value[1], value[2]
    parts = value.replace(",", " ").split() if isinstance(value, str) else np.asarray(value).reshape(-1).tolist()
    flags = [part if isinstance(part, bool) else _FLAG.get(str(part).lower()) for part in parts]
    if len(flags) not in (1, 3) or None in flags:
        msg = f'found pbc={value!r}; required: three flags in quotes, such as pbc="T T F"'
        raise UnreadableInput(msg)
    a, b, c = (bool(flag) for flag in flags * (3 // len(flags)))
    return a, b, c
