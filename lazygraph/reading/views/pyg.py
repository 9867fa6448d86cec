"""The default view ``pyg``, with the names that most PyG models read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from lazygraph.errors import InputError
from lazygraph.graphs.spec import GraphSpec
from lazygraph.reading.batch_layout import BatchField
from lazygraph.reading.crystals import Crystals
from lazygraph.reading.views.base import EDGE, EDGE_INDEX, GRAPH, NODE, Arrays, View, cast
from lazygraph.reading.views.features import CGCNN_ELEMENTS, Features, elements_of, node_features

__all__ = ["Pyg"]


@dataclass(frozen=True, repr=False)
class Pyg(View):
    """The arrays of the default view.

    ``x`` (N, 1) int64 atomic numbers, or other ``features``; ``pos`` (N, 3) A; ``edge_index`` (2, E) int64;
    ``edge_attr`` (E, 3) vectors from row 0 to row 1, A; ``images`` (E, 3) int64, the cell of the atom in row 1;
    ``cell`` (1, 3, 3) A; ``lattice_vectors`` (1, 3, 3) A, if the recipe has them. Crystals alone have no edges: E is 0.

    Args:
        dtype: type of floating-point arrays.
        features: ``number``, ``cgcnn`` (92 columns), or element symbols for a one-hot ``x``.
        images: whether to make ``images``, which take almost half of the memory of an edge and which few models read.
    """

    name: ClassVar[str] = "pyg"
    layout: ClassVar[dict[str, BatchField]] = {
        "x": NODE,
        "pos": NODE,
        "edge_index": EDGE_INDEX,
        "edge_attr": EDGE,
        "images": EDGE,
        "cell": GRAPH,
        "lattice_vectors": GRAPH,
    }

    needs_edges: ClassVar[bool] = False

    features: Features = "number"
    images: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features in ("number", "cgcnn"):
            return
        if isinstance(self.features, str) or not isinstance(self.features, Iterable):
            msg = f"found features={self.features!r}; required: 'number', 'cgcnn' or a list of element symbols"
            raise InputError(msg)
        object.__setattr__(self, "features", elements_of(self.features))

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements that have features; empty if every element has."""
        if self.features == "number":
            return ()
        return CGCNN_ELEMENTS if self.features == "cgcnn" else self.features

    def arrays(self, crystals: Crystals, spec: GraphSpec) -> Arrays:  # noqa: ARG002  # any recipe will do
        """Compute the arrays that the class describes."""
        values = {
            "x": node_features(crystals.numbers, self.features, self.dtype),
            "pos": crystals.positions(self.dtype),
            "edge_index": cast(crystals.edge_index, "int64"),
            "edge_attr": self.vectors(crystals),
            "cell": self.real(crystals.lattice),
        }
        if self.images:
            values["images"] = cast(crystals.images, "int64")
        if crystals.lattice_images is not None:
            values["lattice_vectors"] = self.real(crystals.lattice_vectors)
        return Arrays(values)
