"""Features of atoms: the atomic number, CGCNN's features, or one-hot by a list of elements.

A dataset stores one byte per atom. Features are looked up when a graph is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from lazygraph.crystal import SYMBOLS, symbols_to_numbers
from lazygraph.errors import InputError
from lazygraph.reading.views.base import cast

__all__ = ["CGCNN_ELEMENTS", "Features", "cgcnn_features", "element_places", "elements_of", "node_features"]

Features = Literal["number", "cgcnn"] | tuple[str, ...]
"""``number``: the atomic number. ``cgcnn``: 92 columns. A tuple of element symbols: one-hot over them."""

COLUMNS = 92
LAST = 100  # the table ends with fermium ...
BORROWED = 103  # ... whose row jarvis-tools gives to the three elements behind it, and so do the published models
CGCNN_ELEMENTS = SYMBOLS[1 : BORROWED + 1]
"""The elements that have features of CGCNN, hydrogen to lawrencium."""


@lru_cache(maxsize=1)
def cgcnn_features() -> NDArray[np.float32]:
    """Return CGCNN's features by atomic number, (104, 92) float32, each 0 or 1; row 0 is empty.

    Source: ``atom_init.json`` of CGCNN (Xie and Grossman 2018), in columns for group, period, electronegativity,
    covalent radius, valence electrons, ionisation energy, electron affinity, block and atomic volume; as jarvis-tools
    and the models built on it use them.

    Example:
        >>> cgcnn_features()[6].sum()  # carbon: one column of each of nine blocks
        np.float32(9.0)
    """
    text = (files(__package__) / "cgcnn_features.txt").read_text(encoding="utf-8").partition("----\n")[2]
    table = np.zeros((BORROWED + 1, COLUMNS), dtype=np.float32)
    for line in text.splitlines():
        number, bits = line.split()
        table[int(number)] = [int(bit) for bit in f"{int(bits, 16):0{COLUMNS}b}"]
    table[LAST + 1 :] = table[LAST]
    return table


def elements_of(symbols: Iterable[str]) -> tuple[str, ...]:
    """Check a list of elements.

    Raises:
        InputError: an unknown or repeated symbol.
    """
    listed = tuple(symbols)
    symbols_to_numbers(listed)
    if not listed:
        raise InputError("the list of elements is empty; give at least one")
    if len(set(listed)) < len(listed):
        msg = f"the elements {', '.join(listed)} are not all different; give each one once"
        raise InputError(msg)
    return listed


def element_places(numbers: Any, elements: tuple[str, ...]) -> Any:
    """Return the position of each atom's element in the list, (N,) int64.

    Raises:
        InputError: the element of an atom is not in the list.
    """
    xp = array_namespace(numbers)
    table = np.full(len(SYMBOLS), -1)
    table[symbols_to_numbers(elements)] = np.arange(len(elements))
    places = xp.take(xp.asarray(table, device=device(numbers)), cast(numbers, "int64"))
    if bool(xp.any(places < 0)):
        missing = sorted({SYMBOLS[int(number)] for number in numbers[places < 0]})
        msg = (
            f"found atoms of {', '.join(missing)}, which are not among the {len(elements)} elements of the view "
            f"({', '.join(elements[:8])}{', ...' if len(elements) > 8 else ''}); give the view every element"
        )
        raise InputError(msg)
    return places


def node_features(numbers: Any, features: Features, dtype: str) -> Any:
    """Return the features of atoms.

    Args:
        numbers: (N,) atomic numbers.
        features: ``number``, ``cgcnn``, or a list of symbols.
        dtype: type of features other than ``number``, ``float32`` or ``float64``.

    Returns:
        (N, 1) int64 for ``number``, (N, 92) for ``cgcnn``, (N, number of elements) for a list of elements.

    Raises:
        InputError: an atom has no features.
    """
    if features == "number":
        return cast(numbers, "int64")[:, None]
    xp = array_namespace(numbers)
    real = getattr(xp, dtype)
    if features == "cgcnn":
        if bool(xp.any(numbers > BORROWED)):
            beyond = SYMBOLS[int(xp.max(numbers))]
            msg = f"found an atom of {beyond}; the features 'cgcnn' exist only for elements up to {SYMBOLS[BORROWED]}"
            raise InputError(msg)
        table = xp.asarray(cgcnn_features(), dtype=real, device=device(numbers))
        return xp.take(table, cast(numbers, "int64"), axis=0)
    table = xp.eye(len(features), dtype=real, device=device(numbers))
    return xp.take(table, element_places(numbers, features), axis=0)
