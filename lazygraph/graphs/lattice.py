"""The three lattice vectors of ComFormer, by the published rule and its published arithmetic.

In the published code, the last bit decides which of several equally long images comes first, and on which side of 90
degrees a right angle falls. The arithmetic is therefore part of the rule, and is repeated here:

- jarvis-tools rounds the lattice to five decimals for coordinates and angles, but not for the translations;
- the length of image S is the length of ``(S L + x_0) - x_0``, where x_0 is the position of the first atom, a matrix
  product that BLAS rounds once per step (fused multiply-add) unless there is one atom only; here the same is computed
  without BLAS, so that every machine agrees;
- images of equal length keep the order (S_0, S_1, S_2), from negative to positive.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError
from lazygraph.graphs.neighbors import MAX_IMAGE
from lazygraph.graphs.vectors import components, lengths
from lazygraph.native import address, kernels

__all__ = ["comformer_images"]

Triple: TypeAlias = tuple[float, float, float]
Matrix: TypeAlias = tuple[Triple, Triple, Triple]

DECIMALS = 1e5  # jarvis-tools rounds the lattice to five decimals
PARALLEL = 1e-5  # published bound on ||cos| - 1| between images
# The published test is acos(cosine) / pi * 180 > 90. This is the greatest cosine that passes it if the arc cosine is
# rounded correctly; those of C libraries differ in the last bit.
OBTUSE = -4.9789962505148e-17
SLACK = 1e-3  # A; far above rounding, so that the box never cuts a candidate off
MAX_IMAGES = 2_000_000  # about 0.2 s and 100 MB
CACHED_IMAGES = 1_000  # of one grid, about 100 kB; most crystals need fewer


def comformer_images(crystal: Crystal) -> NDArray[np.float64]:
    """(3, 3) whole numbers: the images whose translations are ComFormer's lattice vectors lat1, lat2, lat3.

    lat1 is the shortest image, lat2 the next that is not parallel to it, lat3 the next outside their plane. lat2 and
    lat3 are reversed if they make more than 90 degrees with lat1. Then all three are reversed if they are left-handed.

    Raises:
        StructureError: the crystal does not repeat in all three directions, or its cell is so far from reduced that
            more than two million images are shorter than the longest lattice vector.

    Example:
        >>> comformer_images(Crystal(np.diag([3.0, 5.0, 4.0]), [[0, 0, 0]], [14])).tolist()
        [[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]]
    """
    if not all(crystal.pbc):
        msg = f"the structure has pbc={crystal.pbc}; lattice vectors need a crystal that is periodic in all directions"
        raise StructureError(msg)
    images = _compiled(crystal)
    return _plain(crystal) if images is None else images


def _compiled(crystal: Crystal) -> NDArray[np.float64] | None:
    """The images from the compiled loop. None: the caller uses the plain code instead."""
    library = kernels()
    if library is None:
        return None
    lattice, frac = np.ascontiguousarray(crystal.lattice), np.ascontiguousarray(crystal.frac_coords)
    out = np.empty((3, 3))
    return out if library.lg_lattice(address(lattice), address(frac), len(crystal), address(out)) == 0 else None


def _plain(crystal: Crystal) -> NDArray[np.float64]:
    """The images without compiled loops."""
    rounded = _rounded(crystal.lattice)
    place = _position if len(crystal) > 1 else _cartesian  # a product with a single row is not fused
    images = _by_length(crystal, place(crystal.frac_coords[0].tolist(), rounded))
    try:
        first = next(images)
        second = next(s for s in images if not _parallel(first, s))
        normal = _cross(first, second)
        third = next(s for s in images if _dot(normal, s) != 0)
    except StopIteration:
        msg = (
            f"rounding hides the lattice vectors beside the first atom, at {crystal.frac_coords[0].tolist()} in cells "
            f"of {crystal.volume:.3g} A^3; this atom must be near the origin: wrap it into the cell"
        )
        raise StructureError(msg) from None
    return np.array(_turned(first, second, third, rounded))


def _by_length(crystal: Crystal, origin: Triple) -> Iterator[Triple]:
    """The images that are not longer than the longest lattice vector, by length, without (0, 0, 0)."""
    a, b, c = crystal.lattice.tolist()
    longest = math.sqrt(max(_dot(a, a), _dot(b, b), _dot(c, c))) + SLACK
    x, y, z = _box(a, b, c, longest)
    small = (2 * x + 1) * (2 * y + 1) * (2 * z + 1) <= CACHED_IMAGES
    grid, images = (_grid if small else _grid.__wrapped__)(x, y, z)
    shift = np.array(origin)[:, None]
    translations = components(grid, crystal.lattice)
    translations += shift
    translations -= shift
    distance = lengths(translations)
    near = (distance <= longest).nonzero()[0]
    order = near.take(distance.take(near).argsort(kind="stable"))
    return map(images.__getitem__, order[1:].tolist())


def _box(a: Triple, b: Triple, c: Triple, reach: float) -> tuple[int, int, int]:
    """How many cells each way hold every image that is no longer than ``reach`` A."""
    u, v, w = _cross(b, c), _cross(c, a), _cross(a, b)
    scale = reach / abs(_dot(a, u))
    x, y, z = int(math.sqrt(_dot(u, u)) * scale), int(math.sqrt(_dot(v, v)) * scale), int(math.sqrt(_dot(w, w)) * scale)
    if (2 * x + 1) * (2 * y + 1) * (2 * z + 1) > MAX_IMAGES or max(x, y, z) > MAX_IMAGE:
        msg = (
            f"the longest lattice vector, {reach:.4g} A, reaches over {x}, {y} and {z} cells; lattice vectors may "
            f"reach over at most {MAX_IMAGE:,} cells each way and {MAX_IMAGES:,} in all. Reduce the cell"
        )
        raise StructureError(msg)
    return x, y, z


@lru_cache(maxsize=64)
def _grid(x: int, y: int, z: int) -> tuple[NDArray[np.float64], list[Triple]]:
    """All images of a box, first axis slowest, as an array (3, M) and as tuples."""
    steps = [[float(s) for s in range(-n, n + 1)] for n in (x, y, z)]
    images = list(itertools.product(steps[0], steps[1], steps[2]))
    return np.array(images).T.copy(), images


def _rounded(lattice: NDArray[np.float64]) -> Matrix:
    """The lattice rounded as ``numpy.around`` does it."""
    x = [round(value * DECIMALS) / DECIMALS for value in lattice.ravel().tolist()]
    return (x[0], x[1], x[2]), (x[3], x[4], x[5]), (x[6], x[7], x[8])


def _position(frac: Triple, lattice: Matrix) -> Triple:
    """``frac @ lattice`` as BLAS with fused multiply-add rounds it."""
    (f0, f1, f2), (a, b, c) = frac, lattice
    return (
        _fused(f2, c[0], _fused(f1, b[0], f0 * a[0])),
        _fused(f2, c[1], _fused(f1, b[1], f0 * a[1])),
        _fused(f2, c[2], _fused(f1, b[2], f0 * a[2])),
    )


def _fused(a: float, b: float, c: float) -> float:
    """``a * b + c``, rounded once: Dekker's exact product, then a correctly rounded sum."""
    high = 134217729.0 * a
    a1 = high - (high - a)
    high = 134217729.0 * b
    b1 = high - (high - b)
    a2, b2, product = a - a1, b - b1, a * b
    return math.fsum((product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2, c))


def _turned(first: Triple, second: Triple, third: Triple, lattice: Matrix) -> Matrix:
    """The three images, signs chosen by angles in the rounded lattice."""
    x, y, z = _cartesian(first, lattice), _cartesian(second, lattice), _cartesian(third, lattice)
    if _obtuse(x, y):
        second, y = _minus(second), _minus(y)
    if _obtuse(x, z):
        third, z = _minus(third), _minus(z)
    if _obtuse(_cross(x, y), z):
        return _minus(first), _minus(second), _minus(third)
    return first, second, third


def _parallel(u: Triple, v: Triple) -> bool:
    product = math.sqrt(_dot(u, u) * _dot(v, v))
    return product > 0 and abs(abs(_dot(u, v)) / product - 1) < PARALLEL


def _obtuse(u: Triple, v: Triple) -> bool:
    product = math.sqrt(_dot(u, u)) * math.sqrt(_dot(v, v))
    if product == 0:  # a vector that rounding to five decimals makes nothing
        return False
    return _dot(u, v) / product <= OBTUSE


def _cartesian(s: Triple, lattice: Matrix) -> Triple:
    (a0, a1, a2), (b0, b1, b2), (c0, c1, c2) = lattice
    u, v, w = s
    return u * a0 + v * b0 + w * c0, u * a1 + v * b1 + w * c1, u * a2 + v * b2 + w * c2


def _dot(u: Triple, v: Triple) -> float:
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


def _cross(u: Triple, v: Triple) -> Triple:
    return u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]


def _minus(u: Triple) -> Triple:
    return 0.0 - u[0], 0.0 - u[1], 0.0 - u[2]
