"""Elements of the sites of a CIF, or the reason why a site is not one atom."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from lazygraph.crystal import ATOMIC_NUMBERS
from lazygraph.errors import StructureError

__all__ = ["ABSENT", "HEAVIEST", "Species", "species_of"]

ABSENT = frozenset({"", "?", "."})
TYPE = re.compile(r"([A-Za-z]+)([\d.+-]*)")  # Na, Fe3+, O2-, Cl-1, Na+1; and O1, if a file gives labels as types
LABEL = re.compile(r"([A-Za-z]+)(.*)", re.DOTALL)
# What may follow the element in a label: 12, 1A, 3', (2), _4. The suffix of "O-H" does not match: it is a group.
SUFFIX = re.compile(r"(?:[^A-Za-z]*[^A-Za-z-])?[A-Za-z]?[^A-Za-z]*")
ATOMS = re.compile(r"([A-Z][a-z]?)\d*")
GROUP = re.compile(f"(?:{ATOMS.pattern})+")
# Words that begin with the symbol of an element, but mean something else: water, vacancies, dummies, centroids.
NO_ELEMENTS = frozenset("wat water hoh vac va vacancy void dum dummy du cent cen cnt cg".split())
TRITIUM = "T"  # tritium; but in zeolites, the label of a tetrahedral site
HEAVIEST = 103  # heavier elements have no known crystal structures; "Cn", for example, is a centroid in CIFs


class Species(NamedTuple):
    """The element of a site, and whether it follows from the site alone."""

    number: int
    """Atomic number."""
    certain: bool
    """False if the label can also be read in another way. The formula of the file must then confirm the element."""


@lru_cache(maxsize=65536)
def species_of(type_symbol: str, label: str, known: frozenset[int]) -> Species:
    """Return the element of a site.

    The type symbol gives the element. If the type symbol is missing, ``?`` or ``.``, the start of the label gives the
    element (CIF core dictionary). Upper and lower case do not matter if only one reading is an element, or if the
    formula of the file contains the elements of only one reading.

    Args:
        type_symbol: ``_atom_site_type_symbol``, or an empty text.
        label: ``_atom_site_label``, or an empty text.
        known: the atomic numbers in the formula of the file; empty if the file has no formula.

    Returns:
        The element, and whether it is certain.

    Raises:
        StructureError: the site is a group of atoms, a mixed site, a vacancy or a dummy, or names no known element.

    Example:
        >>> species_of("Fe3+", "Fe1", frozenset()).number, species_of("?", "Cl1A", frozenset()).number
        (26, 17)
    """
    if type_symbol not in ABSENT:
        if type_symbol == label and not TYPE.fullmatch(label) and (match := LABEL.fullmatch(label)):
            return _of_label(label, match[1], match[2], known)
        match = TYPE.fullmatch(type_symbol)
        letters = "" if match is None else match[1]
        number = _of_letters(letters, known)
        if number is None or (number > HEAVIEST and number not in known):
            raise _no_element(label, type_symbol)
        return Species(number, certain=letters != TRITIUM)
    match = LABEL.fullmatch(label)
    if match is None:
        raise _no_element(label, type_symbol)
    return _of_label(label, match[1], match[2], known)


def _of_letters(letters: str, known: frozenset[int]) -> int | None:
    """Return the element that these letters name, in any case, or None.

    ``CO`` is cobalt only if the formula contains cobalt, and does not contain both carbon and oxygen.
    """
    if letters in ATOMIC_NUMBERS:
        return ATOMIC_NUMBERS[letters]
    symbol = letters.capitalize()
    if symbol not in ATOMIC_NUMBERS or letters.lower() in NO_ELEMENTS:
        return None
    number = ATOMIC_NUMBERS[symbol]
    parts = [ATOMIC_NUMBERS.get(letter) for letter in letters.upper()]
    if None in parts or len(parts) == 1:
        return number
    return number if number in known and not known.issuperset(parts) else None


def _of_label(label: str, letters: str, rest: str, known: frozenset[int]) -> Species:
    """Return the element at the start of a label.

    Args:
        label: the whole label.
        letters: the letters at its start.
        rest: everything after these letters.
        known: the atomic numbers in the formula of the file; empty if the file has no formula.

    Raises:
        StructureError: the label does not begin with one element, or could begin with two different elements.
    """
    if letters.lower() in NO_ELEMENTS:
        raise _no_element(label, "")
    candidates = {
        symbol: ATOMIC_NUMBERS[symbol]
        for symbol in (letters[:1].upper(), letters[:2].capitalize())
        if symbol in ATOMIC_NUMBERS
    }
    if letters in candidates and (number := candidates[letters]) and (number in known or not known):
        if number <= HEAVIEST or known:
            plain = letters != TRITIUM and SUFFIX.fullmatch(rest) and not _could_be_group(label, known)
            return Species(number, certain=bool(plain))
    elif known:
        named = set(candidates.values()) & known
        if len(named) == 1:
            return Species(named.pop(), certain=False)
        # The element is clear, although the formula lacks it. The comparison with the formula decides about this later.
        if not named and letters in candidates and letters != TRITIUM:
            return Species(candidates[letters], certain=True)
    elif len(candidates) == 1 and letters.capitalize() in candidates and SUFFIX.fullmatch(rest):
        return Species(candidates[letters.capitalize()], certain=True)
    raise _no_element(label, "")


def _could_be_group(label: str, known: frozenset[int]) -> bool:
    """Tell whether a label is also the formula of a group of atoms, such as ``H2O`` or ``C1N``."""
    if GROUP.fullmatch(label) is None:
        return False
    numbers = {ATOMIC_NUMBERS.get(symbol, 0) for symbol in ATOMS.findall(label)}
    return len(numbers) > 1 and 0 not in numbers and (not known or known.issuperset(numbers))


def _no_element(label: str, type_symbol: str) -> StructureError:
    found = f"type {type_symbol!r}" if type_symbol not in ABSENT else f"label {label!r}"
    where = f"site {label!r}: " if type_symbol not in ABSENT and label else ""
    return StructureError(
        f"{where}the {found} names no element for certain; allowed: one element per site, with or without a charge, "
        "such as Fe or Fe3+. Groups of atoms, mixed sites, vacancies and dummies are not read"
    )
