"""Levels of labels: which values belong to the atoms, if the format leaves this to the name.

A value of a record or a comment line belongs to the crystal, even if it has as many numbers as the crystal has atoms.
It belongs to the atoms if the format says so (columns of extended XYZ, properties of sites), or if the name says so:
forces, magnetic moments, charges, velocities and momenta, with any prefix (``REF_forces``, ``dft_magmoms``).
"""

from __future__ import annotations

__all__ = ["is_per_atom"]

_OF_ATOMS: dict[str, int] = {  # last word of the name -> numbers an atom, 0 for one or three
    "force": 3,
    "forces": 3,
    "velocities": 3,
    "momenta": 3,
    "magmom": 0,
    "magmoms": 0,
    "charges": 0,
}


def is_per_atom(name: str, shape: tuple[int, ...], n_atoms: int) -> bool:
    """Tell whether an array of this shape under this name holds one row for each of so many atoms.

    Example:
        >>> is_per_atom("REF_forces", (5, 3), 5), is_per_atom("stress", (6,), 6), is_per_atom("force", (3,), 3)
        (True, False, False)
        >>> is_per_atom("magnetic_moments", (4,), 4), is_per_atom("magmoms", (3,), 4)
        (True, False)
    """
    if not shape or shape[0] != n_atoms:
        return False
    lower = name.lower()
    width = 0 if lower.endswith("magnetic_moments") else _OF_ATOMS.get(lower.rsplit("_", 1)[-1], -1)
    return shape[1:] in {0: ((), (3,)), 3: ((3,),)}.get(width, ())
