"""The views ``megnet``, ``m3gnet`` and ``matgl-chgnet`` for the models of matgl."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from array_api_compat import array_namespace, device

from lazygraph.crystal import SYMBOLS
from lazygraph.graphs.angles import Triplets
from lazygraph.graphs.edge_pairs import find_pairs
from lazygraph.graphs.spec import GraphSpec
from lazygraph.graphs.vectors import WIDE
from lazygraph.native import address, kernels
from lazygraph.native.arrays import empty
from lazygraph.reading.batch_layout import BatchField
from lazygraph.reading.crystals import Crystals
from lazygraph.reading.views.base import EDGE, EDGE_INDEX, GRAPH, NODE, Arrays, View, cast
from lazygraph.reading.views.features import element_places, elements_of

__all__ = ["M3gnet", "MatglChgnet", "Megnet"]

# matgl's DEFAULT_ELEMENTS: up to plutonium, without those of which there is next to no data.
WITHOUT = {"Po", "At", "Rn", "Fr", "Ra"}
TO_PLUTONIUM = SYMBOLS[1:95]
COMMON = tuple(symbol for symbol in TO_PLUTONIUM if symbol not in WITHOUT)


@dataclass(frozen=True, repr=False)
class Megnet(View):
    """The arrays that matgl's converter and ``Potential`` pass to a model.

    ``node_type`` (N,) int64, the position in ``elements``; ``frac_coords`` (N, 3); ``pos`` (N, 3) A; ``edge_index`` (2,
    E) int32, sorted by row 0; ``pbc_offset`` (E, 3) the cell of the atom in row 1 and ``pbc_offshift`` (E, 3) its
    translation, A, both floating-point; ``lattice`` (1, 3, 3) A; ``state_attr`` (1, 2) zeros.

    Call a model with ``model(batch, batch.state_attr)``, and a ``Potential`` with ``potential(batch, batch.lattice)``.

    Args:
        dtype: type of floating-point arrays.
        elements: symbols in the order of the model's ``element_types``; default matgl's 89 elements.

    Source: ``matgl.graph.converters`` and ``matgl.apps.pes`` 4.1.
    """

    name: ClassVar[str] = "megnet"
    layout: ClassVar[dict[str, BatchField]] = {
        "node_type": NODE,
        "frac_coords": NODE,
        "pos": NODE,
        "edge_index": EDGE_INDEX,
        "pbc_offset": EDGE,
        "pbc_offshift": EDGE,
        "lattice": GRAPH,
        "state_attr": GRAPH,
    }

    elements: tuple[str, ...] = COMMON

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "elements", elements_of(self.elements))

    def arrays(self, crystals: Crystals, spec: GraphSpec) -> Arrays:  # noqa: ARG002  # any recipe will do
        """Compute the arrays that the class describes."""
        return Arrays(self._graph(crystals.by_first_atom()))

    def _graph(self, crystals: Crystals) -> dict[str, Any]:
        xp = array_namespace(crystals.images)
        lattice = self.real(crystals.lattice)
        return {
            "node_type": element_places(crystals.numbers, self.elements),
            "frac_coords": self.real(crystals.frac_coords),
            "pos": crystals.positions(self.dtype),
            "edge_index": cast(crystals.edge_index, "int32"),
            "pbc_offset": self.real(crystals.images),
            "pbc_offshift": crystals.shifts(self.dtype),
            "lattice": lattice,
            "state_attr": xp.zeros((lattice.shape[0], 2), dtype=lattice.dtype, device=device(lattice)),
        }


@dataclass(frozen=True, repr=False)
class MatglChgnet(Megnet):
    """The arrays of ``megnet`` for matgl's CHGNet, which always computes its line graph itself.

    The default of ``elements`` is the first 94 elements.
    """

    name: ClassVar[str] = "matgl-chgnet"

    elements: tuple[str, ...] = TO_PLUTONIUM


@dataclass(frozen=True, repr=False)
class M3gnet(Megnet):
    """The arrays of ``megnet`` and the line graph that M3GNet takes as ``l_g``.

    ``line_edge_index`` (2, T) int32, triplets as pairs of edges with the same centre; ``n_triple_ij`` (E,) int64,
    number of triplets in which an edge comes first; ``kept_edge_ids`` (K,) int64, edges within the three-body cutoff.
    Pass them as ``model(batch, l_g={name: batch[name] for name in ("line_edge_index", "n_triple_ij",
    "kept_edge_ids")})``.

    matgl refuses a line graph if it finds other edges within the cutoff itself. The view therefore computes lengths as
    matgl does, in its floating-point type. A ``Potential`` computes positions again, so it may still refuse an edge
    within rounding of the cutoff. Without ``l_g`` it computes its own line graph.

    For recipes with the angles ``Triplets``.

    Source: ``matgl.graph._compute`` 4.1.
    """

    name: ClassVar[str] = "m3gnet"
    layout: ClassVar[dict[str, BatchField]] = {
        **Megnet.layout,
        "line_edge_index": BatchField("angle", -1, "edge"),
        "n_triple_ij": EDGE,
        "kept_edge_ids": BatchField("kept", 0, "edge"),
    }

    def check(self, spec: GraphSpec) -> None:
        """Require triplets."""
        self._angles(spec)

    def _angles(self, spec: GraphSpec) -> Triplets:
        if not isinstance(spec.angles, Triplets):
            raise self.mismatch(spec, "no triplets", "m3gnet")
        return spec.angles

    def arrays(self, crystals: Crystals, spec: GraphSpec) -> Arrays:
        """Compute the arrays that the class describes."""
        xp, ordered = array_namespace(crystals.images), crystals.by_first_atom()
        values = self._graph(ordered)
        kept = _within(values["pos"], values["pbc_offshift"], ordered.edge_index, self._angles(spec).threebody_cutoff)
        edges = ordered.edge_index, ordered.n_atoms
        pairs = find_pairs(*edges, kept, kept, end=0, itself=False, n_edge=ordered.n_edge)
        crystals.check_angles(pairs.total)
        ids = xp.nonzero(kept)[0]
        values |= {"line_edge_index": pairs.ids(), "n_triple_ij": pairs.of_edges(), "kept_edge_ids": ids}
        return Arrays(values, {"angle": pairs.of_graphs, "kept": ordered.edges_in(ids)})


def _within(pos: Any, shifts: Any, edge_index: Any, cutoff: float) -> Any:
    """Which edges are within a cutoff, (E,) booleans, in the arithmetic of matgl: in the type of the positions.

    Args:
        pos: (N, 3) A.
        shifts: (E, 3) translation of the atom in row 1, A, of the same type.
        edge_index: (2, E) integers.
        cutoff: A.
    """
    library = kernels() if isinstance(pos, np.ndarray) else None
    if library is None or edge_index.dtype != np.int32:
        xp = array_namespace(pos)
        x, y, z = ((xp.take(pos, edge_index[1], axis=0) + shifts) - xp.take(pos, edge_index[0], axis=0)).T
        return xp.sqrt((x * x + y * y) + z * z) <= cutoff
    ends, kept = np.ascontiguousarray(edge_index), empty(len(shifts), np.bool_)
    given = address(ends), address(ends) + 4 * len(shifts), len(shifts), cutoff, pos.itemsize == WIDE, address(kept)
    if library.lg_within(address(pos), len(pos), address(shifts), *given):
        msg = f"an edge starts or ends at an atom that is not there; required: atoms 0 to {len(pos) - 1}"
        raise IndexError(msg)
    return kept
