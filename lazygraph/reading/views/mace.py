"""The view ``mace``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from array_api_compat import array_namespace

from lazygraph.crystal import symbols_to_numbers
from lazygraph.errors import InputError
from lazygraph.graphs.spec import GraphSpec
from lazygraph.reading.batch_layout import BatchField
from lazygraph.reading.crystals import Crystals
from lazygraph.reading.views.base import EDGE, EDGE_INDEX, GRAPH, NODE, Arrays, View, cast
from lazygraph.reading.views.features import elements_of, node_features

__all__ = ["Mace"]


@dataclass(frozen=True, repr=False)
class Mace(View):
    """The arrays of MACE's ``AtomicData``. Call a model with ``batch.to_dict()``.

    ``node_attrs`` (N, number of elements) one-hot; ``positions`` (N, 3) A; ``edge_index`` (2, E) int64, sender and
    receiver; ``shifts`` (E, 3) A; ``unit_shifts`` (E, 3) the cell of the receiver; ``cell`` (3, 3) A, and (3B, 3) in a
    batch; ``pbc`` (1, 3) bool.

    It accepts any recipe. The published recipe is the preset ``mace``, an open radius graph.

    Args:
        dtype: type of floating-point arrays.
        elements: symbols of the model's elements; required. The columns follow their atomic numbers.

    Source: ``mace.data.atomic_data`` of mace-torch 0.3.
    """

    name: ClassVar[str] = "mace"
    layout: ClassVar[dict[str, BatchField]] = {
        "node_attrs": NODE,
        "positions": NODE,
        "edge_index": EDGE_INDEX,
        "shifts": EDGE,
        "unit_shifts": EDGE,
        "cell": GRAPH,
        "pbc": GRAPH,
    }

    elements: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.elements:
            msg = "the view 'mace' needs the elements of the model, as in lazygraph.view('mace', elements=['Na', 'Cl'])"
            raise InputError(msg)
        listed = elements_of(self.elements)
        object.__setattr__(self, "elements", tuple(sorted(listed, key=lambda symbol: symbols_to_numbers([symbol])[0])))

    def arrays(self, crystals: Crystals, spec: GraphSpec) -> Arrays:  # noqa: ARG002  # any recipe will do
        """Compute the arrays that the class describes."""
        xp = array_namespace(crystals.images)
        return Arrays(
            {
                "node_attrs": node_features(crystals.numbers, self.elements, self.dtype),
                "positions": crystals.positions(self.dtype),
                "edge_index": cast(crystals.edge_index, "int64"),
                "shifts": crystals.shifts(self.dtype),
                "unit_shifts": self.real(crystals.images),
                "cell": xp.reshape(self.real(crystals.lattice), (-1, 3)),
                "pbc": crystals.pbc,
            }
        )
