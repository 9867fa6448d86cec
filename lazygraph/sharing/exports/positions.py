"""Cartesian coordinates that give back the stored fractional coordinates, to the last bit where there are such."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lazygraph.coordinates import to_cartesian, to_fractional
from lazygraph.crystal import Crystal

__all__ = ["exact_positions"]

SCALES = (1e8, 1e10, 1e12)  # decimals that files usually have


def exact_positions(crystal: Crystal) -> tuple[NDArray[np.float64], float]:
    """Return Cartesian coordinates whose conversion gives the fractional coordinates of a crystal.

    Many files give Cartesian coordinates with eight decimals. The crystal then holds the fractional coordinates that
    follow from them, and the product with the lattice differs from the file in the last bits. Rounding to a few
    decimals gives the coordinates of the file again. It is used only if it gives back all bits of the crystal.

    Returns:
        (N, 3) float64, A; and by how much the converted coordinates differ at most, 0.0 if all bits are equal.

    Example:
        >>> crystal = Crystal.from_cartesian(np.eye(3) * 3.9, [[0.1, 0.7, 1.3]], [14])
        >>> crystal.cart_coords[0].tolist()
        [0.09999999999999999, 0.7, 1.3]
        >>> positions, error = exact_positions(crystal)
        >>> positions[0].tolist(), error
        ([0.1, 0.7, 1.3], 0.0)
    """
    frac, lattice = crystal.frac_coords, crystal.lattice
    plain = to_cartesian(frac, lattice)
    for scale in SCALES:
        rounded = np.rint(plain * scale) / scale + 0.0
        if np.array_equal(to_fractional(rounded, lattice) + 0.0, frac):
            return rounded, 0.0
    return plain, float(np.abs(to_fractional(plain, lattice) - frac).max(initial=0.0))
