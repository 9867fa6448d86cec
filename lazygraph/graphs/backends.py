"""The neighbour searches that propose pairs. They decide no edge, because all distances are computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pymatgen.optimization.neighbors import find_points_in_spheres

from lazygraph.crystal import Crystal
from lazygraph.errors import RecipeError
from lazygraph.extras import require
from lazygraph.graphs.nvalchemi import propose_pairs
from lazygraph.registry import unknown_name

__all__ = ["BACKENDS", "Backend", "Found", "backend_named"]

Found: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""i (E,) centres, j (E,) neighbours and image (E, 3), whole numbers, the cell of j for coordinates as given."""

Backend: TypeAlias = Callable[[Crystal, float], Found]
"""All pairs within so many A, each atom with itself in the cell (0, 0, 0) included; in any order."""

_PERIODIC = np.ones(3, dtype=np.int64)


def pymatgen_pairs(crystal: Crystal, radius: float) -> Found:
    """The array function of pymatgen, about 65 us for 8 atoms at 5 A."""
    periodic = _PERIODIC if all(crystal.pbc) else np.array(crystal.pbc, dtype=np.int64)
    cart = crystal.frac_coords @ crystal.lattice
    i, j, image, _ = find_points_in_spheres(cart, cart, radius, periodic, crystal.lattice)
    return i, j, image


def vesin_pairs(crystal: Crystal, radius: float) -> Found:
    """The search of vesin, a small library that needs numpy only; on one thread.

    Raises:
        MissingExtra: vesin is not installed.
    """
    vesin = require("vesin", "vesin", "edges with backend='vesin'")
    search = vesin.NeighborList(cutoff=radius, full_list=True, n_threads=1)
    cart = crystal.frac_coords @ crystal.lattice
    i, j, image = search.compute(cart, crystal.lattice, list(crystal.pbc), "ijS")
    atoms = np.arange(len(crystal))
    return (
        np.concatenate((atoms, i.astype(np.int64))),
        np.concatenate((atoms, j.astype(np.int64))),
        np.concatenate((np.zeros((len(crystal), 3)), image.astype(np.float64))),
    )


def nvalchemi_pairs(crystal: Crystal, radius: float) -> Found:
    """The search of NVIDIA's nvalchemi-toolkit-ops, on the first CUDA device if there is one, and else on the CPU.

    It is made for batches of crystals: about 1 ms for a single crystal.

    Raises:
        MissingExtra: nvalchemi-toolkit-ops is not installed.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    pairs = propose_pairs(
        torch.from_numpy(crystal.frac_coords @ crystal.lattice).to(device),
        torch.tensor(crystal.lattice, device=device)[None],
        torch.tensor([crystal.pbc], device=device),
        torch.tensor([len(crystal)], device=device),
        radius,
    )
    atoms = np.arange(len(crystal))
    i, j, image = (tensor.cpu().numpy() for tensor in pairs)
    return np.append(atoms, i), np.append(atoms, j), np.concatenate((np.zeros((len(atoms), 3)), image))


BACKENDS: Mapping[str, Backend] = MappingProxyType(
    {"native": pymatgen_pairs, "pymatgen": pymatgen_pairs, "vesin": vesin_pairs, "nvalchemi": nvalchemi_pairs}
)
"""Name -> search. The choice changes no edge, so it is not part of a recipe.

With ``"native"`` the compiled loops of :mod:`lazygraph.graphs.compiled` come first, and what they leave is searched so.
"""


def backend_named(backend: str | Backend) -> Backend:
    """Return the search with this name. A function with the contract of :data:`Backend` is returned unchanged.

    Raises:
        RecipeError: there is no backend of this name.
    """
    if callable(backend):
        return backend
    if backend not in BACKENDS:
        raise RecipeError(unknown_name("search backend", backend, BACKENDS) + "; or a function of your own")
    return BACKENDS[backend]
