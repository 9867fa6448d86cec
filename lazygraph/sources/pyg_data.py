"""Conversion of a PyG ``Data`` into the crystal that it was built from.

Two forms are known. Data of potentials have atomic numbers, positions and a cell. Graphs that ComFormer stores have
atomic numbers, edges as vectors, and the cell; their positions follow from the edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, StructureError, UnreadableInput
from lazygraph.sources.base import Entry, attempt
from lazygraph.sources.objects import storable
from lazygraph.sources.records import id_text

__all__ = ["entry_of_data", "is_data", "parts"]

_NUMBERS = ("atomic_numbers", "atomic_number", "z", "numbers", "x")
_POSITIONS = ("pos", "positions", "cart_coords")
_CELLS = ("cell", "lattice", "lattice_mat", "lattice_matrix")
_IDS = ("material_id", "jid", "id", "sid", "mp_id")
_NOT_LABELS = frozenset(
    {*_NUMBERS, *_POSITIONS, *_CELLS, *_IDS, "frac_coords", "pbc", "atom_lat", "edge_index", "edge_attr", "edge_nei"}
    | {"edge_type", "batch", "ptr", "num_nodes", "num_atoms", "natoms", "sizes", "to_jimages", "cell_offsets"}
    | {"neighbors", "distances", "images", "edge_shift", "shifts", "unit_shifts", "tags", "fixed", "trans_vec"}
)
_CLOSE = 0.01  # A; edges must lead back to an atom within this distance, because they have single precision


def is_data(value: Any) -> bool:
    """Tell whether an object is a ``torch_geometric.data.Data``, of whatever version."""
    try:
        return all(hasattr(value, name) for name in ("edge_index", "to_dict", "num_nodes"))
    except Exception:  # noqa: BLE001  # of a stranger's properties, which may raise anything
        return False


def parts(data: Any, slices: Mapping[str, Any], kind: Any = None) -> Iterator[Callable[[], Any]]:
    """Yield a function for each ``Data`` of PyG's collated ``(data, slices)``, the form of ``InMemoryDataset``.

    Args:
        data: the joined data, or its dict.
        slices: key -> the beginning of each part.
        kind: the class of the data, if ``data`` is a dict.
    """
    from torch_geometric.data.separate import separate

    if isinstance(data, Mapping):
        data = kind.from_dict(dict(data)) if kind is not None else _of_dict(data)
    count = len(next(iter(slices.values()))) - 1
    for number in range(count):
        yield partial(separate, cls=data.__class__, batch=data, idx=number, slice_dict=slices, decrement=False)


def _of_dict(data: Mapping[str, Any]) -> Any:
    from torch_geometric.data import Data

    return Data.from_dict(dict(data))


def entry_of_data(data: Any, key: str = "", id_key: str | None = None) -> Entry:
    """Return the entry of one graph; what cannot become a crystal says why. An empty id means that the source names it.

    Args:
        data: the graph.
        key: its id, if the file gives one.
        id_key: the attribute that holds the id, if one was chosen.
    """
    values = {name: _plain(value) for name, value in data.to_dict().items()}
    labels: dict[str, Any] = {}
    of_atoms: dict[str, Any] = {}
    for name, value in values.items():
        if name not in _NOT_LABELS and not name.startswith("edge_") and name != id_key:
            target = of_atoms if isinstance(value, np.ndarray) and data.is_node_attr(name) else labels
            # A dataset makes its own "y" from labels.
            target["target" if name == "y" and "target" not in values else name] = storable(value)
    crystal: Crystal | InputError = attempt(_crystal, values)
    try:
        names = _IDS if id_key is None else (id_key,)
        given = next((values[name] for name in names if values.get(name) is not None), None)
        if given is None and id_key is not None:
            msg = (
                f"the graph has no {id_key}, which should hold its id; it has {', '.join(values)}. Name one of them "
                "as the id key"
            )
            raise UnreadableInput(msg)  # noqa: TRY301
        key = key if given is None else id_text(given)
    except UnreadableInput as error:
        crystal = error if isinstance(crystal, Crystal) else crystal
    return Entry(key, crystal, labels, atom_labels=of_atoms)


def _plain(value: Any) -> Any:
    """Return tensors as arrays, and an array of one number as a number."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return value.item() if isinstance(value, np.ndarray) and value.size == 1 else value


def _crystal(values: Mapping[str, Any]) -> Crystal:
    numbers = _atomic_numbers(values)
    cell = next((_matrix(values[name]) for name in _CELLS if values.get(name) is not None), None)
    if cell is None and values.get("atom_lat") is not None:
        cell = np.asarray(values["atom_lat"], dtype=np.float64).reshape(-1, 3, 3)[0]
    if numbers is None or cell is None:
        msg = (
            f"the graph has {', '.join(values)}, but a crystal needs atomic numbers and a cell; write graphs without "
            "them as they are, with lazygraph.GraphWriter"
        )
        raise UnreadableInput(msg)
    pbc = np.broadcast_to(np.asarray(values.get("pbc", True), dtype=bool).reshape(-1), (3,)).tolist()
    if values.get("frac_coords") is not None:
        return Crystal(cell, np.reshape(values["frac_coords"], (-1, 3)), numbers, tuple(pbc))
    for name in _POSITIONS:
        if values.get(name) is not None:
            return Crystal.from_cartesian(cell, np.reshape(values[name], (-1, 3)), numbers, tuple(pbc))
    return Crystal.from_cartesian(cell, _positions_from_edges(values, cell, len(numbers)), numbers, tuple(pbc))


def _atomic_numbers(values: Mapping[str, Any]) -> NDArray[np.int64] | None:
    """(N,) whole numbers from 1 to 118, under the first name that holds such."""
    for name in _NUMBERS:
        if values.get(name) is None:
            continue
        array = np.asarray(values[name])
        if array.ndim > 1 and array.shape[-1] != 1:
            continue
        flat = array.reshape(-1)
        if (
            flat.dtype.kind in "iuf"
            and len(flat)
            and (flat == np.round(flat)).all()
            and 1 <= flat.min() <= flat.max() <= 118
        ):
            return flat.astype(np.int64)
    return None


def _matrix(value: Any) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    if array.size != 9:
        msg = f"found a cell of shape {array.shape}; required: three lattice vectors"
        raise UnreadableInput(msg)
    return array.reshape(3, 3)


def _positions_from_edges(values: Mapping[str, Any], cell: NDArray[np.float64], n_atoms: int) -> NDArray[np.float64]:
    """(N, 3) positions, A, with the first atom at the origin, from edge vectors that lead from row 0 to row 1.

    Each edge that closes a loop must differ from it by whole lattice vectors, and these loops must generate the whole
    lattice. Otherwise the graph has another cell.

    Raises:
        StructureError: the edges do not lead to every atom, or do not fit the cell.
        UnreadableInput: there are no edges with vectors.
    """
    index, vectors = np.asarray(values.get("edge_index")), np.asarray(values.get("edge_attr"))
    if index.ndim != 2 or index.shape[0] != 2 or vectors.shape != (index.shape[1], 3):
        msg = "the graph has neither positions nor edge vectors; it needs pos, or edge_attr of three components"
        raise UnreadableInput(msg)
    source, target = index.astype(np.int64)
    vectors = vectors.astype(np.float64)
    positions = np.full((n_atoms, 3), np.nan)
    positions[0] = 0.0
    while (open_edges := ~np.isnan(positions[source, 0]) & np.isnan(positions[target, 0])).any():
        ends, first = np.unique(target[open_edges], return_index=True)
        edges = np.flatnonzero(open_edges)[first]
        positions[ends] = positions[source[edges]] + vectors[edges]
    if np.isnan(positions).any():
        msg = "the edges of the graph do not lead to every atom; without pos, they must connect all atoms"
        raise StructureError(msg)
    loops = (positions[source] + vectors - positions[target]) @ np.linalg.inv(cell)
    whole = np.rint(loops)
    if np.abs((loops - whole) @ cell).max(initial=0.0) > _CLOSE or not _spans(whole.astype(np.int64)):
        msg = "the edges of the graph do not fit its cell, which is another cell of the lattice; add pos to the graph"
        raise StructureError(msg)
    return positions


def _spans(loops: NDArray[np.int64]) -> bool:
    """Tell whether whole combinations of these (M, 3) integer vectors give all integer vectors."""
    rows = [list(row) for row in {tuple(row) for row in loops.tolist() if any(row)}]
    for column in range(3):
        while True:
            rows.sort(key=lambda row: (row[column] == 0, abs(row[column])))
            if not rows or rows[0][column] == 0:
                return False
            pivot = rows[0]
            rest = [
                [a - b * (row[column] // pivot[column]) for a, b in zip(row, pivot, strict=True)] for row in rows[1:]
            ]
            rows = [pivot, *(row for row in rest if any(row))]
            if all(row[column] == 0 for row in rows[1:]):
                break
        if abs(rows[0][column]) != 1:
            return False
        rows = rows[1:]
    return True
