"""Conversion of the attributes of an OPTIMADE structure (also of LeMaterial) into a crystal and labels.

OPTIMADE specification 1.2, "Structures Entries"; https://www.optimade.org.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from lazygraph.crystal import ATOMIC_NUMBERS, SYMBOLS, Crystal, symbols_to_numbers
from lazygraph.errors import StructureError, UnreadableInput
from lazygraph.sources.plain_values import plain

__all__ = ["COLUMNS", "crystal_of_attributes", "labels_of_attributes"]

COLUMNS = frozenset({"lattice_vectors", "cartesian_site_positions", "species_at_sites"})
"""The attributes that every structure needs."""
# The attributes of the specification: the structure in several forms, and book-keeping.
_STANDARD = COLUMNS | frozenset(
    "id type links relationships meta immutable_id last_modified elements nelements elements_ratios "
    "chemical_formula_descriptive chemical_formula_reduced chemical_formula_hill chemical_formula_anonymous "
    "dimension_types nperiodic_dimensions nsites species assemblies structure_features fractional_site_positions "
    "space_group_symmetry_operations_xyz space_group_symbol_hall space_group_symbol_hermann_mauguin "
    "space_group_symbol_hermann_mauguin_extended wyckoff_positions site_coordinate_span".split()
)
_FEATURES = frozenset({"disorder", "implicit_atoms", "site_attachments", "assemblies", "unknown_positions"})
_FORMULA = re.compile(r"([A-Z][a-z]?)(\d*)")
_WHOLE = 1e-6  # how far the concentration of a species may be from 1


def crystal_of_attributes(attributes: Mapping[str, Any]) -> Crystal:
    """Return the crystal.

    Raises:
        StructureError: it is disordered, incomplete, or contradicts its reduced formula.
        UnreadableInput: an attribute is missing.
    """
    if lacking := sorted(name for name in COLUMNS if attributes.get(name) is None):
        msg = f"the structure has no {', '.join(lacking)}; it must have all of {', '.join(sorted(COLUMNS))}"
        raise UnreadableInput(msg)
    if features := sorted(_FEATURES.intersection(attributes.get("structure_features") or ())):
        msg = (
            f"the structure has the features {', '.join(features)}; only structures of whole atoms at known places "
            "are read"
        )
        raise StructureError(msg)
    sites = list(attributes["species_at_sites"])
    symbols = _symbols(attributes.get("species"))
    numbers = symbols_to_numbers([symbols.get(name, name) for name in sites])
    nsites = attributes.get("nsites")
    if nsites is not None and int(nsites) != len(sites):
        msg = f"the structure has {len(sites)} sites, but nsites is {nsites}; they must be equal"
        raise StructureError(msg)
    types = attributes.get("dimension_types")
    a, b, c = (True, True, True) if types is None or len(types) == 0 else (bool(part) for part in types)
    vectors = [
        [0.0] * 3 if row is None or any(x is None for x in row) else row for row in attributes["lattice_vectors"]
    ]
    crystal = Crystal.from_cartesian(vectors, attributes["cartesian_site_positions"], numbers, (a, b, c))
    _check_formula(crystal, attributes.get("chemical_formula_reduced"))
    return crystal


def labels_of_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything except for the structure; the parts of an object are named ``object.part``."""
    labels: dict[str, Any] = {}
    for name, given in attributes.items():
        if name in _STANDARD:
            continue
        value = plain(given)
        if isinstance(value, Mapping):
            labels |= {f"{name}.{part}": plain(inner) for part, inner in value.items()}
        else:
            labels[name] = value
    return labels


def _symbols(species: Any) -> dict[str, str]:
    """Return name of a species -> its only element.

    Raises:
        StructureError: a species is a mixture, a vacancy, or has atoms attached.
    """
    if isinstance(species, str):
        try:
            species = json.loads(species)
        except ValueError as error:
            msg = f"the species are not JSON: {error}"
            raise UnreadableInput(msg) from error
    found = {}
    for one in species or ():
        symbols: list[str] = one.get("chemical_symbols") or []
        concentrations: list[float] = one.get("concentration") or []
        whole = len(symbols) == 1 and all(abs(float(part) - 1) <= _WHOLE for part in concentrations)
        if not whole or symbols[0] not in ATOMIC_NUMBERS or one.get("attached"):
            msg = f"found the species {str(one)[:80]}; required: one whole atom, without others attached"
            raise StructureError(msg)
        found[one["name"]] = symbols[0]
    return found


def _check_formula(crystal: Crystal, formula: Any) -> None:
    """Compare the elements and their ratios with the reduced formula, if there is one."""
    if not isinstance(formula, str) or not formula:
        return
    said = {symbol: int(count or 1) for symbol, count in _FORMULA.findall(formula)}
    kinds, counts = np.unique(crystal.numbers, return_counts=True)
    found = {SYMBOLS[kind]: int(count) for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)}
    total = sum(said.values())
    if said.keys() != found.keys() or any(found[s] * total != said[s] * len(crystal) for s in said):
        msg = f"the sites are {crystal.formula}, but chemical_formula_reduced is {formula}; they must agree"
        raise StructureError(msg)
