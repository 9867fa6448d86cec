"""One record of a table or of JSON (names -> values) -> :class:`Entry`: its structure, its id, its labels.

Rules, the same for every format that is made of records:

- The structure is what stands under ``structure``, ``atoms``, ``cif`` or ``poscar`` if that is one, else the first
  value that is one. A structure is a dict (jarvis, pymatgen, ASE) or a text (CIF, POSCAR, or the JSON of such a dict).
- The id is what stands under ``id_key`` if one was given, else under the first of :data:`~.base.ID_KEYS` that has a
  value, else the key or the position of the record.
- Every other value is a label, except dicts and names that begin with ``@`` (monty's ``@module``, ``@class``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.sources import poscar
from lazygraph.sources.base import ID_KEYS, Entry, Remark, attempt
from lazygraph.sources.cif import parse_cif
from lazygraph.sources.options import DEFAULT_OPTIONS, SourceOptions

__all__ = [
    "STRUCTURE_KEYS",
    "broken_entry",
    "crystal_of",
    "entry_of",
    "holds_structure",
    "id_text",
    "require_id_key",
    "structure_key",
    "with_line_feeds",
]

# Never labels, even where their value is missing or broken.
STRUCTURE_KEYS: tuple[str, ...] = ("structure", "atoms", "cif", "poscar")


def entry_of(
    record: Any, id_key: str | None, default: str, key: str | None = None, options: SourceOptions = DEFAULT_OPTIONS
) -> Entry:
    """The entry that a record makes; never raises for a bad one.

    Args:
        record: names -> values, or what stands in its place.
        id_key: the name of the id, if one was chosen.
        default: the id if nothing else gives one.
        key: the key of the record itself, if it has one.
        options: how structures are read.
    """
    if not isinstance(record, dict):
        msg = f"found {type(record).__name__} {str(record)[:40]!r}; required: an object"
        return broken_entry(key or default, UnreadableInput(msg))
    structure = structure_key(record)
    # A dict that is a structure itself stands for a record that holds nothing else.
    bare = structure is None and holds_structure(record)
    used, error = None, None
    try:
        name, used = _id_of(record, id_key, key or default)
    except UnreadableInput as reason:
        name, error = default, reason
    labels = (
        {}
        if bare
        else {
            key: value
            for key, value in record.items()
            if key not in (structure, used)
            and not isinstance(value, dict)
            and key not in STRUCTURE_KEYS
            and not key.startswith("@")
        }
    )
    crystal: Crystal | InputError
    remarks: list[Remark] = []
    if error is not None:
        crystal = error
    elif bare:
        crystal = attempt(crystal_of, record, options, remarks)
    elif structure is None:
        msg = f"found no structure under the keys {list(record)[:12]}; required: a dict, CIF or POSCAR text under one"
        crystal = UnreadableInput(msg)
    else:
        crystal = attempt(crystal_of, record[structure], options, remarks)
    return Entry(name, crystal, labels, remarks=tuple(remarks))


def broken_entry(name: str, reason: InputError) -> Entry:
    """The entry of an input of which nothing but its id or place is known."""
    return Entry(name if _is_text(name) else ascii(name), reason, {})


def require_id_key(record: Mapping[str, Any], id_key: str | None) -> None:
    """Refuse an ``id_key`` that the first record does not have.

    Raises:
        UnreadableInput: it names the keys that there are.
    """
    if id_key is not None and id_key not in record:
        found = [key for key in record if key and not isinstance(record[key], dict)]
        msg = f"the first record has no key {id_key!r}; it has {found[:20]}: pass one of them as the id key, or none"
        raise UnreadableInput(msg)


def structure_key(record: Mapping[str, Any]) -> str | None:
    """The key under which a record holds its structure."""
    for key in STRUCTURE_KEYS:
        value = record.get(key)
        if isinstance(value, dict) or holds_structure(value):
            return key
    return next((key for key, value in record.items() if holds_structure(value)), None)


def holds_structure(value: Any) -> bool:
    """Whether a value looks like one structure; it may still turn out to be broken."""
    if isinstance(value, dict):
        return (
            "lattice_mat" in value
            or ("lattice" in value and "sites" in value)
            or ("numbers" in value and ("positions" in value or "scaled_positions" in value))
            or value.get("@class") == "Structure"
        )
    return isinstance(value, str) and bool(_text_format(with_line_feeds(value)))


def crystal_of(value: Any, options: SourceOptions = DEFAULT_OPTIONS, remarks: list[Remark] | None = None) -> Crystal:
    r"""The crystal of a structure dict or text; line breaks written as ``\n`` (two characters) are read as such.

    Args:
        value: the dict or the text.
        options: how it is read.
        remarks: takes what the report should tell of a structure that is kept.

    Raises:
        InputError: it is no structure, or a broken one.
    """
    if not isinstance(value, str):
        return Crystal.from_any(value)
    text = with_line_feeds(value)
    match _text_format(text):
        case "cif":
            return parse_cif(text, options.cif_formula, remarks)
        case "poscar":
            return poscar.parse_poscar(text)
        case "json":
            return Crystal.from_any(json.loads(text))
    msg = f"found the text {value[:40]!r}; required: CIF, POSCAR or the JSON of a structure"
    raise UnreadableInput(msg)


def with_line_feeds(text: str) -> str:
    r"""The text with line feeds where it has CRLF, or ``\n`` as two characters and no line break at all."""
    if "\n" in text:
        return text.replace("\r\n", "\n") if "\r" in text else text
    return text if text.lstrip().startswith("{") else text.replace("\\n", "\n")


def _text_format(text: str) -> str:
    if text.lstrip()[:1] == "{":
        return "json" if '"lattice' in text or '"numbers"' in text else ""
    if "\n" not in text:
        return ""
    if "_cell_length_a" in text:
        return "cif"
    return "poscar" if poscar.sniff(text.encode("utf-8", "replace")) else ""


def _id_of(record: Mapping[str, Any], id_key: str | None, fallback: str) -> tuple[str, str | None]:
    """The id, and the key that it stands under or should stand under."""
    for key in ID_KEYS if id_key is None else (id_key,):
        value = record.get(key)
        if value is not None and value != "":
            return id_text(value), key
    if id_key is None:
        return id_text(fallback), next((key for key in ID_KEYS if key in record), None)
    found = "null or nothing" if id_key in record else "no such key"
    msg = f"found {found} under the id key {id_key!r}; required: an id"
    raise UnreadableInput(msg)


def id_text(value: Any) -> str:
    """An id as text; the number 5168 or 5168.0 is ``"5168"``.

    Raises:
        UnreadableInput: it is neither a text nor a number.
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (str, int, float)) and _is_text(text := str(value)):
        return text
    msg = (
        f"found the id {str(value)[:40]!a} ({type(value).__name__}); required: a text that UTF-8 can write, or a number"
    )
    raise UnreadableInput(msg)


def _is_text(text: str) -> bool:
    """JSON can write half of a surrogate pair, which no file can hold."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)
