"""The cost of a neighbour search, estimated before it begins from a few numbers of the cell.

A cell can be flat, or far from reduced, so that a sphere of a few Angstrom reaches over a million cells. A search in
such a cell would run for hours, or take all memory. The number of images that a search would examine follows from the
cell, and is compared with a limit first. ``native/search.c`` computes the same numbers with the same arithmetic, so
compiled code and Python refuse the same crystals.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np

from lazygraph.crystal import Crystal

__all__ = ["MAX_IMAGES", "MOST_IMAGES", "Effort"]

MAX_IMAGES = 10_000_000
"""The default limit of images of atoms that a search may examine: about 0.3 s and 500 MB."""
MOST_IMAGES = 1_000_000_000
"""The greatest limit that a caller may set: about 30 s, during which no signal is handled, and up to 50 GB."""

Triple: TypeAlias = tuple[float, float, float]

BORDER = 0.15  # A; find_points_in_spheres of pymatgen looks so much farther than it is asked to
HAIR = 1e-8  # cells; by which it looks farther still
LEAST_RADIUS = 1.0  # A; it looks so far where it is asked for less (min_r), and its boxes have this edge
IMAGES_A_BOX = 8  # what one of its boxes takes, in time and memory, against one image
ROUNDING = 2.0**-48  # of a coordinate that comes out of about sixteen operations


class Effort(NamedTuple):
    """The numbers of a crystal from which the cost of any search follows; every number is a float."""

    crystal: Crystal
    atoms: float
    inverse: Triple
    """1/A, one over the distance between two neighbouring lattice planes, for each lattice vector."""
    low: Triple
    """The least fractional coordinates."""
    high: Triple
    """The greatest fractional coordinates."""
    edges: Triple
    """A, the Cartesian extent of the atoms, at most."""
    skew: float
    """The greatest ratio of the length of a lattice vector to the distance of its planes; 1 for a right-angled cell."""
    far: float
    """A; no atom is farther from the origin, and no lattice vector longer."""

    @classmethod
    def of(cls, crystal: Crystal) -> Effort:
        """Compute the numbers of a crystal, in about 10 us."""
        a, b, c = crystal.lattice.tolist()
        low, high = crystal.frac_coords.min(axis=0).tolist(), crystal.frac_coords.max(axis=0).tolist()
        normals = _cross(b, c), _cross(c, a), _cross(a, b)
        volume = abs(_dot(a, normals[0]))
        lengths = math.sqrt(_dot(a, a)), math.sqrt(_dot(b, b)), math.sqrt(_dot(c, c))
        x, y, z = (math.sqrt(_dot(normal, normal)) / volume for normal in normals)
        u, v, w = high[0] - low[0], high[1] - low[1], high[2] - low[2]
        skew = max(lengths[0] * x, lengths[1] * y, lengths[2] * z)
        most = [max(abs(first), abs(last)) + 1.0 for first, last in zip(low, high, strict=True)]
        return cls(
            crystal,
            float(len(crystal)),
            (x, y, z),
            (low[0], low[1], low[2]),
            (high[0], high[1], high[2]),
            (
                u * abs(a[0]) + v * abs(b[0]) + w * abs(c[0]),
                u * abs(a[1]) + v * abs(b[1]) + w * abs(c[1]),
                u * abs(a[2]) + v * abs(b[2]) + w * abs(c[2]),
            ),
            skew,
            most[0] * lengths[0] + most[1] * lengths[1] + most[2] * lengths[2],
        )

    def cells(self, radius: float) -> float:
        """In how many cells find_points_in_spheres looks for neighbours within ``radius`` A of the atoms."""
        reach = max(radius, LEAST_RADIUS) + BORDER
        cells = [1.0, 1.0, 1.0]
        for axis, repeats in enumerate(self.crystal.pbc):
            if repeats:
                steps = float(math.ceil(reach * self.inverse[axis]))
                first, last = self.low[axis] - steps - HAIR, self.high[axis] + steps + HAIR
                cells[axis] = float(math.ceil(last) - math.floor(first))
        return cells[0] * cells[1] * cells[2]

    def images(self, radius: float) -> float:
        """The number of images of atoms that a search within ``radius`` A examines, plus the boxes that it sorts.

        Example:
            >>> silicon = Crystal([[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]], [[0, 0, 0], [0.25] * 3], [14, 14])
            >>> round(Effort.of(silicon).images(5.0))
            712
        """
        box = max(radius, LEAST_RADIUS)
        x, y, z = self.edges
        boxes = (x / box + 3.0) * (y / box + 3.0) * (z / box + 3.0)
        return self.atoms * self.cells(radius) + IMAGES_A_BOX * boxes

    def rounding(self, radius: float) -> float:
        """A; by how much rounding may move an atom in a search within ``radius`` A."""
        return ROUNDING * (self.skew * (self.far + radius))

    def neighbors(self, radius: float) -> float:
        """An estimate of the number of neighbours within ``radius`` A, all atoms together; usually too high.

        The estimate is exact on average if the atoms are distributed evenly. Otherwise, each atom is assumed to have as
        many neighbours as if the whole crystal had the density of the box that it is in, whose edges are 0.6 radii.
        """
        frac = self.crystal.frac_coords
        boxes, volume = np.zeros((len(frac), 3), np.int64), self.crystal.volume
        for axis, repeats in enumerate(self.crystal.pbc):
            extent = 1.0 if repeats else max(self.high[axis] - self.low[axis], 2.0 * radius * self.inverse[axis])
            n = int(min(max(1.0, math.sqrt(3.0) * extent / (radius * self.inverse[axis])), 2.0**20))
            place = frac[:, axis] - (np.floor(frac[:, axis]) if repeats else self.low[axis])
            boxes[:, axis] = np.minimum(place * (n / extent), n - 1)
            volume *= extent / n
        _, counts = np.unique(boxes @ np.array([2**40, 2**20, 1]), return_counts=True)
        together = float((counts.astype(np.float64) ** 2).sum())
        return together * max(1.0, 4.0 / 3.0 * math.pi * radius**3 / volume)


def _dot(u: list[float], v: list[float]) -> float:
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


def _cross(u: list[float], v: list[float]) -> list[float]:
    return [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]]
