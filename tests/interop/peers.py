"""What the tests of peers' trainers share."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["matrix", "sorted_edges"]


def matrix(six):
    """(3, 3) of the six numbers of a stress in the order of VASP: xx, yy, zz, xy, yz, zx."""
    xx, yy, zz, xy, yz, zx = six
    return np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]])


def sorted_edges(edge_index, images, *of_edges):
    """Edges (2, E), their images (E, 3) and arrays with a row an edge, in the order of both ends and the image."""
    columns = np.column_stack([np.asarray(edge_index).T, np.asarray(images)]).astype(np.int64)
    order = np.lexsort(columns.T[::-1])
    return torch.tensor(columns[order]), *(torch.as_tensor(array)[torch.from_numpy(order)] for array in of_edges)
