"""Conversion between units of labels, such as meV/atom and eV/atom, or kbar and eV/A^3.

Constants are fixed here and do not follow an installed package, so that a label has the same value everywhere. The eV,
the joule and the mole are related by the exact constants of the SI of 2019. The hartree, the bohr and the dalton are
those of CODATA 2018.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["conversion_factor", "reason_against"]

EV = 1.602176634e-19  # J, exact
MOLE = 6.02214076e23  # exact
HARTREE = 27.211386245988  # eV
BOHR = 0.529177210903  # A
DALTON = 1.66053906660e-27  # kg

# Unit -> value in base units, and the powers of the base units: eV, A, kg, s, K, e, mu_B and atom.
_UNITS: dict[str, tuple[float, Mapping[str, int]]] = {
    "eV": (1.0, {"eV": 1}),
    "meV": (1e-3, {"eV": 1}),
    "keV": (1e3, {"eV": 1}),
    "Ha": (HARTREE, {"eV": 1}),
    "mHa": (HARTREE * 1e-3, {"eV": 1}),
    "Ry": (HARTREE / 2, {"eV": 1}),
    "J": (1 / EV, {"eV": 1}),
    "kJ": (1e3 / EV, {"eV": 1}),
    "kcal": (4184 / EV, {"eV": 1}),
    "mol": (MOLE, {}),
    "A": (1.0, {"A": 1}),
    "nm": (10.0, {"A": 1}),
    "pm": (0.01, {"A": 1}),
    "cm": (1e8, {"A": 1}),
    "m": (1e10, {"A": 1}),
    "bohr": (BOHR, {"A": 1}),
    "kg": (1.0, {"kg": 1}),
    "g": (1e-3, {"kg": 1}),
    "Da": (DALTON, {"kg": 1}),
    "s": (1.0, {"s": 1}),
    "ps": (1e-12, {"s": 1}),
    "fs": (1e-15, {"s": 1}),
    "Hz": (1.0, {"s": -1}),
    "THz": (1e12, {"s": -1}),
    "Pa": (1e-30 / EV, {"eV": 1, "A": -3}),
    "kPa": (1e-27 / EV, {"eV": 1, "A": -3}),
    "MPa": (1e-24 / EV, {"eV": 1, "A": -3}),
    "GPa": (1e-21 / EV, {"eV": 1, "A": -3}),
    "bar": (1e-25 / EV, {"eV": 1, "A": -3}),
    "kbar": (1e-22 / EV, {"eV": 1, "A": -3}),
    "K": (1.0, {"K": 1}),
    "e": (1.0, {"e": 1}),
    "mu_B": (1.0, {"mu_B": 1}),
    "atom": (1.0, {"atom": 1}),
}
_SPELLINGS = {
    "\N{ANGSTROM SIGN}": "A",
    "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}": "A",
    "Ang": "A",
    "Angstrom": "A",
    "angstrom": "A",
    "Bohr": "bohr",
    "a0": "bohr",
    "Hartree": "Ha",
    "hartree": "Ha",
    "Eh": "Ha",
    "Rydberg": "Ry",
    "ev": "eV",
    "amu": "Da",
    "u": "Da",
    "muB": "mu_B",
    "atoms": "atom",
}
_PART = re.compile(r"(a0|[^\W\d](?:\w*[^\W\d])?)(?:\^|\*\*)?(-?\d{1,2})?")


class _Unit(NamedTuple):
    """A unit in base units."""

    factor: float
    powers: Mapping[str, int]


def conversion_factor(unit: str, wanted: str) -> float | None:
    """Return by what a number in ``unit`` is multiplied to be in ``wanted``; None if it cannot be converted.

    Example:
        >>> conversion_factor("meV/atom", "eV/atom"), conversion_factor("eV", "eV/atom")
        (0.001, None)
        >>> round(conversion_factor("eV/A^3", "GPa"), 6), round(conversion_factor("kJ/mol", "eV"), 9)
        (160.217663, 0.01036427)
    """
    if unit == wanted:
        return 1.0
    mine, theirs = _parsed(unit), _parsed(wanted)
    if mine is None or theirs is None or mine.powers != theirs.powers or not mine.factor or not theirs.factor:
        return None
    # 1/1000 and not 0.001 times what rounding adds: most factors are powers of ten.
    ratio = mine.factor / theirs.factor
    return float(f"{ratio:.15g}")


def reason_against(unit: str, wanted: str) -> str:
    """Return why a number in ``unit`` cannot be converted to ``wanted``.

    Example:
        >>> reason_against("eV", "eV/atom")
        'one is per atom and the other is not'
    """
    parsed = {text: _parsed(text) for text in (unit, wanted)}
    for text, found in parsed.items():
        if found is None:
            return f"lazygraph does not know the unit {text!r}"
    mine, theirs = (Counter(found.powers) for found in parsed.values() if found is not None)
    if mine["atom"] != theirs["atom"]:
        return "one is per atom and the other is not"
    return "they measure different quantities"


def _parsed(text: str) -> _Unit | None:
    """Return a unit such as ``eV/A^3`` or ``e*A``; None for anything else."""
    factor, powers = 1.0, Counter[str]()
    numerator, *denominators = text.replace("·", "*").split("/")
    if any("*" in part.replace("**", "") for part in denominators):
        return None  # eV/A*e has two meanings
    for sign, group in [(1, numerator), *((-1, part) for part in denominators)]:
        for part in re.split(r"(?<!\*)\*(?!\*)", group):
            if part.strip() == "1" and group is numerator:
                continue
            match = _PART.fullmatch(part.strip())
            name = _SPELLINGS.get(match[1], match[1]) if match else ""
            if match is None or name not in _UNITS:
                return None
            value, own = _UNITS[name]
            power = sign * int(match[2] or 1)
            try:
                factor *= value**power
            except OverflowError:
                return None
            for base, count in own.items():
                powers[base] += count * power
    return _Unit(factor, {base: count for base, count in powers.items() if count})
