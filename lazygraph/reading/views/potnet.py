"""The view ``potnet``: lengths of edges, and sums of potentials over all images of each pair of atoms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from lazygraph.errors import InputError, NotEnoughMemory, StructureError
from lazygraph.graphs.spec import GraphSpec
from lazygraph.machine import memory_limit
from lazygraph.reading.batch_layout import BatchField
from lazygraph.reading.crystals import Crystals
from lazygraph.reading.views.base import EDGE, EDGE_INDEX, NODE, Arrays, View, cast, published
from lazygraph.reading.views.features import CGCNN_ELEMENTS, node_features
from lazygraph.reading.views.image_sums import image_sums

__all__ = ["Potnet"]

PAIR_BYTES = 100  # at least, of one pair: its sums, their sharp part, and two atoms


@dataclass(frozen=True, repr=False)
class Potnet(View):
    """The arrays that PotNet reads.

    ``x`` (N, 92) CGCNN features; ``edge_index`` (2, E) int64; ``edge_attr`` (E,) lengths, A. With ``sums``, also
    ``inf_edge_index`` (2, P) int64, all ordered pairs of atoms of each crystal, each atom with itself too, and
    ``inf_edge_attr`` (P, 3), for each pair the sums of 1/r, 1/r^6 and exp(-a r) over all images, with r in A; see
    :func:`lazygraph.reading.views.image_sums.image_sums`. P is the sum of the squares of the numbers of atoms.

    It accepts any recipe. The sums depend on the crystals alone. They need about 1 ms per crystal of 8 atoms, and 3 ms
    per crystal of 30 atoms, on the CPU, for tensors on a GPU too.

    Args:
        dtype: type of floating-point arrays.
        sums: whether to make the arrays of the sums.

    Source: ``data.py`` and ``algorithm.py`` of PotNet (AIRS).
    """

    name: ClassVar[str] = "potnet"
    elements: ClassVar[tuple[str, ...]] = CGCNN_ELEMENTS
    layout: ClassVar[dict[str, BatchField]] = {
        "x": NODE,
        "edge_index": EDGE_INDEX,
        "edge_attr": EDGE,
        "inf_edge_index": BatchField("pair", -1, "node"),
        "inf_edge_attr": BatchField("pair"),
    }

    sums: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        given: object = self.sums
        if not isinstance(given, bool):
            msg = f"found sums={given!r}; required: True or False"
            raise InputError(msg)

    def arrays(self, crystals: Crystals, spec: GraphSpec) -> Arrays:
        """Compute the arrays that the class describes.

        Raises:
            StructureError: with ``sums``, a crystal is not periodic in all directions, or its cell is far from reduced.
            NotEnoughMemory: the pairs of atoms do not fit into memory.
        """
        seen = published(crystals, spec)
        values: dict[str, Any] = {
            "x": node_features(crystals.numbers, "cgcnn", self.dtype),
            "edge_index": cast(crystals.edge_index, "int64"),
            "edge_attr": self.real(seen.distances),
        }
        if not self.sums:
            return Arrays(values)
        pairs, sums = _pairs_and_sums(crystals)
        xp, where = array_namespace(crystals.images), device(crystals.images)
        values["inf_edge_index"] = xp.asarray(pairs, device=where)
        values["inf_edge_attr"] = self.real(xp.asarray(sums, device=where))
        return Arrays(values, {"pair": crystals.n_node**2})


def _pairs_and_sums(crystals: Crystals) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """All ordered pairs of atoms of each crystal, (2, P), and their sums, (P, 3), in numpy."""
    counts = crystals.n_node
    total = int((counts.astype(np.float64) ** 2).sum())
    if PAIR_BYTES * total > memory_limit():
        msg = (
            f"{len(counts)} graphs have {total} pairs of atoms, whose sums take more than the "
            f"{memory_limit() / 2**30:.3g} GiB that this process may use. Read fewer graphs at a time, or leave the "
            "sums out (sums=False)"
        )
        raise NotEnoughMemory(msg)
    lattices, frac, pbc = _on_host(crystals.lattice), _on_host(crystals.frac_coords), _on_host(crystals.pbc)
    if not pbc.all():
        flags = tuple(pbc[int(np.argmin(pbc.all(axis=1)))].tolist())
        msg = (
            f"found a structure with pbc={flags}; PotNet's sums over all images need a crystal that is periodic in all "
            "directions. Leave the structure out, or the sums (sums=False)"
        )
        raise StructureError(msg)
    pairs, sums = np.empty((2, total), np.int64), np.empty((total, 3))
    atom = pair = 0
    for lattice, n in zip(lattices, counts.tolist(), strict=True):
        part, atoms = slice(pair, pair + n * n), np.arange(atom, atom + n)
        pairs[0, part], pairs[1, part] = np.repeat(atoms, n), np.tile(atoms, n)
        sums[part] = image_sums(lattice, frac[atom : atom + n]).reshape(-1, 3)
        atom, pair = atom + n, pair + n * n
    return pairs, sums


def _on_host(array: Any) -> NDArray[Any]:
    return np.asarray(array.cpu() if hasattr(array, "cpu") else array)
