"""The choice of the column or key with the structures, made once for a source from its first records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import MAX_TEXT

__all__ = ["FIRST", "USUAL_NAMES", "FirstTexts", "StructurePlace", "choose_place", "is_structure_name"]

FIRST = 64
"""The number of records for the choice; fewer if they are long."""
_LONG = 16 << 20  # bytes of records that are held for the choice
USUAL_NAMES: tuple[str, ...] = ("final_structure", "structure", "atoms", "cif", "poscar")
"""The names under which data sets hold structures, best first."""
_ENDED = ("final", "relaxed", "optimi")
_BEGAN = ("initial", "unrelaxed", "input", "start", "origin", "before")
_NAMES = ("structure", "atoms", "cif", "poscar", "crystal", *_ENDED, *_BEGAN, "primitive", "conventional")


class FirstTexts:
    """The texts of the first records of a scan, in bounded memory. Texts that are too long are not kept."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self._size = 0

    def see(self, text: bytes) -> None:
        """Keep a text, if it is one of the first."""
        if len(self.texts) < FIRST and self._size < _LONG and len(text) <= MAX_TEXT:
            self.texts.append(text)
            self._size += len(text)


@dataclass(frozen=True, slots=True)
class StructurePlace:
    """The place of the structure in every record of a source.

    Args:
        path: the nested keys that lead to it; empty if the record is the structure.
        others: further top keys that hold structures, which are not read.
    """

    path: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The keys, joined by points."""
        return ".".join(self.path)

    def of(self, record: Mapping[str, Any]) -> Any:
        """Return the value in this place of a record, or None if it is missing."""
        value: Any = record
        for key in self.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def notes(self) -> tuple[str, ...]:
        """Return notes about a choice among several places, or about a column without a usual name."""
        if self.others:
            others = ", ".join(map(repr, self.others))
            holds = "hold" if len(self.others) > 1 else "holds"
            note = (
                f"structures are read from {self.name!r}; {others} {holds} structures too: choose with --structure-key"
            )
            return (note,)
        if self.path and self.name not in USUAL_NAMES:
            return (f"structures are read from {self.name!r}",)
        return ()

    def to_json(self) -> list[list[str]]:
        """Return the JSON form."""
        return [list(self.path), list(self.others)]

    @classmethod
    def from_json(cls, data: Sequence[Sequence[str]]) -> StructurePlace:
        """Read the JSON form."""
        return cls(tuple(data[0]), tuple(data[1]))


def choose_place(records: Iterable[Any], given: str | None, holds: Callable[[Any], bool]) -> StructurePlace | None:
    """Return the place of the structures in the records of one source.

    Args:
        records: the first records. Values that are not objects are ignored.
        given: the key that the user chose, if any. Points may lead into nested objects.
        holds: whether a value looks like a structure.

    Returns:
        The place, or None if none of the records holds a structure.

    Raises:
        UnreadableInput: none of the records has the given key.
    """
    seen = [record for record in records if isinstance(record, Mapping)]
    found: dict[tuple[str, ...], None] = {}
    keys: dict[str, None] = {}
    for record in seen:
        keys.update(dict.fromkeys(record))
        if holds(record):
            found[()] = None
            continue
        for key, value in record.items():
            if holds(value):
                found[key,] = None
            elif isinstance(value, Mapping):
                found.update(dict.fromkeys((key, inner) for inner, part in value.items() if holds(part)))
    if given is not None:
        path = (given,) if given in keys else tuple(given.split("."))
        if seen and path[0] not in keys:
            names = list(dict.fromkeys(".".join(place) for place in found if place))
            msg = (
                f"no record has the key {given!r} that was named for the structures; structures are under "
                f"{', '.join(map(repr, names)) or 'none of the keys'} (of {', '.join(map(repr, list(keys)[:20]))})"
            )
            raise UnreadableInput(msg)
        return StructurePlace(path, tuple(dict.fromkeys(place[0] for place in found if place and place[0] != path[0])))
    if not found:
        return None
    path = min(found, key=_rank)
    return StructurePlace(path, tuple(dict.fromkeys(p[0] for p in found if p and p[0] not in path[:1])))


def is_structure_name(key: str) -> bool:
    """Tell whether a key is a name for a structure rather than the id of one.

    Example:
        >>> is_structure_name("initial_structure"), is_structure_name("mp-149"), is_structure_name("structure_7")
        (True, False, False)
    """
    lower = key.lower()
    return any(name in lower for name in _NAMES) and not lower[-1:].isdigit()


def _rank(path: tuple[str, ...]) -> tuple[int, int]:
    """Rank a place, lower is better: the record itself, usual names, other names, and initial structures."""
    if not path:
        return -1, 0
    lower = path[-1].lower()
    if any(word in lower for word in _BEGAN):
        return len(USUAL_NAMES) + 2, len(path)
    if lower in USUAL_NAMES:
        return USUAL_NAMES.index(lower), len(path)
    return len(USUAL_NAMES) + (0 if any(word in lower for word in _ENDED) else 1), len(path)
