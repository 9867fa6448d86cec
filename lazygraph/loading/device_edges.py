"""Radius edges that are built on the device of a batch, from the crystals alone.

The search proposes pairs in its own arithmetic. The expression of :mod:`lazygraph.graphs.vectors`, in float64 and step
by step, decides which of them are edges, so the edges are those of ``spec.build`` to the bit, on every device. Batches
with a crystal that the expression refuses, or in which a search may lose precision, are left to the compiled loops.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lazygraph.errors import RecipeMismatch
from lazygraph.extras import require
from lazygraph.format.record_batch import RecordBatch
from lazygraph.graphs.compiled import RULE_RADIUS
from lazygraph.graphs.neighbors import MAX_IMAGE, MIN_DISTANCE, SEARCH_MARGIN
from lazygraph.graphs.nvalchemi import DEVICE_BACKEND, propose_pairs
from lazygraph.graphs.rule import native_rule
from lazygraph.graphs.spec import GraphSpec
from lazygraph.graphs.vectors import components
from lazygraph.reading.rebuild import RebuiltRecords

__all__ = ["CrystalsForDevice", "EdgesOnDevice", "RadiusSearch"]

# What an ordinary crystal stays below. With these bounds, rounding moves no atom by more than a hundredth of the margin
# of a search (Effort.rounding: 2^-48 x skew x distance from the origin), and no image exceeds int16.
MOST_SKEW = 100.0  # the length of a lattice vector over the distance of its planes
FARTHEST = 1e4  # A, from the origin
MOST_CELLS = 1e3  # between an atom and the origin, and between an atom and its neighbour
MOST_IMAGES = 1e6  # of the atoms of one crystal; 1/10 of the limit of spec.build


class EdgesOnDevice(NamedTuple):
    """The edges of a batch."""

    n_edge: NDArray[np.int64]
    """(B,) the number of edges of each crystal."""
    edge_index: Tensor
    """(2, E) int32, atoms numbered through the batch."""
    images: Tensor
    """(E, 3) int16."""


@dataclass(frozen=True)
class RadiusSearch:
    """The radius rule for a batch of crystals on one device.

    Args:
        reach: the greatest length of an edge, A.
        none_isolated: whether crystals with an atom without edges are refused.
    """

    reach: float
    none_isolated: bool

    @classmethod
    def of(cls, spec: GraphSpec) -> RadiusSearch:
        """Return the search for a recipe.

        Raises:
            RecipeMismatch: the recipe is not a plain radius.
            MissingExtra: nvalchemi-toolkit-ops is not installed.
        """
        told = native_rule(spec.rule)
        if told is None or told.kind != RULE_RADIUS or told.finds_lattice:
            msg = (
                f"backend={DEVICE_BACKEND!r} builds all edges within a radius, and {spec!r} has other edges; leave "
                "backend out, and the compiled loops build the edges"
            )
            raise RecipeMismatch(msg)
        require("nvalchemiops.torch.neighbors", "cuda", f"edges with backend={DEVICE_BACKEND!r}")
        return cls(told.reach, bool(told.none_isolated))

    def edges(self, crystals: RecordBatch) -> EdgesOnDevice | None:
        """Return the edges of a batch, in the order of ``spec.build``; None if a crystal needs the compiled loops.

        Args:
            crystals: the records of B crystals, with tensors on one device.
        """
        frac, lattice, pbc = (crystals.fields[name] for name in ("frac_coords", "lattice", "pbc"))
        n_node = torch.from_numpy(crystals.counts["node"]).to(frac.device)
        if not self._are_ordinary(frac, lattice, n_node):
            return None
        graph = torch.arange(len(n_node), device=frac.device).repeat_interleave(n_node)
        positions = components(frac.T, lattice[graph]).T
        i, j, image = propose_pairs(positions, lattice, pbc, n_node, max(self.reach, MIN_DISTANCE) + SEARCH_MARGIN)
        code = (image[:, 0] * 2**16 + image[:, 1]) * 2**16 + image[:, 2]
        i, j, image, code = _taken((i < j) | ((i == j) & (code > 0)), i, j, image, code)
        x, y, z = components((frac[j] - frac[i] + image).T, lattice[graph[i]])
        squared = x * x + y * y + z * z
        if bool((squared < _least_square(MIN_DISTANCE)).any()):
            return None
        i, j, image, code = _taken(squared <= _greatest_square(self.reach), i, j, image, code)
        order = code.argsort(stable=True)
        order = order[(i * len(frac) + j)[order].argsort(stable=True)]
        i, j, image = i[order], j[order], image[order]
        if self.none_isolated and not bool(torch.bincount(torch.cat((i, j)), minlength=len(frac)).all()):
            return None
        return EdgesOnDevice(
            2 * torch.bincount(graph[i], minlength=len(n_node)).cpu().numpy(),
            torch.stack((i, j, j, i)).view(2, 2, -1).transpose(1, 2).reshape(2, -1).int(),
            torch.stack((image, -image), 1).view(-1, 3).short(),
        )

    def _are_ordinary(self, frac: Tensor, lattice: Tensor, n_node: Tensor) -> bool:
        """Whether the search loses nothing by rounding, and takes little time and memory."""
        if not len(frac):
            return False
        a, b, c = lattice.unbind(1)
        normals = torch.stack((b.cross(c, 1), c.cross(a, 1), a.cross(b, 1)), 1)
        planes = (a * normals[:, 0]).sum(1).abs()[:, None] / normals.norm(dim=2)
        length, most = lattice.norm(dim=2), frac.abs().max() + 1.0
        steps = (self.reach + 1.0) / planes
        images = n_node * (2.0 * (steps + most) + 3.0).prod(1)
        fits = (length < MOST_SKEW * planes) & (most * length.sum(1, keepdim=True) < FARTHEST)
        fits &= (steps + 2.0 * most < min(MOST_CELLS, MAX_IMAGE)) & (images[:, None] < MOST_IMAGES)
        return bool(fits.all())


class CrystalsForDevice:
    """The records of a store without edges, which are built when a batch is expanded, on its device.

    It stands in the place of the store. Picklable; safe in threads and under fork, like the store.

    Args:
        rebuilt: the crystals, and the compiled loops for batches that the search leaves to them.
        search: builds edges on a device.

    Attributes:
        schema: what the records hold, edges included.
        sizes: the columns that hold sizes of the graphs, as ``RebuiltRecords.sizes``.
    """

    def __init__(self, rebuilt: RebuiltRecords, search: RadiusSearch) -> None:
        self._rebuilt, self._search = rebuilt, search
        self.schema, self.sizes = rebuilt.schema, rebuilt.sizes

    def read_batch(self, rows: NDArray[np.int64]) -> RecordBatch:
        """Read the records of these rows without edges.

        Raises:
            CorruptDataset: a record is damaged, or holds no possible crystal.
        """
        return self._rebuilt.read_crystals(rows)

    def with_edges(self, crystals: RecordBatch, rows: NDArray[np.int64]) -> RecordBatch:
        """Return the records with edges, on the same device.

        Args:
            crystals: what ``read_batch`` returned, as numpy arrays or as tensors.
            rows: (B,) the rows that were read.

        Raises:
            CorruptDataset, StructureError, NotEnoughMemory: as ``RebuiltRecords.read_batch``.
        """
        tensors = {name: _tensor(value) for name, value in crystals.fields.items()}
        there = RecordBatch(crystals.counts, tensors)
        found = self._search.edges(there)
        if found is None:
            made = self._rebuilt.read_batch(rows)
            device = tensors["frac_coords"].device
            edges = {name: torch.from_numpy(made.fields[name]).to(device) for name in ("edge_index", "images")}
            counts = made.counts
        else:
            self._rebuilt.check_counts(rows, found.n_edge)
            edges = {"edge_index": found.edge_index, "images": found.images}
            counts = {**crystals.counts, "edge": found.n_edge}
        if isinstance(crystals.fields["frac_coords"], np.ndarray):
            arrays = {name: value.numpy() for name, value in edges.items()}
            return RecordBatch(counts, {**crystals.fields, **arrays})
        return RecordBatch(counts, {**tensors, **edges})


def _taken(mask: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    rows = mask.nonzero()[:, 0]
    return tuple(tensor[rows] for tensor in tensors)


def _tensor(value: Tensor | NDArray[np.generic]) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.from_numpy(value if value.flags.writeable else value.copy())


def _greatest_square(distance: float) -> float:
    """The greatest square whose root rounds to a distance or less, so that no root is needed on a device.

    Example:
        >>> math.sqrt(_greatest_square(5.0)) <= 5.0 < math.sqrt(math.nextafter(_greatest_square(5.0), 26.0))
        True
    """
    square = distance * distance
    while math.sqrt(square) > distance:
        square = math.nextafter(square, 0.0)
    while math.sqrt(above := math.nextafter(square, math.inf)) <= distance:
        square = above
    return square


def _least_square(distance: float) -> float:
    """The least square whose root rounds to a distance or more."""
    return math.nextafter(_greatest_square(math.nextafter(distance, 0.0)), math.inf)
