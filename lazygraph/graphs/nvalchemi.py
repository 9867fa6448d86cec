"""The neighbour search of NVIDIA's nvalchemi-toolkit-ops, which proposes the pairs of many crystals on any device.

The library is installed by ``pip install "lazygraph[cuda]"``. Like every search, it proposes pairs and decides none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lazygraph.extras import require

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DEVICE_BACKEND", "ProposedPairs", "propose_pairs"]

DEVICE_BACKEND = "nvalchemi"


class ProposedPairs(NamedTuple):
    """Directed pairs of atoms i -> j, in no stated order, without the pair of an atom with itself in its own cell."""

    i: Tensor
    """(E,) int64 atoms, numbered through all crystals."""
    j: Tensor
    """(E,) int64 neighbours."""
    image: Tensor
    """(E, 3) int64, the cell of j for coordinates as given."""


def propose_pairs(positions: Tensor, lattice: Tensor, pbc: Tensor, n_node: Tensor, radius: float) -> ProposedPairs:
    """Return all pairs of atoms within a radius, and possibly a few pairs a hair beyond it.

    All tensors are on one device, where the pairs are found.

    Args:
        positions: (N, 3) float64 Cartesian coordinates, A; atoms may lie outside their cells.
        lattice: (B, 3, 3) float64, rows are the lattice vectors, A.
        pbc: (B, 3) bool.
        n_node: (B,) int64, the number of atoms of each crystal.
        radius: A.

    Raises:
        MissingExtra: nvalchemi-toolkit-ops is not installed.
    """
    import torch

    search: Any = require("nvalchemiops.torch.neighbors", "cuda", f"edges with backend={DEVICE_BACKEND!r}")
    device = positions.device
    first = torch.zeros(len(n_node) + 1, dtype=torch.int32, device=device)
    first[1:] = n_node.cumsum(0)
    graph = torch.arange(len(n_node), dtype=torch.int32, device=device).repeat_interleave(n_node)
    given = {"cell": lattice, "pbc": pbc, "batch_idx": graph, "batch_ptr": first}
    neighbors, counts, shifts = search.neighbor_list(positions, radius, **given)
    most = int(counts.max()) if len(counts) else 0
    if most > neighbors.shape[1]:  # it estimates a width, and keeps no more neighbours than that
        neighbors, counts, shifts = search.neighbor_list(positions, radius, **given, max_neighbors=most)
    filled = torch.arange(neighbors.shape[1], device=device) < counts[:, None]
    i = torch.arange(len(positions), device=device).repeat_interleave(counts.long())
    return ProposedPairs(i, neighbors[filled].long(), shifts[filled].long())
