"""The class ``CrystalBatch``: crystals without edges as packed arrays, which augmentations change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.graphs.vectors import batch_positions

__all__ = ["CrystalBatch", "inverse", "rows_times"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CrystalBatch:
    """B crystals with N atoms in total, before edges are built.

    The arrays of several crystals follow each other, as in a PyG ``Batch``. Do not change them in place: make another
    batch with ``dataclasses.replace``.

    Attributes:
        n_node: (B,) int64, atoms of each crystal.
        numbers: (N,) uint8 atomic numbers.
        frac_coords: (N, 3) float64 fractional coordinates.
        lattice: (B, 3, 3) float64, rows are the lattice vectors, A.
        pbc: (B, 3) bool.
        atom_labels: name -> (N, ...) labels of the atoms.
        labels: name -> (B, ...) the targets of the dataset.

    Example:
        >>> salt = Crystal([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
        >>> batch = CrystalBatch.of_crystals([salt, salt])
        >>> len(batch), batch.graph_of_atom.tolist(), batch.cart_coords[1].tolist()
        (2, [0, 0, 1, 1], [2.8, 2.8, 2.8])
    """

    n_node: NDArray[np.int64]
    numbers: NDArray[np.uint8]
    frac_coords: NDArray[np.float64]
    lattice: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    atom_labels: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    labels: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def of_crystals(cls, crystals: Sequence[Crystal]) -> CrystalBatch:
        """Pack crystals without labels."""
        return cls(
            n_node=np.array([len(crystal) for crystal in crystals], np.int64),
            numbers=np.concatenate([crystal.numbers for crystal in crystals]),
            frac_coords=np.concatenate([crystal.frac_coords for crystal in crystals]),
            lattice=np.stack([crystal.lattice for crystal in crystals]),
            pbc=np.array([crystal.pbc for crystal in crystals]),
        )

    def __len__(self) -> int:
        return len(self.n_node)

    @property
    def graph_of_atom(self) -> NDArray[np.int64]:
        """The index of the crystal of each atom, (N,) int64."""
        return np.arange(len(self)).repeat(self.n_node)

    @property
    def cart_coords(self) -> NDArray[np.float64]:
        """The Cartesian coordinates, (N, 3) float64, A."""
        out: NDArray[Any] = batch_positions(self.frac_coords, self.lattice, self.n_node)
        return out

    def moved(self, displacement: NDArray[np.float64]) -> CrystalBatch:
        """Return the crystals with every atom moved by (N, 3) float64, A."""
        shift = rows_times(displacement, inverse(self.lattice)[self.graph_of_atom])
        return replace(self, frac_coords=self.frac_coords + shift)

    def take(self, places: NDArray[np.int64]) -> CrystalBatch:
        """Return some of the crystals, in this order."""
        first = self.n_node.cumsum() - self.n_node
        n_node = self.n_node[places]
        inside = np.arange(int(n_node.sum())) - (n_node.cumsum() - n_node).repeat(n_node)
        return self.gather(places, first[places].repeat(n_node) + inside, n_node)

    def gather(self, places: NDArray[np.int64], atoms: NDArray[np.int64], n_node: NDArray[np.int64]) -> CrystalBatch:
        """Return crystals that are made of these rows.

        Args:
            places: (B',) the crystal that lattice, pbc and labels come from.
            atoms: (N',) the atoms of the new crystals, one crystal after the other.
            n_node: (B',) how many of them each new crystal has.
        """
        return CrystalBatch(
            n_node=n_node,
            numbers=self.numbers[atoms],
            frac_coords=self.frac_coords[atoms],
            lattice=self.lattice[places],
            pbc=self.pbc[places],
            atom_labels={name: value[atoms] for name, value in self.atom_labels.items()},
            labels={name: value[places] for name, value in self.labels.items()},
        )

    @staticmethod
    def joined(parts: Sequence[CrystalBatch]) -> CrystalBatch:
        """Return the crystals of several batches with the same labels as one batch."""
        first = parts[0]
        if len(parts) == 1:
            return first
        return CrystalBatch(
            n_node=np.concatenate([part.n_node for part in parts]),
            numbers=np.concatenate([part.numbers for part in parts]),
            frac_coords=np.concatenate([part.frac_coords for part in parts]),
            lattice=np.concatenate([part.lattice for part in parts]),
            pbc=np.concatenate([part.pbc for part in parts]),
            atom_labels={name: np.concatenate([p.atom_labels[name] for p in parts]) for name in first.atom_labels},
            labels={name: np.concatenate([part.labels[name] for part in parts]) for name in first.labels},
        )


def rows_times(rows: NDArray[Any], matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply row vectors (M, ..., 3) by the matrices (M, 3, 3) of their first axis.

    The order of the operations is fixed, and BLAS is not used: a row gives the same bits, whatever else is multiplied.
    """
    each = matrices.reshape(len(matrices), *(1,) * (rows.ndim - 2), 3, 3)
    out: NDArray[np.float64] = rows[..., 0:1] * each[..., 0, :] + rows[..., 1:2] * each[..., 1, :]
    out += rows[..., 2:3] * each[..., 2, :]
    return out


def inverse(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse of each matrix, (B, 3, 3); not finite for a singular one."""
    a, b, c = matrices[:, 0], matrices[:, 1], matrices[:, 2]
    columns = np.stack([_cross(b, c), _cross(c, a), _cross(a, b)], axis=2)
    volume = a[:, 0] * columns[:, 0, 0] + a[:, 1] * columns[:, 1, 0] + a[:, 2] * columns[:, 2, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        out: NDArray[np.float64] = columns / volume[:, None, None]
    return out


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cross product of (B, 3) and (B, 3), elementwise."""
    return np.stack(
        [
            a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1],
            a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2],
            a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0],
        ],
        axis=1,
    )
