"""The views ``comformer``, ``matformer`` and ``alignn``, whose models use graphs of jarvis-tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import array_namespace

from lazygraph.graphs.angles import LineGraph, WholeLineGraph
from lazygraph.graphs.spec import GraphSpec
from lazygraph.reading.batch_layout import BatchField
from lazygraph.reading.crystals import Crystals
from lazygraph.reading.views.base import EDGE, EDGE_INDEX, GRAPH, NODE, Arrays, View, cast, published
from lazygraph.reading.views.features import CGCNN_ELEMENTS, node_features

__all__ = ["Alignn", "Comformer", "Matformer"]


@dataclass(frozen=True, repr=False)
class Matformer(View):
    """The arrays that Matformer and eComFormer read.

    ``x`` (N, 92) CGCNN features; ``edge_index`` (2, E) int64; ``edge_attr`` (E, 3) vectors, A.

    It accepts any recipe. For ``ties="reference"``, vectors are computed as in the published code.

    Source: ``Data`` of matformer and comformer (AIRS).
    """

    name: ClassVar[str] = "matformer"
    elements: ClassVar[tuple[str, ...]] = CGCNN_ELEMENTS
    layout: ClassVar[dict[str, BatchField]] = {"x": NODE, "edge_index": EDGE_INDEX, "edge_attr": EDGE}

    def arrays(self, crystals: Crystals, spec: GraphSpec) -> Arrays:
        """Compute the arrays that the class describes."""
        return Arrays(self._common(crystals, spec))

    def _common(self, crystals: Crystals, spec: GraphSpec) -> dict[str, Any]:
        return {
            "x": node_features(crystals.numbers, "cgcnn", self.dtype),
            "edge_index": cast(crystals.edge_index, "int64"),
            "edge_attr": self.vectors(published(crystals, spec)),
        }


@dataclass(frozen=True, repr=False)
class Comformer(Matformer):
    """The arrays that iComFormer and eComFormer read.

    The arrays of ``matformer``, and ``edge_nei`` (E, 3, 3): ComFormer's three lattice vectors for every edge, A.

    It accepts recipes with lattice vectors.
    """

    name: ClassVar[str] = "comformer"
    elements: ClassVar[tuple[str, ...]] = CGCNN_ELEMENTS
    layout: ClassVar[dict[str, BatchField]] = {**Matformer.layout, "edge_nei": EDGE}

    def check(self, spec: GraphSpec) -> None:
        """Require lattice vectors."""
        if spec.rule.lattice_vectors is None:
            raise self.mismatch(spec, "no lattice vectors", "comformer")

    def arrays(self, crystals: Crystals, spec: GraphSpec) -> Arrays:
        """Compute the arrays that the class describes."""
        xp = array_namespace(crystals.images)
        vectors = self.real(published(crystals, spec).lattice_vectors)
        per_edge = xp.take(vectors, crystals.graph_of_edge, axis=0)
        return Arrays({**self._common(crystals, spec), "edge_nei": per_edge})


@dataclass(frozen=True, repr=False)
class Alignn(View):
    """The arrays of ALIGNN: the crystal graph and its line graph.

    ``atom_features`` (N, 92) CGCNN features; ``edge_index`` (2, E) int64; ``r`` (E, 3) vectors, A; ``images`` (E, 3)
    int64; ``line_graph`` (2, T) int64 pairs of edges, where the second starts at the end of the first; ``h`` (T,)
    cosine of the angle between the two at their common atom; ``lattice`` (1, 3, 3) A.

    For recipes with the angles ``LineGraph`` (which DGL makes) or ``WholeLineGraph`` (edges within the three-body
    cutoff).

    Source: alignn's ``Graph.atom_dgl_multigraph`` with ``compute_bond_cosines``, and ``torch_graph_builder`` of 2026.
    """

    name: ClassVar[str] = "alignn"
    elements: ClassVar[tuple[str, ...]] = CGCNN_ELEMENTS
    layout: ClassVar[dict[str, BatchField]] = {
        "atom_features": NODE,
        "edge_index": EDGE_INDEX,
        "r": EDGE,
        "images": EDGE,
        "line_graph": BatchField("angle", -1, "edge"),
        "h": BatchField("angle"),
        "lattice": GRAPH,
    }

    def check(self, spec: GraphSpec) -> None:
        """Require a recipe that says which line graph."""
        self._angles(spec)

    def _angles(self, spec: GraphSpec) -> LineGraph | WholeLineGraph:
        if not isinstance(spec.angles, (LineGraph, WholeLineGraph)):
            raise self.mismatch(spec, "no line graph", "alignn")
        return spec.angles

    def arrays(self, crystals: Crystals, spec: GraphSpec) -> Arrays:
        """Compute the arrays that the class describes."""
        pairs = self._angles(spec).find(crystals)
        crystals.check_angles(pairs.total)
        seen = published(crystals, spec)
        values = {
            "atom_features": node_features(crystals.numbers, "cgcnn", self.dtype),
            "edge_index": cast(crystals.edge_index, "int64"),
            "r": self.vectors(seen),
            "images": cast(crystals.images, "int64"),
            "line_graph": pairs.ids("int64"),
            "h": pairs.cosines(seen.vectors("float64"), self.dtype),
            "lattice": self.real(seen.lattice),
        }
        return Arrays(values, {"angle": pairs.of_graphs})
