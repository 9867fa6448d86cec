"""Parts of layers that send messages along edges: linear maps of both atoms and the edge, and sums over edges."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch_geometric.utils import scatter

__all__ = ["EdgeLinear", "sum_at"]


class EdgeLinear(torch.nn.Linear):
    """A linear map of the features of two atoms and of the edge between them, side by side.

    The map of several inputs is the sum of one map per input. The maps of the atoms are therefore computed once per
    atom, and not once per edge. The parameters are those of ``Linear(2 * atom_channels + edge_channels, outputs)``.

    Args:
        atom_channels: A, number of channels of an atom.
        edge_channels: B, number of channels of an edge.
        outputs: number of channels of the result.

    Example:
        >>> layer = EdgeLinear(4, 3, 5)
        >>> atoms, edges, edge_index = torch.ones(2, 4), torch.ones(6, 3), torch.zeros(2, 6, dtype=torch.int64)
        >>> layer(atoms, edges, edge_index).shape
        torch.Size([6, 5])
    """

    def __init__(self, atom_channels: int, edge_channels: int, outputs: int) -> None:
        super().__init__(2 * atom_channels + edge_channels, outputs)
        self.sizes = [atom_channels, atom_channels, edge_channels]

    def forward(self, atoms: Tensor, edges: Tensor, edge_index: Tensor) -> Tensor:  # type: ignore[override]
        """Return (E, ..., outputs) from atoms (N, ..., A), edges (E, ..., B) and (2, E) indices of atoms.

        The atom in row 0 of ``edge_index`` comes first, and then the atom in row 1.
        """
        of_first, of_second, of_edge = torch.split(self.weight, self.sizes, dim=1)
        # The gradient of index_select has one order of summation; that of [...] depends on the threads.
        first = linear(atoms, of_first, self.bias).index_select(0, edge_index[0])
        return first + linear(atoms, of_second).index_select(0, edge_index[1]) + linear(edges, of_edge)


def sum_at(messages: Tensor, places: Tensor, size: int) -> Tensor:
    """Return the sums (size, ...) of messages (E, ...) by their places (E,); 0 where there are none."""
    total: Tensor = scatter(messages, places, dim=0, dim_size=size, reduce="sum")
    return total
