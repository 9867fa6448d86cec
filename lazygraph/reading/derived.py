"""Checks of columns that follow from the edges of crystals.

A stranger may have made a dataset, with every hash right. Numbers that decide how much memory is used, or that prove
that no edge is missing, are therefore checked when they are used.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.graphs.crystal_records import Untrue
from lazygraph.graphs.spec import GraphSpec
from lazygraph.reading.crystals import Crystals

__all__ = ["angles_of_each", "most_angles"]

SLACK = 0.01  # A; how far single precision or another device may move an edge of a crystal of reasonable size


def most_angles(crystals: Crystals, spec: GraphSpec, said: NDArray[Any]) -> float:
    """Return the greatest number of angles that a view may find.

    The lengths that a view computes may differ from the lengths of the recipe in the last bits.

    Args:
        crystals: the crystals.
        spec: their recipe, which has angles.
        said: (B,) the column ``n_triplets``.

    Raises:
        Untrue: the number of angles of a crystal differs from the column.
    """
    here = _in_numpy(crystals)
    found = angles_of_each(here, spec)
    if (different := found != said).any():
        crystal = int(different.argmax())
        raise Untrue(crystal, f"the record has {found[crystal]} angles; the column n_triplets says {said[crystal]}")
    return float(angles_of_each(here, spec, SLACK).sum())


def angles_of_each(crystals: Crystals, spec: GraphSpec, slack: float = 0.0) -> NDArray[np.int64]:
    """Return the number of angles of each crystal, (B,), by the definition of ``n_triplets`` in docs/format.md.

    Args:
        crystals: the crystals.
        spec: their recipe, which has angles.
        slack: distance that is added to the cutoffs, A.
    """
    if spec.angles is None:
        return np.zeros(len(crystals.n_edge), np.int64)
    pairs = spec.angles.count_by_edge(crystals, slack)
    ends = np.concatenate([[0], pairs.cumsum()])[np.concatenate([[0], crystals.n_edge.cumsum()])]
    counts: NDArray[np.int64] = np.diff(ends)
    return counts


def _in_numpy(crystals: Crystals) -> Crystals:
    """Return the crystals as numpy arrays."""
    arrays = {name: getattr(crystals, name) for name in ("frac_coords", "lattice", "edge_index", "images")}
    if isinstance(crystals.images, np.ndarray):
        return crystals
    return replace(crystals, **{name: array.cpu().numpy() for name, array in arrays.items()})
