"""Positions of graphs: what a user may give in the brackets of a dataset, and the rows that stand there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Rows", "Several", "is_plain", "non_negative", "rows_at", "select"]

Several: TypeAlias = slice | range | list[Any] | tuple[Any, ...] | NDArray[Any] | torch.Tensor
"""What chooses a part of a dataset: a slice, or positions, ids or a mask in one dimension."""
Rows: TypeAlias = range | NDArray[np.int64]
"""The rows of a dataset that form a part of it, in order."""


def select(rows: Rows, idx: Several, rows_of_ids: Callable[[Sequence[str]], NDArray[np.int64]]) -> Rows:
    """Return the chosen rows.

    Args:
        rows: the rows to choose from.
        idx: a slice, positions, ids, or a boolean mask.
        rows_of_ids: finds the rows of ids, which are among ``rows``.

    Raises:
        IndexError: a position is out of range, the mask has another length, or the positions are something else.
    """
    n = len(rows)
    if isinstance(idx, slice):
        # As in PyG, fractions of the length may stand in a slice: ds[:0.9].
        start, stop = (round(p * n) if isinstance(p, float) else p for p in (idx.start, idx.stop))
        return rows[start : stop : idx.step]
    if isinstance(idx, range):
        idx = np.arange(idx.start, idx.stop, idx.step)
    if isinstance(idx, torch.Tensor):
        idx = idx.cpu().numpy()
    positions = np.asarray(idx, dtype=object if isinstance(idx, (list, tuple)) else None).reshape(-1)
    if positions.dtype.kind in "OU":
        found = positions.tolist()
        if found and all(isinstance(one, str) for one in found):
            return rows_of_ids(found)
        # A list of numbers, or nothing at all.
        mixed = any(isinstance(one, str) for one in found)
        positions = positions if mixed else np.asarray(found, dtype=None if found else np.int64)
    if positions.dtype == np.bool_:
        if len(positions) != n:
            msg = f"found a mask of {len(positions)} values; required: one for each of the {n} graphs"
            raise IndexError(msg)
        positions = np.flatnonzero(positions)
    elif positions.dtype.kind not in "iu":
        msg = f"found positions of type {positions.dtype}; required: integers, ids, a slice or a mask"
        raise IndexError(msg)
    return rows_at(rows, non_negative(positions.astype(np.int64), n))


def non_negative(positions: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return positions in a dataset of n graphs as non-negative ones.

    Raises:
        IndexError: there is no such position.
    """
    if positions.size and not (-n <= positions.min() and positions.max() < n):
        msg = f"found positions from {positions.min()} to {positions.max()}; required: {-n} to {n - 1}"
        raise IndexError(msg)
    return np.where(positions < 0, positions + n, positions)


def rows_at(rows: Rows, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows at non-negative positions."""
    if isinstance(rows, range):
        return positions * rows.step + rows.start if rows.step != 1 else positions + rows.start
    out: NDArray[np.int64] = rows[positions]
    return out


def is_plain(rows: Any) -> bool:
    """Whether rows follow each other without a gap, so that no array of them is needed."""
    return isinstance(rows, range) and rows.step == 1
