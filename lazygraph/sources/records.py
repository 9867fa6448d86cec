"""Conversion of a record of a table or of JSON (names -> values) into an :class:`Entry`.

The same rules apply to every format of records:

- The structure is in the column or key that was chosen once for the source (``structure_keys``). If a record has no
  structure there, no other value replaces it. A structure is a dict (jarvis, pymatgen, ASE) or a text (CIF, POSCAR, or
  the JSON of such a dict).
- The id is the value under ``id_key`` if it is given, else under the first of :data:`~.base.ID_KEYS` with a value, else
  the key or the position of the record.
- Every other value is a label. A value in an object gets the name ``object.name``. Values beside a structure's own keys
  are labels too, and the properties of its sites are labels of the atoms. Names that begin with ``@`` (monty's
  ``@module``, ``@class``) and other structures are not labels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.sources import poscar
from lazygraph.sources.base import ID_KEYS, Entry, Remark, attempt, shown
from lazygraph.sources.cif import parse_cif
from lazygraph.sources.objects import is_structure, labels_of_object
from lazygraph.sources.options import DEFAULT_OPTIONS, SourceOptions
from lazygraph.sources.plain_values import plain
from lazygraph.sources.structure_keys import StructurePlace, choose_place

__all__ = [
    "broken_entry",
    "crystal_of",
    "entry_of",
    "holds_structure",
    "id_text",
    "place_in",
    "require_id_key",
    "with_line_feeds",
]

# The keys of a structure dict for the structure, for settings of a calculation, or for the class of a value.
_PYMATGEN = frozenset({"lattice", "sites", "charge", "properties"})
_JARVIS = frozenset({"lattice_mat", "coords", "elements", "cartesian", "abc", "angles", "props"})
_ASE = frozenset(
    "numbers positions scaled_positions cell pbc celldisp info constraints tags masses momenta initial_magmoms "
    "initial_charges unique_id ctime mtime user calculator calculator_parameters key_value_pairs data".split()
)

# Here a record is one crystal. The "id" of a frame or of a row of a database may be the id of a run.
_ID_KEYS = (*ID_KEYS, "id")
_NOTHING = object()


def place_in(records: Iterable[Any], options: SourceOptions) -> StructurePlace | None:
    """Return the place of the structures in the records of a source, from its first records; None if none holds one.

    Raises:
        UnreadableInput: none has the key that the user named.
    """
    return choose_place(records, options.structure_key, holds_structure)


def entry_of(
    record: Any,
    place: StructurePlace | None,
    id_key: str | None,
    default: str,
    *,
    key: str | None = None,
    options: SourceOptions = DEFAULT_OPTIONS,
) -> Entry:
    """Return the entry of a record. A bad record raises no error.

    Args:
        record: names -> values, or any other value in its place.
        place: the place of the structures in the records of the source.
        id_key: the name of the id, if one was chosen.
        default: the id if nothing else gives one.
        key: the key of the record itself, if it has one.
        options: how structures are read.
    """
    if not isinstance(record, dict):
        msg = f"found {type(record).__name__} {shown(record, 40)}; required: an object"
        return broken_entry(key or default, UnreadableInput(msg))
    structure = None if place is None else place.of(record)
    if isinstance(structure, str) and structure.lstrip()[:1] == "{":
        structure = _parsed(structure)
    used: str | None = None
    crystal: Crystal | InputError
    remarks: list[Remark] = []
    try:
        name, used = _id_of(record, id_key, key or default)
    except UnreadableInput as error:
        name, crystal = default, error
    else:
        crystal = _no_structure(record, place) if _absent(structure) else attempt(_crystal, structure, options, remarks)
    labels: dict[str, Any] = {}
    of_atoms: dict[str, Any] = {}
    if isinstance(structure, dict):
        _beside(structure, labels, of_atoms)
        if used is not None and structure is record:
            labels.pop(used, None)
    elif not isinstance(structure, str):
        labels, of_atoms = labels_of_object(structure)
    if structure is not record:
        own = _of_record(record, place or StructurePlace(), used)
        prefix = "" if place is None else place.name + "."
        labels = own | {prefix + n if n in own else n: value for n, value in labels.items()}
    return Entry(name, crystal, labels, remarks=tuple(remarks), atom_labels=of_atoms)


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _no_structure(record: Mapping[str, Any], place: StructurePlace | None) -> UnreadableInput:
    found = "no structure" if place is None or not place.path else f"no structure under {place.name!r}"
    return UnreadableInput(
        f"there is {found}; the keys are {list(record)[:12]}. Every input needs a dict, CIF or POSCAR text under the "
        "same key"
    )


def _parsed(text: str) -> Any:
    """Return the structure dict from its JSON text. If the text is not JSON, return it for its reader to refuse."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _crystal(structure: Any, options: SourceOptions, remarks: list[Remark]) -> Crystal:
    if isinstance(structure, dict) and "numbers" in structure:
        structure = {key: plain(value) for key, value in structure.items()}
        if isinstance(cell := structure.get("cell"), dict) and "array" in cell:  # ASE's class Cell
            structure["cell"] = plain(cell["array"])
    return crystal_of(structure, options, remarks)


def _of_record(record: Mapping[str, Any], place: StructurePlace, used: str | None) -> dict[str, Any]:
    """Return the labels of a record that holds its structure under a key."""
    labels: dict[str, Any] = {}
    inside = place.path[0] if len(place.path) > 1 else None
    for key, value in record.items():
        if key == used or key in place.others or key[:1] == "@" or (key in place.path[:1] and inside is None):
            continue
        if isinstance(value, (dict, list)):
            value = plain(value)  # noqa: PLW2901
            if isinstance(value, dict):
                _flatten(key, value, labels, place.path[1] if key == inside else None)
                labels.pop(used or "", None)
                continue
        labels[key] = value
    return labels


def _flatten(name: str, value: Mapping[str, Any], labels: dict[str, Any], skip: str | None) -> None:
    """Return the parts of an object as labels. An empty object is a missing label."""
    for key, part in value.items():
        if key != skip and key[:1] != "@" and not (isinstance(part, dict) and holds_structure(part)):
            labels[f"{name}.{key}"] = plain(part)


def _beside(structure: Mapping[str, Any], labels: dict[str, Any], of_atoms: dict[str, Any]) -> None:
    """Add the other values of a structure dict: labels of the crystal and of its atoms."""
    own = _JARVIS if "lattice_mat" in structure else _ASE if "numbers" in structure else _PYMATGEN
    for key, value in structure.items():
        if key in own or key[:1] == "@" or value is None:
            continue
        value = plain(value)  # noqa: PLW2901
        if isinstance(value, dict):
            _flatten(key, value, labels, None)
        else:
            labels[key] = value
    for inside in ("properties",) if own is _PYMATGEN else ("info", "key_value_pairs", "data") if own is _ASE else ():
        if isinstance(found := structure.get(inside), dict):
            labels |= {key: plain(value) for key, value in found.items() if key not in labels and key[:1] != "@"}
    if own is _PYMATGEN and isinstance(sites := structure.get("sites"), list):
        _of_sites(sites, of_atoms)


def _of_sites(sites: list[Any], of_atoms: dict[str, Any]) -> None:
    """Add the properties of the sites, with one value per site."""
    found = [site.get("properties") if isinstance(site, dict) else None for site in sites]
    if any(found):
        names = dict.fromkeys(name for properties in found if isinstance(properties, dict) for name in properties)
        for name in names:
            of_atoms[name] = [plain((properties or {}).get(name)) for properties in found]


def broken_entry(name: str, reason: InputError) -> Entry:
    """Return the entry of an input of which only the id or the place is known."""
    return Entry(name if _is_text(name) else ascii(name), reason, {})


def require_id_key(record: Mapping[str, Any], id_key: str | None) -> None:
    """Refuse an ``id_key`` that the first record does not have.

    Raises:
        UnreadableInput: the record has no such key; the message names its keys.
    """
    if id_key is not None and _under(record, id_key) is _NOTHING:
        found = [key for key in record if key and not isinstance(record[key], dict)]
        msg = f"the first record has no key {id_key!r}; it has {found[:20]}: pass one of them as the id key, or none"
        raise UnreadableInput(msg)


def holds_structure(value: Any) -> bool:
    """Tell whether a value looks like one structure; it may still turn out to be broken."""
    if isinstance(value, dict):
        return (
            "lattice_mat" in value
            or ("lattice" in value and "sites" in value)
            or ("numbers" in value and ("positions" in value or "scaled_positions" in value))
            or value.get("@class") == "Structure"
        )
    if isinstance(value, str):
        return bool(_text_format(with_line_feeds(value)))
    return is_structure(value)


def crystal_of(value: Any, options: SourceOptions = DEFAULT_OPTIONS, remarks: list[Remark] | None = None) -> Crystal:
    r"""Return the crystal of a structure dict or text; line breaks written as ``\n`` (two characters) are read as such.

    Args:
        value: the dict or the text.
        options: how it is read.
        remarks: gets the remarks about a structure that is kept.

    Raises:
        InputError: it is not a structure, or it is broken.
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
    r"""Return the text with line feeds instead of CRLF, or, without line breaks, instead of ``\n`` as two letters."""
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
    """Return the id, and the key that holds it or should hold it."""
    for key in _ID_KEYS if id_key is None else (id_key,):
        value = plain(_under(record, key))
        if value is not None and value is not _NOTHING and value != "":
            return id_text(value), key
    if id_key is None:
        return id_text(fallback), next((key for key in _ID_KEYS if key in record), None)
    problem = "is missing" if _under(record, id_key) is _NOTHING else "holds null or nothing"
    msg = f"the id key {id_key!r} {problem}; every record needs an id there"
    raise UnreadableInput(msg)


def _under(record: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key, or of ``object.key`` in an object of the record, or a marker if the key is missing."""
    if key in record:
        return record[key]
    outer, point, inner = key.partition(".")
    inside = record.get(outer) if point else None
    return inside.get(inner, _NOTHING) if isinstance(inside, Mapping) else _NOTHING


def id_text(value: Any) -> str:
    """Return an id as text; the number 5168 or 5168.0 is ``"5168"``.

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
    """Whether UTF-8 can encode the text. JSON can spell half of a surrogate pair, which no file can hold."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)
