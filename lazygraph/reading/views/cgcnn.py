"""The view ``cgcnn``: neighbours in a padded table of k columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from array_api_compat import array_namespace, device

from lazygraph.graphs.nearest import Nearest
from lazygraph.graphs.spec import GraphSpec
from lazygraph.reading.batch_layout import BatchField
from lazygraph.reading.crystals import Crystals
from lazygraph.reading.views.base import NODE, Arrays, View
from lazygraph.reading.views.features import CGCNN_ELEMENTS, node_features

__all__ = ["Cgcnn"]


@dataclass(frozen=True, repr=False)
class Cgcnn(View):
    """The arrays of CGCNN's ``CIFData``.

    ``atom_fea`` (N, 92); ``nbr_fea`` (N, k, G) Gaussians of distances; ``nbr_fea_idx`` (N, k) int64 atoms.

    The recipe decides k and the range of the Gaussians: one every ``step`` from 0 A to the cutoff (G = 41 for 8 A). An
    atom with fewer than k neighbours is padded with atom 0 of its crystal, at the cutoff plus 1 A. The last argument of
    the published model, ``crystal_atom_idx``, is
    ``[torch.arange(a, b) for a, b in itertools.pairwise(batch.ptr.tolist())]``.

    It accepts recipes of the rule ``nearest``.

    Args:
        dtype: type of floating-point arrays.
        step: distance between the centres of the Gaussians, and their width, A.

    Source: ``CIFData`` and ``GaussianDistance`` of cgcnn.
    """

    name: ClassVar[str] = "cgcnn"
    elements: ClassVar[tuple[str, ...]] = CGCNN_ELEMENTS
    layout: ClassVar[dict[str, BatchField]] = {
        "atom_fea": NODE,
        "nbr_fea": NODE,
        "nbr_fea_idx": BatchField("node", 0, "node"),
    }

    step: float = 0.2

    def check(self, spec: GraphSpec) -> None:
        """Require a limited number of neighbours."""
        self._rule(spec)

    def _rule(self, spec: GraphSpec) -> Nearest:
        if not isinstance(spec.rule, Nearest):
            raise self.mismatch(spec, f"the rule {spec.rule.name!r}", "cgcnn")
        return spec.rule

    def arrays(self, crystals: Crystals, spec: GraphSpec) -> Arrays:
        """Compute the arrays that the class describes."""
        xp = array_namespace(crystals.images)
        where = device(crystals.images)
        rule = self._rule(spec)
        k, cutoff = rule.max_neighbors, rule.cutoff
        centre = crystals.edge_index[0]
        degree = xp.bincount(centre, minlength=crystals.n_atoms)
        crystals.check_neighbors(degree, k)
        crystals.check_order()
        # Edges come by centre and then by distance, so an edge's rank is its column.
        rank = xp.arange(centre.shape[0], device=where) - xp.take(xp.cumulative_sum(degree) - degree, centre)
        first_atom = xp.asarray(np.cumsum(crystals.n_node) - crystals.n_node, device=where)
        index = xp.repeat(xp.take(first_atom, crystals.graph_of_atom)[:, None], k, axis=1)
        index[centre, rank] = xp.astype(crystals.edge_index[1], index.dtype)
        distance = xp.full((crystals.n_atoms, k), cutoff + 1.0, dtype=xp.float64, device=where)
        distance[centre, rank] = crystals.distances
        centres = xp.asarray(np.arange(0, cutoff + self.step, self.step), device=where)
        gaussians = xp.exp(-(((distance[:, :, None] - centres) / self.step) ** 2))
        return Arrays(
            {
                "atom_fea": node_features(crystals.numbers, "cgcnn", self.dtype),
                "nbr_fea": self.real(gaussians),
                "nbr_fea_idx": index,
            }
        )
