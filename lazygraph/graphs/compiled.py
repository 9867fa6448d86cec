"""The rules in compiled loops: search, choice and order of the edges of one crystal or of a batch, in one call.

They are the twins of the plain rules, which say what is done, and give the same edges, images and distances to the bit.
The loops leave some crystals to the plain rules, which may raise an error: those whose atoms are too close, whose
images are too far, or whose search takes more than it may (``native/search.c``).
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.native import address, kernels
from lazygraph.native.arrays import empty

__all__ = ["CRule", "EdgesOfCrystals", "PackedCrystals", "build_edges", "build_edges_of_crystal"]

RULE_RADIUS, RULE_SHELL, RULE_NEAREST = 0, 1, 2
MANY = 2**40  # more neighbours, images or edges than any crystal has


class CRule(ctypes.Structure):
    """A rule as the loops are told it.

    Attributes:
        kind: ``RULE_RADIUS``, ``RULE_SHELL`` or ``RULE_NEAREST``.
        k: number of neighbours, of a shell and of the nearest.
        duplicates: whether an atom's images S and -S make two pairs, of a shell.
        own_lattice: whether every atom is joined to its images along ComFormer's lattice vectors, of a shell.
        own_count: how many images of ``own`` every atom is joined to, of a shell.
        finds_lattice: whether ComFormer's lattice vectors are found by the loops; else they are given.
        none_isolated: whether a crystal with an atom that begins no edge is left to the plain rule.
        own: (own_count, 3) int16 images.
        reach: A, of a radius and of the nearest.
        tolerance: A, of a shell.
        own_limit: A, beyond which no atom is joined to ``own``.
    """

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("kind", "k", "duplicates", "own_lattice", "own_count", "finds_lattice", "none_isolated")
        ),
        ("own", ctypes.c_void_p),
        *((name, ctypes.c_double) for name in ("reach", "tolerance", "own_limit")),
    ]


class PackedCrystals(NamedTuple):
    """B crystals with N atoms in total, one after another."""

    frac_coords: NDArray[np.float64]
    """(N, 3)"""
    lattice: NDArray[np.float64]
    """(B, 3, 3) A, rows are the lattice vectors."""
    pbc: NDArray[np.bool_]
    """(B, 3)"""
    n_node: NDArray[np.int64]
    """(B,) the number of atoms of each crystal."""


class EdgesOfCrystals(NamedTuple):
    """The edges of B crystals, one crystal after another."""

    n_edge: NDArray[np.int64]
    """(B,) the number of edges of each crystal; -1 for a crystal that is left to the plain rule and has none here."""
    edge_index: NDArray[np.int32]
    """(2, E) atoms, numbered through the batch."""
    images: NDArray[Any]
    """(E, 3) int8 or int16, the cell of the atom in row 1."""
    lattice_images: NDArray[np.int16] | None
    """(B, 3, 3) ComFormer's lattice vectors, if the rule has them."""
    distances: NDArray[np.float64] | None
    """(E,) A, if they were asked for."""


def build_edges(
    rule: CRule,
    crystals: PackedCrystals,
    max_images: int,
    *,
    lattice_images: NDArray[np.int16] | None = None,
    most_edges: int = MANY,
    distances: bool = False,
) -> EdgesOfCrystals | None:
    """Make the edges of crystals. Other threads run meanwhile.

    Args:
        rule: the rule.
        crystals: the crystals, with finite numbers and lattices that have a volume.
        max_images: how many images of atoms the search in one crystal may look at.
        lattice_images: (B, 3, 3) ComFormer's lattice vectors, for a rule that needs them and does not find them.
        most_edges: the greatest number of edges that memory suffices for.
        distances: whether to return distances, and images as int16.

    Returns:
        None if there are no compiled loops, or if there are more edges than ``most_edges``.
    """
    library = kernels()
    if library is None:
        return None
    builder = _builder(library)
    try:
        return builder.build(rule, crystals, max_images, lattice_images, most_edges=most_edges, distances=distances)
    finally:
        _LOCAL.builder = builder


def build_edges_of_crystal(
    rule: CRule, crystal: Crystal, max_images: int, lattice_images: NDArray[np.int16] | None
) -> tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.float64]] | None:
    """Make the edges of one crystal: ``edge_index`` (2, E), ``images`` (E, 3) and distances (E,), A.

    Args:
        rule: the rule, which does not find lattice vectors.
        crystal: the crystal.
        max_images: how many images of atoms the search may look at.
        lattice_images: (3, 3) ComFormer's lattice vectors, for a rule that needs them.

    Returns:
        None if the crystal is left to the plain rule, or if there are no compiled loops.
    """
    library = kernels()
    if library is None:
        return None
    builder = _builder(library)
    try:
        return builder.build_one(rule, crystal, max_images, lattice_images)
    finally:
        _LOCAL.builder = builder


def _builder(library: ctypes.CDLL) -> _Builder:
    """The builder of this thread, taken out of it: a signal handler may build too."""
    builder: _Builder | None = _LOCAL.__dict__.pop("builder", None)
    return _Builder(library) if builder is None or builder.loops is not library else builder


class _Builder:
    """What one thread builds with: memory that is used again."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.loops = library
        self._pointer = library.lg_builder_new()
        if not self._pointer:
            raise MemoryError("no memory for building graphs")
        self._one = np.empty(3, np.int64)  # atoms, edges and the farthest image of one crystal
        at = address(self._one)
        self._one_at = at, at + 8, at + 16

    def build_one(
        self, rule: CRule, crystal: Crystal, max_images: int, lattice_images: NDArray[np.int16] | None
    ) -> tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.float64]] | None:
        """What ``build`` does, in half of the time for one small crystal."""
        frac, lattice = (np.ascontiguousarray(array) for array in (crystal.frac_coords, crystal.lattice))
        self._one[0] = len(frac)
        atoms, edges, farthest = self._one_at
        told = None if lattice_images is None else address(lattice_images)
        total = self.loops.lg_build(
            self._pointer, ctypes.addressof(rule), address(frac), address(lattice), bytes(crystal.pbc), atoms, 1,
            min(max_images, MANY), MANY, told, edges, farthest,
        )  # fmt: skip
        if total < 0 or self._one[1] < 0:
            return None
        edge_index, images = np.empty((2, total), np.int32), np.empty((total, 3), np.int16)
        distances = np.empty(total)
        self.loops.lg_builder_write(self._pointer, address(edge_index), address(images), 2, address(distances))
        return edge_index, images, distances

    def build(
        self,
        rule: CRule,
        crystals: PackedCrystals,
        max_images: int,
        lattice_images: NDArray[np.int16] | None,
        *,
        most_edges: int,
        distances: bool,
    ) -> EdgesOfCrystals | None:
        frac, lattice = (np.ascontiguousarray(a, np.float64) for a in (crystals.frac_coords, crystals.lattice))
        pbc, n_node = np.ascontiguousarray(crystals.pbc, np.bool_), np.ascontiguousarray(crystals.n_node, np.int64)
        count = len(n_node)
        if rule.finds_lattice:
            lattice_images = np.zeros((count, 3, 3), np.int16)
        told = 0 if lattice_images is None else address(lattice_images)
        n_edge, farthest = np.empty(count, np.int64), ctypes.c_int64()
        arrays = address(frac), address(lattice), address(pbc), address(n_node), count
        total = self.loops.lg_build(
            self._pointer, ctypes.addressof(rule), *arrays, min(max_images, MANY), most_edges, told, address(n_edge),
            ctypes.addressof(farthest),
        )  # fmt: skip
        if total < 0:
            return None
        width = 2 if distances or farthest.value > np.iinfo(np.int8).max else 1
        edge_index, images = empty((2, total), np.int32), empty((total, 3), f"i{width}")
        far = empty(total, np.float64) if distances else None
        self.loops.lg_builder_write(
            self._pointer, address(edge_index), address(images), width, None if far is None else address(far)
        )
        return EdgesOfCrystals(n_edge, edge_index, images, lattice_images, far)

    def __del__(self) -> None:
        if getattr(self, "_pointer", None):
            self.loops.lg_builder_free(self._pointer)


_LOCAL = threading.local()
