"""The prototype of a crystal: a text that all crystals of the same structure type share, whatever their elements.

The text does not depend on the choice of the cell, the order of the atoms, the orientation, the origin, or the elements
at the same positions.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from math import gcd
from string import ascii_lowercase, ascii_uppercase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.format.columns import MAX_ID
from lazygraph.sources.base import Remark

__all__ = ["MAX_ATOMS", "SYMPREC", "Prototype", "prototype_of"]

SYMPREC = 0.01  # A; pymatgen's default
MAX_ATOMS = 500  # spglib can take minutes for larger cells
FAMILIES = ((2, "a"), (15, "m"), (74, "o"), (142, "t"), (194, "h"), (230, "c"))  # the last space group of each family


class Prototype(NamedTuple):
    """The prototype of one crystal.

    Attributes:
        text: such as ``AB_cF8_225_4.-3mm_4.-3mm``, or ``AB`` alone if no symmetry was found.
        problem: the reason why no symmetry was found, for the report.
    """

    text: str
    problem: str | None = None

    def remarks(self) -> tuple[Remark, ...]:
        """Return the remarks of the report about the crystal."""
        if self.problem is None:
            return ()
        return (Remark(f"have their anonymised formula alone as prototype, because {self.problem}", self.text),)


def prototype_of(crystal: Crystal, symprec: float) -> Prototype:
    """Return the prototype of a crystal, from the symmetry that spglib finds. This takes about 1 ms.

    The text consists of the anonymised formula, the Pearson symbol (with the number of atoms of the conventional cell,
    which is the hexagonal one of rhombohedral crystals), the number of the space group, and the orbits of each letter
    of the formula. An orbit is the number of its atoms in the conventional cell and its site symmetry. There are no
    Wyckoff letters, and the characters of a site symmetry are sorted, without dots, because both depend on the choice
    of the cell. Free parameters of the positions are not compared. A text of more than 255 bytes ends in a hash.

    Args:
        crystal: the crystal.
        symprec: how far an atom may be from its ideal position, A.

    Example:
        >>> salt = Crystal([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
        >>> prototype_of(salt, 0.01).text
        'AB_cF8_225_4.-3mm_4.-3mm'
    """
    formula = _anonymous(Counter(crystal.numbers.tolist()).values())
    if not all(crystal.pbc):
        return Prototype(formula, "they are not periodic in all directions")
    if len(crystal) > MAX_ATOMS:
        return Prototype(formula, f"they have more than {MAX_ATOMS} atoms")
    import spglib

    try:
        cell: Any = (crystal.lattice, crystal.frac_coords, crystal.numbers)
        found = spglib.get_symmetry_dataset(cell, symprec=symprec)
    except spglib.SpglibError as error:
        return Prototype(formula, f"spglib: {error}")
    if found is None:
        return Prototype(formula, "spglib finds no symmetry")
    numbers, conventional = crystal.numbers, len(found.std_types)
    amounts: dict[int, int] = Counter(numbers.tolist())
    letters = sorted(
        (amount, _orbits(found, numbers == number, conventional / len(crystal))) for number, amount in amounts.items()
    )
    family = next(letter for last, letter in FAMILIES if found.number <= last)
    centring = "S" if found.international[0] in "ABC" else found.international[0]
    parts = [formula, f"{family}{centring}{conventional}", str(found.number), *(orbits for _, orbits in letters)]
    return Prototype(_shortened("_".join(parts)))


def _anonymous(amounts: Iterable[int]) -> str:
    """Return the reduced formula with a letter for each element, in the order of their amounts.

    Example:
        >>> _anonymous([8, 4]), _anonymous([1, 1, 3]), _anonymous([2])
        ('AB2', 'ABC3', 'A')
    """
    ordered = sorted(amounts)
    unit = gcd(*ordered)
    letters = [*ascii_uppercase, *(upper + lower for upper in ascii_uppercase for lower in ascii_lowercase)]
    return "".join(
        letter + (str(amount // unit) if amount > unit else "")
        for letter, amount in zip(letters, ordered, strict=False)
    )


def _orbits(found: Any, atoms: NDArray[np.bool_], cells: float) -> str:
    """Return the sorted orbits of some atoms, such as ``2*4.m+8.1``, where 2 counts equal orbits.

    Args:
        found: the result of spglib.
        atoms: (N,) the mask of the atoms.
        cells: number of atoms in the conventional cell, divided by the number of atoms of the crystal.
    """
    sizes = Counter(found.crystallographic_orbits[atoms].tolist())
    kinds = Counter(
        (round(size * cells), "".join(sorted(found.site_symmetry_symbols[orbit].replace(".", ""))))
        for orbit, size in sizes.items()
    )
    return "+".join(
        f"{f'{count}*' if count > 1 else ''}{size}.{symmetry}" for (size, symmetry), count in sorted(kinds.items())
    )


def _shortened(text: str) -> str:
    """Return a text that a column can hold. A long text becomes its beginning and a hash of all of it."""
    if len(text) <= MAX_ID:
        return text
    return f"{text[:200]}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
