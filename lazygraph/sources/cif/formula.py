"""Comparison of the atoms of a CIF with its formula and Z."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import gemmi

from lazygraph.crystal import ATOMIC_NUMBERS, SYMBOLS

__all__ = ["Formula", "formula_of", "formula_text"]

SUM, UNITS = "_chemical_formula_sum", "_cell_formula_units_Z"
STRUCTURAL = "_chemical_formula_structural"
ABSENT = frozenset({"", "?", "."})
WORD = re.compile(r"([A-Z][a-z]?)([1-9]\d*|)")
WORDS = re.compile(f"{WORD.pattern}(?: {WORD.pattern})*")
PART = re.compile(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+|)")
PARTS = re.compile(f"(?:{PART.pattern})+")
UNCERTAINTY = re.compile(r"(?<=\d)\(\d+\)(?![A-Za-z\d])")  # the "(2)" of a refined amount, as in Fe0.95(2)
GROUP = re.compile(r"[(\[]([^()\[\]]*)[)\]](\d+\.?\d*|\.\d+|)")  # a group of atoms with its number, as in (OH)2
CHARGE = re.compile(r"\d*[+-]|[+-]\d*")
EXACT = 1e-6  # relative tolerance; larger than rounding errors, and smaller than any difference of whole amounts


@dataclass(frozen=True, slots=True)
class Formula:
    """The formula sum and Z of a data block."""

    text: str | None
    """The formula as written in the file; None if the file has no formula."""
    amounts: Mapping[int, tuple[float, float]] | None
    """Atomic number -> (amount, greatest error of the amount). None if there is no formula, or if it is unreadable."""
    units: float | None
    """Z, the number of formula units in the cell; None if the file does not state it."""
    structural: str | None = None
    """``_chemical_formula_structural``; None if the file does not have it."""

    @property
    def elements(self) -> frozenset[int]:
        """The atomic numbers in the formula; empty if there is no readable formula."""
        return frozenset(self.amounts or ())

    @property
    def unreadable(self) -> bool:
        """Whether the file has a formula that lazygraph cannot read."""
        return self.text is not None and self.amounts is None

    def contradiction(self, counts: Mapping[int, int]) -> str | None:
        """Return the reason why these atoms contradict the formula or Z; None if they agree.

        The numbers of atoms must have the ratio of the formula. If the file states Z, the cell must hold Z formula
        units. pymatgen writes a formula sum that is already the content of the whole cell; in that case, the cell must
        hold this formula once. Decimals in a formula are taken as rounded to the written digits.

        Args:
            counts: atomic number -> number of atoms in the cell.
        """
        if self.amounts is None:
            return None
        if self.units and {z: amount * self.units for z, (amount, _) in self.amounts.items()} == counts:
            return None  # the usual case; the general comparison below gives the same result
        units = self._units_in(counts)
        if units is None:
            return f"the cell holds {formula_text(counts)}, which is not in the ratio of the formula {self.text!r}"
        least, most = units
        if (
            self.units is None
            or _between(self.units, least, most)
            or (_between(1.0, least, most) and self._is_of_cell())
        ):
            return None
        return (
            f"the cell holds {formula_text(counts)}, which is {(least + most) / 2:g} formula units of {self.text!r}; "
            f"the file says Z = {self.units:g}"
        )

    def _is_of_cell(self) -> bool:
        """Tell whether the formula sum is the content of the whole cell, which is Z times the structural formula."""
        unit = None if self.structural is None else _amounts(self.structural, capitals=False)
        if unit is None or self.units is None:
            return False
        return self.amounts == {number: (amount * self.units, slack) for number, (amount, slack) in unit.items()}

    def confirms(self, counts: Mapping[int, int]) -> bool:
        """Tell whether the file has a formula and these atoms agree with it."""
        return self.amounts is not None and self.contradiction(counts) is None

    def _units_in(self, counts: Mapping[int, int]) -> tuple[float, float] | None:
        """Return the smallest and the greatest possible number of formula units in the cell.

        The two differ if the formula has decimals, because each amount is then known only up to its rounding. None if
        the atoms do not have the ratio of the formula.
        """
        amounts = self.amounts or {}
        if amounts.keys() != counts.keys():
            return None
        least, most = 0.0, math.inf
        for number, (amount, slack) in amounts.items():
            least = max(least, counts[number] / (amount + slack))
            most = min(most, counts[number] / (amount - slack) if amount > slack else math.inf)
        return (least, most) if least <= most * (1 + EXACT) else None


def formula_of(block: gemmi.cif.Block) -> Formula:
    """Return the formula sum, Z and the structural formula of a data block.

    A formula in capitals only, such as ``AL2 O3``, may write the symbols of elements in capitals.
    """
    text, units = _text(block.find_value(SUM)), _units(block.find_value(UNITS))
    if text is None:
        return Formula(None, None, units)
    amounts = _amounts(text, capitals=text == text.upper())
    return Formula(text, amounts, units, _text(block.find_value(STRUCTURAL)))


def formula_text(counts: Mapping[int, int]) -> str:
    """Return numbers of atoms as a formula in the form of CIF.

    Example:
        >>> formula_text({12: 8, 13: 16, 8: 32})
        'Al16 Mg8 O32'
    """
    return " ".join(sorted(f"{SYMBOLS[z]}{'' if n == 1 else n}" for z, n in counts.items()))


def _text(value: str | None) -> str | None:
    """Return the text of a CIF value with single blanks; None if the value is missing."""
    if value is None or (text := " ".join(gemmi.cif.as_string(value).split())) in ABSENT:
        return None
    return text


def _units(text: str | None) -> float | None:
    """Return Z as a number; None if it is missing, zero, or not a number."""
    if text is None:
        return None
    if text.isdigit():
        return float(text) or None
    try:
        value = float(gemmi.cif.as_string(text).split("(")[0])
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


def _amounts(text: str, *, capitals: bool) -> dict[int, tuple[float, float]] | None:
    """Return the amounts of the elements in a formula, such as ``Mg Al2 O4`` or ``Ca(OH)2``; None if it is unreadable.

    Args:
        text: the formula.
        capitals: whether ``AL2 O3`` may mean ``Al2 O3``.

    Returns:
        Atomic number -> (amount, greatest error of the amount).
    """
    # The common form, whole numbers and blanks between the elements, is read by one regular expression.
    words = WORD.findall(text)
    found = {ATOMIC_NUMBERS.get(symbol, 0): (float(amount or 1), 0.0) for symbol, amount in words}
    plain = len(found) == len(words) == text.count(" ") + 1 and 0 not in found and WORDS.fullmatch(text)
    return found if plain else _unusual_amounts(text, capitals=capitals)


def _unusual_amounts(text: str, *, capitals: bool) -> dict[int, tuple[float, float]] | None:
    """Return the amounts in a formula with brackets, decimals, a charge or capitals, or without blanks.

    A group in brackets is replaced by its elements, multiplied by the number of the group, from the inside out.
    """
    text = UNCERTAINTY.sub("", text)
    while (group := GROUP.search(text)) is not None:
        inside = _unusual_amounts(group[1], capitals=capitals)
        if inside is None:
            return None
        factor = float(group[2] or 1)
        every = " ".join(f"{SYMBOLS[number]}{amount * factor:g}" for number, (amount, _) in inside.items())
        text = f"{text[: group.start()]} {every} {text[group.end() :]}"
    found: dict[int, tuple[float, float]] = {}
    for word in text.replace(",", " ").split():
        if CHARGE.fullmatch(word):  # the charge of an ion, as in "C6 H12 N 1+"
            continue
        parts = _parts(word, capitals=capitals)
        if parts is None:
            return None
        for number, amount, slack in parts:
            before, unsure = found.get(number, (0.0, 0.0))
            found[number] = (before + amount, unsure + slack)
    return {number: part for number, part in found.items() if part[0] > 0} or None


def _parts(word: str, *, capitals: bool) -> list[tuple[int, float, float]] | None:
    """Return the elements of one word: one element for ``Al2``, three elements for ``MgAl2O4``.

    In a formula in capitals, some words can be read in two ways: ``CO`` is cobalt, or carbon and oxygen without the
    blank between them. Such a word is unreadable, and the result is None.

    Returns:
        (atomic number, amount, greatest error of the amount) for each element; None if the word is unreadable.
    """
    letters = word.rstrip("0123456789.")
    if letters in ATOMIC_NUMBERS:
        return [(ATOMIC_NUMBERS[letters], *_amount(word[len(letters) :]))]
    parts = [(symbol, amount) for symbol, amount in PART.findall(word)] if PARTS.fullmatch(word) else []
    several = bool(parts) and all(symbol in ATOMIC_NUMBERS for symbol, _ in parts)
    one = capitals and letters.capitalize() in ATOMIC_NUMBERS
    if several and not one:
        return [(ATOMIC_NUMBERS[symbol], *_amount(amount)) for symbol, amount in parts]
    if one and not several:
        return [(ATOMIC_NUMBERS[letters.capitalize()], *_amount(word[len(letters) :]))]
    return None


def _amount(text: str) -> tuple[float, float]:
    """Return an amount and its greatest error, which is half a unit of the last decimal, and slightly more.

    The error of a whole number is 0. A missing number means 1.
    """
    if not text:
        return 1.0, 0.0
    # 0.5001 and not 0.5, so that a value exactly on the boundary is not refused because of rounding errors
    decimals = len(text.partition(".")[2])
    return float(text), 0.5001 * 10.0**-decimals if decimals else 0.0


def _between(value: float, least: float, most: float) -> bool:
    return least * (1 - EXACT) <= value <= most * (1 + EXACT)
