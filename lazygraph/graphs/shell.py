"""The k-th-shell rule: per atom, every neighbour up to the distance of the k-th, made symmetric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import RecipeError, StructureError
from lazygraph.graphs.compiled import MANY, RULE_SHELL, CRule
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.lattice import comformer_images
from lazygraph.graphs.neighbors import BackendSearch, Neighbors, Search, farther, first_radius, kth_distances
from lazygraph.graphs.pairs import Pairs, both_directions, image_codes, sort_pairs
from lazygraph.graphs.parameters import (
    MAX_TOLERANCE,
    MaxNeighbors,
    choice,
    flag,
    length,
    optional,
    switch,
)
from lazygraph.graphs.reference import reference_pairs
from lazygraph.graphs.rule import ChosenEdges, Rule
from lazygraph.graphs.vectors import components, lengths
from lazygraph.native import address

__all__ = ["Shell", "shell_pairs"]

TOLERANCE = 1e-4  # A, unless said
MATFORMER_IMAGES = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=np.float64)
MATFORMER_WHOLE = MATFORMER_IMAGES.astype(np.int16)  # as the loops take them


@dataclass(frozen=True, kw_only=True, repr=False)
class Shell(Rule):
    """Every neighbour up to the shell of the k-th, made symmetric.

    Args:
        max_neighbors: k.
        cutoff: A. A record of the published setting, which changes edges only where ``unused`` does not name it.
        ties: ``shell``: distances within the tolerance make one shell, which is kept whole. ``reference``: the
            published arithmetic, bit for bit (see :mod:`lazygraph.graphs.reference`).
        tolerance: A, at most 0.1; 1e-4 unless set. None with ``ties="reference"``, which compares exactly.
        duplicates: whether an atom's own images S and -S make two pairs, and so each edge twice, or one.
        lattice_edges: ``comformer``: every atom is joined to its images along the three lattice vectors.
            ``matformer``: to six images, unless an atom has fewer than k neighbours within the cutoff.
        lattice_vectors: ``comformer``: the graph carries ComFormer's three lattice vectors.

    Example:
        >>> Shell(max_neighbors=12)
        lazygraph.graphs.Shell(max_neighbors=12, tolerance=0.0001)
    """

    name: ClassVar[str] = "shell"

    max_neighbors: MaxNeighbors
    cutoff: Annotated[float | None, optional(length())] = None
    ties: Annotated[str, choice("shell", "reference")] = "shell"
    tolerance: Annotated[float | None, optional(length(0.0, MAX_TOLERANCE))] = None
    duplicates: Annotated[bool, flag] = False
    lattice_edges: Annotated[str | None, optional(choice("comformer", "matformer"))] = None

    def check(self) -> None:
        """Raise RecipeError where two parameters contradict one another."""
        if self.ties == "reference":
            if self.tolerance is not None:
                msg = f"ties='reference' compares exactly, without a tolerance; leave tolerance={self.tolerance!r} out"
                raise RecipeError(msg)
            if self.cutoff is None:
                msg = (
                    "ties='reference' needs a cutoff, the radius at which the published search begins; a recipe that "
                    "was never published needs ties='shell'"
                )
                raise RecipeError(msg)
        elif self.tolerance is None:
            object.__setattr__(self, "tolerance", TOLERANCE)
        if self.lattice_edges is not None and not self.duplicates:
            msg = f"lattice_edges={self.lattice_edges!r} cannot be used with duplicates=False; set duplicates=True"
            raise RecipeError(msg)
        if self.lattice_edges == "matformer" and self.cutoff is None:
            raise RecipeError("lattice_edges='matformer' needs a cutoff, a length in A")

    @property
    def replays_rounding(self) -> bool:
        """With ``ties="reference"``."""
        return self.ties == "reference"

    @property
    def unused(self) -> frozenset[str]:
        """The cutoff, with two exceptions.

        Matformer's lattice edges depend on it and, with ``ties="reference"``, which neighbours are lost where
        coordinates span more than one cell.
        """
        used = self.ties == "reference" or self.lattice_edges == "matformer"
        return frozenset() if used else frozenset({"cutoff"})

    @classmethod
    def setting(cls, name: str, given: Mapping[str, Any], declared: Mapping[str, Any]) -> Any:
        """As of every rule; ``lattice_edges`` is on or off, and ``ties="reference"`` has no tolerance."""
        if name == "lattice_edges":
            return switch(name, given.get(name, declared[name]), declared[name])
        if name == "tolerance" and given.get("ties", declared.get("ties")) == "reference":
            return given.get(name)
        return Rule.setting(name, given, declared)

    def build(self, search: Search, native: BackendSearch | None = None) -> CrystalGraph:
        """See :meth:`lazygraph.graphs.rule.Rule.build`; lattice vectors are found once for edges and graph."""
        images = self._lattice_images(search.crystal)
        along = images if self.lattice_edges == "comformer" else None
        found = self.compiled(native, along) if native is not None else None
        stored = images if self.lattice_vectors else None
        return self._graph(search.crystal, found or self._edges(search, images), stored)

    def edges(self, search: Search) -> ChosenEdges:
        """See :func:`shell_pairs` and :func:`lazygraph.graphs.reference.reference_pairs`; pairs with both edges."""
        return self._edges(search, self._lattice_images(search.crystal))

    def loop(self) -> CRule | None:
        """Return the rule as the compiled loops take it; ``ties="reference"`` has no loop."""
        if self.tolerance is None:
            return None
        told = CRule(
            kind=RULE_SHELL,
            k=min(self.max_neighbors, MANY),
            tolerance=self.tolerance,
            duplicates=self.duplicates,
            own_lattice=self.lattice_edges == "comformer",
            finds_lattice="comformer" in (self.lattice_vectors, self.lattice_edges),
            own_limit=math.inf,
        )
        if self.lattice_edges == "matformer":
            told.own, told.own_count = address(MATFORMER_WHOLE), len(MATFORMER_WHOLE)
            told.own_limit = (self.cutoff or 0.0) + 2 * self.tolerance
        return told

    def _edges(self, search: Search, lattice_images: NDArray[np.float64] | None) -> ChosenEdges:
        k, settings = self.max_neighbors, self._settings(lattice_images)
        if self.tolerance is None:
            return ChosenEdges(both_directions(reference_pairs(search, k, self.cutoff or 0.0, **settings)))
        return ChosenEdges(both_directions(shell_pairs(search, k, self.tolerance, **settings)))

    def _settings(self, lattice_images: NDArray[np.float64] | None) -> dict[str, Any]:
        settings: dict[str, Any] = {"duplicates": self.duplicates}
        if self.lattice_edges == "matformer":
            settings |= {"self_images": MATFORMER_IMAGES, "self_cutoff": self.cutoff}
        elif self.lattice_edges == "comformer":
            settings["self_images"] = lattice_images
        return settings

    def _lattice_images(self, crystal: Crystal) -> NDArray[np.float64] | None:
        wanted = "comformer" in (self.lattice_vectors, self.lattice_edges)
        return comformer_images(crystal) if wanted else None


def shell_pairs(
    search: Search,
    max_neighbors: int,
    tolerance: float,
    *,
    duplicates: bool,
    self_images: NDArray[np.float64] | None = None,
    self_cutoff: float | None = None,
) -> Pairs:
    """Pairs i-j where j is no farther from i than the k-th neighbour of i plus the tolerance, or the other way round.

    Args:
        search: the neighbours in a crystal.
        max_neighbors: k, which is rather the least number of neighbours: a shell is kept whole.
        tolerance: A, the width within which distances count as one shell.
        duplicates: keep an atom's own images S and -S as two pairs, so that each of the two edges appears twice, as
            the published builders of the jarvis family do; else one pair.
        self_images: (M, 3) whole numbers, lattice edges: images of every atom that are joined to it in any case; for
            recipes that keep duplicates.
        self_cutoff: A; where the k-th neighbour of any atom is farther (by more than the tolerance), there are no
            lattice edges: Matformer's published builder forgets them when it enlarges its cutoff.

    Returns:
        The pairs, sorted.

    Raises:
        StructureError: an atom has fewer than k neighbours within 100 A, or two atoms are closer than 0.15 A.

    Source: ``nearest_neighbor_edges`` of jarvis-tools (canonized), with a tolerance where it compares exactly. Its
    ``cutoff`` only sets where its search begins.
    """
    crystal = search.crystal
    (i, j, image, distance), limit = _nearest(search, max_neighbors, tolerance)
    # A relation and its reverse have one distance, so one of them is enough to see both atoms' wishes.
    wanted = distance <= np.maximum(limit.take(i), limit.take(j))
    once = i <= j if duplicates else (i < j) | ((i == j) & (image_codes(image) > 0))
    keep = (wanted & once).nonzero()[0]
    i, j, image = i.take(keep), j.take(keep), image.take(keep, 0)
    if self_images is not None and (self_cutoff is None or limit.max() <= self_cutoff + 2 * tolerance):
        far = lengths(components(self_images.T, crystal.lattice))
        which, atom = (far[:, None] > limit).nonzero()  # the nearer ones are there already
        i, j = np.concatenate((i, atom)), np.concatenate((j, atom))
        image = np.concatenate((image, self_images.take(which, 0)))
    return sort_pairs(Pairs(i, j, image), len(crystal))


def _nearest(search: Search, k: int, tolerance: float) -> tuple[Neighbors, NDArray[np.float64]]:
    """Neighbours that cover each atom's k-th shell, and how far that shell reaches: (N,) A, tolerance included."""
    crystal = search.crystal
    n = len(crystal)
    if n <= k and not any(crystal.pbc):
        msg = f"the structure has {n} atoms and repeats in no direction; required: more than max_neighbors={k} atoms"
        raise StructureError(msg)
    radius = first_radius(search, k)
    while True:
        neighbors = search.within(radius)
        counts = np.bincount(neighbors.i, minlength=n)
        if counts.min() < k:
            radius = farther(search, radius, counts, k)
            continue
        limit = kth_distances(neighbors.i, neighbors.distance, counts, k) + tolerance
        reach = float(limit.max())
        if reach <= radius:
            return neighbors, limit
        radius = reach  # the shell may go on beyond what was searched; this radius covers it
