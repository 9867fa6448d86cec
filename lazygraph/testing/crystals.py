"""Crystals to test with: a few fixed ones, and a hypothesis strategy for any."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lazygraph.crystal import Crystal
from lazygraph.errors import MissingExtra

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

__all__ = ["crystals", "sample_crystals"]

ELEMENTS = (8, 11, 17, 26)
KINDS = ("plain", "skewed", "left-handed", "flat", "unwrapped")
LEAST = 0.3  # of a cell's edge, that two drawn atoms lie apart


def sample_crystals() -> list[Crystal]:
    """Six crystals of 1 to 5 atoms of O, Na, Cl and Fe in general position: no two distances are equal by symmetry.

    Example:
        >>> [len(crystal) for crystal in sample_crystals()]
        [1, 2, 2, 3, 4, 5]
    """
    rng = np.random.default_rng(11)
    out = [Crystal(np.diag([2.9, 3.1, 3.3]), [[0.1, 0.2, 0.3]], [26])]
    for n in (2, 2, 3, 4, 5):
        # Atoms on a line with room between them, shaken.
        frac = (np.arange(n)[:, None] + rng.uniform(0.1, 0.4, (n, 3))) / n
        lattice = np.diag(rng.uniform(4.0, 5.0, 3)) + rng.uniform(-0.5, 0.5, (3, 3))
        out.append(Crystal(lattice * n ** (1 / 3), frac - 0.3, rng.choice(ELEMENTS, n)))
    return out


def crystals(max_atoms: int = 4, elements: tuple[int, ...] = ELEMENTS) -> SearchStrategy[Crystal]:
    """A hypothesis strategy for crystals of awkward kinds: skewed, left-handed, flat, atoms far outside their cell.

    Some have atoms on special positions, and so many equal distances. No two atoms are close to each other.

    Args:
        max_atoms: the most atoms of a crystal.
        elements: the atomic numbers to choose from.

    Raises:
        MissingExtra: hypothesis is not installed.

    Example:
        >>> crystals(max_atoms=2)
        crystals()
    """
    try:
        from hypothesis import strategies as st
    except ImportError as error:
        raise MissingExtra("lazygraph.testing.crystals needs the package hypothesis: pip install hypothesis") from error

    @st.composite
    def crystals(draw: DrawFn) -> Crystal:
        kind = draw(st.sampled_from(KINDS))
        n_atoms = draw(st.integers(1, max_atoms))
        edges = [draw(st.sampled_from([2.5, 3.0, 4.0, 4.7])) * n_atoms for _ in range(3)]
        lattice = np.diag(edges) + np.tril(np.full((3, 3), draw(st.sampled_from([0.0, 0.5]))), -1)
        if kind == "skewed":
            lattice[2] += draw(st.integers(-2, 2)) * lattice[0] + draw(st.integers(-2, 2)) * lattice[1]
        elif kind == "left-handed":
            lattice = lattice[[1, 0, 2]]
        elif kind == "flat":
            lattice[2] *= 0.5
        shift = st.sampled_from([0.0, 0.25]) if draw(st.booleans()) else st.floats(0.0, 1.0 - LEAST)
        frac = np.array([[(n + draw(shift)) / n_atoms for _ in range(3)] for n in range(n_atoms)])
        if kind == "unwrapped":
            frac += np.array([[draw(st.integers(-3, 3)) for _ in range(3)] for _ in range(n_atoms)])
        numbers = [draw(st.sampled_from(elements)) for _ in range(n_atoms)]
        return Crystal(lattice, frac, numbers)

    return crystals()
