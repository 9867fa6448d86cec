"""PotNet's sums of three potentials over all periodic images of a pair of atoms, by Ewald's method.

For the vector v between two atoms of a crystal with the lattice vectors L, the sums are::

    S1 = sum over L of 1 / |v + L|            Coulomb, in a uniform background that neutralises the crystal
    S2 = sum over L of 1 / |v + L|^6          London dispersion
    S3 = sum over L of exp(-a |v + L|)        Pauli repulsion

The term of length 0, of an atom with itself, is left out of S1 and S2. S1 alone does not converge: its value is the
analytic continuation of Epstein's zeta function, which is Ewald's sum in a neutralising background.

Each potential is an integral over Gaussians, which Poisson's formula turns into two fast sums: over vectors in space,
of the sharp Gaussians, and over reciprocal vectors, of the wide ones. All special functions in them reduce to ``exp``
and ``erfc``. Lengths are in units of the edge of a cube that has the volume of the cell.

Source: Lin et al., ICML 2023, arXiv:2306.10045; Crandall, "Fast evaluation of Epstein zeta functions" (1998); Ewald,
Ann. Phys. 369, 253 (1921). The derivation of S3 is in :func:`_sharp`.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import StructureError

__all__ = ["EXPONENT", "erfcx", "image_sums"]

EXPONENT = 3.0
"""PotNet's constant of the Pauli repulsion."""

TAIL = 27.7  # exp(-TAIL) is 1e-12: what is left out of either sum
SPLIT = 2.0 * math.pi  # of the Gaussians into sharp and wide, for one atom; about the fastest for any number of atoms
MOST_VECTORS = 200_000  # of one sum; a cell of a crystal needs hundreds
CHUNK = 200_000  # distances that are computed at once: 10 MB
SAME_PLACE = 1e-20  # squared length, below which two atoms are one


def image_sums(
    lattice: NDArray[np.float64], frac_coords: NDArray[np.float64], exponent: float = EXPONENT
) -> NDArray[np.float64]:
    """Compute PotNet's three sums for every ordered pair of atoms of a crystal.

    The time is about 1 ms for 8 atoms, 3 ms for 30 and 20 ms for 100. Every value is converged to about ten digits for
    any shape of the cell. The released program sums over a fixed number of cells instead, seven along each axis, so its
    values differ for flat and long cells.

    The constant a of S3 is ``exponent / sqrt(V^(1/3))`` per A, for a cell of the volume V in A^3, as in the released
    program. The published formula has the constant alone. S3 therefore depends on the size of the cell that describes a
    crystal.

    Args:
        lattice: (3, 3) rows are the lattice vectors, A.
        frac_coords: (N, 3) fractional coordinates, inside or outside the cell.
        exponent: the constant of S3, A^(-1/2).

    Returns:
        (N, N, 3) S1 in 1/A, S2 in 1/A^6 and S3; symmetric in the two atoms.

    Raises:
        StructureError: the cell is so far from reduced that a sum would have more than 200,000 terms; or it is
            singular, or not finite, or the coordinates are not finite.

    Example:
        >>> rock_salt = np.array([[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]])
        >>> sums = image_sums(rock_salt, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
        >>> round(float(sums[0, 0, 0] - sums[0, 1, 0]) * 2.82, 6)  # Madelung's constant
        -1.747565
    """
    if not (np.isfinite(lattice).all() and np.isfinite(frac_coords).all()):
        raise StructureError("found a cell or coordinates that are not finite; PotNet's sums need a crystal")
    size = abs(float(lattice[0] @ np.cross(lattice[1], lattice[2]))) ** (1 / 3)
    if not 0.0 < size < math.inf:
        msg = f"found a cell of {size**3:g} A^3; PotNet's sums need a crystal"
        raise StructureError(msg)
    cell = np.asarray(lattice, dtype=np.float64) / size
    reciprocal = _reciprocal(cell)
    a = exponent * math.sqrt(size)
    # With more atoms, the sum over reciprocal vectors is cheaper: its terms cost two products of matrices.
    split = SPLIT * max(len(frac_coords), 1) ** (1 / 3)
    sums = _wide(cell, reciprocal, frac_coords, a, split)
    first, second, sharp = _sharp(cell, reciprocal, frac_coords, a, split)
    sums[first, second] += sharp
    sums[second, first] = sums[first, second]
    sums[:, :, 0] /= size
    sums[:, :, 1] /= size**6
    return sums


def _sharp(
    cell: NDArray[np.float64], reciprocal: NDArray[np.float64], frac: NDArray[np.float64], a: float, split: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The sums over vectors in space: (P,) first and second atom of each pair, and (P, 3) sums.

    With t the split, a potential is the integral over s of ``w(s) exp(-s r^2)``, and its sharp part the integral from t
    to infinity. For ``r^(-2p)``, w is ``s^(p-1) / Gamma(p)``, which gives ``r^(-2p) Gamma(p, t r^2) / Gamma(p)``. For
    ``exp(-a r)``, w is ``a / (2 sqrt(pi)) s^(-3/2) exp(-a^2 / 4s)``, which gives, with c = a / (2 sqrt(t))::

        (exp(-a r) erfc(sqrt(t) r - c) - exp(a r) erfc(sqrt(t) r + c)) / 2
    """
    reach = math.sqrt(TAIL / split)
    first, second = np.triu_indices(len(frac))
    apart = frac[first] - frac[second]
    apart = (apart - np.round(apart)) @ cell
    of_apart = (apart**2).sum(axis=1)
    vectors = _within(cell, reciprocal, reach + math.sqrt(of_apart.max(initial=0.0)))
    of_vectors = (vectors**2).sum(axis=1)
    sharp = np.empty((len(first), 3))
    step = max(CHUNK // len(vectors), 1)
    for begin in range(0, len(first), step):
        part = slice(begin, begin + step)
        # |v + L|^2 as |v|^2 + |L|^2 + 2 v . L, a product of matrices; exactly 0 for an atom with itself
        squares = of_apart[part, None] + of_vectors + 2.0 * (apart[part] @ vectors.T)
        pair, vector = np.nonzero(squares <= reach**2)
        terms = _sharp_terms(np.maximum(squares[pair, vector], 0.0), a, split)
        for column, term in enumerate(terms):
            sharp[part, column] = np.bincount(pair, term, len(squares))
    return first, second, sharp


def _sharp_terms(
    squares: NDArray[np.float64], a: float, split: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The sharp parts of the three potentials by squared distance, (K,); at 0 minus the wide part of S1 and S2."""
    itself = squares < SAME_PLACE
    r = np.sqrt(squares)
    from_zero = np.where(itself, 1.0, r)
    root = math.sqrt(split)
    c = a / (2.0 * root)
    x, near = split * squares, root * r - c
    gaussian = np.exp(-x)
    of_r, of_difference, of_sum = erfcx(np.stack([root * r, np.abs(near), root * r + c]))
    coulomb = np.where(itself, -2.0 * math.sqrt(split / math.pi), gaussian * of_r / from_zero)
    # Gamma(3, x) / Gamma(3) = exp(-x) (1 + x + x^2 / 2)
    dispersion = np.where(itself, -(split**3) / 6.0, gaussian * (1.0 + x * (1.0 + x / 2.0)) / from_zero**6)
    # The difference of the two products, without the exponentials that overflow: a r = 2 sqrt(t) r c.
    both = math.exp(-c * c) * gaussian * (np.copysign(of_difference, near) - of_sum)
    repulsion = np.where(near < 0, np.exp(-a * r), 0.0) + both / 2.0
    return coulomb, dispersion, repulsion


def _wide(
    cell: NDArray[np.float64], reciprocal: NDArray[np.float64], frac: NDArray[np.float64], a: float, split: float
) -> NDArray[np.float64]:
    """The sums over reciprocal vectors, (N, N, 3).

    The wide part of ``r^(-2p)`` gives ``pi^(2p - 3/2) g^(2p - 3) Gamma(3/2 - p, (pi g)^2 / t) / Gamma(p)`` for each
    reciprocal vector of the length g, times the cosine of ``2 pi g . v``. The vector 0 gives
    ``pi^(3/2) t^(p - 3/2) / ((p - 3/2) Gamma(p))``. For ``exp(-a r)`` and any g, with z = a^2 / 4 + (pi g)^2, it is
    ``pi a / 2 exp(-z / t) (1 + z / t) / z^2``.
    """
    reach = math.sqrt(TAIL * split) / math.pi
    vectors = _within(reciprocal, cell, reach)
    # One of each pair g and -g, which together give twice the cosine.
    half = vectors[_upper(vectors)]
    y = (math.pi**2) * (half**2).sum(axis=1)
    x = y / split
    gaussian = np.exp(-x)
    weights = np.empty((3, len(half) + 1))
    weights[0, 1:] = 2.0 * math.pi * gaussian / y
    # Gamma(-3/2, x), by its recurrence from Gamma(1/2, x) = sqrt(pi) erfc(sqrt(x))
    of_root = math.sqrt(math.pi) * erfcx(np.sqrt(x))
    gamma = 2.0 / 3.0 * gaussian * (x**-1.5 - 2.0 * (x**-0.5 - of_root))
    weights[1, 1:] = math.pi**1.5 * y**1.5 * gamma
    z = a * a / 4.0 + y
    weights[2, 1:] = math.pi * a * np.exp(-z / split) * (1.0 + z / split) / z**2
    z0 = a * a / 4.0
    weights[:, 0] = (
        -math.pi / split,
        (math.pi * split) ** 1.5 / 3.0,
        math.pi * a / 2.0 * math.exp(-z0 / split) * (1.0 + z0 / split) / z0**2,
    )
    phases = (2.0 * math.pi) * (frac @ np.vstack([np.zeros(3), half @ cell.T]).T)
    cosines, sines = np.cos(phases), np.sin(phases)
    return np.stack([(cosines * w) @ cosines.T + (sines * w) @ sines.T for w in weights], axis=-1)


def _within(rows: NDArray[np.float64], dual: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """The vectors (M, 3) of a lattice that are no longer than ``reach``, with the vector 0.

    Args:
        rows: (3, 3) the lattice.
        dual: (3, 3) its reciprocal lattice, ``inv(rows).T``.
        reach: in the unit of the rows.
    """
    most = [reach * length for length in np.sqrt((dual**2).sum(axis=1)).tolist()]
    count = math.prod(2.0 * n + 1.0 for n in most)
    if count > MOST_VECTORS:
        msg = (
            f"PotNet's sums over all images would have {count:.2g} terms for each pair of atoms, of at most "
            f"{MOST_VECTORS:,}, because the cell is far from reduced. Reduce the cell, or leave the sums out "
            "(sums=False)"
        )
        raise StructureError(msg)
    vectors = _grid(int(most[0]), int(most[1]), int(most[2])) @ rows
    near: NDArray[np.float64] = vectors[(vectors**2).sum(axis=1) <= reach**2]
    return near


def _reciprocal(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """The reciprocal lattice (3, 3) of a cell of the volume 1, by cross products, which a flat cell does not stop."""
    a, b, c = cell
    rows = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)])
    reciprocal: NDArray[np.float64] = rows / float(a @ rows[0])
    return reciprocal


def _upper(vectors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(M,) whether a vector is the greater one of itself and its reverse, by its components in order."""
    x, y, z = vectors.T
    upper: NDArray[np.bool_] = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
    return upper


@lru_cache(maxsize=64)
def _grid(x: int, y: int, z: int) -> NDArray[np.float64]:
    """All whole numbers up to x, y and z in both directions, (M, 3)."""
    steps = [range(-n, n + 1) for n in (x, y, z)]
    grid = np.array(list(itertools.product(*steps)), dtype=np.float64)
    grid.flags.writeable = False
    return grid


# ---- the scaled complementary error function, which numpy lacks ----

DEGREE = 18  # of the polynomial
MIDDLE = 2.5  # the map of x to the polynomial's variable sends it to the middle of [-1, 1]
FARTHEST = 6.5  # of the polynomial
LAST = (FARTHEST - MIDDLE) / (FARTHEST + MIDDLE)


@lru_cache(maxsize=1)
def _coefficients() -> list[float]:
    """The Chebyshev coefficients of ``exp(x^2) erfc(x)`` on [0, FARTHEST], in the variable of :func:`erfcx`."""
    nodes = np.cos(math.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
    mapped = (nodes + 1.0) * (LAST + 1.0) / 2.0 - 1.0
    places = (MIDDLE * (1.0 + mapped) / (1.0 - mapped)).tolist()
    values = [math.exp(x * x) * math.erfc(x) for x in places]
    fitted: list[float] = np.polynomial.chebyshev.chebfit(nodes, values, DEGREE).tolist()
    return fitted


def erfcx(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``exp(x^2) erfc(x)`` of an array of numbers from 0.

    Up to 6.5 the error is below 3e-14 of the value, beyond it below 3e-6. :func:`image_sums` multiplies values beyond
    6.5 by less than 1e-9.

    Example:
        >>> erfcx(np.array([0.0, 1.0])).round(12).tolist()
        [1.0, 0.427583576156]
    """
    mapped = (np.minimum(x, FARTHEST) - MIDDLE) / (np.minimum(x, FARTHEST) + MIDDLE)
    u = 2.0 * (mapped + 1.0) / (LAST + 1.0) - 1.0
    # Clenshaw's recurrence
    first, *others = _coefficients()
    later, last, twice = np.zeros_like(u), np.zeros_like(u), 2.0 * u
    for coefficient in reversed(others):
        later, last = coefficient + twice * later - last, later
    values: NDArray[np.float64] = first + u * later - last
    if (far := x > FARTHEST).any():
        q = 0.5 / x[far] ** 2  # the asymptotic series
        values[far] = (1.0 - q * (1.0 - 3.0 * q * (1.0 - 5.0 * q * (1.0 - 7.0 * q)))) / (x[far] * math.sqrt(math.pi))
    return values
