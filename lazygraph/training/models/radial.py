"""Shared parts of the models: Gaussian bases, spherical harmonics, and normalisation and pooling for few rows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch_geometric.utils import scatter

__all__ = ["COMPONENTS", "BatchNorm", "GaussianBasis", "mean_over_atoms", "spherical_harmonics"]

COMPONENTS = (1, 3, 5)
"""The number of spherical harmonics of the degrees 0, 1 and 2."""


class GaussianBasis(torch.nn.Module):
    """An expansion of numbers of any shape (...) in Gaussians (..., number): ``exp(-((x - centre) / width)**2)``.

    Args:
        start: first centre.
        stop: last centre.
        number: number of equally spaced centres.
        width: width of the Gaussians in the unit of x. None for the square root of the spacing, so that neighbouring
            Gaussians overlap widely for any number of centres.

    Source: ``GaussianDistance`` of cgcnn (``width`` is the spacing there); ``RBFExpansion`` of jarvis and ALIGNN, which
    ComFormer uses, for the width None.

    Example:
        >>> GaussianBasis(0.0, 8.0, 41, width=0.2)(torch.ones(7)).shape
        torch.Size([7, 41])
    """

    centers: Tensor

    def __init__(self, start: float, stop: float, number: int, width: float | None = None) -> None:
        super().__init__()
        self.width = math.sqrt((stop - start) / (number - 1)) if width is None else width
        self.register_buffer("centers", torch.linspace(start, stop, number), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; the class describes the shapes."""
        return torch.exp(-(((x.unsqueeze(-1) - self.centers) / self.width) ** 2))


class BatchNorm(torch.nn.BatchNorm1d):
    """Batch normalisation of rows (R, C) for any R. Fewer than two rows use the running statistics.

    A batch of one-atom cells may have one row, and a graph without edges has no rows. torch refuses to train on one
    row. With no rows, it turns the running statistics into NaN.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; the class describes the shapes."""
        if self.training and len(x) < 2:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def mean_over_atoms(x: Tensor, batch: Any) -> Tensor:
    """Return the mean (B, C) of rows (N, C) over the atoms of each graph of a PyG batch."""
    means: Tensor = scatter(x, batch.batch, dim=0, dim_size=batch.num_graphs, reduce="mean")
    return means


def spherical_harmonics(vectors: Tensor) -> Tensor:
    """Return the real spherical harmonics of degrees 0, 1 and 2 of the directions of vectors.

    They are component normalised: the mean square of each over all directions is 1, and the squares of a degree l sum
    to 2l + 1. Within a degree, m runs from -l to l, with z as the polar axis.

    Args:
        vectors: (..., 3) vectors of any length except for zero.

    Returns:
        (..., 9): 1 of degree 0, 3 of degree 1, 5 of degree 2.

    Source: the usual Cartesian forms (e.g. Goerller-Walrand and Binnemans, Handbook on the Physics and Chemistry of
    Rare Earths 23, 1996), times the root of 4 pi. They are e3nn's with ``normalization="component"``, whose polar axis
    is y.

    Example:
        >>> [round(value, 3) for value in spherical_harmonics(torch.tensor([0.0, 0.0, 5.0])).tolist()]
        [1.0, 0.0, 1.732, 0.0, 0.0, 0.0, 2.236, 0.0, 0.0]
    """
    x, y, z = (vectors / vectors.norm(dim=-1, keepdim=True)).unbind(-1)
    first, second = math.sqrt(3.0), math.sqrt(15.0)
    return torch.stack(
        [
            torch.ones_like(x),
            first * y,
            first * z,
            first * x,
            second * x * y,
            second * y * z,
            math.sqrt(5.0) / 2 * (3 * z * z - 1),
            second * x * z,
            second / 2 * (x * x - y * y),
        ],
        dim=-1,
    )
