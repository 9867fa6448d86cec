"""Coordinates in a basis: the two float64 expressions that crystals and the format share, stated to the last bit.

Every operation is elementwise, in a stated order and rounded by itself (no BLAS, no fused multiply-add), so that all
platforms agree and a coordinate may be stored in whichever of the two forms is shorter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["determinant", "to_cartesian", "to_fractional"]


def to_cartesian(frac: NDArray[np.float64], lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fractional (N, 3) to Cartesian (N, 3), in the unit of the lattice: ``(f0*L0 + f1*L1) + f2*L2``.

    Example:
        >>> to_cartesian(np.array([[0.5, 0.5, 0.0]]), np.diag([2.0, 4.0, 6.0]))
        array([[1., 2., 0.]])
    """
    out: NDArray[np.float64] = frac[:, 0:1] * lattice[0] + frac[:, 1:2] * lattice[1]
    out += frac[:, 2:3] * lattice[2]
    return out


def to_fractional(cart: NDArray[np.float64], lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cartesian (N, 3) to fractional (N, 3): ``((x*n0 + y*n1) + z*n2) / V``, n the cross products of the lattice rows.

    Example:
        >>> to_fractional(np.array([[1.0, 2.0, 0.0]]), np.diag([2.0, 4.0, 6.0]))
        array([[0.5, 0.5, 0. ]])
    """
    (a0, a1, a2), (b0, b1, b2), (c0, c1, c2) = lattice.tolist()
    n0 = b1 * c2 - b2 * c1
    n1 = b2 * c0 - b0 * c2
    n2 = b0 * c1 - b1 * c0
    rows = np.array(
        [
            [n0, c1 * a2 - c2 * a1, a1 * b2 - a2 * b1],
            [n1, c2 * a0 - c0 * a2, a2 * b0 - a0 * b2],
            [n2, c0 * a1 - c1 * a0, a0 * b1 - a1 * b0],
        ]
    )
    out: NDArray[np.float64] = cart[:, 0:1] * rows[0] + cart[:, 1:2] * rows[1]
    out += cart[:, 2:3] * rows[2]
    out /= (a0 * n0 + a1 * n1) + a2 * n2
    return out


def determinant(lattice: NDArray[np.float64]) -> float:
    """Signed volume of the cell; negative for a left-handed one."""
    (a0, a1, a2), (b0, b1, b2), (c0, c1, c2) = lattice.tolist()
    return float((a0 * (b1 * c2 - b2 * c1) + a1 * (b2 * c0 - b0 * c2)) + a2 * (b0 * c1 - b1 * c0))
