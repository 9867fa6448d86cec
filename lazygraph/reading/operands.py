"""What a condition may name beside numbers: categories, compared by their codes, and the elements of each crystal."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import SYMBOLS
from lazygraph.errors import InputError
from lazygraph.text import printable

__all__ = ["Categories", "Elements", "chemical_systems", "n_elements"]

LISTED = 20  # known texts that an error names


@dataclass(frozen=True, slots=True, eq=False)
class Categories:
    """A column of categories as it is stored: one code for each graph. No text is made for a graph.

    Args:
        name: of the column.
        codes: (n,) unsigned; a code without a name stands for no text.
        names: the texts that the codes stand for, as UTF-8 bytes.
    """

    name: str
    codes: NDArray[Any]
    names: tuple[bytes, ...]

    def equal(self, text: bytes) -> NDArray[np.bool_]:
        """Which graphs have this text; with an empty one, which have none.

        Raises:
            InputError: no code stands for the text.
        """
        if text and text not in self.names:
            raise InputError(self._unknown(text))
        return self.codes == self.names.index(text) if text else self.codes >= len(self.names)

    def among(self, texts: Iterable[bytes]) -> NDArray[np.bool_]:
        """Which graphs have one of these texts.

        Raises:
            InputError: no code stands for any of them.

        Warns:
            UserWarning: no code stands for one of them.
        """
        wanted = list(texts)
        unknown = [text for text in wanted if text and text not in self.names]
        if unknown and len(unknown) == len(wanted):
            raise InputError(self._unknown(unknown[0]))
        for text in unknown:
            warnings.warn(printable(self._unknown(text)), stacklevel=2)
        hit = np.zeros(len(self.names) + 1, bool)
        hit[[self.names.index(text) if text else len(self.names) for text in wanted if text not in unknown]] = True
        out: NDArray[np.bool_] = hit[np.minimum(self.codes, len(self.names))]
        return out

    def texts(self) -> NDArray[np.bytes_]:
        """The text of each graph."""
        out: NDArray[np.bytes_] = np.array([*self.names, b""])[np.minimum(self.codes, len(self.names))]
        return out

    def _unknown(self, text: bytes) -> str:
        return _unknown(self.name, text.decode(), [name.decode() for name in self.names])


@dataclass(frozen=True, slots=True, eq=False)
class Elements:
    """The elements of each crystal, told by its reduced formula.

    Args:
        formulas: (n,) bytes, such as ``b"Fe2O3"``; each element is there once.
    """

    formulas: NDArray[np.bytes_]

    def having(self, symbol: str) -> NDArray[np.bool_]:
        """Which crystals hold an element. Takes some 30 ms for a million formulas.

        Raises:
            InputError: there is no such element.
        """
        if symbol not in SYMBOLS[1:]:
            raise InputError(_unknown("element", symbol, SYMBOLS[1:]))
        letters = _letters(self.formulas)
        first, second = ord(symbol[0]), ord(symbol[1:] or "\0")
        out = np.zeros(len(letters), bool)
        for place in range(letters.shape[1]):
            here = letters[:, place] == first
            after = letters[:, place + 1] if place + 1 < letters.shape[1] else np.zeros(len(letters), np.uint8)
            # No lower-case letter may follow one that is a symbol by itself: C is not in CsCl.
            out |= here & (after == second if second else (after < ord("a")))
        return out

    def any_of(self, symbols: Iterable[str]) -> NDArray[np.bool_]:
        """Which crystals hold at least one of some elements. Raises as ``having`` does."""
        out = np.zeros(len(self.formulas), bool)
        for symbol in symbols:
            out |= self.having(symbol)
        return out

    def compare(self, op: str, symbols: Collection[str]) -> NDArray[np.bool_]:
        """Compare the set of elements with another one, as Python compares sets.

        Args:
            op: one of ``== != <= >= < >``; ``<=`` is "has no other elements than these", ``>=`` "has all of these".
            symbols: of the other set.
        """
        wanted = set(symbols)
        found = np.zeros(len(self.formulas), np.int64)
        for symbol in sorted(wanted):
            found += self.having(symbol)
        count = n_elements(self.formulas)
        within: NDArray[np.bool_] = found == count
        all_there: NDArray[np.bool_] = found == len(wanted)
        return {
            "==": within & all_there,
            "!=": ~(within & all_there),
            "<=": within,
            ">=": all_there,
            "<": within & ~all_there,
            ">": all_there & ~within,
        }[op]


def n_elements(formulas: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """The number of elements of each crystal, (n,), by its reduced formula.

    Example:
        >>> n_elements(np.array([b"Fe2O3", b"C", b"CsCl"])).tolist()
        [2, 1, 2]
    """
    letters = _letters(formulas)
    out: NDArray[np.int64] = ((letters >= ord("A")) & (letters <= ord("Z"))).sum(axis=1)
    return out


def chemical_systems(formulas: NDArray[np.bytes_]) -> NDArray[np.bytes_]:
    """The chemical system of each formula: its elements in alphabetical order.

    Example:
        >>> chemical_systems(np.array([b"Fe2O3", b"FeO", b"C", b"BaTiO3"])).tolist()
        [b'Fe-O', b'Fe-O', b'C', b'Ba-O-Ti']
    """
    different, inverse = np.unique(formulas, return_inverse=True)
    systems = [b"-".join(sorted(re.findall(rb"[A-Z][a-z]?", formula))) for formula in different.tolist()]
    out: NDArray[np.bytes_] = np.array(systems, f"S{max(map(len, systems), default=1)}")[inverse]
    return out


def _letters(formulas: NDArray[np.bytes_]) -> NDArray[np.uint8]:
    """(n, width) the bytes of each formula."""
    return np.ascontiguousarray(formulas).view(np.uint8).reshape(len(formulas), -1)


def _unknown(kind: str, found: str, known: Collection[str]) -> str:
    """The sentence about a text that nothing has: as ``registry.unknown_name``, with some of the known ones."""
    names = list(known)
    close = difflib.get_close_matches(found, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return f"unknown {kind} {found!r}; {hint}known: {', '.join(names[:LISTED]) or 'none'}{more}"
