"""Labels in pymatgen's ``Structure`` and ASE's ``Atoms``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lazygraph.crystal import Crystal

__all__ = ["Beside", "is_structure", "labels_of_object", "storable"]

# Per-atom arrays of ASE that are the structure, or settings of a calculation rather than its results.
_NOT_LABELS = frozenset({"numbers", "positions", "tags", "momenta", "masses", "initial_magmoms", "initial_charges"})
# The results of ASE's calculators that have one row an atom (ase.calculators.calculator.all_properties).
_OF_ATOMS = frozenset({"forces", "stresses", "charges", "magmoms", "energies"})


class Beside(NamedTuple):
    """Name -> value."""

    labels: dict[str, Any]
    of_atoms: dict[str, Any]


def is_structure(value: Any) -> bool:
    """Tell whether a Python object is a structure of one of the libraries, or a :class:`~lazygraph.crystal.Crystal`."""
    try:
        return isinstance(value, Crystal) or any(
            hasattr(value, first) and hasattr(value, second)
            for first, second in (("lattice", "sites"), ("lattice_mat", "elements"), ("get_atomic_numbers", "get_cell"))
        )
    except Exception:  # noqa: BLE001  # of a stranger's properties, which may raise anything
        return False


def labels_of_object(structure: Any) -> Beside:
    """The info, the arrays and the results of ASE ``Atoms``; the properties of a pymatgen ``Structure`` and its sites.

    If several have one name, a result is preferred to an array, and an array to the info. Other classes have no labels.
    """
    if hasattr(structure, "arrays") and hasattr(structure, "calc"):
        results = {} if structure.calc is None else structure.calc.results
        labels = dict(structure.info) | {name: value for name, value in results.items() if name not in _OF_ATOMS}
        of_atoms = {name: array for name, array in structure.arrays.items() if name not in _NOT_LABELS}
        return Beside(_named(labels), _named(of_atoms | {n: v for n, v in results.items() if n in _OF_ATOMS}))
    if hasattr(structure, "lattice") and hasattr(structure, "sites"):
        of_sites = [site.properties or {} for site in structure.sites]
        names = dict.fromkeys(name for properties in of_sites for name in properties)
        of_atoms = {name: [properties.get(name) for properties in of_sites] for name in names}
        return Beside(_named(getattr(structure, "properties", None) or {}), _named(of_atoms))
    return Beside({}, {})


def storable(value: Any) -> Any:
    """Return the value as numbers, texts, booleans, numpy arrays, and lists and objects of these.

    Any other object is replaced by one that names its class. It cannot be a label, but the report can name it.
    """
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else float(value) if abs(value) < 2**1000 else str(value)[:60]
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.kind in "biuf":
            return value if value.ndim else value.item()
        return storable(value.tolist()) if value.dtype.kind in "OUS" else {"class": str(value.dtype)}
    if isinstance(value, Mapping):
        return {str(key): storable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(part) for part in value]
    return {"class": type(value).__name__}


def _named(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): storable(value) for name, value in values.items()}
