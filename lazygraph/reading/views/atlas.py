"""The view ``atlas``: features of elements, Gaussians of distances, and pairs of edges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import ClassVar

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from lazygraph.crystal import SYMBOLS
from lazygraph.graphs.angles import triplets
from lazygraph.graphs.nearest import Nearest
from lazygraph.graphs.spec import GraphSpec
from lazygraph.reading.batch_layout import BatchField
from lazygraph.reading.crystals import Crystals
from lazygraph.reading.views.base import EDGE, EDGE_INDEX, NODE, Arrays, View, cast

__all__ = ["Atlas", "atlas_features"]

ELEMENTS = 86  # one column each, up to radon
GAUSSIANS = 20


@dataclass(frozen=True, repr=False)
class Atlas(View):
    """The arrays of ATLAS' ``CrystalGraphBuilder``.

    ``x`` (N, 91): an element's column of 86, then Z / 100, Pauling electronegativity / 4, covalent radius / 3 A,
    whether it is a metal, and whether Z >= 50; ``edge_index`` (2, E) int64, row 0 the centre; ``edge_attr`` (E, 20)
    Gaussians of distances from 0 A to the cutoff, half their spacing wide; ``edge_vec`` (E, 3) vectors from row 0 to
    row 1, A; ``edge_index_3body`` (2, T) int64, pairs of edges with the same centre, numbered through the batch.

    Call its CGCNN with ``model(batch.x, batch.edge_index, batch.edge_attr, batch.batch)``. Call its EquivariantGNN with
    ``edge_vec`` instead of ``edge_attr``, and its M3GNet also with ``edge_vectors=batch.edge_vec`` and
    ``edge_index_3body=batch.edge_index_3body``.

    As in ATLAS, an element beyond radon has the column of hydrogen. Two things differ from ATLAS. A crystal without
    edges stays without edges, while ATLAS adds one of length 0 from atom 0 to itself. Distances are not rounded to
    single precision before their Gaussians, which changes these by up to 2e-6.

    It accepts recipes of the rule ``nearest``.

    Source: ``atlas/models/graph_builder.py`` of https://github.com/Shuruyue/Materials-Research.
    """

    name: ClassVar[str] = "atlas"
    layout: ClassVar[dict[str, BatchField]] = {
        "x": NODE,
        "edge_index": EDGE_INDEX,
        "edge_attr": EDGE,
        "edge_vec": EDGE,
        "edge_index_3body": BatchField("angle", -1, "edge"),
    }

    def check(self, spec: GraphSpec) -> None:
        """Require a limited number of neighbours."""
        self._rule(spec)

    def _rule(self, spec: GraphSpec) -> Nearest:
        if not isinstance(spec.rule, Nearest):
            raise self.mismatch(spec, f"the rule {spec.rule.name!r}", "atlas")
        return spec.rule

    def arrays(self, crystals: Crystals, spec: GraphSpec) -> Arrays:
        """Compute the arrays that the class describes."""
        xp = array_namespace(crystals.images)
        where = device(crystals.images)
        rule = self._rule(spec)
        table = xp.asarray(atlas_features(), device=where)
        centres = np.linspace(0.0, rule.cutoff, GAUSSIANS)
        apart = crystals.distances[:, None] - xp.asarray(centres, device=where)
        degree = xp.bincount(crystals.edge_index[0], minlength=crystals.n_atoms)
        crystals.check_neighbors(degree, rule.max_neighbors)
        pairs = triplets(crystals.edge_index, crystals.n_atoms, check=crystals.check_angles)
        values = {
            "x": self.real(xp.take(table, cast(crystals.numbers, "int64"), axis=0)),
            "edge_index": cast(crystals.edge_index, "int64"),
            "edge_attr": self.real(xp.exp(-((apart / (0.5 * float(centres[1]))) ** 2))),
            "edge_vec": self.vectors(crystals),
            "edge_index_3body": cast(pairs, "int64"),
        }
        return Arrays(values, {"angle": crystals.edges_in(pairs[0])})


@lru_cache(maxsize=1)
def atlas_features() -> NDArray[np.float64]:
    """Return the features of :class:`Atlas` by atomic number, (119, 91) float64; row 0 is empty.

    Example:
        >>> atlas_features()[11, [10, 86, 87, 88, 89, 90]].round(4)  # sodium
        array([1.    , 0.11  , 0.2325, 0.5533, 1.    , 0.    ])
    """
    text = (files(__package__) / "atlas_features.txt").read_text(encoding="utf-8").partition("----\n")[2]
    table = np.zeros((len(SYMBOLS), ELEMENTS + 5))
    for line in text.splitlines():
        z, electronegativity, radius, metal = map(float, line.split())
        number = int(z)
        table[number, number - 1 if number <= ELEMENTS else 0] = 1.0
        table[number, ELEMENTS:] = z / 100.0, electronegativity / 4.0, radius / 3.0, metal, number >= 50
    return table
