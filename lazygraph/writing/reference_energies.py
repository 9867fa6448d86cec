"""Reference energies of elements: the least-squares fit of a label by the composition of the crystals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ElementFit", "fit_by_elements", "sums_of_elements"]

CHUNK = 65536  # rows that are held at once


class ElementFit(NamedTuple):
    """The result of a fit."""

    elements: dict[str, float]
    """Symbol -> the energy of one atom, in the unit of the label."""
    graphs: int
    """The number of crystals with a value."""
    determined: bool
    """Whether the compositions tell all elements apart. If not, the solution is the one of least norm."""
    rms: float
    """The root mean square of the residuals, in the unit of the label."""


def fit_by_elements(
    formulas: NDArray[np.bytes_], n_atoms: NDArray[np.integer], values: NDArray[np.floating], *, per_atom: bool
) -> ElementFit:
    """Fit values by a sum over atoms, with one number for each element.

    Memory does not grow with the number of crystals. Of each part, only the triangular factor of a QR decomposition is
    kept. It gives the same solution as all rows at once.

    Args:
        formulas: (n,) reduced formulas.
        n_atoms: (n,) numbers of atoms.
        values: (n,), per cell or per atom. Values that are not finite are left out.
        per_atom: whether the values are per atom. If so, the sum over atoms is divided by their number.

    Example:
        >>> formulas, values = np.array([b"FeO", b"Fe", b"O"]), np.array([-18.0, -4.0, -10.0])
        >>> fit = fit_by_elements(formulas, np.array([4, 1, 2]), values, per_atom=False)
        >>> {symbol: round(energy, 9) for symbol, energy in fit.elements.items()}
        {'Fe': -4.0, 'O': -5.0}
    """
    used = np.flatnonzero(np.isfinite(values))
    unique, of_row = np.unique(formulas[used], return_inverse=True)
    compositions = [_composition(formula.decode()) for formula in unique.tolist()]
    symbols = sorted({symbol for composition in compositions for symbol in composition})
    place = {symbol: number for number, symbol in enumerate(symbols)}
    fractions = np.zeros((len(unique), len(symbols)))
    for row, composition in enumerate(compositions):
        for symbol, count in composition.items():
            fractions[row, place[symbol]] = count / sum(composition.values())
    factor = np.zeros((0, len(symbols) + 1))
    for start in range(0, len(used), CHUNK):
        rows = used[start : start + CHUNK]
        counts = fractions[of_row[start : start + CHUNK]]
        if not per_atom:
            counts = np.rint(counts * n_atoms[rows, None])
        both = np.column_stack([counts, values[rows].astype(np.float64)])
        _, factor = np.linalg.qr(np.vstack([factor, both]))
    solution, _, rank, _ = np.linalg.lstsq(factor[:, :-1], factor[:, -1], rcond=None)
    left = factor[:, -1] - factor[:, :-1] @ solution
    rms = float(np.sqrt((left**2).sum() / max(1, len(used))))
    return ElementFit(dict(zip(symbols, solution.tolist(), strict=True)), len(used), int(rank) == len(symbols), rms)


def sums_of_elements(
    elements: Mapping[str, float], formulas: NDArray[np.bytes_], n_atoms: NDArray[np.integer], *, per_atom: bool
) -> NDArray[np.float64]:
    """Return the sum over the atoms of each crystal, with one number for each element.

    Args:
        elements: symbol -> the energy of one atom. Other elements get the mean of these energies.
        formulas: (n,) reduced formulas.
        n_atoms: (n,) numbers of atoms.
        per_atom: whether to divide the sums by the numbers of atoms.

    Returns:
        (n,) sums.

    Example:
        >>> formulas, n_atoms = np.array([b"FeO", b"O"]), np.array([4, 1])
        >>> sums_of_elements({"Fe": -4.0, "O": -5.0}, formulas, n_atoms, per_atom=False).tolist()
        [-18.0, -5.0]
    """
    other = sum(elements.values()) / max(len(elements), 1)
    unique, of_row = np.unique(formulas, return_inverse=True)
    means = np.zeros(len(unique))
    for row, formula in enumerate(unique.tolist()):
        composition = _composition(formula.decode())
        energy = sum(count * elements.get(symbol, other) for symbol, count in composition.items())
        means[row] = energy / sum(composition.values())
    found: NDArray[np.float64] = means[of_row]
    return found if per_atom else found * n_atoms


def _composition(formula: str) -> Counter[str]:
    """Element -> number of atoms in a reduced formula."""
    out: Counter[str] = Counter()
    for symbol, count in re.findall("([A-Z][a-z]?)([0-9]*)", formula):
        out[symbol] += int(count or 1)
    return out
