"""The view ``chgnet`` for CHGNet of the package chgnet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from array_api_compat import array_namespace, device

from lazygraph.graphs.angles import BondGraph
from lazygraph.graphs.spec import GraphSpec
from lazygraph.reading.batch_layout import BatchField
from lazygraph.reading.crystals import Crystals
from lazygraph.reading.views.base import EDGE, GRAPH, NODE, Arrays, View, cast

__all__ = ["Chgnet"]


@dataclass(frozen=True, repr=False)
class Chgnet(View):
    """The arrays of chgnet's ``CrystalGraph``.

    ``atomic_number`` (N,) int32; ``atom_frac_coord`` (N, 3); ``atom_graph`` (E, 2) int32, centre and neighbour;
    ``neighbor_image`` (E, 3) floating-point; ``directed2undirected`` (E,) int32; ``undirected2directed`` (E/2,) int32,
    the first of the two edges; ``bond_graph`` (T, 5) int32: centre, undirected and directed id of one edge, undirected
    and directed id of another; ``lattice`` (1, 3, 3) A. A batch numbers all of them consecutively.

    For recipes with the angles ``BondGraph``.

    Source: ``chgnet.graph`` 0.4. Edges and rows have the order of the record.
    """

    name: ClassVar[str] = "chgnet"
    layout: ClassVar[dict[str, BatchField]] = {
        "atomic_number": NODE,
        "atom_frac_coord": NODE,
        "atom_graph": BatchField("edge", 0, "node"),
        "neighbor_image": EDGE,
        "directed2undirected": BatchField("edge", 0, "undirected"),
        "undirected2directed": BatchField("undirected", 0, "edge"),
        "bond_graph": BatchField("angle", 0, ("node", "undirected", "edge", "undirected", "edge")),
        "lattice": GRAPH,
    }

    def check(self, spec: GraphSpec) -> None:
        """Require a bond graph."""
        self._angles(spec)

    def _angles(self, spec: GraphSpec) -> BondGraph:
        if not isinstance(spec.angles, BondGraph):
            raise self.mismatch(spec, "no bond graph", "chgnet")
        return spec.angles

    def arrays(self, crystals: Crystals, spec: GraphSpec) -> Arrays:
        """Compute the arrays that the class describes."""
        xp = array_namespace(crystals.images)
        # Edges come in pairs, so that undirected edge m is made of the edges 2m and 2m + 1.
        directed = xp.arange(crystals.images.shape[0], dtype=xp.int32, device=device(crystals.images))
        crystals.check_pairs()
        pairs = self._angles(spec).find(crystals)
        crystals.check_angles(pairs.total)
        values = {
            "atomic_number": cast(crystals.numbers, "int32"),
            "atom_frac_coord": self.real(crystals.frac_coords),
            "atom_graph": cast(crystals.edge_index.T, "int32"),
            "neighbor_image": self.real(crystals.images),
            "directed2undirected": directed >> 1,
            "undirected2directed": directed[::2],
            "bond_graph": pairs.bonds(),
            "lattice": self.real(crystals.lattice),
        }
        return Arrays(values, {"undirected": crystals.n_edge // 2, "angle": pairs.of_graphs})
